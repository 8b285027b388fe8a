//! Programs read while tables are written: after each single write a connection ends where the state before or after has it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeMap;
use std::net::IpAddr;

use common::replica::{Probe, Replica, State};
use common::*;
use portolan_ebpf::abi::MemberKey;
use portolan_ebpf::reconcile::{Lost, Reconciler};
use portolan_ebpf::tables::Sizes;
use portolan_ebpf::wanted::{ClusterShare, Spread, Wanted, WantedFront};
use portolan_zones::ServiceName;
use portolan_zones::object::Protocol;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

mod common;

const ROOM: Sizes =
    Sizes { vips: 16, ports: 32, backends: 400, slots: 1200, clusters: 8, flows: 1, affinities: 1 };
const SERVICES: usize = 4;
const VIPS: [&str; 5] = ["10.96.0.1", "10.96.0.2", "10.96.0.3", "fd96::1", "fd96::2"];
const PORTS: [(Protocol, u16); 3] = [(Protocol::Tcp, 80), (Protocol::Tcp, 81), (Protocol::Udp, 80)];

/// Parts by cluster and by which of its backends.
type Parts = BTreeMap<usize, BTreeMap<u8, u32>>;

#[derive(Debug, Clone)]
enum Edit {
    /// An address goes to a service, or is nobody's.
    Vip(usize, Option<usize>),
    /// A service's port: affinity, and spreads over IPv4 and over all backends; `None`: it is not there.
    Port(usize, usize, Option<(u32, Parts, Option<Parts>)>),
}

/// What changes at once, the order in which services are brought up to it, and whether there is a rest after it.
type Step = (Vec<Edit>, u64, bool);

fn parts(least: usize) -> impl Strategy<Value = Parts> {
    btree_map(0..3_usize, btree_map(0..5_u8, 1..1000_u32, 1..4), least..3)
}

fn edit() -> impl Strategy<Value = Edit> {
    let affinity = prop_oneof![2 => Just(0_u32), 1 => Just(60), 1 => Just(90)];
    let port = (affinity, parts(0), proptest::option::weighted(0.3, parts(1)));
    prop_oneof![
        1 => (0..VIPS.len(), proptest::option::weighted(0.8, 0..SERVICES)).prop_map(|(vip, of)| Edit::Vip(vip, of)),
        3 => (0..SERVICES, 0..PORTS.len(), proptest::option::weighted(0.85, port))
            .prop_map(|(service, at, port)| Edit::Port(service, at, port)),
    ]
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    vec((vec(edit(), 1..5), any::<u64>(), any::<bool>()), 1..most)
}

/// What the edits so far come to.
#[derive(Default)]
struct Site {
    vips: BTreeMap<usize, usize>,
    ports: BTreeMap<(usize, usize), (u32, Parts, Option<Parts>)>,
}

impl Site {
    fn edit(&mut self, edit: &Edit) {
        match edit.clone() {
            Edit::Vip(vip, None) => drop(self.vips.remove(&vip)),
            Edit::Vip(vip, Some(service)) => drop(self.vips.insert(vip, service)),
            Edit::Port(service, at, None) => drop(self.ports.remove(&(service, at))),
            Edit::Port(service, at, Some(port)) => drop(self.ports.insert((service, at), port)),
        }
    }

    fn wanted(&self, service: usize) -> Option<Wanted> {
        let vips: Vec<IpAddr> = self
            .vips
            .iter()
            .filter(|(_, of)| **of == service)
            .map(|(vip, _)| VIPS[*vip].parse().unwrap())
            .collect();
        let ports = self.ports.range((service, 0)..=(service, PORTS.len()));
        let front = |((_, at), (affinity, v4, any)): (&(usize, usize), &(u32, Parts, Option<Parts>))| {
            let (protocol, port) = PORTS[*at];
            let any = any.as_ref().map(|any| to_spread(any, true));
            WantedFront {
                affinity: *affinity,
                spreads: (to_spread(v4, false), any),
                ..front(protocol, port, Vec::new())
            }
        };
        (!vips.is_empty()).then(|| Wanted { vips, fronts: ports.map(front).collect() })
    }
}

