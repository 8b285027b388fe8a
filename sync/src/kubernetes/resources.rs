//! Portolan's own resources. The types are the source of `deploy/crds`: their docs are what `kubectl explain` says.
#![expect(unreachable_pub, reason = "KubeSchema repeats each type, as public as it is, inside of a function")]

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, CustomResourceExt, KubeSchema};
use serde::{Deserialize, Serialize};

use super::traffic_policy::TrafficPolicy;

/// The key of a kubeconfig in a Secret, as Cluster API and others name it.
const DEFAULT_KEY: &str = "kubeconfig";
/// How long a cluster may be silent before what is known of it counts as stale.
pub const DEFAULT_STALE_AFTER: Duration = Duration::from_secs(30);
/// How long a cluster may be silent before its endpoints are withdrawn: a week of repair work.
pub const DEFAULT_WITHDRAW_AFTER: Duration = Duration::from_secs(168 * 3600);
/// `withdrawAfter` that keeps the endpoints of a silent cluster for ever.
const NEVER: &str = "never";

/// RFC 1123 labels joined by dots, as [`portolan_zones::ClusterId`] checks them.
pub(super) const SUBDOMAIN: &str =
    "self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$')";
/// Hours, minutes and seconds, a second at least; written so that CEL never has to parse anything else.
pub(super) const DURATION: &str = "self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') && self != '' \
     && duration(self) >= duration('1s')";
const DURATION_OR_NEVER: &str = "self == 'never' || (self.matches('^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$') \
     && self != '' && duration(self) >= duration('1s'))";
const WITHDRAW_LATER: &str =
    "self.withdrawAfter == 'never' || duration(self.withdrawAfter) >= duration(self.staleAfter)";

/// Another cluster of the clusterset, and how to reach it. `kubectl get clusterpeers` is the map of the clusterset.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "portolan.dev",
    version = "v1alpha1",
    kind = "ClusterPeer",
    plural = "clusterpeers",
    shortname = "cpeer",
    category = "portolan",
    status = "ClusterPeerStatus",
    derive = "PartialEq",
    doc = "Another cluster of the clusterset, and how to reach it. The list of them is the map of the clusterset. TrafficPolicies \
        give weights by its labels; its annotation `portolan.dev/state` decides of the cluster's endpoints, whatever health checks \
        find: `up`, `drain` (they get clients only when no others are left) or `down`.",
    validation = Rule::new("self.metadata.name.size() <= 63")
        .message("a ClusterPeer's name has 63 characters at most: it becomes a label of its Lease"),
    printcolumn(name = "Cluster", type_ = "string", json_path = ".status.clusterId",
        description = "The cluster's id, as names of headless endpoints hold it"),
    printcolumn(name = "Network", type_ = "string", json_path = ".spec.network",
        description = "Clusters of one network reach each other's pods"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region", priority = 1),
    printcolumn(name = "Reachable", type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Reachable\")].status",
        description = "Whether its API server answers"),
    printcolumn(name = "Fresh", type_ = "date", json_path = ".status.lastContact",
        description = "How long ago its API server was last heard, to half a minute"),
    printcolumn(name = "RTT", type_ = "string", json_path = ".status.roundTripTime",
        description = "How long it takes to connect to what health checks ask there"),
    printcolumn(name = "Exports", type_ = "integer", json_path = ".status.exports",
        description = "ServiceExports accepted from it"),
    printcolumn(name = "Refused", type_ = "integer", json_path = ".status.refusedExports", priority = 1),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new(WITHDRAW_LATER)
    .message("withdrawAfter must not be shorter than staleAfter")
    .field_path(".withdrawAfter"))]
