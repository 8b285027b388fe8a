//! Which numbers, and which ranges of slots, are in use. What is given back rests first: a program may still read it.

use std::collections::{BTreeMap, BTreeSet};

/// Numbers from 0 up to a bound.
#[derive(Debug)]
pub(crate) struct Numbers {
    free: Vec<u32>,
    next: u32,
    bound: u32,
}

impl Numbers {
    pub(crate) fn below(bound: u32) -> Self {
        Self { free: Vec::new(), next: 0, bound }
    }

    pub(crate) fn take(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            let number = self.next;
            (number < self.bound).then(|| {
                self.next += 1;
                number
            })
        })
    }

    pub(crate) fn give_back(&mut self, number: u32) {
        self.free.push(number);
    }

    /// How many are in use, or rest.
    pub(crate) fn used(&self) -> u32 {
        self.next - self.free.len() as u32
    }
}

/// Some of the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    pub(crate) first: u32,
    pub(crate) length: u32,
}

/// Ranges of one array: the smallest free one that is large enough is taken, neighbours are joined.
#[derive(Debug)]
pub(crate) struct Ranges {
    /// Length by first.
    by_first: BTreeMap<u32, u32>,
    /// Length, then first.
    by_length: BTreeSet<(u32, u32)>,
    used: u32,
}

impl Ranges {
    pub(crate) fn of(length: u32) -> Self {
        let mut ranges = Self { by_first: BTreeMap::new(), by_length: BTreeSet::new(), used: 0 };
        ranges.insert(Range { first: 0, length });
        ranges
    }

    pub(crate) fn take(&mut self, length: u32) -> Option<Range> {
        let (there, first) = *self.by_length.range((length, 0)..).next()?;
        self.remove(Range { first, length: there });
        self.insert(Range { first: first + length, length: there - length });
        self.used += length;
        Some(Range { first, length })
    }

    pub(crate) fn give_back(&mut self, range: Range) {
        let Range { mut first, mut length } = range;
        self.used -= length;
        if let Some((before, its)) = self.by_first.range(..first).next_back().map(|(f, l)| (*f, *l))
            && before + its == first
        {
            self.remove(Range { first: before, length: its });
            (first, length) = (before, its + length);
        }
        if let Some(after) = self.by_first.get(&(first + length)).copied() {
            self.remove(Range { first: first + length, length: after });
            length += after;
        }
        self.insert(Range { first, length });
    }

    /// How many slots are in use, or rest.
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    fn insert(&mut self, Range { first, length }: Range) {
        if length > 0 {
            self.by_first.insert(first, length);
            self.by_length.insert((length, first));
        }
    }

    fn remove(&mut self, Range { first, length }: Range) {
        self.by_first.remove(&first);
        self.by_length.remove(&(length, first));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is taken and given back, in whatever order: no two ranges overlap, all are inside, and when all is back, the
        /// whole can be had again.
        #[test]
        fn ranges_never_overlap(steps in proptest::collection::vec((1_u32..40, any::<bool>(), any::<usize>()), 1..300)) {
            let mut ranges = Ranges::of(500);
            let mut taken: Vec<Range> = Vec::new();
            for (length, take, which) in steps {
                if take {
                    if let Some(range) = ranges.take(length) {
                        prop_assert!(range.first + range.length <= 500 && range.length == length);
                        let apart = |other: &Range| {
                            other.first + other.length <= range.first || range.first + range.length <= other.first
                        };
                        prop_assert!(taken.iter().all(apart));
                        taken.push(range);
                    }
                } else if !taken.is_empty() {
                    ranges.give_back(taken.swap_remove(which % taken.len()));
                }
                prop_assert_eq!(ranges.used(), taken.iter().map(|range| range.length).sum::<u32>());
            }
            taken.into_iter().for_each(|range| ranges.give_back(range));
            prop_assert_eq!(ranges.take(500), Some(Range { first: 0, length: 500 }));
        }
    }

    #[test]
    fn numbers_end_at_the_bound_and_come_back() {
        let mut numbers = Numbers::below(2);
        assert_eq!([numbers.take(), numbers.take(), numbers.take()], [Some(0), Some(1), None]);
        numbers.give_back(0);
        assert_eq!((numbers.used(), numbers.take(), numbers.take()), (1, Some(0), None));
    }
}
