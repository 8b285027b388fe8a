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

/// A sweep deletes what has our label and belongs to no service, and nothing else.
#[test]
fn strays_are_swept() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.settle();
    assert_eq!(sweep::strays(&home.observed), []);
    let object = |name: &str, labels: serde_json::Value| json!({ "metadata": { "namespace": "shop", "name": name, "labels": labels }, "addressType": "IPv4" });
    let ours = json!({ "app.kubernetes.io/managed-by": "portolan" });
    home.put("EndpointSlice", object("stray", ours.clone()));
    home.put("Service", object("no-derived-name", ours));
    home.put("EndpointSlice", object("helms", json!({ "app.kubernetes.io/managed-by": "Helm" })));
    let mut swept: Vec<_> =
        sweep::strays(&home.observed).iter().map(|action| action.target.to_string()).collect();
    swept.sort();
    assert_eq!(swept, ["EndpointSlice shop/stray", "Service shop/no-derived-name"]);
    // Another slice of ours that no cluster stands behind is too much for its service.
    let labels = json!({
        "app.kubernetes.io/managed-by": "portolan",
        "multicluster.kubernetes.io/service-name": "web",
        "multicluster.kubernetes.io/source-cluster": "gone",
    });
    home.put("EndpointSlice", object("old", labels));
    assert_eq!(home.settle(), ["delete EndpointSlice shop/old"]);
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
        r#"{"metadata":{"name":"web","namespace":"shop","labels":{"app.kubernetes.io/managed-by":"portolan"}},"spec":null,"endpoints":[null]}"#,
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
