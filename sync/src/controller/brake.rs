//! A brake on deletions: when it has just changed who counts as a cluster of the clusterset, and as heard, that may be a
//! mistake that somebody puts right. Until it has been so for a while, only some imports go.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A judgement that has been the same for so long is believed.
const STABLE: Duration = Duration::from_secs(60);
/// So many imports may go before, or a tenth of all if that is more.
const FEW: usize = 20;

/// See the module. Time is passed in.
#[derive(Default)]
pub(super) struct Brake {
    state: Mutex<Option<State>>,
}

struct State {
    judgement: u64,
    since: Instant,
    /// Imports that were deleted since the judgement was last stable.
    deleted: usize,
}

impl Brake {
    /// What is believed of the clusters, as one number.
    pub(super) fn judge(&self, judgement: u64, now: Instant) {
        let mut state = self.state();
        match &mut *state {
            Some(state) if state.judgement == judgement => {}
            Some(state) => {
                if now >= state.since + STABLE {
                    state.deleted = 0;
                }
                (state.judgement, state.since) = (judgement, now);
            }
            None => *state = Some(State { judgement, since: now, deleted: 0 }),
        }
    }

    /// Whether one of so many imports may be deleted; else when to ask again. Those that are being deleted by other workers
    /// don't count yet.
    pub(super) fn release(&self, imports: usize, now: Instant) -> Result<(), Instant> {
        let state = self.state();
        let Some(state) = &*state else { return Err(now + STABLE) };
        let stable = state.since + STABLE;
        // What was deleted already is of the whole that there was.
        if now < stable && state.deleted >= FEW.max((imports + state.deleted) / 10) {
            return Err(stable);
        }
        Ok(())
    }

    /// An import was deleted.
    pub(super) fn deleted(&self) {
        if let Some(state) = &mut *self.state() {
            state.deleted += 1;
        }
    }

    fn state(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_judgement_deletes_no_more_than_a_tenth_until_it_is_a_minute_old() {
        for (imports, expected) in [(10, 10), (20, 20), (200, 20), (1000, 100)] {
            let (brake, start) = (Brake::default(), Instant::now());
            brake.judge(1, start);
            let mut left = imports;
            let mut delete = |at| {
                let before = left;
                while left > 0 && brake.release(left, at).is_ok() {
                    brake.deleted();
                    left -= 1;
                }
                before - left
            };
            assert!(
                (0..imports).all(|_| brake.release(imports, start).is_ok()),
                "what is denied does not count"
            );
            assert_eq!(delete(start), expected, "of {imports}");
            brake.judge(2, start + STABLE / 2);
            assert_eq!(delete(start + STABLE / 2), 0, "another mistake makes it no better");
            brake.judge(2, start + STABLE);
            assert_eq!(delete(start + STABLE), 0);
            assert_eq!(delete(start + STABLE * 3 / 2), imports - expected);
        }
    }
}
