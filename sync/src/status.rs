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
    let followed = |cluster: &ClusterId| kubernetes.iter().find(|state| state.id.as_ref() == Some(cluster));
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
