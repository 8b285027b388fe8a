//! Clusters that can't be reached, can't be read, or are not who they seem to be.

use std::time::Duration;

use k8s_openapi::ByteString;
use portolan_tests::harness::kubernetes::{
    Cluster, Clusterset, Options, Plan, Proxy, definitions, documents, export, headless_service, install,
    introduce, object, service, with,
};
use portolan_tests::harness::{becomes, eventually, until_within};
use serde_json::{Value, json};

use super::status;
use crate::peers::{answer_becomes, asked, export_db, home, kubeconfig_of, state, told, told_becomes};
use crate::steps::{endpoints, fqdn, imported, mirrored, set_with, texts, verdict_becomes};

/// What is tried again now and then only.
const NOW_AND_THEN: Duration = Duration::from_secs(60);

/// ClusterPeers that lead nowhere, all at once. Each says why, and none keeps anything else from working.
#[test]
fn peers_that_are_of_no_use() {
    let ns = "bad-peers";
    let (shared, set) = (set_with(ns), home(Plan::new(1)));
    let (oslo, tokyo) = (&set[0], &shared[1]);
    oslo.namespace(ns);
    export_db(tokyo, ns, "10.2.0.1");
    let good: Value = serde_json::from_str(&kubeconfig_of(tokyo, tokyo.at())).unwrap();
    let changed = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed.to_string()
    };
    let token = good["users"][0]["user"]["token"].clone();
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": { "token": token },
    });
    let exec = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
        "command": "echo", "args": [credential.to_string()],
    } });
    let foreign = json!(ByteString(shared[2].authority().into()));
    let server = "/clusters/0/cluster/server";
    let cases: [(&str, String, &str, &str, &[&str]); 8] = [
        ("malformed", "users: [".into(), "Accepted", "False/Invalid", &["is no kubeconfig"]),
        ("empty", "{}".into(), "Accepted", "False/Invalid", &["no context that is current"]),
        (
            "program",
            changed("/users/0/user", exec),
            "Accepted",
            "False/Invalid",
            &["exec", "not allowed", "allowExec"],
        ),
        (
            "file",
            changed("/users/0/user", json!({ "tokenFile": "/etc/passwd" })),
            "Accepted",
            "False/Invalid",
            &["names a file (tokenFile)", "token"],
        ),
        (
            "authority",
            changed("/clusters/0/cluster/certificate-authority-data", foreign),
            "Reachable",
            "False/",
            &["certificate"],
        ),
        ("nowhere", changed(server, json!("https://127.0.0.1:1")), "Reachable", "False/", &["refused"]),
        ("nobody", changed("/users/0/user/token", json!("wrong")), "Reachable", "False/", &["Unauthorized"]),
        ("no-url", changed(server, json!("::")), "Reachable", "False/", &["server is no URL"]),
    ];
    for (name, kubeconfig, ..) in &cases {
        introduce(oslo, name, kubeconfig, &json!({}));
    }
    let missing = json!({ "spec": { "credentials": { "secret": { "name": "forgotten" } } } });
    oslo.put(&with(object("portolan.dev/v1alpha1", "ClusterPeer", "", "missing"), missing));
    for (name, _, condition, verdict, words) in &cases {
        let said = || told(oslo, name, condition);
        let fits = |said: &String| said.starts_with(verdict) && words.iter().all(|word| said.contains(word));
        becomes(&format!("{name}: {words:?}"), &(true, String::new()), || {
            let said = said();
            if fits(&said) { (true, String::new()) } else { (false, said) }
        });
        assert!(oslo.controller.log().contains(words[0]), "the log names it: {name}");
    }
    told_becomes(
        oslo,
        "missing",
        "Accepted",
        "False/Invalid",
        &["Secret portolan-system/forgotten is missing"],
    );
    let secrets = [token.as_str().unwrap(), "/etc/passwd"];
    let table = status(oslo);
    for (name, _, _, _, words) in cases.iter().filter(|case| case.0 != "no-url") {
        assert!(table.contains(name) && table.contains(words[0]), "{name}, {}: {table}", words[0]);
    }
    for secret in secrets {
        assert!(
            !table.contains(secret) && !oslo.controller.log().contains(secret),
            "a secret is told: {table}"
        );
    }

    // What this cluster has itself is exported and answered all the while.
    oslo.put(&service(ns, "web"));
    oslo.put(&export(ns, "web"));
    let ips = texts(&imported(oslo, ns, "web")["spec"]["ips"]);
    becomes("the own service is answered", &("NOERROR".to_owned(), ips), || {
        asked(oslo, &format!("{} A", fqdn(ns, "web")))
    });
    let question = format!("{} A", fqdn(ns, "db"));
    assert_eq!(asked(oslo, &question).0, "NXDOMAIN");

    // Allowed, the program runs; corrected, a Secret is good at once.
    oslo.patch("ClusterPeer", "", "program", json!({ "spec": { "credentials": { "allowExec": true } } }));
    answer_becomes(oslo, &question, &["10.2.0.1"]);
    told_becomes(oslo, "program", "Accepted", "True/Valid", &[]);
    let south = kubeconfig_of(&shared[2], shared[2].at());
    introduce(oslo, "malformed", &south, &json!({}));
    export_db(&shared[2], ns, "10.3.0.1");
    answer_becomes(oslo, &question, &["10.2.0.1", "10.3.0.1"]);
    told_becomes(oslo, "malformed", "Synced", "True/Listed", &[]);
}

