//! What is kept of the own cluster's objects, and what a sweep makes of it.

use std::collections::HashSet;

use serde_json::json;

use super::super::sweep;
use super::*;
use crate::convert::Kind;
use crate::kubernetes::Tap;

fn keys(list: &[(&str, &str)]) -> HashSet<(String, String)> {
    list.iter().map(|(ns, name)| ((*ns).to_owned(), (*name).to_owned())).collect()
}

/// A list that lacks an object says that it is gone: the watch may have missed its end.
#[test]
fn what_a_list_lacks_is_gone() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.settle();
    home.observed.listed(Kind::EndpointSlice, &keys(&[]));
    home.observed.listed(Kind::Service, &keys(&[("shop", "web")]));
    let facts = home.observed.see(&web()).facts;
    assert!(facts.slices.is_empty() && facts.derived.is_none());
    assert!(facts.kind.is_some() && facts.import.is_some() && facts.export.is_some());
    home.observed.listed(Kind::ServiceImport, &keys(&[]));
    home.observed.listed(Kind::ServiceExport, &keys(&[]));
    home.observed.listed(Kind::Service, &keys(&[]));
    assert!(home.observed.services().is_empty());
    home.observed.listed(Kind::Namespace, &keys(&[]));
    assert!(!home.observed.see(&web()).namespace);
}

/// Only what makes a difference wakes anybody: our own writes, told back by the watch, don't.
#[test]
fn what_was_written_by_ourselves_is_no_news() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.settle();
    home.observed.take_touched();
    for ((kind, ..), object) in &home.store {
        if let Some(kind) = told(kind) {
            home.observed.apply(kind, &object.to_string());
        }
    }
    assert_eq!(home.observed.take_touched().services.len(), 0);
    let name = home.names("EndpointSlice").remove(0);
    home.remove("EndpointSlice", &name);
    assert!(home.observed.take_touched().services.contains(&web()));
}

fn told(kind: &str) -> Option<Kind> {
    Some(match kind {
        "ServiceImport" => Kind::ServiceImport,
        "ServiceExport" => Kind::ServiceExport,
        "EndpointSlice" => Kind::EndpointSlice,
        _ => return None,
    })
}

/// A sweep deletes what is ours by every sign of its kind and belongs to no service. Labels are copied: by people, by tools
/// that label all that they deploy, and by Kubernetes from a Service onto its slices.
#[test]
fn strays_are_swept_and_what_others_made_is_not() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.settle();
    assert_eq!(sweep::strays(&home.observed), []);
    let managed = "portolan.dev/managed";
    let by = "endpointslice.kubernetes.io/managed-by";
    let owner = |group: &str, kind: &str| json!([{ "apiVersion": format!("{group}/v1beta1"), "kind": kind, "name": "x", "uid": "u" }]);
    let import = || owner("multicluster.x-k8s.io", "ServiceImport");
    // Kind, name, labels, owners, whether it is ours.
    let cases = [
        (
            "EndpointSlice",
            "stray",
            json!({ managed: "true", by: "controller.portolan.dev" }),
            json!(null),
            true,
        ),
        (
            "EndpointSlice",
            "copied",
            json!({ managed: "true", by: "endpointslice-controller.k8s.io" }),
            json!(null),
            false,
        ),
        ("EndpointSlice", "copied-alone", json!({ managed: "true" }), import(), false),
        ("EndpointSlice", "unlabelled", json!({ by: "controller.portolan.dev" }), json!(null), false),
        ("EndpointSlice", "helms", json!({ "app.kubernetes.io/managed-by": "Helm" }), json!(null), false),
        ("Service", "derived-stray", json!({ managed: "true" }), import(), true),
        (
            "Service",
            "portolan-dns",
            json!({ "app.kubernetes.io/managed-by": "portolan" }),
            json!(null),
            false,
        ),
        ("Service", "named", json!({ managed: "true" }), import(), false),
        ("Service", "derived-alone", json!({ managed: "true" }), json!(null), false),
        (
            "Service",
            "derived-others",
            json!({ managed: "true" }),
            owner("example.com", "ServiceImport"),
            false,
        ),
        ("Service", "derived-sets", json!({ managed: "true" }), owner("multicluster.x-k8s.io", "Set"), false),
    ];
    for (kind, name, labels, owners, _) in &cases {
        home.put(
            kind,
            json!({
                "metadata": { "namespace": "shop", "name": name, "labels": labels, "ownerReferences": owners },
                "addressType": "IPv4",
                "spec": { "type": "ClusterIP" },
            }),
        );
    }
    let mut swept: Vec<_> =
        sweep::strays(&home.observed).iter().map(|action| action.target.to_string()).collect();
    swept.sort();
    let ours = cases.iter().filter(|case| case.4).map(|(kind, name, ..)| format!("{kind} shop/{name}"));
    assert_eq!(swept, ours.collect::<Vec<_>>());
    // Another slice of ours that no cluster stands behind is too much for its service.
    let labels = json!({
        managed: "true",
        by: "controller.portolan.dev",
        "multicluster.kubernetes.io/service-name": "web",
        "multicluster.kubernetes.io/source-cluster": "gone",
    });
    home.put("EndpointSlice", json!({ "metadata": { "namespace": "shop", "name": "old", "labels": labels }, "addressType": "IPv4" }));
    assert_eq!(home.settle(), ["delete EndpointSlice shop/old"]);
}

/// A Service of the derived one's name that only looks like ours is in the way, and stays.
#[test]
fn a_service_that_bears_our_label_alone_is_not_taken_over() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.settle();
    let derived = home.names("Service").into_iter().find(|name| name.starts_with("derived-")).unwrap();
    let mut home = two_clusters(ServiceKind::ClusterIp);
    let labels = json!({ "portolan.dev/managed": "true", "multicluster.kubernetes.io/service-name": "web" });
    let metadata = json!({ "namespace": "shop", "name": derived, "labels": labels });
    let spec = json!({ "type": "ClusterIP", "clusterIP": "10.96.7.7", "clusterIPs": ["10.96.7.7"] });
    home.put("Service", json!({ "metadata": metadata, "spec": spec }));
    home.settle();
    assert_eq!(home.get("Service", &derived).unwrap()["spec"], spec);
    let (_, message) = home.condition("ServiceImport", "Ready").unwrap();
    assert!(message.contains(&derived), "{message}");
}

/// Objects may lack anything, or hold anything: what can't be read is as if it were not there, and nothing panics.
#[test]
fn any_json_is_taken() {
    let home = Home::new("east");
    let texts = [
        "",
        "null",
        "[]",
        "{}",
        r#"{"metadata":null}"#,
        r#"{"metadata":{"name":"web","namespace":"shop"},"spec":7}"#,
        r#"{"metadata":{"name":"web","namespace":"Shop!"}}"#,
        r#"{"metadata":{"name":"web","namespace":"shop","labels":{"portolan.dev/managed":"true"}},"spec":null,"endpoints":[null]}"#,
        r#"{"metadata":{"name":"web","namespace":"shop","resourceVersion":"x"},"status":{"conditions":null,"clusters":null}}"#,
    ];
    for kind in [
        Kind::Service,
        Kind::EndpointSlice,
        Kind::ServiceExport,
        Kind::ServiceImport,
        Kind::Namespace,
        Kind::Node,
        Kind::ClusterProperty,
    ] {
        for text in texts {
            home.observed.apply(kind, text);
            home.observed.delete(kind, "shop", "web");
        }
    }
    assert!(home.observed.services().is_empty());
}
