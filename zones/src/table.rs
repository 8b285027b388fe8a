//! The table: what every cluster says, merged; mutable, with one owner and no locks.
//!
//! `apply` files an event and marks the services that it touches; `settle` merges those and says which of them
//! want a virtual IP from a pool; `compile` (in its own file) derives the next snapshot. Cost follows what changed.

mod memory;
mod readiness;
mod steering;
mod vips;
mod whereabouts;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use crate::claims::Claims;
use crate::clusters::{Clusters, Hearing};
use crate::merge::{InvalidExport, Merged, Word, merge};
use crate::name::{ClusterId, ServiceName};
use crate::object::{Change, ClusterEvent, Import, IpFamily, Node, Object, ObjectKey, Slice};
use crate::peers::{Forced, Labels};
use crate::places::Mapping;
use crate::policy::health::{Check, Checks};
use crate::policy::{Configured, Policies};
use crate::slices::Slices;
use memory::Memory;
use readiness::Readiness;
use whereabouts::Whereabouts;

/// Something to take into the table.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// What a cluster says.
    Cluster(ClusterEvent),
    /// A cluster left the clusterset: all that it said is gone.
    Forget(ClusterId),
    /// What is known of a cluster may be out of date (its source can't be read), or no longer.
    Stale {
        /// The cluster.
        cluster: ClusterId,
        /// Whether it is.
        stale: bool,
    },
    /// The clusters that must have been read before a missing name may be denied.
    Expect(BTreeSet<ClusterId>),
    /// There are others to be read, and which is not known yet: no name may be denied.
    ExpectMore,
    /// The cluster whose clients ask: its imports' VIPs count.
    Home(Option<ClusterId>),
    /// Whose exports are heard from the clusters themselves.
    Hear(Hearing),
    /// The namespaces that exports of these clusters are accepted in; of all others, in every namespace. Neither a cluster's
    /// own words nor what home tells of it count elsewhere.
    Accept(BTreeMap<ClusterId, BTreeSet<String>>),
    /// The network that a cluster's endpoints are on: from another one they are reached through gateways.
    Network {
        /// The cluster.
        cluster: ClusterId,
        /// The network's name; empty at first, for all.
        network: Arc<str>,
    },
    /// What came of health checks: whether each is healthy.
    Checked(Vec<(Check, bool)>),
    /// The Service whose endpoints in home are node agents: virtual IPs are for clients on nodes where one is ready. `None`, as at
    /// first: they are for everybody.
    Agents(Option<ServiceName>),
    /// Where the operator says that clients are.
    Map(Box<[Mapping]>),
    /// A cluster's labels, as its own configuration has them.
    Labels {
        /// The cluster.
        cluster: ClusterId,
        /// None at first.
        labels: Labels,
    },
    /// How long it takes to get to clusters from here, of all of which that is known; it goes before what ClusterPeers say.
    RoundTrips(BTreeMap<ClusterId, Duration>),
    /// What the operator decides of endpoints, whatever others say; of two about the same the later one holds.
    Force(Box<[Forced]>),
    /// The operator's own policies; of two about the same the first one holds.
    Configure(Box<[Configured]>),
    /// Addresses that the pool gave a service; none takes them back.
    Vips {
        /// The service.
        service: ServiceName,
        /// At most one per family, in the order of the service's families.
        ips: SmallVec<[IpAddr; 2]>,
    },
}

/// A service that wants addresses of the pool, or (no families) wants none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VipDemand {
    /// The service.
    pub service: ServiceName,
    /// The families that it wants, in its order.
    pub families: SmallVec<[IpFamily; 2]>,
}

/// All that is known.
#[derive(Default)]
pub struct Table {
    entries: HashMap<ServiceName, Entry, RandomState>,
    /// The same slices by name.
    slices: Slices,
    clusters: Clusters,
    namespaces: HashMap<Arc<str>, BTreeSet<ClusterId>, RandomState>,
    pub(crate) namespace_changes: Vec<(Arc<str>, bool)>,
    expected: Option<BTreeSet<ClusterId>>,
    synced: BTreeSet<ClusterId>,
    stale: BTreeSet<ClusterId>,
    claims: Claims,
    policies: Policies,
    checks: Checks,
    memory: Memory,
    whereabouts: Whereabouts,
    readiness: Readiness,
    /// Touched since they were last merged, in order; each once, as its entry remembers.
    dirty: Vec<ServiceName>,
    /// Merged since the last snapshot; of two of one name the later holds.
    pending: Vec<(ServiceName, Option<Merged>)>,
    invalid: BTreeMap<ServiceName, Vec<(ClusterId, InvalidExport)>>,
}

