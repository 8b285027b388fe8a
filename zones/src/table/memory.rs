//! What is remembered of the services whose policies heed what was, and when each is to be looked at again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use foldhash::fast::RandomState;

use super::Table;
use crate::answers::{Target, candidates, groups, targets};
use crate::name::{ClusterId, ServiceName};
use crate::object::UnixTime;
use crate::places::Place;
use crate::policy::Rules;
use crate::policy::history::{History, Needs, Now, Remembered, Spot};
use crate::policy::spread::At;
use crate::service::{Member, Service};

/// So many seconds after the start all that can be read has been.
const PATIENCE: UnixTime = 60;

/// See the module.
#[derive(Default)]
pub(super) struct Memory {
    histories: HashMap<ServiceName, History, RandomState>,
    /// When which service is to be looked at.
    wakes: BTreeSet<(UnixTime, ServiceName)>,
    /// Services whose policies heed how long it takes to get to clusters, and from where on that matters.
    timed: BTreeMap<ServiceName, Duration>,
    /// Whether what comes is new: every expected cluster had been read before this snapshot, or there was time enough to.
    settled: bool,
    began: Option<UnixTime>,
}

impl Memory {
    /// Nothing of a service matters any more.
    fn forget(&mut self, name: &ServiceName) {
        if let Some(wake) = self.histories.remove(name).and_then(|history| history.wake) {
            self.wakes.remove(&(wake, name.clone()));
        }
        self.timed.remove(name);
    }
}

impl Table {
    /// Marks the services whose time has come, and those that are reached at other Nodes than before.
    pub(crate) fn touch_due(&mut self, now: UnixTime) {
        while self.memory.wakes.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, name)) = self.memory.wakes.pop_first() {
                self.touch(&name);
            }
        }
        for cluster in self.clusters.settle_entrances(now) {
            self.touch_words(|word| word.cluster == cluster && word.is_behind_nodes());
        }
    }

    /// Marks the services that may be answered otherwise where it takes another time to get to these clusters.
    pub(super) fn touch_timed(&mut self, moved: &BTreeSet<ClusterId>) {
        let Memory { timed, histories, .. } = &mut self.memory;
        let mut heeding = Vec::new();
        for (name, margin) in timed {
            let Some(history) = histories.get_mut(name) else { continue };
            let trip = |cluster| self.clusters.standings.of(cluster).and_then(|standing| standing.round_trip);
            // Each takes its own in, whether another one does or not.
            if moved.iter().filter(|cluster| history.heeds(cluster, trip(cluster), *margin)).count() > 0 {
                heeding.push(name.clone());
            }
        }
        for name in heeding {
            self.touch(&name);
        }
    }

    /// All that is known is in a snapshot. Once every expected cluster has been read what comes is new; a cluster that can't be
    /// reached is not waited for.
    pub(crate) fn end_remembering(&mut self, now: UnixTime) {
        let began = *self.memory.began.get_or_insert(now);
        self.memory.settled |= self.is_complete() || now - began >= PATIENCE;
    }

    /// A service is gone, and what was with it.
    pub(crate) fn forget_history(&mut self, name: &ServiceName) {
        self.memory.forget(name);
    }

    /// Takes in what there is of a service now, for rules that need it, and says what of what was matters. At first nothing counts
    /// as new: it was there before we were.
    pub(crate) fn remember(
        &mut self,
        service: &Service,
        rules: &Rules,
        needs: Needs,
        now: UnixTime,
    ) -> Option<Box<Remembered>> {
        let name = &service.name;
        if needs == Needs::default() {
            self.memory.forget(name);
            return None;
        }
        let unsettled = !self.memory.settled || !self.memory.histories.contains_key(name);
        let now = self.now(service, rules, now);
        let history = self.memory.histories.entry(name.clone()).or_default();
        let before = history.wake;
        let mut remembered = history.learn(&now, rules, needs, unsettled);
        if before != history.wake {
            before.map(|at| self.memory.wakes.remove(&(at, name.clone())));
        }
        // It was taken out if its time had come.
        self.memory.wakes.extend(history.wake.map(|at| (at, name.clone())));
        match rules.latency {
            Some(latency) => self.memory.timed.insert(name.clone(), latency.margin),
            None => self.memory.timed.remove(name),
        };
        remembered.home = self.clusters.home.clone();
        Some(Box::new(remembered))
    }

    fn now<'s>(&self, service: &'s Service, rules: &Rules, at: UnixTime) -> Now<'s> {
        let targets: Vec<_> = targets(service, rules.answer).collect();
        let place = |target: &Target<'_>| self.clusters.place(target.cluster, target.place, target.region);
        let groups = groups(&targets, place);
        let mut usable = BTreeSet::new();
        let mut there: BTreeMap<Spot, u32> = BTreeMap::new();
        for (group, candidate) in groups.iter().zip(candidates(service, &groups, &At::default(), None)) {
            if candidate.ready > 0 && candidate.healthy {
                usable.extend(group.targets.iter().map(|target| target.address));
            }
            let Place { region, az, .. } = group.place.clone();
            *there.entry((candidate.cluster.clone(), region, az)).or_default() += candidate.all;
        }
        let trip = |member: &'s Member| {
            let measured = self.clusters.standings.of(&member.cluster).and_then(|s| s.round_trip);
            let here = self.is_home(&member.cluster).then_some(Duration::ZERO);
            (&member.cluster, here.or(measured))
        };
        Now { at, usable, there, round_trips: service.members.iter().map(trip).collect() }
    }
}
