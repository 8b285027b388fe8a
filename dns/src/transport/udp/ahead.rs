//! What the answers to a batch will be made of, read for all of its queries at a time.
//!
//! Among many names it is memory that an answer waits for: one look after the other at the index, the service, its name. For a batch the
//! processor can wait for many queries at once: with a million names answers took about half the time (`cargo bench -p
//! portolan-dns --bench names`). Answers are the same with it and without.

use portolan_zones::lookup::Hint;
use portolan_zones::{QName, Snapshot};

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

    /// Reads what these queries' answers will need. What is no sound query is left out.
    pub(super) fn read<'q>(&mut self, snapshot: &Snapshot, queries: impl ExactSizeIterator<Item = &'q [u8]>) {
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
