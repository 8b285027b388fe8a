//! The real `portolan` in and before real Kubernetes clusters. Needs what `make kubernetes` builds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed step fails the test"
)]

mod conflicts;
mod conformance;
mod exports;
mod following;
mod harness;
mod installation;
mod steps;
