//! Other clusters come, change and go while the controller runs, however they are named: by ClusterPeers, by contexts of
//! a kubeconfig file, by an inventory.

use std::net::SocketAddr;
use std::process::Command;

use portolan_tests::harness::kubernetes::{
    ADMIN_USER, Cluster, Clusterset, Member, Plan, Proxy, SYSTEM, binary, condition, export,
    headless_service, introduce, kubeconfig, object, with,
};
use portolan_tests::harness::{becomes, run, until};
use serde_json::{Value, json};

use crate::steps::{fqdn, set_with};

/// A cluster for one test alone, which knows nobody yet.
pub(crate) fn home(plan: Plan) -> Clusterset {
    Clusterset::start(&Plan { ids: vec!["oslo"], ..plan })
}

/// A kubeconfig for those who follow a cluster; `at`: where they reach it.
pub(crate) fn kubeconfig_of(cluster: &Cluster, at: SocketAddr) -> String {
    kubeconfig(&format!("https://{at}"), cluster.authority(), &cluster.token(SYSTEM, "portolan-peer"))
}

/// A condition of a ClusterPeer, as `False/Invalid: what is wrong`.
pub(crate) fn told(cluster: &Cluster, peer: &str, kind: &str) -> String {
    let peer = cluster.get("ClusterPeer", "", peer).unwrap_or_default();
    let Some(condition) = condition(&peer, kind) else { return "none".into() };
    let text = |key: &str| condition[key].as_str().unwrap_or_default();
    format!("{}/{}: {}", text("status"), text("reason"), text("message"))
}

/// Waits until a condition of a ClusterPeer begins like this and holds these words.
pub(crate) fn told_becomes(cluster: &Cluster, peer: &str, kind: &str, verdict: &str, words: &[&str]) {
    let what = format!("{kind} of the ClusterPeer {peer}");
    let expected = format!("{verdict}: … {}", words.join(" … "));
    becomes(&what, &expected, || {
        let told = told(cluster, peer, kind);
        let fits = told.starts_with(&format!("{verdict}: ")) && words.iter().all(|word| told.contains(word));
        if fits { expected.clone() } else { told }
    });
}

/// Status and data of an answer.
pub(crate) fn asked(member: &Member, question: &str) -> (String, Vec<String>) {
    let reply = member.dig(question);
    (reply.status.clone(), reply.data())
}

/// Waits until one cluster's server answers with these addresses; none: NXDOMAIN.
pub(crate) fn answer_becomes(member: &Member, question: &str, expected: &[&str]) {
    let status = if expected.is_empty() { "NXDOMAIN" } else { "NOERROR" };
    let expected = (status.to_owned(), expected.iter().map(ToString::to_string).collect::<Vec<_>>());
    becomes(question, &expected, || asked(member, question));
}

/// A headless service `db` with one pod, exported.
pub(crate) fn export_db(cluster: &Cluster, namespace: &str, address: &str) {
    cluster.put(&headless_service(namespace, "db"));
    cluster.run_pod(namespace, "db", "db-1", &[address]);
    cluster.put(&export(namespace, "db"));
}

/// What `/status` of the controller says of a cluster.
pub(crate) fn state(member: &Member, name: &str) -> Value {
    let status = member.controller.status();
    let clusters = status["clusters"].as_array().unwrap();
    clusters.iter().find(|cluster| cluster["name"] == name).cloned().unwrap_or_default()
}

