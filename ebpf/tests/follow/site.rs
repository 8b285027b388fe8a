//! Clusters with one service, an agent's tables that follow them, and what these say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use portolan_ebpf::abi::{PortKey, VipKey};
use portolan_ebpf::follow::{Follower, Pass, Scope};
use portolan_ebpf::tables::{Memory, Sizes};
use portolan_zones::object::Protocol::{Tcp, Udp};
use portolan_zones::object::{IpFamily, Protocol};
use portolan_zones::peers::{Forced, Scope as Of, State};
use portolan_zones::policy::Level::{Cluster, Zone};
use portolan_zones::policy::health::{CheckKind, HealthCheck};
use portolan_zones::policy::{Locality, Preference, Rules};
use portolan_zones::{Event, Snapshot};

use crate::common::world::World;
use crate::common::*;

pub(crate) fn follower(sizes: Sizes) -> Follower<Recorder> {
    Follower::new(Recorder::new(sizes), Scope::default(), Some("n1".into()))
}

pub(crate) fn small() -> Follower<Recorder> {
    follower(Sizes::of(64, 128, 256))
}

pub(crate) fn follow(follower: &mut Follower<Recorder>, snapshot: &Arc<Snapshot>) -> (Pass, Vec<Write>) {
    follower.reconciler_mut().tables_mut().take();
    let (pass, rested) = follower.follow(snapshot);
    rested.unwrap();
    (pass, follower.reconciler_mut().tables_mut().take())
}

pub(crate) fn memory(follower: &Follower<Recorder>) -> &Memory {
    &follower.reconciler().tables().memory
}

pub(crate) fn front_of(memory: &Memory, vip: &str, protocol: Protocol, port: u16) -> Option<u32> {
    let service = *memory.vips.get(&VipKey { address: address(vip) })?;
    memory.ports.get(&PortKey { service, ..port_key(protocol, port) }).copied()
}

/// The share of each backend of TCP port 80, by the words.
pub(crate) fn shares(memory: &Memory, vip: &str, family: usize) -> BTreeMap<(IpAddr, u16), f64> {
    let front = front_of(memory, vip, Tcp, 80).expect(vip);
    let shares = Spreading::at(memory, front, family).shares;
    let at = |(number, share): (u32, f64)| {
        let backend = memory.backends[&number];
        ((backend.address.into(), backend.port.into()), share)
    };
    shares.into_iter().map(at).collect()
}

pub(crate) fn reached(memory: &Memory, vip: &str, family: usize) -> BTreeSet<String> {
    shares(memory, vip, family).keys().map(|(at, _)| at.to_string()).collect()
}

pub(crate) fn set(addresses: &[&str]) -> BTreeSet<String> {
    addresses.iter().map(|at| (*at).to_owned()).collect()
}

pub(crate) fn tcp_check() -> Option<Arc<HealthCheck>> {
    let (interval, timeout) = (Duration::from_secs(10), Duration::from_secs(2));
    Some(HealthCheck { kind: CheckKind::Tcp, port: None, interval, timeout, rise: 2, fall: 3 }.into())
}

pub(crate) fn by_zone() -> Rules {
    let locality = Some(Locality { order: [Zone, Cluster][..].into(), reach: Preference::Prefer });
    Rules { locality, ..Rules::default() }
}

pub(crate) fn weighted(weights: &[(&str, u32)]) -> Rules {
    Rules { weights: weights.iter().map(|(id, weight)| (cluster(id), *weight)).collect(), ..Rules::default() }
}

/// Service `s` in `a` (zones z1 and z2), `b` (z1) and `c` (IPv4 only).
pub(crate) fn site(rules: Option<Rules>) -> World {
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
pub(crate) fn agrees(follower: &Follower<Recorder>, world: &World, why: &str) {
    let (memory, service) = (memory(follower), world.service("s"));
    for (family, of) in [(0, IpFamily::V4), (1, IpFamily::V6)] {
        let backends = world.snapshot.backends(&service, follower.place(), 0, Some(of));
        assert!(!backends.is_empty(), "{why}");
        for (protocol, port, target) in [(Tcp, 80, 8080), (Udp, 53, 5353)] {
            let front = front_of(memory, "fd96::1", protocol, port).expect(why);
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

/// Fronts whose spread was written.
pub(crate) fn rewritten(writes: &[Write]) -> BTreeSet<u32> {
    let front = |write: &Write| match write {
        Write::Head(front, ..) => Some(*front),
        _ => None,
    };
    writes.iter().filter_map(front).collect()
}

/// What people decide about a cluster.
pub(crate) fn down(id: &str, state: State) -> Event {
    Event::Force([Forced { cluster: cluster(id), of: Of::All, state }].into())
}
