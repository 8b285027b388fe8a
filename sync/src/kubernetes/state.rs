//! How the clusters are, and who listens to the own cluster's raw objects.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use portolan_zones::ClusterId;
use portolan_zones::object::UnixTime;

use super::Origin;
use crate::convert::Kind;

/// How one cluster is.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterState {
    /// What people call it; see [`PeerConfig::name`](super::PeerConfig::name). The own cluster is called `own`.
    pub name: String,
    /// Who says that there is such a cluster; `None`: it is the own cluster.
    pub origin: Option<Origin>,
    /// The id under which it is followed, or was when it was last heard.
    pub id: Option<ClusterId>,
    /// UID of its namespace kube-system then: who it is, whatever it is called.
    pub uid: Option<String>,
    /// Why who answers in its place is not listened to: it is another cluster. What was known holds.
    pub stranger: Option<String>,
    /// What its API server runs, as it says it: `v1.34.1`.
    pub version: Option<String>,
    /// Whether its API server answered when it was last asked.
    pub reachable: bool,
    /// Whether all that it says has been told once.
    pub synced: bool,
    /// Whether what is known of it may be out of date.
    pub stale: bool,
    /// Whether what is known of it was taken out, for it was not heard for so long.
    pub withdrawn: bool,
    /// When its API server last answered.
    pub contact_at: Option<UnixTime>,
    /// When something last changed in it.
    pub changed_at: Option<UnixTime>,
    /// Objects that count, by kind.
    pub objects: BTreeMap<&'static str, usize>,
    /// Exports that don't count because their namespaces are not accepted.
    pub refused_exports: usize,
    /// Some of them, as `<namespace>/<name>`.
    pub refused: Vec<String>,
    /// How long the last changes took from the API server's word to the table's queue.
    pub lag: Option<Duration>,
    /// All that is wrong with it, for people.
    pub problems: Vec<String>,
    /// Who is followed in its place: the name of another entry that stands for the same cluster, or has the same id.
    pub duplicate_of: Option<String>,
    /// Whether this peer is the own cluster, which needs no following twice.
    pub is_own: bool,
    /// Clusters whose freshness the own cluster's Leases tell, and whether they are stale: the controller there hears
    /// them no longer.
    pub leases: BTreeMap<ClusterId, bool>,
}

impl ClusterState {
    /// Nothing is known yet.
    pub(crate) fn unknown(name: &str, origin: Option<Origin>) -> Self {
        Self {
            name: name.to_owned(),
            origin,
            id: None,
            uid: None,
            stranger: None,
            version: None,
            reachable: false,
            synced: false,
            stale: false,
            withdrawn: false,
            contact_at: None,
            changed_at: None,
            objects: BTreeMap::new(),
            refused_exports: 0,
            refused: Vec::new(),
            lag: None,
            problems: Vec::new(),
            duplicate_of: None,
            is_own: false,
            leases: BTreeMap::new(),
        }
    }

    /// Whether nothing is different but counts and times.
    pub(crate) fn is_much_like(&self, other: &Self) -> bool {
        let who = |state: &Self| (state.name.clone(), state.origin, state.id.clone(), state.uid.clone());
        let how = |state: &Self| (state.reachable, state.synced, state.stale, state.withdrawn, state.is_own);
        who(self) == who(other)
            && how(self) == how(other)
            && self.refused == other.refused
            && self.version == other.version
            && self.stranger == other.stranger
            && self.duplicate_of == other.duplicate_of
            && self.problems == other.problems
            && self.leases == other.leases
    }
}

/// Listens to the raw objects of the own cluster, as its API server writes them. Calls come in the order of the
/// server's words, one at a time for each kind, and must not block.
pub trait Tap: Send + Sync {
    /// An object is new or changed, or was listed again.
    fn apply(&self, kind: Kind, json: &str);
    /// An object is gone.
    fn delete(&self, kind: Kind, namespace: &str, name: &str);
    /// All objects of a kind have been told by `apply`: these, by namespace and name; all others are gone.
    fn listed(&self, kind: Kind, keys: &HashSet<(String, String)>);
    /// All needed kinds have been listed.
    fn synced(&self, id: &ClusterId);
}
