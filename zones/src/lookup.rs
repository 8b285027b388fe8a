//! What a name answers: the tables of the MCS DNS specification (KEP-1645) as one function.
//!
//! `Snapshot::lookup` borrows from the snapshot, allocates nothing and decides everything but the wire format.
//! Names that only have names below them are empty non-terminals: NODATA, not NXDOMAIN (RFC 8020).

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;

use hickory_proto::rr::RecordType;

use crate::agents::Lack;
use crate::choices::Client;
use crate::places::{Authority, Keys};
use crate::question::QName;
use crate::reverse::{has_any, range};
use crate::service::{Absence, Answers, RecordSet, Service, SrvSet};
use crate::snapshot::{ReverseTarget, Snapshot};
use crate::zone::{DNS_VERSION, Zone, ZoneKind};

/// What was found in one of our zones.
#[derive(Debug, Clone, Copy)]
pub struct Lookup<'s> {
    /// The closest zone.
    pub zone: &'s Zone,
    /// Its position in [`crate::zone::Zones::iter`].
    pub zone_index: usize,
    /// Number of labels of the question above the zone's origin.
    pub above: usize,
    /// The answer.
    pub found: Found<'s>,
    /// The service that the name is at or below of, if it exists.
    pub service: Option<&'s Service>,
    /// How a policy made of the service's records this client's answer.
    pub chosen: Option<Chosen>,
}

/// What a policy says of an answer, beside its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// TTL in seconds; `None`: the zone's.
    pub ttl: Option<u32>,
    /// Most records.
    pub most: Option<NonZeroU16>,
    /// Which of them comes first, modulo their number.
    pub rotation: u32,
    /// Length of the prefix around the client's address for which the answer is meant (RFC 7871 §7.2.1).
    pub scope: u8,
    /// Why it is no virtual IP, where others get one.
    pub lack: Option<Lack>,
}

impl Chosen {
    /// Nothing but for whom the answer is.
    fn within(scope: u8, client: &Client<'_>, lack: Option<Lack>) -> Self {
        Self { ttl: None, most: None, rotation: client.entropy, scope, lack }
    }
}

/// The kinds of answers (RFC 1034 §4.3.2, RFC 2308).
#[derive(Debug, Clone, Copy)]
pub enum Found<'s> {
    /// The name has records of this type.
    Records(Records<'s>),
    /// The name exists, with no records of this type.
    NoData,
    /// The name doesn't exist; perhaps a service is why.
    NxDomain(Option<Absence>),
    /// Not known yet, not every cluster has been read: SERVFAIL.
    NotReady,
}

