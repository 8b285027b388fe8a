//! Virtual IPs that there are not enough of, or that somebody else has.

use portolan_tests::harness::kubernetes::{
    Cluster, Clusterset, Options, Plan, condition, export, object, service, with,
};
use portolan_tests::harness::{Setup, becomes, eventually, until};
use serde_json::json;

use super::status;
use crate::peers::{answer_becomes, export_db, home};
use crate::steps::{fqdn, imported, texts, verdict_becomes};

/// Ranges of other systems are refused before anything runs.
#[test]
fn a_pool_in_a_range_of_others_is_refused() {
    for (range, whose) in [
        ("ipv4: 240.240.1.0/24", "Istio"),
        ("ipv4: 242.0.0.0/8", "Submariner"),
        ("ipv4: 243.1.0.0/16", "Submariner"),
        ("ipv4: 240.0.0.0/4", "Istio"),
        ("ipv6: '2001:2::/64'", "Istio"),
    ] {
        let setup = Setup::new("kubernetes: {kubeconfig: none}\ncontroller: {vips: Pool}\n")
            .with(&format!("vips: {{pool: {{{range}}}}}"))
            .for_command("controller");
        let (good, text) = setup.run("controller", &[]);
        assert!(!good && text.contains("overlaps") && text.contains(whose), "{range}: {text}");
    }
}

/// A pool that holds an address which an import has: the import keeps it, and nobody else gets it.
#[test]
fn a_pool_gives_no_address_that_an_import_has() {
    let ns = "shop";
    let pool = "controller: {vips: Pool}\nvips: {pool: {ipv4: 241.7.0.0/29, ipv6: ''}}";
    let set = home(Plan { controller: pool.into(), ..Plan::new(1) });
    let oslo = &set[0];
    oslo.namespace(ns);
    let import = object("multicluster.x-k8s.io/v1beta1", "ServiceImport", ns, "old");
    let spec =
        json!({ "type": "ClusterSetIP", "ips": ["241.7.0.3"], "ports": [{ "name": "http", "port": 80 }] });
    oslo.put(&with(import, json!({ "spec": spec })));
    eventually("the older import is answered", || {
        oslo.answer(&format!("{} A", fqdn(ns, "old"))) == ["241.7.0.3"]
    });

    // As many as the pool has addresses, or more: each is in it, no two are one, and none is the older import's.
    let names: Vec<_> = (0..8).map(|number| format!("web-{number}")).collect();
    for name in &names {
        oslo.put(&service(ns, name));
        oslo.put(&export(ns, name));
    }
    let given = || {
        let imports = oslo.list("ServiceImport", ns, "portolan.dev/managed=true");
        let ips = imports.iter().flat_map(|import| texts(&import["spec"]["ips"]));
        let mut ips: Vec<_> = ips.collect();
        ips.sort();
        ips
    };
    let usable = until("the pool is used up", || Some(given()).filter(|ips| ips.len() >= 5)).0.len();
    eventually("the others say so", || {
        let imports = oslo.list("ServiceImport", ns, "portolan.dev/managed=true");
        let waiting = imports.iter().filter_map(|import| condition(import, "Ready"));
        waiting.filter(|ready| ready["message"].as_str().unwrap().contains("the pool has none left")).count()
            + given().len()
            == 8
    });
    let ips = given();
    assert!(ips.iter().all(|ip| ip.starts_with("241.7.0.") && ip != "241.7.0.3"), "{ips:?}");
    let mut once = ips.clone();
    once.dedup();
    assert_eq!((once.len(), ips.len() >= usable), (ips.len(), true), "{ips:?}");
    assert_eq!(oslo.answer(&format!("{} A", fqdn(ns, "old"))), ["241.7.0.3"]);
}

/// No address is left for a derived Service: the import says so, everything else goes on, and it is healed when there is
/// one again.
#[test]
fn the_range_of_services_is_exhausted() {
    let ns = "shop";
    // 14 addresses, of which Kubernetes has one itself.
    let tiny = vec!["--service-cluster-ip-range=10.77.0.0/28".into()];
    let cluster = Cluster::start(Options { arguments: tiny, ..Options::new("oslo") });
    let set = Clusterset::over(vec![cluster], &Plan { ids: vec!["oslo"], ..Plan::new(1) });
    let oslo = &set[0];
    oslo.namespace(ns);
    oslo.put(&service(ns, "web"));
    let filler = |number: usize| service(ns, &format!("filler-{number}"));
    let full = (0..20).find(|number| oslo.try_put(&filler(*number)).is_err());
    assert!(full.is_some_and(|full| full > 0), "{full:?}");
    oslo.put(&export(ns, "web"));
    let ready = || {
        let import = oslo.get("ServiceImport", ns, "web").unwrap_or_default();
        condition(&import, "Ready")
            .map(|ready| format!("{}: {}", ready["status"], ready["message"]))
            .unwrap_or_default()
    };
    eventually("the import says what is missing", || {
        ready().contains("False") && ready().contains("range of Service addresses is exhausted")
    });
    verdict_becomes(oslo, ns, "web", "Ready", "True/Ready");
    let text = format!("{ns}/web: no virtual IP is left for it");
    eventually("the status says so", || status(oslo).contains(&text));
    assert_eq!(oslo.dig(&format!("{} A", fqdn(ns, "web"))).answer, [""; 0]);
    export_db(oslo, ns, "10.1.0.1");
    answer_becomes(oslo, &format!("{} A", fqdn(ns, "db")), &["10.1.0.1"]);

    assert!(oslo.delete("Service", ns, "filler-0"));
    let ips = texts(&imported(oslo, ns, "web")["spec"]["ips"]);
    assert!(ips.len() == 1 && ips[0].starts_with("10.77.0."), "{ips:?}");
    becomes("it is answered", &ips, || oslo.answer(&format!("{} A", fqdn(ns, "web"))));
    verdict_becomes(oslo, ns, "web", "Ready", "True/Ready");
}
