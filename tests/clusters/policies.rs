//! TrafficPolicies in clusters: they travel with exports, the asking cluster's own go before them, and each says in its
//! status whether it holds.

use std::net::TcpListener;

use portolan_tests::harness::kubernetes::{
    Cluster, Clusterset, Plan, condition, export, introduce, object, with,
};
use portolan_tests::harness::{Server, becomes, eventually, namespaces};
use serde_json::{Value, json};

use crate::peers::{answer_becomes, export_db, home, kubeconfig_of, state};
use crate::steps::{fqdn, imported, set_with};

fn policy(namespace: &str, name: &str, spec: &Value) -> Value {
    let policy = object("portolan.dev/v1alpha1", "TrafficPolicy", namespace, name);
    with(policy, json!({ "spec": spec }))
}

fn about(kind: &str, service: &str, spec: Value) -> Value {
    with(json!({ "targetRefs": [{ "kind": kind, "name": service }] }), spec)
}

/// Condition `Accepted`: status, reason and message.
fn accepted(cluster: &Cluster, namespace: &str, name: &str) -> String {
    let policy = cluster.get("TrafficPolicy", namespace, name).unwrap_or_default();
    let Some(condition) = condition(&policy, "Accepted") else { return "none".into() };
    let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    format!("{}/{}: {}", text("status"), text("reason"), text("message"))
}

fn accepted_becomes(cluster: &Cluster, namespace: &str, name: &str, expected: &str) {
    eventually(&format!("TrafficPolicy {namespace}/{name} says {expected}"), || {
        accepted(cluster, namespace, name).contains(expected)
    });
}

fn exported_everywhere(set: &Clusterset, namespace: &str) {
    for (at, member) in set.iter().enumerate() {
        export_db(member, namespace, &format!("10.{}.0.1", at + 1));
    }
}

/// The exporter's policy travels with the export to the clients of all clusters; a cluster's own about the import goes before
/// it there and nowhere else; what is deleted holds no longer.
#[test]
fn policies_travel_with_exports() {
    let ns = "policies";
    let set = set_with(ns);
    exported_everywhere(&set, ns);
    let question = format!("{} A", fqdn(ns, "db"));
    let all = ["10.1.0.1", "10.2.0.1", "10.3.0.1"];
    for member in set.iter() {
        answer_becomes(member, &question, &all);
    }
    let only = |cluster: &str| {
        let others = ["paris", "tokyo", "lima"].into_iter().filter(|other| *other != cluster);
        let weights: Vec<_> = others.map(|other| json!({ "cluster": other, "weight": 0 })).collect();
        json!({ "weights": weights })
    };
    set[0].put(&policy(ns, "to-tokyo", &about("ServiceExport", "db", only("tokyo"))));
    for member in set.iter() {
        answer_becomes(member, &question, &["10.2.0.1"]);
    }
    let annotation = "/metadata/annotations/portolan.dev~1traffic-policy";
    let told = imported(&set[2], ns, "db")
        .pointer(annotation)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    assert!(told.contains("paris") && told.contains("to-tokyo"), "{told}");

    set[2].put(&policy(ns, "to-lima", &about("ServiceImport", "db", only("lima"))));
    answer_becomes(&set[2], &question, &["10.3.0.1"]);
    answer_becomes(&set[1], &question, &["10.2.0.1"]);
    accepted_becomes(&set[0], ns, "to-tokyo", "True/Accepted");
    accepted_becomes(&set[2], ns, "to-lima", "True/Accepted");

    assert!(set[2].delete("TrafficPolicy", ns, "to-lima"));
    answer_becomes(&set[2], &question, &["10.2.0.1"]);
    assert!(set[0].delete("TrafficPolicy", ns, "to-tokyo"));
    for member in set.iter() {
        answer_becomes(member, &question, &all);
    }
}

