//! What forwarders make of answers that depend on where clients are, told from how they ask.
//!
//! A cache that heeds Client Subnet keeps an answer for the prefix that it is meant for (RFC 7871 §7.3): for clients elsewhere it
//! asks again, within the TTL. One that ignores it gives the first client's answer to all, and asks again only when the TTL has
//! run out, for whoever comes next. So of a name that is in demand each query tells something, by who asked last and when.
//!
//! Counting is a few loads and stores of a table of fixed size: what is found is told by [`watch`], once for each forwarder.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::respond::Placed;

/// Questions that are watched at a time, by a part of their hash.
const QUESTIONS: usize = 256;
/// Forwarders that are watched; later ones are not.
const FORWARDERS: usize = 16;
/// So many times in a row a question must be asked as a cache asks that ignores where clients are.
const ENOUGH: u8 = 8;
/// So many questions without Client Subnet, and none with one, are no accident.
const ENOUGH_WITHOUT: u32 = 32;
/// TTLs in seconds: of shorter ones it can't be said what was waited for, and longer ones outlive the clock.
const TTLS: std::ops::RangeInclusive<u32> = 3..=86_400;

// Times are in tenths of a second.

/// Queries that come at once: many clients had waited.
const AT_ONCE: u32 = 4;
/// A cache may ask again a little before the TTL has run out,
const EARLY: u32 = 5;
/// and soon after, where the name is in demand.
const SOON: u32 = 20;
/// A question that was not asked for so long gives way to another one.
const FORGOTTEN: u32 = 600;
/// Who once heeded Client Subnet is not suspected for so long.
const TRUSTED_FOR: u32 = 36_000;

/// All forwarders that may say where clients are, as far as they ask for what depends on it.
pub(crate) struct Forwarders {
    forwarders: [Forwarder; FORWARDERS],
    questions: Box<[AtomicU64]>,
}

/// One of them.
#[derive(Default)]
struct Forwarder {
    /// Hash of the address; 0: none is here.
    id: AtomicU64,
    /// The address as one of IPv6, once `known` says so.
    high: AtomicU64,
    low: AtomicU64,
    flags: AtomicU32,
    /// Questions without Client Subnet.
    without: AtomicU32,
    /// When it was last seen to heed Client Subnet, plus one.
    heeded: AtomicU32,
}

/// What is known of a forwarder.
mod flag {
    /// Its address is written.
    pub(super) const KNOWN: u32 = 1;
    /// It sends Client Subnet.
    pub(super) const TELLS: u32 = 2;
    /// Its cache ignores it.
    pub(super) const IGNORES: u32 = 4;
    /// It never sends it.
    pub(super) const SILENT: u32 = 8;
}

/// What is wrong with a forwarder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its cache ignores Client Subnet.
    Ignores,
    /// It never sends it.
    Silent,
}

impl Fault {
    fn flag(self) -> u32 {
        match self {
            Self::Ignores => flag::IGNORES,
            Self::Silent => flag::SILENT,
        }
    }
}

/// What to do about it.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ignores => {
                "a cache there ignores where clients are (EDNS Client Subnet): what depends on it is answered to all clients as \
                 to the first one. As CoreDNS' `cache` does: serve this server's zones outside of the cache there, or give \
                 policies a TTL that you can live with"
            }
            Self::Silent => {
                "it is one of client-subnet.trusted-forwarders, asks for what depends on where clients are, and never says it: \
                 all its clients are answered as if they were where it is itself. Have it send EDNS Client Subnet, or take it \
                 off the list"
            }
        })
    }
}

impl Default for Forwarders {
    fn default() -> Self {
        let questions = (0..QUESTIONS).map(|_| AtomicU64::new(0)).collect();
        Self { forwarders: Default::default(), questions }
    }
}

impl Forwarders {
    /// A forwarder was answered something that depends on where its client is; `now` in tenths of a second since any time.
    pub(crate) fn see(&self, now: u32, address: IpAddr, placed: &Placed) {
        let id = hash(&address).max(1);
        let Some(forwarder) = self.forwarder(id, address) else { return };
        let Some(subnet) = placed.subnet else { return forwarder.says_nothing() };
        forwarder.raise(flag::TELLS);
        if !TTLS.contains(&placed.ttl) {
            return;
        }
        let question = hash(&(id, placed.question));
        let slot = &self.questions[question as usize % QUESTIONS];
        let before = slot.load(Ordering::Relaxed);
        let asked = Asked { tag: (question >> 48) as u16, at: now & TIME, subnet: subnet & SUBNET };
        let (after, sign) = Turns::read(before).next(&asked, placed.ttl * 10);
        // Whoever loses a race saw the same as who wins it.
        let _ = slot.compare_exchange(before, after.written(), Ordering::Relaxed, Ordering::Relaxed);
        match sign {
            Some(Sign::Heeds) => forwarder.heeds(now),
            Some(Sign::Ignores) if !forwarder.heeded_lately(now) => forwarder.raise(flag::IGNORES),
            Some(Sign::Ignores) | None => {}
        }
    }

    /// How many have a fault.
    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.forwarders.iter().filter(|forwarder| forwarder.has(fault)).count() as u64
    }

    /// Whose faults are not among those in `told`, which they are from now on.
    fn news(&self, told: &mut Vec<(IpAddr, Fault)>) -> Vec<(IpAddr, Fault)> {
        let all = self.forwarders.iter().flat_map(|forwarder| {
            let faults = [Fault::Ignores, Fault::Silent].into_iter().filter(|fault| forwarder.has(*fault));
            faults.filter_map(|fault| Some((forwarder.address()?, fault)))
        });
        let news: Vec<_> = all.filter(|fault| !told.contains(fault)).collect();
        told.extend_from_slice(&news);
        news
    }

    /// The one with this address; `None` when there are too many.
    fn forwarder(&self, id: u64, address: IpAddr) -> Option<&Forwarder> {
        let mine = |forwarder: &&Forwarder| {
            let taken = forwarder.id.compare_exchange(0, id, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() {
                forwarder.introduce(address);
            }
            taken.is_ok() || taken == Err(id)
        };
        let known = self.forwarders.iter().find(|forwarder| forwarder.id.load(Ordering::Relaxed) == id);
        known.or_else(|| self.forwarders.iter().find(mine))
    }
}