/// One service as the table knows it.
#[derive(Default)]
struct Entry {
    /// By cluster id.
    words: Vec<Word>,
    /// From the pool.
    pool: SmallVec<[IpAddr; 2]>,
    /// The home cluster's import, whose addresses are filed in `claims`.
    claimed: Option<Arc<Import>>,
    /// Whether it is in `dirty`.
    dirty: bool,
    /// Where it is in `pending`.
    pending: Option<u32>,
}

impl Entry {
    /// The home cluster's import, if it claims addresses: one that has none leaves the choice to the pool.
    fn claim(&self, home: Option<&ClusterId>) -> Option<&Arc<Import>> {
        let word = self.words.iter().find(|word| Some(&word.cluster) == home)?;
        word.import.as_ref().filter(|import| !import.headless && !import.ips.is_empty())
    }
}

impl Table {
    /// Takes an event in. Total: an object about nothing known is kept, a deletion of nothing is nothing.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Cluster(ClusterEvent { cluster, change }) => match change {
                Change::Apply(object) => self.apply_object(&cluster, object),
                Change::Delete(key) => self.delete(&cluster, &key),
                Change::Reset(objects) => self.reset(&cluster, objects),
                Change::Synced => {
                    self.synced.insert(cluster);
                }
            },
            Event::Forget(cluster) => {
                self.reset(&cluster, Vec::new());
                self.synced.remove(&cluster);
                self.slices.forget(&cluster);
                self.clusters.forget(&cluster);
                self.stale.remove(&cluster);
            }
            Event::Stale { cluster, stale } => {
                let known =
                    if stale { self.stale.insert(cluster.clone()) } else { !self.stale.remove(&cluster) };
                if known == stale {
                    self.touch_cluster(&cluster);
                }
            }
            Event::Expect(clusters) => self.expected = Some(clusters),
            Event::ExpectMore => self.expected = None,
            Event::Home(home) => {
                if self.clusters.home != home {
                    self.clusters.home = home;
                    self.clusters.standings.move_home();
                    self.whereabouts.forget();
                    self.readiness.outdated = true;
                    self.touch_all();
                }
            }
            Event::Hear(hearing) => {
                if self.clusters.hearing != hearing {
                    self.clusters.hearing = hearing;
                    self.touch_imports();
                }
            }
            Event::Accept(accepted) => {
                if self.clusters.accepted != accepted {
                    self.clusters.accepted = accepted;
                    self.touch_all();
                }
            }
            Event::Network { cluster, network } => {
                if self.clusters.set_network(cluster, network) {
                    self.touch_all();
                }
            }
            Event::Checked(verdicts) => {
                for (check, healthy) in verdicts {
                    for name in self.checks.hear(&check, healthy) {
                        self.touch(&name);
                    }
                }
            }
            Event::Agents(service) => self.set_agents(service),
            Event::Map(mappings) => self.whereabouts.map(mappings),
            Event::Labels { cluster, labels } => {
                self.clusters.standings.set_labels(cluster, labels);
            }
            Event::RoundTrips(measured) => {
                self.clusters.standings.measure(measured);
            }
            Event::Force(forced) => {
                for cluster in self.clusters.standings.force(forced) {
                    self.touch_cluster(&cluster);
                }
            }
            Event::Configure(policies) => {
                if self.policies.configure(policies) {
                    self.touch_all();
                }
            }
            Event::Vips { service, ips } => self.set_pool(&service, &ips),
        }
    }

    /// Merges what was touched; returns the services whose wish for pool addresses is not met.
    pub fn settle(&mut self) -> Vec<VipDemand> {
        self.settle_places();
        self.settle_standings();
        while !self.dirty.is_empty() {
            // Filing a claim may touch the services that claim the same address: another round.
            for name in std::mem::take(&mut self.dirty) {
                self.settle_one(name);
            }
        }
        self.settle_agents();
        let mut demands: Vec<_> =
            self.pending.iter().filter_map(|(name, merged)| self.demand(name, merged.as_ref())).collect();
        demands.sort_by(|a, b| a.service.cmp(&b.service));
        demands
    }

    /// Whether every expected cluster has been read once.
    pub fn is_complete(&self) -> bool {
        self.expected.as_ref().is_some_and(|expected| expected.is_subset(&self.synced))
    }

    /// Exports that don't count, and why.
    pub fn invalid_exports(&self) -> impl Iterator<Item = (&ServiceName, &ClusterId, InvalidExport)> {
        self.invalid
            .iter()
            .flat_map(|(name, exports)| exports.iter().map(move |(c, reason)| (name, c, *reason)))
    }

    /// Nodes of all clusters.
    pub fn nodes(&self) -> impl Iterator<Item = (&ClusterId, &Node)> {
        self.clusters.nodes()
    }

    /// Marks everything as touched: the next snapshot is compiled from scratch.
    pub(crate) fn touch_all(&mut self) {
        self.touch_entries(|_, _| true);
    }

    /// Marks what a cluster has a word in, or is told of in another's.
    fn touch_cluster(&mut self, cluster: &ClusterId) {
        self.touch_words(|word| word.is_about(cluster));
    }

    /// Marks what an import may stand in for.
    fn touch_imports(&mut self) {
        self.touch_words(|word| word.import.is_some());
    }

    /// Marks the services that some cluster says such a word about.
    fn touch_words(&mut self, such: impl Fn(&Word) -> bool) {
        self.touch_entries(|_, entry| entry.words.iter().any(&such));
    }

    fn touch_names(&mut self, such: impl Fn(&ServiceName) -> bool) {
        self.touch_entries(|name, _| such(name));
    }

    fn touch_entries(&mut self, such: impl Fn(&ServiceName, &Entry) -> bool) {
        for (name, entry) in &mut self.entries {
            if such(name, entry) && !std::mem::replace(&mut entry.dirty, true) {
                self.dirty.push(name.clone());
            }
        }
    }

    /// Whether what is known of a cluster may be out of date.
    pub(crate) fn is_stale(&self, cluster: &ClusterId) -> bool {
        self.stale.contains(cluster)
    }

    /// What was merged since the last call, for the compiler.
    pub(crate) fn take_pending(&mut self) -> Vec<(ServiceName, Option<Merged>)> {
        let pending = std::mem::take(&mut self.pending);
        for (name, _) in &pending {
            if let Some(entry) = self.entries.get_mut(name) {
                entry.pending = None;
            }
        }
        pending
    }

    /// Namespaces that some cluster has.
    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.namespaces.keys()
    }

    fn apply_object(&mut self, cluster: &ClusterId, object: Object) {
        match object {
            Object::Node(node) => {
                self.clusters.apply_node(cluster, node);
            }
            Object::Namespace(name) => {
                let holders = self.namespaces.entry(name.clone()).or_default();
                if holders.is_empty() {
                    self.namespace_changes.push((name, true));
                }
                holders.insert(cluster.clone());
            }
            Object::Export(export) => {
                let name = export.name.clone();
                self.word(cluster, &name, |word| word.export = Some(export));
            }
            Object::Service(service) => {
                let name = service.name.clone();
                self.word(cluster, &name, |word| word.service = Some(service));
            }
            Object::Import(import) => {
                let name = import.name.clone();
                self.word(cluster, &name, |word| word.import = Some(Arc::new(import)));
            }
            Object::Slice(slice) => self.apply_slice(cluster, slice),
            Object::Policy(policy) => {
                let touched = self.policies.apply(cluster, policy);
                self.touch_subjects(touched);
            }
            Object::Peer(peer) => self.clusters.standings.apply_peer(cluster.clone(), peer),
        }
    }

    fn apply_slice(&mut self, cluster: &ClusterId, slice: Slice) {
        let slice = Arc::new(slice);
        if let Some(before) = self.slices.insert(cluster, slice.clone())
            && before.service != slice.service
        {
            self.word(cluster, &before.service, |word| word.slices.retain(|s| s.name != slice.name));
        }
        self.word(cluster, &slice.service, |word| {
            match word.slices.binary_search_by(|s| s.name.cmp(&slice.name)) {
                Ok(at) => word.slices[at] = slice.clone(),
                Err(at) => {
                    word.slices.reserve_exact(1);
                    word.slices.insert(at, slice.clone());
                }
            }
        });
    }

    fn delete(&mut self, cluster: &ClusterId, key: &ObjectKey) {
        match key {
            ObjectKey::Node(name) => {
                self.clusters.delete_node(cluster, name);
            }
            ObjectKey::Namespace(name) => {
                let Some(holders) = self.namespaces.get_mut(name) else {
                    return;
                };
                if holders.remove(cluster) && holders.is_empty() {
                    self.namespaces.remove(name);
                    self.namespace_changes.push((name.clone(), false));
                }
            }
            ObjectKey::Export(name) => self.word(cluster, name, |word| word.export = None),
            ObjectKey::Service(name) => self.word(cluster, name, |word| word.service = None),
            ObjectKey::Import(name) => self.word(cluster, name, |word| word.import = None),
            ObjectKey::Policy(name) => {
                let touched = self.policies.delete(cluster, name);
                self.touch_subjects(touched);
            }
            ObjectKey::Peer(name) => {
                self.clusters.standings.delete_peer(cluster, name);
            }
            ObjectKey::Slice(slice) => {
                if let Some(filed) = self.slices.remove(cluster, slice) {
                    self.word(cluster, &filed.service, |word| word.slices.retain(|s| s.name != *slice));
                }
            }
        }
    }

    fn reset(&mut self, cluster: &ClusterId, objects: Vec<Object>) {
        self.synced.insert(cluster.clone());
        let kept: HashSet<ObjectKey, RandomState> = objects.iter().map(Object::key).collect();
        for key in self.keys(cluster).into_iter().filter(|key| !kept.contains(key)) {
            self.delete(cluster, &key);
        }
        for object in objects {
            self.apply_object(cluster, object);
        }
    }

    /// All objects of a cluster.
    fn keys(&self, cluster: &ClusterId) -> Vec<ObjectKey> {
        let mut keys = Vec::new();
        for (name, entry) in &self.entries {
            let Some(word) = entry.words.iter().find(|word| word.cluster == *cluster) else {
                continue;
            };
            keys.extend(word.export.as_ref().map(|_| ObjectKey::Export(name.clone())));
            keys.extend(word.service.as_ref().map(|_| ObjectKey::Service(name.clone())));
            keys.extend(word.import.as_ref().map(|_| ObjectKey::Import(name.clone())));
            keys.extend(word.slices.iter().map(|slice| ObjectKey::Slice(slice.name.clone())));
        }
        let nodes = self.clusters.nodes().filter(|(c, _)| *c == cluster);
        keys.extend(nodes.map(|(_, node)| ObjectKey::Node(node.name.clone())));
        let holds = self.namespaces.iter().filter(|(_, holders)| holders.contains(cluster));
        keys.extend(holds.map(|(name, _)| ObjectKey::Namespace(name.clone())));
        keys.extend(self.policies.names(cluster).cloned().map(ObjectKey::Policy));
        keys.extend(self.clusters.standings.names(cluster).cloned().map(ObjectKey::Peer));
        keys
    }

    /// Changes what a cluster says about a service, and marks it.
    fn word(&mut self, cluster: &ClusterId, name: &ServiceName, change: impl FnOnce(&mut Word)) {
        let entry = self.entries.entry(name.clone()).or_default();
        if !std::mem::replace(&mut entry.dirty, true) {
            self.dirty.push(name.clone());
        }
        let words = &mut entry.words;
        let at = words.binary_search_by(|word| word.cluster.cmp(cluster)).unwrap_or_else(|at| {
            // Few clusters have a service, and there are many services: no room to spare.
            words.reserve_exact(1);
            words.insert(at, Word::new(cluster.clone()));
            at
        });
        change(&mut words[at]);
        if words[at].is_silent() {
            words.remove(at);
        }
    }

    fn touch(&mut self, name: &ServiceName) {
        if let Some(entry) = self.entries.get_mut(name)
            && !std::mem::replace(&mut entry.dirty, true)
        {
            self.dirty.push(name.clone());
        }
    }

    /// Merges one service and files what follows from it.
    fn settle_one(&mut self, name: ServiceName) {
        self.readiness.outdated |= self.readiness.service.as_ref() == Some(&name);
        let Some(entry) = self.entries.get_mut(&name) else { return self.pending.push((name, None)) };
        entry.dirty = false;
        let merged = merge(&name, &entry.words, &self.clusters, &self.policies);
        let empty = entry.words.is_empty();
        let invalid = entry.words.iter().any(|word| word.invalid().is_some());
        match entry.pending {
            Some(at) => self.pending[at as usize].1 = merged,
            None => {
                entry.pending = Some(self.pending.len() as u32);
                self.pending.push((name.clone(), merged));
            }
        }
        if entry.claimed.as_ref() != entry.claim(self.clusters.home.as_ref()) {
            self.file_claims(&name);
        }
        if invalid || !self.invalid.is_empty() {
            self.file_invalid(&name);
        }
        if empty {
            self.drop_if_empty(&name);
        }
    }

    fn file_invalid(&mut self, name: &ServiceName) {
        let words = self.entries.get(name).map_or(&[][..], |entry| &entry.words);
        let invalid: Vec<_> =
            words.iter().filter_map(|word| Some((word.cluster.clone(), word.invalid()?))).collect();
        if invalid.is_empty() {
            self.invalid.remove(name);
        } else {
            self.invalid.insert(name.clone(), invalid);
        }
    }

    fn drop_if_empty(&mut self, name: &ServiceName) {
        let empty =
            |entry: &Entry| entry.words.is_empty() && entry.pool.is_empty() && entry.claimed.is_none();
        if self.entries.get(name).is_some_and(empty) {
            self.entries.remove(name);
        }
    }
}
