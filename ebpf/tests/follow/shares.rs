//! What `dig` shows is what `connect()` gets: shares by families, health and places.

use std::collections::BTreeSet;

use portolan_ebpf::follow::{Follower, Scope};
use portolan_ebpf::tables::Sizes;
use portolan_zones::Event;
use portolan_zones::object::Protocol::{Tcp, Udp};
use portolan_zones::object::{IpFamily, ServiceKind};
use portolan_zones::peers::{Forced, Scope as Of, State};
use portolan_zones::policy::Rules;

use crate::common::world::{World, spec};
use crate::common::*;
use crate::site::*;

/// What `dig` shows is what `connect()` gets.
#[test]
fn shares_are_those_that_dns_answers_by() {
    for (why, rules) in [
        ("no policy", None),
        ("by zone", Some(by_zone())),
        ("by weight", Some(weighted(&[("a", 1), ("b", 5), ("c", 2)]))),
        ("a last resort", Some(weighted(&[("a", 3), ("b", 1), ("c", 0)]))),
        ("failover", Some(Rules { failover: [cluster("b"), cluster("a")].into(), ..Rules::default() })),
    ] {
        let (mut world, mut tables) = (site(rules), small());
        follow(&mut tables, &world.snapshot);
        agrees(&tables, &world, why);
        for (id, state) in [("a", State::Drain), ("b", State::Down), ("a", State::Up)] {
            let forced = Forced { cluster: cluster(id), of: Of::All, state };
            world.hear(Event::Force([forced].into()));
            follow(&mut tables, &world.compile());
            agrees(&tables, &world, &format!("{why}, {id} {state:?}"));
        }
    }
}

#[test]
fn shares_follow_health() {
    let rules = Rules { health_check: tcp_check(), ..by_zone() };
    let (mut world, mut tables) = (site(Some(rules)), small());
    let v6 = ["fd00:1::1", "fd00:1::3", "fd00:2::1"];
    let v4 = ["10.1.1.1", "10.1.1.2", "10.1.2.1", "10.2.1.1", "10.2.1.2", "10.3.1.1"];
    for (why, out) in [
        ("all are well", vec![]),
        ("one is not", vec!["10.1.1.1"]),
        ("a cluster is not", vec!["10.2.1.1", "10.2.1.2", "fd00:2::1"]),
        ("so few are that health is ignored", [&v4[..5], &v6[..2]].concat()),
        ("none is", [&v4[..], &v6[..]].concat()),
        ("all are again", vec![]),
    ] {
        world.unhealthy(&out);
        follow(&mut tables, &world.compile());
        agrees(&tables, &world, why);
    }
}

/// Sockets that reach both families go to IPv4 backends where a service has no others; those that reach IPv4 only can't go to IPv6.
#[test]
fn families_of_addresses_and_of_backends() {
    let mut world = World::new(&["a"]);
    world
        .export("a", "old")
        .endpoints("a", "old", "v4", &[("10.1.1.1", "n1")])
        .vips("old", &["10.96.0.1", "fd96::1"]);
    world
        .export("a", "new")
        .endpoints("a", "new", "v6", &[("fd00:1::1", "n1")])
        .vips("new", &["10.96.0.2", "fd96::2"]);
    let mut tables = small();
    follow(&mut tables, &world.compile());
    let memory = memory(&tables);
    let heads = |vip| memory.fronts[&front_of(memory, vip, Tcp, 80).unwrap()].heads;
    assert!(heads("fd96::1")[0] != 0 && heads("fd96::1")[0] == heads("fd96::1")[1], "one spread for all");
    assert_eq!(reached(memory, "fd96::1", 1), set(&["10.1.1.1"]));
    let [v4, any] = heads("10.96.0.2");
    assert!(v4 == 0 && any != 0);
    assert_eq!(
        memory.walk((address("10.96.0.2"), port_key(Tcp, 80)), 0, 7),
        Ok(None),
        "unreachable, not refused"
    );
    assert_eq!(reached(memory, "fd96::2", 1), set(&["fd00:1::1"]));
}

/// Health checks that fail for all IPv6 backends send who reaches both families to IPv4 ones, and back; those that fail for all
/// of both change nothing.
#[test]
fn ipv6_backends_that_fail_give_way_to_ipv4_ones() {
    let rules = Rules { health_check: tcp_check(), ..Rules::default() };
    let (mut world, mut tables) = (site(Some(rules)), small());
    let v6 = ["fd00:1::1", "fd00:1::3", "fd00:2::1"];
    let v4 = ["10.1.1.1", "10.1.1.2", "10.1.2.1", "10.2.1.1", "10.2.1.2", "10.3.1.1"];
    let both = [&v4[..], &v6[..]].concat();
    for (out, expected) in [(&v6[..0], &v6[..]), (&v6, &v4), (&v6[1..], &v6[..1]), (&both, &v6), (&[], &v6)] {
        world.unhealthy(out);
        follow(&mut tables, &world.compile());
        assert_eq!(reached(memory(&tables), "fd96::1", 1), set(expected), "{out:?} fail");
    }
}