impl Forwarder {
    /// Called by the one that took the place.
    fn introduce(&self, address: IpAddr) {
        let bits = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        self.high.store((bits >> 64) as u64, Ordering::Relaxed);
        self.low.store(bits as u64, Ordering::Relaxed);
        self.flags.fetch_or(flag::KNOWN, Ordering::Release);
    }

    fn address(&self) -> Option<IpAddr> {
        let is_known = self.flags.load(Ordering::Acquire) & flag::KNOWN != 0;
        let (high, low) = (self.high.load(Ordering::Relaxed), self.low.load(Ordering::Relaxed));
        let bits = u128::from(high) << 64 | u128::from(low);
        is_known.then(|| IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical())
    }

    fn has(&self, fault: Fault) -> bool {
        self.flags.load(Ordering::Relaxed) & fault.flag() != 0
    }

    /// Writes only what is new: all threads share it.
    fn raise(&self, flag: u32) {
        if self.flags.load(Ordering::Relaxed) & flag == 0 {
            self.flags.fetch_or(flag, Ordering::Relaxed);
        }
    }

    fn says_nothing(&self) {
        let decided = flag::TELLS | flag::SILENT;
        if self.flags.load(Ordering::Relaxed) & decided == 0
            && self.without.fetch_add(1, Ordering::Relaxed) + 1 >= ENOUGH_WITHOUT
        {
            self.raise(flag::SILENT);
        }
    }

    fn heeds(&self, now: u32) {
        if self.heeded_for(now).is_none_or(|ago| ago >= FORGOTTEN) {
            self.heeded.store(now.wrapping_add(1).max(1), Ordering::Relaxed);
        }
    }

    fn heeded_lately(&self, now: u32) -> bool {
        self.heeded_for(now).is_some_and(|ago| ago < TRUSTED_FOR)
    }

    /// How long ago it was seen to.
    fn heeded_for(&self, now: u32) -> Option<u32> {
        let heeded = self.heeded.load(Ordering::Relaxed);
        (heeded != 0).then(|| now.wrapping_add(1).wrapping_sub(heeded))
    }
}

const TIME_BITS: u32 = 20;
/// 29 hours; a question comes back after that, or its place was given away.
const TIME: u32 = (1 << TIME_BITS) - 1;
const SUBNET_BITS: u32 = 12;
const SUBNET: u16 = (1 << SUBNET_BITS) - 1;

/// A query.
struct Asked {
    /// Which question, beside its place.
    tag: u16,
    at: u32,
    subnet: u16,
}

/// How a question was asked in turn, in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turns {
    tag: u16,
    /// When the last turn began.
    at: u32,
    /// Who began it.
    subnet: u16,
    /// Who began the one before.
    previous: u16,
    /// So many turns in a row the TTL was waited for, though somebody else came.
    waited: u8,
}

/// What a query says of the cache that it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Heeds,
    Ignores,
}

impl Turns {
    fn read(bits: u64) -> Self {
        Self {
            tag: (bits >> 48) as u16,
            at: (bits >> 28) as u32 & TIME,
            subnet: (bits >> 16) as u16 & SUBNET,
            previous: (bits >> 4) as u16 & SUBNET,
            waited: bits as u8 & 0x0f,
        }
    }

    fn written(self) -> u64 {
        let subnets = u64::from(self.subnet) << 16 | u64::from(self.previous) << 4;
        u64::from(self.tag) << 48 | u64::from(self.at) << 28 | subnets | u64::from(self.waited.min(0x0f))
    }

    fn next(self, asked: &Asked, ttl: u32) -> (Self, Option<Sign>) {
        let passed = asked.at.wrapping_sub(self.at) & TIME;
        let begun = Self { at: asked.at, subnet: asked.subnet, previous: self.subnet, ..self };
        let is_other = asked.subnet != self.subnet;
        if asked.tag != self.tag {
            let new = Self { tag: asked.tag, waited: 0, ..begun };
            return (if passed > FORGOTTEN || self.written() == 0 { new } else { self }, None);
        }
        if passed <= AT_ONCE {
            // Who began the last turn is here, too: so each had an answer of his own to wait for.
            let is_back = is_other && asked.subnet == self.previous;
            return (Self { waited: if is_back { 0 } else { self.waited }, ..self }, None);
        }
        if passed < ttl - EARLY {
            return (Self { waited: 0, ..begun }, is_other.then_some(Sign::Heeds));
        }
        if passed > ttl + SOON {
            return (Self { waited: 0, ..begun }, None);
        }
        let waited = (self.waited + u8::from(is_other)).min(ENOUGH);
        let sign = (waited == ENOUGH).then_some(Sign::Ignores);
        (Self { waited, ..begun }, sign)
    }
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// Looks again and again, and logs what is new.
pub(crate) async fn watch(metrics: Arc<Metrics>, every: Duration, stop: CancellationToken) {
    let mut told = Vec::new();
    while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        for (forwarder, fault) in metrics.forwarders.news(&mut told) {
            tracing::warn!(%forwarder, "{fault}");
        }
    }
}

#[cfg(test)]
mod tests;
