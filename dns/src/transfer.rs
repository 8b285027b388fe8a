//! Zone transfers (AXFR, RFC 5936) from one consistent snapshot, message by message, and few at a time.

use std::sync::Arc;

use hickory_proto::rr::RecordType;
use portolan_zones::records::{Data, Record};
use portolan_zones::zone::{Zone, ZoneKind};
use portolan_zones::{Service, Snapshot};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::edns::Opt;
use crate::respond::Reply;
use crate::wire::query::Query;
use crate::wire::records::{Origin, push_srv, push_txt};
use crate::wire::writer::{Section, Writer};
use crate::wire::{flag, rcode};

/// Octets of a message: all names in it are within reach of a compression pointer, and other answers of the
/// connection don't wait long.
const MESSAGE: usize = 16 * 1024;
/// Transfers of one server at a time: each holds a snapshot and a list of what it has yet to send.
const MAX_TRANSFERS: usize = 4;

/// A transfer that was granted: holds its snapshot until the last message is sent.
pub struct Transfer {
    snapshot: Arc<Snapshot>,
    zone: usize,
    id: [u8; 2],
    flags: u16,
    question: Vec<u8>,
    services: std::vec::IntoIter<Arc<Service>>,
    /// Records that are made and not yet written.
    ready: std::iter::Peekable<std::vec::IntoIter<Record>>,
    /// Whether the closing SOA has been made.
    ended: bool,
    /// The OPT record, for the first message.
    opt: Option<Vec<u8>>,
    /// Given back when the transfer is over or its connection gone.
    _place: OwnedSemaphorePermit,
}

/// The transfers of a server, of which there are few at a time. Clones share their places.
#[derive(Debug, Clone)]
pub struct Transfers(Arc<Semaphore>);

impl Default for Transfers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_TRANSFERS)))
    }
}

impl Transfers {
    /// A place, unless all are taken. Nobody waits: who asks is answered SERVFAIL and comes again (RFC 1035 §3.3.13,
    /// RETRY).
    pub(crate) fn begin(&self) -> Option<OwnedSemaphorePermit> {
        self.0.clone().try_acquire_owned().ok()
    }
}

impl Transfer {
    /// `zone` is a position in [`portolan_zones::Zones::iter`], the query's name is its origin.
    pub(crate) fn new(
        snapshot: Arc<Snapshot>,
        zone: usize,
        query: &Query<'_>,
        opt: Option<&Opt<'_>>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let (mut services, mut ready) = (Vec::new(), Vec::new());
        if let Some(zone) = snapshot.zones.iter().nth(zone) {
            ready = snapshot.apex_records(zone);
            ready.extend(snapshot.reverse_records(zone));
            if zone.kind == ZoneKind::Services {
                services = snapshot.sorted_services();
            }
        }
        Self {
            snapshot,
            zone,
            id: query.id,
            flags: query.flags & flag::RECURSION_DESIRED,
            question: query.question.to_vec(),
            services: services.into_iter(),
            ready: ready.into_iter().peekable(),
            ended: false,
            opt: opt.map(|opt| {
                let mut octets = Vec::with_capacity(opt.len());
                opt.write(&mut octets, rcode::NOERROR, 0);
                octets
            }),
            _place: place,
        }
    }

    /// Puts the next message in place of what `reply` holds; `false` after the last one. Between two
    /// messages the connection may answer other queries (RFC 7766 §6.2.1).
    pub fn next(&mut self, reply: &mut Reply) -> bool {
        let snapshot = self.snapshot.clone();
        let Some(zone) = snapshot.zones.iter().nth(self.zone) else {
            return false;
        };
        if self.peek(zone).is_none() {
            return false;
        }
        // Every message repeats the question: later ones may (RFC 5936 §2.2.2), and owners point at it.
        let opt = self.opt.take();
        let question = std::mem::take(&mut self.question);
        let mut writer = Writer::new(&mut reply.octets, self.id, &question, MESSAGE);
        self.question = question;
        while let Some(record) = self.peek(zone) {
            if !write(&mut writer, &snapshot, zone, record) {
                break;
            }
            self.ready.next();
        }
        writer.finish(
            flag::RESPONSE | flag::AUTHORITATIVE | self.flags,
            opt.map(|opt| move |out: &mut Vec<u8>| out.extend(opt)),
        );
        true
    }

    /// The next record; after the last one the SOA once more (RFC 5936 §2.2), then none.
    fn peek(&mut self, zone: &Zone) -> Option<&Record> {
        while self.ready.peek().is_none() && !self.ended {
            let records = match self.services.next() {
                Some(service) => self.snapshot.service_records(&service, zone),
                None => {
                    self.ended = true;
                    let soa = Record { owner: Vec::new(), ttl: zone.config.ttl, data: Data::Soa };
                    vec![soa]
                }
            };
            self.ready = records.into_iter().peekable();
        }
        self.ready.peek()
    }
}

/// Writes one record; `false` if the message is full.
fn write(writer: &mut Writer<'_>, snapshot: &Snapshot, zone: &Zone, record: &Record) -> bool {
    let origin = Origin::asked(zone);
    let rtype = match record.data {
        Data::Soa => RecordType::SOA,
        Data::Ns => RecordType::NS,
        Data::A(_) => RecordType::A,
        Data::Aaaa(_) => RecordType::AAAA,
        Data::Srv { .. } => RecordType::SRV,
        Data::Txt(_) => RecordType::TXT,
        Data::Ptr(_) => RecordType::PTR,
    };
    let owner = |out: &mut Vec<u8>| origin.push(out, &record.owner);
    writer.named_record(Section::Answer, owner, rtype, record.ttl, |out| match &record.data {
        Data::Soa => origin.push_soa(out, snapshot.serial),
        Data::Ns => origin.push_name(out, &zone.name_server),
        Data::A(address) => out.extend_from_slice(&address.octets()),
        Data::Aaaa(address) => out.extend_from_slice(&address.octets()),
        Data::Srv { weight, port, target } => {
            push_srv(out, *weight, *port);
            out.extend_from_slice(target);
            out.extend_from_slice(zone.origin());
        }
        Data::Txt(text) => push_txt(out, text),
        Data::Ptr(target) => out.extend_from_slice(target.wire()),
    })
}
