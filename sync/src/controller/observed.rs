//! What the own cluster's objects are, as its watch tells: facts by service, and whose facts have changed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use portolan_zones::{ClusterId, ServiceName};
use tokio::sync::Notify;

use super::facts::{
    DerivedFacts, ExportFacts, Facts, Head, ImportFacts, Meta, Seen, SliceFacts, service_kind,
};
use super::words;
use crate::convert::Kind;
use crate::kubernetes::Tap;

/// Shared by the watch, which tells, and the reconciler, which asks.
#[derive(Default)]
pub(super) struct Observed {
    state: Mutex<State>,
    /// Rings when there is something new to [`Observed::take_touched`].
    pub(super) touched: Notify,
}

/// What has changed since it was last asked.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Touched {
    pub(super) services: HashSet<ServiceName, RandomState>,
    /// Namespaces that came, or are going.
    pub(super) namespaces: BTreeSet<String>,
}

#[derive(Default)]
struct State {
    services: HashMap<ServiceName, Facts, RandomState>,
    /// How many of them have an import of ours.
    imports: usize,
    /// The service of each of our slices and derived Services, whose names don't tell.
    owners: HashMap<Key, ServiceName, RandomState>,
    namespaces: HashSet<String, RandomState>,
    /// Ours, but of no service: what a sweep deletes.
    strays: HashMap<Key, u64, RandomState>,
    home: Option<ClusterId>,
    touched: Touched,
}

/// A slice or Service, by kind, namespace and name.
type Key = (Which, Arc<str>, Arc<str>);

/// Objects whose names don't tell the service that they belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Which {
    Service,
    Slice,
}

impl Observed {
    /// The own cluster's id, once all its objects are known.
    pub(super) fn home(&self) -> Option<ClusterId> {
        self.state().home.clone()
    }

    /// What is known about a service.
    pub(super) fn see(&self, name: &ServiceName) -> Seen {
        let state = self.state();
        let derived = ServiceName::new(name.namespace(), &words::derived_name(name)).ok();
        let taken = derived.and_then(|derived| state.services.get(&derived)?.kind);
        Seen {
            facts: state.services.get(name).cloned().unwrap_or_default(),
            namespace: state.namespaces.contains(name.namespace()),
            derived_taken: taken.is_some(),
        }
    }

    /// All services that have something that a reconciler could have to do with.
    pub(super) fn services(&self) -> Vec<ServiceName> {
        let state = self.state();
        let concerned = |facts: &Facts| {
            facts.export.is_some()
                || facts.derived.is_some()
                || !facts.slices.is_empty()
                || facts.has_import()
        };
        state.services.iter().filter(|(_, facts)| concerned(facts)).map(|(name, _)| name.clone()).collect()
    }

    /// How many imports are ours.
    pub(super) fn imports(&self) -> usize {
        self.state().imports
    }

    /// Objects of ours that belong to no service: which, namespace, name, version.
    pub(super) fn strays(&self) -> Vec<(Which, String, String, u64)> {
        let state = self.state();
        let stray =
            |((which, ns, name), version): (&Key, &u64)| (*which, ns.to_string(), name.to_string(), *version);
        state.strays.iter().map(stray).collect()
    }

    /// What has changed since the last call.
    pub(super) fn take_touched(&self) -> Touched {
        std::mem::take(&mut self.state().touched)
    }

    /// Takes an object in as an answer to our own write; nobody needs to be told.
    pub(super) fn wrote(&self, kind: Kind, json: &str) {
        let mut state = self.state();
        let before = state.touched.services.len();
        let changed = state.apply(kind, json);
        if let Some(name) = changed.filter(|_| state.touched.services.len() > before) {
            state.touched.services.remove(&name);
        }
    }

