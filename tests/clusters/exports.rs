//! From an export in one cluster to the answer in all, and back.

use std::collections::BTreeSet;
use std::time::Duration;

use portolan_tests::harness::kubernetes::{Member, export, headless_service, pod, service, with};
use portolan_tests::harness::{becomes, eventually, stays};
use serde_json::json;

use crate::steps::{
    answers_become, endpoints, fqdn, imported, imports_become, mirrored, set_with, texts, vanishes, verdict,
    verdict_becomes,
};

/// KEP-1645: an exported Service "can be consumed from any cluster of the clusterset". Each has its own virtual IP for it,
/// which DNS answers and kube-proxy connects, and what is not exported stays at home.
#[test]
fn an_exported_service_is_there_in_every_cluster() {
    let ns = "exports-web";
    let set = set_with(ns);
    for name in ["web", "private"] {
        set[0].put(&service(ns, name));
        set[0].run_pod(ns, name, &format!("{name}-1"), &["10.1.0.1"]);
    }
    set[0].put(&export(ns, "web"));

    let mut addresses = BTreeSet::new();
    for member in set.iter() {
        let import = imported(member, ns, "web");
        assert_eq!(import["spec"]["type"], "ClusterSetIP");
        assert_eq!(import["spec"]["ports"], json!([{ "name": "http", "protocol": "TCP", "port": 80 }]));
        assert_eq!(import["status"]["clusters"], json!([{ "cluster": "paris" }]));
        let ips = texts(&import["spec"]["ips"]);
        assert!(addresses.insert(ips.clone()), "{ips:?} in two clusters");
        becomes("the answer", &ips, || member.answer(&format!("{} A", fqdn(ns, "web"))));
        let srv = member.answer(&format!("_http._tcp.{} SRV", fqdn(ns, "web")));
        assert_eq!(srv, [format!("0 100 80 {}", fqdn(ns, "web"))]);

        let derived = &import["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"];
        let derived = derived.as_str().unwrap();
        let gives = member.get("Service", ns, derived).unwrap();
        assert_eq!(texts(&gives["spec"]["clusterIPs"]), ips);
        assert!(gives["spec"]["selector"].is_null(), "kube-controller-manager leaves its slices to us");
        becomes("what kube-proxy connects", &BTreeSet::from(["paris 10.1.0.1".to_owned()]), || {
            endpoints(&member.list("EndpointSlice", ns, &format!("kubernetes.io/service-name={derived}")))
        });

        assert_eq!(member.dig(&format!("{} A", fqdn(ns, "private"))).status, "NXDOMAIN");
        assert!(member.get("ServiceImport", ns, "private").is_none());
    }
    for (kind, expected) in
        [("Valid", "True/Valid"), ("Ready", "True/Ready"), ("Conflict", "False/NoConflicts")]
    {
        verdict_becomes(&set[0], ns, "web", kind, expected);
    }
}

/// KEP-1645: "If all clusters unexport, the ServiceImport is removed": until then it and its address stay.
#[test]
fn the_last_export_takes_the_service_along() {
    let ns = "exports-last";
    let set = set_with(ns);
    for (number, address) in [(0, "10.1.0.1"), (1, "10.2.0.1")] {
        set[number].put(&service(ns, "web"));
        set[number].run_pod(ns, "web", "web-1", &[address]);
        set[number].put(&export(ns, "web"));
    }
    imports_become(
        &set,
        ns,
        "web",
        "/status/clusters",
        &json!([{ "cluster": "paris" }, { "cluster": "tokyo" }]),
    );
    let both = BTreeSet::from(["paris 10.1.0.1".to_owned(), "tokyo 10.2.0.1".to_owned()]);
    let before: Vec<_> = set.iter().map(|member| imported(member, ns, "web")).collect();
    for member in set.iter() {
        becomes("the endpoints of both", &both, || endpoints(&mirrored(member, ns, "web")));
    }

    assert!(set[0].delete("ServiceExport", ns, "web"));
    imports_become(&set, ns, "web", "/status/clusters", &json!([{ "cluster": "tokyo" }]));
    for (member, before) in set.iter().zip(&before) {
        let left = BTreeSet::from(["tokyo 10.2.0.1".to_owned()]);
        becomes("the endpoints of the other", &left, || endpoints(&mirrored(member, ns, "web")));
        let now = imported(member, ns, "web");
        assert_eq!(now["metadata"]["uid"], before["metadata"]["uid"], "the import is the same object");
        assert_eq!(now["spec"]["ips"], before["spec"]["ips"], "the address is stable");
        assert_eq!(member.answer(&format!("{} A", fqdn(ns, "web"))), texts(&before["spec"]["ips"]));
    }

    assert!(set[1].delete("ServiceExport", ns, "web"));
    vanishes(&set, ns, "web");
    assert!(set[0].get("Service", ns, "web").is_some(), "the Service itself is not ours");
}

