//! Datagrams that are received and sent with one system call each: recvmmsg(2) and sendmmsg(2).
//!
//! A batch has slots: room for a query, for who sent it, and for its reply. The kernel is told of all of it by
//! pointers; [`Batch`] makes them anew for each call, from memory that it owns.

#![expect(unsafe_code, reason = "the edge to the kernel: system calls that no safe crate has")]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::{mem, ptr};

use libc::{c_int, c_uint, c_void, iovec, mmsghdr, socklen_t};

use super::peer::{Arrival, Name};
use crate::respond::Reply;

/// Queries of one call.
pub(super) const SIZE: usize = 32;
/// Octets of a query. What is longer is cut, and malformed then: clients may send what the server's OPT says
/// (RFC 6891 §6.2.5), which is less.
const QUERY: usize = 4096;
/// Octets that a reply has room for from the start: as many as most may have.
const REPLY: usize = 1232;
/// What a socket's memory is asked by (`asm-generic/socket.h`), and the numbers that the answer has (sock_diag(7)).
const SO_MEMINFO: c_int = 55;
const MEMINFO: usize = libc::SK_MEMINFO_DROPS as usize + 1;

/// What the kernel writes into. Aligned to lines of the cache, and no power of two in size: otherwise all slots would
/// compete for the same few lines.
#[repr(align(64))]
struct Slot {
    name: Name,
    arrival: Arrival,
    query: [u8; QUERY],
}

/// For how long a call waits for a first query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// As long as the socket does.
    Some,
    /// Not at all.
    None,
}

/// Queries and their replies.
pub(super) struct Batch {
    slots: Box<[Slot]>,
    replies: Box<[Reply]>,
    headers: Box<[mmsghdr]>,
    pieces: Box<[iovec]>,
    /// Slots that the next call may fill: about twice as many as the last one did, so that a server with little to do
    /// need not tell the kernel of all.
    room: usize,
    /// Slots with a query.
    received: usize,
    /// Slots with a reply, in order.
    answered: Vec<usize>,
    wildcard: bool,
}

impl Batch {
    /// `wildcard`: [`tell_arrival`] was called on its socket.
    pub(super) fn new(wildcard: bool) -> Self {
        let slot = || Slot { name: Name::NONE, arrival: Arrival::NONE, query: [0; QUERY] };
        let piece = iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: all of a mmsghdr is integers and pointers, and of both zero is a value.
        let header: mmsghdr = unsafe { mem::zeroed() };
        Self {
            slots: (0..SIZE).map(|_| slot()).collect(),
            replies: (0..SIZE).map(|_| Reply::with_capacity(REPLY)).collect(),
            headers: vec![header; SIZE].into(),
            pieces: vec![piece; SIZE].into(),
            room: 1,
            received: 0,
            answered: Vec::with_capacity(SIZE),
            wildcard,
        }
    }

    /// Waits for a query, and takes what else is there; how many.
    pub(super) fn receive(&mut self, socket: &UdpSocket, wait: Wait) -> io::Result<usize> {
        self.answered.clear();
        self.received = 0;
        for at in 0..self.room {
            self.prepare(at);
        }
        let (headers, len) = (self.headers.as_mut_ptr(), self.room as c_uint);
        let flags = if wait == Wait::None { libc::MSG_DONTWAIT } else { libc::MSG_WAITFORONE };
        // SAFETY: of the headers that many are prepared: they point to memory of ours, which lives longer than the call and is as
        // long as they say.
        let received =
            unsafe { libc::recvmmsg(socket.as_raw_fd(), headers, len, flags as _, ptr::null_mut()) };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        self.room = (2 * received).clamp(1, SIZE);
        self.received = received;
        Ok(received)
    }

    /// Makes header `at` that of a query to come.
    fn prepare(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        self.pieces[at] = iovec { iov_base: slot.query.as_mut_ptr().cast(), iov_len: QUERY };
        let header = &mut self.headers[at].msg_hdr;
        header.msg_name = ptr::from_mut(&mut slot.name).cast();
        header.msg_namelen = Name::LEN as socklen_t;
        header.msg_iov = &raw mut self.pieces[at];
        header.msg_iovlen = 1;
        header.msg_control = ptr::from_mut(&mut slot.arrival).cast();
        header.msg_controllen = if self.wildcard { Arrival::LEN as _ } else { 0 };
    }

