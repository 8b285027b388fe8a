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
mod config;
mod discovery;
pub mod exports;
mod known;
mod problems;
mod raw;
pub mod resources;
mod silence;
mod state;
mod watch;

pub use config::{Access, KubernetesConfig, Origin, OwnConfig, PeerConfig, Role};
pub use state::{ClusterState, Tap};
