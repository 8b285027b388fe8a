//! What the answers to a batch will be made of, read for all of its queries at a time.
//!
//! Among many names it is memory that an answer waits for: one look after the other at the index, the service, its name. For a batch the
//! processor can wait for many queries at once: with a million names answers took about half the time (`cargo bench -p
//! portolan-dns --bench names`). Answers are the same with it and without.

use portolan_zones::lookup::Hint;
use portolan_zones::{QName, Snapshot};

use crate::transport::Answerer;
use crate::wire::query::read_name;

/// Fewer queries have little to wait for together.
const FEWEST: usize = 4;
/// So many services are in the cache anyway.
const SMALL: usize = 4096;

/// Room for what is known of a batch's questions.
pub(super) struct Ahead {
    qname: QName,
    hints: Vec<Hint>,
}

impl Ahead {
    /// For batches of so many queries.
    pub(super) fn new(size: usize) -> Self {
        Self { qname: QName::default(), hints: Vec::with_capacity(size) }
    }

    /// Reads what these queries' answers will need. What is no sound query is left out. A bug that they hit here costs none of
    /// them its answer, which `answerer` gives.
    pub(super) fn read<'q>(
        &mut self,
        answerer: &mut Answerer,
        snapshot: &Snapshot,
        queries: impl ExactSizeIterator<Item = &'q [u8]>,
    ) {
        answerer.guard(|_| self.read_unguarded(snapshot, queries));
    }

    fn read_unguarded<'q>(&mut self, snapshot: &Snapshot, queries: impl ExactSizeIterator<Item = &'q [u8]>) {
        if queries.len() < FEWEST || snapshot.services.len() < SMALL {
            return;
        }
        self.hints.clear();
        for query in queries {
            self.hints.extend(read_name(query, &mut self.qname).and_then(|()| snapshot.hint(&self.qname)));
        }
        snapshot.read_ahead(&self.hints);
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{answerer, panics, source};
    use super::*;

    /// Queries that hit a bug.
    struct Bug;

    impl Iterator for Bug {
        type Item = &'static [u8];

        fn next(&mut self) -> Option<Self::Item> {
            panic!("a bug")
        }
    }

    impl ExactSizeIterator for Bug {
        fn len(&self) -> usize {
            panic!("a bug")
        }
    }

    #[test]
    fn a_panic_is_counted_and_costs_nothing() {
        let source = source();
        let mut answerer = answerer(&source);
        Ahead::new(1).read(&mut answerer, &source.snapshot(), Bug);
        assert_eq!(panics(&source), "1");
    }
}