    /// The received queries.
    pub(super) fn queries(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.received).map(|at| self.octets(at))
    }

    fn octets(&self, at: usize) -> &[u8] {
        &self.slots[at].query[..(self.headers[at].msg_len as usize).min(QUERY)]
    }

    /// A received query and who sent it; `None` for what no reply can be sent to.
    pub(super) fn query(&self, at: usize) -> Option<(&[u8], SocketAddr)> {
        Some((self.octets(at), self.slots[at].name.address()?))
    }

    /// Where the reply to a query goes, which [`Self::send`] sends.
    pub(super) fn reply(&mut self, at: usize) -> &mut Reply {
        self.answered.push(at);
        &mut self.replies[at]
    }

    /// Sends the replies. What can't be sent is lost, as datagrams are, and the client asks again; how many were lost.
    pub(super) fn send(&mut self, socket: &UdpSocket) -> usize {
        for to in 0..self.answered.len() {
            self.address(to);
        }
        let (mut next, mut lost) = (0, 0);
        while let waiting @ 1.. = self.answered.len() - next {
            let headers = self.headers[next..].as_mut_ptr();
            // SAFETY: `waiting` headers from `next` on point to memory of ours that lives longer than the call and is as long as
            // they say.
            let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers, waiting as c_uint, 0) };
            match usize::try_from(sent) {
                Ok(sent) => next += sent,
                Err(_) => match io::Error::last_os_error().kind() {
                    io::ErrorKind::Interrupted => {}
                    io::ErrorKind::WouldBlock => return lost + waiting,
                    // The first of them can't be sent, which says nothing about the others.
                    _ => (next, lost) = (next + 1, lost + 1),
                },
            }
        }
        lost
    }

    /// Makes header `to` that of a reply. Its query's header is the same or a later one: nothing that is still needed is lost.
    fn address(&mut self, to: usize) {
        let from = self.answered[to];
        let (slot, reply) = (&mut self.slots[from], &mut self.replies[from].octets);
        let control = if self.wildcard && slot.arrival.turn_round() {
            self.headers[from].msg_hdr.msg_controllen
        } else {
            0
        };
        let namelen = self.headers[from].msg_hdr.msg_namelen;
        self.pieces[to] = iovec { iov_base: reply.as_mut_ptr().cast(), iov_len: reply.len() };
        let header = &mut self.headers[to].msg_hdr;
        header.msg_name = ptr::from_mut(&mut slot.name).cast();
        header.msg_namelen = namelen;
        header.msg_iov = &raw mut self.pieces[to];
        header.msg_iovlen = 1;
        header.msg_control = ptr::from_mut(&mut slot.arrival).cast();
        header.msg_controllen = control;
    }
}

/// From now on the kernel says of each datagram at which address it arrived.
pub(super) fn tell_arrival(socket: &UdpSocket) -> io::Result<()> {
    let (level, option) = match socket.local_addr()? {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: c_int = 1;
    let (value, len) = (ptr::from_ref(&on).cast::<c_void>(), size_of_val(&on) as socklen_t);
    // SAFETY: the value lives longer than the call and is as long as it says.
    let failed = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, len) };
    if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Datagrams that the kernel had no room for, since the socket was made; wraps.
pub(super) fn dropped(socket: &UdpSocket) -> io::Result<u32> {
    let mut numbers = [0u32; MEMINFO];
    let mut len = size_of_val(&numbers) as socklen_t;
    let value = numbers.as_mut_ptr().cast::<c_void>();
    // SAFETY: the value lives longer than the call and is as long as it says.
    let failed =
        unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_MEMINFO, value, &raw mut len) };
    if failed == 0 { Ok(numbers[MEMINFO - 1]) } else { Err(io::Error::last_os_error()) }
}
