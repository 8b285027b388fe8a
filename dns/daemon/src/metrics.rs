//! Metrics of the clusters and of what is answered, read when they are asked for.

use std::fmt;

use portolan_sync::kubernetes::ClusterState;
use portolan_sync::{Snapshots, SourceStatus};
use portolan_zones::object::UnixTime;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::admin::{ClusterStatus, ControllerStatus};
use crate::clusters::origin;
use crate::writing::Requests;

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
            (
                "portolan_policy_problems",
                "TrafficPolicies that don't hold for something that they are about",
                int(status.owner.policy_problems.len() as u64),
            ),
            ("portolan_probe_targets", "What health checks ask", int(status.probes.targets as u64)),
            (
                "portolan_probe_unhealthy_targets",
                "Of these, what is not healthy",
                int(status.probes.unhealthy_count as u64),
            ),
            (
                "portolan_probe_behind_milliseconds",
                "By how much the one that waits longest is late: probes.per-second is too small",
                (status.probes.behind * 1000.0) as i64,
            ),
        ] {
            gauge(&mut encoder, name, help, value)?;
        }
        if let Some(agents) = &snapshot.agents {
            let help = "Nodes, where virtual IPs are for clients on those that have a ready agent";
            gauge(&mut encoder, "portolan_agents", help, int(agents.nodes() as u64))?;
            let help = "Nodes that have a ready agent";
            gauge(&mut encoder, "portolan_agents_ready", help, int(agents.ready() as u64))?;
        }
        clusters(&mut encoder, &Cluster::all(&status))
    }
}

/// What is told of each cluster, wherever it is read.
fn clusters(encoder: &mut DescriptorEncoder<'_>, clusters: &[Cluster]) -> fmt::Result {
    type Value = fn(&Cluster) -> Option<i64>;
    let metrics: [(&str, &str, Value); 9] = [
        ("portolan_cluster_synced", "Whether the cluster is read", |c| Some(int(c.synced))),
        (
            "portolan_cluster_stale",
            "Whether the cluster can't be read any more, and answers may be out of date",
            |c| Some(int(c.stale)),
        ),
        ("portolan_cluster_objects", "Objects that count", |c| Some(int(c.objects as u64))),
        ("portolan_cluster_problems", "What is wrong with it or its objects", |c| {
            Some(int(c.problems as u64))
        }),
        (
            "portolan_cluster_changed_timestamp_seconds",
            "When a change was last read, in seconds since the Unix epoch",
            |c| c.changed_at,
        ),
        ("portolan_cluster_reachable", "Whether its API server answers", |c| {
            c.api.as_ref().map(|api| int(api.reachable))
        }),
        (
            "portolan_cluster_withdrawn",
            "Whether its endpoints were taken out, for it was not heard for so long",
            |c| c.api.as_ref().map(|api| int(api.withdrawn)),
        ),
        (
            "portolan_cluster_last_contact_timestamp_seconds",
            "When its API server last answered, in seconds since the Unix epoch",
            |c| c.api.as_ref().and_then(|api| api.contact_at),
        ),
        (
            "portolan_cluster_refused_exports",
            "Exports that don't count, for their namespaces are not accepted",
            |c| c.api.as_ref().map(|api| int(api.refused_exports as u64)),
        ),
    ];
    for (name, help, value) in metrics {
        by_cluster(encoder, clusters, name, help, value)?;
    }
    let help = "Whether the controller of the own cluster hears it no longer, as its Lease tells";
    let mut told =
        encoder.encode_descriptor("portolan_cluster_lease_stale", help, None, MetricType::Gauge)?;
    for cluster in clusters {
        for (id, stale) in cluster.api.iter().flat_map(|api| &api.leases) {
            let labels = [("cluster", id.to_string()), ("source", cluster.source.clone())];
            ConstGauge::new(int(*stale)).encode(told.encode_family(&labels)?)?;
        }
    }
    let help = "How long the last changes took from the API server's word to the table's queue";
    by_cluster(encoder, clusters, "portolan_cluster_lag_seconds", help, |cluster| {
        cluster.api.as_ref().and_then(|api| Some(api.lag?.as_secs_f64()))
    })
}

