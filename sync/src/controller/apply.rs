//! Carries requests out, and says what came of them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{Request, Status};
use serde_json::Value;

use super::imports;
use super::plan::{Action, Target, Verb, What};
use super::words::{MCS, WRITER};
use super::world::{Lacking, VipTrouble};
use crate::convert::Kind;
use crate::kubernetes::Access;
use crate::kubernetes::discovery::{Topic, find};

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// So often in a row it may be too late before something else must be amiss.
const LATE: u32 = 3;
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
    definitions: Mutex<Definitions>,
}

/// Requests so far, by kind and verb, and how many came to nothing.
type Counts = (BTreeMap<(&'static str, &'static str), u64>, u64);

/// What is known of the definitions.
#[derive(Default)]
struct Definitions {
    lacking: Arc<Lacking>,
    /// What was logged, once for all.
    told: Lacking,
}

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
    /// Its definition lacks a field: it is to be written without that.
    #[error("{target} was refused: its definition lacks {field}")]
    Undeclared { target: Target, field: &'static str },
    /// It was not answered as long as we could write.
    #[error("{target} was given up, for somebody else may lead now")]
    Over { target: Target },
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
            definitions: Mutex::default(),
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
        self.forget_lacking();
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
        match &written {
            Err(WriteError::Undeclared { field, .. }) => self.lacks(field),
            Err(WriteError::Unreachable(_)) => {
                self.lock().1 += 1;
                // Credentials may have been replaced, and CRDs may serve other versions now.
                *self.connection.lock().await = None;
            }
            Err(WriteError::Refused { .. }) => self.lock().1 += 1,
            _ => {}
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
        let deadline = end.min(Instant::now() + PATIENCE);
        let ask = async {
            self.limiter.until_ready().await;
            *self.lock().0.entry((target.what.kind(), verb)).or_default() += 1;
            connection.client.request_text(request).await
        };
        match tokio::time::timeout_at(deadline.into(), ask).await {
            Ok(Ok(json)) => Ok(Some(json).filter(|_| !is_delete)),
            Ok(Err(kube::Error::Api(status))) if is_missing(&status) => Err(WriteError::Unreachable(
                format!("{} can't be written: {}", target.what.kind(), status.message),
            )),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 && is_delete => Ok(None),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                Err(late(status.message))
            }
            Ok(Err(kube::Error::Api(status))) if !is_everybodys(status.code) => {
                Err(match undeclared(target.what, &status.message) {
                    Some(field) => WriteError::Undeclared { target: target.clone(), field },
                    None => refused(status.code, status.message),
                })
            }
            Ok(Err(error)) => Err(unreachable(&error)),
            Err(_) if deadline == end => Err(WriteError::Over { target: target.clone() }),
            Err(_) => Err(WriteError::Unreachable("the API server does not answer".to_owned())),
        }
    }

    /// Who writes an object besides us, for people.
    pub(super) async fn others(&self, connection: &Connection, target: &Target) -> String {
        let path = format!("{}/{}", path(target, connection.mcs), target.name);
        let Ok(request) = http::Request::get(path).body(Vec::new()) else { return String::new() };
        let ask = async {
            self.limiter.until_ready().await;
            connection.client.request::<Value>(request).await
        };
        let asked = tokio::time::timeout(PATIENCE, ask).await;
        let names = asked.ok().and_then(Result::ok).map(|object| others(&object)).unwrap_or_default();
        if names.is_empty() { "somebody else".to_owned() } else { names.join(", ") }
    }

    /// Fields that the cluster's definitions lack, as far as it is known.
    pub(super) fn lacking(&self) -> Arc<Lacking> {
        self.definitions().lacking.clone()
    }

    /// Newer definitions may have been installed: what they lack is found out anew.
    pub(super) fn forget_lacking(&self) {
        self.definitions().lacking = Arc::default();
    }

    fn lacks(&self, field: &'static str) {
        let mut definitions = self.definitions();
        Arc::make_mut(&mut definitions.lacking).insert(field);
        if definitions.told.insert(field) {
            tracing::warn!("{}", told_lacking(&definitions.told));
        }
    }

    fn definitions(&self) -> std::sync::MutexGuard<'_, Definitions> {
        self.definitions.lock().unwrap_or_else(PoisonError::into_inner)
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
pub(super) fn told_lacking(lacking: &Lacking) -> String {
    let fields: Vec<&str> = lacking.iter().copied().collect();
    format!(
        "this cluster's definitions of the MCS API are old ones and lack {}: install its own, for example by \
         `kubectl apply -k https://github.com/kubernetes-sigs/mcs-api/config/crd`",
        fields.join(", ")
    )
}

/// The field for whose want in the kind's definition a request was refused, if we can do without it. The API server names
/// one at a time: `… Kind=ServiceImport): .spec.ipFamilies: field not declared in schema`.
pub(super) fn undeclared(what: What, message: &str) -> Option<&'static str> {
    let (path, _) = message.split_once(": field not declared in schema")?;
    let (_, field) = path.rsplit_once(" .")?;
    match what {
        What::Import | What::ImportStatus => imports::SPARE.into_iter().find(|spare| *spare == field),
        // Of one of the conditions: `status.conditions[type="Valid"].observedGeneration`.
        What::ExportStatus => field.ends_with(".observedGeneration").then_some(imports::OBSERVED),
        What::Service | What::Slice => None,
    }
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
    /// What people are told of it when it is not the first time: to be too late passes, unless it was so every time.
    pub(super) fn told(&self, times: u32) -> Option<String> {
        (times >= LATE || !matches!(self, Self::Late { .. })).then(|| self.to_string())
    }

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

#[cfg(test)]
mod tests;
