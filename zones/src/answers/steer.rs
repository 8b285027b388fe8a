//! Answers that depend on who asks: one class for each area that clients are in, compiled from the policy's choice there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;

use foldhash::fast::{FixedState, RandomState};

use super::{MESSAGE_BUDGET, Scene, Target, octets, rank};
use crate::choices::{Choice, Choices, Class};
use crate::name::MAX_NAME;
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
        areas: Box::default(),
        nodes: Box::default(),
        classes: [Class { options: [one].into(), draw: None }].into(),
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
    let place = |target: &Target<'_>| scene.clusters.place(target.cluster, target.place, target.region);
    let places: Vec<Place> = targets.iter().map(place).collect();
    let candidates: Vec<Candidate<'_>> =
        targets.iter().zip(&places).map(|(target, place)| target.candidate(place, service)).collect();
    let mut compiler = Compiler {
        sets: Sets { targets, answers, scene, service, known: HashMap::default(), sets: Vec::new() },
        rules,
        candidates: &candidates,
        classes: Vec::new(),
    };
    compiler.class(&At::default());
    let areas = scene.areas.iter().map(|(key, area)| (*key, compiler.class(&area.at()))).collect();
    let nodes = compiler.nodes(&places);
    let Compiler { classes, sets, .. } = compiler;
    let listed = |mut list: Vec<(Key, u16)>| -> Box<[(Key, u16)]> {
        list.sort();
        list.into()
    };
    Choices {
        ttl: rules.ttl,
        most: rules.max_records,
        sticky: rules.sticky,
        areas: listed(areas),
        nodes: listed(nodes),
        classes: classes.into(),
        sets: sets.sets.into(),
    }
}

struct Compiler<'a, 's> {
    sets: Sets<'a, 's>,
    rules: &'a Rules,
    candidates: &'a [Candidate<'a>],
    classes: Vec<Class>,
}

impl Compiler<'_, '_> {
    /// The class of clients at a place.
    fn class(&mut self, client: &At<'_>) -> u16 {
        let spread = spread(self.candidates, self.rules, client);
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

    /// Clusters one by one where they are weighted; else all that are equally close are one answer.
    fn options(&mut self, spread: &Spread) -> Box<[Choice]> {
        let mut options = Vec::new();
        for tier in spread.tiers.iter().filter(|tier| !tier.shares.is_empty()) {
            let by_cluster = !self.rules.weights.is_empty();
            for shares in tier.shares.chunks(if by_cluster { 1 } else { tier.shares.len() }) {
                let chosen: Vec<u32> = shares.iter().flat_map(|share| share.chosen.iter().copied()).collect();
                let clusters: Vec<&str> = shares.iter().map(|share| share.cluster.as_str()).collect();
                let of = FixedState::default().hash_one((clusters, tier.of));
                let part = shares.iter().map(|share| share.part).sum();
                options.extend(self.sets.set(chosen).map(|set| Choice { set, part, of }));
            }
        }
        options.into()
    }

    /// Classes of nodes that have endpoints, where nodes matter.
    fn nodes(&mut self, places: &[Place]) -> Vec<(Key, u16)> {
        let order = self.rules.locality.as_ref().map(|locality| &locality.order);
        if !order.is_some_and(|order| order.contains(&Level::Node)) {
            return Vec::new();
        }
        let with_node: BTreeSet<At<'_>> =
            places.iter().filter(|place| place.node.is_some()).map(Place::at).collect();
        with_node.into_iter().map(|at| (Key::of(&at), self.class(&at))).collect()
    }
}

/// Record sets, each once.
struct Sets<'a, 's> {
    targets: &'a [Target<'s>],
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

    /// The records of some targets, in an order in which any few neighbours are spread over what may fail together.
    fn records(&self, chosen: &[u32]) -> RecordSet {
        let mut domains: BTreeMap<_, Vec<&Target<'_>>> = BTreeMap::new();
        for target in chosen.iter().map(|at| &self.targets[*at as usize]) {
            let az = target.place.and_then(|place| place.az.as_deref());
            domains.entry((target.cluster, az)).or_default().push(target);
        }
        let mut ordered: Vec<(usize, &Target<'_>)> = Vec::with_capacity(chosen.len());
        for domain in domains.values_mut() {
            domain.sort_by_key(|target| (rank(target), target.address));
            ordered.extend(domain.iter().copied().enumerate());
        }
        ordered.sort_by_key(|(turn, target)| (*turn, rank(target), target.address));
        let ordered: Vec<&Target<'_>> = ordered.into_iter().map(|(_, target)| target).collect();
        self.narrowed(&self.within_limits(ordered))
    }

    /// As many as one answer may hold.
    fn within_limits<'t, 's>(&self, mut targets: Vec<&'t Target<'s>>) -> Vec<&'t Target<'s>> {
        let fixed = self.service.name.wire().len() + 4 + self.scene.limits.origin;
        let fixed = fixed.min(MAX_NAME);
        let mut spent = 0;
        let fit = targets.iter().take_while(|target| {
            spent += octets(target, fixed);
            spent <= MESSAGE_BUDGET
        });
        let fit = fit.count();
        targets.truncate(fit.min(self.scene.limits.endpoints));
        targets
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