/// A cluster, wherever it is read.
struct Cluster<'a> {
    /// Its id, or what its source is called while that is unknown.
    name: String,
    /// Where it is read: who is called as another one's id shall not have that one's samples.
    source: String,
    synced: bool,
    stale: bool,
    objects: usize,
    problems: usize,
    changed_at: Option<UnixTime>,
    /// What only an API server has.
    api: Option<&'a ClusterState>,
}

impl<'a> Cluster<'a> {
    /// Clusters that are followed in another's place are left out: one name must not have two samples.
    fn all(status: &'a portolan_sync::Status) -> Vec<Self> {
        let followed = status.kubernetes.iter().filter(|c| c.duplicate_of.is_none() && !c.is_own);
        let read = status.sources.iter().map(Self::of_source);
        followed.map(Self::of_api).chain(read).collect()
    }

    fn of_api(state: &'a ClusterState) -> Self {
        Self {
            name: state.id.as_ref().map_or_else(|| state.name.clone(), ToString::to_string),
            source: match state.origin {
                None => state.name.clone(),
                Some(_) => format!("{} {}", origin(state), state.name),
            },
            synced: state.synced,
            stale: state.stale,
            objects: state.objects.values().sum(),
            problems: state.problems.len(),
            changed_at: state.changed_at,
            api: Some(state),
        }
    }

    fn of_source(source: &'a SourceStatus) -> Self {
        let path = source.path.display().to_string();
        Self {
            name: source.cluster.as_ref().map_or_else(|| path.clone(), ToString::to_string),
            source: path,
            synced: source.synced,
            stale: source.stale,
            objects: source.objects.values().sum(),
            problems: source.problems.len(),
            changed_at: source.changed_at,
            api: None,
        }
    }
}

/// Collects from the controller.
pub(crate) struct ControllerMetrics(ControllerStatus);

impl ControllerMetrics {
    /// Of what this tells.
    pub(crate) fn new(controller: ControllerStatus) -> Self {
        Self(controller)
    }
}

impl fmt::Debug for ControllerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControllerMetrics").finish_non_exhaustive()
    }
}

impl Collector for ControllerMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let state = (self.0)();
        for (name, help, value) in [
            ("portolan_controller_leading", "Whether this process writes", int(state.leading)),
            ("portolan_controller_queue", "Services that wait to be written", int(state.queue as u64)),
            (
                "portolan_controller_unreachable",
                "Whether nothing at all can be written",
                int(state.unreachable.is_some()),
            ),
            (
                "portolan_controller_failing_services",
                "Services that can't be written",
                int(state.failing as u64),
            ),
            (
                "portolan_controller_exhausted_services",
                "Services that get no virtual IP, for the range has none left",
                int(state.exhausted as u64),
            ),
            (
                "portolan_controller_foreign_objects",
                "Objects of others where the controller's should be",
                int(state.foreign as u64),
            ),
            (
                "portolan_controller_gateway_ports",
                "Ports of services that have numbers at the shared gateway",
                int(state.gateway.ports as u64),
            ),
            (
                "portolan_controller_gateway_refused_ports",
                "Ports of services that the shared gateway has no room for: `portolan status` says why",
                int(state.gateway.refused as u64),
            ),
        ] {
            gauge(&mut encoder, name, help, value)?;
        }
        let help = "Requests that came to nothing";
        let failed = encoder.encode_descriptor(
            "portolan_controller_failed_requests",
            help,
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(state.failed).encode(failed)?;
        let help = "Requests that should change something";
        let mut requests =
            encoder.encode_descriptor("portolan_controller_requests", help, None, MetricType::Counter)?;
        for Requests { kind, verb, count } in state.requests {
            let labels = [("kind", kind), ("verb", verb)];
            ConstCounter::new(count).encode(requests.encode_family(&labels)?)?;
        }
        Ok(())
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

/// One sample a cluster.
fn by_cluster<N: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    clusters: &[Cluster<'_>],
    name: &str,
    help: &str,
    value: impl Fn(&Cluster<'_>) -> Option<N>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for cluster in clusters {
        if let Some(value) = value(cluster) {
            let labels = [("cluster", cluster.name.as_str()), ("source", &cluster.source)];
            ConstGauge::new(value).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
