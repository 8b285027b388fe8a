//! Reads a query. Total: any octets give a query with a status, or are no query at all.

use hickory_proto::rr::RecordType;
use portolan_zones::QName;

use super::{flag, opcode, rcode};
use crate::edns::Edns;

/// Octets of a message header (RFC 1035 §4.1.1).
pub(crate) const HEADER: usize = 12;
/// Type and class of a question.
const QUESTION_FIXED: usize = 4;
/// SOA fields after the two names; the serial is the first of them.
const SOA_FIXED: usize = 20;

/// Reads the name of a message's question, if there is one, whatever else is wrong with it.
pub(crate) fn read_name(octets: &[u8], qname: &mut QName) -> Option<()> {
    qname.read(octets.get(HEADER..)?).ok().map(|_| ())
}

/// What a query says, as far as it was understood.
#[derive(Debug)]
pub(crate) struct Query<'q> {
    /// Message id.
    pub(crate) id: [u8; 2],
    /// Flags as they came.
    pub(crate) flags: u16,
    /// The question section as it came, to be echoed with its case; empty when there is no sound one, or when only a
    /// cookie is asked for.
    pub(crate) question: &'q [u8],
    /// QTYPE, or an update's ZTYPE.
    pub(crate) rtype: RecordType,
    /// QCLASS.
    pub(crate) class: u16,
    /// The OPT record.
    pub(crate) edns: Option<Edns<'q>>,
    /// Serial of the zone that the asker has (RFC 1995 §3).
    pub(crate) serial: Option<u32>,
    /// NOERROR, or why it can't be answered.
    pub(crate) status: u16,
}

impl<'q> Query<'q> {
    /// Reads a message and its name into `qname`. `None` when it is shorter than a header or is a response:
    /// such a message must not be answered, or two servers could talk for ever.
    pub(crate) fn read(octets: &'q [u8], qname: &mut QName) -> Option<Self> {
        let header: &[u8; HEADER] = octets.first_chunk()?;
        let flags = u16::from_be_bytes([header[2], header[3]]);
        if flags & flag::RESPONSE != 0 {
            return None;
        }
        let mut query = Self {
            id: [header[0], header[1]],
            flags,
            question: &[],
            rtype: RecordType::ZERO,
            class: 0,
            edns: None,
            serial: None,
            status: rcode::NOERROR,
        };
        if let Err(status) = query.read_sections(octets, header, qname) {
            query.status = status;
        }
        Some(query)
    }

    /// OPCODE.
    pub(crate) fn opcode(&self) -> u8 {
        (self.flags >> 11) as u8 & 0x0f
    }

    fn read_sections(
        &mut self,
        octets: &'q [u8],
        header: &[u8; HEADER],
        qname: &mut QName,
    ) -> Result<(), u16> {
        if !matches!(self.opcode(), opcode::QUERY | opcode::NOTIFY | opcode::UPDATE) {
            return Err(rcode::NOTIMP);
        }
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (questions, answers, authorities, additionals) = (count(4), count(6), count(8), count(10));
        let mut rest = match questions {
            0 if self.opcode() == opcode::QUERY => &octets[HEADER..],
            1 => self.read_question(octets, qname)?,
            _ => return Err(rcode::FORMERR),
        };
        if self.opcode() == opcode::QUERY {
            let transfer = self.rtype == RecordType::IXFR && authorities == 1;
            if answers != 0 || authorities != 0 && !transfer {
                return Err(rcode::FORMERR);
            }
        }
        for _ in 0..u32::from(answers) + u32::from(authorities) {
            let record = Record::read(&mut rest)?;
            if self.rtype == RecordType::IXFR && record.rtype == u16::from(RecordType::SOA) {
                self.serial = record.soa_serial();
            }
        }
        for _ in 0..additionals {
            let record = Record::read(&mut rest)?;
            if record.rtype == u16::from(RecordType::OPT) {
                self.read_opt(&record)?;
            }
        }
        // RFC 7873 §5.4: a query without a question is one for a cookie.
        let asks = questions == 1 || self.edns.is_some_and(|edns| edns.cookie.is_some());
        if rest.is_empty() && asks { Ok(()) } else { Err(rcode::FORMERR) }
    }

    fn read_question(&mut self, octets: &'q [u8], qname: &mut QName) -> Result<&'q [u8], u16> {
        let sections = &octets[HEADER..];
        let name = qname.read(sections).map_err(|_| rcode::FORMERR)?;
        let fixed: &[u8; QUESTION_FIXED] = sections[name..].first_chunk().ok_or(rcode::FORMERR)?;
        self.rtype = RecordType::from(u16::from_be_bytes([fixed[0], fixed[1]]));
        self.class = u16::from_be_bytes([fixed[2], fixed[3]]);
        let (question, rest) = sections.split_at(name + QUESTION_FIXED);
        self.question = question;
        Ok(rest)
    }

    /// One OPT at most, and its owner is the root (RFC 6891 §6.1.1).
    fn read_opt(&mut self, record: &Record<'q>) -> Result<(), u16> {
        if self.edns.is_some() || !record.owner_is_root {
            return Err(rcode::FORMERR);
        }
        let (edns, sound) = Edns::read(record.class, record.ttl, record.rdata);
        self.edns = Some(edns);
        if sound { Ok(()) } else { Err(rcode::FORMERR) }
    }
}

/// A resource record, its names unread.
struct Record<'q> {
    owner_is_root: bool,
    rtype: u16,
    class: u16,
    ttl: u32,
    rdata: &'q [u8],
}

impl<'q> Record<'q> {
    /// Takes a record off the front of `rest`. At least eleven octets go, so that counts can't make it long.
    fn read(rest: &mut &'q [u8]) -> Result<Self, u16> {
        Self::split(rest).ok_or(rcode::FORMERR)
    }

    fn split(rest: &mut &'q [u8]) -> Option<Self> {
        let owner_is_root = rest.first() == Some(&0);
        let (fixed, tail) = skip_name(rest)?.split_first_chunk::<10>()?;
        let field = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let (rdata, next) = tail.split_at_checked(field(8).into())?;
        *rest = next;
        let ttl = u32::from(field(4)) << 16 | u32::from(field(6));
        Some(Self { owner_is_root, rtype: field(0), class: field(2), ttl, rdata })
    }

    /// The names in front of the serial may be compressed, what follows has a fixed length (RFC 1035 §3.3.13).
    fn soa_serial(&self) -> Option<u32> {
        let fixed: &[u8; SOA_FIXED] = self.rdata.last_chunk()?;
        Some(u32::from_be_bytes([fixed[0], fixed[1], fixed[2], fixed[3]]))
    }
}

/// What follows a name; pointers end it and are not followed.
fn skip_name(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let (&len, tail) = rest.split_first()?;
        match len {
            0 => return Some(tail),
            1..=63 => rest = tail.get(usize::from(len)..)?,
            0xc0.. => return tail.get(1..),
            _ => return None,
        }
    }
}
