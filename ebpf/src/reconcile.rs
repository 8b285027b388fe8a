//! Keeps tables as services want them, one service at a time, while programs read them.
//!
//! What a program may be reading is never changed, but for single words: new backends get fresh numbers, a new spread gets fresh
//! slots, and one word, the head, leads to it. What nothing leads to any more rests until no program can be reading it.
//! What finds no room is refused and told of; what was there before goes on, but for what is not wanted any more.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use portolan_zones::object::Protocol;
use portolan_zones::{ClusterId, ServiceName};
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use crate::abi::{Address, Backend, Front, Head, MemberKey, PortKey, VipKey};
use crate::encode;
use crate::space::{Numbers, Range, Ranges};
use crate::tables::{Sizes, Tables, WriteError};
use crate::wanted::{ClusterShare, Spread, Wanted, WantedFront, protocol_number};

/// Key of the hash that stands for a front in what outlives tables: fixed.
const KEY: [u8; 16] = *b"portolan-fronts1";

/// Why a service, or a part of it, is not redirected.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The tables are full.
    #[error(
        "no room for {what}: {used} of {size} are in use; raise `agent.maps.{key}`, or unexport services"
    )]
    Full {
        /// Of what there are too many.
        what: &'static str,
        /// The configuration's word for it.
        key: &'static str,
        /// How many there are.
        used: u32,
        /// How many there can be.
        size: u32,
    },
    /// More backends than one port can have.
    #[error("{0} backends are left out: a port has at most 256 clusters, and 65536 backends in each")]
    TooMany(usize),
    /// The kernel refuses.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// See the module.
pub struct Reconciler<T> {
    tables: T,
    sizes: Sizes,
    held: HashMap<ServiceName, Held, RandomState>,
    /// Whose address is where.
    owners: HashMap<Address, u32, RandomState>,
    refused: BTreeMap<ServiceName, Refusal>,
    clusters: HashMap<ClusterId, u16, RandomState>,
    services: Numbers,
    fronts: Numbers,
    backends: Numbers,
    slots: Ranges,
    resting: Resting,
    /// Connections of backends that are gone, by front.
    past: HashMap<u32, u64, RandomState>,
}

/// What nothing leads to any more.
#[derive(Default)]
struct Resting {
    services: Vec<u32>,
    fronts: Vec<u32>,
    /// With the front that each was of.
    backends: Vec<(u32, u32)>,
    ranges: Vec<Range>,
}

/// A service as it is in the tables.
struct Held {
    number: u32,
    wanted: Wanted,
    /// Whether all of it could be written.
    whole: bool,
    fronts: SmallVec<[HeldFront; 1]>,
}

/// A port as it is in the tables.
struct HeldFront {
    protocol: Protocol,
    port: u16,
    number: u32,
    affinity: u32,
    ranges: SmallVec<[Range; 1]>,
    /// What was written there, where that is not what is wanted: see `shrink`.
    drawn: Option<(Spread, Option<Spread>)>,
    /// Sorted.
    backends: Vec<(BackendKey, u32)>,
    /// Whom clients may come back to.
    members: BTreeMap<Member, u32>,
}

/// Which backend of a front.
type BackendKey = (u16, Address, u16);

/// A backend of a front as its clients know it.
type Member = (Address, u16);

/// What a front had: its backends, and where its spreads were.
type Former = (Vec<(BackendKey, u32)>, SmallVec<[Range; 1]>);

/// A backend that a service's port had, and has no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// Where sockets that used it think that they are connected to.
    pub vips: Vec<IpAddr>,
    /// The service's port.
    pub port: u16,
    /// The transport.
    pub protocol: Protocol,
    /// Where it was.
    pub backend: (IpAddr, u16),
}

/// What a port of a service has counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted<'r> {
    /// The service.
    pub service: &'r ServiceName,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The service's number.
    pub port: u16,
    /// Connections, and flows of UDP, to all backends that it ever had.
    pub connections: u64,
    /// How often there was none.
    pub unreachable: u64,
    /// Those that it has: cluster, address, port, connections.
    pub backends: Vec<(&'r ClusterId, IpAddr, u16, u64)>,
}

