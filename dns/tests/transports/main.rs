//! Servers on free ports of the loopback interface, asked as clients do: one binary for all transports.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

mod common;
mod encrypted;
#[path = "../respond/common/mod.rs"]
#[allow(dead_code, reason = "another binary uses the rest")]
mod fixtures;
mod mix;
mod server;
mod tcp;
mod udp;
