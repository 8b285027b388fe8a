//! The specs of the MCS conformance suite (`mcs-api/conformance`) that need nothing but API servers, each by a test. The
//! others, of DNS, are in the end-to-end tests' tables. Where the suite asks one cluster, all are asked here.

use std::time::Duration;

use portolan_tests::harness::kubernetes::{
    Member, condition, export, headless_service, object, service, with,
};
use portolan_tests::harness::{eventually, stays};
use serde_json::{Value, json};

use crate::steps::{
    endpoints, fqdn, imported, imports_become, mirrored, set_with, texts, vanishes, verdict_becomes,
};

/// The suite's fixture: ports tcp/42 and udp/42, ClientIP affinity of 10 s, both families where the cluster has them.
fn hello(ns: &str) -> Value {
    let spec = json!({
        "selector": { "app": "hello" },
        "ports": [
            { "name": "tcp", "port": 42, "protocol": "TCP" },
            { "name": "udp", "port": 42, "protocol": "UDP" },
        ],
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 10 } },
        "ipFamilyPolicy": "PreferDualStack",
    });
    with(object("v1", "Service", ns, "hello"), json!({ "spec": spec }))
}

fn export_hello(member: &Member, hello: &Value) {
    let ns = hello["metadata"]["namespace"].as_str().unwrap();
    member.put(hello);
    member.put(&export(ns, "hello"));
}

fn conflict_on_both(set: &[&Member; 2], ns: &str, reason: &str) {
    for member in set {
        verdict_becomes(member, ns, "hello", "Conflict", &format!("True/{reason}"));
    }
}

/// `endpoint_slice`: slices are labelled with the service and the source cluster, not managed by the default controller,
/// and deleted on unexport.
#[test]
fn row_12_endpoint_slices() {
    let ns = "row-12";
    let set = set_with(ns);
    export_hello(&set[0], &hello(ns));
    set[0].run_pod(ns, "hello", "hello-1", &["10.1.0.1", "fd01::1"]);
    for member in set.iter() {
        eventually("both endpoints are mirrored", || endpoints(&mirrored(member, ns, "hello")).len() == 2);
        for slice in mirrored(member, ns, "hello") {
            let labels = &slice["metadata"]["labels"];
            assert_eq!(labels["multicluster.kubernetes.io/source-cluster"], "paris");
            assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "controller.portolan.dev");
            let owner = &slice["metadata"]["ownerReferences"][0];
            assert_eq!((&owner["kind"], &owner["name"]), (&json!("ServiceImport"), &json!("hello")));
        }
    }
    set[0].delete("ServiceExport", ns, "hello");
    for member in set.iter() {
        eventually("no slice is left", || mirrored(member, ns, "hello").is_empty());
    }
}

/// `service_import`: an import exists as long as at least one export does.
#[test]
fn row_13_lifetime() {
    let ns = "row-13";
    let set = set_with(ns);
    for number in [0, 1] {
        export_hello(&set[number], &hello(ns));
    }
    imports_become(
        &set,
        ns,
        "hello",
        "/status/clusters",
        &json!([{ "cluster": "paris" }, { "cluster": "tokyo" }]),
    );
    set[0].delete("ServiceExport", ns, "hello");
    imports_become(&set, ns, "hello", "/status/clusters", &json!([{ "cluster": "tokyo" }]));
    set[1].delete("ServiceExport", ns, "hello");
    vanishes(&set, ns, "hello");
}

/// `service_import`: only `exportedLabels` and `exportedAnnotations` are exported, not the metadata of the Service or the
/// export.
#[test]
fn row_14_exported_labels_and_annotations() {
    let ns = "row-14";
    let set = set_with(ns);
    let own = json!({ "metadata": { "labels": { "own": "yes" }, "annotations": { "own": "yes" } } });
    let exported = json!({ "spec": {
        "exportedLabels": { "team": "sea" }, "exportedAnnotations": { "example.com/chart": "north" },
    } });
    set[0].put(&with(hello(ns), own.clone()));
    set[0].put(&with(with(export(ns, "hello"), own), exported));
    for member in set.iter() {
        let import = imported(member, ns, "hello");
        let metadata = &import["metadata"];
        assert_eq!(metadata["labels"]["team"], "sea", "{metadata:#}");
        assert_eq!(metadata["annotations"]["example.com/chart"], "north", "{metadata:#}");
        assert!(
            metadata["labels"]["own"].is_null() && metadata["annotations"]["own"].is_null(),
            "{metadata:#}"
        );
    }
}