/// Clusters without the MCS API, and with its older version only; each with a controller and a server of its own. The
/// older version is a CRD that serves `v1alpha1` alone: an older kube-apiserver can't be built here, and what it would
/// not serve is what is missing from this one.
#[test]
fn clusters_without_the_definitions_or_with_old_ones() {
    let ns = "shop";
    let about = |id: &str| Options { definitions: vec!["about"], ..Options::new(id) };
    let clusters = Cluster::start_all(vec![Options::new("paris"), about("tokyo"), about("lima")]);
    for definition in definitions("mcs") {
        clusters[2].define(&old(&definition));
    }
    let set = Clusterset::over(clusters, &Plan::new(3));
    set.namespace(ns);
    let (paris, tokyo, lima) = (&set[0], &set[1], &set[2]);
    let words = [
        "serviceexports.multicluster.x-k8s.io",
        "install the MCS API",
        "kubectl apply -k https://github.com/kubernetes-sigs/mcs-api/config/crd",
    ];
    for other in [paris, lima] {
        told_becomes(other, "tokyo", "Synced", "True/ListedWithProblems", &words);
    }
    let table = status(tokyo);
    assert!(table.contains("serviceimports.multicluster.x-k8s.io") && table.contains(words[2]), "{table}");

    let question = format!("{} A", fqdn(ns, "db"));
    export_db(paris, ns, "10.1.0.1");
    let alpha = json!({ "apiVersion": "multicluster.x-k8s.io/v1alpha1" });
    lima.put(&headless_service(ns, "db"));
    lima.run_pod(ns, "db", "db-1", &["10.3.0.1"]);
    lima.put(&with(export(ns, "db"), alpha));
    for member in [paris, lima] {
        answer_becomes(member, &question, &["10.1.0.1", "10.3.0.1"]);
    }
    verdict_becomes(lima, ns, "db", "Valid", "True/Valid");
    verdict_becomes(lima, ns, "db", "Conflict", "False/NoConflicts");
    let import = imported(lima, ns, "db");
    assert_eq!(
        (&import["apiVersion"], &import["spec"]["type"]),
        (&json!("multicluster.x-k8s.io/v1alpha1"), &json!("Headless"))
    );
    assert_eq!(asked(tokyo, &question), ("NXDOMAIN".to_owned(), vec![]), "it is not imported there");

    // Once it is there it is used, by itself.
    for definition in definitions("mcs") {
        tokyo.define(&definition);
    }
    let at_once = format!("{} A", fqdn(ns, "db"));
    until_within(NOW_AND_THEN, "Tokyo imports", || (asked(tokyo, &at_once).1.len() == 2).then_some(()));
    export_db(tokyo, ns, "10.2.0.1");
    for member in set.iter() {
        let what = format!("{question} in {}", member.id);
        until_within(NOW_AND_THEN, &what, || (asked(member, &question).1.len() == 3).then_some(()));
        let peers = member.list("ClusterPeer", "", "").into_iter();
        for peer in peers.map(|peer| peer["metadata"]["name"].as_str().unwrap().to_owned()) {
            told_becomes(member, &peer, "Synced", "True/Listed", &[]);
        }
    }
}

