//! Writes how each other cluster is into its ClusterPeer's status: when that has changed, and no more often than needed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tracing::warn;

use super::election::Leadership;
use super::words::WRITER;
use crate::kubernetes::access::tell;
use crate::kubernetes::peers::{ClusterPeers, PeerList};
use crate::kubernetes::resources::{ClusterPeer, ClusterPeerStatus, duration};
use crate::kubernetes::{ClusterState, Origin};
use crate::probes::differ;
use crate::probing::RoundTrips;

/// How often the states are looked at.
const TICK: Duration = Duration::from_secs(1);
/// Counts and texts that change all the time are written so often.
const COUNTS_EVERY: Duration = Duration::from_secs(10);
/// When nothing but the time of the last contact has changed, it is written so often: two writes a minute.
const CONTACT_EVERY: Duration = Duration::from_secs(30);
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest message of a condition, in characters.
const MESSAGE: usize = 1024;

/// Keeps the statuses while we lead; runs until it is dropped.
pub(crate) async fn keep(
    client: Client,
    peers: watch::Receiver<Arc<ClusterPeers>>,
    list: watch::Receiver<Arc<PeerList>>,
    states: watch::Receiver<Arc<[ClusterState]>>,
    round_trips: watch::Receiver<Arc<RoundTrips>>,
    leadership: Leadership,
) {
    let api: Api<ClusterPeer> = Api::all(client);
    let mut written = BTreeMap::new();
    loop {
        if leadership.is_leader() {
            let times = round_trips.borrow().clone();
            let wanted =
                statuses(&peers.borrow(), &list.borrow(), &states.borrow(), &times, Timestamp::now());
            written.retain(|name, _| wanted.contains_key(name));
            for (name, (old, new)) in wanted {
                if is_due(written.get(&name), &old, &new, Instant::now()) && leadership.is_leader() {
                    write(&api, &name, &new).await;
                    // One that was refused is tried again as if it had been written, and not every second.
                    written.insert(name, (new, Instant::now()));
                }
            }
        } else {
            // What another leader writes meanwhile is not known here.
            written.clear();
        }
        tokio::time::sleep(TICK).await;
    }
}

async fn write(api: &Api<ClusterPeer>, name: &str, status: &ClusterPeerStatus) {
    let body = json!({
        "apiVersion": "portolan.dev/v1alpha1",
        "kind": "ClusterPeer",
        "metadata": { "name": name },
        "status": status,
    });
    let (parameters, patch) = (PatchParams::apply(WRITER).force(), Patch::Apply(body));
    let request = api.patch_status(name, &parameters, &patch);
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(_)) => {}
        // Deleted meanwhile.
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => {}
        Ok(Err(error)) => warn!("the status of ClusterPeer {name} can't be written: {}", tell(&error)),
        Err(_) => warn!("the status of ClusterPeer {name} can't be written: no answer in {PATIENCE:?}"),
    }
}

/// Each ClusterPeer's status as it is, and as it should be.
fn statuses(
    peers: &ClusterPeers,
    list: &PeerList,
    states: &[ClusterState],
    round_trips: &RoundTrips,
    now: Timestamp,
) -> BTreeMap<String, (ClusterPeerStatus, ClusterPeerStatus)> {
    let both = |(name, peer): (&String, &Arc<ClusterPeer>)| {
        let ours = |of: &str, origin| of == name && origin == Some(Origin::ClusterPeer);
        let problems = list.problems.iter().filter(|problem| ours(&problem.name, Some(problem.origin)));
        let problems: Vec<_> = problems.map(|problem| &*problem.text).collect();
        let state = states.iter().find(|state| ours(&state.name, state.origin));
        let old = peer.status.clone().unwrap_or_default();
        let mut new = status(&old, peer.metadata.generation, &problems, state, now);
        let measured = state.and_then(|state| round_trips.get(state.id.as_ref()?));
        new.round_trip_time = round_trip(new.round_trip_time.as_deref(), measured.copied());
        (name.clone(), (old, new))
    };
    peers.iter().map(both).collect()
}

/// Whether it is time to write: at once when a condition turns, later for counts, still later for the last contact.
fn is_due(
    written: Option<&(ClusterPeerStatus, Instant)>,
    read: &ClusterPeerStatus,
    new: &ClusterPeerStatus,
    now: Instant,
) -> bool {
    // What a leader before us wrote may be of any age.
    let (old, age) =
        written.map_or((read, CONTACT_EVERY), |(old, at)| (old, now.saturating_duration_since(*at)));
    let turns = |status: &ClusterPeerStatus| {
        let conditions = status.conditions.iter();
        let conditions: Vec<_> =
            conditions.map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone())).collect();
        (conditions, status.cluster_id.clone(), status.observed_generation)
    };
    let quiet = |status: &ClusterPeerStatus| ClusterPeerStatus { last_contact: None, ..status.clone() };
    turns(old) != turns(new)
        || (age >= COUNTS_EVERY && quiet(old) != quiet(new))
        || (age >= CONTACT_EVERY && old != new)
}

