//! From snapshot to snapshot: which services are to be written anew, and in which order.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use ipnet::IpNet;
use portolan_zones::diff::ServiceDiff;
use portolan_zones::object::{Port, Protocol, SlicePort};
use portolan_zones::places::Place;
use portolan_zones::{ClusterId, Service, ServiceName, Snapshot};

use crate::abi::Origin;
use crate::reconcile::{Lost, Reconciler};
use crate::tables::{Tables, WriteError};
use crate::wanted::Wanted;

/// Which virtual IPs are redirected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Networks that are left to others.
    pub skip: Vec<IpNet>,
    /// No others than in these; `None`: all.
    pub only: Option<Vec<IpNet>>,
}

impl Scope {
    fn holds(&self, vip: IpAddr) -> bool {
        let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&vip));
        can_be_virtual(vip) && !within(&self.skip) && self.only.as_deref().is_none_or(within)
    }
}

/// What every host has for itself, or for many, is nobody's virtual IP, whoever says so: all programs of a node would be misled.
fn can_be_virtual(vip: IpAddr) -> bool {
    let is_special = vip.is_loopback() || vip.is_unspecified() || vip.is_multicast();
    let is_of_link = match vip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !is_special && !is_of_link
}

/// Has tables follow snapshots, for the clients of one node.
pub struct Follower<T> {
    reconciler: Reconciler<T>,
    scope: Scope,
    node: Option<Arc<str>>,
    /// Where clients are, as the last snapshot has it.
    place: Place,
    seen: Arc<Snapshot>,
    /// The last of the services without room that was tried again.
    tried: Option<ServiceName>,
}

/// What one snapshot brought.
#[derive(Debug, Default)]
pub struct Pass {
    /// Services that were looked at.
    pub services: usize,
    /// Clusters whose last backend is gone, which were taken out before anything else.
    pub down: Vec<ClusterId>,
    /// UDP backends that are not usable any more, or not of a service: connected sockets that use them wait in vain, or should.
    pub lost: Vec<Lost>,
}

impl<T: Tables> Follower<T> {
    /// Tables that are empty, for clients of a node of the home cluster; `None`: it is not known which.
    pub fn new(tables: T, scope: Scope, node: Option<Arc<str>>) -> Self {
        let (reconciler, place) = (Reconciler::new(tables), Place::default());
        Self { reconciler, scope, node, place, seen: Arc::default(), tried: None }
    }

    /// What it keeps.
    pub fn reconciler(&self) -> &Reconciler<T> {
        &self.reconciler
    }

    /// The same, for what no snapshot says.
    pub fn reconciler_mut(&mut self) -> &mut Reconciler<T> {
        &mut self.reconciler
    }

    /// Where clients are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The last snapshot that was followed.
    pub fn seen(&self) -> &Arc<Snapshot> {
        &self.seen
    }

    /// Brings the tables up to a snapshot. An error is of the wait at the end alone: what was replaced rests until the next time.
    pub fn follow(&mut self, snapshot: &Arc<Snapshot>) -> (Pass, Result<(), WriteError>) {
        let mut changes = self.changes(snapshot);
        let before = std::mem::replace(&mut self.seen, snapshot.clone());
        let down = self.take_out_clusters(&before, &changes);
        let mut pass = Pass { services: changes.len(), down, ..Pass::default() };
        let moving = self.moving(&changes);
        // Who takes an address over comes before who had it. What goes makes room for what comes.
        changes.sort_by_key(|change| match &change.after {
            Some(after) if after.ips.iter().any(|vip| moving.contains(vip)) => 0,
            None => 1,
            Some(_) => 2,
        });
        self.reconciler.announce(moving);
        for change in &changes {
            self.apply(change, &before, &mut pass.lost);
        }
        self.reconciler.settle();
        let rested = self.reconciler.rest();
        self.retry(&mut pass.lost);
        for cluster in &pass.down {
            // Nothing leads there any more, but what may, whatever the cluster's health is.
            self.reconciler.mark(cluster, false);
        }
        (pass, rested)
    }

