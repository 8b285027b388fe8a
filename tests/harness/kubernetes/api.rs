//! A cluster's objects as JSON, by kube.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use kube::api::{
    ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, PropagationPolicy,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::{Discovery, Scope};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::harness::{until, wait};

/// Our name in `managedFields`.
const FIELD_MANAGER: &str = "tests";
/// With API servers that may not be there, or not be heard.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one user may do at one API server. All waits for the reply; a name of a cluster-scoped object has namespace "".
pub struct Objects {
    client: Mutex<Client>,
    kinds: Mutex<HashMap<String, Vec<(ApiResource, Scope)>>>,
}

impl Objects {
    /// With the rights of a kubeconfig's user.
    pub fn by(kubeconfig: &Path) -> Self {
        Self { client: Mutex::new(connect(kubeconfig)), kinds: Mutex::default() }
    }

    /// From now on by another kubeconfig.
    pub(super) fn move_to(&self, kubeconfig: &Path) {
        *self.client.lock().unwrap() = connect(kubeconfig);
    }

    /// For typed requests: within [`block_on`].
    pub fn client(&self) -> Client {
        self.client.lock().unwrap().clone()
    }

    /// Writes all objects of a YAML text, in its order (server-side apply).
    pub fn apply(&self, yaml: &str) {
        for object in documents(yaml) {
            self.put(&object);
        }
    }

    /// Writes one object by server-side apply, and returns it as it is now.
    pub fn put(&self, object: &Value) -> Value {
        self.try_put(object).unwrap_or_else(|error| panic!("{error}: {object:#}"))
    }

    /// [`Objects::put`] that may be refused.
    pub fn try_put(&self, object: &Value) -> Result<Value, kube::Error> {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let api = self.of(text("/apiVersion"), text("/kind"), text("/metadata/namespace"));
        let how = PatchParams::apply(FIELD_MANAGER).force();
        json_of(block_on(api.patch(text("/metadata/name"), &how, &Patch::Apply(object))))
    }

    /// One object; `None`: there is none.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let found = block_on(self.of("", kind, namespace).get_opt(name)).unwrap();
        found.map(|object| serde_json::to_value(object).unwrap())
    }

    /// The objects of a namespace ("": of all) that a label selector selects ("": all do), sorted by name.
    pub fn list(&self, kind: &str, namespace: &str, selector: &str) -> Vec<Value> {
        let found =
            block_on(self.of("", kind, namespace).list(&ListParams::default().labels(selector))).unwrap();
        let mut found = found.items;
        found.sort_by_key(|object| (object.namespace(), object.name_any()));
        found.into_iter().map(|object| serde_json::to_value(object).unwrap()).collect()
    }

    /// Deletes it at once, without a grace period, what it owns in the background; false: there was none.
    pub fn delete(&self, kind: &str, namespace: &str, name: &str) -> bool {
        let how = DeleteParams {
            grace_period_seconds: Some(0),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        match block_on(self.of("", kind, namespace).delete(name, &how)) {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if status.code == 404 => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// A JSON merge patch (RFC 7396).
    pub fn patch(&self, kind: &str, namespace: &str, name: &str, patch: Value) -> Value {
        let api = self.of("", kind, namespace);
        let how = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        json_of(block_on(api.patch(name, &how, &Patch::Merge(patch)))).unwrap()
    }

    /// Writes an object's status, whatever it was.
    pub fn set_status(&self, kind: &str, namespace: &str, name: &str, status: &Value) -> Value {
        let api = self.of("", kind, namespace);
        let patch = json!({ "status": status });
        json_of(block_on(api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)))).unwrap()
    }

    /// A GET of a path such as `/readyz`; `None`: refused, or no reply within seconds.
    pub fn try_text(&self, path: &str) -> Option<String> {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        block_on(async { timeout(PATIENCE, self.client().request_text(request)).await.ok()?.ok() })
    }

    /// Creates a subresource, such as a service account's `token`, and returns what the server made of it.
    pub fn create_subresource(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        sub: &str,
        body: &Value,
    ) -> Value {
        let api = self.of("", kind, namespace);
        block_on(api.create_subresource(sub, name, &PostParams::default(), body)).unwrap()
    }

    /// The objects of a kind. `api_version`: the one that the server prefers when empty. Waits for a kind that was
    /// defined just now.
    fn of(&self, api_version: &str, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let (resource, scope) = until(&format!("the API server knows {api_version} {kind}"), || {
            let mut kinds = self.kinds.lock().unwrap();
            let known = find(&kinds, api_version, kind);
            if known.is_none() {
                // While a definition is becoming one, discovery may fail as a whole.
                *kinds = block_on(discover(self.client())).unwrap_or_default();
            }
            known.or_else(|| find(&kinds, api_version, kind))
        })
        .0;
        match scope {
            Scope::Namespaced if !namespace.is_empty() => {
                Api::namespaced_with(self.client(), namespace, &resource)
            }
            _ => Api::all_with(self.client(), &resource),
        }
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").finish_non_exhaustive()
    }
}

/// The objects of a YAML text; documents without one are left out.
pub fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// Runs a future of kube's to its end.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let new = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let runtime = RUNTIME.get_or_init(new);
    runtime.block_on(async { timeout(wait::DEADLINE, future).await.expect("the API server replies") })
}

fn connect(kubeconfig: &Path) -> Client {
    block_on(async {
        let file = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        Client::try_from(config).unwrap()
    })
}

fn find(
    kinds: &HashMap<String, Vec<(ApiResource, Scope)>>,
    api_version: &str,
    kind: &str,
) -> Option<(ApiResource, Scope)> {
    let fits =
        |(resource, _): &&(ApiResource, Scope)| api_version.is_empty() || resource.api_version == api_version;
    kinds.get(kind)?.iter().find(fits).cloned()
}

/// All versions of all kinds, the preferred ones first, and those of the core group before others'.
async fn discover(client: Client) -> Result<HashMap<String, Vec<(ApiResource, Scope)>>, kube::Error> {
    let discovery = Discovery::new(client).run_aggregated().await?;
    let mut kinds: HashMap<String, Vec<(ApiResource, Scope)>> = HashMap::new();
    for group in discovery.groups_alphabetical() {
        let every = group.versions().flat_map(|version| group.versioned_resources(version));
        for (resource, capabilities) in group.recommended_resources().into_iter().chain(every) {
            kinds.entry(resource.kind.clone()).or_default().push((resource, capabilities.scope));
        }
    }
    Ok(kinds)
}

fn json_of(object: Result<DynamicObject, kube::Error>) -> Result<Value, kube::Error> {
    object.map(|object| serde_json::to_value(object).unwrap())
}
