//! What the names of a clusterset mean.
//!
//! ```text
//!  object      what one cluster says: exports, services, slices, imports, nodes, namespaces
//!    ▼
//!  table       apply: files it, marks the services that it touches           one owner, no locks
//!    ▼
//!  merge       settle: one service out of many exports (KEP-1645), with all conflicts and the policy that holds
//!    ▼
//!  compile     answers: record sets of what was touched; all else is shared with the snapshot before
//!    │         policy: for each place that clients are in, what they are spread over and how often
//!    ▼
//!  snapshot    immutable: an index of services, zones, generation and serial
//!    ├─ lookup     a name, a type and a client → an answer                  allocates nothing, locks nothing
//!    ├─ explain    why a client gets what it gets, and what it would get if
//!    ├─ backends   what connections to a service are spread over
//!    ├─ records    all of a zone, for transfers and zone-file text
//!    └─ diff       what changed since another snapshot
//! ```
//!
//! This crate is pure: it knows no clock, file, socket, runtime or Kubernetes client. Time and the asking cluster
//! (*home*) are arguments. `portolan-sync` feeds it, `portolan-dns` and the node agent read from it.
//!
//! # Choices
//!
//! - Answers are kept as sorted addresses and labels, not as wire format. The twelve octets in front of every address
//!   are the same for all records of an answer, so writing them costs as much as copying them; nothing is stored
//!   per zone but where one has policies of its own, and an agent that never answers DNS pays nothing for it. SRV targets end with the zone's origin, which is
//!   appended when they are written.
//! - The index is a hash trie with large leaves, not a table of fixed size: it needs no rebuilding as it grows, and a
//!   change at a million services copies a few dozen pointers.
//! - An endpoint name is left out, and reported, where it would exceed 255 octets below the longest origin: all zones
//!   answer the same.
//! - What a policy chooses is compiled by place, for places are few and clients many: a query costs one search for the client's
//!   place and one draw. A, AAAA and all else are spread apart where there are both families, so that nobody is sent to what has
//!   no address of the family that is asked for.
//! - Where virtual IPs need a node agent, a service is compiled in both forms and the client's place decides when a query comes:
//!   agents come and go by the thousand with a rollout, and no service is touched. Names are the same for all: endpoints'
//!   names answer everybody, and who can be sent nowhere gets NODATA. Transfers, zone files and PTR records, which are for
//!   nobody in particular, tell of virtual IPs.
//! - A ClusterSetIP service without a virtual IP has no name yet (NXDOMAIN, as CoreDNS does), and says why.
//!
//! Read KEP-1645 (Multi-Cluster Services API) with its DNS specification, RFC 1034, 2308, 2782, 4343 and 8020.

pub mod agents;
mod agreed;
mod answers;
pub mod choices;
mod claims;
pub mod clusters;
mod compact;
pub mod compile;
mod conflicts;
pub mod diff;
pub mod entrances;
pub mod index;
pub mod lookup;
mod merge;
pub mod name;
pub mod object;
pub mod peers;
pub mod places;
mod pods;
pub mod policy;
pub mod ports;
pub mod question;
pub mod records;
pub mod reverse;
pub mod service;
mod slices;
pub mod snapshot;
pub mod standing;
pub mod table;
pub mod zone;
pub mod zonefile;

pub use choices::Client;
pub use clusters::Hearing;
pub use compile::{Now, compile};
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
