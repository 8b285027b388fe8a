//! A server without transports, questions as octets, replies as text in the form of zone files.

use std::cell::Cell;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use governor::clock::FakeRelativeClock;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use portolan_dns::limiter::Limiter;
use portolan_dns::respond::{Context, Dropped, Facts, Reply, Scratch, Verdict, respond};
use portolan_dns::settings::{RateLimit, Settings};
use portolan_dns::transfer::Transfers;
use portolan_dns::view::{Transport, View};
use portolan_zones::object::*;
use portolan_zones::policy::{Form, Level, Locality, Policy, PolicyName, Preference, Rules, Target};
use portolan_zones::{
    Change, ClusterEvent, ClusterId, Event, Name, ServiceName, Snapshot, Table, ZoneConfig, Zones, compile,
};
use proptest::prelude::*;

pub const NOW: u32 = 1_800_000_000;

/// `respond` with everything it needs.
pub struct Server {
    pub settings: Settings,
    pub snapshot: Arc<Snapshot>,
    pub limiter: Limiter<FakeRelativeClock>,
    pub clock: FakeRelativeClock,
    pub transfers: Transfers,
    pub entropy: Cell<u32>,
    pub client: IpAddr,
    pub transport: Transport,
}

impl Server {
    /// The shop in its clusterset, asked by UDP from a public address, without a rate limit.
    pub fn new() -> Self {
        Self::of(shop())
    }

    pub fn of(snapshot: Snapshot) -> Self {
        let mut settings = Settings::default();
        settings.rate_limit.per_second = None;
        let clock = FakeRelativeClock::default();
        Self {
            limiter: Limiter::with_clock(&settings.rate_limit, [1; 16], clock.clone()),
            settings,
            transfers: Transfers::default(),
            snapshot: Arc::new(snapshot),
            clock,
            entropy: Cell::new(0),
            client: "203.0.113.7".parse().unwrap(),
            transport: Transport::Udp,
        }
    }

    pub fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self.limiter = Limiter::with_clock(&self.settings.rate_limit, [1; 16], self.clock.clone());
        self
    }

    pub fn limited(self, limit: RateLimit) -> Self {
        self.set(|settings| settings.rate_limit = limit)
    }

    pub fn by(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    pub fn from(mut self, client: &str) -> Self {
        self.client = client.parse().unwrap();
        self
    }

    /// What `respond` needs, with this which record comes first by.
    pub fn context(&self, entropy: u32) -> Context<'_, FakeRelativeClock> {
        Context {
            settings: &self.settings,
            limiter: &self.limiter,
            snapshot: &self.snapshot,
            transfers: &self.transfers,
            beyond: None,
            witness: None,
            now: NOW,
            entropy,
        }
    }

    pub fn verdict(&self, query: &[u8], reply: &mut Reply) -> Verdict {
        let context = self.context(self.entropy.get());
        let view = View { client: SocketAddr::new(self.client, 5353), transport: self.transport };
        respond(&context, query, &view, &mut Scratch::default(), reply)
    }

    /// The reply's octets and facts; `None` when nothing is sent.
    pub fn reply(&self, query: &[u8]) -> Option<(Vec<u8>, Facts)> {
        let mut reply = Reply::default();
        match self.verdict(query, &mut reply) {
            Verdict::Send(facts) => Some((reply.octets().to_vec(), facts)),
            Verdict::Drop(Dropped::NoQuery | Dropped::Limited(_)) => None,
            Verdict::Transfer(..) => panic!("a transfer"),
        }
    }

    pub fn message(&self, query: &[u8]) -> Message {
        let (octets, _) = self.reply(query).unwrap();
        Message::from_vec(&octets).unwrap()
    }

    /// The reply as text, see [`text`].
    pub fn ask(&self, query: &[u8]) -> String {
        text(&self.message(query))
    }
}

/// EDNS options: code and octets.
pub type Options = Vec<(u16, Vec<u8>)>;

/// A query in the making.
#[derive(Debug, Clone)]
pub struct Ask {
    pub id: u16,
    pub flags: u16,
    pub name: Vec<u8>,
    pub rtype: u16,
    pub class: u16,
    /// Records of the authority section.
    pub authority: Vec<Vec<u8>>,
    /// Payload size, version and flags, options.
    pub edns: Option<(u16, u8, u16, Options)>,
}

/// `ask("cart.shop.svc.clusterset.local A")`; names keep their case.
pub fn ask(question: &str) -> Ask {
    let (name, rtype) = question.split_once(' ').unwrap();
    let rtype = match rtype {
        "OPT" => 41,
        "TSIG" => 250,
        "IXFR" => 251,
        _ => match rtype.strip_prefix("TYPE") {
            Some(number) => number.parse().unwrap(),
            None => u16::from(rtype.parse::<RecordType>().unwrap()),
        },
    };
    Ask { id: 0x1234, flags: 0, name: wire(name), rtype, class: 1, authority: Vec::new(), edns: None }
}