/// What is wrong with a policy stands in its status: an older one about the same, a cluster that nobody knows, a scope that is
/// for the operators' namespace. What violates the schema is refused when it is written.
#[test]
fn policies_say_what_is_wrong_with_them() {
    let ns = "policies-wrong";
    let shared = set_with(ns);
    let set = home(Plan::new(1));
    set[0].namespace(ns);
    introduce(&set[0], "east", &kubeconfig_of(&shared[1], shared[1].at()), &json!({}));
    set[0].put(&export(ns, "db"));
    set[0].put(&policy(ns, "first", &about("ServiceExport", "db", json!({ "answer": "Endpoints" }))));
    accepted_becomes(&set[0], ns, "first", "True/Accepted");
    // Times have whole seconds: of two of one second the first by name holds.
    set[0].put(&policy(ns, "second", &about("ServiceExport", "db", json!({}))));
    accepted_becomes(
        &set[0],
        ns,
        "second",
        &format!("False/Conflicted: TrafficPolicy {ns}/first is about the same"),
    );
    let atlantis = json!({ "weights": [{ "cluster": "atlantis", "weight": 1 }] });
    set[0].patch("TrafficPolicy", ns, "first", json!({ "spec": atlantis }));
    accepted_becomes(
        &set[0],
        ns,
        "first",
        "True/UnknownClusters: it names clusters that are not in the clusterset: atlantis",
    );
    set[0].put(&policy(ns, "everywhere", &json!({ "scope": "ClusterSet" })));
    accepted_becomes(&set[0], ns, "everywhere", "False/Invalid: spec.scope");
    let far = json!({
        "weights": [{ "matchLabels": { "tier": "gold" }, "weight": 3 }, { "cluster": "tokyo", "weight": 1 }],
        "latency": {}, "slowStart": "30s", "answer": "Gateways",
    });
    set[0].put(&policy(ns, "far", &about("ServiceImport", "other", far)));
    accepted_becomes(&set[0], ns, "far", "True/Accepted");
    for (spec, expected) in [
        (json!({ "weights": [{ "cluster": "tokyo", "weight": -1 }] }), "weight"),
        (json!({ "weights": [{ "cluster": "To Kyo", "weight": 1 }] }), "KEP-2149"),
        (json!({ "failover": ["a", "a"] }), "named once"),
        (json!({ "locality": { "order": ["Zone", "Zone"] } }), "Duplicate"),
        (json!({ "answer": "Sometimes" }), "Sometimes"),
        (json!({ "panicThreshold": 101 }), "101"),
        (
            json!({ "weights": [{ "cluster": "a", "weight": 1 }, { "cluster": "a", "weight": 2 }] }),
            "named once in weights",
        ),
        (json!({ "weights": [{ "weight": 1 }] }), "by matchLabels: one of them"),
        (
            json!({ "weights": [{ "cluster": "a", "matchLabels": { "tier": "b" }, "weight": 1 }] }),
            "by matchLabels: one of them",
        ),
        (json!({ "weights": [{ "matchLabels": {}, "weight": 1 }] }), "matchLabels"),
        (json!({ "latency": { "margin": "11s" } }), "from 1ms to 10s"),
        (json!({ "latency": { "holdDown": "2h" } }), "from 0s to 1h"),
        (json!({ "slowStart": "61m" }), "an hour at most"),
        (
            with(about("ServiceExport", "db", json!({})), json!({ "scope": "ClusterSet" })),
            "leave one of them out",
        ),
    ] {
        let refused = set[0].try_put(&policy(ns, "refused", &spec)).expect_err(&spec.to_string()).to_string();
        assert!(refused.to_lowercase().contains(&expected.to_lowercase()), "{spec}: {refused}");
    }
}

/// Clients are where their Node is: those of this cluster are pinned to it, those of nowhere get nothing.
#[test]
fn nodes_tell_where_clients_are() {
    let ns = "policies-near";
    let (shared, set) = (set_with(ns), home(Plan::new(1)));
    set[0].namespace(ns);
    introduce(&set[0], "east", &kubeconfig_of(&shared[1], shared[1].at()), &json!({}));
    export_db(&shared[1], ns, "10.2.0.1");
    export_db(&set[0], ns, "10.4.0.1");
    answer_becomes(&set[0], &format!("{} A", fqdn(ns, "db")), &["10.2.0.1", "10.4.0.1"]);
    let labels = json!({ "metadata": { "labels": { "topology.kubernetes.io/region": "test" } } });
    let node = with(object("v1", "Node", "", "far"), json!({ "spec": { "podCIDRs": ["10.88.0.0/24"] } }));
    let node = with(node, labels);
    set[0].put(&node);
    let pinned = json!({ "locality": { "order": ["Cluster"], "mode": "Pin" } });
    set[0].put(&policy(ns, "near", &about("ServiceImport", "db", pinned)));
    // No client here has an address of a Pod: what one would get is explained.
    let shares = |from: &str| -> Vec<String> {
        let path = format!("/explain?name=db.{ns}.svc.clusterset.local&from={from}");
        let told: Value = serde_json::from_str(&set[0].server.get(&path).1).unwrap_or_default();
        let shares = told["shares"].as_array().cloned().unwrap_or_default();
        shares.iter().map(|share| format!("{}: {}", share["cluster"], share["share"])).collect()
    };
    becomes("a Pod of this cluster", &vec!["\"oslo\": \"100.0 %\"".to_owned()], || shares("10.88.0.7"));
    assert_eq!(shares("192.0.2.200"), [""; 0]);
    // The other cluster's Nodes are in the same region; here only its copied slices tell that.
    set[0].patch(
        "TrafficPolicy",
        ns,
        "near",
        json!({ "spec": { "locality": { "order": ["Region"], "mode": "Pin" } } }),
    );
    let both = ["\"oslo\": \"50.0 %\"", "\"tokyo\": \"50.0 %\""].map(str::to_owned).to_vec();
    becomes("a Pod of this region", &both, || shares("10.88.0.7"));
    assert_eq!(shares("192.0.2.200"), [""; 0]);
    assert_eq!(set[0].dig(&format!("{} A", fqdn(ns, "db"))).data(), [""; 0], "who asks here is nowhere");
}

