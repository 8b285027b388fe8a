//! The objects of one kind, as lists and watches tell them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::kubernetes::raw::Raw;
use crate::kubernetes::watch::Word;

/// Objects by `<namespace>/<name>`, or by name where there are no namespaces.
#[derive(Debug)]
pub(crate) struct Listed<T> {
    /// As each was last when it could be read.
    objects: BTreeMap<String, Arc<T>>,
    /// Objects that can't be read now.
    broken: BTreeMap<String, Broken>,
    /// The names of the list under way.
    listing: Option<BTreeSet<String>>,
    /// Whether all have been listed once, or there can be none.
    pub(crate) complete: bool,
    /// Why they can't be listed or watched.
    pub(crate) problem: Option<String>,
}

/// An object that can't be read.
#[derive(Debug)]
pub(crate) struct Broken {
    /// Why.
    pub(crate) why: String,
    /// What it says, as far as anybody can tell.
    pub(crate) json: serde_json::Value,
}

impl<T> Default for Listed<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            broken: BTreeMap::new(),
            listing: None,
            complete: false,
            problem: None,
        }
    }
}

impl<T: DeserializeOwned> Listed<T> {
    /// Takes a word over them. `absence` says what it means that there is no such kind.
    pub(crate) fn hear(&mut self, word: Word, absence: impl FnOnce() -> String) {
        match word {
            Word::Begin => self.listing = Some(BTreeSet::new()),
            Word::Listed(raw) => {
                let name = self.take(&raw);
                self.listing.get_or_insert_default().insert(name);
            }
            Word::Done => {
                let there = self.listing.take().unwrap_or_default();
                self.objects.retain(|name, _| there.contains(name));
                self.broken.retain(|name, _| there.contains(name));
                (self.complete, self.problem) = (true, None);
            }
            Word::Apply(raw) => drop(self.take(&raw)),
            Word::Delete(raw) => {
                self.objects.remove(&key(&raw));
                self.broken.remove(&key(&raw));
            }
            Word::Absent => {
                *self = Self { complete: true, problem: Some(absence()), ..Self::default() };
            }
            Word::Broken(text) | Word::Denied(text) => self.problem = Some(text),
            Word::Mended => self.problem = None,
        }
    }

    fn take(&mut self, raw: &Raw) -> String {
        let name = key(raw);
        let read = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(raw.json()));
        match read {
            Ok(object) => {
                self.broken.remove(&name);
                self.objects.insert(name.clone(), Arc::new(object));
            }
            Err(error) => {
                let json = serde_json::from_str(raw.json()).unwrap_or_default();
                self.broken.insert(name.clone(), Broken { why: error.to_string(), json });
            }
        }
        name
    }
}

impl<T> Listed<T> {
    pub(crate) fn objects(&self) -> &BTreeMap<String, Arc<T>> {
        &self.objects
    }

    /// Those that can't be read, by name.
    pub(crate) fn broken(&self) -> &BTreeMap<String, Broken> {
        &self.broken
    }

    /// Whether it is not known yet what there is, nor why not.
    pub(crate) fn is_pending(&self) -> bool {
        !self.complete && self.problem.is_none()
    }
}

fn key(raw: &Raw) -> String {
    match raw.namespace() {
        "" => raw.name().to_owned(),
        namespace => format!("{namespace}/{}", raw.name()),
    }
}
