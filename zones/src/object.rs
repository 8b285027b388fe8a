//! What one cluster says: the few fields of Kubernetes objects that decide an answer or a redirect.
//!
//! Kubernetes types end in `portolan_sync::convert`; from here on there are only these. Each object is
//! valid by itself (labels, addresses, ports), so that nothing below has to check again.

use std::net::IpAddr;
use std::sync::Arc;

use crate::compact::Shared;
use crate::name::{ClusterId, ServiceName, Text};
use crate::peers::{Peer, State};
use crate::policy::{Attached, Policy, PolicyName};

/// Seconds since the Unix epoch, as `creationTimestamp` has them.
pub type UnixTime = i64;

/// One object of one cluster.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum Object {
    /// ServiceExport: this service is offered to the clusterset.
    Export(Export),
    /// Service: what is behind an export.
    Service(Service),
    /// ServiceImport: how a cluster's own clients see a service; its VIPs above all.
    Import(Import),
    /// EndpointSlice.
    Slice(Slice),
    /// Node, for the client's location.
    Node(Node),
    /// Namespace: its name exists in DNS even when it is empty.
    Namespace(Arc<str>),
    /// TrafficPolicy: how clients are spread.
    Policy(Policy),
    /// ClusterPeer: what the home cluster says of another one.
    Peer(Peer),
}

/// Which object an [`Object`] is: unique in its cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the variants are those of Object")]
pub enum ObjectKey {
    Export(ServiceName),
    Service(ServiceName),
    Import(ServiceName),
    Slice(SliceName),
    Node(Text),
    Namespace(Text),
    Policy(PolicyName),
    Peer(Text),
}

/// An EndpointSlice's namespace and name, which is a subdomain and no label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceName(Shared);

impl SliceName {
    /// Takes valid names as they are.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").as_bytes().into())
    }
}

/// `<namespace>/<name>`, as kubectl prints objects.
impl std::fmt::Display for SliceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.text())
    }
}

impl std::fmt::Debug for SliceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Object {
    /// The object's identity.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Export(export) => ObjectKey::Export(export.name.clone()),
            Self::Service(service) => ObjectKey::Service(service.name.clone()),
            Self::Import(import) => ObjectKey::Import(import.name.clone()),
            Self::Slice(slice) => ObjectKey::Slice(slice.name.clone()),
            Self::Node(node) => ObjectKey::Node((*node.name).into()),
            Self::Namespace(name) => ObjectKey::Namespace((**name).into()),
            Self::Policy(policy) => ObjectKey::Policy(policy.name.clone()),
            Self::Peer(peer) => ObjectKey::Peer((*peer.name).into()),
        }
    }
}

impl ObjectKey {
    /// The namespace that the object is in; a Namespace's own name.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::Export(name) | Self::Service(name) | Self::Import(name) => Some(name.namespace()),
            Self::Slice(SliceName(name)) => name.text().split_once('/').map(|(namespace, _)| namespace),
            Self::Namespace(name) => Some(name),
            Self::Policy(name) => Some(name.namespace()),
            Self::Node(_) | Self::Peer(_) => None,
        }
    }
}

/// `ServiceExport Namespace/name`, as error messages print it.
impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Export(name) => write!(f, "ServiceExport {name}"),
            Self::Service(name) => write!(f, "Service {name}"),
            Self::Import(name) => write!(f, "ServiceImport {name}"),
            Self::Slice(name) => write!(f, "EndpointSlice {name}"),
            Self::Node(name) => write!(f, "Node {name}"),
            Self::Namespace(name) => write!(f, "Namespace {name}"),
            Self::Policy(name) => write!(f, "TrafficPolicy {name}"),
            Self::Peer(name) => write!(f, "ClusterPeer {name}"),
        }
    }
}

/// What happened in one cluster.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct ClusterEvent {
    /// The cluster that says so.
    pub cluster: ClusterId,
    /// What it says.
    pub change: Change,
}

/// The whole vocabulary of a watch.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum Change {
    /// The object is new or changed.
    Apply(Object),
    /// The object is gone.
    Delete(ObjectKey),
    /// These are all objects; whatever else was known of the cluster is gone. The first one is the cluster's sync.
    Reset(Vec<Object>),
    /// All objects have been told, one by one: the cluster's sync, for sources that never hold them all at once.
    Synced,
}

/// A ServiceExport.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Export {
    /// Same namespace and name as the Service.
    pub name: ServiceName,
    /// Precedence in conflicts: the oldest export wins (KEP-1645).
    pub created: UnixTime,
    /// What the export takes along for people and programs; `None` for nothing, as is usual.
    pub exported: Option<Arc<Exported>>,
    /// What its author says, or else the cluster's controller: how the service is reached from another network. What holds
    /// says [`Export::gateway`].
    pub gateway: Option<Arc<Gateway>>,
    /// What its author decides: annotation `portolan.dev/state`.
    pub state: Option<State>,
}

