//! Composition root.
mod admin;
mod cli;
mod config;
mod logging;
mod lookup;
mod output;
mod source;
mod status;
mod watch;
fn main() {}
