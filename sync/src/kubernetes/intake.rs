//! Takes in what one cluster says: raw objects become changes for the table.
//!
//! No I/O and no clock: a table of words in, changes and problems out.

mod heard;
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use portolan_zones::ClusterId;
use portolan_zones::object::{Change, ObjectKey};

use super::discovery::Topic;
use super::hosts::{Hosts, Named};
use super::problems::{About, Problems};
use super::raw::Raw;
use super::watch::Word;
use crate::convert::{self, Kind};
use crate::intern::Interner;
use heard::Heard;
use reading::{Read, key_of, read};

/// Exports that are not accepted are remembered, up to so many.
const MOST_REFUSED: usize = 10_000;
/// The first look-ups of host names are waited for, for so long after all objects were listed.
const NAMES: Duration = Duration::from_secs(10);
/// Exports that are not accepted are named, up to so many.
const SHOWN: usize = 10;

/// What is said of an object whose host names are not looked up.
const NO_ROOM: &str = "its host names are not looked up: the objects that have some are too large together";

/// What is known of one cluster's objects.
pub(crate) struct Intake {
    /// Whether it is the own cluster: what is behind its gateways is reached without them, so that nobody waits to know them.
    own: bool,
    topics: BTreeMap<Topic, Heard>,
    pub(crate) problems: Problems,
    /// Namespaces whose exports count; `None`: all.
    accepted: Option<BTreeSet<String>>,
    interner: Interner,
    hosts: Hosts,
    changes: Vec<Change>,
}

impl Intake {
    pub(crate) fn new(cluster: &str, own: bool) -> Self {
        Self {
            own,
            topics: BTreeMap::new(),
            problems: Problems::new(cluster),
            accepted: None,
            interner: Interner::default(),
            hosts: Hosts::default(),
            changes: Vec::new(),
        }
    }

    /// Listens to these from now on. What is known of others is taken back, and what is in namespaces that are not accepted,
    /// whether their cluster says a word or not; all else stays, and the lists that follow tell what still holds.
    pub(crate) fn listen(&mut self, topics: &[Topic], accepted: Option<&BTreeSet<String>>) {
        let dropped: Vec<Topic> =
            self.topics.keys().filter(|topic| !topics.contains(topic)).copied().collect();
        for topic in dropped {
            let Some(mut heard) = self.topics.remove(&topic) else { continue };
            let gone = heard.known.take_back(|_| true);
            self.gone(gone);
            self.problems.clear(&About::Kind(topic));
            self.problems.clear(&About::Watch(topic));
            self.problems.clear(&About::Flood(topic));
            self.problems.keep_objects(topic, |_, _| false);
        }
        for topic in topics {
            self.topics.entry(*topic).or_default();
        }
        if self.accepted.as_ref() != accepted {
            self.accepted = accepted.cloned();
            self.take_back_refused();
        }
    }

    fn take_back_refused(&mut self) {
        let Some(accepted) = &self.accepted else { return };
        let mut gone = Vec::new();
        for (topic, heard) in self.topics.iter_mut().filter(|(topic, _)| is_accepted_by_namespace(**topic)) {
            let refused =
                |key: &ObjectKey| key.namespace().is_some_and(|namespace| !accepted.contains(namespace));
            let taken = heard.known.take_back(refused);
            if *topic == Topic::ServiceExport {
                let names = taken.iter().filter_map(|change| match change {
                    Change::Delete(ObjectKey::Export(name)) => {
                        Some((name.namespace().to_owned(), name.name().to_owned()))
                    }
                    _ => None,
                });
                let room = MOST_REFUSED.saturating_sub(heard.refused.now.len());
                heard.refused.now.extend(names.take(room));
            }
            gone.extend(taken);
        }
        self.gone(gone);
    }

    /// Objects are gone, for the table and for whoever looks names up.
    fn gone(&mut self, changes: Vec<Change>) {
        for change in &changes {
            if let Change::Delete(key) = change {
                self.hosts.forget(key);
            }
        }
        self.changes.extend(changes);
    }

    /// Everything is to be told anew.
    pub(crate) fn forget(&mut self) {
        for heard in self.topics.values_mut() {
            let broken_at = heard.broken_at;
            *heard = Heard { broken_at, ids: std::mem::take(&mut heard.ids), ..Heard::default() };
        }
        self.hosts.clear();
        self.changes.clear();
    }

