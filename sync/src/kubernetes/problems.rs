//! What is wrong with one cluster: each problem is logged when it comes up and when it is over, and not in between.

use std::collections::BTreeMap;

use super::discovery::Topic;
use crate::owner::MAX_PROBLEMS;

/// What a problem is about. Of each there is one problem at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum About {
    /// The API server can't be reached, or refuses us.
    Server,
    /// Which cluster it is.
    Identity,
    /// A kind can't be listed or watched.
    Kind(Topic),
    /// An object can't be read: kind, namespace, name.
    Object(Topic, String, String),
}

/// All problems of one cluster.
#[derive(Debug)]
pub(crate) struct Problems {
    /// What people call it.
    cluster: String,
    texts: BTreeMap<About, String>,
    /// Problems about objects that are not listed: there are too many.
    untold: usize,
}

impl Problems {
    pub(crate) fn new(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned(), texts: BTreeMap::new(), untold: 0 }
    }

    /// There is a problem. Its text may change while it lasts: that is shown, not logged.
    pub(crate) fn set(&mut self, about: About, text: String) {
        let known = self.texts.contains_key(&about);
        if !known {
            if matches!(about, About::Object(..)) && self.texts.len() >= MAX_PROBLEMS {
                self.untold += 1;
                return;
            }
            tracing::warn!(cluster = self.cluster, "{text}");
        }
        self.texts.insert(about, text);
    }

    /// There is none, or no longer.
    pub(crate) fn clear(&mut self, about: &About) {
        if let Some(text) = self.texts.remove(about) {
            tracing::info!(cluster = self.cluster, "over: {text}");
        }
    }

    /// A list of a kind begins: objects that are broken are found again.
    pub(crate) fn recount(&mut self) {
        self.untold = 0;
    }

    /// A list of a kind is complete: problems of objects that it did not name are over.
    pub(crate) fn keep_objects(&mut self, topic: Topic, there: impl Fn(&str, &str) -> bool) {
        let gone = |about: &About| match about {
            About::Object(of, namespace, name) => *of == topic && !there(namespace, name),
            _ => false,
        };
        let gone: Vec<About> = self.texts.keys().filter(|about| gone(about)).cloned().collect();
        gone.iter().for_each(|about| self.clear(about));
    }

    /// For people.
    pub(crate) fn texts(&self) -> Vec<String> {
        let more = (self.untold > 0).then(|| format!("{} more objects can't be read", self.untold));
        self.texts.values().cloned().chain(more).collect()
    }
}
