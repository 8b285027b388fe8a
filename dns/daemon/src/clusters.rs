//! What `portolan-sync` finds and knows, in our words.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portolan_config::Problem;
use portolan_dns::geo::{Geo, GeoConfig};
use portolan_sync::kubernetes::{Access, ClusterState, Origin};
use portolan_sync::{Severity, SourceStatus};
use portolan_zones::{ClusterId, Snapshot};
use serde_json::{Value, json};

use crate::config::Config;

/// What is wrong with the clusters.
pub(crate) struct Found {
    /// What must be put right.
    pub problems: Vec<Problem>,
    /// What works otherwise than its authors may think.
    pub warnings: Vec<String>,
}

/// Reads everything once; writes nothing.
pub(crate) fn load_once(wanted: &Config) -> anyhow::Result<(Arc<Snapshot>, Found)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (snapshot, problems) = portolan_sync::load_once(&wanted.sync_config()?, i64::try_from(now)?)?;
    let (errors, warnings): (Vec<_>, Vec<_>) =
        problems.into_iter().partition(|problem| problem.severity == Severity::Error);
    let problems = errors.into_iter().map(problem).collect();
    let warnings = warnings.iter().map(ToString::to_string).collect();
    Ok((Arc::new(snapshot), Found { problems, warnings }))
}

/// What is wrong with the kubeconfigs of the configuration `file`, as far as it shows without asking a cluster. Who
/// checks what will run in a Pod may be anywhere: its service account is not looked for.
pub(crate) fn check_kubeconfigs(config: &Config, file: &Path) -> anyhow::Result<Vec<Problem>> {
    let own = config.clusterset.own.iter().map(|own| ("kubernetes".to_owned(), &own.access));
    let peers = config.clusterset.peers.iter().map(|peer| (format!("cluster {}", peer.name), &peer.access));
    let with_files = own.chain(peers).filter(|(_, access)| **access != Access::InCluster);
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let problem = |(field, access): (String, &Access)| {
        let error = runtime.block_on(access.check_config()).err()?;
        Some(Problem { file: file.to_owned(), line: 0, field, message: error.to_string() })
    };
    Ok(with_files.filter_map(problem).collect())
}

/// What is wrong with the databases of the configuration `file`.
pub(crate) fn check_databases(config: &Config, file: &Path) -> Vec<Problem> {
    let databases = config.geo.databases.iter().enumerate();
    let problem = |(at, database): (usize, &PathBuf)| {
        let alone = GeoConfig { databases: vec![database.clone()], rules: config.geo.rules.clone() };
        let error = Geo::default().prepare(&alone).err()?;
        let field = format!("geoip.databases[{at}]");
        Some(Problem { file: file.to_owned(), line: 0, field, message: error.to_string() })
    };
    databases.filter_map(problem).collect()
}

/// A source as `/status` shows it.
pub(crate) fn source_json(source: &SourceStatus, times: &RoundTrips) -> Value {
    let problems: Vec<_> = source.problems.iter().map(ToString::to_string).collect();
    json!({
        "cluster": source.cluster.as_ref().map(ToString::to_string),
        "path": source.path,
        "synced": source.synced,
        "stale": source.stale,
        "objects": source.objects,
        "changedAt": source.changed_at,
        "checkedAt": source.checked_at,
        "roundTripTime": milliseconds(times, source.cluster.as_ref()),
        "problems": problems,
    })
}

/// How long it takes to get to clusters, sorted.
type RoundTrips = [(ClusterId, Duration)];

/// How long it takes to get to a cluster, to the microsecond.
fn milliseconds(times: &RoundTrips, cluster: Option<&ClusterId>) -> Option<f64> {
    let at = times.binary_search_by_key(&cluster?, |(id, _)| id).ok()?;
    Some(times[at].1.as_micros() as f64 / 1000.0)
}

/// Who names it.
pub(crate) fn origin(cluster: &ClusterState) -> &'static str {
    match cluster.origin {
        None => "own",
        Some(Origin::ClusterPeer) => "ClusterPeer",
        Some(Origin::ClusterProfile) => "ClusterProfile",
        Some(Origin::Kubeconfig) => "kubeconfig",
    }
}

/// A cluster behind an API server as `/status` shows it.
pub(crate) fn cluster_json(cluster: &ClusterState, times: &RoundTrips) -> Value {
    let lease = |(id, stale): (&ClusterId, &bool)| json!({ "cluster": id.to_string(), "stale": stale, "roundTripTime": milliseconds(times, Some(id)) });
    let leases: Vec<_> = cluster.leases.iter().map(lease).collect();
    json!({
        "name": cluster.name,
        "origin": origin(cluster),
        "cluster": cluster.id.as_ref().map(ToString::to_string),
        "uid": cluster.uid,
        "version": cluster.version,
        "leases": leases,
        "reachable": cluster.reachable,
        "synced": cluster.synced,
        "stale": cluster.stale,
        "withdrawn": cluster.withdrawn,
        "contactAt": cluster.contact_at,
        "changedAt": cluster.changed_at,
        "objects": cluster.objects,
        "refusedExports": cluster.refused_exports,
        "refused": cluster.refused,
        "lagSeconds": cluster.lag.map(|lag| lag.as_secs_f64()),
        "roundTripTime": milliseconds(times, cluster.id.as_ref()),
        "problems": cluster.problems,
        "duplicateOf": cluster.duplicate_of,
        "isOwn": cluster.is_own,
    })
}

/// An object takes the place that a field has in a configuration.
fn problem(problem: portolan_sync::Problem) -> Problem {
    Problem {
        file: problem.file,
        line: problem.line.map_or(0, |line| line as usize),
        field: problem.object.unwrap_or_default(),
        message: problem.message,
    }
}
