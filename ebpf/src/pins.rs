//! What stays in the BPF file system when no agent runs.
//!
//! ```text
//! <pins>/v2/links/<hook>       the links: as long as they are there, redirection goes on
//! <pins>/v2/sessions/<map>     who was sent where: established connections need it, whatever tables there are
//! ```
//!
//! Tables are not pinned: the programs hold them, and each agent makes its own and swaps the programs. What an older agent
//! wrote is so never read by a newer one, but for the sessions, whose ABI is the `2` in `v2`. They keep the size that they were
//! made with, for connections need what is in them: another size in the configuration holds after `detach`, and that is said.
//! What an agent of a lower ABI left is taken over as far as it fits, see [`former`]; that of a higher one is left alone.
//!
//! An agent holds all of it itself, too: pins that somebody removes while it runs end nothing, and are made anew.

mod former;

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::abi::ABI_VERSION;
use crate::hooks::{HOOKS, Hook, Link};
use crate::kernel::{SESSIONS, Session};
use crate::sys::{self, LinkInfo};

/// Why pins are not used.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// Not where pins can be.
    #[error(
        "{path} is not on a BPF file system: mount one (mount -t bpf bpf /sys/fs/bpf), or name another folder as `agent.pins`"
    )]
    NotBpffs {
        /// The folder.
        path: PathBuf,
    },
    /// The system refuses.
    #[error(
        "{path} can't be used: {error}; it must belong to the agent's user, who must be root or have the capability BPF"
    )]
    Refused {
        /// A folder or pin.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// Two agents.
    #[error("another agent uses {path}: end it first, or give this one other `agent.pins`")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// An agent of a later release was here.
    #[error(
        "{path} is of a newer agent (ABI {theirs}, this one has {ABI_VERSION}): start that one, or have its connections forget their virtual IPs by its `portolan-agent detach`"
    )]
    Newer {
        /// What was found.
        path: PathBuf,
        /// Its version.
        theirs: u32,
    },
    /// Somebody else's.
    #[error(
        "{path} was not made by Portolan and is left alone: remove it, or name another folder as `agent.pins`"
    )]
    Foreign {
        /// What was found.
        path: PathBuf,
    },
}

/// The folder of one agent, which nobody else uses meanwhile.
#[derive(Debug)]
pub struct Pins {
    root: PathBuf,
    /// Locked.
    lock: File,
}

/// A link that is pinned.
pub(crate) struct PinnedLink {
    pub(crate) fd: OwnedFd,
    pub(crate) info: LinkInfo,
}

