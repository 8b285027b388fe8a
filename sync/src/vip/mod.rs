//! Virtual IPs from pools of ours, for services whose cluster has given them none.
//!
//! The first choice is a hash of the service's name, so that replicas without shared state mostly agree; a state
//! file remembers who has what, so that a restart changes nothing. A freed address rests before it is used again:
//! clients may still hold it.

mod memory;
mod range;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hasher;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use portolan_zones::object::{IpFamily, UnixTime};
use portolan_zones::{ServiceName, VipDemand};
use siphasher::sip::SipHasher24;
use smallvec::SmallVec;

use memory::Memory;
use range::Range;

/// Addresses of one service, at most one per family.
pub type Ips = SmallVec<[IpAddr; 2]>;

/// What an operator decides about the pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Pool of IPv4 addresses.
    pub ipv4: Option<Ipv4Net>,
    /// Pool of IPv6 addresses.
    pub ipv6: Option<Ipv6Net>,
    /// Where allocations are remembered; `None`: nowhere.
    pub state_file: Option<PathBuf>,
    /// How long a freed address rests.
    pub quarantine: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            ipv4: Ipv4Net::new([241, 0, 0, 0].into(), 8).ok(),
            ipv6: Ipv6Net::new([0xfd70, 0x6f72, 0x746f, 0, 0, 0, 0, 0].into(), 108).ok(),
            state_file: None,
            quarantine: Duration::from_secs(3600),
        }
    }
}

/// Why a pool is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Another system hands out these addresses.
    #[error("pool {pool} overlaps {taken}, which {by}: choose another network")]
    Taken {
        /// As configured.
        pool: String,
        /// What it overlaps.
        taken: String,
        /// Who uses that.
        by: &'static str,
    },
    /// A network without a single address to give.
    #[error("pool {pool} has no address to give: choose a network of at least 4 addresses")]
    Small {
        /// As configured.
        pool: String,
    },
}

/// The pool: who has which address.
pub struct Pool {
    config: PoolConfig,
    v4: Option<Range>,
    v6: Option<Range>,
    assigned: HashMap<ServiceName, Ips>,
    /// Remembered from before the start; nobody has asked for them yet.
    unconfirmed: HashSet<ServiceName>,
    used: HashSet<IpAddr>,
    resting: HashSet<IpAddr>,
    /// The same, by the time when each may be used again.
    resting_until: VecDeque<(UnixTime, IpAddr)>,
    unserved: BTreeSet<ServiceName>,
    memory: Memory,
}

impl Pool {
    /// Checks the networks and recalls what the state file holds. A file that can't be read is a problem of
    /// [`Pool::problem`], no error: allocation goes on in memory.
    pub fn open(config: PoolConfig) -> Result<Self, PoolError> {
        let memory = |path: Option<PathBuf>| path.map_or_else(Memory::none, Memory::open);
        Self::with_memory(config.clone(), memory(config.state_file))
    }

    /// The same, but the state file is only read, never written.
    pub fn peek(config: PoolConfig) -> Result<Self, PoolError> {
        let memory = |path: Option<PathBuf>| path.map_or_else(Memory::none, Memory::peek);
        Self::with_memory(config.clone(), memory(config.state_file))
    }

    fn with_memory(config: PoolConfig, mut memory: Memory) -> Result<Self, PoolError> {
        let v4 = config.ipv4.map(Range::v4).transpose()?;
        let v6 = config.ipv6.map(Range::v6).transpose()?;
        let state = memory.recall();
        let mut pool = Self {
            config,
            v4,
            v6,
            assigned: HashMap::with_capacity(state.vips.len()),
            unconfirmed: HashSet::with_capacity(state.vips.len()),
            used: HashSet::with_capacity(state.vips.len()),
            resting: HashSet::new(),
            resting_until: VecDeque::new(),
            unserved: BTreeSet::new(),
            memory,
        };
        for (service, ips) in state.vips {
            pool.adopt(service, ips);
        }
        for (until, ip) in state.resting {
            pool.rest(ip, until);
        }
        Ok(pool)
    }

    /// Whether this pool is the one that `config` describes.
    pub fn is(&self, config: &PoolConfig) -> bool {
        self.config == *config
    }

    /// Takes over what another pool gave, as far as it is in range here and free.
    pub fn adopt_all(&mut self, before: &Self) {
        for (service, ips) in &before.assigned {
            if !self.assigned.contains_key(service) {
                self.adopt(service.clone(), ips.clone());
                self.remember(service);
            }
        }
        for (until, ip) in &before.resting_until {
            self.rest(*ip, *until);
        }
    }