    /// Who answers may be another cluster than before: the id that it gave itself is to be asked again.
    pub(crate) fn forget_id(&mut self) {
        if let Some(heard) = self.topics.get_mut(&Topic::ClusterProperty) {
            *heard = Heard::default();
        }
    }

    /// Takes a word in.
    pub(crate) fn hear(&mut self, topic: Topic, word: Word, now: Instant) {
        let Some(heard) = self.topics.get_mut(&topic) else { return };
        let denied = matches!(word, Word::Denied(_));
        match word {
            Word::Begin => self.begin(topic),
            Word::Listed(raw) | Word::Apply(raw) => self.apply(topic, &raw),
            Word::Done => self.done(topic, now),
            Word::Delete(raw) => self.delete(topic, &raw),
            Word::Absent => self.absent(topic, now),
            Word::Broken(text) | Word::Denied(text) => {
                heard.broken_at.get_or_insert(now);
                heard.denied = denied;
                let about = |denied| if denied { About::Kind(topic) } else { About::Watch(topic) };
                self.problems.clear(&about(!denied));
                self.problems.set(about(denied), text);
            }
            Word::Mended => {
                heard.broken_at = None;
                self.works(topic);
            }
        }
    }

    /// Changes since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Whether all that is needed has been listed. Of a peer Nodes are needed, too, unless they can't be read for as long as
    /// `patience`: without them Services with node ports have no gateway. And every host name there must have been looked up
    /// once, as far as that takes no longer than is good: a gateway that is not known yet is not a gateway that is gone.
    pub(crate) fn is_complete(&self, now: Instant, patience: Duration) -> bool {
        let mut needed = self.topics.iter().filter(|(topic, _)| topic.is_needed());
        let nodes = self.topics.get(&Topic::Node).filter(|_| !self.own);
        let last = self.topics.values().filter_map(|heard| heard.listed).max();
        !self.topics.is_empty()
            && needed.all(|(_, heard)| heard.listed.is_some())
            && nodes.is_none_or(|heard| heard.is_settled(now, patience))
            // A policy that is not known yet is not a policy that is gone, nor is a cluster up that is not known to be drained.
            && [Topic::TrafficPolicy, Topic::ClusterPeer]
                .iter()
                .filter_map(|topic| self.topics.get(topic))
                .all(|heard| heard.is_settled(now, patience))
            && (self.own
                || self.hosts.are_tried()
                || last.is_some_and(|at| now.saturating_duration_since(at) >= NAMES))
    }

    /// Whether it is known which id the cluster gives itself, if any: who may not read it has to do without, and who can't
    /// for as long as `patience`, too.
    pub(crate) fn knows_id(&self, now: Instant, patience: Duration) -> bool {
        self.topics.get(&Topic::ClusterProperty).is_some_and(|heard| heard.is_settled(now, patience))
    }

    /// Since when something that is needed can't be watched.
    pub(crate) fn deaf_since(&self) -> Option<Instant> {
        let needed = self.topics.iter().filter(|(topic, _)| topic.is_needed());
        needed.filter_map(|(_, heard)| heard.broken_at).min()
    }

    /// The id that the cluster gives itself.
    pub(crate) fn id(&self) -> Option<&ClusterId> {
        self.topics.get(&Topic::ClusterProperty)?.ids.now.values().next()
    }

