//! The engine: candidates, rules and a place in; tiers and shares out, with the reason of each step.
//!
//! Endpoints fall into tiers by how close they are, then by whom to turn to, then by how long it takes to get there;
//! clusters of weight 0, and what is drained, are the last resort. The
//! first tier keeps its whole share while enough of it is healthy; what it can't bear goes to the next one, as much as
//! that can bear, and so on; the last resort only when nobody else has anything healthy. Within a tier clusters share by weight, or where no weights are given by their endpoints.
//! Shares are parts of [`WHOLE`], in integers, so that every replica computes the same ones.

use std::collections::{BTreeMap, BTreeSet};

use super::{AllDown, Level, Locality, Preference, Rules, Spill};
use crate::name::ClusterId;

/// All of a service's clients.
pub const WHOLE: u32 = 1_000_000;

/// Where a client or an endpoint is, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct At<'s> {
    /// In which cluster.
    pub cluster: Option<&'s ClusterId>,
    /// `topology.kubernetes.io/region`.
    pub region: Option<&'s str>,
    /// `topology.kubernetes.io/zone`.
    pub az: Option<&'s str>,
    /// On which node of the cluster.
    pub node: Option<&'s str>,
}

impl At<'_> {
    /// Whether both are in one place of this size. What is not known is nowhere. Zones of one name are one zone unless their
    /// regions differ; nodes of one name are one node only in one cluster.
    pub fn is_with(&self, other: &At<'_>, level: Level) -> bool {
        let same = |a: Option<&str>, b: Option<&str>| a.is_some() && a == b;
        let differ = |a: Option<&str>, b: Option<&str>| a.is_some() && b.is_some() && a != b;
        match level {
            Level::Node => self.is_with(other, Level::Cluster) && same(self.node, other.node),
            Level::Zone => same(self.az, other.az) && !differ(self.region, other.region),
            Level::Region => same(self.region, other.region),
            Level::Cluster => self.cluster.is_some() && self.cluster == other.cluster,
        }
    }
}

/// An endpoint that may be chosen: one that can be reached and is not about to end. Or some that are gone, of which a place
/// has the fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate<'s> {
    /// The cluster that exports it.
    pub cluster: &'s ClusterId,
    /// Where it runs.
    pub at: At<'s>,
    /// How many endpoints it stands for: one, or those behind a gateway.
    pub all: u32,
    /// How many of them are ready, as their cluster says: without one it is never chosen.
    pub ready: u32,
    /// Whether it seems so from here.
    pub healthy: bool,
    /// How much of its share it takes, in per cent: less than all after it came, or recovered.
    pub warmth: u8,
    /// Whether it gets clients only when no others are left, whatever its cluster's weight is.
    pub drained: bool,
    /// Which of the groups that clusters fall into by the time that it takes to get there; 0 is the closest.
    pub band: u8,
    /// Whether these were there lately, and are gone: they bear nothing.
    pub gone: bool,
}

impl<'s> Candidate<'s> {
    /// One that is healthy, and whose share is all its own.
    pub fn new(cluster: &'s ClusterId, at: At<'s>, all: u32, ready: u32) -> Self {
        Self { cluster, at, all, ready, healthy: true, warmth: 100, drained: false, band: 0, gone: false }
    }

    /// What of it may be used, in hundredths of an endpoint. Where health is not heeded those that recovered are no worse than
    /// those that fail.
    pub(crate) fn bears(&self, heeds_health: bool) -> u64 {
        u64::from(self.ready) * if heeds_health { u64::from(self.warmth) } else { 100 }
    }
}

/// Who is chosen, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spread {
    /// The closest first, with those that get nothing.
    pub tiers: Vec<Tier>,
    /// Candidates, by position, that are too far away to be used at all.
    pub pinned_out: Vec<u32>,
    /// Whether nothing is healthy, and health is therefore ignored.
    pub blind: bool,
}

/// Endpoints that are equally close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// What they have in common.
    pub of: Rank,
    /// The tier's part of the [`WHOLE`].
    pub load: u32,
    /// How many endpoints it has, ready or not.
    pub all: u32,
    /// How many are ready.
    pub ready: u32,
    /// How many are ready and healthy.
    pub healthy: u32,
    /// What these bear, in hundredths of an endpoint: less than all of it while they are new.
    pub bears: u64,
    /// How many of `all` were there lately and are gone.
    pub gone: u32,
    /// Whether so few are healthy that health is ignored.
    pub panics: bool,
    /// Its clusters, by id, without those that get nothing.
    pub shares: Vec<Share>,
}

