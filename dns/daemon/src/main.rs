//! `portolan`: the composition root. The command line picks a command; commands wire the libraries together.
//!
//! The libraries know nothing of each other but the snapshot; what an operator writes becomes their settings here.

mod admin;
mod age;
mod check;
mod cli;
mod clusters;
mod config;
mod controller;
mod crds;
mod explain;
mod export;
mod gateway;
mod lookup;
mod metrics;
mod overview;
mod reload;
mod serve;
mod sockets;
mod source;
mod status;
mod writing;
mod zone;

use std::process::ExitCode;

use clap::CommandFactory;
use portolan_program::{Outcome, complain, print};

use cli::{Cli, Command};

/// Many small objects live long here: no header for each of them, and what a reload frees goes back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let status = run(cli::parse(std::env::args_os()).command).and_then(|outcome| {
        print(&outcome.text)?;
        Ok(outcome.status)
    });
    match status {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            complain("portolan", &error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Serve(asked) => serve::serve(asked),
        Command::Controller(asked) => controller::run(asked),
        Command::Status(asked) => overview::run(&asked),
        Command::Export(asked) => export::export(&asked),
        Command::Unexport(asked) => export::unexport(&asked),
        Command::Crds => crds::run(),
        Command::Check(asked) => check::check(&asked),
        Command::Lookup(asked) => lookup::run(&asked),
        Command::Explain(asked) => explain::run(&asked),
        Command::Zone(asked) => zone::run(&asked),
        Command::Gateway(asked) => gateway::run(&asked),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "portolan", &mut script);
            Ok(Outcome::good(String::from_utf8(script)?))
        }
    }
}
