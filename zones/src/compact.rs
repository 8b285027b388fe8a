//! What there are millions of, in one word each.

use std::fmt;
use std::ops::Deref;

use triomphe::ThinArc;

/// Octets that many share. An `Arc<[u8]>` is two words, and names are in everything that is known of a service.
#[derive(Clone)]
pub(crate) struct Shared(ThinArc<(), u8>);

impl Shared {
    /// How many hold this copy.
    pub(crate) fn holders(&self) -> usize {
        ThinArc::strong_count(&self.0)
    }

    /// The text that it was made of; empty if it was none.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self).unwrap_or_default()
    }
}

impl From<&[u8]> for Shared {
    fn from(octets: &[u8]) -> Self {
        Self(ThinArc::from_header_and_slice((), octets))
    }
}

impl Deref for Shared {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.slice
    }
}

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(&raw const **self, &raw const **other) || **self == **other
    }
}

impl Eq for Shared {}

impl PartialOrd for Shared {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Shared {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

/// As the octets themselves, by which a map is asked.
impl std::hash::Hash for Shared {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// A list that is empty nearly everywhere.
#[derive(Clone, PartialEq)]
pub struct Few<T>(Option<Box<Box<[T]>>>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_ref().map_or(&[], |few| few)
    }
}

impl<T> From<Vec<T>> for Few<T> {
    fn from(list: Vec<T>) -> Self {
        Self((!list.is_empty()).then(|| Box::new(list.into())))
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(list: I) -> Self {
        Vec::from_iter(list).into()
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: fmt::Debug> fmt::Debug for Few<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// A set of them is asked by octets (`Borrow`): equal, and hashed alike.
    #[test]
    fn shared_octets_are_as_the_octets() {
        let [a, b, other]: [Shared; 3] = [b"ahoy", b"ahoy", b"ahox"].map(|octets| octets[..].into());
        assert!(a == b && a == a.clone() && a != other && other < a);
        assert_eq!((a.holders(), a.clone().holders(), a.text()), (1, 2, "ahoy"));
        let set = HashSet::from([a]);
        assert!(set.contains(&b) && !set.contains(&other));
        assert_eq!(size_of::<Option<Shared>>(), size_of::<usize>());
    }

    #[test]
    fn a_list_of_nothing_is_one_word() {
        let none: Few<u64> = Few::from(Vec::new());
        assert!(none.is_empty() && none == Few::default());
        let some: Few<u64> = (1..4).collect();
        assert_eq!(some[..], [1, 2, 3]);
        assert_eq!(format!("{some:?}"), "[1, 2, 3]");
        assert_eq!(size_of::<Few<u64>>(), size_of::<usize>());
    }
}
