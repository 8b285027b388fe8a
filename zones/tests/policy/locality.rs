//! Whom a client is sent to, by where it is and where endpoints are.

use portolan_zones::Event;
use portolan_zones::object::*;
use portolan_zones::places::{Mapping, Place as Whereabouts};
use portolan_zones::policy::Level::{self, Cluster, Node, Region, Zone};
use portolan_zones::policy::Preference::{self, Pin, Prefer};
use portolan_zones::policy::{Form, Rules};

use crate::common::*;
use crate::site::*;

const A1: &str = "10.1.1.200";
const A2: &str = "10.1.2.200";
const B1: &str = "10.2.1.200";
const C1: &str = "10.3.1.200";
const UNKNOWN: &str = "192.0.2.1";

/// Clients and where they are sent to.
type Expected = [(&'static str, &'static str); 4];

/// Two regions, three clusters; nodes of one name in all, and a zone that two clusters share.
fn sites() -> [Site; 3] {
    [
        site("a").region("eu").node("n1", "z1", 2, 2).node("n2", "z2", 2, 2),
        site("b").region("eu").node("n1", "z1", 2, 2).node("n2", "z3", 2, 2),
        site("c").region("us").node("n1", "z1", 2, 2).node("n2", "z4", 2, 2),
    ]
}

/// Every level alone and several in order; only the closest that there is is used while all of it is ready. Nodes of one
/// name in two clusters are two nodes, zones of one name in two regions are two zones.
#[test]
fn the_closest_are_preferred() {
    let all = "a1 a2 b1 b2 c1 c2";
    let cases: &[(&[Level], Preference, Expected)] = &[
        (&[], Prefer, [(A1, all), (B1, all), (C1, all), (UNKNOWN, all)]),
        (&[], Pin, [(A1, all), (B1, all), (C1, all), (UNKNOWN, all)]),
        (&[Node], Prefer, [(A1, "a1"), (B1, "b1"), (C1, "c1"), (UNKNOWN, all)]),
        (&[Node], Pin, [(A1, "a1"), (B1, "b1"), (C1, "c1"), (UNKNOWN, "")]),
        (&[Zone], Prefer, [(A1, "a1 b1"), (A2, "a2"), (C1, "c1"), (UNKNOWN, all)]),
        (&[Zone], Pin, [(A1, "a1 b1"), (A2, "a2"), (C1, "c1"), (UNKNOWN, "")]),
        (&[Region], Prefer, [(A1, "a1 a2 b1 b2"), (B1, "a1 a2 b1 b2"), (C1, "c1 c2"), (UNKNOWN, all)]),
        (&[Region], Pin, [(A1, "a1 a2 b1 b2"), (B1, "a1 a2 b1 b2"), (C1, "c1 c2"), (UNKNOWN, "")]),
        (&[Cluster], Prefer, [(A1, "a1 a2"), (B1, "b1 b2"), (C1, "c1 c2"), (UNKNOWN, all)]),
        (&[Cluster], Pin, [(A1, "a1 a2"), (B1, "b1 b2"), (C1, "c1 c2"), (UNKNOWN, "")]),
        (&[Zone, Cluster], Prefer, [(A1, "a1 b1"), (A2, "a2"), (B1, "a1 b1"), (UNKNOWN, all)]),
        (&[Cluster, Zone], Prefer, [(A1, "a1 a2"), (A2, "a1 a2"), (B1, "b1 b2"), (UNKNOWN, all)]),
        (&[Node, Zone, Region], Pin, [(A1, "a1"), (A2, "a2"), (C1, "c1"), (UNKNOWN, "")]),
    ];
    for (order, reach, expected) in cases {
        let world = world(&sites(), by(order, *reach));
        for (client, spots) in expected {
            assert_eq!(reached(&world, client), *spots, "{order:?} {reach:?} {client}");
        }
    }
}

/// What is closest has gone, place by place: the next in order takes over; nothing in order, and pinned clients get NODATA.
#[test]
fn the_next_place_takes_over() {
    let order = [Node, Zone, Cluster, Region];
    let mut sites = sites();
    for (gone, preferred, pinned) in [
        (None, "a1", "a1"),
        (Some((0, 0)), "b1", "b1"),
        (Some((1, 0)), "a2", "a2"),
        (Some((0, 1)), "b2", "b2"),
        (Some((1, 1)), "c1 c2", ""),
    ] {
        if let Some((cluster, node)) = gone {
            let sites: &mut [Site; 3] = &mut sites;
            sites[cluster].nodes[node].ready = 0;
        }
        assert_eq!(reached(&world(&sites, by(&order, Prefer)), A1), preferred, "{gone:?}");
        assert_eq!(reached(&world(&sites, by(&order, Pin)), A1), pinned, "{gone:?}");
    }
}

