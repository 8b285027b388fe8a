//! Snapshot to wire.
//!
//! ```text
//!  UDP (threads) · TCP, TLS (tokio) · HTTPS, QUIC (hickory-server)          transport: octets in and out
//!                     ▼ query, view
//!  respond:  read the query ─► admit ─► look up in the snapshot ─► write the reply
//!            wire::query        admit     portolan_zones             wire::records, wire::writer, edns
//!                               limiter    ▲ geo: clients whom the snapshot does not know
//! ```
//!
//! `respond` is the product: the octets of a query and a view in, the octets of a reply out, the same for all
//! transports. It allocates nothing once its buffers have grown, locks nothing and logs nothing.
//!
//! # Choices
//!
//! - UDP has threads with a socket each and no runtime. Queries and replies go in batches, a system call each, and a
//!   snapshot is loaded once for a batch. Under overload the socket's queue is the bound: its drops are counted.
//! - TCP and TLS are ours: many queries at a time, coalesced writes, transfers interleaved with other answers,
//!   keepalive and limits by client. HTTPS and QUIC are carried by hickory-server; `transport::hickory` says what it can't do.
//! - Rate limits live in a fixed table of governor's cells, found by a keyed hash of client network and response class:
//!   nothing grows with the number of clients, and nobody can choose whom to share a cell with.
//! - Caches in front that ignore Client Subnet are told by how they ask (`forwarders`): a table of fixed size, without locks, of
//!   which a task tells in the log.
//! - Counters are plain cells of fixed dimensions, summed when they are scraped.
//!
//! # What UDP costs, and what was tried
//!
//! Of a query's CPU six sevenths are the kernel's: `make bench-dns` has an echo beside the server that does nothing else. What is
//! left waits for memory, mostly: where a service is in the index, the service, its name. So:
//!
//! - What queries read of a service is in one line of the cache, with EDNS in two, and its name in another, where it was five
//!   (`zones::service::Service`); what few services have is a pointer away.
//! - Services are read ahead for a batch (`transport::udp::ahead`): two fifths of the time with a million names. With
//!   10,000, which the cache has while nobody else wants it, it wins nothing, and with one name it costs 30 ns: hence its bounds.
//! - Huge pages pay, a third with a million names, and need nothing: mimalloc has nine tenths of the memory in them where the
//!   system allows it (`transparent_hugepage` is `madvise` or `always`). To ask for more (`MIMALLOC_ALLOW_LARGE_OS_PAGES`) changed nothing.
//! - An echo written for the purpose, three rounds of each: batches of 8 cost 4 % more CPU than batches of 32, one by one 18 %, and 128
//!   win nothing, for there were six queries in a batch. To look a few times more before it slept, or to sleep without a timeout,
//!   won nothing that could be told from the scatter.
//! - Generic segmentation offload (`UDP_SEGMENT`) can't be used: it sends to one address, and replies go to many.
//!
//! Read RFC 1035, 2308, 6891, 7766, 7871, 7873, 8482, 8914, 9018, 9210.

mod admit;
pub mod cookie;
mod edns;
mod forwarders;
pub mod geo;
pub mod limiter;
pub mod metrics;
pub mod respond;
pub mod server;
pub mod settings;
pub mod tls;
pub mod transfer;
mod transport;
pub mod view;
mod wire;

pub use server::{BindError, Listeners, Running, Server};
