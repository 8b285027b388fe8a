//! Which policy holds for a service: the most specific one alone.
//!
//! 1. The own cluster's policy about the import.
//! 2. An exporter's about its export; of several exports the oldest that has one (KEP-1645, as for all else).
//! 3. The own cluster's about the namespace, then the one about all imports.
//! 4. None: all that there is is answered to all.
//!
//! Each of the own cluster's has one of the operator's configuration before it that is about the same. In a zone that the
//! configuration has policies for, these hold, the most specific first, and where there is none what holds anywhere else.
//!
//! Of two about the same the older one holds, ties by name. They are not mixed: what a policy doesn't say has its default.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::health::HealthCheck;
use super::{Configured, Policy, PolicyName, PolicyProblem, Rules, Target};
use crate::name::{ClusterId, Name, ServiceName};
use crate::object::UnixTime;
use crate::peers::Scope;

/// The rules that hold for a service, and where they are from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attached {
    /// The rules.
    pub rules: Arc<Rules>,
    /// Who says so.
    pub source: Source,
    /// When it was made, if that is known: for people.
    pub created: Option<UnixTime>,
}

/// Where rules are from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// The operator's configuration.
    Configuration {
        /// What it is about.
        of: Scope,
        /// The zone in which it holds; `None`: in all.
        zone: Option<Name>,
    },
    /// The own cluster's policy about the import.
    Import(PolicyName),
    /// A cluster's policy about its export.
    Export(ClusterId, PolicyName),
    /// The own cluster's policy about the namespace.
    Namespace(PolicyName),
    /// The own cluster's policy about all imports.
    ClusterSet(PolicyName),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Configuration { of, zone: None } => write!(f, "the configuration's policy about {of}"),
            Self::Configuration { of, zone: Some(zone) } => {
                write!(f, "the configuration's policy about {of} in {zone}")
            }
            Self::Import(policy) => write!(f, "TrafficPolicy {policy}, about the import"),
            Self::Export(cluster, policy) => {
                write!(f, "TrafficPolicy {policy} of {cluster}, about its export")
            }
            Self::Namespace(policy) => write!(f, "TrafficPolicy {policy}, about the namespace"),
            Self::ClusterSet(policy) => write!(f, "TrafficPolicy {policy}, about all services"),
        }
    }
}

/// What a policy is about, one by one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    Export(ServiceName),
    Import(ServiceName),
    Namespace(Arc<str>),
    ClusterSet,
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Export(name) => write!(f, "ServiceExport {name}"),
            Self::Import(name) => write!(f, "ServiceImport {name}"),
            Self::Namespace(name) => write!(f, "namespace {name}"),
            Self::ClusterSet => f.write_str("whole clusterset"),
        }
    }
}

/// What a change of policies touches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Touched {
    Service(ServiceName),
    Namespace(Arc<str>),
    All,
}

/// All policies of all clusters.
#[derive(Default)]
pub(crate) struct Policies {
    by_name: BTreeMap<(ClusterId, PolicyName), Policy>,
    /// The oldest first.
    by_subject: HashMap<(ClusterId, Subject), BTreeSet<(UnixTime, PolicyName)>, RandomState>,
    /// The operator's own.
    configured: Box<[Configured]>,
    /// The zones that have policies of their own, in order.
    zones: Box<[Name]>,
}

impl Policies {
    /// The operator says these from now on; whether others than before.
    pub(crate) fn configure(&mut self, policies: Box<[Configured]>) -> bool {
        let news = self.configured != policies;
        let zones: BTreeSet<&Name> = policies.iter().filter_map(|policy| policy.zone.as_ref()).collect();
        self.zones = zones.into_iter().cloned().collect();
        self.configured = policies;
        news
    }

    /// Takes a policy in; what that touches.
    pub(crate) fn apply(&mut self, cluster: &ClusterId, policy: Policy) -> Vec<Touched> {
        let mut touched = self.delete(cluster, &policy.name);
        for subject in subjects(&policy) {
            touched.push(subject.touches());
            let held = self.by_subject.entry((cluster.clone(), subject)).or_default();
            held.insert((policy.created, policy.name.clone()));
        }
        self.by_name.insert((cluster.clone(), policy.name.clone()), policy);
        touched
    }

    /// A policy is gone; what that touches.
    pub(crate) fn delete(&mut self, cluster: &ClusterId, name: &PolicyName) -> Vec<Touched> {
        let Some(policy) = self.by_name.remove(&(cluster.clone(), name.clone())) else { return Vec::new() };
        let mut touched = Vec::new();
        for subject in subjects(&policy) {
            touched.push(subject.touches());
            let key = (cluster.clone(), subject);
            if let Some(held) = self.by_subject.get_mut(&key) {
                held.remove(&(policy.created, policy.name.clone()));
                if held.is_empty() {
                    self.by_subject.remove(&key);
                }
            }
        }
        touched
    }

    /// The names of a cluster's policies.
    pub(crate) fn names(&self, cluster: &ClusterId) -> impl Iterator<Item = &PolicyName> {
        self.by_name.keys().filter(move |(of, _)| of == cluster).map(|(_, name)| name)
    }

