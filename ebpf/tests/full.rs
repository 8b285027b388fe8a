//! Tables that are too small, and a kernel that refuses: what is there goes on, nothing leads where it should not, and what was
//! refused is written when there is room.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use common::replica::{Replica, spread_of};
use common::*;
use portolan_ebpf::abi::{Address, VipKey};
use portolan_ebpf::reconcile::{Lost, Reconciler};
use portolan_ebpf::tables::{Memory, Sizes};
use portolan_ebpf::wanted::{Wanted, WantedFront};
use portolan_zones::ServiceName;
use portolan_zones::object::Protocol::{Tcp, Udp};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

mod common;

const ROOM: Sizes =
    Sizes { vips: 16, ports: 32, backends: 64, slots: 256, clusters: 8, flows: 1, affinities: 1 };

fn reconciler(sizes: Sizes) -> Reconciler<Recorder> {
    Reconciler::new(Recorder::new(sizes))
}

fn refusal(reconciler: &Reconciler<Recorder>, service: &str) -> Option<String> {
    reconciler.refused().get(&name(service)).map(ToString::to_string)
}

fn apply(reconciler: &mut Reconciler<Recorder>, service: &str, wanted: Option<Wanted>) -> Vec<Lost> {
    let mut lost = Vec::new();
    reconciler.apply(&name(service), wanted, &mut lost);
    lost
}

/// Whom connections to TCP port 80 reach, by the exact words; `None`: there is no such address or port.
fn reached(memory: &Memory, vip: &str, family: usize) -> Option<BTreeSet<IpAddr>> {
    let service = *memory.vips.get(&VipKey { address: address(vip) })?;
    let key = portolan_ebpf::abi::PortKey { service, ..port_key(Tcp, 80) };
    let front = *memory.ports.get(&key)?;
    let shares = Spreading::at(memory, front, family).shares;
    Some(shares.keys().map(|number| memory.backends[number].address.into()).collect())
}

fn of(addresses: &[&str]) -> Option<BTreeSet<IpAddr>> {
    Some(addresses.iter().map(|at| at.parse().unwrap()).collect())
}

fn in_cluster(vip: &str, id: &str, at: &str) -> Wanted {
    wanted(&[vip], vec![front(Tcp, 80, spread(&[(id, &[(at, 80, 1)])]))])
}

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

/// The kernel may refuse any write of a hash map, out of memory for one: what was refused is written the next time.
#[test]
fn what_the_kernel_refuses_is_written_later() {
    let affine = |backends: &[&str]| {
        let mut wanted = plain("10.96.0.1", backends);
        wanted.fronts[0].affinity = 60;
        wanted
    };
    let refusals: [(&str, Refuses); 3] = [
        ("vips", |write| matches!(write, Write::Vip(_, Some(_)))),
        ("ports", |write| matches!(write, Write::Port(_, Some(_)))),
        ("members", |write| matches!(write, Write::Member(_, Some(_)))),
    ];
    for (what, refuses) in refusals {
        for existing in [false, true] {
            let mut all = reconciler(ROOM);
            if existing {
                apply(&mut all, "s", Some(wanted(&["10.96.0.2"], vec![front(Udp, 53, Vec::new())])));
            }
            all.tables_mut().refuses = refuses;
            apply(&mut all, "s", Some(affine(&["10.1.0.1", "10.1.0.2"])));
            assert!(refusal(&all, "s").unwrap().contains("can't be written"), "{what}");
            all.rest().unwrap();
            all.tables_mut().refuses = |_| false;
            apply(&mut all, "s", Some(affine(&["10.1.0.1", "10.1.0.2"])));
            assert_eq!(refusal(&all, "s"), None, "{what}");
            let memory = &all.tables().memory;
            assert_eq!(reached(memory, "10.96.0.1", 0), of(&["10.1.0.1", "10.1.0.2"]), "{what} {existing}");
            assert_eq!((memory.vips.len(), memory.ports.len(), memory.members.len()), (1, 1, 2), "{what}");
        }
    }
}

