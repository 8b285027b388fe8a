//! Ports of services: their backends, how they are spread, and whom clients may come back to.

use std::collections::BTreeMap;
use std::net::IpAddr;

use portolan_zones::ServiceName;
use smallvec::SmallVec;

use super::held::{BackendKey, Former, Held, HeldFront, Member, find, identity, members, port_key};
use super::{Lost, Reconciler, Refusal, full};
use crate::abi::{Address, Backend, Front, Head};
use crate::encode;
use crate::space::Range;
use crate::tables::{Tables, WriteError};
use crate::wanted::{ClusterShare, Spread, Wanted, WantedFront};

impl<T: Tables> Reconciler<T> {
    pub(super) fn write_fronts(
        &mut self,
        name: &ServiceName,
        held: &mut Held,
        mut former: SmallVec<[HeldFront; 1]>,
        before: &Wanted,
        lost: &mut Vec<Lost>,
    ) -> Result<(), Refusal> {
        let mut result = Ok(());
        for wanted in &mut held.wanted.fronts {
            let there = former.iter().position(|front| front.is_for(wanted));
            let there = there.map(|at| former.swap_remove(at));
            let its = before.fronts.iter().find(|front| front.is_at(wanted));
            let (front, written) = match there.zip(its) {
                None => self.write_new_front(name, held.number, wanted),
                Some((front, its)) => {
                    let (front, written) = self.write_front(front, its, wanted, &before.vips, lost);
                    (Some(front), written)
                }
            };
            held.fronts.extend(front);
            result = result.and(written);
        }
        for front in former {
            self.take_out_front(held.number, front, &before.vips, lost);
        }
        result
    }

    /// Writes a port that was not there; none of it is there where that fails.
    pub(super) fn write_new_front(
        &mut self,
        name: &ServiceName,
        service: u32,
        wanted: &WantedFront,
    ) -> (Option<HeldFront>, Result<(), Refusal>) {
        let mut front = match self.new_front(name, wanted) {
            Ok(front) => front,
            Err(refusal) => return (None, Err(refusal)),
        };
        if let Err(refusal) = self.write_spreads(&mut front, wanted) {
            // Nothing leads to it yet: it need not rest.
            self.fronts.give_back(front.number);
            return (None, Err(refusal));
        }
        let written = self.write_members(&mut front, wanted.affinity);
        let written = written.and_then(|()| match port_key(service, &front) {
            Some(key) => self.set_port(key, front.number),
            None => Ok(()),
        });
        match written {
            Ok(()) => (Some(front), Ok(())),
            Err(error) => {
                self.take_out_front(service, front, &[], &mut Vec::new());
                (None, Err(error.into()))
            }
        }
    }

    /// Writes a port that is there, and was wanted as `before`. Where there is no room it goes on with what of that is wanted still,
    /// and `wanted` says so.
    pub(super) fn write_front(
        &mut self,
        mut front: HeldFront,
        before: &WantedFront,
        wanted: &mut WantedFront,
        vips: &[IpAddr],
        lost: &mut Vec<Lost>,
    ) -> (HeldFront, Result<(), Refusal>) {
        let ((former_backends, former_ranges), written) = match self.write_spreads(&mut front, wanted) {
            Ok(former) => (former, Ok(())),
            Err(refusal) => (self.shrink(&mut front, before, wanted), Err(refusal)),
        };
        self.resting.ranges.extend(former_ranges);
        let members = self.write_members(&mut front, wanted.affinity);
        for (key, number) in former_backends {
            if front.backend(&key).is_none() {
                self.resting.backends.push((number, front.number, key.0));
                lost.push(front.lost(&key, vips));
            }
        }
        (front, written.and(members.map_err(Refusal::from)))
    }

