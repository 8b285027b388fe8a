//! Datagrams back to where they came from: the kernel's part of an answer, which no server can do without.
#![expect(unsafe_code, reason = "recvmmsg(2) and sendmmsg(2)")]

use std::mem::{MaybeUninit, zeroed};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use super::{Launch, Place, myself};
use crate::zone::Zone;

const BATCH: usize = 64;
const LONGEST: usize = 512;

pub fn prepare(_: &Zone, _: &Place) -> Result<Launch, String> {
    myself("echo")
}

/// Swaps the bit that tells queries and replies apart (QR, RFC 1035 §4.1.1), and nothing else.
pub fn serve(at: SocketAddr) -> ! {
    let socket = UdpSocket::bind(at).unwrap();
    let mut buffers = [[0_u8; LONGEST]; BATCH];
    let mut names = [const { MaybeUninit::<libc::sockaddr_storage>::uninit() }; BATCH];
    // SAFETY: all of both are integers and pointers, for which zero is a value.
    let (mut parts, mut messages): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) =
        unsafe { (zeroed(), zeroed()) };
    loop {
        for at in 0..BATCH {
            parts[at] = libc::iovec { iov_base: buffers[at].as_mut_ptr().cast(), iov_len: LONGEST };
            messages[at].msg_hdr.msg_iov = &raw mut parts[at];
            messages[at].msg_hdr.msg_iovlen = 1;
            messages[at].msg_hdr.msg_name = names[at].as_mut_ptr().cast();
            messages[at].msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as u32;
        }
        // SAFETY: the headers point at buffers and names that live as long as this function.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_WAITFORONE,
                std::ptr::null_mut(),
            )
        };
        let got = usize::try_from(got).unwrap_or(0);
        for at in 0..got {
            parts[at].iov_len = messages[at].msg_len as usize;
            buffers[at][2] ^= 0x80;
        }
        let mut sent = 0;
        while sent < got {
            // SAFETY: as above; the kernel has filled in so many.
            let done = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), messages[sent..got].as_mut_ptr(), (got - sent) as u32, 0)
            };
            sent += usize::try_from(done).unwrap_or(0).max(1);
        }
    }
}