    /// Gives a service an address for each family that it wants, as far as there are any; what it has, it keeps.
    ///
    /// `is_taken` tells the addresses that somebody else claims; `now` is when freed ones begin to rest.
    pub fn allocate(&mut self, demand: &VipDemand, now: UnixTime, is_taken: impl Fn(IpAddr) -> bool) -> Ips {
        let service = &demand.service;
        self.unconfirmed.remove(service);
        let before = self.assigned.remove(service).unwrap_or_default();
        let mut ips = Ips::new();
        let mut short = false;
        for family in &demand.families {
            let kept = before.iter().find(|ip| IpFamily::from(**ip) == *family && !is_taken(**ip));
            let ip = kept.copied().or_else(|| self.choose(service, *family, &is_taken));
            short |= ip.is_none() && self.range(*family).is_some();
            self.used.extend(ip);
            ips.extend(ip);
        }
        for ip in before.iter().filter(|ip| !ips.contains(ip)) {
            self.used.remove(ip);
            self.rest(*ip, now.saturating_add(self.config.quarantine.as_secs().cast_signed()));
        }
        if !ips.is_empty() {
            self.assigned.insert(service.clone(), ips.clone());
        }
        if short {
            self.unserved.insert(service.clone());
        } else {
            self.unserved.remove(service);
        }
        if ips != before {
            self.remember(service);
        }
        ips
    }

    /// Frees what was remembered for services that turned out to be gone. To be called when all clusters are known.
    pub fn free_unconfirmed(&mut self, now: UnixTime) {
        for service in std::mem::take(&mut self.unconfirmed) {
            self.allocate(&VipDemand { service, families: SmallVec::new() }, now, |_| false);
        }
    }

    /// Ends the rest of addresses whose time has come; returns whether there are any.
    pub fn wake(&mut self, now: UnixTime) -> bool {
        let mut woken = false;
        while let Some((_, ip)) = self.resting_until.pop_front_if(|(until, _)| *until <= now) {
            self.resting.remove(&ip);
            self.memory.rest_is_over(ip);
            woken = true;
        }
        woken
    }

    /// When the next address may be used again.
    pub fn next_wake(&self) -> Option<UnixTime> {
        self.resting_until.front().map(|(until, _)| *until)
    }

    /// Who has which addresses.
    pub fn assigned(&self) -> impl Iterator<Item = (&ServiceName, &Ips)> {
        self.assigned.iter()
    }

    /// Services that get less than they want, for the pool has no more.
    pub fn unserved(&self) -> &BTreeSet<ServiceName> {
        &self.unserved
    }

    /// How many addresses services have, and how many rest.
    pub fn counts(&self) -> (usize, usize) {
        (self.used.len(), self.resting.len())
    }

    /// What is wrong with the state file.
    pub fn problem(&self) -> Option<String> {
        self.memory.problem()
    }

    fn range(&self, family: IpFamily) -> Option<Range> {
        match family {
            IpFamily::V4 => self.v4,
            IpFamily::V6 => self.v6,
        }
    }

    /// The address that the service's name hashes to, else the next free one.
    fn choose(&self, service: &ServiceName, family: IpFamily, is_taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
        let range = self.range(family)?;
        let out = self.used.iter().chain(&self.resting).filter(|ip| IpFamily::from(**ip) == family);
        if range.len() <= (self.used.len() + self.resting.len()) as u128 && range.len() <= out.count() as u128 {
            return None;
        }
        let mut hasher = SipHasher24::new_with_key(b"portolan vip key");
        hasher.write(service.wire());
        range.from(hasher.finish()).find(|ip| {
            !self.used.contains(ip) && !self.resting.contains(ip) && !is_taken(*ip)
        })
    }

    fn adopt(&mut self, service: ServiceName, ips: Ips) {
        let fits = |ip: &IpAddr| {
            let range = self.range((*ip).into());
            range.is_some_and(|range| range.contains(*ip)) && !self.used.contains(ip)
        };
        let ips: Ips = ips.into_iter().filter(fits).collect();
        if !ips.is_empty() {
            self.used.extend(ips.iter().copied());
            self.unconfirmed.insert(service.clone());
            self.assigned.insert(service, ips);
        }
    }

    /// Addresses begin to rest in the order of time, but for a clock that was set back.
    fn rest(&mut self, ip: IpAddr, until: UnixTime) {
        let fits = self.range(ip.into()).is_some_and(|range| range.contains(ip));
        if fits && !self.used.contains(&ip) && self.resting.insert(ip) {
            let at = self.resting_until.partition_point(|(other, _)| *other <= until);
            self.resting_until.insert(at, (until, ip));
            self.memory.rests(ip, until);
        }
    }

    fn remember(&mut self, service: &ServiceName) {
        self.memory.has(service.clone(), self.assigned.get(service).cloned().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests;
