//! `portolan status`: how a running process is, as its `/status` says.

mod lines;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Context;
use portolan_program::{Outcome, Table, get};
use serde::Deserialize;

use self::lines::Line;
use crate::age::age;
use crate::cli::{self, Format};

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
