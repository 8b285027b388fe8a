//! How much of its share a place keeps while its endpoints fail, and where the rest goes.

use portolan_zones::object::*;
use portolan_zones::policy::Level::{Cluster, Zone};
use portolan_zones::policy::Preference::{Pin, Prefer};
use portolan_zones::policy::{Rules, Spill};

use crate::site::*;

const NEAR: &str = "10.1.1.200";
const DRAWS: u32 = 12_000;

fn near_and_far(ready: u8) -> [Site; 1] {
    [site("a").node("n1", "z1", ready, 10).node("n2", "z2", 10, 10)]
}

/// Envoy, Priority levels: "traffic to a priority level ... is min(100, health * 140 / 100)": a place is used alone down to
/// 72 % of its endpoints, then its share shrinks with them.
#[test]
fn a_place_gives_way_in_proportion() {
    for k in 0..=10 {
        let world = world(&near_and_far(k), by(&[Zone], Prefer));
        let near = (1.4 * f64::from(k) / 10.0).min(1.0);
        let counts = counts(&world, NEAR, DRAWS, spot);
        assert_shares(&counts, &[("a1", near), ("a2", 1.0 - near)], &format!("{k} of 10 ready"));
    }
}

/// The factor is the policy's; 100 keeps no reserve, and the cliff keeps all until nothing is left.
#[test]
fn the_factor_decides() {
    for (spill, k, near) in [
        (Spill::Graded(100), 9, 0.9),
        (Spill::Graded(100), 10, 1.0),
        (Spill::Graded(200), 5, 1.0),
        (Spill::Graded(200), 2, 0.4),
        (Spill::Graded(1000), 1, 1.0),
        (Spill::Cliff, 1, 1.0),
        (Spill::Cliff, 0, 0.0),
    ] {
        let world = world(&near_and_far(k), Rules { spill, ..by(&[Zone], Prefer) });
        let expected = [("a1", near), ("a2", 1.0 - near)];
        assert_shares(&counts(&world, NEAR, DRAWS, spot), &expected, &format!("{spill:?} {k} of 10"));
    }
}

/// What a place can't bear goes to the next one, as much as that can bear, and so on: 5 of 10 bear 70 %, the next 2 of 10
/// 28 %, the rest 2 %.
#[test]
fn spill_cascades() {
    let sites =
        [site("a").node("n1", "z1", 5, 10).node("n2", "z2", 2, 10), site("b").node("n1", "z3", 10, 10)];
    let world = world(&sites, by(&[Zone, Cluster], Prefer));
    let expected = [("a1", 0.70), ("a2", 0.28), ("b1", 0.02)];
    assert_shares(&counts(&world, NEAR, 40_000, spot), &expected, "three tiers");
}

/// Envoy: "if the sum is below 100, levels are scaled up": 30 % of a place and 20 % of the other bear it all, 3 to 2.
#[test]
fn too_little_everywhere_is_shared_in_proportion() {
    let sites = [site("a").node("n1", "z1", 3, 10).node("n2", "z2", 2, 10)];
    let world = world(&sites, by(&[Zone], Prefer));
    assert_shares(&counts(&world, NEAR, DRAWS, spot), &[("a1", 0.6), ("a2", 0.4)], "42 % and 28 %");
}

/// Pinned clients have nowhere else to go: what is left of their place bears all.
#[test]
fn pinned_places_do_not_spill() {
    for (k, expected) in [(10, "a1"), (1, "a1"), (0, "")] {
        let world = world(&near_and_far(k), by(&[Zone], Pin));
        assert_eq!(reached(&world, NEAR), expected, "{k}");
    }
}

/// KEP-4444: `PreferSameZone` "does not protect from overload": one endpoint of ten takes it all. The policy about the same
/// service that says nothing of locality doesn't bring its spill along.
#[test]
fn traffic_distribution_is_a_cliff() {
    for k in 1..=10 {
        let spec = ServiceSpec { traffic_distribution: Some("PreferSameZone".into()), ..http() };
        let rules = Rules { spill: Spill::Graded(140), ..rules() };
        let world = world_of(&near_and_far(k), ServiceKind::ClusterIp, &spec, Some(rules));
        assert_eq!(reached(&world, NEAR), "a1", "{k}");
    }
}

/// Endpoints that are about to end are no sign of failure: a rolling update, ten new ones and ten that go, spills nothing.
#[test]
fn terminating_endpoints_are_not_missed() {
    let sites = near_and_far(10);
    let mut world = world(&sites, by(&[Zone], Prefer));
    let Object::Slice(slice) = sites[0].slice("s") else { unreachable!() };
    let going = slice.endpoints.iter().take(10).enumerate().map(|(i, e)| Endpoint {
        address: std::net::IpAddr::from([10, 1, 1, 100 + i as u8]),
        conditions: Conditions { ready: false, serving: true, terminating: true },
        ..e.clone()
    });
    let going: Box<[Endpoint]> = going.collect();
    let name = SliceName::new("n", "going");
    world.apply("a", Object::Slice(Slice { name, endpoints: going, ..slice })).compile();
    assert_eq!(reached(&world, NEAR), "a1");
}
