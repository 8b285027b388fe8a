//! What is remembered of services beyond their objects, so that clients who know a virtual IP may go on using it: how long
//! an import has waited for its Service, and which addresses an import had that is gone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use portolan_zones::ServiceName;
use smallvec::SmallVec;

/// How long an import stays whose every export lacks its Service: whoever replaces a Service deletes it first.
pub(super) const HOLD: Duration = Duration::from_secs(300);
/// How long the addresses of an import that is gone are remembered.
const REMEMBER: Duration = Duration::from_secs(600);
/// So many are remembered at most.
const MOST: usize = 50_000;

/// At most one per family.
pub(super) type Ips = SmallVec<[IpAddr; 2]>;

/// See the module. Time is passed in.
pub(super) struct Memory {
    hold: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Since when an import has waited for its Service.
    waiting: HashMap<ServiceName, Instant, RandomState>,
    /// What an import had, and until when that is worth something.
    former: HashMap<ServiceName, (Ips, Instant), RandomState>,
}

impl Memory {
    /// Imports wait so long for their Services.
    pub(super) fn new(hold: Duration) -> Self {
        Self { hold, state: Mutex::default() }
    }

    /// Until when an import waits that nothing but an export without a Service stands behind.
    pub(super) fn wait(&self, name: &ServiceName, now: Instant) -> Instant {
        *self.state().waiting.entry(name.clone()).or_insert(now) + self.hold
    }

    /// It does not wait (any more).
    pub(super) fn has_come(&self, name: &ServiceName) {
        self.state().waiting.remove(name);
    }

    /// Nobody waits: whoever led meanwhile knows better.
    pub(super) fn forget_waiting(&self) {
        self.state().waiting.clear();
    }

    /// An import that had these addresses is gone.
    pub(super) fn bury(&self, name: &ServiceName, ips: Ips, now: Instant) {
        let mut state = self.state();
        if state.former.len() >= MOST {
            state.former.retain(|_, (_, until)| now < *until);
        }
        if !ips.is_empty() && state.former.len() < MOST {
            state.former.insert(name.clone(), (ips, now + REMEMBER));
        }
    }

    /// The addresses that an import had which is gone.
    pub(super) fn former(&self, name: &ServiceName, now: Instant) -> Ips {
        let state = self.state();
        let former = state.former.get(name).filter(|(_, until)| now < *until);
        former.map(|(ips, _)| ips.clone()).unwrap_or_default()
    }

    /// Somebody else has the former addresses.
    pub(super) fn forget_former(&self, name: &ServiceName) {
        self.state().former.remove(name);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_ends() {
        let (memory, now) = (Memory::new(HOLD), Instant::now());
        let (name, ips) =
            (ServiceName::new("shop", "web").unwrap(), Ips::from_iter([IpAddr::from([10, 96, 0, 7])]));
        assert_eq!(memory.wait(&name, now), now + HOLD);
        assert_eq!(memory.wait(&name, now + HOLD / 2), now + HOLD, "since it was first seen to wait");
        memory.has_come(&name);
        assert_eq!(memory.wait(&name, now + HOLD), now + HOLD * 2);

        memory.bury(&name, ips.clone(), now);
        memory.bury(&ServiceName::new("shop", "none").unwrap(), Ips::new(), now);
        assert_eq!(memory.former(&name, now + REMEMBER - Duration::from_secs(1)), ips);
        assert_eq!(memory.former(&name, now + REMEMBER), Ips::new());
        memory.forget_former(&name);
        assert_eq!(memory.former(&name, now), Ips::new());
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let (memory, now) = (Memory::new(HOLD), Instant::now());
        let ips = || Ips::from_iter([IpAddr::from([10, 96, 0, 7])]);
        let name = |number: usize| ServiceName::new("shop", &format!("web-{number}")).unwrap();
        (0..=MOST).for_each(|number| memory.bury(&name(number), ips(), now));
        assert_eq!(memory.former(&name(MOST), now), Ips::new());
        memory.bury(&name(MOST), ips(), now + REMEMBER);
        assert_eq!(memory.former(&name(MOST), now + REMEMBER), ips());
        assert_eq!(memory.state().former.len(), 1, "what is past makes room");
    }
}
