//! Virtual IPs from a pool: for services whose cluster has not given them one (no ServiceImport of home).
//!
//! A service's address follows from its name where it can, so that servers without shared memory mostly agree, and is
//! remembered in a state file, so that a restart changes nothing. A freed address goes back to its own service at
//! once, to another one only after a quarantine: clients may still use it.

use std::collections::HashMap;
use std::hash::Hasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use portolan_zones::object::{IpFamily, UnixTime};
use portolan_zones::{ServiceName, VipDemand};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

/// A service's addresses, in the order of its families.
pub type Vips = SmallVec<[IpAddr; 2]>;

/// Key of the hash that chooses addresses: fixed, for all servers must choose alike.
const KEY: [u8; 16] = *b"portolan-vips-v1";
/// How many addresses are tried before a pool counts as exhausted for a service.
const PROBES: u128 = 1 << 20;
/// Ranges that other systems hand out or route: a pool that overlaps one would send clients astray.
const RESERVED: [(&str, &str); 4] = [
    ("240.240.0.0/16", "Istio's automatic addresses"),
    ("2001:2::/48", "Istio's automatic addresses"),
    ("242.0.0.0/8", "Submariner Globalnet"),
    ("243.0.0.0/8", "Submariner's clusterset IPs"),
];

/// Ranges to allocate from.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolRanges {
    /// IPv4 range; `None`: no IPv4 addresses are given.
    pub ipv4: Option<Ipv4Net>,
    /// IPv6 range; `None`: no IPv6 addresses are given.
    pub ipv6: Option<Ipv6Net>,
}

impl Default for PoolRanges {
    /// 241.0.0.0/8 (of the unassigned former class E) and a unique local /108.
    fn default() -> Self {
        let v6 = Ipv6Addr::new(0xfd70, 0x6f72, 0x746f, 0, 0, 0, 0, 0);
        Self {
            ipv4: Some(Ipv4Net::new_assert(Ipv4Addr::new(241, 0, 0, 0), 8)),
            ipv6: Some(Ipv6Net::new_assert(v6, 108)),
        }
    }
}

/// Why no address can be given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VipError {
    /// The range is taken by another system.
    #[error("pool {pool} overlaps {reserved} ({by}): choose another range")]
    Reserved {
        /// As configured.
        pool: IpNet,
        /// What it overlaps.
        reserved: IpNet,
        /// Whose that is.
        by: &'static str,
    },
    /// Every address that was tried is taken.
    #[error("service {service}: pool {pool} is exhausted: choose a larger range, or unexport services")]
    Exhausted {
        /// Who wants one.
        service: ServiceName,
        /// Which range.
        pool: IpNet,
    },
    /// The service wants families, and no pool has any of them.
    #[error("service {0}: no pool for its IP families: configure one, or give its ServiceImport addresses")]
    NoPool(ServiceName),
}

impl PoolRanges {
    /// Refuses ranges that belong to others.
    pub fn check(&self) -> Result<(), VipError> {
        let pools = self.ipv4.map(IpNet::V4).into_iter().chain(self.ipv6.map(IpNet::V6));
        for pool in pools {
            for (range, by) in RESERVED {
                let Ok(reserved) = range.parse::<IpNet>() else { continue };
                if pool.contains(&reserved.network()) || reserved.contains(&pool.network()) {
                    return Err(VipError::Reserved { pool, reserved, by });
                }
            }
        }
        Ok(())
    }

    fn of(&self, family: IpFamily) -> Option<IpNet> {
        match family {
            IpFamily::V4 => self.ipv4.map(IpNet::V4),
            IpFamily::V6 => self.ipv6.map(IpNet::V6),
        }
    }
}

/// Who has which address. Pure: time comes in, files are the caller's.
#[derive(Debug, Default)]
pub struct VipPool {
    ranges: PoolRanges,
    /// Seconds.
    quarantine: UnixTime,
    assigned: HashMap<ServiceName, Box<[IpAddr]>>,
    /// From the state file, not asked for again yet.
    restored: HashMap<ServiceName, Box<[IpAddr]>>,
    /// Every address of the three others, with its service.
    holders: HashMap<IpAddr, ServiceName>,
    /// Freed, and when others may have it.
    freed: HashMap<IpAddr, UnixTime>,
    /// Families of whose range every address was tried in vain, until one may be free again.
    full: SmallVec<[IpFamily; 2]>,
    /// Whether that may be since [`VipPool::take_reopened`] was last called.
    reopened: bool,
    changed: bool,
}

/// What the state file says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    version: u32,
    assigned: Vec<(String, Box<[IpAddr]>)>,
    freed: Vec<(IpAddr, String, UnixTime)>,
}

/// The only version of [`Memory`] there is.
const VERSION: u32 = 1;

