//! What names answer, from objects to lookup: one binary for all chapters.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "tests fail by panicking")]

mod answers;
mod clusters;
mod common;
mod merging;
mod ports;
mod properties;
mod vips;
