//! The shared gateway of a cluster, from an export that has no other to the peer's copies of it.

use std::process::Command;

use portolan_tests::harness::kubernetes::{
    ADMIN_USER, Cluster, Clusterset, Options, Plan, SYSTEM, condition, export, service, with,
};
use portolan_tests::harness::{becomes, portolan, repository, run, until};
use serde_json::{Value, json};

use crate::steps::{endpoints, imported, mirrored};

const NS: &str = "shop";
const GATEWAY: &str = "portolan-gateway";
const MEMORY: &str = "portolan-gateway-ports";
/// Who leads gives up fast, and is followed fast.
const LEASE: &str = "controller: {lease: {duration: 3s, renew: 2s, retry: 500ms}}";

/// What an operator applies, and what the cloud makes of it.
pub(crate) fn install_gateway(cluster: &Cluster, at: &str) {
    cluster.apply(&std::fs::read_to_string(repository().join("deploy/gateway/service.yaml")).unwrap());
    let status = json!({ "loadBalancer": { "ingress": [{ "ip": at }] } });
    cluster.set_status("Service", SYSTEM, GATEWAY, &status);
}

/// An exported service with a pod.
fn export_web(cluster: &Cluster, name: &str) {
    cluster.put(&service(NS, name));
    cluster.run_pod(NS, name, &format!("{name}-1"), &["10.2.0.1"]);
    cluster.put(&export(NS, name));
}

/// Where Paris reaches Tokyo's service: addresses, and the number of port `http`.
fn reached(set: &Clusterset, name: &str) -> Option<(Vec<String>, u64)> {
    let slices = mirrored(&set[0], NS, name).into_iter();
    let slices: Vec<_> = slices
        .filter(|slice| slice["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"] == "tokyo")
        .collect();
    let port = slices.first()?["ports"][0]["port"].as_u64()?;
    Some((endpoints(&slices).into_iter().collect(), port))
}

/// What an export says of the shared gateway.
fn told(cluster: &Cluster, name: &str) -> Option<(String, String)> {
    let export = cluster.get("ServiceExport", NS, name)?;
    let text = |key: &str| {
        Some(export["metadata"]["annotations"][format!("portolan.dev/{key}")].as_str()?.to_owned())
    };
    Some((text("shared-gateway")?, text("shared-gateway-ports")?))
}

/// Names of the gateway's ports.
fn ports(cluster: &Cluster) -> Vec<String> {
    let service = cluster.get("Service", SYSTEM, GATEWAY).unwrap();
    let ports = service["spec"]["ports"].as_array().unwrap().iter();
    ports.map(|port| port["name"].as_str().unwrap().to_owned()).collect()
}

fn memory(cluster: &Cluster, key: &str) -> Option<String> {
    let map = cluster.get("ConfigMap", SYSTEM, MEMORY)?;
    map["data"][key].as_str().map(str::to_owned)
}

fn annotate(cluster: &Cluster, name: &str, annotations: &Value) {
    cluster.patch("ServiceExport", NS, name, json!({ "metadata": { "annotations": annotations } }));
}

