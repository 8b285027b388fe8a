//! Reverse names: addresses as `in-addr.arpa` (RFC 1035 §3.5) and `ip6.arpa` (RFC 3596 §2.5), both ways.
//!
//! A reverse name that is cut short stands for the range of addresses below it, which is how empty
//! non-terminals are found.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::name::{Name, labels, push_label};
use crate::question::QName;

const IN_ADDR: &[u8] = b"\x07in-addr\x04arpa\x00";
const IP6: &[u8] = b"\x03ip6\x04arpa\x00";

/// The addresses at or below a reverse name, lowest and highest; equal for a whole address.
/// `None` when it is no reverse name.
pub(crate) fn range(name: &QName) -> Option<(IpAddr, IpAddr)> {
    if let Some(above @ 0..=4) = name.strip(IN_ADDR, 2) {
        let (mut first, mut last) = ([0; 4], [255; 4]);
        for (i, label) in (0..above).rev().map(|i| name.label(i)).enumerate() {
            first[i] = octet(label)?;
            last[i] = first[i];
        }
        return Some((Ipv4Addr::from(first).into(), Ipv4Addr::from(last).into()));
    }
    let above @ 0..=32 = name.strip(IP6, 2)? else {
        return None;
    };
    let (mut first, mut last) = ([0_u8; 16], [255_u8; 16]);
    for (i, label) in (0..above).rev().map(|i| name.label(i)).enumerate() {
        let nibble = nibble(label)?;
        let (shift, keep) = if i % 2 == 0 { (4, 0x0f) } else { (0, 0xf0) };
        first[i / 2] = first[i / 2] & keep | nibble << shift;
        last[i / 2] = last[i / 2] & keep | nibble << shift;
    }
    Some((Ipv6Addr::from(first).into(), Ipv6Addr::from(last).into()))
}

/// The reverse name of an address, in presentation form without the final dot.
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            let text: String = nibbles.map(|nibble| format!("{nibble:x}.")).collect();
            format!("{text}ip6.arpa")
        }
    }
}

/// The origin of the reverse zone for a prefix; `None` off an octet (IPv4) or nibble (IPv6) boundary.
pub fn reverse_origin(address: IpAddr, prefix: u8) -> Option<Name> {
    let unit = if address.is_ipv4() { 8 } else { 4 };
    if !prefix.is_multiple_of(unit) {
        return None;
    }
    let whole = Name::parse(&reverse_name(address)).ok()?;
    let units = usize::from(prefix / unit);
    let skip = whole.labels().checked_sub(2 + units)?;
    let mut wire = Vec::new();
    for label in labels(whole.wire()).skip(skip) {
        push_label(&mut wire, label);
    }
    Name::parse(".").ok()?.child(&wire)
}

/// Whether a name is at or below `in-addr.arpa` or `ip6.arpa`.
pub(crate) fn is_reverse(name: &Name) -> bool {
    name.wire().ends_with(IN_ADDR) || name.wire().ends_with(IP6)
}

/// A decimal octet as reverse names have it: no leading zero.
fn octet(label: &[u8]) -> Option<u8> {
    if label.len() > 1 && label[0] == b'0' {
        return None;
    }
    std::str::from_utf8(label).ok()?.parse().ok().filter(|_| label.iter().all(u8::is_ascii_digit))
}

fn nibble(label: &[u8]) -> Option<u8> {
    let [digit] = label else { return None };
    char::from(*digit).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<(String, String)> {
        range(&QName::parse(text).unwrap()).map(|(a, b)| (a.to_string(), b.to_string()))
    }

    #[test]
    fn names_are_ranges() {
        let row = |a: &str, b: &str| Some((a.to_owned(), b.to_owned()));
        assert_eq!(of("4.3.2.1.in-addr.arpa"), row("1.2.3.4", "1.2.3.4"));
        assert_eq!(of("2.1.in-addr.arpa"), row("1.2.0.0", "1.2.255.255"));
        assert_eq!(
            of("8.b.d.0.1.0.0.2.ip6.arpa"),
            row("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff")
        );
        for bad in [
            "04.in-addr.arpa",
            "256.in-addr.arpa",
            "5.4.3.2.1.in-addr.arpa",
            "g.ip6.arpa",
            "10.ip6.arpa",
            "a.b",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn reverse_names_read_back() {
        for text in ["10.0.0.1", "255.255.255.255", "2001:db8::1", "::"] {
            let address: IpAddr = text.parse().unwrap();
            let name = QName::parse(&reverse_name(address)).unwrap();
            assert_eq!(range(&name), Some((address, address)));
        }
    }

    #[test]
    fn origins_of_prefixes() {
        let origin =
            |address: &str, prefix| reverse_origin(address.parse().unwrap(), prefix).map(|n| n.to_string());
        assert_eq!(origin("241.0.0.0", 8).as_deref(), Some("241.in-addr.arpa."));
        assert_eq!(origin("10.1.0.0", 16).as_deref(), Some("1.10.in-addr.arpa."));
        assert_eq!(origin("fd70::", 12).as_deref(), Some("7.d.f.ip6.arpa."));
        assert_eq!(origin("10.0.0.0", 12), None);
    }
}