/// An export without its Service is not valid (KEP-1645); it counts again when the Service is back. Whoever replaces a
/// Service deletes it first (`helm upgrade --force`): clients in all clusters know the virtual IP, and go on using it.
#[test]
fn a_service_is_deleted_and_made_again() {
    let ns = "exports-again";
    let set = set_with(ns);
    set[0].put(&export(ns, "web"));
    verdict_becomes(&set[0], ns, "web", "Valid", "False/NoService");
    let mut before = Vec::new();
    for round in 0..3 {
        set[0].put(&service(ns, "web"));
        set[0].run_pod(ns, "web", "web-1", &["10.1.0.1"]);
        verdict_becomes(&set[0], ns, "web", "Valid", "True/Valid");
        imports_become(&set, ns, "web", "/status/clusters", &json!([{ "cluster": "paris" }]));
        let known = |member: &Member| {
            let import = imported(member, ns, "web");
            (import["metadata"]["uid"].clone(), texts(&import["spec"]["ips"]))
        };
        let now: Vec<_> = set.iter().map(known).collect();
        for (member, (_, ips)) in set.iter().zip(&now) {
            becomes("the answer", ips, || member.answer(&format!("{} A", fqdn(ns, "web"))));
        }
        assert!(round == 0 || now == before, "{now:?} was {before:?}");
        before = now;
        assert!(set[0].delete("Service", ns, "web"));
        verdict_becomes(&set[0], ns, "web", "Valid", "False/NoService");
        for (member, (_, ips)) in set.iter().zip(&before) {
            becomes("no endpoint is left", &0, || mirrored(member, ns, "web").len());
            let import = member.get("ServiceImport", ns, "web").unwrap();
            assert_eq!(import["status"]["clusters"], json!([{ "cluster": "paris" }]), "whom it waits for");
            assert_eq!(&member.answer(&format!("{} A", fqdn(ns, "web"))), ips, "its address stays");
        }
    }
    assert!(set[0].delete("ServiceExport", ns, "web"));
    vanishes(&set, ns, "web");

    // What is taken back goes at once. Who exports it again soon gets the former address.
    set[0].put(&service(ns, "web"));
    set[0].put(&export(ns, "web"));
    for (member, (uid, ips)) in set.iter().zip(&before) {
        let import = imported(member, ns, "web");
        assert_eq!(&texts(&import["spec"]["ips"]), ips);
        assert_ne!(&import["metadata"]["uid"], uid);
    }
}

/// Namespace sameness: a ServiceImport is made only where the namespace is, and as soon as it is.
#[test]
fn a_namespace_appears_later() {
    let ns = "exports-later";
    let set = portolan_tests::harness::kubernetes::Clusterset::shared();
    let (paris, tokyo) = (&set[0], &set[1]);
    paris.namespace(ns);
    paris.put(&service(ns, "web"));
    paris.put(&export(ns, "web"));
    imported(paris, ns, "web");
    let question = format!("{} A", fqdn(ns, "web"));
    stays("nothing is imported where the namespace is not", Duration::from_secs(1), || {
        tokyo.list("ServiceImport", "", "").iter().all(|import| import["metadata"]["namespace"] != ns)
            && tokyo.get("Namespace", "", ns).is_none()
            && tokyo.dig(&question).status == "NXDOMAIN"
    });
    tokyo.namespace(ns);
    let ips = texts(&imported(tokyo, ns, "web")["spec"]["ips"]);
    becomes("the answer", &ips, || tokyo.answer(&question));
}