/// What the kernel refuses to delete still leads somewhere: its numbers are nobody else's, it is told of, and deleted when the
/// kernel lets it be.
#[test]
fn what_can_not_be_deleted_is_not_used_again() {
    let affine = |vip: &str, port: u16, at: &str| {
        let mut wanted = wanted(&[vip], vec![front(Tcp, port, spread(&[("a", &[(at, 80, 1)])]))]);
        wanted.fronts[0].affinity = 60;
        wanted
    };
    let refusals: [(&str, Refuses); 4] = [
        ("vips", |write| matches!(write, Write::Vip(_, None))),
        ("ports", |write| matches!(write, Write::Port(_, None))),
        ("members", |write| matches!(write, Write::Member(_, None))),
        ("all", |write| matches!(write, Write::Vip(_, None) | Write::Port(_, None) | Write::Member(_, None))),
    ];
    for (what, refuses) in refusals {
        let mut all = reconciler(ROOM);
        let mut replica = Replica::new(ROOM);
        // The replica fails where a number is used again that programs may still come to.
        let mut step = |all: &mut Reconciler<Recorder>, service: &str, wanted: Option<Wanted>| {
            apply(all, service, wanted);
            all.rest().unwrap();
            for write in all.tables_mut().take() {
                replica.write(&name(service), &write);
            }
        };
        step(&mut all, "old", Some(affine("10.96.0.1", 80, "10.1.0.1")));
        step(&mut all, "lives", Some(affine("10.96.0.2", 80, "10.1.0.2")));
        all.tables_mut().refuses = refuses;
        step(&mut all, "old", None);
        step(&mut all, "lives", Some(affine("10.96.0.3", 81, "10.1.0.3")));
        for i in 5..9 {
            step(
                &mut all,
                &format!("s{i}"),
                Some(affine(&format!("10.96.0.{i}"), 80, &format!("10.1.0.{i}"))),
            );
        }
        let memory = &all.tables().memory;
        for vip in ["10.96.0.1", "10.96.0.2"] {
            let ends = reached(memory, vip, 0).unwrap_or_default();
            assert!(ends.is_empty(), "{what}: {vip} leads to {ends:?}");
        }
        let stale = (memory.vips.len(), memory.ports.len(), memory.members.len());
        let expected = match what {
            "vips" => (7, 5, 5),
            "ports" => (5, 7, 5),
            "members" => (5, 5, 7),
            _ => (7, 7, 7),
        };
        assert_eq!(stale, expected, "{what}");
        let (count, why) = all.undeleted().map(|(count, why)| (count, why.to_string())).unwrap();
        assert_eq!(count, if what == "all" { 6 } else { 2 }, "{what}");
        assert!(why.contains("can't be written"), "{why}");
        assert_eq!(all.fill().vips.0, memory.vips.len() as u32, "{what}: they take room");

        // What is written over is not deleted later.
        step(&mut all, "lives", Some(affine("10.96.0.1", 80, "10.1.0.2")));
        all.tables_mut().refuses = |_| false;
        all.rest().unwrap();
        assert!(all.undeleted().is_none(), "{what}");
        let memory = &all.tables().memory;
        assert_eq!((memory.vips.len(), memory.ports.len(), memory.members.len()), (5, 5, 5), "{what}");
        assert_eq!(reached(memory, "10.96.0.1", 0), of(&["10.1.0.2"]), "{what}");
        let fill = all.fill();
        assert_eq!([fill.vips.0, fill.ports.0, fill.backends.0], [5; 3], "{what}: all numbers are back");
    }
}

