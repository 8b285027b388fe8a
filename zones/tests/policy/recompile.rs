//! What is made anew when something changes, and what is not.

use std::sync::Arc;

use portolan_zones::object::*;
use portolan_zones::policy::Level::{Node, Zone};
use portolan_zones::policy::Preference::Pin;
use portolan_zones::policy::{Attached, PolicyName, Rules, Source, Target};
use portolan_zones::{Change, Service};

use crate::common::*;
use crate::site::*;

const A1: &str = "10.1.1.200";
const A2: &str = "10.1.2.200";

fn sites() -> [Site; 2] {
    [site("a").node("n1", "z1", 1, 1).node("n2", "z2", 1, 1), site("b").node("n1", "z1", 1, 1)]
}

/// Services `s`, `t` and `u`, of which `s` and `t` are steered.
fn three_services() -> World {
    let mut world = world(&sites(), by(&[Zone], Pin));
    for site in sites() {
        for service in ["t", "u"] {
            for object in site.objects(service, ServiceKind::ClusterIp, http()) {
                world.apply(site.id, object);
            }
        }
    }
    world.apply("a", policy("pt", 1, imports(&["t"]), by(&[Node], Pin)));
    world.compile();
    world
}

fn get(world: &World, service: &str) -> Arc<Service> {
    world.snapshot.services.get(&[b"\x01", service.as_bytes(), b"\x01n"].concat()).unwrap().clone()
}

/// Compiles, and says which services differ; all others are not only equal but the same.
fn changed(world: &mut World) -> String {
    let before = world.snapshot.clone();
    world.compile();
    let diff = world.snapshot.diff(&before);
    let names: Vec<&str> = diff.services.iter().map(|service| service.name().unwrap().name()).collect();
    for service in before.services.iter().filter(|service| !names.contains(&service.name.name())) {
        assert!(Arc::ptr_eq(service, &get(world, service.name.name())), "{} was made anew", service.name);
    }
    names.join(" ")
}

/// A policy touches what it is about, and what it was about before.
#[test]
fn a_policy_touches_its_services() {
    let mut world = three_services();
    let ttl = |ttl| Rules { ttl: Some(ttl), ..by(&[Zone], Pin) };
    for (object, expected) in [
        (policy("p", 1, imports(&["s"]), ttl(1)), "s"),
        (policy("p", 1, imports(&["s"]), ttl(1)), ""),
        (policy("p", 1, imports(&["u"]), ttl(1)), "s u"),
        (policy("p", 1, exports(&["s"]), ttl(1)), "s u"),
        (policy("p", 1, Target::Namespace, ttl(2)), "s u"),
        (policy("p", 1, Target::ClusterSet, ttl(2)), "s u"),
        (policy("q", 2, imports(&["t"]), ttl(2)), ""),
        (policy("pt", 3, imports(&["t"]), ttl(3)), "t"),
    ] {
        world.apply("a", object.clone());
        assert_eq!(changed(&mut world), expected, "{object:?}");
    }
    world.say("a", Change::Delete(ObjectKey::Policy(PolicyName::new("n", "p"))));
    assert_eq!(changed(&mut world), "s u");
}

/// An endpoint that becomes ready or not touches one service, and its answers at once.
#[test]
fn readiness_touches_one_service() {
    let mut world = three_services();
    let mut site = sites()[0].clone();
    site.nodes[0].ready = 0;
    world.apply("a", site.slice("s"));
    assert_eq!(changed(&mut world), "s");
    assert_eq!(reached(&world, A1), "b1");
    site.nodes[0].ready = 1;
    world.apply("a", site.slice("s"));
    assert_eq!(changed(&mut world), "s");
    assert_eq!(reached(&world, A1), "a1 b1");
}

/// A Node that moves takes its clients along, and the endpoints that are where it is; services that nothing steers stay as
/// they are.
#[test]
fn a_node_that_moves_takes_its_endpoints_along() {
    let sites = sites().map(Site::zones_by_nodes_only);
    let mut world = world(&sites, by(&[Zone], Pin));
    for object in sites[0].objects("u", ServiceKind::Headless, http()) {
        world.apply("a", object);
    }
    world.compile();
    assert_eq!((reached(&world, A1), reached(&world, A2)), ("a1 b1".to_owned(), "a2".to_owned()));
    let unsteered = get(&world, "u");
    for (az, first, second) in [("z2", "a1 a2", "a1 a2"), ("z3", "a1", "a2"), ("z1", "a1 b1", "a2")] {
        let moved = site("a").node("n1", az, 1, 1);
        for node in moved.node_objects() {
            world.apply("a", node);
        }
        world.compile();
        assert_eq!((reached(&world, A1), reached(&world, A2)), (first.to_owned(), second.to_owned()), "{az}");
        assert!(Arc::ptr_eq(&get(&world, "u"), &unsteered));
    }
    world.say("a", Change::Delete(ObjectKey::Node("n1".into()))).compile();
    assert_eq!(reached(&world, A1), "", "nobody knows where that is");
}

/// Nodes may be listed after all else, also where the only policy is what an import tells of, and endpoints of others are
/// the home cluster's copies.
#[test]
fn nodes_may_come_last() {
    let mut world = World::new(&["clusterset.local"], &["a"]);
    let source = Source::Export(cluster("b"), PolicyName::new("n", "p"));
    let attached = Attached { rules: by(&[Zone], Pin).into(), source, created: None };
    let Object::Import(import) = import("n", "s", 1, &["10.9.9.9"]) else { unreachable!() };
    let clusters = ["a", "b"].map(cluster).into();
    let import = Import { clusters, spec: http().into(), policy: Some(attached.into()), ..import };
    let [a, b] = sites().map(Site::zones_by_nodes_only);
    world.home("a").reset("a", vec![Object::Import(import)]);
    world.apply("a", mirrored(a.slice("s"), "a")).apply("a", mirrored(b.slice("s"), "b"));
    world.compile();
    assert_eq!(reached(&world, A1), "", "no place is known");
    for node in a.node_objects() {
        world.apply("a", node);
    }
    world.compile();
    assert_eq!(reached(&world, A1), "a1");
    for node in b.node_objects() {
        world.apply("b", node);
    }
    world.compile();
    assert_eq!(reached(&world, A1), "a1 b1");
    for node in site("b").node("n1", "z2", 0, 0).node_objects() {
        world.apply("b", node);
    }
    world.compile();
    assert_eq!((reached(&world, A1), reached(&world, A2)), ("a1".to_owned(), "a2 b1".to_owned()));
}

/// Who follows by diffs knows what the first one knows, where clients are too.
#[test]
fn a_patch_takes_places_along() {
    let mut world = world(&sites(), by(&[Zone], Pin));
    let before = world.snapshot.clone();
    for node in site("a").node("n9", "z2", 0, 0).node_objects() {
        world.apply("a", node);
    }
    world.say("a", Change::Delete(ObjectKey::Node("n1".into()))).compile();
    let patched = before.patched(&world.snapshot.diff(&before));
    for client in [A1, A2, "10.2.1.200", "192.0.2.1"] {
        let answers = [&world.snapshot, &patched].map(|snapshot| told(snapshot, NAME, client, 0));
        assert_eq!(answers[0], answers[1], "{client}");
    }
}
