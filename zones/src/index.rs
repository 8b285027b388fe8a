//! A persistent hash trie of services: readers keep the version they hold, a writer copies only the path it changes.
//!
//! Inner nodes have 32 children, leaves hold up to `LEAF` services side by side with their hashes. At a
//! million services a change copies three or four inner nodes and one leaf; a lookup reads as many. While a
//! version is not shared (the first compile), changes are made in place.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::lookup::Hint;
use crate::service::Service;

const BITS: u32 = 5;
const FANOUT: usize = 1 << BITS;
/// Most services in a leaf before it splits: two to three cache lines of hashes and pointers.
const LEAF: usize = 24;
/// Keys that are read ahead at a time: about as many as a processor waits for at once.
const AHEAD: usize = 32;
/// Below this depth all 64 bits of the hash are used up; a leaf there just grows.
const DEPTH: u32 = 64 / BITS;

/// Services by their wire-form name.
#[derive(Clone)]
pub struct Index {
    hasher: RandomState,
    root: Node,
    len: usize,
}

#[derive(Clone)]
enum Node {
    Inner(Arc<[Node; FANOUT]>),
    Leaf(Arc<[Entry]>),
}

#[derive(Clone)]
struct Entry {
    hash: u64,
    service: Arc<Service>,
}

impl Default for Index {
    /// Hashes are seeded anew in each process: names that collide in one need not in another. Whoever finds some all the same makes a
    /// leaf longer, and no answer wrong.
    fn default() -> Self {
        Self { hasher: RandomState::default(), root: Node::empty(), len: 0 }
    }
}

impl Index {
    /// Number of services.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The service whose name is `key`: `<name>.<namespace>` in wire form and lower case.
    pub fn get(&self, key: &[u8]) -> Option<&Arc<Service>> {
        let hash = self.hash(key);
        let entries = self.leaf(hash).iter();
        let mut found = entries.filter(|entry| entry.hash == hash && entry.service.name.wire() == key);
        found.next().map(|entry| &entry.service)
    }

    /// Reads what [`Self::get`] will read of these keys, so that it is in the cache then. Each step is taken
    /// for all keys before the next one, which the memory of one key must not wait for: it works on them at a time. The result
    /// says nothing.
    pub(crate) fn read_ahead(&self, hints: &[Hint]) -> usize {
        let mut sum = 0;
        for hints in hints.chunks(AHEAD) {
            let leaves = self.leaves(hints);
            for leaf in &leaves {
                sum ^= leaf.first().map_or(0, |entry| entry.hash)
                    ^ leaf.get(LEAF / 3).map_or(0, |entry| entry.hash);
            }
            let mut services: [Option<&Service>; AHEAD] = [None; AHEAD];
            for ((service, leaf), Hint(hash)) in services.iter_mut().zip(leaves).zip(hints) {
                *service = leaf.iter().find(|entry| entry.hash == *hash).map(|entry| &*entry.service);
            }
            for service in services.iter().flatten() {
                sum ^= service.touch() as u64;
            }
        }
        sum as usize
    }

    /// Where these keys would be, level by level for all of them.
    fn leaves(&self, hints: &[Hint]) -> [&[Entry]; AHEAD] {
        let mut nodes = [(&self.root, 0); AHEAD];
        for ((_, rest), Hint(hash)) in nodes.iter_mut().zip(hints) {
            *rest = *hash;
        }
        let nodes = &mut nodes[..hints.len()];
        // Looks at all nodes before it goes on from the first one: which way is not known before a node is read.
        while nodes.iter().fold(false, |some, (node, _)| some | matches!(node, Node::Inner(_))) {
            for (node, rest) in nodes.iter_mut() {
                if let Node::Inner(children) = node {
                    *node = &children[slot(*rest)];
                }
                *rest >>= BITS;
            }
        }
        let mut leaves: [&[Entry]; AHEAD] = [&[]; AHEAD];
        for (leaf, (node, _)) in leaves.iter_mut().zip(nodes) {
            if let Node::Leaf(entries) = node {
                *leaf = entries;
            }
        }
        leaves
    }

    fn leaf(&self, hash: u64) -> &[Entry] {
        let mut node = &self.root;
        let mut rest = hash;
        loop {
            match node {
                Node::Inner(children) => node = &children[slot(rest)],
                Node::Leaf(entries) => return entries,
            }
            rest >>= BITS;
        }
    }

