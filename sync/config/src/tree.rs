//! What was written: a YAML document as a tree that remembers the line of each value.
//!
//! Scalars stay text. What a scalar means is decided by the field that it is written at, so that a secret of
//! 32 digits is no number and a cluster called `no` is no boolean.

use std::borrow::Cow;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, ScanError, Span, StrInput};

/// A value and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Line, from 1.
    pub(crate) line: usize,
    /// What is there.
    pub(crate) value: Value,
}

impl Node {
    /// The line of what is at a path such as `weights[0].cluster`, or of as much of the path as is written.
    pub(crate) fn line_of(&self, path: &str) -> usize {
        let mut node = self;
        for part in path.split(['.', '[', ']']).filter(|part| !part.is_empty()) {
            let next = match &node.value {
                Value::Map(entries) => {
                    entries.iter().find(|entry| entry.key == part).map(|entry| &entry.node)
                }
                Value::List(items) => part.parse().ok().and_then(|at: usize| items.get(at)),
                Value::Null | Value::Scalar(_) => None,
            };
            match next {
                Some(next) => node = next,
                None => break,
            }
        }
        node.line
    }
}

/// What a YAML node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Nothing, `null` or `~`: as if the key were not written.
    Null,
    /// Text, quoted or not.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order written; keys may repeat here.
    Map(Vec<Entry>),
}

/// One `key: value`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// The key as written.
    pub(crate) key: String,
    /// Where the key is.
    pub(crate) line: usize,
    /// What it holds.
    pub(crate) node: Node,
}

/// Why a text is no tree: the line and the reason.
#[derive(Debug, PartialEq)]
pub(crate) struct Malformed(pub(crate) usize, pub(crate) String);

/// Reads one document. An empty text is an empty mapping.
pub(crate) fn parse(text: &str) -> Result<Node, Malformed> {
    let options = granit_parser::options! { emit_comments: false };
    let mut events = Events(Parser::new_from_str_with_options(text, options));
    let mut root = Node { line: 1, value: Value::Map(Vec::new()) };
    let mut documents = 0;
    loop {
        match events.next()? {
            (Event::StreamStart | Event::DocumentEnd, _) => {}
            (Event::StreamEnd, _) => return Ok(root),
            (Event::DocumentStart(..), line) => {
                documents += 1;
                if documents > 1 {
                    return Err(Malformed(line, "a second document: a configuration is one document".into()));
                }
            }
            (event, line) => root = events.node(event, line)?,
        }
    }
}

struct Events<'a>(Parser<'a, StrInput<'a>>);

impl<'a> Events<'a> {
    /// The next event and its line. The parser ends with `StreamEnd`, so nothing after it is asked for.
    fn next(&mut self) -> Result<(Event<'a>, usize), Malformed> {
        match self.0.next() {
            Some(Ok((event, Span { start, .. }))) => Ok((event, start.line())),
            Some(Err(error)) => Err(malformed(&error)),
            None => Ok((Event::StreamEnd, 0)),
        }
    }

    /// The node that starts with `event`. The parser bounds the depth (255), and so the recursion.
    fn node(&mut self, event: Event<'a>, line: usize) -> Result<Node, Malformed> {
        let value = match event {
            Event::Scalar(text, style, ..) => scalar(text, style),
            Event::SequenceStart(..) => self.list()?,
            Event::MappingStart(..) => self.map()?,
            Event::Alias(_) => {
                return Err(Malformed(line, "aliases are not supported: write the value out".into()));
            }
            _ => return Err(Malformed(line, "expected a value".into())),
        };
        Ok(Node { line, value })
    }

    fn list(&mut self) -> Result<Value, Malformed> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, line) => items.push(self.node(event, line)?),
            }
        }
    }

    fn map(&mut self) -> Result<Value, Malformed> {
        let mut entries = Vec::new();
        loop {
            match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Map(entries)),
                (Event::Scalar(key, ..), line) => {
                    let (event, value_line) = self.next()?;
                    let mut node = self.node(event, value_line)?;
                    // An absent value is located behind the key, where the next line may have begun.
                    node.line = if node.value == Value::Null { line } else { node.line };
                    entries.push(Entry { key: key.into_owned(), line, node });
                }
                (_, line) => return Err(Malformed(line, "a key must be plain text".into())),
            }
        }
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle) -> Value {
    match (&*text, style) {
        ("" | "~" | "null", ScalarStyle::Plain) => Value::Null,
        _ => Value::Scalar(text.into_owned()),
    }
}

fn malformed(error: &ScanError) -> Malformed {
    Malformed(error.marker().line(), format!("not YAML: {}", error.info()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_knows_its_line() {
        let root = parse("# comment\na: 1\nb:\n  - x\n  - y: {z: \"2\"}\nc:\n").unwrap();
        let Value::Map(entries) = root.value else { panic!("no mapping") };
        let lines: Vec<_> =
            entries.iter().map(|entry| (entry.key.as_str(), entry.line, entry.node.line)).collect();
        assert_eq!(lines, [("a", 2, 2), ("b", 3, 4), ("c", 6, 6)]);
        let Value::List(items) = &entries[1].node.value else { panic!("no list") };
        assert_eq!(items[0], Node { line: 4, value: Value::Scalar("x".into()) });
        assert_eq!(items[1].line, 5);
        assert_eq!(entries[2].node.value, Value::Null);
    }

    #[test]
    fn scalars_stay_text() {
        let root = parse("[no, 007, 1e5, '', null]").unwrap();
        let Value::List(items) = root.value else { panic!("no list") };
        let text = |text: &str| Value::Scalar(text.into());
        let values: Vec<_> = items.into_iter().map(|item| item.value).collect();
        assert_eq!(values, [text("no"), text("007"), text("1e5"), text(""), Value::Null]);
    }

    #[test]
    fn what_is_no_tree_is_refused_with_its_line() {
        for (text, line) in [
            ("a: 1\nb: [", 2),
            ("a: &x 1\nb: *x", 2),
            ("a: 1\n---\nb: 2", 2),
            ("a: 1\n[b]: 2", 2),
            ("a: *missing", 1),
        ] {
            let Malformed(at, why) = parse(text).expect_err(text);
            assert_eq!(at, line, "{text}: {why}");
        }
        assert!(parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn nothing_is_an_empty_mapping() {
        for text in ["", "# only a comment\n", "---\n"] {
            let root = parse(text).unwrap();
            assert!(matches!(root.value, Value::Map(_) | Value::Null), "{text:?}: {root:?}");
        }
    }
}