/// A clusterset whose clusters come and go does not run out of their numbers; one that is taken over tells nothing of its former
/// cluster, which may have been down.
#[test]
fn clusters_come_and_go() {
    const CLUSTERS: u32 = 4;
    let mut all = reconciler(Sizes { clusters: CLUSTERS, ..ROOM });
    let with = |ids: &[&str]| {
        let backends: Vec<String> = ids.iter().map(|id| format!("10.{}.0.1", &id[1..])).collect();
        let shares: Vec<[(&str, u16, u32); 1]> = backends.iter().map(|at| [(at.as_str(), 80, 1)]).collect();
        let shares: Vec<_> = ids.iter().zip(&shares).map(|(id, backends)| (*id, &backends[..])).collect();
        wanted(&["10.96.0.1"], vec![front(Tcp, 80, spread(&shares))])
    };
    apply(&mut all, "stays", Some(in_cluster("10.96.0.9", "stays", "10.200.0.1")));
    for year in 0..100_u32 {
        let ids: Vec<String> = (0..=year % 2).map(|of| format!("c{}", year * 2 % 250 + of)).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let wanted = with(&ids);
        apply(&mut all, "s", Some(wanted.clone()));
        all.rest().unwrap();
        assert_eq!(refusal(&all, "s"), None, "{year}");
        let backends: Vec<String> = ids.iter().map(|id| format!("10.{}.0.1", &id[1..])).collect();
        let backends: Vec<&str> = backends.iter().map(String::as_str).collect();
        let memory = &all.tables().memory;
        assert_eq!(reached(memory, "10.96.0.1", 0), of(&backends), "{year}");
        assert_eq!(reached(memory, "10.96.0.9", 0), of(&["10.200.0.1"]));
        let numbers: BTreeSet<u32> = memory
            .fronts
            .keys()
            .flat_map(|front| Spreading::at(memory, *front, 0).clusters.into_keys())
            .collect();
        assert!(
            numbers.iter().all(|number| *number < CLUSTERS && !memory.down.contains_key(number)),
            "{year}"
        );
        assert_eq!(all.fill().clusters, (1 + ids.len() as u32, CLUSTERS), "those with backends");
        let names =
            all.counted().flat_map(|counted| counted.backends.into_iter().map(|(id, ..)| id.to_string()));
        let names: BTreeSet<String> = names.collect();
        assert_eq!(names.len(), 1 + ids.len(), "{names:?}");
        assert!(ids.iter().all(|id| names.contains(*id)), "{names:?}");
        for id in ids {
            all.mark(&cluster(id), year % 3 == 0);
            all.mark(&cluster("stays"), false);
        }
    }
    // As many as there can be at a time, and one more.
    apply(&mut all, "s", Some(with(&["c1", "c2", "c3", "c4"])));
    assert!(refusal(&all, "s").unwrap().starts_with("no room for clusters: services have backends in"));
    apply(&mut all, "s", None);
    all.rest().unwrap();
    apply(&mut all, "s", Some(with(&["c1", "c2", "c3"])));
    assert_eq!(refusal(&all, "s"), None);
}

/// While the kernel refuses to wait, nothing is used again; afterwards all of it is.
#[test]
fn without_a_rest_nothing_is_used_again() {
    let mut all = reconciler(Sizes { backends: 1, ..ROOM });
    apply(&mut all, "s1", Some(plain("10.96.0.1", &["10.1.0.1"])));
    apply(&mut all, "s1", None);
    all.tables_mut().refuses = |write| *write == Write::Rest;
    assert!(all.rest().is_err());
    apply(&mut all, "s2", Some(plain("10.96.0.2", &["10.1.0.2"])));
    assert!(refusal(&all, "s2").unwrap().starts_with("no room for backends: 1 of 1"));
    all.tables_mut().refuses = |_| false;
    all.rest().unwrap();
    apply(&mut all, "s2", Some(plain("10.96.0.2", &["10.1.0.2"])));
    assert_eq!(reached(&all.tables().memory, "10.96.0.2", 0), of(&["10.1.0.2"]));
}

/// As many as positions of 16 bits can tell apart, and one less.
#[test]
fn sixty_five_thousand_backends_of_one_port() {
    for count in [65_535_u32, 65_536] {
        let backends = (0..count)
            .map(|at| (Address::from(IpAddr::from((0x0a00_0000 + at).to_be_bytes())), 80, 1 + at % 3));
        let mut spread = spread(&[("a", &[])]);
        spread[0].backends = backends.collect();
        spread[0].part = 1_000_000;
        let mut all = reconciler(Sizes::of(1, 1, count));
        apply(&mut all, "s", Some(wanted(&["10.96.0.1"], vec![front(Tcp, 80, spread.clone())])));
        assert_eq!(refusal(&all, "s"), None);
        let memory = &all.tables().memory;
        let shares = Spreading::at(memory, 0, 0).shares;
        assert_eq!(shares.len() as u32, count);
        let whole: u32 = spread[0].backends.iter().map(|(.., part)| part).sum();
        let parts: BTreeMap<_, u32> = spread[0].backends.iter().map(|(at, _, part)| (*at, *part)).collect();
        for (number, share) in shares {
            let part = f64::from(parts[&memory.backends[&number].address]) / f64::from(whole);
            assert!((share - part).abs() < 1.0 / 65_536.0, "{number}: {share}, not {part}");
        }
    }
}

/// What kernels refuse.
const REFUSING: [Refuses; 5] = [
    |_| false,
    |write| matches!(write, Write::Vip(_, None) | Write::Port(_, None) | Write::Member(_, None)),
    |write| matches!(write, Write::Vip(..) | Write::Port(..) | Write::Member(..)),
    |write| matches!(write, Write::Port(..) | Write::Rest),
    |write| matches!(write, Write::Vip(..) | Write::Member(_, None)),
];

