//! The clusters that the other tests rely on.

use std::time::Duration;

use portolan_tests::harness::kubernetes::{
    Cluster, Objects, Options, Proxy, export, headless_service, pod, service,
};
use portolan_tests::harness::{eventually, until};
use serde_json::json;

/// Three control planes side by side, each with an id, service ranges and definitions of its own.
#[test]
fn clusters_run_side_by_side() {
    let clusters = Cluster::start_all(["paris", "tokyo", "lima"].map(Options::new).into());
    let mut addresses = std::collections::BTreeSet::new();
    for cluster in &clusters {
        cluster.namespace("shop");
        cluster.put(&export("shop", "web"));
        assert!(cluster.list("ServiceImport", "shop", "").is_empty());
        let web = json!({ "spec": { "ipFamilyPolicy": "RequireDualStack" } });
        let web = cluster.put(&portolan_tests::harness::kubernetes::with(service("shop", "web"), web));
        for address in web["spec"]["clusterIPs"].as_array().unwrap() {
            assert!(addresses.insert(address.to_string()), "{address} is in two clusters");
        }
        let property = cluster.get("ClusterProperty", "", "cluster.clusterset.k8s.io").unwrap();
        assert!(["paris", "tokyo", "lima"].contains(&property["spec"]["value"].as_str().unwrap()));
    }
    assert_eq!(addresses.len(), 6, "both families in each");
}

/// kube-controller-manager makes EndpointSlices of Pods that a test wrote, and the API server knows whose token it
/// is that asks.
#[test]
fn pods_without_kubelets_become_endpoints() {
    let cluster = Cluster::start(Options::new("paris"));
    cluster.namespace("shop");
    cluster.put(&headless_service("shop", "db"));
    cluster.run_pod("shop", "db", "db-0", &["10.1.0.1"]);
    let addresses = || {
        let slices = cluster.list("EndpointSlice", "shop", "kubernetes.io/service-name=db");
        let endpoints =
            slices.iter().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        ready.map(|endpoint| endpoint["addresses"][0].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    eventually("the Pod is an endpoint", || addresses() == ["10.1.0.1"]);
    cluster.set_ready(&pod("shop", "db", "db-0"), &["10.1.0.1"], false);
    eventually("it isn't ready any more", || addresses().is_empty());

    let stranger = Objects::by(&cluster.kubeconfig("system:serviceaccount:shop:default"));
    let refused = stranger.try_put(&export("shop", "db")).unwrap_err().to_string();
    assert!(refused.contains("system:serviceaccount:shop:default"), "{refused}");
}

/// What is stored outlives an API server, which may come back at another address; the network in front of it breaks
/// in every way.
#[test]
fn api_servers_and_networks_break() {
    let options = Options { controllers: false, definitions: Vec::new(), id: None, ..Options::new("") };
    let cluster = Cluster::start(options);
    cluster.namespace("kept");
    let proxy = Proxy::start(cluster.at());
    let through = Objects::by(&cluster.kubeconfig_at("admin", proxy.at()));
    assert!(through.get("Namespace", "", "kept").is_some());

    proxy.freeze();
    std::thread::scope(|scope| {
        let reply = scope.spawn(|| through.get("Namespace", "", "kept"));
        // No reply is what is waited for.
        std::thread::sleep(Duration::from_millis(300));
        assert!(!reply.is_finished(), "a black hole replied");
        proxy.resume();
        assert!(reply.join().unwrap().is_some(), "what was held gets through");
    });
    proxy.cut();
    assert_eq!(through.try_text("/readyz"), None);

    cluster.kill_api();
    assert_eq!(cluster.try_text("/readyz"), None);
    cluster.change_port();
    cluster.start_api();
    assert!(cluster.get("Namespace", "", "kept").is_some());
    proxy.resume();
    assert_eq!(through.try_text("/readyz"), None, "nobody is at the old port");
    proxy.redirect(cluster.at());
    until("the way leads to the new port", || through.try_text("/readyz"));
}
