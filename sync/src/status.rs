//! How everything that feeds the snapshot is, for `/status` and `/metrics`; never on the query path.

use std::collections::BTreeMap;
use std::path::PathBuf;

use portolan_zones::ClusterId;
use portolan_zones::object::UnixTime;
use portolan_zones::policy::explain::Heard;

use crate::kubernetes::{ClusterState, Origin};
use crate::manifest::Problem;
use crate::owner::OwnerStatus;
use crate::probing::ProbeStatus;

/// How everything that feeds the snapshot is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Status {
    /// In the order configured.
    pub sources: Vec<SourceStatus>,
    /// Clusters that are followed by their API servers, the own one first.
    pub kubernetes: Vec<ClusterState>,
    /// The table's owner: virtual IPs, exports that don't count.
    pub owner: OwnerStatus,
    /// Health checks.
    pub probes: ProbeStatus,
}

/// How one source is.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceStatus {
    /// The cluster that it is, when it has a valid id.
    pub cluster: Option<ClusterId>,
    /// Folder or file.
    pub path: PathBuf,
    /// Whether its objects are in the table.
    pub synced: bool,
    /// Whether what is known of it may be out of date: it can't be read any more.
    pub stale: bool,
    /// Objects that count, by kind.
    pub objects: BTreeMap<&'static str, usize>,
    /// When a change was last read.
    pub changed_at: Option<UnixTime>,
    /// When it was last looked at and could be read. A quiet source that was looked at just now is up to date.
    pub checked_at: Option<UnixTime>,
    /// All that is wrong with it.
    pub problems: Vec<Problem>,
}

/// When clusters were last heard. Of one that is not followed itself the own cluster's copies tell.
pub(crate) fn heard(
    clusters: &[ClusterId],
    sources: &[SourceStatus],
    kubernetes: &[ClusterState],
) -> Vec<Heard> {
    // Of several entries for one cluster one is followed.
    let counts = |state: &&ClusterState| state.duplicate_of.is_none() && !state.is_own;
    let followed = |cluster: &ClusterId| {
        kubernetes.iter().filter(counts).find(|state| state.id.as_ref() == Some(cluster))
    };
    let own = kubernetes.iter().find(|state| state.origin.is_none());
    let one = |cluster: &ClusterId| {
        let read = sources.iter().find(|source| source.cluster.as_ref() == Some(cluster));
        let of_source = |source: &SourceStatus| Heard {
            cluster: cluster.clone(),
            from: source.path.display().to_string(),
            at: source.checked_at,
            stale: source.stale,
        };
        let of_state = |state: &ClusterState, from: String| Heard {
            cluster: cluster.clone(),
            from,
            at: state.contact_at,
            stale: state.stale || state.leases.get(cluster).copied().unwrap_or(false),
        };
        let nobody = || Heard { cluster: cluster.clone(), from: String::new(), at: None, stale: false };
        read.map(of_source)
            .or_else(|| followed(cluster).map(|state| of_state(state, server(state))))
            .or_else(|| own.map(|state| of_state(state, "its copies in the own cluster".to_owned())))
            .unwrap_or_else(nobody)
    };
    clusters.iter().map(one).collect()
}

/// How people call an API server that is followed.
fn server(state: &ClusterState) -> String {
    match state.origin {
        None => "the own API server".to_owned(),
        Some(Origin::ClusterPeer) => format!("ClusterPeer {}", state.name),
        Some(Origin::ClusterProfile) => format!("ClusterProfile {}", state.name),
        Some(Origin::Kubeconfig) => format!("kubeconfig {}", state.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KEP-1645, "Endpoint TTL": of clusters that are not followed the own one's copies tell, and its Leases whether they are old.
    #[test]
    fn each_cluster_is_heard_from_somebody() {
        let id = |text: &str| ClusterId::new(text).unwrap();
        let source = SourceStatus {
            cluster: Some(id("files")),
            path: "clusters/files".into(),
            synced: true,
            objects: BTreeMap::new(),
            stale: true,
            changed_at: Some(1),
            checked_at: Some(5),
            problems: Vec::new(),
        };
        let leases = [(id("far"), true), (id("near"), false)].into();
        let own = ClusterState {
            id: Some(id("own")),
            contact_at: Some(9),
            leases,
            ..ClusterState::unknown("own", None)
        };
        let peer = ClusterState::unknown("west", Some(Origin::ClusterPeer));
        let peer = ClusterState { id: Some(id("peer")), contact_at: Some(7), ..peer };
        let double = ClusterState {
            name: "east".to_owned(),
            contact_at: Some(8),
            stale: true,
            duplicate_of: Some("west".to_owned()),
            ..peer.clone()
        };
        let other_own = ClusterState {
            id: own.id.clone(),
            is_own: true,
            ..ClusterState::unknown("self", Some(Origin::ClusterPeer))
        };
        let named = ["files", "own", "peer", "far", "near"].map(id);
        let told = |kubernetes: &[ClusterState]| -> Vec<_> {
            let heard = heard(&named, std::slice::from_ref(&source), kubernetes).into_iter();
            heard.map(|heard| (heard.from, heard.at, heard.stale)).collect()
        };
        let copies = "its copies in the own cluster".to_owned();
        assert_eq!(
            told(&[own, double, other_own, peer]),
            [
                ("clusters/files".to_owned(), Some(5), true),
                ("the own API server".to_owned(), Some(9), false),
                ("ClusterPeer west".to_owned(), Some(7), false),
                (copies.clone(), Some(9), true),
                (copies, Some(9), false),
            ]
        );
        assert_eq!(told(&[])[3], (String::new(), None, false), "nobody tells");
    }
}
