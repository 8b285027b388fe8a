//! The file that remembers virtual IPs: read once, replaced whole, never half written, never in place of what is not ours.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use crate::vip::Memory;

/// Most corrupt files that are kept.
const MAX_CORRUPT: usize = 20;

/// What went wrong with the state file. Serving goes on without it.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// It can't be read.
    #[error(
        "can't read virtual IPs from {path}: {error}: it is tried again; until then addresses are chosen anew and not saved"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It isn't what we wrote.
    #[error(
        "{path} is no state file of virtual IPs ({reason}): it was moved to {kept}, addresses are chosen anew"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where it is now.
        kept: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It isn't what we wrote, and there is no place to keep it.
    #[error(
        "{path} is no state file of virtual IPs ({reason}) and can't be moved to {kept}: {error}: \
         move it away; until then addresses are chosen anew and not saved"
    )]
    InTheWay {
        /// The file.
        path: PathBuf,
        /// Where it should go.
        kept: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// Why it can't.
        error: io::Error,
    },
    /// A folder, a device, a socket.
    #[error("{0} is no regular file: virtual IPs are not saved: name another state file")]
    NotAFile(PathBuf),
    /// It can't be written.
    #[error("can't write virtual IPs to {path}: {error}: a restart may change addresses until it can")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Reads the file; `None` when there is none yet. With `keep_corrupt` a file that makes no sense is moved aside.
