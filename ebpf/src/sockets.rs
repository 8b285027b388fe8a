//! Connected UDP sockets whose backend is gone: nothing tells them, so they are closed (SOCK_DESTROY, sock_diag(7)): who waits
//! for an answer gets ECONNABORTED, who sends EDESTADDRREQ, and both connect again.
//!
//! Sockets are asked for in each network namespace that some process is in; which of them were redirected, and where, the program
//! has noted by their cookies. (sock_diag could tell what is stored at sockets, but does not for UDP.)
#![expect(unsafe_code, reason = "the edge to the kernel: netlink and namespaces")]

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use crate::abi::{Address, Origin};
use crate::connected::ConnectedSockets;
use crate::reconcile::Lost;

/// linux/sock_diag.h, linux/inet_diag.h, linux/netlink.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Of the states that one, as a bit: TCP_ESTABLISHED.
const CONNECTED: u32 = 1 << 1;
/// Octets of `nlmsghdr`, `inet_diag_sockid` and, before that, of `inet_diag_req_v2` and of `inet_diag_msg`.
const HEADER: usize = 16;
const SOCKET_ID: usize = 48;
const REQUEST: usize = 8;
const MESSAGE: usize = 4;

/// What came of closing sockets.
#[derive(Debug, Default)]
pub struct Closed {
    /// How many there were.
    pub sockets: usize,
    /// Namespaces that could not be looked into.
    pub failed: usize,
    /// Why of the first one.
    pub why: Option<io::Error>,
}

/// Closes all connected UDP sockets that were redirected to a backend that is lost. `find` says, by its cookie,
/// where a socket wanted to go and went. It may take as long as there are sockets: not for a thread that others wait for.
pub fn close(lost: &[Lost], find: &(dyn Fn(u64) -> Option<Origin> + Sync)) -> Closed {
    let mut dead: Dead = HashMap::new();
    for lost in lost {
        let vips = lost.vips.iter().map(|vip| (Address::from(*vip), lost.port));
        dead.entry(lost.backend).or_default().extend(vips);
    }
    let Looked { found, failed, why } = look(&|netlink| close_in(netlink, &dead, find));
    Closed { sockets: found.into_iter().sum(), failed, why }
}

/// Forgets what was noted of sockets that are no more, for nobody saw them being closed: how many. What is forgotten of one that is
/// there makes it see its backend instead of the virtual IP: so nothing is forgotten while not all processes of the node can be seen,
/// or a namespace can't be looked into.
pub fn forget_gone(connected: &ConnectedSockets) -> io::Result<usize> {
    if !sees_the_node() {
        return Ok(0);
    }
    // First what was noted: whatever connects from now on is not asked for, or noted anew.
    let noted = connected.all();
    if noted.is_empty() {
        return Ok(0);
    }
    let mut there = HashSet::new();
    // A list that changes while it is read may lack some.
    for _ in 0..2 {
        let Looked { found, why, .. } = look(&cookies_in);
        if let Some(why) = why {
            return Err(why);
        }
        there.extend(found.into_iter().flatten());
    }
    let gone = noted.into_iter().filter(|(cookie, _)| !there.contains(cookie));
    Ok(gone.filter(|(cookie, origin)| connected.forget(*cookie, origin)).count())
}

/// Whether `/proc` shows all processes: this is the first PID namespace, whose number the kernel has fixed (`PROC_PID_INIT_INO`).
fn sees_the_node() -> bool {
    const FIRST: u64 = 0xefff_fffc;
    fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.ino() == FIRST)
}

/// What came of looking into every network namespace that a process is in.
struct Looked<T> {
    found: Vec<T>,
    failed: usize,
    why: Option<io::Error>,
}

