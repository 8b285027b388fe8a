//! The way from what is to what should be: as few requests as it takes, in an order that is safe to break off.
//!
//! First the import, whose UID all else refers to, and the Service that gives it its address; then slices; then goes what is
//! too much, the import after everything that it owns. Statuses come last, for they say what came of the rest. A plan may
//! be one round of several: whoever carries it out looks at what came of it and plans again, until nothing is left to do.

use std::collections::BTreeSet;
use std::fmt;

use portolan_zones::ServiceName;
use serde_json::{Value, json};

use super::bodies::{DerivedSpec, SliceBody};
use super::desired::{Desired, Want};
use super::facts::{DerivedFacts, Facts, ImportFacts};
use super::imports::{CONDITIONS, ImportBody, OBSERVED};
use super::words;
use super::world::World;

/// A request to the API server.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Action {
    pub(super) target: Target,
    pub(super) verb: Verb,
}

/// Which object, or which half of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Target {
    pub(super) what: What,
    pub(super) namespace: String,
    pub(super) name: String,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum What {
    Import,
    ImportStatus,
    ExportStatus,
    Service,
    Slice,
}

impl What {
    /// The object's kind.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Import | Self::ImportStatus => "ServiceImport",
            Self::ExportStatus => "ServiceExport",
            Self::Service => "Service",
            Self::Slice => "EndpointSlice",
        }
    }
}

/// `Service shop/derived-x`, as messages name it.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let half =
            if matches!(self.what, What::ImportStatus | What::ExportStatus) { " (status)" } else { "" };
        write!(f, "{} {}/{}{half}", self.what.kind(), self.namespace, self.name)
    }
}

/// What is done to it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verb {
    /// Made anew by server-side apply, which is not forced: if somebody else has just made it, and of any field says
    /// otherwise, it is theirs. One that contradicts nothing becomes ours, unless the API server keeps us from what lacks
    /// our label, as the policy of `deploy/kubernetes` has it: without that, what is made in the moment between our look
    /// and our request is not protected.
    Create { body: Value },
    /// Server-side apply to an object of ours, or to the half of one that is ours.
    Apply { body: Value },
    /// Deleted, if it is still what we saw.
    Delete { version: u64 },
}

/// The next requests; none when all is as it should be. What `failed` is left out.
pub(super) fn plan(
    name: &ServiceName,
    desired: &Desired<'_>,
    facts: &Facts,
    world: &World,
    failed: &BTreeSet<Target>,
) -> Vec<Action> {
    let mut planner = Planner { name, facts, world, failed, actions: Vec::new() };
    planner.foundation(desired);
    if planner.actions.is_empty() {
        planner.slices(desired);
        planner.removals(desired);
        planner.statuses(desired);
    }
    planner.actions
}

struct Planner<'a> {
    name: &'a ServiceName,
    facts: &'a Facts,
    world: &'a World,
    failed: &'a BTreeSet<Target>,
    actions: Vec<Action>,
}

