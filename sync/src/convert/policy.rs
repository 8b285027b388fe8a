//! TrafficPolicies, and what of them travels on a ServiceImport.

mod health;
mod weights;

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use portolan_zones::ClusterId;
use portolan_zones::name::check_label;
use portolan_zones::object::{Object, UnixTime};
use portolan_zones::policy::{
    self as zones, AllDown, Attached, Form, Policy, PolicyName, Preference, Rules, Source, Spill, Target,
};
use serde::{Deserialize, Serialize};

use super::{ConvertError, bounded, created, metadata, namespace_of, subdomain};
use crate::intern::Interner;
use crate::kube_types as kube;
use crate::kubernetes::resources::duration;
use crate::kubernetes::traffic_policy::{
    Answer, Latency, Level, Locality, Mode, Scope, TargetKind, TrafficPolicySpec, WhenAllDown,
};

/// The namespace whose policies may be about all imports of a cluster.
const OPERATORS: &str = "portolan-system";
/// Services that it is about, and clusters to turn to.
const MOST_NAMED: usize = 64;
/// The longest of times that clients wait for.
const HOUR: Duration = Duration::from_secs(3600);

/// A TrafficPolicy as it is read.
pub type TrafficPolicy<'a> = kube::Resource<'a, Spec>;

/// Its spec; a name of its own because [`kube::Resource`] borrows.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Spec(TrafficPolicySpec);

/// Translates a TrafficPolicy.
pub fn policy(policy: &TrafficPolicy<'_>, interner: &mut Interner) -> Result<Object, ConvertError> {
    let metadata = metadata(&policy.metadata)?;
    let Spec(spec) = policy.spec.as_ref().ok_or(ConvertError::Missing { field: "spec".to_owned() })?;
    let namespace = namespace_of(metadata)?;
    let name = subdomain("metadata.name", metadata.name.as_deref())?;
    Ok(Object::Policy(Policy {
        name: PolicyName::new(namespace, name),
        created: created(metadata)?,
        target: target(spec, namespace, interner)?,
        rules: Arc::new(rules(spec)?),
    }))
}

/// What of a policy travels on a ServiceImport, in its annotation `portolan.dev/traffic-policy`.
#[derive(Debug, Deserialize, Serialize)]
struct Told {
    /// The exporter.
    cluster: String,
    /// Namespace and name of the policy there.
    namespace: String,
    name: String,
    /// When it was made, in seconds since the Unix epoch; older controllers don't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<UnixTime>,
    spec: TrafficPolicySpec,
}

/// The policy of an exporter, to be told to the clients of an import; `None` for any other.
pub fn tell(attached: &Attached) -> Option<String> {
    let Source::Export(cluster, policy) = &attached.source else { return None };
    let (cluster, spec) = (cluster.to_string(), spec(&attached.rules));
    let (namespace, name) = (policy.namespace().to_owned(), policy.name().to_owned());
    serde_json::to_string(&Told { cluster, namespace, name, created: attached.created, spec }).ok()
}

/// What an import tells of its exporter's policy. Only our controller writes it: whatever else is there is none.
pub(super) fn told(text: &str) -> Option<Attached> {
    let told: Told = serde_json::from_str(text).ok()?;
    let source =
        Source::Export(ClusterId::new(&told.cluster).ok()?, PolicyName::new(&told.namespace, &told.name));
    Some(Attached { rules: Arc::new(rules(&told.spec).ok()?), source, created: told.created })
}

