//! Clients that ask for a type are spread over what has it: an answer without records is none.

use std::net::IpAddr;

use portolan_zones::object::*;
use portolan_zones::policy::{Level, Preference};
use portolan_zones::{Client, Found, QName, Records};

use crate::common::*;
use crate::site::*;

const CLIENT: &str = "10.1.1.200";

/// IPv6 endpoints of a cluster, on its first node.
fn ipv6(world: &mut World, id: &str, az: &str, addresses: &[&str]) {
    let place = Place { node: Some("n1".into()), az: Some(az.into()) };
    let endpoints = addresses
        .iter()
        .map(|text| Endpoint { place: Some(place.clone().into()), ..endpoint(text, None, true) });
    world.apply(id, slice("n", "s", &format!("s6-{id}"), &[("http", 8080)], endpoints.collect()));
}

/// How many records of a type each of some draws gives, and of the first one the cluster: `10.<cluster>…`, `fd00:<cluster>::`.
fn drawn(world: &World, question: &str, rtype: &str) -> Vec<(usize, u8)> {
    let name = QName::parse(question).unwrap();
    let draw = |entropy| {
        let client = Client { address: Some(CLIENT.parse().unwrap()), entropy, beyond: None };
        let lookup = world.snapshot.lookup_for(&name, rtype.parse().unwrap(), &client).unwrap();
        match lookup.found {
            Found::Records(Records::A(a)) => (a.len(), a[0].octets()[1]),
            Found::Records(Records::Aaaa(aaaa)) => (aaaa.len(), aaaa[0].octets()[3]),
            Found::Records(Records::Srv { set, service, .. }) => {
                let host = service.answers.host(set.targets[0]).unwrap();
                let v6 = || host.v6.first().map(|a| IpAddr::from(*a));
                match host.v4.first().map(|a| IpAddr::from(*a)).or_else(v6).unwrap() {
                    IpAddr::V4(a) => (set.targets.len(), a.octets()[1]),
                    IpAddr::V6(a) => (set.targets.len(), a.octets()[3]),
                }
            }
            other => panic!("{entropy}: {other:?}"),
        }
    };
    (0..1000).map(draw).collect()
}

fn clusters(drawn: &[(usize, u8)]) -> Vec<u8> {
    let all: std::collections::BTreeSet<u8> = drawn.iter().map(|(_, cluster)| *cluster).collect();
    all.into_iter().collect()
}

/// Half of the clients are another cluster's by weight, which has nothing of the family: they get what there is.
#[test]
fn a_cluster_without_the_family_gets_no_clients_of_it() {
    let sites = [
        site("a").node("n1", "z1", 2, 2),
        site("b").node("n1", "z2", 0, 0),
        site("c").node("n1", "z3", 2, 2),
    ];
    let mut world = world(&sites, weighted(&[("a", 1), ("b", 2), ("c", 1)]));
    ipv6(&mut world, "b", "z2", &["fd00:2::1", "fd00:2::2"]);
    ipv6(&mut world, "c", "z3", &["fd00:3::1"]);
    world.compile();
    let (v4, v6) = (drawn(&world, NAME, "A"), drawn(&world, NAME, "AAAA"));
    assert_eq!((clusters(&v4), clusters(&v6)), (vec![1, 3], vec![2, 3]));
    // By weight among those that have it: 1 to 1, and 2 to 1.
    let of = |drawn: &[(usize, u8)], cluster| drawn.iter().filter(|(_, c)| *c == cluster).count();
    assert!((430..570).contains(&of(&v4, 1)), "{}", of(&v4, 1));
    assert!((610..720).contains(&of(&v6, 2)), "{}", of(&v6, 2));
}

/// What is near and has nothing of the family is no reason to go without.
#[test]
fn a_zone_without_the_family_is_passed_over() {
    let sites = [site("a").node("n1", "z1", 0, 0), site("b").node("n1", "z2", 3, 3)];
    for reach in [Preference::Prefer, Preference::Pin] {
        let mut world = world(&sites, by(&[Level::Zone], reach));
        ipv6(&mut world, "a", "z1", &["fd00:1::1"]);
        world.compile();
        assert_eq!(clusters(&drawn(&world, NAME, "AAAA")), [1], "{reach:?}");
        let answer = world.snapshot.lookup_for(
            &QName::parse(NAME).unwrap(),
            "A".parse().unwrap(),
            &Client { address: Some(CLIENT.parse().unwrap()), ..Client::default() },
        );
        match (answer.unwrap().found, reach) {
            (Found::Records(Records::A(records)), Preference::Prefer) => assert_eq!(records.len(), 3),
            (Found::NoData, Preference::Pin) => {}
            (other, _) => panic!("{reach:?}: {other:?}"),
        }
    }
}

/// RFC 2782: the port's name is part of the question. Of clusters that don't expose it nobody can be sent there.
#[test]
fn a_cluster_without_the_port_gets_no_clients_of_it() {
    let sites = [site("a").node("n1", "z1", 2, 2), site("b").node("n1", "z2", 2, 2)];
    let mut world = world(&sites, weighted(&[("a", 1), ("b", 3)]));
    let two = spec(&[port("http", Protocol::Tcp, 80), port("metrics", Protocol::Tcp, 9090)]);
    world.apply("a", service("n", "s", ServiceKind::ClusterIp, two));
    let endpoints = ["10.1.1.1", "10.1.1.2"].map(|text| endpoint(text, None, true));
    world.apply("a", slice("n", "s", "s-a", &[("http", 8080), ("metrics", 9090)], endpoints.into()));
    world.compile();
    let metrics = drawn(&world, &format!("_metrics._tcp.{NAME}"), "SRV");
    assert_eq!(clusters(&metrics), [1]);
    assert_eq!(clusters(&drawn(&world, &format!("_http._tcp.{NAME}"), "SRV")), [1, 2]);
}
