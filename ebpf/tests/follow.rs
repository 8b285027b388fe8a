//! From what clusters say to what is in the tables: the shares are those that DNS answers by, for this node's place.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use common::world::{World, spec};
use common::*;
use portolan_ebpf::abi::{Origin, PortKey, VipKey};
use portolan_ebpf::follow::{Follower, Pass, Scope};
use portolan_ebpf::tables::{Memory, Sizes};
use portolan_zones::object::Protocol::{Tcp, Udp};
use portolan_zones::object::{
    Conditions, Endpoint, Export, Gateway, GatewayAt, GatewayPort, IpFamily, Object, ObjectKey, Protocol,
    ServiceKind, SliceName,
};
use portolan_zones::peers::{Forced, Scope as Of, State};
use portolan_zones::policy::Level::{Cluster, Zone};
use portolan_zones::policy::health::{CheckKind, HealthCheck};
use portolan_zones::policy::{Form, Locality, Preference, Rules};
use portolan_zones::{Event, Snapshot};

mod common;

fn follower(sizes: Sizes) -> Follower<Recorder> {
    Follower::new(Recorder::new(sizes), Scope::default(), Some("n1".into()))
}

fn small() -> Follower<Recorder> {
    follower(Sizes::of(64, 128, 256))
}

fn follow(follower: &mut Follower<Recorder>, snapshot: &Arc<Snapshot>) -> (Pass, Vec<Write>) {
    follower.reconciler_mut().tables_mut().take();
    let (pass, rested) = follower.follow(snapshot);
    rested.unwrap();
    (pass, follower.reconciler_mut().tables_mut().take())
}

fn memory(follower: &Follower<Recorder>) -> &Memory {
    &follower.reconciler().tables().memory
}

fn front(memory: &Memory, vip: &str, protocol: Protocol, port: u16) -> Option<u32> {
    let service = *memory.vips.get(&VipKey { address: address(vip) })?;
    memory.ports.get(&PortKey { service, ..port_key(protocol, port) }).copied()
}

/// The share of each backend of TCP port 80, by the words.
fn shares(memory: &Memory, vip: &str, family: usize) -> BTreeMap<(IpAddr, u16), f64> {
    let front = front(memory, vip, Tcp, 80).expect(vip);
    let shares = Spreading::at(memory, front, family).shares;
    let at = |(number, share): (u32, f64)| {
        let backend = memory.backends[&number];
        ((backend.address.into(), backend.port.into()), share)
    };
    shares.into_iter().map(at).collect()
}

fn reached(memory: &Memory, vip: &str, family: usize) -> BTreeSet<String> {
    shares(memory, vip, family).keys().map(|(at, _)| at.to_string()).collect()
}

fn set(addresses: &[&str]) -> BTreeSet<String> {
    addresses.iter().map(|at| (*at).to_owned()).collect()
}

fn tcp_check() -> Option<Arc<HealthCheck>> {
    let (interval, timeout) = (Duration::from_secs(10), Duration::from_secs(2));
    Some(HealthCheck { kind: CheckKind::Tcp, port: None, interval, timeout, rise: 2, fall: 3 }.into())
}

fn by_zone() -> Rules {
    let locality = Some(Locality { order: [Zone, Cluster][..].into(), reach: Preference::Prefer });
    Rules { locality, ..Rules::default() }
}

fn weighted(weights: &[(&str, u32)]) -> Rules {
    Rules { weights: weights.iter().map(|(id, weight)| (cluster(id), *weight)).collect(), ..Rules::default() }
}

