//! Clusters from manifests: a folder, or a file, of Kubernetes objects for each.
//!
//! What is broken never takes away what was known: an object that can't be read keeps its last good version, a
//! document that can't be parsed keeps what its file gave, a file that is being written keeps it until it is whole, a
//! folder that vanished keeps everything. What is broken is a [`Problem`], and all of them are told at once.

pub(crate) mod claims;
mod clusters;
mod document;
mod ledger;
mod reading;
mod scan;
mod source;
pub(crate) mod watch;
mod writers;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use portolan_zones::ClusterId;
use portolan_zones::peers::Labels;

pub(crate) use clusters::Clusters;
pub(crate) use reading::Reading;

/// Where one cluster's objects are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSource {
    /// The cluster's id, unless a ClusterProperty among its objects says it; default: the file's or folder's name.
    pub name: Option<ClusterId>,
    /// A folder, read with all folders in it, or a single file; `.yaml`, `.yml` or `.json`.
    pub path: PathBuf,
    /// By which policies weigh it.
    pub labels: Labels,
    /// Pods of clusters on one network reach each other; others are reached by gateways.
    pub network: Arc<str>,
}

/// Something that is wrong with a cluster's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The cluster's id, as far as it is known; empty when it is about none.
    pub cluster: String,
    /// The file, or the folder; empty when it is about none.
    pub file: PathBuf,
    /// Counted from 1; `None` when it is about the whole file.
    pub line: Option<u32>,
    /// `Kind namespace/name`.
    pub object: Option<String>,
    /// What is wrong, and what holds instead.
    pub message: String,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something can't be read, or not be done: it must be put right.
    Error,
    /// All is as it is written, but does less than its author may think.
    Warning,
}

/// `file:line: object: message`, without what is not known.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.as_os_str().is_empty(), self.line) {
            (true, _) => {}
            (false, None) => write!(f, "{}: ", self.file.display())?,
            (false, Some(line)) => write!(f, "{}:{line}: ", self.file.display())?,
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        f.write_str(&self.message)
    }
}

/// Reads everything once. The events are those that a table needs; the problems are in the order of the sources.
pub fn load(sources: &[ClusterSource]) -> (Vec<portolan_zones::Event>, Vec<Problem>) {
    let mut clusters = Clusters::new(sources.to_vec());
    let events = clusters.refresh(|_| true, |_, _| false);
    (events, clusters.problems())
}

#[cfg(test)]
mod tests;
