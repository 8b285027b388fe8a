//! Who is measured beside whom.

use std::sync::Arc;

use super::client::Client;
use super::figures::limits::Limit;
use super::figures::table::{Round, thousands};
use super::load::Transport;
use super::peers::{Prepare, bind, coredns, echo, gdnsd, hickory, knot, nsd, ours, powerdns};
use super::zone::{Answers, Zone};

/// Services of all groups but that of many names.
pub const FEW: usize = 10_000;
pub const MANY: usize = 1_000_000;

/// A server in a group.
pub struct Contender {
    pub name: &'static str,
    /// What people call it on the command line.
    pub key: &'static str,
    pub zone: Arc<Zone>,
    pub prepare: Prepare,
    pub client: Client,
    pub transport: Transport,
    /// Whether services change all the time.
    pub changing: bool,
    /// Whether it gives answers; else it is a yardstick.
    pub answers: bool,
}

/// Contenders who take turns. The first one is ours, with which the others are compared.
pub struct Plan {
    pub title: String,
    pub contenders: Vec<Contender>,
    pub limits: Vec<Limit>,
}

const STATIC: &str = "Portolan, static";
/// An answer that depends on something costs no more than one that doesn't.
const DEPENDS: Limit = Limit {
    what: "CPU for a query against a static answer",
    of: Round::total,
    against: &[STATIC],
    most: 1.05,
};
/// In the same order as the design's.
const LIMITS: [Limit; 5] = [
    Limit { what: "µs of user CPU for a query", of: |round| round.user, against: &[], most: 0.3 },
    Limit {
        what: "system CPU for a query against the better of Knot DNS and NSD",
        of: |round| round.system,
        against: &["Knot DNS", "NSD"],
        most: 1.0,
    },
    Limit {
        what: "CPU for a query against the better of Knot DNS and NSD",
        of: Round::total,
        against: &["Knot DNS", "NSD"],
        most: 0.9,
    },
    Limit { what: "CPU for a query against CoreDNS", of: Round::total, against: &[COREDNS], most: 0.125 },
    Limit { what: "CPU for a query against 10,000 names", of: Round::total, against: &[OF_FEW], most: 1.15 },
];
const COREDNS: &str = "CoreDNS kubernetes";
const OF_FEW: &str = "Portolan, 10,000 names";
const STILL: &str = "Portolan, nothing changes";

impl Contender {
    fn new(name: &'static str, key: &'static str, zone: &Arc<Zone>, prepare: Prepare) -> Self {
        let (client, transport) = (Client::Plain, Transport::Udp);
        Self { name, key, zone: zone.clone(), prepare, client, transport, changing: false, answers: true }
    }

    fn ours(name: &'static str, zone: &Arc<Zone>) -> Self {
        Self::new(name, "portolan", zone, ours::prepare)
    }

    fn from(self, client: Client) -> Self {
        Self { client, ..self }
    }

    fn over(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }
}

/// Makes a group of so many names.
pub type Make = fn(usize) -> Plan;
/// Groups by their names on the command line.
pub const GROUPS: [(&str, Make); 6] = [
    ("names", names),
    ("weight", weight),
    ("place", place),
    ("subnet", subnet),
    ("transports", transports),
    ("changes", changes),
];

/// The same zone for all: one address for each name.
pub fn names(count: usize) -> Plan {
    let zone = &Arc::new(Zone::new(count, Answers::Static));
    let echo =
        Contender { answers: false, ..Contender::new("recvmmsg/sendmmsg echo", "echo", zone, echo::prepare) };
    let mut contenders = vec![
        Contender::ours("Portolan", zone),
        echo,
        Contender::new("Knot DNS", "knot", zone, knot::prepare),
        Contender::new("NSD", "nsd", zone, nsd::prepare),
        Contender::new("gdnsd", "gdnsd", zone, gdnsd::prepare),
        Contender::new("PowerDNS", "powerdns", zone, powerdns::prepare),
        Contender::new("BIND", "bind", zone, bind::prepare),
        Contender::new("hickory-server, one line", "hickory", zone, hickory::prepare),
    ];
    if count <= FEW {
        contenders.push(Contender::new(COREDNS, "coredns", zone, coredns::prepare));
    } else {
        let few = &Arc::new(Zone::new(FEW, Answers::Static));
        contenders.insert(1, Contender::ours(OF_FEW, few));
    }
    Plan { title: format!("{} names, UDP", thousands(count)), contenders, limits: LIMITS.to_vec() }
}

