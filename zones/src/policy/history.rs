//! What was, as far as it matters now: endpoints that are new, endpoints that are gone, and which clusters were close.
//!
//! Answers follow from it and from the time, which is an argument; so that they follow the time as well, a service says when it
//! is to be looked at again. A restart begins anew: all that is there is as if it had always been.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Latency, Rules, Spill};
use crate::name::ClusterId;
use crate::object::UnixTime;
use crate::places::Place;
use crate::policy::spread::At;

/// In so many seconds half of what is gone is forgotten.
const HALF_LIFE: f64 = 300.0;
/// What is being forgotten is looked at again when there is only this part of it.
const FORGETS: f64 = 0.95;
/// More endpoints than before are a rollout's, which come before the old ones go, unless they stay for longer.
const LASTS: UnixTime = 60;
/// What a new endpoint takes of its share at first, and by how much that grows, in per cent.
const STEP: u8 = 10;

/// What is remembered of a service.
#[derive(Default)]
pub(crate) struct History {
    /// Addresses that may be used, and since when; 0: always. `None`: it did not matter yet.
    usable: Option<BTreeMap<IpAddr, UnixTime>>,
    marks: BTreeMap<Spot, Mark>,
    /// How far away clusters are, as far as that counts.
    trips: BTreeMap<ClusterId, Trip>,
    /// When it is to be looked at again.
    pub(crate) wake: Option<UnixTime>,
}

/// Where endpoints are counted: cluster, region and availability zone.
pub(crate) type Spot = (ClusterId, Option<Arc<str>>, Option<Arc<str>>);

/// How far away a cluster is.
#[derive(Default)]
struct Trip {
    /// As it counts; `None`: not known yet.
    counts: Option<Duration>,
    /// Since when what is measured would put it into another band.
    since: Option<UnixTime>,
}

/// What there is of a service, for its history.
pub(crate) struct Now<'s> {
    pub(crate) at: UnixTime,
    /// Addresses that may be used.
    pub(crate) usable: BTreeSet<IpAddr>,
    /// Endpoints by place.
    pub(crate) there: BTreeMap<Spot, u32>,
    /// Clusters behind it, and how long it takes to get there.
    pub(crate) round_trips: BTreeMap<&'s ClusterId, Option<Duration>>,
}

/// What a service's answers depend on beside what there is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Remembered {
    /// Addresses that are new, and how much of their share they take, in per cent.
    pub warming: Box<[(IpAddr, u8)]>,
    /// Where endpoints are gone, and how many.
    pub gone: Box<[(Place, u32)]>,
    /// Clusters by how close they are, where that matters; 0 is the closest.
    pub bands: Box<[(ClusterId, u8)]>,
    /// For whose clients that is so.
    pub home: Option<ClusterId>,
}

impl Remembered {
    /// What an address takes of its share, in per cent.
    pub fn warmth(&self, address: IpAddr) -> u8 {
        let at = self.warming.binary_search_by_key(&address, |(address, _)| *address);
        at.map_or(100, |at| self.warming[at].1)
    }

    /// Whether how close clusters are counts for clients at a place: how far it is from home says nothing of how far it is from
    /// anywhere else.
    pub(crate) fn is_for(&self, client: &At<'_>) -> bool {
        client.cluster.is_none() || client.cluster == self.home.as_ref()
    }

    /// How close a cluster is.
    pub fn band(&self, cluster: &ClusterId) -> u8 {
        self.bands.iter().find(|(id, _)| id == cluster).map_or(0, |(_, band)| *band)
    }
}

/// What of it some rules need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Needs {
    /// Which endpoints are new.
    slow_start: bool,
    /// How many are gone: where others take what a place can't bear.
    gone: bool,
    /// Which clusters are close.
    latency: bool,
}

impl Needs {
    /// Of these.
    pub(crate) fn of(rules: &Rules) -> Self {
        let prefers = rules.locality.as_ref().is_some_and(|locality| !locality.order.is_empty());
        let chooses = prefers || rules.is_weighted() || !rules.failover.is_empty() || rules.latency.is_some();
        Self {
            slow_start: rules.slow_start.is_some(),
            gone: chooses && matches!(rules.spill, Spill::Graded(_)),
            latency: rules.latency.is_some(),
        }
    }

    /// Of both.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            slow_start: self.slow_start || other.slow_start,
            gone: self.gone || other.gone,
            latency: self.latency || other.latency,
        }
    }
}

