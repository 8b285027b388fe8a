//! HTTP for operators: `/health`, `/ready`, `/metrics`, `/status`, `/services`, `/trace`. Reads, never writes, but that a trace has
//! the kernel tell.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use portolan_sync::Status;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use crate::keeper::{Shared, Shown as Kept, lock};
use crate::report::{Fixed, Report, ports, problems_of};
use crate::trace::Trace;

/// What is shown.
pub(crate) struct Shown {
    pub redirection: Shared,
    pub kept: Kept,
    pub sources: Arc<dyn Fn() -> Status + Send + Sync>,
    pub fixed: Fixed,
    pub trace: Arc<Trace>,
    pub registry: Registry,
}

/// What is answered where.
pub(crate) fn router(shown: Shown) -> Router {
    Router::new()
        .route(
            "/",
            get(|| async { "portolan-agent: /health /ready /metrics /status /services?name=TEXT /trace\n" }),
        )
        .route("/health", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/services", get(services))
        .route("/trace", get(trace))
        .with_state(Arc::new(shown))
}

/// Whether clients of this node may be answered virtual IPs.
async fn ready(State(shown): State<Arc<Shown>>) -> Response {
    let kept = lock(&shown.kept).clone();
    let text = match (kept.attached, kept.trouble) {
        (true, None) => return (StatusCode::OK, "ready\n").into_response(),
        (true, Some(trouble)) => trouble,
        (false, Some(trouble)) => format!("not attached: {trouble}"),
        (false, None) => {
            let problems = spawn_blocking(move || problems_of(&(shown.sources)())).await.unwrap_or_default();
            let why = problems.into_iter().next().unwrap_or_else(|| "/status says more".to_owned());
            format!("syncing: not all clusters are read yet: {why}")
        }
    };
    (StatusCode::SERVICE_UNAVAILABLE, text + "\n").into_response()
}

/// OpenMetrics text, which Prometheus reads.
async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    let text = spawn_blocking(move || portolan_program::metrics(&shown.registry)).await;
    text.unwrap_or_else(|_| (StatusCode::INTERNAL_SERVER_ERROR, "metrics can't be encoded\n").into_response())
}

async fn status(State(shown): State<Arc<Shown>>) -> Response {
    json(move || {
        let kept = lock(&shown.kept).clone();
        Report::now(&shown.redirection, &kept, &(shown.sources)(), &shown.fixed)
    })
    .await
}

#[derive(Deserialize)]
struct Named {
    /// What a service's `namespace/name` has in it; none: all.
    #[serde(default)]
    name: String,
}

async fn services(State(shown): State<Arc<Shown>>, Query(Named { name }): Query<Named>) -> Response {
    json(move || ports(&shown.redirection, &name)).await
}

#[derive(Deserialize)]
struct Traced {
    /// The number that the last answer said; none: from now on.
    after: Option<u64>,
    /// One decision of so many.
    sample: Option<u32>,
}

async fn trace(State(shown): State<Arc<Shown>>, Query(Traced { after, sample }): Query<Traced>) -> Response {
    let told = shown.trace.clone().from(after, sample.unwrap_or(1).max(1)).await;
    json(move || told).await
}

/// What takes the tables' lock, or long, is done beside the tasks.
async fn json<T: Serialize + Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> Response {
    match spawn_blocking(move || serde_json::to_string_pretty(&make())).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "that can't be told\n").into_response(),
    }
}
