//! A client that stays while agents come and go. See `programs/visitor.py`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use portolan_tests::harness::node::Said;
use portolan_tests::harness::{DYING_WITH_US, Package, eventually, launch, program, repository};
use serde::Deserialize;

use crate::site::Site;

/// It runs until it is dropped.
pub(crate) struct Visitor {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What it has seen.
#[derive(Debug, Deserialize)]
pub(crate) struct Seen {
    #[serde(flatten)]
    pub(crate) said: Said,
    /// What getpeername shows for the connection that is held.
    pub(crate) held: String,
    /// Who answered there in the end.
    pub(crate) answer: Option<String>,
}

impl Visitor {
    /// In the site's cgroup, on its client.
    pub(crate) fn start(site: &Site, vip: &str, port: u16) -> Self {
        let mut python = program("python3", Package::Python3);
        python.arg(repository().join("tests/node/programs/visitor.py")).args([vip, &port.to_string()]);
        let python = site.cgroup.command(&site.client.command(&python));
        let mut command = Command::new(DYING_WITH_US[0]);
        command.args(&DYING_WITH_US[1..]).arg(python.get_program()).args(python.get_args());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = launch(command).unwrap();
        let (asks, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, asks, answers: BufReader::new(answers) }
    }

    /// What it has seen by now.
    pub(crate) fn seen(&mut self) -> Seen {
        self.ask("told")
    }

    /// Has it end what it holds.
    pub(crate) fn finish(&mut self) -> Seen {
        self.ask("finish")
    }

    /// Waits until it has made so many more connections.
    pub(crate) fn goes_on(&mut self, connections: u32) {
        let made = |seen: &Seen| seen.said.answers() + seen.said.errors.values().sum::<u32>();
        let before = made(&self.seen());
        eventually("it connects", || made(&self.seen()) >= before + connections);
    }

    fn ask(&mut self, what: &str) -> Seen {
        writeln!(self.asks, "{what}").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the visitor ended: {line}"))
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
