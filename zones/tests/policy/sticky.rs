//! Clients that are to stay where they are.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use portolan_zones::policy::Level::Zone;
use portolan_zones::policy::Preference::Prefer;
use portolan_zones::policy::Rules;

use crate::common::*;
use crate::site::*;

const CLIENTS: u32 = 10_000;

fn sticky(rules: Rules) -> Rules {
    Rules { sticky: true, ..rules }
}

fn sites(ids: &[&'static str]) -> Vec<Site> {
    ids.iter().map(|id| site(id).node("n1", "z1", 3, 3)).collect()
}

/// Of the network 198.18.0.0/15, which no Node has.
fn address(client: u32) -> String {
    Ipv4Addr::from(0xc612_0000 + client).to_string()
}

/// The cluster of each client.
fn homes(world: &World) -> Vec<String> {
    (0..CLIENTS).map(|client| cluster_of(ask(world, &address(client), 0)[0])).collect()
}

fn shares(homes: &[String]) -> BTreeMap<String, u32> {
    homes.iter().fold(BTreeMap::new(), |mut shares, home| {
        *shares.entry(home.clone()).or_insert(0) += 1;
        shares
    })
}

/// The same client gets the same records in the same order, whatever is drawn; others get others.
#[test]
fn the_same_client_gets_the_same_again() {
    for rules in [weighted(&[("a", 2), ("b", 1)]), rules()] {
        let world = world(&sites(&["a", "b", "c"]), sticky(rules));
        for client in 0..50 {
            let first = ask(&world, &address(client), 0);
            assert!((1..50).all(|entropy| ask(&world, &address(client), entropy) == first), "{client}");
        }
        let firsts: std::collections::BTreeSet<_> = (0..50).map(|c| ask(&world, &address(c), 0)).collect();
        assert!(firsts.len() > 3, "{firsts:?}");
    }
}

/// Replicas choose alike, also those of two releases: what is written here is what the first of them chose. By weight, among the
/// records of one answer, and between two tiers of which one bears a part.
#[test]
fn all_releases_choose_alike() {
    let all = sites(&["a", "b", "c"]);
    let failing = [site("a").node("n1", "z1", 2, 10), site("b").node("n1", "z2", 3, 3)];
    let failover = Rules { failover: [cluster("a")].into(), ..rules() };
    let ipv6 = |client: u32| format!("2001:db8::{client:x}");
    let by_weight = || weighted(&[("a", 3), ("b", 2), ("c", 1)]);
    for (sites, rules, address, expected) in [
        (&*all, by_weight(), address as fn(u32) -> String, "abaaaacbacaaabbaaacacbabaaacabba"),
        (&*all, by_weight(), ipv6, "aaabacacabbbcaabcabbaaacccaabbcc"),
        (&*all, rules(), address, "caccacbaccbccaababbbbbbbaacaaccc"),
        (&failing, failover, address, "baabbbbbbbbbabbabbbbbabbbbabbbbb"),
    ] {
        let world = world(sites, sticky(rules));
        let homes = (0..32).map(|client| cluster_of(ask(&world, &address(client), 0)[0]));
        assert_eq!(homes.collect::<String>(), expected);
    }
}

/// All clients together are still spread by weight (Schindelhauer and Schomaker, Weighted Distributed Hash Tables).
#[test]
fn clients_are_spread_by_weight() {
    let world = world(&sites(&["a", "b", "c"]), sticky(weighted(&[("a", 6), ("b", 3), ("c", 1)])));
    assert_shares(&shares(&homes(&world)), &[("a", 0.6), ("b", 0.3), ("c", 0.1)], "sticky");
}

/// Thaler and Ravishankar, Highest Random Weight: "when a server fails, only the objects mapped to it move", and they are
/// spread over the others by weight; one that comes takes only what will be its own.
#[test]
fn only_clients_of_the_cluster_that_goes_or_comes_move() {
    let rules = sticky(weighted(&[("a", 4), ("b", 3), ("c", 2), ("d", 1)]));
    let all = homes(&world(&sites(&["a", "b", "c", "d"]), rules.clone()));
    for gone in ["a", "b", "c", "d"] {
        let mut sites = sites(&["a", "b", "c", "d"]);
        sites.iter_mut().filter(|site| site.id == gone).for_each(|site| site.nodes[0].ready = 0);
        let left = homes(&world(&sites, rules.clone()));
        let moved: Vec<_> = all.iter().zip(&left).filter(|(before, after)| before != after).collect();
        assert!(moved.iter().all(|(before, after)| *before == gone && *after != gone), "without {gone}");
        assert_eq!(moved.len(), all.iter().filter(|home| *home == gone).count(), "without {gone}");
        let weights = [("a", 4.0), ("b", 3.0), ("c", 2.0), ("d", 1.0)];
        let to = moved.iter().map(|(_, after)| (*after).clone()).collect::<Vec<_>>();
        assert_shares(&shares(&to), &weights.map(|(id, w)| (id, if id == gone { 0.0 } else { w })), gone);
    }
}

/// Where a place gives way, its clients leave one by one, and none that stays or has left before changes its mind, though
/// clusters come and go in the place that they leave for.
#[test]
fn spill_moves_as_few_as_can_be() {
    let at = |ready: u8, far: &[&'static str]| {
        let mut sites = vec![site("a").node("n1", "z1", ready, 10).node("n2", "z2", 10, 10)];
        sites.extend(far.iter().map(|id| site(id).node("n1", "z3", 5, 5)));
        let mut world = world(&sites, sticky(by(&[Zone], Prefer)));
        // Clients that are in zone z1.
        let map = portolan_zones::places::Mapping {
            network: Some(("198.18.0.0".parse().unwrap(), 15)),
            place: portolan_zones::places::Place { az: Some("z1".into()), ..Default::default() },
        };
        world.table.apply(portolan_zones::Event::Map([map].into()));
        world.compile();
        (0..CLIENTS).map(|c| spot(ask(&world, &address(c), 0)[0]) == "a1").collect::<Vec<bool>>()
    };
    let mut before = at(10, &["b"]);
    for ready in [7, 6, 5, 4, 3, 2, 1, 0] {
        let after = at(ready, &["b"]);
        assert!(before.iter().zip(&after).all(|(was, is)| *was || !is), "{ready}: nobody comes back");
        assert!(after == at(ready, &["b", "c"]), "{ready}: one more far away");
        before = after;
    }
}
