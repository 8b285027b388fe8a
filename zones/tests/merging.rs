//! KEP-1645, Constraints and Conflict Resolution: the oldest export wins, ports are united, all differences are told.

use std::sync::Arc;

use portolan_zones::object::*;
use portolan_zones::service::Service as Merged;
use portolan_zones::{Change, Event, InvalidExport};

use crate::common::*;

/// Two clusters export `n/s`; `a` is older.
fn two(a: (ServiceKind, ServiceSpec), b: (ServiceKind, ServiceSpec)) -> Arc<Merged> {
    let mut world = World::new(&["clusterset.local"], &["a", "b"]);
    world.reset("b", vec![export("n", "s", 20), service("n", "s", b.0, b.1)]);
    world.reset("a", vec![export("n", "s", 10), service("n", "s", a.0, a.1)]);
    world.compile();
    world.snapshot.services.get(b"\x01s\x01n").unwrap().clone()
}

fn reasons(service: &Merged) -> Vec<&'static str> {
    service.conflicts.iter().map(|conflict| conflict.reason.as_str()).collect()
}

#[test]
fn conflicts_by_field() {
    use ServiceKind::{ClusterIp, Headless};
    let base = || spec(&[port("http", Protocol::Tcp, 80)]);
    let with = |change: &dyn Fn(&mut ServiceSpec)| {
        let mut spec = base();
        change(&mut spec);
        spec
    };
    let affinity = |timeout| with(&|s| s.session_affinity = SessionAffinity::ClientIp { timeout });
    for (older, younger, expected) in [
        ((ClusterIp, base()), (ClusterIp, base()), vec![]),
        ((ClusterIp, base()), (Headless, base()), vec!["TypeConflict"]),
        ((ClusterIp, base()), (ClusterIp, affinity(5)), vec!["SessionAffinityConflict"]),
        ((ClusterIp, affinity(6)), (ClusterIp, affinity(5)), vec!["SessionAffinityConfigConflict"]),
        (
            (ClusterIp, base()),
            (ClusterIp, with(&|s| s.internal_traffic_local = true)),
            vec!["InternalTrafficPolicyConflict"],
        ),
        (
            (ClusterIp, base()),
            (ClusterIp, with(&|s| s.traffic_distribution = Some("PreferSameZone".into()))),
            vec!["TrafficDistributionConflict"],
        ),
        (
            (ClusterIp, base()),
            (ClusterIp, with(&|s| s.ip_families.push(IpFamily::V6))),
            vec!["IPFamilyConflict"],
        ),
        ((ClusterIp, base()), (ClusterIp, spec(&[port("http", Protocol::Tcp, 81)])), vec!["PortConflict"]),
    ] {
        let held = older.clone();
        let service = two(older, younger.clone());
        assert_eq!(reasons(&service), expected, "{younger:?}");
        assert_eq!(service.headless, held.0 == Headless);
        assert_eq!(*service.spec, held.1, "the oldest export's spec holds");
    }
}

/// "Ports: union; merge by name first, then by (protocol, number)"; any difference is a PortConflict.
#[test]
fn ports_are_united() {
    let tcp = |name, number| port(name, Protocol::Tcp, number);
    let older = spec(&[tcp("http", 80), tcp("", 9)]);
    let younger = spec(&[
        tcp("http", 8080),
        tcp("web", 80),
        tcp("grpc", 90),
        port("dns", Protocol::Udp, 80),
        tcp("", 10),
    ]);
    let service = two((ServiceKind::ClusterIp, older), (ServiceKind::ClusterIp, younger));
    let names: Vec<_> =
        service.spec.ports.iter().map(|p| (p.name.as_deref().unwrap_or(""), p.number)).collect();
    assert_eq!(names, [("http", 80), ("", 9), ("grpc", 90), ("dns", 80)]);
    assert!(reasons(&service).iter().all(|reason| *reason == "PortConflict"));
    let message = &service.conflicts[0].message;
    assert!(message.contains("cluster a has") && message.contains("grpc Tcp/90"), "{message}");
}

