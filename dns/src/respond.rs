//! The one function behind all transports: the octets of a query and who asks, to the octets of the reply.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::quality::FixedState;
use governor::clock::{Clock, DefaultClock};
use hickory_proto::rr::RecordType;
use portolan_zones::lookup::Records;
use portolan_zones::places::Locate;
use portolan_zones::policy::explain::{Inquiry, Supposed, Witness};
use portolan_zones::{Client, Found, Lookup, QName, Snapshot};

use crate::cookie::Cookie;
use crate::edns::{ExtendedError, MIN_PAYLOAD, Opt, Subnet};
use crate::limiter::{Limited, Limiter};
use crate::settings::Settings;
use crate::transfer::{Transfer, Transfers};
use crate::view::{Transport, View};
use crate::wire::query::Query;
use crate::wire::records::Renderer;
use crate::wire::writer::Writer;
use crate::wire::{CH, IN, flag, opcode, rcode};

mod answer;
mod verdict;

use answer::{Answer, refused, status};
pub use verdict::{Dropped, Facts, Placed, Verdict};

/// What an answer depends on besides query and view.
pub struct Context<'a, C: Clock = DefaultClock> {
    /// What the operator chose.
    pub settings: &'a Settings,
    /// Made from `settings.rate_limit`.
    pub limiter: &'a Limiter<C>,
    /// What is answered; a transfer keeps it.
    pub snapshot: &'a Arc<Snapshot>,
    /// Those of the whole server.
    pub transfers: &'a Transfers,
    /// Who may know where clients are that the snapshot does not know.
    pub beyond: Option<&'a dyn Locate>,
    /// Who knows how old what is known is, for explanations.
    pub witness: Option<&'a Witness>,
    /// Seconds since the Unix epoch, for cookies and explanations.
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
    pub(crate) octets: Vec<u8>,
}

impl Reply {
    pub(crate) fn with_capacity(octets: usize) -> Self {
        Self { octets: Vec::with_capacity(octets) }
    }

    /// The message, without the length that streams put in front of it (RFC 1035 §4.2.2).
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }
}

/// Answers `query` into `reply`. Total: any octets have a verdict. Allocates nothing once `reply` has grown.
pub fn respond<C: Clock>(
    context: &Context<'_, C>,
    query: &[u8],
    view: &View,
    scratch: &mut Scratch,
    reply: &mut Reply,
) -> Verdict {
    reply.octets.clear();
    let Some(query) = Query::read(query, &mut scratch.qname) else {
        return Verdict::Drop(Dropped::NoQuery);
    };
    // IPv4 clients of a dual-stack socket are IPv4 clients: for lists, limits and cookies.
    let client = view.client.ip().to_canonical();
    let subnet = query.edns.and_then(|edns| edns.subnet(context.settings, client));
    let exchange =
        Exchange { context, query: &query, qname: &scratch.qname, client, subnet, transport: view.transport };
    exchange.run(reply)
}

/// One query on its way to its reply.
struct Exchange<'a, C: Clock> {
    context: &'a Context<'a, C>,
    query: &'a Query<'a>,
    qname: &'a QName,
    client: IpAddr,
    /// The client that `client` asks for, if it may say so and does.
    subnet: Option<Subnet>,
    transport: Transport,
}

impl<'a, C: Clock> Exchange<'a, C> {
    fn run(&self, reply: &mut Reply) -> Verdict {
        let cookie = self.cookie();
        let answer = self.answer(cookie);
        let opt = self.opt(&answer, cookie);
        let limited = self.limit(&answer, cookie);
        let facts = self.facts(&answer, answer.rcode(), false, limited);
        match (limited, answer) {
            (Some(Limited::Dropped), _) => Verdict::Drop(Dropped::Limited(facts)),
            (Some(Limited::Slipped), answer) => self.slip(&answer, opt, cookie, reply),
            (_, Answer::Transfer(zone, place)) => {
                let snapshot = self.context.snapshot.clone();
                let transfer = Transfer::new(snapshot, zone, self.query, opt.as_ref(), place);
                Verdict::Transfer(Box::new(transfer), facts)
            }
            (_, answer) => {
                let truncated = self.write(&answer, opt.as_ref(), reply);
                Verdict::Send(Facts { truncated, ..facts })
            }
        }
    }

