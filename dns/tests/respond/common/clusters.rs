//! What clusters say, compiled.

use std::net::IpAddr;
use std::sync::Arc;

use portolan_zones::object::*;
use portolan_zones::policy::{Form, Level, Locality, Policy, PolicyName, Preference, Rules, Target};
use portolan_zones::{
    Change, ClusterEvent, ClusterId, Event, Name, ServiceName, Snapshot, Table, ZoneConfig, Zones, compile,
};

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
    Zones::new(["clusterset.local", "241.in-addr.arpa", "1.4.d.f.ip6.arpa"].map(config).to_vec()).unwrap()
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
