//! Virtual IPs on a node: the real agent, the real kernel, real programs, in network namespaces and cgroups of the tests' own.
//! As root only; otherwise each test says that it is skipped, and why.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed step fails the test"
)]

mod affinity;
mod beside;
mod capacity;
mod connected;
mod demo;
mod errors;
mod families;
mod gateways;
mod health;
mod pins;
mod refusals;
mod shares;
mod site;
mod sockets;
mod survival;
mod trace;
mod visitor;
mod whole_way;
mod world;
