//! The pool: what stays, what waits, what is refused.

use super::*;

const HOUR: UnixTime = 3600;

fn ranges(v4: &str, v6: &str) -> PoolRanges {
    PoolRanges { ipv4: v4.parse().ok(), ipv6: v6.parse().ok() }
}

fn demand(name: &str, families: &[IpFamily]) -> VipDemand {
    VipDemand { service: ServiceName::new("n", name).unwrap(), families: families.iter().copied().collect() }
}

fn give(pool: &mut VipPool, name: &str, now: UnixTime) -> Result<Vips, VipError> {
    let (ips, failure) = pool.allocate(&demand(name, &[IpFamily::V4]), |_| false, now);
    failure.map_or(Ok(ips), Err)
}

#[test]
fn addresses_follow_from_names_and_stay() {
    let mut one = VipPool::new(PoolRanges::default(), HOUR);
    let mut two = VipPool::new(PoolRanges::default(), HOUR);
    let a = give(&mut one, "a", 0).unwrap();
    give(&mut two, "b", 0).unwrap();
    assert_eq!(give(&mut two, "a", 0).unwrap(), a, "servers agree without talking");
    assert_eq!(give(&mut one, "a", 9).unwrap(), a, "asking again changes nothing");
    let (both, _) = one.allocate(&demand("d", &[IpFamily::V6, IpFamily::V4]), |_| false, 0);
    assert!(both[0].is_ipv6() && both[1].is_ipv4());
}

#[test]
fn small_pools_fill_to_the_last_address_and_say_when_they_are_full() {
    let mut pool = VipPool::new(ranges("10.0.0.0/29", ""), HOUR);
    let mut given: Vec<_> = (0..6).flat_map(|i| give(&mut pool, &format!("s{i}"), 0).unwrap()).collect();
    given.sort();
    let expected: Vec<IpAddr> = (1..=6).map(|i| IpAddr::from([10, 0, 0, i])).collect();
    assert_eq!(given, expected, "neither network nor broadcast address");
    let error = give(&mut pool, "s7", 0).unwrap_err();
    assert!(error.to_string().contains("n/s7: pool 10.0.0.0/29 is exhausted"), "{error}");
    let v6 = pool.allocate(&demand("v6", &[IpFamily::V6]), |_| false, 0);
    assert!(matches!(v6, (_, Some(VipError::NoPool(_)))));
}

#[test]
fn a_freed_address_waits_before_others_get_it() {
    let mut pool = VipPool::new(ranges("10.0.0.1/32", ""), HOUR);
    let ips = give(&mut pool, "a", 0).unwrap();
    pool.allocate(&demand("a", &[]), |_| false, 10);
    assert!(give(&mut pool, "b", 10 + HOUR - 1).is_err());
    assert_eq!(give(&mut pool, "a", 20).unwrap(), ips, "its own service gets it back");
    pool.allocate(&demand("a", &[]), |_| false, 30);
    assert_eq!(give(&mut pool, "b", 30 + HOUR).unwrap(), ips);
    assert!(give(&mut pool, "a", 30 + HOUR).is_err());
}

#[test]
fn memory_survives() {
    let mut pool = VipPool::new(ranges("10.0.0.0/24", ""), HOUR);
    let (a, _) = (give(&mut pool, "a", 0).unwrap(), give(&mut pool, "gone", 0).unwrap());
    pool.allocate(&demand("gone", &[]), |_| false, 0);
    let memory = pool.take_memory().unwrap();
    assert!(pool.take_memory().is_none(), "nothing new");
    let mut later = VipPool::new(ranges("10.0.0.0/24", ""), HOUR);
    assert_eq!(later.restore(serde_json::from_str(&serde_json::to_string(&memory).unwrap()).unwrap(), 5), 0);
    assert_eq!(give(&mut later, "a", 5).unwrap(), a);
    let before = pool.memory();
    later.free_unclaimed(5);
    assert_eq!(serde_json::to_string(&later.memory()).unwrap(), serde_json::to_string(&before).unwrap());
    later.end_quarantines(HOUR);
    assert!(later.memory().freed.is_empty());
}

/// The state file could be read only after the service had been given another address.
#[test]
fn what_is_remembered_late_moves_nobody() {
    let mut pool = VipPool::new(ranges("10.0.0.0/31", ""), HOUR);
    let now = give(&mut pool, "a", 0).unwrap();
    let former = IpAddr::from([10, 0, 0, u8::from(now[0] == IpAddr::from([10, 0, 0, 0]))]);
    let memory = Memory {
        version: VERSION,
        assigned: vec![("n/a".into(), [former].into_iter().collect())],
        freed: vec![],
    };
    assert_eq!(pool.restore(memory, 5), 0);
    assert_eq!(give(&mut pool, "a", 6).unwrap(), now);
    assert!(give(&mut pool, "b", 6).is_err(), "clients may still use {former} for a");
    pool.free_unclaimed(6);
    assert_eq!(pool.assigned(&ServiceName::new("n", "a").unwrap()), Some(&*now));
    pool.end_quarantines(5 + HOUR);
    assert_eq!(give(&mut pool, "b", 5 + HOUR).unwrap()[0], former);
}

#[test]
fn an_imports_claim_moves_the_service() {
    let mut pool = VipPool::new(ranges("10.0.0.0/24", ""), HOUR);
    let before = give(&mut pool, "a", 0).unwrap();
    let (after, _) = pool.allocate(&demand("a", &[IpFamily::V4]), |ip| ip == before[0], 0);
    assert_ne!(before, after);
}

#[test]
fn ranges_of_others_are_refused() {
    for (v4, v6, by) in [
        ("240.0.0.0/4", "", "Istio"),
        ("240.240.1.0/24", "", "Istio"),
        ("242.0.0.0/8", "", "Globalnet"),
        ("243.1.0.0/16", "", "clusterset"),
        ("", "2001:2::/64", "Istio"),
    ] {
        let error = ranges(v4, v6).check().unwrap_err().to_string();
        assert!(error.contains(by) && error.contains("choose another range"), "{error}");
    }
    assert_eq!(PoolRanges::default().check(), Ok(()));
}