/// Service `s` in `a` (zones z1 and z2), `b` (z1) and `c` (IPv4 only).
fn site(rules: Option<Rules>) -> World {
    let mut world = World::new(&["a", "b", "c"]);
    world.node("a", "n1", "z1", [10, 1, 1]).node("a", "n2", "z2", [10, 1, 2]);
    world.node("b", "n1", "z1", [10, 2, 1]).node("c", "n1", "z3", [10, 3, 1]);
    for id in ["a", "b", "c"] {
        world.export(id, "s");
    }
    world.endpoints("a", "s", "v4", &[("10.1.1.1", "n1"), ("10.1.1.2", "n1"), ("10.1.2.1", "n2")]);
    world.endpoints("a", "s", "v6", &[("fd00:1::1", "n1"), ("fd00:1::3", "n2")]);
    world.endpoints("b", "s", "v4", &[("10.2.1.1", "n1"), ("10.2.1.2", "n1")]);
    world.endpoints("b", "s", "v6", &[("fd00:2::1", "n1")]);
    world.endpoints("c", "s", "v4", &[("10.3.1.1", "n1")]);
    world.vips("s", &["10.96.0.1", "fd96::1"]);
    if let Some(rules) = rules {
        world.policy(&["s"], rules);
    }
    world.compile();
    world
}

/// The tables' shares are those of `Snapshot::backends`, for both families and protocols.
fn agrees(follower: &Follower<Recorder>, world: &World, why: &str) {
    let (memory, service) = (memory(follower), world.service("s"));
    for (family, of) in [(0, IpFamily::V4), (1, IpFamily::V6)] {
        let backends = world.snapshot.backends(&service, follower.place(), 0, Some(of));
        assert!(!backends.is_empty(), "{why}");
        for (protocol, port, target) in [(Tcp, 80, 8080), (Udp, 53, 5353)] {
            let front = front(memory, "fd96::1", protocol, port).expect(why);
            let mut got = Spreading::at(memory, front, family).shares;
            for backend in &backends {
                let is_it = |number: &u32| {
                    let there = memory.backends[number];
                    IpAddr::from(there.address) == backend.address && u16::from(there.port) == target
                };
                let number = got.keys().copied().find(is_it);
                let share = number.and_then(|number| got.remove(&number)).unwrap_or_default();
                let part = f64::from(backend.part) / 1_000_000.0;
                assert!(
                    (share - part).abs() < 1.0 / 65_536.0,
                    "{why}: {} has {share}, not {part}",
                    backend.address
                );
            }
            assert!(got.is_empty(), "{why}: {got:?} get something, too");
        }
    }
}

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
    let heads = |vip| memory.fronts[&front(memory, vip, Tcp, 80).unwrap()].heads;
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

#[test]
fn only_addresses_in_scope_are_redirected() {
    for (skip, only, expected) in [
        (&[][..], None, &["10.96.0.1", "10.97.0.1", "fd96::1"][..]),
        (&["10.96.0.0/16"], None, &["10.97.0.1", "fd96::1"]),
        (&[], Some(&["10.96.0.0/15"][..]), &["10.96.0.1", "10.97.0.1"]),
        (&["10.97.0.1/32"], Some(&["10.96.0.0/15"]), &["10.96.0.1"]),
        (&["::/0", "0.0.0.0/0"], None, &[]),
        (&[], Some(&[]), &[]),
    ] {
        let networks = |of: &[&str]| of.iter().map(|network| network.parse().unwrap()).collect::<Vec<_>>();
        let scope = Scope { skip: networks(skip), only: only.map(networks) };
        let mut world = World::new(&["a"]);
        world
            .export("a", "s")
            .endpoints("a", "s", "v4", &[("10.1.1.1", "n1")])
            .vips("s", &["10.96.0.1", "fd96::1"]);
        world.export("a", "t").endpoints("a", "t", "v4", &[("10.1.1.2", "n1")]).vips("t", &["10.97.0.1"]);
        let mut tables = Follower::new(Recorder::new(Sizes::of(8, 8, 8)), scope, None);
        follow(&mut tables, &world.compile());
        let vips = memory(&tables).vips.keys().map(|key| IpAddr::from(key.address).to_string());
        assert_eq!(vips.collect::<BTreeSet<_>>(), set(expected), "skip {skip:?}, only {only:?}");
    }
}