/// design.md §3, "Reachability": an export that has neither a gateway of its own nor a load balancer nor node ports is reached at
/// the gateway that its cluster shares, at a port that stays.
#[test]
fn exports_share_a_gateway() {
    let plan = Plan { peer: json!({ "network": "far" }), controller: LEASE.into(), ..Plan::new(2) };
    let mut set = Clusterset::start(&plan);
    set.namespace(NS);
    export_web(&set[1], "web");
    imported(&set[0], NS, "web");
    assert_eq!((reached(&set, "web"), told(&set[1], "web")), (None, None));
    assert_eq!(set[1].controller.status()["controller"]["gateway"]["installed"], false);

    install_gateway(&set[1], "203.0.113.7");
    let ((at, number), _) = until("the export says where", || {
        let (at, ports) = told(&set[1], "web")?;
        Some((at, ports.strip_prefix("80=")?.parse::<u64>().ok()?))
    });
    assert_eq!(at, "203.0.113.7");
    let there = Some((vec!["tokyo 203.0.113.7".to_owned()], number));
    becomes("the way from Paris", &there, || reached(&set, "web"));
    assert_eq!(ports(&set[1]), ["health".to_owned(), format!("p-{number}")]);
    let files = set[1].get("ConfigMap", SYSTEM, GATEWAY).unwrap();
    let haproxy = files["data"]["haproxy.cfg"].as_str().unwrap();
    assert!(haproxy.contains(&format!("frontend tcp-{number}\n")), "{haproxy}");
    assert!(haproxy.contains("server web web.shop.svc.cluster.local:80 "), "{haproxy}");
    let kubeconfig = set[1].kubeconfig(ADMIN_USER);
    let mut printed = Command::new(portolan());
    let (good, text) = run(printed.arg("gateway").arg("--kubeconfig").arg(kubeconfig));
    assert_eq!((good, &*text), (true, haproxy), "what anybody prints is what the controller wrote");
    let key = format!("tcp-{number}");
    assert_eq!(memory(&set[1], &key).as_deref(), Some("shop/web:80"));
    assert!(condition(&set[1].get("ServiceExport", NS, "web").unwrap(), "Valid").is_some());

    // Another process, and a configuration that somebody deleted.
    set[1].controller.kill();
    assert!(set[1].delete("ConfigMap", SYSTEM, GATEWAY));
    set[1].controller.start_again();
    until("the configuration is there again", || set[1].get("ConfigMap", SYSTEM, GATEWAY));
    export_web(&set[1], "api");
    until("a second one is told", || told(&set[1], "api"));
    assert_eq!(told(&set[1], "web").unwrap().1, format!("80={number}"));
    assert_eq!(reached(&set, "web"), there);

    // What the author says goes before; and after it the port is the same.
    annotate(&set[1], "web", &json!({ "portolan.dev/gateway": "192.0.2.9" }));
    becomes("the author's gateway", &Some((vec!["tokyo 192.0.2.9".to_owned()], 80)), || reached(&set, "web"));
    becomes("what was told is taken back", &None, || told(&set[1], "web"));
    until("it rests", || memory(&set[1], &key).filter(|text| text.starts_with("shop/web:80, free from ")));
    annotate(&set[1], "web", &json!({ "portolan.dev/gateway": null }));
    becomes("the shared one again", &there, || reached(&set, "web"));

    // Somebody else's word stays, and is told.
    let said = json!({ "metadata": { "annotations": { "portolan.dev/shared-gateway": "192.0.2.66" } } });
    set[1].put(&service(NS, "said"));
    set[1].put(&with(export(NS, "said"), said));
    until("people are told", || {
        let status = set[1].controller.status();
        let problems = status["controller"]["problems"].to_string();
        problems.contains("what ServiceExport shop/said says of it was not written by Portolan").then_some(())
    });

    assert!(set[1].delete("ServiceExport", NS, "web"));
    until("its port is gone", || (!ports(&set[1]).contains(&format!("p-{number}"))).then_some(()));
    until("it rests", || memory(&set[1], &key).filter(|text| text.starts_with("shop/web:80, free from ")));
    assert!(set[1].delete("Service", SYSTEM, GATEWAY));
    becomes("nothing is told without a gateway", &None, || told(&set[1], "api"));
}

/// `--service-node-port-range`: a cluster has so many node ports, and the API server refuses a Service as a whole that needs more. As
/// many exports as there are ports for are told; the others are named, and get one when one is free.
#[test]
fn a_cluster_without_enough_node_ports_tells_as_many_as_it_has() {
    let arguments = vec!["--service-node-port-range=30000-30005".to_owned()];
    let clusters = Cluster::start_all(vec![Options { arguments, ..Options::new("oslo") }]);
    let set = Clusterset::over(clusters, &Plan { ids: vec!["oslo"], ..Plan::new(1) });
    let oslo = &set[0];
    set.namespace(NS);
    install_gateway(oslo, "203.0.113.7");
    let names: Vec<String> = (0..9).map(|n| format!("web{n}")).collect();
    for name in &names {
        oslo.put(&service(NS, name));
        oslo.put(&export(NS, name));
    }
    // The gateway's own port, for its health, has one of the six.
    let have = || names.iter().filter(|name| told(oslo, name).is_some()).cloned().collect::<Vec<_>>();
    becomes("as many as there are node ports", &5, || have().len());
    let first = have();
    let gateway = || oslo.controller.status()["controller"]["gateway"].clone();
    becomes("the others are counted", &json!(4), || gateway()["refused"].clone());
    let problems = oslo.controller.status()["controller"]["problems"].to_string();
    for name in names.iter().filter(|name| !first.contains(name)) {
        assert!(
            problems.contains(&format!("{NS}/{name}:80/TCP: the Service {GATEWAY} takes no more ports")),
            "{problems}"
        );
    }
    assert!(oslo.delete("ServiceExport", NS, &first[0]));
    until("another one has it", || (have().len() == 5 && !have().contains(&first[0])).then_some(()));
    becomes("fewer are counted", &json!(3), || gateway()["refused"].clone());
}
