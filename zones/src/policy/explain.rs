//! Why a client gets what it gets: the engine once more, with a word on each step, and with what may be changed to see what
//! then would be.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::RecordType;

use super::spread::{Candidate, Spread, Tier, WHOLE, spread};
use super::{Form, Level, Locality, Preference, Rules, Source};
use crate::answers::{Group, Target, candidates, groups, targets};
use crate::choices::Client;
use crate::name::{ClusterId, ServiceName};
use crate::places::{Authority, Place};
use crate::question::QName;
use crate::service::{Reach, Service};
use crate::snapshot::Snapshot;

/// Addresses of a cluster that are named.
const NAMED: usize = 4;

/// What is to be taken for granted, whatever is known.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Supposed {
    /// None of these clusters' endpoints is ready.
    pub down: BTreeSet<ClusterId>,
    /// Weights in place of the policy's.
    pub weights: BTreeMap<ClusterId, u32>,
    /// Rules in place of those that hold.
    pub rules: Option<Arc<Rules>>,
}

/// Why a client gets what it gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The service.
    pub service: ServiceName,
    /// The snapshot's.
    pub generation: u64,
    /// Who asks.
    pub client: IpAddr,
    /// Where that is.
    pub place: Place,
    /// Who says so; `None`: nobody knows.
    pub by: Option<Authority>,
    /// The prefix around the client for which all this holds.
    pub scope: u8,
    /// Whose rules; `None`: no policy's.
    pub source: Option<Source>,
    /// Whether something is supposed.
    pub supposes: bool,
    /// The rules, with the service's own fields.
    pub rules: Rules,
    /// What the name answers.
    pub answer: String,
    /// Each step and what it did, in order.
    pub stages: Vec<Stage>,
    /// Who gets how much, the closest first.
    pub portions: Vec<Portion>,
}

/// A step of the choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Which one.
    pub name: &'static str,
    /// What it removed or preferred, and why; a line each.
    pub lines: Vec<String>,
}

/// What a cluster gets of a tier.
#[derive(Debug, Clone, PartialEq)]
pub struct Portion {
    /// The tier's number, from 1.
    pub tier: usize,
    /// The cluster.
    pub cluster: ClusterId,
    /// Its part of [`WHOLE`].
    pub part: u32,
    /// The addresses that are chosen from.
    pub addresses: Vec<IpAddr>,
}

impl Snapshot {
    /// The service that a name is at, or below.
    pub fn service_at(&self, name: &QName) -> Option<&Service> {
        self.lookup(name, RecordType::A)?.service
    }

    /// Where a client is, who says so, and the prefix around its address of which that holds.
    fn whereabouts(&self, address: IpAddr, client: &Client<'_>) -> (Place, Option<Authority>, u8) {
        let (known, uniform) = self.places.find(address);
        if let Some(known) = known {
            return (known.place.clone(), Some(known.by), uniform);
        }
        let (area, length) = client.beyond.map_or((None, 0), |beyond| beyond.locate(address));
        let place = area.and_then(|area| self.places.areas().remove(&area));
        let by = place.as_ref().map(|_| Authority::Database);
        (place.unwrap_or_default(), by, uniform.max(length))
    }

    /// Explains what a client gets of a service, or would; `None`: there is no such service.
    pub fn explain(
        &self,
        name: &ServiceName,
        asker: &Client<'_>,
        supposed: &Supposed,
    ) -> Option<Explanation> {
        let service = self.services.get(name.wire())?;
        let client = asker.address?;
        let (place, by, scope) = self.whereabouts(client, asker);
        let (rules, source) = rules(service, supposed);
        let targets: Vec<Target<'_>> = targets(service, rules.answer).collect();
        let groups =
            groups(&targets, |target| self.places.of_endpoint(target.cluster, target.place, target.region));
        let candidates: Vec<Candidate<'_>> = candidates(service, &groups, &place.at())
            .into_iter()
            .map(|candidate| {
                let down = supposed.down.contains(candidate.cluster);
                Candidate { ready: if down { 0 } else { candidate.ready }, ..candidate }
            })
            .collect();
        let spread = spread(&candidates, &rules, &place.at());
        let portions = portions(&spread, &groups, service);
        let stages = vec![
            reachable(service),
            ready(&candidates, supposed),
            locality(&spread, &rules, &candidates),
            weight(&rules, &spread),
            subset(&rules),
        ];
        let answer = answer(service, &rules);
        let supposes = *supposed != Supposed::default();
        let (service, generation) = (name.clone(), self.generation);
        Some(Explanation {
            service,
            generation,
            client,
            place,
            by,
            scope,
            source,
            supposes,
            rules,
            answer,
            stages,
            portions,
        })
    }
}

