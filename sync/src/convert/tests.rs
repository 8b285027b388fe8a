//! Tables over single objects: what comes out, and what is said of what can't.

#![expect(clippy::needless_pass_by_value, reason = "`json!` makes values")]

use portolan_zones::object::{
    Conditions, IpFamily, Object, Protocol, Service, ServiceKind, SessionAffinity, Slice, UnixTime,
};
use portolan_zones::policy::{Attached, PolicyName, Source};
use serde_json::{Value, json};

use super::*;

mod peers;
mod policies;
mod reach;

fn read<'a, T: serde::Deserialize<'a>>(value: &'a Value) -> T {
    T::deserialize(value).unwrap()
}

fn service_of(spec: Value) -> Result<Service, String> {
    let value = json!({"metadata": {"namespace": "shop", "name": "cart"}, "spec": spec});
    match service(&read(&value), &Names::new(), &mut Interner::default(), &mut Refused::default()) {
        Ok(Some(Object::Service(service))) => Ok(service),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

fn slice_of(
    labels: Value,
    address_type: &str,
    endpoints: Value,
    ports: Value,
) -> Result<Option<Slice>, String> {
    let metadata = json!({"namespace": "shop", "name": "cart-x1.y", "labels": labels});
    let value =
        json!({"metadata": metadata, "addressType": address_type, "endpoints": endpoints, "ports": ports});
    match slice(&read(&value), &mut Interner::default(), &mut Refused::default()) {
        Ok(Some(Object::Slice(slice))) => Ok(Some(slice)),
        Ok(None) => Ok(None),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

fn own() -> Value {
    json!({"kubernetes.io/service-name": "cart"})
}

fn endpoints_of(endpoints: Value) -> Result<Box<[portolan_zones::object::Endpoint]>, String> {
    slice_of(own(), "IPv4", endpoints, json!(null)).map(|slice| slice.unwrap().endpoints)
}

#[test]
fn services_are_of_three_sorts() {
    for (spec, kind) in [
        (json!({"clusterIP": "10.0.0.1"}), ServiceKind::ClusterIp),
        (json!({"type": "LoadBalancer"}), ServiceKind::ClusterIp),
        (json!({"clusterIP": "None"}), ServiceKind::Headless),
        (json!({"clusterIPs": ["None"]}), ServiceKind::Headless),
        (json!({"type": "ExternalName", "externalName": "example.com"}), ServiceKind::ExternalName),
        (json!(null), ServiceKind::ClusterIp),
    ] {
        assert_eq!(service_of(spec.clone()).unwrap().kind, kind, "{spec}");
    }
}

#[test]
fn families_left_out_are_those_of_the_addresses() {
    use IpFamily::{V4, V6};
    for (spec, families) in [
        (json!({"ipFamilies": ["IPv6", "IPv4"], "clusterIP": "10.0.0.1"}), &[V6, V4][..]),
        (json!({"clusterIPs": ["fd00::1", "10.0.0.1"]}), &[V6, V4]),
        (json!({"clusterIP": "fd00::1"}), &[V6]),
        (json!({"clusterIP": "None"}), &[V4]),
        (json!({}), &[V4]),
    ] {
        assert_eq!(&*service_of(spec.clone()).unwrap().spec.ip_families, families, "{spec}");
    }
}

#[test]
fn a_bad_field_is_named() {
    for (spec, message) in [
        (json!({"ports": [{"port": 0}]}), "spec.ports[0].port: 0 is not a port from 1 to 65535"),
        (json!({"ports": [{"port": 80}, {"port": 65_536}]}), "spec.ports[1].port: 65536 is not a port"),
        (json!({"ports": [{"name": "http"}]}), "spec.ports[0].port is missing"),
        (json!({"ports": [{"name": "Http", "port": 1}]}), "spec.ports[0].name: `Http` is no DNS label"),
        (json!({"ports": [{"name": "x".repeat(63), "port": 1}]}), "spec.ports[0].name has 63 characters"),
        (json!({"ports": [{"protocol": "tcp", "port": 1}]}), "spec.ports[0].protocol: `tcp` is not one of"),
        (json!({"clusterIPs": ["10.0.0.1", "x"]}), "spec.clusterIPs[1]: `x` is not an IP address"),
        (json!({"ipFamilies": ["ipv4"]}), "spec.ipFamilies[0]: `ipv4` is not one of IPv4, IPv6"),
        (json!({"type": "Headless"}), "spec.type: `Headless` is not one of"),
        (json!({"sessionAffinity": "Cookie"}), "spec.sessionAffinity: `Cookie`"),
        (json!({"internalTrafficPolicy": "local"}), "spec.internalTrafficPolicy: `local`"),
    ] {
        let error = service_of(spec.clone()).unwrap_err();
        assert!(error.starts_with(message), "{spec}: {error}");
    }
}

#[test]
fn session_affinity_has_kubernetes_default_and_bounds() {
    let affinity = |config: Value| {
        let spec = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config});
        service_of(spec).map(|service| service.spec.session_affinity)
    };
    let timeout = |seconds: i64| json!({"clientIP": {"timeoutSeconds": seconds}});
    assert_eq!(affinity(json!(null)), Ok(SessionAffinity::ClientIp { timeout: 10_800 }));
    assert_eq!(affinity(timeout(60)), Ok(SessionAffinity::ClientIp { timeout: 60 }));
    for bad in [0, -1, 86_401] {
        assert!(affinity(timeout(bad)).unwrap_err().contains("timeoutSeconds"), "{bad}");
    }
}

#[test]
fn imports_hold_addresses_and_age() {
    let import_of = |spec: Value, created: Value| {
        let metadata = json!({"namespace": "n", "name": "s", "creationTimestamp": created});
        let value = json!({"metadata": metadata, "spec": spec});
        match import(&read(&value), &mut Interner::default()) {
            Ok(Object::Import(import)) => Ok(import),
            other => Err(other.unwrap_err().to_string()),
        }
    };
    let import =
        import_of(json!({"type": "ClusterSetIP", "ips": ["fd00::9"]}), json!("2015-07-21T00:01:00Z"))
            .unwrap();
    assert_eq!((import.created, import.headless, import.ips.len()), (1_437_436_860, false, 1));
    let ancient = import_of(json!({}), json!("1970-01-01T00:01:00Z")).unwrap();
    assert_eq!(
        ancient.created,
        UnixTime::MAX,
        "nobody is older than Kubernetes: who says so wins nothing by it"
    );
    assert_eq!(&*import.spec.ip_families, [IpFamily::V6]);
    assert!(import_of(json!({"type": "Headless"}), json!(null)).unwrap().headless);
    assert_eq!(import_of(json!({}), json!(null)).unwrap().created, UnixTime::MAX, "no age is the youngest");
    for (spec, created, message) in [
        (json!({"ips": ["10.0.0.1", "x"]}), json!(null), "spec.ips[1]: `x` is not an IP address"),
        (
            json!({"type": "ClusterIP"}),
            json!(null),
            "spec.type: `ClusterIP` is not one of ClusterSetIP, Headless",
        ),
        (json!({}), json!("yesterday"), "metadata.creationTimestamp: `yesterday` is not a time"),
    ] {
        assert!(import_of(spec, created).unwrap_err().starts_with(message), "{message}");
    }
}

#[test]
fn exported_labels_are_sorted() {
    let spec = json!({"exportedLabels": {"b": "2", "a": "1"}, "exportedAnnotations": null});
    let value = json!({"metadata": {"namespace": "n", "name": "s"}, "spec": spec});
    let object = export(&read(&value), &Names::new(), &mut Interner::default(), &mut Refused::default());
    let Ok(Object::Export(export)) = object else { panic!() };
    let labels: Vec<_> = export
        .exported
        .as_ref()
        .unwrap()
        .labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    assert_eq!(labels, ["a=1", "b=2"]);
}

/// EndpointSlice API: nil `ready` is to be taken as true, nil `serving` as `ready`, nil `terminating` as false.
#[test]
fn unset_conditions_have_their_defaults() {
    for (conditions, ready, serving, terminating) in [
        (json!(null), true, true, false),
        (json!({"ready": false}), false, false, false),
        (json!({"ready": false, "serving": true, "terminating": true}), false, true, true),
        (json!({"serving": false}), true, false, false),
    ] {
        let endpoints = endpoints_of(json!([{"addresses": ["10.0.0.1"], "conditions": conditions}])).unwrap();
        assert_eq!(endpoints[0].conditions, Conditions { ready, serving, terminating }, "{conditions}");
    }
}

#[test]
fn each_address_is_an_endpoint_and_places_are_shared() {
    let pod = json!({"kind": "Pod", "namespace": "shop", "name": "cart-0"});
    let endpoints = endpoints_of(json!([
        {"addresses": ["10.0.0.1", "10.0.0.2"], "nodeName": "n1", "zone": "a", "hostname": "cart-0", "targetRef": pod},
        {"addresses": ["10.0.0.3"], "nodeName": "n1", "zone": "a"},
        {"addresses": []},
        {"addresses": ["10.0.0.4"]},
    ]))
    .unwrap();
    assert_eq!(endpoints.len(), 4);
    assert_eq!(endpoints[0].hostname.as_deref(), Some("cart-0"));
    assert_eq!(endpoints[0].identity, endpoints[1].identity, "one pod");
    assert_ne!(endpoints[2].identity, endpoints[3].identity, "told apart by their addresses");
    assert!(Arc::ptr_eq(endpoints[0].place.as_ref().unwrap(), endpoints[2].place.as_ref().unwrap()));
    assert_eq!(endpoints[3].place, None);
}

/// KEP-1645: "the same subset of endpoints for both families": replicas and slices must agree on who is who.
#[test]
fn a_pod_is_the_same_in_both_families_and_for_ever() {
    let pod = json!({"kind": "Pod", "namespace": "shop", "name": "cart-0", "uid": "1"});
    let of = |family: &str, address: &str, target: &Value| {
        let endpoints = json!([{"addresses": [address], "targetRef": target}]);
        slice_of(own(), family, endpoints, json!(null)).unwrap().unwrap().endpoints[0].identity
    };
    assert_eq!(of("IPv4", "10.0.0.1", &pod), of("IPv6", "fd00::1", &pod));
    let by_uid = json!({"uid": "1"});
    assert_eq!(of("IPv4", "10.0.0.1", &by_uid), of("IPv6", "fd00::1", &by_uid));
    assert_ne!(of("IPv4", "10.0.0.1", &pod), of("IPv4", "10.0.0.1", &by_uid));
    assert_eq!(of("IPv4", "10.0.0.1", &pod), 123_123_879, "another version must not choose otherwise");
}

#[test]
fn slices_that_hold_no_addresses_of_their_type_are_refused() {
    for (family, endpoints, ports, message) in [
        ("FQDN", json!([]), json!([]), "addressType: slices of type FQDN"),
        ("", json!([]), json!([]), "addressType is missing"),
        (
            "IPv4",
            json!([{"addresses": ["x"]}]),
            json!([]),
            "endpoints[0].addresses[0]: `x` is not an IP address",
        ),
        (
            "IPv6",
            json!([{"addresses": ["10.0.0.1"]}]),
            json!([]),
            "endpoints[0].addresses[0]: `10.0.0.1` is not an IPv6",
        ),
        (
            "IPv4",
            json!([{"addresses": ["10.0.0.1"], "hostname": "a.b"}]),
            json!([]),
            "endpoints[0].hostname: `a.b`",
        ),
        ("IPv4", json!([]), json!([{"port": -1}]), "ports[0].port: -1 is not a port"),
    ] {
        let error = slice_of(own(), family, endpoints, ports).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }
    let ports =
        slice_of(own(), "IPv4", json!([]), json!([{"name": "", "protocol": "UDP"}])).unwrap().unwrap().ports;
    assert_eq!((&ports[0].name, ports[0].protocol, ports[0].number), (&None, Protocol::Udp, None));
}

/// KEP-1645, "Using EndpointSlice objects": labels say whose endpoints a mirrored slice holds. A mirrored slice that
/// does not say it must not be taken for the cluster's own: that would be a loop.
#[test]
fn labels_say_whose_endpoints_these_are() {
    let owner = |labels: Value| {
        slice_of(labels, "IPv4", json!([]), json!([]))
            .map(|slice| slice.map(|s| (s.service.to_string(), s.source.map(|id| id.to_string()))))
    };
    let some =
        |service: &str, source: Option<&str>| Ok(Some((service.to_owned(), source.map(str::to_owned))));
    let mirrored = |managed_by: &str| json!({"kubernetes.io/service-name": "cart", "endpointslice.kubernetes.io/managed-by": managed_by});
    assert_eq!(owner(own()), some("shop/cart", None));
    assert_eq!(owner(json!({})), Ok(None));
    assert_eq!(owner(mirrored("endpointslice-controller.k8s.io")), some("shop/cart", None));
    for managed_by in MIRRORS_OF_THE_REFERENCE {
        assert_eq!(owner(mirrored(managed_by)), Ok(None), "{managed_by}");
    }
    let created_by =
        json!({"kubernetes.io/service-name": "cart", "clusternet.io/created-by": "clusternet-agent"});
    assert_eq!(owner(created_by), Ok(None));
    let derived = json!({
        "kubernetes.io/service-name": "derived-1",
        "multicluster.kubernetes.io/service-name": "cart",
        "multicluster.kubernetes.io/source-cluster": "fra1.registry-b",
        "endpointslice.kubernetes.io/managed-by": "lighthouse-agent.submariner.io",
    });
    assert_eq!(owner(derived), some("shop/cart", Some("fra1.registry-b")));
    let bad = json!({
        "multicluster.kubernetes.io/service-name": "cart", "multicluster.kubernetes.io/source-cluster": "A"
    });
    assert!(
        owner(bad).unwrap_err().starts_with("metadata.labels[multicluster.kubernetes.io/source-cluster]")
    );
}

/// Kubernetes copies a Service's labels to its slices: who may make Services must not speak for other clusters by them.
#[test]
fn labels_that_kubernetes_copied_name_no_other_cluster() {
    for writer in ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"] {
        let labels = json!({
            "kubernetes.io/service-name": "cart",
            "multicluster.kubernetes.io/service-name": "bank",
            "multicluster.kubernetes.io/source-cluster": "b",
            "endpointslice.kubernetes.io/managed-by": writer,
        });
        let slice = slice_of(labels, "IPv4", json!([]), json!([])).unwrap().unwrap();
        assert_eq!((slice.service.to_string().as_str(), slice.source), ("shop/cart", None));
    }
}

/// Loop guard: what was derived from an import is no Service of its cluster.
#[test]
fn derived_services_are_not_exported_again() {
    let of = |name: &str, labels: Value| {
        let value = json!({"metadata": {"namespace": "n", "name": name, "labels": labels}});
        let object = service(&read(&value), &Names::new(), &mut Interner::default(), &mut Refused::default());
        object.unwrap().is_some()
    };
    let imported = || json!({"multicluster.kubernetes.io/service-name": "web"});
    assert!(!of("derived-puj7omyweltia", imported()));
    assert!(of("derived-puj7omyweltia", json!({})), "a name is anybody's");
    assert!(of("web", imported()));
}

/// An object that is larger than any real one is refused before it costs anything; what was known of it holds.
#[test]
fn lists_have_bounds() {
    let port = |number: usize| json!({"name": format!("p{number}"), "port": number});
    let ports = |count: usize| json!((1..=count).map(port).collect::<Vec<_>>());
    assert_eq!(service_of(json!({"ports": ports(1000)})).unwrap().spec.ports.len(), 1000);
    assert_eq!(
        service_of(json!({"ports": ports(1001)})).unwrap_err(),
        "spec.ports has 1001 entries, allowed are 1000"
    );
    let endpoints = |count: usize, addresses: usize| {
        let address = |i: usize| format!("10.0.{}.{}", i / 250, i % 250);
        let endpoint = json!({"addresses": (0..addresses).map(address).collect::<Vec<_>>()});
        json!(vec![endpoint; count])
    };
    for (endpoints, ports, expected) in [
        (endpoints(1000, 1), ports(1), Ok(1000)),
        (endpoints(1, 100), ports(1000), Ok(100)),
        (endpoints(1001, 1), ports(1), Err("endpoints has 1001 entries, allowed are 1000")),
        (endpoints(1, 101), ports(1), Err("endpoints[].addresses has 101 entries, allowed are 100")),
        (endpoints(1, 1), ports(1001), Err("ports has 1001 entries, allowed are 1000")),
    ] {
        let got = slice_of(own(), "IPv4", endpoints, ports).map(|slice| slice.unwrap().endpoints.len());
        assert_eq!(got, expected.map_err(str::to_owned));
    }
}

/// An import with more metadata than an object may have could not be written in any cluster.
#[test]
fn exported_metadata_has_a_bound() {
    let half = "x".repeat(40_000);
    let value = json!({
        "metadata": {"namespace": "n", "name": "s"},
        "spec": {"exportedAnnotations": {"a": half, "b": half}, "exportedLabels": {"team": "shop"}},
    });
    let mut refused = Refused::default();
    let object = export(&read(&value), &Names::new(), &mut Interner::default(), &mut refused);
    let Ok(Object::Export(export)) = object else { panic!() };
    let exported = export.exported.unwrap();
    assert_eq!((exported.annotations.len(), exported.labels.len()), (1, 1));
    assert!(refused.text().unwrap().starts_with("spec.exportedAnnotations: `b` and what follows"));
}

const MIRRORS_OF_THE_REFERENCE: [&str; 7] = [
    "lighthouse-agent.submariner.io",
    "endpointslice-mesh-controller.cilium.io",
    "endpointslice-dispatch-controller.karmada.io",
    "endpointslice-controller.karmada.io",
    "endpointslice.reflection.liqo.io",
    "aws-cloud-map-mcs-controller-for-k8s",
    "clusternet-agent",
];

#[test]
fn nodes_say_where_they_are() {
    let value = json!({
        "metadata": {"name": "n1.example", "labels": {"topology.kubernetes.io/zone": "a", "topology.kubernetes.io/region": "r"}},
        "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00::/64"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "n1"}]},
    });
    let Object::Node(node) = node(&read(&value), &mut Interner::default()).unwrap() else { panic!() };
    assert_eq!((node.az.as_deref(), node.region.as_deref()), (Some("a"), Some("r")));
    assert_eq!((node.pod_cidrs.len(), node.pod_cidrs[1].1, node.addresses.len()), (2, 64, 1));
    let bad = json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.1.0.0"}});
    let error = super::node(&read(&bad), &mut Interner::default()).unwrap_err().to_string();
    assert!(error.starts_with("spec.podCIDR: `10.1.0.0` is not a network"), "{error}");
}

