//! Who is behind the gateway, where it is, and what peers are told of it.

use serde_json::json;

use super::*;

/// First what is remembered, last what peers are told; and then nothing more.
#[test]
fn an_export_without_a_gateway_gets_a_port_of_the_shared_one() {
    let mut cluster = Cluster::new(GatewayConfig { udp: true, ..GatewayConfig::default() });
    cluster.settle();
    cluster.export(
        "web",
        &json!([{ "port": 80 }, { "port": 53, "protocol": "UDP" }, { "port": 9, "protocol": "SCTP" }]),
    );
    let log = cluster.settle();
    assert_eq!(
        log,
        ["the memory of ports", "the configuration", "the Service's ports", "ServiceExport shop/web"]
    );
    let number = cluster.number("web").unwrap();
    let (at, ports) = cluster.told("web").unwrap();
    assert_eq!(at, "203.0.113.7,lb.example");
    assert!(ports.starts_with(&format!("80={number},53/UDP=")), "{ports}");
    let memory = &cluster.maps[crate::gateway::MEMORY];
    assert_eq!(memory[&format!("tcp-{number}")], "shop/web:80");
    assert!(cluster.haproxy().contains("server web web.shop.svc.cluster.local:80 "), "{}", cluster.haproxy());
    assert!(cluster.maps[crate::gateway::FILES]["nginx.conf"].contains("proxy_pass 10.96.0.9:53;"));
    assert_eq!((cluster.settle().len(), cluster.problems()), (0, String::new()));
    let status = cluster.keeper.status();
    assert_eq!((status.installed, status.ports), (true, 2));
}

/// HAProxy has no UDP: peers are not told of what nobody answers.
#[test]
fn udp_is_told_only_where_it_is_said_to_be_there() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    cluster.export("dns", &json!([{ "port": 53, "protocol": "UDP" }]));
    cluster.settle();
    assert_eq!(cluster.told("dns"), None);
}

/// A gateway of its own, the end of the export, and the end of the gateway: each takes it back.
#[test]
fn what_was_told_is_taken_back() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    let is = |kind: &str, ip: &str, node_port: u16| {
        let port = json!({ "port": 80, "nodePort": node_port });
        json!({ "type": kind, "clusterIP": ip, "ports": [port] })
    };
    let becomes = |spec: Value| move |cluster: &mut Cluster| cluster.service("web", &spec);
    let has_own = becomes(is("NodePort", "10.96.0.9", 30_080));
    let balanced = becomes(is("LoadBalancer", "10.96.0.9", 0));
    let headless = becomes(is("ClusterIP", "None", 0));
    let said = |cluster: &mut Cluster| {
        let mut export = cluster.get("web");
        export["metadata"]["annotations"]["portolan.dev/gateway"] = json!("192.0.2.1");
        cluster.put("ServiceExport", export);
    };
    type End<'a> = (&'a str, &'a dyn Fn(&mut Cluster));
    let ends: [End<'_>; 6] = [
        ("node ports", &has_own),
        ("a balancer that has no address yet", &balanced),
        ("pods of its own", &headless),
        ("its author's word", &said),
        ("no Service", &|cluster| cluster.remove("Service", "shop", "web")),
        ("no gateway", &|cluster| cluster.remove("Service", NS, SERVICE)),
    ];
    for (what, end) in ends {
        cluster.export("web", &http());
        cluster.install("LoadBalancer", &json!([{ "ip": "203.0.113.7" }]));
        cluster.settle();
        let number = cluster.number("web").unwrap_or_else(|| panic!("before {what}"));
        end(&mut cluster);
        cluster.settle();
        assert_eq!(cluster.told("web"), None, "{what}");
        if what != "no gateway" {
            assert!(!cluster.haproxy().contains(&format!("tcp-{number}")), "{what}");
        }
        assert_eq!((cluster.settle().len(), cluster.problems()), (0, String::new()), "{what}");
    }
    cluster.install("LoadBalancer", &json!([{ "ip": "203.0.113.7" }]));
    cluster.export("web", &http());
    cluster.settle();
    let number = cluster.number("web").unwrap();
    cluster.remove("ServiceExport", "shop", "web");
    cluster.settle();
    let freed = &cluster.maps[crate::gateway::MEMORY][&format!("tcp-{number}")];
    assert!(freed.starts_with("shop/web:80, free from "), "{freed}");
    cluster.config.enabled = false;
    cluster.export("web", &http());
    cluster.restart();
    assert!(cluster.settle().is_empty());
}

