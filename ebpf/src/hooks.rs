//! Programs on a cgroup: attached by links that are pinned, so that redirection goes on without an agent, and replaced without
//! a gap by the next one.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, Program, ProgramError, loaded_programs};

use crate::error::chain;
use crate::pins::{PinError, Pins};
use crate::sys::{self, LinkInfo};

/// A place in the kernel where a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// As its section in the object has it.
    pub name: &'static str,
    /// The program.
    pub(crate) program: &'static str,
    /// `enum bpf_attach_type`.
    pub(crate) attach_type: u32,
}

impl Hook {
    /// Whether programs there decide where connections go: who else is there redirects them, and who only looks on is elsewhere.
    pub(crate) fn redirects(&self) -> bool {
        ["connect", "sendmsg"].iter().any(|hook| self.name.starts_with(hook))
    }
}

/// All of them. Those that show the virtual IP come first: nothing is redirected before it would be shown.
pub const HOOKS: [Hook; 9] = [
    Hook { name: "sock_release", program: "portolan_sock_release", attach_type: 34 },
    Hook { name: "getpeername4", program: "portolan_getpeername4", attach_type: 29 },
    Hook { name: "getpeername6", program: "portolan_getpeername6", attach_type: 30 },
    Hook { name: "recvmsg4", program: "portolan_recvmsg4", attach_type: 19 },
    Hook { name: "recvmsg6", program: "portolan_recvmsg6", attach_type: 20 },
    Hook { name: "sendmsg4", program: "portolan_sendmsg4", attach_type: 14 },
    Hook { name: "sendmsg6", program: "portolan_sendmsg6", attach_type: 15 },
    Hook { name: "connect4", program: "portolan_connect4", attach_type: 10 },
    Hook { name: "connect6", program: "portolan_connect6", attach_type: 11 },
];

/// Why programs are not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// There is no such folder.
    #[error("cgroup {path} can't be opened: {error}; cgroup2 is mounted at {mounted}")]
    NoCgroup {
        /// As configured.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
        /// Where there are some.
        mounted: String,
    },
    /// It is no cgroup, or one of version 1.
    #[error("{path} is no cgroup of version 2; cgroup2 is mounted at {mounted}")]
    NotCgroup2 {
        /// As configured.
        path: PathBuf,
        /// Where there are some.
        mounted: String,
    },
    /// There is no cgroup2 at all.
    #[error(
        "cgroup2 is not mounted: boot with cgroup v2, or mount it (mount -t cgroup2 none /sys/fs/cgroup/unified) and name it as `agent.cgroup`"
    )]
    NoneMounted,
    /// The kernel refuses.
    #[error("hook {hook} can't be attached to {path}: {why}")]
    Refused {
        /// Which.
        hook: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// What it says.
        why: String,
    },
    /// The pins are not in order.
    #[error(transparent)]
    Pin(#[from] PinError),
}

/// What became of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// Nothing was there.
    New,
    /// The program of a former agent was replaced.
    Replaced,
    /// That of an agent of this lower ABI.
    Migrated(u32),
}

/// A cgroup that sockets' processes are in.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    folder: File,
    id: u64,
}

impl Cgroup {
    /// The one at a path; without one the root, wherever it is mounted.
    pub fn open(path: Option<&Path>) -> Result<Self, AttachError> {
        let mounts = mounts();
        let path = match path {
            Some(path) => path.to_owned(),
            None => mounts.first().cloned().ok_or(AttachError::NoneMounted)?,
        };
        let list: Vec<_> = mounts.iter().map(|mount| mount.display().to_string()).collect();
        let mounted = if list.is_empty() { "no place".to_owned() } else { list.join(", ") };
        let no_cgroup = |error| AttachError::NoCgroup { path: path.clone(), error, mounted: mounted.clone() };
        let folder = File::open(&path).map_err(no_cgroup)?;
        if !sys::is_cgroup2(&folder).map_err(no_cgroup)? {
            return Err(AttachError::NotCgroup2 { path, mounted });
        }
        let id = folder.metadata().map_err(no_cgroup)?.ino();
        Ok(Self { path, folder, id })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is still the one at its path: one that was removed and made anew is another.
    pub fn is_there(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.id)
    }

    /// Programs that are attached here to these of our hooks, but for those of these ids. `None`: it can't be known, for one because the
    /// cgroup is gone.
    pub(crate) fn others(&self, ours: &[u32], of_hooks: impl Fn(&Hook) -> bool) -> Option<Vec<u32>> {
        let of = |hook: &Hook| sys::attached(self.folder.as_fd(), hook.attach_type).ok();
        let found: Vec<Vec<u32>> = HOOKS.iter().filter(|hook| of_hooks(hook)).filter_map(of).collect();
        (!found.is_empty()).then(|| found.into_iter().flatten().filter(|id| !ours.contains(id)).collect())
    }
}

