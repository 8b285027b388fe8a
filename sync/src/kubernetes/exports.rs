//! Exports by hand: what `portolan export` and `unexport` do, with the rights of whoever calls them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use serde_json::{Value, json};

use super::Access;
use super::access::tell;

/// The MCS API's group (KEP-1645).
const GROUP: &str = "multicluster.x-k8s.io";
/// Its versions that we know, the best first.
const VERSIONS: [&str; 2] = ["v1beta1", "v1alpha1"];
/// The field manager of server-side apply: what we set is ours, what others set stays theirs.
const WRITER: &str = "kubectl-portolan";
/// Bears the Service's name on slices, and the import's on Services that controllers derive (KEP-1645).
const SERVICE_NAME: &str = "multicluster.kubernetes.io/service-name";
/// A person waits for the answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);

/// A cluster as kubectl finds it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Target {
    /// `None`: the files of `$KUBECONFIG`, else `~/.kube/config`, else the service account of this Pod.
    pub kubeconfig: Option<PathBuf>,
    /// One of its contexts; `None`: its `current-context`.
    pub context: Option<String>,
}

/// What an export changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exported {
    /// The Service was not exported before.
    Created,
    /// It was, with other exported labels.
    Changed,
    /// It was, exactly so.
    Unchanged,
}

/// Why nothing was exported, or taken back.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The kubeconfig is missing or wrong.
    #[error("no cluster to ask: {0}; name a kubeconfig by --kubeconfig or $KUBECONFIG")]
    Config(String),
    /// The API server does not answer.
    #[error("the API server {server} can't be reached: {reason}")]
    Unreachable {
        /// Its URL.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// The MCS API's definitions are not installed.
    #[error(
        "{server} knows no ServiceExports ({GROUP}): install the MCS API's definitions, for example by \
         `kubectl apply -k https://github.com/kubernetes-sigs/mcs-api/config/crd`"
    )]
    NoCrd {
        /// The API server's URL.
        server: String,
    },
    /// Nothing would be exported.
    #[error(
        "service {0} does not exist: only what exists can be exported; is it another namespace or context?"
    )]
    NoService(String),
    /// The Service is a name of something else.
    #[error("service {0} is of type ExternalName, which can't be exported (KEP-1645)")]
    ExternalName(String),
    /// A controller made it for an import.
    #[error(
        "service {0} stands for an import, so it is in other clusters already: export the Service that they export"
    )]
    Derived(String),
    /// There is nothing to take back.
    #[error("service {0} is not exported")]
    NotExported(String),
    /// RBAC, or an admission webhook.
    #[error("{reason}: ask for the right to {verb} {resource} in namespace {namespace}")]
    Denied {
        /// What the API server says.
        reason: String,
        /// As RBAC names it.
        verb: &'static str,
        /// As RBAC names it, with its group.
        resource: &'static str,
        /// Where.
        namespace: String,
    },
    /// Something else is wrong.
    #[error("the API server refuses: {0}")]
    Refused(String),
}

/// Exports a Service: creates its ServiceExport, or changes the one that is there. The labels are those that the imports
/// in all clusters shall have (`spec.exportedLabels`); none: those that are there stay.
pub async fn export(
    target: &Target,
    (namespace, name): (&str, &str),
    labels: &BTreeMap<String, String>,
) -> Result<Exported, ExportError> {
    let server = Server::of(target).await?;
    let (exports, api_version) = server.exports(namespace).await?;
    server.check_service(namespace, name).await?;
    let failed = |verb| {
        let server = &server;
        move |error| server.failure(error, verb, EXPORTS, namespace)
    };
    let before = exports.get_opt(name).await.map_err(failed("get"))?;
    if before.is_some() && labels.is_empty() {
        return Ok(Exported::Unchanged);
    }
    let mut wanted = json!({
        "apiVersion": api_version,
        "kind": "ServiceExport",
        "metadata": { "namespace": namespace, "name": name },
    });
    if !labels.is_empty() {
        wanted["spec"] = json!({ "exportedLabels": labels });
    }
    let (params, patch) = (PatchParams::apply(WRITER), Patch::Apply(wanted));
    let after = exports.patch(name, &params, &patch).await.map_err(failed("patch"))?;
    Ok(match before {
        None => Exported::Created,
        Some(before) if exported_labels(&before) == exported_labels(&after) => Exported::Unchanged,
        Some(_) => Exported::Changed,
    })
}