/// Records of one name and type. Owner is always the question's name.
#[derive(Debug, Clone, Copy)]
pub enum Records<'s> {
    /// IPv4 addresses, sorted.
    A(&'s [Ipv4Addr]),
    /// IPv6 addresses, sorted.
    Aaaa(&'s [Ipv6Addr]),
    /// Ports; targets are the service's name or names of its endpoints.
    Srv {
        /// The records.
        set: &'s SrvSet,
        /// Whose they are.
        service: &'s Service,
        /// Of the service's answers these: they have the targets.
        answers: &'s Answers,
        /// Labels of the question above the service's name.
        above_service: usize,
    },
    /// Text.
    Txt(&'static str),
    /// The zone's SOA.
    Soa,
    /// The zone's NS.
    Ns,
    /// Names of an address.
    Ptr(&'s [ReverseTarget]),
    /// The name has records, and all types were asked for: a synthesized HINFO (RFC 8482 §4.2).
    Any,
}

/// Says which service a question is about.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hint(pub(crate) u64);

impl Snapshot {
    /// Of a question about a service, what [`Self::read_ahead`] finds that by.
    pub fn hint(&self, name: &QName) -> Option<Hint> {
        let (_, zone, above) = self.zones.find(name)?;
        let is_below = above >= 3 && zone.kind == ZoneKind::Services && name.label(above - 1) == b"svc";
        is_below.then(|| Hint(self.services.hash(name.slice(above - 3, above - 1))))
    }

    /// Reads what lookups will read of services: of many at a time, rather than of one after the other. Among a million names
    /// memory is what a lookup waits for.
    pub fn read_ahead(&self, hints: &[Hint]) {
        black_box(self.services.read_ahead(hints));
    }

    /// Answers a question of class IN to nobody in particular; `None` means that no zone of ours holds the name: REFUSED.
    pub fn lookup(&self, name: &QName, rtype: RecordType) -> Option<Lookup<'_>> {
        self.lookup_for(name, rtype, &Client::default())
    }

    /// Answers a client's question.
    pub fn lookup_for(&self, name: &QName, rtype: RecordType, client: &Client<'_>) -> Option<Lookup<'_>> {
        let (zone_index, zone, above) = self.zones.find(name)?;
        let mut service = None;
        let mut chosen = None;
        let found = match (above, zone.kind) {
            (0, _) => apex(rtype),
            (3.., ZoneKind::Services) if name.label(above - 1) == b"svc" => {
                service = self.services.get(name.slice(above - 3, above - 1)).map(|service| &**service);
                let found;
                let variant = self.variant(zone_index);
                (found, chosen) = self.at_service(service, variant, name, above - 3, rtype, client);
                found
            }
            (_, ZoneKind::Services) => self.in_services(zone, name, above, rtype),
            _ => self.in_reverse(zone, name, rtype),
        };
        Some(Lookup { zone, zone_index, above, found, service, chosen })
    }

    /// Below the origin of a zone of services, but not at a service; `above` is the number of labels there, at least 1.
    fn in_services<'s>(&'s self, zone: &'s Zone, name: &QName, above: usize, rtype: RecordType) -> Found<'s> {
        match (name.label(above - 1), above) {
            (b"svc", 2) => {
                let namespace = std::str::from_utf8(name.label(0)).unwrap_or_default();
                if self.namespaces.contains_key(namespace) { Found::NoData } else { self.missing(None) }
            }
            (b"svc" | b"pod", 1) => Found::NoData,
            (b"dns-version", 1) => single(rtype, RecordType::TXT, Records::Txt(DNS_VERSION)),
            _ => in_name_server(zone, name, rtype),
        }
    }

    /// At or below a service's name; `above` is the number of labels above it.
    fn at_service<'s>(
        &'s self,
        service: Option<&'s Service>,
        variant: Option<u8>,
        name: &QName,
        above: usize,
        rtype: RecordType,
        client: &Client<'_>,
    ) -> (Found<'s>, Option<Chosen>) {
        let Some(service) = service else { return (self.missing(None), None) };
        let own = service.answers_in(variant);
        if let Some(why) = own.absence() {
            return (self.missing(Some(why)), None);
        }
        // Names of endpoints answer the same to all.
        let is_steered = above == 0 || above == 2 && name.label(0)[0] == b'_';
        let asker = client.address.filter(|_| is_steered);
        let (answers, place, lack) = match (own.direct(), asker) {
            (Some(direct), _) if !is_steered => (direct, None, None),
            (Some(direct), Some(address)) => {
                let place = self.place_of(address, client);
                let lack = self.lack(place.0);
                (if lack.is_none() { own } else { direct }, Some(place), lack)
            }
            _ => (own, None, None),
        };
        let of = Of { service, answers };
        if let Some(set) = zonal(answers, name, above) {
            return (set.map_or(Found::NoData, |set| in_set(of, set, above, rtype)), None);
        }
        let Some(choices) = answers.choices() else {
            let chosen = place.map(|(_, length)| Chosen::within(length, client, lack));
            return (in_service(of, Some(&answers.own), name, above, rtype), chosen);
        };
        let (place, scope) = asker.map_or((None, 0), |address| {
            let needed = || choices.by_place(rtype).then(|| self.place_of(address, client));
            let decided = place.map_or(0, |(_, length)| length);
            let (place, length) = place.or_else(needed).unwrap_or_default();
            (place, choices.scope(rtype, address, length).max(decided))
        });
        let number = choices.number(client, service.name.wire());
        let set = match client.address {
            Some(_) => choices.pick(rtype, place, number, |set| has(set, name, above, rtype)),
            None => Some(&answers.own),
        };
        let rotation = choices.rotation(client, number);
        let chosen = Chosen { ttl: choices.ttl, most: choices.most, rotation, scope, lack };
        (in_service(of, set, name, above, rtype), Some(chosen))
    }

    /// What clients at a place lack to connect to virtual IPs, if anything.
    pub(crate) fn lack(&self, place: Option<Keys>) -> Option<Lack> {
        self.agents.as_ref()?.lack(place.map(|keys| keys.node))
    }

    /// Where a client is, by who is trusted most and knows, and the length of the prefix around its address of which that
    /// holds: nobody who is trusted more knows another one in it.
    pub(crate) fn place_of(&self, address: IpAddr, client: &Client<'_>) -> (Option<Keys>, u8) {
        let (known, mut uniform) = self.places.find(address);
        // What slices of home say goes before what Nodes do, whose networks need not be those of their pods.
        let asks = known.is_none_or(|known| match known.by {
            Authority::Operator => false,
            Authority::Home => self.pods.contradict(address),
            Authority::Peer | Authority::Database => true,
        });
        if asks && self.pods.are_near(address) {
            uniform = if address.is_ipv4() { 32 } else { 128 };
            if let Some(keys) = self.pods.find(address) {
                return (Some(keys), uniform);
            }
        }
        match (known, client.beyond) {
            (Some(known), _) => (Some(known.keys), uniform),
            (None, None) => (None, uniform),
            (None, Some(beyond)) => {
                let (area, length) = beyond.locate(address);
                (area.map(|area| Keys { area, node: area }), uniform.max(length))
            }
        }
    }

    fn missing(&self, why: Option<Absence>) -> Found<'_> {
        if self.complete { Found::NxDomain(why) } else { Found::NotReady }
    }

    /// Below the origin of a reverse zone.
    fn in_reverse<'s>(&'s self, zone: &'s Zone, name: &QName, rtype: RecordType) -> Found<'s> {
        let Some((first, last)) = range(name) else {
            return in_name_server(zone, name, rtype);
        };
        let found = if first == last {
            self.reverse.get(&first).map(|targets| single(rtype, RecordType::PTR, Records::Ptr(targets)))
        } else {
            has_any(&self.reverse, first, last).then_some(Found::NoData)
        };
        match found {
            Some(found) => found,
            None if self.complete => in_name_server(zone, name, rtype),
            None => Found::NotReady,
        }
    }
}

/// The origin itself: SOA and NS (RFC 1034 §4.2.1).
fn apex<'s>(rtype: RecordType) -> Found<'s> {
    match rtype {
        RecordType::SOA => Found::Records(Records::Soa),
        RecordType::NS => Found::Records(Records::Ns),
        RecordType::ANY => Found::Records(Records::Any),
        _ => Found::NoData,
    }
}

/// The name server's name, the empty non-terminals above it, or nothing: static names, known before any sync.
fn in_name_server<'s>(zone: &'s Zone, name: &QName, rtype: RecordType) -> Found<'s> {
    let server = zone.name_server.wire();
    if !server.ends_with(name.wire()) {
        return Found::NxDomain(None);
    }
    if server.len() == name.wire().len() {
        return match rtype {
            RecordType::A => some(!zone.glue_v4.is_empty(), Records::A(&zone.glue_v4)),
            RecordType::AAAA => some(!zone.glue_v6.is_empty(), Records::Aaaa(&zone.glue_v6)),
            RecordType::ANY => some(!zone.config.name_server_addresses.is_empty(), Records::Any),
            _ => Found::NoData,
        };
    }
    if suffixes(server).any(|suffix| suffix == name.wire()) { Found::NoData } else { Found::NxDomain(None) }
}

