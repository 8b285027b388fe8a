//! Endpoints on other networks: what is answered is their cluster's gateway, which stands for all that is behind it.

use std::net::IpAddr;
use std::sync::Arc;

use portolan_zones::Event;
use portolan_zones::object::*;
use portolan_zones::policy::Level::{Cluster, Node, Zone};
use portolan_zones::policy::Preference::{Pin, Prefer};
use portolan_zones::policy::Rules;

use crate::common::*;
use crate::site::*;

const CLIENT: &str = "10.1.1.200";

/// Cluster `a`, which asks, and `b` on another network behind `gateways` addresses `10.2.9.<n>`.
fn two_networks(a: u8, b: (u8, u8), gateways: u8, kind: ServiceKind, rules: Option<Rules>) -> World {
    let sites = [site("a").node("n1", "z1", a, a), site("b").node("n1", "z2", b.0, b.1)];
    let mut world = world_of(&sites, kind, &http(), rules);
    let addresses = (1..=gateways).map(|i| IpAddr::from([10, 2, 9, i])).collect();
    let gateway = Gateway { at: GatewayAt::Addresses(addresses), ports: Box::default() };
    world.apply(
        "b",
        Object::Service(Service {
            name: service_name("s"),
            kind,
            spec: http().into(),
            gateway: Some(Arc::new(gateway)),
        }),
    );
    world.table.apply(Event::Network { cluster: cluster("b"), network: "east".into() });
    world.compile();
    world
}

/// Whoever can't reach an endpoint is told the gateway, as often as there are endpoints behind it: neither one of two
/// addresses nor eight for one endpoint distort that.
#[test]
fn a_gateway_has_the_share_of_what_is_behind_it() {
    for (a, b, gateways) in
        [(2, 6, 1), (2, 6, 2), (6, 2, 4), (3, 1, 8), (5, 5, 3), (4, 4, 4), (0, 3, 2), (3, 0, 2)]
    {
        let world = two_networks(a, (b, b), gateways, ServiceKind::ClusterIp, Some(rules()));
        let counts = counts(&world, CLIENT, 12_000, spot);
        let expected = [("a1", f64::from(a)), ("b9", f64::from(b))];
        assert_shares(&counts, &expected, &format!("{a} here, {b} behind {gateways}"));
    }
}

/// All of a gateway's addresses are answered, each as often as the others.
#[test]
fn all_addresses_of_a_gateway_have_their_turn() {
    let world = two_networks(2, (2, 2), 3, ServiceKind::ClusterIp, Some(by(&[Cluster], Prefer)));
    assert_eq!(reached(&world, CLIENT), "a1");
    let last = |address: std::net::Ipv4Addr| address.octets()[3].to_string();
    let far = two_networks(0, (2, 2), 3, ServiceKind::ClusterIp, Some(rules()));
    assert_eq!(ask(&far, CLIENT, 0).len(), 3);
    assert_shares(&counts(&far, CLIENT, 9_000, last), &[("1", 1.0), ("2", 1.0), ("3", 1.0)], "addresses");
}

/// Replicas tell a gateway's addresses in one order, also those of two releases: what is written here is the first one's.
#[test]
fn all_releases_have_one_order_of_gateways() {
    let far = two_networks(0, (2, 2), 9, ServiceKind::ClusterIp, Some(rules()));
    let order: Vec<u8> = ask(&far, CLIENT, 0).iter().map(|address| address.octets()[3]).collect();
    assert_eq!(order, [1, 3, 2, 5, 4, 7, 6, 8, 9]);
}

/// What fails behind a gateway counts as what fails here: 5 of 10 bear 70 % of a cluster's weight, however many addresses.
#[test]
fn a_gateway_is_as_healthy_as_what_is_behind_it() {
    for gateways in [1, 3, 8] {
        let rules = Some(weighted(&[("a", 1), ("b", 1)]));
        let world = two_networks(4, (5, 10), gateways, ServiceKind::ClusterIp, rules);
        let expected = [("a", 1.0), ("b", 0.7)];
        assert_shares(
            &counts(&world, CLIENT, 12_000, cluster_of),
            &expected,
            &format!("{gateways} addresses"),
        );
    }
    let world = two_networks(4, (0, 10), 2, ServiceKind::ClusterIp, Some(rules()));
    assert_eq!(reached(&world, CLIENT), "a1", "nothing behind it is ready");
}

/// A gateway is in its cluster, and on no node and in no zone: whoever is pinned to these doesn't get it.
#[test]
fn a_gateway_is_on_no_node() {
    for (rules, expected) in [
        (by(&[Node], Pin), "a1"),
        (by(&[Zone], Pin), "a1"),
        (by(&[Zone], Prefer), "a1"),
        (by(&[], Prefer), "a1 b9"),
    ] {
        let world = two_networks(2, (2, 2), 1, ServiceKind::ClusterIp, Some(rules.clone()));
        assert_eq!(reached(&world, CLIENT), expected, "{rules:?}");
    }
}

/// An endpoint's own name can't be reached through a gateway (KEP-1645 DNS §2.4): a headless service never answers one,
/// policy or not.
#[test]
fn headless_services_have_no_gateways() {
    for rules in [None, Some(rules()), Some(weighted(&[("b", 100)])), Some(by(&[Zone], Prefer))] {
        let world = two_networks(2, (2, 2), 1, ServiceKind::Headless, rules.clone());
        assert_eq!(reached(&world, CLIENT), "a1", "{rules:?}");
        let lost = two_networks(0, (2, 2), 1, ServiceKind::Headless, rules);
        assert_eq!(lost.lookup(NAME, "A"), "NXDOMAIN");
    }
}

/// RFC 2782: SRV records tell ports; A and AAAA can't. A gateway whose ports move is another answer to who asks for SRV alone.
#[test]
fn ports_of_gateways_are_told_by_srv_alone() {
    const PORT: &str = "_http._tcp.s.n.svc.clusterset.local";
    let mut world = two_networks(0, (2, 2), 2, ServiceKind::ClusterIp, Some(rules()));
    for (port, expected) in [(80, " 80 "), (20_017, " 20017 "), (20_018, " 20018 ")] {
        let addresses = [1, 2].map(|i| IpAddr::from([10, 2, 9, i])).into();
        let ports = [GatewayPort { protocol: Protocol::Tcp, number: 80, gateway: port }].into();
        let gateway = Some(Arc::new(Gateway { at: GatewayAt::Addresses(addresses), ports }));
        let (name, kind, spec) = (service_name("s"), ServiceKind::ClusterIp, http().into());
        world.apply("b", Object::Service(Service { name, kind, spec, gateway })).compile();
        assert_eq!(ask(&world, CLIENT, 0).len(), 2);
        let told = world.lookup(PORT, "SRV");
        assert_eq!(told.matches(expected).count(), 2, "{told}");
    }
}
