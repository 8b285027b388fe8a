//! DNS over UDP: plain threads with blocking sockets, each with a socket of its own that the kernel spreads clients
//! over (SO_REUSEPORT).
//!
//! A thread goes round in turns: take what waits in the socket's queue, a batch at most, answer each query from one
//! snapshot, send all replies with one call. Of more than it can answer the queue holds a part, which has a fixed size,
//! and the kernel drops the rest and counts it. So what is answered under overload is answered after some milliseconds at
//! most, and nothing grows.

mod ahead;
mod batch;
mod peer;

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;

use self::ahead::Ahead;
use self::batch::{Batch, SIZE, Wait};
use super::{Answerer, Follower, Outcome};
use crate::metrics::Shard;

/// A thread without queries looks this often whether it is to end.
const POLL: Duration = Duration::from_millis(100);
/// A network that takes no reply for so long has lost the rest of the batch.
const SEND_TIMEOUT: Duration = Duration::from_millis(10);
/// Octets that may wait for a thread, as the kernel counts them: nearly a thousand for a query, and twice of this. Some
/// thousand queries are answered in some ten milliseconds. The kernel's own limit is `net.core.rmem_max`.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Batches that a socket may still have in its queue when it ends: all that are answered then.
const LAST_BATCHES: usize = 256;
/// Wait after an error that may not go away by itself.
const ERROR_PAUSE: Duration = Duration::from_millis(10);
/// The kernel is asked this often what it dropped.
const LOOK: Duration = Duration::from_secs(1);

/// A bound socket, ready for a thread.
pub(crate) struct Datagrams {
    socket: UdpSocket,
    /// Whether it is told at which of the machine's addresses a query arrived.
    wildcard: bool,
}

impl Datagrams {
    /// Takes a bound socket. One that is bound to no address learns which one each query came to, to reply from
    /// there: resolvers take replies from nowhere else (RFC 2181 §4.1).
    pub(crate) fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(POLL))?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        // A smaller buffer does as well, for shorter bursts.
        if let Err(error) = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER) {
            tracing::debug!(%error, "the UDP receive buffer keeps its size");
        }
        let wildcard = socket.local_addr()?.ip().is_unspecified();
        if wildcard {
            batch::tell_arrival(&socket)?;
        }
        Ok(Self { socket, wildcard })
    }

    /// Answers until `stop` is set, then what is already in the socket's queue.
    pub(crate) fn serve(self, follower: Follower, answerer: Answerer, shard: Arc<Shard>, stop: &AtomicBool) {
        let (batch, ahead) = (Batch::new(self.wildcard), Ahead::new(SIZE));
        let mut thread = Thread { socket: self.socket, batch, ahead, follower, answerer, shard, dropped: 0 };
        let mut looked = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = thread.turn(Wait::Some).unwrap_or_else(Instant::now);
            if now.saturating_duration_since(looked) >= LOOK {
                looked = now;
                thread.look();
            }
        }
        for _ in 0..LAST_BATCHES {
            if thread.turn(Wait::None).is_none() {
                break;
            }
        }
        thread.look();
    }
}

/// What a thread keeps from turn to turn.
struct Thread {
    socket: UdpSocket,
    batch: Batch,
    ahead: Ahead,
    follower: Follower,
    answerer: Answerer,
    shard: Arc<Shard>,
    /// What the kernel had counted at the last look, which goes round.
    dropped: u32,
}

impl Thread {
    /// Answers a batch; `None` when nothing came, else when the last answer was ready.
    fn turn(&mut self, wait: Wait) -> Option<Instant> {
        let received = self.receive(wait);
        // Also when nothing came: an idle thread must not keep an old snapshot alive.
        let current = self.follower.current();
        if received == 0 {
            return None;
        }
        let mut now = Instant::now();
        self.ahead.read(current.0, self.batch.queries());
        for at in 0..received {
            let Some((query, client)) = self.batch.query(at) else { continue };
            if let Outcome::Reply = self.answerer.answer(current, query, client, &mut now) {
                self.answerer.swap_reply(self.batch.reply(at));
            }
        }
        let lost = self.batch.send(&self.socket);
        if lost > 0 {
            self.shard.unsent.fetch_add(lost as u64, Ordering::Relaxed);
        }
        Some(now)
    }

    /// How many queries came.
    fn receive(&mut self, wait: Wait) -> usize {
        self.batch.receive(&self.socket, wait).unwrap_or_else(|error| {
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
            0
        })
    }

    /// Takes over what the kernel counts.
    fn look(&mut self) {
        match batch::dropped(&self.socket) {
            Ok(dropped) => {
                let more = dropped.wrapping_sub(self.dropped);
                self.shard.dropped.fetch_add(more.into(), Ordering::Relaxed);
                self.dropped = dropped;
            }
            Err(error) => tracing::debug!(%error, "the kernel does not say what a UDP socket dropped"),
        }
    }
}