/// What a name answers that says where the client is, if it is such a name. One that only has such names below it, and a place
/// without endpoints that is pinned to, have no records: what is denied in one zone exists in another.
fn zonal<'s>(answers: &'s Answers, name: &QName, above: usize) -> Option<Option<&'s RecordSet>> {
    let last = name.label(above.checked_sub(1)?);
    let zonal = answers.zonal()?;
    let places = match last {
        b"_zone" => &zonal.zones,
        b"_region" => &zonal.regions,
        _ => return None,
    };
    let prefers = match above.checked_sub(2).map(|at| name.label(at)) {
        None => return Some(None),
        Some(b"pin") => false,
        Some(b"prefer") => true,
        Some(_) => return None,
    };
    match above {
        2 => Some(None),
        3 => {
            let found = places.binary_search_by(|(place, _)| (**place).cmp(name.label(0))).ok();
            let set = found.and_then(|at| zonal.sets.get(usize::from(places[at].1)));
            Some(set.or(prefers.then_some(&answers.own)))
        }
        _ => None,
    }
}

/// A service, and what it answers in the zone that was asked.
#[derive(Clone, Copy)]
struct Of<'s> {
    service: &'s Service,
    answers: &'s Answers,
}

/// At or below a service's name; `above` is the number of labels above it, `set` what the asker gets of its records.
fn in_service<'s>(
    of: Of<'s>,
    set: Option<&'s RecordSet>,
    name: &QName,
    above: usize,
    rtype: RecordType,
) -> Found<'s> {
    let Of { service, answers } = of;
    let srv = |set: &'s SrvSet| Records::Srv { set, service, answers, above_service: above };
    match (above, set) {
        (0, _) if rtype == RecordType::ANY => Found::Records(Records::Any),
        (0, None) => Found::NoData,
        (0, Some(set)) => in_set(of, set, above, rtype),
        (2, _) if name.label(0)[0] == b'_' => {
            let labels = name.slice(0, 2);
            match (answers.own.port(labels), set.and_then(|set| set.port(labels))) {
                (None, _) => Found::NxDomain(None),
                (Some(_), Some(set)) if !set.targets.is_empty() => single(rtype, RecordType::SRV, srv(set)),
                (Some(_), _) => Found::NoData,
            }
        }
        _ => in_endpoint(answers, name.slice(0, above), rtype),
    }
}

