//! Virtual IPs: the home cluster's import first, else the pool; one address has one owner.

use portolan_zones::object::*;
use portolan_zones::{Event, VipDemand};

use crate::common::*;

fn exported(service_name: &str, families: &[IpFamily]) -> Vec<Object> {
    let spec = ServiceSpec { ip_families: families.iter().copied().collect(), ..spec(&[]) };
    vec![export("n", service_name, 1), service("n", service_name, ServiceKind::ClusterIp, spec)]
}

fn demands(world: &mut World) -> Vec<(String, usize)> {
    let row = |demand: VipDemand| (demand.service.to_string(), demand.families.len());
    world.table.settle().into_iter().map(row).collect()
}

#[test]
fn the_pool_is_asked_exactly_while_it_is_needed() {
    let mut world = World::new(&["clusterset.local"], &["a"]);
    world.home("a").reset("a", exported("s", &[IpFamily::V6, IpFamily::V4]));
    assert_eq!(demands(&mut world), [("n/s".into(), 2)]);
    world.vip("n", "s", &["fd70::1", "241.0.0.1"]);
    assert_eq!(demands(&mut world), []);
    world.compile();
    assert_eq!(world.lookup("s.n.svc.clusterset.local", "A"), "241.0.0.1");
    assert_eq!(world.lookup("s.n.svc.clusterset.local", "AAAA"), "fd70::1");
    // The home import takes over; the pool's addresses go back.
    world.apply("a", import("n", "s", 1, &["10.0.0.1"]));
    assert_eq!(demands(&mut world), [("n/s".into(), 0)]);
    world.vip("n", "s", &[]);
    assert_eq!(demands(&mut world), []);
    world.compile();
    assert_eq!(world.lookup("s.n.svc.clusterset.local", "A"), "10.0.0.1");
}

/// KEP-1645 allows VIPs that are a cluster's own: imports of others don't count for home.
#[test]
fn home_decides() {
    for (home, expected) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        let mut world = World::new(&["clusterset.local"], &["a", "b"]);
        for (cluster, ip) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
            let mut objects = exported("s", &[]);
            objects.push(import("n", "s", 1, &[ip]));
            world.reset(cluster, objects);
        }
        world.home(home).compile();
        assert_eq!(world.lookup("s.n.svc.clusterset.local", "A"), expected);
        world.table.apply(Event::Home(None));
        assert_eq!(demands(&mut world), [("n/s".into(), 1)]);
    }
}

/// Two imports claim one address: the older one answers, the other says why not, and takes over when it can.
#[test]
fn an_address_has_one_owner() {
    let mut world = World::new(&["clusterset.local"], &["a"]);
    let mut objects = [exported("old", &[]), exported("young", &[])].concat();
    objects.extend([import("n", "old", 1, &["10.0.0.1"]), import("n", "young", 2, &["10.0.0.1"])]);
    world.home("a").reset("a", objects).compile();
    assert_eq!(world.lookup("old.n.svc.clusterset.local", "A"), "10.0.0.1");
    assert_eq!(world.lookup("young.n.svc.clusterset.local", "A"), "NXDOMAIN");
    let young = world.snapshot.services.get(b"\x05young\x01n").unwrap();
    assert!(
        young.warnings.iter().any(|w| w.to_string().contains("belongs to n/old")),
        "{:?}",
        young.warnings
    );
    world.apply("a", import("n", "old", 1, &["10.0.0.2"])).compile();
    assert_eq!(world.lookup("young.n.svc.clusterset.local", "A"), "10.0.0.1");
    assert_eq!(world.lookup("old.n.svc.clusterset.local", "A"), "10.0.0.2");
}

/// An import's claim beats the pool's assignment, which has to move.
#[test]
fn imports_beat_the_pool() {
    let mut world = World::new(&["clusterset.local"], &["a"]);
    world.home("a").reset("a", [exported("pooled", &[]), exported("claims", &[])].concat());
    world.vip("n", "pooled", &["241.0.0.1"]).vip("n", "claims", &["241.0.0.2"]).compile();
    world.apply("a", import("n", "claims", 1, &["241.0.0.1"]));
    assert_eq!(demands(&mut world), [("n/claims".into(), 0), ("n/pooled".into(), 1)]);
    assert_eq!(world.table.owner("241.0.0.1".parse().unwrap()).unwrap().to_string(), "n/claims");
    world.vip("n", "claims", &[]).vip("n", "pooled", &["241.0.0.3"]).compile();
    assert_eq!(world.lookup("claims.n.svc.clusterset.local", "A"), "241.0.0.1");
    assert_eq!(world.lookup("pooled.n.svc.clusterset.local", "A"), "241.0.0.3");
}
