//! Under exactly the rights that `deploy/` gives: what our programs ask of real API servers, as those wrote it down, is
//! allowed, is no more than reading where nothing is to be written, and suffices.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use portolan_tests::harness::kubernetes::{
    CONTROLLER, Cluster, Clusterset, Options, PEER, Plan, SERVER, SYSTEM, binary, export, install, pod,
    service, with,
};
use portolan_tests::harness::{becomes, run, until};
use serde_json::{Value, json};

use crate::peers::export_db;
use crate::shared_gateway::install_gateway;
use crate::steps::{answers_become, fqdn, imported, texts, vanishes, verdict_becomes};

/// All requests of service accounts, without their bodies (audit.k8s.io/v1).
const POLICY: &str = r#"{
    "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{ "level": "Metadata", "userGroups": ["system:serviceaccounts:portolan-system"] }]
}"#;
const NS: &str = "shop";

/// A cluster that writes down what is asked of it.
fn audited(id: &str, folder: &Path) -> Options {
    let policy = folder.join("policy.json");
    std::fs::write(&policy, POLICY).unwrap();
    let log = folder.join(format!("{id}.log"));
    let arguments = vec![
        format!("--audit-policy-file={}", policy.display()),
        format!("--audit-log-path={}", log.display()),
        "--audit-log-mode=blocking-strict".into(),
    ];
    Options { arguments, ..Options::new(id) }
}

/// What a user asked for, each once: `patch serviceimports/status 200`.
fn requests(folder: &Path, id: &str, user: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(folder.join(format!("{id}.log"))).unwrap();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let own = events.filter(|event| event["user"]["username"] == user);
    let request = |event: Value| {
        let text =
            |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let resource = match (text("/objectRef/resource"), text("/objectRef/subresource")) {
            // Discovery, health, version: everybody may ask for those.
            (resource, _) if resource.is_empty() => return None,
            (resource, sub) if sub.is_empty() => resource,
            (resource, sub) => format!("{resource}/{sub}"),
        };
        let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
        Some(format!("{} {resource} {code}", text("/verb")))
    };
    own.filter_map(request).collect()
}

/// Everything that exports bring about, by programs that may do just what the manifests say; seen from the API servers.
#[test]
fn the_rights_suffice_and_are_not_exceeded() {
    let folder = tempfile::tempdir().unwrap();
    let options = ["paris", "tokyo"].map(|id| audited(id, folder.path()));
    let set = Clusterset::over(Cluster::start_all(options.into()), &Plan::new(2));
    set.namespace(NS);
    install_gateway(&set[0], "203.0.113.7");
    everything(&set);

    let writes = [
        "patch clusterpeers/status",
        "create leases",
        "update leases",
        "patch leases",
        "delete leases",
        "create services",
        "patch services",
        "delete services",
        "create serviceimports",
        "patch serviceimports",
        "delete serviceimports",
        "patch serviceimports/status",
        "patch serviceexports/status",
        "patch serviceexports",
        "patch configmaps",
        "create endpointslices",
        "patch endpointslices",
        "delete endpointslices",
    ];
    for member in set.iter() {
        for (user, writes) in [(CONTROLLER, &writes[..]), (SERVER, &[]), (PEER, &[])] {
            let requests = requests(folder.path(), member.id, user);
            assert!(!requests.is_empty(), "{user} asks in {}", member.id);
            for request in &requests {
                assert!(!request.ends_with(" 401") && !request.ends_with(" 403"), "{user}: {request}");
                let verb = request.split(' ').next().unwrap();
                let reads = ["get", "list", "watch"].contains(&verb);
                let may = writes.iter().any(|write| request.starts_with(&format!("{write} ")));
                assert!(reads || may, "{user}: {request}");
            }
            let written = requests.iter().filter(|request| !request.starts_with(['g', 'l', 'w'])).count();
            assert_eq!(written == 0, writes.is_empty(), "{user}: {requests:?}");
        }
        let status = member.controller.status();
        assert_eq!(status["controller"]["problems"], json!([]), "{}", member.id);
        for status in [&status, &member.server.status()] {
            for cluster in status["clusters"].as_array().unwrap() {
                assert_eq!(cluster["problems"], json!([]), "{}: {cluster}", member.id);
            }
        }
    }
}

