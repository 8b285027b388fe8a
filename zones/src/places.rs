//! Where clients are: from an address to a node, zone, region and cluster.
//!
//! Known from what the operator says, from the home cluster's Nodes, and from other clusters' Nodes, trusted in this order:
//! what is said with less authority counts where nothing better is known. Within one source the longest prefix counts.
//! All of it becomes one sorted list of ranges when it changes; a lookup is a binary search. Whom none of them knows somebody
//! else may: [`Locate`].

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};

use crate::name::ClusterId;
use crate::object::{Node, Place as Spot};
use crate::policy::spread::At;

/// Nodes that claim more than this are not believed: a /8, or a /16 of IPv6.
const WIDEST: (u8, u8) = (8, 16);
/// The same for other clusters' Nodes and public networks: what a cluster may have of them.
const WORLDS: (u8, u8) = (20, 48);

/// A place that clients may be in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Place {
    /// In which cluster.
    pub cluster: Option<ClusterId>,
    /// `topology.kubernetes.io/region`.
    pub region: Option<Arc<str>>,
    /// `topology.kubernetes.io/zone`.
    pub az: Option<Arc<str>>,
    /// On which node of the cluster.
    pub node: Option<Arc<str>>,
}

/// What an operator says about a network, or about clients that are known otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// Address and prefix length; bits behind the prefix are ignored. `None`: [`Locate`] knows who is there, and services have
    /// answers for them.
    pub network: Option<(IpAddr, u8)>,
    /// Where its clients are.
    pub place: Place,
}

/// Somebody who may know where clients are whom [`Places`] does not know, such as a database of the world's networks.
pub trait Locate: std::fmt::Debug + Sync {
    /// The area that a client is in, one of those that the operator names, and the length of the widest prefix around its
    /// address of which that holds. It is asked while a query waits: it must not block or allocate.
    fn locate(&self, address: IpAddr) -> (Option<Key>, u8);
}

impl Place {
    /// As the engine takes it.
    pub fn at(&self) -> At<'_> {
        At {
            cluster: self.cluster.as_ref(),
            region: self.region.as_deref(),
            az: self.az.as_deref(),
            node: self.node.as_deref(),
        }
    }

    /// What stands for it where answers are chosen, its node left out.
    pub fn key(&self) -> Key {
        Key::of(&self.area().at())
    }

    /// Without the node.
    fn area(&self) -> Self {
        Self { node: None, ..self.clone() }
    }
}

/// Cluster, region, zone and node, as far as they are known.
impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            ("cluster", self.cluster.as_ref().map(ClusterId::as_str)),
            ("region", self.region.as_deref()),
            ("zone", self.az.as_deref()),
            ("node", self.node.as_deref()),
        ];
        let known = parts.iter().filter_map(|(what, name)| Some(format!("{what} {}", (*name)?)));
        let known: Vec<String> = known.collect();
        f.write_str(if known.is_empty() { "unknown" } else { "" })?;
        f.write_str(&known.join(", "))
    }
}

/// What stands for a place, or an area (a place without its node), where they are compared: a hash under a secret that each
/// process draws for itself. Clusters name their Nodes, zones and regions, and could choose names that pass for others' if
/// they knew it. So it must not leave the process, nor its order decide what servers are to agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Key {
    pub(crate) fn of(at: &At<'_>) -> Self {
        /// SipHash-1-3, as std has it.
        static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(SECRET.hash_one(at))
    }

    /// Of its node alone, whose zone and region may be said differently by its Node, a slice and the operator.
    pub(crate) fn of_node(at: &At<'_>) -> Self {
        Self::of(&At { cluster: at.cluster, node: at.node, ..At::default() })
    }
}

/// What a place is looked up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keys {
    /// Of the place without its node.
    pub(crate) area: Key,
    /// Of its node alone.
    pub(crate) node: Key,
}

/// A place that is in the list.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// The place.
    pub place: Place,
    /// Who says so, for people.
    pub by: Authority,
    pub(crate) keys: Keys,
}

