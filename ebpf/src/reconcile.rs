//! Keeps tables as services want them, one service at a time, while programs read them.
//!
//! What a program may be reading is never changed, but for single words: new backends get fresh numbers, a new spread gets fresh
//! slots, and one word, the head, leads to it. What nothing leads to any more rests until no program can be reading it.
//! What finds no room is refused and told of; what was there before goes on, but for what is not wanted any more. What the kernel
//! refuses to delete keeps its numbers, and is told of, until it is gone.

mod clusters;
mod fronts;
mod held;
mod services;
mod telling;
mod undeleted;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use foldhash::fast::RandomState;
use portolan_zones::object::Protocol;
use portolan_zones::{ClusterId, ServiceName};

use self::clusters::Clusters;
use self::held::Held;
pub use self::telling::{Counted, Fill};
use self::undeleted::Undeleted;
use crate::abi::Address;
use crate::space::{Numbers, Range, Ranges};
use crate::tables::{Sizes, Tables, WriteError};
use crate::wanted::Wanted;

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
    /// Numbers are those of clusters that services have backends in.
    #[error("no room for clusters: services have backends in {0}, as many as there can be; unexport some")]
    TooManyClusters(u32),
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
    clusters: Clusters,
    services: Numbers,
    fronts: Numbers,
    backends: Numbers,
    slots: Ranges,
    resting: Resting,
    undeleted: Undeleted,
    /// Addresses that go from one service to another, and those of them that their former services have left so far.
    moving: HashSet<Address, RandomState>,
    left: Vec<(u32, Address)>,
    /// Connections of backends that are gone, by front.
    past: HashMap<u32, u64, RandomState>,
}

/// What nothing leads to any more.
#[derive(Default)]
struct Resting {
    services: Vec<u32>,
    fronts: Vec<u32>,
    /// With the front that each was of, and the cluster that it was in.
    backends: Vec<(u32, u32, u16)>,
    ranges: Vec<Range>,
}

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

impl<T: Tables> Reconciler<T> {
    /// Tables that are empty.
    pub fn new(tables: T) -> Self {
        let sizes = tables.sizes();
        Self {
            sizes,
            held: HashMap::default(),
            owners: HashMap::default(),
            refused: BTreeMap::new(),
            clusters: Clusters::below(sizes.clusters),
            services: Numbers::below(sizes.vips),
            fronts: Numbers::below(sizes.ports),
            backends: Numbers::below(sizes.backends),
            slots: Ranges::of(sizes.slots),
            resting: Resting::default(),
            undeleted: Undeleted::default(),
            moving: HashSet::default(),
            left: Vec::new(),
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

    /// Addresses that services have which are applied next, and that others have until then: wherever those go, these addresses
    /// lead there until they lead to their new services, or `settle` says that they never will.
    pub fn announce(&mut self, moving: impl IntoIterator<Item = IpAddr>) {
        self.moving = moving.into_iter().map(Address::from).collect();
    }

    /// What was announced has come, or does not.
    pub fn settle(&mut self) {
        self.moving.clear();
        for (service, address) in std::mem::take(&mut self.left) {
            self.release_vip(service, address);
        }
    }

    /// Whether an address leads to another service than this one.
    pub fn is_of_another(&self, vip: IpAddr, name: &ServiceName) -> bool {
        let owner = self.owners.get(&Address::from(vip));
        owner.is_some_and(|owner| self.held.get(name).is_none_or(|held| held.number != *owner))
    }

    /// Waits until what is not used any more can be used again, if there is any; and has the kernel delete what it refused to.
    pub fn rest(&mut self) -> Result<(), WriteError> {
        self.delete_again();
        let Resting { services, fronts, backends, ranges } = &self.resting;
        if services.is_empty() && fronts.is_empty() && backends.is_empty() && ranges.is_empty() {
            return Ok(());
        }
        self.tables.rest()?;
        let rested = std::mem::take(&mut self.resting);
        let bound = self.undeleted.bound();
        for (backend, front, cluster) in rested.backends {
            if bound.backends.contains(&backend) {
                self.resting.backends.push((backend, front, cluster));
                continue;
            }
            if let Some(past) = self.past.get_mut(&front) {
                *past += self.tables.hits(backend);
            }
            self.backends.give_back(backend);
            self.clusters.leave(cluster);
        }
        for front in rested.fronts {
            if bound.fronts.contains(&front) {
                self.resting.fronts.push(front);
                continue;
            }
            self.past.remove(&front);
            self.fronts.give_back(front);
        }
        for service in rested.services {
            match bound.services.contains(&service) {
                true => self.resting.services.push(service),
                false => self.services.give_back(service),
            }
        }
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
            self.tables.store_cluster(u32::from(number), down);
        }
    }
}

fn full(what: &'static str, key: &'static str, used: u32, size: u32) -> Refusal {
    Refusal::Full { what, key, used, size }
}