/// What RBAC can't say is refused by the API server itself: objects of others are out of reach, whatever label a tool
/// gave them, even for a controller that went wrong.
#[test]
fn objects_of_others_are_out_of_reach() {
    let cluster = Cluster::start(Options { controllers: false, ..Options::new("paris") });
    install(&cluster);
    cluster.namespace(NS);
    let controller = cluster.kubeconfig(CONTROLLER);
    let labelled = |name: &str, label: &str| {
        let owner = json!({ "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport", "name": name,
            "uid": "b3a3f0f6-4a4d-4a39-9d5e-000000000001" });
        let metadata = json!({ "labels": { label: "true" }, "ownerReferences": [owner] });
        cluster.put(&with(service(NS, name), json!({ "metadata": metadata })));
    };
    let delete = |name: &str| {
        let mut kubectl = Command::new(binary("kubectl"));
        kubectl.arg("--kubeconfig").arg(&controller).arg("--cache-dir").arg(cluster.path("kubectl-cache"));
        run(kubectl.args(["--namespace", NS, "delete", "--wait=false", "service", name]))
    };
    // A policy is in force some time after it was written.
    until("the policy is in force", || {
        labelled("derived-foreign", "app.kubernetes.io/managed-by");
        let (deleted, text) = delete("derived-foreign");
        (!deleted && text.contains("it has no label portolan.dev/managed")).then_some(())
    });
    assert!(cluster.get("Service", NS, "derived-foreign").is_some());
    labelled("copied", "portolan.dev/managed");
    let (deleted, text) = delete("copied");
    assert!(!deleted && text.contains("it was not derived of a ServiceImport"), "{text}");
    labelled("derived-own", "portolan.dev/managed");
    let (deleted, text) = delete("derived-own");
    assert!(deleted, "{text}");
}

/// Of the shared gateway's Service only ports of its own, and of exports only what they say of it.
#[test]
fn people_s_fields_are_out_of_reach() {
    let cluster = Cluster::start(Options { controllers: false, ..Options::new("paris") });
    install(&cluster);
    install_gateway(&cluster, "203.0.113.7");
    cluster.namespace(NS);
    cluster.put(&service(NS, "web"));
    let annotated =
        json!({ "metadata": { "annotations": { "example.com/owner": "ada" }, "labels": { "a": "b" } } });
    cluster.put(&with(export(NS, "web"), annotated));
    let controller = cluster.kubeconfig(CONTROLLER);
    let patch = |namespace: &str, object: &str, patch: &Value| {
        let mut kubectl = Command::new(binary("kubectl"));
        kubectl.arg("--kubeconfig").arg(&controller).arg("--cache-dir").arg(cluster.path("kubectl-cache"));
        run(kubectl.args([
            "--namespace",
            namespace,
            "patch",
            object,
            "--type=merge",
            "-p",
            &patch.to_string(),
        ]))
    };
    let says = |key: &str, value: Value| json!({ "metadata": { "annotations": { key: value } } });
    let web = |body: Value| patch(NS, "serviceexport/web", &body);
    let gateway = |body: Value| patch(SYSTEM, "service/portolan-gateway", &body);
    let health = json!({ "name": "health", "port": 8405, "protocol": "TCP", "targetPort": 8405 });
    let port = |name: &str| json!({ "name": name, "port": 20_017, "protocol": "TCP", "targetPort": 20_017 });
    let owned = json!({ "metadata": { "ownerReferences": [{ "apiVersion": "v1", "kind": "ConfigMap", "name": "gone",
        "uid": "b3a3f0f6-4a4d-4a39-9d5e-000000000001" }] } });
    let finalized = json!({ "metadata": { "finalizers": ["example.com/never"] } });
    // A policy is in force some time after it was written; a change that came before it is none the second time.
    let mut names = (0..).map(|n| json!(format!("eve-{n}")));
    until("the policy is in force", || {
        let (good, text) = web(says("example.com/owner", names.next()?));
        (!good && text.contains("only annotations of the shared gateway")).then_some(())
    });
    for body in [
        says("example.com/owner", Value::Null),
        says("portolan.dev/gateway", json!("192.0.2.66")),
        json!({ "metadata": { "labels": { "a": "c" } } }),
        json!({ "spec": { "exportedLabels": { "a": "b" } } }),
        owned.clone(),
        finalized.clone(),
    ] {
        assert!(!web(body.clone()).0, "{body}");
    }
    for value in [json!("203.0.113.7"), json!("203.0.113.8"), Value::Null] {
        let (good, text) = web(says("portolan.dev/shared-gateway", value));
        assert!(good, "{text}");
    }
    for body in [
        json!({ "spec": { "selector": { "app": "eve" } } }),
        json!({ "spec": { "type": "NodePort" } }),
        json!({ "spec": { "externalIPs": ["192.0.2.66"] } }),
        json!({ "spec": { "externalTrafficPolicy": "Local" } }),
        json!({ "spec": { "internalTrafficPolicy": "Local" } }),
        json!({ "spec": { "loadBalancerIP": "192.0.2.66" } }),
        json!({ "spec": { "allocateLoadBalancerNodePorts": false } }),
        json!({ "spec": { "sessionAffinity": "ClientIP" } }),
        json!({ "spec": { "publishNotReadyAddresses": true } }),
        owned,
        finalized,
        json!({ "metadata": { "annotations": { "a": "b" } } }),
        json!({ "spec": { "ports": [health, port("ssh")] } }),
        json!({ "spec": { "ports": [port("p-20017")] } }),
    ] {
        let (good, text) = gateway(body.clone());
        assert!(!good && text.contains("only ports p-<number> and u-<number>"), "{body}: {text}");
    }
    let (good, text) = patch(SYSTEM, "configmap/portolan", &json!({ "data": { "a": "b" } }));
    assert!(!good && text.contains("forbidden"), "{text}");
    let mut kubectl = Command::new(binary("kubectl"));
    kubectl.arg("--kubeconfig").arg(&controller).arg("--cache-dir").arg(cluster.path("kubectl-cache"));
    let (good, _) =
        run(kubectl.args(["--namespace", SYSTEM, "delete", "--wait=false", "service/portolan-gateway"]));
    assert!(!good && cluster.get("Service", SYSTEM, "portolan-gateway").is_some());
}

