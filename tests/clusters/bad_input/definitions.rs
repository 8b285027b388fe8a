//! Definitions of the MCS API that are older than we are.

use std::time::Duration;

use portolan_tests::harness::kubernetes::{
    Cluster, Clusterset, Options, Plan, definitions, documents, export, service, with,
};
use portolan_tests::harness::{becomes, eventually, stays};
use serde_json::{Value, json};

use crate::steps::{endpoints, fqdn, imported, mirrored, verdict, verdict_becomes};

/// Fields of ServiceImports that came later than `v1beta1` did.
const LATER: [&str; 3] = ["ipFamilies", "internalTrafficPolicy", "trafficDistribution"];

/// An API server refuses what its definition lacks: what is left of an import is written, once, and people
/// are told what to install. When they did, all of it is written.
#[test]
fn definitions_that_lack_fields() {
    let ns = "shop";
    let paris = Cluster::start(Options { definitions: vec!["about"], ..Options::new("paris") });
    for definition in definitions("mcs") {
        paris.define(&older(&definition));
    }
    let mut set = Clusterset::over(vec![paris], &Plan::new(1));
    set.namespace(ns);
    let paris = &set[0];
    let near = json!({ "spec": { "trafficDistribution": "PreferClose", "internalTrafficPolicy": "Local" } });
    for name in ["web", "api"] {
        paris.put(&with(service(ns, name), near.clone()));
        paris.run_pod(ns, name, &format!("{name}-1"), &["10.1.0.1"]);
        paris.put(&export(ns, name));
        let import = imported(paris, ns, name);
        assert!(LATER.iter().all(|field| import["spec"][field].is_null()), "{import:#}");
        let ips = import["spec"]["ips"].as_array().unwrap().iter().map(|ip| ip.as_str().unwrap().to_owned());
        let ips: Vec<String> = ips.collect();
        becomes("it is answered", &ips, || paris.answer(&format!("{} A", fqdn(ns, name))));
        eventually("it is mirrored", || {
            endpoints(&mirrored(paris, ns, name)) == ["paris 10.1.0.1".to_owned()].into()
        });
        verdict_becomes(paris, ns, name, "Ready", "True/Ready");
        let derived = &import["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"];
        let derived = paris.get("Service", ns, derived.as_str().unwrap()).unwrap();
        assert_eq!(derived["spec"]["internalTrafficPolicy"], "Local", "kube-proxy is told all the same");
    }
    let words = "this cluster's definitions of the MCS API are old ones";
    eventually("people are told", || {
        let notices = paris.controller.status()["controller"]["problems"].to_string();
        notices.contains(words) && LATER.iter().all(|field| notices.contains(&format!("spec.{field}")))
    });
    let writes = || paris.controller.status()["controller"]["requests"].to_string();
    let before = writes();
    assert!(before.contains("ServiceImport"), "{before}");
    stays("nothing is written again and again", Duration::from_secs(3), || writes() == before);
    let log = paris.controller.log();
    assert_eq!(log.matches(words).count(), LATER.len(), "it is said once of each field: {log}");
    assert_eq!(verdict(paris, ns, "web", "Conflict"), "False/NoConflicts");

    for definition in definitions("mcs") {
        paris.define(&definition);
    }
    // A controller that begins to lead looks at everything anew; so does one that leads, every ten minutes.
    set[0].controller.kill();
    set[0].controller.start_again();
    let paris = &set[0];
    for name in ["web", "api"] {
        let spec = || {
            let import = paris.get("ServiceImport", ns, name).unwrap();
            LATER.map(|field| import["spec"][field].clone())
        };
        becomes("what was lacking", &[json!(["IPv4"]), json!("Local"), json!("PreferClose")], spec);
    }
    eventually("all is well", || paris.controller.status()["controller"]["problems"] == json!([]));
}

/// A definition without the later fields.
fn older(definition: &str) -> String {
    let mut definition = documents(definition).remove(0);
    for version in definition["spec"]["versions"].as_array_mut().unwrap() {
        let spec = &mut version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        let spec = spec.as_object_mut();
        if let Some(spec) = spec {
            spec.retain(|field, _| !LATER.contains(&&**field));
        }
    }
    Value::to_string(&definition)
}