/// A name as octets, its case kept.
pub fn wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend(label.bytes());
    }
    wire.push(0);
    wire
}

impl Ask {
    pub fn flags(mut self, flags: u16) -> Self {
        self.flags = flags;
        self
    }

    pub fn class(mut self, class: u16) -> Self {
        self.class = class;
        self
    }

    pub fn edns(mut self, payload: u16) -> Self {
        self.edns = Some((payload, 0, 0, Vec::new()));
        self
    }

    /// Adds an option, with EDNS if there is none yet.
    pub fn option(mut self, code: u16, value: &[u8]) -> Self {
        self.edns.get_or_insert((1232, 0, 0, Vec::new())).3.push((code, value.to_vec()));
        self
    }

    pub fn octets(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        let additionals = u16::from(self.edns.is_some());
        for field in [self.id, self.flags, 1, 0, self.authority.len() as u16, additionals] {
            octets.extend(field.to_be_bytes());
        }
        octets.extend(&self.name);
        octets.extend(self.rtype.to_be_bytes());
        octets.extend(self.class.to_be_bytes());
        octets.extend(self.authority.concat());
        if let Some((payload, version, flags, options)) = &self.edns {
            octets.extend(opt(*payload, *version, *flags, options));
        }
        octets
    }
}

/// Questions of all kinds, with and without EDNS.
pub fn question() -> impl Strategy<Value = Ask> {
    let names = prop::sample::select(vec![
        "clusterset.local",
        "cart.shop.svc.clusterset.local",
        "_http._tcp.cart.shop.svc.clusterset.local",
        "db.shop.svc.clusterset.local",
        "big.shop.svc.clusterset.local",
        "_http._tcp.big.shop.svc.clusterset.local",
        "db-0.fra1.db.shop.svc.clusterset.local",
        "down.shop.svc.clusterset.local",
        "x.clusterset.local",
        "1.0.0.241.in-addr.arpa",
        "id.server",
        "example.com",
        "",
    ]);
    let rtypes = prop::sample::select(vec![1_u16, 28, 33, 16, 6, 2, 12, 255, 251, 252, 41, 250, 253, 0, 65]);
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..30),
        Just(vec![1; 8]),
        Just(vec![1; 24]),
        Just(vec![0, 1, 24, 0, 9, 9, 9]),
        Just(vec![]),
    ];
    let option = (prop::sample::select(vec![3_u16, 8, 10, 11, 12, 15, 65001]), value);
    let edns = (any::<u16>(), 0..2_u8, any::<u16>(), prop::collection::vec(option, 0..4));
    let class = prop::sample::select(vec![1_u16, 1, 1, 3, 255]);
    let flags = prop_oneof![Just(0_u16), 0..0x8000_u16];
    (names, rtypes, class, flags, prop::option::of(edns)).prop_map(|(name, rtype, class, flags, edns)| Ask {
        id: 0xbeef,
        flags,
        name: wire(name),
        rtype,
        class,
        authority: Vec::new(),
        edns,
    })
}

/// The same message without its question (QDCOUNT 0).
pub fn without_question(ask: &Ask) -> Vec<u8> {
    let mut octets = ask.octets();
    octets[5] = 0;
    octets.drain(12..12 + ask.name.len() + 4);
    octets
}

/// An OPT record.
pub fn opt(payload: u16, version: u8, flags: u16, options: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut value = Vec::new();
    for (code, option) in options {
        value.extend(code.to_be_bytes());
        value.extend((option.len() as u16).to_be_bytes());
        value.extend(option);
    }
    let mut record = vec![0, 0, 41];
    record.extend(payload.to_be_bytes());
    record.extend([0, version]);
    record.extend(flags.to_be_bytes());
    record.extend((value.len() as u16).to_be_bytes());
    record.extend(value);
    record
}

/// A reply as text: `STATUS flags`, records, sections with a heading, EDNS last. Read by hickory-proto.
pub fn text(message: &Message) -> String {
    let meta = &message.metadata;
    let mut text = rcode(meta.response_code).to_owned();
    for (set, flag) in [
        (meta.authoritative, "aa"),
        (meta.truncation, "tc"),
        (meta.recursion_desired, "rd"),
        (meta.recursion_available, "ra"),
        (meta.authentic_data, "ad"),
        (meta.checking_disabled, "cd"),
    ] {
        if set {
            write!(text, " {flag}").unwrap();
        }
    }
    text.push('\n');
    for (heading, records) in [
        ("", &message.answers),
        ("AUTHORITY\n", &message.authorities),
        ("ADDITIONAL\n", &message.additionals),
    ] {
        if !records.is_empty() {
            text.push_str(heading);
        }
        for record in records {
            writeln!(text, "{record}").unwrap();
        }
    }
    text
}

