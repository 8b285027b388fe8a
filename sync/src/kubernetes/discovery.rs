//! What is read of a cluster, and in which version it serves that.

use k8s_openapi::api::core::v1::Namespace;
use kube::core::{ApiResource, Status};
use kube::{Api, Client};

use crate::convert::Kind;

/// Something that is listed and watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Topic {
    ClusterProperty,
    Namespace,
    Node,
    Service,
    EndpointSlice,
    ServiceExport,
    ServiceImport,
    TrafficPolicy,
    Lease,
    Secret,
    ClusterPeer,
    ClusterProfile,
}

/// How a topic is found at an API server.
pub(crate) struct Found {
    group: &'static str,
    /// The best first; more than one where they come from CRDs.
    versions: &'static [&'static str],
    pub(crate) kind: &'static str,
    plural: &'static str,
}

const MCS: (&str, &[&str]) = ("multicluster.x-k8s.io", &["v1beta1", "v1alpha1"]);
const MCS_CRDS: &str = "install the MCS API's CRDs by \
    `kubectl apply -k https://github.com/kubernetes-sigs/mcs-api/config/crd`";
const ABOUT: (&str, &[&str]) = ("about.k8s.io", &["v1beta1", "v1alpha1"]);

impl Topic {
    pub(crate) fn found(self) -> Found {
        let ((group, versions), kind, plural): ((_, &'static [&'static str]), _, _) = match self {
            Self::ClusterProperty => (ABOUT, "ClusterProperty", "clusterproperties"),
            Self::Namespace => (("", &["v1"]), "Namespace", "namespaces"),
            Self::Node => (("", &["v1"]), "Node", "nodes"),
            Self::Service => (("", &["v1"]), "Service", "services"),
            Self::EndpointSlice => (("discovery.k8s.io", &["v1"]), "EndpointSlice", "endpointslices"),
            Self::ServiceExport => (MCS, "ServiceExport", "serviceexports"),
            Self::ServiceImport => (MCS, "ServiceImport", "serviceimports"),
            Self::TrafficPolicy => (("portolan.dev", &["v1alpha1"]), "TrafficPolicy", "trafficpolicies"),
            Self::Lease => (("coordination.k8s.io", &["v1"]), "Lease", "leases"),
            Self::Secret => (("", &["v1"]), "Secret", "secrets"),
            Self::ClusterPeer => (("portolan.dev", &["v1alpha1"]), "ClusterPeer", "clusterpeers"),
            Self::ClusterProfile => {
                (("multicluster.x-k8s.io", &["v1alpha1"]), "ClusterProfile", "clusterprofiles")
            }
        };
        Found { group, versions, kind, plural }
    }

    /// The kind that is translated, for those that are.
    pub(crate) fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::ClusterProperty => Kind::ClusterProperty,
            Self::Namespace => Kind::Namespace,
            Self::Node => Kind::Node,
            Self::Service => Kind::Service,
            Self::EndpointSlice => Kind::EndpointSlice,
            Self::ServiceExport => Kind::ServiceExport,
            Self::ServiceImport => Kind::ServiceImport,
            Self::TrafficPolicy => Kind::TrafficPolicy,
            Self::ClusterPeer => Kind::ClusterPeer,
            Self::Lease | Self::Secret | Self::ClusterProfile => return None,
        })
    }

    /// Whether a cluster is not synced without it.
    pub(crate) fn is_needed(self) -> bool {
        matches!(self, Self::Service | Self::EndpointSlice | Self::ServiceExport | Self::ServiceImport)
    }

    /// As RBAC rules name it: `endpointslices.discovery.k8s.io`.
    pub(crate) fn resource(self) -> String {
        let Found { group, plural, .. } = self.found();
        if group.is_empty() { plural.to_owned() } else { format!("{plural}.{group}") }
    }

    /// What it means that a cluster does not serve it, and what to do.
    pub(crate) fn absence(self) -> String {
        let resource = self.resource();
        let (meaning, todo) = match self {
            Self::ServiceExport => ("nothing is exported from here", MCS_CRDS),
            Self::ServiceImport => ("nothing is imported here", MCS_CRDS),
            Self::ClusterProperty => {
                ("the cluster does not say its own id", "install the About API's CRD, or configure the id")
            }
            Self::TrafficPolicy => {
                ("it has no policies", "install Portolan's CRDs by `kubectl apply -f deploy/crds`")
            }
            Self::ClusterPeer => {
                ("it names no other clusters", "install Portolan's CRDs by `kubectl apply -f deploy/crds`")
            }
            Self::ClusterProfile => ("it has no inventory", "install the Cluster Inventory API's CRDs"),
            _ => ("it can't be read", "look at the API server's configuration"),
        };
        format!("the API server does not serve {resource}: {meaning}; {todo}")
    }
}

/// The resource of a topic in the best version that the cluster serves; `None`: in none, by its own word.
///
/// A 404 is no such word: whatever stands in for an API server says it, too. Only a server that tells what it does serve
/// can be believed about what it does not.
pub(crate) async fn find(client: &Client, topic: Topic) -> Result<Option<ApiResource>, kube::Error> {
    let Found { group, versions, kind, plural } = topic.found();
    let resource = |version: &str| ApiResource {
        group: group.to_owned(),
        version: version.to_owned(),
        api_version: if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") },
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    let built_in = group.is_empty() || group.ends_with(".k8s.io");
    if let [version] = versions
        && built_in
    {
        return Ok(Some(resource(version)));
    }
    // Versions of which the server says nothing.
    let mut unknown = Vec::new();
    for version in versions {
        let found = resource(version);
        match client.list_api_group_resources(&found.api_version).await {
            Ok(served) if served.group_version != found.api_version => unknown.push(*version),
            Ok(served) if served.resources.iter().any(|served| served.name == plural) => {
                return Ok(Some(found));
            }
            Ok(_) => {}
            Err(error) if is_not_found(&error) => unknown.push(*version),
            Err(error) => return Err(error),
        }
    }
    if unknown.is_empty() {
        return Ok(None);
    }
    let groups = client.list_api_groups().await?.groups;
    let mut versions =
        groups.iter().filter(|served| served.name == group).flat_map(|served| &served.versions);
    if groups.is_empty() || versions.any(|served| unknown.contains(&&*served.version)) {
        let text = "the server does not say what it serves";
        return Err(kube::Error::Api(Box::new(Status::failure(text, "NotFound").with_code(404))));
    }
    Ok(None)
}

/// Who a cluster is, whatever it is called: the UID of its namespace kube-system, which is made with the cluster.
pub(crate) async fn uid(client: &Client) -> Result<Option<String>, kube::Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    Ok(namespaces.get("kube-system").await?.metadata.uid)
}

/// Whether the server does not know the object, or the whole resource.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Whether the server knows us and refuses.
pub(crate) fn is_denied(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}
