//! EDNS(0): the OPT record of a query and of a reply (RFC 6891).

use std::hash::BuildHasher;
use std::net::IpAddr;

use foldhash::quality::FixedState;
use ipnet::IpNet;

use crate::settings::Settings;
use crate::view::Transport;

/// OPT without options.
const OPT_FIXED: usize = 11;
/// Code and length of an option.
const OPTION_HEAD: usize = 4;
/// The DO bit in the TTL of an OPT (RFC 3225 §3).
const DNSSEC_OK: u32 = 0x8000;
/// Replies are padded to a multiple of this (RFC 8467 §4.1).
const PADDING_BLOCK: usize = 468;
/// Every message without EDNS fits in this (RFC 1035 §4.2.1), and no EDNS client takes less (RFC 6891 §6.2.3).
pub(crate) const MIN_PAYLOAD: u16 = 512;
/// Octets of the NSID that are told, so that header, longest question and OPT fit in [`MIN_PAYLOAD`].
const MAX_NSID: usize = 128;

/// The address family of a client subnet that gives none, as `dig +subnet=0` does; it is not echoed.
const NO_FAMILY: [u8; 2] = [0, 0];

/// Option codes.
mod code {
    pub(super) const NSID: u16 = 3;
    pub(super) const CLIENT_SUBNET: u16 = 8;
    pub(super) const COOKIE: u16 = 10;
    pub(super) const TCP_KEEPALIVE: u16 = 11;
    pub(super) const PADDING: u16 = 12;
    pub(super) const EXTENDED_ERROR: u16 = 15;
}

/// The OPT record of a query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Edns<'q> {
    /// Largest UDP message that the asker takes.
    pub(crate) payload: u16,
    /// 0 is all there is.
    pub(crate) version: u8,
    /// DO.
    pub(crate) dnssec_ok: bool,
    /// Whether the server's name is asked for (RFC 5001).
    nsid: bool,
    /// Client and server cookie (RFC 7873 §4).
    pub(crate) cookie: Option<&'q [u8]>,
    /// RFC 7871 §6.
    client_subnet: Option<&'q [u8]>,
    /// RFC 7828 §3.1.
    keepalive: Option<&'q [u8]>,
    /// Whether the query was padded (RFC 7830).
    padded: bool,
}

impl<'q> Edns<'q> {
    /// Reads class, TTL and value of an OPT; `false` when an option runs past its end. Of options that come
    /// twice the first one counts; unknown ones are ignored (RFC 6891 §6.1.2).
    pub(crate) fn read(class: u16, ttl: u32, rdata: &'q [u8]) -> (Self, bool) {
        let mut edns = Self {
            payload: class,
            version: (ttl >> 16) as u8,
            dnssec_ok: ttl & DNSSEC_OK != 0,
            nsid: false,
            cookie: None,
            client_subnet: None,
            keepalive: None,
            padded: false,
        };
        let mut rest = rdata;
        while !rest.is_empty() && edns.version == 0 {
            let Some((code, value, next)) = split_option(rest) else {
                return (edns, false);
            };
            match code {
                code::NSID => edns.nsid = true,
                code::COOKIE => edns.cookie = edns.cookie.or(Some(value)),
                code::CLIENT_SUBNET => edns.client_subnet = edns.client_subnet.or(Some(value)),
                code::TCP_KEEPALIVE => edns.keepalive = edns.keepalive.or(Some(value)),
                code::PADDING => edns.padded = true,
                _ => {}
            }
            rest = next;
        }
        (edns, true)
    }

    /// Whether the options that we act on are well formed.
    pub(crate) fn is_sound(&self, settings: &Settings, transport: Transport) -> bool {
        let cookie = self.cookie.filter(|_| !settings.cookies.secrets.is_empty());
        let subnet = self.client_subnet.filter(|_| settings.edns.client_subnet);
        let keepalive = self.keepalive.filter(|_| keeps_alive(transport));
        cookie.is_none_or(|cookie| matches!(cookie.len(), 8 | 16..=40))
            && subnet.is_none_or(is_client_subnet)
            && keepalive.is_none_or(<[u8]>::is_empty)
    }