fn rules(service: &Service, supposed: &Supposed) -> (Rules, Option<Source>) {
    let held = service.policy.as_ref();
    let rules = supposed.rules.as_ref().or(held.map(|policy| &policy.rules));
    let mut rules = rules.map(|rules| (**rules).clone()).unwrap_or_default().for_service(service);
    if !supposed.weights.is_empty() {
        let mut weights: BTreeMap<_, _> = rules.weights.iter().cloned().collect();
        weights.extend(supposed.weights.clone());
        rules.weights = weights.into_iter().collect();
    }
    let source = held.filter(|_| supposed.rules.is_none()).map(|policy| policy.source.clone());
    (rules, source)
}

fn answer(service: &Service, rules: &Rules) -> String {
    let list = |ips: &[IpAddr]| ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    match (service.headless || rules.answer == Form::Endpoints, service.answers.absent) {
        (true, Some(_)) => "nothing: no endpoint is ready".to_owned(),
        (true, None) => "endpoints, by these shares".to_owned(),
        (false, None) => {
            format!("virtual IP {}, whoever asks; connections by these shares", list(&service.ips))
        }
        (false, Some(_)) => "nothing: it has no virtual IP".to_owned(),
    }
}

fn reachable(service: &Service) -> Stage {
    let line = |member: &crate::service::Member| {
        let endpoints: usize = member.slices.iter().map(|slice| slice.endpoints.len()).sum();
        let how = match &member.reach {
            Reach::Flat => format!("{endpoints} endpoints"),
            Reach::Gateway(_) if service.headless => {
                "removed: it is on another network, where headless services can't be reached".to_owned()
            }
            Reach::Gateway(gateway) => {
                let at: Vec<String> = gateway.addresses().iter().map(ToString::to_string).collect();
                format!("{endpoints} endpoints behind its gateway {}", at.join(" "))
            }
            Reach::Unresolved => "removed: no address of its gateway is known".to_owned(),
            Reach::Nowhere => "removed: it is on another network and has no gateway".to_owned(),
        };
        format!("{}: {how}", member.cluster)
    };
    let mut lines: Vec<String> = service.members.iter().map(line).collect();
    if service.stale {
        lines.push("a cluster can't be read: its last known state counts".to_owned());
    }
    Stage { name: "reachable", lines }
}

