//! What says where a service is reached from elsewhere, and what a controller's copies carry.

use portolan_zones::object::{Gateway, GatewayAt};

use super::*;

fn gateway_of_service(spec: Value, ingress: Value, names: &Names) -> Option<String> {
    let value = json!({"metadata": {"namespace": "n", "name": "s"}, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}}});
    let Object::Service(service) = service(&read(&value), names, &mut Interner::default()).unwrap() else {
        panic!()
    };
    service.gateway.map(|gateway| gateway_text(&gateway))
}

/// `addresses :80` with the number that TCP port 80 has there.
fn gateway_text(gateway: &Gateway) -> String {
    let at = match &gateway.at {
        GatewayAt::Nodes(_) => "nodes".to_owned(),
        GatewayAt::Unresolved => "unresolved".to_owned(),
        GatewayAt::Addresses(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    format!("{at} :{}", gateway.port(Protocol::Tcp, 80).unwrap())
}

/// A load balancer goes before node ports; until it has an address the node ports that it comes with count.
#[test]
fn a_services_gateway_is_its_balancer_or_its_node_ports() {
    let names: Names = [("lb.example".into(), ["203.0.113.9".parse().unwrap()].into())].into();
    let ports =
        |node_port: Value| json!({"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": node_port}]});
    for (spec, ingress, expected) in [
        (ports(json!(null)), json!(null), None),
        (ports(json!(0)), json!([]), None),
        (ports(json!(30_080)), json!(null), Some("nodes :30080")),
        (ports(json!(30_080)), json!([{"ip": "203.0.113.7"}]), Some("203.0.113.7 :80")),
        (
            ports(json!(30_080)),
            json!([{"ip": "203.0.113.7", "hostname": "x"}, {"ip": "2001:db8::7"}]),
            Some("203.0.113.7 2001:db8::7 :80"),
        ),
        (ports(json!(null)), json!([{"hostname": "lb.example"}]), Some("203.0.113.9 :80")),
        (ports(json!(30_080)), json!([{"hostname": "not-yet.example"}]), Some("nodes :30080")),
    ] {
        assert_eq!(
            gateway_of_service(spec.clone(), ingress.clone(), &names).as_deref(),
            expected,
            "{spec} {ingress}"
        );
    }
    let value =
        json!({"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}, {"ip": "203.0.113.7"}]}}});
    assert_eq!(names_of_service(&read(&value)), ["lb.example".into()]);
}

/// What the author of an export says goes before what its Service has.
#[test]
fn an_exports_gateway_is_what_its_author_says() {
    let of = |annotations: Value| {
        let value = json!({"metadata": {"namespace": "n", "name": "s", "annotations": annotations}});
        match export(&read(&value), &Names::new(), &mut Interner::default()) {
            Ok(Object::Export(export)) => Ok(export.gateway.map(|gateway| gateway_text(&gateway))),
            other => Err(other.unwrap_err().to_string()),
        }
    };
    let at = |gateway: &str, ports: &str| {
        of(json!({"portolan.dev/gateway": gateway, "portolan.dev/gateway-ports": ports}))
    };
    let some = |text: &str| Ok(Some(text.to_owned()));
    assert_eq!(of(json!(null)), Ok(None));
    assert_eq!(of(json!({"portolan.dev/gateway-ports": "80=1"})), Ok(None), "ports of nothing");
    assert_eq!(at("203.0.113.8, 203.0.113.7,", ""), some("203.0.113.7 203.0.113.8 :80"));
    assert_eq!(at("203.0.113.7", "443=8443, 80 = 8080"), some("203.0.113.7 :8080"));
    assert_eq!(at("203.0.113.7", "80/UDP=8080"), some("203.0.113.7 :80"), "another port");
    for bad in ["80", "80=", "80=x", "0=80", "80=65536", "http=80"] {
        let error = at("203.0.113.7", bad).unwrap_err();
        assert!(error.contains("gateway-ports]: `") && error.contains("80=30080"), "{error}");
    }
    assert!(at("203.0.113.7", "80/tcp=1").unwrap_err().contains("`tcp` is not one of"));
    let value = json!({"metadata": {"annotations": {"portolan.dev/gateway": "gw.example, 203.0.113.7"}}});
    assert_eq!(names_of_export(&read(&value)), ["gw.example".into()]);
}

/// Node ports are reached at nodes that take traffic from outside: by external addresses where there are any. Those that are
/// not ready are told apart, for the table to judge.
#[test]
fn nodes_are_entrances_while_they_take_traffic() {
    let internal = json!({"type": "InternalIP", "address": "10.0.0.1"});
    let external = json!({"type": "ExternalIP", "address": "203.0.113.1"});
    let excluded = json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""});
    let ready = |status: &str| json!([{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": status}]);
    for (labels, conditions, addresses, expected) in [
        (json!(null), json!(null), json!([internal]), vec!["10.0.0.1"]),
        (json!({}), ready("True"), json!([internal, external]), vec!["203.0.113.1"]),
        (json!({}), ready("False"), json!([internal, external]), vec!["203.0.113.1"]),
        (json!({}), ready("Unknown"), json!([internal]), vec!["10.0.0.1"]),
        (excluded, ready("True"), json!([internal]), vec![]),
    ] {
        let value = json!({"metadata": {"name": "n1", "labels": labels}, "status": {"conditions": conditions, "addresses": addresses}});
        let Object::Node(node) = node(&read(&value), &mut Interner::default()).unwrap() else { panic!() };
        let entrances: Vec<_> = node.entrances.iter().map(ToString::to_string).collect();
        assert_eq!(entrances, expected, "{value}");
        let not_ready = ["False", "Unknown"].map(ready).contains(&value["status"]["conditions"]);
        assert_eq!(node.ready, !not_ready, "{value}");
    }
}

/// Who exports it, as its writer last knew: what a controller starts from while other clusters can't be reached.
#[test]
fn imports_hold_the_clusters_behind_them() {
    let of = |clusters: Value| {
        let value = json!({"metadata": {"namespace": "n", "name": "s"}, "status": {"clusters": clusters}});
        match import(&read(&value), &mut Interner::default()) {
            Ok(Object::Import(import)) => {
                Ok(import.clusters.iter().map(ToString::to_string).collect::<Vec<_>>())
            }
            other => Err(other.unwrap_err().to_string()),
        }
    };
    assert_eq!(of(json!(null)).unwrap(), [""; 0]);
    assert_eq!(of(json!([{"cluster": "b"}, {"cluster": "a.x"}, {"cluster": "b"}])).unwrap(), ["a.x", "b"]);
    assert!(
        of(json!([{"cluster": "b"}, {}])).unwrap_err().starts_with("status.clusters[1].cluster is missing")
    );
    assert!(of(json!([{"cluster": "B"}])).unwrap_err().starts_with("status.clusters[0].cluster: `B`"));
}

/// KEP-1645: all clusters "program the same subset": a copy tells pods apart as its original does.
#[test]
fn copies_tell_pods_apart_as_their_originals() {
    let of = |labels: Value, identities: &str| {
        let value = json!({
            "metadata": {"namespace": "shop", "name": "x", "labels": labels, "annotations": {"portolan.dev/identities": identities}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}],
        });
        let Some(Object::Slice(slice)) = slice(&read(&value), &mut Interner::default()).unwrap() else {
            panic!()
        };
        slice.endpoints.iter().map(|endpoint| endpoint.identity).collect::<Vec<_>>()
    };
    let copy = || json!({"multicluster.kubernetes.io/service-name": "cart", "multicluster.kubernetes.io/source-cluster": "b"});
    assert_eq!(of(copy(), "a1,ffffffff"), [0xa1, u32::MAX]);
    let by_address = of(copy(), "");
    for (labels, identities) in [(copy(), "a1"), (copy(), "a1,x"), (copy(), "a1,a2,a3"), (own(), "a1,a2")] {
        assert_eq!(of(labels, identities), by_address, "{identities}: not about these endpoints");
    }
}

/// A copy of a gateway's addresses is told apart from a copy of endpoints; the cluster's own slices are never gateways.
#[test]
fn copies_may_hold_gateways() {
    let gateway = |labels: Value| slice_of(labels, "IPv4", json!([]), json!([])).unwrap().unwrap().gateway;
    let mut copy = json!({"multicluster.kubernetes.io/service-name": "cart", "multicluster.kubernetes.io/source-cluster": "b"});
    assert!(!gateway(copy.clone()));
    copy["portolan.dev/gateway"] = json!("true");
    assert!(gateway(copy));
    let mut mine = own();
    mine["portolan.dev/gateway"] = json!("true");
    assert!(!gateway(mine));
}
