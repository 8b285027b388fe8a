//! Metrics, read when they are asked for. Backends are there by name as soon as they were used: who has thousands that nobody
//! connects to pays nothing for them.

use std::fmt;
use std::sync::Arc;

use portolan_ebpf::connected::ConnectedSockets;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::keeper::{Kept, Shared, Shown, lock};
use crate::report::PortReport;

/// Collects from the tables and the keeper.
pub(crate) struct AgentMetrics {
    redirection: Shared,
    shown: Shown,
    connected: Arc<ConnectedSockets>,
}

impl AgentMetrics {
    pub(crate) fn new(redirection: Shared, shown: Shown, connected: Arc<ConnectedSockets>) -> Self {
        Self { redirection, shown, connected }
    }
}

impl fmt::Debug for AgentMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentMetrics").finish_non_exhaustive()
    }
}

impl Collector for AgentMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let kept = lock(&self.shown).clone();
        of_keeper(&mut encoder, &kept)?;
        // Text is made of what was copied: nothing that changes waits for it.
        let (fill, services, refused, undeleted, ports) = {
            let redirection = lock(&self.redirection);
            let reconciler = redirection.follower().reconciler();
            let ports: Vec<PortReport> = reconciler.counted().map(PortReport::from).collect();
            let undeleted = reconciler.undeleted().map_or(0, |(count, _)| count);
            (reconciler.fill(), reconciler.services(), reconciler.refused().len(), undeleted, ports)
        };
        gauge(&mut encoder, "portolan_agent_services", "Services that are redirected", services as i64)?;
        let help = "Services that are not, or not wholly, redirected";
        gauge(&mut encoder, "portolan_agent_refused_services", help, refused as i64)?;
        let help = "Entries that the kernel refused to delete, which is tried again";
        gauge(&mut encoder, "portolan_agent_undeleted_entries", help, undeleted as i64)?;
        let maps = [
            ("vips", fill.vips),
            ("ports", fill.ports),
            ("slots", fill.slots),
            ("backends", fill.backends),
            ("clusters", fill.clusters),
            ("connected", self.connected.fill()),
        ];
        let used = maps.map(|(map, (used, _))| (map, used));
        of_maps(&mut encoder, "portolan_agent_map_entries", "Entries in use", &used)?;
        let size = maps.map(|(map, (_, size))| (map, size));
        of_maps(&mut encoder, "portolan_agent_map_size", "Most entries", &size)?;
        let (name, help) = (
            "portolan_agent_unnoted_sockets",
            "Connected UDP sockets that found no room in `connected`: they are not closed when their backend is gone",
        );
        counter(&mut encoder, name, help, self.connected.unnoted())?;
        of_ports(&mut encoder, &ports)?;
        of_backends(&mut encoder, &ports)
    }
}

fn of_keeper(encoder: &mut DescriptorEncoder<'_>, kept: &Kept) -> fmt::Result {
    for (name, help, value) in [
        (
            "portolan_agent_ready",
            "Whether connections are redirected by what this agent knows",
            u64::from(kept.attached),
        ),
        (
            "portolan_agent_snapshot_generation",
            "Generation of the snapshot that the kernel follows",
            kept.generation,
        ),
        (
            "portolan_agent_last_pass_microseconds",
            "How long the last snapshot took to be in the kernel",
            u64::try_from(kept.last_pass.as_micros()).unwrap_or(u64::MAX),
        ),
        (
            "portolan_agent_in_trouble",
            "Whether something keeps it from its work: /status says what",
            u64::from(kept.is_in_trouble()),
        ),
    ] {
        gauge(encoder, name, help, i64::try_from(value).unwrap_or(i64::MAX))?;
    }
    for (name, help, value) in [
        ("portolan_agent_passes", "Snapshots that were followed", kept.passes),
        ("portolan_agent_written_services", "Services that were looked at for them", kept.services),
        (
            "portolan_agent_clusters_down",
            "Clusters that were taken out of all services at once",
            kept.clusters_down,
        ),
        (
            "portolan_agent_closed_sockets",
            "UDP sockets that were closed, for their backend was gone",
            kept.closed_sockets,
        ),
        (
            "portolan_agent_reattached",
            "How often programs were attached again, for the cgroup or a link was gone",
            kept.reattached,
        ),
        (
            "portolan_agent_pinned_again",
            "How often pins were made anew, for somebody had removed them",
            kept.pinned_again,
        ),
    ] {
        counter(encoder, name, help, value)?;
    }
    Ok(())
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    ConstCounter::new(value).encode(descriptor)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: i64) -> fmt::Result {
    let descriptor = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(descriptor)
}

fn of_maps(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: &[(&str, u32)],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (map, value) in values {
        ConstGauge::new(i64::from(*value)).encode(metric.encode_family(&[("map", *map)])?)?;
    }
    Ok(())
}

fn of_ports(encoder: &mut DescriptorEncoder<'_>, ports: &[PortReport]) -> fmt::Result {
    type Value = fn(&PortReport) -> u64;
    let metrics: [(&str, &str, Value); 2] = [
        (
            "portolan_agent_connections",
            "Connections, and flows of UDP, that were sent to a backend",
            |port| port.connections,
        ),
        ("portolan_agent_unreachable", "Connections that were refused, for there was no backend", |port| {
            port.unreachable
        }),
    ];
    for (name, help, value) in metrics {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for port in ports.iter().filter(|port| value(port) > 0) {
            ConstCounter::new(value(port))
                .encode(metric.encode_family(&labels(port, &port.port.to_string()))?)?;
        }
    }
    Ok(())
}

fn of_backends(encoder: &mut DescriptorEncoder<'_>, ports: &[PortReport]) -> fmt::Result {
    let (name, help) = ("portolan_agent_backend_connections", "The same by backend, as long as it is one");
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for port in ports {
        let number = port.port.to_string();
        let [namespace, service, protocol, number] = labels(port, &number);
        for backend in port.backends.iter().filter(|backend| backend.connections > 0) {
            let address = backend.address.to_string();
            let labels = [
                namespace,
                service,
                protocol,
                number,
                ("cluster", &*backend.cluster),
                ("backend", &*address),
            ];
            ConstCounter::new(backend.connections).encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// Names, never numbers of ours.
fn labels<'p>(port: &'p PortReport, number: &'p str) -> [(&'static str, &'p str); 4] {
    let (namespace, service) = port.service.split_once('/').unwrap_or_default();
    [("namespace", namespace), ("service", service), ("protocol", &port.protocol), ("port", number)]
}
