//! ClusterProfile (KEP-4322, `multicluster.x-k8s.io/v1alpha1`): a cluster inventory's word on one cluster.

use kube::config::Cluster;
use serde::Deserialize;

/// The only provider that works without a program: the token is in a Secret (KEP-5339).
const PROVIDER: &str = "secretreader";
/// Where a provider's cluster says under which name its credentials are kept.
const EXEC_EXTENSION: &str = "client.authentication.k8s.io/exec";
/// The property that is the cluster's id (KEP-2149).
pub(super) const CLUSTER_ID: &str = "cluster.clusterset.k8s.io";

/// What we read of one.
#[derive(Debug, Deserialize)]
pub(super) struct ClusterProfile {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    uid: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    access_providers: Vec<Provider>,
    /// Their former name; counts for providers that are not among the others.
    #[serde(default)]
    credential_providers: Vec<Provider>,
    #[serde(default)]
    properties: Vec<Property>,
}

#[derive(Debug, Deserialize)]
struct Provider {
    name: String,
    #[serde(default)]
    cluster: Option<Cluster>,
}

#[derive(Debug, Deserialize)]
struct Property {
    name: String,
    value: String,
}

impl ClusterProfile {
    /// The API server, as the provider that we can use tells it; else a text for people.
    pub(super) fn cluster(&self) -> Result<&Cluster, String> {
        let providers = self.providers();
        let found = providers.iter().find(|provider| provider.name == PROVIDER);
        found.and_then(|provider| provider.cluster.as_ref()).ok_or_else(|| {
            let names: Vec<_> = providers.iter().map(|provider| &*provider.name).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            format!(
                "needs the access provider {PROVIDER} with a cluster; status.accessProviders has: {names}"
            )
        })
    }

    /// The name of the Secret that holds the token: the profile's own, unless the provider says another.
    pub(super) fn secret<'a>(&'a self, profile: &'a str) -> &'a str {
        let extensions = self.cluster().ok().and_then(|cluster| cluster.extensions.as_ref());
        let exec = extensions.into_iter().flatten().find(|extension| extension.name == EXEC_EXTENSION);
        exec.and_then(|exec| exec.extension.get("clusterName")?.as_str()).unwrap_or(profile)
    }

    /// The object's own UID.
    pub(super) fn uid(&self) -> Option<&String> {
        self.metadata.uid.as_ref()
    }

    /// The cluster's id as the inventory knows it.
    pub(super) fn id(&self) -> Option<&str> {
        let properties = self.status.iter().flat_map(|status| &status.properties);
        properties.into_iter().find(|property| property.name == CLUSTER_ID).map(|property| &*property.value)
    }

    fn providers(&self) -> Vec<&Provider> {
        let status = self.status.iter();
        status.flat_map(|status| status.access_providers.iter().chain(&status.credential_providers)).collect()
    }
}
