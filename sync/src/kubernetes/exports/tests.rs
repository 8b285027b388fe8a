//! Exports by hand, against a server that answers as an API server does.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};

use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What is answered, by method and path without the query; everything else is not found.
type Answers = HashMap<&'static str, (u16, Value)>;

struct Fake {
    kubeconfig: NamedTempFile,
    /// `METHOD path?query`.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    async fn start(answers: impl IntoIterator<Item = (&'static str, (u16, Value))>) -> Self {
        let answers: Arc<Answers> = Arc::new(answers.into_iter().collect());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let noted = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(reply(stream, answers.clone(), noted.clone()));
            }
        });
        let mut kubeconfig = NamedTempFile::new().unwrap();
        write!(
            kubeconfig,
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: a, cluster: {{server: '{url}'}}}}]\n\
             contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\nusers: [{{name: a, user: {{}}}}]\n"
        )
        .unwrap();
        Self { kubeconfig, asked }
    }

    fn target(&self) -> Target {
        Target { kubeconfig: Some(self.kubeconfig.path().to_owned()), context: None }
    }

    async fn export(&self, labels: &[(&str, &str)]) -> Result<Exported, ExportError> {
        let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        export(&self.target(), ("shop", "cart"), &labels).await
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// One request a connection: enough for a client that connects anew.
async fn reply(mut stream: TcpStream, answers: Arc<Answers>, asked: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    let mut octets = [0; 4096];
    let length = |text: &str| -> Option<usize> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let line = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        Some(line.unwrap_or(0_usize).saturating_sub(body.len()))
    };
    while length(&String::from_utf8_lossy(&request)) != Some(0) {
        match stream.read(&mut octets).await {
            Ok(read @ 1..) => request.extend(&octets[..read]),
            _ => return,
        }
    }
    let text = String::from_utf8(request).unwrap();
    let words: Vec<_> = text.split(' ').take(2).collect();
    let path = words[1].split('?').next().unwrap();
    asked.lock().unwrap().push(words.join(" "));
    let missing = || (404, failure(404, "not found"));
    let (code, body) = answers.get(&*format!("{} {path}", words[0])).cloned().unwrap_or_else(missing);
    let body = body.to_string();
    let head = format!("HTTP/1.1 {code} x\r\ncontent-type: application/json\r\nconnection: close\r\n");
    let reply = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(reply.as_bytes()).await.unwrap();
}

fn failure(code: u16, message: &str) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        _ => "NotFound",
    };
    json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code,
            "reason": reason, "metadata": {} })
}