/// What people say of another cluster, by labels and the annotation `portolan.dev/state` of its ClusterPeer, is heard by
/// servers and by the controller; how far away it is, by the checks that a policy asks for, is written there for all of them.
#[test]
fn peers_are_as_people_and_probes_say() {
    const ADDRESS: &str = "10.98.2.1";
    if !namespaces::in_network_with("policies::peers_are_as_people_and_probes_say", &[ADDRESS]) {
        return;
    }
    let _listener = TcpListener::bind((ADDRESS, 8080)).unwrap();
    let (ns, set) = ("policies-peers", Clusterset::start(&Plan::new(2)));
    let (paris, tokyo) = (&set[0], &set[1]);
    set.namespace(ns);
    export_db(tokyo, ns, ADDRESS);
    answer_becomes(paris, &format!("{} A", fqdn(ns, "db")), &[ADDRESS]);
    let peer = || paris.get("ClusterPeer", "", "tokyo").unwrap();
    assert_eq!(peer()["status"]["roundTripTime"], Value::Null, "nobody has asked");

    let checked = json!({ "healthCheck": { "type": "TCP", "interval": "1s", "timeout": "1s" } });
    paris.put(&policy(ns, "checked", &about("ServiceImport", "db", checked)));
    eventually("its ClusterPeer tells how far away it is", || {
        let told = peer()["status"]["roundTripTime"].as_str().map(str::to_owned);
        told.is_some_and(|told| {
            told.strip_suffix("ms").is_some_and(|time| time.parse::<f64>().unwrap() > 0.0)
        })
    });
    assert!(state(paris, "tokyo")["roundTripTime"].as_f64().unwrap() > 0.0);
    assert!(
        paris.controller.status()["clusters"].to_string().contains("\"roundTripTime\":null"),
        "of itself"
    );

    let own = |server: &Server| server.status()["clusters"][0].clone();
    for server in [&paris.server, &paris.controller] {
        assert_eq!(own(server)["objects"]["ClusterPeer"], 1, "{}", own(server));
    }
    let say = |state: Value| {
        let metadata =
            json!({ "annotations": { "portolan.dev/state": state }, "labels": { "tier": "gold" } });
        paris.patch("ClusterPeer", "", "tokyo", json!({ "metadata": metadata }));
    };
    let db = format!("{} A", fqdn(ns, "db"));
    say(json!("down"));
    answer_becomes(paris, &db, &[]);
    say(json!("drained"));
    for server in [&paris.server, &paris.controller] {
        eventually("what is no state is said", || {
            own(server)["problems"]
                .to_string()
                .contains("ClusterPeer tokyo: metadata.annotations[portolan.dev/state]: `drained`")
        });
    }
    answer_becomes(paris, &db, &[]);
    say(json!("drain"));
    for server in [&paris.server, &paris.controller] {
        becomes("nothing is wrong", &json!([]), || own(server)["problems"].clone());
    }
    // Nobody else is left: the last resort. Whoever is down gets nobody, until that is taken back.
    answer_becomes(paris, &db, &[ADDRESS]);
    say(json!("down"));
    answer_becomes(paris, &db, &[]);
    say(Value::Null);
    answer_becomes(paris, &db, &[ADDRESS]);
    // The export's author is heard in the other cluster, and by servers that hear their own cluster alone.
    let export = |state: Value| {
        let annotations = json!({ "metadata": { "annotations": { "portolan.dev/state": state } } });
        tokyo.patch("ServiceExport", ns, "db", annotations);
    };
    export(json!("drain"));
    let labelled = || {
        let slices = paris.list("EndpointSlice", ns, "portolan.dev/state=drain");
        !slices.is_empty()
    };
    eventually("the copies say so", labelled);
    export(json!("down"));
    answer_becomes(paris, &db, &[]);
    export(Value::Null);
    answer_becomes(paris, &db, &[ADDRESS]);
}