/// The zone of an endpoint is its Node's where its slice doesn't say it: a slice that leaves `zone` out is valid, and the same
/// service must not be answered by chance of who wrote the slice.
#[test]
fn zones_may_come_from_nodes_only() {
    for order in [&[Zone][..], &[Node, Zone], &[Region], &[Node]] {
        let said = world(&sites(), by(order, Pin));
        let looked_up = world(&sites().map(Site::zones_by_nodes_only), by(order, Pin));
        for client in [A1, A2, B1, C1, UNKNOWN] {
            assert_eq!(reached(&said, client), reached(&looked_up, client), "{order:?} {client}");
        }
    }
}

/// A slice may say another zone than its Node's label, which was changed since: who is on the node is still on it.
#[test]
fn a_node_is_the_same_node_whatever_its_zone_is_called() {
    let mut world = world(&sites(), by(&[Node], Pin));
    let renamed = site("a").region("eu").node("n1", "other", 0, 0);
    for node in renamed.node_objects() {
        world.apply("a", node);
    }
    world.compile();
    assert_eq!(reached(&world, A1), "a1");
}

/// An operator who says on which node a network's clients are need not repeat that node's zone and region.
#[test]
fn what_the_operator_says_of_a_network() {
    let mut world = world(&sites(), by(&[Node, Zone], Prefer));
    let map = |place: Whereabouts| {
        Event::Map([Mapping { network: Some(("192.0.2.0".parse().unwrap(), 24)), place }].into())
    };
    let eu = || Some("eu".into());
    let z1 = Whereabouts { region: eu(), az: Some("z1".into()), ..Whereabouts::default() };
    let n2 = Whereabouts { cluster: Some(cluster("a")), node: Some("n2".into()), ..Whereabouts::default() };
    let nowhere = Whereabouts { az: Some("z9".into()), ..Whereabouts::default() };
    for (place, expected) in [(z1, "a1 b1"), (n2, "a2"), (nowhere, "a1 a2 b1 b2 c1 c2")] {
        world.table.apply(map(place.clone()));
        world.compile();
        assert_eq!(reached(&world, UNKNOWN), expected, "{place}");
    }
}

/// KEP-4444: PreferClose and PreferSameZone prefer endpoints of the client's zone and fall back only when there is none;
/// KEP-3015: PreferSameNode prefers the node, then the zone. Neither protects from overload.
#[test]
fn traffic_distribution_keeps_its_meaning() {
    let near = |ready: u8| site("a").node("n1", "z1", ready, 10).node("n2", "z2", 10, 10);
    let neighbour = |ready: u8| site("b").node("n1", "z1", ready, 10);
    let all = "a2";
    for (distribution, local, zonal, expected) in [
        ("PreferSameZone", 10, 10, "a1 b1"),
        ("PreferSameZone", 1, 0, "a1"),
        ("PreferSameZone", 0, 1, "b1"),
        ("PreferSameZone", 0, 0, all),
        ("PreferClose", 1, 0, "a1"),
        ("PreferClose", 1, 1, "a1 b1"),
        ("PreferClose", 0, 0, all),
        ("PreferSameNode", 1, 10, "a1"),
        ("PreferSameNode", 0, 1, "b1"),
        ("PreferSameNode", 0, 0, all),
        ("PreferSomethingNew", 1, 1, "a1 a2 b1"),
    ] {
        let spec = ServiceSpec { traffic_distribution: Some(distribution.into()), ..http() };
        let sites = [near(local), neighbour(zonal)];
        let world = world_of(&sites, ServiceKind::ClusterIp, &spec, Some(rules()));
        assert_eq!(reached(&world, A1), expected, "{distribution} {local} {zonal}");
    }
}

/// What a policy says of locality replaces `trafficDistribution`, its spill included.
#[test]
fn a_policys_locality_replaces_traffic_distribution() {
    let spec = ServiceSpec { traffic_distribution: Some("PreferSameZone".into()), ..http() };
    let world = world_of(&sites(), ServiceKind::ClusterIp, &spec, Some(by(&[Cluster], Prefer)));
    assert_eq!(reached(&world, A1), "a1 a2");
}

/// `internalTrafficPolicy: Local`: "only use endpoints on the same node, drop traffic if there are none", whatever else is
/// said of locality.
#[test]
fn internal_traffic_policy_local_pins_to_the_node() {
    for rules in [rules(), by(&[Region], Prefer), by(&[], Prefer), weighted(&[("b", 100)])] {
        let spec = ServiceSpec { internal_traffic_local: true, ..http() };
        let mut sites = sites();
        sites[0].nodes[1].ready = 0;
        let world = world_of(&sites, ServiceKind::ClusterIp, &spec, Some(rules.clone()));
        for (client, expected) in [(A1, "a1"), (A2, ""), (B1, "b1"), (UNKNOWN, "")] {
            assert_eq!(reached(&world, client), expected, "{rules:?} {client}");
        }
    }
}

