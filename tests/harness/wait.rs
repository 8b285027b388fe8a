//! Waiting without guessing how long.

use std::fmt::Debug;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Far more than anything here takes on a busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);
/// Between two questions: a twentieth of the time that has passed, within these.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));

/// Asks again and again until there is something, and returns it with the time that it took.
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> (T, Duration) {
    until_within(DEADLINE, what, ask)
}

/// [`until`] for what may take longer.
pub fn until_within<T>(deadline: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> (T, Duration) {
    let start = Instant::now();
    loop {
        if let Some(found) = ask() {
            return (found, start.elapsed());
        }
        let elapsed = start.elapsed();
        assert!(elapsed < deadline, "not within {deadline:?}: {what}");
        sleep(pause(elapsed));
    }
}

/// [`until`] something is as expected; says how it was last when it doesn't become so.
pub fn becomes<T: PartialEq + Debug>(what: &str, expected: &T, mut ask: impl FnMut() -> T) -> Duration {
    let start = Instant::now();
    loop {
        let found = ask();
        let elapsed = start.elapsed();
        if found == *expected {
            return elapsed;
        }
        assert!(elapsed < DEADLINE, "not within {DEADLINE:?}: {what} is\n{found:#?}\nand not\n{expected:#?}");
        sleep(pause(elapsed));
    }
}

/// [`until`] for a condition.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    until(what, || holds().then_some(())).1
}

/// Something must go on to hold for so long: for what must not happen, of which there is no end to wait for.
pub fn stays(what: &str, duration: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < duration {
        assert!(holds(), "after {:?} not any more: {what}", start.elapsed());
        sleep(PAUSE.1);
    }
}

fn pause(elapsed: Duration) -> Duration {
    (elapsed / 20).clamp(PAUSE.0, PAUSE.1)
}
