//! A server under measurement: pinned to one core, ended with the benchmark, and what it uses.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use portolan_tests::harness::kubernetes::Part;
use portolan_tests::harness::node::Cgroup;
use tempfile::TempDir;

/// The server's core, and that of all that drives it.
pub const CORE: &str = "0";
pub const LOAD_CORE: &str = "1";
/// So long may a million names take to load.
const PATIENCE: Duration = Duration::from_secs(180);

/// How to start a server.
pub struct Launch {
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// Where it is asked, by which transport ever.
    pub at: SocketAddr,
    /// What it needs besides; ends after it.
    pub beside: Option<Box<dyn Beside>>,
}

/// What a server needs besides itself.
pub trait Beside {
    /// The server has all that it needs of it.
    fn rest(&self);
}

/// A folder that a server has for itself.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        Self(tempfile::Builder::new().prefix("portolan-bench-").tempdir().unwrap())
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    /// The path of a file with that text.
    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }
}

/// Ends when dropped, and what it has started with it.
pub struct Running {
    part: Part,
    pub at: SocketAddr,
    pub loading: Duration,
    /// Octets of memory when it was loaded and had answered nobody yet.
    pub at_rest: u64,
    beside: Option<Box<dyn Beside>>,
    _place: Place,
    /// What holds it to a part of its core.
    _held: Option<Cgroup>,
}

impl Running {
    /// Starts it and waits until it answers. The error says what the server printed.
    pub fn start(
        launch: Launch,
        place: Place,
        held: Option<Cgroup>,
        answers: impl Fn(SocketAddr) -> bool,
    ) -> Result<Self, String> {
        let mut command = Command::new("taskset");
        command.args(["-c", CORE]).arg(&launch.program).args(&launch.arguments);
        if let Some(cgroup) = &held {
            command = cgroup.command(&command);
        }
        let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
        let arguments: Vec<String> = words.collect();
        let begun = Instant::now();
        let part = Part::start(Path::new(command.get_program()), &arguments, place.path("log"));
        let mut running = Self {
            part,
            at: launch.at,
            loading: Duration::ZERO,
            at_rest: 0,
            beside: launch.beside,
            _place: place,
            _held: held,
        };
        while !answers(launch.at) {
            if !running.runs() || begun.elapsed() > PATIENCE {
                return Err(format!("it does not answer; its last words: {}", running.last_words()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        running.loading = begun.elapsed();
        if let Some(beside) = &running.beside {
            beside.rest();
        }
        running.at_rest = running.memory();
        Ok(running)
    }

    fn runs(&self) -> bool {
        stat(self.part.pid()).is_some_and(|stat| stat.state != "Z")
    }

    pub fn last_words(&self) -> String {
        self.part.last_lines().replace('\n', " | ")
    }

    /// It and all that it has started.
    pub fn pids(&self) -> Vec<u32> {
        let parents: Vec<(u32, u32)> =
            numbers("/proc").filter_map(|pid| Some((pid, stat(pid)?.parent))).collect();
        let mut family = vec![self.part.pid()];
        let mut next = 0;
        while next < family.len() {
            let of = family[next];
            family.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
            next += 1;
        }
        family
    }

    /// Octets of memory, those that several processes share by part.
    pub fn memory(&self) -> u64 {
        memory(&self.pids())
    }
}

impl Drop for Running {
    /// Children of NSD see that their parent has gone.
    fn drop(&mut self) {
        let family = self.pids();
        self.part.kill();
        let begun = Instant::now();
        let alive = |pid: &u32| stat(*pid).is_some_and(|stat| stat.state != "Z");
        while family.iter().any(alive) && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Octets of memory of processes, those that several share by part.
pub fn memory(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| proportional(*pid)).sum()
}

/// CPU of processes so far.
#[derive(Clone, Copy)]
pub struct Cpu {
    nanoseconds: u64,
    user: u64,
    system: u64,
}

impl Cpu {
    pub fn of(pids: &[u32]) -> Self {
        let stats: Vec<Stat> = pids.iter().filter_map(|pid| stat(*pid)).collect();
        Self {
            nanoseconds: pids.iter().map(|pid| scheduled(*pid)).sum(),
            user: stats.iter().map(|stat| stat.user).sum(),
            system: stats.iter().map(|stat| stat.system).sum(),
        }
    }

    /// Seconds in user space and in the kernel since then. The sum is exact; the kernel splits it by what it finds at its ticks.
    pub fn since(self, before: Self) -> (f64, f64) {
        let total = (self.nanoseconds - before.nanoseconds) as f64 / 1e9;
        let (user, system) = ((self.user - before.user) as f64, (self.system - before.system) as f64);
        let part = user / (user + system).max(1.0);
        (total * part, total * (1.0 - part))
    }
}

/// Of proc_pid_stat(5).
struct Stat {
    state: String,
    parent: u32,
    user: u64,
    system: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    Some(Stat {
        state: fields[0].to_owned(),
        parent: fields[1].parse().ok()?,
        user: fields[11].parse().ok()?,
        system: fields[12].parse().ok()?,
    })
}

/// Nanoseconds that all threads of a process were running.
fn scheduled(pid: u32) -> u64 {
    let of_thread = |thread: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{thread}/schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    numbers(&format!("/proc/{pid}/task")).filter_map(of_thread).sum()
}

/// Pss of proc_pid_smaps(5).
fn proportional(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// Entries of a folder that are numbers.
fn numbers(folder: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// A UDP port of 127.0.0.1 that nobody has: for servers that only listen on an interface's own address.
pub fn free_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// A program's path, and which package has it if there is none.
pub fn find(program: &str, package: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let mut files = folders.map(|folder| folder.join(program));
    files.find(|file| file.is_file()).ok_or_else(|| format!("{program} is not installed (Debian: {package})"))
}