/// Who comes beside the agent, or goes, changes what it redirects: services that it leaves to others, or takes, are written at once,
/// no other is touched, and nobody's sockets are closed for it.
#[test]
fn other_addresses_are_redirected_when_the_scope_changes() {
    let mut world = World::new(&["a"]);
    for (service, at, vips) in [
        ("s", "10.1.1.1", &["10.96.0.1", "fd96::1"][..]),
        ("t", "10.1.1.2", &["10.97.0.1"]),
        ("u", "10.1.1.3", &["241.0.0.1"]),
    ] {
        world.export("a", service).endpoints("a", service, "v4", &[(at, "n1")]).vips(service, vips);
    }
    let mut tables = small();
    follow(&mut tables, &world.compile());
    for (only, expected) in [
        (Some(&["241.0.0.0/8"][..]), &["241.0.0.1"][..]),
        (None, &["10.96.0.1", "10.97.0.1", "241.0.0.1", "fd96::1"]),
        (Some(&["241.0.0.0/8", "10.96.0.0/16"]), &["10.96.0.1", "241.0.0.1"]),
    ] {
        let only = only.map(|of| of.iter().map(|network| network.parse().unwrap()).collect());
        tables.reconciler_mut().tables_mut().take();
        let (pass, rested) = tables.rescope(Scope { skip: Vec::new(), only });
        rested.unwrap();
        let lost: Vec<_> = pass.lost.iter().map(|lost| lost.backend).collect();
        assert_eq!((pass.services, lost), (3, Vec::new()), "{expected:?}");
        let vips: BTreeSet<_> = tables.reconciler().vips().map(|(vip, _)| vip.to_string()).collect();
        assert_eq!(vips, set(expected));
        let untouched = front(memory(&tables), "241.0.0.1", Tcp, 80).unwrap();
        assert!(!rewritten(&tables.reconciler_mut().tables_mut().take()).contains(&untouched));
    }
}

/// Addresses that every host has for itself are left alone, whatever an import says: programs that talk to their own host would
/// end elsewhere.
#[test]
fn what_every_host_has_is_no_virtual_ip() {
    let special = [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
    ];
    for vip in special {
        let mut world = World::new(&["a"]);
        world.export("a", "s").endpoints("a", "s", "v4", &[("10.1.1.1", "n1")]);
        world.vips("s", &[vip, "10.96.0.1"]);
        let mut tables = small();
        follow(&mut tables, &world.compile());
        let vips: Vec<_> = tables.reconciler().vips().map(|(vip, _)| vip.to_string()).collect();
        assert_eq!(vips, ["10.96.0.1"], "{vip}");
    }
}