    /// Which addresses are redirected.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Has other addresses be redirected from now on. An error is as of `follow`.
    pub fn rescope(&mut self, scope: Scope) -> (Pass, Result<(), WriteError>) {
        self.scope = scope;
        let seen = self.seen.clone();
        let services: Vec<Arc<Service>> = seen.services.iter().cloned().collect();
        let mut pass = Pass { services: services.len(), ..Pass::default() };
        for service in services {
            self.apply(&unchanged(&service), &seen, &mut pass.lost);
        }
        let rested = self.reconciler.rest();
        self.retry(&mut pass.lost);
        (pass, rested)
    }

    /// Writes what found no room, if it finds some now; see [`Pass::lost`]. What the kernel refuses to wait for rests on.
    pub fn try_again(&mut self) -> Vec<Lost> {
        let mut lost = Vec::new();
        // An error is of the wait alone, and told when a snapshot is followed.
        let _ = self.reconciler.rest();
        self.retry(&mut lost);
        lost
    }

    /// Of origins of sockets those that lead to what is no backend any more, or of virtual IPs that no service has: what another
    /// agent did not live to see. Services that may only be unknown yet are given time.
    pub fn left_behind(&self, origins: impl Iterator<Item = Origin>) -> Vec<Lost> {
        let services = self.seen.services.iter();
        let services = services.flat_map(|service| service.ips.iter().map(move |vip| (*vip, service)));
        let services: HashMap<IpAddr, &Arc<Service>, RandomState> = services.collect();
        let mut serving: HashMap<&ServiceName, Serving<'_>, RandomState> = HashMap::default();
        let mut lost = BTreeSet::new();
        for origin in origins {
            let (vip, backend) = (IpAddr::from(origin.vip), IpAddr::from(origin.backend));
            let backend = (backend, u16::from(origin.backend_port));
            let serves = match services.get(&vip) {
                Some(service) => {
                    serving.entry(&service.name).or_insert_with(|| self.serving(service)).has(backend)
                }
                None => !self.seen.complete,
            };
            if !serves {
                lost.insert((vip, u16::from(origin.vip_port), backend));
            }
        }
        let lost = lost.into_iter();
        lost.map(|(vip, port, backend)| Lost { vips: vec![vip], port, protocol: Protocol::Udp, backend })
            .collect()
    }

    /// Services that may be other than they are in the tables.
    fn changes(&mut self, snapshot: &Arc<Snapshot>) -> Vec<ServiceDiff> {
        let mut changes = snapshot.diff(&self.seen).services;
        let place = self.place_in(snapshot);
        let moved = place != self.place;
        let reordered = !Arc::ptr_eq(&snapshot.places, &self.seen.places);
        self.place = place;
        if moved || reordered {
            let known: BTreeSet<ServiceName> =
                changes.iter().filter_map(|change| change.name().cloned()).collect();
            let more = snapshot
                .services
                .iter()
                .filter(|service| snapshot.depends_on_place(service, 0) && !known.contains(&service.name));
            changes.extend(more.map(unchanged));
        }
        changes
    }

    /// Addresses that services take over from others: they lead to one or the other all the time.
    fn moving(&self, changes: &[ServiceDiff]) -> HashSet<IpAddr, RandomState> {
        let comes = changes.iter().filter_map(|change| change.after.as_ref());
        let vips = comes.flat_map(|service| service.ips.iter().map(|vip| (*vip, &service.name)));
        vips.filter(|(vip, name)| self.reconciler.is_of_another(*vip, name)).map(|(vip, _)| vip).collect()
    }

