//! Services and ports as they are in the tables.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::net::IpAddr;

use portolan_zones::ServiceName;
use portolan_zones::object::Protocol;
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use super::Lost;
use crate::abi::{Address, MemberKey, PortKey};
use crate::space::Range;
use crate::wanted::{Spread, Wanted, WantedFront, protocol_number};

/// Key of the hash that stands for a front in what outlives tables: fixed.
const KEY: [u8; 16] = *b"portolan-fronts1";

/// A service as it is in the tables.
pub(super) struct Held {
    pub(super) number: u32,
    pub(super) wanted: Wanted,
    /// Whether all of it could be written.
    pub(super) whole: bool,
    pub(super) fronts: SmallVec<[HeldFront; 1]>,
}

/// A port as it is in the tables.
pub(super) struct HeldFront {
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    pub(super) number: u32,
    pub(super) affinity: u32,
    pub(super) ranges: SmallVec<[Range; 1]>,
    /// What was written there, where that is not what is wanted: see `shrink`.
    pub(super) drawn: Option<(Spread, Option<Spread>)>,
    /// Sorted.
    pub(super) backends: Vec<(BackendKey, u32)>,
    /// Whom clients may come back to.
    pub(super) members: BTreeMap<Member, u32>,
}

/// Which backend of a front.
pub(super) type BackendKey = (u16, Address, u16);

/// A backend of a front as its clients know it.
pub(super) type Member = (Address, u16);

/// What a front had: its backends, and where its spreads were.
pub(super) type Former = (Vec<(BackendKey, u32)>, SmallVec<[Range; 1]>);

impl Held {
    pub(super) fn empty(number: u32) -> Self {
        let wanted = Wanted { vips: Vec::new(), fronts: Vec::new() };
        Self { number, wanted, whole: false, fronts: SmallVec::new() }
    }

    pub(super) fn front(&self, wanted: &WantedFront) -> Option<&HeldFront> {
        self.fronts.iter().find(|front| front.is_for(wanted))
    }
}

impl HeldFront {
    pub(super) fn is_for(&self, wanted: &WantedFront) -> bool {
        self.protocol == wanted.protocol && self.port == wanted.port
    }

    pub(super) fn backend(&self, key: &BackendKey) -> Option<u32> {
        find(&self.backends, key)
    }

    pub(super) fn member(&self, (address, port): Member) -> MemberKey {
        MemberKey { address, front: self.number, port: port.into(), pad: 0 }
    }

    pub(super) fn lost(&self, (_, address, port): &BackendKey, vips: &[IpAddr]) -> Lost {
        let backend = (IpAddr::from(*address), *port);
        Lost { vips: vips.to_vec(), port: self.port, protocol: self.protocol, backend }
    }
}

/// Whom clients of a front with affinity, and flows of a UDP front, may come back to. Where networks overlap an address may be that of several clusters' backends, of which
/// it is one.
pub(super) fn members(
    protocol: Protocol,
    affinity: u32,
    backends: &[(BackendKey, u32)],
) -> BTreeMap<Member, u32> {
    let any_comes_back = affinity > 0 || protocol == Protocol::Udp;
    let backends = backends.iter().filter(|_| any_comes_back);
    backends.map(|((_, address, port), number)| ((*address, *port), *number)).collect()
}

pub(super) fn find(backends: &[(BackendKey, u32)], key: &BackendKey) -> Option<u32> {
    let at = backends.binary_search_by(|(there, _)| there.cmp(key)).ok()?;
    Some(backends[at].1)
}

pub(super) fn port_key(service: u32, front: &HeldFront) -> Option<PortKey> {
    let protocol = protocol_number(front.protocol)?;
    Some(PortKey { service, port: front.port.into(), protocol, pad: 0 })
}

/// What stands for a port of a service, whoever computes it.
pub(super) fn identity(name: &ServiceName, protocol: Protocol, port: u16) -> u64 {
    let mut hasher = SipHasher13::new_with_key(&KEY);
    hasher.write(name.wire());
    hasher.write(protocol.label().as_bytes());
    hasher.write_u16(port);
    hasher.finish()
}
