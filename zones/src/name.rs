//! Names: labels, cluster ids, services, and absolute domain names in wire form.
//!
//! Every name here is validated once, by its constructor, and kept in lower case: names compare
//! case-insensitively (RFC 4343), so nothing after this file has to think about case again.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use crate::compact::Shared;

/// Longest domain name in wire form, root label included (RFC 1035 §3.1).
pub const MAX_NAME: usize = 255;
/// Longest label (RFC 1035 §2.3.4).
pub const MAX_LABEL: usize = 63;
/// Longest cluster id: it becomes the value of a label of Kubernetes, on every mirrored EndpointSlice. KEP-2149 advises
/// less than 128 characters, and KEP-1645 an id that is a DNS label.
pub const MAX_CLUSTER_ID: usize = 63;

/// Why a text is not the name that it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Labels hold 1 to 63 octets (RFC 1035 §2.3.4).
    #[error("label `{0}` has {len} octets, allowed are 1 to 63", len = .0.len())]
    LabelLength(String),
    /// Kubernetes object names that become labels follow RFC 1123.
    #[error(
        "`{0}` is no DNS label: lower-case letters, digits and `-` only, starting and ending with a letter or digit (RFC 1123)"
    )]
    LabelSyntax(String),
    /// A cluster id is an RFC 1123 subdomain (KEP-2149) of [`MAX_CLUSTER_ID`] characters at most.
    #[error(
        "cluster id `{0}` has {len} characters, allowed are 1 to 63, for it becomes the value of a label: give the cluster a shorter one",
        len = .0.len()
    )]
    ClusterIdLength(String),
    /// A domain name holds at most 255 octets in wire form.
    #[error("domain name `{0}` is longer than 255 octets (RFC 1035 §3.1)")]
    NameLength(String),
    /// Domain names here hold letters, digits, `-` and `_`.
    #[error("`{0}` is no domain name: labels hold letters, digits, `-` and `_`")]
    NameSyntax(String),
}

/// Checks that `text` is an RFC 1123 label, as names of Services, Namespaces and hostnames are.
pub fn check_label(text: &str) -> Result<(), NameError> {
    if text.is_empty() || text.len() > MAX_LABEL {
        return Err(NameError::LabelLength(text.to_owned()));
    }
    let bytes = text.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let hyphen_at_edge = bytes[0] == b'-' || bytes[bytes.len() - 1] == b'-';
    if hyphen_at_edge || !bytes.iter().all(inner) {
        return Err(NameError::LabelSyntax(text.to_owned()));
    }
    Ok(())
}

/// A name or a label that was checked where it came from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(Shared);

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().into())
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.0.text()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// A cluster's id in its clusterset: an RFC 1123 *subdomain*, so it may hold dots (KEP-2149).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(Shared);

