//! The socket hook: connections to virtual IPs go where DNS would send them.
pub mod abi;
mod encode;
pub mod reconcile;
mod space;
pub mod tables;
pub mod wanted;
