//! Services as a whole: whether there is room for one, its addresses, its end.

use std::net::IpAddr;

use portolan_zones::ServiceName;

use super::held::{BackendKey, Held};
use super::{Lost, Reconciler, Refusal, full};
use crate::abi::{Address, VipKey};
use crate::encode;
use crate::tables::{Sizes, Tables};
use crate::wanted::{Wanted, WantedFront};

impl<T: Tables> Reconciler<T> {
    /// Writes a service. Where there is no room for all of it, a new one is refused whole, and one that is there keeps its
    /// ports, and of its backends those that it had and still wants.
    pub(super) fn write(
        &mut self,
        name: &ServiceName,
        wanted: Wanted,
        lost: &mut Vec<Lost>,
    ) -> Result<(), Refusal> {
        let before = self.held.remove(name);
        let has_room = self.has_room(before.as_ref(), &wanted).and_then(|()| self.number_clusters(&wanted));
        let (wanted, refusal) = match has_room {
            Ok(()) => (wanted, None),
            Err(refusal) => match &before {
                None => return Err(refusal),
                Some(before) => (self.within(before, wanted), Some(refusal)),
            },
        };
        let is_new = before.is_none();
        let before = match before {
            Some(before) => before,
            None => match self.services.take() {
                Some(number) => Held::empty(number),
                None => return Err(full("services", "vips", self.services.used(), self.sizes.vips)),
            },
        };
        let mut held = Held { wanted, ..Held::empty(before.number) };
        let result = self.write_fronts(name, &mut held, before.fronts, &before.wanted, lost);
        if is_new && result.is_err() {
            // No address leads there yet.
            held.wanted.vips.clear();
            self.take_out(held, &mut Vec::new());
            return result;
        }
        let result = result.and(self.write_vips(&mut held, &before.wanted.vips));
        let result = result.and(refusal.map_or(Ok(()), Err));
        held.whole = result.is_ok();
        self.held.insert(name.clone(), held);
        result
    }

    /// Whether all that is new would fit.
    pub(super) fn has_room(&self, before: Option<&Held>, wanted: &Wanted) -> Result<(), Refusal> {
        let Sizes { vips, ports, backends, slots, clusters, .. } = self.sizes;
        // Whosever it is, an address that is there is replaced.
        let has = |address: &Address| {
            self.owners.contains_key(address)
                || self.undeleted.vips.contains_key(&VipKey { address: *address })
        };
        let more_vips = wanted.vips.iter().filter(|vip| !has(&Address::from(**vip))).count();
        let used = self.owners.len() + self.undeleted.vips.len();
        if used + more_vips > vips as usize {
            return Err(full("virtual IPs", "vips", used as u32, vips));
        }
        let mut more_fronts = 0;
        let (mut more_backends, mut words) = (0, 0);
        for front in &wanted.fronts {
            let held = before.and_then(|before| before.front(front));
            more_fronts += u32::from(held.is_none());
            let keys = self.keys(front);
            let is_new = |key: &Option<BackendKey>| match (key, held) {
                (Some(key), Some(held)) => held.backend(key).is_none(),
                _ => true,
            };
            more_backends += keys.iter().filter(|key| is_new(key)).count() as u32;
            words += front.spreads().map(encode::length).sum::<u32>();
        }
        let more_clusters = wanted.clusters().into_iter().filter(|id| !self.clusters.is_used(id)).count();
        let fits = |used: u32, more: u32, size: u32| u64::from(used) + u64::from(more) <= u64::from(size);
        if !fits(self.fronts.used(), more_fronts, ports) {
            return Err(full("ports", "ports", self.fronts.used(), ports));
        }
        if !fits(self.backends.used(), more_backends, backends) {
            return Err(full("backends", "backends", self.backends.used(), backends));
        }
        // Free slots need not be neighbours: a reserve makes it likely that they are, and `write_spread` finds out.
        if !fits(self.slots.used(), words, slots) {
            return Err(full("spreads", "backends", self.slots.used(), slots));
        }
        if !fits(self.clusters.in_use(), more_clusters as u32, clusters) {
            return Err(Refusal::TooManyClusters(self.clusters.in_use()));
        }
        Ok(())
    }

    /// Of what is wanted as much as needs no more room.
    pub(super) fn within(&self, before: &Held, mut wanted: Wanted) -> Wanted {
        wanted.vips.retain(|vip| before.wanted.vips.contains(vip));
        wanted.fronts.retain(|front| before.front(front).is_some());
        for front in &mut wanted.fronts {
            let held = before.front(front);
            front.retain(|cluster, address, port| {
                let number = self.clusters.get(cluster);
                let at = number.map(|number| (number, address, port));
                held.zip(at).is_some_and(|(held, at)| held.backend(&at).is_some())
            });
        }
        wanted
    }

    /// Of those that can't be written the service knows that it has them not.
    pub(super) fn write_vips(&mut self, held: &mut Held, before: &[IpAddr]) -> Result<(), Refusal> {
        let mut result = Ok(());
        held.wanted.vips.retain(|vip| {
            let address = Address::from(*vip);
            let written = match before.contains(vip) {
                true => Ok(()),
                false => self.set_vip(VipKey { address }, held.number),
            };
            let is_there = written.is_ok();
            if is_there && !before.contains(vip) {
                self.owners.insert(address, held.number);
            }
            result = std::mem::replace(&mut result, Ok(())).and(written);
            is_there
        });
        for vip in before.iter().filter(|vip| !held.wanted.vips.contains(vip)) {
            self.release_vip(held.number, Address::from(*vip));
        }
        Ok(result?)
    }

    /// Unless another service has it by now, or is about to.
    pub(super) fn release_vip(&mut self, service: u32, address: Address) {
        if self.owners.get(&address) != Some(&service) {
            return;
        }
        if self.moving.contains(&address) {
            self.left.push((service, address));
            return;
        }
        self.delete_vip(VipKey { address }, service);
        self.owners.remove(&address);
    }

    pub(super) fn take_out(&mut self, held: Held, lost: &mut Vec<Lost>) {
        for vip in &held.wanted.vips {
            self.release_vip(held.number, Address::from(*vip));
        }
        for front in held.fronts {
            self.take_out_front(held.number, front, &held.wanted.vips, lost);
        }
        self.resting.services.push(held.number);
    }

    /// Sees to it that all clusters of a service have numbers, where there is room for it.
    pub(super) fn number_clusters(&mut self, wanted: &Wanted) -> Result<(), Refusal> {
        let wanted = wanted.clusters();
        for cluster in &wanted {
            if self.clusters.get(cluster).is_none() {
                let given = self.clusters.give(cluster, &wanted);
                let number = given.ok_or(Refusal::TooManyClusters(self.clusters.in_use()))?;
                self.tables.store_cluster(number.into(), false);
            }
        }
        Ok(())
    }

    /// Every backend of a port once, sorted; `None` for those of clusters that have no number yet.
    pub(super) fn keys(&self, wanted: &WantedFront) -> Vec<Option<BackendKey>> {
        let key = |(cluster, address, port): (Option<u16>, Address, u16)| Some((cluster?, address, port));
        let mut keys: Vec<_> = wanted
            .shares()
            .flat_map(|share| {
                let number = self.clusters.get(&share.cluster);
                share.backends.iter().map(move |(address, port, _)| key((number, *address, *port)))
            })
            .collect();
        keys.sort_unstable();
        // Of unknown clusters' ones nobody knows which are the same: they are counted all.
        keys.dedup_by(|a, b| a.is_some() && a == b);
        keys
    }
}
