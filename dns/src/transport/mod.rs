//! How messages come and go. All transports answer through an [`Answerer`].

mod connections;
mod hickory;
mod stream;
pub(crate) mod tcp;
pub(crate) mod udp;

pub(crate) use hickory::{Encrypted, serve as serve_encrypted};

use std::mem;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, Cache};
use portolan_zones::policy::explain::Witness;
use portolan_zones::{Snapshot, Zones};

use crate::geo::Atlas;
use crate::limiter::Limiter;
use crate::metrics::{Metrics, Sample, Shard, count, slot_of};
use crate::respond::{Context, Dropped, Facts, Reply, Scratch, Verdict, respond};
use crate::settings::Settings;
use crate::transfer::{Transfer, Transfers};
use crate::view::{Transport, View};

/// What all transports answer from.
pub(crate) struct Source {
    snapshots: Arc<ArcSwap<Snapshot>>,
    settings: Arc<ArcSwap<Settings>>,
    atlas: Arc<ArcSwap<Atlas>>,
    policy: ArcSwap<Policy>,
    /// Held while settings are paired with a limiter, so that all threads get the same one.
    pairing: Mutex<()>,
    /// Of the limiter's hash.
    key: [u8; 16],
    /// Seeds of random numbers, each used once.
    seed: AtomicU32,
    /// What forwarders' queries are timed from.
    began: Instant,
    pub(crate) metrics: Arc<Metrics>,
}

/// Settings, the limiter that was made for them, where the world's clients are, and what outlives all of them.
pub(crate) struct Policy {
    pub(crate) settings: Arc<Settings>,
    limiter: Arc<Limiter>,
    atlas: Arc<Atlas>,
    transfers: Transfers,
    witness: Option<Witness>,
}

impl Source {
    /// `random` is drawn once per process.
    pub(crate) fn new(
        snapshots: Arc<ArcSwap<Snapshot>>,
        settings: Arc<ArcSwap<Settings>>,
        atlas: Arc<ArcSwap<Atlas>>,
        witness: Option<Witness>,
        metrics: Arc<Metrics>,
        random: [u8; 20],
    ) -> Self {
        let [a, b, c, d, key @ ..] = random;
        let current = settings.load_full();
        let limiter = Arc::new(Limiter::new(&current.rate_limit, key));
        let policy = ArcSwap::from_pointee(Policy {
            settings: current,
            limiter,
            atlas: atlas.load_full(),
            transfers: Transfers::default(),
            witness,
        });
        let seed = AtomicU32::new(u32::from_be_bytes([a, b, c, d]));
        Self {
            snapshots,
            settings,
            atlas,
            policy,
            pairing: Mutex::new(()),
            key,
            seed,
            began: Instant::now(),
            metrics,
        }
    }

    /// The settings as they are now. A reload keeps the limiter's counts unless its settings change.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        let (settings, atlas) = (self.settings.load(), self.atlas.load());
        let policy = self.policy.load_full();
        if policy.is_of(&settings, &atlas) {
            return policy;
        }
        let _pairing = self.pairing.lock().unwrap_or_else(PoisonError::into_inner);
        let (settings, atlas) = (self.settings.load_full(), self.atlas.load_full());
        let policy = self.policy.load_full();
        if policy.is_of(&settings, &atlas) {
            return policy;
        }
        let limiter = if policy.settings.rate_limit == settings.rate_limit {
            policy.limiter.clone()
        } else {
            Arc::new(Limiter::new(&settings.rate_limit, self.key))
        };
        let (transfers, witness) = (policy.transfers.clone(), policy.witness.clone());
        let next = Arc::new(Policy { settings, limiter, atlas, transfers, witness });
        self.policy.store(next.clone());
        next
    }

    /// The time in tenths of a second, as forwarders are seen by.
    pub(crate) fn tenths(&self, now: Instant) -> u32 {
        tenths(self.began, now)
    }

    /// What is answered now. Don't keep it: old snapshots would pile up.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.load_full()
    }
}

fn tenths(began: Instant, now: Instant) -> u32 {
    (now.saturating_duration_since(began).as_millis() / 100) as u32
}

impl Policy {
    fn is_of(&self, settings: &Arc<Settings>, atlas: &Arc<Atlas>) -> bool {
        Arc::ptr_eq(&self.settings, settings) && Arc::ptr_eq(&self.atlas, atlas)
    }
}

/// Follows snapshots, settings and databases for one thread, without touching counters that threads share.
pub(crate) struct Follower {
    snapshots: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    settings: Cache<Arc<ArcSwap<Settings>>, Arc<Settings>>,
    atlas: Cache<Arc<ArcSwap<Atlas>>, Arc<Atlas>>,
    policy: Arc<Policy>,
    source: Arc<Source>,
}

