//! Answers that depend on who asks: one class for each area that clients are in, compiled from the policy's choice there.

use std::collections::BTreeSet;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::sets::Sets;
use super::{Group, Scene, Target, candidates, groups};
use crate::agreed::Agreed;
use crate::choices::{Choice, Choices, Class, Classes};
use crate::name::ClusterId;
use crate::object::{IpFamily, Place as Spot};
use crate::places::{Key, Place};
use crate::policy::draw::Draw;
use crate::policy::spread::{At, Candidate, Rank, Spread, WHOLE, spread};
use crate::policy::{Level, Rules};
use crate::service::{Answers, RecordSet, Service};

/// Areas that a service is compiled for, the first ones in their order; clients of all others get what those get who are
/// nowhere.
const MOST_AREAS: usize = 1000;

/// Answers that are the same for all, but for the TTL and the number of records that a policy gives them.
pub(super) fn plain(own: &RecordSet, rules: &Rules) -> Option<Choices> {
    if (rules.ttl, rules.max_records) == (None, None) {
        return None;
    }
    let one = Choice { set: 0, part: WHOLE, of: 0 };
    Some(Choices {
        ttl: rules.ttl,
        most: rules.max_records,
        sticky: false,
        all: Classes {
            areas: Box::default(),
            nodes: Box::default(),
            classes: smallvec![Class { options: smallvec![one], draw: None }],
        },
        by_family: None,
        sets: [own.clone()].into(),
    })
}

