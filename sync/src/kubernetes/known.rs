//! What is known of one kind in one cluster: tells news from what is only said again.
//!
//! Objects themselves are not kept, only a hash of each. A list is mark and sweep: what it does not name is gone.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use portolan_zones::object::{Change, Object, ObjectKey};

use crate::manifest::claims::Claims;

/// Objects of one kind in one cluster, at most: more are no cluster, but a flood. Floods of tests are
/// smaller.
pub(crate) const MOST_OBJECTS: usize = if cfg!(test) { 5_000 } else { 500_000 };

/// All objects of one kind that were told.
#[derive(Default)]
pub(crate) struct Known {
    objects: Claims<Seen>,
    /// Counts the lists.
    round: u32,
    hasher: RandomState,
}

struct Seen {
    /// Hash of the object as it was told.
    content: u64,
    /// The list that named it, or that was the last when a watch did.
    round: u32,
}

impl Known {
    /// A list begins; one that was not finished is void.
    pub(crate) fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// Whether an object may be applied: it is known already, or there are not too many.
    pub(crate) fn has_room_for(&self, key: &ObjectKey) -> bool {
        self.objects.len() < MOST_OBJECTS || self.objects.get(key).is_some()
    }

    /// An object as it is now; the change to tell, unless it was told before.
    pub(crate) fn apply(&mut self, object: Object) -> Option<Change> {
        let key = object.key();
        let (content, round) = (self.hasher.hash_one(&object), self.round);
        match self.objects.get_mut(&key) {
            Some(seen) => {
                seen.round = round;
                if seen.content == content {
                    return None;
                }
                seen.content = content;
            }
            None => self.objects.insert(key, Seen { content, round }),
        }
        Some(Change::Apply(object))
    }

    /// An object that is known means something else now, by nothing that its cluster said.
    pub(crate) fn retell(&mut self, object: Object) -> Option<Change> {
        let content = self.hasher.hash_one(&object);
        let seen = self.objects.get_mut(&object.key())?;
        let before = std::mem::replace(&mut seen.content, content);
        (before != content).then_some(Change::Apply(object))
    }

    /// The object is there, and can't be read: what was told last holds on. Whether there is such a thing.
    pub(crate) fn keep(&mut self, key: &ObjectKey) -> bool {
        let round = self.round;
        self.objects.get_mut(key).map(|seen| seen.round = round).is_some()
    }

    /// The object is gone, or no longer matters.
    pub(crate) fn delete(&mut self, key: ObjectKey) -> Option<Change> {
        self.objects.remove(&key).map(|_| Change::Delete(key))
    }

    /// The list is complete: what it did not name is gone.
    pub(crate) fn sweep(&mut self) -> Vec<Change> {
        let round = self.round;
        self.take(|_, seen| seen.round != round)
    }

    /// Such objects no longer matter, whatever their cluster says.
    pub(crate) fn take_back(&mut self, such: impl Fn(&ObjectKey) -> bool) -> Vec<Change> {
        self.take(|key, _| such(key))
    }

    fn take(&mut self, such: impl Fn(&ObjectKey, &Seen) -> bool) -> Vec<Change> {
        let gone = self.objects.iter().filter(|(key, seen)| such(key, seen));
        let gone: Vec<ObjectKey> = gone.map(|(key, _)| key.clone()).collect();
        gone.into_iter().filter_map(|key| self.delete(key)).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> Object {
        Object::Namespace(name.into())
    }

    fn node(name: &str, az: &str) -> Object {
        Object::Node(portolan_zones::object::Node {
            name: name.into(),
            az: Some(az.into()),
            region: None,
            pod_cidrs: Box::default(),
            addresses: Box::default(),
            ready: true,
            entrances: Box::default(),
        })
    }

    #[test]
    fn only_news_are_told() {
        let mut known = Known::default();
        assert_eq!(known.apply(node("a", "x")), Some(Change::Apply(node("a", "x"))));
        assert_eq!(known.apply(node("a", "x")), None, "said again");
        assert_eq!(known.apply(node("a", "y")), Some(Change::Apply(node("a", "y"))));
        let key = node("a", "y").key();
        assert_eq!(known.delete(key.clone()), Some(Change::Delete(key.clone())));
        assert_eq!(known.delete(key), None, "gone already");
    }

    #[test]
    fn a_list_takes_away_what_it_does_not_name() {
        let mut known = Known::default();
        known.begin();
        for name in ["a", "b", "c"] {
            known.apply(namespace(name));
        }
        assert_eq!(known.sweep(), []);
        known.begin();
        assert_eq!(known.apply(namespace("a")), None);
        known.begin();
        assert_eq!(known.apply(namespace("b")), None, "the list before was not finished");
        assert!(known.keep(&namespace("c").key()), "broken, but there");
        assert!(!known.keep(&namespace("d").key()));
        assert_eq!(known.sweep(), [Change::Delete(namespace("a").key())]);
        assert_eq!((known.sweep(), known.len()), (vec![], 2));
    }
}
