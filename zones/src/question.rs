//! The name that is asked for: read off the wire once, lower-cased, with its label boundaries.

use crate::name::{MAX_NAME, write_name};

/// Most labels that 255 octets can hold, the root not counted.
const MAX_LABELS: usize = 127;

/// Why the octets are no name that a question may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QNameError {
    /// The message ends inside the name.
    #[error("name runs past the end of the message")]
    Short,
    /// A compression pointer or a reserved label type: a question comes first, there is nothing to point at.
    #[error("label type is not allowed in a question (RFC 1035 §4.1.4, RFC 6891 §5)")]
    LabelType,
    /// More than 255 octets (RFC 1035 §3.1).
    #[error("name is longer than 255 octets")]
    Long,
}

/// A queried name in wire form and lower case. One per thread, filled anew for each query: nothing is allocated.
#[derive(Clone)]
pub struct QName {
    wire: [u8; MAX_NAME],
    len: u8,
    starts: [u8; MAX_LABELS],
    labels: u8,
}

impl Default for QName {
    /// The root.
    fn default() -> Self {
        Self { wire: [0; MAX_NAME], len: 1, starts: [0; MAX_LABELS], labels: 0 }
    }
}

impl QName {
    /// Reads the uncompressed name at the start of `octets`; returns how many octets it took.
    pub fn read(&mut self, octets: &[u8]) -> Result<usize, QNameError> {
        let mut at = 0;
        self.labels = 0;
        loop {
            let len = usize::from(*octets.get(at).ok_or(QNameError::Short)?);
            if len == 0 {
                break;
            }
            if len > 63 {
                return Err(QNameError::LabelType);
            }
            let next = at + 1 + len;
            if next >= MAX_NAME {
                return Err(QNameError::Long);
            }
            // A label takes two octets at least, so 255 octets never hold more than 127 of them.
            self.starts[usize::from(self.labels)] = at as u8;
            self.labels += 1;
            at = next;
        }
        let end = at + 1;
        let source = octets.get(..end).ok_or(QNameError::Short)?;
        let target = &mut self.wire[..end];
        target.copy_from_slice(source);
        // Length octets are at most 63, below 'A': lower-casing the whole buffer leaves them alone.
        target.make_ascii_lowercase();
        self.len = end as u8;
        Ok(end)
    }

    /// The name given in presentation form; for tools and tests.
    pub fn parse(text: &str) -> Result<Self, crate::NameError> {
        let name = crate::Name::parse(text)?;
        let mut qname = Self::default();
        qname.read(name.wire()).map_err(|_| crate::NameError::NameLength(text.to_owned()))?;
        Ok(qname)
    }

    /// Wire form with the root label, lower case.
    pub fn wire(&self) -> &[u8] {
        &self.wire[..usize::from(self.len)]
    }

    /// Number of labels, the root not counted.
    pub fn labels(&self) -> usize {
        usize::from(self.labels)
    }

    /// Offset of the label at `index`, counted from the left; the end of the labels when `index` is their number.
    pub fn offset(&self, index: usize) -> usize {
        if index < self.labels() { usize::from(self.starts[index]) } else { usize::from(self.len) - 1 }
    }

    /// The labels `from..to` in wire form.
    pub fn slice(&self, from: usize, to: usize) -> &[u8] {
        &self.wire[self.offset(from)..self.offset(to)]
    }

    /// The label at `index` without its length octet.
    pub fn label(&self, index: usize) -> &[u8] {
        &self.wire[self.offset(index) + 1..self.offset(index + 1)]
    }

    /// Whether the name is `suffix` (wire form with root label) or below it; then the number of labels above it.
    pub fn strip(&self, suffix: &[u8], suffix_labels: usize) -> Option<usize> {
        let above = self.labels().checked_sub(suffix_labels)?;
        (self.wire()[self.offset(above)..] == *suffix).then_some(above)
    }
}

impl std::fmt::Display for QName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_name(f, self.wire())
    }
}

impl std::fmt::Debug for QName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_lower_cases() {
        let mut qname = QName::default();
        assert_eq!(qname.read(b"\x03WwW\x01a\x00rest"), Ok(7));
        assert_eq!(qname.wire(), b"\x03www\x01a\x00");
        assert_eq!((qname.labels(), qname.label(0), qname.label(1)), (2, &b"www"[..], &b"a"[..]));
        assert_eq!(qname.slice(0, 1), b"\x03www");
        assert_eq!(qname.slice(1, 2), b"\x01a");
        assert_eq!(qname.read(b"\x00"), Ok(1));
        assert_eq!((qname.labels(), qname.offset(0)), (0, 0));
    }

    #[test]
    fn refuses_what_is_no_name() {
        let mut qname = QName::default();
        let long: Vec<u8> = b"\x01a".repeat(128);
        for (octets, error) in [
            (&b""[..], QNameError::Short),
            (b"\x03ab", QNameError::Short),
            (b"\x01a", QNameError::Short),
            (b"\xc0\x0c", QNameError::LabelType),
            (b"\x40a\x00", QNameError::LabelType),
            (&long, QNameError::Long),
        ] {
            assert_eq!(qname.read(octets), Err(error), "{octets:?}");
        }
    }

    /// RFC 1035 §3.1: 255 octets are allowed, 256 are not.
    #[test]
    fn limits_are_exact() {
        let mut longest = b"\x01a".repeat(127);
        longest.push(0);
        assert_eq!(QName::default().read(&longest), Ok(255));
        let mut longer = b"\x02ab".to_vec();
        longer.extend(b"\x01a".repeat(126));
        longer.push(0);
        assert_eq!(QName::default().read(&longer), Err(QNameError::Long));
    }

    #[test]
    fn strips_whole_labels_only() {
        let qname = QName::parse("x.clusterset.local").unwrap();
        let zone = crate::Name::parse("clusterset.local").unwrap();
        assert_eq!(qname.strip(zone.wire(), 2), Some(1));
        let other = crate::Name::parse("set.local").unwrap();
        assert_eq!(qname.strip(other.wire(), 2), None);
        assert_eq!(qname.strip(b"\x00", 0), Some(3));
    }
}
