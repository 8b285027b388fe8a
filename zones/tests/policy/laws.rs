//! What must hold for any rules, endpoints and places.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;

use portolan_zones::object::*;
use portolan_zones::policy::spread::{At, Candidate, WHOLE, spread};
use portolan_zones::policy::{AllDown, Form, Level, Locality, Preference, Rules, Spill};
use portolan_zones::{Change, ClusterId, Found, QName, Records};
use proptest::prelude::*;

use crate::common::*;
use crate::site::*;

const CLUSTERS: [&str; 3] = ["a", "b", "c"];
const ZONES: [&str; 3] = ["z1", "z2", "z3"];
const REGIONS: [&str; 2] = ["r1", "r2"];
const NODES: [&str; 3] = ["n1", "n2", "n3"];

fn any_rules() -> impl Strategy<Value = Rules> {
    let levels =
        prop::sample::subsequence(vec![Level::Node, Level::Zone, Level::Region, Level::Cluster], 0..=4)
            .prop_shuffle();
    let reach = prop::sample::select(vec![Preference::Prefer, Preference::Pin]);
    let locality = prop::option::of((levels, reach));
    let spill = prop_oneof![Just(Spill::Cliff), (1..=u16::MAX).prop_map(Spill::Graded)];
    let weight = prop_oneof![Just(0), 1..5_u32, 0..=1_000_000_u32];
    let weights = prop::collection::btree_map(prop::sample::select(CLUSTERS.to_vec()), weight, 0..3);
    let failover = prop::sample::subsequence(CLUSTERS.to_vec(), 0..=3).prop_shuffle();
    let all_down = prop::sample::select(vec![AllDown::Answer, AllDown::Nothing]);
    let rest = (0..=100_u8, all_down, any::<bool>(), prop::option::of(1..4_u16), prop::option::of(0..9_u32));
    (locality, spill, weights, failover, rest).prop_map(|(locality, spill, weights, failover, rest)| {
        let (panic_threshold, all_down, sticky, most, ttl) = rest;
        Rules {
            answer: Form::Endpoints,
            max_records: most.and_then(NonZeroU16::new),
            ttl,
            locality: locality.map(|(order, reach)| Locality { order: order.into_iter().collect(), reach }),
            spill,
            weights: weights.into_iter().map(|(id, weight)| (cluster(id), weight)).collect(),
            failover: failover.into_iter().map(cluster).collect(),
            health_check: None,
            panic_threshold,
            all_down,
            sticky,
            ..Rules::default()
        }
    })
}

/// Cluster, region, zone and node by position; what is beyond is not known.
type Spot = (usize, usize, usize, usize);

fn any_spot() -> impl Strategy<Value = Spot> {
    (0..4_usize, 0..3_usize, 0..4_usize, 0..4_usize)
}

