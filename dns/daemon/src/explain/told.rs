//! What one client gets, and why: numbers for programs, sentences for people.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};

use portolan_program::Table;
use portolan_zones::ClusterId;
use portolan_zones::places;
use portolan_zones::policy::explain::{self, Explanation, Percent};
use portolan_zones::policy::spread::WHOLE;
use serde::{Deserialize, Serialize};

/// An explanation.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Told {
    service: String,
    /// `None`: any.
    r#type: Option<String>,
    generation: u64,
    asker: String,
    place: Place,
    policy: String,
    /// Of what holds, if it is a policy and says when it was made.
    policy_age_seconds: Option<i64>,
    answer: String,
    stages: Vec<Stage>,
    evidence: Evidence,
    shares: Vec<Share>,
}

/// Where clients are, as far as that is known.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Place {
    cluster: Option<String>,
    region: Option<String>,
    zone: Option<String>,
    node: Option<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Stage {
    name: String,
    lines: Vec<String>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Share {
    tier: usize,
    cluster: String,
    percent: f64,
    /// The same, as people read it.
    share: String,
    addresses: Vec<IpAddr>,
    /// The first of them.
    some: String,
}

/// How old what is known is.
#[derive(Debug, Deserialize, Serialize)]
struct Evidence {
    clusters: Vec<Heard>,
    /// Of what is shown, and of some that is not healthy.
    checks: Vec<Checked>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Heard {
    cluster: String,
    /// A folder, an API server, or who copies from there.
    from: String,
    /// Since it was last heard; `None`: it was not.
    age_seconds: Option<i64>,
    stale: bool,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    cluster: String,
    address: SocketAddr,
    healthy: bool,
    /// For how long it has been so.
    lasts_seconds: f64,
    /// Since it was last asked; `None`: it was not.
    asked_seconds_ago: Option<f64>,
    round_trip_seconds: Option<f64>,
    last_error: Option<String>,
}

impl From<&Explanation> for Told {
    fn from(explained: &Explanation) -> Self {
        let stage =
            |stage: &explain::Stage| Stage { name: stage.name.to_owned(), lines: stage.lines.clone() };
        let share = |portion: &explain::Portion| Share {
            tier: portion.tier,
            cluster: portion.cluster.to_string(),
            percent: percent(portion.part),
            share: Percent(portion.part).to_string(),
            addresses: portion.addresses.clone(),
            some: portion.some_addresses(),
        };
        let heard = |heard: &explain::Heard| Heard {
            cluster: heard.cluster.to_string(),
            from: heard.from.clone(),
            age_seconds: heard.age(explained.now),
            stale: heard.stale,
        };
        let evidence = &explained.evidence;
        Self {
            service: explained.service.to_string(),
            r#type: explained.rtype.map(|rtype| rtype.to_string()),
            generation: explained.generation,
            asker: explained.asker(),
            place: Place::from(&explained.place),
            policy: explained.held.to_string(),
            policy_age_seconds: explained.held.age,
            answer: explained.answer.clone(),
            stages: explained.stages.iter().map(stage).collect(),
            evidence: Evidence {
                clusters: evidence.heard.iter().map(heard).collect(),
                checks: evidence.probed.iter().map(Checked::from).collect(),
            },
            shares: explained.portions.iter().map(share).collect(),
        }
    }
}

impl From<&explain::Probed> for Checked {
    fn from(probed: &explain::Probed) -> Self {
        Self {
            cluster: probed.cluster.to_string(),
            address: probed.address,
            healthy: probed.healthy,
            lasts_seconds: probed.lasts.as_secs_f64(),
            asked_seconds_ago: probed.asked.map(|asked| asked.as_secs_f64()),
            round_trip_seconds: probed.rtt.map(|rtt| rtt.as_secs_f64()),
            last_error: probed.error.clone(),
        }
    }
}

impl From<&places::Place> for Place {
    fn from(place: &places::Place) -> Self {
        let text = |part: &Option<std::sync::Arc<str>>| part.as_deref().map(str::to_owned);
        Self {
            cluster: place.cluster.as_ref().map(ClusterId::to_string),
            region: text(&place.region),
            zone: text(&place.az),
            node: text(&place.node),
        }
    }
}

/// Of all clients.
pub(super) fn percent(part: u32) -> f64 {
    f64::from(part) * 100.0 / f64::from(WHOLE)
}

impl Told {
    pub(super) fn human(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        writeln!(text, "{} for {}\n", self.service, self.asker)?;
        let mut facts = Table::new(["policy", &self.policy]);
        facts.row(["answer".to_owned(), self.answer.clone()]);
        for stage in &self.stages {
            for (at, line) in stage.lines.iter().enumerate() {
                facts.row([if at == 0 { stage.name.clone() } else { String::new() }, line.clone()]);
            }
        }
        writeln!(text, "{facts}")?;
        if self.shares.is_empty() {
            writeln!(text, "Nobody gets anything.")?;
            return Ok(text);
        }
        let mut shares = Table::new(["TIER", "CLUSTER", "SHARE", "ADDRESSES"]);
        for share in &self.shares {
            shares.row([
                share.tier.to_string(),
                share.cluster.clone(),
                share.share.clone(),
                share.some.clone(),
            ]);
        }
        write!(text, "{shares}")?;
        Ok(text)
    }
}