    /// Puts `service` in place of the one with its name, which is returned.
    pub fn insert(&mut self, service: Arc<Service>) -> Option<Arc<Service>> {
        let hash = self.hash(service.name.wire());
        let old = self.root.insert(Entry { hash, service }, hash, 0);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes the service with this name away.
    pub fn remove(&mut self, key: &[u8]) -> Option<Arc<Service>> {
        let hash = self.hash(key);
        let old = self.root.remove(key, hash, hash);
        self.len -= usize::from(old.is_some());
        old
    }

    /// All services, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Service>> {
        let mut stack = vec![&self.root];
        let mut leaf: std::slice::Iter<'_, Entry> = [].iter();
        std::iter::from_fn(move || {
            loop {
                if let Some(entry) = leaf.next() {
                    return Some(&entry.service);
                }
                match stack.pop()? {
                    Node::Inner(children) => stack.extend(children.iter()),
                    Node::Leaf(entries) => leaf = entries.iter(),
                }
            }
        })
    }

    /// Calls `changed(before, after)` for each service that differs; parts that both versions share are skipped.
    ///
    /// Cheap only between versions of one lineage; between others every service is compared.
    pub fn diff(&self, newer: &Self, changed: &mut impl FnMut(Option<&Arc<Service>>, Option<&Arc<Service>>)) {
        if self.hash(b"\x01a") == newer.hash(b"\x01a") {
            self.root.diff(&newer.root, changed);
        } else {
            diff_unrelated(self, newer, changed);
        }
    }

    pub(crate) fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key);
        hasher.finish()
    }
}

/// Which child of an inner node, by the lowest bits of what is left of the hash.
fn slot(rest: u64) -> usize {
    (rest % FANOUT as u64) as usize
}

impl Node {
    fn empty() -> Self {
        Self::Leaf(Arc::new([]))
    }

    fn insert(&mut self, entry: Entry, rest: u64, depth: u32) -> Option<Arc<Service>> {
        match self {
            Self::Inner(children) => {
                Arc::make_mut(children)[slot(rest)].insert(entry, rest >> BITS, depth + 1)
            }
            Self::Leaf(entries) => {
                let key = entry.service.name.wire();
                let found = entries.iter().position(|e| e.hash == entry.hash && e.service.name.wire() == key);
                if let Some(at) = found {
                    return Some(std::mem::replace(&mut Arc::make_mut(entries)[at].service, entry.service));
                }
                if entries.len() < LEAF || depth >= DEPTH {
                    *entries = entries.iter().cloned().chain([entry]).collect();
                } else {
                    *self = split(entries, entry, depth);
                }
                None
            }
        }
    }

    fn remove(&mut self, key: &[u8], hash: u64, rest: u64) -> Option<Arc<Service>> {
        match self {
            Self::Inner(children) => Arc::make_mut(children)[slot(rest)].remove(key, hash, rest >> BITS),
            Self::Leaf(entries) => {
                let at = entries.iter().position(|e| e.hash == hash && e.service.name.wire() == key)?;
                let old = entries[at].service.clone();
                let kept = entries.iter().enumerate().filter(|(i, _)| *i != at);
                *entries = kept.map(|(_, entry)| entry.clone()).collect();
                Some(old)
            }
        }
    }

    fn diff(&self, newer: &Self, changed: &mut impl FnMut(Option<&Arc<Service>>, Option<&Arc<Service>>)) {
        match (self, newer) {
            (Self::Inner(a), Self::Inner(b)) if Arc::ptr_eq(a, b) => {}
            (Self::Leaf(a), Self::Leaf(b)) if Arc::ptr_eq(a, b) => {}
            (Self::Inner(a), Self::Inner(b)) => {
                for (before, after) in a.iter().zip(b.iter()) {
                    before.diff(after, changed);
                }
            }
            _ => {
                let (before, after) = (self.entries(), newer.entries());
                for entry in &before {
                    match after.iter().find(|e| e.service.name == entry.service.name) {
                        None => changed(Some(&entry.service), None),
                        Some(e) if Arc::ptr_eq(&e.service, &entry.service) => {}
                        Some(e) => changed(Some(&entry.service), Some(&e.service)),
                    }
                }
                for entry in &after {
                    if !before.iter().any(|e| e.service.name == entry.service.name) {
                        changed(None, Some(&entry.service));
                    }
                }
            }
        }
    }

