//! What is written, object by object.

use serde_json::{Value, json};

use super::*;

const DERIVED: &str = "derived-";

fn derived(home: &Home) -> String {
    home.names("Service").into_iter().find(|name| name.starts_with(DERIVED)).unwrap()
}

/// The whole of a ClusterSetIP service: KEP-1645, "ServiceImport", "Using EndpointSlice objects"; conformance rows 12, 16-21.
#[test]
fn an_exported_service_becomes_an_import_with_an_address_and_slices() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    let log = home.settle();
    let (name, uid) = (derived(&home), home.uid("ServiceImport", "web"));
    let slices = home.names("EndpointSlice");
    assert_eq!(
        log,
        [
            "apply ServiceImport shop/web".to_owned(),
            format!("apply Service shop/{name}"),
            "apply ServiceImport shop/web".to_owned(),
            format!("apply EndpointSlice shop/{}", slices[0]),
            format!("apply EndpointSlice shop/{}", slices[1]),
            "apply ServiceImport shop/web (status)".to_owned(),
            "apply ServiceExport shop/web (status)".to_owned(),
        ]
    );
    let import = home.get("ServiceImport", "web").unwrap();
    let applied = import["metadata"]["annotations"]["portolan.dev/applied"].clone();
    let vip = home.get("Service", &name).unwrap()["spec"]["clusterIPs"][0].clone();
    assert_eq!(
        import,
        json!({
            "apiVersion": "multicluster.x-k8s.io/v1beta1",
            "kind": "ServiceImport",
            "metadata": {
                "namespace": "shop",
                "name": "web",
                "labels": { "portolan.dev/managed": "true" },
                "annotations": {
                    "multicluster.kubernetes.io/derived-service": name,
                    "portolan.dev/applied": applied,
                },
            },
            "spec": {
                "type": "ClusterSetIP",
                "ports": [{ "name": "http", "protocol": "TCP", "port": 80 }],
                "ips": [vip],
                "ipFamilies": ["IPv4"],
                "sessionAffinity": "None",
                "internalTrafficPolicy": "Cluster",
            },
            "status": {
                "clusters": [{ "cluster": "east" }, { "cluster": "west" }],
                "conditions": [{
                    "type": "Ready",
                    "status": "True",
                    "reason": "Ready",
                    "message": "the service can be used",
                    "lastTransitionTime": "2026-09-21T14:13:20Z",
                }],
            },
        })
    );
    let owner = json!({
        "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport", "name": "web", "uid": uid,
        "controller": false,
    });
    let mut service = home.get("Service", &name).unwrap();
    service["spec"].as_object_mut().unwrap().remove("clusterIPs");
    assert_eq!(
        service,
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "namespace": "shop",
                "name": name,
                "labels": {
                    "portolan.dev/managed": "true",
                    "multicluster.kubernetes.io/service-name": "web",
                },
                "ownerReferences": [owner],
            },
            "spec": {
                "type": "ClusterIP",
                "ipFamilyPolicy": "SingleStack",
                "ipFamilies": ["IPv4"],
                "ports": [{ "name": "http", "protocol": "TCP", "port": 80 }],
                "sessionAffinity": "None",
                "internalTrafficPolicy": "Cluster",
            },
            "status": null,
        })
    );
    let west = slices.iter().map(|name| home.get("EndpointSlice", name).unwrap());
    let west = west.into_iter().find(|s| s["endpoints"][0]["addresses"][0] == "10.2.0.1").unwrap();
    assert_eq!(
        west,
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "namespace": "shop",
                "name": west["metadata"]["name"],
                "labels": {
                    "portolan.dev/managed": "true",
                    "endpointslice.kubernetes.io/managed-by": "controller.portolan.dev",
                    "multicluster.kubernetes.io/service-name": "web",
                    "multicluster.kubernetes.io/source-cluster": "west",
                    "kubernetes.io/service-name": name,
                },
                "ownerReferences": [owner],
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }],
            "endpoints": [{
                "addresses": ["10.2.0.1"],
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "hostname": "web-0",
                "nodeName": "node-1",
                "zone": "az-1",
            }],
            "status": null,
        })
    );
    for (condition, expected) in
        [("Valid", "True/Valid"), ("Ready", "True/Ready"), ("Conflict", "False/NoConflicts")]
    {
        assert_eq!(home.condition("ServiceExport", condition).unwrap().0, expected);
    }
}