fn look<T: Send>(look: &(dyn Fn(&Netlink) -> io::Result<T> + Sync)) -> Looked<T> {
    let Namespaces { open, denied } = namespaces();
    let mut looked = Looked { found: Vec::new(), failed: denied.len(), why: denied.into_values().next() };
    for namespace in open.into_values() {
        // Entering a namespace changes the thread: one that ends with it.
        let enter = || enter(&namespace).and_then(|netlink| look(&netlink));
        let result = std::thread::scope(|scope| scope.spawn(enter).join());
        match result.unwrap_or_else(|_| Err(io::Error::other("the thread panicked"))) {
            Ok(found) => looked.found.push(found),
            Err(error) => {
                looked.failed += 1;
                looked.why.get_or_insert(error);
            }
        }
    }
    looked
}

/// Network namespaces, by what tells them apart.
#[derive(Debug)]
struct Namespaces<T> {
    open: HashMap<u64, T>,
    /// Those that no process leads into.
    denied: HashMap<u64, io::Error>,
}

impl<T> Namespaces<T> {
    /// By one process that is in it.
    fn add(&mut self, namespace: u64, open: impl FnOnce() -> io::Result<T>) {
        if self.open.contains_key(&namespace) {
            return;
        }
        match open() {
            Ok(opened) => {
                self.denied.remove(&namespace);
                self.open.insert(namespace, opened);
            }
            // Processes come and go meanwhile.
            Err(error) if has_ended(&error) => {}
            Err(error) => {
                self.denied.entry(namespace).or_insert(error);
            }
        }
    }
}

fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// Every network namespace that a process is in.
fn namespaces() -> Namespaces<File> {
    let mut found = Namespaces { open: HashMap::new(), denied: HashMap::new() };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        if !process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // Each namespace has files of its own, which everybody may see; who may not enter it by this process may by another one.
        match fs::metadata(process.path().join("net/dev")) {
            Ok(its) => found.add(its.ino(), || File::open(process.path().join("ns/net"))),
            Err(error) => found.add(0, || Err(error)),
        }
    }
    found
}

type Dead = HashMap<(IpAddr, u16), Vec<(Address, u16)>>;

const FAMILIES: [u8; 2] = [libc::AF_INET as u8, libc::AF_INET6 as u8];

/// Has this thread be in a namespace, for good.
fn enter(namespace: &File) -> io::Result<Netlink> {
    // SAFETY: the descriptor is that of a namespace, and this thread ends after this.
    if unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Netlink::open()
}

/// Cookies of all UDP sockets.
fn cookies_in(netlink: &Netlink) -> io::Result<Vec<u64>> {
    let mut cookies = Vec::new();
    for family in FAMILIES {
        cookies.extend(netlink.sockets(family, u32::MAX)?.into_iter().map(|socket| socket.cookie));
    }
    Ok(cookies)
}

fn close_in(
    netlink: &Netlink,
    dead: &Dead,
    find: &(dyn Fn(u64) -> Option<Origin> + Sync),
) -> io::Result<usize> {
    let mut count = 0;
    for family in FAMILIES {
        for socket in netlink.sockets(family, CONNECTED)? {
            if !dead.contains_key(&socket.peer) {
                continue;
            }
            let Some(origin) = find(socket.cookie) else { continue };
            let went = (IpAddr::from(origin.backend), u16::from(origin.backend_port));
            let wanted = (origin.vip, origin.vip_port.into());
            // One that went elsewhere since is none of ours.
            let is_lost = went == socket.peer && dead.get(&went).is_some_and(|vips| vips.contains(&wanted));
            if is_lost && netlink.destroy(family, &socket.id)? {
                count += 1;
            }
        }
    }
    Ok(count)
}

/// A UDP socket.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    peer: (IpAddr, u16),
    cookie: u64,
    /// `inet_diag_sockid`, as the kernel wants it back.
    id: [u8; SOCKET_ID],
}

/// A conversation with sock_diag.
struct Netlink(OwnedFd);

