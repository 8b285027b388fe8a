//! What a policy's choice is when a query comes: the client's place gives the class, a number draws from it.
//!
//! Both are looked up: nothing is computed but, for clients that are to stay where they are, one score for each cluster.

use std::net::IpAddr;
use std::num::NonZeroU16;

use hickory_proto::rr::RecordType;
use smallvec::SmallVec;

use crate::agreed::Agreed;
use crate::places::{Key, Keys, Locate};
use crate::policy::draw::Draw;
use crate::service::RecordSet;

/// The answers that a service's clients are spread over.
#[derive(Debug, Clone, PartialEq)]
pub struct Choices {
    /// TTL of the service's records in seconds; `None`: the zone's.
    pub ttl: Option<u32>,
    /// Most records in an answer.
    pub most: Option<NonZeroU16>,
    /// Whether a client gets the same again.
    pub sticky: bool,
    /// For all types but those that have their own.
    pub(crate) all: Classes,
    /// For A and for AAAA, where there are both: whoever asks for one is spread over what has it.
    pub(crate) by_family: Option<Box<[Classes; 2]>>,
    /// What classes have in common is there once.
    pub(crate) sets: Box<[RecordSet]>,
}

/// Who belongs to which class.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Classes {
    /// Sorted; of areas that are not listed the first class is.
    pub(crate) areas: Box<[(Key, u16)]>,
    /// The same for nodes; they count before areas.
    pub(crate) nodes: Box<[(Key, u16)]>,
    /// At least one: mostly that, which is here then.
    pub(crate) classes: SmallVec<[Class; 1]>,
}

/// What the clients of one place are spread over.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Class {
    pub(crate) options: SmallVec<[Choice; 2]>,
    /// `None`: there is no choice.
    pub(crate) draw: Option<Draw>,
}

/// One of the answers that may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Position in [`Choices::sets`].
    pub(crate) set: u16,
    /// Its part of the whole.
    pub(crate) part: u32,
    /// Stands for the clusters behind it: the same as long as these are.
    pub(crate) of: u64,
}

/// Who asks, as far as the answer may depend on it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Client<'a> {
    /// Its address, or a prefix of it; `None`: nobody in particular, who gets all.
    pub address: Option<IpAddr>,
    /// A random number, or the next of a counter: for draws.
    pub entropy: u32,
    /// Who may know where it is when nothing better is known.
    pub beyond: Option<&'a dyn Locate>,
}

impl Client<'_> {
    /// As good as random, and another one for each number.
    fn number(&self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood).
        let mut z = u64::from(self.entropy).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The same for the same client and service on all servers, and as good as any for others.
    fn lasting(&self, service: &[u8]) -> u64 {
        Agreed::new(b"portolan clients").address(self.address).text(service).finish()
    }
}

impl Choices {
    /// What a client's answer is drawn by: the same again for one that is to stay.
    pub(crate) fn number(&self, client: &Client<'_>, service: &[u8]) -> u64 {
        if self.sticky { client.lasting(service) } else { client.number() }
    }

    /// The records for a client at a place, by its number; `None`: nothing for those who are there. What does not have what is
    /// asked for is passed over, if anything does.
    pub(crate) fn pick(
        &self,
        rtype: RecordType,
        place: Option<Keys>,
        number: u64,
        has: impl Fn(&RecordSet) -> bool,
    ) -> Option<&RecordSet> {
        let Class { options, draw } = self.classes(rtype).of(place);
        let set = |choice: &Choice| self.sets.get(usize::from(choice.set));
        let first = match (options.len(), draw) {
            (0, _) => return None,
            (1, _) => 0,
            (_, Some(draw)) if !self.sticky => draw.at(number),
            _ => rendezvous(options.iter().enumerate(), number)?,
        };
        let first = set(options.get(first)?)?;
        if has(first) {
            return Some(first);
        }
        let good = options.iter().enumerate().filter(|(_, choice)| set(choice).is_some_and(&has));
        Some(rendezvous(good, number).and_then(|at| set(options.get(at)?)).unwrap_or(first))
    }

    /// Reads what a choice will read first; the result says nothing.
    pub(crate) fn touch(&self) -> usize {
        let ends = [self.sets.first(), self.sets.last()];
        let sets = ends.into_iter().flatten().fold(0, |sum, set| sum ^ set.v4.len());
        let class = |classes: &Classes| {
            let option = classes.classes.first().and_then(|class| class.options.first());
            option.map_or(0, |option| usize::from(option.set))
        };
        self.by_family
            .iter()
            .flat_map(|both| &**both)
            .fold(sets ^ class(&self.all), |sum, classes| sum ^ class(classes))
    }

    /// The records that all clients get, if there is nothing to choose and nothing else is said of them.
    pub(crate) fn only(&self) -> Option<&RecordSet> {
        let is_one = |classes: &Classes| matches!(&*classes.classes, [class] if class.options.len() == 1);
        let mut all = std::iter::once(&self.all).chain(self.by_family.iter().flat_map(|both| &**both));
        match &*self.sets {
            [only] if (self.ttl, self.most, self.sticky) == (None, None, false) && all.all(is_one) => {
                Some(only)
            }
            _ => None,
        }
    }

    fn classes(&self, rtype: RecordType) -> &Classes {
        match (rtype, self.by_family.as_deref()) {
            (RecordType::A, Some([v4, _])) => v4,
            (RecordType::AAAA, Some([_, v6])) => v6,
            _ => &self.all,
        }
    }

    /// Whether it matters where a client is.
    pub(crate) fn by_place(&self, rtype: RecordType) -> bool {
        self.classes(rtype).classes.len() > 1
    }

    /// What the order of an answer's records follows.
    pub(crate) fn rotation(&self, client: &Client<'_>, number: u64) -> u32 {
        if self.sticky { number as u32 } else { client.entropy }
    }

    /// The length of the widest prefix that gets the same answer, if all in one of `place` bits are at one place.
    pub(crate) fn scope(&self, rtype: RecordType, client: IpAddr, place: u8) -> u8 {
        match (self.sticky, self.classes(rtype).classes.len()) {
            (true, _) if client.is_ipv4() => 32,
            (true, _) => 128,
            (false, 1) => 0,
            (false, _) => place,
        }
    }
}

impl Classes {
    fn of(&self, place: Option<Keys>) -> &Class {
        let find = |list: &[(Key, u16)], key: Key| {
            let at = list.binary_search_by_key(&key, |(key, _)| *key).ok()?;
            Some(usize::from(list[at].1))
        };
        let listed =
            place.and_then(|keys| find(&self.nodes, keys.node).or_else(|| find(&self.areas, keys.area)));
        &self.classes[listed.unwrap_or(0)]
    }
}

/// The option with the best score for this client. When one goes, only its own clients get another (highest random weight,
/// with the weights of Schindelhauer and Schomaker).
fn rendezvous<'c>(options: impl Iterator<Item = (usize, &'c Choice)>, client: u64) -> Option<usize> {
    let score = |choice: &Choice| {
        let hash = Agreed::new(b"portolan scoring").number(client).number(choice.of).finish();
        // Of 53 bits, never 0.
        let even = ((hash >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -even.ln() / f64::from(choice.part)
    };
    let scores = options.map(|(at, choice)| (at, score(choice)));
    scores.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
}
