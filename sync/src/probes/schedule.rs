//! Who is probed when. Knows no clock: the time is told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use siphasher::sip::SipHasher13;
use tokio::time::Instant;

use super::Target;

/// An interval differs from the one that is wished for by as much, up or down.
const JITTER: f64 = 0.1;
/// Longer intervals are this one.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// The turns of a set of targets. Each target has one turn, or is being probed.
pub(super) struct Schedule {
    seed: u64,
    slots: HashMap<Target, Slot>,
    /// The turns, in order; the number tells apart those at the same time.
    turns: BTreeMap<(Instant, u64), Target>,
    /// Numbers given.
    numbers: u64,
}

struct Slot {
    /// Also tells this one from one that went and came again meanwhile.
    number: u64,
    /// Probes begun.
    round: u64,
    state: State,
}

enum State {
    Waits { until: Instant },
    Probed { since: Instant },
}

/// What a new set of targets changed.
#[derive(Default)]
pub(super) struct Difference {
    pub(super) added: Vec<Target>,
    pub(super) removed: Vec<Target>,
    /// The numbers of those that went while they were being probed.
    pub(super) broken_off: Vec<u64>,
}

impl Schedule {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, slots: HashMap::new(), turns: BTreeMap::new(), numbers: 0 }
    }

    /// New targets have their first turn at some time in their interval, so that they don't all come at once.
    pub(super) fn set(&mut self, targets: &HashSet<Target>, now: Instant) -> Difference {
        let removed: Vec<_> =
            self.slots.keys().filter(|target| !targets.contains(*target)).cloned().collect();
        let mut broken_off = Vec::new();
        for slot in removed.iter().filter_map(|target| self.slots.remove(target)) {
            match slot.state {
                State::Waits { until } => drop(self.turns.remove(&(until, slot.number))),
                State::Probed { .. } => broken_off.push(slot.number),
            }
        }
        let added: Vec<_> =
            targets.iter().filter(|target| !self.slots.contains_key(*target)).cloned().collect();
        self.slots.reserve(added.len());
        for target in &added {
            let until = now + interval(target).mul_f64(self.chance(target, 0));
            let number = self.numbers;
            self.numbers += 1;
            self.slots.insert(target.clone(), Slot { number, round: 0, state: State::Waits { until } });
            self.turns.insert((until, number), target.clone());
        }
        self.slots.shrink_to(targets.len() * 2);
        Difference { added, removed, broken_off }
    }

    /// When it is the next one's turn.
    pub(super) fn next(&self) -> Option<Instant> {
        self.turns.keys().next().map(|(until, _)| *until)
    }

    /// The one whose turn it has been for the longest time, which is being probed from now on. The number is for
    /// [`end`](Self::end).
    pub(super) fn begin(&mut self, now: Instant) -> Option<(Target, u64)> {
        let turn = self.turns.first_entry().filter(|turn| turn.key().0 <= now)?;
        let ((_, number), target) = turn.remove_entry();
        let slot = self.slots.get_mut(&target)?;
        slot.round += 1;
        slot.state = State::Probed { since: now };
        Some((target, number))
    }

    /// The target is no longer being probed: the next turn is an interval after the last one began, or at once if that
    /// is over. Turns that were missed are not made up for. Says whether the target is still one.
    pub(super) fn end(&mut self, target: &Target, number: u64, now: Instant) -> bool {
        let Some(slot) = self.slots.get(target).filter(|slot| slot.number == number) else { return false };
        let State::Probed { since } = slot.state else { return false };
        let stretch = 1.0 + JITTER * (2.0 * self.chance(target, slot.round) - 1.0);
        let until = (since + interval(target).mul_f64(stretch)).max(now);
        if let Some(slot) = self.slots.get_mut(target) {
            slot.state = State::Waits { until };
        }
        self.turns.insert((until, number), target.clone());
        true
    }

    /// From 0 to 1, the same for the same seed: no matter in which order targets come.
    fn chance(&self, target: &Target, round: u64) -> f64 {
        let mut hasher = SipHasher13::new_with_keys(self.seed, round);
        target.hash(&mut hasher);
        (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn interval(target: &Target) -> Duration {
    target.probe.interval.min(LONGEST)
}
