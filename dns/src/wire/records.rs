//! What was looked up, as records. Owners are pointers to the question, so that its case is echoed (RFC 4343 §4.1).

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::RecordType;
use portolan_zones::service::{Answers, Service, SrvSet, SrvTarget};
use portolan_zones::snapshot::ReverseTarget;
use portolan_zones::zone::{VERSION_TTL, Zone};
use portolan_zones::{Found, Lookup, Name, QName, Records, Snapshot};

use super::CH;
use super::writer::{Pointer, QUESTION, RECORD_HEAD, Section, Writer};

/// The label between a service's namespace and the zone's origin.
const SVC: &[u8] = b"\x03svc";
/// Priority, weight and port in front of an SRV target (RFC 2782).
const SRV_FIXED: usize = 6;
/// TTL of the record that stands for all types; the example of RFC 8482 §4.2.
const ANY_TTL: u32 = 3789;
/// CPU and OS of that record, each a character string.
const ANY_HINFO: &[u8] = b"\x07RFC8482\x00";

/// Writes one lookup's records into a reply.
pub(crate) struct Renderer<'a, 'w, 'r> {
    /// The reply.
    pub(crate) writer: &'w mut Writer<'r>,
    /// Where the lookup was made.
    pub(crate) snapshot: &'a Snapshot,
    /// The name that was looked up; its octets follow the header.
    pub(crate) qname: &'a QName,
    /// Chooses which record of a set comes first.
    pub(crate) entropy: u32,
    /// Most records of a set.
    pub(crate) most: usize,
}

