//! What finds no room is refused; what is there goes on, as far as it is wanted.

use std::net::IpAddr;

use portolan_ebpf::tables::Sizes;
use portolan_ebpf::wanted::Wanted;
use portolan_zones::object::Protocol::{Tcp, Udp};

use crate::common::replica::spread_of;
use crate::common::*;
use crate::small::*;

/// Of each table in turn there is room for one service only.
#[test]
fn new_services_are_refused_one_by_one() {
    let first = || in_cluster("10.96.0.1", "a", "10.1.0.1");
    for (sizes, told) in [
        (
            Sizes { vips: 1, ..ROOM },
            "no room for virtual IPs: 1 of 1 are in use; raise `agent.maps.vips`, or unexport services",
        ),
        (
            Sizes { ports: 1, ..ROOM },
            "no room for ports: 1 of 1 are in use; raise `agent.maps.ports`, or unexport services",
        ),
        (
            Sizes { backends: 1, ..ROOM },
            "no room for backends: 1 of 1 are in use; raise `agent.maps.backends`, or unexport services",
        ),
        (
            Sizes { slots: 4, ..ROOM },
            "no room for spreads: 3 of 4 are in use; raise `agent.maps.backends`, or unexport services",
        ),
        (
            Sizes { clusters: 1, ..ROOM },
            "no room for clusters: services have backends in 1, as many as there can be; unexport some",
        ),
    ] {
        let mut full = reconciler(sizes);
        apply(&mut full, "s1", Some(first()));
        assert_eq!(refusal(&full, "s1"), None);
        for (service, vip) in [("s2", "10.96.0.2"), ("s3", "10.96.0.3")] {
            apply(&mut full, service, Some(in_cluster(vip, "b", "10.2.0.1")));
            assert_eq!(refusal(&full, service).as_deref(), Some(told));
            assert_eq!(reached(&full.tables().memory, vip, 0), None, "nothing of it is redirected: {told}");
        }
        let memory = &full.tables().memory;
        assert_eq!(reached(memory, "10.96.0.1", 0), of(&["10.1.0.1"]), "{told}");
        assert_eq!((full.services(), memory.vips.len(), memory.ports.len()), (1, 1, 1), "{told}");

        apply(&mut full, "s1", None);
        full.rest().unwrap();
        apply(&mut full, "s2", Some(in_cluster("10.96.0.2", "b", "10.2.0.1")));
        assert_eq!(refusal(&full, "s2"), None, "{told}");
        assert_eq!(reached(&full.tables().memory, "10.96.0.2", 0), of(&["10.2.0.1"]));
        apply(&mut full, "s3", None);
        assert_eq!(refusal(&full, "s3"), None, "what is gone is not refused: {told}");
    }
}

/// What it had and still wants goes on; what it does not want any more is out at once, and lost.
#[test]
fn a_change_without_room_keeps_what_is_still_wanted() {
    let with = |backends: &[&str]| plain("10.96.0.1", backends);
    for (why, sizes) in [
        ("backends", Sizes { backends: 2, ..ROOM }),
        ("spreads", Sizes { slots: 4, ..ROOM }),
        ("spreads, with a gap too small", Sizes { slots: 7, ..ROOM }),
    ] {
        let mut full = reconciler(sizes);
        apply(&mut full, "s", Some(with(&["10.1.0.1", "10.1.0.2"])));
        let lost = apply(&mut full, "s", Some(with(&["10.1.0.2", "10.1.0.3"])));
        assert!(refusal(&full, "s").unwrap().starts_with("no room for "), "{why}");
        for family in [0, 1] {
            let kept = reached(&full.tables().memory, "10.96.0.1", family);
            assert_eq!(kept, of(&["10.1.0.2"]), "{why}");
        }
        let (_, held) = full.wanted().next().unwrap();
        let shown: Vec<_> = spread_of(&held.fronts[0], 0).collect();
        assert_eq!(shown, [(address("10.1.0.2"), 8080)], "{why}: it is told as it is");
        let gone: Vec<IpAddr> = lost.iter().map(|lost| lost.backend.0).collect();
        assert_eq!(gone, ["10.1.0.1".parse::<IpAddr>().unwrap()], "{why}");
        if !why.ends_with("small") {
            full.rest().unwrap();
            apply(&mut full, "s", Some(with(&["10.1.0.3"])));
            let none = reached(&full.tables().memory, "10.96.0.1", 0).unwrap();
            assert!(!none.contains(&"10.1.0.2".parse().unwrap()), "{why}: not wanted any more");
        }
        full.rest().unwrap();
        apply(&mut full, "s", Some(with(&["10.1.0.3"])));
        full.rest().unwrap();
        apply(&mut full, "s", Some(with(&["10.1.0.3"])));
        assert_eq!(refusal(&full, "s"), None, "{why}: there is room by now");
        assert_eq!(reached(&full.tables().memory, "10.96.0.1", 0), of(&["10.1.0.3"]), "{why}");
    }
}

