//! What two clusters' exports may disagree on (KEP-1645, Constraints and Conflict Resolution): the oldest export wins,
//! every export says so, and no longer once they agree.

use portolan_tests::harness::becomes;
use portolan_tests::harness::kubernetes::{Clusterset, export, headless_service, service, with};
use serde_json::{Value, json};

use crate::steps::{answers_become, fqdn, imported, imports_become, set_with, texts, verdict_becomes};

/// One thing that two exports disagree on.
struct Case {
    /// Of the condition; and the services' namespace.
    reason: &'static str,
    /// Merged into the Service and the export of the older one, and of the younger one.
    older: (Value, Value),
    younger: (Value, Value),
    /// What all imports have, and where.
    holds: (&'static str, Value),
}

impl Case {
    fn services(reason: &'static str, older: Value, younger: Value, at: &'static str, holds: Value) -> Self {
        Self { reason, older: (older, json!({})), younger: (younger, json!({})), holds: (at, holds) }
    }

    fn exports(reason: &'static str, older: Value, younger: Value, at: &'static str, holds: Value) -> Self {
        Self { reason, older: (json!({}), older), younger: (json!({}), younger), holds: (at, holds) }
    }

    fn namespace(&self) -> String {
        self.reason.to_lowercase()
    }
}

fn put(set: &Clusterset, number: usize, ns: &str, (of_service, of_export): &(Value, Value)) {
    set[number].put(&with(service(ns, "web"), json!({ "spec": of_service })));
    set[number].put(&with(export(ns, "web"), json!({ "spec": of_export })));
}

/// Two exports disagree, agree by a change of the younger one, disagree again, and then the older one goes.
fn check(case: &Case) {
    let ns = &case.namespace();
    let set = set_with(ns);
    let both = |expected: &str| {
        for member in [&set[0], &set[1]] {
            verdict_becomes(member, ns, "web", "Conflict", expected);
        }
    };
    let there_is = format!("True/{}", case.reason);
    put(&set, 0, ns, &case.older);
    put(&set, 1, ns, &case.younger);
    both(&there_is);
    imports_become(&set, ns, "web", case.holds.0, &case.holds.1);
    for member in set.iter() {
        let ips = texts(&imported(member, ns, "web")["spec"]["ips"]);
        becomes("a conflict keeps nothing from being answered", &ips[..1].to_vec(), || {
            member.answer(&format!("{} A", fqdn(ns, "web")))
        });
    }
    put(&set, 1, ns, &case.older);
    both("False/NoConflicts");
    put(&set, 1, ns, &case.younger);
    both(&there_is);
    assert!(set[0].delete("ServiceExport", ns, "web"));
    verdict_becomes(&set[1], ns, "web", "Conflict", "False/NoConflicts");
    imports_become(&set, ns, "web", "/status/clusters", &json!([{ "cluster": "tokyo" }]));
}

#[test]
fn session_affinity() {
    check(&Case::services(
        "SessionAffinityConflict",
        json!({ "sessionAffinity": "ClientIP" }),
        json!({ "sessionAffinity": "None" }),
        "/spec/sessionAffinity",
        json!("ClientIP"),
    ));
}

#[test]
fn session_affinity_config() {
    let sticky = |seconds| {
        json!({
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": seconds } },
        })
    };
    check(&Case::services(
        "SessionAffinityConfigConflict",
        sticky(60),
        sticky(90),
        "/spec/sessionAffinityConfig/clientIP/timeoutSeconds",
        json!(60),
    ));
}

#[test]
fn internal_traffic_policy() {
    check(&Case::services(
        "InternalTrafficPolicyConflict",
        json!({ "internalTrafficPolicy": "Local" }),
        json!({ "internalTrafficPolicy": "Cluster" }),
        "/spec/internalTrafficPolicy",
        json!("Local"),
    ));
}

#[test]
fn traffic_distribution() {
    check(&Case::services(
        "TrafficDistributionConflict",
        json!({ "trafficDistribution": "PreferClose" }),
        json!({ "trafficDistribution": null }),
        "/spec/trafficDistribution",
        json!("PreferClose"),
    ));
}

#[test]
fn ip_families() {
    check(&Case::services(
        "IPFamilyConflict",
        json!({ "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"] }),
        json!({ "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"] }),
        "/spec/ipFamilies",
        json!(["IPv4"]),
    ));
}