/// Exported metadata is the oldest export's, never united.
#[test]
fn labels_and_annotations_are_the_oldest_exports() {
    let mut world = World::new(&["clusterset.local"], &["a", "b"]);
    let pairs = |value: &str| [("k".into(), value.into())].into();
    let exports = |value: &str| Arc::new(Exported { labels: pairs(value), annotations: pairs(value) });
    let exported = |value: &str, created| {
        let Object::Export(export) = export("n", "s", created) else { unreachable!() };
        Object::Export(Export { exported: Some(exports(value)), ..export })
    };
    for (cluster, value, created) in [("a", "new", 5), ("b", "old", 4)] {
        let service = service("n", "s", ServiceKind::Headless, spec(&[]));
        world.reset(cluster, vec![exported(value, created), service]);
    }
    world.compile();
    let service = world.snapshot.services.get(b"\x01s\x01n").unwrap();
    assert_eq!(service.exported, Some(exports("old")));
    assert_eq!(reasons(service), ["LabelsConflict", "AnnotationsConflict"]);
}

/// "Valid: False" for an export without Service, or of an ExternalName Service: no import, no answer.
#[test]
fn invalid_exports_do_not_count() {
    let mut world = World::new(&["clusterset.local"], &["a", "b"]);
    world.reset(
        "a",
        vec![
            export("n", "none", 1),
            export("n", "ext", 1),
            service("n", "ext", ServiceKind::ExternalName, spec(&[])),
            service("n", "private", ServiceKind::ClusterIp, spec(&[])),
        ],
    );
    world.reset("b", vec![]);
    world.compile();
    assert!(world.snapshot.services.is_empty());
    let invalid: Vec<_> =
        world.table.invalid_exports().map(|(name, _, why)| (name.to_string(), why)).collect();
    let expected = [("n/ext", InvalidExport::InvalidServiceType), ("n/none", InvalidExport::NoService)];
    assert_eq!(invalid, expected.map(|(name, why)| (name.to_owned(), why)));
    world.apply("a", service("n", "none", ServiceKind::ClusterIp, spec(&[])));
    world.compile();
    assert_eq!(world.table.invalid_exports().count(), 1);
    assert_eq!(world.snapshot.services.len(), 1);
}

/// The home cluster's import and mirrored slices stand in for clusters that are not heard directly.
#[test]
fn imports_speak_for_clusters_that_are_not_heard() {
    let mut world = World::new(&["clusterset.local"], &["home"]);
    let mirror = |source, address| {
        mirrored(
            slice("n", "s", &format!("s-{source}"), &[("p", 80)], vec![endpoint(address, None, true)]),
            source,
        )
    };
    let Object::Import(import) = import("n", "s", 1, &[]) else { unreachable!() };
    world.home("home").reset(
        "home",
        vec![
            Object::Import(Import { headless: true, ..import }),
            mirror("far", "10.1.0.1"),
            mirror("home", "10.0.0.9"),
            export("n", "s", 1),
            service("n", "s", ServiceKind::Headless, spec(&[])),
            slice("n", "s", "own", &[("p", 80)], vec![endpoint("10.0.0.1", None, true)]),
        ],
    );
    world.table.apply(Event::Hear(portolan_zones::Hearing::Only([cluster("home")].into())));
    world.compile();
    // Home's own export is heard directly, so its mirrored slice doesn't count twice.
    assert_eq!(world.lookup("s.n.svc.clusterset.local", "A"), "10.0.0.1, 10.1.0.1");
    assert_eq!(world.lookup("10-1-0-1.far.s.n.svc.clusterset.local", "A"), "10.1.0.1");
}

