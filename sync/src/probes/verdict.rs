//! What is made of probes: verdicts, which change after some in a row, and the board on which they stand.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Probe, Target};

/// In this time what is left of a peak in times falls to 1/e.
const DECAY: Duration = Duration::from_secs(10);
/// Times that differ by less than this are the same for all purposes.
const SAME: Duration = Duration::from_millis(1);

/// What is known of a target. Times are by the monotonic clock: take `elapsed()` from the time on the wall.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Unknown is healthy.
    pub healthy: bool,
    /// Since when it is what it is.
    pub since: Instant,
    /// When a probe last ended. `None`: not yet, nothing is known.
    pub checked: Option<Instant>,
    /// Successful probes in a row, up to now.
    pub successes: u32,
    /// Failed probes in a row, up to now.
    pub failures: u32,
    /// How long it takes to connect: rises at once to each new peak, and falls slowly (peak EWMA, 10 s). It is measured
    /// whenever there was a connection, whatever the answer on it.
    pub rtt: Option<Duration>,
    /// The last thing that went wrong, for people, and stays when all is well again. If it was something on this machine
    /// (no more files, no time on the CPU) it says so, and the probe does not count.
    pub error: Option<Arc<str>>,
    /// When `rtt` was brought up to date.
    measured: Option<Instant>,
}

impl Verdict {
    /// Of what is not known yet.
    pub(super) fn unknown(now: Instant) -> Self {
        Self {
            healthy: true,
            since: now,
            checked: None,
            successes: 0,
            failures: 0,
            rtt: None,
            error: None,
            measured: None,
        }
    }

    /// Takes one more probe into account.
    pub(super) fn learn(&mut self, probe: &Probe, outcome: &Outcome, now: Instant) {
        if let Some(sample) = outcome.rtt {
            self.measure(sample, now);
        }
        match &outcome.result {
            Ok(()) => {
                self.successes = self.successes.saturating_add(1);
                self.failures = 0;
            }
            Err(Trouble::Theirs(text)) => {
                self.failures = self.failures.saturating_add(1);
                self.successes = 0;
                self.error = Some(text.as_str().into());
            }
            Err(Trouble::Ours(text)) => {
                self.error = Some(text.as_str().into());
                return;
            }
        }
        self.checked = Some(now);
        let needed = if self.healthy { probe.fall } else { probe.rise };
        let against = if self.healthy { self.failures } else { self.successes };
        if against >= needed.max(1) {
            self.healthy = !self.healthy;
            self.since = now;
        }
    }

    fn measure(&mut self, sample: Duration, now: Instant) {
        let since = self.measured.replace(now).map(|last| now.saturating_duration_since(last));
        self.rtt = Some(match (self.rtt, since) {
            (Some(peak), Some(since)) if sample < peak => {
                let stays = (-since.as_secs_f64() / DECAY.as_secs_f64()).exp();
                sample + (peak - sample).mul_f64(stays)
            }
            _ => sample,
        });
    }
}

/// What came of one probe.
#[derive(Debug)]
pub(super) struct Outcome {
    /// How long it took to connect, if there was a connection.
    pub(super) rtt: Option<Duration>,
    pub(super) result: Result<(), Trouble>,
}

/// Why a probe is no success, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// The target, or the way to it, is to blame.
    #[error("{0}")]
    Theirs(String),
    /// This machine is: it says nothing of the target.
    #[error("{0}")]
    Ours(String),
}

/// The verdicts of all targets. Written by the scheduler, read by whoever asks.
#[derive(Default)]
pub(super) struct Board {
    standing: Mutex<Standing>,
    /// In microseconds.
    behind: AtomicU64,
}

#[derive(Default)]
struct Standing {
    entries: HashMap<Target, Entry>,
    /// What the reader of changes has not taken.
    untold: HashSet<Target>,
}

struct Entry {
    verdict: Verdict,
    /// The time that the reader of changes was told last.
    told: Option<Duration>,
}

impl Board {
    pub(super) fn change(&self, added: &[Target], removed: &[Target], now: Instant) {
        let mut standing = self.lock();
        for target in removed {
            standing.entries.remove(target);
            standing.untold.remove(target);
        }
        for target in added {
            let entry = Entry { verdict: Verdict::unknown(now), told: None };
            standing.entries.insert(target.clone(), entry);
        }
        // What a large set needed is not kept for a small one.
        let most = standing.entries.len() * 2;
        standing.entries.shrink_to(most);
        standing.untold.shrink_to(most);
    }

    /// Says whether that is something to tell.
    pub(super) fn learn(&self, target: &Target, outcome: &Outcome, now: Instant) -> bool {
        let mut standing = self.lock();
        let Some(entry) = standing.entries.get_mut(target) else { return false };
        let was = entry.verdict.healthy;
        entry.verdict.learn(&target.probe, outcome, now);
        let worth_telling = entry.verdict.healthy != was || differ(entry.told, entry.verdict.rtt);
        if worth_telling {
            entry.told = entry.verdict.rtt;
            standing.untold.insert(target.clone());
        }
        worth_telling
    }

    pub(super) fn set_behind(&self, behind: Duration) {
        let micros = behind.as_micros().try_into().unwrap_or(u64::MAX);
        self.behind.store(micros, Ordering::Relaxed);
    }

    pub(super) fn behind(&self) -> Duration {
        Duration::from_micros(self.behind.load(Ordering::Relaxed))
    }

    pub(super) fn take(&self) -> Vec<(Target, Verdict)> {
        let mut standing = self.lock();
        let untold = std::mem::take(&mut standing.untold).into_iter();
        untold
            .filter_map(|target| {
                let verdict = standing.entries.get(&target)?.verdict.clone();
                Some((target, verdict))
            })
            .collect()
    }

    pub(super) fn all(&self) -> Vec<(Target, Verdict)> {
        let standing = self.lock();
        standing.entries.iter().map(|(target, entry)| (target.clone(), entry.verdict.clone())).collect()
    }

    pub(super) fn one(&self, target: &Target) -> Option<Verdict> {
        Some(self.lock().entries.get(target)?.verdict.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether times differ by so much that it may matter to somebody who chooses.
pub(crate) fn differ(told: Option<Duration>, rtt: Option<Duration>) -> bool {
    match (told, rtt) {
        (Some(told), Some(rtt)) => told.abs_diff(rtt) > SAME.max(told / 4),
        (told, rtt) => told != rtt,
    }
}
