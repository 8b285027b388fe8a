//! A snapshot: everything that is answered, at one instant. Immutable, shared by all threads, cheap to derive the next one from.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::agents::Agents;
use crate::index::Index;
use crate::name::{ClusterId, ServiceName};
use crate::places::Places;
use crate::pods::Pods;
use crate::service::{Absence, Answers, Service};
use crate::standing::Standing;
use crate::zone::Zones;

/// One consistent state of the clusterset.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// Ours: counts every published change.
    pub generation: u64,
    /// SOA serial: moves only when an answer does (RFC 1982 arithmetic).
    pub serial: u32,
    /// Whether every expected cluster has been read: before that, a missing name is SERVFAIL, never NXDOMAIN.
    pub complete: bool,
    /// The zones that are served.
    pub zones: Arc<Zones>,
    /// All services.
    pub services: Index,
    /// Where clients are.
    pub places: Arc<Places>,
    /// How clusters stand, for people.
    pub(crate) standings: Arc<BTreeMap<ClusterId, Standing>>,
    /// Where pods are whose Nodes don't say that.
    pub(crate) pods: Pods,
    /// On which nodes virtual IPs can be connected to; `None`: wherever clients are.
    pub agents: Option<Arc<Agents>>,
    /// Which of [`Service::by_zone`] each zone answers, by the zones' positions; `None`: what is answered anywhere else.
    pub(crate) variants: Box<[Option<u8>]>,
    /// Labels below `svc` that exist, each with the number of reasons: Namespaces and services with names.
    pub(crate) namespaces: imbl::HashMap<Arc<str>, u32>,
    /// Names of addresses; kept only while a reverse zone is configured.
    pub(crate) reverse: imbl::OrdMap<IpAddr, SmallVec<[ReverseTarget; 1]>>,
    /// Sums over all services.
    pub counts: Counts,
}

/// Sums over all services of a snapshot, for status and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Services with at least one valid export, or imported.
    pub services: usize,
    /// Of these, headless ones.
    pub headless: usize,
    /// Endpoint addresses, ready or not.
    pub endpoints: usize,
    /// Conflicts between exports.
    pub conflicts: usize,
    /// Services with a warning.
    pub warnings: usize,
    /// Services whose answers depend on who asks.
    pub steered: usize,
    /// Of these, those that answer a virtual IP to clients on nodes with a ready agent alone.
    pub by_agent: usize,
}

/// Where a PTR record points: an endpoint's name or a service's, in the primary zone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReverseTarget {
    /// The service.
    pub service: ServiceName,
    /// `<hostname>.<clusterid>` in wire form; empty for a virtual IP.
    pub host: Box<[u8]>,
}

impl Snapshot {
    /// Nothing known yet: every name of the zones is SERVFAIL.
    pub fn unsynced(zones: Arc<Zones>) -> Self {
        Self { zones, ..Self::default() }
    }

    /// Puts `after` in place of what is known of the service, and keeps sums and side indexes right.
    /// Returns whether an answer changed.
    pub(crate) fn replace(&mut self, name: &ServiceName, after: Option<&Arc<Service>>) -> bool {
        let before = match after {
            Some(service) => self.services.insert(service.clone()),
            None => self.services.remove(name.wire()),
        };
        if let Some(service) = &before {
            self.counts.sub(service);
        }
        if let Some(service) = after {
            self.counts.add(service);
        }
        let is_named = |service: &Service| service.all_answers().any(|answers| answers.absence().is_none());
        match (before.as_deref().is_some_and(is_named), after.is_some_and(|service| is_named(service))) {
            (false, true) => self.hold_namespace(name.namespace()),
            (true, false) => self.release_namespace(name.namespace()),
            _ => {}
        }
        let (before, after) = (before.as_deref(), after.map(|service| &**service));
        let (same, ips) = (says_the_same(before, after), before.map(|s| &s.ips) == after.map(|s| &s.ips));
        // The names of addresses follow from these, too, whatever a policy answers.
        if self.zones.reverse() && !(same && ips) {
            self.update_reverse(name, before, after);
        }
        !same
    }

    /// Which of a service's answers the zone at a position gives.
    pub(crate) fn variant(&self, zone: usize) -> Option<u8> {
        self.variants.get(zone).copied().flatten()
    }

    /// One more reason for a namespace's name to exist.
    pub(crate) fn hold_namespace(&mut self, namespace: &str) {
        *self.namespaces.entry(namespace.into()).or_insert(0) += 1;
    }

    /// One reason less.
    pub(crate) fn release_namespace(&mut self, namespace: &str) {
        if let Some(count) = self.namespaces.get_mut(namespace) {
            *count -= 1;
            if *count == 0 {
                self.namespaces.remove(namespace);
            }
        }
    }

    fn update_reverse(&mut self, name: &ServiceName, before: Option<&Service>, after: Option<&Service>) {
        for (address, host) in before.into_iter().flat_map(reverse_names) {
            if let Some(targets) = self.reverse.get_mut(&address) {
                targets.retain(|target| target.service != *name || *target.host != *host);
                if targets.is_empty() {
                    self.reverse.remove(&address);
                }
            }
        }
        for (address, host) in after.into_iter().flat_map(reverse_names) {
            let targets = self.reverse.entry(address).or_default();
            let target = ReverseTarget { service: name.clone(), host: host.into() };
            if let Err(at) = targets.binary_search(&target) {
                targets.insert(at, target);
            }
        }
    }
}

/// Whether two states of a service are answered alike in all zones.
fn says_the_same(before: Option<&Service>, after: Option<&Service>) -> bool {
    let absent = Answers::absent(Absence::NoVip);
    let own = before.iter().chain(&after).map(|service| service.by_zone.len()).max().unwrap_or(0);
    let mut zones =
        std::iter::once(None).chain((0..own).filter_map(|zone| u8::try_from(zone).ok()).map(Some));
    zones.all(|zone| {
        let before = before.map_or(&absent, |service| service.answers_in(zone));
        before == after.map_or(&absent, |service| service.answers_in(zone))
    })
}

/// The addresses that a service gives names to, with the labels above the service's name.
fn reverse_names(service: &Service) -> Vec<(IpAddr, &[u8])> {
    let answers = &service.answers;
    if answers.absence().is_some() {
        return Vec::new();
    }
    if !service.headless {
        return service.ips.iter().map(|ip| (*ip, &[][..])).collect();
    }
    let names = answers.hosts.iter().flat_map(|host| {
        let v4 = host.v4.iter().map(|a| IpAddr::V4(*a));
        v4.chain(host.v6.iter().map(|a| IpAddr::V6(*a))).map(|address| (address, &*host.labels))
    });
    names.collect()
}

impl Counts {
    fn add(&mut self, service: &Service) {
        self.services += 1;
        self.headless += usize::from(service.headless);
        self.endpoints += service.endpoints();
        self.conflicts += service.conflicts.len();
        self.warnings += usize::from(!service.warnings.is_empty());
        self.steered += usize::from(service.is_steered());
        self.by_agent += usize::from(service.is_by_agent());
    }

    fn sub(&mut self, service: &Service) {
        self.services -= 1;
        self.headless -= usize::from(service.headless);
        self.endpoints -= service.endpoints();
        self.conflicts -= service.conflicts.len();
        self.warnings -= usize::from(!service.warnings.is_empty());
        self.steered -= usize::from(service.is_steered());
        self.by_agent -= usize::from(service.is_by_agent());
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { generation, serial, complete, counts, .. } = self;
        write!(
            f,
            "Snapshot {{ generation: {generation}, serial: {serial}, complete: {complete}, {counts:?} }}"
        )
    }
}
