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
    /// Addresses that may be used, and since when; 0: always.
    usable: BTreeMap<IpAddr, UnixTime>,
    marks: BTreeMap<Spot, Mark>,
    bands: Option<Bands>,
    /// When it is to be looked at again.
    pub(crate) wake: Option<UnixTime>,
}

/// Where endpoints are counted: cluster, region and availability zone.
pub(crate) type Spot = (ClusterId, Option<Arc<str>>, Option<Arc<str>>);

/// Clusters by how close they are.
#[derive(Default)]
struct Bands {
    hold: BTreeMap<ClusterId, u8>,
    /// Those of which it is known, or was, how far away they are.
    known: BTreeSet<ClusterId>,
    /// What holds soon, if it lasts; and since when.
    next: Option<(BTreeMap<ClusterId, u8>, UnixTime)>,
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
    /// Clusters by how close they are, and how long it takes to get there, where that matters.
    pub bands: Box<[(ClusterId, u8, Option<Duration>)]>,
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
        self.bands.iter().find(|(id, ..)| id == cluster).map_or(0, |(_, band, _)| *band)
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
    pub(crate) latency: bool,
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
            None => self.usable.clear(),
        }
        match needs.gone {
            true => remembered.gone = self.gone(now, unsettled),
            false => self.marks.clear(),
        }
        match rules.latency {
            Some(latency) => remembered.bands = self.bands(now, latency, unsettled),
            None => self.bands = None,
        }
        remembered
    }

    fn warming(&mut self, now: &Now<'_>, window: UnixTime, first: bool) -> Box<[(IpAddr, u8)]> {
        let first = first || self.usable.is_empty();
        self.usable.retain(|address, _| now.usable.contains(address));
        let mut warming = Vec::new();
        for address in &now.usable {
            let since = self.usable.entry(*address).or_insert(if first { 0 } else { now.at });
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

    fn bands(
        &mut self,
        now: &Now<'_>,
        latency: Latency,
        unsettled: bool,
    ) -> Box<[(ClusterId, u8, Option<Duration>)]> {
        let wanted = bands_of(&now.round_trips, latency.margin);
        let known = |(cluster, trip): (&&ClusterId, &Option<Duration>)| trip.map(|_| (*cluster).clone());
        let known: BTreeSet<ClusterId> = now.round_trips.iter().filter_map(known).collect();
        let bands = self.bands.get_or_insert_default();
        // Who is new, or was nowhere yet, has its place at once; who left takes no place.
        bands.hold.retain(|cluster, _| wanted.contains_key(cluster));
        let is_new = !known.is_subset(&bands.known) || wanted.keys().any(|id| !bands.hold.contains_key(id));
        bands.known.extend(known);
        close_up(&mut bands.hold);
        if is_new || unsettled || bands.hold == wanted {
            (bands.hold, bands.next) = (wanted, None);
        } else {
            let since = match &bands.next {
                Some((next, since)) if *next == wanted => (*since).min(now.at),
                _ => now.at,
            };
            let due = since + UnixTime::from(latency.hold_down);
            if due <= now.at {
                (bands.hold, bands.next) = (wanted, None);
            } else {
                bands.next = Some((wanted, since));
                self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
            }
        }
        let hold = bands.hold.iter();
        hold.map(|(id, band)| (id.clone(), *band, now.round_trips.get(id).copied().flatten())).collect()
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
fn bands_of(
    round_trips: &BTreeMap<&ClusterId, Option<Duration>>,
    margin: Duration,
) -> BTreeMap<ClusterId, u8> {
    let mut known: Vec<(Duration, &ClusterId)> =
        round_trips.iter().filter_map(|(cluster, rtt)| Some((*(rtt.as_ref()?), *cluster))).collect();
    known.sort();
    let mut bands: BTreeMap<ClusterId, u8> =
        round_trips.keys().map(|cluster| ((*cluster).clone(), 0)).collect();
    let (mut band, mut first) = (0_u8, None);
    for (rtt, cluster) in known {
        let start = *first.get_or_insert(rtt);
        if rtt > start + margin {
            band = band.saturating_add(1);
            first = Some(rtt);
        }
        bands.insert(cluster.clone(), band);
    }
    bands
}

/// Numbers bands without gaps.
fn close_up(bands: &mut BTreeMap<ClusterId, u8>) {
    let used: Vec<u8> = bands.values().copied().collect::<BTreeSet<_>>().into_iter().collect();
    for band in bands.values_mut() {
        *band = used.binary_search(band).map_or(*band, |at| at as u8);
    }
}
