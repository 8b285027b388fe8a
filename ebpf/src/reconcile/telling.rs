//! What a reconciler tells of its tables: how full they are, where services lead, and what has been counted.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use portolan_zones::object::Protocol;
use portolan_zones::{ClusterId, ServiceName};

use super::Reconciler;
use super::held::BackendKey;
use crate::tables::{Sizes, Tables};
use crate::wanted::Wanted;

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

    /// How full the tables are.
    pub fn fill(&self) -> Fill {
        let Sizes { vips, ports, backends, slots, clusters, .. } = self.sizes;
        Fill {
            vips: ((self.owners.len() + self.undeleted.vips.len()) as u32, vips),
            ports: (self.fronts.used(), ports),
            backends: (self.backends.used(), backends),
            slots: (self.slots.used(), slots),
            clusters: (self.clusters.in_use(), clusters),
        }
    }

    /// What has been counted, in no order.
    pub fn counted(&self) -> impl Iterator<Item = Counted<'_>> {
        let ids = self.clusters.by_number();
        let mut gone: HashMap<u32, u64, RandomState> = HashMap::default();
        for (backend, front, _) in &self.resting.backends {
            *gone.entry(*front).or_default() += self.tables.hits(*backend);
        }
        let fronts = self.held.iter().flat_map(|(name, held)| held.fronts.iter().map(move |f| (name, f)));
        fronts.map(move |(service, front)| {
            let backend = |((cluster, address, port), number): &(BackendKey, u32)| {
                Some((*ids.get(cluster)?, IpAddr::from(*address), *port, self.tables.hits(*number)))
            };
            let backends: Vec<_> = front.backends.iter().filter_map(backend).collect();
            let gone = gone.get(&front.number).copied().unwrap_or_default();
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
}
