//! KEP-1645, Constraints and Conflict Resolution: ports are united, and a cluster's endpoints are only used for ports that this
//! cluster exposes.

use std::sync::Arc;

use portolan_zones::object::*;
use portolan_zones::ports::Exposed;

use crate::common::*;

type Ports<'a> = &'a [(&'a str, u16)];

fn tcp(ports: Ports<'_>) -> ServiceSpec {
    let ports: Vec<_> = ports.iter().map(|(name, number)| port(name, Protocol::Tcp, *number)).collect();
    spec(&ports)
}

/// Clusters `a`, the older, and `b` export `n/s` with these ports; the slices have those of the Service, a thousand higher.
fn two(kind: ServiceKind, a: Ports<'_>, b: Ports<'_>) -> World {
    let mut world = World::new(&["clusterset.local"], &["a", "b"]);
    for (id, created, ports, address) in [("a", 1, a, "10.1.0.1"), ("b", 2, b, "10.2.0.1")] {
        let targets: Vec<_> = ports.iter().map(|(name, number)| (*name, number + 1000)).collect();
        let pods = slice("n", "s", id, &targets, vec![endpoint(address, None, true)]);
        world.reset(id, vec![export("n", "s", created), service("n", "s", kind, tcp(ports)), pods]);
    }
    world.compile();
    world
}

fn text(name: Option<&Arc<str>>, number: u16) -> String {
    format!("{}:{number}", name.map_or("-", |name| name))
}

/// What of the younger cluster's ports is used: in its slices, and at a gateway or node ports in front of it.
#[test]
fn a_cluster_is_used_for_the_ports_that_it_exposes() {
    // Older ports, younger ports; those of the younger's slices; at a load balancer; at node ports (80 is at 30080).
    type Case = (
        Ports<'static>,
        Ports<'static>,
        &'static [&'static str],
        &'static [&'static str],
        &'static [&'static str],
    );
    let cases: [Case; 7] = [
        (&[("http", 80)], &[("http", 80)], &["http:1080"], &["http:80"], &["http:30080"]),
        // a) One that only the older has.
        (&[("http", 80), ("metrics", 9090)], &[("http", 80)], &["http:1080"], &["http:80"], &["http:30080"]),
        // b) One name, two numbers: the older's holds, and the younger does not expose it.
        (&[("http", 80)], &[("http", 8080)], &[], &[], &[]),
        (&[("", 80)], &[("", 8080)], &[], &[], &[]),
        // c) One number, two names: it is the same port.
        (&[("http", 80)], &[("web", 80)], &["http:1080"], &["http:80"], &["http:30080"]),
        (&[("http", 80)], &[("", 80)], &["http:1080"], &["http:80"], &["http:30080"]),
        // One that only the younger has joins.
        (
            &[("http", 80)],
            &[("http", 80), ("grpc", 90)],
            &["grpc:1090", "http:1080"],
            &["grpc:90", "http:80"],
            &["http:30080"],
        ),
    ];
    for (older, younger, in_slices, at_balancer, at_nodes) in cases {
        let world = two(ServiceKind::ClusterIp, older, younger);
        let service = world.snapshot.services.get(b"\x01s\x01n").unwrap();
        let member = service.members.iter().find(|member| member.cluster == cluster("b")).unwrap();
        let exposed = Exposed::of(member, &service.spec.ports);
        let slices = member.slices.iter().flat_map(|slice| exposed.slice_ports(&slice.ports).to_vec());
        let mut used: Vec<_> = slices.map(|port| text(port.name.as_ref(), port.number.unwrap())).collect();
        used.sort();
        assert_eq!(used, in_slices, "{older:?} {younger:?}");
        let address = || ["192.0.2.1".parse().unwrap()].into();
        let node_port = GatewayPort { protocol: Protocol::Tcp, number: 80, gateway: 30_080 };
        for (at, ports, expected) in [
            (GatewayAt::Addresses(address()), vec![], at_balancer),
            (GatewayAt::Nodes(address()), vec![node_port], at_nodes),
        ] {
            let gateway = Gateway { at, ports: ports.into() };
            let there = exposed.gateway_ports(&gateway);
            let mut there: Vec<_> = there.iter().map(|(port, at)| text(port.name.as_ref(), *at)).collect();
            there.sort();
            assert_eq!(there, expected, "{older:?} {younger:?} {gateway:?}");
        }
    }
}

/// SRV records lead to endpoints that have the port, under the service's name for it.
#[test]
fn srv_records_name_ports_that_the_endpoints_cluster_exposes() {
    let srv = |world: &World, port: &str| {
        let found = world.lookup(&format!("{port}s.n.svc.clusterset.local"), "SRV");
        let mut targets: Vec<_> = found
            .split(", ")
            .map(|record| record.split(' ').skip(2).collect::<Vec<_>>().join(" "))
            .map(|record| record.trim_end_matches(".s.n.svc").to_owned())
            .collect();
        targets.sort();
        if found == "NXDOMAIN" { vec![found] } else { targets }
    };
    let world = two(ServiceKind::Headless, &[("http", 80)], &[("web", 80)]);
    let both = ["1080 10-1-0-1.a", "1080 10-2-0-1.b"];
    assert_eq!(srv(&world, "_http._tcp."), both);
    assert_eq!(srv(&world, ""), both);
    assert_eq!(srv(&world, "_web._tcp."), ["NXDOMAIN"]);
    let world = two(ServiceKind::Headless, &[("http", 80)], &[("http", 8080)]);
    assert_eq!(srv(&world, "_http._tcp."), ["1080 10-1-0-1.a"]);
    assert_eq!(world.lookup("s.n.svc.clusterset.local", "A"), "10.1.0.1, 10.2.0.1", "addresses have no port");
    let world = two(ServiceKind::Headless, &[], &[("http", 80)]);
    assert_eq!(srv(&world, "_http._tcp."), ["1080 10-2-0-1.b"]);
}

/// Whoever exports a service with many ports must not keep the table busy: quadratic would be minutes here.
#[test]
fn many_ports_are_united_in_no_time() {
    let names: Vec<String> = (0..60_000).map(|i| format!("p{i}")).collect();
    let many: Vec<_> = names.iter().zip(1..).map(|(name, number)| (&**name, number)).collect();
    let mut world = World::new(&["clusterset.local"], &["a", "b"]);
    for (id, ports) in [("a", &many[..50_000]), ("b", &many[10_000..])] {
        world.reset(id, vec![export("n", "s", 1), service("n", "s", ServiceKind::ClusterIp, tcp(ports))]);
    }
    world.compile();
    assert_eq!(world.snapshot.services.get(b"\x01s\x01n").unwrap().spec.ports.len(), 60_000);
}
