//! The addresses of a pool.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::PoolError;

/// Networks that other multi-cluster systems hand out by default.
const TAKEN: [(&str, &str); 4] = [
    ("240.240.0.0/16", "Istio gives to ServiceEntries"),
    ("2001:2::/48", "Istio gives to ServiceEntries"),
    ("242.0.0.0/8", "Submariner's Globalnet gives to clusters"),
    ("243.0.0.0/8", "Submariner gives to services of the clusterset"),
];

/// Consecutive addresses; the network's own and the broadcast address are not among them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    first: u128,
    len: u128,
    is_v4: bool,
}

impl Range {
    pub(super) fn v4(net: Ipv4Net) -> Result<Self, PoolError> {
        check(net.into())?;
        let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
        Self::between(first.into(), last.into(), true, net.into())
    }

    pub(super) fn v6(net: Ipv6Net) -> Result<Self, PoolError> {
        check(net.into())?;
        Self::between(net.network().into(), net.broadcast().into(), false, net.into())
    }

    /// What lies between the first and the last address of a network.
    fn between(first: u128, last: u128, is_v4: bool, net: IpNet) -> Result<Self, PoolError> {
        match (last - first).checked_sub(1) {
            None | Some(0) => Err(PoolError::Small { pool: net.to_string() }),
            Some(len) => Ok(Self { first: first + 1, len, is_v4 }),
        }
    }

    pub(super) fn len(self) -> u128 {
        self.len
    }

    pub(super) fn contains(self, ip: IpAddr) -> bool {
        let number = match ip {
            IpAddr::V4(ip) => u128::from(u32::from(ip)),
            IpAddr::V6(ip) => ip.into(),
        };
        ip.is_ipv4() == self.is_v4 && number.checked_sub(self.first).is_some_and(|at| at < self.len)
    }

    /// All addresses, from the one at `start` (modulo their number) round to the one before it.
    pub(super) fn from(self, start: u64) -> impl Iterator<Item = IpAddr> {
        let start = u128::from(start) % self.len;
        (0..self.len).map(move |step| self.at((start + step) % self.len))
    }

    fn at(self, offset: u128) -> IpAddr {
        let number = self.first + offset;
        if self.is_v4 { IpAddr::V4((number as u32).into()) } else { IpAddr::V6(number.into()) }
    }
}

fn check(net: IpNet) -> Result<(), PoolError> {
    for (taken, by) in TAKEN {
        let overlaps = taken.parse().is_ok_and(|taken: IpNet| taken.contains(&net) || net.contains(&taken));
        if overlaps {
            return Err(PoolError::Taken { pool: net.to_string(), taken: taken.to_owned(), by });
        }
    }
    Ok(())
}