impl Renderer<'_, '_, '_> {
    /// Writes all sections. Records that don't fit are left out: with TC where the answer needs them, without
    /// it where they only save the asker a query (RFC 2181 §9).
    pub(crate) fn lookup(&mut self, lookup: &Lookup<'_>) {
        let zone = lookup.zone;
        let chosen = lookup.chosen;
        if let Some(chosen) = chosen {
            self.entropy = chosen.rotation;
            self.most = chosen.most.map_or(usize::MAX, |most| most.get().into());
        }
        let own = chosen.and_then(|chosen| chosen.ttl);
        let ttl = own.unwrap_or(zone.config.ttl);
        let srv_ttl = own.unwrap_or(zone.config.srv_ttl);
        let whole = match lookup.found {
            Found::Records(Records::A(addresses)) => self.ipv4(ttl, addresses),
            Found::Records(Records::Aaaa(addresses)) => self.ipv6(ttl, addresses),
            Found::Records(Records::Srv { set, service, answers, above_service }) => {
                self.srv(zone, set, (service, answers), above_service, [srv_ttl, ttl])
            }
            Found::Records(Records::Txt(text)) => self.txt(VERSION_TTL, text),
            Found::Records(Records::Soa) => self.soa(lookup, Section::Answer, ttl),
            Found::Records(Records::Ns) => self.ns(lookup),
            Found::Records(Records::Ptr(targets)) => self.ptr(ttl, targets),
            Found::Records(Records::Any) => self.any(),
            Found::NoData | Found::NxDomain(_) => {
                self.soa(lookup, Section::Authority, ttl.min(zone.config.negative_ttl))
            }
            Found::NotReady => true,
        };
        if !whole {
            self.writer.truncate();
        }
    }

    /// A set that starts somewhere else every time: from there to the end, and the rest; no more than there may be.
    fn window<'t, T>(&self, set: &'t [T]) -> (&'t [T], &'t [T]) {
        let start = if set.len() > 1 { self.entropy as usize % set.len() } else { 0 };
        let (second, first) = set.split_at(start);
        let first = &first[..first.len().min(self.most)];
        (first, &second[..second.len().min(self.most - first.len())])
    }

    fn ipv4(&mut self, ttl: u32, addresses: &[Ipv4Addr]) -> bool {
        let (first, second) = self.window(addresses);
        self.writer.ipv4(Section::Answer, QUESTION, ttl, first)
            && self.writer.ipv4(Section::Answer, QUESTION, ttl, second)
    }

    fn ipv6(&mut self, ttl: u32, addresses: &[Ipv6Addr]) -> bool {
        let (first, second) = self.window(addresses);
        self.writer.ipv6(Section::Answer, QUESTION, ttl, first)
            && self.writer.ipv6(Section::Answer, QUESTION, ttl, second)
    }

    /// SRV targets are not compressed (RFC 2782, Target). The addresses of all targets are additional.
    fn srv(
        &mut self,
        zone: &Zone,
        set: &SrvSet,
        (service, answers): (&Service, &Answers),
        above_service: usize,
        [ttl, glue_ttl]: [u32; 2],
    ) -> bool {
        let (first, second) = self.window(&set.targets);
        let start = self.writer.len();
        for target in first.iter().chain(second) {
            let labels = answers.host_labels(*target);
            let fits = self.writer.record(Section::Answer, QUESTION, RecordType::SRV, ttl, |out| {
                push_srv(out, set.weight, target.port);
                push_service_name(out, labels, service.name.wire(), zone.origin());
            });
            if !fits {
                return false;
            }
        }
        let own_name = Pointer::into_question(self.qname.offset(above_service));
        self.srv_glue(zone, (first, second), (service, answers), own_name, start, glue_ttl);
        true
    }

    /// Addresses of SRV targets, each target once, as long as they fit and pointers reach the target.
    ///
    /// Targets of one set are sorted, and then rotated: those of one endpoint are neighbours, or the first and
    /// the last ones.
    fn srv_glue(
        &mut self,
        zone: &Zone,
        (first, second): (&[SrvTarget], &[SrvTarget]),
        (service, answers): (&Service, &Answers),
        own_name: Pointer,
        start: usize,
        ttl: u32,
    ) {
        let below = service.name.wire().len() + SVC.len() + zone.origin().len();
        let first_host = first.first().map(|target| target.host);
        let (mut at, mut previous) = (start, None);
        for target in first.iter().chain(second) {
            let name = at + RECORD_HEAD + SRV_FIXED;
            at = name + answers.host_labels(*target).len() + below;
            let seen = previous == Some(target.host) || previous.is_some() && first_host == Some(target.host);
            previous = Some(target.host);
            if seen {
                continue;
            }
            let (owner, v4, v6) = match answers.host(*target) {
                Some(host) => (Pointer::to(name), &*host.v4, &*host.v6),
                None => (Some(own_name), &*answers.own.v4, &*answers.own.v6),
            };
            let fits = owner.is_some_and(|owner| {
                self.writer.ipv4(Section::Additional, owner, ttl, v4)
                    && self.writer.ipv6(Section::Additional, owner, ttl, v6)
            });
            if !fits {
                return;
            }
        }
    }

    /// Texts about the server, a record each; nobody should keep them.
    pub(crate) fn chaos<'t>(&mut self, texts: impl IntoIterator<Item = &'t str>) {
        self.writer.set_class(CH);
        if !texts.into_iter().all(|text| self.txt(0, text)) {
            self.writer.truncate();
        }
    }

    fn txt(&mut self, ttl: u32, text: &str) -> bool {
        self.writer.record(Section::Answer, QUESTION, RecordType::TXT, ttl, |out| push_txt(out, text))
    }

    fn soa(&mut self, lookup: &Lookup<'_>, section: Section, ttl: u32) -> bool {
        let origin = Origin::of(lookup, self.qname);
        let owner = origin.pointer();
        self.writer
            .record(section, owner, RecordType::SOA, ttl, |out| origin.push_soa(out, self.snapshot.serial))
    }

    fn ns(&mut self, lookup: &Lookup<'_>) -> bool {
        let (zone, ttl) = (lookup.zone, lookup.zone.config.ttl);
        let origin = Origin::of(lookup, self.qname);
        let server = Pointer::to(self.writer.len() + RECORD_HEAD);
        let fits = self.writer.record(Section::Answer, QUESTION, RecordType::NS, ttl, |out| {
            origin.push_name(out, &zone.name_server);
        });
        if let Some(server) = server.filter(|_| fits) {
            let _ = self.writer.ipv4(Section::Additional, server, ttl, &zone.glue_v4)
                && self.writer.ipv6(Section::Additional, server, ttl, &zone.glue_v6);
        }
        fits
    }

    /// PTR targets are in the primary zone; [`portolan_zones::Zones`] without one has no such records.
    fn ptr(&mut self, ttl: u32, targets: &[ReverseTarget]) -> bool {
        let Some(primary) = self.snapshot.zones.primary() else {
            return true;
        };
        let (first, second) = self.window(targets);
        first.iter().chain(second).all(|target| {
            self.writer.record(Section::Answer, QUESTION, RecordType::PTR, ttl, |out| {
                push_service_name(out, &target.host, target.service.wire(), primary.origin());
            })
        })
    }

    /// RFC 8482 §4.2: a HINFO record stands for all types.
    fn any(&mut self) -> bool {
        self.writer.record(Section::Answer, QUESTION, RecordType::HINFO, ANY_TTL, |out| {
            out.extend_from_slice(ANY_HINFO);
        })
    }
}

