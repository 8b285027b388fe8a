//! The real `portolan` in and before real Kubernetes clusters. Needs what `make kubernetes` builds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed step fails the test"
)]

mod agents;
mod bad_input;
mod conflicts;
mod conformance;
mod election;
mod exports;
mod following;
mod gateways;
mod harness;
mod installation;
mod ownership;
mod peers;
mod policies;
mod readme;
mod rights;
mod shared_gateway;
mod steps;
mod stub_domains;
mod survival;
