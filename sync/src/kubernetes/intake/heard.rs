//! What is known of one kind of one cluster.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use portolan_zones::ClusterId;

use crate::kubernetes::known::Known;

/// What is known of one kind.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) known: Known,
    /// When a list was first complete.
    pub(super) listed: Option<Instant>,
    /// Whether objects were left out since the last list began, for there are too many.
    pub(super) floods: bool,
    /// Since when it can't be watched.
    pub(super) broken_at: Option<Instant>,
    /// Whether it can't for lack of rights.
    pub(super) denied: bool,
    /// Broken objects that the list under way has not named yet.
    pub(super) suspects: HashSet<(String, String)>,
    /// Exports of namespaces that are not accepted.
    pub(super) refused: Listed<BTreeSet<(String, String)>>,
    /// Ids that ClusterProperties give, by rank.
    pub(super) ids: Listed<BTreeMap<usize, ClusterId>>,
}

impl Heard {
    /// Whether it was listed, or there is no use in waiting for that.
    pub(super) fn is_settled(&self, now: Instant, patience: Duration) -> bool {
        let long = |at| now.saturating_duration_since(at) >= patience;
        self.listed.is_some() || self.denied || self.broken_at.is_some_and(long)
    }

    /// An id that can't be read now goes on to hold after the list under way.
    pub(super) fn keep_id(&mut self, rank: Option<usize>) {
        let held = rank.and_then(|rank| self.ids.now.get_key_value(&rank));
        if let (Some((rank, id)), Some(next)) = (held, &mut self.ids.next) {
            next.insert(*rank, id.clone());
        }
    }
}

/// A small set that holds until the next list is complete.
#[derive(Default)]
pub(super) struct Listed<T> {
    pub(super) now: T,
    pub(super) next: Option<T>,
}

impl<T: Default> Listed<T> {
    pub(super) fn begin(&mut self) {
        self.next = Some(T::default());
    }

    pub(super) fn done(&mut self) {
        if let Some(next) = self.next.take() {
            self.now = next;
        }
    }

    /// What the list under way fills, else what holds.
    pub(super) fn current(&mut self) -> &mut T {
        self.next.as_mut().unwrap_or(&mut self.now)
    }
}
