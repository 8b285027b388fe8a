//! Programs that end with the tests, however those end.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;

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
        let mut command = dying_with_us(file);
        command.args(arguments).current_dir(log.parent().unwrap());
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
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- last lines of {} ---\n{}\n---", self.log.display(), self.last_lines());
        }
    }
}

/// A command for a program that is killed when this process ends, even when that is killed itself: see [`launch`].
pub fn dying_with_us(file: &Path) -> Command {
    let mut command = program("setpriv", Package::UtilLinux);
    command.args(["--pdeathsig", "KILL", "--"]).arg(file);
    command
}

/// Starts a program on a thread that lasts as long as this process: the kernel takes the end of the *thread* that
/// started a program for its parent's death, and a test's thread ends with the test.
pub fn launch(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static LAUNCHER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let launcher = LAUNCHER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                // Nobody waits for it any more when the test that did has failed.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(orders)
    });
    let (reply, child) = mpsc::channel();
    launcher.lock().unwrap().send((command, reply)).unwrap();
    child.recv().unwrap()
}
