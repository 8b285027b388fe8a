//! Which services are to be looked at, and when. Pure: time and chance are passed in.
//!
//! A service is in it once, is looked at by one worker at a time, and again when it was touched meanwhile. One that fails
//! comes back later each time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use portolan_zones::ServiceName;

const FIRST: Duration = Duration::from_millis(200);
const MOST: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    due: BTreeSet<(Instant, ServiceName)>,
    at: HashMap<ServiceName, Instant, RandomState>,
    running: HashSet<ServiceName, RandomState>,
    failures: BTreeMap<ServiceName, Failure>,
}

/// Why a service is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// How often in a row.
    pub(super) times: u32,
    /// The last reason, unless it was only too late.
    pub(super) error: Option<String>,
    /// When what failed is to be tried again.
    retry: Instant,
}

/// What came of looking at a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All is as it should be.
    Right,
    /// Something was tried, and failed; why, unless it was only too late.
    Failed(Option<String>),
    /// All is as it should be but for what failed before, which was not tried again.
    Blocked,
    /// Nothing could be tried.
    Untried,
}

impl Outcome {
    /// Something failed besides: the first reason that people can be told is told.
    pub(super) fn and_failed(self, error: Option<String>) -> Self {
        match self {
            Self::Failed(Some(first)) => Self::Failed(Some(first)),
            _ => Self::Failed(error),
        }
    }
}

impl Queue {
    /// Has a service looked at, at this time or sooner if it is to be already.
    pub(super) fn push(&mut self, name: ServiceName, when: Instant) {
        match self.at.get(&name) {
            Some(before) if *before <= when => return,
            Some(before) => {
                self.due.remove(&(*before, name.clone()));
            }
            None => {}
        }
        self.at.insert(name.clone(), when);
        self.due.insert((when, name));
    }

    /// The next service whose time has come, and whether what failed before is to be tried again.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(ServiceName, bool)> {
        // A service that a worker has already waits for it.
        let free = |(_, name): &&(Instant, ServiceName)| !self.running.contains(name);
        let next = self.due.iter().take_while(|(when, _)| *when <= now).find(free)?.clone();
        self.due.remove(&next);
        let (_, name) = next;
        self.at.remove(&name);
        self.running.insert(name.clone());
        let retry = self.failures.get(&name).is_none_or(|failure| failure.retry <= now);
        Some((name, retry))
    }

    /// A worker is through with a service. `chance` is from 0 to 1.
    pub(super) fn done(&mut self, name: ServiceName, outcome: Outcome, now: Instant, chance: f64) {
        self.running.remove(&name);
        match outcome {
            Outcome::Right => {
                self.failures.remove(&name);
            }
            Outcome::Untried => self.push(name, now),
            Outcome::Blocked => {
                if let Some(retry) = self.failures.get(&name).map(|failure| failure.retry) {
                    self.push(name, retry);
                }
            }
            Outcome::Failed(error) => {
                let times = self.failures.get(&name).map_or(0, |failure| failure.times);
                let half = MOST.min(FIRST * 2_u32.saturating_pow(times.min(16))).as_secs_f64() / 2.0;
                let retry = now + Duration::from_secs_f64(half + half * chance);
                let times = times.saturating_add(1);
                self.failures.insert(name.clone(), Failure { times, error, retry });
                self.push(name, retry);
            }
        }
    }

    /// When there is something to do, if nothing happens before.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.iter().find(|(_, name)| !self.running.contains(name)).map(|(when, _)| *when)
    }

    /// Forgets everything but what is under way: another one writes.
    pub(super) fn clear(&mut self) {
        self.due.clear();
        self.at.clear();
        self.failures.clear();
    }

    /// How many are under way, or would be if there were workers enough.
    pub(super) fn len(&self, now: Instant) -> usize {
        self.due.iter().take_while(|(when, _)| *when <= now).count() + self.running.len()
    }

    /// How many are under way.
    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    /// How often in a row a service failed.
    pub(super) fn times(&self, name: &ServiceName) -> u32 {
        self.failures.get(name).map_or(0, |failure| failure.times)
    }

    /// All that are to be tried again.
    pub(super) fn failures(&self) -> &BTreeMap<ServiceName, Failure> {
        &self.failures
    }

    /// How many of them fail for a reason.
    pub(super) fn failing(&self) -> usize {
        self.failures.values().filter(|failure| failure.error.is_some()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        ServiceName::new("shop", text).unwrap()
    }

    #[test]
    fn a_service_waits_once_and_is_looked_at_by_one_worker_at_a_time() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(name("web"), now + Duration::from_secs(1));
        queue.push(name("web"), now);
        assert_eq!((queue.len(now), queue.pop(now)), (1, Some((name("web"), true))));
        queue.push(name("web"), now);
        assert_eq!((queue.pop(now), queue.next_due()), (None, None), "it is under way");
        queue.done(name("web"), Outcome::Right, now, 0.0);
        assert_eq!(queue.pop(now), Some((name("web"), true)), "it was touched meanwhile");
        queue.done(name("web"), Outcome::Untried, now, 0.0);
        assert_eq!(queue.pop(now), Some((name("web"), true)), "nothing was done");
        queue.done(name("web"), Outcome::Right, now, 0.0);
        assert_eq!((queue.pop(now), queue.len(now)), (None, 0));
        queue.push(name("web"), now + Duration::from_secs(300));
        assert_eq!(queue.len(now), 0, "there is nothing to do about it now");
    }

    #[test]
    fn the_first_reason_is_told() {
        let refused = || Some("refused".to_owned());
        let failed = Outcome::Right.and_failed(None).and_failed(refused()).and_failed(None);
        assert_eq!(failed, Outcome::Failed(refused()));
    }

    #[test]
    fn what_fails_is_tried_later_each_time() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        let mut waits = Vec::new();
        queue.push(name("web"), now);
        for _ in 0..12 {
            assert_eq!(queue.pop(now), Some((name("web"), true)));
            queue.done(name("web"), Outcome::Failed(Some("refused".to_owned())), now, 1.0);
            assert_eq!(queue.pop(now), None);
            let due = queue.next_due().unwrap();
            waits.push((due - now).as_millis());
            now = due;
        }
        assert_eq!(waits[..4], [200, 400, 800, 1600]);
        assert_eq!(waits[9..], [60_000, 60_000, 60_000]);
        let failure = &queue.failures()[&name("web")];
        assert_eq!((failure.times, failure.error.as_deref()), (12, Some("refused")));
        queue.pop(now).unwrap();
        queue.done(name("web"), Outcome::Right, now, 1.0);
        assert!(queue.failures().is_empty());
    }

    /// A range that is exhausted must not keep a service's endpoints from being copied.
    #[test]
    fn a_service_that_fails_is_looked_at_when_it_changes_without_trying_what_fails() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.push(name("web"), now);
        queue.pop(now).unwrap();
        queue.done(name("web"), Outcome::Failed(Some("full".to_owned())), now, 1.0);
        queue.push(name("web"), now);
        assert_eq!(queue.pop(now), Some((name("web"), false)));
        queue.done(name("web"), Outcome::Blocked, now, 1.0);
        assert_eq!(queue.failures()[&name("web")].times, 1);
        let due = queue.next_due().unwrap();
        assert_eq!(((due - now).as_millis(), queue.pop(due)), (200, Some((name("web"), true))));
    }
}