/// The options of a reply's OPT, as code and octets.
pub fn options(octets: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let message = Message::from_vec(octets).unwrap();
    let Some(edns) = &message.edns else { return Vec::new() };
    let options = edns.options().options.iter();
    options
        .map(|(code, option)| {
            let mut value = Vec::new();
            let mut encoder = hickory_proto::serialize::binary::BinEncoder::new(&mut value);
            hickory_proto::serialize::binary::BinEncodable::emit(option, &mut encoder).unwrap();
            (u16::from(*code), value)
        })
        .collect()
}

/// The extended error of a reply: code and text.
pub fn extended_error(octets: &[u8]) -> Option<(u16, String)> {
    let (_, value) = options(octets).into_iter().find(|(code, _)| *code == 15)?;
    Some((u16::from_be_bytes([value[0], value[1]]), String::from_utf8(value[2..].to_vec()).unwrap()))
}

pub fn rcode(code: ResponseCode) -> &'static str {
    match u16::from(code) {
        0 => "NOERROR",
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        9 => "NOTAUTH",
        16 => "BADVERS",
        23 => "BADCOOKIE",
        other => panic!("unexpected response code {other}"),
    }
}

fn name(service: &str) -> ServiceName {
    ServiceName::new("shop", service).unwrap()
}

fn cluster(id: &str) -> ClusterId {
    ClusterId::new(id).unwrap()
}

fn endpoint(address: &str, hostname: Option<&str>, identity: u32) -> Endpoint {
    Endpoint {
        address: address.parse().unwrap(),
        conditions: Conditions::READY,
        identity,
        hostname: hostname.map(Into::into),
        place: None,
    }
}

pub fn slice(service: &str, slice: &str, ports: &[(&str, u16)], endpoints: Vec<Endpoint>) -> Object {
    let port = |(name, number): &(&str, u16)| SlicePort {
        name: Some((*name).into()),
        protocol: Protocol::Tcp,
        number: Some(*number),
        app_protocol: None,
    };
    Object::Slice(Slice {
        name: SliceName::new("shop", slice),
        service: name(service),
        source: None,
        ours: false,
        gateway: false,
        state: None,
        region: None,
        outside: None,
        ports: ports.iter().map(port).collect(),
        endpoints: endpoints.into(),
    })
}

pub fn exported(service: &str, kind: ServiceKind, ports: &[(&str, u16)]) -> [Object; 2] {
    let ports = ports.iter().map(|(name, number)| Port {
        name: Some((*name).into()),
        protocol: Protocol::Tcp,
        number: *number,
        app_protocol: None,
    });
    let spec = ServiceSpec {
        ports: ports.collect(),
        ip_families: [IpFamily::V4, IpFamily::V6].into_iter().collect(),
        ..ServiceSpec::default()
    };
    let export = Export { name: name(service), created: 1, exported: None, gateway: None, state: None };
    let service = Service { name: name(service), kind, spec: spec.into(), gateway: None };
    [Object::Export(export), Object::Service(service)]
}

pub fn import(service: &str, ips: &[&str]) -> Object {
    Object::Import(Import {
        name: name(service),
        created: 1,
        headless: false,
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        spec: Arc::default(),
        clusters: Arc::default(),
        policy: None,
    })
}

/// Zones as tests use them: a TTL of 5 for answers, 3 for negative ones.
pub fn zones() -> Arc<Zones> {
    let config = |origin: &str| ZoneConfig {
        negative_ttl: 3,
        srv_ttl: 7,
        name_server_addresses: vec!["192.0.2.53".parse().unwrap(), "2001:db8::53".parse().unwrap()],
        ..ZoneConfig::new(Name::parse(origin).unwrap())
    };
    Zones::new(["clusterset.local", "241.in-addr.arpa"].map(config).to_vec()).unwrap()
}

