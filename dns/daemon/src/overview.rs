//! `portolan status`: how a running process is, as its `/status` says.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Context;
use portolan_program::{Outcome, Table, get};
use serde::Deserialize;

use crate::age::age;
use crate::cli::{self, Format};

/// Kinds as the table has them; others are shown as they are called.
const KINDS: [(&str, &str); 9] = [
    ("ServiceExport", "exports"),
    ("ServiceImport", "imports"),
    ("Service", "services"),
    ("EndpointSlice", "slices"),
    ("Node", "nodes"),
    ("Namespace", "namespaces"),
    ("Lease", "leases"),
    ("TrafficPolicy", "policies"),
    ("ClusterPeer", "peers"),
];

/// Status 1 when a cluster is not as it should be.
pub(crate) fn run(asked: &cli::Status) -> anyhow::Result<Outcome> {
    let body = get("portolan", &asked.admin, "/status")?;
    let report: Report = serde_json::from_str(&body).with_context(|| {
        format!("{} is no admin address of portolan: its status is not ours", asked.admin)
    })?;
    let status = u8::from(!report.is_well());
    let text = match asked.format {
        Format::Human => report.human()?,
        Format::Json => body,
    };
    Ok(Outcome { text, status })
}

/// What is read of `/status`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    version: String,
    /// `serve` or `controller`.
    command: String,
    /// When this was said, in seconds since the Unix epoch.
    now: i64,
    uptime_seconds: i64,
    phase: String,
    complete: bool,
    config: Configuration,
    sources: Vec<Source>,
    clusters: Vec<Cluster>,
    controller: Option<Controller>,
    vips: Vips,
    /// Where virtual IPs are for clients on nodes that have one.
    agents: Option<Agents>,
    invalid_exports: Vec<InvalidExport>,
    policy_problems: Vec<PolicyProblem>,
    probes: Probes,
    counts: Counts,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    file: Option<String>,
    errors: Vec<String>,
    needs_restart: Vec<String>,
}

/// A cluster whose manifests are read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Source {
    cluster: Option<String>,
    path: String,
    synced: bool,
    stale: bool,
    objects: BTreeMap<String, u64>,
    checked_at: Option<i64>,
    /// In milliseconds, as below.
    round_trip_time: Option<f64>,
    problems: Vec<String>,
}

/// A cluster that is followed at its API server.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cluster {
    name: String,
    origin: String,
    cluster: Option<String>,
    reachable: bool,
    synced: bool,
    stale: bool,
    withdrawn: bool,
    contact_at: Option<i64>,
    objects: BTreeMap<String, u64>,
    refused_exports: u64,
    /// Some of them.
    refused: Vec<String>,
    lag_seconds: Option<f64>,
    round_trip_time: Option<f64>,
    problems: Vec<String>,
    duplicate_of: Option<String>,
    is_own: bool,
    leases: Vec<Lease>,
}

