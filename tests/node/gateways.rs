//! Virtual IPs whose backends are on networks that the client does not reach: gateways, by real HAProxy and nginx.

use std::collections::{BTreeMap, BTreeSet};

use portolan_tests::harness::node::{Said, can_hook, connects, datagrams};
use portolan_tests::harness::{becomes, eventually};

use crate::world::{CLUSTERS, World, is_open};

/// Shares of 5, 3 and 2 in 10.
const SHARES: &str =
    "weights: [{cluster: paris, weight: 5}, {cluster: tokyo, weight: 3}, {cluster: virginia, weight: 2}]";
/// The same for all.
const EQUAL: &str =
    "weights: [{cluster: paris, weight: 1}, {cluster: tokyo, weight: 1}, {cluster: virginia, weight: 1}]";

fn names(clusters: &[&str]) -> BTreeSet<String> {
    clusters.iter().map(ToString::to_string).collect()
}

/// All connections were answered, and by exactly these clusters.
fn answered_by(said: &Said, clusters: &[&str]) {
    assert!(said.errors.is_empty() && said.strangers.is_empty(), "{said:?}");
    assert_eq!(said.names.keys().cloned().collect::<BTreeSet<_>>(), names(clusters), "{said:?}");
}

/// Pearson's chi-square of what clusters answered against their shares, in tenths.
fn chi_square(said: &Said, shares: &[(&str, u32)]) -> f64 {
    let all = f64::from(said.answers());
    let term = |(cluster, tenths): &(&str, u32)| {
        let expected = all * f64::from(*tenths) / 10.0;
        let seen = f64::from(said.names.get(*cluster).copied().unwrap_or_default());
        (seen - expected).powi(2) / expected
    };
    shares.iter().map(term).sum()
}

/// design.md §3: another network's pods are reached through their cluster's gateway, and §5: by weight.
#[test]
fn every_cluster_is_reached_by_its_share() {
    if !can_hook("every_cluster_is_reached_by_its_share") {
        return;
    }
    let mut world = World::new("");
    world.policy(SHARES);
    world.agent.start();
    let (hello, who) = (world.vip("hello", true), world.vip("who", true));
    let (client, inside) = (&world.client, Some(&world.cgroup));
    assert!(!is_open(client, "10.9.0.11", 8080), "pods of other networks are out of the client's reach");
    let said = connects(client, inside, &hello, 80, 4000);
    answered_by(&said, &CLUSTERS);
    // 2 degrees of freedom: exceeded by chance once in a million runs.
    assert!(chi_square(&said, &[("paris", 5), ("tokyo", 3), ("virginia", 2)]) < 27.6, "{said:?}");
    for kind in ["udp", "connected-udp"] {
        answered_by(&datagrams(client, inside, kind, &who, 53, 300), &CLUSTERS);
    }
    let told = world.agent.services("default/hello");
    assert!(told.to_string().contains("198.51.100.7:20080"), "{told}");
    assert!(!told.to_string().contains("10.9.0.11"), "{told}");
}

/// design.md §5: health is probed from the asking cluster, of the gateway's port where the network is not flat.
#[test]
fn a_gateway_that_is_killed_is_left_out_until_it_is_back() {
    if !can_hook("a_gateway_that_is_killed_is_left_out_until_it_is_back") {
        return;
    }
    let mut world = World::new("");
    world
        .policy(&format!("{EQUAL}\nhealthCheck: {{type: TCP, interval: 1s, timeout: 1s, fall: 2, rise: 2}}"));
    world.agent.start();
    let hello = world.vip("hello", true);
    let said = |world: &World, count| connects(&world.client, Some(&world.cgroup), &hello, 80, count);
    becomes("the clusters in use", &names(&CLUSTERS), || world.used("hello"));
    answered_by(&said(&world, 200), &CLUSTERS);
    world.tokyo.kill();
    becomes("the clusters in use", &names(&["paris", "virginia"]), || world.used("hello"));
    answered_by(&said(&world, 1000), &["paris", "virginia"]);
    // UDP goes by nginx, which is well.
    assert_eq!(world.used("who"), names(&CLUSTERS));
    world.tokyo.start_again(&world.agent);
    becomes("the clusters in use", &names(&CLUSTERS), || world.used("hello"));
    answered_by(&said(&world, 200), &CLUSTERS);
}

