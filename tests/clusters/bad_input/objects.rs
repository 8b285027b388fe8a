//! Objects that make no sense, that belong to somebody else, or that hold what is another cluster's.

use portolan_tests::harness::kubernetes::{condition, export, headless_service, object, service, with};
use portolan_tests::harness::{becomes, eventually};
use serde_json::json;

use super::problems;
use crate::steps::{
    answers_become, endpoints, fqdn, imported, imports_become, mirrored, set_with, texts, vanishes, verdict,
    verdict_becomes,
};

/// Label on slices: the cluster whose endpoints they hold.
const SOURCE: &str = "multicluster.kubernetes.io/source-cluster";

/// The API server takes them, and we can't: each is named where people look, what was known of it holds, and its
/// neighbours count.
#[test]
fn objects_that_make_no_sense() {
    let ns = "bad-objects";
    let set = set_with(ns);
    let (paris, tokyo) = (&set[0], &set[1]);

    // Somebody's import with a port name that is none (RFC 6763 §7: a DNS label).
    let import = object("multicluster.x-k8s.io/v1beta1", "ServiceImport", ns, "odd");
    let spec =
        json!({ "type": "ClusterSetIP", "ips": ["10.99.0.1"], "ports": [{ "name": "Ht_tp", "port": 80 }] });
    paris.put(&with(import, json!({ "spec": spec })));
    eventually("the import is named", || {
        let text = problems(&paris.server);
        text.contains(&format!("ServiceImport {ns}/odd: spec.ports[0].name"))
    });
    assert_eq!(paris.dig(&format!("{} A", fqdn(ns, "odd"))).status, "NXDOMAIN");

    // An annotation that can't be read: left out at first; when it was right before, what was known of it holds.
    let gateway = |ports: &str| {
        let annotations = json!({ "portolan.dev/gateway": "192.0.2.1", "portolan.dev/gateway-ports": ports });
        tokyo.put(&with(export(ns, "db"), json!({ "metadata": { "annotations": annotations } })));
    };
    let question = format!("{} A", fqdn(ns, "db"));
    tokyo.put(&headless_service(ns, "db"));
    tokyo.run_pod(ns, "db", "db-1", &["10.2.0.1"]);
    gateway("http=30080");
    let named = format!(
        "ServiceExport {ns}/db: metadata.annotations[portolan.dev/gateway-ports]: `http=30080` is not of the form"
    );
    for member in set.iter() {
        eventually("the export is named", || problems(&member.controller).contains(&named));
    }
    verdict_becomes(tokyo, ns, "db", "Ready", "False/Pending");
    answers_become(&set, &question, &[]);
    gateway("80=30080");
    answers_become(&set, &question, &["10.2.0.1"]);
    gateway("80=");
    for member in set.iter() {
        eventually("what was known holds", || {
            problems(&member.controller).contains("`80=` is not of the form")
        });
    }
    answers_become(&set, &question, &["10.2.0.1"]);

    // A slice of names, beside one of addresses.
    let slice = object("discovery.k8s.io/v1", "EndpointSlice", ns, "db-names");
    let names = json!({
        "metadata": { "labels": { "kubernetes.io/service-name": "db" } },
        "addressType": "FQDN", "ports": [], "endpoints": [{ "addresses": ["db.example.com"] }],
    });
    tokyo.put(&with(slice, names));
    for member in set.iter() {
        eventually("the slice is named", || {
            problems(&member.controller).contains(&format!("EndpointSlice {ns}/db-names: addressType"))
        });
    }
    tokyo.run_pod(ns, "db", "db-2", &["10.2.0.2"]);
    answers_become(&set, &question, &["10.2.0.1", "10.2.0.2"]);

    gateway("");
    assert!(tokyo.delete("EndpointSlice", ns, "db-names"));
    assert!(paris.delete("ServiceImport", ns, "odd"));
    for member in set.iter() {
        let of_ours = || problems(&member.controller).contains(ns) || problems(&member.server).contains(ns);
        becomes("everything is over", &false, of_ours);
    }
}

