//! What the operator decides himself: traffic policies, what becomes of clusters, and the labels that weights may be given by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portolan_sync::convert;
use portolan_sync::kubernetes::traffic_policy::TrafficPolicySpec;
use portolan_zones::peers::{Forced, Labels, Scope, State};
use portolan_zones::policy::{Configured, Rules};
use portolan_zones::{ClusterId, Name, ServiceName, ZoneConfig};

use crate::kubernetes::Namespace;
use crate::section::Section;

/// Most policies, and most states: each service's are looked for among them.
const MOST: usize = 1000;
/// Most zones with policies of their own: what is answered there is compiled for each.
const MOST_ZONES: usize = 8;
/// Most labels of a cluster.
const MOST_LABELS: usize = 64;
/// Longest part of a label, in Kubernetes as well.
const LONGEST: usize = 63;

/// Policies that hold whatever clusters say.
pub(crate) fn policies(root: &mut Section<'_>, zones: &[ZoneConfig]) -> Vec<Configured> {
    // Of zones that can't be read nothing is known.
    let all_known = root.items("zones") <= zones.len();
    let is_zone = |name: &Name| !all_known || zones.iter().any(|zone| zone.origin == *name);
    let policies = root.sections("policies", Vec::new(), |section| policy(section, is_zone));
    bounded(root, "policies");
    if root.items("policies") != policies.len() {
        return policies;
    }
    let mut in_zones = BTreeSet::new();
    for (at, policy) in policies.iter().enumerate() {
        let about_same = |other: &Configured| (&other.zone, &other.of) == (&policy.zone, &policy.of);
        if let Some(first) = policies[..at].iter().position(about_same) {
            root.problem_in("policies", at, format!("is about the same as policies[{first}]: remove one"));
        }
        if policy.zone.as_ref().is_some_and(|zone| in_zones.insert(zone) && in_zones.len() == MOST_ZONES + 1)
        {
            let message =
                format!("at most {MOST_ZONES} zones have policies of their own, and this is one more");
            root.problem_in("policies", at, message);
        }
    }
    policies
}

fn policy(section: &mut Section<'_>, is_zone: impl Fn(&Name) -> bool) -> Option<Configured> {
    let zone = section.optional::<Name>("zone");
    if let Some(zone) = zone.as_ref().filter(|zone| !is_zone(zone)) {
        section.problem("zone", format!("`{zone}` is not the origin of one of `zones`"));
    }
    let of = scope(section);
    if !section.has("spec") {
        section.problem("spec", "`spec` is missing: it says what the policy is");
    }
    for key in ["healthCheck", "latency", "slowStart"] {
        if zone.is_some() && section.has_below("spec", key) {
            let message = "endpoints are judged alike in all zones: say it in a policy without `zone`";
            section.problem_below("spec", key, message);
        }
    }
    let spec = section.object::<TrafficPolicySpec>("spec")?;
    let rules = rules(section, &spec)?;
    Some(Configured { zone, of, rules: Arc::new(rules) })
}

/// What a spec says. What it is about is said beside it.
fn rules(section: &mut Section<'_>, spec: &TrafficPolicySpec) -> Option<Rules> {
    for key in ["targetRefs", "scope"] {
        if section.has_below("spec", key) {
            let message = "is for TrafficPolicy objects: say `service` or `namespace` beside `spec`, or neither for all";
            section.problem_below("spec", key, message);
        }
    }
    let told = convert::rules(spec).map_err(|error| error.to_string());
    told.map_err(|told| {
        // It begins with the field.
        let (field, message) = told.split_at(told.find([':', ' ']).unwrap_or_default());
        let message = message.trim_start_matches([':', ' ']);
        let path = field.strip_prefix("spec").unwrap_or_default().trim_start_matches('.');
        section.problem_below("spec", path, message);
    })
    .ok()
}

/// What the operator decides of clusters.
pub(crate) fn states(root: &mut Section<'_>) -> Vec<Forced> {
    let states = root.sections("states", Vec::new(), |section| {
        let cluster = section.required::<ClusterId>("cluster");
        let of = scope(section);
        let state = section.required::<State>("state");
        Some(Forced { cluster: cluster?, of, state: state? })
    });
    bounded(root, "states");
    states
}

/// The services that an item is about.
fn scope(section: &mut Section<'_>) -> Scope {
    let service = section.optional::<ServiceName>("service");
    let namespace = section.optional::<Namespace>("namespace");
    if section.has("service") && section.has("namespace") {
        section.problem("namespace", "`service` is given, too: remove one of them");
    }
    match (service, namespace) {
        (Some(service), _) => Scope::Service(service),
        (None, Some(Namespace(namespace))) => Scope::Namespace(namespace.into()),
        (None, None) => Scope::All,
    }
}

fn bounded(root: &mut Section<'_>, key: &'static str) {
    let items = root.items(key);
    if items > MOST {
        root.problem(key, format!("has {items} items: at most {MOST} are read"));
    }
}

/// A cluster's labels, as Kubernetes has them.
pub(crate) fn labels(section: &mut Section<'_>) -> Labels {
    let labels = section.object::<BTreeMap<String, String>>("labels").unwrap_or_default();
    if labels.len() > MOST_LABELS {
        section.problem("labels", format!("has {} labels: at most {MOST_LABELS} are read", labels.len()));
    }
    for (key, value) in &labels {
        let name = key.split_once('/').map_or(&**key, |(_, name)| name);
        if !is_label(name) || key.len() > 253 + 1 + LONGEST {
            section.problem_of("labels", key, format!("`{key}` is no label's key"));
        }
        if !value.is_empty() && !is_label(value) {
            section.problem_of("labels", key, format!("`{value}` is no label's value: {LABEL}"));
        }
    }
    labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect()
}

const LABEL: &str =
    "at most 63 letters, digits, `-`, `_` and `.`, of which a letter or digit comes first and last";

fn is_label(text: &str) -> bool {
    let plain = |octet: Option<u8>| octet.is_some_and(|octet| octet.is_ascii_alphanumeric());
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet);
    text.len() <= LONGEST
        && text.bytes().all(fits)
        && plain(text.bytes().next())
        && plain(text.bytes().last())
}