fn place((cluster, region, az, node): Spot, ids: &[ClusterId]) -> At<'_> {
    At {
        cluster: ids.get(cluster),
        region: REGIONS.get(region).copied(),
        az: ZONES.get(az).copied(),
        node: NODES.get(node).copied(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// The whole is given out, to the last millionth, if anybody may have it, and to nobody who may not.
    #[test]
    fn shares_are_the_whole_or_nothing(
        rules in any_rules(),
        client in any_spot(),
        candidates in prop::collection::vec(
            ((0..3_usize, any_spot()), 1..20_000_u32, 0..20_000_u32, any::<(bool, bool)>(), 1..=10_u8, 0..3_u8),
            0..12,
        ),
        gone in prop::collection::vec((0..3_usize, 1..20_000_u32), 0..3),
    ) {
        let ids = CLUSTERS.map(cluster);
        let there = candidates.into_iter().map(|((of, spot), all, ready, (healthy, drained), tenths, band)| {
            let at = At { cluster: Some(&ids[of]), ..place(spot, &ids) };
            let one = Candidate::new(&ids[of], at, all, ready.min(all));
            Candidate { healthy, warmth: tenths * 10, drained, band, ..one }
        });
        let gone = gone.into_iter().map(|(of, count)| {
            let at = At { cluster: Some(&ids[of]), ..At::default() };
            Candidate { gone: true, ..Candidate::new(&ids[of], at, count, 0) }
        });
        let candidates: Vec<Candidate<'_>> = there.chain(gone).collect();
        let spread = spread(&candidates, &rules, &place(client, &ids));
        let close = |at: usize| !spread.pinned_out.contains(&(at as u32));
        let may = |(at, c): (usize, &Candidate<'_>)| {
            close(at) && c.ready > 0 && (c.healthy || rules.all_down == AllDown::Answer)
        };
        let expected = if candidates.iter().enumerate().any(may) { WHOLE } else { 0 };
        prop_assert_eq!(spread.shares().map(|(_, share)| share.part).sum::<u32>(), expected);
        prop_assert_eq!(spread.tiers.iter().map(|tier| tier.load).sum::<u32>(), expected);
        for tier in &spread.tiers {
            prop_assert_eq!(tier.shares.iter().map(|share| share.part).sum::<u32>(), tier.load);
        }
        for (tier, share) in spread.shares() {
            prop_assert!(share.part > 0 && !share.chosen.is_empty());
            for at in &share.chosen {
                let candidate = candidates[*at as usize];
                prop_assert!(close(*at as usize) && candidate.ready > 0 && *candidate.cluster == share.cluster);
                prop_assert!(candidate.healthy || tier.panics || spread.blind);
            }
        }
        let ranks: Vec<_> = spread.tiers.iter().map(|tier| tier.of).collect();
        prop_assert!(ranks.is_sorted());
    }
}

/// A cluster's service: nodes with their region and zone, ready and all endpoints on each; whether slices say zones; and the
/// network that it is on.
type Drawn = (usize, Vec<(usize, u8, u8)>, bool, bool);

fn any_sites() -> impl Strategy<Value = Vec<Drawn>> {
    let node = (0..4_usize, 0..4_u8, 0..4_u8);
    let one = (0..3_usize, prop::collection::vec(node, 0..4), any::<bool>(), prop::bool::weighted(0.2));
    prop::collection::vec(one, 3)
}

fn site_of(at: usize, (region, nodes, zoned, _): &Drawn) -> Site {
    let mut site = site(CLUSTERS[at]).region(REGIONS.get(*region).copied().unwrap_or(""));
    site.zoned_slices = *zoned;
    for (name, (az, ready, more)) in NODES.iter().zip(nodes) {
        site = site.node(name, ZONES.get(*az).copied().unwrap_or(""), *ready, ready + more);
    }
    site
}

fn kinds() -> impl Strategy<Value = ServiceKind> {
    prop::sample::select(vec![ServiceKind::ClusterIp, ServiceKind::Headless])
}

fn clients() -> impl Iterator<Item = String> {
    let nodes = (1..=3).flat_map(|cluster| (1..=3).map(move |node| format!("10.{cluster}.{node}.200")));
    nodes.chain(["192.0.2.1".to_owned(), "10.1.9.9".to_owned(), "2001:db8::1".to_owned()])
}

fn start(drawn: &[Drawn]) -> World {
    let mut world = World::new(&["clusterset.local"], &CLUSTERS);
    world.home("a");
    for (id, (.., away)) in CLUSTERS.iter().zip(drawn).skip(1) {
        let network = if *away { "east" } else { "" };
        world.table.apply(portolan_zones::Event::Network { cluster: cluster(id), network: network.into() });
    }
    for id in CLUSTERS {
        world.reset(id, Vec::new());
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever asks, and whatever is drawn: only what is ready, and can be reached from here, each once, and not more than
    /// the policy allows; and somebody gets an answer if there is one.
    #[test]
    fn nothing_is_answered_that_is_not_there(rules in any_rules(), drawn in any_sites(), kind in kinds()) {
        let mut world = start(&drawn);
        let mut usable = BTreeSet::new();
        for (at, drawn) in drawn.iter().enumerate() {
            let site = site_of(at, drawn);
            for object in site.objects("s", kind, http()) {
                world.apply(site.id, object);
            }
            let reachable = at == 0 || !drawn.3;
            for (node, spot) in (1..).zip(&site.nodes) {
                usable.extend((1..=spot.ready).filter(|_| reachable).map(|i| Ipv4Addr::new(10, site.octet(), node, i)));
            }
        }
        world.apply("a", policy("p", 1, imports(&["s"]), rules.clone())).compile();
        let own: BTreeSet<Ipv4Addr> = match world.snapshot.lookup(&QName::parse(NAME).unwrap(), "A".parse().unwrap()).unwrap().found {
            Found::Records(Records::A(records)) => records.iter().copied().collect(),
            _ => BTreeSet::new(),
        };
        prop_assert_eq!(&own, &usable);
        if usable.is_empty() {
            return Ok(());
        }
        for client in clients() {
            for entropy in 0..8 {
                let (records, chosen) = told(&world.snapshot, NAME, &client, entropy);
                let set: BTreeSet<Ipv4Addr> = records.iter().copied().collect();
                prop_assert!(set.is_subset(&own), "{}: {:?}", client, records);
                prop_assert_eq!(set.len(), records.len());
                prop_assert!(rules.max_records.is_none_or(|most| records.len() <= most.get().into()));
                prop_assert_eq!(chosen.unwrap().ttl, rules.ttl);
                let pinned = rules.locality.as_ref().is_some_and(|l| l.reach == Preference::Pin && !l.order.is_empty());
                prop_assert!(pinned || !records.is_empty(), "{} gets nothing", client);
            }
        }
    }

    /// Who can't connect to virtual IPs gets what everybody would whose rules said `Endpoints`, record by record; who can gets
    /// them. An answer that depends on agents is never for more clients than are on one node, or on none.
    #[test]
    fn what_stands_in_for_virtual_ips_is_what_endpoints_would_be(rules in any_rules(), drawn in any_sites(), ruled in any::<bool>()) {
        let [mut gated, mut direct] = [start(&drawn), start(&drawn)];
        for (at, drawn) in drawn.iter().enumerate() {
            let site = site_of(at, drawn);
            for object in site.objects("s", ServiceKind::ClusterIp, http()) {
                gated.apply(site.id, object.clone());
                direct.apply(site.id, object);
            }
        }
        let rules = if ruled { rules } else { crate::site::rules() };
        if ruled {
            gated.apply("a", policy("p", 1, imports(&["s"]), Rules { answer: Form::Vip, ..rules.clone() }));
        }
        direct.apply("a", policy("p", 1, imports(&["s"]), rules)).compile();
        crate::agents::switch_on(&mut gated);
        gated.apply("a", crate::agents::agents("agents-1", &[("n1", true)])).vip("n", "s", &["241.0.0.1"]).compile();
        let exists = direct.lookup(NAME, "A") != "NXDOMAIN";
        for (client, entropy) in clients().flat_map(|client| (0..4).map(move |entropy| (client.clone(), entropy))) {
            let (records, chosen) = told(&gated.snapshot, NAME, &client, entropy);
            if client == "10.1.1.200" && !drawn[0].1.is_empty() {
                prop_assert_eq!(records, [Ipv4Addr::new(241, 0, 0, 1)]);
            } else if exists {
                let (expected, by) = told(&direct.snapshot, NAME, &client, entropy);
                prop_assert_eq!(records, expected, "{}", &client);
                prop_assert!(by.unwrap().scope <= chosen.unwrap().scope);
            } else {
                prop_assert!(records.is_empty());
            }
        }
    }

    /// Whatever came first, and whether there was a snapshot in between: the same answers for all.
    #[test]
    fn order_leaves_no_trace(
        rules in any_rules(),
        drawn in any_sites(),
        before in any_sites(),
        kind in kinds(),
        keys in prop::collection::vec(any::<u32>(), 32),
    ) {
        let mut objects: Vec<(&str, Object)> = Vec::new();
        for (at, drawn) in drawn.iter().enumerate() {
            let site = site_of(at, drawn);
            objects.extend(site.objects("s", kind, http()).into_iter().map(|object| (CLUSTERS[at], object)));
        }
        objects.push(("a", policy("p", 1, imports(&["s"]), rules)));
        let mut straight = start(&drawn);
        for (id, object) in &objects {
            straight.apply(id, object.clone());
        }
        straight.compile();

        let mut shuffled = start(&drawn);
        for (at, drawn) in before.iter().enumerate() {
            for object in site_of(at, drawn).objects("s", kind, http()) {
                let gone = object.key();
                shuffled.apply(CLUSTERS[at], object);
                shuffled.compile();
                shuffled.say(CLUSTERS[at], Change::Delete(gone));
            }
        }
        let mut order: Vec<usize> = (0..objects.len()).collect();
        order.sort_by_key(|at| keys[at % keys.len()].wrapping_mul(*at as u32 + 1));
        for at in order {
            shuffled.apply(objects[at].0, objects[at].1.clone());
            if at % 2 == 0 {
                shuffled.compile();
            }
        }
        shuffled.compile();
        prop_assert_eq!(straight.snapshot.places == shuffled.snapshot.places, true);
        let services = [&straight, &shuffled].map(|world| world.snapshot.services.get(b"\x01s\x01n").cloned());
        prop_assert_eq!(&services[0], &services[1]);
        if services[0].as_ref().is_some_and(|service| service.answers.absence().is_none()) {
            for client in clients() {
                let answers = [&straight, &shuffled].map(|world| told(&world.snapshot, NAME, &client, 5));
                prop_assert_eq!(&answers[0], &answers[1], "{}", client);
            }
        }
    }
}
