//! Carries requests out, and says what came of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::Request;

use super::desired::VipTrouble;
use super::plan::{Action, Target, Verb, What};
use super::words::{MCS, WRITER};
use crate::convert::Kind;
use crate::kubernetes::Access;
use crate::kubernetes::discovery::{Topic, find};

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Writes to the own cluster.
pub(super) struct Writer {
    access: Access,
    connection: tokio::sync::Mutex<Option<Connection>>,
    counts: Mutex<Counts>,
}

/// Requests so far, by kind and verb, and how many came to nothing.
type Counts = (BTreeMap<(&'static str, &'static str), u64>, u64);

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
    /// It refuses this one.
    #[error("{target} was refused: {message}")]
    Refused { target: Target, code: u16, message: String },
}

impl Writer {
    pub(super) fn new(access: Access) -> Self {
        Self { access, connection: tokio::sync::Mutex::default(), counts: Mutex::default() }
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
        Ok(connection.insert(Connection { client, mcs }).clone())
    }

    /// Carries a request out; the object as it is then, or nothing for one that is gone.
    pub(super) async fn carry_out(
        &self,
        connection: &Connection,
        action: &Action,
    ) -> Result<Option<String>, WriteError> {
        let target = &action.target;
        let refused = |code, message| WriteError::Refused { target: target.clone(), code, message };
        let request = request(action, connection.mcs).map_err(|error| refused(0, error.to_string()))?;
        let verb = match action.verb {
            Verb::Apply { .. } => "apply",
            Verb::Delete { .. } => "delete",
        };
        *self.lock().0.entry((target.what.kind(), verb)).or_default() += 1;
        let error = match tokio::time::timeout(PATIENCE, connection.client.request_text(request)).await {
            Ok(Ok(json)) => return Ok(Some(json).filter(|_| verb == "apply")),
            Ok(Err(kube::Error::Api(status))) if verb == "delete" && status.code == 404 => return Ok(None),
            Ok(Err(kube::Error::Api(status))) if !is_everybodys(status.code) => {
                refused(status.code, status.message)
            }
            Ok(Err(error)) => unreachable(&error),
            Err(_) => WriteError::Unreachable("the API server does not answer".to_owned()),
        };
        self.lock().1 += 1;
        // Credentials may have been replaced, and CRDs may serve other versions now.
        if matches!(error, WriteError::Unreachable(_) | WriteError::Refused { code: 404, .. }) {
            *self.connection.lock().await = None;
        }
        Err(error)
    }

    /// Requests so far, by kind and verb, and how many came to nothing.
    pub(super) fn counts(&self) -> Counts {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
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

fn request(action: &Action, mcs: &str) -> Result<http::Request<Vec<u8>>, kube::core::request::Error> {
    let Target { what, namespace, name } = &action.target;
    let path = match what {
        What::Import | What::ImportStatus => {
            format!("/apis/{MCS}/{mcs}/namespaces/{namespace}/serviceimports")
        }
        What::ExportStatus => {
            format!("/apis/{MCS}/{mcs}/namespaces/{namespace}/serviceexports")
        }
        What::Service => format!("/api/v1/namespaces/{namespace}/services"),
        What::Slice => format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"),
    };
    let request = Request::new(path);
    match &action.verb {
        Verb::Delete { version } => {
            let preconditions = Preconditions { resource_version: Some(version.to_string()), uid: None };
            request.delete(name, &DeleteParams::background().preconditions(preconditions))
        }
        Verb::Apply { body, force } => {
            let mut params = PatchParams::apply(WRITER);
            params.force = *force;
            match what {
                What::ImportStatus | What::ExportStatus => {
                    request.patch_subresource("status", name, &params, &Patch::Apply(body))
                }
                _ => request.patch(name, &params, &Patch::Apply(body)),
            }
        }
    }
}