/// README: `down`, nobody; `drain`, the last resort. By the exporter, whose word is followed at once.
#[test]
fn exporters_take_their_cluster_out() {
    if !can_hook("exporters_take_their_cluster_out") {
        return;
    }
    let mut world = World::new("");
    world.policy(EQUAL);
    world.agent.start();
    let (hello, who) = (world.vip("hello", true), world.vip("who", true));
    for (of_tokyo, of_virginia, used) in [
        ("down", "", &["paris", "virginia"][..]),
        ("drain", "", &["paris", "virginia"]),
        ("drain", "down", &["paris"]),
        ("", "", &CLUSTERS),
    ] {
        world.set_state("tokyo", of_tokyo);
        world.set_state("virginia", of_virginia);
        for service in ["hello", "who"] {
            becomes("the clusters in use", &names(used), || world.used(service));
        }
        let (client, inside) = (&world.client, Some(&world.cgroup));
        answered_by(&connects(client, inside, &hello, 80, 200), used);
        answered_by(&datagrams(client, inside, "udp", &who, 53, 100), used);
    }
}

/// The same by the operator of the client's cluster, for all services; a drained cluster serves where no other is left.
#[test]
fn the_operator_takes_a_whole_cluster_out() {
    if !can_hook("the_operator_takes_a_whole_cluster_out") {
        return;
    }
    for (states, used) in [
        ("[{cluster: tokyo, state: drain}]", &["paris", "virginia"][..]),
        ("[{cluster: tokyo, state: down}, {cluster: paris, state: down}]", &["virginia"]),
        (
            "[{cluster: tokyo, state: drain}, {cluster: paris, state: down}, {cluster: virginia, state: down}]",
            &["tokyo"],
        ),
    ] {
        let mut world = World::new(&format!("states: {states}"));
        world.policy(EQUAL);
        world.agent.start();
        let (hello, who) = (world.vip("hello", true), world.vip("who", true));
        let (client, inside) = (&world.client, Some(&world.cgroup));
        answered_by(&connects(client, inside, &hello, 80, 200), used);
        answered_by(&datagrams(client, inside, "connected-udp", &who, 53, 100), used);
    }
}

/// As for AAAA, an IPv6 address leads to IPv6 backends where there are any; else to IPv4 ones, and gateways, but for single packets
/// of unconnected sockets (README: EAFNOSUPPORT).
#[test]
fn an_ipv6_address_leads_to_ipv4_gateways() {
    if !can_hook("an_ipv6_address_leads_to_ipv4_gateways") {
        return;
    }
    let mut world = World::new("");
    world.policy(EQUAL);
    world.agent.start();
    let (hello, who) = (world.vip("hello", false), world.vip("who", false));
    let (client, inside) = (&world.client, Some(&world.cgroup));
    answered_by(&connects(client, inside, &hello, 80, 100), &["paris"]);
    answered_by(&datagrams(client, inside, "udp", &who, 53, 100), &["paris"]);

    world.take_ipv6_away();
    let only_v4 = || !world.agent.services("default/").to_string().contains("[fd00:1::11]");
    eventually("no IPv6 backend is left", only_v4);
    answered_by(&connects(client, inside, &hello, 80, 300), &CLUSTERS);
    answered_by(&datagrams(client, inside, "connected-udp", &who, 53, 300), &CLUSTERS);
    let said = datagrams(client, inside, "udp", &who, 53, 100);
    assert_eq!((said.answers(), said.errors), (0, BTreeMap::from([("EAFNOSUPPORT".to_owned(), 100)])));
    let told = world.agent.services("default/who");
    assert_eq!(told[0]["unreachable"], 100, "{told}");

    world.give_ipv6_back();
    becomes("the clusters in use", &names(&["paris"]), || {
        connects(client, inside, &hello, 80, 20).names.into_keys().collect()
    });
    answered_by(&datagrams(client, inside, "udp", &who, 53, 100), &["paris"]);
}
