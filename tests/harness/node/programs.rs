//! Programs at both ends of a connection, in Python: they say who they are, and what became of many connections.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde::Deserialize;

use super::{Cgroup, Host};
use crate::harness::launch::DYING_WITH_US;
use crate::harness::{Package, eventually, launch, program, repository, run};

/// Servers on a host, until it is dropped. See `backends.py`.
#[derive(Debug)]
pub struct Backends(Child);

impl Drop for Backends {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What became of many connections, or packets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Said {
    /// How often who answered.
    pub names: BTreeMap<String, u32>,
    /// How often which error came, such as `ECONNREFUSED`.
    pub errors: BTreeMap<String, u32>,
    /// Peers that getpeername, or recvfrom, showed, other than what was connected to.
    pub strangers: Vec<String>,
}

impl Said {
    /// Answers altogether.
    pub fn answers(&self) -> u32 {
        self.names.values().sum()
    }
}

fn script(name: &str) -> PathBuf {
    repository().join("tests/node/programs").join(name)
}

/// Starts servers; each is `NAME/tcp/ADDRESS/PORT` or `NAME/udp/…`: it answers its name, by HTTP/1.0 or in a packet. Returns when
/// all listen.
pub fn backends(host: &Host, servers: &[&str]) -> Backends {
    let folder = tempfile::Builder::new().prefix("portolan-backends-").tempdir().unwrap();
    let ready = folder.path().join("ready");
    let mut python = program("python3", Package::Python3);
    python.arg(script("backends.py")).arg(&ready).args(servers);
    let python = host.command(&python);
    let mut command = Command::new(DYING_WITH_US[0]);
    command.args(&DYING_WITH_US[1..]).arg(python.get_program()).args(python.get_args());
    let mut child = launch_quietly(command);
    eventually("the backends listen", || {
        assert!(child.try_wait().unwrap().is_none(), "the backends ended: {servers:?}");
        ready.exists()
    });
    Backends(child)
}

fn launch_quietly(mut command: Command) -> Child {
    command.stdin(Stdio::null());
    launch(command).unwrap()
}

/// The command of [`connects`], for who runs it beside others.
pub fn connecting(words: &[&str]) -> Command {
    let mut python = program("python3", Package::Python3);
    python.arg(script("connects.py")).args(words);
    python
}

/// Makes so many connections to an address, one after the other, from a host; inside a cgroup, or outside of all.
pub fn connects(host: &Host, cgroup: Option<&Cgroup>, to: &str, port: u16, count: u32) -> Said {
    said(host, cgroup, &["tcp", to, &port.to_string(), &count.to_string()])
}

/// Sends so many packets, each of another socket; `kind` is `udp` or `connected-udp`.
pub fn datagrams(host: &Host, cgroup: Option<&Cgroup>, kind: &str, to: &str, port: u16, count: u32) -> Said {
    said(host, cgroup, &[kind, to, &port.to_string(), &count.to_string()])
}

fn said(host: &Host, cgroup: Option<&Cgroup>, words: &[&str]) -> Said {
    let client = host.command(&connecting(words));
    let mut client = match cgroup {
        Some(cgroup) => cgroup.command(&client),
        None => client,
    };
    let (_, text) = run(&mut client);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{words:?}: {text}"))
}
