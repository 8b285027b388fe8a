//! What says where a service is reached from elsewhere, and what a controller's copies carry.

use portolan_zones::object::{Gateway, GatewayAt};

use super::*;

fn gateway_of_service(spec: Value, ingress: Value, names: &Names) -> Option<String> {
    let value = json!({"metadata": {"namespace": "n", "name": "s"}, "spec": spec, "status": {"loadBalancer": {"ingress": ingress}}});
    let service = service(&read(&value), names, &mut Interner::default(), &mut Refused::default());
    let Ok(Some(Object::Service(service))) = service else { panic!() };
    service.gateway.map(|gateway| gateway_text(&gateway))
}

/// `addresses :80` with the number that TCP port 80 has there.
fn gateway_text(gateway: &Gateway) -> String {
    let at = match &gateway.at {
        GatewayAt::Nodes(_) => "nodes".to_owned(),
        GatewayAt::Unresolved => "unresolved".to_owned(),
        GatewayAt::Shared(list) => {
            let at: Vec<_> = list.iter().map(ToString::to_string).collect();
            format!("shared {}", at.join(" "))
        }
        GatewayAt::Addresses(list) => list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    };
    format!("{at} :{}", gateway.port(Protocol::Tcp, 80).unwrap_or(0))
}

/// A load balancer goes before node ports, which count until it has an entrance: not while its name is unresolved, for cloud
/// providers close them.
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
        (ports(json!(30_080)), json!([{"hostname": "not-yet.example"}]), Some("unresolved :80")),
        (
            ports(json!(30_080)),
            json!([{"hostname": "not-yet.example"}, {"ip": "203.0.113.7"}]),
            Some("203.0.113.7 :80"),
        ),
        (ports(json!(30_080)), json!([{"hostname": "LB.example."}]), Some("203.0.113.9 :80")),
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
        match export(&read(&value), &Names::new(), &mut Interner::default(), &mut Refused::default()) {
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

/// What the cluster's controller says of the gateway that all share counts where the author says nothing: only the ports that
/// are listed. What is wrong with it takes nothing away from the export.
#[test]
fn an_export_may_share_a_gateway() {
    let names: Names = [("lb.example".into(), ["203.0.113.9".parse().unwrap()].into())].into();
    let of = |annotations: Value| {
        let value = json!({"metadata": {"namespace": "n", "name": "s", "annotations": annotations}});
        let mut refused = Refused::default();
        let export = export(&read(&value), &names, &mut Interner::default(), &mut refused).unwrap();
        let Object::Export(export) = export else { panic!() };
        (export.gateway.map(|gateway| gateway_text(&gateway)), refused.text().unwrap_or_default())
    };
    let at = |gateway: &str, ports: &str| {
        of(json!({"portolan.dev/shared-gateway": gateway, "portolan.dev/shared-gateway-ports": ports}))
    };
    let some = |text: &str| (Some(text.to_owned()), String::new());
    assert_eq!(at("203.0.113.7,lb.example", "80=20017"), some("shared 203.0.113.7 203.0.113.9 :20017"));
    assert_eq!(at("203.0.113.7", "443=20018"), some("shared 203.0.113.7 :0"), "this port is not there");
    assert_eq!(at("not-yet.example", "80=20017"), some("shared  :20017"));
    for (gateway, ports) in [("", "80=20017"), ("203.0.113.7", "")] {
        assert_eq!(at(gateway, ports), (None, String::new()));
    }
    assert_eq!(of(json!({"portolan.dev/shared-gateway": "203.0.113.7"})).0, None, "no ports are named");
    let (none, why) = at("203.0.113.7", "80=x");
    assert!(none.is_none() && why.contains("shared-gateway-ports]: `80=x`"), "{why}");
    let both = json!({
        "portolan.dev/gateway": "203.0.113.1",
        "portolan.dev/shared-gateway": "lb.example",
        "portolan.dev/shared-gateway-ports": "80=20017",
    });
    assert_eq!(of(both.clone()), some("203.0.113.1 :80"), "the author's word goes before");
    assert!(names_of_export(&read(&json!({"metadata": {"annotations": both}}))).is_empty());
    let shared = json!({"metadata": {"annotations": {"portolan.dev/shared-gateway": "lb.example"}}});
    assert_eq!(names_of_export(&read(&shared)), ["lb.example".into()]);
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

/// What a peer's objects say is looked up by us: only names that mean the same to everybody, and few of them.
#[test]
fn few_and_good_names_are_looked_up() {
    let of = |list: &str| {
        let value = json!({"metadata": {"namespace": "n", "name": "s", "annotations": {"portolan.dev/gateway": list}}});
        let mut refused = Refused::default();
        let gateway = match export(&read(&value), &Names::new(), &mut Interner::default(), &mut refused) {
            Ok(Object::Export(export)) => gateway_text(&export.gateway.unwrap()),
            other => panic!("{other:?}"),
        };
        (names_of_export(&read(&value)), gateway, refused.text().unwrap_or_default())
    };
    let (names, _, refused) = of("LB.Example., lb.example, a-1.b.xn--p1ai");
    assert_eq!((names, refused.as_str()), (vec!["lb.example".into(), "a-1.b.xn--p1ai".into()], ""));
    for bad in [
        "localhost",
        "web",
        "a.localhost",
        "host.localdomain",
        "web.shop.svc.clusterset.local",
        "web.shop.svc.global.example.com",
        "web.shop.svc",
        "kubernetes.default.svc.cluster.local",
        "x.cluster.local",
        "127.1",
        "0x7f.1",
        "1.0x7f",
        "a..b",
        "-a.example",
        "a b.example",
        "a_b.example",
        &format!("{}.example", "x".repeat(64)),
        &format!("{}example", "a.".repeat(130)),
    ] {
        let (names, gateway, refused) = of(&format!("{bad}, 203.0.113.7"));
        assert_eq!((names.len(), gateway.as_str()), (0, "203.0.113.7 :80"), "{bad}");
        assert!(refused.contains(bad) && refused.ends_with("this is left out, the rest counts"), "{refused}");
    }
    let many: Vec<String> = (0..10).map(|i| format!("lb-{i}.example")).collect();
    let (names, _, refused) = of(&many.join(","));
    assert_eq!(names.len(), 8);
    assert!(refused.contains("host names has 9 entries, allowed are 8, and 1 more"), "{refused}");
    let far_too_many = vec!["203.0.113.7"; 101].join(",");
    let value = json!({"metadata": {"namespace": "n", "name": "s", "annotations": {"portolan.dev/gateway": far_too_many}}});
    let error =
        export(&read(&value), &Names::new(), &mut Interner::default(), &mut Refused::default()).unwrap_err();
    assert!(error.to_string().contains("has 101 entries, allowed are 100"), "{error}");
}

/// Kubernetes refuses endpoints at such addresses (ValidateEndpointIP), and one of them would keep a whole copy from being
/// written: they are left out, one by one.
#[test]
fn addresses_that_no_endpoint_has_are_left_out() {
    let gateway = |address: &str| {
        let value = json!({"metadata": {"namespace": "n", "name": "s", "annotations": {"portolan.dev/gateway": address}}});
        let mut refused = Refused::default();
        let object = export(&read(&value), &Names::new(), &mut Interner::default(), &mut refused);
        let Ok(Object::Export(export)) = object else { panic!() };
        (export.gateway.unwrap().addresses().len(), refused.text().unwrap_or_default())
    };
    for bad in [
        "127.0.0.1",
        "0.0.0.0",
        "169.254.169.254",
        "224.0.0.251",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "ff02::1",
        "::ffff:127.0.0.1",
    ] {
        let family = if bad.contains(':') { "IPv6" } else { "IPv4" };
        let good = if bad.contains(':') { "2001:db8::1" } else { "10.0.0.1" };
        let value = json!({
            "metadata": {"namespace": "shop", "name": "x", "labels": own()},
            "addressType": family,
            "endpoints": [{"addresses": [bad]}, {"addresses": [good]}, {"addresses": [bad]}],
        });
        let mut refused = Refused::default();
        let object = slice(&read(&value), &mut Interner::default(), &mut refused).unwrap();
        let Some(Object::Slice(slice)) = object else { panic!() };
        let kept: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
        assert_eq!(kept, [good]);
        let text = refused.text().unwrap();
        assert!(text.starts_with("endpoints[0].addresses[0]: ") && text.contains("and 1 more"), "{text}");
        let (addresses, text) = gateway(bad);
        assert!(addresses == 0 && text.contains("can't be an endpoint's"), "{bad}: {text}");
    }
    for good in ["10.0.0.1", "203.0.113.7", "fd00::1", "2001:db8::1"] {
        assert_eq!(gateway(good), (1, String::new()));
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
        let Some(Object::Slice(slice)) =
            slice(&read(&value), &mut Interner::default(), &mut Refused::default()).unwrap()
        else {
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

/// A copy of our own controller tells where its cluster's gateway is: addresses, and all ports that are there. What is wrong
/// with that takes no endpoints away.
#[test]
fn copies_tell_where_their_gateway_is() {
    let of = |labels: Value, annotations: Value| {
        let value = json!({
            "metadata": {"namespace": "shop", "name": "x", "labels": labels, "annotations": annotations},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"]}],
        });
        let mut refused = Refused::default();
        let Some(Object::Slice(slice)) =
            slice(&read(&value), &mut Interner::default(), &mut refused).unwrap()
        else {
            panic!()
        };
        assert_eq!(slice.endpoints.len(), 1);
        let outside = slice.outside.map(|outside| {
            let port = |protocol, number| outside.port(protocol, number);
            let ports = [port(Protocol::Tcp, 80), port(Protocol::Udp, 53), port(Protocol::Tcp, 443)];
            (outside.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(" "), ports)
        });
        (outside, refused.text())
    };
    let copy = || {
        json!({
            "multicluster.kubernetes.io/service-name": "cart",
            "multicluster.kubernetes.io/source-cluster": "b",
            "endpointslice.kubernetes.io/managed-by": MANAGED_BY,
        })
    };
    let told =
        |at: &str, ports: &str| json!({"portolan.dev/gateway": at, "portolan.dev/gateway-ports": ports});
    for (at, ports, expected) in [
        ("203.0.113.7", "80=80", Some(("203.0.113.7", [Some(80), None, None]))),
        (
            "203.0.113.8, 203.0.113.7,2001:db8::1",
            "80=30080, 53/UDP=30053",
            Some(("203.0.113.7 203.0.113.8 2001:db8::1", [Some(30_080), Some(30_053), None])),
        ),
        ("", "80=80", None),
        ("203.0.113.7", "", None),
    ] {
        let expected = expected.map(|(at, ports)| (at.to_owned(), ports));
        assert_eq!(of(copy(), told(at, ports)), (expected, None), "{at} {ports}");
    }
    let (no_at, no_ports) =
        (json!({"portolan.dev/gateway-ports": "80=80"}), json!({"portolan.dev/gateway": "203.0.113.7"}));
    for annotations in [json!(null), no_at, no_ports] {
        assert_eq!(of(copy(), annotations), (None, None));
    }
    let many = |entry: &str, count: usize| vec![entry; count].join(",");
    for (at, ports, why) in [
        ("lb.example".to_owned(), "80=80".to_owned(), "`lb.example` is not an IP address"),
        ("203.0.113.7, 127.0.0.1".to_owned(), "80=80".to_owned(), "127.0.0.1 can't be an endpoint's"),
        ("203.0.113.7".to_owned(), "http=80".to_owned(), "`http=80` is not of the form"),
        (many("203.0.113.7", 101), "80=80".to_owned(), "has 101 entries, allowed are 100"),
        ("203.0.113.7".to_owned(), many("80=80", 1001), "has 1001 entries, allowed are 1000"),
    ] {
        let (outside, refused) = of(copy(), told(&at, &ports));
        assert!(outside.is_none() && refused.as_ref().is_some_and(|text| text.contains(why)), "{refused:?}");
    }
    let labelled = |key: &str, value: Value| {
        let mut labels = copy();
        labels[key] = value;
        labels
    };
    let others = [
        labelled("portolan.dev/gateway", json!("true")),
        labelled("endpointslice.kubernetes.io/managed-by", json!("lighthouse-agent.submariner.io")),
        labelled("endpointslice.kubernetes.io/managed-by", json!(null)),
        own(),
    ];
    for labels in others {
        assert_eq!(of(labels.clone(), told("203.0.113.7", "80=80")), (None, None), "{labels}");
    }
}