impl History {
    /// Takes in what there is now, and says what follows; `unsettled`: what is
    /// new to us may have been there before.
    pub(crate) fn learn(
        &mut self,
        now: &Now<'_>,
        rules: &Rules,
        needs: Needs,
        unsettled: bool,
    ) -> Remembered {
        self.wake = None;
        let mut remembered = Remembered::default();
        match rules.slow_start {
            Some(window) => remembered.warming = self.warming(now, window.get().into(), unsettled),
            None => self.usable = None,
        }
        match needs.gone {
            true => remembered.gone = self.gone(now, unsettled),
            false => self.marks.clear(),
        }
        match rules.latency {
            Some(latency) => remembered.bands = self.bands(now, latency, unsettled),
            None => self.trips.clear(),
        }
        remembered
    }

    fn warming(&mut self, now: &Now<'_>, window: UnixTime, first: bool) -> Box<[(IpAddr, u8)]> {
        let first = first || self.usable.is_none();
        let known = self.usable.get_or_insert_default();
        known.retain(|address, _| now.usable.contains(address));
        let mut warming = Vec::new();
        for address in &now.usable {
            let since = known.entry(*address).or_insert(if first { 0 } else { now.at });
            if *since == 0 {
                continue;
            }
            // A clock that went back makes nobody wait for longer than what was said.
            *since = (*since).min(now.at);
            let age = now.at - *since;
            if age >= window {
                *since = 0;
                continue;
            }
            let whole = UnixTime::from(100 / STEP);
            let steps = age * whole / window;
            let next = *since + ((steps + 1) * window + whole - 1) / whole;
            warming.push((*address, (steps as u8 * STEP).max(STEP)));
            self.wake = Some(self.wake.map_or(next, |wake| wake.min(next)));
        }
        warming.into()
    }

    /// Where fewer endpoints are than were lately. What only moved within its cluster is not gone; of clusters that are no
    /// longer behind the service nothing is.
    fn gone(&mut self, now: &Now<'_>, unsettled: bool) -> Box<[(Place, u32)]> {
        self.marks.retain(|(cluster, ..), _| now.round_trips.contains_key(cluster));
        let mut there = now.there.clone();
        for ((cluster, ..), count) in &now.there {
            *there.entry(whole(cluster)).or_default() += count;
        }
        self.marks.retain(|spot, mark| there.contains_key(spot) || mark.missing() > 0);
        let vanished: Vec<Spot> =
            self.marks.keys().filter(|spot| !there.contains_key(*spot)).cloned().collect();
        there.extend(vanished.into_iter().map(|spot| (spot, 0)));
        for (spot, count) in &there {
            let mark = self.marks.entry(spot.clone()).or_insert_with(|| Mark::new(*count, now.at));
            let due = mark.see(*count, now.at, unsettled);
            self.wake = self.wake.into_iter().chain(due).min();
        }
        let missing = |spot: &Spot| self.marks.get(spot).map_or(0, Mark::missing);
        let mut left: BTreeMap<&ClusterId, u32> = BTreeMap::new();
        let mut gone = Vec::new();
        for spot @ (cluster, region, az) in self.marks.keys().filter(|spot| **spot != whole(&spot.0)) {
            let left = left.entry(cluster).or_insert_with(|| missing(&whole(cluster)));
            let count = missing(spot).min(*left);
            *left -= count;
            if count > 0 {
                let (region, az) = (region.clone(), az.clone());
                gone.push((Place { cluster: Some(cluster.clone()), region, az, node: None }, count));
            }
        }
        gone.into()
    }

    /// A cluster comes into another band when what is measured has put it there for so long, without a break, whatever others do.
    /// Who is new, or was nowhere yet, has its place at once.
    fn bands(&mut self, now: &Now<'_>, latency: Latency, unsettled: bool) -> Box<[(ClusterId, u8)]> {
        self.trips.retain(|cluster, _| now.round_trips.contains_key(cluster));
        for (cluster, measured) in &now.round_trips {
            let before = self.trips.entry((*cluster).clone()).or_default();
            if before.counts.is_none() || unsettled {
                *before = Trip { counts: measured.or(before.counts), since: None };
            }
        }
        for (cluster, measured) in &now.round_trips {
            let moves = self.moves(cluster, *measured, latency.margin);
            let Some(trip) = self.trips.get_mut(*cluster) else { continue };
            let since = moves.then(|| trip.since.unwrap_or(now.at).min(now.at));
            let due = since.map(|since| since + UnixTime::from(latency.hold_down));
            *trip = match due {
                Some(due) if due > now.at => {
                    self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
                    Trip { since, ..*trip }
                }
                _ => Trip { counts: measured.or(trip.counts), since: None },
            };
        }
        bands_of(self.counting(), latency.margin).into_iter().map(|(id, band)| (id.clone(), band)).collect()
    }

