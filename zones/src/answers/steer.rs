//! Answers that depend on who asks: one class for each area that clients are in, compiled from the policy's choice there.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::{FixedState, RandomState};

use super::{Group, MESSAGE_BUDGET, Scene, Target, groups, octets, rank};
use crate::choices::{Choice, Choices, Class, Classes};
use crate::name::{ClusterId, MAX_NAME};
use crate::object::{IpFamily, Place as Spot};
use crate::places::{Key, Place};
use crate::policy::draw::Draw;
use crate::policy::spread::{At, Candidate, Spread, WHOLE, spread};
use crate::policy::{Level, Rules};
use crate::service::{Answers, PortRecords, RecordSet, Service, SrvSet};

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
            classes: [Class { options: [one].into(), draw: None }].into(),
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
    let candidates: Vec<Candidate<'_>> = groups.iter().map(|group| group.candidate(service)).collect();
    let sets = Sets { groups: &groups, answers, scene, service, known: HashMap::default(), sets: Vec::new() };
    let mut compiler = Compiler { sets, rules, candidates: candidates.clone(), classes: Vec::new() };
    let all = compiler.compile();
    let both = !answers.own.v4.is_empty() && !answers.own.v6.is_empty();
    let by_family = both.then(|| {
        let family = |family: IpFamily| {
            let has =
                |group: &Group<'_, '_>| group.targets.iter().any(|t| IpFamily::from(t.address) == family);
            // What has no address of the family is not there.
            let only = groups.iter().zip(&candidates).map(|(group, candidate)| match has(group) {
                true => *candidate,
                false => Candidate { all: 0, ready: 0, ..*candidate },
            });
            compiler.candidates = only.collect();
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
    candidates: Vec<Candidate<'a>>,
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
        let areas = self.sets.scene.areas;
        let areas = areas.iter().map(|(key, area)| (*key, self.class(&area.at()))).collect();
        let nodes = self.nodes();
        let classes = std::mem::take(&mut self.classes).into();
        Classes { areas: listed(areas), nodes: listed(nodes), classes }
    }

    /// The class of clients at a place.
    fn class(&mut self, client: &At<'_>) -> u16 {
        let spread = spread(&self.candidates, self.rules, client);
        let options = self.options(&spread);
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
    /// answer would not be in proportion; else all that are equally close are one answer.
    fn options(&mut self, spread: &Spread) -> Box<[Choice]> {
        let mut options = Vec::new();
        for tier in spread.tiers.iter().filter(|tier| !tier.shares.is_empty()) {
            let groups = tier.shares.iter().flat_map(|share| &share.chosen);
            let uneven = |at: &u32| {
                let Group { targets, .. } = &self.sets.groups[*at as usize];
                targets[0].ready as usize != targets.len()
            };
            let by_cluster = !self.rules.weights.is_empty() || groups.into_iter().any(uneven);
            for shares in tier.shares.chunks(if by_cluster { 1 } else { tier.shares.len() }) {
                let chosen: Vec<u32> = shares.iter().flat_map(|share| share.chosen.iter().copied()).collect();
                // A tier is the same tier whoever else comes into it.
                let cluster = by_cluster.then(|| shares[0].cluster.as_str());
                let of = FixedState::default().hash_one((cluster, tier.of));
                let part = shares.iter().map(|share| share.part).sum();
                options.extend(self.sets.set(chosen).map(|set| Choice { set, part, of }));
            }
        }
        // What is the same for clients of two places is one class.
        if let [only] = options.as_mut_slice() {
            only.of = 0;
        }
        options.into()
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

/// Record sets, each once.
struct Sets<'a, 's> {
    groups: &'a [Group<'a, 's>],
    answers: &'a Answers,
    scene: &'a Scene<'a>,
    service: &'a Service,
    known: HashMap<Vec<u32>, u16, RandomState>,
    sets: Vec<RecordSet>,
}

impl Sets<'_, '_> {
    /// The position of the set of these targets. `None`: there is no room for more sets.
    fn set(&mut self, mut chosen: Vec<u32>) -> Option<u16> {
        chosen.sort_unstable();
        if let Some(at) = self.known.get(&chosen) {
            return Some(*at);
        }
        let at = u16::try_from(self.sets.len()).ok()?;
        let set = self.records(&chosen);
        self.sets.push(set);
        self.known.insert(chosen, at);
        Some(at)
    }

    /// The records of some groups, in an order in which any few neighbours are spread over what may fail together; as many as
    /// one answer may hold, of whole pods, so that A, AAAA and SRV tell of the same ones (KEP-1645 DNS §2.4.1).
    fn records(&self, chosen: &[u32]) -> RecordSet {
        let mut domains: BTreeMap<_, Vec<&Target<'_>>> = BTreeMap::new();
        for group in chosen.iter().map(|at| &self.groups[*at as usize]) {
            let domain = domains.entry((&group.place.cluster, &group.place.az)).or_default();
            domain.extend(group.answered(self.service));
        }
        for domain in domains.values_mut() {
            domain.sort_by_key(|target| (rank(target), target.address));
        }
        let pods = domains.values().map(|domain| domain.chunk_by(|a, b| rank(a) == rank(b)).collect());
        let fixed = (self.service.name.wire().len() + 4 + self.scene.limits.origin).min(MAX_NAME);
        let mut spent = 0;
        let fit = in_turns(pods.collect()).take(self.scene.limits.endpoints).take_while(|pod| {
            spent += pod.iter().map(|target| octets(target, fixed)).sum::<usize>();
            spent <= MESSAGE_BUDGET
        });
        let targets: Vec<&Target<'_>> = fit.flatten().copied().collect();
        self.narrowed(&targets)
    }

    /// Of all records those of some targets, in their order.
    fn narrowed(&self, targets: &[&Target<'_>]) -> RecordSet {
        let own = &self.answers.own;
        let mut turns: Vec<Option<usize>> = vec![None; self.answers.hosts.len()];
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let mut seen: BTreeSet<std::net::IpAddr> = BTreeSet::new();
        for (turn, target) in targets.iter().enumerate() {
            if let Ok(host) = self.answers.hosts.binary_search_by(|host| host.labels.cmp(&target.labels)) {
                turns[host].get_or_insert(turn);
            }
            match target.address {
                address if !seen.insert(address) => {}
                std::net::IpAddr::V4(address) => v4.push(address),
                std::net::IpAddr::V6(address) => v6.push(address),
            }
        }
        let turn = |host: Option<u32>| host.and_then(|host| turns.get(host as usize).copied().flatten());
        let narrowed = |set: &SrvSet| {
            let mut targets: Vec<_> =
                set.targets.iter().filter(|t| turn(t.host).is_some()).copied().collect();
            targets.sort_by_key(|target| (turn(target.host), *target));
            SrvSet { weight: (100 / targets.len().max(1)).max(1) as u16, targets: targets.into() }
        };
        let ports = own
            .ports
            .iter()
            .map(|port| PortRecords { labels: port.labels.clone(), srv: narrowed(&port.srv) });
        RecordSet { v4: v4.into(), v6: v6.into(), srv: narrowed(&own.srv), ports: ports.collect() }
    }
}

/// All items, those of one list as far from each other as can be: each time one of the longest list but the one before, of
/// equally long ones of that which has waited longest.
fn in_turns<T: Copy>(lists: Vec<Vec<T>>) -> impl Iterator<Item = T> {
    // The items that are left, and when the last one was taken.
    let mut lists: Vec<_> = lists.into_iter().map(|list| (list.into_iter(), 0)).collect();
    (2..).map_while(move |turn: usize| {
        let rested = lists.iter_mut().filter(|(list, _)| list.len() > 0);
        // `max_by_key` takes the last one of equals.
        let next = rested.rev().max_by_key(|(list, last)| (last + 1 < turn, list.len(), Reverse(*last)));
        let (list, last) = next?;
        *last = turn;
        list.next()
    })
}
