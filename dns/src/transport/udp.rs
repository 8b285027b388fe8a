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
use std::net::{SocketAddr, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socket2::SockRef;

use self::ahead::Ahead;
use self::batch::{Batch, SIZE, Wait};
use super::{Answerer, Follower, Outcome, Source};
use crate::metrics::{Metrics, Shard};
use crate::view::Transport;

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
/// Wait before a thread that a bug ended starts again: its clients wait, too, and each end leaves lines in the log.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
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

    /// Answers until `stop` is set, then what is already in the socket's queue. `shard` is this socket's alone.
    pub(crate) fn serve(
        &self,
        address: SocketAddr,
        source: &Arc<Source>,
        shard: &Arc<Shard>,
        stop: &AtomicBool,
    ) {
        keep(address, &source.metrics, stop, || Thread::new(self, source, shard).run(stop));
    }
}

/// Serves until `stop` is set. The kernel goes on to give the socket its share of the clients, whether anybody reads it or not:
/// so a thread that a bug ends is counted, told of and started again, as other listeners are.
fn keep(address: SocketAddr, metrics: &Metrics, stop: &AtomicBool, serve: impl Fn()) {
    // What a panic may leave half-done, `serve` makes anew.
    while catch_unwind(AssertUnwindSafe(&serve)).is_err() {
        metrics.count_panic();
        tracing::error!(%address, "a UDP thread ended by itself: starting it again");
        if stop.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(RESTART_PAUSE);
    }
}

/// What a thread keeps from turn to turn.
struct Thread<'a> {
    socket: &'a UdpSocket,
    batch: Batch,
    ahead: Ahead,
    follower: Follower,
    answerer: Answerer,
    shard: &'a Shard,
}

impl<'a> Thread<'a> {
    fn new(datagrams: &'a Datagrams, source: &Arc<Source>, shard: &'a Arc<Shard>) -> Self {
        Self {
            socket: &datagrams.socket,
            batch: Batch::new(datagrams.wildcard),
            ahead: Ahead::new(SIZE),
            follower: Follower::new(source.clone()),
            answerer: Answerer::new(source, shard.clone(), Transport::Udp),
            shard,
        }
    }

    /// Answers until `stop` is set, then what is already in the socket's queue.
    fn run(&mut self, stop: &AtomicBool) {
        let mut looked = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = self.turn(Wait::Some).unwrap_or_else(Instant::now);
            if now.saturating_duration_since(looked) >= LOOK {
                looked = now;
                self.look();
            }
        }
        for _ in 0..LAST_BATCHES {
            if self.turn(Wait::None).is_none() {
                break;
            }
        }
        self.look();
    }

    /// Answers a batch; `None` when nothing came, else when the last answer was ready.
    fn turn(&mut self, wait: Wait) -> Option<Instant> {
        let received = self.receive(wait);
        // Also when nothing came: an idle thread must not keep an old snapshot alive.
        let current = self.follower.current();
        if received == 0 {
            return None;
        }
        let mut now = Instant::now();
        self.ahead.read(&mut self.answerer, current.0, self.batch.queries());
        for at in 0..received {
            let Some((query, client)) = self.batch.query(at) else { continue };
            if let Outcome::Reply = self.answerer.answer(current, query, client, &mut now) {
                self.answerer.swap_reply(self.batch.reply(at));
            }
        }
        let lost = self.batch.send(self.socket);
        if lost > 0 {
            self.shard.unsent.fetch_add(lost as u64, Ordering::Relaxed);
        }
        Some(now)
    }

    /// How many queries came.
    fn receive(&mut self, wait: Wait) -> usize {
        self.batch.receive(self.socket, wait).unwrap_or_else(|error| {
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
        match batch::dropped(self.socket) {
            Ok(dropped) => {
                // Nobody else counts there: it is what the kernel had counted at the last look. The kernel's count goes round.
                let counted = self.shard.dropped.load(Ordering::Relaxed) as u32;
                self.shard.dropped.fetch_add(dropped.wrapping_sub(counted).into(), Ordering::Relaxed);
            }
            Err(error) => tracing::debug!(%error, "the kernel does not say what a UDP socket dropped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::super::tests::{panics, source};
    use super::*;
    use crate::metrics::Writers;

    #[test]
    fn a_thread_that_a_bug_ends_starts_again_and_is_counted() {
        let source = Arc::new(source());
        let datagrams = Datagrams::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let address = datagrams.socket.local_addr().unwrap();
        let shard = source.metrics.shard(Transport::Udp, address, Writers::One);
        let (stop, starts) = (AtomicBool::new(false), AtomicUsize::new(0));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let answered = std::thread::scope(|scope| {
            scope.spawn(|| {
                keep(address, &source.metrics, &stop, || {
                    assert!(starts.fetch_add(1, Ordering::Relaxed) > 0, "a bug");
                    Thread::new(&datagrams, &source, &shard).run(&stop);
                });
            });
            let query = b"\x07\x07\0\0\0\x01\0\0\0\0\0\0\x07example\0\0\x06\0\x01";
            client.send_to(query, address).unwrap();
            let answered = client.recv(&mut [0; 512]);
            stop.store(true, Ordering::Relaxed);
            answered
        });
        assert!(answered.is_ok(), "{answered:?}");
        assert_eq!(panics(&source), "1");
    }
}
