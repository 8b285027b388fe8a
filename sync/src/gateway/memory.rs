//! What is remembered of the gateway's numbers, as text that people can read: one entry of a ConfigMap for each.
//!
//! `tcp-20017: shop/web:80`, and `udp-20031: shop/dns:53, free from 2026-11-22T01:50:00Z` for one that rests. A number is a key,
//! so that nobody can write it down twice. What can't be read keeps its number from others for a while.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use portolan_zones::ServiceName;
use portolan_zones::object::{Protocol, UnixTime};

use super::ports::{GatewayPorts, Hold, PortKey};

/// Between an owner and the end of its number's rest.
const REST: &str = ", free from ";

/// Of a ConfigMap, which has at most a mebibyte of values, and of all that the API server stores of it at most a mebibyte and a half.
/// There are as many exports as clusters' users make: what goes beyond gets no number.
pub(super) const MOST_OCTETS: usize = 1_000_000;
/// What an entry takes beside its owner: its key, once more among the managed fields, quotation marks, and the end of a rest.
const OVERHEAD: usize = 64;

/// What an entry takes at most, for as long as it has this owner.
pub(super) fn octets(by: Option<&PortKey>) -> usize {
    by.map_or(1, |key| key.service.namespace().len() + key.service.name().len() + "/:65535".len()) + OVERHEAD
}

/// What is to be written.
pub fn write(ports: &GatewayPorts) -> BTreeMap<String, String> {
    ports.held().iter().map(|((protocol, number), hold)| (key(*protocol, *number), value(hold))).collect()
}

/// What was written, as far as it makes sense. Entries whose key names no port say nothing.
pub fn read(written: &BTreeMap<String, String>) -> Vec<((Protocol, u16), Hold)> {
    let entry = |(key, text): (&String, &String)| {
        let at = numbered(key)?;
        let (owner, until) = match text.split_once(REST) {
            Some((owner, until)) => (owner, until.trim().parse::<Timestamp>().ok().map(Timestamp::as_second)),
            None => (text.as_str(), None),
        };
        let by = owned(at.0, owner);
        // A rest whose end can't be read is a rest all the same.
        let rests = text.contains(REST) || by.is_none();
        Some((at, Hold { by, until: until.or_else(|| rests.then_some(UnixTime::MAX)) }))
    };
    written.iter().filter_map(entry).collect()
}

/// What a configuration serves, a line for each port: `tcp-20017: shop/web:80`.
pub fn write_served(served: &BTreeSet<(PortKey, u16)>) -> String {
    let line = |(by, number): &(PortKey, u16)| {
        format!("{}: {}\n", key(by.protocol, *number), value(&Hold { by: Some(by.clone()), until: None }))
    };
    served.iter().map(line).collect()
}

/// The lines that make sense.
pub fn read_served(text: &str) -> BTreeSet<(PortKey, u16)> {
    let line = |line: &str| {
        let (key, owner) = line.split_once(": ")?;
        let (protocol, number) = numbered(key)?;
        Some((owned(protocol, owner)?, number))
    };
    text.lines().filter_map(line).collect()
}

/// `tcp-20017`.
fn key(protocol: Protocol, number: u16) -> String {
    format!("{}-{number}", protocol.label().trim_start_matches('_'))
}

fn numbered(key: &str) -> Option<(Protocol, u16)> {
    let (protocol, number) = key.split_once('-')?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    Some((protocol, number.parse().ok().filter(|number| *number > 0)?))
}

fn value(hold: &Hold) -> String {
    let mut text = match &hold.by {
        Some(PortKey { service, number, .. }) => format!("{service}:{number}"),
        None => "?".to_owned(),
    };
    if let Some(until) = hold.until.and_then(|until| Timestamp::from_second(until).ok()) {
        text += REST;
        text += &until.to_string();
    }
    text
}

/// `shop/web:80`.
fn owned(protocol: Protocol, text: &str) -> Option<PortKey> {
    let (service, number) = text.trim().rsplit_once(':')?;
    let (namespace, name) = service.split_once('/')?;
    let number = number.parse().ok().filter(|number| *number > 0)?;
    Some(PortKey { service: ServiceName::new(namespace, name).ok()?, protocol, number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_is_read_again_line_by_line() {
        let served = read_served("tcp-20001: shop/web:80\nudp-20001: shop/dns:53\ntcp-0: shop/web:80\n?\n");
        assert_eq!(served.len(), 2);
        assert_eq!(write_served(&served), "udp-20001: shop/dns:53\ntcp-20001: shop/web:80\n");
    }

    /// People look at it, and may change it: nothing that they write is worse than a number that is not given out for a while.
    #[test]
    fn what_is_written_is_read_again_and_what_is_not_ours_is_survived() {
        let until = 1_790_000_000;
        let written: BTreeMap<String, String> = [
            ("tcp-20001", "shop/web:80"),
            ("udp-20001", "shop/dns:53, free from 2026-09-21T14:13:20Z"),
            ("tcp-20002", "shop/web"),
            ("tcp-20003", "Shop/web:80"),
            ("tcp-20004", "shop/web:0"),
            ("tcp-20005", "shop/web:80, free from tomorrow"),
            ("tcp-0", "shop/web:80"),
            ("tcp-65536", "shop/web:80"),
            ("sctp-20001", "shop/web:80"),
            ("README", "hands off"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        let read = read(&written);
        let told: Vec<_> = read.iter().map(|((_, n), hold)| (*n, hold.by.is_some(), hold.until)).collect();
        assert_eq!(
            told,
            [
                (20001, true, None),
                (20002, false, Some(UnixTime::MAX)),
                (20003, false, Some(UnixTime::MAX)),
                (20004, false, Some(UnixTime::MAX)),
                (20005, true, Some(UnixTime::MAX)),
                (20001, true, Some(until)),
            ]
        );
        let mut ports = GatewayPorts::default();
        ports.restore(read, until - 10);
        let again = write(&ports);
        assert_eq!(again["tcp-20001"], "shop/web:80");
        assert_eq!(again["udp-20001"], written["udp-20001"]);
        assert_eq!(again["tcp-20002"], "?, free from 2026-09-29T14:13:10Z", "eight days at most");
        assert_eq!(super::read(&again).len(), 6);
    }
}
