//! Host names of gateways, as one cluster's objects have them: who wants which, and what is known of each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;
use portolan_zones::object::ObjectKey;

use super::discovery::Topic;
use crate::convert::{Kind, Names};

/// Names that are looked up for one cluster; of more than these what was known holds.
const MOST_NAMES: usize = 1000;

/// Bytes of objects that have names, which are kept to be read again.
const MOST_BYTES: usize = if cfg!(test) { 10_000 } else { 64 << 20 };

/// The names of one cluster.
#[derive(Default)]
pub(crate) struct Hosts {
    /// Objects that have names: they are read again when an address changes.
    objects: HashMap<ObjectKey, Named, RandomState>,
    /// How long these are together.
    bytes: usize,
    /// Who wants a name.
    wanted: BTreeMap<Box<str>, BTreeSet<ObjectKey>>,
    /// Whether other names are wanted than when they were last taken.
    moved: bool,
    /// Names that are looked up, and whether they were once, with an answer or without.
    tried: BTreeMap<Box<str>, bool>,
    addresses: Names,
}

/// An object that has names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Named {
    pub(crate) topic: Topic,
    pub(crate) kind: Kind,
    pub(crate) json: Arc<str>,
    pub(crate) names: Vec<Box<str>>,
}

impl Hosts {
    /// What is known of all names.
    pub(crate) fn addresses(&self) -> &Names {
        &self.addresses
    }

    /// An object has these names now; whether there is room for it. If not, it is as though it had none.
    pub(crate) fn set(&mut self, key: ObjectKey, named: Named) -> bool {
        let before = self.objects.get(&key).map_or(0, |before| before.json.len());
        let bytes = self.bytes - before + named.json.len();
        if bytes > MOST_BYTES {
            self.forget(&key);
            return false;
        }
        self.bytes = bytes;
        for name in &named.names {
            let objects = self.wanted.entry(name.clone()).or_default();
            self.moved |= objects.is_empty();
            objects.insert(key.clone());
        }
        let before = self.objects.remove(&key).map(|before| before.names);
        for name in before.into_iter().flatten().filter(|name| !named.names.contains(name)) {
            self.release(&name, &key);
        }
        self.objects.insert(key, named);
        true
    }

    /// An object is gone, or does not matter.
    pub(crate) fn forget(&mut self, key: &ObjectKey) {
        if let Some(named) = self.objects.remove(key) {
            self.bytes -= named.json.len();
            named.names.iter().for_each(|name| self.release(name, key));
        }
    }

    /// An object wants a name no longer.
    fn release(&mut self, name: &str, key: &ObjectKey) {
        let Some(objects) = self.wanted.get_mut(name) else { return };
        objects.remove(key);
        if objects.is_empty() {
            self.wanted.remove(name);
            self.moved = true;
        }
    }

    /// All objects are gone.
    pub(crate) fn clear(&mut self) {
        self.moved |= !self.wanted.is_empty();
        self.objects.clear();
        self.bytes = 0;
        self.wanted.clear();
    }

    /// The names to look up, if others than at the last call: those that were, and others while there is room.
    pub(crate) fn take(&mut self) -> Option<BTreeSet<Box<str>>> {
        if !std::mem::take(&mut self.moved) {
            return None;
        }
        self.tried.retain(|name, _| self.wanted.contains_key(name));
        self.addresses.retain(|name, _| self.wanted.contains_key(name));
        let new = self.wanted.keys().filter(|name| !self.tried.contains_key(*name));
        let new: Vec<Box<str>> = new.take(MOST_NAMES.saturating_sub(self.tried.len())).cloned().collect();
        self.tried.extend(new.into_iter().map(|name| (name, false)));
        Some(self.tried.keys().cloned().collect())
    }

    /// How many names are not looked up, for there are too many.
    pub(crate) fn left_out(&self) -> usize {
        self.wanted.len().saturating_sub(MOST_NAMES)
    }

    /// Whether every name was looked up once: only then is it known what can't be.
    pub(crate) fn are_tried(&self) -> bool {
        !self.moved && self.tried.values().all(|tried| *tried)
    }

    /// Whether a name is looked up.
    pub(crate) fn asks(&self, name: &str) -> bool {
        self.tried.contains_key(name)
    }

    /// A name was looked up; the objects to read again if it has other addresses than before. Without an answer it keeps
    /// those that it had.
    pub(crate) fn resolved(&mut self, name: &str, answer: Option<Box<[IpAddr]>>) -> Vec<Named> {
        let Some(tried) = self.tried.get_mut(name) else { return Vec::new() };
        *tried = true;
        let Some(addresses) = answer else { return Vec::new() };
        if self.addresses.get(name) == Some(&addresses) {
            return Vec::new();
        }
        self.addresses.insert(name.into(), addresses);
        let objects = self.wanted.get(name).into_iter().flatten();
        objects.filter_map(|key| self.objects.get(key).cloned()).collect()
    }

