//! How everything that feeds the snapshot is, for `/status` and `/metrics`; never on the query path.

use std::collections::BTreeMap;
use std::path::PathBuf;

use portolan_zones::ClusterId;
use portolan_zones::object::UnixTime;

use crate::kubernetes::ClusterState;
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