/// Of a set's records those of a type that a service's name may have.
fn in_set<'s>(of: Of<'s>, set: &'s RecordSet, above: usize, rtype: RecordType) -> Found<'s> {
    let Of { service, answers } = of;
    let srv = Records::Srv { set: &set.srv, service, answers, above_service: above };
    match rtype {
        RecordType::A => some(!set.v4.is_empty(), Records::A(&set.v4)),
        RecordType::AAAA => some(!set.v6.is_empty(), Records::Aaaa(&set.v6)),
        RecordType::SRV => some(!set.srv.targets.is_empty(), srv),
        RecordType::ANY => Found::Records(Records::Any),
        _ => Found::NoData,
    }
}

/// Whether a set has what is asked for at, or below, a service's name.
fn has(set: &RecordSet, name: &QName, above: usize, rtype: RecordType) -> bool {
    match (above, rtype) {
        (0, RecordType::A) => !set.v4.is_empty(),
        (0, RecordType::AAAA) => !set.v6.is_empty(),
        (0, RecordType::SRV) => !set.srv.targets.is_empty(),
        (2, RecordType::SRV) => set.port(name.slice(0, 2)).is_some_and(|port| !port.targets.is_empty()),
        _ => true,
    }
}

/// `<hostname>.<clusterid>` below a headless service, and the empty non-terminals there.
fn in_endpoint<'s>(answers: &'s Answers, labels: &[u8], rtype: RecordType) -> Found<'s> {
    if let Ok(at) = answers.hosts.binary_search_by(|host| (*host.labels).cmp(labels)) {
        let host = &answers.hosts[at];
        return match rtype {
            RecordType::A => some(!host.v4.is_empty(), Records::A(&host.v4)),
            RecordType::AAAA => some(!host.v6.is_empty(), Records::Aaaa(&host.v6)),
            RecordType::ANY => Found::Records(Records::Any),
            _ => Found::NoData,
        };
    }
    if answers.has_below(labels) { Found::NoData } else { Found::NxDomain(None) }
}

impl RecordSet {
    /// Records of `_<port>._<proto>`, both labels in wire form.
    fn port(&self, labels: &[u8]) -> Option<&SrvSet> {
        let at = self.ports.binary_search_by(|port| (*port.labels).cmp(labels)).ok()?;
        Some(&self.ports[at].srv)
    }
}

impl Answers {
    /// Whether any name ends with these labels: a protocol, or the end of a cluster's id.
    fn has_below(&self, labels: &[u8]) -> bool {
        let ends = |whole: &[u8]| suffixes(whole).any(|suffix| suffix == labels);
        self.clusters.iter().any(|cluster| ends(cluster))
            || self.own.ports.iter().any(|port| ends(&port.labels))
    }
}

/// A name's suffixes at label boundaries, itself first.
fn suffixes(labels: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(labels), |rest| {
        let next = rest.get(usize::from(*rest.first()?) + 1..)?;
        (!next.is_empty()).then_some(next)
    })
}

/// A name with records of one type only.
fn single<'s>(asked: RecordType, has: RecordType, records: Records<'s>) -> Found<'s> {
    match asked {
        RecordType::ANY => Found::Records(Records::Any),
        _ => some(asked == has, records),
    }
}

fn some(any: bool, records: Records<'_>) -> Found<'_> {
    if any { Found::Records(records) } else { Found::NoData }
}