/// Who says where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authority {
    /// A database of the world's networks.
    Database,
    /// A Node of another cluster.
    Peer,
    /// A Node of the home cluster.
    Home,
    /// The operator.
    Operator,
}

/// All places, by address.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Places {
    /// The cluster whose clients ask, if that is known.
    pub(crate) home: Option<ClusterId>,
    /// Where ranges begin, and the place of each; IPv4 addresses are mapped ones (RFC 4291 §2.5.5.2).
    ranges: Box<[(u128, Option<u32>)]>,
    /// The same of IPv4 alone: most clients, and a fraction of the memory.
    ipv4: (Box<[u32]>, Box<[Option<u32>]>),
    known: Box<[Known]>,
    /// Where in it Nodes are, sorted by what stands for them.
    nodes: Box<[(Key, u32)]>,
    /// Areas of clients whom others know.
    elsewhere: Box<[(Key, Place)]>,
}

impl Places {
    /// Puts the list together.
    pub(crate) fn build<'n>(
        mappings: &[Mapping],
        home: Option<&ClusterId>,
        nodes: impl Iterator<Item = (&'n ClusterId, &'n Node)>,
    ) -> Self {
        let mut claims: Vec<(Authority, u8, u128, Place)> = Vec::new();
        for (cluster, node) in nodes {
            let authority = if Some(cluster) == home { Authority::Home } else { Authority::Peer };
            let place = Place {
                cluster: Some(cluster.clone()),
                region: node.region.clone(),
                az: node.az.clone(),
                node: Some(node.name.clone()),
            };
            let single = |ip: &IpAddr| (*ip, if ip.is_ipv4() { 32 } else { 128 });
            let networks = node.pod_cidrs.iter().copied().chain(node.addresses.iter().map(single));
            let believed = networks.filter(|(ip, length)| {
                let widest = if authority == Authority::Home || is_private(*ip) { WIDEST } else { WORLDS };
                *length >= if ip.is_ipv4() { widest.0 } else { widest.1 }
            });
            claims.extend(believed.map(|network| claim(authority, network, place.clone())));
        }
        let said = |m: &Mapping| Some(claim(Authority::Operator, m.network?, m.place.clone()));
        claims.extend(mappings.iter().filter_map(said));
        // Of two that say the same about one network the order must not depend on who came first.
        claims.sort_by(|a, b| (a.0, a.1, a.2, a.3.at()).cmp(&(b.0, b.1, b.2, b.3.at())));
        let mut painted = BTreeMap::from([(0, None)]);
        let mut known: Vec<Known> = Vec::new();
        for (by, length, start, place) in claims {
            let at = known.len() as u32;
            paint(&mut painted, start, start | host_bits(length), Some(at));
            let keys = Keys { area: place.key(), node: Key::of_node(&place.at()) };
            known.push(Known { keys, place, by });
        }
        let mut ranges: Vec<(u128, Option<u32>)> = Vec::with_capacity(painted.len());
        let same = |a: Option<u32>, b: Option<u32>| match (a, b) {
            (Some(a), Some(b)) => known[a as usize].place == known[b as usize].place,
            (a, b) => a == b,
        };
        for (start, place) in painted {
            if ranges.last().is_none_or(|(_, before)| !same(*before, place)) {
                ranges.push((start, place));
            }
        }
        let named = mappings.iter().filter(|m| m.network.is_none());
        let elsewhere = named.map(|m| (m.place.key(), m.place.area())).collect();
        let ipv4 = ipv4(&ranges);
        let nodes = by_node(&known);
        Self { home: home.cloned(), ranges: ranges.into(), ipv4, known: known.into(), nodes, elsewhere }
    }

    /// Where a client is, and the length of the widest prefix around its address of which that holds.
    pub fn find(&self, address: IpAddr) -> (Option<&Known>, u8) {
        if let IpAddr::V4(v4) = address {
            return self.find_ipv4(v4.to_bits());
        }
        let bits = mapped(address);
        let after = self.ranges.partition_point(|(start, _)| *start <= bits);
        let Some((start, place)) = after.checked_sub(1).map(|at| self.ranges[at]) else { return (None, 0) };
        let end = self.ranges.get(after).map_or(u128::MAX, |(next, _)| next - 1);
        // The longest of both: neither the range's begin nor its end lies inside.
        let outside = |edge: u128| (bits ^ edge).leading_zeros() as u8 + 1;
        let begin = start.checked_sub(1).map_or(0, outside);
        let end = end.checked_add(1).map_or(0, outside);
        (place.map(|at| &self.known[at as usize]), begin.max(end))
    }

    /// [`Places::find`] in the list that fits a cache.
    fn find_ipv4(&self, bits: u32) -> (Option<&Known>, u8) {
        let (starts, places) = &self.ipv4;
        let after = starts.partition_point(|start| *start <= bits);
        let Some(at) = after.checked_sub(1) else { return (None, 0) };
        let outside = |edge: u32| (bits ^ edge).leading_zeros() as u8 + 1;
        let begin = starts[at].checked_sub(1).map_or(0, outside);
        let end = starts.get(after).map_or(0, |next| outside(*next));
        (places[at].map(|known| &self.known[known as usize]), begin.max(end))
    }

    /// Where an endpoint is, as far as Nodes that clients may be on tell.
    pub(crate) fn of_endpoint(
        &self,
        cluster: &ClusterId,
        spot: Option<&Spot>,
        region: Option<&Arc<str>>,
    ) -> Place {
        let node = spot.and_then(|spot| spot.node.as_ref()).and_then(|node| self.node(cluster, node));
        Place {
            cluster: Some(cluster.clone()),
            region: node.and_then(|node| node.region.clone()).or_else(|| region.cloned()),
            az: spot.and_then(|spot| spot.az.clone()).or_else(|| node.and_then(|node| node.az.clone())),
            node: spot.and_then(|spot| spot.node.clone()),
        }
    }

    /// Where a cluster's Node is, as the Node and the operator say; `None`: nobody knows an address of it.
    pub fn node(&self, cluster: &ClusterId, node: &str) -> Option<&Place> {
        let key = Key::of_node(&At { cluster: Some(cluster), node: Some(node), ..At::default() });
        let after = self.nodes.partition_point(|(before, _)| *before < key);
        let such = self.nodes[after..].iter().take_while(|(same, _)| *same == key);
        let mut places = such.map(|(_, at)| &self.known[*at as usize].place);
        places.find(|place| place.cluster.as_ref() == Some(cluster) && place.node.as_deref() == Some(node))
    }

    /// The cluster whose clients ask, if that is known.
    pub fn home(&self) -> Option<&ClusterId> {
        self.home.as_ref()
    }

    /// All areas: places without their nodes, each once, in an order that all servers agree on.
    pub(crate) fn areas(&self) -> Vec<(Key, Place)> {
        let known = self.known.iter().map(|known| (known.keys.area, known.place.area()));
        let by_key: BTreeMap<Key, Place> = known.chain(self.elsewhere.iter().cloned()).collect();
        let mut areas: Vec<(Key, Place)> = by_key.into_iter().collect();
        areas.sort_by(|(_, a), (_, b)| a.at().cmp(&b.at()));
        areas
    }
}