/// A zone's origin as part of the question: what names of the zone are compressed with.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'z> {
    zone: &'z Zone,
    offset: usize,
}

impl<'z> Origin<'z> {
    fn of(lookup: &Lookup<'z>, qname: &QName) -> Self {
        Self { zone: lookup.zone, offset: qname.offset(lookup.above) }
    }

    /// When the question's name is the origin itself.
    pub(crate) fn asked(zone: &'z Zone) -> Self {
        Self { zone, offset: 0 }
    }

    fn pointer(self) -> Pointer {
        Pointer::into_question(self.offset)
    }

    /// Appends labels below the origin.
    pub(crate) fn push(self, out: &mut Vec<u8>, labels: &[u8]) {
        out.extend_from_slice(labels);
        out.extend_from_slice(&self.pointer().octets());
    }

    /// Appends a name that is at or below the origin.
    pub(crate) fn push_name(self, out: &mut Vec<u8>, name: &Name) {
        let wire = name.wire();
        self.push(out, &wire[..wire.len().saturating_sub(self.zone.origin().len())]);
    }

    /// Appends the value of the zone's SOA (RFC 1035 §3.3.13); MINIMUM is the TTL of negative answers (RFC 2308 §4).
    pub(crate) fn push_soa(self, out: &mut Vec<u8>, serial: u32) {
        self.push_name(out, &self.zone.name_server);
        self.push_name(out, &self.zone.hostmaster);
        let config = &self.zone.config;
        for field in [serial, config.refresh, config.retry, config.expire, config.negative_ttl] {
            out.extend_from_slice(&field.to_be_bytes());
        }
    }
}

/// Appends what is in front of an SRV target; all records have priority 0.
pub(crate) fn push_srv(out: &mut Vec<u8>, weight: u16, port: u16) {
    let [weight, port] = [weight, port].map(u16::to_be_bytes);
    out.extend_from_slice(&[0, 0, weight[0], weight[1], port[0], port[1]]);
}

/// Appends one character string of at most 255 octets.
pub(crate) fn push_txt(out: &mut Vec<u8>, text: &str) {
    let text = &text.as_bytes()[..text.len().min(255)];
    out.push(text.len() as u8);
    out.extend_from_slice(text);
}

/// Appends `<labels>.<service>.svc.<origin>` without compression.
fn push_service_name(out: &mut Vec<u8>, labels: &[u8], service: &[u8], origin: &[u8]) {
    for part in [labels, service, SVC, origin] {
        out.extend_from_slice(part);
    }
}