/// Without the Service nothing is set up and nothing said.
#[test]
fn nothing_happens_where_it_is_not_installed() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    cluster.remove("Service", NS, SERVICE);
    cluster.export("web", &http());
    assert_eq!((cluster.settle().len(), cluster.keeper.status()), (0, GatewayStatus::default()));
}

/// Ports are where nodes are; a load balancer has to have an address first.
#[test]
fn the_gateway_is_where_its_service_is() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    cluster.export("web", &http());
    cluster.install("LoadBalancer", &json!(null));
    cluster.settle();
    assert_eq!(cluster.told("web"), None);
    assert!(cluster.problems().contains("its load balancer has no address yet"), "{}", cluster.problems());
    cluster.install("NodePort", &json!(null));
    let node = |name: &str, at: &str, ready: &str| {
        json!({ "metadata": { "name": name }, "status": {
            "addresses": [{ "type": "InternalIP", "address": at }], "conditions": [{ "type": "Ready", "status": ready }] } })
    };
    cluster.put("Node", node("a", "10.0.0.1", "True"));
    cluster.put("Node", node("b", "10.0.0.2", "True"));
    cluster.put("Node", node("c", "10.0.0.3", "False"));
    cluster.settle();
    let (at, _) = cluster.told("web").unwrap();
    assert_eq!(at, "10.0.0.1,10.0.0.2");
    let number = cluster.number("web").unwrap();
    assert!(cluster.haproxy().contains(&format!("frontend tcp-{}\n", number - 10_000)), "{number}");
    cluster.put("Node", node("a", "10.0.0.1", "False"));
    cluster.settle();
    assert_eq!(cluster.told("web").unwrap().0, "10.0.0.2");
}

/// Each change of addresses is written into every export, and into every copy of it: a Node that flaps costs two, however long it
/// goes on, and however often the leader changes meanwhile.
#[test]
fn a_node_that_flaps_makes_no_storm() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    let names = ["a", "b", "c"];
    names.iter().for_each(|name| cluster.export(name, &http()));
    cluster.install("NodePort", &json!(null));
    let node = |name: &str, at: &str, ready: &str| {
        json!({ "metadata": { "name": name }, "status": {
            "addresses": [{ "type": "InternalIP", "address": at }], "conditions": [{ "type": "Ready", "status": ready }] } })
    };
    cluster.put("Node", node("a", "10.0.0.1", "True"));
    cluster.put("Node", node("b", "10.0.0.2", "True"));
    cluster.settle();
    let mut writes = 0;
    for _ in 0..20 {
        for ready in ["False", "True"] {
            cluster.now += 40;
            cluster.put("Node", node("a", "10.0.0.1", ready));
            writes += cluster.settle().len();
        }
    }
    assert_eq!((writes, cluster.told("a").unwrap().0.as_str()), (names.len(), "10.0.0.2"));
    assert_eq!(cluster.keeper.wake(), Some(cluster.now + 300));
    cluster.now += 300;
    assert_eq!(cluster.settle().len(), names.len());
    assert_eq!((cluster.told("c").unwrap().0.as_str(), cluster.keeper.wake()), ("10.0.0.1,10.0.0.2", None));
    // More Nodes than are told of: another leader tells of the same.
    (10..30).for_each(|n| cluster.put("Node", node(&format!("n{n}"), &format!("10.0.1.{n}"), "True")));
    cluster.settle();
    let before = cluster.told("a");
    (1..9).for_each(|n| cluster.put("Node", node(&format!("m{n}"), &format!("10.0.0.10{n}"), "True")));
    cluster.restart();
    assert_eq!((cluster.settle(), cluster.told("a")), (vec!["the configuration".to_owned()], before));
}