/// A ClusterPeer is added, its namespaces and its credentials change, and it is removed.
#[test]
fn a_peer_comes_changes_and_goes() {
    let ns = "peers-change";
    let (shared, set) = (set_with(ns), home(Plan::new(1)));
    let (oslo, tokyo) = (&set[0], &shared[1]);
    oslo.namespace(ns);
    export_db(tokyo, ns, "10.2.0.1");
    let question = format!("{} A", fqdn(ns, "db"));
    answer_becomes(oslo, &question, &[]);

    let proxy = Proxy::start(tokyo.at());
    introduce(oslo, "east", &kubeconfig_of(tokyo, proxy.at()), &json!({ "region": "asia" }));
    answer_becomes(oslo, &question, &["10.2.0.1"]);
    told_becomes(oslo, "east", "Accepted", "True/Valid", &[]);
    told_becomes(oslo, "east", "Reachable", "True/Answers", &[]);
    told_becomes(oslo, "east", "Synced", "True/Listed", &[]);
    let peer = oslo.get("ClusterPeer", "", "east").unwrap();
    assert_eq!(peer["status"]["clusterId"], "tokyo", "by its own word, whatever it is called here");
    let uid = &tokyo.get("Namespace", "", "kube-system").unwrap()["metadata"]["uid"];
    assert_eq!(&peer["status"]["uid"], uid);
    until("it has a freshness lease", || oslo.get("Lease", SYSTEM, "portolan-peer-east"));
    columns(oslo);

    let accept = |namespaces: Value| {
        oslo.patch("ClusterPeer", "", "east", json!({ "spec": { "namespaces": namespaces } }));
    };
    accept(json!(["elsewhere"]));
    answer_becomes(oslo, &question, &[]);
    accept(json!([ns]));
    answer_becomes(oslo, &question, &["10.2.0.1"]);

    // With other credentials, by another way: the old one ends, and nothing is lost.
    introduce(oslo, "east", &kubeconfig_of(tokyo, tokyo.at()), &json!({ "region": "asia" }));
    proxy.cut();
    tokyo.run_pod(ns, "db", "db-2", &["10.2.0.2"]);
    answer_becomes(oslo, &question, &["10.2.0.1", "10.2.0.2"]);
    drop(proxy);

    assert!(oslo.delete("ClusterPeer", "", "east"));
    answer_becomes(oslo, &question, &[]);
    becomes("its lease is gone", &None, || oslo.get("Lease", SYSTEM, "portolan-peer-east"));
    assert_eq!(oslo.get("ServiceImport", ns, "db"), None);
    becomes("nobody speaks of it", &Value::Null, || state(oslo, "east"));
}

