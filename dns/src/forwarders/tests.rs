//! Caches of all sorts, simulated, and what is found of them.

use std::collections::BTreeMap;

use super::*;

const FORWARDER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5));
const TTL: u32 = 5;
/// So long things are looked at, in tenths of a second.
const LONG: u32 = 8000;

/// Numbers that look random (Marsaglia's xorshift).
struct Random(u32);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % limit
    }
}

/// Clients that ask a forwarder: by tenths of a second, the subnets of all that ask then.
type Clients<'c> = &'c mut dyn FnMut(u32) -> Vec<u16>;

/// What a cache keeps answers by.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cache {
    /// Each subnet has its own.
    Heeding,
    /// All have one.
    Ignoring,
    /// As CoreDNS: who comes while it asks is asked for as well.
    IgnoringInParallel,
    /// There is none.
    Absent,
}

/// Whether a forwarder with this cache is found to ignore where clients are.
fn found(cache: Cache, ttl: u32, clients: Clients<'_>) -> bool {
    let forwarders = Forwarders::default();
    // Until when, and how many asked in the same moment.
    let mut kept: BTreeMap<u16, (u32, u32)> = BTreeMap::new();
    for now in 0..LONG {
        for subnet in clients(now) {
            let key = if cache == Cache::Heeding { subnet } else { 0 };
            let (until, at_once) = kept.get(&key).copied().unwrap_or_default();
            let in_parallel = cache == Cache::IgnoringInParallel && until == now + ttl * 10 && at_once < 2;
            if cache == Cache::Absent || in_parallel || now >= until {
                kept.insert(key, (now + ttl * 10, if in_parallel { at_once + 1 } else { 1 }));
                forwarders.see(now, FORWARDER, &Placed { question: 7, subnet: Some(subnet), ttl });
            }
        }
    }
    assert_eq!(forwarders.count(Fault::Silent), 0);
    forwarders.count(Fault::Ignores) == 1
}

/// Each of `subnets` asks with a chance of one in `rarely` in each tenth of a second.
fn at_random(subnets: u16, rarely: u32, seed: u32) -> impl FnMut(u32) -> Vec<u16> {
    let mut random = Random(seed);
    move |_| {
        let mut now: Vec<u16> = (1..=subnets).filter(|_| random.below(rarely) == 0).collect();
        // Whoever comes first is another one each time.
        let first = random.below(now.len().max(1) as u32) as usize;
        now.rotate_left(first);
        now
    }
}

/// RFC 7871 §7.3: what is found is a cache that ignores the scope of answers, and nothing else.
#[test]
fn caches_are_told_by_how_they_ask() {
    use Cache::{Absent, Heeding, Ignoring, IgnoringInParallel};
    for seed in 1..=6 {
        for (what, subnets, rarely) in [
            ("two busy subnets", 2, 2),
            ("three at once", 3, 1),
            ("many busy subnets", 20, 3),
            ("some busy subnets", 5, 20),
        ] {
            for ttl in [TTL, 3, 20] {
                let found = |cache| found(cache, ttl, &mut at_random(subnets, rarely, seed));
                assert!(!found(Heeding), "{what}, TTL {ttl}, seed {seed}");
                assert!(!found(Absent), "{what}, TTL {ttl}, seed {seed}");
                assert!(found(Ignoring), "{what}, TTL {ttl}, seed {seed}");
                assert!(subnets < 5 || found(IgnoringInParallel), "{what}, TTL {ttl}, seed {seed}");
            }
        }
        // Low traffic tells nothing, whatever the cache does: names that nobody waits for are asked for at any time.
        for rarely in [100, 200, 400, 1000, 3000] {
            for cache in [Heeding, Ignoring, Absent] {
                let mut clients = at_random(4, rarely * 4, seed);
                assert!(!found(cache, TTL, &mut clients), "one in {rarely}, {cache:?}, seed {seed}");
            }
        }
        for cache in [Heeding, Ignoring, Absent] {
            assert!(!found(cache, TTL, &mut at_random(1, 2, seed)), "one subnet, {cache:?}, seed {seed}");
        }
    }
}

/// Of TTLs that are too short to be told from the time between two queries nothing is said.
#[test]
fn short_lives_tell_nothing() {
    for ttl in [0, 1, 2] {
        assert!(!found(Cache::Ignoring, ttl, &mut at_random(10, 2, 1)));
    }
}

/// A forwarder that is found at one name is not suspected at another while it heeds at a third.
#[test]
fn who_heeds_is_not_suspected() {
    let forwarders = Forwarders::default();
    let see = |now: u32, question: u64, subnet: u16| {
        forwarders.see(now, FORWARDER, &Placed { question, subnet: Some(subnet), ttl: TTL });
    };
    see(0, 1, 1);
    see(20, 1, 2);
    // Two clients by turns, five seconds apart, as chance has it.
    for turn in 0..20_u16 {
        see(u32::from(turn) * 50, 2, turn % 2);
    }
    assert_eq!(forwarders.count(Fault::Ignores), 0);
    // An hour later nobody remembers.
    for turn in 0..20_u16 {
        see(TRUSTED_FOR + 1000 + u32::from(turn) * 50, 2, turn % 2);
    }
    assert_eq!(forwarders.count(Fault::Ignores), 1);
}

/// Told once for each forwarder and fault; one that says where some clients are is not silent.
#[test]
fn faults_are_told_once() {
    let forwarders = Forwarders::default();
    let silent: IpAddr = "2001:db8::53".parse().unwrap();
    let see = |address: IpAddr, subnet: Option<u16>| {
        forwarders.see(0, address, &Placed { question: 1, subnet, ttl: TTL });
    };
    (1..ENOUGH_WITHOUT).for_each(|_| see(silent, None));
    let mut told = Vec::new();
    assert_eq!(forwarders.news(&mut told), []);
    see(silent, None);
    assert_eq!(forwarders.news(&mut told), [(silent, Fault::Silent)]);
    (0..100).for_each(|_| see(silent, None));
    assert_eq!(forwarders.news(&mut told), []);
    see(FORWARDER, Some(1));
    (0..100).for_each(|_| see(FORWARDER, None));
    assert_eq!((forwarders.news(&mut told), forwarders.count(Fault::Silent)), (Vec::new(), 1));
    // The table is full at some time, and stays as it was.
    for host in 0..100 {
        (0..ENOUGH_WITHOUT).for_each(|_| see(IpAddr::from([192, 0, 2, host]), None));
    }
    assert_eq!(forwarders.news(&mut told).len(), FORWARDERS - 2);
    assert_eq!(forwarders.count(Fault::Silent), FORWARDERS as u64 - 1);
}

/// A question that is in a place goes before others as long as it is asked.
#[test]
fn questions_share_a_place_in_turn() {
    let turns = Turns { tag: 9, at: TIME - 10, subnet: 3, previous: 4, waited: 5 };
    assert_eq!(Turns::read(turns.written()), turns);
    let other = |at| Asked { tag: 8, at: at & TIME, subnet: 1 };
    assert_eq!(turns.next(&other(TIME + 100), 50), (turns, None));
    let new = Turns { tag: 8, at: FORGOTTEN, subnet: 1, previous: 3, waited: 0 };
    assert_eq!(turns.next(&other(FORGOTTEN), 50), (new, None));
    // The clock goes round.
    let again = Asked { tag: 9, at: 40, subnet: 1 };
    assert_eq!(turns.next(&again, 50).0.waited, 6);
}