    /// Where this node is, as its Node says.
    fn place_in(&self, snapshot: &Snapshot) -> Place {
        let Some(home) = snapshot.places.home() else { return Place::default() };
        let known = self.node.as_deref().and_then(|node| snapshot.places.node(home, node).cloned());
        known.unwrap_or_else(|| Place {
            cluster: Some(home.clone()),
            node: self.node.clone(),
            ..Place::default()
        })
    }

    /// Clusters that had backends for many services, and have none for any now, are out for all of them at once: services follow
    /// one by one, and that takes a while.
    fn take_out_clusters(&mut self, before: &Snapshot, changes: &[ServiceDiff]) -> Vec<ClusterId> {
        const MANY: usize = 16;
        if changes.len() < MANY || before.generation == 0 {
            return Vec::new();
        }
        let mut lost: HashMap<ClusterId, usize, RandomState> = HashMap::default();
        for change in changes {
            let Some(name) = change.name() else { continue };
            let used = self.reconciler.clusters_of(name);
            let mut usable: BTreeSet<&ClusterId> = change
                .after
                .iter()
                .flat_map(|after| self.seen.usable(after, 0))
                .map(|(cluster, ..)| cluster)
                .collect();
            // Where nothing is usable, policies may have what is not healthy serve all the same.
            let last = change.after.as_ref().filter(|_| usable.is_empty());
            let last = last.and_then(|service| self.wanted(service));
            usable.extend(last.iter().flat_map(Wanted::clusters));
            for cluster in used.into_iter().filter(|cluster| !usable.contains(cluster)) {
                *lost.entry(cluster).or_default() += 1;
            }
        }
        let uses = self.reconciler.uses();
        let is_all =
            |(cluster, lost): &(&ClusterId, &usize)| **lost >= MANY && uses.get(cluster) == Some(lost);
        let down: Vec<ClusterId> = lost.iter().filter(is_all).map(|(cluster, _)| cluster.clone()).collect();
        for cluster in &down {
            self.reconciler.mark(cluster, true);
        }
        down
    }

    /// `before`: what the service was in, if it was.
    fn apply(&mut self, change: &ServiceDiff, before: &Snapshot, lost: &mut Vec<Lost>) {
        let Some(name) = change.name() else { return };
        let mut gone = Vec::new();
        let wanted = change.after.as_ref().and_then(|service| self.wanted(service));
        self.reconciler.apply(name, wanted, &mut gone);
        gone.retain(|lost| lost.protocol == Protocol::Udp);
        // Sockets stay with what gets no new ones, for as long as it can be used.
        gone.extend(self.used_before(change, before));
        if let Some(after) = change.after.as_ref().filter(|_| !gone.is_empty()) {
            let serving = self.serving(after);
            gone.retain_mut(|lost| {
                if serving.has(lost.backend) {
                    // But what is there for the service is not for an address that it has no more.
                    lost.vips.retain(|vip| !after.ips.contains(vip));
                }
                !lost.vips.is_empty()
            });
        }
        lost.append(&mut gone);
    }

    /// Of UDP ports all that could be used before a change. Whatever is redirected now: sockets stay when others take an address over.
    fn used_before(&self, change: &ServiceDiff, snapshot: &Snapshot) -> Vec<Lost> {
        let ServiceDiff { before: Some(before), after } = change else { return Vec::new() };
        let is_same = after.as_ref().is_some_and(|after| Arc::ptr_eq(before, after));
        if is_same || before.headless || before.ips.is_empty() {
            return Vec::new();
        }
        let lost = |port: u16, backend: (IpAddr, u16)| Lost {
            vips: before.ips.to_vec(),
            port,
            protocol: Protocol::Udp,
            backend,
        };
        let ports = before.spec.ports.iter().filter(|port| port.protocol == Protocol::Udp);
        let of_port = |port: &Port| {
            let is_it = |there: &&SlicePort| there.name == port.name && there.protocol == port.protocol;
            let at = |(_, address, ports): (_, IpAddr, Arc<[SlicePort]>)| {
                let number = ports.iter().find(is_it)?.number.unwrap_or(port.number);
                Some(lost(port.number, (address, number)))
            };
            snapshot.usable(before, 0).filter_map(at).collect::<Vec<_>>()
        };
        let mut used: Vec<Lost> = ports.flat_map(of_port).collect();
        let leaves = |vip: &IpAddr| after.as_ref().is_some_and(|after| !after.ips.contains(vip));
        if before.ips.iter().any(leaves) {
            // What was chosen although it was not well stays so, but for other addresses.
            let chosen = Wanted::of(snapshot, before, &self.place);
            used.extend(
                chosen.iter().flat_map(Wanted::udp_backends).map(|(port, backend)| lost(port, backend)),
            );
        }
        used
    }

