//! Two clusters on two networks: what is behind a service of the other one is reached by a gateway, or not at all.

use std::net::SocketAddr;
use std::time::Duration;

use portolan_tests::harness::kubernetes::{
    CONTROLLER, Cluster, Clusterset, Options, PEER, Plan, condition, export, headless_service, introduce,
    service, with,
};
use portolan_tests::harness::{DYING_WITH_US, Server, Setup, becomes, until, until_within};
use serde_json::{Value, json};

use crate::peers::{answer_becomes, asked};
use crate::steps::{endpoints, fqdn, imported, mirrored, texts};

const NS: &str = "shop";
/// Names are resolved again each half minute.
const NOW_AND_THEN: Duration = Duration::from_secs(60);

/// Two clusters, each of which takes the other for one of another network.
fn apart() -> Clusterset {
    let set = Clusterset::start(&Plan { peer: json!({ "network": "far" }), ..Plan::new(2) });
    set.namespace(NS);
    set
}

/// A service with a pod, exported.
fn export_web(cluster: &Cluster, name: &str, spec: &Value, annotations: &Value) {
    cluster.put(&with(service(NS, name), json!({ "spec": spec })));
    cluster.run_pod(NS, name, &format!("{name}-1"), &["10.2.0.1"]);
    let metadata = json!({ "metadata": { "annotations": annotations } });
    cluster.put(&with(export(NS, name), metadata));
}

/// What of a service's slices of another cluster counts: label, source and address of endpoints, and ports.
fn slices(cluster: &Cluster, name: &str, source: &str) -> (Vec<String>, Vec<String>) {
    let slices = mirrored(cluster, NS, name).into_iter();
    let slices: Vec<_> = slices
        .filter(|slice| slice["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"] == source)
        .collect();
    let gateway = |slice: &Value| match slice["metadata"]["labels"]["portolan.dev/gateway"].as_str() {
        Some(value) => format!("gateway={value}"),
        None => "no gateway".into(),
    };
    let ports = slices.iter().flat_map(|slice| slice["ports"].as_array().cloned().unwrap_or_default());
    let mut facts: Vec<_> =
        ports.map(|port| format!("{}={}", port["name"].as_str().unwrap(), port["port"])).collect();
    facts.extend(slices.iter().map(gateway));
    facts.sort();
    facts.dedup();
    (facts, endpoints(&slices).into_iter().collect())
}

/// Waits until the slices of Tokyo's service in Paris are as expected: ports and kinds, and addresses.
fn slices_become(set: &Clusterset, name: &str, facts: &[&str], addresses: &[&str]) {
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    let addresses = addresses.iter().map(|at| format!("tokyo {at}")).collect();
    becomes(name, &(texts(facts), addresses), || slices(&set[0], name, "tokyo"));
}

/// What the gateway is: the load balancer, node ports, or what the export's author says; and nothing is said of pods
/// that nobody can reach.
#[test]
fn services_of_another_network_are_reached_by_gateways() {
    let set = apart();
    let (paris, tokyo) = (&set[0], &set[1]);
    balanced(&set);
    by_node_ports(&set);

    export_web(
        tokyo,
        "said",
        &json!({}),
        &json!({
            "portolan.dev/gateway": "192.0.2.7, 2001:db8::7",
            "portolan.dev/gateway-ports": "80=30080, 53/UDP=30053",
        }),
    );
    slices_become(&set, "said", &["gateway=true", "http=30080"], &["192.0.2.7", "2001:db8::7"]);

    export_web(tokyo, "plain", &json!({}), &json!({}));
    // Nowhere to go there; its own cluster serves it.
    imported(tokyo, NS, "plain");
    becomes("the own pods", &["tokyo 10.2.0.1".to_owned()].into(), || {
        endpoints(&mirrored(tokyo, NS, "plain"))
    });
    imported(paris, NS, "plain");
    assert_eq!(slices(paris, "plain", "tokyo"), (vec![], vec![]));

    // In its own cluster none of them goes by a gateway.
    for name in ["balanced", "ported", "said"] {
        let expected =
            (vec!["http=8080".to_owned(), "no gateway".to_owned()], vec!["tokyo 10.2.0.1".to_owned()]);
        assert_eq!(slices(tokyo, name, "tokyo"), expected, "{name}");
    }
    headless(&set);
    one_network(&set);
}