    /// Objects that count, by kind.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, usize> {
        let told = |topic: Topic| !matches!(topic, Topic::ClusterProperty | Topic::Lease);
        let counted = self.topics.iter().filter(|(topic, _)| told(**topic));
        counted.map(|(topic, heard)| (topic.found().kind, heard.known.len())).collect()
    }

    /// How many exports are not accepted, and the first of them.
    pub(crate) fn refused_exports(&self) -> (usize, Vec<String>) {
        let Some(heard) = self.topics.get(&Topic::ServiceExport) else { return Default::default() };
        let refused = &heard.refused.now;
        let first = refused.iter().take(SHOWN).map(|(namespace, name)| format!("{namespace}/{name}"));
        (refused.len(), first.collect())
    }

    /// Whether a kind can't be watched now.
    pub(crate) fn is_broken(&self, topic: Topic) -> bool {
        self.topics.get(&topic).is_some_and(|heard| heard.broken_at.is_some())
    }

    /// Host names that must be resolved, if others than at the last call. What is known of others is forgotten.
    pub(crate) fn take_wanted_names(&mut self) -> Option<BTreeSet<Box<str>>> {
        let wanted = self.hosts.take()?;
        self.problems.keep_hosts(&wanted);
        match self.hosts.left_out() {
            0 => self.problems.clear(&About::Hosts),
            more => self.problems.set(
                About::Hosts,
                format!("{more} host names of gateways are not looked up: there are too many"),
            ),
        }
        Some(wanted)
    }

    /// A host name has these addresses now, or can't be resolved: then it keeps those that it had.
    pub(crate) fn resolved(&mut self, name: &str, result: Result<Box<[IpAddr]>, String>) {
        if !self.hosts.asks(name) {
            return;
        }
        let about = About::Host(name.into());
        match &result {
            Ok(_) => self.problems.clear(&about),
            Err(error) => {
                let whose = self.hosts.whose(name);
                let text = format!(
                    "host name {name} of a gateway can't be resolved ({whose}): {error}; what it was holds"
                );
                self.problems.set(about, text);
            }
        }
        for again in self.hosts.resolved(name, result.ok()) {
            let known = self.hosts.addresses();
            if let Ok(Read::Object { object: Some(object), .. }) =
                read(again.kind, &again.json, known, &mut self.interner)
                && let Some(heard) = self.topics.get_mut(&again.topic)
            {
                self.changes.extend(heard.known.retell(object));
            }
        }
    }

    fn begin(&mut self, topic: Topic) {
        let Some(heard) = self.topics.get_mut(&topic) else { return };
        heard.known.begin();
        heard.refused.begin();
        heard.ids.begin();
        heard.floods = false;
        heard.suspects = self.problems.objects(topic).collect();
        self.problems.begin(topic);
    }

    /// The list is complete.
    fn done(&mut self, topic: Topic, now: Instant) {
        self.sweep(topic, now);
        self.works(topic);
    }

    fn works(&mut self, topic: Topic) {
        self.problems.clear(&About::Kind(topic));
        self.problems.clear(&About::Watch(topic));
    }

    /// Not served: nothing is there.
    fn absent(&mut self, topic: Topic, now: Instant) {
        self.begin(topic);
        self.sweep(topic, now);
        self.problems.clear(&About::Watch(topic));
        if matches!(topic, Topic::ClusterProperty | Topic::TrafficPolicy | Topic::ClusterPeer) {
            self.problems.clear(&About::Kind(topic));
        } else {
            self.problems.set(About::Kind(topic), topic.absence());
        }
    }

    /// What the list did not name is gone.
    fn sweep(&mut self, topic: Topic, now: Instant) {
        let Some(heard) = self.topics.get_mut(&topic) else { return };
        heard.refused.done();
        heard.ids.done();
        heard.listed.get_or_insert(now);
        heard.broken_at = None;
        if !heard.floods {
            self.problems.clear(&About::Flood(topic));
        }
        let gone = heard.known.sweep();
        let suspects = std::mem::take(&mut heard.suspects);
        self.problems.keep_objects(topic, |namespace, name| {
            !suspects.contains(&(namespace.to_owned(), name.to_owned()))
        });
        self.gone(gone);
    }

    fn apply(&mut self, topic: Topic, raw: &Raw) {
        let Some(kind) = topic.kind() else { return };
        if !self.accepts(topic, raw) {
            return self.refuse(topic, raw);
        }
        let about = || About::Object(topic, raw.namespace().to_owned(), raw.name().to_owned());
        let read = read(kind, raw.json(), self.hosts.addresses(), &mut self.interner);
        let Some(heard) = self.topics.get_mut(&topic) else { return };
        match read {
            Ok(Read::Object { object: Some(object), .. }) if !heard.known.has_room_for(&object) => {
                heard.floods = true;
                heard.known.keep(&object.key());
                let text = format!("there are too many {}: not all are taken in", topic.resource());
                self.problems.set(About::Flood(topic), text);
            }
            Ok(Read::Object { object, names, refused }) => {
                let mut text = refused.text();
                match object {
                    Some(object) => {
                        let key = object.key();
                        self.changes.extend(heard.known.apply(object));
                        if !self.set_names(topic, kind, key, names, raw) {
                            text = text.or_else(|| Some(NO_ROOM.to_owned()));
                        }
                    }
                    None => self.drop_object(topic, kind, raw),
                }
                match text {
                    Some(text) => self.complain(topic, raw, &text),
                    None => self.problems.clear(&about()),
                }
            }
            Ok(Read::Id(rank, id)) => {
                heard.ids.current().insert(rank, id);
                self.problems.clear(&about());
            }
            Err(error) => {
                heard.keep_id(convert::id_rank(raw.name()));
                let kept = key_of(kind, raw).is_some_and(|key| heard.known.keep(&key));
                let holds = if kept { "what was known of it holds" } else { "it is left out" };
                self.complain(topic, raw, &format!("{error}; {holds}"));
            }
        }
    }

    /// An object that counts has these host names; whether there is room for them.
    fn set_names(
        &mut self,
        topic: Topic,
        kind: Kind,
        key: ObjectKey,
        names: Vec<Box<str>>,
        raw: &Raw,
    ) -> bool {
        if names.is_empty() {
            self.hosts.forget(&key);
            return true;
        }
        self.hosts.set(key, Named { topic, kind, json: raw.json().into(), names })
    }

    /// Something is wrong with an object.
    fn complain(&mut self, topic: Topic, raw: &Raw, text: &str) {
        let (namespace, name) = (raw.namespace().to_owned(), raw.name().to_owned());
        let slash = if namespace.is_empty() { "" } else { "/" };
        let text = format!("{} {namespace}{slash}{name}: {text}", topic.found().kind);
        if let Some(heard) = self.topics.get_mut(&topic) {
            heard.suspects.remove(&(namespace.clone(), name.clone()));
        }
        self.problems.set(About::Object(topic, namespace, name), text);
    }

    fn delete(&mut self, topic: Topic, raw: &Raw) {
        let Some(kind) = topic.kind() else { return };
        let about = About::Object(topic, raw.namespace().to_owned(), raw.name().to_owned());
        self.problems.clear(&about);
        if let Some(heard) = self.topics.get_mut(&topic) {
            heard.refused.current().remove(&(raw.namespace().to_owned(), raw.name().to_owned()));
        }
        if topic != Topic::ClusterProperty {
            return self.drop_object(topic, kind, raw);
        }
        if let Ok(Read::Id(rank, _)) = read(kind, raw.json(), self.hosts.addresses(), &mut self.interner)
            && let Some(heard) = self.topics.get_mut(&topic)
        {
            heard.ids.current().remove(&rank);
        }
    }

    /// The object is gone, or does not matter (any more).
    fn drop_object(&mut self, topic: Topic, kind: Kind, raw: &Raw) {
        let Some(key) = key_of(kind, raw) else { return };
        self.hosts.forget(&key);
        if let Some(heard) = self.topics.get_mut(&topic) {
            self.changes.extend(heard.known.delete(key));
        }
    }

    fn accepts(&self, topic: Topic, raw: &Raw) -> bool {
        let namespace = if topic == Topic::Namespace { raw.name() } else { raw.namespace() };
        let accepted = self.accepted.as_ref().filter(|_| is_accepted_by_namespace(topic));
        accepted.is_none_or(|accepted| accepted.contains(namespace))
    }

    fn refuse(&mut self, topic: Topic, raw: &Raw) {
        let Some(heard) = self.topics.get_mut(&topic) else { return };
        if topic == Topic::ServiceExport {
            let refused = heard.refused.current();
            if refused.len() < MOST_REFUSED {
                refused.insert((raw.namespace().to_owned(), raw.name().to_owned()));
            }
        }
        if let Some(kind) = topic.kind() {
            self.drop_object(topic, kind, raw);
        }
    }
}

/// Whether a cluster may be allowed to speak for some namespaces only.
fn is_accepted_by_namespace(topic: Topic) -> bool {
    matches!(
        topic,
        Topic::Namespace
            | Topic::Service
            | Topic::EndpointSlice
            | Topic::ServiceExport
            | Topic::TrafficPolicy
    )
}

#[cfg(test)]
mod tests;