/// The last backend has the same address in all clusters: networks may overlap.
fn to_spread(parts: &Parts, v6: bool) -> Spread {
    let at = |id: usize, backend: u8| match (v6, backend) {
        (false, 4) => "10.9.9.9".to_owned(),
        (false, _) => format!("10.{id}.0.{backend}"),
        (true, 4) => "fd09::9".to_owned(),
        (true, _) => format!("fd00:{id}::{backend}"),
    };
    let share = |(id, backends): (&usize, &BTreeMap<u8, u32>)| ClusterShare {
        cluster: cluster(["a", "b", "c"][*id]),
        part: backends.values().sum(),
        backends: backends.iter().map(|(b, part)| (address(&at(*id, *b)), 8080, *part)).collect(),
    };
    parts.iter().map(share).collect()
}

/// A reconciler, and a replica that is written what it writes.
struct Watched {
    reconciler: Reconciler<Recorder>,
    replica: Replica,
    state: State,
    random: Random,
    lost: Vec<Lost>,
}

impl Watched {
    fn new(sizes: Sizes) -> Self {
        Self {
            reconciler: Reconciler::new(Recorder::new(sizes)),
            replica: Replica::new(sizes),
            state: State::default(),
            random: Random(7),
            lost: Vec::new(),
        }
    }

    /// Has a service be as it is wanted, and looks after each single write.
    fn apply(&mut self, name: &ServiceName, wanted: Option<Wanted>) {
        let vips = VIPS.map(|vip| vip.parse().unwrap());
        // A port that is nobody's, too.
        let ports = [&PORTS[..], &[(Protocol::Udp, 81)]].concat();
        let probe = Probe { vips: &vips, ports: &ports };
        let after = self.state.with(name, wanted.as_ref());
        self.reconciler.apply(name, wanted, &mut self.lost);
        for write in self.reconciler.tables_mut().take() {
            if self.replica.write(name, &write) {
                self.replica.check([&self.state, &after], &probe, &mut self.random);
            }
        }
        self.state = after;
        self.replica.check([&self.state; 2], &probe, &mut self.random);
    }

    fn rest(&mut self) {
        self.reconciler.rest().unwrap();
        for write in self.reconciler.tables_mut().take() {
            assert_eq!(write, Write::Rest, "a rest writes nothing");
            self.replica.write(&name("s0"), &write);
        }
    }

    /// Goes through steps, services in an order of the step's own.
    fn run(&mut self, steps: &[Step], each: impl Fn(&Self)) {
        let mut site = Site::default();
        for (edits, order, rests) in steps {
            edits.iter().for_each(|edit| site.edit(edit));
            let mut services: Vec<usize> = (0..SERVICES).collect();
            let mut order = Random(*order);
            services.sort_by_cached_key(|_| order.draw());
            for service in services {
                self.apply(&name(&format!("s{service}")), site.wanted(service));
                each(self);
            }
            if *rests {
                self.rest();
            }
        }
    }
}