/// How full the tables are: in use, and how much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the sizes")]
pub struct Fill {
    pub vips: (u32, u32),
    pub ports: (u32, u32),
    pub backends: (u32, u32),
    pub slots: (u32, u32),
    pub clusters: (u32, u32),
}

impl<T: Tables> Reconciler<T> {
    /// Tables that are empty.
    pub fn new(tables: T) -> Self {
        let sizes = tables.sizes();
        Self {
            sizes,
            held: HashMap::default(),
            owners: HashMap::default(),
            refused: BTreeMap::new(),
            clusters: HashMap::default(),
            services: Numbers::below(sizes.vips),
            fronts: Numbers::below(sizes.ports),
            backends: Numbers::below(sizes.backends),
            slots: Ranges::of(sizes.slots),
            resting: Resting::default(),
            past: HashMap::default(),
            tables,
        }
    }

    /// What it writes to.
    pub fn tables(&self) -> &T {
        &self.tables
    }

    /// The same, to be read from and told of what no service says.
    pub fn tables_mut(&mut self) -> &mut T {
        &mut self.tables
    }

    /// Has a service be as it is wanted; `None`: gone. What its ports had and have no more is added to `lost`.
    pub fn apply(&mut self, name: &ServiceName, wanted: Option<Wanted>, lost: &mut Vec<Lost>) {
        self.refused.remove(name);
        let Some(wanted) = wanted else {
            if let Some(held) = self.held.remove(name) {
                self.take_out(held, lost);
            }
            return;
        };
        let left_out: usize = wanted.fronts.iter().map(|front| front.left_out).sum();
        let is_so = self.held.get(name).is_some_and(|held| held.whole && held.wanted == wanted);
        let written = if is_so { Ok(()) } else { self.write(name, wanted, lost) };
        let refusal = match written {
            Ok(()) => (left_out > 0).then_some(Refusal::TooMany(left_out)),
            Err(refusal) => Some(refusal),
        };
        if let Some(refusal) = refusal {
            self.refused.insert(name.clone(), refusal);
        }
    }

    /// Waits until what is not used any more can be used again, if there is any.
    pub fn rest(&mut self) -> Result<(), WriteError> {
        let Resting { services, fronts, backends, ranges } = &self.resting;
        if services.is_empty() && fronts.is_empty() && backends.is_empty() && ranges.is_empty() {
            return Ok(());
        }
        self.tables.rest()?;
        let rested = std::mem::take(&mut self.resting);
        for (backend, front) in rested.backends {
            if let Some(past) = self.past.get_mut(&front) {
                *past += self.tables.hits(backend);
            }
            self.backends.give_back(backend);
        }
        for front in rested.fronts {
            self.past.remove(&front);
            self.fronts.give_back(front);
        }
        rested.services.into_iter().for_each(|service| self.services.give_back(service));
        rested.ranges.into_iter().for_each(|range| self.slots.give_back(range));
        Ok(())
    }

    /// Services that are not, or not wholly, redirected, and why.
    pub fn refused(&self) -> &BTreeMap<ServiceName, Refusal> {
        &self.refused
    }

    /// How many services are redirected.
    pub fn services(&self) -> usize {
        self.held.len()
    }

    /// What services are redirected to, in no order.
    pub fn wanted(&self) -> impl Iterator<Item = (&ServiceName, &Wanted)> {
        self.held.iter().map(|(name, held)| (name, &held.wanted))
    }

    /// Every address that is redirected.
    pub fn vips(&self) -> impl Iterator<Item = (IpAddr, &ServiceName)> {
        self.held.iter().flat_map(|(name, held)| held.wanted.vips.iter().map(move |vip| (*vip, name)))
    }

