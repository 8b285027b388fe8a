//! What the kernel should know of a service: pure, from the choice that DNS answers by.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use portolan_zones::object::{IpFamily, Protocol, SessionAffinity, SlicePort};
use portolan_zones::places::Place;
use portolan_zones::policy::backends::Backend;
use portolan_zones::{ClusterId, Service, Snapshot};

use crate::abi::{Address, MOST_BACKENDS, MOST_CLUSTERS};

/// A service with virtual IPs.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Its addresses.
    pub vips: Vec<IpAddr>,
    /// Its ports, but for SCTP, which has no hook.
    pub fronts: Vec<WantedFront>,
}

/// A port of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedFront {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The service's number.
    pub port: u16,
    /// The service's name for it.
    pub name: Option<Arc<str>>,
    /// Seconds that a client keeps its backend; 0: it does not.
    pub affinity: u32,
    /// For sockets that reach IPv4 only, and for all others; `None`: the same.
    pub spreads: (Spread, Option<Spread>),
    /// Backends that there is no room for: see [`MOST_CLUSTERS`] and [`MOST_BACKENDS`].
    pub left_out: usize,
}

/// How connections are spread: over clusters by their parts, and over what each has.
pub type Spread = Vec<ClusterShare>;

/// What a cluster gets.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterShare {
    /// Which.
    pub cluster: ClusterId,
    /// Its part of all.
    pub part: u32,
    /// Its backends, each once: address, port, and part of the cluster's.
    pub backends: Vec<(Address, u16, u32)>,
}

/// Of the protocols that hooks see their numbers in the kernel (IANA).
pub fn protocol_number(protocol: Protocol) -> Option<u8> {
    match protocol {
        Protocol::Tcp => Some(6),
        Protocol::Udp => Some(17),
        Protocol::Sctp => None,
    }
}

impl Wanted {
    /// For clients at a place. `None`: nothing to redirect, for the service has no virtual IP.
    pub fn of(snapshot: &Snapshot, service: &Service, place: &Place) -> Option<Self> {
        if service.headless || service.ips.is_empty() {
            return None;
        }
        let spread = |family| snapshot.backends(service, place, 0, Some(family));
        let (v4, mut v6) = (spread(IpFamily::V4), spread(IpFamily::V6));
        // An AAAA answer has nothing else to say than backends that fail; a socket that reaches both families goes where it is well.
        let is_well = |is_v4| snapshot.usable(service, 0).any(|(_, address, _)| address.is_ipv4() == is_v4);
        if !v6.is_empty() && !is_well(false) && is_well(true) {
            v6.clear();
        }
        let affinity = match service.spec.session_affinity {
            SessionAffinity::None => 0,
            SessionAffinity::ClientIp { timeout } => timeout.max(1),
        };
        let seen = service.spec.ports.iter().filter(|port| protocol_number(port.protocol).is_some());
        let front = |port: &portolan_zones::object::Port| {
            let is_it = |there: &&SlicePort| there.name == port.name && there.protocol == port.protocol;
            let at = |backend: &Backend| {
                let there = backend.ports.iter().find(is_it)?;
                // A slice port without a number is every port.
                Some((Address::from(backend.address), there.number.unwrap_or(port.number)))
            };
            let (v4, left_out) = shares(&v4, at);
            let (v6, more) = shares(&v6, at);
            WantedFront {
                protocol: port.protocol,
                port: port.number,
                name: port.name.clone(),
                affinity,
                spreads: (v4, (!v6.is_empty()).then_some(v6)),
                left_out: left_out + more,
            }
        };
        Some(Self { vips: service.ips.to_vec(), fronts: seen.map(front).collect() })
    }
}

/// Puts the backends that have the port together by cluster, and says how many there is no room for.
fn shares(backends: &[Backend], at: impl Fn(&Backend) -> Option<(Address, u16)>) -> (Spread, usize) {
    let mut clusters: BTreeMap<&ClusterId, BTreeMap<(Address, u16), u32>> = BTreeMap::new();
    let mut left_out = 0;
    for backend in backends {
        let Some(at) = at(backend) else { continue };
        let clusters_are_full = clusters.len() == MOST_CLUSTERS;
        if clusters_are_full && !clusters.contains_key(&backend.cluster) {
            left_out += 1;
            continue;
        }
        let there = clusters.entry(&backend.cluster).or_default();
        if there.len() == MOST_BACKENDS && !there.contains_key(&at) {
            left_out += 1;
            continue;
        }
        *there.entry(at).or_default() += backend.part;
    }
    let share = |(cluster, backends): (&ClusterId, BTreeMap<(Address, u16), u32>)| ClusterShare {
        cluster: cluster.clone(),
        part: backends.values().sum(),
        backends: backends.into_iter().map(|((address, port), part)| (address, port, part)).collect(),
    };
    (clusters.into_iter().map(share).filter(|share| share.part > 0).collect(), left_out)
}

impl Wanted {
    /// Where sockets of its UDP ports go.
    pub(crate) fn udp_backends(&self) -> impl Iterator<Item = (u16, (IpAddr, u16))> {
        let fronts = self.fronts.iter().filter(|front| front.protocol == Protocol::Udp);
        let backends = |front: &'_ WantedFront| {
            let all = front.shares().flat_map(|share| &share.backends);
            let at = |(address, port, _): &(Address, u16, u32)| (front.port, (IpAddr::from(*address), *port));
            all.map(at).collect::<Vec<_>>()
        };
        fronts.flat_map(backends)
    }

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
    pub(crate) fn is_at(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.port == other.port
    }

    /// Leaves out all other backends.
    pub(crate) fn retain(&mut self, stays: impl Fn(&ClusterId, Address, u16) -> bool) {
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

    pub(crate) fn spreads(&self) -> impl Iterator<Item = &Spread> {
        std::iter::once(&self.spreads.0).chain(&self.spreads.1)
    }

    pub(crate) fn shares(&self) -> impl Iterator<Item = &ClusterShare> {
        self.spreads().flatten()
    }
}