/// Each backend of each port, and nothing else, may be come back to where the port has affinity, or is UDP; and each has the share that is
/// its part.
fn is_as_wanted(watched: &Watched) {
    let memory = &watched.replica.memory;
    let mut members = Vec::new();
    for (name, wanted) in &watched.state.services {
        let service = memory.vips.iter().find(|(key, _)| {
            let owner = watched.state.owners.get(&key.address.into());
            owner == Some(name)
        });
        let Some((_, service)) = service else { continue };
        for front in &wanted.fronts {
            let key = port_key(front.protocol, front.port);
            let number = memory.ports[&portolan_ebpf::abi::PortKey { service: *service, ..key }];
            assert_eq!(memory.fronts[&number].affinity, front.affinity);
            let (v4, any) = &front.spreads;
            for (family, spread) in [v4, any.as_ref().unwrap_or(v4)].into_iter().enumerate() {
                has_shares(memory, number, family, spread);
            }
            let any_comes_back = front.affinity > 0 || front.protocol == Protocol::Udp;
            for share in v4.iter().chain(any.iter().flatten()).filter(|_| any_comes_back) {
                let key = |(address, port, _): &(_, u16, _)| MemberKey {
                    address: *address,
                    front: number,
                    port: (*port).into(),
                    pad: 0,
                };
                members.extend(share.backends.iter().map(key));
            }
        }
    }
    members.sort_unstable();
    members.dedup();
    assert_eq!(members, memory.members.keys().copied().collect::<Vec<_>>());
}