/// Fronts whose spread was written.
fn rewritten(writes: &[Write]) -> BTreeSet<u32> {
    let front = |write: &Write| match write {
        Write::Head(front, ..) => Some(*front),
        _ => None,
    };
    writes.iter().filter_map(front).collect()
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
    let of = |protocol, port| front(memory(&tables), "10.96.0.1", protocol, port).unwrap();
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

/// Twenty services in `a` and `b`, with health checks.
fn twenty(rules: Rules) -> (World, Vec<String>) {
    let mut world = World::new(&["a", "b"]);
    let services: Vec<String> = (1..=20).map(|i| format!("s{i:02}")).collect();
    for (i, service) in (1..).zip(&services) {
        for (id, octet) in [("a", 1), ("b", 2)] {
            world.export(id, service);
            world.endpoints(id, service, "v4", &[(&format!("10.{octet}.0.{i}"), "n1")]);
        }
        world.vips(service, &[&format!("10.96.0.{i}")]);
    }
    let names: Vec<&str> = services.iter().map(String::as_str).collect();
    world.policy(&names, rules);
    world.compile();
    (world, services)
}

fn down(id: &str, state: State) -> Event {
    Event::Force([Forced { cluster: cluster(id), of: Of::All, state }].into())
}

fn is_visible(write: &Write) -> bool {
    !matches!(write, Write::Slot(..) | Write::Backend(..) | Write::Front(..))
}

/// A cluster that is gone as a whole is out of all services by one word, before the first of them is written anew; and that word
/// does not stay.
#[test]
fn a_cluster_that_goes_down_is_out_at_once() {
    let (mut world, _) = twenty(Rules::default());
    let mut tables = small();
    follow(&mut tables, &world.snapshot);
    world.hear(down("b", State::Down));
    let (pass, writes) = follow(&mut tables, &world.compile());
    assert_eq!((pass.services, pass.down), (20, vec![cluster("b")]));
    let visible: Vec<&Write> = writes.iter().filter(|write| is_visible(write)).collect();
    let Write::Cluster(number, true) = visible[0] else { panic!("{:?}", visible[0]) };
    assert_eq!(writes.last(), Some(&Write::Cluster(*number, false)), "when nothing leads there any more");
    assert_eq!(rewritten(&writes).len(), 40);
    let memory = memory(&tables);
    assert!(memory.down.is_empty());
    assert_eq!(reached(memory, "10.96.0.20", 0), set(&["10.1.0.20"]));

    world.hear(Event::Force(Box::default()));
    let (pass, _) = follow(&mut tables, &world.compile());
    assert_eq!(pass.down, []);
    let memory = &tables.reconciler().tables().memory;
    assert_eq!(reached(memory, "10.96.0.20", 0), set(&["10.1.0.20", "10.2.0.20"]));
}

/// One service that still has something usable there is a reason to take nothing out; and so are few services.
#[test]
fn a_cluster_that_is_used_still_is_not_out() {
    let (mut world, services) = twenty(Rules::default());
    let mut tables = small();
    follow(&mut tables, &world.snapshot);
    for service in &services[1..] {
        world.delete("b", ObjectKey::Slice(SliceName::new("n", &format!("{service}-v4"))));
    }
    let (pass, writes) = follow(&mut tables, &world.compile());
    assert_eq!((pass.services, pass.down), (19, vec![]));
    assert!(!writes.iter().any(|write| matches!(write, Write::Cluster(..))));
    assert_eq!(reached(memory(&tables), "10.96.0.1", 0), set(&["10.1.0.1", "10.2.0.1"]));
    assert_eq!(reached(memory(&tables), "10.96.0.2", 0), set(&["10.1.0.2"]));
    world.delete("b", ObjectKey::Slice(SliceName::new("n", "s01-v4")));
    let (pass, _) = follow(&mut tables, &world.compile());
    assert_eq!(pass.down, [], "one service is written as fast as a word");
}

/// Where nothing is healthy health is ignored: nothing may be out then, not for a moment either.
#[test]
fn clusters_that_serve_although_nothing_is_healthy_are_not_out() {
    let (mut world, services) = twenty(Rules { health_check: tcp_check(), ..Rules::default() });
    let mut tables = small();
    follow(&mut tables, &world.snapshot);
    let all: Vec<String> = (1..=20).flat_map(|i| [format!("10.1.0.{i}"), format!("10.2.0.{i}")]).collect();
    world.unhealthy(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let (pass, writes) = follow(&mut tables, &world.compile());
    let usable = services
        .iter()
        .map(|service| world.snapshot.usable(&world.service(service), 0).count())
        .sum::<usize>();
    assert_eq!((pass.services, usable), (20, 0));
    assert_eq!(pass.down, []);
    assert!(!writes.iter().any(|write| matches!(write, Write::Cluster(..))));
    assert_eq!(reached(memory(&tables), "10.96.0.1", 0), set(&["10.1.0.1", "10.2.0.1"]));
}

/// A connected UDP socket hears nothing of a backend that is gone: those are told. Whoever still serves is not: its sockets may
/// go on.
#[test]
fn udp_backends_that_are_not_usable_are_lost() {
    let lost = |pass: &Pass| {
        let one = |lost: &portolan_ebpf::reconcile::Lost| {
            assert_eq!((lost.protocol, lost.port, lost.backend.1), (Udp, 53, 5353));
            assert_eq!(lost.vips, ["10.96.0.1", "fd96::1"].map(|vip| vip.parse::<IpAddr>().unwrap()));
            lost.backend.0.to_string()
        };
        pass.lost.iter().map(one).collect::<BTreeSet<_>>()
    };
    let rules = Rules { health_check: tcp_check(), ..Rules::default() };
    let (mut world, mut tables) = (site(Some(rules.clone())), small());
    follow(&mut tables, &world.snapshot);

    world.unhealthy(&["10.1.1.1"]);
    let (pass, _) = follow(&mut tables, &world.compile());
    assert_eq!(lost(&pass), set(&["10.1.1.1"]), "unhealthy");

    world.endpoints("b", "s", "v4", &[("10.2.1.1", "n1")]);
    let (pass, _) = follow(&mut tables, &world.compile());
    assert_eq!(lost(&pass), set(&["10.2.1.2"]), "gone");

    let ending = Conditions { ready: false, serving: true, terminating: true };
    let endpoint = Endpoint {
        address: "10.3.1.1".parse().unwrap(),
        conditions: ending,
        identity: 1,
        hostname: None,
        place: None,
    };
    world.slice("c", "s", "v4", [endpoint].into());
    let (pass, _) = follow(&mut tables, &world.compile());
    assert_eq!(lost(&pass), set(&["10.3.1.1"]), "terminating");

    world.policy(&["s"], Rules { health_check: tcp_check(), ..weighted(&[("b", 0)]) });
    let (pass, _) = follow(&mut tables, &world.compile());
    assert!(!reached(memory(&tables), "10.96.0.1", 0).contains("10.2.1.1"));
    assert_eq!(lost(&pass), set(&[]), "by weight: it serves whom it has");

    for id in ["a", "b", "c"] {
        world.withdraw(id, "s");
    }
    let (pass, _) = follow(&mut tables, &world.compile());
    let all = ["10.1.1.2", "10.1.2.1", "10.2.1.1", "fd00:1::1", "fd00:1::3", "fd00:2::1"];
    assert_eq!(lost(&pass), set(&all), "with its service, those without new clients, too");
    assert_eq!(tables.reconciler().services(), 0);
}

/// Backends that sockets lose in a pass, each with the address that they were connected to.
fn lost(pass: &Pass) -> BTreeSet<String> {
    let of = |lost: &portolan_ebpf::reconcile::Lost| {
        let backend = lost.backend.0;
        lost.vips.iter().map(|vip| format!("{vip} {backend}")).collect::<Vec<_>>()
    };
    pass.lost.iter().flat_map(of).collect()
}

/// A UDP socket at port 53 of a virtual IP that went to a backend.
fn origin(vip: &str, backend: (&str, u16)) -> Origin {
    Origin {
        vip: address(vip),
        backend: address(backend.0),
        vip_port: 53.into(),
        backend_port: backend.1.into(),
        pad: 0,
    }
}

/// Where nothing is healthy, health is ignored: it may be the way of the probes that is broken, and connections go where they went.
/// So do sockets.
#[test]
fn sockets_stay_when_health_is_ignored() {
    let rules = Rules { health_check: tcp_check(), ..Rules::default() };
    let (mut world, mut tables) = (site(Some(rules)), small());
    follow(&mut tables, &world.snapshot);
    let v4 = ["10.1.1.1", "10.1.1.2", "10.1.2.1", "10.2.1.1", "10.2.1.2", "10.3.1.1"];
    let all = [&v4[..], &["fd00:1::1", "fd00:1::3", "fd00:2::1"]].concat();
    world.unhealthy(&all);
    let (pass, _) = follow(&mut tables, &world.compile());
    assert_eq!(pass.services, 1);
    assert_eq!(reached(memory(&tables), "10.96.0.1", 0), set(&v4), "they are used all the same");
    assert_eq!(lost(&pass), set(&[]));
    let left = tables.left_behind(v4.into_iter().map(|at| origin("10.96.0.1", (at, 5353))));
    assert_eq!(left, []);
    let left = tables.left_behind([origin("10.96.0.1", ("10.1.1.1", 5354))].into_iter());
    assert_eq!(left.len(), 1, "no backend has that port");

    // Some are well again, and health is heeded.
    world.unhealthy(&["10.1.1.1"]);
    let (pass, _) = follow(&mut tables, &world.compile());
    assert_eq!(lost(&pass), set(&["10.96.0.1 10.1.1.1", "fd96::1 10.1.1.1"]));
    assert_eq!(tables.left_behind([origin("10.96.0.1", ("10.1.1.1", 5353))].into_iter()).len(), 1);
}

/// Rules that answer gateways go to them, flat network or not: they are what sockets may stay with.
#[test]
fn sockets_stay_with_gateways_that_rules_want() {
    let mut world = World::new(&["a", "b"]);
    let ports = [(Tcp, 80, 30_080), (Udp, 53, 30_053)];
    let port = |(protocol, number, gateway)| GatewayPort { protocol, number, gateway };
    let at = GatewayAt::Addresses(["192.0.2.7".parse().unwrap()].into());
    let gateway = Gateway { at, ports: ports.map(port).into() };
    world.export("a", "s").endpoints("a", "s", "v4", &[("10.1.1.1", "n1")]);
    world.export("b", "s").endpoints("b", "s", "v4", &[("10.2.1.1", "n1"), ("10.2.1.2", "n1")]);
    let export =
        Export { name: name("s"), created: 1, exported: None, gateway: Some(gateway.into()), state: None };
    world.apply("b", Object::Export(export)).vips("s", &["10.96.0.1"]);
    world.policy(&["s"], Rules { answer: Form::Gateways, ..Rules::default() });
    let mut tables = small();
    follow(&mut tables, &world.compile());
    assert_eq!(reached(memory(&tables), "10.96.0.1", 0), set(&["192.0.2.7"]));
    let there = |tables: &Follower<Recorder>| {
        tables.left_behind([origin("10.96.0.1", ("192.0.2.7", 30_053))].into_iter())
    };
    assert_eq!(there(&tables), []);
    world.endpoints("b", "s", "v4", &[("10.2.1.1", "n1")]);
    let (pass, _) = follow(&mut tables, &world.compile());
    assert_eq!((pass.services, lost(&pass)), (1, set(&[])), "the gateway is there still");
    world.endpoints("b", "s", "v4", &[]);
    let (pass, _) = follow(&mut tables, &world.compile());
    assert_eq!(lost(&pass), set(&["10.96.0.1 192.0.2.7"]), "nothing is behind it");
}

/// An address that a service has no more is another's, or nobody's: its sockets do not stay with the former one's backends, and
/// those of the addresses that it keeps do.
#[test]
fn sockets_of_an_address_that_leaves_a_service_are_lost() {
    for (why, unhealthy) in [("well", false), ("used although it is not well", true)] {
        let mut world = World::new(&["a"]);
        for (service, at) in [("s1", "10.1.1.1"), ("s2", "10.1.1.2")] {
            world.export("a", service).endpoints("a", service, "v4", &[(at, "n1")]);
        }
        world.policy(&["s1"], Rules { health_check: tcp_check(), ..Rules::default() });
        world.vips("s1", &["10.96.0.1", "10.96.0.3"]).vips("s2", &["10.96.0.2"]);
        let mut tables = small();
        follow(&mut tables, &world.compile());
        if unhealthy {
            world.unhealthy(&["10.1.1.1"]);
            let (pass, _) = follow(&mut tables, &world.compile());
            assert_eq!(lost(&pass), set(&[]), "{why}");
        }
        world.vips("s1", &["10.96.0.3"]).vips("s2", &["10.96.0.1", "10.96.0.2"]);
        let (pass, _) = follow(&mut tables, &world.compile());
        assert_eq!(lost(&pass), set(&["10.96.0.1 10.1.1.1"]), "{why}");
    }
}

/// Who redirects an address from now on knows nothing of sockets that were redirected before: they are looked after until they are
/// closed.
#[test]
fn sockets_of_addresses_that_others_redirect_are_lost_with_their_backend() {
    let (mut world, mut tables) = (site(None), small());
    follow(&mut tables, &world.snapshot);
    let (pass, _) = tables.rescope(Scope { skip: Vec::new(), only: Some(Vec::new()) });
    assert_eq!((tables.reconciler().services(), lost(&pass)), (0, set(&[])), "they go on");
    world.endpoints("b", "s", "v4", &[("10.2.1.1", "n1")]);
    let (pass, _) = follow(&mut tables, &world.compile());
    assert_eq!(lost(&pass), set(&["10.96.0.1 10.2.1.2", "fd96::1 10.2.1.2"]));
}

/// An address that goes from one service to another in a pass, or two that change places, lead to one of the two after each single
/// write, whichever goes first: connections made meanwhile don't fail.
#[test]
fn an_address_that_moves_is_never_nobodys() {
    for (why, from, to) in [
        ("s2 comes, s1 goes", &[("s1", "10.96.0.1")][..], &[("s2", "10.96.0.1")][..]),
        ("s1 comes, s2 goes", &[("s2", "10.96.0.1")], &[("s1", "10.96.0.1")]),
        ("to s2, which is there", &[("s1", "10.96.0.1"), ("s2", "10.96.0.2")], &[("s2", "10.96.0.1")]),
        ("from s1, which stays", &[("s1", "10.96.0.1")], &[("s1", "10.96.0.2"), ("s2", "10.96.0.1")]),
        ("from s2, which stays", &[("s2", "10.96.0.1")], &[("s2", "10.96.0.2"), ("s1", "10.96.0.1")]),
        (
            "they change places",
            &[("s1", "10.96.0.1"), ("s2", "10.96.0.2")],
            &[("s1", "10.96.0.2"), ("s2", "10.96.0.1")],
        ),
        (
            "three in a circle",
            &[("s1", "10.96.0.1"), ("s2", "10.96.0.2"), ("s3", "10.96.0.3")],
            &[("s1", "10.96.0.2"), ("s2", "10.96.0.3"), ("s3", "10.96.0.1")],
        ),
    ] {
        let mut world = World::new(&["a"]);
        let say = |world: &mut World, services: &[(&str, &str)]| {
            // An address is one service's at a time.
            for service in ["s1", "s2", "s3"] {
                world.vips(service, &[]);
            }
            for service in ["s1", "s2", "s3"] {
                match services.iter().find(|(its, _)| *its == service) {
                    Some((_, vip)) => {
                        world.export("a", service).vips(service, &[vip]);
                        let at = format!("10.1.1.{}", &service[1..]);
                        world.endpoints("a", service, "v4", &[(&at, "n1")]);
                    }
                    None => drop(world.withdraw("a", service)),
                }
            }
            world.compile()
        };
        // No room to spare: what goes makes it.
        let mut tables = follower(Sizes { vips: 3, ..Sizes::of(6, 12, 12) });
        let (_, writes) = follow(&mut tables, &say(&mut world, from));
        let mut memory = Memory::new(Sizes::of(6, 12, 12));
        writes.iter().for_each(|write| write.perform(&mut memory));
        let (_, writes) = follow(&mut tables, &say(&mut world, to));
        let both = |(_, vip): &&(&str, &str)| from.iter().any(|(_, before)| before == vip);
        for write in &writes {
            write.perform(&mut memory);
            for (_, vip) in to.iter().filter(both) {
                let end = memory.walk((address(vip), port_key(Tcp, 80)), 0, 7);
                assert!(matches!(end, Ok(Some(_))), "{why}: {vip} leads to {end:?} after {write:?}");
            }
        }
        for (service, vip) in to {
            let at = format!("10.1.1.{}", &service[1..]);
            assert_eq!(reached(&memory, vip, 0), set(&[&at]), "{why}: {vip}");
        }
        assert_eq!(memory.vips.len(), to.len(), "{why}: what nobody took over is nobody's");
        assert!(tables.reconciler().refused().is_empty(), "{why}");
    }
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

/// What an agent did not live to see: backends that ended, and services that did. A service that may only be unknown yet is given
/// time.
#[test]
fn sockets_are_left_behind_by_backends_and_by_services() {
    let origin = |vip: &str, backend: &str| origin(vip, (backend, 5353));
    let origins =
        [origin("10.96.0.1", "10.1.1.1"), origin("10.96.0.1", "10.1.1.99"), origin("10.96.0.77", "10.1.1.1")];
    let mut world = site(None);
    let mut tables = small();
    follow(&mut tables, &world.snapshot);
    let left = |tables: &Follower<Recorder>| -> Vec<(String, String)> {
        let lost = tables.left_behind(origins.into_iter()).into_iter();
        lost.map(|lost| (lost.vips[0].to_string(), lost.backend.0.to_string())).collect()
    };
    let of = |vip: &str, backend: &str| (vip.to_owned(), backend.to_owned());
    assert_eq!(left(&tables), [of("10.96.0.1", "10.1.1.99"), of("10.96.0.77", "10.1.1.1")]);
    world.hear(Event::Expect(
        [cluster("a"), cluster("b"), cluster("c"), cluster("late")].into_iter().collect(),
    ));
    world.endpoints("a", "s", "more", &[("10.1.1.3", "n1")]);
    follow(&mut tables, &world.compile());
    assert!(!tables.seen().complete);
    assert_eq!(left(&tables), [of("10.96.0.1", "10.1.1.99")]);
}

/// What found no room is written as soon as there is some, in the same pass if it is that which makes it.
#[test]
fn what_was_refused_is_written_when_there_is_room() {
    let mut world = World::new(&["a"]);
    for i in 1..=3 {
        let service = format!("s{i}");
        world.export("a", &service).endpoints("a", &service, "v4", &[(&format!("10.1.1.{i}"), "n1")]);
        world.vips(&service, &[&format!("10.96.0.{i}")]);
    }
    let mut tables = follower(Sizes { vips: 2, ..Sizes::of(8, 8, 8) });
    follow(&mut tables, &world.compile());
    assert_eq!(tables.reconciler().refused().keys().collect::<Vec<_>>(), [&name("s3")]);
    // Nothing changes: it is still told.
    follow(&mut tables, &world.compile());
    assert_eq!(tables.reconciler().refused().len(), 1);

    world.withdraw("a", "s1");
    follow(&mut tables, &world.compile());
    assert!(tables.reconciler().refused().is_empty());
    assert_eq!(reached(memory(&tables), "10.96.0.3", 0), set(&["10.1.1.3"]));
    assert_eq!(front(memory(&tables), "10.96.0.1", Tcp, 80), None);
}

/// A port has 65,536 backends in a cluster at most, and 256 clusters. What is left out is told as long as it is.
#[test]
fn more_backends_than_a_port_can_have() {
    let mut world = World::new(&["a"]);
    world.export("a", "s").vips("s", &["10.96.0.1"]);
    let endpoint = |i: u32| Endpoint {
        address: IpAddr::from((0x0a01_0000 + i).to_be_bytes()),
        conditions: Conditions::READY,
        identity: i,
        hostname: None,
        place: None,
    };
    world.slice("a", "s", "v4", (0..70_000).map(endpoint).collect());
    let mut tables = follower(Sizes::of(1, 2, 140_000));
    follow(&mut tables, &world.compile());
    let told = "8928 backends are left out: a port has at most 256 clusters, and 65536 backends in each";
    for _ in 0..2 {
        let refused = tables.reconciler().refused().get(&name("s")).map(ToString::to_string);
        assert_eq!(refused.as_deref(), Some(told), "of two ports 4,464 each");
        follow(&mut tables, &world.compile());
    }
    assert_eq!(reached(memory(&tables), "10.96.0.1", 0).len(), 65_536);
}

#[test]
fn more_clusters_than_a_port_can_have() {
    for (count, told) in [
        (256, None),
        (257, Some("2 backends are left out: a port has at most 256 clusters, and 65536 backends in each")),
    ] {
        let ids: Vec<String> =
            std::iter::once("a".to_owned()).chain((1..count).map(|i| format!("c{i}"))).collect();
        let mut world = World::new(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        for (i, id) in ids.iter().enumerate() {
            world.export(id, "s").endpoints(id, "s", id, &[(&format!("10.1.{}.{}", i / 256, i % 256), "n1")]);
        }
        world.vips("s", &["10.96.0.1"]);
        let mut tables = follower(Sizes::of(1, 2, 1000));
        follow(&mut tables, &world.compile());
        let refused = tables.reconciler().refused().get(&name("s")).map(ToString::to_string);
        assert_eq!(refused.as_deref(), told, "of {count} clusters, for two ports");
        let shares = shares(memory(&tables), "10.96.0.1", 0);
        assert_eq!(shares.len(), 256);
        assert!((shares.values().sum::<f64>() - 1.0).abs() < 1e-9);
    }
}
