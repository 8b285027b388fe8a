//! Programs at both ends of a connection, in Python: they say who they are, and what became of many connections.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

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
    let mut backends = running(host, &python);
    eventually("the backends listen", || {
        assert!(backends.0.try_wait().unwrap().is_none(), "the backends ended: {servers:?}");
        ready.exists()
    });
    backends
}

/// Starts any server on a host.
pub fn running(host: &Host, server: &Command) -> Backends {
    let mut command = dying_with_us(&host.command(server));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Backends(launch(command).unwrap())
}

fn dying_with_us(program: &Command) -> Command {
    let mut command = Command::new(DYING_WITH_US[0]);
    command.args(&DYING_WITH_US[1..]).arg(program.get_program()).args(program.get_args());
    command
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
    let (_, text) = run(&mut inside(host, cgroup, &connecting(words)));
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{words:?}: {text}"))
}

/// The same program, on a host; inside a cgroup, or outside of all.
pub fn inside(host: &Host, cgroup: Option<&Cgroup>, command: &Command) -> Command {
    let there = host.command(command);
    match cgroup {
        Some(cgroup) => cgroup.command(&there),
        None => there,
    }
}

/// Runs one of the scripts to its end, and returns the JSON that it prints.
pub fn python(host: &Host, cgroup: Option<&Cgroup>, name: &str, words: &[&str]) -> Value {
    let mut python = program("python3", Package::Python3);
    python.arg(script(name)).args(words);
    let (_, text) = run(&mut inside(host, cgroup, &python));
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{name} {words:?}: {text}"))
}

/// A script that runs beside the test, and answers each line with one of JSON. It ends with this.
#[derive(Debug)]
pub struct Talk {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Talk {
    /// Starts it.
    pub fn start(host: &Host, cgroup: Option<&Cgroup>, name: &str, words: &[&str]) -> Self {
        let mut python = program("python3", Package::Python3);
        python.arg(script(name)).args(words);
        let mut command = dying_with_us(&inside(host, cgroup, &python));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = launch(command).unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, to, from }
    }

    /// Says a line, and returns the answer.
    pub fn say(&mut self, line: &str) -> Value {
        writeln!(self.to, "{line}").unwrap();
        let mut answer = String::new();
        self.from.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{line}: {answer}"))
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
