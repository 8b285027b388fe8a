//! What end-to-end tests and benchmarks share: the real `portolan` on its own loopback address, real DNS clients,
//! and a reader of what they print.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a failed step fails the test, and a failed test shows the server's log"
)]

pub mod harness;