/// A definition that serves `v1alpha1` only.
fn old(definition: &str) -> String {
    let mut definition = documents(definition).remove(0);
    let versions = definition["spec"]["versions"].as_array_mut().unwrap();
    versions.retain(|version| version["name"] == "v1alpha1");
    versions[0]["storage"] = json!(true);
    definition.to_string()
}

/// Who is who: an id that is none, an id that somebody has already, one cluster by two names, and the own one.
#[test]
fn clusters_that_are_taken_for_others() {
    let ns = "bad-ids";
    let shared = set_with(ns);
    let bare = Options { id: Some("No_Id".into()), ..Options::new("") };
    let mut clusters = Cluster::start_all(vec![Options::new("oslo"), bare]);
    let imposter = clusters.remove(1);
    install(&imposter);
    let set = Clusterset::over(clusters, &Plan { ids: vec!["oslo"], ..Plan::new(1) });
    let (oslo, tokyo) = (&set[0], &shared[1]);
    oslo.namespace(ns);
    imposter.namespace(ns);
    export_db(tokyo, ns, "10.2.0.1");
    export_db(&imposter, ns, "10.66.0.1");
    let question = format!("{} A", fqdn(ns, "db"));

    introduce(oslo, "imposter", &kubeconfig_of(&imposter, imposter.at()), &json!({}));
    told_becomes(
        oslo,
        "imposter",
        "Synced",
        "False/NotListed",
        &["ClusterProperty cluster.clusterset.k8s.io", "has no id"],
    );
    introduce(oslo, "east", &kubeconfig_of(tokyo, tokyo.at()), &json!({}));
    answer_becomes(oslo, &question, &["10.2.0.1"]);

    imposter.set_id("tokyo");
    told_becomes(oslo, "imposter", "Accepted", "False/Duplicate", &["east"]);
    introduce(oslo, "east-again", &kubeconfig_of(tokyo, tokyo.at()), &json!({}));
    told_becomes(oslo, "east-again", "Accepted", "False/Duplicate", &["east"]);
    introduce(oslo, "myself", &kubeconfig_of(oslo, oslo.at()), &json!({}));
    told_becomes(oslo, "myself", "Accepted", "True/OwnCluster", &[]);
    let table = status(oslo);
    for words in ["the same cluster as east (UID ", "east has the id `tokyo`: give one of them another"] {
        assert!(table.contains(words), "{words}: {table}");
    }
    answer_becomes(oslo, &question, &["10.2.0.1"]);

    // An id of its own makes it a cluster of its own.
    imposter.set_id("berlin");
    answer_becomes(oslo, &question, &["10.2.0.1", "10.66.0.1"]);
    told_becomes(oslo, "imposter", "Accepted", "True/Valid", &[]);
    // One name goes: the same cluster by its other name takes its place.
    assert!(oslo.delete("ClusterPeer", "", "east"));
    told_becomes(oslo, "east-again", "Synced", "True/Listed", &[]);
    answer_becomes(oslo, &question, &["10.2.0.1", "10.66.0.1"]);
}

