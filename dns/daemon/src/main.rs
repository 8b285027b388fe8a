//! Composition root.
mod cli;
mod config;
mod output;
fn main() {}