/// Objects of others where ours should be are left alone, and the export says which one it is.
#[test]
fn what_others_made_is_left_alone() {
    let ns = "bad-foreign";
    let set = set_with(ns);
    let paris = &set[0];
    let foreign = object("multicluster.x-k8s.io/v1beta1", "ServiceImport", ns, "web");
    let spec =
        json!({ "type": "ClusterSetIP", "ips": ["10.99.0.7"], "ports": [{ "name": "http", "port": 80 }] });
    let foreign = paris.put(&with(foreign, json!({ "spec": spec })));
    paris.put(&service(ns, "web"));
    paris.put(&export(ns, "web"));
    let message = || {
        let export = paris.get("ServiceExport", ns, "web").unwrap_or_default();
        condition(&export, "Ready")
            .map(|ready| ready["message"].as_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    let told = |words: &[&str]| {
        eventually(&format!("{words:?}"), || words.iter().all(|word| message().contains(word)));
        assert_eq!(verdict(paris, ns, "web", "Ready"), "True/Ready", "other clusters can take it");
    };
    told(&[&format!("ServiceImport {ns}/web was not made by Portolan"), "delete it"]);
    let derived =
        imported(&set[1], ns, "web")["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"]
            .as_str()
            .unwrap()
            .to_owned();
    let now = paris.get("ServiceImport", ns, "web").unwrap();
    assert_eq!(
        (&now["spec"], &now["metadata"]["resourceVersion"]),
        (&foreign["spec"], &foreign["metadata"]["resourceVersion"])
    );

    // A Service with the name that the derived one would have; then the import is free.
    let squatter = paris.put(&service(ns, &derived));
    assert!(paris.delete("ServiceImport", ns, "web"));
    told(&[&format!("Service {ns}/{derived} exists and was not made by Portolan"), "delete it"]);
    let now = paris.get("Service", ns, &derived).unwrap();
    assert_eq!(now["metadata"]["resourceVersion"], squatter["metadata"]["resourceVersion"]);
    assert!(paris.delete("Service", ns, &derived));
    verdict_becomes(paris, ns, "web", "Ready", "True/Ready");
    let ips = texts(&imported(paris, ns, "web")["spec"]["ips"]);
    becomes("it is answered", &ips, || paris.answer(&format!("{} A", fqdn(ns, "web"))));
    assert!(paris.delete("ServiceExport", ns, "web"));
    vanishes(&set, ns, "web");
}

/// Slices that multi-cluster controllers made hold other clusters' endpoints: to mirror them again would be a loop. So
/// would be to mirror what was mirrored from elsewhere, whoever did.
#[test]
fn mirrored_slices_are_not_mirrored_again() {
    let ns = "bad-loops";
    let set = set_with(ns);
    let paris = &set[0];
    let managed = "endpointslice.kubernetes.io/managed-by";
    let makers = [
        json!({ managed: "lighthouse-agent.submariner.io" }),
        json!({ managed: "endpointslice-mesh-controller.cilium.io" }),
        json!({ managed: "endpointslice-dispatch-controller.karmada.io" }),
        json!({ managed: "endpointslice-controller.karmada.io" }),
        json!({ managed: "endpointslice.reflection.liqo.io" }),
        json!({ managed: "aws-cloud-map-mcs-controller-for-k8s" }),
        json!({ "clusternet.io/created-by": "clusternet-agent" }),
        json!({ managed: "controller.portolan.dev" }),
        json!({ managed: "somebody.example.com", SOURCE: "tokyo" }),
        json!({ managed: "somebody.example.com", SOURCE: "berlin" }),
    ];
    for name in ["db", "web"] {
        let headless = name == "db";
        paris.put(&if headless { headless_service(ns, name) } else { service(ns, name) });
        // What is headless and bears another cluster's name is answered where it is: that is how mirrored slices look.
        let makers =
            makers.iter().enumerate().filter(|(_, labels)| !headless || labels.get(SOURCE).is_none());
        for (number, labels) in makers {
            let slice = object("discovery.k8s.io/v1", "EndpointSlice", ns, &format!("{name}-{number}"));
            let labels = with(labels.clone(), json!({ "kubernetes.io/service-name": name }));
            paris.put(&with(slice, json!({
                "metadata": { "labels": labels }, "addressType": "IPv4",
                "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
                "endpoints": [{ "addresses": [format!("10.66.0.{number}")], "conditions": { "ready": true } }],
            })));
        }
        paris.put(&export(ns, name));
        // What comes last of all is there: all that was before has been looked at.
        paris.run_pod(ns, name, &format!("{name}-1"), &["10.1.0.1"]);
    }
    answers_become(&set, &format!("{} A", fqdn(ns, "db")), &["10.1.0.1"]);
    for member in set.iter() {
        for name in ["db", "web"] {
            let own = || {
                let slices = mirrored(member, ns, name).into_iter();
                let ours =
                    slices.filter(|slice| slice["metadata"]["labels"][managed] == "controller.portolan.dev");
                endpoints(&ours.collect::<Vec<_>>())
            };
            becomes(
                &format!("the copies of {name} in {}", member.id),
                &["paris 10.1.0.1".to_owned()].into(),
                own,
            );
        }
    }
    imports_become(&set, ns, "web", "/status/clusters", &json!([{ "cluster": "paris" }]));
    // By a derived Service's name, what we made ourselves does not come back, either.
    let derived =
        imported(paris, ns, "web")["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"]
            .as_str()
            .unwrap()
            .to_owned();
    paris.put(&export(ns, &derived));
    verdict_becomes(paris, ns, &derived, "Valid", "False/NoService");
    assert_eq!(endpoints(&mirrored(&set[1], ns, &derived)), [].into());
    assert!(paris.delete("ServiceExport", ns, &derived));
    vanishes(&set, ns, &derived);
}
