//! Whatever changes, however small the tables are and whatever the kernel refuses: nothing leads where it should not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use portolan_ebpf::abi::Address;
use portolan_ebpf::reconcile::Reconciler;
use portolan_ebpf::tables::{Memory, Sizes};
use portolan_ebpf::wanted::{Wanted, WantedFront};
use portolan_zones::ServiceName;
use portolan_zones::object::Protocol::{Tcp, Udp};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use crate::common::replica::{Replica, spread_of};
use crate::common::*;
use crate::small::*;

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