/// KEP-1645: a headless service has no clusterset IP (conformance rows 24 and 25); its slices say who is who.
#[test]
fn a_headless_service_has_slices_and_no_address() {
    let mut home = two_clusters(ServiceKind::Headless);
    home.settle();
    let import = home.get("ServiceImport", "web").unwrap();
    assert_eq!((&import["spec"]["type"], &import["spec"]["ips"]), (&json!("Headless"), &json!(null)));
    assert_eq!(home.names("Service"), ["web"], "nothing is derived");
    for name in home.names("EndpointSlice") {
        let slice = home.get("EndpointSlice", &name).unwrap();
        assert_eq!(slice["metadata"]["annotations"], json!({ "portolan.dev/identities": "a" }));
        assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], json!(null));
    }
    assert_eq!(home.condition("ServiceImport", "Ready").unwrap().0, "True/Ready");
}

/// KEP-1645: only exportedLabels and exportedAnnotations go along. Those that would make the import somebody else's, or
/// that the API server would refuse, don't.
#[test]
fn exported_metadata_is_taken_along_and_taken_back() {
    let mut home = two_clusters(ServiceKind::Headless);
    let pairs = |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let export = |labels: &[(&str, &str)], annotations: &[(&str, &str)]| {
        let exported = Exported { labels: pairs(labels), annotations: pairs(annotations) };
        let export =
            Export { name: web(), created: 100, exported: Some(exported.into()), gateway: None, state: None };
        says("east", Object::Export(export))
    };
    home.tell([export(
        &[("team", "shop"), ("app.kubernetes.io/managed-by", "helm"), ("bad key", "x"), ("bad", "v v")],
        &[("note", "any text, at all"), ("multicluster.kubernetes.io/derived-service", "evil")],
    )]);
    home.settle();
    let metadata = |home: &Home| home.get("ServiceImport", "web").unwrap()["metadata"].clone();
    assert_eq!(metadata(&home)["labels"], json!({ "portolan.dev/managed": "true", "team": "shop" }));
    assert_eq!(metadata(&home)["annotations"]["note"], "any text, at all");
    assert_eq!(metadata(&home)["annotations"]["multicluster.kubernetes.io/derived-service"], json!(null));
    home.tell([export(&[], &[])]);
    assert_eq!(home.settle()[0], "apply ServiceImport shop/web");
    assert_eq!(metadata(&home)["labels"], json!({ "portolan.dev/managed": "true" }));
}