    fn serving<'s>(&'s self, service: &'s Service) -> Serving<'s> {
        let mut usable: HashMap<IpAddr, Vec<Arc<[SlicePort]>>, RandomState> = HashMap::default();
        for (_, address, its) in self.seen.usable(service, 0) {
            usable.entry(address).or_default().push(its);
        }
        Serving { snapshot: &self.seen, place: &self.place, service, usable, chosen: OnceCell::new() }
    }

    fn wanted(&self, service: &Service) -> Option<Wanted> {
        let mut wanted = Wanted::of(&self.seen, service, &self.place)?;
        wanted.vips.retain(|vip| self.scope.holds(*vip));
        (!wanted.vips.is_empty()).then_some(wanted)
    }

    /// What found no room may find some by now: a few are tried, in their turn, and more only as long as that helps.
    fn retry(&mut self, lost: &mut Vec<Lost>) {
        const FEW: usize = 64;
        loop {
            let refused = self.reconciler.refused();
            let before = refused.len();
            let tried = self.tried.take();
            let is_next = |name: &&ServiceName| tried.as_ref().is_none_or(|tried| *name > tried);
            let (next, first): (Vec<_>, Vec<_>) = refused.keys().partition(is_next);
            let names: Vec<ServiceName> = next.into_iter().chain(first).take(FEW).cloned().collect();
            for name in &names {
                let seen = self.seen.clone();
                let service = seen.services.get(name.wire()).cloned();
                self.apply(&ServiceDiff { before: None, after: service }, &seen, lost);
            }
            self.tried = names.last().cloned();
            if self.reconciler.refused().len() == before {
                return;
            }
        }
    }
}

/// It is as it was, but not what follows from it.
fn unchanged(service: &Arc<Service>) -> ServiceDiff {
    ServiceDiff { before: Some(service.clone()), after: Some(service.clone()) }
}

/// What connections to a service may stay with: what can be used, and what is chosen although nothing, or too little, can be.
struct Serving<'s> {
    snapshot: &'s Snapshot,
    place: &'s Place,
    service: &'s Service,
    usable: HashMap<IpAddr, Vec<Arc<[SlicePort]>>, RandomState>,
    /// Of UDP ports; seldom asked for, and whatever is redirected.
    chosen: OnceCell<HashSet<(IpAddr, u16), RandomState>>,
}

impl Serving<'_> {
    fn has(&self, backend: (IpAddr, u16)) -> bool {
        let (address, port) = backend;
        // A slice port without a number is every port.
        let is_it = |there: &SlicePort| there.number.is_none_or(|number| number == port);
        let is_usable = |ports: &Vec<Arc<[SlicePort]>>| ports.iter().any(|ports| ports.iter().any(is_it));
        self.usable.get(&address).is_some_and(is_usable) || self.chosen().contains(&backend)
    }

    fn chosen(&self) -> &HashSet<(IpAddr, u16), RandomState> {
        self.chosen.get_or_init(|| {
            let wanted = Wanted::of(self.snapshot, self.service, self.place);
            wanted.iter().flat_map(Wanted::udp_backends).map(|(_, backend)| backend).collect()
        })
    }
}
