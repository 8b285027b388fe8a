//! Tells a [`Tap`] what the own cluster says.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use portolan_zones::ClusterId;

use super::Tap;
use super::discovery::Topic;
use super::watch::Word;

/// A tap, and what the lists under way have named.
pub(crate) struct Tapping {
    tap: Arc<dyn Tap>,
    listing: HashMap<Topic, HashSet<(String, String)>>,
}

impl Tapping {
    pub(crate) fn new(tap: Arc<dyn Tap>) -> Self {
        Self { tap, listing: HashMap::new() }
    }

    /// Passes a word on. Leases are no objects of the clusterset.
    pub(crate) fn hear(&mut self, topic: Topic, word: &Word) {
        let Some(kind) = topic.kind() else { return };
        match word {
            Word::Begin => _ = self.listing.insert(topic, HashSet::new()),
            Word::Listed(raw) | Word::Apply(raw) => {
                if let Some(listed) = self.listing.get_mut(&topic) {
                    listed.insert((raw.namespace().to_owned(), raw.name().to_owned()));
                }
                self.tap.apply(kind, raw.json());
            }
            Word::Delete(raw) => self.tap.delete(kind, raw.namespace(), raw.name()),
            Word::Done => {
                if let Some(listed) = self.listing.remove(&topic) {
                    self.tap.listed(kind, &listed);
                }
            }
            Word::Absent => self.tap.listed(kind, &HashSet::new()),
            Word::Broken(_) | Word::Denied(_) | Word::Mended => {}
        }
    }

    pub(crate) fn synced(&self, id: &ClusterId) {
        self.tap.synced(id);
    }
}
