//! Octets of DNS messages (RFC 1035 §4): queries in, records out.

pub(crate) mod query;
pub(crate) mod records;
pub(crate) mod writer;

/// Class IN.
pub(crate) const IN: u16 = 1;
/// Class CH, in which servers speak of themselves (RFC 4892).
pub(crate) const CH: u16 = 3;

/// Header bits as they are on the wire (RFC 1035 §4.1.1, RFC 4035 §3).
pub(crate) mod flag {
    pub(crate) const RESPONSE: u16 = 0x8000;
    pub(crate) const AUTHORITATIVE: u16 = 0x0400;
    pub(crate) const TRUNCATED: u16 = 0x0200;
    pub(crate) const RECURSION_DESIRED: u16 = 0x0100;
    pub(crate) const CHECKING_DISABLED: u16 = 0x0010;
}

/// Operations of which more is known than that they are not implemented.
pub(crate) mod opcode {
    pub(crate) const QUERY: u8 = 0;
    pub(crate) const NOTIFY: u8 = 4;
    pub(crate) const UPDATE: u8 = 5;
}

/// Response codes; those above 15 need EDNS (RFC 6891 §6.1.3).
pub(crate) mod rcode {
    pub(crate) const NOERROR: u16 = 0;
    pub(crate) const FORMERR: u16 = 1;
    pub(crate) const SERVFAIL: u16 = 2;
    pub(crate) const NXDOMAIN: u16 = 3;
    pub(crate) const NOTIMP: u16 = 4;
    pub(crate) const REFUSED: u16 = 5;
    pub(crate) const NOTAUTH: u16 = 9;
    pub(crate) const BADVERS: u16 = 16;
    pub(crate) const BADCOOKIE: u16 = 23;
}