/// The addresses are in the order of the service's families, whichever the cluster prefers (conformance row 20).
#[test]
fn addresses_follow_the_families_of_the_service() {
    use IpFamily::{V4, V6};
    // What the service wants, what the cluster has, what is given, whether the import is ready.
    type Case = (&'static [IpFamily], &'static [&'static str], &'static [&'static str], &'static str);
    let cases: [Case; 7] = [
        (&[V4], &["IPv4", "IPv6"], &["IPv4"], "True/Ready"),
        (&[V6], &["IPv4", "IPv6"], &["IPv6"], "True/Ready"),
        (&[V4, V6], &["IPv4", "IPv6"], &["IPv4", "IPv6"], "True/Ready"),
        (&[V6, V4], &["IPv4", "IPv6"], &["IPv6", "IPv4"], "True/Ready"),
        (&[V6, V4], &["IPv4"], &["IPv4"], "True/Ready"),
        (&[V6], &["IPv4"], &[], "False/IPFamilyNotSupported"),
        (&[], &["IPv4"], &["IPv4"], "True/Ready"),
    ];
    for (wanted, has, given, ready) in cases {
        let mut home = two_clusters(ServiceKind::ClusterIp);
        home.families = has.to_vec();
        let spec = || ServiceSpec { ip_families: wanted.iter().copied().collect(), ..spec() };
        home.tell(exports("east", 100, ServiceKind::ClusterIp, spec()));
        home.tell(exports("west", 200, ServiceKind::ClusterIp, spec()));
        home.settle();
        let import = home.get("ServiceImport", "web").unwrap();
        let list = import["spec"]["ips"].as_array().cloned().unwrap_or_default();
        let families = list.iter().map(|ip| if ip.as_str().unwrap().contains(':') { "IPv6" } else { "IPv4" });
        assert_eq!(families.collect::<Vec<_>>(), given, "{wanted:?} of {has:?}");
        if !given.is_empty() {
            assert_eq!(import["spec"]["ipFamilies"], json!(given), "{wanted:?} of {has:?}");
        }
        assert_eq!(home.condition("ServiceImport", "Ready").unwrap().0, ready, "{wanted:?} of {has:?}");
    }
}

/// An address stays for the life of the import, whatever becomes of the families.
#[test]
fn a_family_that_is_added_leaves_the_address_as_it_is() {
    use IpFamily::{V4, V6};
    let mut home = two_clusters(ServiceKind::ClusterIp);
    let mut ips = Vec::new();
    for families in [&[V4][..], &[V4, V6], &[V6, V4], &[V6], &[V4]] {
        for (cluster, created) in [("east", 100), ("west", 200)] {
            let spec = ServiceSpec { ip_families: families.iter().copied().collect(), ..spec() };
            home.tell(exports(cluster, created, ServiceKind::ClusterIp, spec));
        }
        home.settle();
        let import = home.get("ServiceImport", "web").unwrap();
        let list: Vec<String> = serde_json::from_value(import["spec"]["ips"].clone()).unwrap();
        ips.push(list);
    }
    let (v4, v6) = (ips[0][0].clone(), ips[1][1].clone());
    assert_eq!(
        ips,
        [vec![v4.clone()], vec![v4.clone(), v6.clone()], vec![v6.clone(), v4.clone()], vec![v6], vec![v4]]
    );
}

/// "An exhausted range reported": on the import and on the export, in words that say what to do.
#[test]
fn an_exhausted_range_is_told_and_endpoints_go_on() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.full = true;
    home.settle();
    let (ready, message) = home.condition("ServiceImport", "Ready").unwrap();
    assert_eq!(ready, "False/Pending");
    assert!(message.contains("exhausted") && message.contains("ServiceCIDR"), "{message}");
    let (ready, message) = home.condition("ServiceExport", "Ready").unwrap();
    assert!(ready == "True/Ready" && message.contains("exhausted"), "others can use it: {ready} {message}");
    assert_eq!(home.mirrored().len(), 2);
    home.full = false;
    home.settle();
    assert_eq!(home.condition("ServiceImport", "Ready").unwrap().0, "True/Ready");
    assert_eq!(home.condition("ServiceExport", "Ready").unwrap().0, "True/Ready");
}

/// A Service must name its ports when there are several; a cluster that has only one may leave it unnamed, and kube-proxy
/// connects by name.
#[test]
fn a_port_without_a_name_gets_one_where_it_is_one_of_several() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    let one = ServiceSpec { ports: [port(None, 80)].into(), ..spec() };
    let other = ServiceSpec { ports: [port(Some("admin"), 81)].into(), ..spec() };
    home.tell(exports("east", 100, ServiceKind::ClusterIp, one));
    home.tell(exports("west", 200, ServiceKind::ClusterIp, other));
    home.settle();
    let service = home.get("Service", &derived(&home)).unwrap();
    assert_eq!(service["spec"]["ports"][0]["name"], "tcp-80");
    let import = home.get("ServiceImport", "web").unwrap();
    assert_eq!(import["spec"]["ports"][0]["name"], json!(null), "the import has what is exported");
}

/// A name that is made up is none that another port has.
#[test]
fn a_made_up_name_of_a_port_is_not_taken() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    let ports = [port(None, 80), port(Some("tcp-80"), 81), port(Some("tcp-80-1"), 82)];
    let spec = ServiceSpec { ports: ports.into(), ..spec() };
    home.tell(exports("east", 100, ServiceKind::ClusterIp, spec.clone()));
    home.tell(exports("west", 200, ServiceKind::ClusterIp, spec));
    home.settle();
    let service = home.get("Service", &derived(&home)).unwrap();
    let names: Vec<_> =
        service["spec"]["ports"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["tcp-80-2", "tcp-80", "tcp-80-1"]);
}

/// The API takes 1,000 endpoints in a slice, of one family each.
#[test]
fn many_endpoints_are_split() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    let many: Vec<String> = (0..2500).map(|i| format!("10.9.{}.{}", i / 250, i % 250)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    home.tell([slice("west", "web-xyz", &many), slice("west", "web-v6", &["fd00::1"])]);
    home.settle();
    let mut sizes: Vec<(String, usize)> = Vec::new();
    for name in home.names("EndpointSlice") {
        let slice = home.get("EndpointSlice", &name).unwrap();
        if slice["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"] == "west" {
            let family = slice["addressType"].as_str().unwrap().to_owned();
            sizes.push((family, slice["endpoints"].as_array().unwrap().len()));
        }
    }
    sizes.sort();
    let v4 = |n| ("IPv4".to_owned(), n);
    assert_eq!(sizes, [v4(500), v4(1000), v4(1000), ("IPv6".to_owned(), 1)]);
}

