//! Which records are in an answer, in which order, for how long, and for whom else.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;

use portolan_zones::object::*;
use portolan_zones::policy::Level::{self, Cluster, Node, Zone};
use portolan_zones::policy::Preference::Prefer;
use portolan_zones::policy::{Form, Rules};

use crate::site::*;

const A1: &str = "10.1.1.200";

fn most(most: u16, rules: Rules) -> Rules {
    Rules { max_records: NonZeroU16::new(most), ..rules }
}

/// TTL and number of records are told along, for endpoints and virtual IPs alike; without a policy nothing is.
#[test]
fn ttl_and_most_are_told() {
    let sites = [site("a").node("n1", "z1", 5, 5)];
    for form in [Form::Endpoints, Form::Vip] {
        for (ttl, limit) in [(None, 2), (Some(0), 1), (Some(300), 5), (Some(7), 100)] {
            let mut world = world(&sites, Rules { ttl, answer: form, ..most(limit, rules()) });
            world.vip("n", "s", &["241.0.0.1"]).compile();
            let (records, chosen) = told(&world.snapshot, NAME, A1, 3);
            let chosen = chosen.unwrap();
            assert_eq!((chosen.ttl, chosen.most.map(NonZeroU16::get)), (ttl, Some(limit)));
            let all = if form == Form::Vip { 1 } else { 5 };
            assert_eq!(records.len(), all.min(limit.into()), "{form:?}");
        }
    }
    let world = world_of(&sites, ServiceKind::Headless, &http(), None);
    assert_eq!(told(&world.snapshot, NAME, A1, 3).1, None);
}

/// Every record comes first as often as any other, and answers of few records tell of all in turn.
#[test]
fn all_records_have_their_turn() {
    let sites = [site("a").node("n1", "z1", 5, 5)];
    let world = world(&sites, most(2, rules()));
    let last = |address: Ipv4Addr| address.octets()[3].to_string();
    let expected = [("1", 0.2), ("2", 0.2), ("3", 0.2), ("4", 0.2), ("5", 0.2)];
    assert_shares(&counts(&world, A1, 10_000, last), &expected, "first records");
}

/// Any few neighbours are in as many zones as there are, or as they are themselves: an answer that is cut still survives the
/// loss of a zone. Zones that only Nodes tell of count as well.
#[test]
fn neighbours_are_in_different_zones() {
    let even: [(&str, Site); 3] = [
        ("2 zones", site("a").node("n1", "z1", 6, 6).node("n2", "z2", 6, 6)),
        ("3 zones", site("a").node("n1", "z1", 5, 5).node("n2", "z2", 5, 5).node("n3", "z3", 5, 5)),
        (
            "4 zones, 8 nodes",
            (0..8).fold(site("a"), |site, i| {
                site.node(
                    ["n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8"][i],
                    ["z1", "z2", "z3", "z4"][i % 4],
                    3,
                    3,
                )
            }),
        ),
    ];
    for (what, site) in even {
        for (how, site) in [("slices", site.clone()), ("nodes", site.zones_by_nodes_only())] {
            let zones: BTreeSet<&str> = site.nodes.iter().map(|spot| spot.az).collect();
            for limit in 1..=6 {
                let world = world(std::slice::from_ref(&site), most(limit, rules()));
                for entropy in 0..40 {
                    let records = ask(&world, A1, entropy);
                    let spanned: BTreeSet<&str> =
                        records.iter().map(|r| site.nodes[usize::from(r.octets()[2]) - 1].az).collect();
                    let possible = zones.len().min(limit.into());
                    assert_eq!(spanned.len(), possible, "{what} by {how}, {limit} records: {records:?}");
                }
            }
        }
    }
}

/// A zone with more endpoints than the others has them spread between these, not at the end.
#[test]
fn a_large_zone_is_interspersed() {
    for sizes in [[3_u8, 2, 0], [2, 1, 1], [4, 2, 2], [6, 3, 3], [3, 3, 2]] {
        let site = site("a")
            .node("n1", "z1", sizes[0], sizes[0])
            .node("n2", "z2", sizes[1], sizes[1])
            .node("n3", "z3", sizes[2], sizes[2]);
        let world = world(&[site], most(100, Rules { sticky: true, ..rules() }));
        let mut records = ask(&world, A1, 0);
        // From wherever the answer begins, one place may be where the end meets the beginning.
        records.push(records[0]);
        let pairs = records.windows(2).filter(|pair| spot(pair[0]) == spot(pair[1])).count();
        assert!(pairs <= 1, "{sizes:?}: {records:?}");
    }
}