/// What the status should be. What is not known now stays as it was last known.
fn status(
    old: &ClusterPeerStatus,
    generation: Option<i64>,
    problems: &[&str],
    state: Option<&ClusterState>,
    now: Timestamp,
) -> ClusterPeerStatus {
    let mut new =
        ClusterPeerStatus { observed_generation: generation, conditions: Vec::new(), ..old.clone() };
    if let Some(state) = state {
        new.cluster_id = state.id.as_ref().map(ToString::to_string).or(new.cluster_id);
        new.uid = state.uid.clone().or(new.uid);
        new.version = state.version.clone().or(new.version);
        let contact = state.contact_at.and_then(|at| Timestamp::from_second(at).ok());
        new.last_contact = contact.map(Time).or(new.last_contact);
    }
    if new.cluster_id != old.cluster_id {
        // It was measured to another cluster.
        new.round_trip_time = None;
    }
    if let Some(state) = state.filter(|state| state.synced) {
        let count = |kind| state.objects.get(kind).map_or(0, |count| *count as i64);
        new.exports = count("ServiceExport");
        new.services = count("Service");
        new.endpoint_slices = count("EndpointSlice");
        new.refused_exports = state.refused_exports as i64;
    }
    let turned = |verdict: Verdict| verdict.condition(&old.conditions, generation, now);
    new.conditions = [accepted(problems, state), reachable(state), synced(state)].map(turned).into();
    new
}

/// What was written of the time that it takes to get there holds until it has moved by so much that it may matter.
fn round_trip(written: Option<&str>, measured: Option<Duration>) -> Option<String> {
    let news = measured.filter(|_| differ(written.and_then(duration), measured));
    let text = |time: Duration| format!("{:.1}ms", (time.as_secs_f64() * 1000.0).max(0.1));
    news.map(text).or_else(|| written.map(str::to_owned))
}

/// A condition, before it is known when it turned: type, whether it holds, reason, message.
pub(super) struct Verdict(
    pub(super) &'static str,
    pub(super) Option<bool>,
    pub(super) &'static str,
    pub(super) String,
);

impl Verdict {
    pub(super) fn condition(self, old: &[Condition], generation: Option<i64>, now: Timestamp) -> Condition {
        let Self(kind, holds, reason, message) = self;
        let status = holds.map_or("Unknown", |holds| if holds { "True" } else { "False" });
        let same = old.iter().find(|condition| condition.type_ == kind && condition.status == status);
        Condition {
            last_transition_time: same.map_or(Time(now), |condition| condition.last_transition_time.clone()),
            message: message.chars().take(MESSAGE).collect(),
            observed_generation: generation,
            reason: reason.to_owned(),
            status: status.to_owned(),
            type_: kind.to_owned(),
        }
    }
}

/// Whether the spec can be used.
fn accepted(problems: &[&str], state: Option<&ClusterState>) -> Verdict {
    let verdict = |holds, reason, message: String| Verdict("Accepted", Some(holds), reason, message);
    if !problems.is_empty() {
        return verdict(false, "Invalid", problems.join("; "));
    }
    match state {
        Some(state) if state.is_own => {
            verdict(true, "OwnCluster", "it is this cluster itself, which needs no following".to_owned())
        }
        Some(ClusterState { stranger: Some(text), .. }) => verdict(false, "AnotherCluster", text.clone()),
        Some(ClusterState { duplicate_of: Some(other), .. }) => verdict(
            false,
            "Duplicate",
            format!("{other}, which is the same cluster or has the same id, is followed in its place"),
        ),
        Some(state) if state.refused_exports > 0 => verdict(true, "Valid", refused(state)),
        _ => verdict(true, "Valid", String::new()),
    }
}

/// What the cluster says and may not.
fn refused(state: &ClusterState) -> String {
    let more = if state.refused.len() < state.refused_exports { ", …" } else { "" };
    format!(
        "{} exports don't count, for their namespaces are not in spec.namespaces: {}{more}",
        state.refused_exports,
        state.refused.join(", ")
    )
}

/// Whether the API server answers.
fn reachable(state: Option<&ClusterState>) -> Verdict {
    let verdict = |holds, reason, message: String| Verdict("Reachable", holds, reason, message);
    // No answer and no failure so far.
    let asked = state.filter(|state| state.contact_at.is_some() || !state.problems.is_empty());
    match asked {
        None => verdict(None, "NotAsked", "it has not been asked yet".to_owned()),
        Some(state) if state.reachable => verdict(Some(true), "Answers", String::new()),
        Some(state) => {
            let (reason, outcome) = match (state.withdrawn, state.stale) {
                (true, _) => ("Withdrawn", "its endpoints are withdrawn"),
                (false, true) => ("Stale", "what is known of it counts on, and is marked stale"),
                (false, false) => ("NoAnswer", "what is known of it counts on"),
            };
            let why =
                if state.problems.is_empty() { "no answer".to_owned() } else { state.problems.join("; ") };
            verdict(Some(false), reason, format!("{outcome}: {why}"))
        }
    }
}

/// Whether all objects are known.
fn synced(state: Option<&ClusterState>) -> Verdict {
    let verdict = |holds, reason, message: String| Verdict("Synced", Some(holds), reason, message);
    let problems = state.map(|state| state.problems.join("; ")).unwrap_or_default();
    match state {
        Some(state) if state.synced && state.problems.is_empty() => verdict(true, "Listed", String::new()),
        Some(state) if state.synced => verdict(true, "ListedWithProblems", problems),
        Some(state) if state.is_own => verdict(false, "OwnCluster", "it is this cluster itself".to_owned()),
        _ if problems.is_empty() => {
            verdict(false, "NotListed", "its objects have not been listed yet".to_owned())
        }
        _ => verdict(false, "NotListed", problems),
    }
}

#[cfg(test)]
mod tests;