/// What a cluster gets in a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its part of the [`WHOLE`].
    pub part: u32,
    /// Which candidates, by position.
    pub chosen: Vec<u32>,
}

/// What puts an endpoint into its tier: the less the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// Whether its cluster has weight 0.
    pub last_resort: bool,
    /// Position in [`Locality::order`]; its length for what is not close.
    pub closeness: usize,
    /// Position among [`Rules::failover`]; its length for whoever is not named.
    pub turn: usize,
    /// See [`Candidate::band`].
    pub band: u8,
}

/// Spreads the clients of one place over the candidates.
pub fn spread(candidates: &[Candidate<'_>], rules: &Rules, client: &At<'_>) -> Spread {
    let alike = Locality::default();
    let locality = rules.locality.as_ref().unwrap_or(&alike);
    let mut ranked: BTreeMap<Rank, Vec<u32>> = BTreeMap::new();
    let mut pinned_out = Vec::new();
    for (at, candidate) in (0..).zip(candidates) {
        match rank(candidate, rules, locality, client) {
            Some(rank) => ranked.entry(rank).or_default().push(at),
            None => pinned_out.push(at),
        }
    }
    let count = |members: &[u32], of: fn(&Candidate<'_>) -> u32| {
        members.iter().map(|at| of(&candidates[*at as usize])).sum::<u32>()
    };
    let healthy = |members: &[u32]| -> u64 {
        let healthy = members.iter().map(|at| &candidates[*at as usize]).filter(|c| c.healthy);
        healthy.map(|candidate| candidate.bears(true)).sum()
    };
    let mut tiers: Vec<(Tier, Vec<u32>)> = ranked
        .into_iter()
        .map(|(of, members)| {
            let (all, ready) = (count(&members, |c| c.all), count(&members, |c| c.ready));
            let (bears, gone) = (healthy(&members), count(&members, |c| if c.gone { c.all } else { 0 }));
            let healthy = count(&members, |c| if c.healthy { c.ready } else { 0 });
            let (load, panics, shares) = (0, false, Vec::new());
            (Tier { of, load, all, ready, healthy, bears, gone, panics, shares }, members)
        })
        .collect();
    let blind = rules.all_down == AllDown::Answer
        && tiers.iter().any(|(tier, _)| tier.ready > 0)
        && tiers.iter().all(|(tier, _)| tier.healthy == 0);
    share_out(&mut tiers, candidates, rules, blind);
    let fill = |(mut tier, members): (Tier, Vec<u32>)| {
        tier.shares = shares(candidates, &members, blind, &tier, rules);
        tier
    };
    Spread { tiers: tiers.into_iter().map(fill).collect(), pinned_out, blind }
}

impl Spread {
    /// Whether health counts in a tier.
    pub(crate) fn heeds_health(&self, tier: &Tier) -> bool {
        !self.blind && !tier.panics
    }

    /// All that get something, the closest first.
    pub fn shares(&self) -> impl Iterator<Item = (&Tier, &Share)> {
        self.tiers.iter().flat_map(|tier| tier.shares.iter().map(move |share| (tier, share)))
    }
}

/// `None`: too far away.
fn rank(candidate: &Candidate<'_>, rules: &Rules, locality: &Locality, client: &At<'_>) -> Option<Rank> {
    let Locality { order, reach } = locality;
    let close = order.iter().position(|level| client.is_with(&candidate.at, *level));
    let closeness = match (close, reach) {
        (Some(closeness), _) => closeness,
        (None, Preference::Pin) if !order.is_empty() => return None,
        (None, _) => order.len(),
    };
    let last_resort = candidate.drained || rules.weight(candidate.cluster) == 0;
    let turn = rules.turn(candidate.cluster);
    Some(Rank { last_resort, closeness, turn, band: candidate.band })
}

/// What a tier, or a cluster, can bear of the [`WHOLE`]: so many endpoints of which those that are healthy bear so many
/// hundredths of one.
fn capacity(all: u32, bears: u64, spill: Spill) -> u32 {
    let graded = |factor: u16| u128::from(bears) * u128::from(factor) * u128::from(WHOLE / 10_000);
    match spill {
        _ if bears == 0 => 0,
        Spill::Cliff => WHOLE,
        // One that is healthy bears something, however many are not.
        Spill::Graded(factor) => (graded(factor) / u128::from(all.max(1))).clamp(1, WHOLE.into()) as u32,
    }
}

/// Gives every tier its load, the closest first.
fn share_out(tiers: &mut [(Tier, Vec<u32>)], candidates: &[Candidate<'_>], rules: &Rules, blind: bool) {
    let bears = |tier: &Tier| match blind {
        true => capacity(tier.ready, u64::from(tier.ready) * 100, rules.spill),
        false => capacity(tier.all, tier.bears, rules.spill),
    };
    let mut capacities: Vec<u32> = tiers.iter().map(|(tier, _)| bears(tier)).collect();
    let is_last: Vec<bool> = tiers.iter().map(|(tier, _)| tier.of.last_resort).collect();
    // The last resort takes no overflow: clusters are drained by weight 0.
    if capacities.iter().zip(&is_last).any(|(capacity, last)| *capacity > 0 && !last) {
        capacities.iter_mut().zip(&is_last).for_each(|(capacity, last)| *capacity *= u32::from(!last));
    }
    let enough = capacities.iter().map(|c| u64::from(*c)).sum::<u64>() >= u64::from(WHOLE);
    let mut rest = WHOLE;
    let mut loads = Vec::with_capacity(tiers.len());
    for capacity in capacities {
        let load = capacity.min(rest);
        rest -= load;
        loads.push(u64::from(load));
    }
    // All together bear less than there is: each bears more, and with too few healthy ones all of its own.
    for ((tier, members), load) in tiers.iter_mut().zip(apportion(&loads, WHOLE)) {
        tier.load = load;
        let (healthy, all) = (u64::from(tier.healthy) * 100, u64::from(alive(candidates, members)));
        tier.panics = !enough && healthy < u64::from(rules.panic_threshold) * all;
    }
}

/// Endpoints of clusters of which anything is healthy. One that is down as a whole is down: that is no reason to doubt what is
/// known of others, nor to send it clients.
fn alive(candidates: &[Candidate<'_>], members: &[u32]) -> u32 {
    let members = || members.iter().map(|at| &candidates[*at as usize]);
    let up: BTreeSet<&ClusterId> =
        members().filter(|c| c.healthy && c.ready > 0).map(|c| c.cluster).collect();
    members().filter(|c| !c.gone && up.contains(c.cluster)).map(|candidate| candidate.all).sum()
}

/// Divides a tier's load among its clusters: by weight, less where a cluster's own endpoints fail; without weights by
/// endpoints.
fn shares(
    candidates: &[Candidate<'_>],
    members: &[u32],
    blind: bool,
    tier: &Tier,
    rules: &Rules,
) -> Vec<Share> {
    let heeds_health = !(blind || tier.panics);
    // Endpoints, what those bear that are chosen from, and the candidates that stand for these.
    let mut clusters: BTreeMap<&ClusterId, (u32, u64, Vec<u32>)> = BTreeMap::new();
    for at in members {
        let candidate = &candidates[*at as usize];
        let (all, here, chosen) = clusters.entry(candidate.cluster).or_default();
        *all += candidate.all;
        if candidate.ready > 0 && (candidate.healthy || !heeds_health) {
            *here += candidate.bears(heeds_health);
            chosen.push(*at);
        }
    }
    let portion = |(cluster, (all, here, _)): (&&ClusterId, &(u32, u64, Vec<u32>))| match !rules.is_weighted()
        || tier.of.last_resort
    {
        true => *here,
        false => u64::from(rules.weight(cluster)) * u64::from(capacity(*all, *here, rules.spill)),
    };
    let portions: Vec<u64> = clusters.iter().map(portion).collect();
    let parts = apportion(&portions, tier.load);
    let all = clusters.into_iter().zip(parts).filter(|(_, part)| *part > 0);
    all.map(|((cluster, (_, _, chosen)), part)| Share { cluster: cluster.clone(), part, chosen }).collect()
}

/// Divides a whole in proportion, to the last unit: what rounding leaves goes to the largest remainders, the first of equal
/// ones. Nothing is divided among nobody.
pub(crate) fn apportion(portions: &[u64], whole: u32) -> Vec<u32> {
    let sum: u128 = portions.iter().map(|p| u128::from(*p)).sum();
    if sum == 0 {
        return vec![0; portions.len()];
    }
    let exact = |portion: &u64| u128::from(*portion) * u128::from(whole);
    let mut parts: Vec<u32> = portions.iter().map(|p| (exact(p) / sum) as u32).collect();
    let mut order: Vec<usize> = (0..portions.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(exact(&portions[*at]) % sum));
    let left = whole - parts.iter().sum::<u32>();
    for at in order.into_iter().take(left as usize) {
        parts[at] += 1;
    }
    parts
}