    /// We deleted an object.
    pub(super) fn deleted(&self, kind: Kind, namespace: &str, name: &str) {
        self.state().delete(kind, namespace, name);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap for Observed {
    fn apply(&self, kind: Kind, json: &str) {
        let changed = self.state().apply(kind, json);
        if changed.is_some() || kind == Kind::Namespace {
            self.touched.notify_one();
        }
    }

    fn delete(&self, kind: Kind, namespace: &str, name: &str) {
        self.state().delete(kind, namespace, name);
        self.touched.notify_one();
    }

    fn listed(&self, kind: Kind, keys: &HashSet<(String, String)>) {
        self.state().listed(kind, keys);
        self.touched.notify_one();
    }

    fn synced(&self, id: &ClusterId) {
        self.state().home = Some(id.clone());
        self.touched.notify_one();
    }
}

impl State {
    /// Takes an object in; the service about which something is new. One that can't be read is as if it were not there:
    /// it is written anew if it is ours.
    fn apply(&mut self, kind: Kind, json: &str) -> Option<ServiceName> {
        let Ok(Head { metadata }) = serde_json::from_str(json) else { return None };
        match kind {
            Kind::Namespace => {
                if metadata.deletion_timestamp.is_some() {
                    self.forget_namespace(&metadata.name);
                } else if self.namespaces.insert(metadata.name.clone()) {
                    self.touched.namespaces.insert(metadata.name);
                }
                None
            }
            Kind::ServiceImport => {
                let import = ImportFacts::of(json).ok();
                let name = name_of(&metadata)?;
                self.change(name, |facts| newer(&mut facts.import, import, |facts| facts.version))
            }
            Kind::ServiceExport => {
                let export = ExportFacts::of(json).ok();
                let name = name_of(&metadata)?;
                self.change(name, |facts| newer(&mut facts.export, export, |facts| facts.version))
            }
            Kind::Service if metadata.is_ours(kind) => {
                // It may have been somebody else's until now.
                self.change(name_of(&metadata)?, |facts| facts.kind.take().is_some());
                let derived = DerivedFacts::of(json).ok();
                let owner =
                    self.own(Which::Service, &metadata, |name| words::derived_name(name) == metadata.name)?;
                self.change(owner, |facts| newer(&mut facts.derived, derived, |facts| facts.version))
            }
            Kind::Service => {
                self.disown(Which::Service, &metadata.namespace, &metadata.name);
                let (name, kind) = (name_of(&metadata)?, service_kind(json).ok());
                self.change(name, |facts| replace(&mut facts.kind, kind))
            }
            Kind::EndpointSlice if metadata.is_ours(kind) => {
                let slice = SliceFacts::of(json).ok()?;
                let owner = self.own(Which::Slice, &metadata, |_| true)?;
                let name: Arc<str> = metadata.name.as_str().into();
                self.change(owner, |facts| match facts.slices.get_mut(&name) {
                    Some(before) if before.version > slice.version => false,
                    Some(before) => {
                        let differs = before.state != slice.state;
                        *before = slice;
                        differs
                    }
                    None => facts.slices.insert(name, slice).is_none(),
                })
            }
            Kind::EndpointSlice => {
                self.disown(Which::Slice, &metadata.namespace, &metadata.name);
                None
            }
            Kind::Node | Kind::ClusterProperty | Kind::TrafficPolicy | Kind::ClusterPeer => None,
        }
    }

    fn delete(&mut self, kind: Kind, namespace: &str, name: &str) {
        let service = || ServiceName::new(namespace, name).ok();
        match kind {
            Kind::Namespace => self.forget_namespace(name),
            Kind::ServiceImport => {
                service().map(|service| self.change(service, |facts| facts.import.take().is_some()));
            }
            Kind::ServiceExport => {
                service().map(|service| self.change(service, |facts| facts.export.take().is_some()));
            }
            Kind::Service => {
                self.disown(Which::Service, namespace, name);
                service().map(|service| self.change(service, |facts| facts.kind.take().is_some()));
            }
            Kind::EndpointSlice => self.disown(Which::Slice, namespace, name),
            Kind::Node | Kind::ClusterProperty | Kind::TrafficPolicy | Kind::ClusterPeer => {}
        }
    }

    /// Deletes what a list lacks.
    fn listed(&mut self, kind: Kind, keys: &HashSet<(String, String)>) {
        let lacks = |ns: &str, name: &str| !keys.contains(&(ns.to_owned(), name.to_owned()));
        let has = |facts: &Facts| match kind {
            Kind::ServiceImport => facts.import.is_some(),
            Kind::ServiceExport => facts.export.is_some(),
            Kind::Service => facts.kind.is_some(),
            _ => false,
        };
        let named = self.services.iter().filter(|(_, facts)| has(facts)).map(|(name, _)| name);
        let mut gone: Vec<(String, String)> = named
            .filter(|name| lacks(name.namespace(), name.name()))
            .map(|name| (name.namespace().to_owned(), name.name().to_owned()))
            .collect();
        let which = match kind {
            Kind::Service => Some(Which::Service),
            Kind::EndpointSlice => Some(Which::Slice),
            _ => None,
        };
        let owned = self.owners.keys().chain(self.strays.keys());
        let owned = owned.filter(|(w, ns, name)| Some(*w) == which && lacks(ns, name));
        gone.extend(owned.map(|(_, ns, name)| (ns.to_string(), name.to_string())));
        if kind == Kind::Namespace {
            let names = self.namespaces.iter().filter(|name| lacks("", name));
            gone.extend(names.map(|name| (String::new(), name.clone())));
        }
        for (namespace, name) in gone {
            self.delete(kind, &namespace, &name);
        }
    }

    fn forget_namespace(&mut self, name: &str) {
        if self.namespaces.remove(name) {
            self.touched.namespaces.insert(name.to_owned());
        }
    }

    /// The service that an object of ours belongs to; an object that belongs to none is a stray.
    fn own(
        &mut self,
        which: Which,
        metadata: &Meta,
        fits: impl FnOnce(&ServiceName) -> bool,
    ) -> Option<ServiceName> {
        let key: Key = (which, metadata.namespace.as_str().into(), metadata.name.as_str().into());
        let service = metadata.labels.get(words::IMPORTED);
        let service = service.and_then(|service| ServiceName::new(&metadata.namespace, service).ok());
        let service = service.filter(fits);
        if self.owners.get(&key) != service.as_ref() {
            self.disown(which, &metadata.namespace, &metadata.name);
        }
        match &service {
            Some(service) => {
                self.strays.remove(&key);
                self.owners.insert(key, service.clone());
            }
            None => {
                self.strays.insert(key, metadata.version());
            }
        }
        service
    }

    /// A slice or Service is not ours any more, or gone.
    fn disown(&mut self, which: Which, namespace: &str, name: &str) {
        let key: Key = (which, namespace.into(), name.into());
        self.strays.remove(&key);
        if let Some(owner) = self.owners.remove(&key) {
            self.change(owner, |facts| match which {
                Which::Service => facts.derived.take().is_some(),
                Which::Slice => facts.slices.remove(name).is_some(),
            });
        }
    }

    /// Changes what is known about a service; its name when that makes a difference.
    fn change(&mut self, name: ServiceName, change: impl FnOnce(&mut Facts) -> bool) -> Option<ServiceName> {
        let facts = self.services.entry(name.clone()).or_default();
        let had = facts.has_import();
        let changed = change(facts);
        match (had, facts.has_import()) {
            (false, true) => self.imports += 1,
            (true, false) => self.imports -= 1,
            _ => {}
        }
        if *facts == Facts::default() {
            self.services.remove(&name);
        }
        if !changed {
            return None;
        }
        self.touched.services.insert(name.clone());
        Some(name)
    }
}

fn name_of(metadata: &Meta) -> Option<ServiceName> {
    ServiceName::new(&metadata.namespace, &metadata.name).ok()
}

/// Takes a fact in unless it is older than what is known: our own writes may be known before the watch tells of
/// what was there before.
fn newer<T: PartialEq>(before: &mut Option<T>, after: Option<T>, version: fn(&T) -> u64) -> bool {
    if let (Some(before), Some(after)) = (&before, &after)
        && version(before) >= version(after)
    {
        return false;
    }
    replace(before, after)
}

fn replace<T: PartialEq>(before: &mut Option<T>, after: Option<T>) -> bool {
    let differs = *before != after;
    *before = after;
    differs
}