/// KEP-1645: a headless service answers all ready endpoints; fields that are for kube-proxy don't change that by themselves,
/// nor do they change virtual IPs.
#[test]
fn without_a_policy_nothing_is_steered() {
    let spec = ServiceSpec {
        internal_traffic_local: true,
        traffic_distribution: Some("PreferSameNode".into()),
        ..http()
    };
    let world = world_of(&sites(), ServiceKind::Headless, &spec, None);
    for client in [A1, A2, B1, C1, UNKNOWN] {
        assert_eq!(reached(&world, client), "a1 a2 b1 b2 c1 c2", "{client}");
        assert_eq!(told(&world.snapshot, NAME, client, 0).1, None, "{client}");
    }
    let vips = Rules { answer: Form::Vip, ..rules() };
    for rules in [None, Some(vips)] {
        let mut world = world_of(&sites(), ServiceKind::ClusterIp, &spec, rules);
        world.vip("n", "s", &["241.0.0.1"]).compile();
        for client in [A1, UNKNOWN] {
            assert_eq!(ask(&world, client, 7), ["241.0.0.1".parse::<std::net::Ipv4Addr>().unwrap()]);
        }
    }
}

/// Most network plugins leave a Node's `podCIDRs` empty: pods that are endpoints are where their slices, and Nodes, say. Nodes
/// that name their networks are asked themselves, and so is the operator.
#[test]
fn pods_are_where_slices_say_if_nodes_do_not() {
    let sites = [
        site("a").zones_by_nodes_only().node("n1", "z1", 2, 2).node("n2", "z2", 2, 2),
        site("b").node("n1", "z1", 2, 2),
    ];
    let mut world = world(&sites, by(&[Zone], Prefer));
    let hide = |world: &mut World, hides: bool| {
        for (at, node) in (1..).zip(sites[0].node_objects()) {
            let Object::Node(node) = node else { unreachable!() };
            let pod_cidrs = if hides { Box::default() } else { node.pod_cidrs };
            let addresses = [[192, 0, 2, at].into()].into();
            world.apply("a", Object::Node(portolan_zones::object::Node { pod_cidrs, addresses, ..node }));
        }
        world.compile();
    };
    let all = "a1 a2 b1";
    assert_eq!(reached(&world, "10.1.2.1"), "a2");
    hide(&mut world, true);
    assert_eq!((reached(&world, "10.1.2.1"), reached(&world, "10.1.1.2")), ("a2".into(), "a1 b1".into()));
    assert_eq!(reached(&world, "10.1.2.77"), all, "no endpoint has this address");
    assert_eq!(reached(&world, "10.2.1.1"), "a1 b1", "others' Nodes still say");
    let scope = |world: &World, address: &str| told(&world.snapshot, NAME, address, 0).1.unwrap().scope;
    assert_eq!(
        (scope(&world, "10.1.2.1"), scope(&world, "10.1.2.77")),
        (32, 32),
        "its neighbour is elsewhere"
    );
    assert!(scope(&world, "198.51.100.1") < 32, "no pod has a public address");
    world.apply("a", sites[0].clone().node("n3", "z2", 0, 0).slice("other"));
    world.apply("a", site("a").node("n1", "z1", 2, 2).slice("s"));
    world.compile();
    assert_eq!(
        reached(&world, "10.1.2.1"),
        "a1 b1",
        "it is no endpoint any more, and nothing is in its zone"
    );
    // Pods with public addresses are told apart from their neighbours; those of the other family are none.
    let place =
        Some(std::sync::Arc::new(portolan_zones::object::Place { node: Some("n1".into()), az: None }));
    let public = Endpoint { place, ..endpoint("2001:db8::1", None, true) };
    world.apply("a", slice("n", "t", "t6-a", &[("http", 80)], vec![public]));
    world.apply("a", export("n", "t", 1));
    world.apply("a", service("n", "t", ServiceKind::Headless, http())).compile();
    assert!(scope(&world, "198.51.100.1") < 32);
    hide(&mut world, false);
    assert_eq!(reached(&world, "10.1.1.77"), "a1 b1", "Nodes say it again");
}

/// Replicas compile for the same areas where there are too many, the first ones by name: clients of the others get what those
/// get of whom nothing is known.
#[test]
fn of_too_many_areas_all_servers_know_the_same() {
    let mut world = world(&[site("a").node("n1", "z1", 1, 1).node("n2", "z2", 1, 1)], by(&[Zone], Prefer));
    let address = |area: u16| std::net::Ipv4Addr::from(0xc612_0000 + u32::from(area));
    let mapping = |area: u16| Mapping {
        network: Some((address(area).into(), 32)),
        place: Whereabouts {
            region: Some(format!("r{area:04}").into()),
            az: Some("z2".into()),
            ..Whereabouts::default()
        },
    };
    world.table.apply(Event::Map((0..1010).map(mapping).collect()));
    world.compile();
    for area in (0..1010).step_by(9).chain(995..1010) {
        let expected = if area < 1000 { "a2" } else { "a1 a2" };
        assert_eq!(reached(&world, &address(area).to_string()), expected, "{area}");
    }
}
