//! Small tables: what is asked of them, what they refuse, and whom connections reach then.

use std::collections::BTreeSet;
use std::net::IpAddr;

use portolan_ebpf::abi::VipKey;
use portolan_ebpf::reconcile::{Lost, Reconciler};
use portolan_ebpf::tables::{Memory, Sizes};
use portolan_ebpf::wanted::Wanted;
use portolan_zones::object::Protocol::Tcp;

use crate::common::*;

pub(crate) const ROOM: Sizes =
    Sizes { vips: 16, ports: 32, backends: 64, slots: 256, clusters: 8, flows: 1, affinities: 1 };

pub(crate) fn reconciler(sizes: Sizes) -> Reconciler<Recorder> {
    Reconciler::new(Recorder::new(sizes))
}

pub(crate) fn refusal(reconciler: &Reconciler<Recorder>, service: &str) -> Option<String> {
    reconciler.refused().get(&name(service)).map(ToString::to_string)
}

pub(crate) fn apply(
    reconciler: &mut Reconciler<Recorder>,
    service: &str,
    wanted: Option<Wanted>,
) -> Vec<Lost> {
    let mut lost = Vec::new();
    reconciler.apply(&name(service), wanted, &mut lost);
    lost
}

/// Whom connections to TCP port 80 reach, by the exact words; `None`: there is no such address or port.
pub(crate) fn reached(memory: &Memory, vip: &str, family: usize) -> Option<BTreeSet<IpAddr>> {
    let service = *memory.vips.get(&VipKey { address: address(vip) })?;
    let key = portolan_ebpf::abi::PortKey { service, ..port_key(Tcp, 80) };
    let front = *memory.ports.get(&key)?;
    let shares = Spreading::at(memory, front, family).shares;
    Some(shares.keys().map(|number| memory.backends[number].address.into()).collect())
}

pub(crate) fn of(addresses: &[&str]) -> Option<BTreeSet<IpAddr>> {
    Some(addresses.iter().map(|at| at.parse().unwrap()).collect())
}

pub(crate) fn in_cluster(vip: &str, id: &str, at: &str) -> Wanted {
    wanted(&[vip], vec![front(Tcp, 80, spread(&[(id, &[(at, 80, 1)])]))])
}
