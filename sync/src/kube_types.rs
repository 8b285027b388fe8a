//! Kubernetes objects, slim: only the fields that decide an answer, borrowed from the text where they can be.
//!
//! Every field is optional, for an API server may leave out or null any of them; unknown fields are skipped.
//! What is missing or wrong is said by `convert`, which knows what each field is for.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;

/// Text borrowed from the source unless it holds escapes. (`Option<Cow<str>>` itself would always copy.)
#[derive(Debug, Clone, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// What says which object this is.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Head<'a> {
    /// Group and version.
    #[serde(borrow)]
    pub api_version: Option<Text<'a>>,
    /// Kind.
    pub kind: Option<Text<'a>>,
    /// Namespace and name.
    pub metadata: Option<Metadata<'a>>,
}

/// `metadata`.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Metadata<'a> {
    /// Name.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// Absent for cluster-scoped kinds.
    pub namespace: Option<Text<'a>>,
    /// RFC 3339.
    pub creation_timestamp: Option<Text<'a>>,
    /// The labels that we know.
    pub labels: Option<Labels<'a>>,
    /// The annotations that we know.
    pub annotations: Option<Annotations<'a>>,
}

/// The annotations that we know, of all kinds.
#[derive(Debug, Clone, Deserialize, Default)]
pub struct Annotations<'a> {
    /// Addresses or names, separated by commas, at which an export is reached from other networks; on a mirrored slice the
    /// same of its endpoints.
    #[serde(borrow, rename = "portolan.dev/gateway")]
    pub gateway: Option<Text<'a>>,
    /// Port numbers there that differ: `http=30080, 53/UDP=30053`, by the Service's port name or number.
    #[serde(rename = "portolan.dev/gateway-ports")]
    pub gateway_ports: Option<Text<'a>>,
    /// The same as `gateway`, of the gateway that all exports of a cluster share: its controller says it.
    #[serde(rename = "portolan.dev/shared-gateway")]
    pub shared_gateway: Option<Text<'a>>,
    /// All ports that are there, and their numbers.
    #[serde(rename = "portolan.dev/shared-gateway-ports")]
    pub shared_gateway_ports: Option<Text<'a>>,
    /// The exporter's TrafficPolicy, on a ServiceImport.
    #[serde(rename = "portolan.dev/traffic-policy")]
    pub policy: Option<Text<'a>>,
    /// What people decide of the endpoints of an export, or of all of a ClusterPeer's cluster: `up`, `drain` or `down`.
    #[serde(rename = "portolan.dev/state")]
    pub state: Option<Text<'a>>,
    /// What tells the pods behind a mirrored slice's endpoints apart, in their order: hexadecimal, separated by commas.
    #[serde(rename = "portolan.dev/identities")]
    pub identities: Option<Text<'a>>,
}

/// The labels that we know, of all kinds.
#[derive(Debug, Clone, Deserialize, Default)]
pub struct Labels<'a> {
    /// Which Service an EndpointSlice belongs to.
    #[serde(borrow, rename = "kubernetes.io/service-name")]
    pub service: Option<Text<'a>>,
    /// Which ServiceImport a mirrored EndpointSlice belongs to.
    #[serde(rename = "multicluster.kubernetes.io/service-name")]
    pub imported_service: Option<Text<'a>>,
    /// Where a mirrored EndpointSlice comes from.
    #[serde(rename = "multicluster.kubernetes.io/source-cluster")]
    pub source_cluster: Option<Text<'a>>,
    /// `true` on a mirrored EndpointSlice that holds gateway addresses.
    #[serde(rename = "portolan.dev/gateway")]
    pub gateway: Option<Text<'a>>,
    /// What the export's author decided of a mirrored EndpointSlice's endpoints.
    #[serde(rename = "portolan.dev/state")]
    pub state: Option<Text<'a>>,
    /// Anything keeps a Node from load balancers.
    #[serde(rename = "node.kubernetes.io/exclude-from-external-load-balancers")]
    pub excluded: Option<Text<'a>>,
    /// Who writes an EndpointSlice.
    #[serde(rename = "endpointslice.kubernetes.io/managed-by")]
    pub managed_by: Option<Text<'a>>,
    /// Who made an EndpointSlice, as Clusternet says it.
    #[serde(rename = "clusternet.io/created-by")]
    pub created_by: Option<Text<'a>>,
    /// Where a Node is.
    #[serde(rename = "topology.kubernetes.io/zone")]
    pub az: Option<Text<'a>>,
    /// Where a Node is.
    #[serde(rename = "topology.kubernetes.io/region")]
    pub region: Option<Text<'a>>,
}