#[test]
fn what_has_no_virtual_ip_is_left_alone() {
    let mut world = World::new(&["a"]);
    world.export_as("a", "headless", ServiceKind::Headless, spec());
    world.endpoints("a", "headless", "v4", &[("10.1.1.1", "n1")]).vips("headless", &["10.96.0.1"]);
    world.export("a", "nameless").endpoints("a", "nameless", "v4", &[("10.1.1.2", "n1")]);
    let mut tables = small();
    let (_, writes) = follow(&mut tables, &world.compile());
    assert_eq!((writes, tables.reconciler().services()), (vec![], 0));

    world.vips("nameless", &["10.96.0.2"]);
    follow(&mut tables, &world.compile());
    assert_eq!(reached(memory(&tables), "10.96.0.2", 0), set(&["10.1.1.2"]));
    world.vips("nameless", &[]);
    follow(&mut tables, &world.compile());
    let memory = memory(&tables);
    assert!(memory.vips.is_empty() && memory.ports.is_empty());
}

/// The node's place is that of its Node; when it moves, services that don't ask where clients are stay as they are.
#[test]
fn a_node_that_moves_takes_along_what_depends_on_its_place() {
    let mut world = site(Some(by_zone()));
    for service in ["plain", "also"] {
        world.export("a", service).endpoints("a", service, "v4", &[("10.1.1.9", "n1"), ("10.1.2.9", "n2")]);
    }
    world.vips("plain", &["10.96.0.2"]).vips("also", &["10.96.0.3"]);
    let mut tables = small();
    follow(&mut tables, &world.compile());
    assert_eq!(tables.place().az.as_deref(), Some("z1"));
    assert_eq!(tables.place().region.as_deref(), Some("eu"));
    // The zone's endpoints are in two clusters.
    let in_z1 = set(&["10.1.1.1", "10.1.1.2", "10.2.1.1", "10.2.1.2"]);
    assert_eq!(reached(memory(&tables), "10.96.0.1", 0), in_z1);

    world.node("a", "n1", "z2", [10, 1, 1]);
    let (pass, writes) = follow(&mut tables, &world.compile());
    assert_eq!(tables.place().az.as_deref(), Some("z2"));
    agrees(&tables, &world, "moved");
    assert_ne!(reached(memory(&tables), "10.96.0.1", 0), in_z1);
    let of = |protocol, port| front_of(memory(&tables), "10.96.0.1", protocol, port).unwrap();
    assert_eq!(rewritten(&writes), [of(Tcp, 80), of(Udp, 53)].into(), "only service s");
    assert_eq!(pass.services, 1);

    // A Node of another cluster, where nothing of the service runs: it is looked at, and nothing is written.
    world.node("c", "n9", "z9", [10, 3, 9]);
    let (_, writes) = follow(&mut tables, &world.compile());
    assert_eq!(rewritten(&writes), BTreeSet::new());
}

#[test]
fn a_node_that_nobody_knows_is_in_its_cluster() {
    let mut world = site(Some(by_zone()));
    let mut tables = Follower::new(Recorder::new(Sizes::of(8, 8, 64)), Scope::default(), Some("new".into()));
    follow(&mut tables, &world.compile());
    let place = tables.place();
    assert_eq!((place.cluster.clone(), place.node.as_deref()), (Some(cluster("a")), Some("new")));
    assert_eq!((place.az.as_deref(), place.region.as_deref()), (None, None));
    agrees(&tables, &world, "by cluster");
    world.node("a", "new", "z2", [10, 1, 3]);
    follow(&mut tables, &world.compile());
    assert_eq!(tables.place().az.as_deref(), Some("z2"));
    agrees(&tables, &world, "by zone");
}

/// `drain` is the last resort among what an address family has, as for AAAA answers: an IPv6 address goes on to the IPv6 backends of
/// a drained cluster where no other has some, for single packets of IPv6 sockets reach no IPv4 backend.
#[test]
fn a_drained_cluster_serves_ipv6_where_no_other_does() {
    let mut world = World::new(&["a", "b"]);
    world.export("a", "s").endpoints("a", "s", "v4", &[("10.1.1.1", "n1")]);
    world.export("b", "s").endpoints("b", "s", "v4", &[("10.2.1.1", "n1")]);
    world.endpoints("b", "s", "v6", &[("fd00:2::1", "n1")]).vips("s", &["10.96.0.1", "fd96::1"]);
    let mut tables = small();
    for (state, v4, v6) in [
        (None, &["10.1.1.1", "10.2.1.1"][..], "fd00:2::1"),
        (Some(State::Drain), &["10.1.1.1"], "fd00:2::1"),
        (Some(State::Down), &["10.1.1.1"], "10.1.1.1"),
    ] {
        world.hear(match state {
            Some(state) => down("b", state),
            None => Event::Force(Box::default()),
        });
        follow(&mut tables, &world.compile());
        assert_eq!(reached(memory(&tables), "10.96.0.1", 0), set(v4), "{state:?}");
        assert_eq!(reached(memory(&tables), "fd96::1", 1), set(&[v6]), "{state:?}");
        // What AAAA answers would hold, as far as there are any.
        let answered = world.snapshot.backends(&world.service("s"), tables.place(), 0, Some(IpFamily::V6));
        let answered: Vec<String> = answered.iter().map(|backend| backend.address.to_string()).collect();
        assert!(answered.is_empty() || answered == [v6], "{state:?}: {answered:?}");
    }
}
