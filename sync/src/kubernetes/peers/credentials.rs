//! From Secrets to kubeconfigs.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use kube::config::Cluster;
use serde::Deserialize;

/// Where `secretreader` has the token.
const TOKEN: &str = "token";

/// What we read of a Secret. It is never printed.
#[derive(Deserialize)]
pub(super) struct Secret {
    #[serde(default)]
    data: BTreeMap<String, ByteString>,
}

impl Secret {
    /// The text at a key; else what is wrong, without any of it.
    pub(super) fn text(&self, key: &str) -> Result<&str, String> {
        let Some(bytes) = self.data.get(key) else {
            let keys: Vec<_> = self.data.keys().map(|key| &**key).collect();
            let keys = if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
            return Err(format!("has no key `{key}`; its keys are: {keys}"));
        };
        std::str::from_utf8(&bytes.0).map_err(|_| format!("key `{key}` is no text"))
    }
}

/// A kubeconfig for a cluster of an inventory, whose token is in the Secret.
pub(super) fn with_token(cluster: &Cluster, secret: &Secret) -> Result<Arc<str>, String> {
    let token = secret.text(TOKEN)?.trim();
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "cluster",
        "contexts": [{ "name": "cluster", "context": { "cluster": "cluster", "user": "user" } }],
        "clusters": [{ "name": "cluster", "cluster": cluster }],
        "users": [{ "name": "user", "user": { "token": token } }],
    });
    Ok(kubeconfig.to_string().into())
}