/// Each Node that has a name once, where it was first said to be.
fn by_node(known: &[Known]) -> Box<[(Key, u32)]> {
    let named = (0..).zip(known).filter(|(_, known)| known.place.node.is_some());
    let mut nodes: Vec<(Key, u32)> = named.map(|(at, known)| (known.keys.node, at)).collect();
    nodes.sort_unstable();
    let name = |at: u32| (&known[at as usize].place.cluster, &known[at as usize].place.node);
    nodes.dedup_by(|next, first| next.0 == first.0 && name(next.1) == name(first.1));
    nodes.into()
}

/// Of all ranges those of IPv4, whose addresses are mapped ones: where each begins, and its place.
fn ipv4(ranges: &[(u128, Option<u32>)]) -> (Box<[u32]>, Box<[Option<u32>]>) {
    let (first, last) = (mapped(Ipv4Addr::UNSPECIFIED.into()), mapped(Ipv4Addr::BROADCAST.into()));
    let before = ranges.iter().rfind(|(start, _)| *start < first).map(|(_, place)| (0, *place));
    let inside = ranges.iter().filter(|(start, _)| (first..=last).contains(start));
    let inside: Vec<(u32, Option<u32>)> =
        inside.map(|(start, place)| ((start - first) as u32, *place)).collect();
    let begins = inside.first().is_none_or(|(start, _)| *start > 0);
    let (starts, places): (Vec<_>, Vec<_>) = before.filter(|_| begins).into_iter().chain(inside).unzip();
    (starts.into(), places.into())
}

