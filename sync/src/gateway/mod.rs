//! The shared gateway: one entrance to all exported services of a cluster that have none of their own.
//!
//! ```text
//! exports, Services ──► offers ──► ports (stable numbers) ──► listeners ──► haproxy │ nginx (text)
//!                                    ▲   │
//!                                    └── memory (ConfigMap)
//! ```
//!
//! All of it is pure. `controller` keeps it in a cluster; `portolan gateway` prints it.

pub mod memory;
pub mod ports;

pub use ports::{GatewayPorts, PortError, PortKey, PortRange};