/// An object with a `spec` and perhaps a `status`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", bound(deserialize = "Spec: Deserialize<'de>, Status: Deserialize<'de>"))]
pub struct Resource<'a, Spec, Status = serde::de::IgnoredAny> {
    /// Group and version.
    #[serde(borrow)]
    pub api_version: Option<Text<'a>>,
    /// Kind.
    pub kind: Option<Text<'a>>,
    /// Namespace, name, labels.
    pub metadata: Option<Metadata<'a>>,
    /// What is wanted.
    pub spec: Option<Spec>,
    /// What is.
    pub status: Option<Status>,
}

/// v1 Service.
pub type Service<'a> = Resource<'a, ServiceSpec<'a>, ServiceStatus<'a>>;
/// ServiceImport, in v1alpha1 and v1beta1 alike.
pub type ServiceImport<'a> = Resource<'a, ServiceSpec<'a>, ImportStatus<'a>>;
/// ServiceExport, in v1alpha1 and v1beta1 alike.
pub type ServiceExport<'a> = Resource<'a, ExportSpec<'a>>;
/// v1 Node.
pub type Node<'a> = Resource<'a, NodeSpec<'a>, NodeStatus<'a>>;
/// v1 Namespace.
pub type Namespace<'a> = Resource<'a, serde::de::IgnoredAny>;
/// ClusterProperty, in v1alpha1 and v1beta1 alike.
pub type ClusterProperty<'a> = Resource<'a, PropertySpec<'a>>;

/// The spec of a Service or a ServiceImport: their common fields have the same meaning.
#[derive(Debug, Clone, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec<'a> {
    /// Service: `ClusterIP`, `ExternalName`, …; ServiceImport: `ClusterSetIP` or `Headless`.
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    /// Service only; `None` is headless.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<Text<'a>>,
    /// Service only.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<Text<'a>>>,
    /// ServiceImport only.
    pub ips: Option<Vec<Text<'a>>>,
    /// `IPv4` and `IPv6`.
    pub ip_families: Option<Vec<Text<'a>>>,
    /// Ports.
    pub ports: Option<Vec<Port<'a>>>,
    /// `None` or `ClientIP`.
    pub session_affinity: Option<Text<'a>>,
    /// Its timeout.
    pub session_affinity_config: Option<SessionAffinityConfig>,
    /// `Cluster` or `Local`.
    pub internal_traffic_policy: Option<Text<'a>>,
    /// For example `PreferSameZone`.
    pub traffic_distribution: Option<Text<'a>>,
}

/// The status of a Service.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus<'a> {
    /// Where its load balancer listens.
    #[serde(borrow)]
    pub load_balancer: Option<LoadBalancer<'a>>,
}

/// `status.loadBalancer` of a Service.
#[derive(Debug, Clone, Deserialize)]
pub struct LoadBalancer<'a> {
    /// Its entrances.
    #[serde(borrow)]
    pub ingress: Option<Vec<Ingress<'a>>>,
}

/// An entrance of a load balancer: an address or a name.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "the names are the API's")]
pub struct Ingress<'a> {
    #[serde(borrow)]
    pub ip: Option<Text<'a>>,
    pub hostname: Option<Text<'a>>,
}

/// The status of a ServiceImport.
#[derive(Debug, Clone, Deserialize)]
pub struct ImportStatus<'a> {
    /// Who exports it.
    #[serde(borrow)]
    pub clusters: Option<Vec<ImportCluster<'a>>>,
}

/// `status.clusters` of a ServiceImport.
#[derive(Debug, Clone, Deserialize)]
pub struct ImportCluster<'a> {
    /// A cluster id.
    #[serde(borrow)]
    pub cluster: Option<Text<'a>>,
}

/// A port of a Service, a ServiceImport or an EndpointSlice.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port<'a> {
    /// Empty is unnamed.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// TCP by default.
    pub protocol: Option<Text<'a>>,
    /// `appProtocol`.
    pub app_protocol: Option<Text<'a>>,
    /// Number; absent in an EndpointSlice for all ports.
    pub port: Option<i64>,
    /// Service only: the number at every node.
    pub node_port: Option<i64>,
}

/// `sessionAffinityConfig`.
#[derive(Debug, Clone, Deserialize)]
pub struct SessionAffinityConfig {
    /// `clientIP`.
    #[serde(rename = "clientIP")]
    pub client_ip: Option<ClientIp>,
}

/// `sessionAffinityConfig.clientIP`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientIp {
    /// Seconds.
    pub timeout_seconds: Option<i64>,
}

/// The spec of a ServiceExport.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportSpec<'a> {
    /// Labels for the import.
    #[serde(borrow)]
    pub exported_labels: Option<BTreeMap<Text<'a>, Text<'a>>>,
    /// Annotations for the import.
    pub exported_annotations: Option<BTreeMap<Text<'a>, Text<'a>>>,
}