impl Pins {
    /// Makes the folders where they are missing.
    pub fn open(root: &Path) -> Result<Self, PinError> {
        let existing = root.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| PinError::Refused { path, error }
        };
        let folder = File::open(existing).map_err(at(existing))?;
        if !sys::is_bpffs(&folder).map_err(at(existing))? {
            return Err(PinError::NotBpffs { path: root.to_owned() });
        }
        fs::create_dir_all(root).map_err(at(root))?;
        let lock = lock(root)?;
        let pins = Self { root: root.to_owned(), lock };
        pins.check()?;
        pins.make_folders()?;
        Ok(pins)
    }

    /// The folder, if there is one that an agent made. Nothing is made.
    pub fn find(root: &Path) -> Result<Option<Self>, PinError> {
        if !root.exists() {
            return Ok(None);
        }
        let pins = Self { root: root.to_owned(), lock: lock(root)? };
        pins.check()?;
        Ok(Some(pins))
    }

    /// Removes all links, and all that is remembered: connections that are established go on, but show where they really go.
    pub fn remove(self) -> Result<Vec<String>, PinError> {
        let mut removed = Vec::new();
        // In the reverse order of attaching.
        for hook in HOOKS.into_iter().rev() {
            if self.link(hook)?.is_some() {
                self.unlink(hook)?;
                removed.push(hook.name.to_owned());
            }
        }
        removed.extend(self.remove_former()?);
        for map in SESSIONS {
            let path = self.sessions().join(map.name);
            gone(fs::remove_file(&path), &path)?;
        }
        for folder in [self.links(), self.sessions(), self.version(), self.root.clone()] {
            gone(fs::remove_dir(&folder), &folder)?;
        }
        Ok(removed)
    }

    /// Has these links and sessions be pinned: the names of those that were not, any more.
    pub(crate) fn keep(&mut self, links: &[Link], sessions: &[OwnedFd]) -> Result<Vec<String>, PinError> {
        if !self.is_there() {
            *self = Self::open(&self.root)?;
        }
        self.make_folders()?;
        let links = links.iter().map(|link| (self.link_path(link.hook), &link.fd));
        let sessions = SESSIONS.iter().zip(sessions).map(|(map, fd)| (self.sessions().join(map.name), fd));
        let mut pinned = Vec::new();
        for (path, fd) in links.chain(sessions) {
            let refused = |error| PinError::Refused { path: path.clone(), error };
            if path.try_exists().map_err(refused)? {
                continue;
            }
            sys::pin(fd.as_fd(), &path).map_err(refused)?;
            pinned.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
        Ok(pinned)
    }

    fn make_folders(&self) -> Result<(), PinError> {
        let make =
            |path: PathBuf| fs::create_dir_all(&path).map_err(|error| PinError::Refused { path, error });
        make(self.links()).and_then(|()| make(self.sessions()))
    }

    /// Whether the folder is the one that was opened: it may have been removed, or something mounted there, or unmounted.
    fn is_there(&self) -> bool {
        let [here, ours] = [fs::metadata(&self.root), self.lock.metadata()];
        let same =
            |(here, ours): (fs::Metadata, fs::Metadata)| (here.dev(), here.ino()) == (ours.dev(), ours.ino());
        here.ok().zip(ours.ok()).is_some_and(same)
    }

    /// The sessions that are pinned.
    pub(crate) fn open_sessions(&self) -> Result<Vec<OwnedFd>, PinError> {
        let open = |map: &Session| {
            let path = self.sessions().join(map.name);
            sys::open_pin(&path).map_err(|error| PinError::Refused { path, error })
        };
        SESSIONS.iter().map(open).collect()
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where what outlives agents is pinned.
    pub fn sessions(&self) -> PathBuf {
        sessions_of(&self.version())
    }

    pub(crate) fn link_path(&self, hook: Hook) -> PathBuf {
        self.links().join(hook.name)
    }

    /// The link of a hook, if it is there.
    pub(crate) fn link(&self, hook: Hook) -> Result<Option<PinnedLink>, PinError> {
        link_at(&self.link_path(hook), hook)
    }

    pub(crate) fn unlink(&self, hook: Hook) -> Result<(), PinError> {
        let path = self.link_path(hook);
        gone(fs::remove_file(&path), &path)
    }

    fn version(&self) -> PathBuf {
        folder_of(&self.root, ABI_VERSION)
    }

    fn links(&self) -> PathBuf {
        links_of(&self.version())
    }

    /// Whether all that is here is ours.
    fn check(&self) -> Result<(), PinError> {
        for name in entries(&self.root)? {
            let path = self.root.join(&name);
            match version_of(&name) {
                Some(ABI_VERSION) => {}
                Some(theirs) if theirs > ABI_VERSION => return Err(PinError::Newer { path, theirs }),
                Some(_) => former::check(&path)?,
                None => return Err(PinError::Foreign { path }),
            }
        }
        let hooks: Vec<_> = HOOKS.iter().map(|hook| hook.name).collect();
        let maps: Vec<_> = SESSIONS.iter().map(|map| map.name).collect();
        for (folder, names) in
            [(self.version(), &["links", "sessions"][..]), (self.links(), &hooks), (self.sessions(), &maps)]
        {
            let foreign = entries(&folder)?.into_iter().find(|name| !names.contains(&name.as_str()));
            if let Some(name) = foreign {
                return Err(PinError::Foreign { path: folder.join(name) });
            }
        }
        HOOKS.into_iter().try_for_each(|hook| self.link(hook).map(drop))?;
        SESSIONS.iter().try_for_each(|map| self.check_session(map))
    }

    /// Programs would take whatever is pinned there for it.
    fn check_session(&self, map: &Session) -> Result<(), PinError> {
        let path = self.sessions().join(map.name);
        let shape = match sys::open_pin(&path) {
            Ok(fd) => sys::map_shape(fd.as_fd()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(PinError::Refused { path, error }),
        };
        if shape.is_ok_and(|shape| map.is(shape)) { Ok(()) } else { Err(PinError::Foreign { path }) }
    }
}

/// What is attached by the pins of a folder, whichever ABI they have, without taking it: for people who look.
pub fn look(root: &Path) -> Vec<Attached> {
    let versions = versions(root);
    let of = |(abi, hook): (u32, Hook)| {
        let link = link_at(&links_of(&folder_of(root, abi)).join(hook.name), hook).ok()??;
        let LinkInfo { program, cgroup, .. } = link.info;
        Some(Attached { hook, program, cgroup, abi })
    };
    HOOKS.into_iter().flat_map(|hook| versions.iter().map(move |abi| (*abi, hook))).filter_map(of).collect()
}

/// A hook that is in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attached {
    /// Which.
    pub hook: Hook,
    /// The program's id, as bpftool has it.
    pub program: u32,
    /// The cgroup's id, which is its folder's inode; 0: it is gone.
    pub cgroup: u64,
    /// Of the agent that pinned it.
    pub abi: u32,
}

/// The folder of an ABI.
fn folder_of(root: &Path, abi: u32) -> PathBuf {
    root.join(format!("v{abi}"))
}

fn links_of(folder: &Path) -> PathBuf {
    folder.join("links")
}

fn sessions_of(folder: &Path) -> PathBuf {
    folder.join("sessions")
}

/// The ABI that a folder is named after. None was there before 1.
fn version_of(name: &str) -> Option<u32> {
    let version = name.strip_prefix('v')?.parse::<u32>().ok()?;
    (version > 0 && name == format!("v{version}")).then_some(version)
}

/// All that there are, the highest first.
fn versions(root: &Path) -> Vec<u32> {
    let mut versions: Vec<u32> =
        entries(root).unwrap_or_default().iter().filter_map(|name| version_of(name)).collect();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions
}

fn link_at(path: &Path, hook: Hook) -> Result<Option<PinnedLink>, PinError> {
    let fd = match sys::open_pin(path) {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(PinError::Refused { path: path.to_owned(), error }),
    };
    // What is not a link has other information, or none.
    let info = sys::link_info(fd.as_fd()).ok().flatten();
    match info.filter(|info| info.attach_type == hook.attach_type) {
        Some(info) => Ok(Some(PinnedLink { fd, info })),
        None => Err(PinError::Foreign { path: path.to_owned() }),
    }
}

fn lock(root: &Path) -> Result<File, PinError> {
    let refused = |error| PinError::Refused { path: root.to_owned(), error };
    let folder = File::open(root).map_err(refused)?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => Err(PinError::InUse { path: root.to_owned() }),
        Err(TryLockError::Error(error)) => Err(refused(error)),
    }
}

/// Names in a folder; none where there is no folder.
fn entries(folder: &Path) -> Result<Vec<String>, PinError> {
    let refused = |error| PinError::Refused { path: folder.to_owned(), error };
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(refused(error)),
        Ok(entries) => entries
            .map(|entry| Ok(entry.map_err(refused)?.file_name().to_string_lossy().into_owned()))
            .collect(),
    }
}

/// What is not there need not be removed.
fn gone(result: io::Result<()>, path: &Path) -> Result<(), PinError> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(PinError::Refused { path: path.to_owned(), error })
        }
        _ => Ok(()),
    }
}
