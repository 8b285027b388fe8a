//! How clusters stand with the one whose clients ask: their labels, what people decide of them, and how far away they are.
//!
//! Said by their own configuration, by home's ClusterPeers, by the operator, and measured; put together when it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::name::{ClusterId, ServiceName};
use crate::peers::{Decider, Forced, Labels, Peer, State};

/// See the module.
#[derive(Default)]
pub(crate) struct Standings {
    /// As a cluster's own configuration has them.
    labels: BTreeMap<ClusterId, Labels>,
    /// By who says so, and its name there.
    peers: BTreeMap<(ClusterId, Arc<str>), Peer>,
    measured: BTreeMap<ClusterId, Duration>,
    /// The last that fits holds.
    forced: Box<[Forced]>,
    all: Arc<BTreeMap<ClusterId, Standing>>,
    /// Whether `all` is to be put together anew.
    outdated: bool,
}

/// Of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// By all who say some; where they differ the cluster's own configuration goes first.
    pub labels: Labels,
    /// As home's ClusterPeers have it: of several the strictest.
    pub state: Option<State>,
    /// How long it takes to get there.
    pub round_trip: Option<Duration>,
}

/// Clusters that stand otherwise than before.
#[derive(Default)]
pub(crate) struct Shifts {
    /// Whose labels or states are others.
    pub(crate) said: BTreeSet<ClusterId>,
    /// Those that are as far away as they were not.
    pub(crate) moved: BTreeSet<ClusterId>,
}

impl Standings {
    pub(crate) fn set_labels(&mut self, cluster: ClusterId, labels: Labels) {
        self.labels.insert(cluster, labels);
        self.outdated = true;
    }

    pub(crate) fn measure(&mut self, measured: BTreeMap<ClusterId, Duration>) {
        self.measured = measured;
        self.outdated = true;
    }

    pub(crate) fn apply_peer(&mut self, by: ClusterId, peer: Peer) {
        self.peers.insert((by, peer.name.clone()), peer);
        self.outdated = true;
    }

    pub(crate) fn delete_peer(&mut self, by: &ClusterId, name: &str) {
        self.peers.remove(&(by.clone(), name.into()));
        self.outdated = true;
    }

    /// Names of the ClusterPeers that a cluster has.
    pub(crate) fn names<'n>(&'n self, by: &'n ClusterId) -> impl Iterator<Item = &'n Arc<str>> {
        self.peers.keys().filter(move |(cluster, _)| cluster == by).map(|(_, name)| name)
    }

    pub(crate) fn forget(&mut self, cluster: &ClusterId) {
        self.labels.remove(cluster);
        self.outdated = true;
    }

    /// Another cluster is home.
    pub(crate) fn move_home(&mut self) {
        self.outdated = true;
    }

    /// The operator decides this from now on; the clusters of which something else was said before.
    pub(crate) fn force(&mut self, forced: Box<[Forced]>) -> BTreeSet<ClusterId> {
        let before = std::mem::replace(&mut self.forced, forced);
        let of = |all: &[Forced], cluster: &ClusterId| -> Vec<Forced> {
            all.iter().filter(|forced| forced.cluster == *cluster).cloned().collect()
        };
        let named: BTreeSet<&ClusterId> =
            before.iter().chain(&self.forced).map(|forced| &forced.cluster).collect();
        named.into_iter().filter(|id| of(&before, id) != of(&self.forced, id)).cloned().collect()
    }

    /// Puts all together anew, if anything changed; what that changes.
    pub(crate) fn settle(&mut self, home: Option<&ClusterId>) -> Shifts {
        if !std::mem::take(&mut self.outdated) {
            return Shifts::default();
        }
        let mut all: BTreeMap<ClusterId, Standing> = BTreeMap::new();
        let mut labels: BTreeMap<ClusterId, BTreeMap<Arc<str>, Arc<str>>> = BTreeMap::new();
        for ((by, _), peer) in &self.peers {
            if Some(by) == home {
                let standing = all.entry(peer.cluster.clone()).or_default();
                standing.state = standing.state.max(peer.state);
                standing.round_trip = standing.round_trip.or(peer.rtt);
                labels.entry(peer.cluster.clone()).or_default().extend(peer.labels.iter().cloned());
            }
        }
        for (cluster, own) in &self.labels {
            labels.entry(cluster.clone()).or_default().extend(own.iter().cloned());
        }
        for (cluster, labels) in labels {
            all.entry(cluster).or_default().labels = labels.into_iter().collect();
        }
        for (cluster, time) in &self.measured {
            all.entry(cluster.clone()).or_default().round_trip = Some(*time);
        }
        let shifts = Shifts::between(&self.all, &all);
        self.all = Arc::new(all);
        shifts
    }

    /// All of it.
    pub(crate) fn all(&self) -> &Arc<BTreeMap<ClusterId, Standing>> {
        &self.all
    }

    /// Of a cluster of which anything is said.
    pub(crate) fn of(&self, cluster: &ClusterId) -> Option<&Standing> {
        self.all.get(cluster)
    }

    /// What people decide of a cluster's endpoints, and who does: the operator goes before the cluster's peers, and these
    /// before the export's author.
    pub(crate) fn state(
        &self,
        cluster: &ClusterId,
        service: &ServiceName,
        exported: Option<State>,
    ) -> Option<(State, Decider)> {
        let fits = |forced: &&Forced| forced.cluster == *cluster && forced.of.holds(service);
        let operator = self.forced.iter().rfind(fits).map(|forced| (forced.state, Decider::Operator));
        let peer = || self.of(cluster).and_then(|standing| Some((standing.state?, Decider::Peer)));
        operator.or_else(peer).or_else(|| exported.map(|state| (state, Decider::Export)))
    }
}

impl Shifts {
    fn between(before: &BTreeMap<ClusterId, Standing>, after: &BTreeMap<ClusterId, Standing>) -> Self {
        let mut shifts = Self::default();
        let nothing = Standing::default();
        for cluster in before.keys().chain(after.keys()) {
            let (was, is) = (before.get(cluster).unwrap_or(&nothing), after.get(cluster).unwrap_or(&nothing));
            if (&was.labels, was.state) != (&is.labels, is.state) {
                shifts.said.insert(cluster.clone());
            }
            if was.round_trip != is.round_trip {
                shifts.moved.insert(cluster.clone());
            }
        }
        shifts
    }
}