impl Netlink {
    fn open() -> io::Result<Self> {
        // SAFETY: it makes a descriptor, and nothing else.
        let fd = unsafe {
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Those in these states.
    fn sockets(&self, family: u8, states: u32) -> io::Result<Vec<Socket>> {
        let request = request(family, states, &[0; SOCKET_ID]);
        self.send(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, &request)?;
        let mut sockets = Vec::new();
        loop {
            if let Some(end) = read_part(family, &self.receive()?, &mut sockets) {
                return end.map(|()| sockets);
            }
        }
    }

    /// Whether it was there.
    fn destroy(&self, family: u8, id: &[u8; SOCKET_ID]) -> io::Result<bool> {
        self.send(SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK, &request(family, CONNECTED, id))?;
        let octets = self.receive()?;
        let answer = messages(&octets).into_iter().find(|(kind, _)| *kind == NLMSG_ERROR);
        match answer.map_or(Ok(()), |(_, body)| result_of(body)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            result => result.map(|()| true),
        }
    }

    fn send(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let mut octets = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        octets.extend(kind.to_ne_bytes());
        octets.extend(flags.to_ne_bytes());
        octets.extend([0; 8]);
        octets.extend(body);
        // SAFETY: the buffer is as long as it is said to be.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), octets.as_ptr().cast(), octets.len(), 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; 32 * 1024];
        // SAFETY: the buffer is as long as it is said to be.
        let got = unsafe { libc::recv(self.0.as_raw_fd(), octets.as_mut_ptr().cast(), octets.len(), 0) };
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        octets.truncate(got as usize);
        Ok(octets)
    }
}

/// `inet_diag_req_v2`.
fn request(family: u8, states: u32, id: &[u8; SOCKET_ID]) -> Vec<u8> {
    let mut body = Vec::with_capacity(REQUEST + SOCKET_ID);
    body.extend([family, libc::IPPROTO_UDP as u8, 0, 0]);
    body.extend(states.to_ne_bytes());
    body.extend(id);
    body
}

/// Adds the sockets of a part of a list; `Some`: it ends there. A list that can't be made, where the kernel has no `udp_diag`, ends at once
/// with an error of its own.
fn read_part(family: u8, octets: &[u8], sockets: &mut Vec<Socket>) -> Option<io::Result<()>> {
    for (kind, body) in messages(octets) {
        match kind {
            NLMSG_DONE | NLMSG_ERROR => return Some(result_of(body)),
            _ => sockets.extend(socket(family, body)),
        }
    }
    None
}

/// Type and body of each message.
fn messages(mut octets: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some(header) = octets.get(..HEADER) {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        let Some(body) = octets.get(HEADER..length) else { break };
        found.push((kind, body));
        // NLMSG_ALIGN
        octets = octets.get((length + 3) & !3..).unwrap_or_default();
    }
    found
}

/// What it takes to list and to close sockets where that failed so.
pub fn needs(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "the kernel needs CONFIG_INET_UDP_DIAG, and its module udp_diag loaded",
        Some(libc::EOPNOTSUPP) => "the kernel needs CONFIG_INET_DIAG_DESTROY",
        _ => "it needs hostPID and the capabilities SYS_ADMIN and SYS_PTRACE",
    }
}

/// `nlmsgerr`: the negative error, 0 for none.
fn result_of(body: &[u8]) -> io::Result<()> {
    let code = body.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.saturating_neg())) }
}

/// `inet_diag_msg`: family and state, then the socket's id: ports, addresses, interface, cookie.
fn socket(family: u8, body: &[u8]) -> Option<Socket> {
    let id: [u8; SOCKET_ID] = body.get(MESSAGE..MESSAGE + SOCKET_ID)?.try_into().ok()?;
    let port = u16::from_be_bytes([id[2], id[3]]);
    let octets: [u8; 16] = id[20..36].try_into().ok()?;
    let address = if i32::from(family) == libc::AF_INET {
        IpAddr::from([octets[0], octets[1], octets[2], octets[3]])
    } else {
        IpAddr::from(octets).to_canonical()
    };
    let half = |at: usize| u32::from_ne_bytes([id[at], id[at + 1], id[at + 2], id[at + 3]]);
    let cookie = u64::from(half(44)) << 32 | u64::from(half(40));
    Some(Socket { peer: (address, port), cookie, id })
}

#[cfg(test)]
mod tests;
