//! What others made is theirs, whatever labels it bears: it is neither changed nor deleted, nor fought over.

use std::time::Duration;

use portolan_tests::harness::kubernetes::{
    Clusterset, Member, Plan, export, namespace, object, pod, service, with,
};
use portolan_tests::harness::{eventually, stays};
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