/// A reset says all: what it leaves out is gone; another cluster's word stays.
#[test]
fn reset_replaces_one_clusters_word() {
    let mut world = World::new(&["clusterset.local"], &["a", "b"]);
    let all = |service_name: &str, address: &str| {
        vec![
            export("n", service_name, 1),
            service("n", service_name, ServiceKind::Headless, spec(&[])),
            slice("n", service_name, "s", &[], vec![endpoint(address, None, true)]),
        ]
    };
    world.reset("a", all("one", "10.0.0.1")).reset("b", all("one", "10.0.0.2")).compile();
    assert_eq!(world.lookup("one.n.svc.clusterset.local", "A"), "10.0.0.1, 10.0.0.2");
    world.reset("a", all("two", "10.0.0.3")).compile();
    assert_eq!(world.lookup("one.n.svc.clusterset.local", "A"), "10.0.0.2");
    assert_eq!(world.lookup("two.n.svc.clusterset.local", "A"), "10.0.0.3");
    world.say("b", Change::Delete(ObjectKey::Export(name("n", "one")))).compile();
    assert_eq!(world.lookup("one.n.svc.clusterset.local", "A"), "NXDOMAIN");
    // A slice that moves to another service leaves the first.
    let moved = slice("n", "three", "s", &[], vec![endpoint("10.0.0.3", None, true)]);
    world.apply("a", moved).compile();
    assert_eq!(world.lookup("two.n.svc.clusterset.local", "A"), "NXDOMAIN");
}

/// A cluster that can't be read keeps its last known endpoints, and its services say so (RFC 8914 §4.4).
#[test]
fn stale_clusters_mark_their_services() {
    let mut world = World::new(&["clusterset.local"], &["a", "b"]);
    let all = |name: &str| [export("n", name, 1), service("n", name, ServiceKind::Headless, spec(&[]))];
    let ready = |name: &str, address| slice("n", name, "x", &[], vec![endpoint(address, None, true)]);
    world.reset("a", [&all("both")[..], &[ready("both", "10.0.0.1")]].concat());
    world.reset("b", [&all("both")[..], &all("own"), &[ready("both", "10.0.0.2")]].concat());
    let stale = |world: &World, key: &[u8]| world.snapshot.services.get(key).unwrap().stale;
    world.compile();
    let serial = world.snapshot.serial;
    for now in [true, false] {
        world.table.apply(Event::Stale { cluster: cluster("a"), stale: now });
        assert!(world.compile());
        assert_eq!((stale(&world, b"\x04both\x01n"), stale(&world, b"\x03own\x01n")), (now, false));
        assert_eq!(world.lookup("both.n.svc.clusterset.local", "A"), "10.0.0.1, 10.0.0.2");
        assert_eq!(world.snapshot.serial, serial, "no record changed");
    }
    world.table.apply(Event::Stale { cluster: cluster("a"), stale: false });
    assert!(!world.compile());
}

/// A server that hears only its own cluster marks what that one tells of another: mirrored slices, or an import.
#[test]
fn stale_clusters_mark_what_others_tell_of_them() {
    let mut world = World::new(&["clusterset.local"], &["home"]);
    let Object::Import(unmirrored) = import("n", "behind", 1, &["10.9.9.8"]) else { unreachable!() };
    let behind = Object::Import(Import { clusters: [cluster("a")].into(), ..unmirrored });
    let copy = mirrored(slice("n", "copied", "x", &[], vec![endpoint("10.0.0.1", None, true)]), "a");
    let copied = import("n", "copied", 1, &["10.9.9.7"]);
    world.home("home").reset("home", vec![behind, copied, copy, import("n", "other", 1, &["10.9.9.6"])]);
    world.compile();
    let marked = |world: &World| {
        let stale = |key: &[u8]| world.snapshot.services.get(key).unwrap().stale;
        [stale(b"\x06behind\x01n"), stale(b"\x06copied\x01n"), stale(b"\x05other\x01n")]
    };
    for now in [true, false] {
        world.table.apply(Event::Stale { cluster: cluster("a"), stale: now });
        assert!(world.compile());
        assert_eq!(marked(&world), [now, now, false]);
    }
}
