//! Programs and folders that must not outlast the tests, however those end.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;

/// In front of a program's words: it is killed when this process ends, even when that is killed itself. For programs
/// that [`launch`] starts.
pub const DYING_WITH_US: [&str; 4] = ["setpriv", "--pdeathsig", "KILL", "--"];

/// Collects lines until nobody can send any more, and runs them, the last one first; Ctrl-C is for the tests.
const JANITOR: &str = r#"trap '' INT TERM HUP; orders=; while read -r line; do orders="$line
$orders"; done; sleep 1; eval "$orders""#;

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

/// Has a folder removed when this process ends: destructors of what all tests share never run.
pub fn remove_at_the_end(folder: &Path) {
    at_the_end(&format!("rm -rf -- '{}'", folder.display()));
}

/// Has a shell run a line when this process ends, however it does.
pub fn at_the_end(line: &str) {
    static ORDERS: OnceLock<Mutex<ChildStdin>> = OnceLock::new();
    let orders = ORDERS.get_or_init(|| {
        let mut janitor = Command::new("sh");
        janitor.args(["-c", JANITOR]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Mutex::new(launch(janitor).unwrap().stdin.take().unwrap())
    });
    writeln!(orders.lock().unwrap(), "{line}").unwrap();
}
