//! What forwarders make of answers that depend on where clients are, told from how they ask.
//!
//! A cache that heeds Client Subnet keeps an answer for the prefix that it is meant for (RFC 7871 §7.3): for clients elsewhere it
//! asks again, within the TTL. One that ignores it gives the first client's answer to all, and asks again only when the TTL has
//! run out, for whoever comes next. So of a name that is in demand each query tells something, by who asked last and when.
//!
//! Clients that ask at intervals may look alike, each of them as soon as another's answer has run out. But their order comes
//! round, and that of clients who all wait for one answer doesn't: only who asks in no order is suspected.
//!
//! Counting is a few loads and stores of tables of fixed size: what is found is told by [`watch`], once for each forwarder, and
//! again if it was over meanwhile.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use foldhash::quality::FixedState;
use tokio_util::sync::CancellationToken;

use crate::respond::Placed;
use crate::transport::Source;

/// Questions that are watched at a time, by a part of their hash.
const QUESTIONS: usize = 256;
/// Forwarders that are watched at a time; others have to wait for a place.
const FORWARDERS: usize = 16;
/// In so many of the turns that are remembered somebody else must have come.
const ENOUGH: usize = 4;
/// Clients that ask at intervals come round after so many turns, or fewer.
const ROUND: u32 = 12;
/// So many questions without Client Subnet, and none with one, are no accident.
const ENOUGH_WITHOUT: u32 = 32;
/// TTLs in seconds: of shorter ones it can't be said what was waited for, and longer ones outlive the clock.
const TTLS: std::ops::RangeInclusive<u32> = 3..=86_400;

// Times are in tenths of a second.

/// Queries that come at once: many clients had waited.
const AT_ONCE: u32 = 4;
/// A cache may ask again a little before the TTL has run out, or in its last tenth (CoreDNS' and Unbound's `prefetch`),
const EARLY: u32 = 5;
/// and soon after, where the name is in demand.
const SOON: u32 = 20;
/// A question that was not asked for so long gives way to another one.
const FORGOTTEN: u32 = 600;
/// A forwarder that was not seen for so long gives way to another one.
const GONE: u32 = 36_000;
/// When a forwarder was seen last is known to so much: it is not written for each query.
const SEEN: u32 = 600;
/// Each time that it is seen to heed Client Subnet keeps a forwarder from suspicion for so long. The first one doesn't: a
/// cache may have lost an answer.
const HEEDED_FOR: u32 = 600;
/// It isn't kept for longer,
const HEEDED_AT_MOST: u32 = 36_000;
/// and is taken as mended when it is kept for so long: what one accident or another can't do.
const MENDED: u32 = 5 * HEEDED_FOR;

/// All forwarders that may say where clients are, as far as they ask for what depends on it.
pub(crate) struct Forwarders {
    forwarders: [Forwarder; FORWARDERS],
    questions: Box<[Question]>,
}

/// One of them.
#[derive(Default)]
struct Forwarder {
    /// Hash of the address; 0: the place is free.
    id: AtomicU64,
    /// When it asked last.
    seen: AtomicU32,
    /// The address as one of IPv6, once `known` says so.
    high: AtomicU64,
    low: AtomicU64,
    flags: AtomicU32,
    /// Questions without Client Subnet.
    without: AtomicU32,
    /// Until when what it was seen to heed counts.
    heeded: AtomicU32,
}

/// How a question was asked, as [`Turns`] writes it.
#[derive(Default)]
struct Question {
    turn: AtomicU64,
    order: AtomicU64,
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
                "it is one of client-subnet.trusted-forwarders, asks for what depends on where clients are, and never says it. \
                 If it is a client, all is well. If it is a forwarder, all its clients are answered as if they were where it is \
                 itself: have it send EDNS Client Subnet, or take it off the list"
            }
        })
    }
}

impl Default for Forwarders {
    fn default() -> Self {
        let questions = (0..QUESTIONS).map(|_| Question::default()).collect();
        Self { forwarders: Default::default(), questions }
    }
}

impl Forwarders {
    /// A forwarder was answered something that depends on where its client is; `now` in tenths of a second since any time.
    pub(crate) fn see(&self, now: u32, address: IpAddr, placed: &Placed) {
        let id = hash(&address).max(1);
        let Some(forwarder) = self.forwarder(now, id, address) else { return };
        forwarder.is_here(now);
        let Some(subnet) = placed.subnet else { return forwarder.says_nothing() };
        forwarder.tells();
        if !TTLS.contains(&placed.ttl) {
            return;
        }
        let question = hash(&(id, placed.question));
        let asked = Asked { tag: (question >> 48) as u16, at: now & TIME, subnet: subnet & SUBNET };
        match self.questions[question as usize % QUESTIONS].ask(&asked, placed.ttl * 10) {
            Some(Sign::Heeds) => forwarder.heeds(now),
            Some(Sign::Ignores) if !forwarder.heeded_lately(now) => forwarder.raise(flag::IGNORES),
            Some(Sign::Ignores) | None => {}
        }
    }