impl Follower {
    pub(crate) fn new(source: Arc<Source>) -> Self {
        Self {
            snapshots: Cache::new(source.snapshots.clone()),
            settings: Cache::new(source.settings.clone()),
            atlas: Cache::new(source.atlas.clone()),
            policy: source.policy(),
            source,
        }
    }

    /// Snapshot and settings as they are now.
    #[inline]
    pub(crate) fn current(&mut self) -> (&Arc<Snapshot>, &Policy) {
        if !self.policy.is_of(self.settings.load(), self.atlas.load()) {
            self.policy = self.source.policy();
        }
        (self.snapshots.load(), &self.policy)
    }
}

/// Answers queries one after another: what a thread or connection keeps from query to query.
pub(crate) struct Answerer {
    transport: Transport,
    scratch: Scratch,
    reply: Reply,
    metrics: Arc<Metrics>,
    shard: Arc<Shard>,
    slots: Slots,
    clock: UnixClock,
    began: Instant,
    random: u32,
}

/// What became of a query.
pub(crate) enum Outcome {
    /// [`Answerer::reply`] is to be sent.
    Reply,
    /// Nothing is to be sent.
    Nothing,
    /// The messages of a transfer are to be sent, one by one.
    Transfer(Box<Transfer>),
}

impl Answerer {
    pub(crate) fn new(source: &Source, shard: Arc<Shard>, transport: Transport) -> Self {
        // The golden ratio spreads seeds that follow each other; xorshift needs one bit.
        let random = source.seed.fetch_add(0x9e37_79b9, Ordering::Relaxed) | 1;
        Self {
            transport,
            scratch: Scratch::default(),
            reply: Reply::default(),
            metrics: source.metrics.clone(),
            shard,
            slots: Slots::default(),
            clock: UnixClock::new(),
            began: source.began,
            random,
        }
    }

    /// Answers one query of `client`. `now` is when it was begun, and becomes when it was done: of queries that are
    /// answered one after another the next one's beginning.
    pub(crate) fn answer(
        &mut self,
        current: (&Arc<Snapshot>, &Policy),
        query: &[u8],
        client: SocketAddr,
        now: &mut Instant,
    ) -> Outcome {
        self.guard(|own| own.answer_unguarded(current, query, client, now)).unwrap_or_else(|| {
            *now = Instant::now();
            Outcome::Nothing
        })
    }

    fn answer_unguarded(
        &mut self,
        (snapshot, policy): (&Arc<Snapshot>, &Policy),
        query: &[u8],
        client: SocketAddr,
        now: &mut Instant,
    ) -> Outcome {
        let start = *now;
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        let view = View { client, transport: self.transport };
        let context = Context {
            settings: &policy.settings,
            limiter: &policy.limiter,
            snapshot,
            transfers: &policy.transfers,
            beyond: policy.atlas.as_locate(),
            witness: policy.witness.as_ref(),
            now: self.clock.read(start),
            entropy: self.next_random(),
        };
        let verdict = respond(&context, query, &view, &mut self.scratch, &mut self.reply);
        self.slots.follow(&snapshot.zones, &self.metrics);
        *now = Instant::now();
        let took = now.saturating_duration_since(start);
        let record = |facts: &Facts, response| {
            let slot = slot_of(&self.slots.slots, facts.zone);
            let request = query.len();
            self.shard.record(&Sample { facts, slot, ipv6: client.is_ipv6(), took, request, response });
        };
        match verdict {
            Verdict::Send(facts) => {
                if let Some(placed) = &facts.placed {
                    self.metrics.forwarders.see(tenths(self.began, start), client.ip(), placed);
                }
                record(&facts, Some(self.reply.octets().len()));
                Outcome::Reply
            }
            Verdict::Drop(Dropped::Limited(facts)) => {
                record(&facts, None);
                Outcome::Nothing
            }
            Verdict::Drop(Dropped::NoQuery) => {
                count(&self.shard.ignored);
                Outcome::Nothing
            }
            Verdict::Transfer(transfer, facts) => {
                // One response, whose size nobody knows yet.
                record(&facts, Some(0));
                Outcome::Transfer(transfer)
            }
        }
    }

    /// Makes the next message of a transfer the reply; `false` after the last one.
    pub(crate) fn next_message(&mut self, transfer: &mut Transfer) -> bool {
        self.guard(|own| transfer.next(&mut own.reply)).unwrap_or(false)
    }

    /// The message to send.
    pub(crate) fn reply(&self) -> &[u8] {
        self.reply.octets()
    }

    /// Gives the message to send away, for room for the next one.
    pub(crate) fn swap_reply(&mut self, other: &mut Reply) {
        mem::swap(&mut self.reply, other);
    }

    /// A bug that one query hits must not end the service of all others: it costs that query.
    fn guard<T>(&mut self, f: impl FnOnce(&mut Self) -> T) -> Option<T> {
        // What a panic may leave half-done is made anew below.
        let result = catch_unwind(AssertUnwindSafe(|| f(self)));
        if result.is_err() {
            self.metrics.count_panic();
            (self.scratch, self.reply, self.slots) = Default::default();
        }
        result.ok()
    }