/// What each client gets of `answers`, which tell of all `targets` that are ready.
pub(super) fn choices(
    targets: &[Target<'_>],
    answers: &Answers,
    service: &Service,
    rules: &Rules,
    scene: &Scene<'_>,
) -> Choices {
    let groups = groups(targets, |target| scene.clusters.place(target.cluster, target.place, target.region));
    let sets = Sets::new(&groups, answers, service, scene);
    let mut compiler = Compiler { sets, rules, family: None, classes: Vec::new() };
    let all = compiler.compile();
    let both = !answers.own.v4.is_empty() && !answers.own.v6.is_empty();
    let by_family = both.then(|| {
        let family = |family: IpFamily| {
            compiler.family = Some(family);
            compiler.compile()
        };
        Box::new([IpFamily::V4, IpFamily::V6].map(family))
    });
    Choices {
        ttl: rules.ttl,
        most: rules.max_records,
        sticky: rules.sticky,
        all,
        by_family,
        sets: compiler.sets.sets.into(),
    }
}

struct Compiler<'a, 's> {
    sets: Sets<'a, 's>,
    rules: &'a Rules,
    /// Whether only addresses of one family count.
    family: Option<IpFamily>,
    classes: Vec<Class>,
}

impl Compiler<'_, '_> {
    /// The classes of all areas and nodes, for the candidates as they are.
    fn compile(&mut self) -> Classes {
        let listed = |mut list: Vec<(Key, u16)>| -> Box<[(Key, u16)]> {
            list.sort();
            list.into()
        };
        self.class(&At::default());
        let scene = self.sets.scene;
        let (service, home) = (self.sets.service, scene.clusters.home.as_ref());
        let comes = |area: &Place| service.expects(area.cluster.as_ref(), home);
        let areas = scene.areas.iter().filter(|(_, area)| comes(area)).take(MOST_AREAS);
        let areas = areas.map(|(key, area)| (*key, self.class(&area.at()))).collect();
        let nodes = self.nodes();
        let mut classes = std::mem::take(&mut self.classes);
        classes.shrink_to_fit();
        Classes { areas: listed(areas), nodes: listed(nodes), classes: classes.into() }
    }

    /// The class of clients at a place.
    fn class(&mut self, client: &At<'_>) -> u16 {
        let candidates = candidates(self.sets.service, self.sets.groups, client, self.family);
        let spread = spread(&candidates, self.rules, client);
        let options = self.options(&spread, &candidates);
        let draw = Draw::new(&options.iter().map(|option| option.part).collect::<Vec<_>>());
        let class = Class { draw: draw.filter(|_| options.len() > 1), options };
        let at = self.classes.iter().position(|known| *known == class).unwrap_or_else(|| {
            self.classes.push(class);
            self.classes.len() - 1
        });
        // Fewer classes than areas and nodes of a service, which are bounded far below this; the first is for all.
        u16::try_from(at).unwrap_or(0)
    }

    /// Clusters one by one where they are weighted, or where there are fewer or more records than endpoints, so that one
    /// answer would not be in proportion; else all that are equally close are one answer. Where some are new, the answer that
    /// has them too is given less often than the one without them.
    fn options(&mut self, spread: &Spread, candidates: &[Candidate<'_>]) -> SmallVec<[Choice; 2]> {
        let mut options = Vec::new();
        for tier in spread.tiers.iter().filter(|tier| !tier.shares.is_empty()) {
            let groups = tier.shares.iter().flat_map(|share| &share.chosen);
            let uneven = |at: &u32| {
                let Group { targets, .. } = &self.sets.groups[*at as usize];
                targets[0].ready as usize != targets.len()
            };
            let by_cluster = self.rules.is_weighted() || groups.into_iter().any(uneven);
            for shares in tier.shares.chunks(if by_cluster { 1 } else { tier.shares.len() }) {
                let chosen: Vec<u32> = shares.iter().flat_map(|share| share.chosen.iter().copied()).collect();
                let cluster = by_cluster.then(|| &shares[0].cluster);
                let of = stands_for(cluster, tier.of, Those::All);
                let part = shares.iter().map(|share| share.part).sum();
                let (warm, those) = match spread.heeds_health(tier) {
                    true => without_new(&chosen, part, candidates),
                    false => (Vec::new(), 0),
                };
                options.extend(self.sets.set(chosen).map(|set| Choice { set, part: part - those, of }));
                if those > 0 {
                    let of = stands_for(cluster, tier.of, Those::Warm);
                    options.extend(self.sets.set(warm).map(|set| Choice { set, part: those, of }));
                }
            }
        }
        // What is the same for clients of two places is one class.
        if let [only] = options.as_mut_slice() {
            only.of = 0;
        }
        SmallVec::from_slice(&options)
    }

    /// Classes of nodes that have endpoints, where nodes matter. Clients are where their Node is, whatever a slice says of the
    /// endpoints there.
    fn nodes(&mut self) -> Vec<(Key, u16)> {
        let order = self.rules.locality.as_ref().map(|locality| &locality.order);
        if !order.is_some_and(|order| order.contains(&Level::Node)) {
            return Vec::new();
        }
        let groups = self.sets.groups;
        let clusters = self.sets.scene.clusters;
        let nodes: BTreeSet<_> =
            groups.iter().map(|group| (&group.place.cluster, &group.place.node)).collect();
        let place = |(cluster, node): (&Option<ClusterId>, &Option<Arc<str>>)| {
            let spot = Spot { node: Some(node.clone()?), az: None };
            Some(clusters.place(cluster.as_ref()?, Some(&spot), None))
        };
        let places: Vec<Place> = nodes.into_iter().filter_map(place).collect();
        places.iter().map(|place| (Key::of_node(&place.at()), self.class(&place.at()))).collect()
    }
}

/// Which endpoints of a cluster or tier an answer has.
#[derive(Clone, Copy)]
enum Those {
    All = 0,
    /// All but those that are new.
    Warm = 1,
}

/// What a cluster in a tier, or all of the tier, is known by to clients that stay: a tier is the same tier whoever else comes
/// into it.
fn stands_for(cluster: Option<&ClusterId>, tier: Rank, those: Those) -> u64 {
    let Rank { last_resort, closeness, turn, band } = tier;
    // No cluster's id is empty.
    let cluster = cluster.map_or("", ClusterId::as_str);
    let rank = [u64::from(last_resort), closeness as u64, turn as u64, u64::from(band)];
    let numbers = rank.into_iter().chain([those as u64]);
    numbers.fold(Agreed::new(b"portolan options").text(cluster.as_bytes()), Agreed::number).finish()
}

/// Those of some that are not new, and how much of the part is for them alone, so that each of the new ones gets as much less
/// than the others as it is to: of n, w of each other's part, when the answer with all of them is given in wn / (n − new + w new)
/// of all cases.
fn without_new(chosen: &[u32], part: u32, candidates: &[Candidate<'_>]) -> (Vec<u32>, u32) {
    let warmth = |at: &u32| u64::from(candidates[*at as usize].warmth);
    let (warm, new): (Vec<u32>, Vec<u32>) = chosen.iter().partition(|at| warmth(at) >= 100);
    if warm.is_empty() || new.is_empty() {
        return (Vec::new(), 0);
    }
    let (old, new_ones) = (warm.len() as u64, new.len() as u64);
    let warmths: u64 = new.iter().map(warmth).sum();
    // In hundredths: warmths / new_ones is w, and all are old + new_ones.
    let (some, whole) = (warmths * (old + new_ones), new_ones * (old * 100 + warmths));
    let for_all = (u64::from(part) * some).div_ceil(whole);
    (warm, part.saturating_sub(for_all as u32))
}
