//! Carries requests out, and says what came of them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{Request, Status};
use serde_json::{Value, json};

use super::desired::VipTrouble;
use super::plan::{Action, Target, Verb, What};
use super::words::{MCS, WRITER};
use crate::convert::Kind;
use crate::kubernetes::Access;
use crate::kubernetes::discovery::{Topic, find};

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Requests per second in the long run, whatever goes wrong with however many services.
const RATE: NonZeroU32 = NonZeroU32::new(500).unwrap();
/// So many may come at once.
const BURST: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// Writes to the own cluster.
pub(super) struct Writer {
    access: Access,
    connection: tokio::sync::Mutex<Option<Connection>>,
    counts: Mutex<Counts>,
    limiter: DefaultDirectRateLimiter,
    pruned: Mutex<Arc<Pruned>>,
}

/// Requests so far, by kind and verb, and how many came to nothing.
type Counts = (BTreeMap<(&'static str, &'static str), u64>, u64);

/// Fields of ServiceImports that the cluster's definition lacks, so that its API server drops them: `spec.ipFamilies`.
pub(super) type Pruned = BTreeSet<String>;

/// A client, and the version of the MCS API that its server has.
#[derive(Clone)]
pub(super) struct Connection {
    client: Client,
    pub(super) mcs: &'static str,
}

/// Why nothing was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WriteError {
    /// The API server can't be asked; what else there is to write can't be written either.
    #[error("{0}")]
    Unreachable(String),
    /// The object came, changed or went meanwhile: what the watch tells next says what to do.
    #[error("{target} has changed meanwhile: {message}")]
    Late { target: Target, message: String },
    /// Somebody else changes it as often as we do.
    #[error("{target} is changed back by {by} as often as it is written: let only one of them write it")]
    Contested { target: Target, by: String },
    /// It refuses this one.
    #[error("{target} was refused: {message}")]
    Refused { target: Target, code: u16, message: String },
}

impl Writer {
    pub(super) fn new(access: Access) -> Self {
        Self {
            access,
            connection: tokio::sync::Mutex::default(),
            counts: Mutex::default(),
            limiter: RateLimiter::direct(Quota::per_second(RATE).allow_burst(BURST)),
            pruned: Mutex::default(),
        }
    }