    /// The OPT of the reply, as far as it doesn't depend on the answer. Call only when [`Edns::is_sound`].
    pub(crate) fn reply<'a>(&self, settings: &'a Settings, transport: Transport) -> Opt<'a>
    where
        'q: 'a,
    {
        let nsid = settings.identity.nsid.as_deref().map(str::as_bytes);
        let idle = settings.tcp.idle_timeout.as_millis() / 100;
        Opt {
            payload: settings.edns.max_udp_payload.max(MIN_PAYLOAD),
            dnssec_ok: self.dnssec_ok,
            nsid: nsid.filter(|_| self.nsid).map(|nsid| &nsid[..nsid.len().min(MAX_NSID)]),
            cookie: None,
            client_subnet: self
                .client_subnet
                .filter(|subnet| settings.edns.client_subnet && !subnet.starts_with(&NO_FAMILY)),
            scope: 0,
            keepalive: self
                .keepalive
                .filter(|_| keeps_alive(transport))
                .map(|_| u16::try_from(idle).unwrap_or(u16::MAX)),
            error: None,
            padded: self.padded && transport.is_encrypted(),
        }
    }

    /// The OPT of a reply to a query whose options were not understood: none.
    pub(crate) fn bare_reply(&self, settings: &Settings) -> Opt<'static> {
        Opt {
            payload: settings.edns.max_udp_payload.max(MIN_PAYLOAD),
            dnssec_ok: self.dnssec_ok,
            nsid: None,
            cookie: None,
            client_subnet: None,
            scope: 0,
            keepalive: None,
            error: None,
            padded: false,
        }
    }

    /// The client that the asker asks for, if it is one that may say so, and says anything. Means something only when
    /// [`Edns::is_sound`].
    pub(crate) fn subnet(&self, settings: &Settings, asker: IpAddr) -> Option<Subnet> {
        let option = self.client_subnet?;
        if settings.edns.trusts(asker) { Subnet::read(option) } else { None }
    }

    /// Whether anything is said of a client, if only that nothing is to be known of it.
    pub(crate) fn has_subnet(&self) -> bool {
        self.client_subnet.is_some()
    }
}

/// A client as its forwarder tells of it: a prefix of its address, the rest is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) address: IpAddr,
}

impl Subnet {
    /// `None`: no client is told of, as a source prefix of 0 says (RFC 7871 §7.1.2).
    fn read(option: &[u8]) -> Option<Self> {
        let [0, family, source, _, octets @ ..] = option else { return None };
        if *source == 0 {
            return None;
        }
        let mut address = [0; 16];
        address.get_mut(..octets.len())?.copy_from_slice(octets);
        let [a, b, c, d, ..] = address;
        Some(Self { address: if *family == 1 { [a, b, c, d].into() } else { address.into() } })
    }

    /// The same for all clients in the network around this one that has so many bits.
    pub(crate) fn hash(self, bits: u8) -> u16 {
        let network = IpNet::new(self.address, bits).map_or(self.address, |network| network.network());
        FixedState::default().hash_one(network) as u16
    }
}

/// Where an idle timeout means something: RFC 7828 §3.2.1 excludes UDP, RFC 9250 §5.5.2 QUIC.
fn keeps_alive(transport: Transport) -> bool {
    matches!(transport, Transport::Tcp | Transport::Tls)
}

fn split_option(rest: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (head, tail) = rest.split_first_chunk::<OPTION_HEAD>()?;
    let len = u16::from_be_bytes([head[2], head[3]]);
    let (value, next) = tail.split_at_checked(len.into())?;
    Some((u16::from_be_bytes([head[0], head[1]]), value, next))
}

/// RFC 7871 §6: family and prefix length agree, the address has no octet and no bit too many, and the
/// scope of a query is 0.
fn is_client_subnet(option: &[u8]) -> bool {
    let [family_high, family_low, source, scope, address @ ..] = option else {
        return false;
    };
    let longest = match u16::from_be_bytes([*family_high, *family_low]) {
        0 => 0,
        1 => 32,
        2 => 128,
        _ => return false,
    };
    let spare = u8::MAX.checked_shr(u32::from(source % 8)).filter(|_| source % 8 != 0);
    *source <= longest
        && *scope == 0
        && address.len() == usize::from(*source).div_ceil(8)
        && address.last().is_none_or(|last| last & spare.unwrap_or(0) == 0)
}

/// Why an answer is what it is (RFC 8914).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExtendedError {
    pub(crate) code: u16,
    pub(crate) text: &'static str,
}