    /// All entries below: a leaf's, or those of a subtree that a leaf became.
    fn entries(&self) -> Vec<&Entry> {
        match self {
            Self::Leaf(entries) => entries.iter().collect(),
            Self::Inner(children) => children.iter().flat_map(Self::entries).collect(),
        }
    }
}

/// A full leaf and one more entry, as an inner node one level deeper.
fn split(entries: &[Entry], entry: Entry, depth: u32) -> Node {
    let mut children: [Vec<Entry>; FANOUT] = std::array::from_fn(|_| Vec::new());
    for entry in entries.iter().cloned().chain([entry]) {
        children[slot(entry.hash >> (BITS * depth))].push(entry);
    }
    Node::Inner(Arc::new(children.map(|child| Node::Leaf(child.into()))))
}

fn diff_unrelated(
    older: &Index,
    newer: &Index,
    changed: &mut impl FnMut(Option<&Arc<Service>>, Option<&Arc<Service>>),
) {
    for before in older.iter() {
        match newer.get(before.name.wire()) {
            Some(after) if **after == **before => {}
            after => changed(Some(before), after),
        }
    }
    for after in newer.iter().filter(|after| older.get(after.name.wire()).is_none()) {
        changed(None, Some(after));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ServiceName;

    fn service(i: usize) -> Arc<Service> {
        Arc::new(Service::named(ServiceName::new("ns", &format!("s{i}")).unwrap()))
    }

    fn names(index: &Index) -> BTreeSet<String> {
        index.iter().map(|service| service.name.to_string()).collect()
    }

    #[test]
    fn holds_what_was_put_in_and_old_versions_stay() {
        let mut index = Index::default();
        let mut versions = Vec::new();
        for i in 0..3000 {
            assert!(index.insert(service(i)).is_none());
            if i % 500 == 0 {
                versions.push((i + 1, index.clone()));
            }
        }
        assert_eq!(index.len(), 3000);
        for i in (0..3000).step_by(2) {
            assert!(index.remove(service(i).name.wire()).is_some());
        }
        assert!(index.remove(b"\x02no\x02ns").is_none());
        assert_eq!((index.len(), names(&index).len()), (1500, 1500));
        for (len, version) in versions {
            assert_eq!((version.len(), names(&version).len()), (len, len));
            assert!((0..len).all(|i| version.get(service(i).name.wire()).is_some()));
        }
    }

    /// What is read ahead is what lookups read: of keys that are there and that are not, in any number.
    #[test]
    fn what_is_read_ahead_is_where_keys_are() {
        let mut index = Index::default();
        let hints = |index: &Index, keys: std::ops::Range<usize>| -> Vec<Hint> {
            keys.map(|i| Hint(index.hash(service(i).name.wire()))).collect()
        };
        index.read_ahead(&hints(&index, 0..3));
        for i in 0..3000 {
            index.insert(service(i));
        }
        index.read_ahead(&hints(&index, 2900..3100));
        for keys in [0..AHEAD, 2980..3000, 2990..2990 + AHEAD] {
            let hints = hints(&index, keys.clone());
            for ((leaf, hint), i) in index.leaves(&hints).iter().zip(&hints).zip(keys) {
                assert!(std::ptr::eq(*leaf, index.leaf(hint.0)));
                assert_eq!(
                    leaf.iter().any(|entry| *entry.service.name.wire() == *service(i).name.wire()),
                    i < 3000
                );
            }
        }
    }

    #[test]
    fn diff_finds_exactly_what_changed_also_across_splits() {
        let mut older = Index::default();
        for i in 0..200 {
            older.insert(service(i));
        }
        let mut newer = older.clone();
        for i in 100..1200 {
            newer.insert(service(i));
        }
        for i in 0..10 {
            newer.remove(service(i).name.wire());
        }
        let (mut added, mut replaced, mut removed) = (0, 0, 0);
        older.diff(&newer, &mut |before, after| match (before, after) {
            (None, Some(_)) => added += 1,
            (Some(_), Some(_)) => replaced += 1,
            _ => removed += 1,
        });
        assert_eq!((added, replaced, removed), (1000, 100, 10));
    }
}
