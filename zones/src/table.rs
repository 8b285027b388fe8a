//! The table: what every cluster says, merged; mutable, with one owner and no locks.
//!
//! `apply` files an event and marks the services that it touches; `settle` merges those and says which of them
//! want a virtual IP from a pool; `compile` (in its own file) derives the next snapshot. Cost follows what changed.

mod event;
mod memory;
mod objects;
mod readiness;
mod steering;
mod vips;
mod whereabouts;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::claims::Claims;
use crate::clusters::Clusters;
use crate::merge::{InvalidExport, Merged, Word, merge};
use crate::name::{ClusterId, ServiceName};
use crate::object::{Change, ClusterEvent, Import, Node};
use crate::policy::Policies;
use crate::policy::health::Checks;
use crate::slices::Slices;
pub use event::{Event, VipDemand};
use memory::Memory;
use readiness::Readiness;
use whereabouts::Whereabouts;

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
    words: Box<[Word]>,
    /// From the pool.
    pool: Box<[IpAddr]>,
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

    /// Changes what a cluster says about a service, and marks it.
    fn word(&mut self, cluster: &ClusterId, name: &ServiceName, change: impl FnOnce(&mut Word)) {
        let entry = self.entries.entry(name.clone()).or_default();
        if !std::mem::replace(&mut entry.dirty, true) {
            self.dirty.push(name.clone());
        }
        let place = entry.words.binary_search_by(|word| word.cluster.cmp(cluster));
        if let Err(at) = place {
            resize(&mut entry.words, |words| {
                // Few clusters have a service, and there are many services: no room to spare.
                words.reserve_exact(1);
                words.insert(at, Word::new(cluster.clone()));
            });
        }
        let (Ok(at) | Err(at)) = place;
        change(&mut entry.words[at]);
        if entry.words[at].is_silent() {
            resize(&mut entry.words, |words| drop(words.remove(at)));
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

fn resize(words: &mut Box<[Word]>, change: impl FnOnce(&mut Vec<Word>)) {
    let mut list = std::mem::take(words).into_vec();
    change(&mut list);
    *words = list.into();
}