/// Export, conflict, change and unexport, of both types of services.
fn everything(set: &Clusterset) {
    let (paris, tokyo) = (&set[0], &set[1]);
    export_db(paris, NS, "10.1.0.1");
    export_db(tokyo, NS, "10.2.0.1");
    answers_become(set, &format!("{} A", fqdn(NS, "db")), &["10.1.0.1", "10.2.0.1"]);
    let sticky = json!({ "spec": { "sessionAffinity": "ClientIP" } });
    paris.put(&service(NS, "web"));
    tokyo.put(&with(service(NS, "web"), sticky));
    for member in [paris, tokyo] {
        member.put(&export(NS, "web"));
        member.run_pod(NS, "web", "web-1", &["10.3.0.1"]);
    }
    for member in [paris, tokyo] {
        verdict_becomes(member, NS, "web", "Conflict", "True/SessionAffinityConflict");
        let ips = texts(&imported(member, NS, "web")["spec"]["ips"]);
        becomes("the answer", &ips, || member.answer(&format!("{} A", fqdn(NS, "web"))));
    }
    tokyo.put(&service(NS, "web"));
    for member in [paris, tokyo] {
        verdict_becomes(member, NS, "web", "Conflict", "False/NoConflicts");
    }
    until("peers are told of the shared gateway", || {
        let export = paris.get("ServiceExport", NS, "web")?;
        export["metadata"]["annotations"]["portolan.dev/shared-gateway"].as_str().map(str::to_owned)
    });
    tokyo.set_ready(&pod(NS, "db", "db-1"), &["10.2.0.1"], false);
    answers_become(set, &format!("{} A", fqdn(NS, "db")), &["10.1.0.1"]);
    for member in [paris, tokyo] {
        for name in ["db", "web"] {
            assert!(member.delete("ServiceExport", NS, name));
        }
    }
    vanishes(set, NS, "db");
    vanishes(set, NS, "web");
    assert!(paris.delete("ClusterPeer", "", "tokyo"));
    becomes("its lease is gone", &None, || {
        paris.get("Lease", portolan_tests::harness::kubernetes::SYSTEM, "portolan-peer-tokyo")
    });
}
