//! Nodes: hosts in network namespaces of the test's own, and the node agent on a cgroup of its own.
//!
//! No namespace has a default route, so whatever is not redirected ends in ENETUNREACH and leaves nothing. Programs enter a host by
//! nsenter(1), which leaves `/sys` as it is: `ip netns exec` would hide cgroups and pins.

mod agent;
mod cgroup;
mod hosts;
mod programs;

use std::process::Command;

use super::namespaces::is_root;

pub use agent::Agent;
pub use cgroup::Cgroup;
pub use hosts::{Host, Hosts, here};
pub use programs::{
    Backends, Said, Talk, backends, connecting, connects, datagrams, inside, python, running,
};

/// Whether tests can hook into the kernel here; says why not.
pub fn can_hook(test: &str) -> bool {
    let is_root = is_root();
    let has_cgroups = cgroup::cgroup2().is_some();
    if !is_root {
        eprintln!("skipped {test}: only root may attach BPF programs and make network namespaces");
    } else if !has_cgroups {
        eprintln!("skipped {test}: cgroup2 is not mounted");
    }
    is_root && has_cgroups
}

/// A program that runs the one that is named after its own arguments, with that one's environment and folder.
fn running_it(mut outer: Command, command: &Command) -> Command {
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            outer.env(name, value);
        }
    }
    if let Some(folder) = command.get_current_dir() {
        outer.current_dir(folder);
    }
    outer
}