fn target(
    spec: &TrafficPolicySpec,
    namespace: &str,
    interner: &mut Interner,
) -> Result<Target, ConvertError> {
    let refs = bounded("spec.targetRefs", &spec.target_refs, MOST_NAMED)?;
    if refs.is_empty() {
        return match spec.scope {
            Scope::Namespace => Ok(Target::Namespace),
            Scope::ClusterSet if namespace == OPERATORS => Ok(Target::ClusterSet),
            Scope::ClusterSet => Err(ConvertError::Scope { namespace: namespace.to_owned() }),
        };
    }
    if spec.scope != Scope::Namespace {
        return Err(ConvertError::unknown("spec.scope", "ClusterSet", &["Namespace (beside targetRefs)"]));
    }
    let mut names = |kind: TargetKind| -> Result<Box<[Arc<str>]>, ConvertError> {
        let of_kind = refs.iter().enumerate().filter(|(_, target)| target.kind == kind);
        let named = of_kind.map(|(i, target)| {
            let field = || format!("spec.targetRefs[{i}].name");
            check_label(&target.name).map_err(|error| ConvertError::name(&field(), error))?;
            Ok(interner.text(&target.name))
        });
        named.collect()
    };
    Ok(Target::Services {
        exports: names(TargetKind::ServiceExport)?,
        imports: names(TargetKind::ServiceImport)?,
    })
}

/// What a spec says, checked as the API server checks it: files and the configuration have no API server.
pub fn rules(spec: &TrafficPolicySpec) -> Result<Rules, ConvertError> {
    let percent = |field: &str, value: i64, least: i64| in_range(field, value, least, 100);
    let spill = match spec.spill_threshold {
        None => Spill::default(),
        Some(threshold) => {
            let threshold = percent("spec.spillThreshold", threshold, 1)?;
            Spill::Graded(((10_000 + threshold / 2) / threshold) as u16)
        }
    };
    let most = spec.max_records.map(|most| in_range("spec.maxRecords", most, 1, 1000)).transpose()?;
    let ttl = spec.ttl_seconds.map(|ttl| in_range("spec.ttlSeconds", ttl, 0, 86_400)).transpose()?;
    let (weights, label_weights) = weights::read(&spec.weights)?;
    Ok(Rules {
        answer: match spec.answer {
            Answer::VIP => Form::Vip,
            Answer::Endpoints => Form::Endpoints,
            Answer::Gateways => Form::Gateways,
        },
        max_records: most.and_then(|most| NonZeroU16::new(most as u16)),
        ttl,
        locality: spec.locality.as_ref().map(locality).transpose()?,
        spill,
        weights,
        label_weights,
        failover: failover(&spec.failover)?,
        latency: spec.latency.as_ref().map(latency).transpose()?,
        health_check: spec.health_check.as_ref().map(health::check).transpose()?.map(Arc::new),
        panic_threshold: percent("spec.panicThreshold", spec.panic_threshold, 0)? as u8,
        all_down: match spec.when_all_down {
            WhenAllDown::Answer => AllDown::Answer,
            WhenAllDown::Nothing => AllDown::Nothing,
        },
        slow_start: spec.slow_start.as_deref().map(slow_start).transpose()?,
        sticky: spec.sticky,
    })
}

/// Rules as a spec again.
fn spec(rules: &Rules) -> TrafficPolicySpec {
    let spill_threshold = match rules.spill {
        Spill::Graded(factor) if rules.spill != Spill::default() => {
            Some((10_000 + i64::from(factor) / 2) / i64::from(factor.max(1)))
        }
        Spill::Graded(_) | Spill::Cliff => None,
    };
    TrafficPolicySpec {
        target_refs: Vec::new(),
        scope: Scope::Namespace,
        answer: match rules.answer {
            Form::Vip => Answer::VIP,
            Form::Endpoints => Answer::Endpoints,
            Form::Gateways => Answer::Gateways,
        },
        max_records: rules.max_records.map(|most| most.get().into()),
        ttl_seconds: rules.ttl.map(i64::from),
        locality: rules.locality.as_ref().map(|locality| Locality {
            order: locality.order.iter().map(|level| word(*level)).collect(),
            mode: match locality.reach {
                Preference::Prefer => Mode::Prefer,
                Preference::Pin => Mode::Pin,
            },
        }),
        spill_threshold,
        weights: weights::spec(rules),
        failover: rules.failover.iter().map(ToString::to_string).collect(),
        latency: rules.latency.map(|latency| Latency {
            margin: format!("{}ms", latency.margin.as_millis()),
            hold_down: format!("{}s", latency.hold_down),
        }),
        health_check: rules.health_check.as_deref().map(health::spec),
        slow_start: rules.slow_start.map(|seconds| format!("{seconds}s")),
        panic_threshold: rules.panic_threshold.into(),
        when_all_down: match rules.all_down {
            AllDown::Answer => WhenAllDown::Answer,
            AllDown::Nothing => WhenAllDown::Nothing,
        },
        sticky: rules.sticky,
    }
}