    /// Frees the places of those who ask no more: forwarders that are pods change their addresses.
    fn forget(&self, now: u32) {
        self.forwarders.iter().filter(|forwarder| forwarder.is_gone(now)).for_each(Forwarder::leave);
    }

    /// How many have a fault.
    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.forwarders.iter().filter(|forwarder| forwarder.has(fault)).count() as u64
    }

    /// Faults that are not in `told`, which has those that there are from now on.
    fn news(&self, told: &mut Vec<(IpAddr, Fault)>) -> Vec<(IpAddr, Fault)> {
        let all = self.forwarders.iter().flat_map(|forwarder| {
            let faults = [Fault::Ignores, Fault::Silent].into_iter().filter(|fault| forwarder.has(*fault));
            faults.filter_map(|fault| Some((forwarder.address()?, fault)))
        });
        let before = std::mem::replace(told, all.collect());
        told.iter().filter(|fault| !before.contains(fault)).copied().collect()
    }

    /// The one with this address; `None` when there are too many.
    fn forwarder(&self, now: u32, id: u64, address: IpAddr) -> Option<&Forwarder> {
        let known = self.forwarders.iter().find(|forwarder| forwarder.id.load(Ordering::Relaxed) == id);
        known.or_else(|| self.forwarders.iter().find(|forwarder| forwarder.take(now, id, address)))
    }
}

impl Forwarder {
    /// Whether the place was free, or another thread took it for the same one.
    fn take(&self, now: u32, id: u64, address: IpAddr) -> bool {
        if self.id.load(Ordering::Relaxed) != 0 {
            return false;
        }
        let taken = self.id.compare_exchange(0, id, Ordering::Relaxed, Ordering::Relaxed);
        if taken.is_ok() {
            self.introduce(now, address);
        }
        taken.is_ok() || taken == Err(id)
    }

    /// Called by the one that took the place; nothing is left of who was there before.
    fn introduce(&self, now: u32, address: IpAddr) {
        let bits = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        self.high.store((bits >> 64) as u64, Ordering::Relaxed);
        self.low.store(bits as u64, Ordering::Relaxed);
        self.seen.store(now, Ordering::Relaxed);
        self.heeded.store(now, Ordering::Relaxed);
        self.without.store(0, Ordering::Relaxed);
        self.flags.store(flag::KNOWN, Ordering::Release);
    }

    fn leave(&self) {
        self.flags.store(0, Ordering::Relaxed);
        self.id.store(0, Ordering::Relaxed);
    }

    fn is_here(&self, now: u32) {
        if self.not_seen_for(now) >= SEEN {
            self.seen.store(now, Ordering::Relaxed);
        }
    }

    fn is_gone(&self, now: u32) -> bool {
        self.address().is_some() && self.not_seen_for(now) >= GONE
    }

    /// 0 where another thread has seen it later than `now`.
    fn not_seen_for(&self, now: u32) -> u32 {
        let ago = now.wrapping_sub(self.seen.load(Ordering::Relaxed));
        if ago <= u32::MAX / 2 { ago } else { 0 }
    }

    fn address(&self) -> Option<IpAddr> {
        let is_known = self.flags.load(Ordering::Acquire) & flag::KNOWN != 0;
        let (high, low) = (self.high.load(Ordering::Relaxed), self.low.load(Ordering::Relaxed));
        let bits = u128::from(high) << 64 | u128::from(low);
        is_known.then(|| IpAddr::V6(Ipv6Addr::from_bits(bits)).to_canonical())
    }

    fn has(&self, fault: Fault) -> bool {
        let flags = flag::KNOWN | fault.flag();
        self.flags.load(Ordering::Relaxed) & flags == flags
    }

    /// Writes only what is new: all threads share it.
    fn raise(&self, flag: u32) {
        if self.flags.load(Ordering::Relaxed) & flag == 0 {
            self.flags.fetch_or(flag, Ordering::Relaxed);
        }
    }

    fn clear(&self, flag: u32) {
        if self.flags.load(Ordering::Relaxed) & flag != 0 {
            self.flags.fetch_and(!flag, Ordering::Relaxed);
        }
    }

