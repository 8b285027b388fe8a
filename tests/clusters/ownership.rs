//! What others made is theirs, whatever labels it bears: it is neither changed nor deleted, nor fought over.

use std::time::Duration;

use portolan_tests::harness::kubernetes::{
    Clusterset, Member, Plan, export, namespace, object, pod, service, with,
};
use portolan_tests::harness::{eventually, stays, until_within};
use serde_json::{Value, json};

use crate::steps::imported;

const NS: &str = "shop";
const MANAGED: &str = "portolan.dev/managed";
const BY: &str = "endpointslice.kubernetes.io/managed-by";

/// All objects of the kinds that we write: uid and version, which any write would change.
fn objects(member: &Member) -> Vec<String> {
    let text = |object: Value| {
        let metadata = &object["metadata"];
        format!("{} {} {} {}", object["kind"], metadata["name"], metadata["uid"], metadata["resourceVersion"])
    };
    let of = |kind: &str| member.list(kind, NS, "").into_iter().map(text).collect::<Vec<_>>();
    ["Service", "EndpointSlice", "ServiceImport"].into_iter().flat_map(of).collect()
}

/// The recommended label is put onto all sorts of objects by whoever packages us, and Kubernetes copies a Service's labels
/// to its slices. Our own label alone may be copied, too.
#[test]
fn labels_alone_make_nothing_ours() {
    let mut set = Clusterset::start(&Plan::new(1));
    let paris = &set[0];
    paris.put(&namespace(NS));
    let labels = [
        ("packaged", json!({ "app.kubernetes.io/managed-by": "portolan" })),
        ("copied", json!({ MANAGED: "true", "multicluster.kubernetes.io/service-name": "copied" })),
        ("derived-copied", json!({ MANAGED: "true" })),
    ];
    for (name, labels) in &labels {
        let labels = json!({ "metadata": { "labels": labels } });
        paris.put(&with(service(NS, name), labels.clone()));
        paris.run(&pod(NS, name, &format!("{name}-1")), &["10.1.0.1"]);
        let slice =
            json!({ "addressType": "IPv4", "ports": [], "endpoints": [{ "addresses": ["10.1.0.9"] }] });
        let slice =
            with(object("discovery.k8s.io/v1", "EndpointSlice", NS, &format!("by-hand-{name}")), slice);
        paris.put(&with(slice, labels));
    }
    let import = object("multicluster.x-k8s.io/v1beta1", "ServiceImport", NS, "packaged");
    let spec =
        json!({ "type": "ClusterSetIP", "ips": ["10.99.0.7"], "ports": [{ "name": "http", "port": 80 }] });
    paris.put(&with(import, json!({ "metadata": { "labels": labels[0].1 }, "spec": spec })));
    eventually("Kubernetes has made its slices, with the Services' labels", || {
        let made = format!("{BY}=endpointslice-controller.k8s.io");
        paris.list("EndpointSlice", NS, &format!("{made},{MANAGED}=true")).len() == 2
            && paris.list("EndpointSlice", NS, &made).iter().all(|slice| slice["endpoints"][0].is_object())
    });
    let before = objects(paris);
    assert_eq!(before.len(), 3 + 6 + 1, "{before:?}");

    // All is looked at anew, and what is too much is deleted, when a controller begins to lead.
    for round in 0..2 {
        let paris = &set[0];
        let name = format!("web-{round}");
        paris.put(&service(NS, &name));
        paris.put(&export(NS, &name));
        imported(paris, NS, &name);
        stays("what others made is as it was", Duration::from_secs(2), || {
            let now = objects(paris);
            before.iter().all(|text| now.contains(text))
        });
        set[0].controller.kill();
        set[0].controller.start_again();
    }
}

/// Two writers who each insist on their own word: ours comes ever later, and people are told who the other one is. When
/// that one gives in, all is as it should be again.
#[test]
fn a_second_writer_does_not_wear_the_api_server_out() {
    let set = Clusterset::start(&Plan::new(1));
    let paris = &set[0];
    paris.put(&namespace(NS));
    paris.put(&service(NS, "web"));
    paris.put(&export(NS, "web"));
    imported(paris, NS, "web");
    let policy = || {
        let import = paris.get("ServiceImport", NS, "web").unwrap();
        import["spec"]["internalTrafficPolicy"].as_str().unwrap_or_default().to_owned()
    };
    let import = object("multicluster.x-k8s.io/v1beta1", "ServiceImport", NS, "web");
    let other = with(import, json!({ "spec": { "internalTrafficPolicy": "Local" } }));
    let ours = std::cell::Cell::new(0);
    let insist = || {
        if policy() == "Cluster" {
            ours.set(ours.get() + 1);
            paris.put(&other);
        }
    };
    // What it was before is no write of ours in this quarrel; then four at once, and after 1, 2, 4 and 8 seconds.
    stays("it does not get more", Duration::from_secs(14), || {
        insist();
        ours.get() <= 1 + 4 + 4
    });
    assert!(ours.get() > 4, "{} times ours was there: nobody insists", ours.get());
    let problems = || paris.controller.status()["controller"]["problems"].to_string();
    let words = format!("ServiceImport {NS}/web is changed back by tests as often as it is written");
    eventually("the other one is named", || {
        insist();
        problems().contains(&words)
    });
    until_within(Duration::from_secs(60), "ours holds", || (policy() == "Cluster").then_some(()));
    eventually("nothing is wrong", || problems() == "[]");
}
