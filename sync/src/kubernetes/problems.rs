//! What is wrong with one cluster: each problem is logged when it comes up and when it is over, and not in between.

use std::collections::{BTreeMap, BTreeSet};

use super::discovery::Topic;
use crate::owner::MAX_PROBLEMS;

/// What a problem is about. Of each there is one problem at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum About {
    /// The API server can't be reached, or refuses us.
    Server,
    /// Who it is can't be known.
    Uid,
    /// It has no id.
    Identity,
    /// Another entry is the same cluster.
    Duplicate,
    /// A kind can't be listed or watched.
    Kind(Topic),
    /// A host name of a gateway can't be resolved.
    Host(Box<str>),
    /// An object can't be read: kind, namespace, name.
    Object(Topic, String, String),
}

/// All problems of one cluster.
#[derive(Debug)]
pub(crate) struct Problems {
    /// What people call it.
    cluster: String,
    texts: BTreeMap<About, String>,
}

impl Problems {
    pub(crate) fn new(cluster: &str) -> Self {
        Self { cluster: cluster.to_owned(), texts: BTreeMap::new() }
    }

    /// There is a problem. Its text may change while it lasts: that is shown, not logged.
    pub(crate) fn set(&mut self, about: About, text: String) {
        let known = self.texts.contains_key(&about);
        if !known {
            if matches!(about, About::Object(..)) && self.texts.len() >= MAX_PROBLEMS {
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

    /// Objects of a kind that have problems: namespace and name.
    pub(crate) fn objects(&self, topic: Topic) -> impl Iterator<Item = (String, String)> {
        self.texts.keys().filter_map(move |about| match about {
            About::Object(of, namespace, name) if *of == topic => Some((namespace.clone(), name.clone())),
            _ => None,
        })
    }

    /// A list of a kind is complete: problems of objects that are not there are over.
    pub(crate) fn keep_objects(&mut self, topic: Topic, there: impl Fn(&str, &str) -> bool) {
        let gone: Vec<_> = self.objects(topic).filter(|(namespace, name)| !there(namespace, name)).collect();
        for (namespace, name) in gone {
            self.clear(&About::Object(topic, namespace, name));
        }
    }

    /// Problems of host names that nobody asks for are over.
    pub(crate) fn keep_hosts(&mut self, wanted: &BTreeSet<Box<str>>) {
        let over = |about: &About| matches!(about, About::Host(name) if !wanted.contains(name));
        let gone: Vec<About> = self.texts.keys().filter(|about| over(about)).cloned().collect();
        gone.iter().for_each(|about| self.clear(about));
    }

    /// For people.
    pub(crate) fn texts(&self) -> Vec<String> {
        let full = self.texts.len() >= MAX_PROBLEMS;
        let more = full.then(|| "there may be more objects that can't be read".to_owned());
        self.texts.values().cloned().chain(more).collect()
    }
}