    /// Who wants a name, for people.
    pub(crate) fn whose(&self, name: &str) -> String {
        let Some(objects) = self.wanted.get(name) else { return String::new() };
        let first = objects.first().map(ToString::to_string).unwrap_or_default();
        let more = objects.len().saturating_sub(1);
        if more > 0 { format!("{first} and {more} more") } else { first }
    }
}

#[cfg(test)]
mod tests {
    use portolan_zones::ServiceName;

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::Service(ServiceName::new("shop", name).unwrap())
    }

    fn named(names: &[&str]) -> Named {
        let names = names.iter().map(|name| (*name).into()).collect();
        Named { topic: Topic::Service, kind: Kind::Service, json: "{}".into(), names }
    }

    fn taken(hosts: &mut Hosts) -> Option<Vec<String>> {
        hosts.take().map(|names| names.iter().map(ToString::to_string).collect())
    }

    /// Names are told when others are wanted, and not when objects are merely told again.
    #[test]
    fn names_are_wanted_while_an_object_has_them() {
        let mut hosts = Hosts::default();
        assert_eq!((taken(&mut hosts), hosts.are_tried()), (None, true));
        hosts.set(key("web"), named(&["a.x", "b.x"]));
        hosts.set(key("api"), named(&["b.x"]));
        assert!(!hosts.are_tried(), "wanted, and nobody looked");
        assert_eq!(taken(&mut hosts), Some(vec!["a.x".into(), "b.x".into()]));
        hosts.set(key("web"), named(&["a.x", "b.x"]));
        assert_eq!(taken(&mut hosts), None, "the same again");
        hosts.set(key("web"), named(&["a.x"]));
        assert_eq!(taken(&mut hosts), None, "somebody else wants it, too");
        assert_eq!(hosts.whose("b.x"), "Service shop/api");
        hosts.forget(&key("api"));
        assert_eq!(taken(&mut hosts), Some(vec!["a.x".into()]));
        hosts.forget(&key("web"));
        assert_eq!((taken(&mut hosts), hosts.are_tried()), (Some(vec![]), true));
    }

    #[test]
    fn a_name_is_tried_when_it_was_answered_or_not() {
        let mut hosts = Hosts::default();
        let address = |last| Some(Box::from([IpAddr::from([192, 0, 2, last])]));
        hosts.set(key("web"), named(&["a.x", "b.x"]));
        hosts.set(key("api"), named(&["a.x"]));
        hosts.take();
        assert_eq!(hosts.resolved("a.x", address(1)).len(), 2);
        assert!(!hosts.are_tried());
        assert_eq!(hosts.resolved("b.x", None), []);
        assert!(hosts.are_tried());
        assert_eq!(hosts.resolved("a.x", address(1)), [], "no news");
        assert_eq!(hosts.resolved("a.x", None), []);
        assert_eq!(hosts.addresses().get("a.x"), address(1).as_ref(), "what it was holds");
        assert_eq!(hosts.resolved("c.x", address(1)), [], "nobody wants it");
        assert_eq!(hosts.addresses().len(), 1);
        assert_eq!(hosts.whose("a.x"), "Service shop/api and 1 more");
    }

    /// Each name costs look-ups: a cluster can't have us do more than these, and doesn't lose those that it has.
    #[test]
    fn there_is_a_bound_to_names() {
        let mut hosts = Hosts::default();
        hosts.set(key("first"), named(&["z.x"]));
        hosts.take();
        let many: Vec<String> = (0..MOST_NAMES + 9).map(|i| format!("{i}.x")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        hosts.set(key("many"), named(&many));
        let names = taken(&mut hosts).unwrap();
        assert!(names.len() == MOST_NAMES && names.contains(&"z.x".to_owned()));
        assert_eq!(hosts.left_out(), 10);
        hosts.set(key("many"), named(&["0.x"]));
        assert_eq!((taken(&mut hosts).unwrap().len(), hosts.left_out()), (2, 0));
    }

    /// Objects are kept for their names: what else is in them is not to fill our memory.
    #[test]
    fn there_is_a_bound_to_what_is_kept() {
        let mut hosts = Hosts::default();
        let large = |length: usize| Named { json: " ".repeat(length).into(), ..named(&["a.x"]) };
        assert!(hosts.set(key("web"), large(MOST_BYTES)));
        assert!(hosts.set(key("web"), large(MOST_BYTES - 100)), "the same object");
        assert!(!hosts.set(key("api"), large(101)));
        assert!(hosts.set(key("api"), large(100)));
        assert!(!hosts.set(key("web"), large(MOST_BYTES)), "it has grown");
        assert_eq!(hosts.whose("a.x"), "Service shop/api");
        hosts.clear();
        assert!(hosts.set(key("web"), large(MOST_BYTES)));
    }
}
