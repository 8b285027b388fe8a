//! What is to be done about a query, and what metrics and forwarders' watch learn from it.

use hickory_proto::rr::RecordType;
use portolan_zones::agents::Lack;

use crate::limiter::Limited;
use crate::transfer::Transfer;

/// What to do about a query.
pub enum Verdict {
    /// Send the reply.
    Send(Facts),
    /// Send nothing.
    Drop(Dropped),
    /// Send the messages of a zone transfer; the reply is empty. Only where [`Transport::carries_transfers`].
    Transfer(Box<Transfer>, Facts),
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
    /// What the client lacks to get a virtual IP as others do.
    pub lack: Option<Lack>,
    /// What a forwarder was told that may say where clients are, if that matters.
    pub placed: Option<Placed>,
}

/// An answer that depends on where a forwarder's client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// What caches keep answers by: a hash of name, type, DO and CD.
    pub question: u64,
    /// A hash of the clients' network that the answer is meant for; `None`: no client was told of.
    pub subnet: Option<u16>,
    /// TTL of the answer in seconds.
    pub ttl: u32,
}