impl ClusterId {
    /// Takes a valid id; dots are legal, each label is checked.
    pub fn new(id: &str) -> Result<Self, NameError> {
        if id.is_empty() || id.len() > MAX_CLUSTER_ID {
            return Err(NameError::ClusterIdLength(id.to_owned()));
        }
        id.split('.').try_for_each(check_label)?;
        Ok(Self(id.as_bytes().into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        self.0.text()
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A service's namespace and name, kept as the two labels `<name>.<namespace>` in wire form:
/// exactly the octets that a query holds there, so that the index compares without parsing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ServiceName(Shared);

impl ServiceName {
    /// Takes two valid RFC 1123 labels.
    pub fn new(namespace: &str, name: &str) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(name.len() + namespace.len() + 2);
        Self::write(&mut wire, namespace, name)?;
        Ok(Self(wire[..].into()))
    }

    /// Replaces `wire` by the wire form of a name, to look it up without making one.
    pub fn write(wire: &mut Vec<u8>, namespace: &str, name: &str) -> Result<(), NameError> {
        check_label(name)?;
        check_label(namespace)?;
        wire.clear();
        push_label(wire, name.as_bytes());
        push_label(wire, namespace.as_bytes());
        Ok(())
    }

    /// How many hold this copy of the name.
    pub fn holders(&self) -> usize {
        self.0.holders()
    }

    /// `<name>.<namespace>` in wire form, without a root label.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The service's own name.
    pub fn name(&self) -> &str {
        label_text(&self.0[1..=usize::from(self.0[0])])
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        label_text(&self.0[usize::from(self.0[0]) + 2..])
    }
}

impl Borrow<[u8]> for ServiceName {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl Ord for ServiceName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.namespace(), self.name()).cmp(&(other.namespace(), other.name()))
    }
}

impl PartialOrd for ServiceName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// `<namespace>/<name>`, as kubectl prints objects.
impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace(), self.name())
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// An absolute domain name in wire form and lower case, with its root label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Parses presentation form, with or without the final dot: letters, digits, `-` and `_`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let trimmed = text.strip_suffix('.').unwrap_or(text);
        let mut wire = Vec::with_capacity(trimmed.len() + 2);
        for label in trimmed.split('.').filter(|_| !trimmed.is_empty()) {
            if label.is_empty() || label.len() > MAX_LABEL {
                return Err(NameError::LabelLength(label.to_owned()));
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
                return Err(NameError::NameSyntax(text.to_owned()));
            }
            push_label(&mut wire, label.to_ascii_lowercase().as_bytes());
        }
        wire.push(0);
        if wire.len() > MAX_NAME {
            return Err(NameError::NameLength(text.to_owned()));
        }
        Ok(Self(wire.into()))
    }

    /// `labels` (wire form without a root label) below this name; `None` when longer than 255 octets.
    pub fn child(&self, labels: &[u8]) -> Option<Self> {
        let wire = [labels, &self.0].concat();
        (wire.len() <= MAX_NAME).then(|| Self(wire.into()))
    }

    /// The wire form, root label included.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Number of labels, the root not counted.
    pub fn labels(&self) -> usize {
        labels(&self.0).count()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_name(f, &self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Appends one label in wire form.
pub fn push_label(wire: &mut Vec<u8>, label: &[u8]) {
    debug_assert!(!label.is_empty() && label.len() <= MAX_LABEL);
    wire.push(label.len() as u8);
    wire.extend_from_slice(label);
}

/// The labels of a name or part of a name in wire form, up to the root label or the end.
pub fn labels(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        let (&len, tail) = rest.split_first()?;
        let len = usize::from(len);
        if len == 0 || len > tail.len() {
            return None;
        }
        let (label, next) = tail.split_at(len);
        rest = next;
        Some(label)
    })
}

/// Writes wire form as presentation form with a final dot; unusual octets as `\DDD` (RFC 1035 §5.1).
pub fn write_name(f: &mut impl fmt::Write, wire: &[u8]) -> fmt::Result {
    let mut empty = true;
    for label in labels(wire) {
        empty = false;
        for &byte in label {
            match byte {
                b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => write!(f, "\\{}", byte as char)?,
                0x21..=0x7e => f.write_char(byte as char)?,
                _ => write!(f, "\\{byte:03}")?,
            }
        }
        f.write_char('.')?;
    }
    if empty { f.write_char('.') } else { Ok(()) }
}

/// Labels of a [`ServiceName`] are ASCII by construction.
fn label_text(label: &[u8]) -> &str {
    std::str::from_utf8(label).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names_are_the_octets_of_a_query() {
        let name = ServiceName::new("shop", "cart").unwrap();
        assert_eq!(name.wire(), b"\x04cart\x04shop");
        assert_eq!((name.namespace(), name.name()), ("shop", "cart"));
        assert_eq!(name.to_string(), "shop/cart");
    }

    #[test]
    fn labels_illegal_in_dns_are_refused() {
        for bad in ["", "Cart", "a_b", "-a", "a-", "a.b", "ä", &"x".repeat(64)] {
            assert!(check_label(bad).is_err(), "{bad}");
        }
        for good in ["a", "0", "a-b", &"x".repeat(63)] {
            assert!(check_label(good).is_ok(), "{good}");
        }
    }

    /// KEP-2149: the id is an RFC 1123 subdomain. It becomes a label's value, which has 63 characters at most.
    #[test]
    fn cluster_ids_may_hold_dots() {
        assert!(ClusterId::new("fra1.registry-b").is_ok());
        assert!(ClusterId::new(&["x"; 32].join(".")).is_ok(), "63 characters");
        let long = format!("{}.yy", ["x"; 31].join("."));
        for bad in ["", "a..b", ".a", "A", &long, &"y".repeat(64)] {
            assert!(ClusterId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn domain_names_print_as_they_parse() {
        for (text, printed) in
            [("ClusterSet.Local", "clusterset.local."), ("a.", "a."), (".", "."), ("", ".")]
        {
            assert_eq!(Name::parse(text).unwrap().to_string(), printed);
        }
        assert!(Name::parse(&["abcdefgh"; 29].join(".")).is_err());
        assert!(Name::parse("a..b").is_err());
    }

    #[test]
    fn unusual_octets_are_escaped() {
        let mut text = String::new();
        write_name(&mut text, b"\x04a.\x00\xff\x00").unwrap();
        assert_eq!(text, "a\\.\\000\\255.");
    }
}