/// Namespace `shop` with a service of each kind.
pub fn shop() -> Snapshot {
    let mut objects = Vec::new();
    objects.extend(exported("cart", ServiceKind::ClusterIp, &[("http", 80), ("https", 443)]));
    objects.push(import("cart", &["241.0.0.1", "fd41::1"]));
    objects.extend(exported("pending", ServiceKind::ClusterIp, &[("http", 80)]));
    objects.extend(exported("down", ServiceKind::Headless, &[]));
    objects.extend(exported("db", ServiceKind::Headless, &[]));
    let (zero, one, two) = (
        endpoint("10.1.0.1", Some("db-0"), 1),
        endpoint("10.1.0.2", Some("db-1"), 2),
        endpoint("10.1.0.3", Some("db-2"), 3),
    );
    objects.push(slice("db", "db-4", &[("sql", 5432), ("web", 80)], vec![zero, one, two]));
    let six = vec![endpoint("fd10::1", Some("db-0"), 1)];
    objects.push(slice("db", "db-6", &[("sql", 5432), ("web", 80)], six));
    objects.extend(exported("big", ServiceKind::Headless, &[]));
    let address = |i: u32| std::net::Ipv4Addr::from(0x0a02_0000 + i).to_string();
    let many = (0..600).map(|i| endpoint(&address(i), None, i)).collect();
    objects.push(slice("big", "big-1", &[("http", 80)], many));
    compiled(objects, true, 42)
}

/// Nodes in two zones, and services of which clients get what is in their zone (`near`) and always the same (`stays`).
pub fn placed() -> Snapshot {
    let mut objects = Vec::new();
    for (at, az) in ["z0", "z1"].into_iter().enumerate() {
        objects.push(Object::Node(Node {
            name: format!("n{at}").into(),
            az: Some(az.into()),
            region: None,
            pod_cidrs: [(IpAddr::from([10, 64, at as u8, 0]), 24)].into(),
            addresses: Box::default(),
            ready: true,
            entrances: Box::default(),
        }));
    }
    let near = Locality { order: [Level::Zone].as_slice().into(), reach: Preference::Prefer };
    let rules = Rules { answer: Form::Endpoints, ..Rules::default() };
    for (service, rules) in [
        ("near", Rules { locality: Some(near), ttl: Some(30), ..rules.clone() }),
        ("stays", Rules { sticky: true, ..rules }),
    ] {
        objects.extend(exported(service, ServiceKind::Headless, &[("http", 80)]));
        let in_zone = |at: u32| {
            let place = Some(Place { node: None, az: Some(format!("z{}", at % 2).into()) }.into());
            Endpoint { place, ..endpoint(&format!("10.1.0.{at}"), None, at) }
        };
        objects.push(slice(service, &format!("{service}-1"), &[("http", 80)], (1..5).map(in_zone).collect()));
        objects.push(Object::Policy(Policy {
            name: PolicyName::new("shop", service),
            created: 1,
            target: Target::Services { exports: Box::default(), imports: [service.into()].into() },
            rules: rules.into(),
        }));
    }
    objects.extend(exported("same", ServiceKind::Headless, &[("http", 80)]));
    objects.push(slice("same", "same-1", &[("http", 80)], vec![endpoint("10.1.0.9", None, 9)]));
    compiled(objects, true, 42)
}

/// Two nodes, of which `n0`'s clients alone can connect to the virtual IP of `cart`.
pub fn behind_agents() -> Snapshot {
    let node = |at: u8| {
        Object::Node(Node {
            name: format!("n{at}").into(),
            az: None,
            region: None,
            pod_cidrs: [(IpAddr::from([10, 64, at, 0]), 24)].into(),
            addresses: Box::default(),
            ready: true,
            entrances: Box::default(),
        })
    };
    let place = Some(Place { node: Some("n0".into()), az: None }.into());
    let agent = Endpoint { place, ..endpoint("192.0.2.1", None, 0) };
    let mut objects = vec![node(0), node(1), slice("agents", "agents-1", &[], vec![agent])];
    objects.extend(exported("cart", ServiceKind::ClusterIp, &[("http", 80)]));
    objects.push(import("cart", &["241.0.0.1"]));
    objects.push(slice("cart", "cart-1", &[("http", 8080)], vec![endpoint("10.1.0.1", None, 1)]));
    let mut table = Table::default();
    table.apply(Event::Agents(Some(name("agents"))));
    compiled_from(table, objects, true, 42)
}

/// The snapshot of one cluster, `fra1`, which is home.
pub fn compiled(objects: Vec<Object>, complete: bool, serial: u32) -> Snapshot {
    compiled_from(Table::default(), objects, complete, serial)
}

fn compiled_from(mut table: Table, objects: Vec<Object>, complete: bool, serial: u32) -> Snapshot {
    let zones = zones();
    let other = if complete { None } else { Some(cluster("ams1")) };
    table.apply(Event::Expect([cluster("fra1")].into_iter().chain(other).collect()));
    table.apply(Event::Home(Some(cluster("fra1"))));
    table.apply(Event::Cluster(ClusterEvent { cluster: cluster("fra1"), change: Change::Reset(objects) }));
    let mut snapshot =
        compile(&mut table, &zones, &Snapshot::unsynced(zones.clone()), i64::from(serial)).unwrap();
    snapshot.serial = serial;
    snapshot
}