/// design.md §3: of another network only gateway addresses are mirrored, for ClusterSetIP services.
#[test]
fn another_network_is_mirrored_by_its_gateway() {
    for (kind, expected) in [(ServiceKind::ClusterIp, true), (ServiceKind::Headless, false)] {
        let mut home = two_clusters(kind);
        home.tell([Event::Network { cluster: id("west"), network: "far".into() }]);
        home.settle();
        assert!(!home.mirrored().contains_key("west"), "no gateway: nothing can be reached");
        let at = GatewayAt::Addresses(["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap()).into());
        let ports = [GatewayPort { protocol: Protocol::Tcp, number: 80, gateway: 30080 }].into();
        let gateway = Gateway { at, ports };
        let export =
            Export { name: web(), created: 200, exported: None, gateway: Some(gateway.into()), state: None };
        home.tell([says("west", Object::Export(export))]);
        home.settle();
        assert_eq!(home.mirrored().contains_key("west"), expected);
        let gateways =
            home.names("EndpointSlice").into_iter().map(|name| home.get("EndpointSlice", &name).unwrap());
        let gateways: Vec<_> =
            gateways.filter(|s| s["metadata"]["labels"]["portolan.dev/gateway"] == "true").collect();
        assert_eq!(gateways.len(), if expected { 2 } else { 0 });
        for slice in gateways {
            assert_eq!(slice["ports"], json!([{ "name": "http", "protocol": "TCP", "port": 30080 }]));
            assert_eq!(slice["endpoints"][0]["conditions"]["ready"], true);
        }
    }
}

/// KEP-1645, Constraints and Conflict Resolution: a cluster's endpoints are only used for ports that this cluster exposes,
/// under the names that the service has for them, for kube-proxy connects by name.
#[test]
fn slices_have_the_ports_that_their_cluster_exposes() {
    type Ports = &'static [(Option<&'static str>, u16)];
    // East's ports (it is older), west's; west's slice as it is copied, and as its gateway's (80 is at 30080 there).
    type Case = (Ports, Ports, Option<Value>, Option<Value>);
    let port_of = |name: &str, number: u16| json!({ "name": name, "protocol": "TCP", "port": number });
    let cases: [Case; 4] = [
        // a) East alone has 9090.
        (
            &[(Some("http"), 80), (Some("metrics"), 9090)],
            &[(Some("http"), 80)],
            Some(json!([port_of("http", 8080)])),
            Some(json!([port_of("http", 30080)])),
        ),
        // b) One name, another number: east's port 80 is not exposed by west.
        (&[(Some("http"), 80)], &[(Some("http"), 8080)], None, None),
        // c) One number, another name: it is the same port.
        (
            &[(Some("web"), 80)],
            &[(Some("http"), 80)],
            Some(json!([port_of("web", 8080)])),
            Some(json!([port_of("web", 30080)])),
        ),
        // One that west alone has.
        (
            &[(Some("web"), 443)],
            &[(Some("http"), 80)],
            Some(json!([port_of("http", 8080)])),
            Some(json!([port_of("http", 30080)])),
        ),
    ];
    for (east, west, copied, at_gateway) in cases {
        let spec_of = |ports: Ports| ServiceSpec {
            ports: ports.iter().map(|(name, number)| port(*name, *number)).collect(),
            ..spec()
        };
        let ports_of_west = |home: &Home| {
            let slices = home.names("EndpointSlice");
            let slices = slices.into_iter().map(|name| home.get("EndpointSlice", &name).unwrap());
            let of_west =
                |s: &Value| s["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"] == "west";
            slices.filter(of_west).map(|slice| slice["ports"].clone()).next()
        };
        let mut home = two_clusters(ServiceKind::ClusterIp);
        home.tell(exports("east", 100, ServiceKind::ClusterIp, spec_of(east)));
        home.tell(exports("west", 200, ServiceKind::ClusterIp, spec_of(west)));
        home.settle();
        assert_eq!(ports_of_west(&home), copied, "{east:?} {west:?}");
        let at = GatewayAt::Addresses(["192.0.2.1".parse().unwrap()].into());
        let ports = [GatewayPort { protocol: Protocol::Tcp, number: 80, gateway: 30080 }].into();
        let gateway = Some(Gateway { at, ports }.into());
        let export = Export { name: web(), created: 200, exported: None, gateway, state: None };
        home.tell([says("west", Object::Export(export))]);
        home.tell([Event::Network { cluster: id("west"), network: "far".into() }]);
        home.settle();
        // West's 8080 is at the gateway's 8080, but nobody asks for it.
        assert_eq!(ports_of_west(&home), at_gateway, "{east:?} {west:?}");
    }
}