    /// Whether what is measured now would put a cluster into another band.
    fn moves(&self, cluster: &ClusterId, measured: Option<Duration>, margin: Duration) -> bool {
        let would =
            self.counting().map(|(id, trip)| (id, if id == cluster { measured.or(trip) } else { trip }));
        bands_of(would, margin) != bands_of(self.counting(), margin)
    }

    fn counting(&self) -> impl Iterator<Item = (&ClusterId, Option<Duration>)> {
        self.trips.iter().map(|(id, trip)| (id, trip.counts))
    }

    /// Takes in how far away a cluster is now, if no answer depends on it; whether one may.
    pub(crate) fn heeds(
        &mut self,
        cluster: &ClusterId,
        measured: Option<Duration>,
        margin: Duration,
    ) -> bool {
        let Some(Trip { counts, since }) = self.trips.get(cluster) else { return false };
        if counts.is_none() && measured.is_some() || since.is_some() || self.moves(cluster, measured, margin)
        {
            return true;
        }
        if let Some(trip) = self.trips.get_mut(cluster) {
            trip.counts = measured.or(trip.counts);
        }
        false
    }
}

/// A cluster as a whole: no availability zone has this name.
fn whole(cluster: &ClusterId) -> Spot {
    (cluster.clone(), None, Some(Arc::from("")))
}

/// How many endpoints a spot has, and how many it had besides until lately: half of these are forgotten in every half-life.
struct Mark {
    /// Those that are there, without what came so lately that it may be a rollout's.
    base: u32,
    gone: f64,
    at: UnixTime,
    /// The fewest of a time in which there were more than `base`, and since when.
    more: Option<(u32, UnixTime)>,
}

impl Mark {
    fn new(base: u32, at: UnixTime) -> Self {
        Self { base, gone: 0.0, at, more: None }
    }

    fn missing(&self) -> u32 {
        self.gone.round() as u32
    }

    /// There are so many; when to look again, if time alone changes anything.
    fn see(&mut self, count: u32, at: UnixTime, unsettled: bool) -> Option<UnixTime> {
        if unsettled {
            *self = Self::new(count, at);
            return None;
        }
        let age = (at - self.at).max(0) as f64;
        (self.gone, self.at) = (self.gone * (-age / HALF_LIFE).exp2(), at);
        if count < self.base {
            self.gone += f64::from(self.base - count);
            self.base = count;
        }
        // Who comes replaces who is gone.
        let back = (count - self.base).min(self.missing());
        self.base += back;
        self.gone = (self.gone - f64::from(back)).max(0.0);
        self.more = (count > self.base)
            .then(|| self.more.map_or((count, at), |(fewest, since)| (fewest.min(count), since.min(at))));
        if let Some((fewest, since)) = self.more
            && at - since >= LASTS
        {
            self.base = fewest;
            self.more = (count > fewest).then_some((count, at));
        }
        let grown = self.more.map(|(_, since)| since + LASTS);
        grown.into_iter().chain(self.forgets()).min()
    }

    /// When so much of what is gone is forgotten that it shows.
    fn forgets(&self) -> Option<UnixTime> {
        let missing = self.missing();
        let fewer = self.gone.min((f64::from(missing) - 0.5) * FORGETS);
        let wait = HALF_LIFE * (self.gone / fewer.max(f64::MIN_POSITIVE)).log2();
        (missing > 0).then(|| self.at + (wait.ceil() as UnixTime).max(1))
    }
}

/// The closest cluster, with all that are by no more than the margin farther away, comes first; of the others the same, and so
/// on. Nobody is put last because it is not known how far away it is.
fn bands_of<'c>(
    trips: impl Iterator<Item = (&'c ClusterId, Option<Duration>)>,
    margin: Duration,
) -> BTreeMap<&'c ClusterId, u8> {
    let mut sorted: Vec<(Option<Duration>, &ClusterId)> = trips.map(|(id, trip)| (trip, id)).collect();
    sorted.sort();
    let (mut band, mut first) = (0_u8, None);
    let place = |(trip, cluster): (Option<Duration>, _)| {
        if let Some(trip) = trip {
            let start = *first.get_or_insert(trip);
            if trip > start + margin {
                band = band.saturating_add(1);
                first = Some(trip);
            }
        }
        (cluster, band)
    };
    sorted.into_iter().map(place).collect()
}
