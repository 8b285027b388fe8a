//! Sources of cluster state: from manifests to a published snapshot.
//!
//! ```text
//! files ── manifest ── convert ──► batches of zones::Event ──► owner (table, virtual IPs) ──► publish
//!                                             ▲                  │ what is to be checked
//!                                             └──── probing ◄────┘
//! ```
//!
//! A watch of the Kubernetes API is one more source: it translates by the same [`convert`] and feeds the same owner.

pub mod controller;
pub mod convert;
pub mod gateway;
pub mod intern;
mod joint;
pub mod kube_types;
pub mod kubernetes;
pub mod manifest;
pub mod owner;
pub mod probes;
mod probing;
pub mod publish;
mod run;
mod servers;
pub mod state_file;
pub mod status;
pub mod vip;

pub use kubernetes::{ClusterState, KubernetesConfig};
pub use manifest::{ClusterSource, Problem, Severity};
pub use owner::PoolConfig;
pub use probing::{ProbeBudget, ProbeStatus};
pub use publish::{Generations, Snapshots};
pub use run::{Config, Running, StartError, load_once, start};
pub use status::{SourceStatus, Status};
