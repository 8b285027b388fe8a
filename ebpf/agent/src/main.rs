//! `portolan-agent`: the composition root of the node agent.
//!
//! ```text
//!  clusters ── portolan-sync ──► snapshots ── keeper ──► portolan-ebpf ──► kernel
//!                                               │            │
//!                                   admin HTTP ─┴─ report, metrics, trace
//! ```
//!
//! The agent never watches another cluster: what others export is in its own, for the controller writes it there.

mod admin;
mod cli;
mod closer;
mod dry_run;
mod keeper;
mod metrics;
mod report;
mod run;
mod settings;
mod show;
mod trace;

use std::process::{ExitCode, abort};

use clap::Parser;
use portolan_program::{complain, print};

use cli::{Cli, Command};

/// Many small objects live long here: no header for each of them, and what a change frees goes back to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    end_with_any_thread();
    let outcome = match Cli::parse().command {
        Command::Run(asked) => run::run(&asked),
        Command::Status(asked) => show::status(&asked),
        Command::Trace(asked) => show::trace(&asked),
        Command::Detach(asked) => show::detach(&asked),
    };
    let printed = outcome.and_then(|outcome| {
        print(&outcome.text)?;
        Ok(outcome.status)
    });
    match printed {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            complain("portolan-agent", &error);
            ExitCode::FAILURE
        }
    }
}

/// An agent without one of its threads would look well and follow nothing. One that is started anew is missed by no connection.
fn end_with_any_thread() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        abort();
    }));
}
