//! HTTP for operators: `/health`, `/ready`, `/metrics`, `/status`. Reads, never writes.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use portolan_zones::Snapshot;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::status::{Phase, Status, VERSION};

/// What is shown.
pub struct Shown {
    /// The daemon itself.
    pub status: Arc<Status>,
    /// What is answered.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// What is known of each cluster's source, as `/status` lists it.
    pub sources: Box<dyn Fn() -> Vec<Value> + Send + Sync>,
    /// Metrics of all crates.
    pub registry: Registry,
}

/// Serves until `end`.
pub async fn serve(listener: TcpListener, shown: Shown, end: CancellationToken) -> std::io::Result<()> {
    axum::serve(listener, router(shown)).with_graceful_shutdown(end.cancelled_owned()).await
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/", get(|| async { "portolan: /health /ready /metrics /status\n" }))
        .route("/health", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(Arc::new(shown))
}

/// Whether queries should be sent here, and why not.
async fn ready(State(shown): State<Arc<Shown>>) -> (StatusCode, &'static str) {
    match shown.status.current().phase {
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining: told to end\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting: sockets are not bound yet\n"),
        Phase::Serving if !shown.snapshot.load().complete => {
            (StatusCode::SERVICE_UNAVAILABLE, "syncing: not all clusters are read, /status lists them\n")
        }
        Phase::Serving => (StatusCode::OK, "ready\n"),
    }
}

/// OpenMetrics text, which Prometheus reads.
async fn metrics(State(shown): State<Arc<Shown>>) -> impl IntoResponse {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &shown.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "metrics can't be encoded\n").into_response(),
    }
}

async fn status(State(shown): State<Arc<Shown>>) -> impl IntoResponse {
    let current = shown.status.current();
    let snapshot = shown.snapshot.load();
    let counts = snapshot.counts;
    let zones: Vec<String> = snapshot.zones.iter().map(|zone| zone.config.origin.to_string()).collect();
    let body = json!({
        "version": VERSION,
        "uptimeSeconds": shown.status.uptime(),
        "phase": current.phase,
        "config": current.config,
        "listeners": current.listeners,
        "sources": (shown.sources)(),
        "zones": zones,
        "generation": snapshot.generation,
        "serial": snapshot.serial,
        "complete": snapshot.complete,
        "counts": {
            "services": counts.services,
            "headless": counts.headless,
            "endpoints": counts.endpoints,
            "conflicts": counts.conflicts,
            "warnings": counts.warnings,
        },
    });
    ([(header::CONTENT_TYPE, "application/json")], format!("{body:#}\n"))
}

#[cfg(test)]
mod tests {
    use portolan_zones::{Name, ZoneConfig, Zones};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    struct Server {
        address: std::net::SocketAddr,
        status: Arc<Status>,
        snapshot: Arc<ArcSwap<Snapshot>>,
    }

    async fn start() -> Server {
        let mut registry = Registry::default();
        let status = Arc::new(Status::new(Some("portolan.yaml".into()), &mut registry));
        let zones = Zones::new(vec![ZoneConfig::new(Name::parse("clusterset.local").unwrap())]).unwrap();
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::unsynced(zones)));
        let sources = Box::new(|| vec![json!({ "cluster": "fra1" })]);
        let shown = Shown { status: status.clone(), snapshot: snapshot.clone(), sources, registry };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, shown, CancellationToken::new()));
        Server { address, status, snapshot }
    }

    impl Server {
        /// Status code and the rest of the response.
        async fn get(&self, path: &str) -> (u16, String) {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            (response[9..12].parse().unwrap(), response[12..].to_owned())
        }
    }

    #[tokio::test]
    async fn ready_only_while_all_clusters_are_read_and_nobody_ends_it() {
        let server = start().await;
        assert_eq!(server.get("/ready").await.0, 503);
        server.status.enter(Phase::Serving);
        let (code, why) = server.get("/ready").await;
        assert!(code == 503 && why.contains("not all clusters are read"), "{why}");

        let mut snapshot = Snapshot::clone(&server.snapshot.load());
        snapshot.complete = true;
        server.snapshot.store(Arc::new(snapshot));
        assert_eq!(server.get("/ready").await.0, 200);

        server.status.enter(Phase::Draining);
        let (code, why) = server.get("/ready").await;
        assert!(code == 503 && why.contains("draining"), "{why}");
        assert_eq!(server.get("/health").await.0, 200);
    }

    #[tokio::test]
    async fn status_and_metrics_say_what_runs() {
        let server = start().await;
        let (code, status) = server.get("/status").await;
        assert_eq!(code, 200);
        let body: Value = serde_json::from_str(status.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(body["version"], VERSION);
        assert_eq!(body["config"]["file"], "portolan.yaml");
        assert_eq!(body["sources"][0]["cluster"], "fra1");
        assert_eq!(body["zones"][0], "clusterset.local.");
        let (code, metrics) = server.get("/metrics").await;
        assert!(
            code == 200 && metrics.contains(&format!("portolan_build_info{{version=\"{VERSION}\"}} 1")),
            "{metrics}"
        );
        assert_eq!(server.get("/nowhere").await.0, 404);
    }
}