/// MCS API v1beta1, ServiceExport conditions; conformance rows 16, 22, 23, 26 and 27.
#[test]
fn exports_are_told_what_becomes_of_them() {
    let none: Option<ServiceKind> = None;
    let other = || ServiceSpec {
        ports: [port(Some("http"), 8080)].into(),
        session_affinity: SessionAffinity::ClientIp { timeout: 10 },
        ..spec()
    };
    let cases = [
        (none, "False/NoService", "False/Pending", None),
        (Some(ServiceKind::ExternalName), "False/InvalidServiceType", "False/Pending", None),
        (
            Some(ServiceKind::ClusterIp),
            "True/Valid",
            "True/Ready",
            Some("True/PortConflict,SessionAffinityConflict"),
        ),
    ];
    for (kind, valid, ready, conflict) in cases {
        let mut home = Home::new("east");
        home.has_export();
        home.tell(exports("west", 200, ServiceKind::ClusterIp, spec()));
        if let Some(kind) = kind {
            home.has_service(kind);
            home.tell(exports("east", 300, kind, other()));
        }
        home.settle();
        let condition = |kind| home.condition("ServiceExport", kind).map(|(text, _)| text);
        assert_eq!(condition("Valid").as_deref(), Some(valid));
        assert_eq!(condition("Ready").as_deref(), Some(ready));
        assert_eq!(condition("Conflict").as_deref(), conflict);
        let list = home.get("ServiceExport", "web").unwrap()["status"]["conditions"].clone();
        assert!(list.as_array().unwrap().iter().all(|c| c["observedGeneration"] == 1));
    }
}

/// Conditions, Kubernetes API conventions: lastTransitionTime is when the status changed.
#[test]
fn a_condition_keeps_its_time_while_its_status_is_the_same() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.settle();
    let conflict = |home: &Home| {
        let list = home.get("ServiceExport", "web").unwrap()["status"]["conditions"].clone();
        let found = list.as_array().unwrap().iter().find(|c| c["type"] == "Conflict").unwrap().clone();
        (found["reason"].as_str().unwrap().to_owned(), found["lastTransitionTime"].clone())
    };
    let mut times = Vec::new();
    for spec in [
        spec(),
        ServiceSpec { internal_traffic_local: true, ..spec() },
        ServiceSpec { traffic_distribution: Some("PreferClose".into()), ..spec() },
        spec(),
    ] {
        home.now += 60;
        home.tell(exports("west", 200, ServiceKind::ClusterIp, spec));
        home.settle();
        times.push(conflict(&home));
    }
    let reasons: Vec<_> = times.iter().map(|(reason, _)| &**reason).collect();
    let expected =
        ["NoConflicts", "InternalTrafficPolicyConflict", "TrafficDistributionConflict", "NoConflicts"];
    assert_eq!(reasons, expected);
    assert!(times[0].1 != times[1].1 && times[1].1 == times[2].1 && times[2].1 != times[3].1, "{times:?}");
}

/// design.md §3, `Pool`: addresses of ours, and no derived Service. What is left of other settings is let go.
#[test]
fn a_pool_gives_addresses_without_a_derived_service() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.settle();
    let by_service = home.get("ServiceImport", "web").unwrap()["spec"]["ips"].clone();
    home.pool = Some(crate::vip::PoolRanges::default());
    home.settle();
    let import = home.get("ServiceImport", "web").unwrap();
    assert_eq!(import["spec"]["ips"], json!(null), "{by_service} is not of the pool");
    assert_eq!(home.names("Service"), ["web"]);
    assert_eq!(home.condition("ServiceImport", "Ready").unwrap().0, "False/Pending");
    // The import claims nothing now, so that the table asks the pool.
    let demands = home.table.settle();
    home.tell([Event::Vips { service: web(), ips: ["241.0.0.7".parse().unwrap()].into_iter().collect() }]);
    home.settle();
    let import = home.get("ServiceImport", "web").unwrap();
    assert_eq!(import["spec"]["ips"], json!(["241.0.0.7"]), "{demands:?}");
    assert_eq!(import["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"], json!(null));
    assert_eq!(home.condition("ServiceImport", "Ready").unwrap().0, "True/Ready");
    for name in home.names("EndpointSlice") {
        let labels = home.get("EndpointSlice", &name).unwrap()["metadata"]["labels"].clone();
        assert_eq!(labels["kubernetes.io/service-name"], json!(null));
    }
    home.pool = None;
    home.settle();
    assert_ne!(home.get("ServiceImport", "web").unwrap()["spec"]["ips"], json!(["241.0.0.7"]));
}
