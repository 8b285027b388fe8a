//! What was: what counts as new, as gone, and as far away; and what doesn't.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::Duration;

use portolan_zones::object::*;
use portolan_zones::peers::{Forced, Scope, State};
use portolan_zones::policy::Level::Zone;
use portolan_zones::policy::Preference::Prefer;
use portolan_zones::policy::{Latency, Rules};
use portolan_zones::{Change, Event};

use crate::common::*;
use crate::site::*;

const CLIENT: &str = "10.1.1.200";

/// Service `n/s` with so many endpoints of cluster `a` in zone `z1` and in zone `z2`; ten of `b` elsewhere.
fn set(world: &mut World, z1: u8, z2: u8) {
    world.apply("a", site("a").node("n1", "z1", z1, z1).node("n2", "z2", z2, z2).slice("s"));
}

fn zonal() -> World {
    let sites =
        [site("a").node("n1", "z1", 10, 10).node("n2", "z2", 10, 10), site("b").node("n1", "z3", 10, 10)];
    world(&sites, by(&[Zone], Prefer))
}

/// The share of the client's own zone, in per cent.
fn near(world: &World) -> u32 {
    let counts = counts(world, CLIENT, 2_000, spot);
    counts.get("a1").copied().unwrap_or(0) / 20
}

/// "Healthy% is against a decaying high-water mark of the locality's size": half of what vanished is forgotten in five
/// minutes, and what is there then is enough again.
#[test]
fn what_vanished_is_forgotten_bit_by_bit() {
    let mut world = zonal();
    set(&mut world, 2, 10);
    let mut last = 0;
    for (seconds, expected) in
        [(0, 25..=31), (300, 43..=51), (600, 65..=75), (900, 88..=98), (1500, 100..=100)]
    {
        world.compile_at(NOW + seconds);
        let near = near(&world);
        assert!(expected.contains(&near) && near >= last, "after {seconds} s: {near} %, not {expected:?}");
        last = near;
    }
    assert!(!world.compile_at(NOW + 5_000), "and then nothing more is to be said");
}

/// Endpoints that moved to another zone of their cluster are not lost: all of them are needed where they are.
#[test]
fn what_moved_is_not_gone() {
    let mut world = zonal();
    set(&mut world, 2, 18);
    world.compile_at(NOW + 1);
    assert_eq!(near(&world), 100);
    set(&mut world, 2, 10);
    world.compile_at(NOW + 2);
    assert!(near(&world) < 50, "these eight are gone");
}

/// A rollout brings the new ones before it takes the old ones: for a minute they are no more than there were.
#[test]
fn a_rollout_loses_nothing() {
    for (seconds, expected) in [(30, 100..=100), (59, 100..=100), (61, 60..=80)] {
        let mut world = zonal();
        set(&mut world, 20, 10);
        world.compile_at(NOW + 1);
        world.compile_at(NOW + 1 + seconds);
        set(&mut world, 10, 10);
        world.compile_at(NOW + 2 + seconds);
        assert!(expected.contains(&near(&world)), "twice as many for {seconds} s: {} %", near(&world));
    }
}

/// An export that is gone is gone: nothing of it is missed.
#[test]
fn who_left_is_not_missed() {
    let mut world = zonal();
    world.say("b", Change::Delete(ObjectKey::Export(name("n", "s"))));
    world.compile_at(NOW + 1);
    assert_eq!(near(&world), 100);
}

fn slow() -> Rules {
    Rules { slow_start: NonZeroU16::new(100), ..rules() }
}

