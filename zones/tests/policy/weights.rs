//! Shares by weight, turns of failover, and what health does to both.

use portolan_zones::ClusterId;
use portolan_zones::policy::spread::{At, Candidate, Spread, WHOLE, spread};
use portolan_zones::policy::{AllDown, Level, Locality, Preference, Rules};

use crate::common::*;
use crate::site::*;

const CLIENT: &str = "10.1.1.200";
const DRAWS: u32 = 12_000;

type Weights = &'static [(&'static str, u32)];

fn three() -> [Site; 3] {
    [site("a").node("n1", "z1", 4, 4), site("b").node("n1", "z2", 4, 4), site("c").node("n1", "z3", 4, 4)]
}

/// Parts of the sum of all weights; a cluster that is not named has 1, a name that no cluster has counts for nothing.
#[test]
fn clusters_share_by_weight() {
    let cases: &[(Weights, [f64; 3])] = &[
        (&[("a", 1), ("b", 1), ("c", 1)], [1.0, 1.0, 1.0]),
        (&[("a", 7), ("b", 2)], [7.0, 2.0, 1.0]),
        (&[("b", 98)], [1.0, 98.0, 1.0]),
        (&[("a", 5), ("nobody", 1000)], [5.0, 1.0, 1.0]),
        (&[("nobody", 1000)], [1.0, 1.0, 1.0]),
        (&[("a", 0)], [0.0, 1.0, 1.0]),
        (&[("a", 0), ("b", 0)], [0.0, 0.0, 1.0]),
        (&[("a", 0), ("b", 0), ("c", 0)], [1.0, 1.0, 1.0]),
        (&[("a", 1_000_000), ("b", 1_000_000), ("c", 500_000)], [2.0, 2.0, 1.0]),
    ];
    for (weights, [a, b, c]) in cases {
        let world = world(&three(), weighted(weights));
        let expected = [("a", *a), ("b", *b), ("c", *c)];
        assert_shares(&counts(&world, CLIENT, DRAWS, cluster_of), &expected, &format!("{weights:?}"));
    }
}

/// Without weights every endpoint counts the same, wherever it is; with equal ones every cluster does.
#[test]
fn weights_are_the_clusters_not_the_endpoints() {
    let sites = [site("a").node("n1", "z1", 9, 9), site("b").node("n1", "z2", 1, 1)];
    for (rules, expected) in
        [(rules(), [("a", 0.9), ("b", 0.1)]), (weighted(&[("a", 1), ("b", 1)]), [("a", 0.5), ("b", 0.5)])]
    {
        let counts = counts(&world(&sites, rules.clone()), CLIENT, DRAWS, cluster_of);
        assert_shares(&counts, &expected, &format!("{:?}", rules.weights));
    }
}

/// The first record is drawn, and who gets a cluster gets all of it.
#[test]
fn an_answer_is_one_clusters() {
    let world = world(&three(), weighted(&[("a", 3), ("b", 2)]));
    for entropy in 0..200 {
        let answer = ask(&world, CLIENT, entropy);
        assert_eq!(answer.len(), 4);
        assert!(answer.iter().all(|record| cluster_of(*record) == cluster_of(answer[0])), "{answer:?}");
    }
}