    /// Whether there is any: without one nothing has to be looked up.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty() && self.configured.is_empty()
    }

    /// The zones that have policies of their own, in order.
    pub(crate) fn zones(&self) -> &[Name] {
        &self.zones
    }

    /// The policies that these zones have for a service, in their order.
    pub(crate) fn hold_in_zones(&self, name: &ServiceName) -> Vec<Option<Arc<Attached>>> {
        self.zones.iter().map(|zone| self.holds_in(zone, name)).collect()
    }

    fn holds_in(&self, zone: &Name, name: &ServiceName) -> Option<Arc<Attached>> {
        let about = |policy: &&Configured| policy.zone.as_ref() == Some(zone) && policy.of.holds(name);
        // Of equals `min_by_key` takes the first.
        attached(self.configured.iter().filter(about).min_by_key(|policy| rank(&policy.of)))
    }

    /// The policy that holds for a service; `exporters`: the oldest export first, `told`: what home's import tells of the
    /// policies of exporters that are not heard.
    pub(crate) fn holds<'c>(
        &self,
        name: &ServiceName,
        home: Option<&ClusterId>,
        exporters: impl IntoIterator<Item = &'c ClusterId>,
        told: Option<&Arc<Attached>>,
    ) -> Option<Arc<Attached>> {
        if self.is_empty() {
            return told.cloned();
        }
        let configured = |such: fn(&Scope) -> bool| {
            let about = |p: &&Configured| p.zone.is_none() && such(&p.of) && p.of.holds(name);
            attached(self.configured.iter().find(about))
        };
        let own = |subject, source: fn(PolicyName) -> Source| {
            let policy = self.oldest(home?, subject)?;
            Some(policy.attached(source(policy.name.clone())))
        };
        let exported = |cluster: &ClusterId| {
            let policy = self.oldest(cluster, Subject::Export(name.clone()))?;
            Some(policy.attached(Source::Export(cluster.clone(), policy.name.clone())))
        };
        configured(|of| matches!(of, Scope::Service(_)))
            .or_else(|| own(Subject::Import(name.clone()), Source::Import))
            .or_else(|| told.cloned())
            .or_else(|| exporters.into_iter().find_map(exported))
            .or_else(|| configured(|of| matches!(of, Scope::Namespace(_))))
            .or_else(|| own(Subject::Namespace(name.namespace().into()), Source::Namespace))
            .or_else(|| configured(|of| matches!(of, Scope::All)))
            .or_else(|| own(Subject::ClusterSet, Source::ClusterSet))
    }

    /// How a cluster's policy about its export has its endpoints asked whether they are well.
    pub(crate) fn health_check_of(
        &self,
        cluster: &ClusterId,
        name: &ServiceName,
    ) -> Option<Arc<HealthCheck>> {
        if self.by_name.is_empty() {
            return None;
        }
        self.oldest(cluster, Subject::Export(name.clone()))?.rules.health_check.clone()
    }

    /// Policies that don't hold for something that they are about.
    pub(crate) fn overridden(&self) -> impl Iterator<Item = (&ClusterId, &PolicyName, PolicyProblem)> {
        self.by_subject.iter().flat_map(|((cluster, subject), held)| {
            let mut held = held.iter().map(|(_, name)| name);
            let oldest = held.next();
            let problem = move |by: &PolicyName| PolicyProblem::Overridden {
                what: subject.to_string().into(),
                by: by.clone(),
            };
            held.filter_map(move |name| Some((cluster, name, problem(oldest?))))
        })
    }

    /// The oldest policy of a cluster about something.
    fn oldest(&self, cluster: &ClusterId, subject: Subject) -> Option<&Policy> {
        let held = self.by_subject.get(&(cluster.clone(), subject))?;
        self.by_name.get(&(cluster.clone(), held.first()?.1.clone()))
    }
}

impl Policy {
    fn attached(&self, source: Source) -> Arc<Attached> {
        // What has no age is the youngest.
        let created = Some(self.created).filter(|created| *created != UnixTime::MAX);
        Arc::new(Attached { rules: self.rules.clone(), source, created })
    }
}

impl Subject {
    fn touches(&self) -> Touched {
        match self {
            Self::Export(name) | Self::Import(name) => Touched::Service(name.clone()),
            Self::Namespace(namespace) => Touched::Namespace(namespace.clone()),
            Self::ClusterSet => Touched::All,
        }
    }
}

fn subjects(policy: &Policy) -> Vec<Subject> {
    let namespace = policy.name.namespace();
    let service = |name: &Arc<str>| ServiceName::new(namespace, name).ok();
    match &policy.target {
        Target::Services { exports, imports } => {
            let exports = exports.iter().filter_map(service).map(Subject::Export);
            exports.chain(imports.iter().filter_map(service).map(Subject::Import)).collect()
        }
        Target::Namespace => vec![Subject::Namespace(namespace.into())],
        Target::ClusterSet => vec![Subject::ClusterSet],
    }
}

fn attached(policy: Option<&Configured>) -> Option<Arc<Attached>> {
    let Configured { of, rules, zone } = policy?;
    let source = Source::Configuration { of: of.clone(), zone: zone.clone() };
    Some(Arc::new(Attached { rules: rules.clone(), source, created: None }))
}

/// The most specific first.
fn rank(of: &Scope) -> u8 {
    match of {
        Scope::Service(_) => 0,
        Scope::Namespace(_) => 1,
        Scope::All => 2,
    }
}
