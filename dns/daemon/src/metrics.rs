//! Metrics of the clusters and of what is answered, read when they are asked for.

use std::fmt;

use portolan_sync::{Snapshots, SourceStatus};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::admin::ClusterStatus;

/// Collects from the newest snapshot and the sources.
pub(crate) struct ClusterMetrics {
    snapshots: Snapshots,
    clusters: ClusterStatus,
}

impl ClusterMetrics {
    /// Of what these tell.
    pub(crate) fn new(snapshots: Snapshots, clusters: ClusterStatus) -> Self {
        Self { snapshots, clusters }
    }
}

impl fmt::Debug for ClusterMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterMetrics").finish_non_exhaustive()
    }
}

impl Collector for ClusterMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let snapshot = self.snapshots.load();
        let counts = snapshot.counts;
        let status = (self.clusters)();
        for (name, help, value) in [
            ("portolan_snapshot_generation", "Published changes", int(snapshot.generation)),
            ("portolan_snapshot_serial", "SOA serial", int(snapshot.serial)),
            ("portolan_snapshot_complete", "Whether every cluster was read once", int(snapshot.complete)),
            ("portolan_services", "Services of the clusterset", int(counts.services as u64)),
            ("portolan_headless_services", "Headless services among them", int(counts.headless as u64)),
            ("portolan_endpoints", "Endpoint addresses, ready or not", int(counts.endpoints as u64)),
            (
                "portolan_export_conflicts",
                "Conflicts between exports (KEP-1645)",
                int(counts.conflicts as u64),
            ),
            (
                "portolan_invalid_exports",
                "Exports that don't count",
                int(status.owner.invalid_export_count as u64),
            ),
            (
                "portolan_vip_services",
                "Services with virtual IPs of the pool",
                int(status.owner.pool_services as u64),
            ),
            (
                "portolan_vip_problems",
                "Services that get no virtual IP",
                int(status.owner.vip_problem_count as u64),
            ),
            (
                "portolan_vip_state_file_failed",
                "Whether the state file can't be read or written",
                int(status.owner.state_file_error.is_some()),
            ),
        ] {
            gauge(&mut encoder, name, help, value)?;
        }
        let sources = &status.sources;
        let synced = |source: &SourceStatus| Some(int(source.synced));
        by_cluster(&mut encoder, sources, "portolan_cluster_synced", "Whether the cluster is read", synced)?;
        let stale = |source: &SourceStatus| Some(int(source.stale));
        let help = "Whether the cluster can't be read any more, and answers may be out of date";
        by_cluster(&mut encoder, sources, "portolan_cluster_stale", help, stale)?;
        let objects = |source: &SourceStatus| Some(int(source.objects.values().sum::<usize>() as u64));
        by_cluster(&mut encoder, sources, "portolan_cluster_objects", "Objects that count", objects)?;
        let problems = |source: &SourceStatus| Some(int(source.problems.len() as u64));
        by_cluster(
            &mut encoder,
            sources,
            "portolan_cluster_problems",
            "What is wrong with its manifests",
            problems,
        )?;
        let help = "When a change was last read, in seconds since the Unix epoch";
        by_cluster(&mut encoder, sources, "portolan_cluster_changed_timestamp_seconds", help, |s| {
            s.changed_at
        })
    }
}

/// Gauges are signed; none of these comes near the limit.
fn int(value: impl Into<u64>) -> i64 {
    i64::try_from(value.into()).unwrap_or(i64::MAX)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> fmt::Result {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

/// One sample a source, labelled with the cluster's id, or its path while the id is unknown.
fn by_cluster(
    encoder: &mut DescriptorEncoder<'_>,
    sources: &[SourceStatus],
    name: &str,
    help: &str,
    value: impl Fn(&SourceStatus) -> Option<i64>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for source in sources {
        let cluster =
            source.cluster.as_ref().map_or_else(|| source.path.display().to_string(), ToString::to_string);
        if let Some(value) = value(source) {
            ConstGauge::new(value).encode(metric.encode_family(&[("cluster", cluster)])?)?;
        }
    }
    Ok(())
}
