//! HTTP for operators: `/health`, `/ready`, `/metrics`, `/status`, `/explain`. Reads, never writes.

mod explaining;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use portolan_dns::geo::Geo;
use portolan_program::serve_admin;
use portolan_sync::Snapshots;
use portolan_zones::policy::explain::Witness;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::explaining::{Explaining, explanation};
use crate::clusters::{cluster_json, source_json};
use crate::status::{Phase, Status, VERSION, unix_now};
use crate::writing::ControllerState;

/// Asks how the clusters are.
pub(crate) type ClusterStatus = Arc<dyn Fn() -> portolan_sync::Status + Send + Sync>;

/// Asks how the controller is.
pub(crate) type ControllerStatus = Arc<dyn Fn() -> ControllerState + Send + Sync>;

/// What is shown.
pub(crate) struct Shown {
    /// The daemon itself.
    pub status: Arc<Status>,
    /// What is answered.
    pub snapshots: Snapshots,
    /// Where it comes from.
    pub clusters: ClusterStatus,
    /// Where clients are whom nobody in the clusterset knows; `None` for a controller, which is asked by nobody.
    pub geo: Option<Arc<Geo>>,
    /// Who knows how old what is known is.
    pub witness: Witness,
    /// What is written; `None` for a server, which writes nothing.
    pub controller: Option<ControllerStatus>,
    /// Metrics of all crates.
    pub registry: Registry,
}

/// Serves in a task until `end`, see [`serve_admin`].
pub(crate) fn start(listener: TcpListener, shown: Shown, end: CancellationToken) {
    serve_admin(listener, router(shown), end);
}

fn router(shown: Shown) -> Router {
    let shown = Arc::new(shown);
    let explaining = Explaining::new(shown.clone());
    Router::new()
        .route(
            "/",
            get(|| async { "portolan: /health /ready /metrics /status /explain?name=NAME&from=ADDRESS (or everywhere=true)\n" }),
        )
        .route("/health", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/explain", get(explanation).with_state(explaining))
        .with_state(shown)
}

/// Whether queries should be sent here, and why not.
async fn ready(State(shown): State<Arc<Shown>>) -> (StatusCode, &'static str) {
    match shown.status.current().phase {
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining: told to end\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting: sockets are not bound yet\n"),
        Phase::Serving if shown.controller.is_some() && !own_is_read(&(shown.clusters)()) => {
            (StatusCode::SERVICE_UNAVAILABLE, "syncing: this cluster is not read yet, /status says why\n")
        }
        Phase::Serving if shown.controller.is_none() && !shown.snapshots.load().complete => {
            (StatusCode::SERVICE_UNAVAILABLE, "syncing: not all clusters are read, /status lists them\n")
        }
        Phase::Serving => (StatusCode::OK, "ready\n"),
    }
}

/// Whether all of the own cluster is known: what a controller needs before it judges.
pub(crate) fn own_is_read(status: &portolan_sync::Status) -> bool {
    status.kubernetes.iter().any(|cluster| cluster.origin.is_none() && cluster.synced)
}

async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    portolan_program::metrics(&shown.registry)
}