/// KEP-2149: property `cluster.clusterset.k8s.io`, once called `id.k8s.io`; the value is an RFC 1123 subdomain.
#[test]
fn a_cluster_property_may_be_the_id() {
    let id = |name: &str, value: &str| {
        let value = json!({"metadata": {"name": name}, "spec": {"value": value}});
        cluster_id(&read(&value))
            .map(|id| id.map(|(rank, id)| (rank, id.to_string())))
            .map_err(|e| e.to_string())
    };
    assert_eq!(id("cluster.clusterset.k8s.io", "fra1.b"), Ok(Some((0, "fra1.b".to_owned()))));
    assert_eq!(id("id.k8s.io", "fra1"), Ok(Some((1, "fra1".to_owned()))));
    assert_eq!(id("clusterset.k8s.io", "Atlas!"), Ok(None));
    assert!(id("cluster.clusterset.k8s.io", "A").unwrap_err().starts_with("spec.value: "));
}

#[test]
fn kinds_are_told_by_group_and_version() {
    for (version, kind, expected) in [
        ("v1", "Service", Some(Kind::Service)),
        ("multicluster.x-k8s.io/v1alpha1", "ServiceExport", Some(Kind::ServiceExport)),
        ("multicluster.x-k8s.io/v1beta1", "ServiceImport", Some(Kind::ServiceImport)),
        ("multicluster.k8s.io/v1alpha1", "ServiceImport", Some(Kind::ServiceImport)),
        ("discovery.k8s.io/v1", "EndpointSlice", Some(Kind::EndpointSlice)),
        ("about.k8s.io/v1alpha1", "ClusterProperty", Some(Kind::ClusterProperty)),
        ("serving.knative.dev/v1", "Service", None),
        ("apps/v1", "Deployment", None),
    ] {
        assert_eq!(Kind::of(version, kind), Ok(expected), "{version} {kind}");
    }
    let error = Kind::of("discovery.k8s.io/v1beta1", "EndpointSlice").unwrap_err().to_string();
    assert_eq!(error, "apiVersion: `discovery.k8s.io/v1beta1` is not one of v1");
}

/// What an import tells of its exporter's policy is how old it is, too; older controllers tell no age.
#[test]
fn a_policy_that_travels_keeps_its_age() {
    let source = Source::Export(ClusterId::new("paris").unwrap(), PolicyName::new("shop", "near"));
    for created in [Some(5), None] {
        let attached = Attached { rules: Arc::default(), source: source.clone(), created };
        let text = policy::tell(&attached).unwrap();
        assert_eq!(text.contains("created"), created.is_some(), "{text}");
        assert_eq!(policy::told(&text), Some(attached), "{text}");
    }
}
