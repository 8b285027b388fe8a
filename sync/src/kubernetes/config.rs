//! Which clusters to follow, and how to get at them.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portolan_zones::ClusterId;
use portolan_zones::peers::Labels;

/// The clusters whose API servers are followed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KubernetesConfig {
    /// The cluster whose clients ask: its imports' addresses count.
    pub own: Option<OwnConfig>,
    /// Clusters that are followed directly.
    pub clusters: Vec<PeerConfig>,
}

impl KubernetesConfig {
    /// Whether there is nothing to follow.
    pub fn is_empty(&self) -> bool {
        self.own.is_none() && self.clusters.is_empty()
    }
}

/// The cluster that we run in, or on whose behalf.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnConfig {
    /// How its API server is reached.
    pub access: Access,
    /// Counts when the cluster has no ClusterProperty `cluster.clusterset.k8s.io`.
    pub id: Option<ClusterId>,
    /// The network that its endpoints are on; empty for the one that has no name.
    pub network: Arc<str>,
    /// By which policies weigh it.
    pub labels: Labels,
    /// Where our own objects are: peers' secrets and Leases.
    pub namespace: String,
}

/// A cluster to follow.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerConfig {
    /// What people call it: the name of a ClusterPeer, the context of a kubeconfig, `<namespace>/<name>` of a
    /// ClusterProfile. Unique.
    pub name: String,
    /// Who says that there is such a cluster.
    pub origin: Origin,
    /// How its API server is reached.
    pub access: Access,
    /// The id that it must have, for it is known by this: who says another one is not listened to. `None`: it says itself.
    pub id: Option<ClusterId>,
    /// Who it was when it was last followed, by a process before this one.
    pub pinned: Pinned,
    /// The network that its endpoints are on; empty for the one that has no name.
    pub network: Arc<str>,
    /// By which policies weigh it, beside those of its ClusterPeer.
    pub labels: Labels,
    /// Only exports of these namespaces are accepted; `None`: of all.
    pub namespaces: Option<BTreeSet<String>>,
    /// So long without contact, and what is known of it is told to be stale.
    pub stale_after: Duration,
    /// So long without contact, and what is known of it is taken out; `None`: never.
    pub withdraw_after: Option<Duration>,
}

/// Who a cluster was when it was last followed: it must not be judged gone while it can't be heard, nor be mistaken for
/// another one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinned {
    /// Its id.
    pub id: Option<ClusterId>,
    /// UID of its namespace kube-system.
    pub uid: Option<String>,
    /// UID of the object that names it: one that was deleted and made anew may mean another cluster.
    pub object: Option<String>,
}

/// Who says that there is a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Origin {
    ClusterPeer,
    Kubeconfig,
    ClusterProfile,
}

/// How an API server is reached.
#[derive(Clone, PartialEq)]
pub enum Access {
    /// By the service account of the pod that we run in.
    InCluster,
    /// By a kubeconfig file.
    File {
        /// The file.
        path: PathBuf,
        /// One of its contexts; `None`: its `current-context`.
        context: Option<String>,
        /// Whether it may have a program run that fetches credentials.
        allow_exec: bool,
    },
    /// By a kubeconfig's text, out of a Secret.
    Kubeconfig {
        /// The text.
        yaml: Arc<str>,
        /// One of its contexts; `None`: its `current-context`.
        context: Option<String>,
        /// Whether it may have a program run that fetches credentials.
        allow_exec: bool,
    },
    /// In no way: there are no credentials. The cluster counts as one that can't be heard, not as one that is gone.
    Unknown {
        /// What is missing, for people.
        problem: Arc<str>,
    },
}

/// Tells everything but credentials.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InCluster => f.write_str("InCluster"),
            Self::Unknown { problem } => f.debug_struct("Unknown").field("problem", problem).finish(),
            Self::File { path, context, allow_exec } => {
                let mut text = f.debug_struct("File");
                text.field("path", path).field("context", context).field("allow_exec", allow_exec).finish()
            }
            Self::Kubeconfig { context, allow_exec, .. } => {
                let mut text = f.debug_struct("Kubeconfig");
                text.field("context", context).field("allow_exec", allow_exec).finish_non_exhaustive()
            }
        }
    }
}

/// What the own cluster is followed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// To answer: its imports, slices, nodes and namespaces, policies and ClusterPeers, and the Leases that tell how fresh each peer is.
    Server,
    /// To write: its exports and Services, too.
    Controller,
}