#[derive(Debug, Clone)]
struct Change {
    service: usize,
    /// Which addresses; none: the service goes.
    vips: BTreeSet<usize>,
    /// Backends of TCP port 80 by cluster, and of UDP port 53 if it is there.
    tcp: BTreeSet<(usize, u8)>,
    v6: Option<BTreeSet<(usize, u8)>>,
    udp: Option<BTreeSet<(usize, u8)>>,
    rests: bool,
}

fn change() -> impl Strategy<Value = Change> {
    let backends = |least: usize| btree_set((0..3_usize, 0..5_u8), least..5);
    let optional = |least| proptest::option::weighted(0.3, backends(least));
    let vips = prop_oneof![1 => Just(BTreeSet::new()), 4 => btree_set(0..2_usize, 1..=2)];
    (0..4_usize, vips, backends(0), optional(1), optional(0), any::<bool>())
        .prop_map(|(service, vips, tcp, v6, udp, rests)| Change { service, vips, tcp, v6, udp, rests })
}

impl Change {
    fn wanted(&self) -> Option<Wanted> {
        let spread_over = |backends: &BTreeSet<(usize, u8)>, v6: bool| {
            let mut clusters: BTreeMap<usize, Vec<(String, u16, u32)>> = BTreeMap::new();
            for (id, at) in backends {
                let address = if v6 { format!("fd00:{id}::{at}") } else { format!("10.{id}.0.{at}") };
                clusters.entry(*id).or_default().push((address, 80, u32::from(*at) + 1));
            }
            let share = |(id, backends): (usize, Vec<(String, u16, u32)>)| {
                let backends: Vec<_> =
                    backends.iter().map(|(at, port, part)| (&**at, *port, *part)).collect();
                spread(&[(["a", "b", "c"][id], &backends)])
            };
            clusters.into_iter().flat_map(share).collect::<Vec<_>>()
        };
        let mut tcp = front(Tcp, 80, spread_over(&self.tcp, false));
        tcp.spreads.1 = self.v6.as_ref().map(|v6| spread_over(v6, true));
        let udp = self.udp.iter().map(|udp| front(Udp, 53, spread_over(udp, false)));
        let vips = self.vips.iter().map(|vip| IpAddr::from([10, 96, self.service as u8, *vip as u8]));
        let vips: Vec<_> = vips.collect();
        (!vips.is_empty()).then(|| Wanted { vips, fronts: std::iter::once(tcp).chain(udp).collect() })
    }
}

/// Where all connections to all addresses may end.
fn ends(memory: &Memory) -> BTreeMap<(IpAddr, u16, usize), BTreeSet<(Address, u16)>> {
    let mut ends = BTreeMap::new();
    for (vip, service) in &memory.vips {
        for (key, front) in memory.ports.iter().filter(|(key, _)| key.service == *service) {
            for family in [0, 1] {
                let shares = Spreading::at(memory, *front, family).shares;
                let at =
                    |number: &u32| (memory.backends[number].address, memory.backends[number].port.into());
                ends.insert((vip.address.into(), key.port.into(), family), shares.keys().map(at).collect());
            }
        }
    }
    ends
}

fn is_of(wanted: Option<&Wanted>, port: u16, family: usize) -> BTreeSet<(Address, u16)> {
    let fronts = wanted.into_iter().flat_map(|wanted| &wanted.fronts);
    let it = fronts.filter(|front: &&WantedFront| front.port == port);
    it.flat_map(|front| spread_of(front, family).chain(spread_of(front, 0)).collect::<Vec<_>>()).collect()
}