pub(crate) fn load(path: &Path, keep_corrupt: bool) -> Result<Option<Memory>, StateFileError> {
    let text =
        match refuse_special(path).and_then(|()| fs::read(path).map_err(|error| unreadable(path, error))) {
            Ok(text) => text,
            Err(StateFileError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
    let reason = match serde_json::from_slice::<Memory>(&text) {
        Ok(memory) if memory.is_known() => return Ok(Some(memory)),
        Ok(_) => "of another version".to_owned(),
        Err(error) => error.to_string(),
    };
    let (path, kept) = (path.to_owned(), corrupt_name(path));
    if keep_corrupt && let Err(error) = move_aside(&path, &kept) {
        return Err(StateFileError::InTheWay { path, kept, reason, error });
    }
    Err(StateFileError::Corrupt { path, kept, reason })
}

/// Writes the file beside its place, flushes it to the disk, then puts it in place.
pub(crate) fn save(path: &Path, memory: &Memory) -> Result<(), StateFileError> {
    // What else may be wrong with the place, writing will tell.
    if let Err(error @ StateFileError::NotAFile(_)) = refuse_special(path) {
        return Err(error);
    }
    write(path, memory).map_err(|error| StateFileError::Write { path: path.to_owned(), error })
}

fn unreadable(path: &Path, error: io::Error) -> StateFileError {
    StateFileError::Read { path: path.to_owned(), error }
}

/// Reading a pipe would wait for ever, and a rename would put a file in a device's place.
fn refuse_special(path: &Path) -> Result<(), StateFileError> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if metadata.is_file() { Ok(()) } else { Err(StateFileError::NotAFile(path.to_owned())) }
}

/// `<path>.corrupt`, `<path>.corrupt.2`, …: the first that is free, else the last.
fn corrupt_name(path: &Path) -> PathBuf {
    let name = |n: usize| beside(path, &if n == 1 { "corrupt".to_owned() } else { format!("corrupt.{n}") });
    (1..MAX_CORRUPT).map(name).find(|name| !is_there(name)).unwrap_or_else(|| name(MAX_CORRUPT))
}

fn move_aside(path: &Path, kept: &Path) -> io::Result<()> {
    if is_there(kept) {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(path, kept)
}

/// Whether the name is taken, be it by a link to nothing.
fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn write(path: &Path, memory: &Memory) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let temporary = beside(path, "new");
    let written = serde_json::to_vec(memory).map_err(io::Error::from).and_then(|text| {
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    match written {
        // The name itself is on the disk only when the folder is.
        Ok(()) => File::open(folder)?.sync_all(),
        Err(error) => {
            // It may not exist; what matters is the first error.
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// Writes the state file on a thread of its own, one write at a time: a slow disk delays no answer.
pub(crate) struct Saver {
    sender: Option<SyncSender<Memory>>,
    results: Receiver<Option<String>>,
    thread: Option<JoinHandle<()>>,
    busy: bool,
}

impl Saver {
    pub(crate) fn start(path: PathBuf) -> Self {
        let (sender, memories) = sync_channel::<Memory>(1);
        let (report, results) = sync_channel(2);
        let work = move || {
            for memory in memories {
                let error = save(&path, &memory).err().map(|error| error.to_string());
                if report.send(error).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("state-file".into()).spawn(work).ok();
        Self { sender: Some(sender), results, thread, busy: false }
    }

    pub(crate) fn is_idle(&self) -> bool {
        !self.busy
    }

    pub(crate) fn write(&mut self, memory: Memory) {
        if let Some(sender) = &self.sender {
            self.busy = !matches!(sender.try_send(memory), Err(TrySendError::Disconnected(_)));
        }
    }

    /// How the last write went, once: `Some(None)` is well.
    pub(crate) fn result(&mut self) -> Option<Option<String>> {
        let result = self.results.try_recv().ok()?;
        self.busy = false;
        Some(result)
    }

    /// Waits for the write that is under way, if any; how it went, as `result` tells.
    pub(crate) fn wait(&mut self) -> Option<Option<String>> {
        let result = if self.busy { self.results.recv().ok() } else { None }?;
        self.busy = false;
        Some(result)
    }

    /// Waits for the last write; returns its error.
    pub(crate) fn finish(mut self) -> Option<String> {
        self.sender = None;
        let last = self.results.iter().last().flatten();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vip::{PoolRanges, VipPool};
    use portolan_zones::object::IpFamily;
    use portolan_zones::{ServiceName, VipDemand};

    fn memory() -> Memory {
        let mut pool = VipPool::new(PoolRanges::default(), 60);
        let service = ServiceName::new("n", "s").unwrap();
        let families = [IpFamily::V4].into_iter().collect();
        pool.allocate(&VipDemand { service, families }, |_| false, 0);
        pool.take_memory().unwrap()
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/vips.json");
        assert!(load(&path, true).unwrap().is_none());
        save(&path, &memory()).unwrap();
        let read = load(&path, true).unwrap().unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), serde_json::to_string(&memory()).unwrap());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_corrupt_file_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vips.json");
        for (text, kept) in [
            ("", "vips.json.corrupt"),
            ("{\"version\":1", "vips.json.corrupt.2"),
            ("{\"version\":9,\"assigned\":[],\"freed\":[]}", "vips.json.corrupt.3"),
            ("\u{0}\u{0}", "vips.json.corrupt.4"),
        ] {
            fs::write(&path, text).unwrap();
            let error = load(&path, true).unwrap_err().to_string();
            assert!(error.contains("was moved to") && error.contains(kept), "{error}");
            assert_eq!(fs::read_to_string(folder.path().join(kept)).unwrap(), text);
            assert!(!path.exists());
        }
        assert_eq!(
            fs::read_to_string(folder.path().join("vips.json.corrupt")).unwrap(),
            "",
            "the first stays"
        );
        for n in 5..=MAX_CORRUPT {
            fs::write(folder.path().join(format!("vips.json.corrupt.{n}")), "kept").unwrap();
        }
        fs::write(&path, "one too many").unwrap();
        let error = load(&path, true).unwrap_err();
        assert!(matches!(error, StateFileError::InTheWay { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "one too many");
        let last = folder.path().join(format!("vips.json.corrupt.{MAX_CORRUPT}"));
        assert_eq!(fs::read_to_string(last).unwrap(), "kept");
    }

    #[test]
    fn what_is_no_regular_file_is_neither_read_nor_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("folder")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        std::os::unix::fs::symlink("/dev/full", path("device")).unwrap();
        for name in ["folder", "socket", "device"] {
            let before = fs::symlink_metadata(path(name)).unwrap().file_type();
            let (loaded, saved) = (load(&path(name), true), save(&path(name), &memory()));
            for error in [loaded.unwrap_err(), saved.unwrap_err()] {
                let error = error.to_string();
                assert!(error.contains(&format!("{name} is no regular file")), "{error}");
            }
            assert_eq!(fs::symlink_metadata(path(name)).unwrap().file_type(), before, "{name}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "nothing is left beside them");
    }

    #[test]
    fn a_full_disk_is_an_error_and_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vips.json");
        save(&path, &memory()).unwrap();
        let before = fs::read(&path).unwrap();
        // Writing goes to the temporary file first: make that one a device that is always full.
        std::os::unix::fs::symlink("/dev/full", folder.path().join("vips.json.new")).unwrap();
        let error = save(&path, &memory()).unwrap_err().to_string();
        assert!(error.contains("can't write virtual IPs") && error.contains("No space left"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
        let error = save(Path::new("/dev/null/vips.json"), &memory()).unwrap_err().to_string();
        assert!(error.contains("/dev/null/vips.json"), "{error}");
    }
}