/// Until every cluster has been read, what comes was there before: a restart starts nobody slowly, and neither does a policy
/// that comes.
#[test]
fn only_what_came_is_new() {
    let sites = ["a", "b"].map(|id| site(id).node("n1", "z1", 10, 10));
    let mut world = World::new(&["clusterset.local"], &["a", "b"]);
    world.home("a").reset("a", sites[0].objects("s", ServiceKind::ClusterIp, http()));
    world.apply("a", policy("p", 1, imports(&["s"]), slow()));
    world.compile_at(NOW);
    world.reset("b", sites[1].objects("s", ServiceKind::ClusterIp, http()));
    world.compile_at(NOW + 1);
    let even = [("a1", 1.0), ("b1", 1.0)];
    assert_shares(&counts(&world, CLIENT, 10_000, spot), &even, "b was read a second later");
    world.reset("b", Vec::new());
    world.compile_at(NOW + 2);
    world.reset("b", sites[1].objects("s", ServiceKind::ClusterIp, http()));
    world.compile_at(NOW + 3);
    assert_shares(&counts(&world, CLIENT, 10_000, spot), &[("a1", 10.0), ("b1", 1.0)], "b came back");
    world.compile_at(NOW + 3 + 50);
    assert_shares(&counts(&world, CLIENT, 10_000, spot), &[("a1", 10.0), ("b1", 5.0)], "half the time later");
    world.compile_at(NOW + 3 + 100);
    assert_shares(&counts(&world, CLIENT, 10_000, spot), &even, "the time is over");
    assert!(!world.compile_at(NOW + 1_000), "and it is not looked at again");
    world.apply("a", policy("p", 1, imports(&["s"]), rules()));
    world.compile_at(NOW + 1_001);
    world.apply("a", policy("p", 1, imports(&["s"]), slow()));
    world.compile_at(NOW + 1_002);
    assert_shares(&counts(&world, CLIENT, 10_000, spot), &even, "the policy came back");
}

/// One of ten that is new gets a tenth of what the others get, in one answer with them as well as beside other clusters.
#[test]
fn a_new_one_gets_its_part() {
    for order in [&[][..], &[Zone][..]] {
        let rules = Rules { slow_start: NonZeroU16::new(100), ..by(order, Prefer) };
        let mut world = world(&[site("a").node("n1", "z1", 9, 9).node("n2", "z1", 1, 1)], rules);
        world.apply("a", site("a").node("n1", "z1", 9, 9).slice("s"));
        world.compile_at(NOW + 1);
        world.apply("a", site("a").node("n1", "z1", 9, 9).node("n2", "z1", 1, 1).slice("s"));
        for (seconds, part) in [(0, 0.1), (30, 0.3), (70, 0.7)] {
            world.compile_at(NOW + 2 + seconds);
            let expected = [("a1", 9.0), ("a2", part)];
            assert_shares(
                &counts(&world, CLIENT, 20_000, spot),
                &expected,
                &format!("{order:?} {seconds} s"),
            );
        }
    }
}

/// How far clusters are from home says nothing of how far they are from elsewhere: only those who are at home, or nobody knows
/// where, are sent by it.
#[test]
fn latency_is_for_those_at_home() {
    let latency = Latency { margin: Duration::from_millis(10), hold_down: 60 };
    let sites = ["a", "b", "c"].map(|id| site(id).node("n1", "z1", u8::from(id != "a") * 2, 2));
    let mut world = world(&sites, Rules { latency: Some(latency), ..rules() });
    let trips = [("b", 90), ("c", 30)].map(|(id, time)| (cluster(id), Duration::from_millis(time)));
    world.table.apply(Event::RoundTrips(BTreeMap::from(trips)));
    world.compile_at(NOW + 1);
    assert_eq!(reached(&world, "10.1.1.200"), "c1", "at home");
    assert_eq!(reached(&world, "192.0.2.1"), "c1", "nobody knows where");
    assert_eq!(reached(&world, "10.2.1.200"), "b1 c1", "in another cluster");
}

/// What heeds the time that it takes has endpoints asked for it, though it asks for no health check; and no answer makes them
/// unhealthy.
#[test]
fn latency_is_measured_where_nothing_is_checked() {
    let latency = Latency { margin: Duration::from_millis(10), hold_down: 60 };
    let sites = ["a", "b"].map(|id| site(id).node("n1", "z1", 2, 2));
    let mut world = world(&sites, Rules { latency: Some(latency), ..rules() });
    let checks = world.table.take_checks().unwrap();
    assert_eq!(checks.len(), 2, "home is here");
    assert!(checks.iter().all(|check| check.how.fall == u32::MAX));
    world.apply("b", site("b").node("n1", "z1", 200, 200).slice("s")).compile_at(NOW + 1);
    assert_eq!(world.table.take_checks().unwrap().len(), 8, "a few tell as well as all");
}

