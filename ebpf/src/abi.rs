//! What the programs and the agent share: the twin of `bpf/abi.h`, which says what everything means.
//!
//! Arrays are written as words, each at once; the kernel's hash maps take the structs. A test compares sizes and offsets with
//! the object's BTF.

use std::net::{IpAddr, Ipv6Addr};

/// Of the maps that outlive an agent. A change of anything in `abi.h` needs another one. Maps that outlive an agent are taken over
/// from lower ones by their names and shapes: where only the meaning of what is in them changes, they need another name.
pub const ABI_VERSION: u32 = 2;
/// Most clusters that one front is spread over.
pub const MOST_CLUSTERS: usize = 256;
/// Most backends of a front in one cluster: positions have 16 bits.
pub const MOST_BACKENDS: usize = 1 << 16;

/// IPv4 as `::ffff:a.b.c.d` (RFC 4291 §2.5.5.2), in network order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C, align(8))]
pub struct Address(pub [u8; 16]);

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self(v4.to_ipv6_mapped().octets()),
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        Ipv6Addr::from(address.0).to_canonical()
    }
}

impl Address {
    /// As it is in memory.
    fn words(self) -> [u64; 2] {
        let word = |at: usize| {
            let mut octets = [0; 8];
            octets.copy_from_slice(&self.0[at..at + 8]);
            u64::from_ne_bytes(octets)
        };
        [word(0), word(8)]
    }

    fn from_words(words: [u64; 2]) -> Self {
        let mut octets = [0; 16];
        octets[..8].copy_from_slice(&words[0].to_ne_bytes());
        octets[8..].copy_from_slice(&words[1].to_ne_bytes());
        Self(octets)
    }
}

/// A port in network order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Port(u16);

impl From<u16> for Port {
    fn from(number: u16) -> Self {
        Self(number.to_be())
    }
}

impl From<Port> for u16 {
    fn from(port: Port) -> Self {
        Self::from_be(port.0)
    }
}

/// Key of `vips`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct VipKey {
    /// The virtual IP.
    pub address: Address,
}

/// Key of `ports`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct PortKey {
    /// As `vips` has it.
    pub service: u32,
    /// The service's.
    pub port: Port,
    /// `IPPROTO_TCP` or `IPPROTO_UDP`.
    pub protocol: u8,
    #[expect(missing_docs, reason = "padding that is part of a key")]
    pub pad: u8,
}

/// Key of `members`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct MemberKey {
    /// The backend's.
    pub address: Address,
    /// Whose backend it is.
    pub front: u32,
    /// The backend's.
    pub port: Port,
    #[expect(missing_docs, reason = "padding that is part of a key")]
    pub pad: u16,
}

/// What a socket was told to connect to, and where it went: value of `connected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(C)]
pub struct Origin {
    /// Where its program wanted to go.
    pub vip: Address,
    /// Where it went.
    pub backend: Address,
    /// The service's.
    pub vip_port: Port,
    /// The backend's.
    pub backend_port: Port,
    #[expect(missing_docs, reason = "padding")]
    pub pad: u32,
}

/// A key of a map whose values tell whose they are: see `bpf/abi.h`.
pub(crate) trait Checked {
    /// As it is in memory; the second one is 0 where there is none.
    fn words(&self) -> [u64; 2];

    /// What its value is for a number.
    fn value(&self, number: u32) -> u64 {
        let [first, second] = self.words();
        mix(first ^ mix(second)) >> 32 << 32 | u64::from(number)
    }
}

impl Checked for VipKey {
    fn words(&self) -> [u64; 2] {
        self.address.words()
    }
}

impl Checked for PortKey {
    fn words(&self) -> [u64; 2] {
        let [a, b] = self.port.0.to_ne_bytes();
        let low = u32::from_ne_bytes([a, b, self.protocol, self.pad]);
        [halves(self.service, low), 0]
    }
}

/// SplitMix64's finalizer, as in `bpf/maps.h`.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Element of `fronts`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Front {
    /// See [`Head`]; for sockets that reach IPv4 only, and for others.
    pub heads: [u64; 2],
    /// Of the service and its port, the same in each generation of tables.
    pub identity: u64,
    /// Seconds; 0: none.
    pub affinity: u32,
    #[expect(missing_docs, reason = "padding")]
    pub pad: u32,
    /// Counts, in the kernel.
    pub unreachable: u64,
}

impl Front {
    /// Words of an element.
    pub const WORDS: usize = size_of::<Self>() / 8;
    /// Of [`Front::affinity`].
    pub const AFFINITY: usize = 3;
    /// Of [`Front::unreachable`].
    pub const UNREACHABLE: usize = 4;

    /// As it is in memory.
    pub fn words(&self) -> [u64; Self::WORDS] {
        [self.heads[0], self.heads[1], self.identity, halves(self.affinity, 0), self.unreachable]
    }
}

/// Element of `backends`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Backend {
    /// Where it is.
    pub address: Address,
    /// Where it listens.
    pub port: Port,
    /// Position in `clusters`.
    pub cluster: u16,
    /// Whose backend it is.
    pub front: u32,
    #[expect(missing_docs, reason = "padding")]
    pub pad: u64,
}

impl Backend {
    /// Words of an element.
    pub const WORDS: usize = size_of::<Self>() / 8;

