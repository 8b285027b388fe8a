//! Who is measured beside whom.

use std::sync::Arc;

use super::client::Client;
use super::figures::columns::{Column, OVERLOADED, SATURATED, SOAKED};
use super::figures::limits::Bound::{Least, Most};
use super::figures::limits::Limit;
use super::figures::table::{Round, thousands};
use super::load::{Dropped, Load, Transport};
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
    pub load: Load,
    /// Where it can be asked for that.
    pub dropped: Option<Dropped>,
    /// Whether services change all the time.
    pub changing: bool,
    /// Whether it gives answers; else it is a yardstick.
    pub answers: bool,
}

/// Contenders who take turns. The first one is ours, with which the others are compared.
pub struct Plan {
    pub title: String,
    pub columns: &'static [Column],
    pub contenders: Vec<Contender>,
    pub limits: Vec<Limit>,
}

impl Plan {
    fn new(title: String, contenders: Vec<Contender>, limits: Vec<Limit>) -> Self {
        Self { title, columns: SATURATED, contenders, limits }
    }
}

const STATIC: &str = "Portolan, static";
/// An answer that depends on something costs no more than one that doesn't.
const DEPENDS: Limit = Limit {
    what: "CPU for a query against a static answer",
    of: Round::total,
    against: &[STATIC],
    bound: Most(1.05),
};
/// In the same order as the design's.
const LIMITS: [Limit; 5] = [
    Limit { what: "µs of user CPU for a query", of: |round| round.user, against: &[], bound: Most(0.3) },
    Limit {
        what: "system CPU for a query against the better of Knot DNS and NSD",
        of: |round| round.system,
        against: &["Knot DNS", "NSD"],
        bound: Most(1.0),
    },
    Limit {
        what: "CPU for a query against the better of Knot DNS and NSD",
        of: Round::total,
        against: &["Knot DNS", "NSD"],
        bound: Most(0.9),
    },
    Limit {
        what: "CPU for a query against CoreDNS",
        of: Round::total,
        against: &[COREDNS],
        bound: Most(0.125),
    },
    Limit {
        what: "CPU for a query against 10,000 names",
        of: Round::total,
        against: &[OF_FEW],
        bound: Most(1.15),
    },
];
/// What is not answered must cost next to nothing, take no memory, and be known. An answer waits for those that were in the queue
/// before it, so p99 is as long as the queue: ours has 2 MiB as the kernel counts them, which are 2,730 queries, and a tenth more is
/// for what the machine does besides. NSD has as many. Knot DNS has a tenth of them: it answers sooner, and loses of short bursts what
/// the others answer, so that its p99 is no limit for ours. Memory grows by what each thread's allocator takes when it is first used,
/// some megabytes, and by nothing more.
const OVERLOAD_LIMITS: [Limit; 5] = [
    Limit {
        what: "answers a second against the capacity",
        of: Round::goodput,
        against: &[],
        bound: Least(0.9),
    },
    Limit { what: "queries answered in a p99", of: Round::waiting, against: &[], bound: Most(3_000.0) },
    Limit { what: "p99 against NSD", of: |round| round.latency[1], against: &["NSD"], bound: Most(1.0) },
    Limit {
        what: "memory after against that before any query",
        of: |round| round.memory.growth(),
        against: &[],
        bound: Most(1.25),
    },
    Limit {
        what: "% of the lost queries that the count of the dropped ones is off",
        of: |round| round.miscounted() * 100.0,
        against: &[],
        bound: Most(2.0),
    },
];
const COREDNS: &str = "CoreDNS kubernetes";
const OF_FEW: &str = "Portolan, 10,000 names";
const STILL: &str = "Portolan, nothing changes";

impl Contender {
    fn new(name: &'static str, key: &'static str, zone: &Arc<Zone>, prepare: Prepare) -> Self {
        Self {
            name,
            key,
            zone: zone.clone(),
            prepare,
            client: Client::Plain,
            transport: Transport::Udp,
            load: Load::Saturated,
            dropped: None,
            changing: false,
            answers: true,
        }
    }

    fn ours(name: &'static str, zone: &Arc<Zone>) -> Self {
        Self::new(name, "portolan", zone, ours::prepare)
    }

    fn echo(zone: &Arc<Zone>) -> Self {
        Self { answers: false, ..Self::new("recvmmsg/sendmmsg echo", "echo", zone, echo::prepare) }
    }

    fn from(self, client: Client) -> Self {
        Self { client, ..self }
    }

    fn over(self, transport: Transport) -> Self {
        Self { transport, ..self }
    }

    fn under(self, load: Load) -> Self {
        Self { load, ..self }
    }
}

/// Makes a group of so many names.
pub type Make = fn(usize) -> Plan;
/// Groups by their names on the command line.
pub const GROUPS: [(&str, Make); 8] = [
    ("names", names),
    ("weight", weight),
    ("place", place),
    ("subnet", subnet),
    ("transports", transports),
    ("changes", changes),
    ("overload", overload),
    (SOAK, soak),
];
/// Takes long, and is measured only when it is asked for by name; for so many seconds.
pub const SOAK: &str = "soak";
pub const SOAK_SECONDS: u32 = 600;

/// The same zone for all: one address for each name.
pub fn names(count: usize) -> Plan {
    let zone = &Arc::new(Zone::new(count, Answers::Static));
    let mut contenders = vec![
        Contender::ours("Portolan", zone),
        Contender::echo(zone),
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
    Plan::new(format!("{} names, UDP", thousands(count)), contenders, LIMITS.to_vec())
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
    Plan::new(format!("{} names by weight, UDP", thousands(count)), contenders, vec![DEPENDS])
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
    Plan::new(format!("{} names {by}, UDP", thousands(count)), contenders, vec![DEPENDS])
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
    Plan::new(format!("{} names, TCP and TLS", thousands(count)), contenders, Vec::new())
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
        bound: Most(2.0),
    }];
    let title = format!("{} names while 1,000 services change a second, UDP", thousands(count));
    Plan::new(title, contenders, limits)
}

/// Three times as many queries as are answered.
fn overload(count: usize) -> Plan {
    let zone = &Arc::new(Zone::new(count, Answers::Static));
    let ours = Contender::new("Portolan", "portolan", zone, ours::with_metrics);
    let contenders = [
        Contender { dropped: Some(ours::dropped), ..ours },
        Contender::echo(zone),
        Contender::new("Knot DNS", "knot", zone, knot::prepare),
        Contender::new("NSD", "nsd", zone, nsd::prepare),
    ];
    let contenders = contenders.map(|contender| contender.under(Load::Overloaded)).into();
    let title = format!(
        "{} names, three times as many queries as an eighth of a core answers, UDP",
        thousands(count)
    );
    Plan { columns: OVERLOADED, ..Plan::new(title, contenders, OVERLOAD_LIMITS.to_vec()) }
}

/// What is kept of changes and of queries.
fn soak(count: usize) -> Plan {
    let zone = &Arc::new(Zone::new(count, Answers::Static));
    let ours = Contender { changing: true, ..Contender::ours("Portolan, changing", zone) };
    let limits = vec![Limit {
        what: "memory at the end against after the first tenth",
        of: |round| round.memory.growth(),
        against: &[],
        bound: Most(1.02),
    }];
    let title = format!("{} names for long, 1,000 services change a second, UDP", thousands(count));
    Plan { columns: SOAKED, ..Plan::new(title, vec![ours.under(Load::Soaked)], limits) }
}