    fn tells(&self) {
        self.raise(flag::TELLS);
        self.clear(flag::SILENT);
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
        let longer = self.heeded_for(now) + HEEDED_FOR;
        if longer <= HEEDED_AT_MOST {
            self.heeded.store(now.wrapping_add(longer), Ordering::Relaxed);
        }
        if longer > MENDED {
            self.clear(flag::IGNORES);
        }
    }

    fn heeded_lately(&self, now: u32) -> bool {
        self.heeded_for(now) > HEEDED_FOR
    }

    /// How long what it was seen to heed counts from now on.
    fn heeded_for(&self, now: u32) -> u32 {
        let longer = self.heeded.load(Ordering::Relaxed).wrapping_sub(now);
        if longer <= HEEDED_AT_MOST { longer } else { 0 }
    }
}

impl Question {
    fn ask(&self, asked: &Asked, ttl: u32) -> Option<Sign> {
        let (turn, order) = (self.turn.load(Ordering::Relaxed), self.order.load(Ordering::Relaxed));
        let (after, sign) = Turns::read(turn, order).next(asked, ttl);
        let next = after.written();
        let write = || self.turn.compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        // Whoever loses a race saw the same as who wins it. Most queries change nothing.
        if (next == turn || write()) && after.order != order {
            self.order.store(after.order, Ordering::Relaxed);
        }
        sign
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

impl Asked {
    /// The subnet in four bits, other ones for each question; never 0.
    fn mark(&self) -> u64 {
        hash(&(self.tag, self.subnet)) % 15 + 1
    }

    /// The order when this comes along with the last one: who of them came first is chance.
    fn beside(&self, order: u64) -> u64 {
        if order == 0 { 0 } else { order & !0x0f | self.mark().max(order & 0x0f) }
    }
}

/// How a question was asked in turn, in twice 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turns {
    tag: u16,
    /// When the last turn began.
    at: u32,
    /// Who began it.
    subnet: u16,
    /// The turns in a row that began when the TTL had run out: a mark of who came each, the last one lowest.
    order: u64,
}

/// What a query says of the cache that it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Heeds,
    Ignores,
}

impl Turns {
    fn read(turn: u64, order: u64) -> Self {
        Self {
            tag: (turn >> 48) as u16,
            at: (turn >> 28) as u32 & TIME,
            subnet: (turn >> 16) as u16 & SUBNET,
            order,
        }
    }

    /// All but the order.
    fn written(self) -> u64 {
        u64::from(self.tag) << 48 | u64::from(self.at) << 28 | u64::from(self.subnet) << 16
    }

    fn next(self, asked: &Asked, ttl: u32) -> (Self, Option<Sign>) {
        let passed = asked.at.wrapping_sub(self.at) & TIME;
        let begun = Self { at: asked.at, subnet: asked.subnet, ..self };
        if asked.tag != self.tag {
            let new = Self { tag: asked.tag, order: 0, ..begun };
            return (if passed > FORGOTTEN || self.written() == 0 { new } else { self }, None);
        }
        if passed <= AT_ONCE {
            return (Self { order: asked.beside(self.order), ..self }, None);
        }
        if passed < ttl - EARLY.max(ttl / 10) {
            let is_other = asked.subnet != self.subnet;
            return (Self { order: 0, ..begun }, is_other.then_some(Sign::Heeds));
        }
        if passed > ttl + SOON {
            return (Self { order: 0, ..begun }, None);
        }
        let order = self.order << 4 | asked.mark();
        // Only now it is known who came in the last turn.
        (Self { order, ..begun }, is_in_no_order(self.order).then_some(Sign::Ignores))
    }
}

/// Whether all turns are known, others came in many of them, and it isn't the same ones after as many turns each time.
fn is_in_no_order(order: u64) -> bool {
    let differ = |by: u32| (order ^ order >> (4 * by)) & u64::MAX >> (4 * by);
    let changes = (0..15).filter(|turn| differ(1) >> (4 * turn) & 0x0f != 0).count();
    order >> 60 != 0 && changes >= ENOUGH && (1..=ROUND).all(|turns| differ(turns) != 0)
}

fn hash(of: &impl Hash) -> u64 {
    FixedState::default().hash_one(of)
}

/// Looks again and again, and logs what is new.
pub(crate) async fn watch(source: Arc<Source>, every: Duration, stop: CancellationToken) {
    let mut told = Vec::new();
    while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        let forwarders = &source.metrics.forwarders;
        forwarders.forget(source.tenths(Instant::now()));
        for (forwarder, fault) in forwarders.news(&mut told) {
            // In a network there are clients, too.
            if fault == Fault::Silent && !source.policy().settings.edns.lists(forwarder) {
                tracing::info!(%forwarder, "{fault}");
            } else {
                tracing::warn!(%forwarder, "{fault}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