/// Each ClusterPeer stands for the cluster that it was first followed as: another one that answers in its place is not
/// listened to, what was known holds, and what to do is said.
#[test]
fn clusters_that_turn_into_others() {
    let ns = "strangers";
    let shared = set_with(ns);
    let mut clusters = Cluster::start_all(vec![Options::new("oslo"), Options::new("berlin")]);
    let berlin = clusters.remove(1);
    install(&berlin);
    let mut set = Clusterset::over(clusters, &Plan { ids: vec!["oslo"], ..Plan::new(1) });
    let tokyo = &shared[1];
    set[0].namespace(ns);
    berlin.namespace(ns);
    export_db(tokyo, ns, "10.2.0.1");
    export_db(&berlin, ns, "10.66.0.1");
    let question = format!("{} A", fqdn(ns, "db"));
    let both = ["10.2.0.1", "10.66.0.1"];
    introduce(&set[0], "west", &kubeconfig_of(&berlin, berlin.at()), &json!({}));
    introduce(&set[0], "east", &kubeconfig_of(tokyo, tokyo.at()), &json!({}));
    answer_becomes(&set[0], &question, &both);
    told_becomes(&set[0], "west", "Synced", "True/Listed", &[]);
    eventually("who they are is remembered", || {
        ["west", "east"].iter().all(|name| {
            let peer = set[0].get("ClusterPeer", "", name).unwrap();
            peer["status"]["uid"].is_string() && peer["status"]["clusterId"].is_string()
        })
    });

    // It takes the id of another, and exports more under it.
    let words = ["another cluster than before", "id `tokyo`", "was `berlin`", "what was known holds"];
    berlin.set_id("tokyo");
    told_becomes(&set[0], "west", "Accepted", "False/AnotherCluster", &words);
    berlin.run_pod(ns, "db", "db-2", &["10.66.0.2"]);
    told_becomes(&set[0], "east", "Accepted", "True/Valid", &[]);
    answer_becomes(&set[0], &question, &both);
    berlin.set_id("berlin");
    answer_becomes(&set[0], &question, &["10.2.0.1", "10.66.0.1", "10.66.0.2"]);
    told_becomes(&set[0], "west", "Accepted", "True/Valid", &[]);

    // East's kubeconfig gets into west's Secret: the former one still works, and then there is only this one.
    let all = ["10.2.0.1", "10.66.0.1", "10.66.0.2"];
    introduce(&set[0], "west", &kubeconfig_of(tokyo, tokyo.at()), &json!({}));
    let words = ["new credentials can't be used", "another cluster than before (UID "];
    told_becomes(&set[0], "west", "Synced", "True/ListedWithProblems", &words);
    set[0].controller.kill();
    set[0].controller.start_again();
    let words = ["another cluster than before (UID ", "delete the ClusterPeer and create it anew"];
    told_becomes(&set[0], "west", "Accepted", "False/AnotherCluster", &words);
    told_becomes(&set[0], "east", "Synced", "True/Listed", &[]);
    answer_becomes(&set[0], &question, &all);
    introduce(&set[0], "west", &kubeconfig_of(&berlin, berlin.at()), &json!({}));
    told_becomes(&set[0], "west", "Synced", "True/Listed", &[]);
    told_becomes(&set[0], "west", "Accepted", "True/Valid", &[]);

    // Made anew, the ClusterPeer stands for whoever answers.
    berlin.set_id("bonn");
    told_becomes(&set[0], "west", "Accepted", "False/AnotherCluster", &["id `bonn`"]);
    assert!(set[0].delete("ClusterPeer", "", "west"));
    introduce(&set[0], "west", &kubeconfig_of(&berlin, berlin.at()), &json!({}));
    told_becomes(&set[0], "west", "Accepted", "True/Valid", &[]);
    eventually("it is another cluster now", || {
        set[0].get("ClusterPeer", "", "west").unwrap()["status"]["clusterId"] == "bonn"
    });
    answer_becomes(&set[0], &question, &all);
}