impl ExtendedError {
    pub(crate) const NO_READY_ENDPOINTS: Self = Self { code: 0, text: "no ready endpoints" };
    pub(crate) const NO_VIRTUAL_IP: Self = Self { code: 0, text: "no virtual IP yet" };
    pub(crate) const NAME_TOO_LONG: Self = Self { code: 0, text: "longer than a domain name can be" };
    pub(crate) const TOO_MANY_TRANSFERS: Self = Self { code: 0, text: "too many transfers" };
    /// RFC 8914 §4.4.
    pub(crate) const STALE: Self =
        Self { code: 3, text: "a cluster can't be read, this is its last known state" };
    pub(crate) const NOT_READY: Self = Self { code: 14, text: "not every cluster has been read yet" };
    pub(crate) const PROHIBITED: Self = Self { code: 18, text: "" };
    pub(crate) const NOT_AUTHORITATIVE: Self = Self { code: 20, text: "" };
}

/// The OPT record of a reply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opt<'a> {
    payload: u16,
    dnssec_ok: bool,
    nsid: Option<&'a [u8]>,
    /// Client cookie, then server cookie.
    pub(crate) cookie: Option<[u8; 24]>,
    /// The query's option; its scope is 0.
    client_subnet: Option<&'a [u8]>,
    /// For which part of the subnet's addresses the answer is meant: a prefix length, 0 where it depends on none (RFC 7871
    /// §7.2.1).
    pub(crate) scope: u8,
    /// In units of 100 ms.
    keepalive: Option<u16>,
    pub(crate) error: Option<ExtendedError>,
    padded: bool,
}

impl Opt<'_> {
    /// Octets that it takes at least: without padding and without the text of an extended error.
    pub(crate) fn len(&self) -> usize {
        let option = |value: Option<usize>| value.map_or(0, |len| OPTION_HEAD + len);
        OPT_FIXED
            + option(self.nsid.map(<[u8]>::len))
            + option(self.cookie.map(|cookie| cookie.len()))
            + option(self.client_subnet.map(<[u8]>::len))
            + option(self.keepalive.map(|_| 2))
            + option(self.error.map(|_| 2))
    }

    /// Appends the record to a message that may have `limit` octets in all.
    pub(crate) fn write(&self, out: &mut Vec<u8>, rcode: u16, limit: usize) {
        let text = self.error.map_or("", |error| error.text);
        let text = if out.len() + self.len() + text.len() <= limit { text } else { "" };
        let [payload_high, payload_low] = self.payload.to_be_bytes();
        // Owner, type, payload, extended RCODE, version, DO, length.
        let dnssec_ok = if self.dnssec_ok { 0x80 } else { 0 };
        out.extend_from_slice(&[
            0,
            0,
            41,
            payload_high,
            payload_low,
            (rcode >> 4) as u8,
            0,
            dnssec_ok,
            0,
            0,
            0,
        ]);
        let start = out.len();
        if let Some(nsid) = self.nsid {
            push_option(out, code::NSID, nsid);
        }
        if let Some(subnet) = self.client_subnet {
            push_option(out, code::CLIENT_SUBNET, subnet);
            // Family and source prefix length are in front of it.
            let scope = out.len() - subnet.len() + 3;
            out[scope] = self.scope;
        }
        if let Some(cookie) = &self.cookie {
            push_option(out, code::COOKIE, cookie);
        }
        if let Some(idle) = self.keepalive {
            push_option(out, code::TCP_KEEPALIVE, &idle.to_be_bytes());
        }
        if let Some(error) = self.error {
            push_head(out, code::EXTENDED_ERROR, 2 + text.len());
            out.extend_from_slice(&error.code.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        if self.padded {
            pad(out, limit);
        }
        let len = (out.len() - start) as u16;
        out[start - 2..start].copy_from_slice(&len.to_be_bytes());
    }
}

fn push_option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    push_head(out, code, value.len());
    out.extend_from_slice(value);
}

fn push_head(out: &mut Vec<u8>, code: u16, len: usize) {
    let [code, len] = [code, len as u16].map(u16::to_be_bytes);
    out.extend_from_slice(&[code[0], code[1], len[0], len[1]]);
}

/// Appends a padding option that brings the message to a full block, or to its limit.
fn pad(out: &mut Vec<u8>, limit: usize) {
    let least = out.len() + OPTION_HEAD;
    if least > limit {
        return;
    }
    let whole = least.next_multiple_of(PADDING_BLOCK).min(limit);
    push_head(out, code::PADDING, whole - least);
    out.resize(whole, 0);
}