/// One of two addresses, by weight.
fn weight(count: usize) -> Plan {
    let zone = &Arc::new(Zone::new(count, Answers::Weighted));
    let contenders = vec![
        Contender::ours("Portolan", zone),
        Contender::ours(STATIC, &Arc::new(Zone::new(count, Answers::Static))),
        Contender::new("Knot DNS mod-geoip", "knot", zone, knot::prepare),
        Contender::new("gdnsd weighted", "gdnsd", zone, gdnsd::prepare),
        Contender::new("PowerDNS Lua", "powerdns", zone, powerdns::prepare),
        Contender::new("PowerDNS geoip", "powerdns", zone, powerdns::geoip),
    ];
    Plan { title: format!("{} names by weight, UDP", thousands(count)), contenders, limits: vec![DEPENDS] }
}

fn place(count: usize) -> Plan {
    near(count, Client::Placed, "by the client's place")
}

fn subnet(count: usize) -> Plan {
    near(count, Client::Forwarded, "by EDNS Client Subnet")
}

/// One of three addresses, by where the client is.
fn near(count: usize, client: Client, by: &str) -> Plan {
    let zone = &Arc::new(Zone::new(count, Answers::Near));
    let contenders = vec![
        Contender::ours("Portolan", zone).from(client),
        Contender::ours(STATIC, &Arc::new(Zone::new(count, Answers::Static))).from(client),
        Contender::new("Knot DNS mod-geoip", "knot", zone, knot::prepare).from(client),
        Contender::new("gdnsd geoip", "gdnsd", zone, gdnsd::prepare).from(client),
        Contender::new("PowerDNS Lua", "powerdns", zone, powerdns::prepare).from(client),
    ];
    Plan { title: format!("{} names {by}, UDP", thousands(count)), contenders, limits: vec![DEPENDS] }
}

/// What forwarders use that want more than UDP.
fn transports(count: usize) -> Plan {
    let zone = &Arc::new(Zone::new(count, Answers::Static));
    let contenders = vec![
        Contender::ours("Portolan, TCP", zone).over(Transport::Tcp),
        Contender::ours("Portolan, UDP", zone),
        Contender::new("Portolan, TLS", "portolan", zone, ours::with_tls).over(Transport::Dot),
        Contender::new("Knot DNS, TCP", "knot", zone, knot::prepare).over(Transport::Tcp),
        Contender::new("NSD, TCP", "nsd", zone, nsd::prepare).over(Transport::Tcp),
    ];
    Plan { title: format!("{} names, TCP and TLS", thousands(count)), contenders, limits: Vec::new() }
}

/// What changes cost those who ask.
fn changes(count: usize) -> Plan {
    let changing = &Arc::new(Zone::new(count, Answers::Static));
    let still = &Arc::new(Zone::new(count, Answers::Static));
    let contenders = vec![
        Contender { changing: true, ..Contender::ours("Portolan, changing", changing) },
        Contender::ours(STILL, still),
    ];
    let limits = vec![Limit {
        what: "p99.9 against that without changes",
        of: |round| round.latency[2],
        against: &[STILL],
        most: 2.0,
    }];
    Plan {
        title: format!("{} names while 1,000 services change a second, UDP", thousands(count)),
        contenders,
        limits,
    }
}