/// discovery.k8s.io/v1 EndpointSlice.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice<'a> {
    /// Group and version.
    #[serde(borrow)]
    pub api_version: Option<Text<'a>>,
    /// Kind.
    pub kind: Option<Text<'a>>,
    /// Namespace, name, labels.
    pub metadata: Option<Metadata<'a>>,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: Option<Text<'a>>,
    /// Endpoints, each with addresses.
    pub endpoints: Option<Vec<Endpoint<'a>>>,
    /// Target ports.
    pub ports: Option<Vec<Port<'a>>>,
}

/// An endpoint of an EndpointSlice.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint<'a> {
    /// Interchangeable addresses of one family.
    #[serde(borrow)]
    pub addresses: Option<Vec<Text<'a>>>,
    /// Readiness.
    pub conditions: Option<Conditions>,
    /// A label.
    pub hostname: Option<Text<'a>>,
    /// Node.
    pub node_name: Option<Text<'a>>,
    /// Availability zone.
    #[serde(rename = "zone")]
    pub az: Option<Text<'a>>,
    /// The Pod, mostly.
    pub target_ref: Option<TargetRef<'a>>,
}

/// Conditions of an endpoint, as written.
#[derive(Debug, Clone, Copy, Deserialize, Default)]
#[expect(missing_docs, reason = "the names are the API's")]
pub struct Conditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

/// What is behind an endpoint.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs, reason = "the names are the API's")]
pub struct TargetRef<'a> {
    #[serde(borrow)]
    pub kind: Option<Text<'a>>,
    pub namespace: Option<Text<'a>>,
    pub name: Option<Text<'a>>,
    pub uid: Option<Text<'a>>,
}

/// The spec of a Node.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeSpec<'a> {
    /// The older, single form.
    #[serde(borrow, rename = "podCIDR")]
    pub pod_cidr: Option<Text<'a>>,
    /// Networks of its pods.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Option<Vec<Text<'a>>>,
}

/// The status of a Node.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeStatus<'a> {
    /// Addresses and names.
    #[serde(borrow)]
    pub addresses: Option<Vec<NodeAddress<'a>>>,
    /// `Ready` among others.
    pub conditions: Option<Vec<Condition<'a>>>,
}

/// A condition of an object.
#[derive(Debug, Clone, Deserialize)]
pub struct Condition<'a> {
    /// `Ready`, …
    #[serde(borrow, rename = "type")]
    pub kind: Option<Text<'a>>,
    /// `True`, `False` or `Unknown`.
    pub status: Option<Text<'a>>,
}

/// An address of a Node.
#[derive(Debug, Clone, Deserialize)]
pub struct NodeAddress<'a> {
    /// An IP address or a name.
    #[serde(borrow)]
    pub address: Option<Text<'a>>,
    /// `InternalIP`, `ExternalIP`, `Hostname`, …
    #[serde(rename = "type")]
    pub kind: Option<Text<'a>>,
}

/// ClusterPeer, as far as it is about the cluster that it stands for.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPeer<'a> {
    /// Group and version.
    #[serde(borrow)]
    pub api_version: Option<Text<'a>>,
    /// Kind.
    pub kind: Option<Text<'a>>,
    /// Name, and all labels.
    pub metadata: Option<PeerMetadata<'a>>,
    /// What is configured.
    pub spec: Option<PeerSpec<'a>>,
    /// What was seen.
    pub status: Option<PeerStatus<'a>>,
}

/// `metadata` of a ClusterPeer, whose labels are people's own.
#[derive(Debug, Clone, Deserialize)]
pub struct PeerMetadata<'a> {
    /// Name.
    #[serde(borrow)]
    pub name: Option<Text<'a>>,
    /// All labels.
    pub labels: Option<BTreeMap<Text<'a>, Text<'a>>>,
    /// The annotations that we know.
    pub annotations: Option<Annotations<'a>>,
}

/// The spec of a ClusterPeer.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerSpec<'a> {
    /// The id that the cluster must have.
    #[serde(borrow)]
    pub cluster_id: Option<Text<'a>>,
}

/// The status of a ClusterPeer.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus<'a> {
    /// The id that the cluster has.
    #[serde(borrow)]
    pub cluster_id: Option<Text<'a>>,
    /// How long it takes to get there, such as `12.3ms`.
    pub round_trip_time: Option<Text<'a>>,
}

/// The spec of a ClusterProperty.
#[derive(Debug, Clone, Deserialize)]
pub struct PropertySpec<'a> {
    /// The property's value.
    #[serde(borrow)]
    pub value: Option<Text<'a>>,
}
