//! Programs that end with the tests, however those end.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::harness::launch::{DYING_WITH_US, launch};
use crate::harness::{Package, program, run};

/// Lines of a log that a failed test shows.
const LAST_LINES: usize = 15;

/// A running program with a log of its own; killed when dropped.
#[derive(Debug)]
pub struct Part {
    child: Child,
    log: PathBuf,
}

impl Part {
    /// Starts `file`, a path, with these arguments. Its output goes to the end of `log`.
    pub fn start(file: &Path, arguments: &[String], log: PathBuf) -> Self {
        let output = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(DYING_WITH_US[0]);
        command.args(&DYING_WITH_US[1..]).arg(file).args(arguments).current_dir(log.parent().unwrap());
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        Self { child: launch(command).expect("the program starts"), log }
    }

    /// Ends it at once, as a crash does, and waits for that.
    pub fn kill(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Sends a signal by name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let (sent, text) = run(program("kill", Package::Procps).args(["-s", name, &pid]));
        assert!(sent, "{text}");
    }

    /// Panics when it has ended by itself.
    pub fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("{} ended: {status}\n{}", self.log.display(), self.last_lines());
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of [`Part::log`].
    pub fn last_lines(&self) -> String {
        last_lines(&self.log())
    }
}

/// What of a log a failed test shows.
pub(in crate::harness) fn last_lines(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- last lines of {} ---\n{}\n---", self.log.display(), self.last_lines());
        }
    }
}