    /// Xorshift (Marsaglia): which record comes first needs no better.
    fn next_random(&mut self) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }
}

/// The metrics' slots of a snapshot's zones.
#[derive(Default)]
struct Slots {
    zones: Option<Arc<Zones>>,
    slots: Box<[u8]>,
}

impl Slots {
    fn follow(&mut self, zones: &Arc<Zones>, metrics: &Metrics) {
        if !self.zones.as_ref().is_some_and(|known| Arc::ptr_eq(known, zones)) {
            self.slots = metrics.slots(zones);
            self.zones = Some(zones.clone());
        }
    }
}

/// Seconds since the Unix epoch, read from the system once a second at most.
struct UnixClock {
    read: Instant,
    seconds: u32,
}

impl UnixClock {
    fn new() -> Self {
        Self { read: Instant::now(), seconds: unix_seconds() }
    }

    fn read(&mut self, now: Instant) -> u32 {
        if now.saturating_duration_since(self.read) >= Duration::from_secs(1) {
            *self = Self { read: now, seconds: unix_seconds() };
        }
        self.seconds
    }
}

/// Wraps after 2106, as cookies expect (RFC 9018 §4.3).
fn unix_seconds() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32)
}

#[cfg(test)]
mod tests {
    use portolan_zones::{Name, ZoneConfig};
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::metrics::Writers;

    pub(super) fn source() -> Source {
        let snapshots = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let settings = Arc::new(ArcSwap::from_pointee(Settings::default()));
        Source::new(snapshots, settings, Arc::default(), None, Arc::default(), [7; 20])
    }

    pub(super) fn answerer(source: &Source) -> Answerer {
        let address = "127.0.0.1:53".parse().unwrap();
        let shard = source.metrics.shard(Transport::Udp, address, Writers::One);
        Answerer::new(source, shard, Transport::Udp)
    }

    /// What Prometheus gets to know of panics.
    pub(super) fn panics(source: &Source) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(source.metrics.clone()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().find_map(|line| line.strip_prefix("coredns_panics_total ")).unwrap().to_owned()
    }

    #[test]
    fn a_panic_costs_one_query_and_is_counted() {
        let source = source();
        let mut answerer = answerer(&source);
        assert!(answerer.guard::<()>(|_| panic!("a bug")).is_none());
        assert_eq!(answerer.guard(|_| 1), Some(1));
        assert_eq!(panics(&source), "1");
    }

    /// Also one in what is recorded when the answer is there.
    #[test]
    fn a_panic_after_the_answer_costs_one_query_and_is_counted() {
        let source = source();
        let mut answerer = answerer(&source);
        let zones = Zones::new(vec![ZoneConfig::new(Name::parse("example").unwrap())]).unwrap();
        let (snapshot, policy) = (Arc::new(Snapshot::unsynced(zones)), source.policy());
        let query = b"\0\x07\0\0\0\x01\0\0\0\0\0\0\x07example\0\0\x06\0\x01";
        let client = "127.0.0.1:5353".parse().unwrap();
        let answer = |answerer: &mut Answerer| {
            matches!(
                answerer.answer((&snapshot, &policy), query, client, &mut Instant::now()),
                Outcome::Reply
            )
        };
        assert!(answer(&mut answerer));
        // No shard has so many.
        answerer.slots.slots = [u8::MAX].into();
        assert!(!answer(&mut answerer));
        assert_eq!(panics(&source), "1");
        assert!(answer(&mut answerer));
    }

    #[test]
    fn a_reload_keeps_the_limiter_unless_its_settings_change() {
        let source = source();
        let first = source.policy();
        let mut settings = Settings::default();
        settings.edns.max_udp_payload = 1400;
        source.settings.store(Arc::new(settings.clone()));
        let second = source.policy();
        assert_eq!(second.settings.edns.max_udp_payload, 1400);
        assert!(Arc::ptr_eq(&first.limiter, &second.limiter));
        settings.rate_limit.slip = 7;
        source.settings.store(Arc::new(settings));
        let third = source.policy();
        assert!(!Arc::ptr_eq(&second.limiter, &third.limiter));
        assert!(Arc::ptr_eq(&third, &source.policy()), "one limiter for all threads");
        source.atlas.store(Arc::default());
        let fourth = source.policy();
        assert!(!Arc::ptr_eq(&third, &fourth) && Arc::ptr_eq(&third.limiter, &fourth.limiter));
    }

    #[test]
    fn a_follower_sees_what_is_published() {
        let source = Arc::new(source());
        let mut follower = Follower::new(source.clone());
        assert_eq!(follower.current().0.generation, 0);
        let mut next = Snapshot::default();
        next.generation = 5;
        source.snapshots.store(Arc::new(next));
        assert_eq!(follower.current().0.generation, 5);
    }
}
