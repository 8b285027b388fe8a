//! What is wrong with one cluster: each problem is logged when it comes up and when it is over, and not in between.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::discovery::Topic;
use crate::owner::MAX_PROBLEMS;

/// Problems of one sort that are counted where they are not told.
const MOST_UNTOLD: usize = 10_000;

/// What a problem is about. Of each there is one problem at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum About {
    /// The API server can't be reached, or refuses us.
    Server,
    /// Who it is can't be known.
    Uid,
    /// New credentials can't be used, while the former ones can.
    Credentials,
    /// It has no id, or is another cluster than before.
    Identity,
    /// Another entry is the same cluster.
    Duplicate,
    /// A kind is not served, or we may not read it.
    Kind(Topic),
    /// A kind can't be watched for now.
    Watch(Topic),
    /// There is more of a kind than is taken in.
    Flood(Topic),
    /// There are too many host names.
    Hosts,
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
    texts: BTreeMap<About, Problem>,
    /// Objects and names whose problems are not among them, for there are too many: hashes, by kind.
    untold: BTreeMap<Option<Topic>, HashSet<u64, RandomState>>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Problem {
    text: String,
    /// How often it was told.
    tellings: u32,
}

impl About {
    /// How often a problem must be told until it is logged. What fails to be watched is tried again at once, and mostly
    /// for the reason that the server is not there, which is a problem of its own.
    fn patience(&self) -> u32 {
        if matches!(self, Self::Watch(_)) { 7 } else { 1 }
    }

    /// Whether there may be very many of its sort; the kind of object.
    fn bulk(&self) -> Option<Option<Topic>> {
        match self {
            Self::Object(topic, ..) => Some(Some(*topic)),
            Self::Host(_) => Some(None),
            _ => None,
        }
    }
}

impl Problems {
    pub(crate) fn new(cluster: &str) -> Self {
        let (texts, untold) = Default::default();
        Self { cluster: cluster.to_owned(), texts, untold, hasher: RandomState::default() }
    }

    /// There is a problem. Its text may change while it lasts: that is shown, not logged.
    pub(crate) fn set(&mut self, about: About, text: String) {
        let full = self.texts.len() >= MAX_PROBLEMS;
        let patience = about.patience();
        let overshadowed = matches!(about, About::Watch(_)) && self.texts.contains_key(&About::Server);
        let problem = match self.texts.entry(about) {
            Entry::Vacant(entry) if full && let Some(sort) = entry.key().bulk() => {
                let hash = self.hasher.hash_one(entry.key());
                let untold = self.untold.entry(sort).or_default();
                if untold.len() < MOST_UNTOLD {
                    untold.insert(hash);
                }
                return;
            }
            Entry::Vacant(entry) => entry.insert(Problem { text: String::new(), tellings: 0 }),
            Entry::Occupied(entry) => entry.into_mut(),
        };
        problem.text = text;
        if problem.tellings < patience && !overshadowed {
            problem.tellings += 1;
            if problem.tellings == patience {
                tracing::warn!(cluster = self.cluster, "{}", problem.text);
            }
        }
    }

    /// There is this problem, or none.
    pub(crate) fn found(&mut self, about: About, problem: Option<String>) {
        match problem {
            Some(text) => self.set(about, text),
            None => self.clear(&about),
        }
    }

    /// There is none, or no longer.
    pub(crate) fn clear(&mut self, about: &About) {
        if !self.untold.is_empty()
            && let Some(untold) = about.bulk().and_then(|sort| self.untold.get_mut(&sort))
        {
            untold.remove(&self.hasher.hash_one(about));
        }
        if let Some(problem) = self.texts.remove(about)
            && problem.tellings >= about.patience()
        {
            tracing::info!(cluster = self.cluster, "over: {}", problem.text);
        }
    }

    /// Objects of a kind that have problems: namespace and name.
    pub(crate) fn objects(&self, topic: Topic) -> impl Iterator<Item = (String, String)> {
        self.texts.keys().filter_map(move |about| match about {
            About::Object(of, namespace, name) if *of == topic => Some((namespace.clone(), name.clone())),
            _ => None,
        })
    }

    /// A list of a kind begins: it tells of all its objects again.
    pub(crate) fn begin(&mut self, topic: Topic) {
        self.untold.remove(&Some(topic));
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
        self.untold.remove(&None);
    }

    /// For people.
    pub(crate) fn texts(&self) -> Vec<String> {
        let untold: usize = self.untold.values().map(HashSet::len).sum();
        let more = (untold > 0).then(|| format!("{untold} more objects and host names have problems"));
        // That nothing can be watched goes without saying when the server is not there.
        let away = self.texts.contains_key(&About::Server);
        let told = self.texts.iter().filter(|(about, _)| !(away && matches!(about, About::Watch(_))));
        told.map(|(_, problem)| problem.text.clone()).chain(more).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_away_is_the_only_problem_of_its_watches() {
        let mut problems = Problems::new("west");
        let text = |about: &About| format!("{about:?}");
        let all = [About::Server, About::Kind(Topic::Node), About::Watch(Topic::Service)];
        all.iter().for_each(|about| problems.set(about.clone(), text(about)));
        assert_eq!(problems.texts(), ["Server", "Kind(Node)"]);
        problems.clear(&About::Server);
        assert_eq!(problems.texts(), ["Kind(Node)", "Watch(Service)"]);
    }

    #[test]
    fn problems_of_objects_are_listed_up_to_a_limit() {
        let mut problems = Problems::new("west");
        for number in 0..2 * MAX_PROBLEMS {
            problems.set(About::Object(Topic::Node, String::new(), number.to_string()), "broken".to_owned());
        }
        assert_eq!(problems.texts().len(), MAX_PROBLEMS + 1);
        let more = |problems: &Problems| problems.texts().last().unwrap().clone();
        assert_eq!(more(&problems), format!("{MAX_PROBLEMS} more objects and host names have problems"));
        problems.set(About::Host("lb.example".into()), "no such name".to_owned());
        assert!(more(&problems).starts_with(&format!("{} more", MAX_PROBLEMS + 1)), "names are bounded, too");
        problems.clear(&About::Host("lb.example".into()));
        assert!(more(&problems).starts_with(&format!("{MAX_PROBLEMS} more")));
        problems.set(About::Server, "away".to_owned());
        assert_eq!(problems.texts()[0], "away", "there is always room for what matters more");
        problems.begin(Topic::Node);
        problems.keep_objects(Topic::Node, |_, _| false);
        assert_eq!(problems.texts(), ["away"]);
    }
}