impl VipPool {
    /// An empty pool; `quarantine` in seconds.
    pub fn new(ranges: PoolRanges, quarantine: UnixTime) -> Self {
        Self { ranges, quarantine, ..Self::default() }
    }

    /// Takes other ranges; what was given from the old ones is given up when its service next asks.
    pub fn reconfigure(&mut self, ranges: PoolRanges, quarantine: UnixTime) {
        self.ranges = ranges;
        self.quarantine = quarantine;
        self.reopen();
    }

    /// An address may have become free: an import that claimed it is gone, say.
    pub(crate) fn reopen(&mut self) {
        self.full.clear();
        self.reopened = true;
    }

    /// Whether services that were refused should be tried again; once.
    pub(crate) fn take_reopened(&mut self) -> bool {
        std::mem::take(&mut self.reopened)
    }

    /// Whether a service that has nothing, and was refused before, would be refused again.
    pub(crate) fn is_full_for(&self, demand: &VipDemand) -> bool {
        let full = demand.families.iter().all(|family| self.full.contains(family));
        full && !demand.families.is_empty() && !self.assigned.contains_key(&demand.service)
    }

    /// Every service that has addresses, with those of them that are in the ranges.
    pub(crate) fn in_ranges(&self) -> impl Iterator<Item = (&ServiceName, Vips)> {
        let allowed = |ip: &IpAddr| self.ranges.of((*ip).into()).is_some_and(|range| range.contains(ip));
        self.assigned
            .iter()
            .map(move |(service, ips)| (service, ips.iter().copied().filter(|ip| allowed(ip)).collect()))
    }

    /// Gives a service what it wants: the addresses that it has or had, else new ones. An address that `claimed` says
    /// another service's import has is given up. No families: the service gives all back. Returns what the service
    /// has now and, when that is less than the ranges promise, why.
    pub fn allocate(
        &mut self,
        demand: &VipDemand,
        claimed: impl Fn(IpAddr) -> bool,
        now: UnixTime,
    ) -> (Vips, Option<VipError>) {
        let service = &demand.service;
        if demand.families.is_empty() {
            self.release(service, now);
            return (Vips::new(), None);
        }
        let before =
            self.assigned.remove(service).or_else(|| self.restored.remove(service)).unwrap_or_default();
        let mut ips = Vips::new();
        let mut failure = None;
        for family in &demand.families {
            let Some(range) = self.ranges.of(*family) else { continue };
            let kept = before.iter().find(|ip| range.contains(*ip) && !claimed(**ip));
            match kept.copied().map_or_else(|| self.choose(service, range, &claimed, now), Ok) {
                Ok(ip) => {
                    self.holders.insert(ip, service.clone());
                    self.freed.remove(&ip);
                    ips.push(ip);
                }
                Err(error) => failure = Some(error),
            }
        }
        for ip in before.iter().filter(|ip| !ips.contains(ip)) {
            self.freed.insert(*ip, now + self.quarantine);
        }
        self.changed |= *before != *ips;
        if ips.is_empty() {
            return (ips, failure.or_else(|| Some(VipError::NoPool(service.clone()))));
        }
        self.assigned.insert(service.clone(), ips.as_slice().into());
        (ips, failure)
    }

    /// What a service has.
    pub fn assigned(&self, service: &ServiceName) -> Option<&[IpAddr]> {
        self.assigned.get(service).map(|ips| &**ips)
    }

    /// Number of services that have addresses.
    pub fn len(&self) -> usize {
        self.assigned.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.assigned.is_empty()
    }

    /// All clusters have been read: what the state file remembers of services that are gone is freed.
    pub fn free_unclaimed(&mut self, now: UnixTime) {
        let gone: Vec<_> = self.restored.keys().cloned().collect();
        for service in gone {
            self.release(&service, now);
        }
    }

    fn release(&mut self, service: &ServiceName, now: UnixTime) {
        let before = self.assigned.remove(service).or_else(|| self.restored.remove(service));
        for ip in before.into_iter().flatten() {
            self.freed.insert(ip, now + self.quarantine);
            self.changed = true;
        }
    }

    /// The first free address from the one that the name points at.
    fn choose(
        &mut self,
        service: &ServiceName,
        range: IpNet,
        claimed: &impl Fn(IpAddr) -> bool,
        now: UnixTime,
    ) -> Result<IpAddr, VipError> {
        let (first, usable) = usable(range);
        let start = hash(service) % usable;
        let is_free = |ip: &IpAddr| !claimed(*ip) && self.is_free_for(service, *ip, now);
        let family = IpFamily::from(range.network());
        let found = if self.full.contains(&family) {
            // What it gave up itself is all that there may be.
            self.freed.keys().copied().filter(|ip| range.contains(ip) && is_free(ip)).min()
        } else {
            (0..usable.min(PROBES)).map(|probe| first.at((start + probe) % usable)).find(is_free)
        };
        if found.is_none() && !self.full.contains(&family) {
            self.full.push(family);
        }
        found.ok_or_else(|| VipError::Exhausted { service: service.clone(), pool: range })
    }