/// Names of programs, but for those of agents. Only who has the capability SYS_ADMIN may know them: without it, a program is named
/// by its id, see [`is_unnamed`].
pub(crate) fn names(programs: &[u32]) -> Vec<String> {
    if programs.is_empty() {
        return Vec::new();
    }
    let all = loaded_programs().filter_map(Result::ok);
    let known: HashMap<u32, String> =
        all.filter_map(|program| Some((program.id(), program.name_as_str()?.to_owned()))).collect();
    let names = programs.iter().map(|id| known.get(id).cloned().unwrap_or_else(|| format!("{UNNAMED}{id}")));
    let mut names: Vec<String> = names.filter(|name| !name.starts_with("portolan_")).collect();
    names.sort();
    names.dedup();
    names
}

const UNNAMED: &str = "program-";

/// Whether that is what a program is called whose name can't be known.
pub fn is_unnamed(name: &str) -> bool {
    name.strip_prefix(UNNAMED).is_some_and(|id| id.bytes().all(|octet| octet.is_ascii_digit()))
}

/// Where cgroup2 is mounted, in the order of the mounts.
fn mounts() -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    // proc(5): blanks in paths are written as \040.
    fields.filter(|f| f.get(2) == Some(&"cgroup2")).map(|f| f[1].replace("\\040", " ").into()).collect()
}

/// A program on a cgroup, for as long as this is held, or pinned.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) hook: Hook,
    pub(crate) fd: OwnedFd,
    pub(crate) became: Became,
}

impl Link {
    /// Whether it is on this cgroup still: one that is removed takes it along, and whoever may can detach it.
    pub(crate) fn is_on(&self, cgroup: &Cgroup) -> bool {
        self.now().is_some_and(|now| now.cgroup == cgroup.id)
    }

    /// Its program's id.
    pub(crate) fn program(&self) -> Option<u32> {
        self.now().map(|now| now.program)
    }

    fn now(&self) -> Option<LinkInfo> {
        sys::link_info(self.fd.as_fd()).ok().flatten()
    }
}

/// Attaches all programs, or has them replace those that are there.
pub(crate) fn attach(programs: &mut Ebpf, pins: &Pins, cgroup: &Cgroup) -> Result<Vec<Link>, AttachError> {
    HOOKS.into_iter().map(|hook| attach_one(programs, pins, cgroup, hook)).collect()
}

fn attach_one(programs: &mut Ebpf, pins: &Pins, cgroup: &Cgroup, hook: Hook) -> Result<Link, AttachError> {
    let refused = |why: String| AttachError::Refused { hook: hook.name, path: cgroup.path.clone(), why };
    let program = programs.program_mut(hook.program).ok_or_else(|| refused("no such program".to_owned()))?;
    if let Some(link) = pins.link(hook)? {
        if link.info.cgroup == cgroup.id {
            let fd = program.fd().map_err(|error| refused(chain(&error)))?;
            sys::update_link(link.fd.as_fd(), fd.as_fd()).map_err(|error| refused(error.to_string()))?;
            return Ok(Link { hook, fd: link.fd, became: Became::Replaced });
        }
        // Of another cgroup, or of one that is gone.
        pins.unlink(hook)?;
    }
    if let Some((abi, link)) = pins.former_link(hook)?.filter(|(_, link)| link.info.cgroup == cgroup.id) {
        let fd = program.fd().map_err(|error| refused(chain(&error)))?;
        sys::update_link(link.fd.as_fd(), fd.as_fd()).map_err(|error| refused(error.to_string()))?;
        pins.take_link_over(abi, hook)?;
        return Ok(Link { hook, fd: link.fd, became: Became::Migrated(abi) });
    }
    let others =
        |error: ProgramError| match names(&cgroup.others(&[], |its| *its == hook).unwrap_or_default()) {
            others if others.is_empty() => refused(chain(&error)),
            others => refused(format!(
                "{}; {} may be there in a way that lets nobody in: `bpftool cgroup show` tells the flags",
                chain(&error),
                others.join(" ")
            )),
        };
    let link = attach_new(program, cgroup).map_err(others)?;
    link.pin(pins.link_path(hook)).map_err(|error| refused(chain(&error)))?;
    let link = pins.link(hook)?.ok_or_else(|| refused("its pin is gone already".to_owned()))?;
    Ok(Link { hook, fd: link.fd, became: Became::New })
}

/// A link of its own: other programs may be there, too.
fn attach_new(program: &mut Program, cgroup: &Cgroup) -> Result<FdLink, ProgramError> {
    let mode = CgroupAttachMode::Single;
    let without_links = |_| ProgramError::NotAttached;
    match program {
        Program::CgroupSockAddr(program) => {
            let id = program.attach(&cgroup.folder, mode)?;
            program.take_link(id)?.try_into().map_err(without_links)
        }
        Program::CgroupSock(program) => {
            let id = program.attach(&cgroup.folder, mode)?;
            program.take_link(id)?.try_into().map_err(without_links)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}
