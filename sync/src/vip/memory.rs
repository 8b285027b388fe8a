//! The state file: which service has which addresses, and which addresses rest.
//!
//! A thread of its own writes it, some time after a change, whole and atomically: a temporary file, fsync, rename.
//! A file that can't be understood is kept aside, never overwritten; one that can't be written is tried again.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use portolan_zones::ServiceName;
use portolan_zones::object::UnixTime;
use serde::{Deserialize, Serialize};

use super::Ips;

const VERSION: u32 = 1;
/// Changes that come so soon after one are written together with it.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// A write that failed is tried again so often.
const RETRY: Duration = Duration::from_secs(5);

/// What is remembered.
#[derive(Default)]
pub(super) struct State {
    pub(super) vips: HashMap<ServiceName, Ips>,
    pub(super) resting: Vec<(UnixTime, IpAddr)>,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// `namespace/name` and its addresses, sorted.
    vips: Vec<(String, Vec<IpAddr>)>,
    /// Address, and the time (seconds since the epoch) until which it rests.
    resting: Vec<(IpAddr, UnixTime)>,
}

enum Change {
    Has(ServiceName, Ips),
    Rests(IpAddr, UnixTime),
    RestIsOver(IpAddr),
}

/// The state file as the pool sees it.
pub(super) struct Memory {
    recalled: State,
    problem: Arc<Mutex<Option<String>>>,
    changes: Option<Sender<Change>>,
    thread: Option<JoinHandle<()>>,
}

impl Memory {
    /// Remembers nothing.
    pub(super) fn none() -> Self {
        Self { recalled: State::default(), problem: Arc::default(), changes: None, thread: None }
    }

    /// Reads the file, and never writes it.
    pub(super) fn peek(path: PathBuf) -> Self {
        let (state, problem) = read(&path).map_or_else(|error| (State::default(), Some(error)), |s| (s, None));
        Self { recalled: state, problem: Arc::new(Mutex::new(problem)), ..Self::none() }
    }

    /// Reads the file and keeps it up to date.
    pub(super) fn open(path: PathBuf) -> Self {
        let mut memory = Self::peek(path.clone());
        let (sender, changes) = channel();
        let mut writer = Writer {
            keep_aside: memory.problem.lock().is_ok_and(|problem| problem.is_some()),
            path,
            vips: memory.recalled.vips.clone(),
            resting: memory.recalled.resting.iter().map(|(until, ip)| (*ip, *until)).collect(),
            problem: memory.problem.clone(),
        };
        let run = move || writer.run(&changes);
        match std::thread::Builder::new().name("vip-memory".to_owned()).spawn(run) {
            Ok(thread) => (memory.changes, memory.thread) = (Some(sender), Some(thread)),
            Err(error) => set(&memory.problem, Some(format!("no thread to write VIPs with: {error}"))),
        }
        memory
    }

    /// What the file held; once.
    pub(super) fn recall(&mut self) -> State {
        std::mem::take(&mut self.recalled)
    }

    pub(super) fn has(&self, service: ServiceName, ips: Ips) {
        self.tell(Change::Has(service, ips));
    }

    pub(super) fn rests(&self, ip: IpAddr, until: UnixTime) {
        self.tell(Change::Rests(ip, until));
    }

    pub(super) fn rest_is_over(&self, ip: IpAddr) {
        self.tell(Change::RestIsOver(ip));
    }

    pub(super) fn problem(&self) -> Option<String> {
        lock(&self.problem).clone()
    }

    fn tell(&self, change: Change) {
        if let Some(changes) = &self.changes {
            // The writer ends only when this sender is dropped.
            let _ = changes.send(change);
        }
    }
}

