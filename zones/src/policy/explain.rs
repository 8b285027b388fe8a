//! Why a client gets what it gets: the engine once more, with a word on each step, and with what may be changed to see what
//! then would be.

mod evidence;
mod form;
mod picture;
mod stages;
mod supposed;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use hickory_proto::rr::RecordType;

pub use evidence::{Age, Evidence, Heard, Probed, Witness};
pub use picture::{Picture, Row};
pub use supposed::Supposed;

use form::Reach;

use super::health::Check;
use super::spread::{At, Spread, Tier, WHOLE, spread};
use super::{Attached, Form, Rules};
use crate::answers::{Group, Target, candidates, groups, targets};
use crate::choices::Client;
use crate::name::{ClusterId, ServiceName};
use crate::object::{IpFamily, UnixTime};
use crate::places::{Authority, Keys, Place};
use crate::question::QName;
use crate::service::Service;
use crate::snapshot::Snapshot;

/// Addresses, or clusters, that are named one by one.
const NAMED: usize = 4;

/// What is to be explained of a service.
#[derive(Debug, Clone, Copy)]
pub struct Inquiry<'a> {
    /// Who asks.
    pub client: Client<'a>,
    /// For what; of A and AAAA only what has such an address counts. `None`: for anything.
    pub rtype: Option<RecordType>,
    /// What is taken for granted.
    pub supposed: &'a Supposed,
    /// Who knows how old what is known is; `None`: nobody.
    pub witness: Option<&'a Witness>,
    /// When that is asked.
    pub now: UnixTime,
}

/// Why a client gets what it gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The service.
    pub service: ServiceName,
    /// The type that is asked for.
    pub rtype: Option<RecordType>,
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
    /// Whose rules.
    pub held: Held,
    /// The rules, with the service's own fields.
    pub rules: Rules,
    /// What the name answers.
    pub answer: String,
    /// Each step and what it did, in order.
    pub stages: Vec<Stage>,
    /// What the steps are built on, and how old that is.
    pub evidence: Evidence,
    /// When it was explained.
    pub now: UnixTime,
    /// Who gets how much, the closest first.
    pub portions: Vec<Portion>,
}

/// Whose rules hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// A policy, and where it is from; `None`: no policy.
    pub policy: Option<std::sync::Arc<Attached>>,
    /// Seconds since it was made, if that is known.
    pub age: Option<i64>,
    /// Whether something is supposed.
    pub supposes: bool,
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

    /// The same, and which of its answers the name's zone gives.
    fn in_zone(&self, name: &QName) -> Option<(&Service, Option<u8>)> {
        let found = self.lookup(name, RecordType::A)?;
        Some((found.service?, self.variant(found.zone_index)))
    }

    /// Where a client at a place is, and who says so.
    fn whereabouts(&self, address: IpAddr, keys: Option<Keys>) -> (Place, Option<Authority>) {
        let (known, _) = self.places.find(address);
        if let Some(known) = known.filter(|known| Some(known.keys) == keys) {
            return (known.place.clone(), Some(known.by));
        }
        let mut place = keys.and_then(|keys| {
            let mut areas = self.places.areas().into_iter();
            areas.find_map(|(key, area)| (key == keys.area).then_some(area))
        });
        if let (Some(place), Some(keys), Some(agents)) = (&mut place, keys, &self.agents) {
            place.node = agents.name(keys.node).cloned();
        }
        let is_pod = self.pods.find(address).is_some();
        let by = place.as_ref().map(|_| if is_pod { Authority::Home } else { Authority::Database });
        (place.unwrap_or_default(), by)
    }

    /// Where the endpoints of a service are, put together as they are chosen.
    fn groups<'a, 's>(&self, targets: &'a [Target<'s>]) -> Vec<Group<'a, 's>> {
        groups(targets, |target| self.places.of_endpoint(target.cluster, target.place, target.region))
    }

    /// Whether clients of a cluster are expected, as answers are compiled.
    fn expects(&self, service: &Service, cluster: Option<&ClusterId>) -> bool {
        service.expects(cluster, self.places.home.as_ref())
    }

    /// Explains what a client gets of the service at a name, or would; `None`: there is no such service, or no client.
    pub fn explain(&self, name: &QName, inquiry: &Inquiry<'_>) -> Option<Explanation> {
        let (service, zone) = self.in_zone(name)?;
        let Inquiry { client: asker, rtype, supposed, now, .. } = *inquiry;
        let client = asker.address?;
        let (keys, scope) = self.place_of(client, &asker);
        let (place, by) = self.whereabouts(client, keys);
        let service = &*supposed.service(service, &self.standings);
        let (rules, policy) = supposed.rules(service, zone);
        let targets: Vec<Target<'_>> = targets(service, rules.answer).collect();
        let groups = self.groups(&targets);
        let stranger = place.cluster.as_ref().filter(|cluster| !self.expects(service, Some(cluster)));
        let at = if stranger.is_some() { At::default() } else { place.at() };
        let candidates = candidates(service, &groups, &at, counted(&groups, rtype));
        let spread = spread(&candidates, &rules, &at);
        let portions = portions(&spread, &groups, service, family(rtype));
        let (checks, untold) = checks(service, &portions);
        let clusters: Vec<ClusterId> = service.members.iter().map(|member| member.cluster.clone()).collect();
        let evidence =
            inquiry.witness.map(|witness| witness.evidence(&clusters, &checks)).unwrap_or_default();
        let reach = self.reach_of(service, &rules, client, keys);
        let stages = [
            stages::reachable(service, rules.answer),
            stages::state(service, supposed),
            stages::ready(&candidates),
            stages::healthy(&evidence, untold),
            stages::fresh(service, &evidence, now),
            stages::locality(&spread, &rules, &candidates, stranger),
            stages::latency(service, &rules, &at, &self.standings),
            stages::warming(service),
            stages::weight(&rules, &spread),
            stages::subset(&rules),
        ];
        let stages = reach.stage().into_iter().chain(stages).collect();
        Some(Explanation {
            service: service.name.clone(),
            rtype,
            generation: self.generation,
            client,
            place,
            by,
            scope,
            held: Held::new(policy, inquiry),
            answer: answer(service, zone, &rules, rtype, &groups, &reach),
            rules,
            stages,
            evidence,
            now,
            portions,
        })
    }
}

