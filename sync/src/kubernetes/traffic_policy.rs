//! TrafficPolicy: how clients are spread over the clusters behind a service. The types are the source of its definition in
//! `deploy/crds`; manifests and the configuration file are read as the same types.
#![expect(unreachable_pub, reason = "KubeSchema repeats each type, as public as it is, inside of a function")]
#![expect(clippy::duplicated_attributes, reason = "each printed column has a type")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resources::{DURATION, SUBDOMAIN};

/// Minutes and seconds, or an hour; written so that CEL never has to parse anything else.
const UP_TO_AN_HOUR: &str = "self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') && self != '' && duration(self) <= duration('1h')";

/// How clients are spread over the clusters behind a service.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "TrafficPolicy",
    plural = "trafficpolicies",
    shortname = "tpol",
    category = "portolan",
    namespaced,
    status = "TrafficPolicyStatus",
    derive = "PartialEq",
    doc = "How clients are spread over the clusters behind a service: by locality, latency, weight, health and failover order.",
    printcolumn(name = "Answer", type_ = "string", json_path = ".spec.answer"),
    printcolumn(name = "Locality", type_ = "string", json_path = ".spec.locality.order"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("!has(self.targetRefs) || self.targetRefs.size() == 0 || self.scope == 'Namespace'")
    .message("a policy is about the services in targetRefs, or about a scope: leave one of them out"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficPolicySpec {
    /// The services that it is about, in its own namespace. Without any it is about all imports of `scope`.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target_refs: Vec<TargetRef>,
    /// What it is about where there are no `targetRefs`.
    #[serde(default)]
    pub scope: Scope,
    /// What the services' names answer.
    #[serde(default)]
    pub answer: Answer,
    /// Most records of a type in one answer; as many as fit when absent. Which ones differs from query to query, and
    /// they are spread over clusters and zones.
    #[schemars(range(min = 1, max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_records: Option<i64>,
    /// TTL of the answers in seconds; the DNS zone's when absent. What is short follows changes fast and asks often.
    #[schemars(range(min = 0, max = 86_400))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<i64>,
    /// Which endpoints are close to a client. When absent, the service's own `trafficDistribution` says it.
    /// `internalTrafficPolicy: Local` of the service holds in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locality: Option<Locality>,
    /// A locality, or a weighted cluster, keeps its whole share while so many per cent of its endpoints are healthy, and
    /// gives way in proportion below that. When absent: five in seven, so that it bears 1.4 times its healthy part.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spill_threshold: Option<i64>,
    /// How clusters that are equally close share; 1 for those that are not named. When there are none, they share by
    /// their endpoints. A cluster of weight 0 is the last resort. A cluster that is named has the weight by its name, any
    /// other that of the first labels that it has.
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self.all(w, !has(w.cluster) \
             || self.exists_one(o, has(o.cluster) && o.cluster == w.cluster))")
            .message("a cluster is named once in weights"))]
    #[schemars(length(max = 256))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<Weight>,
    /// Clusters to turn to, one after the other, when what is close is not enough. Those that are not named come last.
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self.all(c, self.exists_one(o, o == c))")
            .message("a cluster is named once in failover"))]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failover: Vec<String>,
    /// Whether clusters that are farther away, by the time that it takes to connect to what is there, come after those that
    /// are close. The `healthCheck` measures it; without one a few endpoints of each cluster are asked for a TCP connection,
    /// for the time alone. When absent, time does not matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// How endpoints are asked whether they are well, from each cluster whose clients use them: pods where the network is
    /// one, gateways where it is not. When absent, what their clusters say is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// For so long an endpoint that came, or is healthy again, gets less than its share, which grows until then, such as
    /// `30s`; an hour at most. When absent, it gets all of it at once.
    #[x_kube(
        validation = Rule::new(UP_TO_AN_HOUR).message("slowStart must be a time such as 30s, an hour at most"),
        validation = Rule::new(DURATION).message("slowStart must be a time such as 30s, a second at least"))]
    #[schemars(length(max = 24))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<String>,
    /// Under so many per cent of healthy endpoints in a locality, when all others are not enough either, health is ignored:
    /// better some failures than all clients on too few. Clusters in which nothing is healthy don't count, and get nobody.
    #[schemars(range(min = 0, max = 100))]
    #[serde(default = "panic_threshold")]
    pub panic_threshold: i64,
    /// What is answered when nothing is healthy.
    #[serde(default)]
    pub when_all_down: WhenAllDown,
    /// Whether a client keeps its cluster as long as that is one of those that are answered.
    #[serde(default)]
    pub sticky: bool,
}

