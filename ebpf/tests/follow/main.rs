//! From what clusters say to what is in the tables: the shares are those that DNS answers by, for this node's place.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod clusters;
mod room;
mod scope;
mod shares;
mod site;
mod sockets;