impl Export {
    /// How the export is reached: as its author says, else as its Service has it, else through the gateway that all share.
    pub fn gateway<'g>(&'g self, service: &'g Service) -> Option<&'g Arc<Gateway>> {
        let said = self.gateway.as_ref().filter(|gateway| !gateway.is_shared());
        said.or(service.gateway.as_ref()).or(self.gateway.as_ref())
    }
}

/// How a service of one cluster is reached from another network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gateway {
    /// Where it listens.
    pub at: GatewayAt,
    /// Service ports that have another number there, sorted; all others keep theirs, or aren't there at all: nodes have none
    /// but these.
    pub ports: Box<[GatewayPort]>,
}

impl Gateway {
    /// The number that a port of the service has at the gateway, if it is there.
    pub fn port(&self, protocol: Protocol, number: u16) -> Option<u16> {
        let there = self.ports.binary_search_by_key(&(protocol, number), |port| (port.protocol, port.number));
        match (there, &self.at) {
            (Ok(at), _) => Some(self.ports[at].gateway),
            (Err(_), GatewayAt::Nodes(_) | GatewayAt::Shared(_)) => None,
            (Err(_), GatewayAt::Addresses(_) | GatewayAt::Unresolved) => Some(number),
        }
    }

    /// Whether it is there for all services of its cluster that have no other.
    pub fn is_shared(&self) -> bool {
        matches!(self.at, GatewayAt::Shared(_))
    }

    /// Where it listens, as far as that is known.
    pub fn addresses(&self) -> &[IpAddr] {
        match &self.at {
            GatewayAt::Addresses(addresses) | GatewayAt::Nodes(addresses) | GatewayAt::Shared(addresses) => {
                addresses
            }
            GatewayAt::Unresolved => &[],
        }
    }
}

/// Where a gateway listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum GatewayAt {
    /// At these addresses, sorted: a load balancer's, or what the export's author says.
    Addresses(Box<[IpAddr]>),
    /// At a host name of which no address is known: not yet, or not any more. That is another thing than no gateway.
    Unresolved,
    /// At nodes of the cluster, by node ports. A Service doesn't say which; [`Reach`](crate::service::Reach) does. Or at whatever
    /// addresses, of which only the ports are there that are listed, as a copy tells it.
    Nodes(Box<[IpAddr]>),
    /// At the gateway that all services of the cluster share, as its controller says on an export: only the ports are there that
    /// are listed, and a gateway of the Service's own goes before it. None: its names are not resolved.
    Shared(Box<[IpAddr]>),
}

/// A port of a service at its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayPort {
    /// Transport.
    pub protocol: Protocol,
    /// The service's number.
    pub number: u16,
    /// The gateway's number.
    pub gateway: u16,
}

/// Metadata of an import. That of a Service or ServiceExport is never exported (KEP-1645).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Exported {
    /// `spec.exportedLabels`, sorted by key.
    pub labels: Box<[(Arc<str>, Arc<str>)]>,
    /// `spec.exportedAnnotations`, sorted by key.
    pub annotations: Box<[(Arc<str>, Arc<str>)]>,
}

/// A Service, as far as an export of it matters.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Service {
    /// Namespace and name.
    pub name: ServiceName,
    /// What sort of Service it is.
    pub kind: ServiceKind,
    /// The properties that the export takes along; most services share theirs with many others.
    pub spec: Arc<ServiceSpec>,
    /// Its own load balancer, else its node ports; `None` when it has neither.
    pub gateway: Option<Arc<Gateway>>,
}

/// Whether and how a Service can be exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceKind {
    /// Has a cluster IP: becomes a ClusterSetIP import.
    ClusterIp,
    /// `clusterIP: None`: becomes a Headless import.
    Headless,
    /// `type: ExternalName`: can't be exported (KEP-1645, reason InvalidServiceType).
    ExternalName,
}

/// Properties that an import takes from the exports, by KEP-1645's conflict rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ServiceSpec {
    /// `spec.ports`, in the order written.
    pub ports: Arc<[Port]>,
    /// `spec.ipFamilies`: whether each is IPv6, in the order written.
    pub ip_families: smallvec::SmallVec<[IpFamily; 2]>,
    /// `spec.sessionAffinity` with its timeout.
    pub session_affinity: SessionAffinity,
    /// `spec.internalTrafficPolicy: Local`.
    pub internal_traffic_local: bool,
    /// `spec.trafficDistribution`, for example `PreferSameZone`.
    pub traffic_distribution: Option<Arc<str>>,
}

/// An IP family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum IpFamily {
    V4,
    V6,
}

