//! Sources of cluster state.

pub mod convert;
pub mod intern;
pub mod kube_types;
pub mod manifest;
pub mod owner;
pub mod publish;
pub mod state_file;
pub mod status;
pub mod vip;
