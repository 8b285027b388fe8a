//! `portolan check`: everything that is wrong with the configuration and the manifests, and what they amount to.

use std::fmt::Write;

use portolan_config::{DEFAULTS, Problem};
use portolan_program::Outcome;
use portolan_zones::Snapshot;
use serde_json::json;

use crate::cli::{Check, Format};
use crate::clusters;
use crate::config::Config;

/// What a check finds.
#[derive(Default)]
struct Report {
    /// What must be put right.
    problems: Vec<Problem>,
    /// What works otherwise than its authors may think: conflicts between exports and the like.
    warnings: Vec<String>,
    /// What there is, in one sentence; empty when the configuration itself is wrong.
    summary: String,
}

/// Status 1 when there is a problem; warnings are none.
pub(crate) fn check(asked: &Check) -> anyhow::Result<Outcome> {
    if asked.print_defaults {
        return Ok(Outcome::good(DEFAULTS));
    }
    let report = match asked.source.load() {
        Err(problems) => Report { problems, ..Report::default() },
        Ok(config) => report(asked, &config)?,
    };
    let text = match asked.format {
        Format::Human => report.human()?,
        Format::Json => {
            format!("{:#}\n", json!({ "problems": report.problems, "warnings": report.warnings }))
        }
    };
    Ok(Outcome { text, status: u8::from(!report.problems.is_empty()) })
}

/// What there is to say of a configuration that can be read.
fn report(asked: &Check, config: &Config) -> anyhow::Result<Report> {
    let file = asked.source.file().unwrap_or_default();
    let mut problems = clusters::check_kubeconfigs(config, &file)?;
    problems.extend(clusters::check_databases(config, &file));
    Ok(match clusters::load_once(config) {
        Err(error) => {
            problems.push(Problem::of_file(&file, format!("{error:#}")));
            Report { problems, ..Report::default() }
        }
        Ok((snapshot, found)) => {
            problems.extend(found.problems);
            Report {
                problems,
                warnings: [asked.source.warnings(config), found.warnings, warnings(&snapshot)].concat(),
                summary: summary(&snapshot, config),
            }
        }
    })
}

impl Report {
    fn human(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        for problem in &self.problems {
            writeln!(out, "{problem}")?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        let problems = counted(self.problems.len(), "problem");
        let warnings = counted(self.warnings.len(), "warning");
        match &*self.summary {
            "" => writeln!(out, "{problems}")?,
            summary => writeln!(out, "{problems}, {warnings}: {summary}")?,
        }
        Ok(out)
    }
}

/// Conflicts between exports (KEP-1645) and services that answer less than they promise.
fn warnings(snapshot: &Snapshot) -> Vec<String> {
    let mut warnings = Vec::new();
    for service in snapshot.services.iter() {
        for conflict in &service.conflicts {
            warnings.push(format!("{}: {}: {}", service.name, conflict.reason.as_str(), conflict.message));
        }
        for warning in &service.warnings {
            warnings.push(format!("{}: {warning}", service.name));
        }
    }
    warnings.sort();
    warnings
}

/// What was read, and what only a running process reads.
fn summary(snapshot: &Snapshot, config: &Config) -> String {
    let zones: Vec<_> = snapshot.zones.iter().map(|zone| zone.config.origin.to_string()).collect();
    let (counts, of) = (snapshot.counts, &config.clusterset);
    let (clusters, services) = (counted(of.clusters.len(), "cluster"), counted(counts.services, "service"));
    let endpoints = counted(counts.endpoints, "endpoint");
    let read = format!("{clusters}, {services}, {endpoints} in {}", zones.join(" "));
    let followed = of.peers.len() + usize::from(of.own.is_some());
    let unasked = format!("{} behind API servers, not asked", counted(followed, "cluster"));
    match (of.clusters.is_empty(), followed) {
        (_, 0) => read,
        (true, _) => unasked,
        (false, _) => format!("{read}; {unasked}"),
    }
}

fn counted(number: usize, thing: &str) -> String {
    match number {
        0 => format!("no {thing}s"),
        1 => format!("1 {thing}"),
        _ => format!("{number} {thing}s"),
    }
}