/// Whoever recovers first is not sent what ten are to bear: where nothing else is left all that come are equally new.
#[test]
fn nobody_bears_the_first_wave_alone() {
    let full = site("a").node("n1", "z1", 5, 10).node("n2", "z1", 5, 10);
    let mut world = world(&[full], slow());
    let ready = |world: &mut World, n1: u8, n2: u8, at: i64| {
        world.apply("a", site("a").node("n1", "z1", n1, 10).node("n2", "z1", n2, 10).slice("s"));
        world.compile_at(NOW + at);
    };
    ready(&mut world, 0, 0, 1);
    ready(&mut world, 1, 0, 2);
    ready(&mut world, 5, 5, 4);
    let counts = counts(&world, CLIENT, 10_000, |address| address.to_string());
    assert_eq!(counts.len(), 10);
    assert!(counts.values().all(|count| (700..1_300).contains(count)), "{counts:?}");
}

/// Maintenance in the usual order: a cluster is drained, and then there is nothing of it any more. Those who are near it are
/// where they were.
#[test]
fn what_was_drained_is_not_missed() {
    let sites = [site("a").node("n1", "z1", 6, 6).node("n2", "z2", 6, 6), site("b").node("n1", "z1", 10, 10)];
    let mut world = world(&sites, by(&[Zone], Prefer));
    let drain = |id| Forced { cluster: cluster(id), of: Scope::All, state: State::Drain };
    world.table.apply(Event::Force([drain("b")].into()));
    world.compile_at(NOW + 1);
    assert_eq!(reached(&world, CLIENT), "a1");
    world.apply("b", site("b").slice("s"));
    world.compile_at(NOW + 2);
    assert_eq!(reached(&world, CLIENT), "a1");
}

fn by_latency(hold_down: u32) -> World {
    let latency = Latency { margin: Duration::from_millis(10), hold_down };
    let sites = ["a", "b", "c", "d"]
        .map(|id| site(id).node("n1", "z1", u8::from(id != "a") * 2, u8::from(id != "a") * 2));
    world(&sites, Rules { latency: Some(latency), ..rules() })
}

fn take(world: &mut World, at: i64, trips: &[(&str, u64)]) -> String {
    let trips = trips.iter().map(|(id, time)| (cluster(id), Duration::from_millis(*time)));
    world.table.apply(Event::RoundTrips(trips.collect()));
    world.compile_at(NOW + at);
    reached(world, CLIENT)
}

/// A cluster that got slow is left after the hold-down, though another one never comes to rest.
#[test]
fn one_that_flaps_holds_nobody_else_down() {
    let mut world = by_latency(60);
    assert_eq!(take(&mut world, 1, &[("b", 10), ("c", 25), ("d", 33)]), "b1");
    for second in (10..=70).step_by(10) {
        let flapping = if second % 20 == 0 { 33 } else { 40 };
        let reached = take(&mut world, second, &[("b", 90), ("c", 25), ("d", flapping)]);
        assert_eq!(reached, if second < 70 { "b1" } else { "c1 d1" }, "after {second} s");
    }
}

/// What is no longer measured is as far away as it was: not the closest.
#[test]
fn unknown_is_not_near() {
    let mut world = by_latency(5);
    assert_eq!(take(&mut world, 1, &[("b", 10), ("c", 200), ("d", 300)]), "b1");
    assert_eq!(take(&mut world, 10, &[("b", 10)]), "b1");
    assert_eq!(take(&mut world, 30, &[("b", 10)]), "b1");
}

/// Times that no answer depends on make no new snapshot of services.
#[test]
fn jitter_recompiles_nothing() {
    let mut world = by_latency(60);
    take(&mut world, 1, &[("b", 10), ("c", 40), ("d", 80)]);
    let before = world.snapshot.services.get(b"\x01s\x01n").unwrap().clone();
    take(&mut world, 2, &[("b", 13), ("c", 45), ("d", 88)]);
    let after = world.snapshot.services.get(b"\x01s\x01n").unwrap();
    assert!(std::sync::Arc::ptr_eq(&before, after));
    // Bit by bit it adds up, and is heeded then.
    assert_eq!(take(&mut world, 3, &[("b", 36), ("c", 45), ("d", 88)]), "b1", "for a minute");
    assert_eq!(take(&mut world, 64, &[("b", 36), ("c", 45), ("d", 88)]), "b1 c1");
}
