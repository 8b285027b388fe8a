//! Writes into each of the own cluster's TrafficPolicies whether it holds, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::warn;

use super::election::Leadership;
use super::peer_status::Verdict;
use super::words::WRITER;
use crate::convert;
use crate::kube_types::Resource;
use crate::kubernetes::ClusterState;
use crate::kubernetes::access::tell;
use crate::kubernetes::discovery::Topic;
use crate::kubernetes::peers::listed::Listed;
use crate::kubernetes::traffic_policy::{TrafficPolicy, TrafficPolicyStatus};
use crate::kubernetes::watch::{QUEUE, Wanted, watch};
use crate::owner::OwnerStatus;

/// How often what is known is looked at: a snapshot may change it without a word on the policy itself.
const TICK: Duration = Duration::from_secs(1);
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// After one that failed.
const PAUSE: Duration = Duration::from_secs(10);

/// Keeps the statuses while we lead; runs until it is dropped.
pub(super) async fn keep(
    client: Client,
    states: watch::Receiver<Arc<[ClusterState]>>,
    table: Arc<Mutex<OwnerStatus>>,
    leadership: Leadership,
) {
    let wanted = Wanted { topic: Topic::TrafficPolicy, selector: None, namespace: None, name: None };
    let (words, mut heard) = mpsc::channel(QUEUE);
    let outages = watch::channel(Instant::now()).0;
    let follow = watch(client.clone(), wanted, words, outages.subscribe());
    let write = async {
        let mut policies = Listed::<TrafficPolicy>::default();
        let mut paused: Option<Instant> = None;
        loop {
            tokio::select! {
                Some((_, word)) = heard.recv() => policies.hear(word, || Topic::TrafficPolicy.absence()),
                () = tokio::time::sleep(TICK) => {
                    if !leadership.is_leader() || paused.is_some_and(|until| until > Instant::now()) {
                        continue;
                    }
                    let due = due(policies.objects(), &states.borrow(), &overridden(&table));
                    for (name, status) in due {
                        if !leadership.is_leader() {
                            break;
                        }
                        // Others would fare no better: all are tried again a while later.
                        if !put(&client, &name, &status).await {
                            paused = Some(Instant::now() + PAUSE);
                            break;
                        }
                    }
                }
            }
        }
    };
    tokio::join!(follow, write);
}

/// What doesn't hold for something that it is about, by cluster and policy.
type Overridden = BTreeMap<(String, String), Vec<String>>;

fn overridden(table: &Mutex<OwnerStatus>) -> Overridden {
    let mut all = Overridden::new();
    for (cluster, policy, why) in &table.lock().unwrap_or_else(PoisonError::into_inner).policy_problems {
        all.entry((cluster.clone(), policy.clone())).or_default().push(why.clone());
    }
    all
}

/// The statuses that are not as they should be.
fn due(
    policies: &BTreeMap<String, Arc<TrafficPolicy>>,
    states: &[ClusterState],
    overridden: &Overridden,
) -> Vec<(String, TrafficPolicyStatus)> {
    let known: BTreeSet<&str> = states.iter().filter_map(|state| Some(state.id.as_ref()?.as_str())).collect();
    let own = states.iter().find(|state| state.origin.is_none()).and_then(|own| own.id.as_ref());
    // Before the peers are known, any cluster may be one of them.
    let all_known = own.is_some() && states.iter().all(|state| state.id.is_some());
    let Some(own) = own else { return Vec::new() };
    let status = |(name, policy): (&String, &Arc<TrafficPolicy>)| {
        let old = policy.status.clone().unwrap_or_default();
        let conflicts = overridden.get(&(own.to_string(), name.clone())).map_or(&[][..], Vec::as_slice);
        let unknown = if all_known { unknown(policy, &known) } else { Vec::new() };
        let verdict = accepted(policy, conflicts, &unknown);
        let generation = policy.metadata.generation;
        let condition = verdict.condition(&old.conditions, generation, Timestamp::now());
        let new = TrafficPolicyStatus { observed_generation: generation, conditions: vec![condition] };
        (told(&old) != told(&new)).then(|| (name.clone(), new))
    };
    policies.iter().filter_map(status).collect()
}

/// All that is told but for times.
fn told(status: &TrafficPolicyStatus) -> (Option<i64>, Vec<(&str, &str, &str)>) {
    let conditions = status.conditions.iter().map(|c| (&*c.status, &*c.reason, &*c.message));
    (status.observed_generation, conditions.collect())
}

fn accepted(policy: &TrafficPolicy, conflicts: &[String], unknown: &[&str]) -> Verdict {
    let json = serde_json::to_value(policy).unwrap_or_default().to_string();
    let read: Result<Resource<'_, _>, _> = serde_json::from_str(&json);
    let refused = match &read {
        Ok(object) => convert::policy(object, &mut Default::default()).err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    };
    match (refused, conflicts, unknown) {
        (Some(why), _, _) => Verdict("Accepted", Some(false), "Invalid", why),
        (None, [_, ..], _) => Verdict("Accepted", Some(false), "Conflicted", conflicts.join("; ")),
        (None, [], [_, ..]) => {
            let text = format!("it names clusters that are not in the clusterset: {}", unknown.join(", "));
            Verdict("Accepted", Some(true), "UnknownClusters", text)
        }
        (None, [], []) => Verdict("Accepted", Some(true), "Accepted", "it holds".to_owned()),
    }
}

/// Clusters that a policy names and nobody knows.
fn unknown<'p>(policy: &'p TrafficPolicy, known: &BTreeSet<&str>) -> Vec<&'p str> {
    let weights = policy.spec.weights.iter().filter_map(|weight| weight.cluster.as_deref());
    let named: BTreeSet<&str> = weights.chain(policy.spec.failover.iter().map(String::as_str)).collect();
    named.into_iter().filter(|cluster| !known.contains(cluster)).collect()
}

/// Whether it was written, or need not be any more.
async fn put(client: &Client, key: &str, status: &TrafficPolicyStatus) -> bool {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    let body: Value = json!({
        "apiVersion": "portolan.dev/v1alpha1",
        "kind": "TrafficPolicy",
        "metadata": { "namespace": namespace, "name": name },
        "status": status,
    });
    let api: Api<TrafficPolicy> = Api::namespaced(client.clone(), namespace);
    let (parameters, patch) = (PatchParams::apply(WRITER).force(), Patch::Apply(body));
    match tokio::time::timeout(PATIENCE, api.patch_status(name, &parameters, &patch)).await {
        Ok(Ok(_)) => return true,
        // Deleted meanwhile.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => return true,
        Ok(Err(error)) => warn!("the status of TrafficPolicy {key} can't be written: {}", tell(&error)),
        Err(_) => warn!("the status of TrafficPolicy {key} can't be written: no answer in {PATIENCE:?}"),
    }
    false
}