/// More of a service than there is room for: its other addresses, ports and clusters are not there, all else goes on.
#[test]
fn a_service_that_grows_keeps_what_it_had() {
    let before = || in_cluster("10.96.0.1", "a", "10.1.0.1");
    let more_vips = wanted(&["10.96.0.1", "fd96::1"], before().fronts);
    let more_ports =
        Wanted { fronts: [before().fronts, vec![front(Udp, 53, Vec::new())]].concat(), ..before() };
    let both = spread(&[("a", &[("10.1.0.1", 80, 1)]), ("b", &[("10.2.0.1", 80, 1)])]);
    let more_clusters = wanted(&["10.96.0.1"], vec![front(Tcp, 80, both)]);
    for (what, sizes, after) in [
        ("no room for virtual IPs: 1 of 1", Sizes { vips: 1, ..ROOM }, more_vips),
        ("no room for ports: 1 of 1", Sizes { ports: 1, ..ROOM }, more_ports),
        ("no room for clusters: services have backends in 1", Sizes { clusters: 1, ..ROOM }, more_clusters),
    ] {
        let mut full = reconciler(sizes);
        apply(&mut full, "s", Some(before()));
        assert_eq!(apply(&mut full, "s", Some(after)), [], "{what}: nothing is lost");
        assert!(refusal(&full, "s").unwrap().starts_with(what), "{what}");
        let memory = &full.tables().memory;
        assert_eq!(reached(memory, "10.96.0.1", 0), of(&["10.1.0.1"]), "{what}");
        assert_eq!((memory.vips.len(), memory.ports.len()), (1, 1), "{what}");
        apply(&mut full, "s", Some(before()));
        assert_eq!(refusal(&full, "s"), None, "{what}");
    }
}

/// Connections to an IPv6 address that went to IPv4 backends go on there when IPv6 ones find no room.
#[test]
fn without_room_for_ipv6_backends_ipv4_ones_serve_all() {
    let mut full = reconciler(Sizes { backends: 1, ..ROOM });
    let before = in_cluster("fd96::1", "a", "10.1.0.1");
    apply(&mut full, "s", Some(before.clone()));
    let mut after = before;
    after.fronts[0].spreads.1 = Some(spread(&[("a", &[("fd00::1", 80, 1)])]));
    apply(&mut full, "s", Some(after));
    assert!(refusal(&full, "s").is_some());
    assert_eq!(reached(&full.tables().memory, "fd96::1", 1), of(&["10.1.0.1"]));
}

/// Free slots that are not neighbours are no room: a new service is refused whole, one that changes address and backends at once
/// gets its address, and both are whole when there is room.
#[test]
fn free_slots_that_are_no_neighbours() {
    let mut full = reconciler(Sizes { slots: 13, ..ROOM });
    for i in 1..=4 {
        apply(&mut full, &format!("s{i}"), Some(plain(&format!("10.96.0.{i}"), &[&format!("10.1.0.{i}")])));
    }
    for i in [1, 3] {
        apply(&mut full, &format!("s{i}"), None);
    }
    full.rest().unwrap();
    // Seven are free, and at most four of them in one place.
    let three = ["10.1.0.5", "10.1.0.6", "10.1.0.7"];
    apply(&mut full, "new", Some(plain("10.96.0.9", &three)));
    assert!(refusal(&full, "new").unwrap().starts_with("no room for spreads: 6 of 13"));
    let memory = &full.tables().memory;
    assert_eq!((reached(memory, "10.96.0.9", 0), memory.vips.len(), memory.ports.len()), (None, 2, 2));

    apply(&mut full, "s2", Some(plain("10.96.0.8", &three)));
    assert!(refusal(&full, "s2").is_some());
    let memory = &full.tables().memory;
    assert_eq!(reached(memory, "10.96.0.2", 0), None, "not its address any more");
    assert_eq!(reached(memory, "10.96.0.8", 0), of(&[]), "and not its backend any more");

    apply(&mut full, "s4", None);
    apply(&mut full, "new", None);
    full.rest().unwrap();
    apply(&mut full, "s2", Some(plain("10.96.0.8", &three)));
    assert_eq!(refusal(&full, "s2"), None);
    assert_eq!(reached(&full.tables().memory, "10.96.0.8", 0), of(&three));
    apply(&mut full, "new", Some(plain("10.96.0.9", &["10.1.0.5", "10.1.0.6", "10.1.0.7"])));
    assert_eq!(refusal(&full, "new"), None);
    assert_eq!(reached(&full.tables().memory, "10.96.0.9", 0), of(&three));
}
