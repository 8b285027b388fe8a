//! Ranges of addresses and the rules that hold for them: what databases and rules come to, made for answering.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use portolan_zones::places::{Key, Locate};

use super::database::{Database, DatabaseError, location};
use super::rules::{NONE, Rules};

/// Where IPv6 begins in a database: below it are IPv4 addresses.
const AFTER_IPV4: u128 = 1 << 32;
/// IPv4 addresses once more, as MaxMind's databases have them: first address and prefix length. Mapped ones (RFC 4291 §2.5.5.2)
/// are asked for as IPv4; where who comes by Teredo (RFC 4380) or 6to4 (RFC 3056) really is, these networks don't tell.
const ALIASES: [(u128, u32); 3] = [(0xffff << 32, 96), (0x2001 << 112, 32), (0x2002 << 112, 16)];
/// A sound tree has one network more than nodes; those that repeat a part of it have some more.
const NETWORKS_PER_NODE: u64 = 8;

/// Where the world's clients are, for those who answer.
#[derive(Debug, Default)]
pub struct Atlas {
    charts: Box<[Arc<Chart>]>,
    /// By rank.
    areas: Box<[Key]>,
}

impl Atlas {
    pub(super) fn new(charts: Vec<Arc<Chart>>, rules: &Rules) -> Self {
        Self { charts: charts.into(), areas: rules.areas.clone() }
    }

    /// Whether it was made of these.
    pub(super) fn is_of(&self, charts: &[Arc<Chart>], rules: &Rules) -> bool {
        let same = self.charts.iter().zip(charts).all(|(a, b)| Arc::ptr_eq(a, b));
        same && self.charts.len() == charts.len() && self.areas == rules.areas
    }

    /// For queries; `None` when it knows nothing.
    pub fn as_locate(&self) -> Option<&dyn Locate> {
        if self.charts.is_empty() { None } else { Some(self) }
    }
}

/// The rule that goes first of those that the databases find; and the part of the network that is one in all of them.
impl Locate for Atlas {
    fn locate(&self, address: IpAddr) -> (Option<Key>, u8) {
        let found = self.charts.iter().map(|chart| chart.find(address));
        let (rank, length) = found.fold((NONE, 0), |(a, b), (rank, length)| (rank.min(a), length.max(b)));
        (self.areas.get(usize::from(rank)).copied(), length)
    }
}

/// One database by certain rules.
#[derive(Debug)]
pub(super) struct Chart {
    v4: Ranges<u32>,
    v6: Ranges<u128>,
    kind: String,
    built: u64,
}

impl Chart {
    /// Reads a file to its last network.
    pub(super) fn read(file: &Path, rules: &Rules) -> Result<Arc<Self>, DatabaseError> {
        Ok(Arc::new(Self::of(&Database::open(file)?, rules)?))
    }

    fn of(database: &Database, rules: &Rules) -> Result<Self, DatabaseError> {
        let mut survey = Survey {
            database,
            rules,
            ranks: HashMap::new(),
            left: u64::from(database.nodes()).saturating_mul(NETWORKS_PER_NODE).saturating_add(64),
        };
        let v4 = survey.ranges(0, |_| None)?;
        let v6 = match database.has_ipv6() {
            true => survey.ranges(0, skipped)?,
            false => Ranges::default(),
        };
        Ok(Self { v4, v6, kind: database.kind().to_owned(), built: database.built() })
    }

    fn find(&self, address: IpAddr) -> (u16, u8) {
        match address {
            IpAddr::V4(v4) => self.v4.find(v4.to_bits()),
            IpAddr::V6(v6) => self.v6.find(v6.to_bits()),
        }
    }

    pub(super) fn kind(&self) -> &str {
        &self.kind
    }

    pub(super) fn built(&self) -> u64 {
        self.built
    }
}

