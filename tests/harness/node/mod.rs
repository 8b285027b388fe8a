//! Nodes: hosts in network namespaces of the test's own, and the node agent on a cgroup of its own.
//!
//! No namespace has a default route, so whatever is not redirected ends in ENETUNREACH and leaves nothing. Programs enter a host by
//! nsenter(1), which leaves `/sys` as it is: `ip netns exec` would hide cgroups and pins.

mod agent;
mod hosts;
mod programs;

pub use agent::{Agent, Cgroup};
pub use hosts::{Host, Hosts, here};
pub use programs::{
    Backends, Said, Talk, backends, connecting, connects, datagrams, inside, python, running,
};

/// Whether tests can hook into the kernel here; says why not.
pub fn can_hook(test: &str) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    let has_cgroups = agent::cgroup2().is_some();
    if !is_root {
        eprintln!("skipped {test}: only root may attach BPF programs and make network namespaces");
    } else if !has_cgroups {
        eprintln!("skipped {test}: cgroup2 is not mounted");
    }
    is_root && has_cgroups
}