fn exported_labels(export: &DynamicObject) -> Option<&Value> {
    export.data.pointer("/spec/exportedLabels")
}

/// Takes an export back: deletes the ServiceExport.
pub async fn unexport(target: &Target, (namespace, name): (&str, &str)) -> Result<(), ExportError> {
    let server = Server::of(target).await?;
    let (exports, _) = server.exports(namespace).await?;
    match exports.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            Err(ExportError::NotExported(format!("{namespace}/{name}")))
        }
        Err(error) => Err(server.failure(error, "delete", EXPORTS, namespace)),
    }
}

const EXPORTS: &str = "serviceexports.multicluster.x-k8s.io";
const SERVICES: &str = "services";

/// The API server that is asked.
struct Server {
    client: Client,
    url: String,
}

impl Server {
    async fn of(target: &Target) -> Result<Self, ExportError> {
        let mut config = config(target).await.map_err(ExportError::Config)?;
        (config.connect_timeout, config.read_timeout) = (Some(CONNECT), Some(ANSWER));
        config.default_retry = false;
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = Client::try_from(config).map_err(|error| ExportError::Config(tell(&error)))?;
        Ok(Self { client, url })
    }

    /// ServiceExports in the best version that is served, and which one that is.
    async fn exports(&self, namespace: &str) -> Result<(Api<DynamicObject>, String), ExportError> {
        let groups = self.client.list_api_groups().await;
        let groups = groups.map_err(|error| self.failure(error, "get", "/apis", namespace))?.groups;
        let served = groups.into_iter().filter(|group| group.name == GROUP).flat_map(|group| group.versions);
        let served: Vec<_> = served.map(|version| version.version).collect();
        let version = VERSIONS.into_iter().find(|known| served.iter().any(|version| version == known));
        let version = version.ok_or_else(|| ExportError::NoCrd { server: self.url.clone() })?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, version, "ServiceExport"));
        Ok((Api::namespaced_with(self.client.clone(), namespace, &resource), resource.api_version))
    }

    /// Refuses what could never be exported. Whoever may not look at Services may export them all the same.
    async fn check_service(&self, namespace: &str, name: &str) -> Result<(), ExportError> {
        let services = Api::<Service>::namespaced(self.client.clone(), namespace);
        let service = match services.get_opt(name).await {
            Err(kube::Error::Api(status)) if status.code == 403 => return Ok(()),
            found => found.map_err(|error| self.failure(error, "get", SERVICES, namespace))?,
        };
        let full = format!("{namespace}/{name}");
        let Some(service) = service else { return Err(ExportError::NoService(full)) };
        if service.metadata.labels.is_some_and(|labels| labels.contains_key(SERVICE_NAME)) {
            return Err(ExportError::Derived(full));
        }
        match service.spec.and_then(|spec| spec.type_) {
            Some(kind) if kind == "ExternalName" => Err(ExportError::ExternalName(full)),
            _ => Ok(()),
        }
    }

    fn failure(
        &self,
        error: kube::Error,
        verb: &'static str,
        resource: &'static str,
        namespace: &str,
    ) -> ExportError {
        match error {
            kube::Error::Api(status) if status.code == 404 && resource == EXPORTS => {
                ExportError::NoCrd { server: self.url.clone() }
            }
            kube::Error::Api(status) if [401, 403].contains(&status.code) => {
                let namespace = namespace.to_owned();
                ExportError::Denied { reason: status.message, verb, resource, namespace }
            }
            kube::Error::Api(status) => ExportError::Refused(status.message),
            error => ExportError::Unreachable { server: self.url.clone(), reason: tell(&error) },
        }
    }
}

/// As kubectl finds it. Programs in the kubeconfig run: it is the caller's own.
async fn config(target: &Target) -> Result<Config, String> {
    let context = target.context.clone();
    let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
    let config = match &target.kubeconfig {
        Some(path) => {
            // Says more of what is wrong, and no credentials.
            let access = Access::File { path: path.clone(), context, allow_exec: true };
            access.check_config().await.map_err(|error| error.to_string())?;
            let read = Kubeconfig::read_from(path).map_err(|error| error.to_string())?;
            Config::from_custom_kubeconfig(read, &options).await
        }
        None if context.is_some() => Config::from_kubeconfig(&options).await,
        None => return Config::infer().await.map_err(|error| error.to_string()),
    };
    config.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
