//! The steps of the choice, one function each: what it removed or preferred, and why.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::Evidence;
use super::{NAMED, Percent, Stage, Supposed};
use crate::name::ClusterId;
use crate::object::{Gateway, Slice, UnixTime};
use crate::peers::{Decider, State};
use crate::policy::spread::{At, Candidate, Spread, Tier};
use crate::policy::{Form, Level, Locality, Preference, Rules};
use crate::service::{Member, Reach, Service};
use crate::standing::Standing;

/// What can be got to, and by which objects that is known.
pub(super) fn reachable(service: &Service, form: Form) -> Stage {
    let line = |member: &Member| {
        let endpoints: usize = member.slices.iter().map(|slice| slice.endpoints.len()).sum();
        let endpoints = format!("{endpoints} endpoints{}", objects(&member.slices));
        let behind = |gateway: &Gateway| {
            let at: Vec<String> = gateway.addresses().iter().map(ToString::to_string).collect();
            format!("{endpoints} behind its gateway {}", at.join(" "))
        };
        let outside = member.gateway.as_ref().filter(|_| form == Form::Gateways);
        let how = match (outside, &member.reach) {
            _ if service.headless && form == Form::Gateways => {
                "removed: headless services have no gateways".to_owned()
            }
            (Some(gateway), _) => behind(gateway),
            (None, Reach::Flat) if form == Form::Gateways && member.slices.iter().all(|s| !s.gateway) => {
                "removed: no gateway to it is known".to_owned()
            }
            (None, Reach::Flat) => endpoints,
            (None, Reach::Gateway(_)) if service.headless => {
                "removed: it is on another network, where headless services can't be reached".to_owned()
            }
            (None, Reach::Gateway(gateway)) => behind(gateway),
            (None, Reach::Unresolved) => "removed: no address of its gateway is known".to_owned(),
            (None, Reach::Nowhere) => "removed: it is on another network and has no gateway".to_owned(),
        };
        format!("{}: {how}", member.cluster)
    };
    Stage { name: "reachable", lines: service.members.iter().map(line).collect() }
}

/// The EndpointSlices that say so.
fn objects(slices: &[std::sync::Arc<Slice>]) -> String {
    match slices {
        [] => String::new(),
        [one] => format!(" of EndpointSlice {}", one.name),
        [first, rest @ ..] => format!(" of EndpointSlice {} and {} more", first.name, rest.len()),
    }
}

/// What people decide of clusters, whatever these and probes say.
pub(super) fn state(service: &Service, supposed: &Supposed) -> Stage {
    let line = |member: &Member| {
        let (state, by) = member.state?;
        let cluster = &member.cluster;
        let what = match state {
            State::Up => "up: whatever probes say, it is healthy",
            State::Drain => "drain: it gets clients only when no others are left",
            State::Down => "down: it gets nobody",
        };
        let who = match by {
            _ if supposed.states.contains_key(cluster) => "as is supposed",
            Decider::Operator => "by the configuration",
            Decider::Peer => "by the own cluster's ClusterPeer",
            Decider::Export => "by its ServiceExport",
        };
        Some(format!("{cluster}: {what}, {who}"))
    };
    Stage { name: "state", lines: service.members.iter().filter_map(line).collect() }
}