fn groups(versions: &[&str]) -> (u16, Value) {
    let versions: Vec<_> = versions
        .iter()
        .map(|version| json!({ "groupVersion": format!("{GROUP}/{version}"), "version": version }))
        .collect();
    let groups: Vec<_> =
        versions.first().iter().map(|_| json!({ "name": GROUP, "versions": versions })).collect();
    (200, json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
}

fn service(kind: &str) -> (u16, Value) {
    let metadata = json!({ "name": "cart", "namespace": "shop" });
    (200, json!({ "kind": "Service", "apiVersion": "v1", "metadata": metadata, "spec": { "type": kind } }))
}

fn service_export(labels: &Value) -> (u16, Value) {
    let metadata = json!({ "name": "cart", "namespace": "shop" });
    let spec = json!({ "exportedLabels": labels });
    let version = "multicluster.x-k8s.io/v1beta1";
    (200, json!({ "kind": "ServiceExport", "apiVersion": version, "metadata": metadata, "spec": spec }))
}

const SERVICE: &str = "GET /api/v1/namespaces/shop/services/cart";
const BETA: &str = "/apis/multicluster.x-k8s.io/v1beta1/namespaces/shop/serviceexports/cart";
const PATCH_BETA: &str = "PATCH /apis/multicluster.x-k8s.io/v1beta1/namespaces/shop/serviceexports/cart";
const GET_BETA: &str = "GET /apis/multicluster.x-k8s.io/v1beta1/namespaces/shop/serviceexports/cart";
const PATCH_ALPHA: &str = "PATCH /apis/multicluster.x-k8s.io/v1alpha1/namespaces/shop/serviceexports/cart";

#[tokio::test]
async fn a_service_is_exported_in_the_best_version_that_is_served() {
    let found = [("GET /apis", groups(&["v1alpha1", "v1beta1"])), (SERVICE, service("ClusterIP"))];
    let server =
        Fake::start(found.clone().into_iter().chain([(PATCH_BETA, service_export(&json!({})))])).await;
    assert_eq!(server.export(&[]).await.unwrap(), Exported::Created);
    let asked = server.asked();
    assert!(asked.contains(&format!("PATCH {BETA}?&fieldManager=kubectl-portolan")), "{asked:?}");

    let old = [("GET /apis", groups(&["v1alpha1"])), (SERVICE, service("ClusterIP"))];
    let server = Fake::start(old.into_iter().chain([(PATCH_ALPHA, service_export(&json!({})))])).await;
    assert_eq!(server.export(&[]).await.unwrap(), Exported::Created);
}

#[tokio::test]
async fn what_an_export_changes_is_told() {
    let before = |labels| {
        let found = [("GET /apis", groups(&["v1beta1"])), (SERVICE, service("ClusterIP"))];
        found.into_iter().chain([(GET_BETA, service_export(&labels))])
    };
    let after = (PATCH_BETA, service_export(&json!({"team": "a"})));
    let server = Fake::start(before(json!({"team": "a"})).chain([after.clone()])).await;
    assert_eq!(server.export(&[("team", "a")]).await.unwrap(), Exported::Unchanged);
    let server = Fake::start(before(json!({"team": "b"})).chain([after])).await;
    assert_eq!(server.export(&[("team", "a")]).await.unwrap(), Exported::Changed);
    // Without labels nothing is to be changed: those of before stay.
    let server = Fake::start(before(json!({"team": "b"}))).await;
    assert_eq!(server.export(&[]).await.unwrap(), Exported::Unchanged);
    assert!(server.asked().iter().all(|asked| asked.starts_with("GET ")), "{:?}", server.asked());
}

/// Nothing is written when something is wrong, and the message says what to do.
#[tokio::test]
async fn what_is_in_the_way_is_told() {
    let beta = || ("GET /apis", groups(&["v1beta1"]));
    let mut derived = service("ClusterIP");
    derived.1["metadata"]["labels"] = json!({ SERVICE_NAME: "cart" });
    let denied = failure(403, "serviceexports is forbidden: User \"eve\" cannot patch");
    let rows = [
        (vec![("GET /apis", groups(&[]))], "install the MCS API's definitions"),
        (vec![beta()], "service shop/cart does not exist"),
        (vec![beta(), (SERVICE, service("ExternalName"))], "ExternalName"),
        (vec![beta(), (SERVICE, derived)], "export the Service that they export"),
        (vec![("GET /apis", (401, failure(401, "Unauthorized")))], "Unauthorized"),
        (
            vec![beta(), (SERVICE, service("ClusterIP")), (PATCH_BETA, (403, denied))],
            "\"eve\" cannot patch: ask for the right to patch serviceexports.multicluster.x-k8s.io in namespace shop",
        ),
    ];
    for (answers, expected) in rows {
        let server = Fake::start(answers).await;
        let text = server.export(&[]).await.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

/// Exporting is one right, reading Services another.
#[tokio::test]
async fn whoever_may_not_read_services_may_export_them() {
    let hidden = (403, failure(403, "forbidden"));
    let answers =
        [("GET /apis", groups(&["v1beta1"])), (SERVICE, hidden), (PATCH_BETA, service_export(&json!({})))];
    assert_eq!(Fake::start(answers).await.export(&[]).await.unwrap(), Exported::Created);
}

#[tokio::test]
async fn an_export_is_taken_back_once() {
    const DELETE: &str = "DELETE /apis/multicluster.x-k8s.io/v1beta1/namespaces/shop/serviceexports/cart";
    let gone = json!({ "kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {} });
    let server = Fake::start([("GET /apis", groups(&["v1beta1"])), (DELETE, (200, gone))]).await;
    unexport(&server.target(), ("shop", "cart")).await.unwrap();
    let server = Fake::start([("GET /apis", groups(&["v1beta1"]))]).await;
    let error = unexport(&server.target(), ("shop", "cart")).await.unwrap_err();
    assert!(matches!(&error, ExportError::NotExported(name) if name == "shop/cart"), "{error}");
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_named() {
    let missing = Target { kubeconfig: Some("/nonexistent/config".into()), context: None };
    let text = unexport(&missing, ("shop", "cart")).await.unwrap_err().to_string();
    assert!(text.contains("/nonexistent/config") && text.contains("--kubeconfig"), "{text}");

    let server = Fake::start([]).await;
    let other = Target { context: Some("b".into()), ..server.target() };
    let text = unexport(&other, ("shop", "cart")).await.unwrap_err().to_string();
    assert!(text.contains("context"), "{text}");

    let dead = NamedTempFile::new().unwrap();
    let yaml = std::fs::read_to_string(server.kubeconfig.path()).unwrap();
    let port = yaml.split("127.0.0.1:").nth(1).unwrap().split('\'').next().unwrap();
    std::fs::write(dead.path(), yaml.replace(port, "1")).unwrap();
    let target = Target { kubeconfig: Some(dead.path().to_owned()), context: None };
    let text = unexport(&target, ("shop", "cart")).await.unwrap_err().to_string();
    assert!(text.contains("http://127.0.0.1:1 can't be reached: "), "{text}");
}