/// A service that a policy is about.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetRef {
    /// `ServiceExport`: the policy travels with the export, to the clients of all clusters. `ServiceImport`: it is for the
    /// clients of this cluster, and goes before what exporters say.
    pub kind: TargetKind,
    /// The service's name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// Kinds that a policy may be about.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are the API's")]
pub enum TargetKind {
    ServiceExport,
    ServiceImport,
}

/// What a policy without targets is about.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
pub enum Scope {
    /// All imports of its namespace.
    #[default]
    Namespace,
    /// All imports of the cluster. Only in Portolan's own namespace, `portolan-system`.
    ClusterSet,
}

/// What names answer.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
pub enum Answer {
    /// The service's virtual IPs; a headless service its endpoints.
    #[default]
    VIP,
    /// Endpoints, or the gateways to those on other networks, as for a headless service: clients connect to the endpoints'
    /// own ports, which SRV records tell.
    Endpoints,
    /// The gateways of all clusters, for clients who are in none of them: a service that no gateway leads to has no
    /// addresses.
    Gateways,
}

/// Which endpoints are close to a client.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Locality {
    /// What counts as close, the closest first. Empty: all endpoints are alike.
    #[x_kube(merge_strategy = ListMerge::Set)]
    #[schemars(length(max = 4))]
    #[serde(default)]
    pub order: Vec<Level>,
    /// What becomes of endpoints that are not close.
    #[serde(default)]
    pub mode: Mode,
}

/// How close something is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Node,
    Zone,
    Region,
    Cluster,
}

/// What becomes of endpoints that are not close.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
pub enum Mode {
    /// They are used when those that are close are not enough.
    #[default]
    Prefer,
    /// They are never used.
    Pin,
}

/// When clusters count as farther away than others.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Latency {
    /// Clusters that are by no more than this farther away than the closest one are as close as that: milliseconds such as
    /// `10ms`, or seconds, from 1ms to 10s.
    #[x_kube(validation = Rule::new("self.matches('^[0-9]{1,5}(ms|s)$') \
         && duration(self) >= duration('1ms') && duration(self) <= duration('10s')")
        .message("margin must be a time such as 10ms, from 1ms to 10s"))]
    #[schemars(length(max = 7))]
    #[serde(default = "margin")]
    pub margin: String,
    /// For so long it must be so, without a break, before clients are sent elsewhere, such as `60s`; an hour at most, `0s` is
    /// at once.
    #[x_kube(validation = Rule::new(UP_TO_AN_HOUR).message("holdDown must be a time such as 60s, from 0s to 1h"))]
    #[schemars(length(max = 24))]
    #[serde(default = "hold_down")]
    pub hold_down: String,
}

/// The weight of a cluster, or of all clusters with some labels.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("has(self.cluster) != has(self.matchLabels)")
    .message("a weight is given to a cluster or by matchLabels: one of them"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Weight {
    /// The cluster's id.
    #[x_kube(validation = Rule::new(SUBDOMAIN).message(
        "a cluster's id is labels of lower-case letters, digits and '-', joined by dots (KEP-2149)"))]
    #[schemars(length(min = 1, max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// All of these labels the cluster must have: those of its ClusterPeer in the cluster whose clients ask, and those that
    /// the configuration gives it.
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 317)").message("a label's key has 317 characters at most"))]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 8,
        "additionalProperties" = { "type": "string", "maxLength": 63 }))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_labels: Option<BTreeMap<String, String>>,
    /// Its share, against those of others; 0: the last resort.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: i64,
}

