//! `portolan explain`, and `/explain` of the admin server: why a client gets what it gets, and what it would get if; or who
//! gets what, wherever clients are.

mod picture;
mod told;

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use portolan_dns::geo::Geo;
use portolan_program::{Outcome, get};
use portolan_sync::convert;
use portolan_sync::kubernetes::traffic_policy::TrafficPolicySpec;
use portolan_zones::object::UnixTime;
use portolan_zones::places::Locate;
use portolan_zones::policy::explain::{Evidence, Heard, Inquiry, Supposed, Witness};
use portolan_zones::{Client, ClusterId, QName, Service, Snapshot};
use serde::{Deserialize, Serialize};

use self::picture::Drawn;
use self::told::Told;
use crate::cli::{self, Format};
use crate::clusters;
use crate::status::unix_now;

/// What is to be explained, as the admin server is asked for it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// A service's name in one of the zones, or a name below it.
    name: String,
    /// `A`, `AAAA` or `SRV`; empty: any.
    #[serde(default, rename = "type")]
    rtype: String,
    /// The client.
    #[serde(default)]
    from: Option<IpAddr>,
    /// All clients, in place of one.
    #[serde(default)]
    everywhere: bool,
    /// What is supposed: `tokyo=down` or `tokyo=5`, separated by commas.
    #[serde(default, rename = "if")]
    supposed: String,
    /// A TrafficPolicy's `spec` in place of the one that holds, as JSON.
    #[serde(default)]
    policy: String,
}

/// What explanations are built on.
pub(crate) struct Known<'a> {
    /// What is answered.
    pub snapshot: &'a Snapshot,
    /// Who knows where clients are whom the snapshot does not know.
    pub beyond: Option<&'a dyn Locate>,
    /// Who knows how old what is known is.
    pub witness: &'a Witness,
    /// When that is asked.
    pub now: UnixTime,
}

/// Asks a running server, or explains what is in the files of the command line.
pub(crate) fn run(asked: &cli::Explain) -> anyhow::Result<Outcome> {
    let question = Question {
        name: asked.name.to_string(),
        rtype: asked.record_type.map(|rtype| rtype.to_string()).unwrap_or_default(),
        from: asked.from,
        everywhere: asked.everywhere,
        supposed: asked.supposed.join(","),
        policy: asked.policy.as_deref().map(spec_of_file).transpose()?.unwrap_or_default(),
    };
    let body = match asked.source.is_given() {
        true => explain_files(&asked.source, &question)?,
        false => get("portolan", &asked.admin, &path(&question))?,
    };
    let foreign = "the answer is not ours";
    Ok(Outcome::good(match (asked.format, asked.everywhere) {
        (Format::Json, _) => body,
        (Format::Human, false) => serde_json::from_str::<Told>(&body).context(foreign)?.human()?,
        (Format::Human, true) => serde_json::from_str::<Drawn>(&body).context(foreign)?.human()?,
    }))
}

fn explain_files(source: &cli::Source, question: &Question) -> anyhow::Result<String> {
    let config = source.load_manifests()?;
    let now = i64::try_from(unix_now())?;
    let (snapshot, _) = clusters::load_once(&config)?;
    let geo = Geo::default();
    geo.adopt(geo.prepare(&config.geo)?);
    let heard = move |cluster: &ClusterId| Heard {
        cluster: cluster.clone(),
        from: "manifests".to_owned(),
        at: Some(now),
        stale: false,
    };
    let witness = Witness::new(move |clusters, _| Evidence {
        heard: clusters.iter().map(heard).collect(),
        ..Evidence::default()
    });
    let atlas = geo.atlas();
    explain(&Known { snapshot: &snapshot, beyond: Some(&*atlas), witness: &witness, now }, question)
}

/// The explanation as JSON; an error says what is wrong with the question.
pub(crate) fn explain(known: &Known<'_>, question: &Question) -> anyhow::Result<String> {
    let name =
        QName::parse(&question.name).with_context(|| format!("`{}` is no domain name", question.name))?;
    let service = known
        .snapshot
        .service_at(&name)
        .ok_or_else(|| anyhow!("{} is not in a zone of ours, or no service has this name", question.name))?;
    let supposed = supposed(question, service)?;
    let rtype = match question.rtype.as_str() {
        "" => None,
        text => Some(cli::explained_type(text).map_err(|expected| anyhow!("type `{text}`: {expected}"))?),
    };
    let inquiry = Inquiry {
        client: Client { address: question.from, entropy: 0, beyond: known.beyond },
        rtype,
        supposed: &supposed,
        witness: Some(known.witness),
        now: known.now,
    };
    let told = match (question.from, question.everywhere) {
        (Some(_), false) => {
            known.snapshot.explain(&name, &inquiry).map(|told| serde_json::to_value(Told::from(&told)))
        }
        (None, true) => {
            known.snapshot.picture(&name, &inquiry).map(|drawn| serde_json::to_value(Drawn::from(&drawn)))
        }
        (None, false) => bail!("`from` is missing, a client's address; or everywhere=true for all clients"),
        (Some(_), true) => bail!("`from` is one client, and `everywhere` all of them: leave one of them out"),
    };
    Ok(format!("{:#}\n", told.ok_or_else(|| anyhow!("{} is gone", service.name))??))
}

fn supposed(question: &Question, service: &Service) -> anyhow::Result<Supposed> {
    let mut supposed = Supposed::default();
    for text in question.supposed.split(',').filter(|text| !text.is_empty()) {
        let wrong =
            || format!("`{text}`: expected CLUSTER=down, CLUSTER=drain, CLUSTER=up or CLUSTER=WEIGHT");
        let (cluster, what) = text.rsplit_once('=').with_context(wrong)?;
        let cluster = ClusterId::new(cluster).with_context(wrong)?;
        match what.parse() {
            Ok(state) => drop(supposed.states.insert(cluster, state)),
            Err(_) => drop(supposed.weights.insert(cluster, what.parse().with_context(wrong)?)),
        }
    }
    let members: Vec<&ClusterId> = service.members.iter().map(|member| &member.cluster).collect();
    if let Some(stranger) = supposed.clusters().find(|cluster| !members.contains(cluster)) {
        let members: Vec<&str> = members.iter().map(|member| member.as_str()).collect();
        bail!("cluster `{stranger}` is not behind {}: {} are", service.name, members.join(", "));
    }
    if !question.policy.is_empty() {
        let spec: TrafficPolicySpec = serde_json::from_str(&question.policy).context("the policy")?;
        supposed.rules = Some(Arc::new(convert::rules(&spec).context("the policy")?));
    }
    Ok(supposed)
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
    let Question { name, rtype, from, everywhere, supposed, policy } = question;
    let from = from.map(|from| from.to_string()).unwrap_or_default();
    let everywhere = if *everywhere { "true" } else { "" };
    let fields = [
        ("name", name.as_str()),
        ("type", rtype),
        ("from", &from),
        ("everywhere", everywhere),
        ("if", supposed),
        ("policy", policy),
    ];
    let given = fields.iter().filter(|(_, value)| !value.is_empty());
    let pairs: Vec<String> = given.map(|(key, value)| format!("{key}={}", escaped(value))).collect();
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