    /// As it is in memory.
    pub fn words(&self) -> [u64; Self::WORDS] {
        let [first, second] = self.address.words();
        let low = halves16(self.port.0, self.cluster);
        [first, second, halves(low, self.front), self.pad]
    }

    /// From what is in memory.
    pub fn from_words(words: [u64; Self::WORDS]) -> Self {
        let third = words[2].to_ne_bytes();
        let half = |at: usize| u16::from_ne_bytes([third[at], third[at + 1]]);
        Self {
            address: Address::from_words([words[0], words[1]]),
            port: Port(half(0)),
            cluster: half(2),
            front: u32::from_ne_bytes([third[4], third[5], third[6], third[7]]),
            pad: words[3],
        }
    }
}

/// Two halves of a word, in the order of their addresses.
fn halves(first: u32, second: u32) -> u64 {
    let mut octets = [0; 8];
    octets[..4].copy_from_slice(&first.to_ne_bytes());
    octets[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(octets)
}

fn halves16(first: u16, second: u16) -> u32 {
    let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}

/// A head: where a front's clusters are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Position in `slots`.
    pub first: u32,
    /// How many; 0: no backend.
    pub clusters: u32,
}

impl From<Head> for u64 {
    fn from(head: Head) -> Self {
        if head.clusters == 0 { 0 } else { Self::from(head.first) << 32 | Self::from(head.clusters) }
    }
}

/// The first word of a cluster of a front.
pub fn cluster_word(cluster: u16, other: u16, limit: u32) -> u64 {
    u64::from(cluster) << 48 | u64::from(other) << 32 | u64::from(limit)
}

/// The second one: where its backends are.
pub fn backends_word(first: u32, count: u32) -> u64 {
    u64::from(first) << 32 | u64::from(count)
}

/// The word of a backend of a front.
pub fn backend_word(backend: u32, other: u16, limit: u16) -> u64 {
    u64::from(backend) << 32 | u64::from(other) << 16 | u64::from(limit)
}

/// Position in `settings`: one decision of so many is told; 0: none.
pub const SETTING_SAMPLE: usize = 0;
/// Length of `settings`.
pub const SETTINGS: usize = 1;
/// Position in `counts`: connected UDP sockets that found no room in `connected`.
pub const COUNT_UNNOTED: usize = 0;
/// Length of `counts`.
pub const COUNTS: usize = 1;

/// What became of a connection, or of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Sent to a backend.
    Redirected,
    /// Sent to the one that affinity has.
    Kept,
    /// No backend: EHOSTUNREACH.
    Unreachable,
    /// No such port: ECONNREFUSED.
    NoPort,
    /// Only IPv4 backends, and an unconnected IPv6 socket: EAFNOSUPPORT.
    Family,
    /// A UDP socket connects to a port that has neither protocol: let through, for it may only ask for its own address.
    Asks,
}

impl Verdict {
    fn of(number: u8) -> Option<Self> {
        [Self::Redirected, Self::Kept, Self::Unreachable, Self::NoPort, Self::Family, Self::Asks]
            .get(usize::from(number))
            .copied()
    }
}

/// Record of `events`: a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time: u64,
    /// Where the program wanted to go.
    pub vip: (IpAddr, u16),
    /// Where it was sent.
    pub backend: Option<(IpAddr, u16)>,
    /// The program's process; 0 on a kernel that does not tell.
    pub pid: u32,
    /// Its name, at most 15 characters.
    pub command: String,
    /// `IPPROTO_TCP` or `IPPROTO_UDP`.
    pub protocol: u8,
    /// What became of it.
    pub verdict: Verdict,
    /// Whether the socket was connected; else it sent a packet.
    pub connected: bool,
}

/// Octets of an [`Event`].
pub const EVENT: usize = 72;

impl Event {
    /// From what is in the ring; `None`: it is not one.
    pub fn parse(octets: &[u8]) -> Option<Self> {
        let octets: &[u8; EVENT] = octets.get(..EVENT)?.try_into().ok()?;
        let array = |at: usize| -> [u8; 16] { std::array::from_fn(|i| octets[at + i]) };
        let port = |at: usize| u16::from_be_bytes([octets[at], octets[at + 1]]);
        let address = |at: usize| IpAddr::from(Address(array(at)));
        let command = array(52);
        let length = command.iter().position(|octet| *octet == 0).unwrap_or(command.len());
        let backend_port = port(46);
        Some(Self {
            time: u64::from_ne_bytes(std::array::from_fn(|i| octets[i])),
            vip: (address(8), port(44)),
            backend: (backend_port != 0).then(|| (address(24), backend_port)),
            pid: u32::from_ne_bytes(std::array::from_fn(|i| octets[40 + i])),
            command: String::from_utf8_lossy(&command[..length]).into_owned(),
            protocol: octets[48],
            verdict: Verdict::of(octets[49])?,
            connected: octets[50] != 0,
        })
    }
}

/// Structs that the kernel's hash maps take as they are in memory.
#[expect(unsafe_code, reason = "aya asks for it")]
mod pod {
    use super::{MemberKey, Origin, PortKey, VipKey};

    // SAFETY (all four): `repr(C)`, of integers only, without hidden padding: a test compares sizes and offsets with the C structs.
    unsafe impl aya::Pod for VipKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PortKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for MemberKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Origin {}
}
