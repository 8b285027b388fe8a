//! How the sources and the pool are, for `/status` and `/metrics`; never on the query path.

use std::collections::BTreeMap;
use std::path::PathBuf;

use portolan_zones::object::UnixTime;
use portolan_zones::{ClusterId, ServiceName};

use crate::manifest::Problem;

/// How everything that feeds the snapshot is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Status {
    /// In the order configured.
    pub sources: Vec<SourceStatus>,
    /// The pool of virtual IPs.
    pub vips: VipStatus,
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
    /// Objects that count, by kind.
    pub objects: BTreeMap<&'static str, usize>,
    /// When a change was last read.
    pub changed_at: Option<UnixTime>,
    /// All that is wrong with it.
    pub problems: Vec<Problem>,
}

/// How the pool is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VipStatus {
    /// Addresses that services have.
    pub assigned: usize,
    /// Addresses that were freed and may not be used yet.
    pub quarantined: usize,
    /// Services that get none, for the pool has no more.
    pub unserved: Vec<ServiceName>,
    /// What is wrong with the state file.
    pub problem: Option<String>,
}
