//! The requests that keep the shared gateway: all by server-side apply, so that other people's fields stay theirs.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::core::{Request, Status};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::keeper::{Served, ServicePort, Write};
use super::seen::{SERVICE, SHARED, SHARED_PORTS};
use crate::controller::bodies::protocol;
use crate::controller::words::MCS;
use crate::gateway::{FILES, MEMORY, memory};
use crate::kubernetes::access::tell;
use crate::kubernetes::discovery::{Topic, find};

/// Field manager of what is written for the gateway.
pub(super) const WRITER: &str = "portolan-gateway";
/// Beside the configurations: the ports that they serve.
const SERVED: &str = "served";
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Asks the own cluster.
pub(super) struct Requests {
    client: Client,
    namespace: String,
    /// The version of the MCS API, once it is known.
    version: tokio::sync::Mutex<Option<String>>,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// Others would fare no better.
    #[error("{0}")]
    Unreachable(String),
    /// This one is not taken.
    #[error("{0}")]
    Refused(String),
}

impl Requests {
    /// The namespace is our own.
    pub(super) fn new(client: Client, namespace: String) -> Self {
        Self { client, namespace, version: tokio::sync::Mutex::default() }
    }

    /// Looked for again after anything failed: definitions may have been replaced.
    async fn version(&self) -> Result<String, Failed> {
        let mut version = self.version.lock().await;
        if let Some(version) = &*version {
            return Ok(version.clone());
        }
        let found = answered(find(&self.client, Topic::ServiceExport)).await?;
        let found = found.ok_or_else(|| Failed::Refused(Topic::ServiceExport.absence()))?;
        Ok(version.insert(found.version).clone())
    }

    /// What was written down of numbers, and what the configuration serves; nothing where nothing ever was.
    pub(super) async fn remembered(&self) -> Result<(BTreeMap<String, String>, Served), Failed> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let memory = answered(api.get_opt(MEMORY)).await?.and_then(|map| map.data);
        let files = answered(api.get_opt(FILES)).await?.and_then(|map| map.data).unwrap_or_default();
        let served = files.get(SERVED).map(|text| memory::read_served(text));
        Ok((memory.unwrap_or_default(), served.unwrap_or_default()))
    }

    /// Makes a request; the object as it is then.
    pub(super) async fn send(&self, write: &Write) -> Result<String, Failed> {
        let (path, name, body, force) = match write {
            Write::Memory(data) => self.map(MEMORY, &json!(data)),
            Write::Files { haproxy, nginx, served } => {
                let served = memory::write_served(served);
                self.map(FILES, &json!({ "haproxy.cfg": haproxy, "nginx.conf": nginx, (SERVED): served }))
            }
            Write::Ports { uid, ports, .. } => self.ports(uid, ports),
            Write::Told { name, uid, words } => {
                let version = self.version().await?;
                let (namespace, name) = (name.namespace(), name.name());
                let mut metadata = json!({ "namespace": namespace, "name": name, "uid": uid });
                if let Some((at, ports)) = words {
                    metadata["annotations"] = json!({ (SHARED): at, (SHARED_PORTS): ports });
                }
                let body = json!({ "apiVersion": format!("{MCS}/{version}"), "kind": "ServiceExport",
                    "metadata": metadata });
                let path = format!("/apis/{MCS}/{version}/namespaces/{namespace}/serviceexports");
                (path, name.to_owned(), body, false)
            }
        };
        let params = PatchParams { force, ..PatchParams::apply(WRITER) };
        let request = Request::new(path).patch(&name, &params, &Patch::Apply(body));
        let request = request.map_err(|error| Failed::Refused(error.to_string()))?;
        let answer = answered(self.client.request_text(request)).await;
        if answer.is_err() {
            *self.version.lock().await = None;
        }
        answer
    }

    /// A ConfigMap of ours.
    fn map(&self, name: &str, data: &Value) -> (String, String, Value, bool) {
        let body = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "namespace": self.namespace, "name": name,
                "labels": { "app.kubernetes.io/part-of": "portolan" } },
            "data": data,
        });
        (format!("/api/v1/namespaces/{}/configmaps", self.namespace), name.to_owned(), body, true)
    }

    /// Only the ports of a Service that is there: one that was replaced is another one.
    fn ports(&self, uid: &str, ports: &[ServicePort]) -> (String, String, Value, bool) {
        let port = |(name, transport, number): &ServicePort| json!({ "name": name, "protocol": protocol(*transport), "port": number, "targetPort": number });
        let body = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "namespace": self.namespace, "name": SERVICE, "uid": uid },
            "spec": { "ports": ports.iter().map(port).collect::<Vec<_>>() },
        });
        (format!("/api/v1/namespaces/{}/services", self.namespace), SERVICE.to_owned(), body, false)
    }
}

/// Whether other requests would fare the same. A 500 is one object's: a webhook that fails, or no number that is free.
fn is_everyones(status: &Status) -> bool {
    let is_kubernetes = status.reason != "Failed to parse error data";
    matches!(status.code, 401 | 429 | 503) || (status.code >= 500 && !is_kubernetes)
}

/// Waits for an answer, and judges whose matter it is.
async fn answered<T>(asked: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failed> {
    match timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) if !is_everyones(&status) => {
            Err(Failed::Refused(tell(&kube::Error::Api(status))))
        }
        Ok(Err(error)) => Err(Failed::Unreachable(tell(&error))),
        Err(_) => Err(Failed::Unreachable("the API server does not answer".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A webhook that fails for one object must not keep all others from being written.
    #[tokio::test]
    async fn only_what_is_everyones_ends_a_round() {
        let no_kubernetes = "Failed to parse error data";
        for (code, reason, is_everyones) in [
            (401, "Unauthorized", true),
            (403, "Forbidden", false),
            (409, "Conflict", false),
            (429, "TooManyRequests", true),
            (500, "InternalError", false),
            (503, "ServiceUnavailable", true),
            (500, no_kubernetes, true),
            (502, no_kubernetes, true),
        ] {
            let status = Status::failure("failed calling webhook", reason).with_code(code);
            let failed = answered::<()>(async { Err(kube::Error::Api(status.boxed())) }).await.unwrap_err();
            assert_eq!(matches!(failed, Failed::Unreachable(_)), is_everyones, "{code} {reason}");
        }
    }
}