fn locality(locality: &Locality) -> Result<zones::Locality, ConvertError> {
    let mut order = smallvec::SmallVec::new();
    for (i, level) in bounded("spec.locality.order", &locality.order, 4)?.iter().enumerate() {
        let level = match level {
            Level::Node => zones::Level::Node,
            Level::Zone => zones::Level::Zone,
            Level::Region => zones::Level::Region,
            Level::Cluster => zones::Level::Cluster,
        };
        if order.contains(&level) {
            return Err(ConvertError::Twice {
                field: format!("spec.locality.order[{i}]"),
                value: format!("{level:?}"),
            });
        }
        order.push(level);
    }
    let reach = match locality.mode {
        Mode::Prefer => Preference::Prefer,
        Mode::Pin => Preference::Pin,
    };
    Ok(zones::Locality { order, reach })
}

fn word(level: zones::Level) -> Level {
    match level {
        zones::Level::Node => Level::Node,
        zones::Level::Zone => Level::Zone,
        zones::Level::Region => Level::Region,
        zones::Level::Cluster => Level::Cluster,
    }
}

fn failover(clusters: &[String]) -> Result<Box<[ClusterId]>, ConvertError> {
    let clusters = bounded("spec.failover", clusters, MOST_NAMED)?;
    let ids = clusters.iter().enumerate().map(|(i, id)| cluster_id(format!("spec.failover[{i}]"), id));
    let ids: Vec<ClusterId> = ids.collect::<Result<_, _>>()?;
    let mut seen = BTreeSet::new();
    match ids.iter().position(|id| !seen.insert(id)) {
        Some(i) => {
            Err(ConvertError::Twice { field: format!("spec.failover[{i}]"), value: ids[i].to_string() })
        }
        None => Ok(ids.into()),
    }
}

fn cluster_id(field: String, id: &str) -> Result<ClusterId, ConvertError> {
    ClusterId::new(id).map_err(|error| ConvertError::Name { field, error })
}

fn latency(latency: &Latency) -> Result<zones::Latency, ConvertError> {
    let milliseconds = Duration::from_millis(1)..=Duration::from_secs(10);
    let margin = time_in("spec.latency.margin", &latency.margin, milliseconds, "10ms, from 1ms to 10s")?;
    let hold_down = seconds("spec.latency.holdDown", &latency.hold_down, 0, "60s, from 0s to 1h")?;
    // What is less than a millisecond can't be told.
    Ok(zones::Latency {
        margin: Duration::from_millis(margin.as_millis() as u64),
        hold_down: hold_down.into(),
    })
}

fn slow_start(text: &str) -> Result<NonZeroU16, ConvertError> {
    let (field, such) = ("spec.slowStart", "30s, from 1s to 1h");
    let seconds = NonZeroU16::new(seconds(field, text, 1, such)?);
    seconds.ok_or_else(|| ConvertError::Duration { field: field.to_owned(), value: text.to_owned(), such })
}

/// Whole seconds, an hour at most.
fn seconds(field: &str, text: &str, least: u64, such: &'static str) -> Result<u16, ConvertError> {
    Ok(time_in(field, text, Duration::from_secs(least)..=HOUR, such)?.as_secs() as u16)
}

fn time_in(
    field: &str,
    text: &str,
    allowed: RangeInclusive<Duration>,
    such: &'static str,
) -> Result<Duration, ConvertError> {
    duration(text).filter(|time| allowed.contains(time)).ok_or_else(|| ConvertError::Duration {
        field: field.to_owned(),
        value: text.chars().take(30).collect(),
        such,
    })
}

pub(super) fn in_range(field: &str, value: i64, least: i64, most: i64) -> Result<u32, ConvertError> {
    let range = least..=most;
    let number = u32::try_from(value).ok().filter(|_| range.contains(&value));
    number.ok_or_else(|| ConvertError::Range { field: field.to_owned(), value, least, most })
}