/// The exact shares, computed from the alias words, are the parts within 2⁻¹⁶.
fn has_shares(memory: &portolan_ebpf::tables::Memory, front: u32, family: usize, spread: &Spread) {
    let got = Spreading::at(memory, front, family);
    let mut by_address: BTreeMap<_, f64> = BTreeMap::new();
    for (number, share) in &got.shares {
        let backend = memory.backends[number];
        *by_address.entry((backend.address, u16::from(backend.port), backend.cluster)).or_default() += share;
    }
    let whole: f64 = spread.iter().map(|share| f64::from(share.part)).sum();
    let sum: f64 = by_address.values().sum();
    assert!(spread.is_empty() || (sum - 1.0).abs() < 1e-9, "all shares are {sum}");
    let mut expected: Vec<((_, u16), f64)> = Vec::new();
    for share in spread {
        let its: f64 = share.backends.iter().map(|(.., part)| f64::from(*part)).sum();
        let part = |part: u32| f64::from(share.part) / whole * f64::from(part) / its;
        expected.extend(share.backends.iter().map(|(at, port, p)| ((*at, *port), part(*p))));
    }
    // Overlapping networks have one address twice: together they are as often as both.
    let mut sums: BTreeMap<(_, u16), (f64, usize)> = BTreeMap::new();
    for (at, part) in expected {
        let sum = sums.entry(at).or_default();
        *sum = (sum.0 + part, sum.1 + 1);
    }
    for ((address, port, _), share) in by_address {
        let entry = sums.get_mut(&(address, port)).expect("only what is wanted");
        entry.0 -= share;
    }
    for (at, (rest, count)) in sums {
        assert!(rest.abs() <= count as f64 / 65_536.0, "{at:?} gets {rest} too few");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing that a program may be reading is changed but by one word, which leads from the state before to the state after.
    #[test]
    fn every_write_leads_from_one_state_to_the_next(steps in steps(24)) {
        let mut watched = Watched::new(ROOM);
        watched.run(&steps, |watched| {
            assert!(watched.reconciler.refused().is_empty(), "{:?}", watched.reconciler.refused());
        });
        is_as_wanted(&watched);
        for service in 0..SERVICES {
            watched.apply(&name(&format!("s{service}")), None);
        }
        watched.rest();
        let memory = &watched.replica.memory;
        prop_assert!(memory.vips.is_empty() && memory.ports.is_empty() && memory.members.is_empty());
        let fill = watched.reconciler.fill();
        prop_assert_eq!([fill.vips.0, fill.ports.0, fill.backends.0, fill.slots.0], [0; 4]);
    }
}

/// Parts of clusters' backends, and more than one backend for each: from 1 to many, alike and far from it.
fn spreads() -> Vec<Spread> {
    let of = |clusters: &[&[u32]]| -> Spread {
        let share = |(id, parts): (usize, &&[u32])| ClusterShare {
            cluster: cluster(&format!("c{id}")),
            part: parts.iter().sum(),
            backends: (0..)
                .zip(parts.iter())
                .map(|(at, part)| (address(&format!("10.{id}.{}.{}", at / 256, at % 256)), 8080, *part))
                .collect(),
        };
        clusters.iter().enumerate().map(share).collect()
    };
    let many: Vec<u32> = (1..=1000).collect();
    vec![
        of(&[&[1]]),
        of(&[&[1, 1, 1]]),
        of(&[&[1, 999_999]]),
        of(&[&[333_333, 333_333, 333_334]]),
        of(&[&[600_000], &[300_000], &[100_000]]),
        of(&[&[5, 500, 50_000], &[1], &[70_000, 1, 7]]),
        of(&[&[1, 2], &[3, 4, 5], &[6], &[7, 8, 9, 10]]),
        of(&[&many, &[1]]),
        of(&vec![&[3_u32, 4][..]; 256]),
    ]
}

fn tables_of(spread: &Spread) -> Reconciler<Recorder> {
    let mut reconciler = Reconciler::new(Recorder::new(Sizes { clusters: 256, ..Sizes::of(1, 1, 2000) }));
    let front = front(Protocol::Tcp, 80, spread.clone());
    reconciler.apply(&name("s"), Some(wanted(&["10.96.0.1"], vec![front])), &mut Vec::new());
    assert!(reconciler.refused().is_empty(), "{:?}", reconciler.refused());
    reconciler
}

#[test]
fn each_backend_has_the_share_that_is_its_part() {
    for spread in spreads() {
        let reconciler = tables_of(&spread);
        for family in [0, 1] {
            has_shares(&reconciler.tables().memory, 0, family, &spread);
        }
    }
}

/// Pearson's chi-square test, at a significance of 0.001: what 100,000 connections come to is what the parts say. The numbers are
/// the same in every run: it can't fail by chance.
#[test]
fn connections_are_spread_by_parts() {
    const DRAWS: usize = 100_000;
    for (at, spread) in (0..).zip(spreads()) {
        let reconciler = tables_of(&spread);
        let mut counts: BTreeMap<_, f64> = BTreeMap::new();
        let mut random = Random(at);
        for _ in 0..DRAWS {
            let to = (address("10.96.0.1"), port_key(Protocol::Tcp, 80));
            let (_, backend) = reconciler.tables().memory.walk(to, 0, random.draw()).unwrap().unwrap();
            *counts.entry(backend.address).or_default() += 1.0;
        }
        let whole: f64 = spread.iter().map(|share| f64::from(share.part)).sum();
        let expected = spread.iter().flat_map(|share| &share.backends);
        let expected = expected.map(|(at, _, part)| (*at, f64::from(*part) / whole * DRAWS as f64));
        // Backends that are expected less than five times are counted as one.
        let (often, seldom): (Vec<_>, Vec<_>) = expected.partition(|(_, times)| *times >= 5.0);
        let count =
            |of: &[(_, f64)]| of.iter().map(|(at, _)| counts.get(at).copied().unwrap_or(0.0)).sum::<f64>();
        let mut cells: Vec<(f64, f64)> = often.iter().map(|cell| (count(&[*cell]), cell.1)).collect();
        let rest: f64 = seldom.iter().map(|(_, times)| times).sum();
        if rest >= 5.0 {
            cells.push((count(&seldom), rest));
        }
        let statistic: f64 = cells.iter().map(|(got, times)| (got - times).powi(2) / times).sum();
        let bound = critical(cells.len() - 1);
        assert!(statistic <= bound, "spread {at}: {statistic} of {} cells exceeds {bound}", cells.len());
    }
}

/// Of the chi-square distribution at 0.001 (Wilson and Hilferty's approximation).
fn critical(freedom: usize) -> f64 {
    let freedom = freedom.max(1) as f64;
    let part = 2.0 / (9.0 * freedom);
    freedom * (1.0 - part + 3.0902 * part.sqrt()).powi(3)
}
