//! What people look at: imports, slices, conditions of exports, answers.

use std::collections::BTreeSet;

use portolan_tests::harness::kubernetes::{Cluster, Clusterset, Member, Shared, condition};
use portolan_tests::harness::{becomes, until};
use serde_json::Value;

/// Where tests of the shared clusters keep to: a namespace of their own, in all of them.
pub(crate) fn set_with(namespace: &str) -> Shared {
    let set = Clusterset::shared();
    set.namespace(namespace);
    set
}

/// A name in `clusterset.local`.
pub(crate) fn fqdn(namespace: &str, service: &str) -> String {
    format!("{service}.{namespace}.svc.clusterset.local.")
}

/// A service's import once it can be used: of type Headless, or with addresses.
pub(crate) fn imported(cluster: &Cluster, namespace: &str, service: &str) -> Value {
    let usable = || {
        let import = cluster.get("ServiceImport", namespace, service)?;
        let ready = condition(&import, "Ready").is_some_and(|ready| ready["status"] == "True");
        let has_ips = import["spec"]["ips"].as_array().is_some_and(|ips| !ips.is_empty());
        (ready && (has_ips || import["spec"]["type"] == "Headless")).then_some(import)
    };
    until(&format!("{namespace}/{service} is imported"), usable).0
}

/// Waits until all clusters' imports have this at a place (RFC 6901).
pub(crate) fn imports_become(
    set: &Clusterset,
    namespace: &str,
    service: &str,
    place: &str,
    expected: &Value,
) {
    for member in set.iter() {
        let what = format!("{place} of the import in {}", member.id);
        becomes(&what, expected, || {
            let import = member.get("ServiceImport", namespace, service).unwrap_or_default();
            import.pointer(place).cloned().unwrap_or_default()
        });
    }
}

/// Texts of an array.
pub(crate) fn texts(array: &Value) -> Vec<String> {
    array.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// The slices of an imported service.
pub(crate) fn mirrored(cluster: &Cluster, namespace: &str, service: &str) -> Vec<Value> {
    cluster.list("EndpointSlice", namespace, &format!("multicluster.kubernetes.io/service-name={service}"))
}

/// The ready endpoints of slices: source cluster and address.
pub(crate) fn endpoints(slices: &[Value]) -> BTreeSet<String> {
    let of = |slice: &Value| {
        let source = &slice["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"];
        let source = source.as_str().unwrap_or("none").to_owned();
        let all = slice["endpoints"].as_array().cloned().unwrap_or_default();
        let ready = all.into_iter().filter(|endpoint| endpoint["conditions"]["ready"] != false);
        ready.flat_map(|endpoint| texts(&endpoint["addresses"])).map(move |at| format!("{source} {at}"))
    };
    slices.iter().flat_map(|slice| of(slice).collect::<Vec<_>>()).collect()
}

/// Status and reason of a condition of a cluster's export: `False/NoConflicts`.
pub(crate) fn verdict(cluster: &Cluster, namespace: &str, service: &str, kind: &str) -> String {
    let export = cluster.get("ServiceExport", namespace, service).unwrap_or_default();
    let Some(condition) = condition(&export, kind) else { return "none".into() };
    format!("{}/{}", condition["status"].as_str().unwrap(), condition["reason"].as_str().unwrap())
}

/// Waits for a condition of a cluster's export, written as [`verdict`] does.
pub(crate) fn verdict_becomes(member: &Member, namespace: &str, service: &str, kind: &str, expected: &str) {
    let what = format!("{kind} of the export {namespace}/{service} in {}", member.id);
    becomes(&what, &expected.to_owned(), || verdict(member, namespace, service, kind));
}

/// Waits until every cluster's server answers with these addresses, in any order; none: NXDOMAIN.
pub(crate) fn answers_become(set: &Clusterset, question: &str, expected: &[&str]) {
    let status = if expected.is_empty() { "NXDOMAIN" } else { "NOERROR" };
    let mut data: Vec<String> = expected.iter().map(ToString::to_string).collect();
    data.sort();
    for member in set.iter() {
        becomes(&format!("{question} in {}", member.id), &(status.to_owned(), data.clone()), || {
            let reply = member.dig(question);
            (reply.status.clone(), reply.data())
        });
    }
}

/// Waits until nothing of a service is left anywhere: import, derived Service, slices, answer.
pub(crate) fn vanishes(set: &Clusterset, namespace: &str, service: &str) {
    for member in set.iter() {
        becomes(&format!("{namespace}/{service} in {}", member.id), &Vec::<String>::new(), || {
            let selector = format!("multicluster.kubernetes.io/service-name={service}");
            let mut left = mirrored(member, namespace, service);
            left.extend(member.list("Service", namespace, &selector));
            left.extend(member.get("ServiceImport", namespace, service));
            left.iter().map(|object| format!("{} {}", object["kind"], object["metadata"]["name"])).collect()
        });
    }
    answers_become(set, &format!("{} A", fqdn(namespace, service)), &[]);
}
