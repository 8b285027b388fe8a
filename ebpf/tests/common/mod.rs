//! Tables that write down each single write, and readers who follow them one write at a time.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part, and is a crate of its own")]

use std::collections::{BTreeMap, BTreeSet};

use portolan_ebpf::abi::{Address, Backend, Front, MemberKey, PortKey, VipKey};
use portolan_ebpf::tables::{Memory, Sizes, Tables, WriteError};
use portolan_ebpf::wanted::{ClusterShare, Spread, Wanted, WantedFront, protocol_number};
use portolan_zones::object::Protocol;
use portolan_zones::{ClusterId, ServiceName};

pub mod replica;
pub mod world;

pub fn cluster(id: &str) -> ClusterId {
    ClusterId::new(id).unwrap()
}

pub fn name(service: &str) -> ServiceName {
    ServiceName::new("n", service).unwrap()
}

pub fn address(text: &str) -> Address {
    Address::from(text.parse::<std::net::IpAddr>().unwrap())
}

/// A cluster, and its backends: address, port and part.
pub type Share<'s> = (&'s str, &'s [(&'s str, u16, u32)]);

/// `[("a", &[("10.0.0.1", 8080, 3)])]`: cluster `a` gets as much as its backends' parts sum to.
pub fn spread(shares: &[Share<'_>]) -> Spread {
    let share = |(id, backends): &Share<'_>| ClusterShare {
        cluster: cluster(id),
        part: backends.iter().map(|(.., part)| part).sum(),
        backends: backends.iter().map(|(at, port, part)| (address(at), *port, *part)).collect(),
    };
    shares.iter().map(share).collect()
}

pub fn front(protocol: Protocol, port: u16, v4: Spread) -> WantedFront {
    WantedFront { protocol, port, name: None, affinity: 0, spreads: (v4, None), left_out: 0 }
}

pub fn wanted(vips: &[&str], fronts: Vec<WantedFront>) -> Wanted {
    Wanted { vips: vips.iter().map(|vip| vip.parse().unwrap()).collect(), fronts }
}

/// Port 80 of a service, spread alike over addresses of cluster `a`.
pub fn plain(vip: &str, backends: &[&str]) -> Wanted {
    let alike: Vec<_> = backends.iter().map(|at| (*at, 8080, 1)).collect();
    wanted(&[vip], vec![front(Protocol::Tcp, 80, spread(&[("a", &alike)]))])
}

pub fn port_key(protocol: Protocol, port: u16) -> PortKey {
    PortKey { service: 0, port: port.into(), protocol: protocol_number(protocol).unwrap(), pad: 0 }
}

/// One write: of arrays a word, but for what nothing leads to yet.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    Vip(VipKey, Option<u32>),
    Port(PortKey, Option<u32>),
    Member(MemberKey, Option<u32>),
    Front(u32, Front),
    Head(u32, usize, u64),
    Affinity(u32, u32),
    Slot(u32, u64),
    Backend(u32, Backend),
    Cluster(u32, bool),
    Rest,
}

impl Write {
    /// Does it.
    pub fn perform(&self, memory: &mut Memory) {
        match self {
            Self::Vip(key, service) => memory.set_vip(*key, *service).unwrap(),
            Self::Port(key, front) => memory.set_port(*key, *front).unwrap(),
            Self::Member(key, backend) => memory.set_member(*key, *backend).unwrap(),
            Self::Front(number, front) => memory.write_front(*number, front),
            Self::Head(front, family, head) => memory.store_head(*front, *family, *head),
            Self::Affinity(front, seconds) => memory.store_affinity(*front, *seconds),
            Self::Slot(at, word) => memory.write_slots(*at, &[*word]),
            Self::Backend(number, backend) => memory.write_backend(*number, backend),
            Self::Cluster(number, down) => memory.store_cluster(*number, *down),
            Self::Rest => memory.rest().unwrap(),
        }
    }
}

/// Which writes a kernel refuses.
pub type Refuses = fn(&Write) -> bool;

/// Tables in memory that remember what was written since `take`.
pub struct Recorder {
    pub memory: Memory,
    pub log: Vec<Write>,
    /// Writes of hash maps, and waits, that the kernel refuses.
    pub refuses: Refuses,
}

impl Recorder {
    pub fn new(sizes: Sizes) -> Self {
        Self { memory: Memory::new(sizes), log: Vec::new(), refuses: |_| false }
    }

    pub fn take(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.log)
    }

    fn allow(&mut self, write: Write) -> Result<(), WriteError> {
        if (self.refuses)(&write) {
            let error = std::io::Error::from(std::io::ErrorKind::OutOfMemory);
            return Err(WriteError::Refused { map: "test", error });
        }
        self.log.push(write);
        Ok(())
    }
}

