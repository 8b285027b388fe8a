//! How fresh what we mirror of each other cluster is, told by a Lease: it is renewed while all that the cluster says is
//! heard. An API server that answers, and denies its endpoints, tells nothing new.
//!
//! DNS servers watch these Leases and nothing of other clusters. A controller that is gone renews nothing, so they
//! learn of that, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use portolan_zones::{ClusterId, name::check_label};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::warn;

use super::election::Leadership;
use super::words::{MANAGED, TRUE, WRITER, is_label, short};
use crate::kubernetes::ClusterState;
use crate::kubernetes::peers::PeerList;

/// The label that tells these Leases from others: the cluster's name among people.
pub(crate) const PEER: &str = "portolan.dev/peer";
/// The annotation with the cluster's id.
pub(crate) const CLUSTER: &str = "portolan.dev/cluster";
/// A Lease is renewed this often, or three times in its duration if that is more often.
const EVERY: Duration = Duration::from_secs(10);
/// How often contacts are looked at.
const TICK: Duration = Duration::from_secs(1);
/// The shortest time after which a Lease that is not renewed means stale: what three looks take.
const SHORTEST: Duration = Duration::from_secs(3);
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keeps the Leases while we lead; runs until it is dropped.
pub(crate) async fn keep(
    client: Client,
    namespace: &str,
    list: watch::Receiver<Arc<PeerList>>,
    mut states: watch::Receiver<Arc<[ClusterState]>>,
    leadership: Leadership,
) {
    let leases = Api::namespaced(client, namespace);
    let mut keeper = Keeper { leases, leadership, renewed: BTreeMap::new(), swept: None, failing: false };
    loop {
        if keeper.leadership.is_leader() {
            let plan = plan(&list.borrow(), &states.borrow_and_update());
            let done = keeper.carry_out(plan).await;
            if let Err(error) = &done
                && !keeper.failing
            {
                warn!("Leases of other clusters can't be written, so that they will seem stale: {error}");
            }
            keeper.failing = done.is_err();
        } else {
            // What another leader writes meanwhile is not known here.
            (keeper.renewed, keeper.swept) = (BTreeMap::new(), None);
        }
        // A new cluster's Lease comes with its first endpoints: who dies then would leave some that never get stale.
        let news = keeper.wait_for_news(&list, &mut states);
        let _ = tokio::time::timeout(TICK, news).await;
    }
}

/// What the Leases are to be.
#[derive(Debug, PartialEq, Default)]
struct Plan {
    /// Clusters that are heard, by the names of their Leases.
    renew: BTreeMap<String, Renewal>,
    /// All Leases that may be there; `None`: it is not known which clusters there are.
    keep: Option<BTreeSet<String>>,
}

/// A Lease that says that a cluster is heard.
#[derive(Debug, Clone, PartialEq)]
struct Renewal {
    label: String,
    cluster: ClusterId,
    /// What is known of the cluster is stale when the Lease was not renewed for so long.
    duration: Duration,
}

fn plan(list: &PeerList, states: &[ClusterState]) -> Plan {
    let mut plan = Plan::default();
    let mut keep = BTreeSet::new();
    for peer in &list.peers {
        let state = states.iter().find(|state| state.name == peer.name && state.origin == Some(peer.origin));
        if state.is_some_and(|state| state.is_own || state.duplicate_of.is_some()) {
            continue;
        }
        let (name, label) = names(&peer.name);
        keep.insert(name.clone());
        if let Some(cluster) = state.filter(|state| is_heard(state)).and_then(|state| state.id.clone()) {
            let duration = peer.stale_after.max(SHORTEST);
            plan.renew.insert(name, Renewal { label, cluster, duration });
        }
    }
    plan.keep = list.complete.then_some(keep);
    plan
}

/// Whether what is known of a cluster is what it says now.
fn is_heard(state: &ClusterState) -> bool {
    state.reachable && state.synced && !state.stale && !state.withdrawn
}

