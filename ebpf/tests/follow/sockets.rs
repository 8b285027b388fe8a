//! Connected UDP sockets hear nothing of backends that are gone: which of them wait in vain.

use std::collections::BTreeSet;
use std::net::IpAddr;

use portolan_ebpf::abi::Origin;
use portolan_ebpf::follow::{Follower, Pass, Scope};
use portolan_zones::Event;
use portolan_zones::object::Protocol::{Tcp, Udp};
use portolan_zones::object::{Conditions, Endpoint, Export, Gateway, GatewayAt, GatewayPort, Object};
use portolan_zones::policy::{Form, Rules};

use crate::common::world::World;
use crate::common::*;
use crate::site::*;

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
