//! End to end: the real `portolan`, real manifests, real clients.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed step fails the test"
)]

mod architecture;
mod cli;
mod clients;
mod gateway;
mod golden;
mod kube_dns;
mod limits;
mod operations;
mod policies;
mod tables;
