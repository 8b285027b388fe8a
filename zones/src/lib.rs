//! What the names of a clusterset mean.
//!
//! This crate is pure: it knows no clock, file, socket, runtime or Kubernetes client. Time and the asking
//! cluster are arguments. `portolan-sync` feeds it, `portolan-dns` and the node agent read from it.

pub mod name;
pub mod object;

pub use name::{ClusterId, Name, NameError, ServiceName};
pub use object::{Change, ClusterEvent, Object, ObjectKey};
