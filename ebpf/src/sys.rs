//! The system calls that aya has none for: memory of array maps, links of cgroups, what is attached.
#![expect(unsafe_code, reason = "the edge to the kernel")]

use std::ffi::{CString, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// `enum bpf_cmd` (include/uapi/linux/bpf.h).
const BPF_OBJ_PIN: c_int = 6;
const BPF_OBJ_GET: c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: c_int = 15;
const BPF_PROG_QUERY: c_int = 16;
const BPF_LINK_UPDATE: c_int = 29;
/// More programs than one cgroup can have.
const MOST_PROGRAMS: usize = 64;

/// The elements of an array map (BPF_F_MMAPABLE), as words in memory.
#[derive(Debug)]
pub(crate) struct Words {
    first: *mut AtomicU64,
    count: usize,
}

// SAFETY: it is memory that belongs to nobody, and all access to it is atomic.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// Of a map of so many words. The map stays as long as this.
    pub(crate) fn of(map: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping, wherever the kernel puts it; nothing that exists is touched.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), count * 8, protection, libc::MAP_SHARED, map.as_raw_fd(), 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { first: address.cast(), count })
    }
}

impl std::ops::Deref for Words {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping has so many words, is page-aligned, initialized by the kernel and lives as long as `self`; programs
        // write to it atomically.
        unsafe { std::slice::from_raw_parts(self.first, self.count) }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the mapping of `of`, which nobody borrows any more.
        unsafe { libc::munmap(self.first.cast(), self.count * 8) };
    }
}

/// What a link of a cgroup is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    pub(crate) program: u32,
    /// 0: the cgroup is gone.
    pub(crate) cgroup: u64,
    pub(crate) attach_type: u32,
}

/// `BPF_LINK_TYPE_CGROUP`.
const LINK_TYPE_CGROUP: u32 = 3;

/// Attributes of BPF_OBJ_PIN and BPF_OBJ_GET.
#[repr(C)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Pins a link or a map there.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let fd = object.as_raw_fd() as u32;
    bpf(BPF_OBJ_PIN, &mut Pin { path: path.as_ptr() as u64, fd, flags: 0 }).map(drop)
}

/// What is pinned there.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let mut attributes = Pin { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    let fd = bpf(BPF_OBJ_GET, &mut attributes)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `None`: it is no link of a cgroup.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<Option<LinkInfo>> {
    // struct bpf_link_info: type, id, prog_id, padding, then of a cgroup its id and the attach type.
    let info = information(link)?;
    let cgroup = u64::from(info[5]) << 32 | u64::from(info[4]);
    let cgroup = if cfg!(target_endian = "big") { cgroup.rotate_left(32) } else { cgroup };
    Ok((info[0] == LINK_TYPE_CGROUP).then_some(LinkInfo { program: info[2], cgroup, attach_type: info[6] }))
}

/// What a map is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MapShape {
    /// `enum bpf_map_type`.
    pub(crate) kind: u32,
    /// Octets.
    pub(crate) key: u32,
    /// Octets.
    pub(crate) value: u32,
    /// Most elements.
    pub(crate) entries: u32,
}

/// Of what is no map it is nonsense.
pub(crate) fn map_shape(map: BorrowedFd<'_>) -> io::Result<MapShape> {
    // struct bpf_map_info: type, id, key_size, value_size, max_entries.
    let info = information(map)?;
    Ok(MapShape { kind: info[0], key: info[2], value: info[3], entries: info[4] })
}

/// `struct bpf_*_info` of whatever it is.
fn information(object: BorrowedFd<'_>) -> io::Result<[u32; 32]> {
    #[repr(C)]
    struct Attributes {
        fd: u32,
        length: u32,
        info: u64,
    }
    let mut info = [0_u32; 32];
    let mut attributes = Attributes {
        fd: object.as_raw_fd() as u32,
        length: size_of_val(&info) as u32,
        info: info.as_mut_ptr() as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(info)
}

/// Has a link run another program from now on, without a gap.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        link: u32,
        program: u32,
        flags: u32,
        old_program: u32,
    }
    let (link, program) = (link.as_raw_fd() as u32, program.as_raw_fd() as u32);
    bpf(BPF_LINK_UPDATE, &mut Attributes { link, program, flags: 0, old_program: 0 }).map(drop)
}

/// Programs that are attached to a cgroup itself, in the order in which they run.
pub(crate) fn attached(cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<Vec<u32>> {
    #[repr(C)]
    struct Attributes {
        cgroup: u32,
        attach_type: u32,
        flags: u32,
        attach_flags: u32,
        programs: u64,
        count: u32,
        padding: u32,
        program_flags: u64,
        links: u64,
        link_flags: u64,
        revision: u64,
    }
    let mut programs = [0_u32; MOST_PROGRAMS];
    let mut attributes = Attributes {
        cgroup: cgroup.as_raw_fd() as u32,
        attach_type,
        flags: 0,
        attach_flags: 0,
        programs: programs.as_mut_ptr() as u64,
        count: programs.len() as u32,
        padding: 0,
        program_flags: 0,
        links: 0,
        link_flags: 0,
        revision: 0,
    };
    bpf(BPF_PROG_QUERY, &mut attributes)?;
    Ok(programs.into_iter().take(attributes.count as usize).collect())
}

/// The system call. Structs of one command's attributes, whose pointers lead to what outlives the call.
fn bpf<T>(command: c_int, attributes: &mut T) -> io::Result<c_int> {
    let pointer: *mut T = attributes;
    // SAFETY: the struct is as `union bpf_attr` has it for this command, and the kernel reads no more of it than its size.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as c_int) }
}

/// Waits until something can be read, but not longer than this.
pub(crate) fn wait(fd: BorrowedFd<'_>, most: Duration) -> io::Result<()> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let most = c_int::try_from(most.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: one struct, which is ours.
    let result = unsafe { libc::poll(&raw mut poll, 1, most) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether a folder is on a BPF file system.
pub(crate) fn is_bpffs(folder: impl AsFd) -> io::Result<bool> {
    const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
    Ok(file_system(folder)? == BPF_FS_MAGIC)
}

/// Whether a folder is a cgroup of version 2.
pub(crate) fn is_cgroup2(folder: impl AsFd) -> io::Result<bool> {
    const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;
    Ok(file_system(folder)? == CGROUP2_SUPER_MAGIC)
}

fn file_system(folder: impl AsFd) -> io::Result<u64> {
    // SAFETY: all octets 0 is a value of this C struct.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, and the struct is ours.
    let result = unsafe { libc::fstatfs(folder.as_fd().as_raw_fd(), &raw mut found) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(found.f_type as u32 as u64) }
}
