//! Clusters from their API servers: lists and watches, translated by the same [`convert`](crate::convert) as manifests.
//!
//! ```text
//! followers ── cluster (one each) ── watch (one per kind) ──► known ──► batches of zones::Event ──► owner
//!     │             └─ tap: raw objects of the own cluster ──► controller
//!     └──► states: how each cluster is
//! ```
//!
//! What is broken never takes away what was known: a server that is gone, a watch that is refused, an object that
//! can't be read leave the last good state in place, and a text in [`ClusterState::problems`] that says so.

pub(crate) mod access;
pub(crate) mod backoff;
mod bounds;
mod cluster;
mod clusterset;
mod config;
mod connection;
pub(crate) mod discovery;
mod ear;
pub mod exports;
mod followers;
pub mod gateway;
mod hosts;
mod identity;
mod intake;
mod known;
mod leases;
mod names;
pub(crate) mod peers;
mod problems;
mod program;
mod pulse;
mod raw;
mod reporting;
pub mod resources;
mod silence;
mod spec;
mod state;
mod tap;
mod teller;
pub mod traffic_policy;
pub(crate) mod watch;

pub use access::AccessError;
pub use config::{Access, KubernetesConfig, Origin, OwnConfig, PeerConfig, Pinned, Role};
pub(crate) use followers::Followers;
pub use state::{ClusterState, Tap};

/// Where all talk with API servers takes place; made only where there is some.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_name("kubernetes")
        .enable_all()
        .build()
}