/// What the clusters themselves say of their endpoints.
pub(super) fn ready(candidates: &[Candidate<'_>]) -> Stage {
    let mut clusters: BTreeMap<&ClusterId, (u32, u32, u32)> = BTreeMap::new();
    for candidate in candidates {
        let (ready, all, gone) = clusters.entry(candidate.cluster).or_default();
        *ready += candidate.ready;
        *if candidate.gone { gone } else { all } += candidate.all;
    }
    let line = |(cluster, (ready, all, gone)): (&ClusterId, (u32, u32, u32))| {
        let gone =
            if gone > 0 { format!(", {gone} more were there lately and are gone") } else { String::new() };
        format!("{cluster}: {ready} of {all} ready{gone}")
    };
    Stage { name: "ready", lines: clusters.into_iter().map(line).collect() }
}

/// How far away clusters are from home, where that counts.
pub(super) fn latency(
    service: &Service,
    rules: &Rules,
    client: &At<'_>,
    standings: &BTreeMap<ClusterId, Standing>,
) -> Stage {
    let remembered = service.remembered().filter(|remembered| !remembered.bands.is_empty());
    let lines = match (rules.latency, remembered) {
        (Some(_), Some(remembered)) if !remembered.is_for(client) => {
            vec!["measured from home, where this client is not: it does not count".to_owned()]
        }
        (Some(latency), Some(remembered)) => {
            let line = |(cluster, band): &(ClusterId, u8)| {
                let trip = standings.get(cluster).and_then(|standing| standing.round_trip);
                let away = match trip {
                    _ if remembered.home.as_ref() == Some(cluster) => "at home".to_owned(),
                    Some(trip) => format!("{:.1} ms away", trip.as_secs_f64() * 1e3),
                    None => "nobody knows how far away".to_owned(),
                };
                format!("{cluster}: {away}, band {}", band + 1)
            };
            let said = format!(
                "{} ms more make another band, once that lasted for {} s",
                latency.margin.as_millis(),
                latency.hold_down
            );
            remembered.bands.iter().map(line).chain([said]).collect()
        }
        _ => Vec::new(),
    };
    Stage { name: "latency", lines }
}

/// What is new, and therefore gets less.
pub(super) fn warming(service: &Service) -> Stage {
    let new = service.remembered().into_iter().flat_map(|remembered| &remembered.warming);
    let lines =
        new.clone().take(NAMED).map(|(address, part)| format!("{address} is new: {part} % of its share"));
    let more = new.clone().count().saturating_sub(NAMED);
    let more = (more > 0).then(|| format!("and {more} more are new"));
    Stage { name: "slow start", lines: lines.chain(more).collect() }
}

/// What came of asking them.
pub(super) fn healthy(evidence: &Evidence, untold: usize) -> Stage {
    let mut lines = evidence.health();
    if untold > 0 {
        lines.push(format!("and {untold} more are asked"));
    }
    Stage { name: "healthy", lines }
}

/// How old all that is.
pub(super) fn fresh(service: &Service, evidence: &Evidence, now: UnixTime) -> Stage {
    let mut lines = evidence.freshness(now);
    if service.stale {
        lines.push("a cluster can't be read: its last known state counts".to_owned());
    }
    Stage { name: "fresh", lines }
}

/// Who is close, and how much of that is left.
pub(super) fn locality(
    spread: &Spread,
    rules: &Rules,
    candidates: &[Candidate<'_>],
    stranger: Option<&ClusterId>,
) -> Stage {
    let all = Locality::default();
    let locality = rules.locality.as_ref().unwrap_or(&all);
    let foreign = stranger.filter(|_| rules.locality.is_some());
    let there = spread.tiers.iter().enumerate().filter(|(_, tier)| tier.all > 0);
    let mut lines: Vec<String> = foreign.map(strange).into_iter().collect();
    lines.extend(there.map(|(at, of)| tier(at + 1, of, rules, locality)));
    if !spread.pinned_out.is_empty() {
        let of = |at: &u32| candidates.get(*at as usize).map(|candidate| candidate.cluster.as_str());
        let clusters: BTreeSet<&str> = spread.pinned_out.iter().filter_map(of).collect();
        let (count, clusters) = (spread.pinned_out.len(), Vec::from_iter(clusters).join(", "));
        lines.push(format!("removed {count} endpoints of {clusters}: too far away, and pinned"));
    }
    if locality.reach == Preference::Pin && spread.tiers.is_empty() {
        lines.push("nothing is close, and clients are pinned to what is".to_owned());
    }
    if spread.blind && !spread.tiers.is_empty() {
        lines.push("nothing is healthy: health is ignored".to_owned());
    }
    Stage { name: "locality", lines }
}

/// Why it does not matter where a client is.
fn strange(cluster: &ClusterId) -> String {
    format!("{cluster} is neither home nor behind the service: its clients are answered as anywhere else")
}

/// What the endpoints of a tier have in common, and what it bears.
fn tier(number: usize, tier: &Tier, rules: &Rules, locality: &Locality) -> String {
    let close = locality.order.get(tier.of.closeness).map(|level| match level {
        Level::Node => "on the client's node",
        Level::Zone => "in the client's zone",
        Level::Region => "in the client's region",
        Level::Cluster => "in the client's cluster",
    });
    let elsewhere = if locality.order.is_empty() { "anywhere" } else { "elsewhere" };
    let turn = rules.failover.get(tier.of.turn).map(|cluster| format!(", {cluster}'s turn"));
    let last = if tier.of.last_resort { ", the last resort" } else { "" };
    let band = if tier.of.band > 0 || rules.latency.is_some() {
        format!(", band {}", tier.of.band + 1)
    } else {
        String::new()
    };
    let gone = if tier.gone > 0 { format!(" ({} of them gone)", tier.gone) } else { String::new() };
    let panics = if tier.panics { ", too few: health is ignored" } else { "" };
    format!(
        "tier {number}, {}{}{band}{last}: {} of {} healthy{gone}, bears {}{panics}",
        close.unwrap_or(elsewhere),
        turn.unwrap_or_default(),
        tier.healthy,
        tier.all,
        Percent(tier.load),
    )
}

/// How clusters share that are equally close.
pub(super) fn weight(rules: &Rules, spread: &Spread) -> Stage {
    let clusters: BTreeSet<&ClusterId> = spread.shares().map(|(_, share)| &share.cluster).collect();
    let lines = match !rules.is_weighted() {
        true => vec!["none: clusters share by their endpoints".to_owned()],
        false => clusters.iter().map(|cluster| format!("{cluster}: {}", rules.weight(cluster))).collect(),
    };
    Stage { name: "weight", lines }
}

/// How much of what is left one answer holds.
pub(super) fn subset(rules: &Rules) -> Stage {
    let most = rules.max_records.map(|most| format!("at most {most} records in an answer"));
    let sticky = rules.sticky.then(|| "a client keeps its answer".to_owned());
    Stage { name: "subset", lines: most.into_iter().chain(sticky).collect() }
}
