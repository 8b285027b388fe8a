//! Snapshot to wire.
//!
//! `respond` is the product: the octets of a query and a view in, the octets of a reply out. Transports carry them.

mod admit;
pub mod cookie;
mod edns;
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