impl Tables for Recorder {
    fn sizes(&self) -> Sizes {
        self.memory.sizes()
    }

    fn set_vip(&mut self, key: VipKey, service: Option<u32>) -> Result<(), WriteError> {
        self.allow(Write::Vip(key, service))?;
        self.memory.set_vip(key, service)
    }

    fn set_port(&mut self, key: PortKey, front: Option<u32>) -> Result<(), WriteError> {
        self.allow(Write::Port(key, front))?;
        self.memory.set_port(key, front)
    }

    fn set_member(&mut self, key: MemberKey, backend: Option<u32>) -> Result<(), WriteError> {
        self.allow(Write::Member(key, backend))?;
        self.memory.set_member(key, backend)
    }

    fn write_front(&mut self, number: u32, front: &Front) {
        self.log.push(Write::Front(number, *front));
        self.memory.write_front(number, front);
    }

    fn store_head(&mut self, front: u32, family: usize, head: u64) {
        self.log.push(Write::Head(front, family, head));
        self.memory.store_head(front, family, head);
    }

    fn store_affinity(&mut self, front: u32, seconds: u32) {
        self.log.push(Write::Affinity(front, seconds));
        self.memory.store_affinity(front, seconds);
    }

    fn write_slots(&mut self, first: u32, words: &[u64]) {
        self.log.extend((first..).zip(words).map(|(at, word)| Write::Slot(at, *word)));
        self.memory.write_slots(first, words);
    }

    fn write_backend(&mut self, number: u32, backend: &Backend) {
        self.log.push(Write::Backend(number, *backend));
        self.memory.write_backend(number, backend);
    }

    fn store_cluster(&mut self, number: u32, down: bool) {
        self.log.push(Write::Cluster(number, down));
        self.memory.store_cluster(number, down);
    }

    fn rest(&mut self) -> Result<(), WriteError> {
        self.allow(Write::Rest)?;
        self.memory.rest()
    }

    fn hits(&self, _: u32) -> u64 {
        0
    }

    fn unreachable(&self, _: u32) -> u64 {
        0
    }
}

/// What a head's words lead to: all slots, and the exact share of each backend. Written apart from `Memory::walk`, from `abi.h`.
#[derive(Debug, Default)]
pub struct Spreading {
    pub slots: BTreeSet<u32>,
    pub shares: BTreeMap<u32, f64>,
    /// Of each cluster, by its number.
    pub clusters: BTreeMap<u32, f64>,
}

impl Spreading {
    pub fn of(memory: &Memory, head: u64) -> Self {
        let mut found = Self::default();
        let word = |at: u32| memory.slots[at as usize];
        let (first, count) = ((head >> 32) as u32, head as u32);
        let rows = |step: u32| (0..count).map(move |at| first + step * at);
        // How often each row is drawn.
        let own = |at: u32| f64::from(word(at) as u32) / 2_f64.powi(32);
        let other = |at: u32| (word(at) >> 32 & 0xffff) as u32;
        let limits: Vec<_> = rows(2).map(|at| (own(at), other(at))).collect();
        for (at, part) in (0..).zip(alias(&limits)).filter(|(_, part)| *part > 0.0) {
            found.slots.extend([first + 2 * at, first + 2 * at + 1]);
            *found.clusters.entry((word(first + 2 * at) >> 48) as u32).or_default() += part;
            let (first, count) = ((word(first + 2 * at + 1) >> 32) as u32, word(first + 2 * at + 1) as u32);
            let limit = |at: u32| {
                (f64::from(word(at) as u32 & 0xffff) / 2_f64.powi(16), (word(at) >> 16 & 0xffff) as u32)
            };
            let limits: Vec<_> = (first..first + count).map(limit).collect();
            for (at, its) in (first..).zip(alias(&limits)) {
                found.slots.insert(at);
                if its > 0.0 {
                    *found.shares.entry((word(at) >> 32) as u32).or_default() += part * its;
                }
            }
        }
        found.slots.extend(rows(2).chain(rows(2).map(|at| at + 1)));
        found
    }

    /// Of a front that is there.
    pub fn at(memory: &Memory, front: u32, family: usize) -> Self {
        Self::of(memory, memory.fronts[&front].heads[family])
    }
}

/// The share of each outcome of an alias table, whose rows say how much is their own, and whose the rest is.
fn alias(rows: &[(f64, u32)]) -> Vec<f64> {
    let mut shares = vec![0.0; rows.len()];
    for (at, (own, other)) in rows.iter().enumerate() {
        shares[at] += own / rows.len() as f64;
        shares[*other as usize] += (1.0 - own) / rows.len() as f64;
    }
    shares
}

/// SplitMix64: numbers that are the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound as u64) as usize
    }
}