#[test]
fn exported_labels() {
    check(&Case::exports(
        "LabelsConflict",
        json!({ "exportedLabels": { "tier": "gold" } }),
        json!({ "exportedLabels": { "tier": "lead" } }),
        "/metadata/labels/tier",
        json!("gold"),
    ));
}

#[test]
fn exported_annotations() {
    check(&Case::exports(
        "AnnotationsConflict",
        json!({ "exportedAnnotations": { "tier": "gold" } }),
        json!({ "exportedAnnotations": { "tier": "lead" } }),
        "/metadata/annotations/tier",
        json!("gold"),
    ));
}

/// "Ports: union; merge by name first, then by (protocol, number)": the number that another name has is the oldest's.
#[test]
fn ports() {
    let http = json!({ "name": "http", "protocol": "TCP", "port": 80 });
    let metrics = json!({ "name": "metrics", "protocol": "TCP", "port": 9100 });
    check(&Case::services(
        "PortConflict",
        json!({ "ports": [http] }),
        json!({ "ports": [{ "name": "web", "protocol": "TCP", "port": 80 }, metrics] }),
        "/spec/ports",
        json!([http, metrics]),
    ));
}

/// A Service can't become headless: it is made again, and the conflict is gone.
#[test]
fn types() {
    let ns = "typeconflict";
    let set = set_with(ns);
    set[0].put(&headless_service(ns, "web"));
    set[0].run_pod(ns, "web", "web-1", &["10.1.0.1"]);
    set[1].put(&service(ns, "web"));
    set[1].run_pod(ns, "web", "web-1", &["10.2.0.1"]);
    for number in [0, 1] {
        set[number].put(&export(ns, "web"));
        // The older one first, even in one second: `paris` is before `tokyo`.
        verdict_becomes(&set[number], ns, "web", "Valid", "True/Valid");
    }
    for number in [0, 1] {
        verdict_becomes(&set[number], ns, "web", "Conflict", "True/TypeConflict");
    }
    imports_become(&set, ns, "web", "/spec/type", &json!("Headless"));
    answers_become(&set, &format!("{} A", fqdn(ns, "web")), &["10.1.0.1", "10.2.0.1"]);

    assert!(set[1].delete("Service", ns, "web"));
    verdict_becomes(&set[1], ns, "web", "Valid", "False/NoService");
    answers_become(&set, &format!("{} A", fqdn(ns, "web")), &["10.1.0.1"]);
    set[1].put(&headless_service(ns, "web"));
    for number in [0, 1] {
        verdict_becomes(&set[number], ns, "web", "Conflict", "False/NoConflicts");
    }
    answers_become(&set, &format!("{} A", fqdn(ns, "web")), &["10.1.0.1", "10.2.0.1"]);
}

/// "ConflictReason … multiple reasons separated by comma": all at once, on every export of three, and one cluster's
/// change clears its part only.
#[test]
fn several_at_once() {
    let ns = "conflicts-many";
    let set = set_with(ns);
    let sticky = json!({ "sessionAffinity": "ClientIP" });
    let local = json!({ "internalTrafficPolicy": "Local" });
    put(&set, 0, ns, &(json!({}), json!({})));
    put(&set, 1, ns, &(sticky, json!({})));
    verdict_becomes(&set[0], ns, "web", "Conflict", "True/SessionAffinityConflict");
    // Lima must not be as old as Paris, for it is before it.
    let second = |number: usize| {
        let export = set[number].get("ServiceExport", ns, "web").unwrap();
        export["metadata"]["creationTimestamp"].as_str().unwrap().to_owned()
    };
    becomes("Lima's export is younger", &true, || {
        set[2].delete("ServiceExport", ns, "web");
        put(&set, 2, ns, &(local.clone(), json!({})));
        second(2) > second(0)
    });
    for member in set.iter() {
        let expected = "True/SessionAffinityConflict,InternalTrafficPolicyConflict";
        verdict_becomes(member, ns, "web", "Conflict", expected);
    }
    put(&set, 1, ns, &(json!({ "sessionAffinity": "None" }), json!({})));
    for member in set.iter() {
        verdict_becomes(member, ns, "web", "Conflict", "True/InternalTrafficPolicyConflict");
    }
    assert!(set[2].delete("ServiceExport", ns, "web"));
    for member in [&set[0], &set[1]] {
        verdict_becomes(member, ns, "web", "Conflict", "False/NoConflicts");
    }
    imports_become(&set, ns, "web", "/spec/internalTrafficPolicy", &json!("Cluster"));
}
