//! A map from objects' keys that wastes little: there is an entry for every object of a cluster.
//!
//! Entries lie side by side in the order in which they came, and a table of their positions finds them: a plain
//! hash map keeps room for whole entries that are not there.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use portolan_zones::object::ObjectKey;

/// See the module.
pub(crate) struct Claims<V> {
    entries: Vec<(ObjectKey, V)>,
    positions: HashTable<u32>,
    hasher: RandomState,
}

impl<V> Default for Claims<V> {
    fn default() -> Self {
        Self { entries: Vec::new(), positions: HashTable::new(), hasher: RandomState::default() }
    }
}

impl<V> Claims<V> {
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&V> {
        self.position(key).map(|at| &self.entries[at].1)
    }

    pub(crate) fn get_mut(&mut self, key: &ObjectKey) -> Option<&mut V> {
        self.position(key).map(|at| &mut self.entries[at].1)
    }

    /// Adds an entry; the caller knows that there is none of this key.
    pub(crate) fn insert(&mut self, key: ObjectKey, value: V) {
        let Self { entries, positions, hasher } = self;
        if entries.len() == entries.capacity() {
            // Growing by an eighth costs a few copies more than doubling, and leaves less room empty.
            entries.reserve_exact(entries.len() / 8 + 16);
        }
        let hash = hasher.hash_one(&key);
        positions.insert_unique(hash, entries.len() as u32, |at| hasher.hash_one(&entries[*at as usize].0));
        entries.push((key, value));
    }

    pub(crate) fn remove(&mut self, key: &ObjectKey) -> Option<V> {
        let Self { entries, positions, hasher } = self;
        let found = positions.find_entry(hasher.hash_one(key), |at| entries[*at as usize].0 == *key).ok()?;
        let (at, _) = found.remove();
        let (_, value) = entries.swap_remove(at as usize);
        // The last entry took the place of the removed one.
        if let Some((moved, _)) = entries.get(at as usize) {
            let before = entries.len() as u32;
            if let Some(position) = positions.find_mut(hasher.hash_one(moved), |at| *at == before) {
                *position = at;
            }
        }
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &V)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn position(&self, key: &ObjectKey) -> Option<usize> {
        let hash = self.hasher.hash_one(key);
        self.positions.find(hash, |at| self.entries[*at as usize].0 == *key).map(|at| *at as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn behaves_as_a_map() {
        let key = |i: u64| ObjectKey::Namespace(format!("n{}", i % 500).as_str().into());
        let (mut claims, mut map) = (Claims::default(), HashMap::new());
        for i in 0..5000_u64 {
            let k = key(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
            match claims.get_mut(&k) {
                Some(value) if i % 3 == 0 => {
                    *value = i;
                    map.insert(k, i);
                }
                Some(_) => assert_eq!(claims.remove(&k), map.remove(&k)),
                None => {
                    claims.insert(k.clone(), i);
                    map.insert(k, i);
                }
            }
        }
        assert!(map.iter().all(|(k, value)| claims.get(k) == Some(value)));
        assert_eq!(claims.iter().count(), map.len());
        assert_eq!(claims.remove(&ObjectKey::Namespace("other".into())), None);
    }
}
