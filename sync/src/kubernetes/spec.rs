//! What is to be followed of one cluster, and how it stands among the others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use portolan_zones::ClusterId;
use portolan_zones::peers::Labels;

use super::discovery::Topic;
use super::identity::{Identity, Likeness};
use super::watch::Wanted;
use super::{Access, Origin, OwnConfig, PeerConfig, Pinned, Role, leases};

/// What the own cluster is called where peers have names.
const OWN: &str = "own";
/// The own cluster is called stale after so long without contact.
const STALE_AFTER: Duration = Duration::from_secs(30);
/// Slices that a controller mirrored from elsewhere are no word of the cluster that they are in.
const OWN_SLICES: &str = "!multicluster.kubernetes.io/source-cluster";

/// One cluster's configuration, whether it is the own one or a peer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spec {
    /// `None`: the own cluster.
    pub(crate) name: Option<String>,
    pub(crate) origin: Option<Origin>,
    pub(crate) access: Access,
    pub(crate) id: Option<ClusterId>,
    pub(crate) pinned: Pinned,
    pub(crate) network: Arc<str>,
    pub(crate) labels: Labels,
    pub(crate) namespaces: Option<BTreeSet<String>>,
    pub(crate) stale_after: Duration,
    pub(crate) withdraw_after: Option<Duration>,
    pub(crate) wanted: Vec<Wanted>,
}

impl Spec {
    /// Of the own cluster. A server that follows other clusters itself needs the own exports, too.
    pub(crate) fn own(own: &OwnConfig, role: Role, direct: bool) -> Self {
        let all = |topic| Wanted { topic, selector: None, namespace: None, name: None };
        let mut wanted: Vec<_> = [
            Topic::ClusterProperty,
            Topic::Namespace,
            Topic::Node,
            Topic::EndpointSlice,
            Topic::ServiceImport,
            Topic::TrafficPolicy,
            Topic::ClusterPeer,
        ]
        .map(all)
        .into();
        if role == Role::Controller || direct {
            wanted.extend([Topic::Service, Topic::ServiceExport].map(all));
        }
        if role == Role::Server && !direct {
            let namespace = Some(own.namespace.clone());
            wanted.push(Wanted { selector: Some(leases::SELECTOR), namespace, ..all(Topic::Lease) });
        }
        Self {
            name: None,
            origin: None,
            access: own.access.clone(),
            id: own.id.clone(),
            pinned: Pinned::default(),
            network: own.network.clone(),
            labels: own.labels.clone(),
            namespaces: None,
            stale_after: STALE_AFTER,
            withdraw_after: None,
            wanted,
        }
    }

    /// Of a peer. Which namespaces it has is for a server to know that has no own cluster: an empty one's name exists.
    pub(crate) fn peer(peer: &PeerConfig, with_namespaces: bool) -> Self {
        let all = |topic| Wanted { topic, selector: None, namespace: None, name: None };
        let slices = Wanted { selector: Some(OWN_SLICES), ..all(Topic::EndpointSlice) };
        let mut topics = vec![
            Topic::ClusterProperty,
            Topic::Node,
            Topic::Service,
            Topic::ServiceExport,
            Topic::TrafficPolicy,
        ];
        if with_namespaces {
            topics.push(Topic::Namespace);
        }
        Self {
            name: Some(peer.name.clone()),
            origin: Some(peer.origin),
            access: peer.access.clone(),
            id: peer.id.clone(),
            pinned: peer.pinned.clone(),
            network: peer.network.clone(),
            labels: peer.labels.clone(),
            namespaces: peer.namespaces.clone(),
            stale_after: peer.stale_after,
            withdraw_after: peer.withdraw_after,
            wanted: topics.into_iter().map(all).chain([slices]).collect(),
        }
    }

    /// Whether both are settings of one entry: the object that names it may have been deleted and made anew.
    pub(crate) fn is_same_entry(&self, other: &Self) -> bool {
        (&self.name, self.origin, &self.pinned.object) == (&other.name, other.origin, &other.pinned.object)
    }

    /// What people call it.
    pub(crate) fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(OWN)
    }

    /// What is known of who it is without asking anybody.
    pub(crate) fn identity(&self) -> Identity {
        Identity::new(self.name.is_none(), self.id.clone(), &self.pinned)
    }

    /// Whether Leases tell how fresh others are.
    pub(crate) fn has_leases(&self) -> bool {
        self.wanted.iter().any(|wanted| wanted.topic == Topic::Lease)
    }
}

/// How a cluster stands among the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not decided yet.
    Waits,
    /// Its objects are told under this id.
    Follows(ClusterId),
    /// It is the own cluster, by another entry.
    Own,
    /// The entry of this name stands for the same cluster, or has the same id.
    Duplicate(String, Likeness),
}

impl Standing {
    pub(crate) fn follows(&self) -> Option<&ClusterId> {
        if let Self::Follows(id) = self { Some(id) } else { None }
    }

    pub(crate) fn duplicate_of(&self) -> Option<String> {
        if let Self::Duplicate(name, _) = self { Some(name.clone()) } else { None }
    }

    /// Why it is not followed, and what to do, for people.
    pub(crate) fn problem(&self) -> Option<String> {
        let Self::Duplicate(other, likeness) = self else { return None };
        Some(match likeness {
            Likeness::Cluster(uid) => {
                format!(
                    "it is not followed, for it is the same cluster as {other} (UID {uid}): delete one of them"
                )
            }
            Likeness::Id(id) => format!(
                "it is not followed, for {other} has the id `{id}`: give one of them another ClusterProperty \
                 cluster.clusterset.k8s.io, or delete {other} if it is gone for good"
            ),
        })
    }
}
