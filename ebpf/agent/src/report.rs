//! What the agent says of itself, as `/status` and `/services` have it and `portolan-agent status` prints it.

use std::path::Path;
use std::sync::Arc;

use portolan_ebpf::connected::ConnectedSockets;
use portolan_ebpf::pins::{Attached, look};
use portolan_ebpf::reconcile::{Counted, Fill, Reconciler};
use portolan_ebpf::tables::Tables;
use portolan_sync::Status;
use serde::{Deserialize, Serialize};

use crate::keeper::{Kept, Shared, lock};

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Of this program.
    pub version: String,
    /// Whether connections are redirected by what this agent knows.
    pub ready: bool,
    /// The cgroup's folder.
    pub cgroup: String,
    /// Where programs are pinned.
    pub pins: String,
    /// Where the node is, as its Node says.
    pub place: String,
    /// Of the snapshot that is followed.
    pub generation: u64,
    pub hooks: Vec<HookReport>,
    /// Programs of others on the same cgroup.
    pub neighbours: Vec<String>,
    pub maps: Vec<MapReport>,
    /// How many are redirected.
    pub services: usize,
    /// Those that are not, or not wholly; at most 100 of them.
    pub refused: Vec<Refused>,
    pub refused_count: usize,
    pub last_pass_milliseconds: f64,
    /// What the reader should know, and may leave as it is.
    #[serde(default)]
    pub notes: Vec<String>,
    /// All that should be put right.
    pub problems: Vec<String>,
}

/// A hook in the kernel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HookReport {
    pub name: String,
    /// As bpftool has it.
    pub program: u32,
    /// Inode of the cgroup's folder; 0: it is gone.
    pub cgroup: u64,
    /// Of the agent that pinned it.
    pub abi: u32,
}

/// How full a map is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MapReport {
    pub name: String,
    pub used: u32,
    pub size: u32,
}

/// A service that found no room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub service: String,
    pub reason: String,
}

/// A port of a service, and what has been counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PortReport {
    pub service: String,
    pub protocol: String,
    pub port: u16,
    /// Connections, and flows of UDP, that were sent to a backend.
    pub connections: u64,
    /// Those that were refused, for there was none.
    pub unreachable: u64,
    pub backends: Vec<BackendReport>,
}

/// A backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackendReport {
    pub cluster: String,
    pub address: std::net::SocketAddr,
    pub connections: u64,
}

/// Most services that found no room that are listed.
const MOST_REFUSED: usize = 100;

/// What does not change while an agent runs.
#[derive(Debug, Clone)]
pub(crate) struct Fixed {
    pub pins: std::path::PathBuf,
    /// See [`Report::notes`].
    pub notes: Vec<String>,
    /// They change: who shows them is the same.
    pub connected: Arc<ConnectedSockets>,
}

impl Fixed {
    fn notes(&self) -> impl Iterator<Item = String> {
        let unnoted = Some(self.connected.unnoted()).filter(|unnoted| *unnoted > 0);
        let unnoted = unnoted.map(|unnoted| {
            format!(
                "{unnoted} connected UDP sockets found no room in map connected, and are not closed when their backend is gone: raise \
                 `agent.maps.sockets`"
            )
        });
        self.notes.iter().cloned().chain(unnoted)
    }
}

impl Report {
    /// As it is now.
    pub(crate) fn now(redirection: &Shared, kept: &Kept, sources: &Status, fixed: &Fixed) -> Self {
        let redirection = lock(redirection);
        let follower = redirection.follower();
        let reconciler = follower.reconciler();
        let refused = reconciler.refused();
        let refused_now = refused.iter().take(MOST_REFUSED);
        let refused_now =
            refused_now.map(|(name, why)| Refused { service: name.to_string(), reason: why.to_string() });
        let mut problems: Vec<String> = kept.troubles().cloned().collect();
        problems.extend(undeleted(reconciler));
        problems.extend(problems_of(sources));
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ready: kept.attached,
            cgroup: redirection.cgroup().path().display().to_string(),
            pins: fixed.pins.display().to_string(),
            place: follower.place().to_string(),
            generation: kept.generation,
            hooks: hooks(&fixed.pins),
            neighbours: kept.neighbours.clone(),
            maps: maps(&reconciler.fill(), fixed.connected.fill()),
            services: reconciler.services(),
            refused: refused_now.collect(),
            refused_count: refused.len(),
            last_pass_milliseconds: kept.last_pass.as_micros() as f64 / 1000.0,
            notes: fixed.notes().chain(kept.notes(&fixed.pins)).collect(),
            problems,
        }
    }
}

/// What the kernel does not delete.
pub(crate) fn undeleted<T: Tables>(reconciler: &Reconciler<T>) -> Option<String> {
    let (count, why) = reconciler.undeleted()?;
    Some(format!(
        "{count} entries can't be deleted, lead where they led, and are tried again every second: {why}"
    ))
}

/// What is in the kernel, whoever put it there.
pub(crate) fn hooks(pins: &Path) -> Vec<HookReport> {
    let report = |Attached { hook, program, cgroup, abi }| HookReport {
        name: hook.name.to_owned(),
        program,
        cgroup,
        abi,
    };
    look(pins).into_iter().map(report).collect()
}

/// In the order in which they are looked up.
fn maps(fill: &Fill, connected: (u32, u32)) -> Vec<MapReport> {
    let Fill { vips, ports, backends, slots, clusters } = *fill;
    let all = [
        ("vips", vips),
        ("ports", ports),
        ("slots", slots),
        ("backends", backends),
        ("clusters", clusters),
        ("connected", connected),
    ];
    all.map(|(name, (used, size))| MapReport { name: name.to_owned(), used, size }).into()
}

/// What is wrong with where the snapshot comes from.
pub(crate) fn problems_of(sources: &Status) -> Vec<String> {
    let files = sources.sources.iter().flat_map(|source| source.problems.iter().map(ToString::to_string));
    let clusters = sources.kubernetes.iter().flat_map(|cluster| {
        cluster.problems.iter().map(|problem| format!("cluster {}: {problem}", cluster.name))
    });
    files.chain(clusters).collect()
}

/// Ports of services whose name has this in it, by name.
pub(crate) fn ports(redirection: &Shared, filter: &str) -> Vec<PortReport> {
    let redirection = lock(redirection);
    let counted = redirection.follower().reconciler().counted();
    let mut ports: Vec<PortReport> = counted.map(PortReport::from).collect();
    ports.retain(|port| port.service.contains(filter));
    ports.sort_by(|a, b| (&a.service, a.port, &a.protocol).cmp(&(&b.service, b.port, &b.protocol)));
    ports
}

impl From<Counted<'_>> for PortReport {
    fn from(counted: Counted<'_>) -> Self {
        let backend = |(cluster, address, port, connections): &(&portolan_zones::ClusterId, _, u16, u64)| {
            BackendReport {
                cluster: cluster.to_string(),
                address: (*address, *port).into(),
                connections: *connections,
            }
        };
        Self {
            service: counted.service.to_string(),
            protocol: protocol(counted.protocol).to_owned(),
            port: counted.port,
            connections: counted.connections,
            unreachable: counted.unreachable,
            backends: counted.backends.iter().map(backend).collect(),
        }
    }
}

/// As Kubernetes spells it.
pub(crate) fn protocol(protocol: portolan_zones::object::Protocol) -> &'static str {
    match protocol {
        portolan_zones::object::Protocol::Tcp => "TCP",
        portolan_zones::object::Protocol::Udp => "UDP",
        portolan_zones::object::Protocol::Sctp => "SCTP",
    }
}
