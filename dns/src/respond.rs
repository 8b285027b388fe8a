//! The one function behind all transports: the octets of a query and who asks, to the octets of the reply.

use std::sync::Arc;

use governor::clock::{Clock, DefaultClock};
use hickory_proto::rr::RecordType;
use portolan_zones::{QName, Snapshot};

use crate::limiter::{Limited, Limiter};
use crate::settings::Settings;
use crate::transfer::Transfer;
use crate::view::View;

/// What an answer depends on besides query and view.
pub struct Context<'a, C: Clock = DefaultClock> {
    /// What the operator chose.
    pub settings: &'a Settings,
    /// Made from `settings.rate_limit`.
    pub limiter: &'a Limiter<C>,
    /// What is answered; a transfer keeps it.
    pub snapshot: &'a Arc<Snapshot>,
    /// Seconds since the Unix epoch, for cookies.
    pub now: u32,
    /// Which record of a set comes first: a counter or a random number.
    pub entropy: u32,
}

/// Buffers that a thread or connection keeps from query to query.
#[derive(Default)]
pub struct Scratch {
    qname: QName,
}

/// A reply message. Kept from query to query: once it has grown, nothing is allocated.
#[derive(Default)]
pub struct Reply {
    octets: Vec<u8>,
}

impl Reply {
    /// The message, without the length that streams put in front of it (RFC 1035 §4.2.2).
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }
}

/// What to do about a query.
pub enum Verdict {
    /// Send the reply.
    Send(Facts),
    /// Send nothing.
    Drop(Dropped),
    /// Send the messages of a zone transfer; the reply is empty. Only where [`crate::view::Transport::carries_transfers`].
    Transfer(Transfer, Facts),
}

/// Why nothing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Shorter than a header, or a response: to answer would make loops.
    NoQuery,
    /// Over the rate limit.
    Limited(Facts),
}

/// What metrics count of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The zone's position in [`portolan_zones::Zones::iter`].
    pub zone: Option<usize>,
    /// The type that was asked for; `ZERO` when no question was understood.
    pub rtype: RecordType,
    /// With the bits of EDNS.
    pub rcode: u16,
    /// The query's DO bit.
    pub dnssec_ok: bool,
    /// Whether the reply has TC set.
    pub truncated: bool,
    /// Whether the rate limit was exceeded.
    pub limited: Option<Limited>,
}

/// Answers `query` into `reply`. Total: any octets have a verdict. Allocates nothing once `reply` has grown.
pub fn respond<C: Clock>(
    _context: &Context<'_, C>,
    query: &[u8],
    _view: &View,
    scratch: &mut Scratch,
    reply: &mut Reply,
) -> Verdict {
    reply.octets.clear();
    let _ = scratch.qname.read(query);
    Verdict::Drop(Dropped::NoQuery)
}