/// KEP-1645 DNS §2.4: a headless service answers the ready endpoints of all clusters, and NXDOMAIN when there are none.
#[test]
fn headless_services_answer_the_ready_endpoints_of_all_clusters() {
    let ns = "exports-headless";
    let set = set_with(ns);
    let question = format!("{} A", fqdn(ns, "db"));
    for (number, address) in [(0, "10.1.0.1"), (1, "10.2.0.1")] {
        set[number].put(&headless_service(ns, "db"));
        set[number].run_pod(ns, "db", "db-1", &[address]);
        set[number].put(&export(ns, "db"));
    }
    answers_become(&set, &question, &["10.1.0.1", "10.2.0.1"]);
    for member in set.iter() {
        let import = imported(member, ns, "db");
        assert_eq!(import["spec"]["type"], "Headless");
        assert!(texts(&import["spec"]["ips"]).is_empty());
        assert_eq!(member.dig(&format!("paris.{} A", fqdn(ns, "db"))).answer, [""; 0], "KEP-1645 DNS §2.4.4");
    }
    set[1].run_pod(ns, "db", "db-2", &["10.2.0.2"]);
    answers_become(&set, &question, &["10.1.0.1", "10.2.0.1", "10.2.0.2"]);
    set[0].set_ready(&pod(ns, "db", "db-1"), &["10.1.0.1"], false);
    answers_become(&set, &question, &["10.2.0.1", "10.2.0.2"]);
    for name in ["db-1", "db-2"] {
        assert!(set[1].delete("Pod", ns, name));
    }
    answers_become(&set, &question, &[]);
    set[0].set_ready(&pod(ns, "db", "db-1"), &["10.1.0.1"], true);
    answers_become(&set, &question, &["10.1.0.1"]);
}

/// KEP-1645 DNS §2.4.2 and §2.4.3: `<hostname>.<clusterid>.<svc>` for each ready endpoint, and SRV records that lead
/// there. Pods of a StatefulSet have such hostnames, the same in each cluster.
#[test]
fn pods_of_stateful_sets_have_names() {
    let ns = "exports-stateful";
    let set = set_with(ns);
    for (number, network) in [(0, "10.1.0"), (1, "10.2.0")] {
        set[number].put(&headless_service(ns, "db"));
        for ordinal in 0..2 {
            let name = format!("db-{ordinal}");
            let hostname = json!({ "spec": { "hostname": name, "subdomain": "db", "nodeName": "node-b" } });
            set[number].run(&with(pod(ns, "db", &name), hostname), &[&format!("{network}.{ordinal}")]);
        }
        set[number].put(&export(ns, "db"));
    }
    let db = fqdn(ns, "db");
    answers_become(&set, &format!("db-0.paris.{db} A"), &["10.1.0.0"]);
    answers_become(&set, &format!("db-1.paris.{db} A"), &["10.1.0.1"]);
    answers_become(&set, &format!("db-1.tokyo.{db} A"), &["10.2.0.1"]);
    answers_become(&set, &format!("db-1.lima.{db} A"), &[]);
    answers_become(&set, &format!("db-2.paris.{db} A"), &[]);
    let srv = ["db-0.paris", "db-0.tokyo", "db-1.paris", "db-1.tokyo"];
    let srv = srv.map(|host| format!("0 25 8080 {host}.{db}"));
    answers_become(&set, &format!("_http._tcp.{db} SRV"), &srv.each_ref().map(String::as_str));
    for member in set.iter() {
        let slices = mirrored(member, ns, "db");
        let all: Vec<_> = slices.iter().flat_map(|slice| slice["endpoints"].as_array().unwrap()).collect();
        assert_eq!(all.len(), 4);
        for endpoint in all {
            assert!(endpoint["hostname"].as_str().unwrap().starts_with("db-"), "{endpoint}");
            assert_eq!((&endpoint["nodeName"], &endpoint["zone"]), (&json!("node-b"), &json!("b")));
        }
    }
    let gone = |number: usize| set[number].delete("Pod", ns, "db-0");
    assert!(gone(0));
    answers_become(&set, &format!("db-0.paris.{db} A"), &[]);
    answers_become(&set, &format!("db-0.tokyo.{db} A"), &["10.2.0.0"]);
}

