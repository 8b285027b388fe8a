//! Parts of Kubernetes objects within the configuration: `serde` reads the API's own types from the tree. What a scalar means
//! is decided by the field that it is written at, and what is wrong is told with its line, as everywhere else in the file.

use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, forward_to_deserialize_any};

use crate::section::{unknown, within};
use crate::tree::{Entry, Node, Value};

/// Why a node is not what it should be.
#[derive(Debug, PartialEq)]
pub(crate) struct Mismatch {
    /// Where; 0 until that is known.
    pub(crate) line: usize,
    /// Path below the node.
    pub(crate) field: String,
    /// What is wrong.
    pub(crate) message: String,
}

/// Reads a node as a type.
pub(crate) fn read<T: DeserializeOwned>(node: &Node) -> Result<T, Mismatch> {
    T::deserialize(node).map_err(|wrong| wrong.at(node.line, ""))
}

impl Mismatch {
    /// It is at `line`, unless it knows better, and at `part` of what is read.
    fn at(self, line: usize, part: &str) -> Self {
        let line = if self.line == 0 { line } else { self.line };
        Self {
            line,
            field: within(part, &self.field).trim_start_matches('.').to_owned(),
            message: self.message,
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mismatch {}

/// In the words of all other problems of the file.
impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { line: 0, field: String::new(), message: message.to_string() }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(unknown(field, expected))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::custom(format!("`{variant}` is not one of {}", expected.join(", ")))
    }

    fn missing_field(field: &'static str) -> Self {
        let message = format!("`{field}` is missing: it has no default");
        Self { line: 0, field: field.to_owned(), message }
    }
}

impl Node {
    fn text(&self, expected: &str) -> Result<&str, Mismatch> {
        match &self.value {
            Value::Scalar(text) => Ok(text),
            Value::Null => Err(de::Error::custom(format!("nothing is written here, expected {expected}"))),
            Value::List(_) => Err(de::Error::custom(format!("expected {expected}, not a list"))),
            Value::Map(_) => Err(de::Error::custom(format!("expected {expected}, not a section"))),
        }
    }

