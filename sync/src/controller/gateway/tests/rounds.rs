//! Rounds of requests, against an API server inside of the process: what it refuses, and what never comes to an end.

use std::collections::BTreeSet;

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tower::{BoxError, service_fn};

use super::*;

/// What an API server does with what is asked of it.
#[derive(Default)]
struct Server {
    /// What was written, in the order of requests: kind and name.
    log: Vec<String>,
    /// The Service's ports.
    has: BTreeSet<String>,
    /// Every export that is written to is another one by then.
    restless: bool,
    /// How many node ports there are, and what it answers when they don't suffice.
    node_ports: Option<(usize, u16, &'static str)>,
}

impl Server {
    fn answer(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let (_, name) = path.rsplit_once('/').unwrap_or_default();
        if method == "GET" && path.ends_with("/v1beta1") {
            let resource = json!({ "name": "serviceexports", "singularName": "", "namespaced": true, "kind": "ServiceExport", "verbs": [] });
            let list = json!({ "kind": "APIResourceList", "apiVersion": "v1",
                "groupVersion": "multicluster.x-k8s.io/v1beta1", "resources": [resource] });
            return (200, list);
        }
        if method == "GET" {
            return (404, failure(404, "NotFound", "not found"));
        }
        self.log.push(name.to_owned());
        if path.contains("/services/") {
            return self.take_ports(body);
        }
        if path.contains("/serviceexports/") {
            let mut export = body.clone();
            if self.restless {
                export["metadata"]["uid"] = json!(format!("uid-{}", self.log.len()));
                export["metadata"]["annotations"] = json!({});
            }
            export["metadata"]["managedFields"] = json!([{ "manager": WRITER, "operation": "Apply" }]);
            return (200, export);
        }
        (200, body.clone())
    }

    fn take_ports(&mut self, body: &Value) -> (u16, Value) {
        let ports = body["spec"]["ports"].as_array().unwrap();
        let names: BTreeSet<String> = ports.iter().map(|port| port["name"].to_string()).collect();
        // They are looked for before those are free that go.
        let needed = names.union(&self.has).count();
        let is_new = !names.is_subset(&self.has);
        if let Some((most, code, reason)) = self.node_ports.filter(|(most, ..)| is_new && needed > *most) {
            return (
                code,
                failure(
                    code,
                    reason,
                    &format!("only {most} node ports: provided port is not in the valid range"),
                ),
            );
        }
        self.has = names;
        (200, front(ports))
    }
}

fn failure(code: u16, reason: &str, message: &str) -> Value {
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message })
}

/// The Service with these ports beside its own.
fn front(ports: &[Value]) -> Value {
    let mut all = vec![json!({ "name": "health", "port": 8405 })];
    all.extend(ports.iter().cloned());
    json!({ "metadata": { "namespace": NS, "name": SERVICE, "uid": "gw" },
        "spec": { "type": "LoadBalancer", "ports": all },
        "status": { "loadBalancer": { "ingress": [{ "ip": "203.0.113.7" }] } } })
}

/// A controller beside that server.
struct Controller {
    server: Arc<Mutex<Server>>,
    requests: Requests,
    seen: GatewaySeen,
    keeper: Option<Keeper>,
}

impl Controller {
    /// With these exports.
    fn new(server: Server, exports: &[&str]) -> Self {
        let server = Arc::new(Mutex::new(server));
        let state = server.clone();
        let service = service_fn(move |request: Request<Body>| {
            let state = state.clone();
            async move {
                let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
                let octets = request.into_body().collect_bytes().await?;
                let body = serde_json::from_slice(&octets).unwrap_or_default();
                let (code, answer) = state.lock().unwrap().answer(&method, &path, &body);
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, BoxError>(Response::builder().status(code).body(answer)?)
            }
        });
        let requests = Requests::new(Client::new(service, NS), NS.to_owned());
        let seen = GatewaySeen::new(NS);
        seen.apply(Kind::Service, &front(&[]).to_string());
        exports.iter().for_each(|name| {
            let metadata = json!({ "namespace": "shop", "name": name, "uid": name });
            let spec = json!({ "type": "ClusterIP", "clusterIP": "10.96.0.9", "ports": http() });
            seen.apply(Kind::Service, &json!({ "metadata": metadata, "spec": spec }).to_string());
            seen.apply(Kind::ServiceExport, &json!({ "metadata": metadata }).to_string());
        });
        Self { server, requests, seen, keeper: None }
    }