    /// How many services have backends in a cluster.
    pub fn uses(&self) -> HashMap<&ClusterId, usize, RandomState> {
        let mut uses: HashMap<&ClusterId, usize, RandomState> = HashMap::default();
        for held in self.held.values() {
            for cluster in held.wanted.clusters() {
                *uses.entry(cluster).or_default() += 1;
            }
        }
        uses
    }

    /// Clusters that a service has backends in.
    pub fn clusters_of(&self, name: &ServiceName) -> Vec<ClusterId> {
        self.held
            .get(name)
            .map(|held| held.wanted.clusters().into_iter().cloned().collect())
            .unwrap_or_default()
    }

    /// No connection goes to a cluster, or they may again: at once, whatever services' spreads say.
    pub fn mark(&mut self, cluster: &ClusterId, down: bool) {
        if let Some(number) = self.clusters.get(cluster) {
            self.tables.store_cluster(u32::from(*number), down);
        }
    }

    /// How full the tables are.
    pub fn fill(&self) -> Fill {
        let Sizes { vips, ports, backends, slots, clusters, .. } = self.sizes;
        Fill {
            vips: (self.owners.len() as u32, vips),
            ports: (self.fronts.used(), ports),
            backends: (self.backends.used(), backends),
            slots: (self.slots.used(), slots),
            clusters: (self.clusters.len() as u32, clusters),
        }
    }