/// RFC 1918, RFC 6598, RFC 4193.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 0x40),
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn claim(
    authority: Authority,
    (address, length): (IpAddr, u8),
    place: Place,
) -> (Authority, u8, u128, Place) {
    let length = if address.is_ipv4() { length.saturating_add(96) } else { length }.min(128);
    (authority, length, mapped(address) & !host_bits(length), place)
}

fn host_bits(length: u8) -> u128 {
    u128::MAX.checked_shr(length.into()).unwrap_or(0)
}

/// Gives a range a new place, whatever was there.
fn paint(painted: &mut BTreeMap<u128, Option<u32>>, start: u128, end: u128, place: Option<u32>) {
    let after = end.checked_add(1);
    if let Some(after) = after {
        let there = painted.range(..=after).next_back().and_then(|(_, place)| *place);
        painted.insert(after, there);
    }
    let inside: Vec<u128> = painted.range(start..=end).map(|(start, _)| *start).collect();
    for start in inside {
        painted.remove(&start);
    }
    painted.insert(start, place);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, az: &str, networks: &[(&str, u8)], address: &str) -> Node {
        Node {
            name: name.into(),
            az: Some(az.into()),
            region: Some("eu".into()),
            pod_cidrs: networks.iter().map(|(ip, length)| (ip.parse().unwrap(), *length)).collect(),
            addresses: [address.parse().unwrap()].into(),
            ready: true,
            entrances: Box::default(),
        }
    }

    fn mapping(network: &str, length: u8, az: &str) -> Mapping {
        let place = Place { az: Some(az.into()), ..Place::default() };
        Mapping { network: Some((network.parse().unwrap(), length)), place }
    }

    fn found(places: &Places, address: &str) -> (String, u8) {
        let (known, length) = places.find(address.parse().unwrap());
        (known.map_or("-".to_owned(), |known| known.place.az.as_deref().unwrap().to_owned()), length)
    }

    /// RFC 7871 §7.2.1: the scope is the prefix for which the answer is meant; the widest one serves most clients.
    #[test]
    fn the_longest_prefix_of_whom_is_trusted_most() {
        let (home, peer) = (ClusterId::new("home").unwrap(), ClusterId::new("peer").unwrap());
        let own = node("n1", "a", &[("10.1.0.0", 24), ("fd00:1::", 64)], "192.0.2.1");
        let other = node("n2", "b", &[("10.0.0.0", 8), ("10.1.0.0", 25), ("0.0.0.0", 0)], "192.0.2.2");
        let mappings = [mapping("10.1.0.128", 25, "c"), mapping("198.51.100.0", 24, "d")];
        let places = Places::build(&mappings, Some(&home), [(&home, &own), (&peer, &other)].into_iter());
        for (address, expected) in [
            ("10.1.0.1", ("a", 25)),
            ("10.1.0.200", ("c", 25)),
            ("10.1.1.1", ("b", 24)),
            ("10.200.0.1", ("b", 9)),
            ("192.0.2.1", ("a", 32)),
            ("192.0.2.2", ("b", 32)),
            ("192.0.2.3", ("-", 32)),
            ("192.0.2.4", ("-", 30)),
            ("198.51.100.77", ("d", 24)),
            ("11.0.0.1", ("-", 8)),
            ("fd00:1::5", ("a", 64)),
            ("2001:db8::1", ("-", 3)),
        ] {
            assert_eq!(found(&places, address), (expected.0.to_owned(), expected.1), "{address}");
        }
    }

    /// Services have answers for places that only others find clients in; no address is in such a place by itself.
    #[test]
    fn named_places_are_areas_without_addresses() {
        let place = Place { region: Some("eu".into()), node: Some("n".into()), ..Place::default() };
        let mappings = [Mapping { network: None, place: place.clone() }];
        let places = Places::build(&mappings, None, std::iter::empty());
        let area = Place { node: None, ..place.clone() };
        assert_eq!(places.areas(), [(place.key(), area.clone())]);
        assert_eq!(place.key(), area.key());
        assert_eq!(found(&places, "192.0.2.1"), ("-".to_owned(), 0));
        assert_ne!(places, Places::default(), "a change of names is a change");
    }

    /// A Node is known by its cluster and its name, and by a hash of them only to be found: whatever a peer calls its own.
    #[test]
    fn nodes_whose_keys_collide_are_told_apart() {
        let (home, peer) = (ClusterId::new("home").unwrap(), ClusterId::new("peer").unwrap());
        let (own, other) = (node("n1", "a", &[], "192.0.2.1"), node("n2", "b", &[], "192.0.2.2"));
        let mut places = Places::build(&[], Some(&home), [(&home, &own), (&peer, &other)].into_iter());
        let az =
            |places: &Places, cluster, node| places.node(cluster, node).and_then(|place| place.az.clone());
        assert_eq!(az(&places, &home, "n1").as_deref(), Some("a"));
        let key = Key::of_node(&At { cluster: Some(&home), node: Some("n1"), ..At::default() });
        let theirs = places.known.iter().position(|known| known.by == Authority::Peer).unwrap() as u32;
        places.nodes = [(key, theirs)].into();
        assert_eq!(az(&places, &home, "n1"), None, "another's");
        places.known.iter_mut().for_each(|known| known.keys.node = key);
        places.nodes = by_node(&places.known);
        assert_eq!(az(&places, &home, "n1").as_deref(), Some("a"), "beside another's");
    }

    #[test]
    fn nothing_known_is_one_answer_for_all() {
        let places = Places::build(&[], None, std::iter::empty());
        assert_eq!(found(&places, "192.0.2.1"), ("-".to_owned(), 0));
        assert_eq!(found(&Places::default(), "2001:db8::1"), ("-".to_owned(), 0));
        assert!(places.areas().is_empty());
    }

    /// Every prefix that is given out has one place from end to end.
    #[test]
    fn a_scope_never_spans_two_places() {
        let lengths = [(0x0a00_0000_u32, 9), (0x0a01_0000, 16), (0x0a01_0200, 23), (0x0a01_0203, 32)];
        let mappings: Vec<Mapping> = lengths
            .iter()
            .map(|(ip, length)| mapping(&Ipv4Addr::from(*ip).to_string(), *length, &length.to_string()))
            .collect();
        let places = Places::build(&mappings, None, std::iter::empty());
        for i in 0..5_000_u32 {
            let address = 0x0a00_0000 ^ i.wrapping_mul(0x9e37_79b1) >> (i % 24);
            let (known, length) = places.find(Ipv4Addr::from(address).into());
            let size = u64::from(u32::MAX) >> length;
            for edge in [address & !(size as u32), address | size as u32] {
                let (other, _) = places.find(Ipv4Addr::from(edge).into());
                assert_eq!(known.map(|k| &k.place), other.map(|k| &k.place), "{address:x}/{length}");
            }
        }
    }
}
