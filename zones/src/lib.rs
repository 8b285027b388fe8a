//! What the names of a clusterset mean.
//!
//! This crate is pure: it knows no clock, file, socket, runtime or Kubernetes client. Time and the asking
//! cluster are arguments. `portolan-sync` feeds it, `portolan-dns` and the node agent read from it.

mod answers;
mod claims;
pub mod compile;
pub mod diff;
pub mod index;
pub mod lookup;
mod merge;
pub mod name;
pub mod object;
pub mod question;
pub mod records;
pub mod reverse;
pub mod service;
mod slices;
pub mod snapshot;
pub mod table;
pub mod zone;
pub mod zonefile;

pub use compile::compile;
pub use diff::Diff;
pub use lookup::{Found, Lookup, Records};
pub use merge::InvalidExport;
pub use name::{ClusterId, Name, NameError, ServiceName};
pub use object::{Change, ClusterEvent, Object, ObjectKey};
pub use question::QName;
pub use service::Service;
pub use snapshot::Snapshot;
pub use table::{Event, Table, VipDemand};
pub use zone::{ZoneConfig, Zones};
