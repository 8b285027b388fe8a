//! Composition root.
mod admin;
mod cli;
mod config;
mod logging;
mod output;
mod sockets;
mod source;
mod status;
mod watch;
fn main() {}