    /// What has been counted, in no order.
    pub fn counted(&self) -> impl Iterator<Item = Counted<'_>> {
        let ids: HashMap<u16, &ClusterId, RandomState> =
            self.clusters.iter().map(|(id, number)| (*number, id)).collect();
        let fronts = self.held.iter().flat_map(|(name, held)| held.fronts.iter().map(move |f| (name, f)));
        fronts.map(move |(service, front)| {
            let backend = |((cluster, address, port), number): &(BackendKey, u32)| {
                Some((*ids.get(cluster)?, IpAddr::from(*address), *port, self.tables.hits(*number)))
            };
            let backends: Vec<_> = front.backends.iter().filter_map(backend).collect();
            let resting = self.resting.backends.iter().filter(|(_, of)| *of == front.number);
            let gone: u64 = resting.map(|(backend, _)| self.tables.hits(*backend)).sum();
            let past = gone + self.past.get(&front.number).copied().unwrap_or_default();
            Counted {
                service,
                protocol: front.protocol,
                port: front.port,
                connections: past + backends.iter().map(|(.., hits)| hits).sum::<u64>(),
                unreachable: self.tables.unreachable(front.number),
                backends,
            }
        })
    }

    /// Writes a service. Where there is no room for all of it, a new one is refused whole, and one that is there keeps its
    /// ports, and of its backends those that it had and still wants.
    fn write(&mut self, name: &ServiceName, wanted: Wanted, lost: &mut Vec<Lost>) -> Result<(), Refusal> {
        let before = self.held.remove(name);
        let (wanted, refusal) = match self.has_room(before.as_ref(), &wanted) {
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
    fn has_room(&self, before: Option<&Held>, wanted: &Wanted) -> Result<(), Refusal> {
        let Sizes { vips, ports, backends, slots, clusters, .. } = self.sizes;
        let has = |vip: &&IpAddr| before.is_some_and(|before| before.wanted.vips.contains(vip));
        let more_vips = wanted.vips.iter().filter(|vip| !has(vip)).count();
        let used = self.owners.len();
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
        let unknown = wanted.clusters().into_iter().filter(|id| !self.clusters.contains_key(*id)).count();
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
        if !fits(self.clusters.len() as u32, unknown as u32, clusters) {
            return Err(full("clusters", "clusters", self.clusters.len() as u32, clusters));
        }
        Ok(())
    }

    /// Of what is wanted as much as needs no more room.
    fn within(&self, before: &Held, mut wanted: Wanted) -> Wanted {
        wanted.vips.retain(|vip| before.wanted.vips.contains(vip));
        wanted.fronts.retain(|front| before.front(front).is_some());
        for front in &mut wanted.fronts {
            let held = before.front(front);
            front.retain(|cluster, address, port| {
                let number = self.clusters.get(cluster);
                let at = number.map(|number| (*number, address, port));
                held.zip(at).is_some_and(|(held, at)| held.backend(&at).is_some())
            });
        }
        wanted
    }

    fn write_fronts(
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
    fn write_new_front(
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
            Some(key) => self.tables.set_port(key, Some(front.number)),
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
    fn write_front(
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
                self.resting.backends.push((number, front.number));
                lost.push(front.lost(&key, vips));
            }
        }
        (front, written.and(members.map_err(Refusal::from)))
    }

    /// Takes out of the spreads that are there what is not wanted any more, where there is no room for others: word by word those
    /// that stay are drawn in the place of those that go. Shares are not what they should be until there is room.
    fn shrink(&mut self, front: &mut HeldFront, before: &WantedFront, wanted: &mut WantedFront) -> Former {
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
            number.is_some_and(|number| find(&backends, &(*number, address, port)).is_some())
        });
        (front.drawn, front.ranges) = (Some((v4, any)), kept);
        (std::mem::replace(&mut front.backends, backends), former)
    }

    /// The words of a spread that is there, each backend that went replaced by one that stays, of its own cluster if there is any.
    /// `None`: none stays.
    fn substituted(
        &self,
        spread: &Spread,
        first: u32,
        stay: &[(BackendKey, u32)],
    ) -> Option<(Head, Vec<u64>)> {
        let of_share = |share: &ClusterShare| {
            let cluster = self.clusters.get(&share.cluster).copied()?;
            let number = |(address, port, _): &(Address, u16, u32)| find(stay, &(cluster, *address, *port));
            Some((cluster, share.backends.iter().map(number).collect::<Vec<_>>()))
        };
        let shares: Vec<(u16, Vec<Option<u32>>)> = spread.iter().map(of_share).collect::<Option<_>>()?;
        let of_any =
            shares.iter().find_map(|(cluster, its)| Some((*cluster, its.iter().flatten().next()?)))?;
        let stands_in: Vec<(u16, u32)> = shares
            .iter()
            .map(|(cluster, its)| its.iter().flatten().next().map_or(of_any, |number| (*cluster, number)))
            .map(|(cluster, number)| (cluster, *number))
            .collect();
        let backend = |at: usize, position: usize| shares[at].1[position].unwrap_or(stands_in[at].1);
        Some(encode::words(spread, first, |at| stands_in[at].0, backend))
    }

    fn new_front(&mut self, name: &ServiceName, wanted: &WantedFront) -> Result<HeldFront, Refusal> {
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
    fn write_spreads(&mut self, front: &mut HeldFront, wanted: &WantedFront) -> Result<Former, Refusal> {
        let (v4, any) = &wanted.spreads;
        for share in wanted.shares() {
            self.cluster_number(&share.cluster)?;
        }
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
            let number = |at: usize| self.clusters.get(&spread[at].cluster).copied().unwrap_or_default();
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
    fn write_backends(
        &mut self,
        front: &HeldFront,
        wanted: &WantedFront,
    ) -> Result<Vec<(BackendKey, u32)>, Refusal> {
        let mut backends: Vec<(BackendKey, u32)> = Vec::new();
        let mut fresh = Vec::new();
        for key in self.keys(wanted).into_iter().flatten() {
            let number = front.backend(&key).or_else(|| {
                let number = self.backends.take()?;
                fresh.push(number);
                let (cluster, address, port) = key;
                let backend = Backend { address, port: port.into(), cluster, front: front.number, pad: 0 };
                self.tables.write_backend(number, &backend);
                Some(number)
            });
            let Some(number) = number else {
                fresh.into_iter().for_each(|number| self.backends.give_back(number));
                return Err(full("backends", "backends", self.backends.used(), self.sizes.backends));
            };
            backends.push((key, number));
        }
        Ok(backends)
    }

    /// Whom clients may come back to, and how long they may.
    fn write_members(&mut self, front: &mut HeldFront, affinity: u32) -> Result<(), WriteError> {
        let now = members(affinity, &front.backends);
        let mut result = Ok(());
        for (at, number) in &now {
            if front.members.get(at) == Some(number) {
                continue;
            }
            let written = self.tables.set_member(front.member(*at), Some(*number));
            if written.is_ok() {
                front.members.insert(*at, *number);
            }
            result = result.and(written);
        }
        let gone: Vec<Member> = front.members.keys().filter(|at| !now.contains_key(at)).copied().collect();
        for at in gone {
            result = result.and(self.tables.set_member(front.member(at), None));
            front.members.remove(&at);
        }
        if front.affinity != affinity {
            self.tables.store_affinity(front.number, affinity);
            front.affinity = affinity;
        }
        result
    }

    /// Of those that can't be written the service knows that it has them not.
    fn write_vips(&mut self, held: &mut Held, before: &[IpAddr]) -> Result<(), Refusal> {
        let mut result = Ok(());
        held.wanted.vips.retain(|vip| {
            let address = Address::from(*vip);
            let written = match before.contains(vip) {
                true => Ok(()),
                false => self.tables.set_vip(VipKey { address }, Some(held.number)),
            };
            let is_there = written.is_ok();
            if is_there && !before.contains(vip) {
                self.owners.insert(address, held.number);
            }
            result = std::mem::replace(&mut result, Ok(())).and(written);
            is_there
        });
        for vip in before.iter().filter(|vip| !held.wanted.vips.contains(vip)) {
            self.release_vip(held.number, *vip);
        }
        Ok(result?)
    }

    /// Unless another service has it by now.
    fn release_vip(&mut self, service: u32, vip: IpAddr) {
        let address = Address::from(vip);
        if self.owners.get(&address) == Some(&service) {
            // What is not there need not be taken out.
            let _ = self.tables.set_vip(VipKey { address }, None);
            self.owners.remove(&address);
        }
    }

    fn take_out(&mut self, held: Held, lost: &mut Vec<Lost>) {
        for vip in &held.wanted.vips {
            self.release_vip(held.number, *vip);
        }
        for front in held.fronts {
            self.take_out_front(held.number, front, &held.wanted.vips, lost);
        }
        self.resting.services.push(held.number);
    }

    fn take_out_front(&mut self, service: u32, front: HeldFront, vips: &[IpAddr], lost: &mut Vec<Lost>) {
        if let Some(key) = port_key(service, &front) {
            let _ = self.tables.set_port(key, None);
        }
        for at in front.members.keys() {
            let _ = self.tables.set_member(front.member(*at), None);
        }
        for (key, number) in &front.backends {
            self.resting.backends.push((*number, front.number));
            lost.push(front.lost(key, vips));
        }
        self.resting.ranges.extend(front.ranges);
        self.resting.fronts.push(front.number);
    }

    /// The number of a cluster, which it keeps for good.
    fn cluster_number(&mut self, cluster: &ClusterId) -> Result<u16, Refusal> {
        if let Some(number) = self.clusters.get(cluster) {
            return Ok(*number);
        }
        let next = self.clusters.len() as u32;
        match u16::try_from(next).ok().filter(|_| next < self.sizes.clusters) {
            Some(number) => {
                self.tables.store_cluster(next, false);
                self.clusters.insert(cluster.clone(), number);
                Ok(number)
            }
            None => Err(full("clusters", "clusters", next, self.sizes.clusters)),
        }
    }

    /// Every backend of a port once, sorted; `None` for those of clusters that have no number yet.
    fn keys(&self, wanted: &WantedFront) -> Vec<Option<BackendKey>> {
        let key = |(cluster, address, port): (Option<u16>, Address, u16)| Some((cluster?, address, port));
        let mut keys: Vec<_> = wanted
            .shares()
            .flat_map(|share| {
                let number = self.clusters.get(&share.cluster).copied();
                share.backends.iter().map(move |(address, port, _)| key((number, *address, *port)))
            })
            .collect();
        keys.sort_unstable();
        // Of unknown clusters' ones nobody knows which are the same: they are counted all.
        keys.dedup_by(|a, b| a.is_some() && a == b);
        keys
    }
}

impl Wanted {
    /// Clusters that it has backends in, each once.
    pub(crate) fn clusters(&self) -> Vec<&ClusterId> {
        let mut all: Vec<&ClusterId> =
            self.fronts.iter().flat_map(WantedFront::shares).map(|share| &share.cluster).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl WantedFront {
    fn is_at(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.port == other.port
    }

    /// Leaves out all other backends.
    fn retain(&mut self, stays: impl Fn(&ClusterId, Address, u16) -> bool) {
        let (v4, any) = &mut self.spreads;
        for spread in std::iter::once(v4).chain(&mut *any) {
            for ClusterShare { cluster, backends, .. } in spread.iter_mut() {
                backends.retain(|(address, port, _)| stays(cluster, *address, *port));
            }
            spread.retain(|share| !share.backends.is_empty());
        }
        // Of IPv6 nothing is left: what reaches both goes where IPv4 goes, as where there never was any.
        any.take_if(|any| any.is_empty());
    }

    fn spreads(&self) -> impl Iterator<Item = &Spread> {
        std::iter::once(&self.spreads.0).chain(&self.spreads.1)
    }

    fn shares(&self) -> impl Iterator<Item = &ClusterShare> {
        self.spreads().flatten()
    }
}

impl Held {
    fn empty(number: u32) -> Self {
        let wanted = Wanted { vips: Vec::new(), fronts: Vec::new() };
        Self { number, wanted, whole: false, fronts: SmallVec::new() }
    }

    fn front(&self, wanted: &WantedFront) -> Option<&HeldFront> {
        self.fronts.iter().find(|front| front.is_for(wanted))
    }
}

impl HeldFront {
    fn is_for(&self, wanted: &WantedFront) -> bool {
        self.protocol == wanted.protocol && self.port == wanted.port
    }

    fn backend(&self, key: &BackendKey) -> Option<u32> {
        find(&self.backends, key)
    }

    fn member(&self, (address, port): Member) -> MemberKey {
        MemberKey { address, front: self.number, port: port.into(), pad: 0 }
    }

    fn lost(&self, (_, address, port): &BackendKey, vips: &[IpAddr]) -> Lost {
        let backend = (IpAddr::from(*address), *port);
        Lost { vips: vips.to_vec(), port: self.port, protocol: self.protocol, backend }
    }
}

/// Whom clients of a front may come back to. Where networks overlap an address may be that of several clusters' backends, of which
/// it is one.
fn members(affinity: u32, backends: &[(BackendKey, u32)]) -> BTreeMap<Member, u32> {
    let backends = backends.iter().filter(|_| affinity > 0);
    backends.map(|((_, address, port), number)| ((*address, *port), *number)).collect()
}

fn find(backends: &[(BackendKey, u32)], key: &BackendKey) -> Option<u32> {
    let at = backends.binary_search_by(|(there, _)| there.cmp(key)).ok()?;
    Some(backends[at].1)
}

fn port_key(service: u32, front: &HeldFront) -> Option<PortKey> {
    let protocol = protocol_number(front.protocol)?;
    Some(PortKey { service, port: front.port.into(), protocol, pad: 0 })
}

fn full(what: &'static str, key: &'static str, used: u32, size: u32) -> Refusal {
    Refusal::Full { what, key, used, size }
}

/// What stands for a port of a service, whoever computes it.
fn identity(name: &ServiceName, protocol: Protocol, port: u16) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&KEY);
    hasher.write(name.wire());
    hasher.write(protocol.label().as_bytes());
    hasher.write_u16(port);
    hasher.finish()
}
