//! Kubernetes objects that a test makes itself.

use std::net::IpAddr;

use serde_json::{Value, json};

/// Most endpoints of one slice (the EndpointSlice API's limit).
const SLICE: usize = 1000;

/// Objects as one manifest.
pub fn list(objects: impl IntoIterator<Item = Value>) -> String {
    let items: Vec<_> = objects.into_iter().collect();
    json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

/// An exported ClusterSetIP service `shop/<name>` with one port, `http`; its virtual IP is for the pool to
/// choose.
pub fn cluster_set_ip(name: &str) -> Vec<Value> {
    let ports = json!([{ "name": "http", "protocol": "TCP", "port": 80 }]);
    let mut service = object("v1", "Service", name);
    service["spec"] = json!({ "type": "ClusterIP", "clusterIP": "10.96.0.9", "ports": ports });
    vec![service, export(name)]
}

/// An exported headless service `shop/<name>` with these ready endpoints and one port, `http`.
pub fn headless(name: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<Value> {
    let ports = json!([{ "name": "http", "protocol": "TCP", "port": 80 }]);
    let mut service = object("v1", "Service", name);
    service["spec"] = json!({ "clusterIP": "None", "ports": ports });
    let (v4, v6): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv4);
    let mut objects = vec![service, export(name)];
    for (family, addresses) in [("IPv4", v4), ("IPv6", v6)] {
        for (number, addresses) in addresses.chunks(SLICE).enumerate() {
            let mut slice = object(
                "discovery.k8s.io/v1",
                "EndpointSlice",
                &format!("{name}-{family}-{number}").to_lowercase(),
            );
            slice["metadata"]["labels"] = json!({ "kubernetes.io/service-name": name });
            slice["addressType"] = json!(family);
            slice["ports"] = ports.clone();
            let endpoint = |address| json!({ "addresses": [address], "conditions": { "ready": true } });
            slice["endpoints"] = addresses.iter().map(endpoint).collect();
            objects.push(slice);
        }
    }
    objects
}

fn export(name: &str) -> Value {
    object("multicluster.x-k8s.io/v1beta1", "ServiceExport", name)
}

fn object(api: &str, kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": api,
        "kind": kind,
        "metadata": { "namespace": "shop", "name": name, "creationTimestamp": "2026-10-01T08:00:00Z" },
    })
}
