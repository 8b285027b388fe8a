//! Reading a mapping field by field: typed getters that collect every problem instead of stopping at the first,
//! and that remember which keys were asked for, so that all others are unknown.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::document::Findings;
use crate::objects;
use crate::scalar::Scalar;
use crate::tree::{Entry, Node, Value};

/// A mapping that is being read. Its getters return what holds; what is wrong is found when all of the file is read.
pub struct Section<'a> {
    findings: &'a mut Findings,
    /// Path of this section; empty for the root.
    path: String,
    line: usize,
    entries: &'a [Entry],
    keys: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// Lets `read` take what it knows from `node`, then refuses every key that it did not ask for.
    pub(crate) fn read<T>(
        findings: &'a mut Findings,
        path: String,
        node: &'a Node,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let entries: &[Entry] = match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            Value::Scalar(_) | Value::List(_) => {
                findings.add(node.line, &path, "expected a section of `key: value` lines");
                &[]
            }
        };
        let mut section = Section { findings, path, line: node.line, entries, keys: Vec::new() };
        let result = read(&mut section);
        section.refuse_the_rest();
        result
    }

    /// The value at `key`, or `default` when it is not written.
    pub fn get<T: Scalar>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// The value at `key` when there is one; an empty text counts as none.
    pub fn optional<T: Scalar>(&mut self, key: &'static str) -> Option<T> {
        let node = self.find(key)?;
        match &node.value {
            Value::Scalar(text) if text.is_empty() && !T::MAY_BE_EMPTY => None,
            _ => self.scalar(&self.field(key), node),
        }
    }

    /// The value at `key`, which an empty text turns off.
    pub fn or_off<T: Scalar>(&mut self, key: &'static str, default: Option<T>) -> Option<T> {
        if self.has(key) { self.optional(key) } else { default }
    }

    /// The value at `key`, which has no default.
    pub fn required<T: Scalar>(&mut self, key: &'static str) -> Option<T> {
        if self.find(key).is_none() {
            let message = format!("`{key}` is missing: it has no default");
            self.findings.add(self.line, &self.field(key), message);
        }
        self.optional(key)
    }

    /// A number at `key` that must not be 0.
    pub fn at_least_one(&mut self, key: &'static str, default: usize) -> usize {
        let number = self.get(key, default);
        if number == 0 {
            self.problem(key, "must be at least 1");
        }
        number
    }

    /// The list at `key`, or `default` when it is not written. A single scalar is a list of one.
    pub fn list<T: Scalar>(&mut self, key: &'static str, default: Vec<T>) -> Vec<T> {
        let Some(node) = self.find(key) else {
            return default;
        };
        let field = self.field(key);
        match &node.value {
            Value::List(items) => {
                let items = items.iter().enumerate();
                items.filter_map(|(at, item)| self.scalar(&format!("{field}[{at}]"), item)).collect()
            }
            _ => self.scalar(&field, node).into_iter().collect(),
        }
    }

    /// The section at `key`; an absent one is read as an empty one.
    pub fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let field = self.field(key);
        let absent = Node { line: self.line, value: Value::Null };
        let node = self.find(key).unwrap_or(&absent);
        Section::read(self.findings, field, node, read)
    }

    /// The list of sections at `key`, or `default` when it is not written. Items of which `read` makes nothing are left out.
    pub fn sections<T>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        read: impl Fn(&mut Section<'_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(node) = self.find(key) else {
            return default;
        };
        let field = self.field(key);
        let Value::List(items) = &node.value else {
            self.findings.add(node.line, &field, "expected a list: lines that begin with `-`");
            return default;
        };
        let items = items.iter().enumerate();
        items
            .filter_map(|(at, item)| Section::read(self.findings, format!("{field}[{at}]"), item, &read))
            .collect()
    }

    /// What is written at `key` as a type of Kubernetes' API.
    pub fn object<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        let node = self.find(key)?;
        let wrong = match objects::read(node) {
            Ok(object) => return Some(object),
            Err(wrong) => wrong,
        };
        self.findings.add(wrong.line, &within(&self.field(key), &wrong.field), wrong.message);
        None
    }

    /// Whether something is written at `name` in the section at `key`.
    pub fn has_below(&mut self, key: &'static str, name: &str) -> bool {
        match self.find(key).map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.iter().any(|entry| entry.key == name),
            _ => false,
        }
    }

    /// Notes that something within what is written at `key` can't be; `path` is below `key`.
    pub fn problem_below(&mut self, key: &'static str, path: &str, message: impl Into<String>) {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let line = entry.map_or(self.line, |entry| entry.node.line_of(path));
        self.findings.add(line, &within(&self.field(key), path), message);
    }

    /// The same for one entry of the section at `key`, whatever its name is made of; at its own line.
    pub fn problem_of(&mut self, key: &'static str, name: &str, message: impl Into<String>) {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let line = match entry.map(|entry| &entry.node) {
            Some(Node { value: Value::Map(entries), line }) => {
                entries.iter().find(|entry| entry.key == name).map_or(*line, |entry| entry.line)
            }
            Some(node) => node.line,
            None => self.line,
        };
        self.findings.add(line, &format!("{}.{name}", self.field(key)), message);
    }

    /// Notes that what is written at `key` can't be, at its line, or at the section's when it is not written.
    pub fn problem(&mut self, key: &'static str, message: impl Into<String>) {
        let line =
            self.entries.iter().find(|entry| entry.key == key).map_or(self.line, |entry| entry.node.line);
        self.findings.add(line, &self.field(key), message);
    }

    /// The same for one item of the list at `key`.
    pub fn problem_in(&mut self, key: &'static str, at: usize, message: impl Into<String>) {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let line = match entry.map(|entry| &entry.node) {
            Some(Node { value: Value::List(items), line }) => items.get(at).map_or(*line, |item| item.line),
            Some(node) => node.line,
            None => self.line,
        };
        self.findings.add(line, &format!("{}[{at}]", self.field(key)), message);
    }

    /// Refuses to have one thing twice in the list at `key`; `None` is no thing.
    pub fn refuse_twice<'t, T: PartialEq + fmt::Display + 't>(
        &mut self,
        key: &'static str,
        items: impl Iterator<Item = Option<&'t T>>,
    ) {
        let items: Vec<_> = items.collect();
        if self.items(key) != items.len() {
            return; // Wrong items are left out, so positions are not those of the file.
        }
        let mut seen: Vec<Option<&T>> = Vec::new();
        for (at, item) in items.into_iter().enumerate() {
            match item {
                Some(twice) if seen.contains(&item) => {
                    self.problem_in(key, at, format!("`{twice}` is listed twice: remove one"));
                }
                _ => seen.push(item),
            }
        }
    }

    /// Takes `keys` for known without looking at what is written there: others read it.
    pub(crate) fn leave_to_others(&mut self, keys: &[&'static str]) {
        let unread: Vec<_> = keys.iter().filter(|key| !self.keys.contains(key)).collect();
        self.keys.extend(unread);
    }

    /// Whether something is written at `key`.
    pub fn has(&mut self, key: &'static str) -> bool {
        self.find(key).is_some()
    }

    /// How many items are written at `key`; a single value counts as one.
    pub fn items(&mut self, key: &'static str) -> usize {
        match self.find(key).map(|node| &node.value) {
            Some(Value::List(items)) => items.len(),
            Some(_) => 1,
            None => 0,
        }
    }

    /// `path`, which is relative to the configuration file's folder.
    pub fn beside_file(&self, path: &Path) -> PathBuf {
        self.findings.file.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    /// A path of what is to be remembered.
    pub fn in_state_folder(&self, path: &Path) -> PathBuf {
        self.findings.state_folder.join(path)
    }

    /// The node at `key`, unless it is absent or null; the key is known from now on.
    fn find(&mut self, key: &'static str) -> Option<&'a Node> {
        if !self.keys.contains(&key) {
            self.keys.push(key);
            let without_positions = |field: &str| {
                field.split('[').map(|part| part.split_once(']').map_or(part, |(_, rest)| rest)).collect()
            };
            self.findings.known.insert(without_positions(&self.field(key)));
        }
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (entry.node.value != Value::Null).then_some(&entry.node)
    }

    fn scalar<T: Scalar>(&mut self, field: &str, node: &Node) -> Option<T> {
        let parsed = match &node.value {
            Value::Scalar(text) => T::parse(text).map_err(|why| match T::PRIVATE {
                true => format!("what is written here {why}"),
                false => format!("`{text}` {why}"),
            }),
            Value::Null => Err(format!("nothing is written here, expected {}", T::EXPECTED)),
            Value::List(_) => Err(format!("expected {}, not a list", T::EXPECTED)),
            Value::Map(_) => Err(format!("expected {}, not a section", T::EXPECTED)),
        };
        parsed.map_err(|message| self.findings.add(node.line, field, message)).ok()
    }

    fn field(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn refuse_the_rest(&mut self) {
        for (at, entry) in self.entries.iter().enumerate() {
            let field = self.field(&entry.key);
            if let Some(first) = self.entries[..at].iter().find(|earlier| earlier.key == entry.key) {
                let message =
                    format!("`{}` is written twice, first on line {}: remove one", entry.key, first.line);
                self.findings.add(entry.line, &field, message);
            } else if !self.keys.contains(&&*entry.key) {
                self.findings.add(entry.line, &field, unknown(&entry.key, &self.keys));
            }
        }
    }
}

/// The path of what is at `path` below `field`.
pub(crate) fn within(field: &str, path: &str) -> String {
    match path.chars().next() {
        None => field.to_owned(),
        Some('[') => format!("{field}{path}"),
        Some(_) => format!("{field}.{path}"),
    }
}

/// Names the nearest known key when one is near enough to be meant, else all of them.
pub(crate) fn unknown(key: &str, known: &[&'static str]) -> String {
    let distance = |known: &&&str| strsim::damerau_levenshtein(key, known);
    let near_enough = |known: &&&str| distance(known) <= key.len().max(3) / 3;
    match known.iter().filter(near_enough).min_by_key(distance) {
        Some(nearest) => format!("unknown key `{key}`, did you mean `{nearest}`?"),
        None => format!("unknown key `{key}`, known here: {}", known.join(", ")),
    }
}