/// A node without IPv6 has no `[::]`, and neither program would start there.
#[test]
fn it_listens_at_what_the_service_has() {
    let families = |families: &[&str]| {
        json!({ "metadata": { "namespace": NS, "name": SERVICE, "uid": "gw" },
            "spec": { "type": "NodePort", "ipFamilies": families, "ports": [{ "name": "health", "port": 8405 }] } })
    };
    let all = ("bind :::8405 v4v6\n", "listen [::]:8405 ipv6only=off;");
    let configured = Some("192.0.2.1".parse().unwrap());
    for (service, bind, (haproxy, nginx)) in [
        (families(&[]), None, all),
        (families(&["IPv4"]), None, ("bind 0.0.0.0:8405\n", "listen 0.0.0.0:8405;")),
        (families(&["IPv6"]), None, all),
        (families(&["IPv4", "IPv6"]), None, all),
        (families(&["IPv4"]), configured, ("bind 192.0.2.1:8405\n", "listen 192.0.2.1:8405;")),
    ] {
        let mut cluster = Cluster::new(GatewayConfig { bind, ..GatewayConfig::default() });
        cluster.put("Service", service);
        cluster.settle();
        let files = &cluster.maps[crate::gateway::FILES];
        assert!(files["haproxy.cfg"].contains(haproxy), "{}", files["haproxy.cfg"]);
        assert!(files["nginx.conf"].contains(nginx), "{}", files["nginx.conf"]);
    }
}

/// Whatever somebody else wrote there stays, and is told.
#[test]
fn words_of_others_are_left_alone() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    cluster.export("web", &http());
    let mut export = cluster.get("web");
    export["metadata"]["annotations"] = json!({ "portolan.dev/shared-gateway": "192.0.2.66" });
    cluster.put("ServiceExport", export.clone());
    cluster.export("api", &http());
    cluster.settle();
    assert_eq!(cluster.get("web"), export);
    assert!(cluster.problems().contains("what ServiceExport shop/web says of it"), "{}", cluster.problems());
    assert!(cluster.number("api").is_some(), "the others are told");
}

/// Field managers are names that anybody may give himself: what was not applied is not ours, and what is restored is no more
/// than the service may have anyway.
#[test]
fn words_under_our_name_give_nobody_more_than_is_due() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    cluster.export("web", &http());
    cluster.settle();
    let number = cluster.number("web").unwrap();
    let words = |operation: &str, ports: &str| {
        json!({ "metadata": { "namespace": "shop", "name": "eve",
            "annotations": { "portolan.dev/shared-gateway": "203.0.113.7", "portolan.dev/shared-gateway-ports": ports },
            "managedFields": [{ "manager": WRITER, "operation": operation }] } })
    };
    cluster.export("eve", &http());
    cluster.put("ServiceExport", words("Update", "80=20007"));
    let before = cluster.get("eve");
    cluster.settle();
    assert_eq!(cluster.get("eve"), before, "not ours");
    let ports: Vec<_> = (1..100).map(|n| format!("{n}={}", 20_100 + n)).collect();
    cluster.put("ServiceExport", words("Apply", &format!("{},81={number},80=22", ports.join(","))));
    cluster.maps.clear();
    cluster.restart();
    cluster.settle();
    assert_eq!((cluster.number("web"), cluster.number("eve")), (Some(number), Some(20_180)));
    let memory = &cluster.maps[crate::gateway::MEMORY];
    assert_eq!(memory.len(), 2, "{memory:?}");
}