/// The Lease's name and its label. Contexts of kubeconfigs have names that neither may have.
fn names(peer: &str) -> (String, String) {
    let part = if peer.split('.').all(|label| check_label(label).is_ok()) && peer.len() <= 63 {
        peer.to_owned()
    } else {
        let safe = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let readable: String = peer.chars().map(safe).take(30).collect();
        format!("{}-{}", readable.trim_matches('-'), short(&[peer.as_bytes()])).trim_matches('-').to_owned()
    };
    let label = if is_label(PEER, peer) { peer.to_owned() } else { part.clone() };
    (format!("portolan-peer-{part}"), label)
}

/// What was last written.
struct Keeper {
    leases: Api<Lease>,
    leadership: Leadership,
    renewed: BTreeMap<String, (Renewal, Instant)>,
    /// The Leases that were kept when the others were last looked for and deleted.
    swept: Option<BTreeSet<String>>,
    failing: bool,
}

impl Keeper {
    /// Waits until other clusters are heard than those whose Leases are renewed.
    async fn wait_for_news(
        &self,
        list: &watch::Receiver<Arc<PeerList>>,
        states: &mut watch::Receiver<Arc<[ClusterState]>>,
    ) {
        loop {
            if self.leadership.is_leader()
                && plan(&list.borrow(), &states.borrow())
                    .renew
                    .keys()
                    .any(|name| !self.renewed.contains_key(name))
                && !self.failing
            {
                return;
            }
            if states.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn carry_out(&mut self, plan: Plan) -> Result<(), String> {
        // Contact that comes back is told at once.
        self.renewed.retain(|name, _| plan.renew.contains_key(name));
        let mut outcome = Ok(());
        for (name, renewal) in plan.renew {
            if self.is_due(&name, &renewal, Instant::now()) && self.leadership.is_leader() {
                match timely(self.renew(&name, &renewal)).await {
                    Ok(()) => drop(self.renewed.insert(name, (renewal, Instant::now()))),
                    Err(error) => outcome = Err(error),
                }
            }
        }
        if plan.keep.is_some() && plan.keep != self.swept && self.leadership.is_leader() {
            timely(self.sweep(plan.keep.iter().flatten().cloned().collect())).await?;
            self.swept = plan.keep;
        }
        outcome
    }

    fn is_due(&self, name: &str, renewal: &Renewal, now: Instant) -> bool {
        self.renewed
            .get(name)
            .is_none_or(|(last, at)| last != renewal || now >= *at + every(renewal.duration))
    }

    async fn renew(&self, name: &str, renewal: &Renewal) -> kube::Result<()> {
        let body = lease(name, renewal, Timestamp::now());
        self.leases.patch(name, &PatchParams::apply(WRITER).force(), &Patch::Apply(body)).await.map(drop)
    }

    /// Deletes the Leases of clusters that are none any more.
    async fn sweep(&self, keep: BTreeSet<String>) -> kube::Result<()> {
        let ours = ListParams::default().labels(&format!("{PEER},{MANAGED}={TRUE}"));
        for lease in self.leases.list_metadata(&ours).await? {
            let name = lease.metadata.name.unwrap_or_default();
            if !keep.contains(&name) && self.leadership.is_leader() {
                match self.leases.delete(&name, &DeleteParams::default()).await {
                    Err(kube::Error::Api(status)) if status.code == 404 => {}
                    done => drop(done?),
                }
            }
        }
        Ok(())
    }
}

/// How often a Lease of this duration is renewed: two renewals may fail.
fn every(duration: Duration) -> Duration {
    (duration / 3).min(EVERY)
}

fn lease(name: &str, renewal: &Renewal, now: Timestamp) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "labels": { MANAGED: TRUE, PEER: renewal.label },
            "annotations": { CLUSTER: renewal.cluster.as_str() },
        },
        "spec": {
            "holderIdentity": WRITER,
            "leaseDurationSeconds": renewal.duration.as_secs(),
            "renewTime": format!("{now:.6}"),
        },
    })
}

async fn timely<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(answer) => answer.map_err(|error| crate::kubernetes::access::tell(&error)),
        Err(_) => Err(format!("no answer in {PATIENCE:?}")),
    }
}

#[cfg(test)]
mod tests;
