//! Text to documents: JSON values one after another, or YAML documents between `---`.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::kube_types::Text;

/// One object as it stands in a file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body<'a> {
    /// JSON text, not parsed yet.
    Json(&'a str),
    /// A tree, from YAML.
    Tree(&'a Value),
}

impl<'a> Body<'a> {
    /// Reads it as a type; the error names the field.
    pub(crate) fn read<T: Deserialize<'a>>(self) -> Result<T, Malformed> {
        match self {
            Self::Json(text) => serde_json::from_str(text).map_err(|_| Malformed::in_json::<T>(text)),
            Self::Tree(tree) => T::deserialize(tree).map_err(|_| Malformed::in_tree::<T>(tree)),
        }
    }
}

/// A field that holds something else than it should.
#[derive(Debug)]
pub(crate) struct Malformed {
    /// Lines below the first one of the object.
    pub(crate) line: u32,
    /// Path of the field, and what is wrong.
    pub(crate) message: String,
}

impl Malformed {
    /// Reads again, slowly, keeping track of the path.
    fn in_json<'a, T: Deserialize<'a>>(text: &'a str) -> Self {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let result: Result<T, _> = serde_path_to_error::deserialize(&mut deserializer);
        let Some(error) = result.err() else {
            return Self { line: 0, message: "has something after its end".to_owned() };
        };
        let line = u32::try_from(error.inner().line().saturating_sub(1)).unwrap_or(0);
        Self { line, message: with_path(&error) }
    }

    fn in_tree<'a, T: Deserialize<'a>>(tree: &'a Value) -> Self {
        let result: Result<T, _> = serde_path_to_error::deserialize(tree);
        Self { line: 0, message: result.err().map(|error| with_path(&error)).unwrap_or_default() }
    }
}

fn with_path(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let message = without_position(error.inner());
    match error.path().to_string() {
        path if path == "." => message,
        path => format!("{path}: {message}"),
    }
}

/// The position is that in the object, not in the file.
pub(crate) fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}

/// A JSON value of a file: an object, or a list whose items stay text, so that each is read, and refused, alone.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JsonDocument<'a> {
    #[serde(borrow)]
    pub(crate) api_version: Option<Text<'a>>,
    pub(crate) kind: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) items: Option<Vec<&'a RawValue>>,
}

/// A YAML document: an object, or a list whose items know their lines.
#[derive(Deserialize)]
pub(crate) struct YamlDocument {
    pub(crate) items: Option<Vec<serde_saphyr::Spanned<Value>>>,
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// Parses one document; `None` when it holds nothing. The error is a line (counted from 1) and what is wrong there.
pub(crate) fn yaml(text: &str) -> Result<Option<YamlDocument>, (u32, String)> {
    // Every node costs at least one octet, so the size of the file bounds them all.
    let most = text.len().max(1024);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: most,
            max_events: most.saturating_mul(2),
            max_total_scalar_bytes: most,
            max_documents: 2,
        },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(1, |location| u32::try_from(location.line()).unwrap_or(1));
        let text = error.to_string();
        (line, text.lines().next().unwrap_or_default().to_owned())
    })
}

/// The documents of a YAML text, each with the line (from 1) that it starts on.
///
/// `---` at the start of a line always starts a document, even in quotes and block scalars (YAML 1.2 §9.1.2).
pub(crate) fn split_yaml(text: &str) -> Vec<(u32, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut start_line, mut offset) = (0, 1, 0);
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        let marks = |marker: &str| {
            line.strip_prefix(marker)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
        };
        if marks("---") && offset > start {
            documents.push((start_line, &text[start..offset]));
            (start, start_line) = (offset, number);
        } else if marks("...") {
            documents.push((start_line, &text[start..offset]));
            (start, start_line) = (offset + line.len(), number + 1);
        }
        offset += line.len();
    }
    documents.push((start_line, &text[start..]));
    documents.retain(|(_, document)| document.lines().any(is_content));
    documents
}

fn is_content(line: &str) -> bool {
    let line = line.strip_prefix("---").unwrap_or(line).trim();
    !line.is_empty() && !line.starts_with(['#', '%'])
}