/// Where the part of IPv6 ends that an address is in and that is not looked at.
fn skipped(address: u128) -> Option<u128> {
    if address < AFTER_IPV4 {
        return Some(AFTER_IPV4 - 1);
    }
    let ends = ALIASES.iter().map(|(first, length)| (*first, *first | (u128::MAX >> length)));
    ends.into_iter().find(|(first, last)| (*first..=*last).contains(&address)).map(|(_, last)| last)
}

/// A database on its way to a chart.
struct Survey<'a> {
    database: &'a Database,
    rules: &'a Rules,
    /// By the record's offset: many networks share one.
    ranks: HashMap<Option<usize>, u16>,
    /// Networks that may still come, or the tree is none.
    left: u64,
}

impl Survey<'_> {
    /// From network to network to the last address. `skip` tells the end of what is left out.
    fn ranges<A: Bits>(
        &mut self,
        first: A,
        skip: impl Fn(A) -> Option<A>,
    ) -> Result<Ranges<A>, DatabaseError> {
        let mut at = Some(first);
        let (mut starts, mut ranks) = (Vec::new(), Vec::new());
        while let Some(start) = at {
            let (rank, last) = match skip(start) {
                Some(last) => (NONE, last),
                None => self.network(start)?,
            };
            if ranks.last() != Some(&rank) {
                starts.push(start);
                ranks.push(rank);
            }
            at = last.next();
        }
        Ok(Ranges { starts: starts.into(), ranks: ranks.into() })
    }

    /// The rule for the network that an address is in, and the network's last address.
    fn network<A: Bits>(&mut self, address: A) -> Result<(u16, A), DatabaseError> {
        let nodes = self.database.nodes();
        self.left = self.left.checked_sub(1).ok_or(DatabaseError::Endless { nodes })?;
        let (offset, record, length) = self.database.find(address.into_address())?;
        let rank = match self.ranks.get(&offset) {
            Some(rank) => *rank,
            None => {
                let rank = self.rules.rank(&location(&record)?);
                self.ranks.insert(offset, rank);
                rank
            }
        };
        Ok((rank, address.last_of(length)))
    }
}

/// Addresses of one family, without gaps; neighbours differ.
#[derive(Debug)]
struct Ranges<A> {
    starts: Box<[A]>,
    ranks: Box<[u16]>,
}

impl<A> Default for Ranges<A> {
    fn default() -> Self {
        Self { starts: Box::default(), ranks: Box::default() }
    }
}

impl<A: Bits> Ranges<A> {
    /// The rank at an address, and the length of the widest prefix around it that has no other.
    fn find(&self, address: A) -> (u16, u8) {
        let after = self.starts.partition_point(|start| *start <= address);
        let Some(at) = after.checked_sub(1) else { return (NONE, 0) };
        let before = self.starts[at].previous().map_or(0, |edge| address.apart(edge));
        let behind = self.starts.get(after).map_or(0, |edge| address.apart(*edge));
        (self.ranks[at], before.max(behind))
    }
}

/// What is the same for addresses of both families.
trait Bits: Copy + Ord {
    fn into_address(self) -> IpAddr;
    fn previous(self) -> Option<Self>;
    fn next(self) -> Option<Self>;
    /// Of the network with a prefix of so many bits.
    fn last_of(self, length: u8) -> Self;
    /// Length of the shortest prefix of this address that the other one, which differs, does not have.
    fn apart(self, other: Self) -> u8;
}

macro_rules! bits {
    ($($kind:ty)*) => {$(
        impl Bits for $kind {
            fn into_address(self) -> IpAddr {
                IpAddr::from(self.to_be_bytes())
            }

            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }

            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn last_of(self, length: u8) -> Self {
                self | Self::MAX.checked_shr(length.into()).unwrap_or(0)
            }

            fn apart(self, other: Self) -> u8 {
                (self ^ other).leading_zeros() as u8 + 1
            }
        }
    )*};
}

bits! { u32 u128 }
