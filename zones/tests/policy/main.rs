//! What traffic policies make of answers, from objects to lookup: one binary for all chapters.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "tests fail by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod agents;
mod attach;
mod backends;
mod explain;
mod families;
mod gateways;
mod health;
mod history;
mod laws;
mod locality;
mod picture;
mod recompile;
mod records;
mod site;
mod spill;
mod states;
mod sticky;
mod timeline;
mod weights;