/// How endpoints are asked whether they are well.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("duration(self.timeout) <= duration(self.interval) \
     && duration(self.timeout) <= duration('30s')")
    .message("timeout must not be longer than interval, nor than 30s"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HealthCheck {
    /// What is asked.
    #[serde(rename = "type")]
    pub kind: CheckType,
    /// The name of the service's port; its first TCP port when absent.
    #[schemars(length(min = 1, max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// HTTP: what is asked for.
    #[x_kube(validation = Rule::new("self.startsWith('/')").message("path begins with a slash"))]
    #[schemars(length(min = 1, max = 1024))]
    #[serde(default = "root_path")]
    pub path: String,
    /// HTTP: the header `Host`, and the name in TLS; the address when absent.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// HTTP: the status codes that are good, such as `200` or `200-399`.
    #[x_kube(validation = Rule::new("self.matches('^[1-5][0-9][0-9](-[1-5][0-9][0-9])?$')")
        .message("expectedStatuses is a status code or two, such as 200-399"))]
    #[schemars(length(max = 7))]
    #[serde(default = "good_statuses")]
    pub expected_statuses: String,
    /// HTTP: a text that the first 64 KiB of the answer must contain.
    #[schemars(length(min = 1, max = 1024))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// GRPC: the service that `grpc.health.v1.Health` is asked about; the server as a whole when absent.
    #[schemars(length(max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Whether TLS is spoken to a GRPC server. Certificates are not verified: it is an address that is asked.
    #[serde(default)]
    pub tls: bool,
    /// Between two questions to one endpoint.
    #[x_kube(validation = Rule::new(DURATION)
        .message("interval must be hours, minutes and seconds such as 10s, a second at least"))]
    #[schemars(length(max = 24))]
    #[serde(default = "interval")]
    pub interval: String,
    /// For the whole of one question; at most 30s.
    #[x_kube(validation = Rule::new(DURATION)
        .message("timeout must be hours, minutes and seconds such as 2s, a second at least"))]
    #[schemars(length(max = 24))]
    #[serde(default = "timeout")]
    pub timeout: String,
    /// So many good answers in a row make an endpoint healthy that was not.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default = "rise")]
    pub rise: i64,
    /// So many bad ones in a row make it unhealthy.
    #[schemars(range(min = 1, max = 100))]
    #[serde(default = "fall")]
    pub fall: i64,
}

/// What endpoints are asked.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq)]
pub enum CheckType {
    /// Whether they accept a connection.
    TCP,
    /// Whether they answer a GET as expected.
    HTTP,
    /// The same over TLS. Certificates are not verified: it is an address that is asked.
    HTTPS,
    /// Whether the standard health service says that they serve.
    GRPC,
}

/// What is answered when nothing is healthy.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq)]
pub enum WhenAllDown {
    /// All endpoints that their clusters say are ready.
    #[default]
    Answer,
    /// Nothing: the name has no addresses.
    Nothing,
}

/// How a policy is. Written by the controller.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicyStatus {
    /// `metadata.generation` that the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: whether the policy holds for all that it is about, and what is wrong with it.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

fn margin() -> String {
    "10ms".to_owned()
}

fn hold_down() -> String {
    "60s".to_owned()
}

fn root_path() -> String {
    "/".to_owned()
}

fn good_statuses() -> String {
    "200-399".to_owned()
}

fn interval() -> String {
    "10s".to_owned()
}

fn timeout() -> String {
    "2s".to_owned()
}

fn rise() -> i64 {
    2
}

fn fall() -> i64 {
    3
}

fn panic_threshold() -> i64 {
    50
}