    /// The connection, made when there is none.
    pub(super) async fn connection(&self) -> Result<Connection, WriteError> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(connection.clone());
        }
        let client = self.access.client().await.map_err(|e| WriteError::Unreachable(e.to_string()))?;
        let found = tokio::time::timeout(PATIENCE, find(&client, Topic::ServiceImport)).await;
        let found =
            found.map_err(|_| WriteError::Unreachable("the API server does not answer".to_owned()))?;
        let found = found.map_err(|error| unreachable(&error))?;
        let version = found.map(|resource| resource.version);
        let mcs = match version.as_deref() {
            Some("v1beta1") => "v1beta1",
            Some(_) => "v1alpha1",
            None => return Err(WriteError::Unreachable(Topic::ServiceImport.absence())),
        };
        *self.pruned() = Arc::default();
        Ok(connection.insert(Connection { client, mcs }).clone())
    }

    /// Carries a request out; the object as it is then, or nothing for one that is gone. It is given up when we may not
    /// write any more, at `end`: what is under way then can't be recalled, but nothing is begun.
    pub(super) async fn carry_out(
        &self,
        connection: &Connection,
        action: &Action,
        end: Instant,
    ) -> Result<Option<String>, WriteError> {
        let written = self.attempt(connection, action, end).await;
        if let Ok(Some(json)) = &written {
            let object: Value = serde_json::from_str(json).unwrap_or_default();
            self.note_pruned(action, &object);
            if let (Verb::Create { .. }, [_, ..]) = (&action.verb, &*others(&object)) {
                return self.let_go(connection, &action.target, end).await;
            }
        }
        if !matches!(written, Ok(_) | Err(WriteError::Late { .. })) {
            self.lock().1 += 1;
        }
        // Credentials may have been replaced, and CRDs may serve other versions now.
        if let Err(WriteError::Unreachable(_)) = written {
            *self.connection.lock().await = None;
        }
        written
    }

    async fn attempt(
        &self,
        connection: &Connection,
        action: &Action,
        end: Instant,
    ) -> Result<Option<String>, WriteError> {
        let target = &action.target;
        let refused = |code, message| WriteError::Refused { target: target.clone(), code, message };
        let late = |message| WriteError::Late { target: target.clone(), message };
        let request = request(action, connection.mcs).map_err(|error| refused(0, error.to_string()))?;
        let is_delete = matches!(action.verb, Verb::Delete { .. });
        let verb = if is_delete { "delete" } else { "apply" };
        let end = end.min(Instant::now() + PATIENCE);
        let ask = async {
            self.limiter.until_ready().await;
            *self.lock().0.entry((target.what.kind(), verb)).or_default() += 1;
            connection.client.request_text(request).await
        };
        match tokio::time::timeout_at(end.into(), ask).await {
            Ok(Ok(json)) => Ok(Some(json).filter(|_| !is_delete)),
            Ok(Err(kube::Error::Api(status))) if is_missing(&status) => Err(WriteError::Unreachable(
                format!("{} can't be written: {}", target.what.kind(), status.message),
            )),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 && is_delete => Ok(None),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                Err(late(status.message))
            }
            Ok(Err(kube::Error::Api(status))) if !is_everybodys(status.code) => {
                Err(refused(status.code, status.message))
            }
            Ok(Err(error)) => Err(unreachable(&error)),
            Err(_) => Err(WriteError::Unreachable("the API server does not answer".to_owned())),
        }
    }

    /// What was to be made had just been made by somebody else, in the same words or so few that nothing differed: it is
    /// theirs, and what we added to it is taken away.
    async fn let_go(
        &self,
        connection: &Connection,
        target: &Target,
        end: Instant,
    ) -> Result<Option<String>, WriteError> {
        let kind = target.what.kind();
        let version = match target.what {
            What::Import | What::ImportStatus | What::ExportStatus => format!("{MCS}/{}", connection.mcs),
            What::Service => "v1".to_owned(),
            What::Slice => "discovery.k8s.io/v1".to_owned(),
        };
        let metadata = json!({ "namespace": target.namespace, "name": target.name });
        let body = json!({ "apiVersion": version, "kind": kind, "metadata": metadata });
        let nothing = Action { target: target.clone(), verb: Verb::Apply { body } };
        self.attempt(connection, &nothing, end).await?;
        let message = "somebody else made it".to_owned();
        Err(WriteError::Late { target: target.clone(), message })
    }

    /// Who writes an object besides us, for people.
    pub(super) async fn others(&self, connection: &Connection, target: &Target) -> String {
        let path = format!("{}/{}", path(target, connection.mcs), target.name);
        let Ok(request) = http::Request::get(path).body(Vec::new()) else { return String::new() };
        let asked = tokio::time::timeout(PATIENCE, connection.client.request::<Value>(request)).await;
        let names = asked.ok().and_then(Result::ok).map(|object| others(&object)).unwrap_or_default();
        if names.is_empty() { "somebody else".to_owned() } else { names.join(", ") }
    }

    /// Remembers what the API server did not keep.
    fn note_pruned(&self, action: &Action, object: &Value) {
        let half = match action.target.what {
            What::Import => "spec",
            What::ImportStatus => "status",
            _ => return,
        };
        let (Verb::Create { body } | Verb::Apply { body }) = &action.verb else { return };
        let lacks = |key: &&String| object[half][key.as_str()].is_null();
        // A list without items is as good as none.
        let says = |value: &Value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty());
        let lacking = body[half].as_object().into_iter().flatten().filter(|(_, value)| says(value));
        let lacking = lacking.map(|(key, _)| key).filter(lacks).map(|key| format!("{half}.{key}"));
        let mut pruned = self.pruned();
        let new: Vec<String> = lacking.filter(|field| !pruned.contains(field)).collect();
        if !new.is_empty() {
            Arc::make_mut(&mut pruned).extend(new);
            tracing::warn!("{}", told_pruned(&pruned));
        }
    }

    /// Fields of ServiceImports that the API server does not keep.
    pub(super) fn pruned(&self) -> std::sync::MutexGuard<'_, Arc<Pruned>> {
        self.pruned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests so far, by kind and verb, and how many came to nothing.
    pub(super) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do about definitions that lack fields.