fn run(sizes: Sizes, changes: &[Change]) {
    let mut full = reconciler(sizes);
    let mut replica = Replica::new(sizes);
    let mut state: BTreeMap<ServiceName, Wanted> = BTreeMap::new();
    for change in changes {
        let (service, after) = (name(&format!("s{}", change.service)), change.wanted());
        let is_its =
            |vip: &IpAddr| matches!(vip, IpAddr::V4(v4) if usize::from(v4.octets()[2]) == change.service);
        let before = state.remove(&service);
        let had = ends(&replica.memory);
        full.apply(&service, after.clone(), &mut Vec::new());
        for write in full.tables_mut().take() {
            if !replica.write(&service, &write) {
                continue;
            }
            for ((vip, port, family), ends) in
                ends(&replica.memory).iter().filter(|((vip, ..), _)| is_its(vip))
            {
                let allowed =
                    &is_of(before.as_ref(), *port, *family) | &is_of(after.as_ref(), *port, *family);
                assert!(ends.is_subset(&allowed), "{vip} {port}: {ends:?} while {change:?} is written");
            }
        }
        let has = ends(&replica.memory);
        for ((vip, port, family), ends) in has.iter().filter(|((vip, ..), _)| is_its(vip)) {
            let wanted = is_of(after.as_ref(), *port, *family);
            assert!(ends.is_subset(&wanted), "{vip} {port}: {ends:?} after {change:?}");
            assert!(after.as_ref().is_some_and(|after| after.vips.contains(vip)), "{vip} after {change:?}");
        }
        for ((vip, port, family), ends) in had {
            let is_there = has.get(&(vip, port, family));
            if !is_its(&vip) {
                assert_eq!(is_there, Some(&ends), "{vip} {port} is not what {change:?} is about");
                continue;
            }
            // Of this very family, and of this address and port.
            let fronts =
                after.iter().filter(|after| after.vips.contains(&vip)).flat_map(|after| &after.fronts);
            let still = fronts
                .filter(|front| front.port == port)
                .any(|front| spread_of(front, family).any(|at| ends.contains(&at)));
            assert!(
                !still || is_there.is_some_and(|ends| !ends.is_empty()),
                "{vip} {port} ended by {change:?}"
            );
        }
        if let Some(after) = after {
            state.insert(service.clone(), after);
        }
        if change.rests {
            full.rest().unwrap();
            full.tables_mut().take().iter().for_each(|write| assert!(replica.write(&service, write)));
        }
    }
    drained(full, &state);
}

/// When others are gone each service finds room, unless it is too large for itself; and when all are gone nothing is in use.
fn drained(mut full: Reconciler<Recorder>, state: &BTreeMap<ServiceName, Wanted>) {
    for service in state.keys() {
        full.apply(service, None, &mut Vec::new());
    }
    full.rest().unwrap();
    let memory = &full.tables().memory;
    assert!(memory.vips.is_empty() && memory.ports.is_empty() && memory.members.is_empty());
    assert!(full.refused().is_empty());
    let fill = full.fill();
    assert_eq!([fill.vips.0, fill.ports.0, fill.backends.0, fill.slots.0], [0; 4]);
    for (service, wanted) in state {
        full.apply(service, Some(wanted.clone()), &mut Vec::new());
        let has = ends(&full.tables().memory);
        let whole = wanted.vips.iter().all(|vip| has.keys().any(|(there, ..)| there == vip));
        assert!(whole != full.refused().contains_key(service), "{:?}", full.refused());
        full.apply(service, None, &mut Vec::new());
        full.rest().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// However small the tables are: nothing ends where it is not wanted, nothing that is wanted still and was there ends, and
    /// nothing that programs may be reading is used again.
    #[test]
    fn small_tables_hold_nothing_wrong(
        sizes in (1..8_u32, 1..6_u32, 1..16_u32, 4..40_u32, 1..4_u32),
        changes in vec(change(), 1..24),
    ) {
        let (vips, ports, backends, slots, clusters) = sizes;
        run(Sizes { vips, ports, backends, slots, clusters, flows: 1, affinities: 1 }, &changes);
    }

    /// Whatever a kernel refuses, and when: no number that it leads to is used again, nothing leads to what is another's, and when
    /// it refuses no more all is as it should be.
    #[test]
    fn kernels_that_refuse_lead_nowhere_wrong(changes in vec((change(), 0..REFUSING.len()), 1..24)) {
        let mut all = reconciler(ROOM);
        let mut replica = Replica::new(ROOM);
        let mut state: BTreeMap<ServiceName, Wanted> = BTreeMap::new();
        for (change, refuses) in &changes {
            let (service, after) = (name(&format!("s{}", change.service)), change.wanted());
            all.tables_mut().refuses = REFUSING[*refuses];
            all.apply(&service, after.clone(), &mut Vec::new());
            let _ = all.rest();
            for write in all.tables_mut().take() {
                replica.write(&service, &write);
            }
            match after {
                Some(after) => drop(state.insert(service, after)),
                None => drop(state.remove(&service)),
            }
        }
        all.tables_mut().refuses = |_| false;
        drained(all, &state);
    }
}
