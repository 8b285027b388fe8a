//! Reading a mapping field by field: typed getters that collect every problem instead of stopping at the first,
//! and that remember which keys were asked for, so that all others are unknown.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::objects;
use super::scalar::Scalar;
use super::tree::{Entry, Node, Value};

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Problem {
    /// The file that must be changed.
    pub file: PathBuf,
    /// Line in it, from 1; 0 when it is about the file as a whole.
    pub line: usize,
    /// Path of the field, such as `zones[0].ttl`; empty when it is about the file as a whole.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    /// A problem of the file as a whole.
    pub(crate) fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line: 0, field: String::new(), message: message.into() }
    }
}

/// `file:line: field: message`, the parts that are known.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.field.is_empty() {
            write!(f, " {}:", self.field)?;
        }
        write!(f, " {}", self.message)
    }
}

/// What reading a file finds besides values.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The file that is read.
    pub(super) file: PathBuf,
    /// The folder of what is to be remembered.
    pub(super) state_folder: PathBuf,
    /// Everything that is wrong.
    pub(super) problems: Vec<Problem>,
    /// Every key that was asked for, with its sections; list positions are left out.
    pub(super) known: BTreeSet<String>,
}

impl Findings {
    /// Notes a problem.
    pub(super) fn add(&mut self, line: usize, field: &str, message: impl Into<String>) {
        let (file, field, message) = (self.file.clone(), field.to_owned(), message.into());
        self.problems.push(Problem { file, line, field, message });
    }
}

/// A mapping that is being read.
pub(super) struct Section<'a> {
    findings: &'a mut Findings,
    /// Path of this section; empty for the root.
    path: String,
    line: usize,
    entries: &'a [Entry],
    keys: Vec<&'static str>,
}

impl<'a> Section<'a> {
    /// Lets `read` take what it knows from `node`, then refuses every key that it did not ask for.
    pub(super) fn read<T>(
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
    pub(super) fn get<T: Scalar>(&mut self, key: &'static str, default: T) -> T {
        self.optional(key).unwrap_or(default)
    }

    /// The value at `key` when there is one; an empty text counts as none.
    pub(super) fn optional<T: Scalar>(&mut self, key: &'static str) -> Option<T> {
        let node = self.find(key)?;
        match &node.value {
            Value::Scalar(text) if text.is_empty() && !T::MAY_BE_EMPTY => None,
            _ => self.scalar(&self.field(key), node),
        }
    }

    /// The value at `key`, which has no default.
    pub(super) fn required<T: Scalar>(&mut self, key: &'static str) -> Option<T> {
        if self.find(key).is_none() {
            let message = format!("`{key}` is missing: it has no default");
            self.findings.add(self.line, &self.field(key), message);
        }
        self.optional(key)
    }

    /// A number at `key` that must not be 0.
    pub(super) fn at_least_one(&mut self, key: &'static str, default: usize) -> usize {
        let number = self.get(key, default);
        if number == 0 {
            self.problem(key, "must be at least 1");
        }
        number
    }

    /// The list at `key`, or `default` when it is not written. A single scalar is a list of one.
    pub(super) fn list<T: Scalar>(&mut self, key: &'static str, default: Vec<T>) -> Vec<T> {
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
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let field = self.field(key);
        let absent = Node { line: self.line, value: Value::Null };
        let node = self.find(key).unwrap_or(&absent);
        Section::read(self.findings, field, node, read)
    }

    /// The list of sections at `key`, or `default` when it is not written. Items of which `read` makes nothing are left out.
    pub(super) fn sections<T>(
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
    pub(super) fn object<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        let node = self.find(key)?;
        let wrong = match objects::read(node) {
            Ok(object) => return Some(object),
            Err(wrong) => wrong,
        };
        self.findings.add(wrong.line, &within(&self.field(key), &wrong.field), wrong.message);
        None
    }

    /// Whether something is written at `name` in the section at `key`.
    pub(super) fn has_below(&mut self, key: &'static str, name: &str) -> bool {
        match self.find(key).map(|node| &node.value) {
            Some(Value::Map(entries)) => entries.iter().any(|entry| entry.key == name),
            _ => false,
        }
    }

    /// Notes that something within what is written at `key` can't be; `path` is below `key`.
    pub(super) fn problem_below(&mut self, key: &'static str, path: &str, message: impl Into<String>) {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let line = entry.map_or(self.line, |entry| entry.node.line_of(path));
        self.findings.add(line, &within(&self.field(key), path), message);
    }

    /// The same for one entry of the section at `key`, whatever its name is made of; at its own line.
    pub(super) fn problem_of(&mut self, key: &'static str, name: &str, message: impl Into<String>) {
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
    pub(super) fn problem(&mut self, key: &'static str, message: impl Into<String>) {
        let line =
            self.entries.iter().find(|entry| entry.key == key).map_or(self.line, |entry| entry.node.line);
        self.findings.add(line, &self.field(key), message);
    }

    /// The same for one item of the list at `key`.
    pub(super) fn problem_in(&mut self, key: &'static str, at: usize, message: impl Into<String>) {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let line = match entry.map(|entry| &entry.node) {
            Some(Node { value: Value::List(items), line }) => items.get(at).map_or(*line, |item| item.line),
            Some(node) => node.line,
            None => self.line,
        };
        self.findings.add(line, &format!("{}[{at}]", self.field(key)), message);
    }

    /// Whether something is written at `key`.
    pub(super) fn has(&mut self, key: &'static str) -> bool {
        self.find(key).is_some()
    }

    /// How many items are written at `key`; a single value counts as one.
    pub(super) fn items(&mut self, key: &'static str) -> usize {
        match self.find(key).map(|node| &node.value) {
            Some(Value::List(items)) => items.len(),
            Some(_) => 1,
            None => 0,
        }
    }

    /// `path`, which is relative to the configuration file's folder.
    pub(super) fn beside_file(&self, path: &Path) -> PathBuf {
        self.findings.file.parent().map_or_else(|| path.to_owned(), |folder| folder.join(path))
    }

    /// A path of what is to be remembered.
    pub(super) fn in_state_folder(&self, path: &Path) -> PathBuf {
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
pub(super) fn within(field: &str, path: &str) -> String {
    match path.chars().next() {
        None => field.to_owned(),
        Some('[') => format!("{field}{path}"),
        Some(_) => format!("{field}.{path}"),
    }
}

/// Names the nearest known key when one is near enough to be meant, else all of them.
pub(super) fn unknown(key: &str, known: &[&'static str]) -> String {
    let distance = |known: &&&str| strsim::damerau_levenshtein(key, known);
    let near_enough = |known: &&&str| distance(known) <= key.len().max(3) / 3;
    match known.iter().filter(near_enough).min_by_key(distance) {
        Some(nearest) => format!("unknown key `{key}`, did you mean `{nearest}`?"),
        None => format!("unknown key `{key}`, known here: {}", known.join(", ")),
    }
}
