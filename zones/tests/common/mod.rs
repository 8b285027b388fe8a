//! Objects by sentence: `export("shop", "cart").created(5)`, `slice("shop", "cart", "cart-1").ready("10.0.0.1")`.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::IpAddr;
use std::sync::Arc;

use portolan_zones::object::*;
use portolan_zones::{
    Change, ClusterEvent, ClusterId, Event, Name, QName, ServiceName, Snapshot, Table, ZoneConfig, Zones,
    compile,
};

pub const NOW: UnixTime = 1_000_000;

pub fn cluster(id: &str) -> ClusterId {
    ClusterId::new(id).unwrap()
}

pub fn name(namespace: &str, name: &str) -> ServiceName {
    ServiceName::new(namespace, name).unwrap()
}

pub fn export(namespace: &str, service: &str, created: UnixTime) -> Object {
    let name = name(namespace, service);
    Object::Export(Export { name, created, exported: None, gateway: None, state: None })
}

pub fn port(name: &str, protocol: Protocol, number: u16) -> Port {
    let name = (!name.is_empty()).then(|| name.into());
    Port { name, protocol, number, app_protocol: None }
}

pub fn spec(ports: &[Port]) -> ServiceSpec {
    ServiceSpec {
        ports: ports.into(),
        ip_families: [IpFamily::V4].into_iter().collect(),
        ..Default::default()
    }
}

pub fn service(namespace: &str, service: &str, kind: ServiceKind, spec: ServiceSpec) -> Object {
    Object::Service(Service { name: name(namespace, service), kind, spec: spec.into(), gateway: None })
}

pub fn import(namespace: &str, service: &str, created: UnixTime, ips: &[&str]) -> Object {
    let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    let name = name(namespace, service);
    Object::Import(Import {
        name,
        created,
        headless: false,
        ips,
        spec: Arc::default(),
        clusters: Arc::default(),
        policy: None,
    })
}

pub fn endpoint(address: &str, hostname: Option<&str>, ready: bool) -> Endpoint {
    let address: IpAddr = address.parse().unwrap();
    let identity = match address {
        IpAddr::V4(a) => u32::from(a),
        IpAddr::V6(a) => {
            a.octets().iter().fold(7, |h: u32, o| h.wrapping_mul(31).wrapping_add(u32::from(*o)))
        }
    };
    let conditions = Conditions { ready, serving: ready, terminating: false };
    Endpoint { address, conditions, identity, hostname: hostname.map(Into::into), place: None }
}

pub fn slice(
    namespace: &str,
    service: &str,
    slice: &str,
    ports: &[(&str, u16)],
    endpoints: Vec<Endpoint>,
) -> Object {
    let port = |(name, number): &(&str, u16)| SlicePort {
        name: (!name.is_empty()).then(|| (*name).into()),
        protocol: Protocol::Tcp,
        number: Some(*number),
        app_protocol: None,
    };
    Object::Slice(Slice {
        name: SliceName::new(namespace, slice),
        service: name(namespace, service),
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

/// As somebody else than our controller would mirror it.
pub fn mirrored(object: Object, source: &str) -> Object {
    let Object::Slice(slice) = object else { panic!("not a slice") };
    Object::Slice(Slice { source: Some(cluster(source)), ..slice })
}

pub fn zones(origins: &[&str]) -> Arc<Zones> {
    let config = |origin: &&str| ZoneConfig {
        name_server_addresses: vec!["127.0.0.1".parse().unwrap()],
        ..ZoneConfig::new(Name::parse(origin).unwrap())
    };
    Zones::new(origins.iter().map(config).collect()).unwrap()
}

/// A table under test, with the snapshots that it led to.
pub struct World {
    pub table: Table,
    pub zones: Arc<Zones>,
    pub snapshot: Snapshot,
}

impl World {
    pub fn new(origins: &[&str], clusters: &[&str]) -> Self {
        let zones = zones(origins);
        let mut table = Table::default();
        table.apply(Event::Expect(clusters.iter().map(|id| cluster(id)).collect()));
        Self { table, snapshot: Snapshot::unsynced(zones.clone()), zones }
    }

    pub fn say(&mut self, id: &str, change: Change) -> &mut Self {
        self.table.apply(Event::Cluster(ClusterEvent { cluster: cluster(id), change }));
        self
    }

    pub fn reset(&mut self, id: &str, objects: Vec<Object>) -> &mut Self {
        self.say(id, Change::Reset(objects))
    }

    pub fn apply(&mut self, id: &str, object: Object) -> &mut Self {
        self.say(id, Change::Apply(object))
    }

    pub fn home(&mut self, id: &str) -> &mut Self {
        self.table.apply(Event::Home(Some(cluster(id))));
        self
    }

    pub fn vip(&mut self, namespace: &str, service: &str, ips: &[&str]) -> &mut Self {
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        self.table.apply(Event::Vips { service: name(namespace, service), ips });
        self
    }

    /// Compiles; whether there was anything to publish.
    pub fn compile(&mut self) -> bool {
        self.compile_at(NOW)
    }

    pub fn compile_at(&mut self, now: UnixTime) -> bool {
        let next = compile(&mut self.table, &self.zones, &self.snapshot, now);
        let changed = next.is_some();
        self.snapshot = next.unwrap_or_else(|| self.snapshot.clone());
        changed
    }

    /// The first zone as text, without its SOA.
    pub fn text(&self) -> String {
        zone_text(&self.snapshot)
    }

    pub fn lookup(&self, qname: &str, rtype: &str) -> String {
        let qname = QName::parse(qname).unwrap();
        let rtype = rtype.parse().unwrap();
        found(&self.snapshot, &qname, rtype)
    }
}

pub fn zone_text(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for zone in snapshot.zones.iter() {
        portolan_zones::zonefile::write_zone(&mut text, snapshot, zone).unwrap();
    }
    text.lines().filter(|line| !line.contains(" IN SOA ")).map(|line| format!("{line}\n")).collect()
}

/// An answer in one line: `REFUSED`, `NXDOMAIN`, `NODATA`, `SERVFAIL`, or sorted values.
pub fn found(snapshot: &Snapshot, qname: &QName, rtype: hickory_proto::rr::RecordType) -> String {
    use portolan_zones::{Found, Records};
    let Some(lookup) = snapshot.lookup(qname, rtype) else { return "REFUSED".into() };
    match lookup.found {
        Found::NxDomain(_) => "NXDOMAIN".into(),
        Found::NoData => "NODATA".into(),
        Found::NotReady => "SERVFAIL".into(),
        Found::Records(records) => match records {
            Records::A(a) => join(a.iter().map(ToString::to_string)),
            Records::Aaaa(a) => join(a.iter().map(ToString::to_string)),
            Records::Txt(text) => format!("\"{text}\""),
            Records::Soa => "SOA".into(),
            Records::Ns => "NS".into(),
            Records::Any => "ANY".into(),
            Records::Ptr(targets) => {
                join(targets.iter().map(|target| snapshot.ptr_name(target).unwrap().to_string()))
            }
            Records::Srv { set, service, answers, .. } => join(set.targets.iter().map(|target| {
                let labels = [answers.host_labels(*target), service.name.wire(), b"\x03svc"].concat();
                let mut text = String::new();
                portolan_zones::name::write_name(&mut text, &labels).unwrap();
                format!("0 {} {} {}", set.weight, target.port, text.trim_end_matches('.'))
            })),
        },
    }
}

fn join(values: impl Iterator<Item = String>) -> String {
    let mut values: Vec<String> = values.collect();
    values.sort();
    values.join(", ")
}