/// KEP-1645 DNS §2.2 and §2.4: both families, and of headless services "the same subset" of endpoints in both.
#[test]
fn both_address_families_are_answered() {
    let ns = "exports-dual";
    let set = set_with(ns);
    let dual = json!({ "spec": { "ipFamilyPolicy": "RequireDualStack" } });
    set[0].put(&with(service(ns, "web"), dual.clone()));
    set[0].put(&with(headless_service(ns, "db"), dual));
    set[0].run_pod(ns, "db", "db-1", &["10.1.0.1", "fd01::1"]);
    set[0].run_pod(ns, "db", "db-2", &["10.1.0.2", "fd01::2"]);
    for name in ["web", "db"] {
        set[0].put(&export(ns, name));
    }
    answers_become(&set, &format!("{} A", fqdn(ns, "db")), &["10.1.0.1", "10.1.0.2"]);
    answers_become(&set, &format!("{} AAAA", fqdn(ns, "db")), &["fd01::1", "fd01::2"]);
    for member in set.iter() {
        let import = imported(member, ns, "web");
        assert_eq!(import["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
        let ips = texts(&import["spec"]["ips"]);
        assert_eq!(ips.len(), 2);
        for (rtype, ip) in ["A", "AAAA"].iter().zip(&ips) {
            let question = format!("{} {rtype}", fqdn(ns, "web"));
            becomes(&question, &vec![ip.clone()], || member.answer(&question));
        }
    }
}

/// What an export is about may change at any time: ports, and the family that is missing.
#[test]
fn a_changed_service_changes_its_imports() {
    let ns = "exports-change";
    let set = set_with(ns);
    set[1].put(&service(ns, "web"));
    set[1].put(&export(ns, "web"));
    let before = imported(&set[2], ns, "web");
    let ports =
        json!([{ "name": "grpc", "port": 9000, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c" }]);
    set[1].patch("Service", ns, "web", json!({ "spec": { "ports": ports } }));
    imports_become(&set, ns, "web", "/spec/ports", &ports);
    let target = fqdn(ns, "web");
    answers_become(&set, &format!("_grpc._tcp.{target} SRV"), &[&format!("0 100 9000 {target}")]);
    answers_become(&set, &format!("_http._tcp.{target} SRV"), &[]);
    set[1].patch("Service", ns, "web", json!({ "spec": { "ipFamilyPolicy": "RequireDualStack" } }));
    imports_become(&set, ns, "web", "/spec/ipFamilies", &json!(["IPv4", "IPv6"]));
    let after = imported(&set[2], ns, "web");
    assert_eq!(after["spec"]["ips"][0], before["spec"]["ips"][0], "the address is stable");
    eventually("the other family is answered", || {
        set[2].answer(&format!("{target} AAAA")) == [after["spec"]["ips"][1].as_str().unwrap()]
    });
}

/// Nobody but a Service's own cluster speaks for it: an export of a name that only another cluster has is not valid.
#[test]
fn an_export_is_of_its_own_cluster() {
    let ns = "exports-own";
    let set = set_with(ns);
    set[0].put(&service(ns, "web"));
    set[1].put(&export(ns, "web"));
    verdict_becomes(&set[1], ns, "web", "Valid", "False/NoService");
    assert_eq!(verdict(&set[1], ns, "web", "Ready"), "False/Pending");
    vanishes(&set, ns, "web");
}