/// A cluster of weight 0 is the last resort, however close it is: used when the others have nothing left, and for what they
/// can't bear: 3 of 8 bear 52.5 %.
#[test]
fn weight_0_is_the_last_resort() {
    let rules = weighted(&[("a", 0), ("b", 60), ("c", 40)]);
    for (b, c, expected) in [
        ((4, 4), (4, 4), [("a", 0.0), ("b", 0.6), ("c", 0.4)]),
        ((0, 0), (4, 4), [("a", 0.0), ("b", 0.0), ("c", 1.0)]),
        ((0, 0), (0, 0), [("a", 1.0), ("b", 0.0), ("c", 0.0)]),
        ((0, 4), (0, 4), [("a", 1.0), ("b", 0.0), ("c", 0.0)]),
        ((0, 4), (3, 4), [("a", 0.0), ("b", 0.0), ("c", 1.0)]),
        ((2, 4), (4, 4), [("a", 0.0), ("b", 0.42 / 0.82), ("c", 0.4 / 0.82)]),
    ] {
        let mut sites = three();
        for (site, (ready, all)) in sites[1..].iter_mut().zip([b, c]) {
            (site.nodes[0].ready, site.nodes[0].all) = (ready, all);
        }
        let counts = counts(&world(&sites, rules.clone()), CLIENT, DRAWS, cluster_of);
        assert_shares(&counts, &expected, &format!("b {b:?}, c {c:?}"));
    }
    let near = Rules {
        locality: Some(Locality { order: [Level::Cluster].as_slice().into(), reach: Preference::Prefer }),
        ..rules
    };
    assert_shares(
        &counts(&world(&three(), near), CLIENT, DRAWS, cluster_of),
        &[("b", 0.6), ("c", 0.4)],
        "the client's own cluster has weight 0",
    );
}

/// A cluster that lost endpoints beyond its reserve gets less than its weight: 2 of 4 bear 70 %, so 50 becomes 35.
#[test]
fn a_cluster_that_fails_gets_less_of_its_weight() {
    let mut sites = three();
    sites[0].nodes[0].ready = 2;
    let world = world(&sites, weighted(&[("a", 50), ("b", 25), ("c", 25)]));
    let expected = [("a", 35.0), ("b", 25.0), ("c", 25.0)];
    assert_shares(&counts(&world, CLIENT, DRAWS, cluster_of), &expected, "2 of 4 in a");
}

/// Whoever is named first has it all; whoever is not named comes last, all together.
#[test]
fn failover_goes_by_turns() {
    let ids: Vec<ClusterId> = ["b", "a", "nobody"].map(cluster).into();
    for (down, expected) in
        [("", "b1"), ("b", "a1"), ("ab", "c1 d1"), ("a", "b1"), ("cd", "b1"), ("abcd", "")]
    {
        let mut sites = three().to_vec();
        sites.push(site("d").node("n1", "z4", 4, 4));
        for site in sites.iter_mut().filter(|site| down.contains(site.id)) {
            site.nodes[0].ready = 0;
        }
        let world = world(&sites, Rules { failover: ids.clone().into(), ..rules() });
        let expected = if expected.is_empty() { "NXDOMAIN" } else { expected };
        let got = if down.len() == 4 { world.lookup(NAME, "A") } else { reached(&world, CLIENT) };
        assert_eq!(got, expected, "down: {down}");
    }
}

/// Ten endpoints of each cluster, so many of which are ready, and so many of these healthy; in zone `z1` and `z2`.
fn ten<'s>(ids: &'s [ClusterId; 2], ready: [u32; 2], healthy: [u32; 2]) -> Vec<Candidate<'s>> {
    let zones = ["z1", "z2"];
    let of = |i: usize| {
        (0..10).map(move |n| Candidate {
            healthy: n < healthy[i],
            ..Candidate::new(&ids[i], at(&ids[i], zones[i]), 1, (n < ready[i]).into())
        })
    };
    of(0).chain(of(1)).collect()
}

fn near(rules: Rules) -> Rules {
    let locality = Locality { order: [Level::Zone].as_slice().into(), reach: Preference::Prefer };
    Rules { locality: Some(locality), ..rules }
}

/// Per tier: its load in per cent and how many candidates it is spread over.
fn tiers(spread: &Spread) -> Vec<(u32, usize)> {
    let chosen =
        |tier: &portolan_zones::policy::spread::Tier| tier.shares.iter().map(|s| s.chosen.len()).sum();
    spread.tiers.iter().map(|tier| ((tier.load + 5_000) / (WHOLE / 100), chosen(tier))).collect()
}

