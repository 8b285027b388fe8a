//! The scheduler's task: begins probes when it is their turn and the budget allows it, and takes down what came of them.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::schedule::Schedule;
use super::verdict::{Board, Outcome, Trouble};
use super::{Budget, Target};

pub(super) struct Running<A> {
    attempt: A,
    wanted: watch::Receiver<Arc<HashSet<Target>>>,
    board: Arc<Board>,
    news: watch::Sender<()>,
    schedule: Schedule,
    limiter: RateLimiter<NotKeyed, InMemoryState, Elapsed, NoOpMiddleware<Duration>>,
    /// From when the limiter counts.
    epoch: Instant,
    most: usize,
    probes: JoinSet<Outcome>,
    /// What is under way, by its task.
    flights: HashMap<Id, Flight>,
    /// The same, by the schedule's number.
    aborts: HashMap<u64, AbortHandle>,
}

struct Flight {
    target: Target,
    number: u64,
}

impl<A, F> Running<A>
where
    A: Fn(Target) -> F,
    F: Future<Output = Outcome> + Send + 'static,
{
    pub(super) fn new(
        budget: Budget,
        seed: u64,
        attempt: A,
        wanted: watch::Receiver<Arc<HashSet<Target>>>,
        board: Arc<Board>,
        news: watch::Sender<()>,
    ) -> Self {
        let epoch = Instant::now();
        let burst = NonZeroU32::new(budget.per_second.get() / 10).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(budget.per_second).allow_burst(burst);
        Self {
            attempt,
            wanted,
            board,
            news,
            schedule: Schedule::new(seed),
            limiter: RateLimiter::direct_with_clock(quota, Elapsed(epoch)),
            epoch,
            most: budget.in_flight.get(),
            probes: JoinSet::new(),
            flights: HashMap::new(),
            aborts: HashMap::new(),
        }
    }

    /// Until nobody wants anything any more; probes under way end with it.
    pub(super) async fn run(mut self) {
        loop {
            let pause = self.begin();
            tokio::select! {
                biased;
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.set(),
                    Err(_) => return,
                },
                Some(ended) = self.probes.join_next_with_id() => self.end(ended),
                () = until(pause) => {}
            }
        }
    }

    /// Begins as many as are due and may begin. Says when there is more to do; `None`: when something else happens.
    fn begin(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let first = self.schedule.next();
        self.board.set_behind(first.map_or(Duration::ZERO, |first| now.saturating_duration_since(first)));
        while let Some(turn) = self.schedule.next() {
            if turn > now {
                return Some(turn);
            }
            if self.probes.len() >= self.most {
                return None;
            }
            if let Err(early) = self.limiter.check() {
                return Some(self.epoch + early.earliest_possible());
            }
            let (target, number) = self.schedule.begin(now)?;
            let abort = self.probes.spawn((self.attempt)(target.clone()));
            self.flights.insert(abort.id(), Flight { target, number });
            self.aborts.insert(number, abort);
        }
        None
    }

    fn set(&mut self) {
        let now = Instant::now();
        let targets = Arc::clone(&self.wanted.borrow_and_update());
        let difference = self.schedule.set(&targets, now);
        self.board.change(&difference.added, &difference.removed, now);
        for number in difference.broken_off {
            if let Some(abort) = self.aborts.remove(&number) {
                abort.abort();
            }
        }
    }

    /// Takes down all that has ended by now.
    fn end(&mut self, first: Ended) {
        let now = Instant::now();
        let mut next = Some(first);
        let mut news = false;
        while let Some(ended) = next {
            news |= self.take_down(ended, now);
            next = self.probes.try_join_next_with_id();
        }
        if news {
            self.news.send_replace(());
        }
    }

    /// Says whether that is something to tell.
    fn take_down(&mut self, ended: Ended, now: Instant) -> bool {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => {
                let text = "the probe broke off, which is a fault of Portolan: report it".to_owned();
                (error.id(), Outcome { rtt: None, result: Err(Trouble::Ours(text)) })
            }
        };
        let Some(Flight { target, number }) = self.flights.remove(&id) else { return false };
        self.aborts.remove(&number);
        self.schedule.end(&target, number, now) && self.board.learn(&target, &outcome, now)
    }
}

/// A task that ended.
type Ended = Result<(Id, Outcome), JoinError>;

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The limiter's clock is the runtime's.
#[derive(Clone)]
struct Elapsed(Instant);

impl Clock for Elapsed {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}
