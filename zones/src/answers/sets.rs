//! Parts of a service's records: those of some of its endpoints, in an order that serves clients who take a few.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::RandomState;

use super::{Group, MESSAGE_BUDGET, Scene, Target, octets, rank};
use crate::name::MAX_NAME;
use crate::service::{Answers, PortRecords, RecordSet, Service, SrvSet};

/// Record sets, each once.
pub(super) struct Sets<'a, 's> {
    pub(super) groups: &'a [Group<'a, 's>],
    answers: &'a Answers,
    pub(super) scene: &'a Scene<'a>,
    pub(super) service: &'a Service,
    known: HashMap<Vec<u32>, u16, RandomState>,
    pub(super) sets: Vec<RecordSet>,
}

impl<'a, 's> Sets<'a, 's> {
    /// None yet; `answers` tell of all that is ready.
    pub(super) fn new(
        groups: &'a [Group<'a, 's>],
        answers: &'a Answers,
        service: &'a Service,
        scene: &'a Scene<'a>,
    ) -> Self {
        Self { groups, answers, scene, service, known: HashMap::default(), sets: Vec::new() }
    }

    /// The position of the set of these targets. `None`: there is no room for more sets.
    pub(super) fn set(&mut self, mut chosen: Vec<u32>) -> Option<u16> {
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