    /// Takes out of the spreads that are there what is not wanted any more, where there is no room for others: word by word those
    /// that stay are drawn in the place of those that go. Shares are not what they should be until there is room.
    pub(super) fn shrink(
        &mut self,
        front: &mut HeldFront,
        before: &WantedFront,
        wanted: &mut WantedFront,
    ) -> Former {
        let keys = self.keys(wanted);
        let stays = |(key, _): &(BackendKey, u32)| keys.binary_search(&Some(*key)).is_ok();
        let backends: Vec<(BackendKey, u32)> = front.backends.iter().copied().filter(stays).collect();
        let mut ranges = std::mem::take(&mut front.ranges).into_iter();
        let (mut kept, mut former) = (SmallVec::new(), SmallVec::new());
        let mut heads = [None; 2];
        let (mut v4, mut any) = front.drawn.take().unwrap_or_else(|| before.spreads.clone());
        for (head, spread) in heads.iter_mut().zip([Some(&mut v4), any.as_mut()]) {
            let Some(spread) = spread.filter(|spread| !spread.is_empty()) else { continue };
            let Some(range) = ranges.next() else { continue };
            match self.substituted(spread, range.first, &backends) {
                Some((leads, words)) => {
                    self.tables.write_slots(range.first, &words);
                    *head = Some(leads);
                    kept.push(range);
                }
                None => {
                    spread.clear();
                    former.push(range);
                }
            }
        }
        for (family, head) in [heads[0], heads[1].or(heads[0])].into_iter().enumerate() {
            self.tables.store_head(front.number, family, head.unwrap_or_default().into());
        }
        wanted.retain(|cluster, address, port| {
            let number = self.clusters.get(cluster);
            number.is_some_and(|number| find(&backends, &(number, address, port)).is_some())
        });
        (front.drawn, front.ranges) = (Some((v4, any)), kept);
        (std::mem::replace(&mut front.backends, backends), former)
    }

    /// The words of a spread that is there, each backend that went replaced by one that stays, of its own cluster if there is any.
    /// `None`: none stays.
    pub(super) fn substituted(
        &self,
        spread: &Spread,
        first: u32,
        stay: &[(BackendKey, u32)],
    ) -> Option<(Head, Vec<u64>)> {
        let of_share = |share: &ClusterShare| {
            // What all left may have no number any more.
            let cluster = self.clusters.get(&share.cluster);
            let number = |(address, port, _): &(Address, u16, u32)| find(stay, &(cluster?, *address, *port));
            (cluster, share.backends.iter().map(number).collect())
        };
        let shares: Vec<(Option<u16>, Vec<Option<u32>>)> = spread.iter().map(of_share).collect();
        let stays = |(cluster, its): &(Option<u16>, Vec<Option<u32>>)| {
            cluster.zip(its.iter().flatten().next().copied())
        };
        let of_any = shares.iter().find_map(stays)?;
        let stands_in: Vec<(u16, u32)> = shares.iter().map(|share| stays(share).unwrap_or(of_any)).collect();
        let backend = |at: usize, position: usize| shares[at].1[position].unwrap_or(stands_in[at].1);
        Some(encode::words(spread, first, |at| stands_in[at].0, backend))
    }

    pub(super) fn new_front(
        &mut self,
        name: &ServiceName,
        wanted: &WantedFront,
    ) -> Result<HeldFront, Refusal> {
        let number = self.fronts.take();
        let number = number.ok_or_else(|| full("ports", "ports", self.fronts.used(), self.sizes.ports))?;
        let identity = identity(name, wanted.protocol, wanted.port);
        self.tables.write_front(number, &Front { identity, ..Front::default() });
        self.past.insert(number, 0);
        Ok(HeldFront {
            protocol: wanted.protocol,
            port: wanted.port,
            number,
            affinity: 0,
            ranges: SmallVec::new(),
            drawn: None,
            backends: Vec::new(),
            members: BTreeMap::new(),
        })
    }