/// A cluster that the controller follows, as it tells the DNS servers of its own cluster.
#[derive(Debug, Deserialize)]
struct Lease {
    cluster: String,
    stale: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Controller {
    leading: bool,
    queue: u64,
    requests: Vec<Requests>,
    failed: u64,
    unreachable: Option<String>,
    problems: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Requests {
    count: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vips {
    problems: Vec<String>,
    state_file_error: Option<String>,
}

/// Node agents.
#[derive(Debug, Deserialize)]
struct Agents {
    /// How many nodes have a ready one.
    ready: u64,
    nodes: u64,
}

/// Health checks.
#[derive(Debug, Deserialize)]
struct Probes {
    targets: u64,
    unhealthy: u64,
    /// Some of these.
    listed: Vec<Unhealthy>,
}

#[derive(Debug, Deserialize)]
struct Unhealthy {
    address: String,
    error: String,
}

#[derive(Debug, Deserialize)]
struct PolicyProblem {
    cluster: String,
    policy: String,
    problem: String,
}

#[derive(Debug, Deserialize)]
struct InvalidExport {
    service: String,
    cluster: String,
    reason: String,
}

#[derive(Debug, Deserialize)]
struct Counts {
    services: u64,
    endpoints: u64,
    conflicts: u64,
}

/// One line of the table.
struct Line {
    cells: [String; 10],
    well: bool,
    problems: Vec<String>,
}

impl Report {
    /// Whether every cluster is heard and known, and something can be written by who leads. What is wrong with single
    /// objects is for those who wrote them.
    fn is_well(&self) -> bool {
        let writes = self.controller.as_ref().is_none_or(|controller| controller.unreachable.is_none());
        writes && self.lines().iter().all(|line| line.well)
    }

    fn lines(&self) -> Vec<Line> {
        let followed = self.clusters.iter().map(|cluster| cluster.line(self.now));
        followed.chain(self.sources.iter().map(|source| source.line(self.now))).collect()
    }

    fn human(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        self.heading(&mut out)?;
        let lines = self.lines();
        let mut table = Table::new([
            "CLUSTER",
            "SOURCE",
            "REACHABLE",
            "FRESH",
            "SYNCED",
            "STALE",
            "OBJECTS",
            "LAG",
            "RTT",
            "LAST ERROR",
        ]);
        for line in &lines {
            table.row(line.cells.clone());
        }
        write!(out, "{table}")?;
        let further = lines.iter().flat_map(|line| {
            line.problems.iter().skip(1).map(|problem| format!("{}: {problem}", line.cells[0]))
        });
        self.listing(&mut out, further.collect())?;
        Ok(out)
    }

    fn heading(&self, out: &mut String) -> std::fmt::Result {
        let (version, command, phase) = (&self.version, &self.command, &self.phase);
        let known = if self.complete { "" } else { ", not all clusters are read" };
        writeln!(out, "portolan {command} {version}: {phase} for {}{known}", age(self.uptime_seconds))?;
        let Counts { services, endpoints, conflicts } = self.counts;
        writeln!(out, "{services} services, {endpoints} endpoints, {conflicts} conflicts between exports")?;
        if let Some(Agents { ready, nodes }) = self.agents {
            writeln!(
                out,
                "{ready} of {nodes} nodes have a ready agent: their clients are answered virtual IPs"
            )?;
        }
        if let Some(controller) = &self.controller {
            let role = if controller.leading { "leads" } else { "does not lead" };
            let requests: u64 = controller.requests.iter().map(|requests| requests.count).sum();
            let Controller { queue, failed, .. } = controller;
            writeln!(
                out,
                "{role}; {queue} services in the queue, {requests} requests, {failed} of them failed"
            )?;
        }
        writeln!(out)
    }

    /// Everything that is wrong and not in the table.
    fn listing(&self, out: &mut String, further: Vec<String>) -> std::fmt::Result {
        let config = &self.config;
        let file = config.file.as_deref().unwrap_or("the configuration");
        let refused = config.errors.iter().map(|error| format!("refused: {error}"));
        let restart = (!config.needs_restart.is_empty()).then(|| {
            format!("{file}: only a restart brings into force: {}", config.needs_restart.join(", "))
        });
        let vips = self.vips.problems.iter().chain(&self.vips.state_file_error).cloned();
        let exports = self.invalid_exports.iter().map(|export| {
            format!("{}: the export of {} does not count: {}", export.service, export.cluster, export.reason)
        });
        let policies = self
            .policy_problems
            .iter()
            .map(|about| format!("TrafficPolicy {} of {}: {}", about.policy, about.cluster, about.problem));
        let controller = self.controller.iter().flat_map(|controller| controller.problems.iter().cloned());
        let all = further
            .into_iter()
            .chain(refused)
            .chain(restart)
            .chain(controller)
            .chain(vips)
            .chain(exports)
            .chain(policies)
            .chain(self.probes.lines());
        let all: Vec<_> = all.collect();
        if !all.is_empty() {
            writeln!(out, "\nPROBLEMS")?;
        }
        all.iter().try_for_each(|problem| writeln!(out, "{problem}"))
    }
}

impl Probes {
    fn lines(&self) -> Vec<String> {
        let summary = format!("{} of {} that are asked are not healthy:", self.unhealthy, self.targets);
        let summary = (self.unhealthy > 0).then_some(summary);
        summary
            .into_iter()
            .chain(self.listed.iter().map(|at| format!("  {}: {}", at.address, at.error)))
            .collect()
    }
}

impl Source {
    fn line(&self, now: i64) -> Line {
        let cluster = self.cluster.clone().unwrap_or_else(|| "?".to_owned());
        // What is stale is a folder that can't be read any more.
        let reachable = !self.stale;
        Line {
            cells: [
                cluster,
                self.path.clone(),
                yes(reachable),
                fresh(now, self.checked_at),
                yes(self.synced),
                yes(self.stale),
                objects(&self.objects),
                "-".to_owned(),
                round_trip(self.round_trip_time),
                self.problems.first().cloned().unwrap_or_else(|| "-".to_owned()),
            ],
            well: self.synced && !self.stale,
            problems: self.problems.clone(),
        }
    }
}

impl Cluster {
    fn line(&self, now: i64) -> Line {
        let mut problems = self.problems.clone();
        if let Some(first) = &self.duplicate_of {
            problems.insert(0, format!("{first} is followed in its place"));
        }
        if self.refused_exports > 0 {
            let refused = self.refused_exports;
            let some = self.refused.join(", ");
            problems
                .push(format!("{refused} exports don't count: their namespaces are not accepted: {some}"));
        }
        let stale = self.leases.iter().filter(|lease| lease.stale);
        problems.extend(stale.clone().map(|lease| {
            format!("the controller does not hear {}: its endpoints may be out of date", lease.cluster)
        }));
        let source = match self.origin.as_str() {
            "own" => self.name.clone(),
            origin => format!("{origin} {}", self.name),
        };
        let state = if self.withdrawn { "withdrawn".to_owned() } else { yes(self.stale) };
        // A peer that is this cluster itself is followed already; nothing is wrong with it.
        let well = self.is_own
            || (self.reachable
                && self.synced
                && !self.stale
                && !self.withdrawn
                && self.duplicate_of.is_none()
                && stale.count() == 0);
        Line {
            cells: [
                self.cluster.clone().unwrap_or_else(|| "?".to_owned()),
                source,
                if self.is_own { "is own".to_owned() } else { yes(self.reachable) },
                fresh(now, self.contact_at),
                yes(self.synced),
                state,
                objects(&self.objects),
                self.lag_seconds.map_or_else(|| "-".to_owned(), |lag| format!("{:.0}ms", lag * 1000.0)),
                round_trip(self.round_trip_time),
                problems.first().cloned().unwrap_or_else(|| "-".to_owned()),
            ],
            well,
            problems,
        }
    }
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

fn round_trip(milliseconds: Option<f64>) -> String {
    milliseconds.map_or_else(|| "-".to_owned(), |time| format!("{time:.1}ms"))
}

fn fresh(now: i64, at: Option<i64>) -> String {
    at.map_or_else(|| "never".to_owned(), |at| age(now - at))
}

fn objects(objects: &BTreeMap<String, u64>) -> String {
    let word = |kind| KINDS.into_iter().find(|(known, _)| *known == kind).map_or(kind, |(_, word)| word);
    let counted: Vec<_> = objects.iter().map(|(kind, count)| format!("{count} {}", word(kind))).collect();
    if counted.is_empty() { "-".to_owned() } else { counted.join(", ") }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status() -> Value {
        let west = json!({
            "name": "west", "origin": "ClusterPeer", "cluster": "fra2", "reachable": true, "synced": true,
            "stale": false, "withdrawn": false, "contactAt": 998, "objects": {"EndpointSlice": 3, "ServiceExport": 1},
            "refusedExports": 0, "refused": [], "lagSeconds": 0.0124, "roundTripTime": 12.345, "problems": [], "duplicateOf": null, "isOwn": false,
            "leases": [{"cluster": "ber1", "stale": false}],
        });
        json!({
            "version": "1.0", "command": "controller", "now": 1000, "uptimeSeconds": 7300, "phase": "serving",
            "complete": true,
            "config": {"file": "portolan.yaml", "errors": [], "needsRestart": []},
            "sources": [], "clusters": [west],
            "controller": {"leading": true, "queue": 2, "requests": [{"count": 5}], "failed": 1, "unreachable": null, "problems": []},
            "vips": {"problems": [], "stateFileError": null}, "invalidExports": [], "policyProblems": [], "probes": {"targets": 0, "unhealthy": 0, "listed": []},
            "counts": {"services": 4, "endpoints": 9, "conflicts": 0},
        })
    }

    fn read(status: Value) -> Report {
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn a_table_says_how_each_cluster_is() {
        let text = read(status()).human().unwrap();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(lines[0], ["portolan controller 1.0: serving for 2h1m"]);
        assert_eq!(lines[2], ["leads; 2 services in the queue, 5 requests, 1 of them failed"]);
        assert_eq!(
            lines[5],
            [
                "fra2",
                "ClusterPeer west",
                "yes",
                "2s",
                "yes",
                "no",
                "3 slices, 1 exports",
                "12ms",
                "12.3ms",
                "-"
            ]
        );
        assert!(!text.contains("PROBLEMS"), "{text}");
    }

    /// Only where virtual IPs need agents there is anything to say of them.
    #[test]
    fn agents_are_counted() {
        let mut status = status();
        assert!(!read(status.clone()).human().unwrap().contains("agent"));
        status["agents"] = json!({"ready": 2, "nodes": 3});
        let text = read(status).human().unwrap();
        assert_eq!(
            text.lines().nth(2),
            Some("2 of 3 nodes have a ready agent: their clients are answered virtual IPs")
        );
    }

    /// Scripts ask by the exit status.
    #[test]
    fn what_is_not_heard_is_not_well() {
        assert!(read(status()).is_well());
        for (key, value) in [
            ("reachable", json!(false)),
            ("synced", json!(false)),
            ("stale", json!(true)),
            ("withdrawn", json!(true)),
            ("duplicateOf", json!("east")),
            ("leases", json!([{"cluster": "ber1", "stale": true}])),
        ] {
            let mut status = status();
            status["clusters"][0][key] = value;
            assert!(!read(status).is_well(), "{key}");
        }
        let mut mute = status();
        mute["controller"]["unreachable"] = json!("connection refused");
        assert!(!read(mute).is_well(), "nothing can be written");
        let mut own = status();
        own["clusters"][0]["isOwn"] = json!(true);
        own["clusters"][0]["reachable"] = json!(false);
        assert!(read(own).is_well(), "a peer that is this cluster is no problem");
        let source = json!({
            "cluster": null, "path": "clusters/a", "synced": true, "stale": true, "objects": {}, "checkedAt": null,
            "roundTripTime": null,
            "problems": ["gone"],
        });
        let mut stale = status();
        stale["sources"] = json!([source]);
        let report = read(stale);
        assert!(!report.is_well() && report.human().unwrap().contains("clusters/a"));
    }

    #[test]
    fn everything_else_that_is_wrong_is_listed_below() {
        let mut status = status();
        status["clusters"][0]["problems"] = json!(["first", "second"]);
        status["clusters"][0]["refusedExports"] = json!(3);
        status["clusters"][0]["refused"] = json!(["shop/web"]);
        status["config"]["errors"] = json!(["a.yaml:1: wrong"]);
        status["config"]["needsRestart"] = json!(["listen"]);
        status["vips"]["problems"] = json!(["the pool is exhausted"]);
        status["controller"]["problems"] = json!(["shop/cart can't be written"]);
        status["invalidExports"] =
            json!([{ "service": "shop/db", "cluster": "fra2", "reason": "NoService" }]);
        let text = read(status).human().unwrap();
        let (table, below) = text.split_once("PROBLEMS").unwrap();
        assert!(table.contains("first") && !table.contains("second"), "{text}");
        for expected in [
            "fra2: second",
            "fra2: 3 exports don't count: their namespaces are not accepted: shop/web",
            "refused: a.yaml:1: wrong",
            "only a restart brings into force: listen",
            "the pool is exhausted",
            "shop/cart can't be written",
            "shop/db: the export of fra2 does not count: NoService",
        ] {
            assert!(below.contains(expected), "{expected}: {text}");
        }
    }
}
