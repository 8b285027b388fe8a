//! Tables that are too small, and a kernel that refuses: what is there goes on, nothing leads where it should not, and what was
//! refused is written when there is room.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod changes;
mod numbers;
mod refusals;
mod room;
mod small;
