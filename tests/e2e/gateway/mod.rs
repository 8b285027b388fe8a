//! Configurations of shared gateways, by the programs that they are for.

use std::path::{Path, PathBuf};
use std::process::Command;

use portolan_tests::harness::{cluster_set_ip, list, portolan, run};
use serde_json::{Value, json};

mod haproxy;
mod nginx;
mod printed;
mod running;

/// Debian's nginx has `stream` in a file of its own.
const STREAM: &str = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;";

/// `portolan gateway` with these words: what it prints, and whether it succeeded.
fn gateway(words: &[&str]) -> (bool, String) {
    run(Command::new(portolan()).arg("gateway").args(words))
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    file
}

/// Manifests of one cluster: services `shop/<name>` behind a gateway, each with its number there, TCP and UDP.
fn cluster(folder: &Path, services: &[(&str, u16)]) -> String {
    let mut objects = Vec::new();
    for (name, number) in services {
        let [mut service, mut export]: [Value; 2] = cluster_set_ip(name).try_into().unwrap();
        service["spec"]["ports"] = json!([
            { "name": "http", "protocol": "TCP", "port": 80 },
            { "name": "dns", "protocol": "UDP", "port": 53 },
        ]);
        export["metadata"]["annotations"] = json!({
            "portolan.dev/gateway": "192.0.2.1",
            "portolan.dev/gateway-ports": format!("80={number}, 53/UDP={number}"),
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "namespace": "shop", "name": format!("{name}-1"),
                "labels": { "kubernetes.io/service-name": name } },
            "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }, { "name": "dns", "protocol": "UDP", "port": 5353 }],
            "endpoints": [{ "addresses": ["10.1.0.1"], "conditions": { "ready": true } }],
        });
        objects.extend([service, export, slice]);
    }
    std::fs::create_dir_all(folder.join("clusters/paris")).unwrap();
    written(&folder.join("clusters/paris"), "all.json", &list(objects));
    folder.join("clusters").display().to_string()
}