fn ready(candidates: &[Candidate<'_>], supposed: &Supposed) -> Stage {
    let mut clusters: BTreeMap<&ClusterId, (u32, u32)> = BTreeMap::new();
    for candidate in candidates {
        let (ready, all) = clusters.entry(candidate.cluster).or_default();
        *ready += candidate.ready;
        *all += candidate.all;
    }
    let line = |(cluster, (ready, all)): (&ClusterId, (u32, u32))| {
        let why = if supposed.down.contains(cluster) { ", supposed to be down" } else { "" };
        format!("{cluster}: {ready} of {all} ready{why}")
    };
    Stage { name: "ready", lines: clusters.into_iter().map(line).collect() }
}

fn locality(spread: &Spread, rules: &Rules, candidates: &[Candidate<'_>]) -> Stage {
    let all = Locality::default();
    let locality = rules.locality.as_ref().unwrap_or(&all);
    let line = |(at, tier): (usize, &Tier)| {
        let close = locality.order.get(tier.of.closeness).map(|level| match level {
            Level::Node => "on the client's node",
            Level::Zone => "in the client's zone",
            Level::Region => "in the client's region",
            Level::Cluster => "in the client's cluster",
        });
        let elsewhere = if locality.order.is_empty() { "anywhere" } else { "elsewhere" };
        let turn = rules.failover.get(tier.of.turn).map(|cluster| format!(", {cluster}'s turn"));
        let last = if tier.of.last_resort { ", the last resort" } else { "" };
        let panics = if tier.panics { ", too few: health is ignored" } else { "" };
        format!(
            "tier {}, {}{}{last}: {} of {} healthy, bears {}{panics}",
            at + 1,
            close.unwrap_or(elsewhere),
            turn.unwrap_or_default(),
            tier.healthy,
            tier.all,
            Percent(tier.load),
        )
    };
    let mut lines: Vec<String> = spread.tiers.iter().enumerate().map(line).collect();
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

fn weight(rules: &Rules, spread: &Spread) -> Stage {
    let clusters: BTreeSet<&ClusterId> = spread.shares().map(|(_, share)| &share.cluster).collect();
    let lines = match rules.weights.is_empty() {
        true => vec!["none: clusters share by their endpoints".to_owned()],
        false => clusters.iter().map(|cluster| format!("{cluster}: {}", rules.weight(cluster))).collect(),
    };
    Stage { name: "weight", lines }
}

fn subset(rules: &Rules) -> Stage {
    let most = rules.max_records.map(|most| format!("at most {most} records in an answer"));
    let sticky = rules.sticky.then(|| "a client keeps its answer".to_owned());
    Stage { name: "subset", lines: most.into_iter().chain(sticky).collect() }
}

fn portions(spread: &Spread, groups: &[Group<'_, '_>], service: &Service) -> Vec<Portion> {
    let of_tier = |(at, tier): (usize, &Tier)| -> Vec<Portion> {
        let portion = |share: &super::spread::Share| Portion {
            tier: at + 1,
            cluster: share.cluster.clone(),
            part: share.part,
            addresses: share
                .chosen
                .iter()
                .flat_map(|chosen| groups[*chosen as usize].answered(service))
                .map(|target| target.address)
                .collect(),
        };
        tier.shares.iter().map(portion).collect()
    };
    spread.tiers.iter().enumerate().flat_map(of_tier).collect()
}

/// A part of [`WHOLE`] in per cent.
#[derive(Debug, Clone, Copy)]
pub struct Percent(pub u32);

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (u64::from(self.0) * 1000 + u64::from(WHOLE) / 2) / u64::from(WHOLE);
        write!(f, "{}.{} %", tenths / 10, tenths % 10)
    }
}

impl Explanation {
    /// Who asks, and where that is.
    pub fn asker(&self) -> String {
        let by = match self.by {
            Some(Authority::Operator) => ", by configuration",
            Some(Authority::Database) => ", by a database",
            Some(Authority::Home | Authority::Peer) => ", by its Node",
            None => "",
        };
        format!("{} ({}{by}; the same for all of its /{})", self.client, self.place, self.scope)
    }

    /// Whose rules hold.
    pub fn whose(&self) -> String {
        let held = self.source.as_ref().map(ToString::to_string);
        match (held, self.supposes) {
            (Some(held), false) => held,
            (Some(held), true) => format!("{held}, and what is supposed"),
            (None, true) => "as is supposed".to_owned(),
            (None, false) => "no TrafficPolicy".to_owned(),
        }
    }

    /// A line for each fact, short enough for a TXT record.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("from: {}", self.asker()),
            format!("policy: {}", self.whose()),
            format!("answer: {}", self.answer),
        ];
        for stage in &self.stages {
            lines.extend(stage.lines.iter().map(|line| format!("{}: {line}", stage.name)));
        }
        lines.extend(self.portions.iter().map(|portion| {
            let Portion { tier, cluster, part, .. } = portion;
            format!("share: tier {tier}, {cluster}: {} of {}", Percent(*part), portion.some_addresses())
        }));
        if self.portions.is_empty() {
            lines.push("share: nobody gets anything".to_owned());
        }
        lines
    }
}

impl Portion {
    /// A few of its addresses.
    pub fn some_addresses(&self) -> String {
        let named: Vec<String> = self.addresses.iter().take(NAMED).map(ToString::to_string).collect();
        let more = self.addresses.len().saturating_sub(NAMED);
        if more > 0 { format!("{} and {more} more", named.join(" ")) } else { named.join(" ") }
    }
}