/// The family of which an address must be to count: as answers are compiled, of the type that is asked for where there are both.
fn counted(groups: &[Group<'_, '_>], rtype: Option<RecordType>) -> Option<IpFamily> {
    let ready = |family| groups.iter().any(|group| group.targets[0].ready > 0 && group.has(family));
    let both = ready(IpFamily::V4) && ready(IpFamily::V6);
    family(rtype).filter(|family| both || !ready(*family))
}

/// The family of the addresses that a type is about.
fn family(rtype: Option<RecordType>) -> Option<IpFamily> {
    match rtype? {
        RecordType::A => Some(IpFamily::V4),
        RecordType::AAAA => Some(IpFamily::V6),
        _ => None,
    }
}

/// The checks that matter most to those who read: of what is shown, and of what is not healthy; and how many more there are.
fn checks(service: &Service, portions: &[Portion]) -> (Vec<Check>, usize) {
    let Some(checked) = service.checked() else { return (Vec::new(), 0) };
    let mut shown: BTreeSet<IpAddr> =
        portions.iter().flat_map(|portion| portion.addresses.iter().take(NAMED)).copied().collect();
    for member in &service.members {
        let own = checked.checks.iter().filter(|check| check.cluster == member.cluster);
        let bad = own.map(|check| check.address.ip()).filter(|address| !service.is_healthy(*address));
        shown.extend(bad.take(NAMED));
    }
    let (told, untold): (Vec<&Check>, Vec<&Check>) =
        checked.checks.iter().partition(|check| shown.contains(&check.address.ip()));
    (told.into_iter().cloned().collect(), untold.len())
}

fn answer(
    service: &Service,
    zone: Option<u8>,
    rules: &Rules,
    rtype: Option<RecordType>,
    groups: &[Group<'_, '_>],
    reach: &Reach<'_>,
) -> String {
    let asked = rtype.map(|rtype| format!("{rtype}: ")).unwrap_or_default();
    let family = family(rtype);
    let is_asked = |address: IpAddr| family.is_none_or(|family| IpFamily::from(address) == family);
    let ready = || groups.iter().flat_map(|group| group.targets).filter(|target| target.ready > 0);
    let direct = match ready().any(|target| is_asked(target.address)) {
        true => "endpoints, by these shares",
        false if ready().next().is_none() => "nothing: no endpoint that can be reached is ready",
        false => "nothing: no endpoint that is ready has such an address",
    };
    let what = match (service.headless || rules.answer != Form::Vip, service.answers_in(zone).absence()) {
        (true, Some(_)) if rules.answer == Form::Gateways => {
            "nothing: no gateway is known, or nothing behind it is ready".to_owned()
        }
        (true, Some(_)) => "nothing: no endpoint is ready".to_owned(),
        (true, None) => direct.to_owned(),
        (false, Some(_)) => "nothing: it has no virtual IP".to_owned(),
        (false, None) => {
            let ips: Vec<String> =
                service.ips.iter().filter(|ip| is_asked(**ip)).map(ToString::to_string).collect();
            reach.answer(&ips.join(" "), direct)
        }
    };
    format!("{asked}{what}")
}

fn portions(
    spread: &Spread,
    groups: &[Group<'_, '_>],
    service: &Service,
    family: Option<IpFamily>,
) -> Vec<Portion> {
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
                .filter(|address| family.is_none_or(|family| IpFamily::from(*address) == family))
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

impl Held {
    fn new(policy: Option<std::sync::Arc<Attached>>, inquiry: &Inquiry<'_>) -> Self {
        let created = policy.as_ref().and_then(|policy| policy.created);
        let age = created.map(|created| inquiry.now.saturating_sub(created).max(0));
        Self { policy, age, supposes: *inquiry.supposed != Supposed::default() }
    }
}

/// For people: the policy, where it is from, and how old it is.
impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.policy, self.supposes) {
            (None, true) => return f.write_str("as is supposed"),
            (None, false) => return f.write_str("no TrafficPolicy"),
            (Some(policy), _) => write!(f, "{}", policy.source)?,
        }
        if let Some(age) = self.age {
            write!(f, ", made {} ago", Age(age))?;
        }
        f.write_str(if self.supposes { ", and what is supposed" } else { "" })
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

    /// A line for each fact, short enough for a TXT record.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("from: {}", self.asker()),
            format!("policy: {}", self.held),
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
