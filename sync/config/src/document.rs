//! The file as a whole: which sections it may have, and what is found on the way from its text to values.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::section::Section;
use crate::tree::{self, Malformed};

/// All keys of the file's root, in its order. Each program reads some of them and leaves the others alone.
pub const ROOT: [&str; 30] = [
    "version",
    "clusters",
    "kubernetes",
    "home",
    "controller",
    "zones",
    "reverse-zones",
    "max-endpoints",
    "zonal-names",
    "vips",
    "listen",
    "tls",
    "https",
    "udp",
    "tcp",
    "edns",
    "client-subnet",
    "view",
    "geoip",
    "policies",
    "states",
    "identity",
    "cookies",
    "rate-limit",
    "access",
    "probes",
    "admin",
    "shutdown",
    "agent",
    "log",
];

/// Lets `read` take what it knows from the root of `file`, or says everything that is wrong with it, by line. What is to be
/// remembered is in `state_folder`, without one beside the file.
pub fn load<T>(
    file: &Path,
    state_folder: Option<&Path>,
    read: impl FnOnce(&mut Section<'_>) -> T,
) -> Result<T, Vec<Problem>> {
    match std::fs::read_to_string(file) {
        Ok(text) => parse(&text, file, state_folder, read),
        Err(error) => Err(vec![Problem::of_file(file, format!("cannot be read: {error}"))]),
    }
}

/// The same with `text` as what `file` holds; `file` locates problems and relative paths, and is not read.
pub fn parse<T>(
    text: &str,
    file: &Path,
    state_folder: Option<&Path>,
    read: impl FnOnce(&mut Section<'_>) -> T,
) -> Result<T, Vec<Problem>> {
    let state_folder = state_folder.or(file.parent()).map(Path::to_owned).unwrap_or_default();
    let mut findings = Findings { file: file.to_owned(), state_folder, ..Findings::default() };
    let value = findings.walk(text, read);
    findings.problems.sort_by_key(|problem| problem.line);
    value.filter(|_| findings.problems.is_empty()).ok_or(findings.problems)
}

/// Every key that `read` asks for when the file holds `text`, with its sections, such as `vips.pool.ipv4` and `zones.ttl`. Tests
/// compare them with [`DEFAULTS`](crate::DEFAULTS).
pub fn keys<T>(text: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> BTreeSet<String> {
    let mut findings = Findings::default();
    findings.walk(text, read);
    findings.known
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
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
    pub fn of_file(file: &Path, message: impl Into<String>) -> Self {
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
pub(crate) struct Findings {
    /// The file that is read.
    pub(crate) file: PathBuf,
    /// The folder of what is to be remembered.
    pub(crate) state_folder: PathBuf,
    /// Everything that is wrong.
    pub(crate) problems: Vec<Problem>,
    /// Every key that was asked for, with its sections; list positions are left out.
    pub(crate) known: BTreeSet<String>,
}

impl Findings {
    /// Notes a problem.
    pub(crate) fn add(&mut self, line: usize, field: &str, message: impl Into<String>) {
        let (file, field, message) = (self.file.clone(), field.to_owned(), message.into());
        self.problems.push(Problem { file, line, field, message });
    }

    /// What `read` makes of `text`, if that is a tree at all.
    fn walk<T>(&mut self, text: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> Option<T> {
        let root = match tree::parse(text) {
            Ok(root) => root,
            Err(Malformed(line, message)) => {
                self.add(line, "", message);
                return None;
            }
        };
        Some(Section::read(self, String::new(), &root, |root| {
            match root.required::<String>("version").as_deref() {
                Some("v1") | None => {}
                Some(_) => root.problem("version", "this release reads `version: v1`"),
            }
            let value = read(root);
            root.leave_to_others(&ROOT);
            value
        }))
    }
}