    /// Writes new backends and both spreads, then their heads; what they were before. Nothing is changed where there is no room.
    pub(super) fn write_spreads(
        &mut self,
        front: &mut HeldFront,
        wanted: &WantedFront,
    ) -> Result<Former, Refusal> {
        let (v4, any) = &wanted.spreads;
        let mut ranges: SmallVec<[Range; 1]> = SmallVec::new();
        for spread in std::iter::once(v4).chain(any).filter(|spread| !spread.is_empty()) {
            match self.slots.take(encode::length(spread)) {
                Some(range) => ranges.push(range),
                None => {
                    ranges.into_iter().for_each(|range| self.slots.give_back(range));
                    return Err(full("spreads", "backends", self.slots.used(), self.sizes.slots));
                }
            }
        }
        let backends = match self.write_backends(front, wanted) {
            Ok(backends) => backends,
            Err(refusal) => {
                ranges.into_iter().for_each(|range| self.slots.give_back(range));
                return Err(refusal);
            }
        };
        let mut free = ranges.iter();
        let mut heads = [Head::default(); 2];
        for (head, spread) in heads.iter_mut().zip([Some(v4), any.as_ref()]) {
            let Some(spread) = spread.filter(|spread| !spread.is_empty()) else { continue };
            let Some(range) = free.next() else { continue };
            let number = |at: usize| self.clusters.get(&spread[at].cluster).unwrap_or_default();
            let backend = |at: usize, position: usize| {
                let (address, port, _) = spread[at].backends[position];
                find(&backends, &(number(at), address, port)).unwrap_or_default()
            };
            let (leads, words) = encode::words(spread, range.first, number, backend);
            self.tables.write_slots(range.first, &words);
            *head = leads;
        }
        if any.is_none() {
            heads[1] = heads[0];
        }
        for (family, head) in heads.into_iter().enumerate() {
            self.tables.store_head(front.number, family, head.into());
        }
        front.drawn = None;
        let former = std::mem::replace(&mut front.backends, backends);
        Ok((former, std::mem::replace(&mut front.ranges, ranges)))
    }

    /// Numbers for all that is wanted: those that it has, and fresh ones.
    pub(super) fn write_backends(
        &mut self,
        front: &HeldFront,
        wanted: &WantedFront,
    ) -> Result<Vec<(BackendKey, u32)>, Refusal> {
        let mut backends: Vec<(BackendKey, u32)> = Vec::new();
        let mut fresh = Vec::new();
        for key in self.keys(wanted).into_iter().flatten() {
            let number = front.backend(&key).or_else(|| {
                let number = self.backends.take()?;
                let (cluster, address, port) = key;
                fresh.push((number, cluster));
                self.clusters.enter(cluster);
                let backend = Backend { address, port: port.into(), cluster, front: front.number, pad: 0 };
                self.tables.write_backend(number, &backend);
                Some(number)
            });
            let Some(number) = number else {
                for (number, cluster) in fresh {
                    self.backends.give_back(number);
                    self.clusters.leave(cluster);
                }
                return Err(full("backends", "backends", self.backends.used(), self.sizes.backends));
            };
            backends.push((key, number));
        }
        Ok(backends)
    }

    /// Whom clients may come back to, and how long they may.
    pub(super) fn write_members(&mut self, front: &mut HeldFront, affinity: u32) -> Result<(), WriteError> {
        let now = members(front.protocol, affinity, &front.backends);
        let mut result = Ok(());
        for (at, number) in &now {
            if front.members.get(at) == Some(number) {
                continue;
            }
            let written = self.set_member(front.member(*at), *number);
            if written.is_ok() {
                front.members.insert(*at, *number);
            }
            result = result.and(written);
        }
        let gone = front.members.iter().filter(|(at, _)| !now.contains_key(at));
        let gone: Vec<(Member, u32)> = gone.map(|(at, number)| (*at, *number)).collect();
        for (at, number) in gone {
            self.delete_member(front.member(at), number);
            front.members.remove(&at);
        }
        if front.affinity != affinity {
            self.tables.store_affinity(front.number, affinity);
            front.affinity = affinity;
        }
        result
    }

    pub(super) fn take_out_front(
        &mut self,
        service: u32,
        front: HeldFront,
        vips: &[IpAddr],
        lost: &mut Vec<Lost>,
    ) {
        let is_gone = port_key(service, &front).is_none_or(|key| self.delete_port(key, front.number));
        if !is_gone {
            // What it leads to is used again.
            (0..2).for_each(|family| self.tables.store_head(front.number, family, 0));
        }
        for (at, number) in &front.members {
            self.delete_member(front.member(*at), *number);
        }
        for (key, number) in &front.backends {
            self.resting.backends.push((*number, front.number, key.0));
            lost.push(front.lost(key, vips));
        }
        self.resting.ranges.extend(front.ranges);
        self.resting.fronts.push(front.number);
    }
}