/// RFC 7871 §7.2.1: the scope is the prefix for which the answer is meant. What is the same for all is meant for all: a
/// cache that is told otherwise keeps one answer for each network.
#[test]
fn the_scope_of_what_is_the_same_for_all_is_everybody() {
    let sites = [site("a").node("n1", "z1", 2, 2).node("n2", "z2", 2, 2)];
    let vips = Rules { answer: Form::Vip, ttl: Some(5), ..rules() };
    for rules in [rules(), vips, weighted(&[("a", 5)]), by(&[Cluster, Zone], Prefer)] {
        let mut sites = sites.to_vec();
        if rules.locality.is_some() {
            // All that there is is in one zone.
            sites[0].nodes[1].ready = 0;
            sites[0].nodes[1].all = 0;
        }
        let mut world = world(&sites, rules.clone());
        world.vip("n", "s", &["241.0.0.1"]).compile();
        for client in [A1, "10.1.2.200", "192.0.2.1"] {
            assert_eq!(told(&world.snapshot, NAME, client, 0).1.unwrap().scope, 0, "{rules:?} {client}");
        }
    }
}

/// Nobody in a scope gets another answer than the one it is told with.
#[test]
fn a_scope_has_one_answer() {
    let sites = [
        site("a").region("eu").node("n1", "z1", 2, 2).node("n2", "z2", 2, 2),
        site("b").region("us").node("n1", "z1", 2, 2),
    ];
    let orders: [&[Level]; 4] = [&[Zone], &[Node, Zone], &[Level::Region], &[Cluster]];
    for order in orders {
        let world = world(&sites, by(order, Prefer));
        for client in [A1, "10.1.2.7", "10.2.1.9", "10.1.3.1", "10.9.9.9", "192.0.2.1"] {
            let (records, chosen) = told(&world.snapshot, NAME, client, 0);
            let scope = u32::from(chosen.unwrap().scope);
            let address = u32::from(client.parse::<Ipv4Addr>().unwrap());
            for i in 0..64_u32 {
                // All over the prefix: its bits stay, the others are anything.
                let host = u32::MAX.checked_shr(scope).unwrap_or(0);
                let other = address & !host | i.wrapping_mul(0x9e37_79b9) & host;
                let got = told(&world.snapshot, NAME, &Ipv4Addr::from(other).to_string(), 0).0;
                assert_eq!(got, records, "{order:?} {client}/{scope}");
            }
        }
    }
}

/// RFC 7871 §7.2.1: "If the SCOPE PREFIX-LENGTH is longer than the SOURCE PREFIX-LENGTH ... the address prefix is
/// insufficient": where the client's own address decides, the answer is for nobody else.
#[test]
fn the_scope_of_what_sticks_to_a_client_is_the_client() {
    let sites = [site("a").node("n1", "z1", 2, 2), site("b").node("n1", "z2", 2, 2)];
    let rules = Rules { sticky: true, ..weighted(&[("a", 1), ("b", 1)]) };
    let world = world(&sites, rules);
    for client in [A1, "192.0.2.1"] {
        assert_eq!(told(&world.snapshot, NAME, client, 0).1.unwrap().scope, 32, "{client}");
    }
}

/// An endpoint's own name answers the same to all, whoever is sent there.
#[test]
fn the_scope_of_an_endpoints_name_is_everybody() {
    let sites = [site("a").node("n1", "z1", 2, 2), site("b").node("n1", "z2", 2, 2)];
    for sticky in [false, true] {
        let world = world(&sites, Rules { sticky, ..by(&[Zone], Prefer) });
        for client in [A1, "10.2.1.200", "192.0.2.1"] {
            let (records, chosen) = told(&world.snapshot, &format!("10-2-1-1.b.{NAME}"), client, 0);
            assert_eq!(records, [Ipv4Addr::new(10, 2, 1, 1)], "{client}");
            assert_eq!(chosen.unwrap().scope, 0, "{client}");
            assert_ne!(told(&world.snapshot, NAME, client, 0).1.unwrap().scope, 0, "{client}");
        }
    }
}
