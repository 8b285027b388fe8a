//! What people get wrong: each mistake is told with what to do about it, and keeps nothing else from working.

mod addresses;
mod clusters;
mod definitions;
mod objects;

use std::process::Command;

use portolan_tests::harness::kubernetes::Member;
use portolan_tests::harness::{ADMIN, Server, portolan, run};

/// `portolan status` of a cluster's controller.
fn status(member: &Member) -> String {
    let admin = member.controller.at(ADMIN).to_string();
    run(Command::new(portolan()).args(["status", "--admin", &admin])).1
}

/// All that is wrong with a cluster, as its controller or server says it.
fn problems(server: &Server) -> String {
    let status = server.status();
    let clusters = status["clusters"].as_array().unwrap();
    clusters.iter().map(|cluster| cluster["problems"].to_string()).collect()
}
