//! What the reconciler's loop remembers from one turn to the next, and what it tells of that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_zones::{ServiceName, Snapshot};

use super::pass::{Blocked, Pass};
use super::queue::{Outcome, Queue};
use super::world::VipTrouble;
use crate::kubernetes::backoff::{Backoff, chance};
use crate::owner::MAX_PROBLEMS;

/// Services that are written at a time.
pub(super) const WORKERS: usize = 16;
/// Between two sweeps.
pub(super) const SWEEP: Duration = Duration::from_secs(600);
/// Between two reports.
const REPORT: Duration = Duration::from_millis(200);

/// How the writing is going.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteStatus {
    /// Whether this process writes.
    pub leader: bool,
    /// Services that wait to be written, or are being written.
    pub queue: usize,
    /// Services that could not be written, and why. At most [`MAX_PROBLEMS`].
    pub failures: Vec<(String, String)>,
    /// How many there are, listed or not.
    pub failure_count: usize,
    /// Services without a virtual IP for want of addresses. At most [`MAX_PROBLEMS`].
    pub exhausted: Vec<String>,
    /// How many there are, listed or not.
    pub exhausted_count: usize,
    /// Objects of others where ours should be. At most [`MAX_PROBLEMS`].
    pub foreign: Vec<String>,
    /// How many there are, listed or not.
    pub foreign_count: usize,
    /// What is wrong with the cluster that is written to, and with who else writes there.
    pub notices: Vec<String>,
    /// Why nothing at all can be written.
    pub unreachable: Option<String>,
}

/// See the module.
pub(super) struct Progress {
    pub(super) queue: Queue,
    /// What failed, until it is tried again.
    pub(super) blocked: BTreeMap<ServiceName, Blocked>,
    pub(super) foreign: BTreeMap<ServiceName, String>,
    /// Whose imports are to go, but not yet.
    braked: BTreeSet<ServiceName>,
    /// The snapshot up to which all changes are queued; `None`: everything has to be looked at.
    pub(super) seen: Option<Arc<Snapshot>>,
    pub(super) swept: Instant,
    pub(super) all_heard: bool,
    /// While the API server can't be asked.
    pause: Option<Instant>,
    backoff: Backoff,
    unreachable: Option<String>,
    /// When what was told last was told.
    reported: Option<Instant>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            queue: Queue::default(),
            blocked: BTreeMap::new(),
            foreign: BTreeMap::new(),
            braked: BTreeSet::new(),
            seen: None,
            swept: Instant::now(),
            all_heard: false,
            pause: None,
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(10)),
            unreachable: None,
            reported: None,
        }
    }

    /// Another one leads, or we just begin to: everything has to be looked at.
    pub(super) fn start_over(&mut self) {
        self.queue.clear();
        self.blocked.clear();
        self.foreign.clear();
        self.braked.clear();
        self.seen = None;
    }

    /// Whether nothing can be written now.
    pub(super) fn is_paused(&self, now: Instant) -> bool {
        self.pause.is_some_and(|until| now < until)
    }

    /// When there is something to do, if nothing happens before.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let sweep = self.seen.is_some().then(|| self.swept + SWEEP);
        // When workers are short, the next one that is through is what is waited for.
        let due = self.queue.next_due().filter(|_| self.queue.running() < WORKERS);
        let due = due.map(|due| self.pause.map_or(due, |pause| due.max(pause)));
        let report = self.reported.map(|at| at + REPORT);
        [sweep, due, report].into_iter().flatten().min()
    }

    /// Takes in what came of a service.
    pub(super) fn take(&mut self, pass: Pass) {
        let Pass { name, outcome, past, failed, foreign, unreachable, again, braked } = pass;
        let now = Instant::now();
        match unreachable {
            Some(error) => self.note_unreachable(error, now),
            None if outcome != Outcome::Untried => {
                self.pause = None;
                self.unreachable = None;
                self.backoff.reset();
            }
            None => {}
        }
        if let Some(text) = foreign {
            if self.foreign.get(&name) != Some(&text) {
                tracing::warn!("{text}");
                self.foreign.insert(name.clone(), text);
            }
        } else if outcome != Outcome::Untried {
            self.foreign.remove(&name);
        }
        if let Outcome::Failed(Some(error)) = &outcome
            && self.queue.failures().get(&name).is_none_or(|failure| failure.error.as_ref() != Some(error))
        {
            tracing::warn!(service = %name, "{error}");
        }
        if braked {
            self.braked.insert(name.clone());
        } else {
            self.braked.remove(&name);
        }
        if failed.is_empty() {
            self.blocked.remove(&name);
        } else {
            self.blocked.insert(name.clone(), Blocked { failed, trouble: past.trouble });
        }
        if let Some(when) = again {
            self.queue.push(name.clone(), when);
        }
        self.queue.done(name, outcome, now, chance());
    }

    fn note_unreachable(&mut self, error: String, now: Instant) {
        if !self.is_paused(now) {
            self.pause = Some(now + self.backoff.next(chance()));
        }
        if self.unreachable.as_ref() != Some(&error) {
            tracing::warn!("nothing can be written to the own cluster: {error}");
            self.unreachable = Some(error);
        }
    }

    fn told_braked(&self) -> Option<String> {
        let count = self.braked.len();
        (count > 0).then(|| {
            format!(
                "{count} imports wait to be deleted: which clusters count, or are heard, has just changed, and they go \
                 when it has been so for a minute"
            )
        })
    }

    /// How it is going; `None`: that was told just now.
    pub(super) fn report(&mut self, leader: bool, notices: &[String]) -> Option<WriteStatus> {
        let now = Instant::now();
        if self.reported.is_some_and(|at| now < at + REPORT) {
            return None;
        }
        let queue = self.queue.len(now);
        // While anything is under way the end of it is told, too.
        self.reported = (queue > 0).then_some(now);
        let told = |error: &Option<String>| error.clone();
        let failures = self.queue.failures().iter();
        let failures = failures.filter_map(|(name, f)| Some((name.to_string(), told(&f.error)?)));
        let exhausted = self.blocked.iter().filter(|(_, b)| b.trouble.vip == Some(VipTrouble::Exhausted));
        Some(WriteStatus {
            leader,
            queue,
            failures: failures.take(MAX_PROBLEMS).collect(),
            failure_count: self.queue.failing(),
            exhausted_count: exhausted.clone().count(),
            exhausted: exhausted.take(MAX_PROBLEMS).map(|(name, _)| name.to_string()).collect(),
            foreign_count: self.foreign.len(),
            foreign: self.foreign.values().take(MAX_PROBLEMS).cloned().collect(),
            notices: notices.iter().cloned().chain(self.told_braked()).collect(),
            unreachable: self.unreachable.clone(),
        })
    }
}
