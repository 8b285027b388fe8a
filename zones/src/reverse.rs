//! Reverse names: addresses as `in-addr.arpa` (RFC 1035 §3.5) and `ip6.arpa` (RFC 3596 §2.5), both ways.
//!
//! A reverse name that is cut short stands for the range of addresses below it, which is how empty
//! non-terminals are found.

use std::cell::Cell;
use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use equivalent::{Comparable, Equivalent};
use imbl::OrdMap;

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

/// Whether a map has an address from `first` to `last`. Its own ranges would tell, but they allocate.
pub(crate) fn has_any<V>(map: &OrdMap<IpAddr, V>, first: IpAddr, last: IpAddr) -> bool {
    let mut from = first;
    loop {
        let seek = Seek { from, next: Cell::new(None) };
        if map.contains_key(&seek) {
            return true;
        }
        // The next one may be gone, and only show the way: what it leads to is found in two more rounds.
        match seek.next.get().filter(|next| *next <= last) {
            Some(next) => from = next,
            None => return false,
        }
    }
}

/// An address that is looked for, and the next higher one that was seen on the way: no address of the map is between them.
struct Seek {
    from: IpAddr,
    next: Cell<Option<IpAddr>>,
}

impl Equivalent<IpAddr> for Seek {
    fn equivalent(&self, key: &IpAddr) -> bool {
        self.from == *key
    }
}

impl Comparable<IpAddr> for Seek {
    fn compare(&self, key: &IpAddr) -> Ordering {
        if *key > self.from && self.next.get().is_none_or(|next| *key < next) {
            self.next.set(Some(*key));
        }
        self.from.cmp(key)
    }
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

    /// RFC 8020: a name exists as long as there is one below it. Inner nodes of the map keep addresses that are gone.
    #[test]
    fn a_range_has_any_as_long_as_one_is_left() {
        let v4 = |i: u32| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + i * 5));
        let v6 = |i: u32| IpAddr::from(Ipv6Addr::from((0xfd41 << 112) + u128::from(i) * 5));
        let mut map: OrdMap<IpAddr, ()> =
            (0..1500).flat_map(|i| [v4(i), v6(i)]).map(|address| (address, ())).collect();
        // 7 and 1500 have no common divisor: every address goes, one after the other.
        for gone in 0..1500 {
            map.remove(&v4(gone * 7 % 1500));
            map.remove(&v6(gone * 7 % 1500));
            if gone % 50 > 0 && gone < 1450 {
                continue;
            }
            for (start, length) in (0..1500).step_by(3).flat_map(|i| [(i, 0), (i, 1), (i, 9), (i, 200)]) {
                for (first, last) in [(v4(start), v4(start + length)), (v6(start), v6(start + length))] {
                    let any = map.range(first..=last).next().is_some();
                    assert_eq!(has_any(&map, first, last), any, "{first} to {last}, {gone} are gone");
                }
            }
        }
        assert!(map.is_empty());
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