pub(super) fn told_pruned(pruned: &Pruned) -> String {
    let fields: Vec<&str> = pruned.iter().map(String::as_str).collect();
    format!(
        "this cluster's definition of ServiceImports is an old one and does not keep {}: install the MCS API's, for \
         example by `kubectl apply -k https://github.com/kubernetes-sigs/mcs-api/config/crd`",
        fields.join(", ")
    )
}

/// Field managers of an object but ours.
fn others(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let names = entries.filter_map(|entry| entry["manager"].as_str()).filter(|name| *name != WRITER);
    names.map(str::to_owned).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Whether it is the kind that the API server does not have, and not the object.
fn is_missing(status: &Status) -> bool {
    status.code == 404 && status.details.as_ref().is_none_or(|details| details.name.is_empty())
}

impl WriteError {
    /// What it means for the service's address, when it is the derived Service that was refused.
    pub(super) fn vip(&self) -> Option<VipTrouble> {
        let Self::Refused { target: Target { what: What::Service, .. }, message, .. } = self else {
            return None;
        };
        Some(if is_full(message) {
            VipTrouble::Exhausted
        } else if message.contains("not configured on this cluster") {
            VipTrouble::Family(message.clone())
        } else if message.contains("already allocated") {
            VipTrouble::Taken
        } else {
            VipTrouble::Refused(message.clone())
        })
    }
}

/// Whether an answer is about us or the server, and not about the object: others would get the same.
fn is_everybodys(code: u16) -> bool {
    matches!(code, 401 | 429 | 503 | 504)
}

/// What the API server says when a range has no addresses left.
fn is_full(message: &str) -> bool {
    message.contains("range is full")
}

fn unreachable(error: &kube::Error) -> WriteError {
    let mut text = error.to_string();
    if let kube::Error::Api(status) = error {
        text = format!("the API server fails: {} (code {})", status.message, status.code);
    }
    WriteError::Unreachable(text)
}

/// The kind that the watch tells of a target.
pub(super) fn kind(what: What) -> Kind {
    match what {
        What::Import | What::ImportStatus => Kind::ServiceImport,
        What::ExportStatus => Kind::ServiceExport,
        What::Service => Kind::Service,
        What::Slice => Kind::EndpointSlice,
    }
}

/// Where objects of a target's kind are.
fn path(target: &Target, mcs: &str) -> String {
    let namespace = &target.namespace;
    match target.what {
        What::Import | What::ImportStatus => {
            format!("/apis/{MCS}/{mcs}/namespaces/{namespace}/serviceimports")
        }
        What::ExportStatus => format!("/apis/{MCS}/{mcs}/namespaces/{namespace}/serviceexports"),
        What::Service => format!("/api/v1/namespaces/{namespace}/services"),
        What::Slice => format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"),
    }
}

fn request(action: &Action, mcs: &str) -> Result<http::Request<Vec<u8>>, kube::core::request::Error> {
    let (request, name) = (Request::new(path(&action.target, mcs)), &action.target.name);
    let params = PatchParams::apply(WRITER);
    match (&action.verb, action.target.what) {
        (Verb::Delete { version }, _) => {
            let preconditions = Preconditions { resource_version: Some(version.to_string()), uid: None };
            request.delete(name, &DeleteParams::background().preconditions(preconditions))
        }
        (Verb::Create { body }, _) => request.patch(name, &params, &Patch::Apply(body)),
        (Verb::Apply { body }, What::ImportStatus | What::ExportStatus) => {
            request.patch_subresource("status", name, &params.force(), &Patch::Apply(body))
        }
        (Verb::Apply { body }, _) => request.patch(name, &params.force(), &Patch::Apply(body)),
    }
}
