//! DNS over UDP: plain threads with blocking sockets, each with a socket of its own that the kernel spreads clients
//! over (SO_REUSEPORT).
//!
//! [`serve`] is the loop and knows nothing of sockets but [`Datagrams`]: how datagrams are received and sent, one by
//! one or in batches, is decided there.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Answerer, Follower, Outcome};

/// Longest datagram.
const MAX_DATAGRAM: usize = 65_535;
/// A thread without queries looks this often whether it is to end.
const POLL: Duration = Duration::from_millis(100);
/// Datagrams that a socket may still have in its queue when it ends: all that are answered then.
const LAST_DATAGRAMS: usize = 4096;
/// Wait after an error that may not go away by itself.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Answers until `stop` is set, then what is already in the socket's queue.
pub(crate) fn serve(
    socket: &mut Datagrams,
    follower: &mut Follower,
    answerer: &mut Answerer,
    stop: &AtomicBool,
) {
    while !stop.load(Ordering::Relaxed) {
        turn(socket, follower, answerer);
    }
    socket.stop_waiting();
    for _ in 0..LAST_DATAGRAMS {
        if !turn(socket, follower, answerer) {
            break;
        }
    }
}

/// Answers a query; `false` when none came.
fn turn(socket: &mut Datagrams, follower: &mut Follower, answerer: &mut Answerer) -> bool {
    let received = socket.receive();
    // Also when nothing came: an idle thread must not keep an old snapshot alive.
    let current = follower.current();
    let Some((len, client)) = received else {
        return false;
    };
    if let Outcome::Reply = answerer.answer(current, &socket.buffer[..len], client) {
        socket.send(answerer.reply(), client);
    }
    true
}

/// A bound socket and the buffer that it receives into.
pub(crate) struct Datagrams {
    socket: UdpSocket,
    buffer: Box<[u8]>,
}

impl Datagrams {
    /// Takes a bound socket, blocking.
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(POLL))?;
        Ok(Self { socket, buffer: vec![0; MAX_DATAGRAM].into() })
    }

    /// From now on receiving returns at once.
    fn stop_waiting(&self) {
        if let Err(error) = self.socket.set_nonblocking(true) {
            tracing::debug!(%error, "a UDP socket can't be made non-blocking");
        }
    }

    /// Waits for a datagram, not for long; its length in the buffer and whom to reply to.
    fn receive(&mut self) -> Option<(usize, SocketAddr)> {
        match self.socket.recv_from(&mut self.buffer) {
            Ok(received) => Some(received),
            Err(error) => {
                // An ICMP error of an earlier reply comes back here, and says nothing about the socket.
                let harmless = [
                    ErrorKind::WouldBlock,
                    ErrorKind::TimedOut,
                    ErrorKind::Interrupted,
                    ErrorKind::ConnectionRefused,
                    ErrorKind::ConnectionReset,
                    ErrorKind::HostUnreachable,
                    ErrorKind::NetworkUnreachable,
                ];
                if !harmless.contains(&error.kind()) {
                    tracing::warn!(%error, "receiving from a UDP socket failed, trying again");
                    std::thread::sleep(ERROR_PAUSE);
                }
                None
            }
        }
    }

    /// A reply that can't be sent is lost, as datagrams are: the client asks again.
    fn send(&self, reply: &[u8], client: SocketAddr) {
        if let Err(error) = self.socket.send_to(reply, client) {
            tracing::trace!(%error, %client, "reply lost");
        }
    }
}