impl From<IpAddr> for IpFamily {
    fn from(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// `spec.sessionAffinity` and `spec.sessionAffinityConfig.clientIP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SessionAffinity {
    /// No affinity.
    #[default]
    None,
    /// By client IP.
    ClientIp {
        /// Seconds; Kubernetes' default is 10,800.
        timeout: u32,
    },
}

/// A port of a Service or ServiceImport.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Port {
    /// A valid label, or `None`: unnamed ports have no `_port._proto` record.
    pub name: Option<Arc<str>>,
    /// Transport.
    pub protocol: Protocol,
    /// The service's port number.
    pub number: u16,
    /// `appProtocol`.
    pub app_protocol: Option<Arc<str>>,
}

/// A transport protocol that Kubernetes knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// The label that SRV names use (RFC 2782).
    pub fn label(self) -> &'static str {
        match self {
            Self::Tcp => "_tcp",
            Self::Udp => "_udp",
            Self::Sctp => "_sctp",
        }
    }
}

/// A ServiceImport.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Import {
    /// Namespace and name.
    pub name: ServiceName,
    /// Precedence when two imports claim one address.
    pub created: UnixTime,
    /// `spec.type: Headless`.
    pub headless: bool,
    /// `spec.ips`: the VIPs that this cluster's clients use.
    pub ips: Arc<[IpAddr]>,
    /// The rest of its spec.
    pub spec: Arc<ServiceSpec>,
    /// `status.clusters`, sorted: who exports it, as its writer last knew.
    pub clusters: Arc<[ClusterId]>,
    /// The exporter's policy, as its writer last knew.
    pub policy: Option<Arc<Attached>>,
}

/// An EndpointSlice of one service.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Slice {
    /// Namespace and name of the slice itself.
    pub name: SliceName,
    /// The service that it belongs to, by its `service-name` label.
    pub service: ServiceName,
    /// The cluster whose endpoints these are, when a controller mirrored them from there
    /// (`multicluster.kubernetes.io/source-cluster`); `None` for the cluster's own.
    pub source: Option<ClusterId>,
    /// Whether it was our controller that mirrored it.
    pub ours: bool,
    /// Whether these are addresses of a gateway to the endpoints, not of the endpoints (label `portolan.dev/gateway`).
    pub gateway: bool,
    /// What the author of their export decided of the endpoints of a mirrored one (label `portolan.dev/state`).
    pub state: Option<State>,
    /// The region that its endpoints are in, of a mirrored one (label `topology.kubernetes.io/region`).
    pub region: Option<Arc<str>>,
    /// The gateway to the endpoints of a mirrored one, for clients of other networks: it has all ports that it lists, and no
    /// others (annotations `portolan.dev/gateway` and `portolan.dev/gateway-ports`).
    pub outside: Option<Arc<Gateway>>,
    /// `ports`; the numbers are target ports.
    pub ports: Arc<[SlicePort]>,
    /// One entry per address.
    pub endpoints: Box<[Endpoint]>,
}

/// A port of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SlicePort {
    /// A valid label, or `None`.
    pub name: Option<Arc<str>>,
    /// Transport.
    pub protocol: Protocol,
    /// Target port; `None` means all ports.
    pub number: Option<u16>,
    /// `appProtocol`.
    pub app_protocol: Option<Arc<str>>,
}

/// One address of one endpoint. 40 bytes: there may be millions.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Endpoint {
    /// Where it listens.
    pub address: IpAddr,
    /// `conditions`, copied verbatim.
    pub conditions: Conditions,
    /// The same for the addresses of one pod in all families and slices (a hash of `targetRef`, else of the address), so that
    /// A and AAAA program the same subset (KEP-1645).
    pub identity: u32,
    /// `hostname`, a valid label.
    pub hostname: Option<Text>,
    /// Node and availability zone, shared by all endpoints of a node.
    pub place: Option<Arc<Place>>,
}

/// Conditions of an endpoint, defaults resolved: `ready` unset means ready, `serving` unset means as ready,
/// `terminating` unset means no (EndpointSlice API).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the API's")]
pub struct Conditions {
    pub ready: bool,
    pub serving: bool,
    pub terminating: bool,
}

impl Conditions {
    /// An ordinary ready endpoint.
    pub const READY: Self = Self { ready: true, serving: true, terminating: false };
}

/// Where an endpoint runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Place {
    /// `nodeName`.
    pub node: Option<Arc<str>>,
    /// Availability zone, `topology.kubernetes.io/zone`; `az` because `zone` is a DNS zone here.
    pub az: Option<Arc<str>>,
}

/// A Node.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Node {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `topology.kubernetes.io/zone`.
    pub az: Option<Arc<str>>,
    /// `topology.kubernetes.io/region`.
    pub region: Option<Arc<str>>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Box<[(IpAddr, u8)]>,
    /// `status.addresses` that are IP addresses.
    pub addresses: Box<[IpAddr]>,
    /// Condition `Ready`.
    pub ready: bool,
    /// Where its node ports are reached from elsewhere: external addresses, else internal ones; none while it is kept from
    /// load balancers (`node.kubernetes.io/exclude-from-external-load-balancers`).
    pub entrances: Box<[IpAddr]>,
}