    fn is_free_for(&self, service: &ServiceName, ip: IpAddr, now: UnixTime) -> bool {
        match (self.holders.get(&ip), self.freed.get(&ip)) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(holder), Some(until)) => holder == service || *until <= now,
        }
    }

    /// The state file's text if it would differ from the last time.
    pub(crate) fn take_memory(&mut self) -> Option<Memory> {
        std::mem::take(&mut self.changed).then(|| self.memory())
    }

    /// Writing failed: there is something to write still.
    pub(crate) fn keep_changed(&mut self) {
        self.changed = true;
    }

    fn memory(&self) -> Memory {
        let entries = self.assigned.iter().chain(&self.restored);
        let mut assigned: Vec<_> = entries.map(|(service, ips)| (service.to_string(), ips.clone())).collect();
        assigned.sort();
        let name = |ip| self.holders.get(ip).map(ToString::to_string).unwrap_or_default();
        let mut freed: Vec<_> = self.freed.iter().map(|(ip, until)| (*ip, name(ip), *until)).collect();
        freed.sort();
        Memory { version: VERSION, assigned, freed }
    }

    /// Takes up what an earlier run remembered; entries that make no sense are left out. Returns how many were.
    /// A service that was given addresses in the meantime keeps those; its former ones count as freed.
    pub(crate) fn restore(&mut self, memory: Memory, now: UnixTime) -> usize {
        let mut refused = 0;
        let name = |text: &str| text.split_once('/').and_then(|(ns, name)| ServiceName::new(ns, name).ok());
        for (service, ips) in memory.assigned {
            match name(&service) {
                Some(service) if self.assigned.contains_key(&service) => {
                    self.hold_former(&service, &ips, now);
                }
                Some(service) if ips.iter().all(|ip| !self.holders.contains_key(ip)) => {
                    self.holders.extend(ips.iter().map(|ip| (*ip, service.clone())));
                    self.restored.insert(service, ips);
                }
                _ => refused += 1,
            }
        }
        for (ip, service, until) in memory.freed {
            match name(&service).filter(|_| !self.holders.contains_key(&ip)) {
                Some(service) => {
                    self.holders.insert(ip, service);
                    self.freed.insert(ip, until);
                }
                None => refused += 1,
            }
        }
        refused
    }

    /// Keeps from others what a service had before it was given other addresses.
    fn hold_former(&mut self, service: &ServiceName, former: &[IpAddr], now: UnixTime) {
        for ip in former {
            if !self.holders.contains_key(ip) {
                self.holders.insert(*ip, service.clone());
                self.freed.insert(*ip, now + self.quarantine);
                self.changed = true;
            }
        }
    }

    /// Forgets quarantines that are over.
    pub(crate) fn end_quarantines(&mut self, now: UnixTime) {
        let over: Vec<IpAddr> =
            self.freed.iter().filter(|(_, until)| **until <= now).map(|(ip, _)| *ip).collect();
        for ip in over {
            self.freed.remove(&ip);
            self.holders.remove(&ip);
            self.changed = true;
            self.reopen();
        }
    }
}

impl Memory {
    /// Whether this program can read it.
    pub(crate) fn is_known(&self) -> bool {
        self.version == VERSION
    }
}

/// Where counting starts.
#[derive(Clone, Copy)]
enum First {
    V4(u32),
    V6(u128),
}

impl First {
    fn at(self, offset: u128) -> IpAddr {
        match self {
            Self::V4(first) => Ipv4Addr::from(first.wrapping_add(offset as u32)).into(),
            Self::V6(first) => Ipv6Addr::from(first.wrapping_add(offset)).into(),
        }
    }
}

/// First address and number of addresses that may be given: not the network's own, nor IPv4's broadcast address.
fn usable(range: IpNet) -> (First, u128) {
    let size = |bits: u8| 1_u128.checked_shl(bits.into()).unwrap_or(u128::MAX);
    match range {
        IpNet::V4(net) if net.prefix_len() >= 31 => {
            (First::V4(net.network().into()), size(32 - net.prefix_len()))
        }
        IpNet::V4(net) => (First::V4(u32::from(net.network()) + 1), size(32 - net.prefix_len()) - 2),
        IpNet::V6(net) if net.prefix_len() >= 127 => {
            (First::V6(net.network().into()), size(128 - net.prefix_len()))
        }
        IpNet::V6(net) => (First::V6(u128::from(net.network()) + 1), size(128 - net.prefix_len()) - 1),
    }
}

fn hash(service: &ServiceName) -> u128 {
    let mut hasher = SipHasher13::new_with_key(&KEY);
    hasher.write(service.wire());
    hasher.finish().into()
}

#[cfg(test)]
mod tests;
