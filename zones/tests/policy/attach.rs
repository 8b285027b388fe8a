//! Which policy holds for a service, and what becomes of the others.

use std::sync::Arc;

use portolan_zones::object::*;
use portolan_zones::policy::{Attached, PolicyName, Rules, Source, Target};
use portolan_zones::{Change, Event, Hearing};

use crate::common::*;
use crate::site::*;

/// Exporters `b` (the oldest) and `c` of `n/s`, and `home`, which asks.
fn clusterset() -> World {
    let mut world = World::new(&["clusterset.local"], &["home", "b", "c"]);
    world.home("home").reset("home", Vec::new());
    for id in ["b", "c"] {
        world.reset(id, site(id).node("n1", "z1", 1, 1).objects("s", ServiceKind::ClusterIp, http()));
    }
    world
}

fn ttl(ttl: u32) -> Rules {
    Rules { ttl: Some(ttl), ..rules() }
}

/// `namespace/name` of who holds, with the TTL that a client is told.
fn holds(world: &mut World) -> String {
    world.compile();
    let service = world.snapshot.services.get(b"\x01s\x01n").unwrap();
    let Some(policy) = &service.policy else { return "none".into() };
    let (_, chosen) = told(&world.snapshot, NAME, "192.0.2.1", 0);
    format!("{}: {}", policy.source, chosen.unwrap().ttl.unwrap())
}

fn delete(world: &mut World, cluster: &str, policy: &str) {
    world.say(cluster, Change::Delete(ObjectKey::Policy(PolicyName::new("n", policy))));
}

/// The most specific one alone holds; when it goes, the next one does.
#[test]
fn from_the_import_to_the_clusterset() {
    let mut world = clusterset();
    assert_eq!(holds(&mut world), "none");
    let steps = [
        ("home", "set", Target::ClusterSet, 1, "TrafficPolicy n/set, about all services: 1"),
        ("home", "space", Target::Namespace, 2, "TrafficPolicy n/space, about the namespace: 2"),
        ("c", "young", exports(&["s"]), 3, "TrafficPolicy n/young of c, about its export: 3"),
        ("b", "old", exports(&["s"]), 4, "TrafficPolicy n/old of b, about its export: 4"),
        ("home", "own", imports(&["s"]), 5, "TrafficPolicy n/own, about the import: 5"),
    ];
    let mut expected = vec!["none"];
    for (cluster, name, target, seconds, says) in &steps {
        world.apply(cluster, policy(name, 100, target.clone(), ttl(*seconds)));
        assert_eq!(holds(&mut world), *says);
        expected.push(says);
    }
    for (cluster, name, ..) in steps.iter().rev() {
        delete(&mut world, cluster, name);
        expected.pop();
        assert_eq!(holds(&mut world), *expected.last().unwrap(), "without {name}");
    }
}

/// The order in which policies come doesn't matter, only what they are about.
#[test]
fn the_general_one_may_come_last() {
    let mut world = clusterset();
    world.apply("home", policy("own", 9, imports(&["s"]), ttl(5)));
    world.apply("b", policy("old", 1, exports(&["s"]), ttl(4)));
    world.apply("home", policy("set", 1, Target::ClusterSet, ttl(1)));
    assert_eq!(holds(&mut world), "TrafficPolicy n/own, about the import: 5");
}

/// An export that is gone takes its policy along: it speaks no more for the service.
#[test]
fn who_exports_no_more_has_no_say() {
    let mut world = clusterset();
    world.apply("b", policy("old", 1, exports(&["s"]), ttl(4)));
    world.apply("c", policy("young", 1, exports(&["s"]), ttl(3)));
    assert_eq!(holds(&mut world), "TrafficPolicy n/old of b, about its export: 4");
    world.say("b", Change::Delete(ObjectKey::Export(name("n", "s"))));
    assert_eq!(holds(&mut world), "TrafficPolicy n/young of c, about its export: 3");
    let accepted = [(cluster("c"), ["other".to_owned()].into())].into();
    world.apply("b", export("n", "s", 2));
    delete(&mut world, "b", "old");
    assert_eq!(holds(&mut world), "TrafficPolicy n/young of c, about its export: 3");
    world.table.apply(Event::Accept(accepted));
    assert_eq!(holds(&mut world), "none", "c may not speak for the namespace");
}

/// What another cluster says of imports, namespaces or all services is for its own clients; an export's policy that is no
/// export's is for nobody.
#[test]
fn others_have_a_say_about_their_exports_only() {
    let mut world = clusterset();
    world.apply("b", policy("p1", 1, imports(&["s"]), ttl(1)));
    world.apply("b", policy("p2", 1, Target::Namespace, ttl(2)));
    world.apply("b", policy("p3", 1, Target::ClusterSet, ttl(3)));
    world.apply("home", policy("p4", 1, exports(&["s"]), ttl(4)));
    world.apply("b", policy("p5", 1, exports(&["t"]), ttl(5)));
    assert_eq!(holds(&mut world), "none");
    world.home("b");
    assert_eq!(holds(&mut world), "TrafficPolicy n/p1, about the import: 1", "clients of b");
}

