//! What is known of one kind in one cluster: tells news from what is only said again.
//!
//! Objects themselves are not kept, only a hash of each. A list is mark and sweep: what it does not name is gone.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use portolan_zones::object::{Change, Object, ObjectKey};
use portolan_zones::policy::Target;

use crate::manifest::claims::Claims;

/// Objects of one kind in one cluster, at most: more are no cluster, but a flood. Floods of tests are
/// smaller.
pub(crate) const MOST_OBJECTS: usize = if cfg!(test) { 5_000 } else { 500_000 };

/// What they may weigh together: their endpoints, addresses, ports and the like.
const MOST_WEIGHT: usize = if cfg!(test) { 20_000 } else { 2_000_000 };

/// All objects of one kind that were told.
#[derive(Default)]
pub(crate) struct Known {
    objects: Claims<Seen>,
    weight: usize,
    /// Counts the lists.
    round: u32,
    hasher: RandomState,
}

struct Seen {
    /// Hash of the object as it was told.
    content: u64,
    weight: u32,
    /// The list that named it, or that was the last when a watch did.
    round: u32,
}

impl Known {
    /// A list begins; one that was not finished is void.
    pub(crate) fn begin(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// Whether an object may be applied: with it there are not too many, and they don't weigh too much.
    pub(crate) fn has_room_for(&self, object: &Object) -> bool {
        let before = self.objects.get(&object.key());
        let others = self.objects.len() - usize::from(before.is_some());
        let weight = self.weight - before.map_or(0, |seen| seen.weight as usize);
        others < MOST_OBJECTS && weight + weigh(object) as usize <= MOST_WEIGHT
    }

    /// An object as it is now; the change to tell, unless it was told before.
    pub(crate) fn apply(&mut self, object: Object) -> Option<Change> {
        let key = object.key();
        let (content, weight, round) = (self.hasher.hash_one(&object), weigh(&object), self.round);
        match self.objects.get_mut(&key) {
            Some(seen) => {
                seen.round = round;
                if seen.content == content {
                    return None;
                }
                self.weight -= seen.weight as usize;
                (seen.content, seen.weight) = (content, weight);
            }
            None => self.objects.insert(key, Seen { content, weight, round }),
        }
        self.weight += weight as usize;
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
        let seen = self.objects.remove(&key)?;
        self.weight -= seen.weight as usize;
        Some(Change::Delete(key))
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

/// How much memory an object takes, in endpoints and the like. Lists of gateways are short.
fn weigh(object: &Object) -> u32 {
    let parts = match object {
        Object::Slice(slice) => slice.endpoints.len() + slice.ports.len(),
        Object::Service(service) => service.spec.ports.len(),
        Object::Import(import) => import.spec.ports.len() + import.ips.len() + import.clusters.len(),
        Object::Node(node) => node.pod_cidrs.len() + node.addresses.len(),
        Object::Export(export) => {
            export.exported.as_ref().map_or(0, |all| all.labels.len() + all.annotations.len())
        }
        Object::Policy(policy) => {
            let about = match &policy.target {
                Target::Services { exports, imports } => exports.len() + imports.len(),
                Target::Namespace | Target::ClusterSet => 0,
            };
            // A health check has texts.
            let check = if policy.rules.health_check.is_some() { 64 } else { 0 };
            let labels = policy.rules.label_weights.iter().map(|(labels, _)| 1 + labels.len()).sum::<usize>();
            about + policy.rules.weights.len() + labels + policy.rules.failover.len() + check
        }
        Object::Peer(peer) => peer.labels.len(),
        Object::Namespace(_) => 0,
    };
    u32::try_from(1 + parts).unwrap_or(u32::MAX)
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

    /// A few objects may be as large as very many: what they weigh is bounded, too, and what is known may still change.
    #[test]
    fn there_is_a_bound_to_what_all_weigh() {
        let heavy = |name: &str, parts: usize| match node(name, "x") {
            Object::Node(node) => Object::Node(portolan_zones::object::Node {
                addresses: vec![[192, 0, 2, 1].into(); parts].into(),
                ..node
            }),
            other => other,
        };
        let mut known = Known::default();
        known.apply(heavy("a", MOST_WEIGHT - 101));
        assert!(known.has_room_for(&heavy("b", 99)) && !known.has_room_for(&heavy("b", 100)));
        assert!(
            known.has_room_for(&heavy("a", MOST_WEIGHT - 1)) && !known.has_room_for(&heavy("a", MOST_WEIGHT))
        );
        known.apply(heavy("a", 10));
        assert!(known.has_room_for(&heavy("b", 100)));
        known.apply(heavy("b", 100));
        known.delete(heavy("a", 0).key());
        known.delete(heavy("b", 0).key());
        assert!(known.has_room_for(&heavy("c", MOST_WEIGHT - 1)), "what is gone weighs nothing");
    }
}
