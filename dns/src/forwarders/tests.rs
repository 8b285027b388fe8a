//! Caches of all sorts, simulated, and what is found of them.

use std::collections::BTreeMap;

use super::*;
use crate::settings::Edns;

const FORWARDER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 5));
/// Of which two subnets have two marks: at one question in fifteen they have one, and tell nothing.
const QUESTION: u64 = 8;
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
    /// All have one, which is renewed in the last tenth of its life.
    Prefetching,
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
            let early = if cache == Cache::Prefetching { ttl } else { 0 };
            let in_parallel = cache == Cache::IgnoringInParallel && until == now + ttl * 10 && at_once < 2;
            if cache == Cache::Absent || in_parallel || now + early >= until {
                kept.insert(key, (now + ttl * 10, if in_parallel { at_once + 1 } else { 1 }));
                forwarders.see(now, FORWARDER, &Placed { question: QUESTION, subnet: Some(subnet), ttl });
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
    use Cache::{Absent, Heeding, Ignoring, IgnoringInParallel, Prefetching};
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
                assert!(found(Prefetching), "{what}, TTL {ttl}, seed {seed}");
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

/// Whether clients that ask for two hours by the clock, at most `late` after it, let a cache that heeds be suspected: for each
/// of them the subnet, when it asks first and how often, in tenths of a second.
fn is_suspected(ttl: u32, clients: &[(u16, u32, u32)], late: u32, random: &mut Random) -> bool {
    let times = |(subnet, first, every)| (first..72_000).step_by(every as usize).map(move |at| (at, subnet));
    let mut asked: Vec<_> = clients.iter().copied().flat_map(times).collect();
    asked.iter_mut().for_each(|(at, _)| *at += random.below(late + 1));
    asked.sort_unstable();
    let forwarders = Forwarders::default();
    let mut kept: BTreeMap<u16, u32> = BTreeMap::new();
    asked.into_iter().any(|(now, subnet)| {
        let until = kept.entry(subnet).or_default();
        if now >= *until {
            *until = now + ttl * 10;
            forwarders.see(now, FORWARDER, &Placed { question: QUESTION, subnet: Some(subnet), ttl });
        }
        forwarders.forwarders[0].has(Fault::Ignores)
    })
}

/// Clients that ask at intervals may wait for each other's TTL, as chance has it, for as long as they live. RFC 7871 §7.3: a
/// cache that asks for each of them heeds where they are.
#[test]
fn clients_that_ask_at_intervals_are_no_sign() {
    let mut random = Random(2026);
    for (runs, subnets, clients, every, ttl) in [
        (1000, 2, 2, &[100][..], 5),
        (1000, 2, 2, &[120], 5),
        (1000, 3, 3, &[100], 3),
        (300, 4, 4, &[120], 3),
        (300, 2, 3, &[160], 5),
        (300, 3, 4, &[100, 150, 300], 5),
    ] {
        for run in 0..runs {
            let mut client = |n: u16| {
                let every = every[random.below(every.len() as u32) as usize];
                (n % subnets, random.below(every), every)
            };
            let clients: Vec<_> = (0..clients).map(&mut client).collect();
            let late = run % 4;
            assert!(!is_suspected(ttl, &clients, late, &mut random), "TTL {ttl}, {late} late, {clients:?}");
        }
    }
}

/// Asks for a name in demand as a cache does that ignores where clients are, from `now` on; returns when it is through.
fn ignore(forwarders: &Forwarders, now: u32, turns: u32) -> u32 {
    let mut random = Random(now + 1);
    let see = |turn: u32| {
        let subnet = Some(random.below(3) as u16);
        forwarders.see(now + turn * 50, FORWARDER, &Placed { question: 2, subnet, ttl: TTL });
    };
    (0..turns).for_each(see);
    now + turns * 50
}

/// Asks for two clients of another name, two seconds apart.
fn heed(forwarders: &Forwarders, now: u32) {
    for (later, subnet) in [(0, 1), (20, 2)] {
        let placed = Placed { question: 1, subnet: Some(subnet), ttl: TTL };
        forwarders.see(now + later, FORWARDER, &placed);
    }
}

/// A cache that was seen to heed more than once is not suspected for a while, at any name. Once is an accident.
#[test]
fn who_heeds_is_not_suspected() {
    let forwarders = Forwarders::default();
    heed(&forwarders, 0);
    heed(&forwarders, 100);
    let now = ignore(&forwarders, 200, 8);
    assert_eq!(forwarders.count(Fault::Ignores), 0);
    // For an hour at most, however often it was.
    (0..200).for_each(|n| heed(&forwarders, now + n * 100));
    let now = ignore(&forwarders, now + 20_000, 100);
    assert_eq!(forwarders.count(Fault::Ignores), 0);
    ignore(&forwarders, now + HEEDED_AT_MOST, 40);
    assert_eq!(forwarders.count(Fault::Ignores), 1);

    // An answer that was lost now and then saves no cache.
    let forwarders = Forwarders::default();
    let mut now = 0;
    for _ in 0..5 {
        heed(&forwarders, now);
        now = ignore(&forwarders, now + 100, 40);
    }
    assert_eq!(forwarders.count(Fault::Ignores), 1);
}

/// A fault is over once it was mended, and told anew when it comes back.
#[test]
fn faults_end() {
    let forwarders = Forwarders::default();
    let mut told = Vec::new();
    let now = ignore(&forwarders, 0, 40);
    assert_eq!(forwarders.news(&mut told), [(FORWARDER, Fault::Ignores)]);
    heed(&forwarders, now);
    assert_eq!((forwarders.news(&mut told), forwarders.count(Fault::Ignores)), (Vec::new(), 1));
    (1..10).for_each(|n| heed(&forwarders, now + n * 100));
    assert_eq!((forwarders.news(&mut told), forwarders.count(Fault::Ignores)), (Vec::new(), 0));
    ignore(&forwarders, now + HEEDED_AT_MOST, 40);
    assert_eq!(forwarders.news(&mut told), [(FORWARDER, Fault::Ignores)]);

    let forwarders = Forwarders::default();
    let see = |subnet| forwarders.see(0, FORWARDER, &Placed { question: 1, subnet, ttl: TTL });
    (0..ENOUGH_WITHOUT).for_each(|_| see(None));
    assert_eq!(forwarders.count(Fault::Silent), 1);
    see(Some(1));
    (0..ENOUGH_WITHOUT).for_each(|_| see(None));
    assert_eq!(forwarders.count(Fault::Silent), 0);
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
}

/// Pods change their addresses: who was not seen for an hour makes room, and leaves nothing behind.
#[test]
fn places_are_free_again() {
    let forwarders = Forwarders::default();
    let see = |now: u32, host: u8, subnet: Option<u16>| {
        let address = IpAddr::from([192, 0, 2, host]);
        (0..ENOUGH_WITHOUT)
            .for_each(|_| forwarders.see(now, address, &Placed { question: 1, subnet, ttl: TTL }));
    };
    (0..100).for_each(|host| see(0, host, None));
    assert_eq!(forwarders.count(Fault::Silent), FORWARDERS as u64, "others wait for a place");
    let mut told = Vec::new();
    assert_eq!(forwarders.news(&mut told).len(), FORWARDERS);
    see(GONE - 1, 3, None);
    forwarders.forget(GONE - 1);
    assert_eq!(forwarders.count(Fault::Silent), FORWARDERS as u64);
    forwarders.forget(GONE);
    assert_eq!((forwarders.news(&mut told), forwarders.count(Fault::Silent)), (Vec::new(), 1));
    // Another one begins anew in a place that somebody silent had.
    forwarders.see(GONE, FORWARDER, &Placed { question: 1, subnet: None, ttl: TTL });
    assert_eq!(forwarders.count(Fault::Silent), 1);
    see(GONE, 77, None);
    assert_eq!(forwarders.news(&mut told), [(IpAddr::from([192, 0, 2, 77]), Fault::Silent)]);
    // A clock that another thread has read later is no reason.
    forwarders.forget(GONE - 100);
    assert_eq!(forwarders.count(Fault::Silent), 2);
}

/// A question that is in a place goes before others as long as it is asked.
#[test]
fn questions_share_a_place_in_turn() {
    let turns = Turns { tag: 9, at: TIME - 10, subnet: 3, order: 0x5a };
    assert_eq!(Turns::read(turns.written(), turns.order), turns);
    let other = |at| Asked { tag: 8, at: at & TIME, subnet: 1 };
    assert_eq!(turns.next(&other(TIME + 100), 50), (turns, None));
    let new = Turns { tag: 8, at: FORGOTTEN, subnet: 1, order: 0 };
    assert_eq!(turns.next(&other(FORGOTTEN), 50), (new, None));
    // The clock goes round.
    let again = Asked { tag: 9, at: 40, subnet: 1 };
    assert_eq!(turns.next(&again, 50).0.order, 0x5a0 | again.mark());
}

/// Others come at times, in no order.
#[test]
fn an_order_comes_round_or_not() {
    for (order, what) in [
        (0x1212_1212_1212_1212, false),
        (0x3123_1231_2312_3123, false),
        (0x4123_5123_4123_5123, false),
        (0x1231_2412_3124_1231, false),
        (0x1111_1111_1111_1112, false),
        (0x0121_1221_2112_1221, false),
        (0x2121_1221_2112_1221, true),
        (0x3122_3132_1132_2313, true),
        (0x9427_c1b8_3e65_afd2, true),
    ] {
        assert_eq!(is_in_no_order(order), what, "{order:x}");
    }
}

/// Clients that are in a trusted network ask, too; who is listed by its address is a forwarder.
#[test]
fn forwarders_are_listed_by_address() {
    let trusted_forwarders = ["10.0.0.0/24", "192.0.2.53/32", "2001:db8::53/128"].map(|n| n.parse().unwrap());
    let edns = Edns { trusted_forwarders: trusted_forwarders.to_vec(), ..Edns::default() };
    for (address, listed) in
        [("10.0.0.0", false), ("10.0.0.5", false), ("192.0.2.53", true), ("2001:db8::53", true)]
    {
        assert_eq!(edns.lists(address.parse().unwrap()), listed, "{address}");
    }
}
