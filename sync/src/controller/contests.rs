//! Who else writes what we write: an object that is changed again as often as it is put right is left alone for longer
//! each time, so that two writers don't wear an API server out.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use serde_json::Value;

use super::plan::{Target, What};
use super::words;

/// So often the same may be written in a row without a pause.
const FREE: u32 = 4;
/// The first pause; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(300);
/// What was left alone for so long, and for twice its pause, is not contested any more.
const QUIET: Duration = Duration::from_secs(60);
/// So many objects are remembered; what is not contested goes first.
const ROOM: usize = 10_000;

/// See the module. Time is passed in.
#[derive(Default)]
pub(super) struct Contests {
    writes: Mutex<HashMap<Target, Writes, RandomState>>,
}

/// What was last written to an object.
struct Writes {
    body: u64,
    /// How often in a row it was the same.
    times: u32,
    at: Instant,
}

impl Writes {
    fn pause(&self) -> Duration {
        self.times.checked_sub(FREE).map_or(Duration::ZERO, |more| MOST.min(FIRST * (1 << more.min(16))))
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.at + QUIET.max(self.pause() * 2)
    }
}

impl Contests {
    /// Whether this is to wait: it was written so often that somebody must be changing it back.
    pub(super) fn is_contested(&self, target: &Target, body: u64, now: Instant) -> bool {
        let writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let same = writes.get(target).filter(|writes| writes.body == body);
        same.is_some_and(|writes| now < writes.at + writes.pause())
    }

    /// We deleted this: that it is to be written again is nobody's doing but ours.
    pub(super) fn deleted(&self, target: &Target) {
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        writes.remove(target);
        if target.what == What::Import {
            writes.remove(&Target { what: What::ImportStatus, ..target.clone() });
        }
    }

    /// This was written.
    pub(super) fn wrote(&self, target: &Target, body: u64, now: Instant) {
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        if writes.len() >= ROOM {
            writes.retain(|_, writes| writes.times > 1 && !writes.is_over(now));
        }
        let before = writes.get(target).filter(|writes| writes.body == body && !writes.is_over(now));
        let times = before.map_or(1, |writes| writes.times.saturating_add(1));
        if writes.len() < ROOM {
            writes.insert(target.clone(), Writes { body, times, at: now });
        }
    }
}

/// What is written but for its times, which differ each time.
pub(super) fn print(body: &Value) -> u64 {
    words::fingerprint(&Timeless(body))
}

struct Timeless<'a>(&'a Value);

impl Hash for Timeless<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self.0 {
            Value::Object(fields) => {
                for (key, value) in fields.iter().filter(|(key, _)| *key != "lastTransitionTime") {
                    (key, Timeless(value)).hash(state);
                }
            }
            Value::Array(items) => {
                items.len().hash(state);
                items.iter().for_each(|item| Timeless(item).hash(state));
            }
            plain => plain.hash(state),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(name: &str) -> Target {
        Target { what: What::ExportStatus, namespace: "shop".to_owned(), name: name.to_owned() }
    }

    fn body(time: u32) -> u64 {
        print(
            &json!({ "status": { "conditions": [{ "type": "Ready", "lastTransitionTime": time.to_string() }] } }),
        )
    }

    /// A second writer who answers each write at once: after three rewrites in a row each next one comes later, and
    /// 5 minutes apart in the end.
    #[test]
    fn rewrites_come_ever_later() {
        let (contests, start) = (Contests::default(), Instant::now());
        let (mut at, mut waits) = (Duration::ZERO, Vec::new());
        let mut last = at;
        for number in 0..16 {
            while contests.is_contested(&target("web"), body(number), start + at) {
                at += Duration::from_millis(100);
            }
            contests.wrote(&target("web"), body(number), start + at);
            waits.push((at - last).as_secs());
            last = at;
        }
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert!(!contests.is_contested(&target("other"), body(0), start + at), "others are not");
        let other = print(&json!({ "status": { "conditions": [{ "type": "Valid" }] } }));
        assert!(!contests.is_contested(&target("web"), other, start + at), "what is new is written");
        let quiet = start + at + MOST * 2;
        contests.wrote(&target("web"), body(0), quiet);
        assert!(!contests.is_contested(&target("web"), body(0), quiet), "it is forgotten in the end");
    }

    #[test]
    fn endpoints_that_come_and_go_are_no_contest() {
        let (contests, now) = (Contests::default(), Instant::now());
        for number in 0..1000 {
            let body = print(&json!({ "endpoints": number % 2 }));
            assert!(!contests.is_contested(&target("web"), body, now));
            contests.wrote(&target("web"), body, now);
        }
        // Copies without endpoints are deleted, and made anew as they were.
        for _ in 0..1000 {
            assert!(!contests.is_contested(&target("web"), body(0), now));
            contests.wrote(&target("web"), body(0), now);
            contests.deleted(&target("web"));
        }
    }

    #[test]
    fn there_is_a_bound_to_what_is_remembered() {
        let (contests, now) = (Contests::default(), Instant::now());
        for number in 0..ROOM * 2 {
            contests.wrote(&target(&number.to_string()), body(0), now);
        }
        assert!(contests.writes.lock().unwrap().len() <= ROOM);
    }
}