/// A load balancer with an address, which comes later than the export, and changes.
fn balanced(set: &Clusterset) {
    let (paris, tokyo) = (&set[0], &set[1]);
    export_web(
        tokyo,
        "balanced",
        &json!({ "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false }),
        &json!({}),
    );
    imported(paris, NS, "balanced");
    assert_eq!(slices(paris, "balanced", "tokyo"), (vec![], vec![]));
    let ingress = |at: &str| {
        let status = json!({ "loadBalancer": { "ingress": [{ "ip": at }] } });
        tokyo.set_status("Service", NS, "balanced", &status);
    };
    ingress("203.0.113.1");
    slices_become(set, "balanced", &["gateway=true", "http=80"], &["203.0.113.1"]);
    ingress("203.0.113.2");
    slices_become(set, "balanced", &["gateway=true", "http=80"], &["203.0.113.2"]);
    // Behind it nothing is ready any more, and then again.
    let pod = portolan_tests::harness::kubernetes::pod(NS, "balanced", "balanced-1");
    tokyo.set_ready(&pod, &["10.2.0.1"], false);
    slices_become(set, "balanced", &["gateway=true", "http=80"], &[]);
    tokyo.set_ready(&pod, &["10.2.0.1"], true);
    slices_become(set, "balanced", &["gateway=true", "http=80"], &["203.0.113.2"]);
    let ips = texts(&imported(paris, NS, "balanced")["spec"]["ips"]);
    becomes("its own virtual IP is answered", &("NOERROR".to_owned(), ips), || {
        asked(paris, &format!("{} A", fqdn(NS, "balanced")))
    });
}

/// Node ports are at all nodes that are ready: by their external address where they have one.
fn by_node_ports(set: &Clusterset) {
    let (paris, tokyo) = (&set[0], &set[1]);
    let node = |name: &str, ready: &str| {
        let addresses = match name {
            "node-a" => json!([{ "type": "InternalIP", "address": "10.9.0.1" }]),
            _ => json!([
                { "type": "InternalIP", "address": "10.9.0.2" },
                { "type": "ExternalIP", "address": "198.51.100.2" },
            ]),
        };
        let conditions = json!([{ "type": "Ready", "status": ready }]);
        tokyo.set_status("Node", "", name, &json!({ "addresses": addresses, "conditions": conditions }));
    };
    node("node-a", "True");
    node("node-b", "True");
    export_web(tokyo, "ported", &json!({ "type": "NodePort" }), &json!({}));
    let spec = &tokyo.get("Service", NS, "ported").unwrap()["spec"];
    let port = format!("http={}", spec["ports"][0]["nodePort"]);
    let facts = ["gateway=true", &*port];
    slices_become(set, "ported", &facts, &["10.9.0.1", "198.51.100.2"]);
    node("node-a", "False");
    slices_become(set, "ported", &facts, &["198.51.100.2"]);
    // When all are lost it is their control plane that can't be reached: node ports go on working.
    node("node-b", "Unknown");
    slices_become(set, "ported", &facts, &["10.9.0.1", "198.51.100.2"]);
    node("node-a", "True");
    slices_become(set, "ported", &facts, &["10.9.0.1"]);
    imported(paris, NS, "ported");
}

/// Pods of a headless service can't be reached by any gateway: they are answered in their own network only.
fn headless(set: &Clusterset) {
    let (paris, tokyo) = (&set[0], &set[1]);
    let question = format!("{} A", fqdn(NS, "db"));
    tokyo.put(&headless_service(NS, "db"));
    tokyo.run_pod(NS, "db", "db-1", &["10.2.0.9"]);
    tokyo.put(&with(
        export(NS, "db"),
        json!({ "metadata": { "annotations": { "portolan.dev/gateway": "192.0.2.7" } } }),
    ));
    answer_becomes(tokyo, &question, &["10.2.0.9"]);
    imported(paris, NS, "db");
    assert_eq!(slices(paris, "db", "tokyo"), (vec![], vec![]));
    answer_becomes(paris, &question, &[]);
}

/// When the networks become one, pods are reached as they are; and no longer when they part again.
fn one_network(set: &Clusterset) {
    let (paris, question) = (&set[0], format!("{} A", fqdn(NS, "db")));
    let network =
        |name: Value| paris.patch("ClusterPeer", "", "tokyo", json!({ "spec": { "network": name } }));
    network(Value::Null);
    for name in ["balanced", "said", "plain"] {
        slices_become(set, name, &["http=8080", "no gateway"], &["10.2.0.1"]);
    }
    answer_becomes(paris, &question, &["10.2.0.9"]);
    network(json!("far"));
    slices_become(set, "said", &["gateway=true", "http=30080"], &["192.0.2.7", "2001:db8::7"]);
    slices_become(set, "plain", &[], &[]);
    answer_becomes(paris, &question, &[]);
}

/// Names of load balancers are resolved, by this controller's own hosts file; what a name was holds when it can't be
/// resolved any more, and that is said.
#[test]
fn host_names_of_gateways_are_resolved() {
    let clusters = Cluster::start_all(["paris", "tokyo"].map(Options::new).into());
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    // Absolute, for the names of gateways are.
    let write = |lines: &str| std::fs::write(&hosts, format!("127.0.0.1 localhost\n{lines}\n")).unwrap();
    write("198.51.100.7 lb.example.\n2001:db8::7 lb.example.\n198.51.100.9 old.example.");
    for cluster in &clusters {
        portolan_tests::harness::kubernetes::install(cluster);
        cluster.namespace(NS);
    }
    let (paris, tokyo) = (&clusters[0], &clusters[1]);
    let kubeconfig = std::fs::read_to_string(tokyo.kubeconfig(PEER)).unwrap();
    introduce(paris, "tokyo", &kubeconfig, &json!({ "network": "far" }));
    let controller = with_hosts(paris, paris.at(), &hosts.display().to_string());

    export_web(tokyo, "web", &json!({ "type": "LoadBalancer" }), &json!({}));
    tokyo.set_status(
        "Service",
        NS,
        "web",
        &json!({ "loadBalancer": { "ingress": [{ "hostname": "lb.example" }] } }),
    );
    let addresses = |name: &str| slices(paris, name, "tokyo").1;
    let both = ["tokyo 198.51.100.7", "tokyo 2001:db8::7"].map(str::to_owned).to_vec();
    becomes("the name's addresses", &both, || addresses("web"));

    export_web(tokyo, "api", &json!({}), &json!({ "portolan.dev/gateway": "nowhere.invalid, lb.example" }));
    becomes("those of names that can be resolved", &both, || addresses("api"));
    let problem = "host name nowhere.invalid of a gateway can't be resolved";
    until("the other one is named", || controller.log().contains(problem).then_some(()));
    until("people see it", || {
        let peer = paris.get("ClusterPeer", "", "tokyo")?;
        let message = condition(&peer, "Synced")?["message"].as_str()?.to_owned();
        message.contains(problem).then_some(())
    });

    // One moves, another can't be found any more: what it was holds.
    export_web(tokyo, "kept", &json!({}), &json!({ "portolan.dev/gateway": "old.example" }));
    let old = vec!["tokyo 198.51.100.9".to_owned()];
    becomes("the old name's address", &old, || addresses("kept"));
    write("198.51.100.8 lb.example.");
    let moved = vec!["tokyo 198.51.100.8".to_owned()];
    until_within(NOW_AND_THEN, "the name is resolved again", || (addresses("web") == moved).then_some(()));
    until("the old name's end is told", || {
        controller.log().contains("host name old.example of a gateway can't be resolved").then_some(())
    });
    assert_eq!(addresses("kept"), old);
}

/// A server that reads its own cluster alone answers the internet in a zone of its own: the gateways of all clusters, though
/// endpoints are on one network, as the copies tell of them; and pods virtual IPs as ever. One that moves is followed, one of a
/// cluster that is drained is left.
#[test]
fn the_internet_is_answered_gateways() {
    let policy = "policies: [{zone: global.example.com, spec: {answer: Gateways, ttlSeconds: 30}}]";
    let zones = "zones: [{origin: clusterset.local}, {origin: global.example.com}]";
    let sections = format!("{zones}\n{policy}");
    let set = Clusterset::start(&Plan { controller: sections.clone(), server: sections, ..Plan::new(2) });
    set.namespace(NS);
    let (paris, tokyo) = (&set[0], &set[1]);
    let at = |address: &str| json!({ "portolan.dev/gateway": address });
    export_web(paris, "web", &json!({}), &at("192.0.2.1"));
    export_web(tokyo, "web", &json!({}), &at("192.0.2.2"));
    let outside = || {
        let mut answer = paris.answer(&format!("web.{NS}.svc.global.example.com A"));
        answer.sort();
        answer
    };
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
    becomes("both gateways", &texts(&["192.0.2.1", "192.0.2.2"]), outside);
    let inside = paris.answer(&format!("{} A", fqdn(NS, "web")));
    assert!(inside.len() == 1 && !inside[0].starts_with("192.0.2."), "{inside:?}");
    export_web(tokyo, "web", &json!({}), &at("192.0.2.3"));
    becomes("it moved", &texts(&["192.0.2.1", "192.0.2.3"]), outside);
    let drained = json!({ "metadata": { "annotations": { "portolan.dev/state": "drain" } } });
    paris.patch("ClusterPeer", "", "tokyo", drained);
    becomes("the other one is drained", &texts(&["192.0.2.1"]), outside);
}

/// The controller of a cluster, with a hosts file of its own.
fn with_hosts(cluster: &Cluster, at: SocketAddr, hosts: &str) -> Server {
    let own = format!("kubernetes: {{kubeconfig: '{}'}}\n", cluster.kubeconfig_at(CONTROLLER, at).display());
    let mount = format!("mount --bind {hosts} /etc/hosts && exec \"$@\"");
    let alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", &mount, "sh"];
    let words: Vec<_> = DYING_WITH_US.into_iter().chain(alone).collect();
    Setup::new(&own).under(&words).for_command("controller").start()
}
