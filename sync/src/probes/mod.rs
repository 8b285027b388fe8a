//! Whether endpoints and gateways answer, and how fast: asked from here, over and over, by TCP, HTTP(S) or gRPC.
//!
//! ```text
//! set(targets) ──► scheduler (who is due, budget) ──► probes in flight ──► verdicts ──► changes, in batches
//! ```
//!
//! One task schedules, and one carries out each probe that is under way: a target that waits for its turn costs memory
//! only. Who is not known yet counts as healthy until as many probes in a row failed as make it unhealthy, so that a
//! start, or an endpoint that comes, never empties an answer.
//!
//! Targets are not trusted. Whatever one does, a probe ends in its time and reads no more than [`MOST_READ`] bytes. What
//! goes wrong on this machine is not held against them: see [`Verdict::error`].

mod attempt;
mod bounded;
mod grpc;
mod http;
mod running;
mod schedule;
mod tls;
mod verdict;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::hash::Hash;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ::http::uri::{Authority, PathAndQuery};
use tokio::runtime::Handle;
use tokio::sync::watch;

pub use bounded::MOST_READ;
pub use verdict::Verdict;
pub(crate) use verdict::differ;

use attempt::Attempts;
use running::Running;
use verdict::Board;

/// How something is asked, and what is made of its answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Probe {
    /// What is asked.
    pub kind: Kind,
    /// From the start of one probe to that of the next; each time a tenth more or less, by chance.
    pub interval: Duration,
    /// For the whole of one probe: to connect, to ask and to read the answer.
    pub timeout: Duration,
    /// So many successes in a row make healthy what was not; 0 counts as 1.
    pub rise: u32,
    /// So many failures in a row make unhealthy what was healthy, or unknown; 0 counts as 1.
    pub fall: u32,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Whether it accepts a connection.
    Tcp,
    /// Whether a GET is answered as expected. A redirection is an answer like others, and not followed: it may lead to
    /// where the target must not be able to send us.
    Http {
        /// HTTPS. As by kubelet, certificates are not verified: they are for names, and what is asked is whether this
        /// address answers.
        tls: bool,
        /// What is asked for.
        path: PathAndQuery,
        /// For the header `Host` and the name in TLS (SNI), where it is not the address.
        host: Option<Authority>,
        /// Expected status codes.
        status: RangeInclusive<u16>,
        /// What the first 64 KiB of the answer's body must contain.
        body: Option<String>,
    },
    /// Whether the standard service `grpc.health.v1.Health` says that this service is SERVING; empty for the server as
    /// a whole.
    Grpc {
        /// gRPC over TLS. Certificates are not verified.
        tls: bool,
        /// As the server names it.
        service: String,
    },
}

/// What is asked, and how. Equal ones are probed once, however many services use them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Where it is.
    pub address: SocketAddr,
    /// How it is asked.
    pub probe: Arc<Probe>,
}

/// What all probes together may cost. Where it does not suffice, all targets are probed less often, the one that waits
/// longest first; nothing queues up.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Probes that begin, in the long run; a tenth of it may begin at once.
    pub per_second: NonZeroU32,
    /// Probes under way: each has a socket. With targets that never answer it takes `per_second` times their timeout to
    /// keep the pace.
    pub in_flight: NonZeroUsize,
}

/// Probes a set of targets until it is dropped; then nothing of it stays.
pub struct Prober {
    targets: watch::Sender<Arc<HashSet<Target>>>,
    board: Arc<Board>,
}

impl Prober {
    /// Nothing is probed before [`set`](Self::set). The seed decides by chance when in its interval each target is
    /// probed: replicas should not share one.
    #[must_use]
    pub fn start(runtime: &Handle, budget: Budget, seed: u64) -> (Self, Changes) {
        let attempts = Arc::new(Attempts::new());
        Self::start_with(runtime, budget, seed, move |target| {
            let attempts = Arc::clone(&attempts);
            async move { attempts.attempt(&target).await }
        })
    }

    /// With another way to probe.
    fn start_with<A, F>(runtime: &Handle, budget: Budget, seed: u64, attempt: A) -> (Self, Changes)
    where
        A: Fn(Target) -> F + Send + 'static,
        F: Future<Output = verdict::Outcome> + Send + 'static,
    {
        let (targets, wanted) = watch::channel(Arc::default());
        let (news, told) = watch::channel(());
        let board = Arc::new(Board::default());
        let running = {
            // The clock of the runtime, which may be one that does not turn.
            let _entered = runtime.enter();
            Running::new(budget, seed, attempt, wanted, Arc::clone(&board), news)
        };
        runtime.spawn(running.run());
        (Self { targets, board: Arc::clone(&board) }, Changes { board, told })
    }

    /// Soon these are probed, and no others. Those that stay keep their verdict and their turn; the probes under way of
    /// those that go are broken off; those that come have their first turn at some time in their interval.
    pub fn set(&self, targets: impl IntoIterator<Item = Target>) {
        self.targets.send_replace(Arc::new(targets.into_iter().collect()));
    }

    /// Of all targets, in no order; for people, for it copies them.
    #[must_use]
    pub fn verdicts(&self) -> Vec<(Target, Verdict)> {
        self.board.all()
    }

    /// Of one. `None`: it is not probed (yet).
    #[must_use]
    pub fn verdict(&self, target: &Target) -> Option<Verdict> {
        self.board.one(target)
    }

    /// By how much the target that waits longest is late: when it grows, the budget is too small.
    #[must_use]
    pub fn behind(&self) -> Duration {
        self.board.behind()
    }
}

/// What changed about targets, for one reader. However slow that is, there is never more to read than there are targets.
pub struct Changes {
    board: Arc<Board>,
    told: watch::Receiver<()>,
}

impl Changes {
    /// Waits until some target became healthy or unhealthy, or its time changed by more than a quarter (and 1 ms), and
    /// takes the verdicts of all of which that is true since the last time. `None`: the prober is gone. May be broken
    /// off while it waits, without loss.
    pub async fn next(&mut self) -> Option<Vec<(Target, Verdict)>> {
        loop {
            self.told.changed().await.ok()?;
            let changes = self.board.take();
            if !changes.is_empty() {
                return Some(changes);
            }
        }
    }
}