/// Writes what is still to be written, and waits for it.
impl Drop for Memory {
    fn drop(&mut self) {
        self.changes = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's side: a copy of what the pool knows.
struct Writer {
    path: PathBuf,
    /// What is there was not understood: it is moved away before the first write.
    keep_aside: bool,
    vips: HashMap<ServiceName, Ips>,
    resting: HashMap<IpAddr, UnixTime>,
    problem: Arc<Mutex<Option<String>>>,
}

impl Writer {
    fn run(&mut self, changes: &Receiver<Change>) {
        // Whatever is wrong with the file at the start must be told even if nothing changes.
        while let Ok(change) = changes.recv() {
            self.take(change);
            let mut wait = DEBOUNCE;
            loop {
                let ended = loop {
                    match changes.recv_timeout(wait) {
                        Ok(change) => self.take(change),
                        Err(RecvTimeoutError::Timeout) => break false,
                        Err(RecvTimeoutError::Disconnected) => break true,
                    }
                };
                let written = self.write();
                if let Err(error) = &written {
                    let text = format!("{}: VIPs can't be remembered: {error}; tried again every 5 s", self.path.display());
                    tracing::warn!("{text}");
                    set(&self.problem, Some(text));
                }
                if written.is_ok() || ended {
                    break;
                }
                wait = RETRY;
            }
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Has(service, ips) if ips.is_empty() => drop(self.vips.remove(&service)),
            Change::Has(service, ips) => drop(self.vips.insert(service, ips)),
            Change::Rests(ip, until) => drop(self.resting.insert(ip, until)),
            Change::RestIsOver(ip) => drop(self.resting.remove(&ip)),
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if self.keep_aside {
            keep_aside(&self.path)?;
            self.keep_aside = false;
        }
        if fs::symlink_metadata(&self.path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(io::Error::other("it is no regular file"));
        }
        let temporary = with_suffix(&self.path, ".tmp");
        let file = File::create(&temporary)?;
        let written = self.write_to(&file).and_then(|()| file.sync_all());
        if let Err(error) = written.and_then(|()| fs::rename(&temporary, &self.path)) {
            // What is left of it is of no use; should it stay, the next try overwrites it.
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        set(&self.problem, None);
        Ok(())
    }

    fn write_to(&self, file: &File) -> io::Result<()> {
        let mut vips: Vec<_> =
            self.vips.iter().map(|(service, ips)| (service.to_string(), ips.to_vec())).collect();
        vips.sort();
        let mut resting: Vec<_> = self.resting.iter().map(|(ip, until)| (*ip, *until)).collect();
        resting.sort_by_key(|(ip, until)| (*until, *ip));
        let mut out = BufWriter::new(file);
        serde_json::to_writer(&mut out, &Stored { version: VERSION, vips, resting })?;
        out.write_all(b"\n")?;
        out.flush()
    }
}

/// Reads the file; one that is not there is an empty memory. The error is for people.
fn read(path: &Path) -> Result<State, String> {
    let aside = "it is kept aside, and VIPs are given anew where their first choice is taken";
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
        Err(error) => return Err(format!("{}: VIPs can't be recalled: {error}", path.display())),
    };
    let stored: Stored = serde_json::from_slice(&bytes)
        .map_err(|error| format!("{}: VIPs can't be recalled: {error}; {aside}", path.display()))?;
    if stored.version != VERSION {
        let version = stored.version;
        return Err(format!("{}: is of version {version}, this program knows {VERSION}; {aside}", path.display()));
    }
    let named = |(text, ips): (String, Vec<IpAddr>)| {
        let (namespace, name) = text.split_once('/')?;
        Some((ServiceName::new(namespace, name).ok()?, Ips::from_vec(ips)))
    };
    Ok(State {
        vips: stored.vips.into_iter().filter_map(named).collect(),
        resting: stored.resting.into_iter().map(|(ip, until)| (until, ip)).collect(),
    })
}

/// Moves a file to the first free one of `.corrupt`, `.corrupt.1`, …
fn keep_aside(path: &Path) -> io::Result<()> {
    let mut aside = with_suffix(path, ".corrupt");
    let mut number = 0;
    while fs::symlink_metadata(&aside).is_ok() {
        number += 1;
        aside = with_suffix(path, &format!(".corrupt.{number}"));
    }
    match fs::rename(path, &aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut text = path.as_os_str().to_owned();
    text.push(suffix);
    text.into()
}

fn lock(problem: &Mutex<Option<String>>) -> MutexGuard<'_, Option<String>> {
    problem.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set(problem: &Mutex<Option<String>>, text: Option<String>) {
    *lock(problem) = text;
}