/// `service_import`: where exported labels and annotations differ, the oldest export's hold, and both have the condition.
#[test]
fn row_15_conflict_of_labels_and_annotations() {
    let ns = "row-15";
    let set = set_with(ns);
    for (number, value) in [(0, "old"), (1, "new")] {
        set[number].put(&hello(ns));
        let exported = json!({ "exportedLabels": { "age": value }, "exportedAnnotations": { "age": value } });
        set[number].put(&with(export(ns, "hello"), json!({ "spec": exported })));
    }
    conflict_on_both(&[&set[0], &set[1]], ns, "LabelsConflict,AnnotationsConflict");
    imports_become(&set, ns, "hello", "/metadata/labels/age", &json!("old"));
    imports_become(&set, ns, "hello", "/metadata/annotations/age", &json!("old"));
}

/// `service_import`: a ClusterIP Service becomes a ClusterSetIP import once its export is valid, and goes with the
/// export.
#[test]
fn row_16_cluster_ip() {
    let ns = "row-16";
    let set = set_with(ns);
    export_hello(&set[0], &hello(ns));
    verdict_becomes(&set[0], ns, "hello", "Valid", "True/Valid");
    imports_become(&set, ns, "hello", "/spec/type", &json!("ClusterSetIP"));
    set[0].delete("ServiceExport", ns, "hello");
    vanishes(&set, ns, "hello");
}

/// `service_import`: the session affinity is the Service's.
#[test]
fn row_17_session_affinity() {
    let ns = "row-17";
    let set = set_with(ns);
    export_hello(&set[0], &hello(ns));
    imports_become(&set, ns, "hello", "/spec/sessionAffinity", &json!("ClientIP"));
    imports_become(&set, ns, "hello", "/spec/sessionAffinityConfig/clientIP/timeoutSeconds", &json!(10));
}

/// `service_import`: the internal traffic policy is the Service's.
#[test]
fn row_18_internal_traffic_policy() {
    let ns = "row-18";
    let set = set_with(ns);
    export_hello(&set[0], &with(hello(ns), json!({ "spec": { "internalTrafficPolicy": "Local" } })));
    imports_become(&set, ns, "hello", "/spec/internalTrafficPolicy", &json!("Local"));
}

/// `service_import`: the traffic distribution is the Service's.
#[test]
fn row_19_traffic_distribution() {
    let ns = "row-19";
    let set = set_with(ns);
    export_hello(&set[0], &with(hello(ns), json!({ "spec": { "trafficDistribution": "PreferClose" } })));
    imports_become(&set, ns, "hello", "/spec/trafficDistribution", &json!("PreferClose"));
}

/// `service_import`: an address for each family, in the order of `ipFamilies`.
#[test]
fn row_20_addresses() {
    let ns = "row-20";
    let set = set_with(ns);
    export_hello(&set[0], &hello(ns));
    let turned = json!({ "metadata": { "name": "turned" }, "spec": { "ipFamilies": ["IPv6", "IPv4"] } });
    set[0].put(&with(hello(ns), turned));
    set[0].put(&export(ns, "turned"));
    for member in set.iter() {
        for (name, families) in [("hello", ["IPv4", "IPv6"]), ("turned", ["IPv6", "IPv4"])] {
            let import = imported(member, ns, name);
            assert_eq!(texts(&import["spec"]["ipFamilies"]), families);
            let ips = texts(&import["spec"]["ips"]);
            let ips = ips.iter().map(|ip| ip.parse::<std::net::IpAddr>().unwrap());
            let found: Vec<_> = ips.map(|ip| if ip.is_ipv4() { "IPv4" } else { "IPv6" }).collect();
            assert_eq!(found, families);
        }
    }
}

