//! Waiting without guessing how long.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Far more than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// Asks again and again until there is something, and returns it with the time that it took.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> (T, Duration) {
    let start = Instant::now();
    loop {
        if let Some(found) = ask() {
            return (found, start.elapsed());
        }
        assert!(start.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        sleep(PAUSE);
    }
}

/// [`until`] for a condition.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    until(what, || holds().then_some(())).1
}
