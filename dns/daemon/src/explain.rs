//! `portolan explain`, and `/explain` of the admin server: why a client gets what it gets, and what it would get if.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use portolan_dns::geo::Geo;
use portolan_sync::convert;
use portolan_sync::kubernetes::traffic_policy::TrafficPolicySpec;
use portolan_zones::places::Locate;
use portolan_zones::policy::explain::{Explanation, Percent, Supposed};
use portolan_zones::policy::spread::WHOLE;
use portolan_zones::{Client, ClusterId, QName, Snapshot};
use serde::{Deserialize, Serialize};

use crate::cli::{self, Format};
use crate::clusters;
use crate::get::get;
use crate::output::Outcome;
use crate::table::Table;

/// What is to be explained, as the admin server is asked for it.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub(crate) struct Question {
    /// A service's name in one of the zones, or a name below it.
    name: String,
    /// The client.
    from: IpAddr,
    /// What is supposed: `tokyo=down` or `tokyo=5`, separated by commas.
    #[serde(default, rename = "if")]
    supposed: String,
    /// A TrafficPolicy's `spec` in place of the one that holds, as JSON.
    #[serde(default)]
    policy: String,
}

/// What is told: numbers for programs, sentences for people.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    service: String,
    generation: u64,
    asker: String,
    policy: String,
    answer: String,
    stages: Vec<Stage>,
    shares: Vec<Share>,
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

/// Asks a running server, or explains what is in the files of the command line.
pub(crate) fn run(asked: &cli::Explain) -> anyhow::Result<Outcome> {
    let question = Question {
        name: asked.name.to_string(),
        from: asked.from,
        supposed: asked.supposed.join(","),
        policy: asked.policy.as_deref().map(spec_of_file).transpose()?.unwrap_or_default(),
    };
    let body = match asked.source.is_given() {
        true => {
            let config = asked.source.load_manifests()?;
            let (snapshot, _) = clusters::load_once(&config)?;
            let geo = Geo::default();
            geo.adopt(geo.prepare(&config.geo)?);
            explain(&snapshot, &question, Some(&*geo.atlas()))?
        }
        false => get(&asked.admin, &path(&question))?,
    };
    Ok(Outcome::good(match asked.format {
        Format::Json => body,
        Format::Human => human(&serde_json::from_str(&body).context("the answer is not ours")?)?,
    }))
}

/// The explanation as JSON; an error says what is wrong with the question.
pub(crate) fn explain(
    snapshot: &Snapshot,
    question: &Question,
    beyond: Option<&dyn Locate>,
) -> anyhow::Result<String> {
    let name =
        QName::parse(&question.name).with_context(|| format!("`{}` is no domain name", question.name))?;
    let service = snapshot
        .service_at(&name)
        .ok_or_else(|| anyhow!("{} is not in a zone of ours, or no service has this name", question.name))?;
    let supposed = supposed(question)?;
    let client = Client { address: Some(question.from), entropy: 0, beyond };
    let explained = snapshot.explain(&service.name, &client, &supposed);
    let told = Told::from(&explained.ok_or_else(|| anyhow!("{} is gone", service.name))?);
    Ok(format!("{:#}\n", serde_json::to_value(told)?))
}

fn supposed(question: &Question) -> anyhow::Result<Supposed> {
    let mut supposed = Supposed::default();
    for text in question.supposed.split(',').filter(|text| !text.is_empty()) {
        let wrong = || format!("`{text}`: expected CLUSTER=down or CLUSTER=WEIGHT");
        let (cluster, what) = text.rsplit_once('=').with_context(wrong)?;
        let cluster = ClusterId::new(cluster).with_context(wrong)?;
        match what {
            "down" => drop(supposed.down.insert(cluster)),
            weight => drop(supposed.weights.insert(cluster, weight.parse().with_context(wrong)?)),
        }
    }
    if !question.policy.is_empty() {
        let spec: TrafficPolicySpec = serde_json::from_str(&question.policy).context("the policy")?;
        supposed.rules = Some(Arc::new(convert::rules(&spec).context("the policy")?));
    }
    Ok(supposed)
}

impl From<&Explanation> for Told {
    fn from(explained: &Explanation) -> Self {
        let stage = |stage: &portolan_zones::policy::explain::Stage| Stage {
            name: stage.name.to_owned(),
            lines: stage.lines.clone(),
        };
        let share = |portion: &portolan_zones::policy::explain::Portion| Share {
            tier: portion.tier,
            cluster: portion.cluster.to_string(),
            percent: f64::from(portion.part) * 100.0 / f64::from(WHOLE),
            share: Percent(portion.part).to_string(),
            addresses: portion.addresses.clone(),
            some: portion.some_addresses(),
        };
        Self {
            service: explained.service.to_string(),
            generation: explained.generation,
            asker: explained.asker(),
            policy: explained.whose(),
            answer: explained.answer.clone(),
            stages: explained.stages.iter().map(stage).collect(),
            shares: explained.portions.iter().map(share).collect(),
        }
    }
}

fn human(told: &Told) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "{} for {}\n", told.service, told.asker)?;
    let mut facts = Table::new(["policy", &told.policy]);
    facts.row(["answer".to_owned(), told.answer.clone()]);
    for stage in &told.stages {
        for (at, line) in stage.lines.iter().enumerate() {
            facts.row([if at == 0 { stage.name.clone() } else { String::new() }, line.clone()]);
        }
    }
    writeln!(text, "{facts}")?;
    if told.shares.is_empty() {
        writeln!(text, "Nobody gets anything.")?;
        return Ok(text);
    }
    let mut shares = Table::new(["TIER", "CLUSTER", "SHARE", "ADDRESSES"]);
    for share in &told.shares {
        shares.row([share.tier.to_string(), share.cluster.clone(), share.share.clone(), share.some.clone()]);
    }
    write!(text, "{shares}")?;
    Ok(text)
}

/// The `spec` of the TrafficPolicy in a file, as JSON.
fn spec_of_file(file: &std::path::Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let object: serde_json::Value =
        serde_saphyr::from_str(&text).with_context(|| format!("{} is no YAML", file.display()))?;
    match object.get("spec") {
        Some(spec) if object["kind"] == "TrafficPolicy" => Ok(spec.to_string()),
        _ => bail!("{} holds no TrafficPolicy with a spec", file.display()),
    }
}

fn path(question: &Question) -> String {
    let Question { name, from, supposed, policy } = question;
    let fields = [("name", name), ("from", &from.to_string()), ("if", supposed), ("policy", policy)];
    let pairs: Vec<String> = fields.map(|(key, value)| format!("{key}={}", escaped(value))).into();
    format!("/explain?{}", pairs.join("&"))
}

/// Percent-encoded (RFC 3986 §2.1).
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for octet in text.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(octet));
            }
            _ => drop(write!(escaped, "%{octet:02X}")),
        }
    }
    escaped
}