impl Planner<'_> {
    /// The import, then the Service that gives it its address.
    fn foundation(&mut self, desired: &Desired<'_>) {
        let import = self.facts.import.as_ref().filter(|import| import.ours);
        if let Want::Like(body) = &desired.import
            && !import.is_some_and(|facts| is_like(facts, body))
        {
            let json = import_json(self.name, body, self.world.mcs);
            self.write(What::Import, self.name.name(), json, import.map(|import| &*import.uid));
        }
        if let (Want::Like(spec), Some(import)) = (&desired.derived, import) {
            let state = DerivedFacts::state(spec, &import.uid, self.name.name());
            if self.facts.derived.as_ref().is_none_or(|facts| facts.state != state) {
                let json = derived_json(self.name, spec, &import.uid, self.world.mcs);
                let uid = self.facts.derived.as_ref().map(|facts| &*facts.uid);
                self.write(What::Service, &words::derived_name(self.name), json, uid);
            }
        }
    }

    fn slices(&mut self, desired: &Desired<'_>) {
        for (name, body) in &desired.slices.by_name {
            let facts = self.facts.slices.get(&**name);
            if facts.is_none_or(|facts| facts.state != words::fingerprint(body)) {
                let json = slice_json(self.name, name, body, self.world.mcs);
                self.write(What::Slice, name, json, facts.map(|facts| &*facts.uid));
            }
        }
    }

    fn statuses(&mut self, desired: &Desired<'_>) {
        let import = self.facts.import.as_ref().filter(|import| import.ours);
        if let (Some(status), Some(import)) = (&desired.import_status, import) {
            let before: Vec<_> = import.ready.iter().cloned().collect();
            let tells = !self.world.lacking.contains(CONDITIONS);
            let told = status.ready.is_in(&before) || !tells;
            if import.clusters != status.clusters || !told {
                let clusters: Vec<_> = status.clusters.iter().map(|id| json!({ "cluster": id })).collect();
                let ready = status.ready.after(&before, self.world.now);
                let mut status = json!({ "clusters": clusters });
                if tells {
                    status["conditions"] = json!([ready]);
                }
                self.status(What::ImportStatus, &status);
            }
        }
        if let Some(export) = &self.facts.export {
            let is_there = |verdict: &super::conditions::Verdict| verdict.is_in(&export.conditions);
            let superfluous = export.conditions.len() > desired.export.len();
            if superfluous || !desired.export.iter().all(is_there) {
                let after = |verdict: &super::conditions::Verdict| {
                    let mut condition = verdict.after(&export.conditions, self.world.now);
                    condition.observed_generation.take_if(|_| self.world.lacking.contains(OBSERVED));
                    condition
                };
                let conditions: Vec<_> = desired.export.iter().map(after).collect();
                self.status(What::ExportStatus, &json!({ "conditions": conditions }));
            }
        }
    }

    /// What belongs to clusters that no longer export the service, or to a service that is no more.
    fn removals(&mut self, desired: &Desired<'_>) {
        for (name, facts) in &self.facts.slices {
            let kept = facts.source.as_ref().is_some_and(|source| desired.slices.kept.contains(source));
            if !kept && !desired.slices.by_name.contains_key(&**name) {
                self.delete(What::Slice, name, facts.version);
            }
        }
        if let (Want::Gone, Some(derived)) = (&desired.derived, &self.facts.derived) {
            self.delete(What::Service, &words::derived_name(self.name), derived.version);
        }
        if let (Want::Gone, Some(import)) = (&desired.import, &self.facts.import)
            && import.ours
        {
            self.delete(What::Import, self.name.name(), import.version);
        }
    }

    fn status(&mut self, what: What, status: &Value) {
        let json = json!({
            "apiVersion": format!("{}/{}", words::MCS, self.world.mcs),
            "kind": what.kind(),
            "metadata": { "namespace": self.name.namespace(), "name": self.name.name() },
            "status": status,
        });
        self.push(what, self.name.name(), Verb::Apply { body: json });
    }

    /// `uid`: the object's that is there. One that was replaced in the meantime is refused.
    fn write(&mut self, what: What, name: &str, mut body: Value, uid: Option<&str>) {
        let verb = match uid {
            None => Verb::Create { body },
            Some(uid) => {
                body["metadata"]["uid"] = uid.into();
                Verb::Apply { body }
            }
        };
        self.push(what, name, verb);
    }

    fn delete(&mut self, what: What, name: &str, version: u64) {
        self.push(what, name, Verb::Delete { version });
    }

    fn push(&mut self, what: What, name: &str, verb: Verb) {
        let target = Target { what, namespace: self.name.namespace().to_owned(), name: name.to_owned() };
        if !self.failed.contains(&target) {
            self.actions.push(Action { target, verb });
        }
    }
}

/// Whether an import is as it should be. Labels and annotations of others may be there besides.
fn is_like(facts: &ImportFacts, body: &ImportBody) -> bool {
    let within = |has: &std::collections::BTreeMap<String, String>,
                  wants: &std::collections::BTreeMap<String, String>| {
        wants.iter().all(|(key, value)| has.get(key) == Some(value))
    };
    facts.spec == words::fingerprint(&body.spec)
        && facts.applied.as_deref() == Some(&*body.applied())
        && facts.derived.as_deref() == body.derived.as_deref()
        && within(&facts.labels, &body.labels)
        && within(&facts.annotations, &body.annotations)
}

fn import_json(name: &ServiceName, body: &ImportBody, mcs: &str) -> Value {
    let mut labels = body.labels.clone();
    labels.insert(words::MANAGED.to_owned(), words::TRUE.to_owned());
    let mut annotations = body.annotations.clone();
    annotations.insert(words::APPLIED.to_owned(), body.applied());
    annotations.extend(body.derived.clone().map(|derived| (words::DERIVED.to_owned(), derived)));
    json!({
        "apiVersion": format!("{}/{mcs}", words::MCS),
        "kind": "ServiceImport",
        "metadata": {
            "namespace": name.namespace(),
            "name": name.name(),
            "labels": labels,
            "annotations": annotations,
        },
        "spec": body.spec,
    })
}

fn derived_json(name: &ServiceName, spec: &DerivedSpec, owner: &str, mcs: &str) -> Value {
    let mut spec_json = json!(spec);
    if let Some(first) = spec.cluster_ips.first() {
        spec_json["clusterIP"] = json!(first);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": name.namespace(),
            "name": words::derived_name(name),
            "labels": { (words::MANAGED): words::TRUE, (words::IMPORTED): name.name() },
            "ownerReferences": [owner_json(name, owner, mcs)],
        },
        "spec": spec_json,
    })
}

fn slice_json(service: &ServiceName, name: &str, body: &SliceBody<'_>, mcs: &str) -> Value {
    let mut metadata = json!({
        "namespace": service.namespace(),
        "name": name,
        "labels": body.labels,
        "ownerReferences": [owner_json(service, &body.owner, mcs)],
    });
    if !body.annotations.is_empty() {
        metadata["annotations"] = json!(body.annotations);
    }
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": body.address_type,
        "ports": body.ports,
        "endpoints": body.endpoints,
    })
}

fn owner_json(name: &ServiceName, uid: &str, mcs: &str) -> Value {
    json!({
        "apiVersion": format!("{}/{mcs}", words::MCS),
        "kind": "ServiceImport",
        "name": name.name(),
        "uid": uid,
        "controller": false,
    })
}