/// A cluster may only speak for the namespaces that its ClusterPeer lists: what it exports from others does not exist.
#[test]
fn exports_of_namespaces_that_are_not_allowed() {
    // Ten are named at most: the first ones.
    let (ns, other) = ("a-refused", "a-trusted");
    let shared = set_with(ns);
    shared.namespace(other);
    let set = home(Plan::new(1));
    let (oslo, tokyo) = (&set[0], &shared[1]);
    for ns in [ns, other] {
        oslo.namespace(ns);
        export_db(tokyo, ns, "10.2.0.1");
    }
    let (refused, allowed) = (format!("{} A", fqdn(ns, "db")), format!("{} A", fqdn(other, "db")));
    introduce(oslo, "east", &kubeconfig_of(tokyo, tokyo.at()), &json!({ "namespaces": [other] }));
    answer_becomes(oslo, &allowed, &["10.2.0.1"]);
    // One that is not theirs to speak for can't take over what is there, either.
    export_db(oslo, ns, "10.4.0.1");
    answer_becomes(oslo, &refused, &["10.4.0.1"]);
    verdict_becomes(oslo, ns, "db", "Conflict", "False/NoConflicts");
    eventually("it is counted", || state(oslo, "east")["refusedExports"].as_u64().unwrap_or_default() >= 1);
    told_becomes(oslo, "east", "Accepted", "True/Valid", &["spec.namespaces", &format!("{ns}/db")]);
    let table = status(oslo);
    assert!(table.contains("exports don't count") && table.contains(&format!("{ns}/db")), "{table}");
    eventually("and so it is where people look", || {
        let peer = oslo.get("ClusterPeer", "", "east").unwrap();
        peer["status"]["refusedExports"].as_u64().unwrap_or_default() >= 1
    });

    oslo.patch("ClusterPeer", "", "east", json!({ "spec": { "namespaces": [ns, other] } }));
    answer_becomes(oslo, &refused, &["10.2.0.1", "10.4.0.1"]);
    oslo.patch("ClusterPeer", "", "east", json!({ "spec": { "namespaces": [other] } }));
    answer_becomes(oslo, &refused, &["10.4.0.1"]);
}

/// A namespace is taken from a cluster while nobody hears that cluster and no controller runs: the next controller finds
/// copies that it can't compare with anything, and they go all the same. What the cluster may still speak for stays.
#[test]
fn a_namespace_is_taken_from_a_cluster_that_is_silent() {
    let (ns, other) = ("taken", "left");
    let shared = set_with(ns);
    shared.namespace(other);
    let mut set = home(Plan::new(1));
    let tokyo = &shared[1];
    for ns in [ns, other] {
        set[0].namespace(ns);
        export_db(tokyo, ns, "10.2.0.1");
    }
    export_db(&set[0], ns, "10.4.0.1");
    let proxy = Proxy::start(tokyo.at());
    introduce(&set[0], "east", &kubeconfig_of(tokyo, proxy.at()), &json!({}));
    let of = |ns: &str| format!("{} A", fqdn(ns, "db"));
    answer_becomes(&set[0], &of(ns), &["10.2.0.1", "10.4.0.1"]);
    answer_becomes(&set[0], &of(other), &["10.2.0.1"]);

    eventually("it is known who that is", || {
        set[0].get("ClusterPeer", "", "east").unwrap()["status"]["clusterId"] == "tokyo"
    });
    set[0].controller.kill();
    proxy.cut();
    set[0].patch("ClusterPeer", "", "east", json!({ "spec": { "namespaces": [other] } }));
    set[0].controller.start_again();
    answer_becomes(&set[0], &of(ns), &["10.4.0.1"]);
    becomes("its copies are gone", &["oslo 10.4.0.1".to_owned()].into(), || {
        endpoints(&mirrored(&set[0], ns, "db"))
    });
    answer_becomes(&set[0], &of(other), &["10.2.0.1"]);
}