/// `kubectl get clusterpeers` is the map of the clusterset.
fn columns(oslo: &Cluster) {
    let line = || {
        let mut kubectl = Command::new(binary("kubectl"));
        kubectl.arg("--kubeconfig").arg(oslo.kubeconfig(ADMIN_USER));
        kubectl.arg("--cache-dir").arg(oslo.path("kubectl-cache"));
        let (good, text) = run(kubectl.args(["get", "clusterpeers", "-o", "wide"]));
        assert!(good, "{text}");
        text.lines().nth(1).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    // NAME CLUSTER (NETWORK: none) REGION REACHABLE FRESH (RTT: none) EXPORTS REFUSED VERSION AGE
    let (line, _) = until("there are exports", || Some(line()).filter(|line| line[5] != "0"));
    assert_eq!(line[..4], ["east", "tokyo", "asia", "True"], "{line:?}");
    assert!(line[4].ends_with('s'), "{line:?}");
    assert!(line[5].parse::<u32>().unwrap() > 0, "{line:?}");
    assert!(line[6] == "0" && line[7].starts_with("v1."), "{line:?}");
}

/// Clusters of the configuration, by contexts of one file: one more is followed without a restart, and one that is not
/// named any more is gone.
#[test]
fn contexts_of_a_kubeconfig_file_are_peers() {
    let ns = "peers-file";
    let shared = set_with(ns);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    std::fs::write(&file, joined(&[("east", &shared[1]), ("south", &shared[2])])).unwrap();
    let item = |context: &str| format!("{{kubeconfig: '{}', context: {context}}}", file.display());
    let one = format!("clusters: [{}]", item("east"));
    let mut set = home(Plan { controller: one.clone(), ..Plan::new(1) });
    set[0].namespace(ns);
    export_db(&shared[1], ns, "10.2.0.1");
    export_db(&shared[2], ns, "10.3.0.1");
    let question = format!("{} A", fqdn(ns, "db"));
    answer_becomes(&set[0], &question, &["10.2.0.1"]);
    assert_eq!(state(&set[0], "east")["origin"], "kubeconfig");

    let yaml = set[0].controller.yaml();
    set[0]
        .controller
        .reconfigure(&yaml.replace(&one, &format!("clusters: [{}, {}]", item("east"), item("south"))));
    answer_becomes(&set[0], &question, &["10.2.0.1", "10.3.0.1"]);
    set[0].controller.reconfigure(&yaml.replace("context: east", "context: south"));
    answer_becomes(&set[0], &question, &["10.3.0.1"]);
    assert_eq!(state(&set[0], "east"), Value::Null);
}

/// One kubeconfig with a context for each cluster.
fn joined(clusters: &[(&str, &Member)]) -> String {
    let mut all =
        json!({ "apiVersion": "v1", "kind": "Config", "contexts": [], "clusters": [], "users": [] });
    for (name, member) in clusters {
        let one: Value = serde_json::from_str(&kubeconfig_of(member, member.at())).unwrap();
        let context = json!({ "name": name, "context": { "cluster": name, "user": name } });
        let entry = |list: &str| with(one[list][0].clone(), json!({ "name": name }));
        all["contexts"].as_array_mut().unwrap().push(context);
        for list in ["clusters", "users"] {
            all[list].as_array_mut().unwrap().push(entry(list));
        }
    }
    all.to_string()
}

/// ClusterProfiles (KEP-4322) with the access provider `secretreader` (KEP-5339): `status.accessProviders` says where
/// the API server is, a Secret of the profile's name has the token.
#[test]
fn profiles_of_an_inventory_are_peers() {
    let ns = "peers-profile";
    let shared = set_with(ns);
    let tokyo = &shared[1];
    let set = home(Plan { controller: "controller: {cluster-profiles: inventory}".into(), ..Plan::new(1) });
    let oslo = &set[0];
    for name in [ns, "inventory"] {
        oslo.namespace(name);
    }
    export_db(tokyo, ns, "10.2.0.1");
    let question = format!("{} A", fqdn(ns, "db"));
    let profile = object("multicluster.x-k8s.io/v1alpha1", "ClusterProfile", "inventory", "east");
    let spec = json!({ "displayName": "east", "clusterManager": { "name": "tests" } });
    oslo.put(&with(profile, json!({ "spec": spec })));
    let problems = || oslo.controller.status()["controller"]["problems"].to_string();
    until("what is missing is said", || {
        problems().contains("inventory/east: needs the access provider secretreader").then_some(())
    });

    let kubeconfig: Value = serde_json::from_str(&kubeconfig_of(tokyo, tokyo.at())).unwrap();
    let provider = json!({ "name": "secretreader", "cluster": kubeconfig["clusters"][0]["cluster"] });
    let others = json!({ "name": "google", "cluster": { "server": "https://127.0.0.1:1" } });
    oslo.set_status("ClusterProfile", "inventory", "east", &json!({ "accessProviders": [others, provider] }));
    let missing = format!("Secret {SYSTEM}/east is missing");
    until("the Secret is asked for", || problems().contains(&missing).then_some(()));
    assert_eq!(asked(oslo, &question).0, "NXDOMAIN");

    let token = kubeconfig["users"][0]["user"]["token"].as_str().unwrap();
    let secret = object("v1", "Secret", SYSTEM, "east");
    oslo.put(&with(secret, json!({ "stringData": { "token": token } })));
    answer_becomes(oslo, &question, &["10.2.0.1"]);
    assert_eq!(state(oslo, "inventory/east")["origin"], "ClusterProfile");
    becomes("the problem is over", &"[]".to_owned(), problems);

    assert!(oslo.delete("ClusterProfile", "inventory", "east"));
    answer_becomes(oslo, &question, &[]);
}