    /// Everything that decides between answers, in the order in which a server gives up.
    fn answer(&self, cookie: Option<Cookie>) -> Answer<'a> {
        let (query, settings) = (self.query, self.context.settings);
        if query.status != rcode::NOERROR {
            return status(query.status);
        }
        if let Some(edns) = &query.edns {
            if edns.version != 0 {
                return status(rcode::BADVERS);
            }
            if !edns.is_sound(settings, self.transport) {
                return status(rcode::FORMERR);
            }
        }
        if !settings.access.may_query(self.client) {
            return refused(ExtendedError::PROHIBITED);
        }
        if query.question.is_empty() {
            return status(self.cookie_status(cookie));
        }
        match (query.opcode(), query.class) {
            (opcode::UPDATE, _) if query.rtype != RecordType::SOA => status(rcode::FORMERR),
            (opcode::UPDATE | opcode::NOTIFY, _) => status(self.change()),
            (_, IN) => self.question(),
            (_, CH) => self.chaos(cookie),
            _ => status(rcode::REFUSED),
        }
    }

    /// RFC 7873 §5.4: a query without a question gets a cookie, or learns whether the server cookie that it has is
    /// good. Of servers without cookies it is malformed.
    fn cookie_status(&self, cookie: Option<Cookie>) -> u16 {
        let has_server_cookie =
            self.query.edns.and_then(|edns| edns.cookie).is_some_and(|option| option.len() > 8);
        match cookie {
            None => rcode::FORMERR,
            Some(cookie) if has_server_cookie && !cookie.proven => rcode::BADCOOKIE,
            Some(_) => rcode::NOERROR,
        }
    }

    /// NOTIFY (RFC 1996) and UPDATE (RFC 2136 §3.1): our zones come from Kubernetes alone.
    fn change(&self) -> u16 {
        match self.context.snapshot.zones.find(self.qname) {
            Some((_, _, 0)) => rcode::REFUSED,
            _ => rcode::NOTAUTH,
        }
    }

    /// A question of class IN.
    fn question(&self) -> Answer<'a> {
        const TKEY: u16 = 249;
        const MAILB: u16 = 253;
        const MAILA: u16 = 254;
        match self.query.rtype {
            RecordType::OPT | RecordType::TSIG => return status(rcode::FORMERR),
            RecordType::Unknown(TKEY | MAILB | MAILA) => return status(rcode::NOTIMP),
            RecordType::AXFR if !self.transport.is_stream() => return status(rcode::FORMERR),
            RecordType::AXFR | RecordType::IXFR => return self.transfer(),
            _ => {}
        }
        match self.context.snapshot.lookup_for(self.qname, self.query.rtype, &self.asking()) {
            Some(lookup) => Answer::Found(lookup),
            None => refused(ExtendedError::NOT_AUTHORITATIVE),
        }
    }

    /// Who asks: the client that a forwarder asks for, where it may say so; else the other end.
    fn asking(&self) -> Client<'a> {
        let address = self.subnet.map_or(self.client, |subnet| subnet.address);
        Client { address: Some(address), entropy: self.context.entropy, beyond: self.context.beyond }
    }

    /// AXFR (RFC 5936) and IXFR (RFC 1995): whole zones only, to whom they may be told.
    fn transfer(&self) -> Answer<'a> {
        let snapshot = self.context.snapshot;
        let incremental = self.query.rtype == RecordType::IXFR;
        if !self.context.settings.access.may_transfer(self.client) {
            return refused(ExtendedError::PROHIBITED);
        }
        let Some((zone, _, 0)) = snapshot.zones.find(self.qname) else {
            return status(rcode::NOTAUTH);
        };
        if !snapshot.complete {
            return Answer::Status(rcode::SERVFAIL, Some(ExtendedError::NOT_READY));
        }
        let current = match (incremental, self.query.serial) {
            (true, None) => return status(rcode::FORMERR),
            (true, Some(serial)) => snapshot.serial.wrapping_sub(serial) as i32 <= 0,
            (false, _) => false,
        };
        // RFC 1995 §2: a lone SOA says "nothing newer", and over UDP "come by TCP".
        let lone = current || incremental && !self.transport.is_stream();
        match snapshot.lookup(self.qname, RecordType::SOA).filter(|_| lone) {
            Some(lookup) => Answer::Found(lookup),
            None if self.transport.carries_transfers() => match self.context.transfers.begin() {
                Some(place) => Answer::Transfer(zone, place),
                None => Answer::Status(rcode::SERVFAIL, Some(ExtendedError::TOO_MANY_TRANSFERS)),
            },
            None => refused(ExtendedError::PROHIBITED),
        }
    }

    /// The names of class CH that are about the server (RFC 4892).
    fn chaos(&self, cookie: Option<Cookie>) -> Answer<'a> {
        let identity = &self.context.settings.identity;
        let text = match self.qname.wire() {
            b"\x02id\x06server\x00" | b"\x08hostname\x04bind\x00" => identity.nsid.as_deref(),
            b"\x07version\x06server\x00" | b"\x07version\x04bind\x00" => identity.version.as_deref(),
            _ => None,
        };
        let asked = matches!(self.query.rtype, RecordType::TXT | RecordType::ANY);
        // It takes work: only those are told who are proven to be there.
        let is_proven = self.transport.is_stream() || cookie.is_some_and(|cookie| cookie.proven);
        let may_ask_why = is_proven && self.context.settings.access.may_ask_why(self.client);
        match (text, asked && may_ask_why) {
            (Some(text), _) if asked => Answer::Chaos(text),
            (None, true) => self.explanation().map_or_else(|| status(rcode::REFUSED), Answer::Explained),
            _ => status(rcode::REFUSED),
        }
    }

    /// Why a client gets what it gets of a service. Only for those who run the server: it allocates.
    fn explanation(&self) -> Option<Vec<String>> {
        let snapshot = self.context.snapshot;
        let inquiry = Inquiry {
            client: self.asking(),
            rtype: None,
            supposed: &Supposed::default(),
            witness: self.context.witness,
            now: self.context.now.into(),
        };
        Some(snapshot.explain(self.qname, &inquiry)?.lines())
    }

    /// The OPT of the reply; a query with OPT gets one (RFC 6891 §6.1.1), whatever else is wrong with it.
    fn opt(&self, answer: &Answer<'_>, cookie: Option<Cookie>) -> Option<Opt<'a>> {
        let edns = self.query.edns.as_ref()?;
        let settings = self.context.settings;
        let mut opt = match answer.rcode() {
            rcode::FORMERR | rcode::BADVERS => edns.bare_reply(settings),
            _ => edns.reply(settings, self.transport),
        };
        opt.cookie = cookie.map(|cookie| cookie.option);
        opt.error = answer.error();
        if let (Answer::Found(Lookup { chosen: Some(chosen), .. }), Some(_)) = (answer, self.subnet) {
            opt.scope = chosen.scope;
        }
        Some(opt)
    }

    fn cookie(&self) -> Option<Cookie> {
        let option = self.query.edns.as_ref()?.cookie?;
        let secrets = &self.context.settings.cookies.secrets;
        matches!(option.len(), 8 | 16..=40)
            .then(|| Cookie::judge(secrets, option, self.client, self.context.now))
            .flatten()
    }

    /// Whether the reply is over its limit. Streams and good cookies prove who asks: no limit.
    fn limit(&self, answer: &Answer<'_>, cookie: Option<Cookie>) -> Option<Limited> {
        if self.transport.is_stream() || cookie.is_some_and(|cookie| cookie.proven) {
            return None;
        }
        self.context.limiter.check(&self.context.settings.rate_limit, self.client, answer.class())
    }

    /// A small reply that only an honest client makes use of: it comes back with its new cookie, or by TCP.
    fn slip(
        &self,
        answer: &Answer<'_>,
        mut opt: Option<Opt<'_>>,
        cookie: Option<Cookie>,
        reply: &mut Reply,
    ) -> Verdict {
        if let Some(opt) = &mut opt {
            opt.error = None;
        }
        let rcode = if cookie.is_some() { rcode::BADCOOKIE } else { rcode::NOERROR };
        let mut writer = Writer::new(&mut reply.octets, self.query.id, self.query.question, 0);
        if cookie.is_none() {
            writer.truncate();
        }
        self.finish(writer, 0, rcode, opt.as_ref());
        Verdict::Send(self.facts(answer, rcode, cookie.is_none(), Some(Limited::Slipped)))
    }

    /// Writes the reply; returns whether TC is set.
    fn write(&self, answer: &Answer<'_>, opt: Option<&Opt<'_>>, reply: &mut Reply) -> bool {
        let limit = self.size_limit() - opt.map_or(0, Opt::len);
        let mut writer = Writer::new(&mut reply.octets, self.query.id, self.query.question, limit);
        let mut renderer = Renderer {
            writer: &mut writer,
            snapshot: self.context.snapshot,
            qname: self.qname,
            entropy: self.context.entropy,
            most: usize::MAX,
        };
        match answer {
            Answer::Found(lookup) => renderer.lookup(lookup),
            Answer::Chaos(text) => renderer.chaos([*text]),
            Answer::Explained(lines) => renderer.chaos(lines.iter().map(String::as_str)),
            Answer::Status(..) | Answer::Transfer(..) => {}
        }
        let truncated = writer.is_truncated();
        let authority = if answer.is_authoritative() { flag::AUTHORITATIVE } else { 0 };
        self.finish(writer, authority, answer.rcode(), opt);
        truncated
    }

    /// RFC 1035 §4.1.1: id, opcode and RD are the query's; RFC 4035 §3.1.6: so is CD. AD is never set.
    fn finish(&self, writer: Writer<'_>, authority: u16, rcode: u16, opt: Option<&Opt<'_>>) {
        const OPCODE: u16 = 0x7800;
        let echoed = self.query.flags & (OPCODE | flag::RECURSION_DESIRED | flag::CHECKING_DISABLED);
        let limit = self.size_limit();
        let flags = flag::RESPONSE | echoed | authority | rcode & 0x0f;
        writer.finish(flags, opt.map(|opt| move |out: &mut Vec<u8>| opt.write(out, rcode, limit)));
    }

    /// Octets that the reply may have (RFC 1035 §4.2.1, RFC 6891 §6.2.3).
    fn size_limit(&self) -> usize {
        if self.transport.is_stream() {
            return u16::MAX.into();
        }
        let theirs = self.query.edns.map_or(MIN_PAYLOAD, |edns| edns.payload);
        theirs.min(self.context.settings.edns.max_udp_payload).max(MIN_PAYLOAD).into()
    }

    fn facts(&self, answer: &Answer<'_>, rcode: u16, truncated: bool, limited: Option<Limited>) -> Facts {
        Facts {
            zone: match answer {
                Answer::Found(lookup) => Some(lookup.zone_index),
                Answer::Transfer(zone, _) => Some(*zone),
                Answer::Status(..) | Answer::Chaos(_) | Answer::Explained(_) => None,
            },
            rtype: self.query.rtype,
            rcode,
            dnssec_ok: self.query.edns.is_some_and(|edns| edns.dnssec_ok),
            truncated,
            limited,
            lack: match answer {
                Answer::Found(Lookup { chosen: Some(chosen), .. }) => chosen.lack,
                _ => None,
            },
            placed: self.placed(answer),
        }
    }

    /// What is seen of a forwarder that may say where its clients are.
    fn placed(&self, answer: &Answer<'_>) -> Option<Placed> {
        let Answer::Found(Lookup { found: Found::Records(records), chosen: Some(chosen), zone, .. }) = answer
        else {
            return None;
        };
        if chosen.scope == 0 {
            return None;
        }
        // RFC 7871 §7.1.2: of clients who don't want to be told of nothing can be seen.
        let is_silent = || !self.query.edns.is_some_and(|edns| edns.has_subnet());
        let subnet = match self.subnet {
            Some(subnet) => Some(subnet.hash(chosen.scope)),
            None if is_silent() && self.context.settings.edns.trusts(self.client) => None,
            None => return None,
        };
        let zone_ttl = match records {
            Records::Srv { .. } => zone.config.srv_ttl.min(zone.config.ttl),
            _ => zone.config.ttl,
        };
        let dnssec =
            (self.query.edns.is_some_and(|edns| edns.dnssec_ok), self.query.flags & flag::CHECKING_DISABLED);
        let question =
            FixedState::default().hash_one((self.qname.wire(), u16::from(self.query.rtype), dnssec));
        Some(Placed { question, subnet, ttl: chosen.ttl.unwrap_or(zone_ttl) })
    }
}
