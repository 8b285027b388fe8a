//! Traffic policies: which of a service's endpoints a client is sent to, and how often.
//!
//! ```text
//!  Rules         what a TrafficPolicy says
//!    ▼
//!  Policies      attach: of all that say something about a service, the one that holds
//!    ▼
//!  spread        groups of endpoints → tiers by place → shares by health and weight      pure, with the reason of each step
//!    ▼
//!  Choice        what is drawn from when a query comes (`choices`), or a connection
//! ```
//!
//! Nothing here runs when a query comes: it is compiled when something changes, once for each place that clients are in.

mod attach;
pub mod backends;
pub mod draw;
pub mod explain;
pub mod health;
pub mod history;
pub mod spread;

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

pub use attach::{Attached, Source};
pub(crate) use attach::{Policies, Touched};

use crate::name::{ClusterId, Name, Text};
use crate::object::UnixTime;
use crate::peers::{Labels, Scope};
use crate::service::{Member, Service};

/// A TrafficPolicy.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Policy {
    /// Namespace and name.
    pub name: PolicyName,
    /// Precedence between two that are about the same: the older one holds.
    pub created: UnixTime,
    /// What it is about.
    pub target: Target,
    /// What it says.
    pub rules: Arc<Rules>,
}

/// A TrafficPolicy's namespace and name, which is a subdomain and no label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName(Text);

impl PolicyName {
    /// Takes valid names as they are.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").as_str().into())
    }

    /// The namespace that it is in.
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// Its own name.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }
}

/// `<namespace>/<name>`, as kubectl prints objects.
impl std::fmt::Display for PolicyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a policy is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Some services of its namespace.
    Services {
        /// ServiceExports of its cluster: it travels with them to the clients of all clusters.
        exports: Box<[Arc<str>]>,
        /// ServiceImports of its cluster: it is for that cluster's clients alone.
        imports: Box<[Arc<str>]>,
    },
    /// All imports of its namespace.
    Namespace,
    /// All imports of its cluster.
    ClusterSet,
}

/// A policy of the operator's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Configured {
    /// The zone in which it holds, where it goes before what holds in all; `None`: in all.
    pub zone: Option<Name>,
    /// The services that it is about.
    pub of: Scope,
    /// What it says.
    pub rules: Arc<Rules>,
}

/// How clients are spread over what is behind a service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rules {
    /// What the service's name answers.
    pub answer: Form,
    /// Most records of a type in an answer; `None`: as many as fit.
    pub max_records: Option<NonZeroU16>,
    /// TTL of its answers in seconds; `None`: the zone's.
    pub ttl: Option<u32>,
    /// Which endpoints are close to a client; `None`: as the service's own fields ask for.
    pub locality: Option<Locality>,
    /// How those that are close give way when they fail.
    pub spill: Spill,
    /// How much of a place's share each cluster has, sorted by cluster; whoever is not named has 1.
    pub weights: Box<[(ClusterId, u32)]>,
    /// The same by labels of clusters, all of which a cluster must have, for those that are not named; the first that fits
    /// holds.
    pub label_weights: Box<[(Labels, u32)]>,
    /// Whom to turn to when what is close is not enough: whoever is not named comes last.
    pub failover: Box<[ClusterId]>,
    /// Whether clusters that are farther away by the time that it takes to get there come later; `None`: they don't.
    pub latency: Option<Latency>,
    /// How endpoints are asked whether they are well; `None`: what their clusters say is enough.
    pub health_check: Option<Arc<health::HealthCheck>>,
    /// Under so many per cent of healthy endpoints health is ignored: better some that fail than all on too few.
    pub panic_threshold: u8,
    /// What is answered when not one endpoint is healthy.
    pub all_down: AllDown,
    /// For so many seconds an endpoint that came, or recovered, gets less than its share; `None`: all of it at once.
    pub slow_start: Option<NonZeroU16>,
    /// Whether a client gets the same answer as long as it is one of those that are given.
    pub sticky: bool,
}

impl Default for Rules {
    /// All endpoints alike, wherever they are.
    fn default() -> Self {
        Self {
            answer: Form::Vip,
            max_records: None,
            ttl: None,
            locality: None,
            spill: Spill::default(),
            weights: Box::default(),
            label_weights: Box::default(),
            failover: Box::default(),
            latency: None,
            health_check: None,
            panic_threshold: 50,
            all_down: AllDown::Answer,
            slow_start: None,
            sticky: false,
        }
    }
}

/// What a service's name answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// Its virtual IPs, as the MCS API has it; a headless service its endpoints.
    Vip,
    /// Its endpoints, or the gateways to those that are on another network.
    Endpoints,
    /// The gateways of all clusters, for clients who are in none.
    Gateways,
}

/// How clusters are told apart by the time that it takes to get there from home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Latency {
    /// Clusters that are by no more than this farther away than the closest one are as close as that.
    pub margin: Duration,
    /// For so many seconds it must be so, without a break, before clients are sent elsewhere.
    pub hold_down: u32,
}

