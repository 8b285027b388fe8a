//! What is replied, octet by octet: one binary for all chapters.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "tests fail by panicking")]

mod answers;
mod common;
mod edns;
mod header;
mod limits;
mod octets;
mod placed;
mod sizes;
mod transfers;