/// A policy of another namespace is not about this one's services, whatever it names.
#[test]
fn a_namespace_is_a_border() {
    let mut world = clusterset();
    for target in [imports(&["s"]), exports(&["s"]), Target::Namespace] {
        let Object::Policy(foreign) = policy("p", 1, target, ttl(1)) else { unreachable!() };
        for id in ["home", "b"] {
            let foreign =
                portolan_zones::policy::Policy { name: PolicyName::new("m", "p"), ..foreign.clone() };
            world.apply(id, Object::Policy(foreign));
        }
        assert_eq!(holds(&mut world), "none");
    }
}

/// `cluster namespace/name: problem` of each.
fn overridden(world: &World) -> Vec<String> {
    let mut all: Vec<String> = world
        .table
        .overridden_policies()
        .map(|(cluster, name, problem)| format!("{cluster} {name}: {problem}"))
        .collect();
    all.sort();
    all
}

/// Of two about the same the older one holds, ties by name, in whatever order they came; the other says so.
#[test]
fn the_older_of_two_holds() {
    let cases = [
        (("x", 5), ("y", 4), "y"),
        (("x", 4), ("y", 5), "x"),
        (("y", 5), ("x", 5), "x"),
        (("x", 5), ("y", 5), "x"),
    ];
    for ((first, first_created), (second, second_created), expected) in cases {
        let mut world = clusterset();
        let about = || policy(first, first_created, imports(&["s", "t"]), ttl(1));
        world.apply("home", about());
        world.apply("home", policy(second, second_created, imports(&["s"]), ttl(2)));
        let holds_now = holds(&mut world);
        assert!(holds_now.starts_with(&format!("TrafficPolicy n/{expected},")), "{holds_now}");
        let other = if expected == "x" { "y" } else { "x" };
        let says = format!(
            "home n/{other}: TrafficPolicy n/{expected} is about the same ServiceImport n/s and older: it holds, delete one of them"
        );
        assert_eq!(overridden(&world), [says]);
        delete(&mut world, "home", expected);
        let holds_now = holds(&mut world);
        assert!(holds_now.starts_with(&format!("TrafficPolicy n/{other},")), "{holds_now}");
        assert_eq!(overridden(&world), [""; 0]);
    }
}

/// A policy may change its mind: what it was about before is free again.
#[test]
fn a_policy_that_turns_to_another_service() {
    let mut world = clusterset();
    world.apply("home", policy("p", 1, imports(&["s"]), ttl(1)));
    world.apply("home", policy("q", 2, Target::Namespace, ttl(2)));
    assert_eq!(holds(&mut world), "TrafficPolicy n/p, about the import: 1");
    world.apply("home", policy("p", 1, imports(&["t"]), ttl(1)));
    assert_eq!(holds(&mut world), "TrafficPolicy n/q, about the namespace: 2");
    world.apply("home", policy("q", 2, imports(&["s"]), ttl(3)));
    assert_eq!(holds(&mut world), "TrafficPolicy n/q, about the import: 3");
    world.reset("home", Vec::new());
    assert_eq!(holds(&mut world), "none", "a cluster that is read anew and has no policies");
}

fn imported(clusters: &[&str], policy: Option<Rules>) -> Object {
    let Object::Import(import) = import("n", "s", 1, &["10.9.9.9"]) else { unreachable!() };
    let source = Source::Export(cluster("b"), PolicyName::new("n", "told"));
    let policy = policy.map(|rules| Arc::new(Attached { rules: rules.into(), source, created: None }));
    let clusters = clusters.iter().map(|id| cluster(id)).collect();
    Object::Import(Import { clusters, spec: http().into(), policy, ..import })
}

/// A server in a cluster hears no exports: what the import tells of their policy holds, after the own cluster's about the
/// import and before what is more general. Who is heard speaks for itself.
#[test]
fn what_an_import_tells_holds_while_exporters_are_not_heard() {
    let mut world = World::new(&["clusterset.local"], &["home", "b"]);
    world.home("home").reset("home", vec![imported(&["b"], Some(ttl(7)))]);
    world.apply("home", mirrored(site("b").node("n1", "z1", 1, 1).slice("s"), "b"));
    let told = "TrafficPolicy n/told of b, about its export: 7";
    assert_eq!(holds(&mut world), told);
    world.apply("home", policy("space", 1, Target::Namespace, ttl(2)));
    assert_eq!(holds(&mut world), told);
    world.apply("home", policy("own", 1, imports(&["s"]), ttl(5)));
    assert_eq!(holds(&mut world), "TrafficPolicy n/own, about the import: 5");
    delete(&mut world, "home", "own");
    world.reset("b", site("b").node("n1", "z1", 1, 1).objects("s", ServiceKind::ClusterIp, http()));
    world.table.apply(Event::Hear(Hearing::AllBut([cluster("b")].into())));
    assert_eq!(holds(&mut world), told, "b is not heard yet");
    world.table.apply(Event::Hear(Hearing::Only([cluster("b")].into())));
    assert_eq!(holds(&mut world), "TrafficPolicy n/space, about the namespace: 2", "b has none any more");
    world.apply("b", policy("mine", 1, exports(&["s"]), ttl(4)));
    assert_eq!(holds(&mut world), "TrafficPolicy n/mine of b, about its export: 4");
}