/// Which endpoints are close to a client, and what becomes of others.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Locality {
    /// The closest first; none: all are alike.
    pub order: SmallVec<[Level; 4]>,
    /// Whether those that are not close are used at all.
    pub reach: Preference,
}

impl Default for Locality {
    /// All are alike.
    fn default() -> Self {
        Self { order: SmallVec::new(), reach: Preference::Prefer }
    }
}

/// How close an endpoint may be to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// On its node.
    Node,
    /// In its availability zone (`topology.kubernetes.io/zone`).
    Zone,
    /// In its region (`topology.kubernetes.io/region`).
    Region,
    /// In its cluster.
    Cluster,
}

/// Whether what is far is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preference {
    /// When what is close is not enough.
    Prefer,
    /// Never.
    Pin,
}

/// How a place gives way when its endpoints fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Spill {
    /// It is used until nothing there is healthy, as Kubernetes' `trafficDistribution` has it.
    Cliff,
    /// It keeps all of its share while the healthy part, in per cent of its endpoints and times this per cent, is a whole;
    /// below that it keeps this part (as Envoy's overprovisioning factor).
    Graded(u16),
}

impl Default for Spill {
    /// Envoy's: a place keeps its share down to 72 % of its endpoints.
    fn default() -> Self {
        Self::Graded(140)
    }
}

/// What is answered when nothing is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AllDown {
    /// Everything that the clusters say is ready: what probes say may be wrong, and it can't get worse.
    Answer,
    /// Nothing: NODATA.
    Nothing,
}

impl Rules {
    /// The rules for a service: what a policy leaves open its own fields decide, with Kubernetes' exact meaning. They are about
    /// cluster IPs, which headless services have none of.
    pub fn for_service(&self, service: &Service) -> Self {
        let (mut rules, spec) = (self.clone(), &service.spec);
        rules.weigh(&service.members);
        if service.headless {
            return rules;
        }
        let distribution: &[Level] = match spec.traffic_distribution.as_deref() {
            _ if rules.locality.is_some() => &[],
            Some("PreferSameZone" | "PreferClose") => &[Level::Zone],
            // KEP-3015: where no endpoint is on the node, those of its zone are preferred.
            Some("PreferSameNode") => &[Level::Node, Level::Zone],
            _ => &[],
        };
        if !distribution.is_empty() {
            // Others are used when there is none at all, and only then (KEP-4444).
            rules.spill = Spill::Cliff;
            rules.locality = Some(Locality { order: distribution.into(), reach: Preference::Prefer });
        }
        if spec.internal_traffic_local {
            // Whatever else is said: no endpoint of another node.
            let order = [Level::Node].as_slice().into();
            rules.locality = Some(Locality { order, reach: Preference::Pin });
        }
        rules
    }

    /// These, but endpoints are judged as others have it.
    pub(crate) fn judging_as(&self, others: &Self) -> Self {
        let Self { latency, slow_start, health_check, .. } = others;
        Self {
            latency: *latency,
            slow_start: *slow_start,
            health_check: health_check.clone(),
            ..self.clone()
        }
    }

    /// Turns weights by labels into those of the clusters that have the labels.
    fn weigh(&mut self, members: &[Member]) {
        let named = |id: &ClusterId| self.weights.binary_search_by(|(named, _)| named.cmp(id)).is_ok();
        let weight = |labels: &Labels| {
            let fits = |wanted: &Labels| wanted.iter().all(|label| labels.contains(label));
            self.label_weights.iter().find(|(wanted, _)| fits(wanted)).map(|(_, weight)| *weight)
        };
        let unnamed = members.iter().filter(|member| !named(&member.cluster));
        let more: Vec<_> =
            unnamed.filter_map(|member| Some((member.cluster.clone(), weight(&member.labels)?))).collect();
        if !more.is_empty() {
            let mut weights = std::mem::take(&mut self.weights).into_vec();
            weights.extend(more);
            weights.sort();
            self.weights = weights.into();
        }
    }

    /// Whether clusters share by weight, and not by their endpoints.
    pub fn is_weighted(&self) -> bool {
        !self.weights.is_empty() || !self.label_weights.is_empty()
    }

    /// How much of a place's share a cluster has.
    pub fn weight(&self, cluster: &ClusterId) -> u32 {
        let at = self.weights.binary_search_by(|(id, _)| id.cmp(cluster));
        at.map_or(1, |at| self.weights[at].1)
    }

    /// Where a cluster is among those to turn to.
    pub fn turn(&self, cluster: &ClusterId) -> usize {
        self.failover.iter().position(|id| id == cluster).unwrap_or(self.failover.len())
    }
}

/// What is wrong with a policy, or with what it names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyProblem {
    /// Another one is about the same, and older.
    #[error("TrafficPolicy {by} is about the same {what} and older: it holds, delete one of them")]
    Overridden {
        /// What both are about.
        what: Box<str>,
        /// The older one.
        by: PolicyName,
    },
}