async fn status(State(shown): State<Arc<Shown>>) -> impl IntoResponse {
    let current = shown.status.current();
    let snapshot = shown.snapshots.load();
    let counts = snapshot.counts;
    let clusters = (shown.clusters)();
    let invalid_exports: Vec<_> = clusters
        .owner
        .invalid_exports
        .iter()
        .map(|(service, cluster, reason)| json!({ "service": service, "cluster": cluster, "reason": reason }))
        .collect();
    let policies = clusters.owner.policy_problems.iter();
    let policies: Vec<_> = policies
        .map(|(cluster, policy, why)| json!({ "cluster": cluster, "policy": policy, "problem": why }))
        .collect();
    let unhealthy = clusters.probes.unhealthy.iter();
    let unhealthy: Vec<_> =
        unhealthy.map(|(address, error)| json!({ "address": address, "error": error })).collect();
    let times = &clusters.probes.round_trips;
    let sources: Vec<_> = clusters.sources.iter().map(|source| source_json(source, times)).collect();
    let followed: Vec<_> = clusters.kubernetes.iter().map(|cluster| cluster_json(cluster, times)).collect();
    let zones: Vec<String> = snapshot.zones.iter().map(|zone| zone.config.origin.to_string()).collect();
    let agents = snapshot.agents.as_deref();
    let agents = agents.map(|agents| json!({ "ready": agents.ready(), "nodes": agents.nodes() }));
    let body = json!({
        "version": VERSION,
        "command": if shown.controller.is_some() { "controller" } else { "serve" },
        "now": unix_now(),
        "uptimeSeconds": shown.status.uptime(),
        "phase": current.phase,
        "config": current.config,
        "listeners": current.listeners,
        "sources": sources,
        "clusters": followed,
        "controller": shown.controller.as_ref().map(|controller| controller()),
        "vips": {
            "services": clusters.owner.pool_services,
            "problems": clusters.owner.vip_problems,
            "stateFileError": clusters.owner.state_file_error,
        },
        "agents": agents,
        "invalidExports": invalid_exports,
        "policyProblems": policies,
        "probes": {
            "targets": clusters.probes.targets,
            "unhealthy": clusters.probes.unhealthy_count,
            "listed": unhealthy,
            "behindSeconds": clusters.probes.behind,
        },
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
    use std::time::Duration;

    use arc_swap::ArcSwap;
    use portolan_sync::kubernetes::{ClusterState, Origin};
    use portolan_sync::{ProbeStatus, SourceStatus};
    use portolan_zones::policy::explain::Evidence;
    use portolan_zones::{ClusterId, Name, Snapshot, ZoneConfig, Zones};
    use serde_json::Value;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::metrics::{ClusterMetrics, ControllerMetrics};
    use crate::writing::Requests;

    pub(super) struct Server {
        address: std::net::SocketAddr,
        status: Arc<Status>,
        pub(super) snapshots: Snapshots,
    }

    async fn start() -> Server {
        start_with(None, Vec::new()).await
    }

    /// A cluster behind an API server, of which all is known.
    fn own() -> ClusterState {
        ClusterState {
            name: "own".into(),
            origin: None,
            id: ClusterId::new("fra2").ok(),
            uid: None,
            stranger: None,
            version: Some("v1.34.1".into()),
            reachable: true,
            synced: true,
            stale: false,
            withdrawn: false,
            contact_at: Some(3),
            changed_at: None,
            objects: [("Service", 5)].into(),
            refused_exports: 1,
            refused: vec!["shop/web".into()],
            lag: Some(Duration::from_millis(5)),
            problems: vec!["nodes are denied".into()],
            duplicate_of: None,
            is_own: false,
            leases: [(ClusterId::new("ber1").unwrap(), true)].into(),
        }
    }

    async fn start_with(controller: Option<ControllerState>, kubernetes: Vec<ClusterState>) -> Server {
        let witness = Witness::new(|_, _| Evidence::default());
        start_witnessed(witness, controller, kubernetes).await
    }

    /// The same, with somebody else who knows how old all is.
    pub(super) async fn start_witnessed(
        witness: Witness,
        controller: Option<ControllerState>,
        kubernetes: Vec<ClusterState>,
    ) -> Server {
        let mut registry = Registry::default();
        let status = Arc::new(Status::new(Some("portolan.yaml".into()), &mut registry));
        let zones = Zones::new(vec![ZoneConfig::new(Name::parse("clusterset.local").unwrap())]).unwrap();
        let snapshots = Arc::new(ArcSwap::from_pointee(Snapshot::unsynced(zones)));
        let source = SourceStatus {
            cluster: ClusterId::new("fra1").ok(),
            path: "clusters/fra1".into(),
            synced: true,
            objects: [("Service", 2)].into(),
            stale: false,
            changed_at: Some(1),
            checked_at: Some(2),
            problems: Vec::new(),
        };
        let times = [("ber1", 7_000), ("fra2", 12_345)];
        let times = times.map(|(id, micros)| (ClusterId::new(id).unwrap(), Duration::from_micros(micros)));
        let probes = ProbeStatus { round_trips: times.into(), ..ProbeStatus::default() };
        let known = portolan_sync::Status { sources: vec![source], kubernetes, probes, ..Default::default() };
        let clusters: ClusterStatus = Arc::new(move || known.clone());
        registry.register_collector(Box::new(ClusterMetrics::new(snapshots.clone(), clusters.clone())));
        let controller = controller.map(|state| -> ControllerStatus { Arc::new(move || state.clone()) });
        if let Some(controller) = &controller {
            registry.register_collector(Box::new(ControllerMetrics::new(controller.clone())));
        }
        let snapshots_shown = snapshots.clone();
        let shown = Shown {
            status: status.clone(),
            snapshots: snapshots_shown,
            clusters,
            geo: None,
            witness,
            controller,
            registry,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        super::start(listener, shown, CancellationToken::new());
        Server { address, status, snapshots }
    }

    impl Server {
        /// Status code and the rest of the response.
        pub(super) async fn get(&self, path: &str) -> (u16, String) {
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

        let mut snapshot = Snapshot::clone(&server.snapshots.load());
        snapshot.complete = true;
        server.snapshots.store(Arc::new(snapshot));
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
        assert!(
            metrics.contains("portolan_cluster_objects{cluster=\"fra1\",source=\"clusters/fra1\"} 2"),
            "{metrics}"
        );
        assert!(metrics.contains("portolan_snapshot_complete 0"), "{metrics}");
        assert_eq!(server.get("/nowhere").await.0, 404);
    }

    /// A controller needs to know its own cluster; that peers are not read yet is no reason to restart it.
    #[tokio::test]
    async fn a_controller_is_ready_once_its_own_cluster_is_read() {
        for (synced, expected) in [(false, 503), (true, 200)] {
            let own = ClusterState { synced, ..own() };
            let server = start_with(Some(ControllerState::default()), vec![own]).await;
            server.status.enter(Phase::Serving);
            assert_eq!(server.get("/ready").await.0, expected);
        }
    }

    #[tokio::test]
    async fn clusters_and_writes_are_shown_and_counted() {
        let state = ControllerState {
            leading: true,
            queue: 2,
            requests: vec![Requests { kind: "ServiceImport", verb: "apply", count: 7 }],
            failed: 1,
            failing: 4,
            ..ControllerState::default()
        };
        let peer = ClusterState { origin: Some(Origin::ClusterPeer), name: "west".into(), id: None, ..own() };
        let server = start_with(Some(state), vec![own(), peer]).await;
        let (_, status) = server.get("/status").await;
        let body: Value = serde_json::from_str(status.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!((&body["command"], &body["controller"]["queue"]), (&json!("controller"), &json!(2)));
        let (own, peer) = (&body["clusters"][0], &body["clusters"][1]);
        assert_eq!(
            (&own["origin"], &own["cluster"], &own["lagSeconds"]),
            (&json!("own"), &json!("fra2"), &json!(0.005))
        );
        let times =
            [own, &own["leases"][0], peer, &body["sources"][0]].map(|of| of["roundTripTime"].as_f64());
        assert_eq!(times, [Some(12.345), Some(7.0), None, None]);
        assert_eq!((&peer["origin"], &peer["name"]), (&json!("ClusterPeer"), &json!("west")));
        let (_, metrics) = server.get("/metrics").await;
        for sample in [
            "portolan_cluster_reachable{cluster=\"fra2\",source=\"own\"} 1",
            "portolan_cluster_synced{cluster=\"west\",source=\"ClusterPeer west\"} 1",
            "portolan_cluster_synced{cluster=\"fra1\",source=\"clusters/fra1\"} 1",
            "portolan_cluster_last_contact_timestamp_seconds{cluster=\"fra2\",source=\"own\"} 3",
            "portolan_cluster_refused_exports{cluster=\"fra2\",source=\"own\"} 1",
            "portolan_cluster_problems{cluster=\"fra2\",source=\"own\"} 1",
            "portolan_cluster_lag_seconds{cluster=\"fra2\",source=\"own\"} 0.005",
            "portolan_controller_leading 1",
            "portolan_controller_queue 2",
            "portolan_controller_requests_total{kind=\"ServiceImport\",verb=\"apply\"} 7",
            "portolan_cluster_lease_stale{cluster=\"ber1\",source=\"own\"} 1",
            "portolan_controller_failed_requests_total 1",
            "portolan_controller_failing_services 4",
            "portolan_controller_unreachable 0",
        ] {
            assert!(metrics.lines().any(|line| line == sample), "{sample} is not in {metrics}");
        }
    }
}
