//! What the names of a clusterset mean.
//!
//! This crate is pure: it knows no clock, file, socket, runtime or Kubernetes client. Time and the asking
//! cluster are arguments. `portolan-sync` feeds it, `portolan-dns` and the node agent read from it.

pub mod index;
pub mod lookup;
pub mod name;
pub mod object;
pub mod question;
pub mod reverse;
pub mod service;
pub mod snapshot;
pub mod zone;

pub use lookup::{Found, Lookup, Records};
pub use name::{ClusterId, Name, NameError, ServiceName};
pub use object::{Change, ClusterEvent, Object, ObjectKey};
pub use question::QName;
pub use service::Service;
pub use snapshot::Snapshot;
pub use zone::{ZoneConfig, Zones};
