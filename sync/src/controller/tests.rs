//! What the controller writes, against an API server in a few lines: it stores what is applied and gives out addresses.
//! The table sees what was written, as it does by its watch.

mod addresses;
mod copies;
mod desired;
mod fake;
mod observing;
mod settling;

use portolan_zones::object::{
    Change, ClusterEvent, Conditions, Endpoint, Export, Exported, Gateway, GatewayAt, GatewayPort, IpFamily,
    Object, ObjectKey, Place, Port, Protocol, Service, ServiceKind, ServiceSpec, SessionAffinity, Slice,
    SliceName, SlicePort,
};
use portolan_zones::{ClusterId, Event, Hearing, ServiceName};

use fake::Home;

fn id(text: &str) -> ClusterId {
    ClusterId::new(text).unwrap()
}

fn web() -> ServiceName {
    ServiceName::new("shop", "web").unwrap()
}

fn port(name: Option<&str>, number: u16) -> Port {
    Port { name: name.map(Into::into), protocol: Protocol::Tcp, number, app_protocol: None }
}

fn spec() -> ServiceSpec {
    ServiceSpec {
        ports: [port(Some("http"), 80)].into(),
        ip_families: [IpFamily::V4].into_iter().collect(),
        ..ServiceSpec::default()
    }
}

/// `cluster` exports `shop/web`.
fn exports(cluster: &str, created: i64, kind: ServiceKind, spec: ServiceSpec) -> Vec<Event> {
    let service = Service { name: web(), kind, spec: spec.into(), gateway: None };
    let export = Export { name: web(), created, exported: None, gateway: None, state: None };
    vec![says(cluster, Object::Service(service)), says(cluster, Object::Export(export))]
}

fn says(cluster: &str, object: Object) -> Event {
    Event::Cluster(ClusterEvent { cluster: id(cluster), change: Change::Apply(object) })
}

fn takes_back(cluster: &str, key: ObjectKey) -> Event {
    Event::Cluster(ClusterEvent { cluster: id(cluster), change: Change::Delete(key) })
}

/// A slice of `shop/web` with these addresses, ready, each on a node of its own.
fn slice(cluster: &str, name: &str, addresses: &[&str]) -> Event {
    let endpoint = |(i, text): (usize, &&str)| Endpoint {
        address: text.parse().unwrap(),
        conditions: Conditions::READY,
        identity: i as u32 + 10,
        hostname: Some(format!("web-{i}").as_str().into()),
        place: Some(Place { node: Some("node-1".into()), az: Some("az-1".into()) }.into()),
    };
    let port = SlicePort {
        name: Some("http".into()),
        protocol: Protocol::Tcp,
        number: Some(8080),
        app_protocol: None,
    };
    says(
        cluster,
        Object::Slice(Slice {
            name: SliceName::new("shop", name),
            service: web(),
            source: None,
            ours: false,
            gateway: false,
            state: None,
            region: None,
            outside: None,
            ports: [port].into(),
            endpoints: addresses.iter().enumerate().map(endpoint).collect(),
        }),
    )
}

/// The own cluster `east` and a peer `west`, both heard, both with one endpoint of `shop/web`.
fn two_clusters(kind: ServiceKind) -> Home {
    let mut home = Home::new("east");
    home.tell([Event::Hear(Hearing::AllBut([].into()))]);
    home.has_service(kind);
    home.has_export();
    home.tell(exports("east", 100, kind, spec()));
    home.tell(exports("west", 200, kind, spec()));
    home.tell([slice("east", "web-abc", &["10.1.0.1"]), slice("west", "web-xyz", &["10.2.0.1"])]);
    home
}