/// `service_import`: the ports are the Service's.
#[test]
fn row_21_ports() {
    let ns = "row-21";
    let set = set_with(ns);
    export_hello(&set[0], &hello(ns));
    imports_become(&set, ns, "hello", "/spec/ports", &hello(ns)["spec"]["ports"]);
}

/// `service_import`: ports of all exports are united, and the difference is a conflict on both.
#[test]
fn row_22_union_of_ports() {
    let ns = "row-22";
    let set = set_with(ns);
    let sctp = json!([{ "name": "sctp", "port": 142, "protocol": "SCTP" }]);
    export_hello(&set[0], &hello(ns));
    export_hello(&set[1], &with(hello(ns), json!({ "spec": { "ports": sctp } })));
    conflict_on_both(&[&set[0], &set[1]], ns, "PortConflict");
    let mut all = hello(ns)["spec"]["ports"].clone();
    all.as_array_mut().unwrap().push(sctp[0].clone());
    imports_become(&set, ns, "hello", "/spec/ports", &all);
}

/// `service_import`: of two ports with one name the oldest export's counts, and the difference is a conflict on both.
#[test]
fn row_23_one_name_two_numbers() {
    let ns = "row-23";
    let set = set_with(ns);
    let other = json!([{ "name": "tcp", "port": 43, "protocol": "TCP" }, hello(ns)["spec"]["ports"][1]]);
    export_hello(&set[0], &hello(ns));
    export_hello(&set[1], &with(hello(ns), json!({ "spec": { "ports": other } })));
    conflict_on_both(&[&set[0], &set[1]], ns, "PortConflict");
    imports_become(&set, ns, "hello", "/spec/ports", &hello(ns)["spec"]["ports"]);
}

/// `service_import`: a headless Service becomes an import of type Headless, and goes with the export.
#[test]
fn row_24_headless() {
    let ns = "row-24";
    let set = set_with(ns);
    export_hello(&set[0], &headless_service(ns, "hello"));
    verdict_becomes(&set[0], ns, "hello", "Valid", "True/Valid");
    imports_become(&set, ns, "hello", "/spec/type", &json!("Headless"));
    set[0].delete("ServiceExport", ns, "hello");
    vanishes(&set, ns, "hello");
}

/// `service_import`: an import of type Headless gets no address, "consistently for 5 s".
#[test]
fn row_25_no_address_for_headless() {
    let ns = "row-25";
    let set = set_with(ns);
    export_hello(&set[0], &headless_service(ns, "hello"));
    for member in set.iter() {
        imported(member, ns, "hello");
    }
    stays("no cluster gives it an address", Duration::from_secs(5), || {
        set.iter().all(|member| {
            let import = member.get("ServiceImport", ns, "hello").unwrap();
            texts(&import["spec"]["ips"]).is_empty()
        })
    });
}

/// `service_import`: an ExternalName Service can't be exported.
#[test]
fn row_26_external_name() {
    let ns = "row-26";
    let set = set_with(ns);
    let external = json!({ "spec": { "type": "ExternalName", "externalName": "example.com" } });
    export_hello(&set[0], &with(object("v1", "Service", ns, "hello"), external));
    verdict_becomes(&set[0], ns, "hello", "Valid", "False/InvalidServiceType");
    stays("nothing is imported", Duration::from_secs(1), || {
        set.iter().all(|member| member.get("ServiceImport", ns, "hello").is_none())
    });
    assert_eq!(set[1].dig(&format!("{} A", fqdn(ns, "hello"))).status, "NXDOMAIN");
}

/// `service_import`: whether the service is headless is for the oldest export to say, and the difference is a conflict on
/// both.
#[test]
fn row_27_conflict_of_headlessness() {
    let ns = "row-27";
    let set = set_with(ns);
    export_hello(&set[0], &service(ns, "hello"));
    export_hello(&set[1], &headless_service(ns, "hello"));
    conflict_on_both(&[&set[0], &set[1]], ns, "TypeConflict");
    imports_become(&set, ns, "hello", "/spec/type", &json!("ClusterSetIP"));
    let valid = set[1].get("ServiceExport", ns, "hello").unwrap();
    assert_eq!(condition(&valid, "Valid").unwrap()["status"], "True");
}