    async fn round(&mut self) -> Result<(), String> {
        let (_lead, leadership) = Leadership::lasting();
        round(&self.requests, &GatewayConfig::default(), &self.seen, &leadership, &mut self.keeper).await
    }

    /// What was written since the last time.
    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.server.lock().unwrap().log)
    }

    /// Whether somebody is to look again at once.
    async fn is_called(&self) -> bool {
        timeout_at(Instant::now() + Duration::from_millis(1), self.seen.changed.notified()).await.is_ok()
    }

    fn told(&self) -> BTreeSet<String> {
        let told = |seen: &seen::Seen| {
            let all = seen.told.iter().filter(|(_, told)| told.ports.is_some());
            all.map(|(name, _)| name.name().to_owned()).collect()
        };
        self.seen.with(told)
    }
}

/// One round writes all that there is to write, and the next one nothing.
#[tokio::test]
async fn a_round_ends_when_all_is_written() {
    let mut controller = Controller::new(Server::default(), &["web"]);
    assert_eq!(controller.round().await, Ok(()));
    assert_eq!(controller.log(), ["portolan-gateway-ports", "portolan-gateway", "portolan-gateway", "web"]);
    controller.is_called().await;
    assert_eq!((controller.round().await, controller.log()), (Ok(()), vec![]));
    assert!(!controller.is_called().await);
}

/// Whatever an API server answers, a round is so many steps long; others' turn comes between two of them, and what is left goes on.
#[tokio::test]
async fn a_round_that_brings_about_the_next_write_each_time_is_broken_off() {
    let mut controller = Controller::new(Server { restless: true, ..Server::default() }, &["web"]);
    for _ in 0..3 {
        assert_eq!(controller.round().await, Ok(()));
        let exports = controller.log().iter().filter(|name| *name == "web").count();
        assert!((STEPS - 2..=STEPS).contains(&exports), "{exports}");
        assert!(controller.is_called().await, "it goes on after a pause");
    }
}

/// A cluster has so many node ports (`--service-node-port-range`). The API server refuses the Service as a whole, by a 422 for one
/// that is wrong and by a 500 where none is left: as many as there are get theirs, the others are named.
#[tokio::test]
async fn who_finds_no_node_port_is_named_and_all_others_go_on() {
    for (code, reason) in [(422, "Invalid"), (500, "InternalError")] {
        let server = Server { node_ports: Some((5, code, reason)), ..Server::default() };
        let names: Vec<String> = (0..9).map(|n| format!("s{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut controller = Controller::new(server, &names);
        for _ in 0..3 {
            assert_eq!(controller.round().await, Ok(()));
        }
        let told = controller.told();
        assert_eq!(told.len(), 5, "{code}: {told:?}");
        let status = controller.keeper.as_ref().unwrap().status();
        for name in names.iter().filter(|name| !told.contains(**name)) {
            let start = format!("shop/{name}:80/TCP: the Service portolan-gateway takes no more ports: ");
            assert!(status.refused.iter().any(|line| line.starts_with(&start)), "{:?}", status.refused);
        }
        assert_eq!(status.refused.len(), 4, "{:?}", status.refused);
        controller.log();
        assert_eq!(
            (controller.round().await, controller.log()),
            (Ok(()), vec![]),
            "it is not asked on and on"
        );

        // One that goes makes room for another.
        let gone = told.first().unwrap();
        controller.seen.delete(Kind::ServiceExport, "shop", gone);
        assert_eq!(controller.round().await, Ok(()));
        assert_eq!(controller.told().len(), 5, "{code}");
        assert!(!controller.told().contains(gone));
    }
}