#[serde(rename_all = "camelCase")]
pub struct ClusterPeerSpec {
    /// How to log in to the cluster's API server. When they can no longer be read or used, the last good ones count on:
    /// to let go of a cluster, delete its ClusterPeer.
    pub credentials: Credentials,
    /// The cluster's id. It must be given where the cluster does not say it itself by the ClusterProperty
    /// `cluster.clusterset.k8s.io`; a cluster that says another one is not listened to. Without it, the id that the
    /// cluster had when it was first followed (`status.clusterId`) is the one that it must have.
    #[x_kube(validation = Rule::new(SUBDOMAIN).message(
        "clusterId must be labels of lower-case letters, digits and '-', joined by dots (KEP-2149)"))]
    #[schemars(length(min = 1, max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The network that the cluster's pods are in. Clusters of one network (of none, when it is not given) reach
    /// each other's pods by their addresses; any others go through gateways.
    #[schemars(length(max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Where the cluster is, for people: `kubectl get clusterpeers -o wide` shows it.
    #[schemars(length(max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The namespaces whose exports are accepted from this cluster; all when absent, none when empty.
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(n, n.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'))")
            .message("namespaces are lower-case letters, digits and '-'"))]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 63)))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// How long the API server may be silent before what is known of the cluster is marked stale, such as `30s`.
    /// Stale services are still answered, and say so.
    #[x_kube(validation = Rule::new(DURATION)
        .message("staleAfter must be hours, minutes and seconds such as 1h30m or 45s, a second at least"))]
    #[schemars(length(max = 24))]
    #[serde(default = "stale_after")]
    pub stale_after: String,
    /// How long the API server may be silent before the cluster's endpoints are withdrawn, such as `168h`, or `never`.
    #[x_kube(validation = Rule::new(DURATION_OR_NEVER)
        .message("withdrawAfter must be `never`, or hours, minutes and seconds such as 168h, a second at least"))]
    #[schemars(length(max = 24))]
    #[serde(default = "withdraw_after")]
    pub withdraw_after: String,
}

/// How to log in to a cluster's API server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// The Secret that holds a kubeconfig.
    pub secret: SecretKey,
    /// The kubeconfig's context; its current one when absent.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// Whether the kubeconfig may have a program run that fetches a token. Whoever may write the Secret may then run
    /// programs as the controller.
    #[serde(default)]
    pub allow_exec: bool,
}

/// A key of a Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// The Secret's namespace; the controller's own when absent. In any other, the controller needs a Role.
    #[schemars(length(min = 1, max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key that the kubeconfig is at.
    #[schemars(length(min = 1, max = 253))]
    #[serde(default = "default_key")]
    pub key: String,
}

/// What was last seen of the cluster. Written by the controller.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPeerStatus {
    /// The cluster's id in the clusterset, since it was first followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// The UID of its namespace `kube-system`, which tells clusters apart, since it was first followed. Another cluster
    /// is not listened to under this ClusterPeer: delete it and create it anew to accept one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Its Kubernetes version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When its API server last answered; brought up to date each half minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact: Option<Time>,
    /// How long it takes to connect to its endpoints or gateways, such as `12.3ms`, by the health checks of policies: the
    /// median, as it last was. Written when it has moved by more than a quarter, and 1 ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_time: Option<String>,
    /// ServiceExports accepted from it.
    #[serde(default)]
    pub exports: i64,
    /// ServiceExports in namespaces that it may not speak for.
    #[serde(default)]
    pub refused_exports: i64,
    /// Services it has.
    #[serde(default)]
    pub services: i64,
    /// EndpointSlices it has.
    #[serde(default)]
    pub endpoint_slices: i64,
    /// `metadata.generation` that the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: the spec can be used. `Reachable`: the API server answers. `Synced`: all objects are known.
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl ClusterPeerSpec {
    /// How long the cluster may be silent before it is stale; the default for text that the API server would refuse.
    pub fn stale_after(&self) -> Duration {
        duration(&self.stale_after).unwrap_or(DEFAULT_STALE_AFTER)
    }

    /// How long the cluster may be silent before it is withdrawn; `None`: for ever.
    pub fn withdraw_after(&self) -> Option<Duration> {
        let text = &*self.withdraw_after;
        (text != NEVER).then(|| duration(text).unwrap_or(DEFAULT_WITHDRAW_AFTER))
    }
}

/// The CustomResourceDefinitions as `deploy/crds` holds them: file name and YAML.
pub fn crds() -> Vec<(&'static str, String)> {
    let yaml = |crd| {
        let options = serde_saphyr::SerializerOptions::default();
        // Only types that can't be YAML fail, and the CRD is JSON by its type; a test reads what comes out.
        let text = serde_saphyr::to_string_with_options(&crd, options).unwrap_or_default();
        format!("# Made from the types in sync/src/kubernetes by `portolan crds`.\n{text}")
    };
    vec![
        ("portolan.dev_clusterpeers.yaml", yaml(ClusterPeer::crd())),
        ("portolan.dev_trafficpolicies.yaml", yaml(TrafficPolicy::crd())),
    ]
}

pub(crate) fn duration(text: &str) -> Option<Duration> {
    text.parse::<jiff::SignedDuration>().ok().and_then(|parsed| Duration::try_from(parsed).ok())
}

fn default_key() -> String {
    DEFAULT_KEY.to_owned()
}

fn stale_after() -> String {
    "30s".to_owned()
}

fn withdraw_after() -> String {
    "168h".to_owned()
}
