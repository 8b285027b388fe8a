//! The MCS controller: what the own cluster is to hold of the clusterset, written by whoever leads.
//!
//! ```text
//! snapshot (merged services) ─┐
//!                             ├─► desired ─► plan ─► apply ──► the own cluster's API server
//! observed (own objects) ─────┘      ▲                 │
//!     ▲                              └── until nothing is left to do (reconcile)
//!     └── watch of the own cluster, answers to what was written
//! ```
//!
//! `desired` and `plan` are pure; a service is planned anew whenever the snapshot or the watch touches it. What is observed
//! is kept as fingerprints of the same types that are written, so that it costs little and any difference shows.

mod apply;
mod bodies;
mod brake;
mod conditions;
mod contests;
mod derived;
mod desired;
mod election;
mod facts;
pub(crate) mod freshness;
mod gateway;
mod imports;
mod judgement;
mod memory;
mod observed;
mod pass;
mod peer_status;
mod plan;
mod policy_status;
mod progress;
mod queue;
mod reconcile;
mod rivals;
mod running;
mod slices;
mod sweep;
mod words;
mod world;

pub use election::LeaseTimes;
pub use gateway::{GatewayConfig, GatewayStatus};
pub use progress::WriteStatus;
pub use running::{
    ControllerConfig, ControllerStatus, Decisions, RunningController, VipMode, start_controller,
};

#[cfg(test)]
mod tests;
