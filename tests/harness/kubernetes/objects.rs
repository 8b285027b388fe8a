//! Kubernetes objects that tests write, as JSON. [`with`] changes what a test wants otherwise.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::Cluster;

/// An object of which only the name is given.
pub fn object(api_version: &str, kind: &str, namespace: &str, name: &str) -> Value {
    let metadata = if namespace.is_empty() {
        json!({ "name": name })
    } else {
        json!({ "namespace": namespace, "name": name })
    };
    json!({ "apiVersion": api_version, "kind": kind, "metadata": metadata })
}

/// A JSON merge patch (RFC 7396) on an object.
pub fn with(mut object: Value, patch: Value) -> Value {
    merge(&mut object, patch);
    object
}

fn merge(object: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *object = patch;
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, patch) in patch {
        if patch.is_null() {
            object.as_object_mut().unwrap().remove(&key);
        } else {
            merge(&mut object[key], patch);
        }
    }
}

/// A namespace.
pub fn namespace(name: &str) -> Value {
    object("v1", "Namespace", "", name)
}

/// A ClusterIP Service with one port, `http` 80 to 8080, for the Pods with the label `app: <name>`.
pub fn service(namespace: &str, name: &str) -> Value {
    let spec = json!({
        "selector": { "app": name },
        "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080 }],
    });
    with(object("v1", "Service", namespace, name), json!({ "spec": spec }))
}

/// [`service`], headless.
pub fn headless_service(namespace: &str, name: &str) -> Value {
    with(service(namespace, name), json!({ "spec": { "clusterIP": "None" } }))
}

/// A ServiceExport.
pub fn export(namespace: &str, name: &str) -> Value {
    object("multicluster.x-k8s.io/v1beta1", "ServiceExport", namespace, name)
}

/// A Node in a topology zone. Every cluster has `node-a` and `node-b`, in zones `a` and `b`.
pub fn node(name: &str, az: &str) -> Value {
    let labels = json!({ "topology.kubernetes.io/zone": az, "topology.kubernetes.io/region": "test" });
    with(object("v1", "Node", "", name), json!({ "metadata": { "labels": labels } }))
}

/// A Pod that no kubelet runs, on `node-a`; label `app: <app>`.
pub fn pod(namespace: &str, app: &str, name: &str) -> Value {
    let labels = json!({ "app": app });
    let containers = json!([{ "name": "main", "image": "none" }]);
    let pod = json!({ "metadata": { "labels": labels }, "spec": { "nodeName": "node-a", "containers": containers } });
    with(object("v1", "Pod", namespace, name), pod)
}

/// The status of a Pod that runs at these addresses.
pub fn running(addresses: &[IpAddr], ready: bool) -> Value {
    let ips: Vec<_> = addresses.iter().map(|ip| json!({ "ip": ip })).collect();
    let condition = json!({ "type": "Ready", "status": if ready { "True" } else { "False" } });
    json!({ "phase": "Running", "podIP": addresses[0], "podIPs": ips, "conditions": [condition] })
}

impl Cluster {
    /// A ready Pod with the label `app: <app>` at these addresses.
    pub fn run_pod(&self, namespace: &str, app: &str, name: &str, addresses: &[&str]) {
        self.run(&pod(namespace, app, name), addresses);
    }

    /// A ready Pod at these addresses.
    pub fn run(&self, pod: &Value, addresses: &[&str]) {
        self.put(pod);
        self.set_ready(pod, addresses, true);
    }

    /// Changes a Pod's addresses and whether it is ready.
    pub fn set_ready(&self, pod: &Value, addresses: &[&str], ready: bool) {
        let text = |key: &str| pod["metadata"][key].as_str().unwrap();
        let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        self.set_status("Pod", text("namespace"), text("name"), &running(&addresses, ready));
    }
}
