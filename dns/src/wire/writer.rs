//! Writes a reply: whole records as long as they fit, header counts last.

use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::RecordType;

use super::query::HEADER;
use super::{IN, flag};

/// Owner, type, class, TTL and length of a record whose owner is a compression pointer.
pub(crate) const RECORD_HEAD: usize = 12;
/// What a compression pointer can point at (RFC 1035 §4.1.4).
pub(crate) const POINTER_REACH: usize = 0x3fff;
/// The question's name is the first thing after the header.
pub(crate) const QUESTION: Pointer = Pointer(0xc000 | HEADER as u16);

/// A compression pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pointer(u16);

impl Pointer {
    /// A pointer to what is at `offset` of the message; `None` when it is out of reach.
    pub(crate) fn to(offset: usize) -> Option<Self> {
        (offset <= POINTER_REACH).then_some(Self(0xc000 | offset as u16))
    }

    /// A pointer into the question's name, `offset` octets after its start (at most 255).
    pub(crate) fn into_question(offset: usize) -> Self {
        Self(QUESTION.0 + offset.min(255) as u16)
    }

    pub(crate) fn octets(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }
}

/// The sections of a reply that hold records.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Section {
    Answer,
    Authority,
    Additional,
}

/// A reply that is being written.
pub(crate) struct Writer<'r> {
    out: &'r mut Vec<u8>,
    limit: usize,
    counts: [u16; 3],
    class: u16,
    truncated: bool,
}

impl<'r> Writer<'r> {
    /// Starts a message with this id and question; records may fill it up to `limit` octets. The header
    /// and the question are written whatever the limit.
    pub(crate) fn new(out: &'r mut Vec<u8>, id: [u8; 2], question: &[u8], limit: usize) -> Self {
        out.clear();
        let questions = u8::from(!question.is_empty());
        out.extend_from_slice(&[id[0], id[1], 0, 0, 0, questions, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(question);
        Self { out, limit, counts: [0; 3], class: IN, truncated: false }
    }

    /// The class of the records to come, IN unless said otherwise.
    pub(crate) fn set_class(&mut self, class: u16) {
        self.class = class;
    }

    /// Length so far: where the next record will start.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Sets TC.
    pub(crate) fn truncate(&mut self) {
        self.truncated = true;
    }

    /// Whether TC will be set.
    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Writes A records as long as they fit; `false` if some don't.
    pub(crate) fn ipv4(
        &mut self,
        section: Section,
        owner: Pointer,
        ttl: u32,
        addresses: &[Ipv4Addr],
    ) -> bool {
        let head = self.head(owner, RecordType::A, ttl, 4);
        self.fixed::<16>(section, addresses.len(), |record, i| {
            record[..RECORD_HEAD].copy_from_slice(&head);
            record[RECORD_HEAD..].copy_from_slice(&addresses[i].octets());
        })
    }

    /// Writes AAAA records as long as they fit; `false` if some don't.
    pub(crate) fn ipv6(
        &mut self,
        section: Section,
        owner: Pointer,
        ttl: u32,
        addresses: &[Ipv6Addr],
    ) -> bool {
        let head = self.head(owner, RecordType::AAAA, ttl, 16);
        self.fixed::<28>(section, addresses.len(), |record, i| {
            record[..RECORD_HEAD].copy_from_slice(&head);
            record[RECORD_HEAD..].copy_from_slice(&addresses[i].octets());
        })
    }

    /// Writes `count` records of `N` octets as long as they fit.
    #[inline]
    fn fixed<const N: usize>(
        &mut self,
        section: Section,
        count: usize,
        fill: impl Fn(&mut [u8; N], usize),
    ) -> bool {
        let fitting = count.min(self.limit.saturating_sub(self.out.len()) / N);
        for i in 0..fitting {
            let mut record = [0; N];
            fill(&mut record, i);
            self.out.extend_from_slice(&record);
        }
        self.counts[section as usize] += fitting as u16;
        fitting == count
    }

    /// Writes one record whose value `rdata` appends; `false`, and nothing is written, if it doesn't fit.
    pub(crate) fn record(
        &mut self,
        section: Section,
        owner: Pointer,
        rtype: RecordType,
        ttl: u32,
        rdata: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let start = self.out.len();
        let head = self.head(owner, rtype, ttl, 0);
        self.out.extend_from_slice(&head);
        self.rest(section, start, rdata)
    }

    /// The same with an owner that `owner` appends, for transfers.
    pub(crate) fn named_record(
        &mut self,
        section: Section,
        owner: impl FnOnce(&mut Vec<u8>),
        rtype: RecordType,
        ttl: u32,
        rdata: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let start = self.out.len();
        owner(self.out);
        let head = self.head(QUESTION, rtype, ttl, 0);
        self.out.extend_from_slice(&head[2..]);
        self.rest(section, start, rdata)
    }

    fn rest(&mut self, section: Section, start: usize, rdata: impl FnOnce(&mut Vec<u8>)) -> bool {
        let value = self.out.len();
        rdata(self.out);
        let len = self.out.len() - value;
        if self.out.len() > self.limit || len > usize::from(u16::MAX) {
            self.out.truncate(start);
            return false;
        }
        self.out[value - 2..value].copy_from_slice(&(len as u16).to_be_bytes());
        self.counts[section as usize] += 1;
        true
    }

    fn head(&self, owner: Pointer, rtype: RecordType, ttl: u32, len: u16) -> [u8; RECORD_HEAD] {
        let mut head = [0; RECORD_HEAD];
        head[..2].copy_from_slice(&owner.octets());
        head[2..4].copy_from_slice(&u16::from(rtype).to_be_bytes());
        head[4..6].copy_from_slice(&self.class.to_be_bytes());
        head[6..10].copy_from_slice(&ttl.to_be_bytes());
        head[10..].copy_from_slice(&len.to_be_bytes());
        head
    }

    /// Ends the message: `opt` appends the OPT record if there is one, then header flags and counts are set.
    pub(crate) fn finish(self, flags: u16, opt: Option<impl FnOnce(&mut Vec<u8>)>) {
        let Self { out, counts: [answers, authorities, mut additionals], truncated, .. } = self;
        if let Some(opt) = opt {
            opt(out);
            additionals += 1;
        }
        let flags = if truncated { flags | flag::TRUNCATED } else { flags };
        out[2..4].copy_from_slice(&flags.to_be_bytes());
        out[6..8].copy_from_slice(&answers.to_be_bytes());
        out[8..10].copy_from_slice(&authorities.to_be_bytes());
        out[10..12].copy_from_slice(&additionals.to_be_bytes());
    }
}
