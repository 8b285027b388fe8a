//! Composition root.
mod cli;
mod config;
mod lookup;
mod output;
fn main() {}