/// Envoy, Panic threshold: "if the percentage of available hosts in the cluster becomes too low, Envoy will disregard health
/// status and balance either amongst all hosts or no hosts"; a level panics only when all of them together bear too little.
#[test]
fn too_few_healthy_ones_are_not_buried() {
    let ids = ["a", "b"].map(cluster);
    for (threshold, healthy, expected) in [
        (50, [10, 10], [(100, 10), (0, 0)]),
        (50, [4, 10], [(56, 4), (44, 10)]),
        (50, [0, 10], [(0, 0), (100, 10)]),
        (50, [6, 0], [(100, 6), (0, 0)]),
        (50, [4, 0], [(100, 10), (0, 0)]),
        (50, [4, 2], [(67, 10), (33, 10)]),
        (30, [4, 2], [(67, 4), (33, 10)]),
        (0, [4, 2], [(67, 4), (33, 2)]),
        (100, [7, 0], [(100, 10), (0, 0)]),
    ] {
        let rules = near(Rules { panic_threshold: threshold, ..Rules::default() });
        let spread = spread(&ten(&ids, [10, 10], healthy), &rules, &at(&ids[0], "z1"));
        assert_eq!(tiers(&spread), expected, "{threshold} % {healthy:?}");
        assert!(!spread.blind);
    }
}

/// Panic or not, what its own cluster says is not ready is never chosen.
#[test]
fn panic_does_not_wake_what_is_not_ready() {
    let ids = ["a", "b"].map(cluster);
    let candidates = ten(&ids, [5, 0], [1, 0]);
    let spread = spread(&candidates, &near(Rules::default()), &at(&ids[0], "z1"));
    assert!(spread.tiers[0].panics);
    assert_eq!(tiers(&spread), [(100, 5), (0, 0)]);
}

/// Nothing is healthy: what probes say may be wrong everywhere at once, and it can't get worse; or nothing is answered.
#[test]
fn all_down() {
    let ids = ["a", "b"].map(cluster);
    let client = at(&ids[0], "z1");
    let rules = |all_down| near(Rules { all_down, ..Rules::default() });
    for (all_down, ready, blind, expected) in [
        (AllDown::Answer, [10, 10], true, [(100, 10), (0, 0)]),
        (AllDown::Answer, [0, 3], true, [(0, 0), (100, 3)]),
        (AllDown::Answer, [0, 0], false, [(0, 0), (0, 0)]),
        (AllDown::Nothing, [10, 10], false, [(0, 0), (0, 0)]),
    ] {
        let spread = spread(&ten(&ids, ready, [0, 0]), &rules(all_down), &client);
        assert_eq!(tiers(&spread), expected, "{all_down:?} {ready:?}");
        assert_eq!(
            spread.blind, blind,
            "{all_down:?} {ready:?}: blind means that health is ignored for want of any"
        );
    }
    let one = spread(&ten(&ids, [10, 10], [0, 1]), &rules(AllDown::Nothing), &client);
    assert!(!one.blind);
    assert_eq!(tiers(&one), [(0, 0), (100, 10)], "one that is healthy is not all down: its tier panics");
}

/// No rules at all and nobody in particular: everything in one tier.
#[test]
fn nothing_said_is_all_alike() {
    let ids = ["a", "b"].map(cluster);
    let spread = spread(&ten(&ids, [10, 10], [10, 10]), &Rules::default(), &At::default());
    let parts: Vec<u32> = spread.shares().map(|(_, share)| share.part).collect();
    assert_eq!((tiers(&spread), parts), (vec![(100, 20)], vec![WHOLE / 2; 2]));
}

/// The last of very many is still somebody to ask, however little reserve the rules count on.
#[test]
fn one_of_many_is_enough_for_an_answer() {
    let id = cluster("a");
    let candidate = Candidate::new(&id, At::default(), 20_000, 1);
    let rules = Rules { spill: portolan_zones::policy::Spill::Graded(1), ..Rules::default() };
    assert_eq!(tiers(&spread(&[candidate], &rules, &At::default())), [(100, 1)]);
}