    fn parsed<T: std::str::FromStr>(&self, expected: &str) -> Result<T, Mismatch> {
        let text = self.text(expected)?;
        text.parse().map_err(|_| de::Error::custom(format!("`{text}` is not {expected}")))
    }
}

/// Scalars that are read by their `FromStr`.
macro_rules! from_str {
    ($($deserialize:ident $visit:ident $expected:literal;)*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
            visitor.$visit(self.parsed($expected)?)
        }
    )*};
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Mismatch;

    from_str! {
        deserialize_bool visit_bool "`true` or `false`";
        deserialize_i8 visit_i64 "a whole number";
        deserialize_i16 visit_i64 "a whole number";
        deserialize_i32 visit_i64 "a whole number";
        deserialize_i64 visit_i64 "a whole number";
        deserialize_u8 visit_u64 "a whole number";
        deserialize_u16 visit_u64 "a whole number";
        deserialize_u32 visit_u64 "a whole number";
        deserialize_u64 visit_u64 "a whole number";
        deserialize_f32 visit_f64 "a number";
        deserialize_f64 visit_f64 "a number";
    }

    forward_to_deserialize_any! {
        bytes byte_buf unit unit_struct tuple tuple_struct identifier char
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match &self.value {
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
            Value::Null | Value::Scalar(_) => self.deserialize_str(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_borrowed_str(self.text("a text")?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        if self.value == Value::Null { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let text = self.text(&format!("one of {}", variants.join(", ")))?;
        visitor.visit_enum(text.into_deserializer())
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match &self.value {
            Value::List(items) => visitor.visit_seq(Items { items, at: 0 }),
            _ => Err(de::Error::custom("expected a list: lines that begin with `-`")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match &self.value {
            Value::Map(entries) => visitor.visit_map(Fields { entries, at: 0 }),
            _ => Err(de::Error::custom("expected a section of `key: value` lines")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.deserialize_map(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_unit()
    }
}

/// A list, item by item.
struct Items<'de> {
    items: &'de [Node],
    at: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mismatch> {
        let Some(item) = self.items.get(self.at) else { return Ok(None) };
        let read = seed.deserialize(item).map_err(|wrong| wrong.at(item.line, &format!("[{}]", self.at)));
        self.at += 1;
        read.map(Some)
    }
}

/// A section, key by key.
struct Fields<'de> {
    entries: &'de [Entry],
    /// The entry whose key comes next.
    at: usize,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        let Some(entry) = self.entries.get(self.at) else { return Ok(None) };
        let first = self.entries[..self.at].iter().find(|earlier| earlier.key == entry.key);
        let read = match first {
            Some(first) => {
                let (key, line) = (&entry.key, first.line);
                Err(de::Error::custom(format!("`{key}` is written twice, first on line {line}: remove one")))
            }
            None => seed.deserialize(entry.key.as_str().into_deserializer()),
        };
        self.at += 1;
        read.map(Some).map_err(|wrong: Mismatch| wrong.at(entry.line, &entry.key))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Mismatch> {
        let entry = self.at.checked_sub(1).and_then(|at| self.entries.get(at));
        let entry = entry.ok_or_else(|| <Mismatch as de::Error>::custom("a value without its key"))?;
        seed.deserialize(&entry.node).map_err(|wrong| wrong.at(entry.node.line, &entry.key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use portolan_sync::kubernetes::traffic_policy::{Level, TrafficPolicySpec};

    use super::*;
    use crate::tree::parse;

    fn spec(text: &str) -> Result<TrafficPolicySpec, Mismatch> {
        read(&parse(text).unwrap())
    }

    /// A cluster called `no` is no boolean, and one called `1` no number.
    #[test]
    fn what_a_scalar_means_its_field_decides() {
        let read = spec(
            "failover: [no, 1, '2']\nsticky: true\nmaxRecords: 3\nttlSeconds:\nlocality:\n  order: [Zone, Region]\n",
        );
        let read = read.unwrap();
        assert_eq!(read.failover, ["no", "1", "2"]);
        assert_eq!((read.sticky, read.max_records, read.ttl_seconds), (true, Some(3), None));
        assert_eq!(read.locality.unwrap().order, [Level::Zone, Level::Region]);
        let labels: BTreeMap<String, String> = super::read(&parse("a/b: 1\nc: no").unwrap()).unwrap();
        assert_eq!(labels, BTreeMap::from([("a/b".into(), "1".into()), ("c".into(), "no".into())]));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, field, message) in [
            ("a: 1", 1, "a", "unknown key `a`, known here: "),
            ("sticky: true\nlocalty: {}", 2, "localty", "unknown key `localty`, did you mean `locality`?"),
            (
                "locality:\n  order:\n  - Zone\n  - Planet",
                4,
                "locality.order[1]",
                "`Planet` is not one of Node, ",
            ),
            (
                "weights:\n- {cluster: a,\n   weight: much}",
                3,
                "weights[0].weight",
                "`much` is not a whole number",
            ),
            ("weights:\n- {cluster: a}", 2, "weights[0].weight", "`weight` is missing: it has no default"),
            ("weights:\n- a", 2, "weights[0]", "expected a section of `key: value` lines"),
            ("weights: a", 1, "weights", "expected a list: lines that begin with `-`"),
            ("answer: [a]", 1, "answer", "expected one of VIP, Endpoints"),
            ("failover: [[a]]", 1, "failover[0]", "expected a text, not a list"),
            ("panicThreshold:", 1, "panicThreshold", "nothing is written here, expected a whole number"),
            (
                "sticky: true\nsticky: true",
                2,
                "sticky",
                "`sticky` is written twice, first on line 1: remove one",
            ),
            (
                "maxRecords: 99999999999999999999",
                1,
                "maxRecords",
                "`99999999999999999999` is not a whole number",
            ),
        ] {
            let wrong = spec(text).expect_err(text);
            assert_eq!((wrong.line, &*wrong.field), (line, field), "{text}: {wrong}");
            assert!(wrong.message.starts_with(message), "{text}: {wrong}");
        }
    }
}
