//! A table with a few clusters, and the snapshots that it leads to. Home is `a`; all clusters are on one network.

use std::net::IpAddr;
use std::sync::Arc;

use portolan_zones::object::*;
use portolan_zones::policy::{Policy, PolicyName, Rules, Target};
use portolan_zones::{Change, ClusterEvent, Event, Name, Snapshot, Table, ZoneConfig, Zones, compile};

use super::{cluster, name};

pub struct World {
    table: Table,
    zones: Arc<Zones>,
    pub snapshot: Arc<Snapshot>,
    now: UnixTime,
}

impl World {
    pub fn new(clusters: &[&str]) -> Self {
        let zones = Zones::new(vec![ZoneConfig::new(Name::parse("clusterset.local").unwrap())]).unwrap();
        let mut table = Table::default();
        table.apply(Event::Expect(clusters.iter().map(|id| cluster(id)).collect()));
        table.apply(Event::Home(Some(cluster("a"))));
        for id in clusters {
            table.apply(Event::Cluster(ClusterEvent { cluster: cluster(id), change: Change::Synced }));
        }
        let snapshot = Arc::new(Snapshot::unsynced(zones.clone()));
        Self { table, zones, snapshot, now: 1_000_000 }
    }

    pub fn hear(&mut self, event: Event) -> &mut Self {
        self.table.apply(event);
        self
    }

    fn say(&mut self, id: &str, change: Change) -> &mut Self {
        self.hear(Event::Cluster(ClusterEvent { cluster: cluster(id), change }))
    }

    pub fn apply(&mut self, id: &str, object: Object) -> &mut Self {
        self.say(id, Change::Apply(object))
    }

    pub fn delete(&mut self, id: &str, key: ObjectKey) -> &mut Self {
        self.say(id, Change::Delete(key))
    }

    /// An export with its Service: TCP port `http` 80 and UDP port `dns` 53, of both families.
    pub fn export(&mut self, id: &str, service: &str) -> &mut Self {
        self.export_as(id, service, ServiceKind::ClusterIp, spec())
    }

    pub fn export_as(&mut self, id: &str, service: &str, kind: ServiceKind, spec: ServiceSpec) -> &mut Self {
        let name = name(service);
        let export = Export { name: name.clone(), created: 1, exported: None, gateway: None, state: None };
        self.apply(id, Object::Export(export));
        self.apply(id, Object::Service(Service { name, kind, spec: spec.into(), gateway: None }))
    }

    pub fn withdraw(&mut self, id: &str, service: &str) -> &mut Self {
        self.delete(id, ObjectKey::Export(name(service)))
    }

    pub fn vips(&mut self, service: &str, ips: &[&str]) -> &mut Self {
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        self.hear(Event::Vips { service: name(service), ips })
    }

    /// Ready endpoints of one slice, each on a node: `[("10.1.0.1", "n1")]`. TCP goes to 8080, UDP to 5353.
    pub fn endpoints(&mut self, id: &str, service: &str, of: &str, endpoints: &[(&str, &str)]) -> &mut Self {
        let endpoint = |(at, node): &(&str, &str)| Endpoint {
            address: at.parse().unwrap(),
            conditions: Conditions::READY,
            identity: at.bytes().fold(7, |hash: u32, b| hash.wrapping_mul(31).wrapping_add(b.into())),
            hostname: None,
            place: Some(Arc::new(Place { node: Some((*node).into()), az: None })),
        };
        self.slice(id, service, of, endpoints.iter().map(endpoint).collect())
    }

    pub fn slice(&mut self, id: &str, service: &str, of: &str, endpoints: Box<[Endpoint]>) -> &mut Self {
        let port = |name: &str, protocol, number| SlicePort {
            name: Some(name.into()),
            protocol,
            number: Some(number),
            app_protocol: None,
        };
        let slice = Slice {
            name: SliceName::new("n", &format!("{service}-{of}")),
            service: name(service),
            source: None,
            ours: false,
            gateway: false,
            state: None,
            region: None,
            outside: None,
            ports: [port("http", Protocol::Tcp, 8080), port("dns", Protocol::Udp, 5353)].into(),
            endpoints,
        };
        self.apply(id, Object::Slice(slice))
    }

    /// Pods of the node have the network `10.<octet>.0.0/16`, by which its place is known.
    pub fn node(&mut self, id: &str, node: &str, az: &str, network: [u8; 3]) -> &mut Self {
        let [x, y, z] = network;
        let node = Node {
            name: node.into(),
            az: Some(az.into()),
            region: Some("eu".into()),
            pod_cidrs: [(IpAddr::from([x, y, z, 0]), 24)].into(),
            addresses: Box::default(),
            ready: true,
            entrances: Box::default(),
        };
        self.apply(id, Object::Node(node))
    }

    /// Home's policy about some imports.
    pub fn policy(&mut self, services: &[&str], rules: Rules) -> &mut Self {
        let imports = services.iter().map(|service| (*service).into()).collect();
        let target = Target::Services { exports: Box::default(), imports };
        let (name, rules) = (PolicyName::new("n", services[0]), rules.into());
        self.apply("a", Object::Policy(Policy { name, created: 1, target, rules }))
    }

    /// What came of the health checks of all services: an address is healthy unless it is one of these.
    pub fn unhealthy(&mut self, addresses: &[&str]) -> &mut Self {
        let out: Vec<IpAddr> = addresses.iter().map(|at| at.parse().unwrap()).collect();
        let checked = self.snapshot.services.iter().filter_map(|service| service.checked());
        let checks = checked.flat_map(|checked| checked.checks.iter());
        let results =
            checks.map(|check| (check.clone(), !out.contains(&check.address.ip()))).collect::<Vec<_>>();
        assert!(!results.is_empty(), "nothing is checked");
        self.hear(Event::Checked(results))
    }

    /// The next snapshot, a minute later.
    pub fn compile(&mut self) -> Arc<Snapshot> {
        self.now += 60;
        if let Some(next) = compile(&mut self.table, &self.zones, &self.snapshot, self.now) {
            self.snapshot = Arc::new(next);
        }
        self.snapshot.clone()
    }

    pub fn service(&self, service: &str) -> Arc<portolan_zones::Service> {
        self.snapshot.services.get(name(service).wire()).expect(service).clone()
    }
}

pub fn spec() -> ServiceSpec {
    let port =
        |name: &str, protocol, number| Port { name: Some(name.into()), protocol, number, app_protocol: None };
    ServiceSpec {
        ports: [port("http", Protocol::Tcp, 80), port("dns", Protocol::Udp, 53)].into(),
        ip_families: [IpFamily::V4, IpFamily::V6].into_iter().collect(),
        ..ServiceSpec::default()
    }
}
