//! How long the real binary takes to serve a large clusterset from manifests, and how much memory it keeps:
//! 100,000 services with 1,000,000 endpoints, 90 % ClusterSetIP and 10 % headless, in 30 availability zones and 3
//! clusters. And what it costs the server that answers depend on who asks.
//! `cargo bench -p portolan-tests --bench load [-- SERVICES] [only=Json | only=Steered]`
//!
//! The manifests are written to a temporary folder first; reading them back is from the page cache.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a bench is no library")]

#[path = "load/steered.rs"]
mod steered;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use portolan_tests::harness::portolan;

const CLUSTERS: usize = 3;
const AZS: usize = 30;
const ENDPOINTS: usize = 10;
const FILES: usize = 20;
const SECONDS_LIMIT: f64 = 3.0;
const BYTES_LIMIT: f64 = 300.0;

fn main() {
    let services = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(100_000);
    let binary = portolan();
    let only = std::env::args().skip(1).find_map(|arg| arg.strip_prefix("only=").map(str::to_owned));
    let left_out = |what: &str| only.as_ref().is_some_and(|only| only != what);
    if !left_out("Steered") {
        steered::run();
    }
    for format in [Format::Json, Format::IndentedJson, Format::Yaml] {
        if left_out(&format!("{format:?}")) {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let octets = write_manifests(folder.path(), services, format);
        measure(binary, folder.path(), services, format, octets);
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Format {
    /// As the API serves it.
    Json,
    /// As `kubectl get -o json` prints it.
    IndentedJson,
    /// As `kubectl get -o yaml` prints it.
    Yaml,
}

fn measure(binary: &Path, folder: &Path, services: usize, format: Format, octets: u64) {
    let ready = folder.join("ready");
    let start = Instant::now();
    let mut server = Command::new(binary)
        .args(["serve", "--config"])
        .arg(folder.join("portolan.yaml"))
        .arg("--ready-file")
        .arg(&ready)
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let deadline = start + Duration::from_secs(300);
    let admin = wait_for(&mut server, deadline, || {
        let text = fs::read_to_string(&ready).ok()?;
        let ready: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(ready["admin"][0].as_str()?.to_owned())
    });
    wait_for(&mut server, deadline, || get(&admin, "/ready").starts_with("HTTP/1.1 200").then_some(()));
    let seconds = start.elapsed().as_secs_f64();
    // The state file is written a second later; memory is counted after that.
    let state = folder.join("vips.json");
    wait_for(&mut server, deadline, || state.exists().then_some(()));
    let status = get(&admin, "/status");
    let body: serde_json::Value = serde_json::from_str(status.split_once("\r\n\r\n").unwrap().1).unwrap();
    let (resident, peak) = (memory(server.id(), "VmRSS:"), memory(server.id(), "VmHWM:"));
    server.kill().unwrap();
    server.wait().unwrap();
    let per_endpoint = resident as f64 / (services * ENDPOINTS) as f64;
    println!(
        "{format:?}: {services} services, {} endpoints, {} MB of manifests: serving in {seconds:.2} s (limit {SECONDS_LIMIT} s, ratio {:.2}); \
         {} MB resident, {per_endpoint:.0} bytes per endpoint (limit {BYTES_LIMIT}, ratio {:.2}); peak {} MB",
        services * ENDPOINTS,
        octets >> 20,
        seconds / SECONDS_LIMIT,
        resident >> 20,
        per_endpoint / BYTES_LIMIT,
        peak >> 20,
    );
    println!("  as counted by the server: {}", body["counts"]);
}

fn wait_for<T>(server: &mut Child, deadline: Instant, mut poll: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(Instant::now() < deadline, "not ready in time");
        assert!(server.try_wait().unwrap().is_none(), "the server ended");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn get(admin: &str, path: &str) -> String {
    use std::io::Read as _;
    let Ok(mut stream) = std::net::TcpStream::connect(admin) else { return String::new() };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

fn memory(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Service `i` is exported by cluster `i % 3`, every second one by the next cluster too, with half of the endpoints each.
fn write_manifests(folder: &Path, services: usize, format: Format) -> u64 {
    let mut octets = 0;
    let mut config = String::from("version: v1\nlisten: {udp: [\"127.0.0.1:0\"], tcp: [\"127.0.0.1:0\"]}\n");
    config.push_str("admin: {listen: \"127.0.0.1:0\"}\nlog: {level: warn}\nclusters:\n");
    for cluster in 0..CLUSTERS {
        writeln!(config, "  - {{name: cluster-{cluster}, manifests: cluster-{cluster}}}").unwrap();
        let path = folder.join(format!("cluster-{cluster}"));
        fs::create_dir(&path).unwrap();
        for part in 0..FILES {
            let extension = if format == Format::Yaml { "yaml" } else { "json" };
            let items = (part..services).step_by(FILES).flat_map(|i| objects(cluster, i));
            let text = render(items, format);
            octets += text.len() as u64;
            fs::write(path.join(format!("part-{part}.{extension}")), text).unwrap();
        }
    }
    fs::write(folder.join("portolan.yaml"), config).unwrap();
    octets
}

fn objects(cluster: usize, i: usize) -> Vec<serde_json::Value> {
    let shared = i / CLUSTERS % 2 == 1;
    let place = (cluster + CLUSTERS - i % CLUSTERS) % CLUSTERS;
    let count = match (shared, place) {
        (false, 0) => ENDPOINTS,
        (true, 0 | 1) => ENDPOINTS / 2,
        _ => return Vec::new(),
    };
    let (ns, name) = (format!("namespace-{}", i % 200), format!("service-{i}"));
    let headless = i.is_multiple_of(10);
    let metadata = |name: &str| {
        serde_json::json!({
            "name": name, "namespace": ns, "uid": format!("{i:08x}-0000-4000-8000-{cluster:012x}"), "resourceVersion": "123456",
            "creationTimestamp": "2026-03-01T10:00:00Z",
        })
    };
    let port = serde_json::json!([{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]);
    let mut slice = metadata(&format!("{name}-x7k2p"));
    slice["labels"] = serde_json::json!({"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
    let endpoints: Vec<_> = (0..count)
        .map(|n| {
            let id = ((i * ENDPOINTS + n) * CLUSTERS + cluster) as u32 & 0xff_ffff;
            let mut endpoint = serde_json::json!({
                "addresses": [std::net::Ipv4Addr::from(0x0a00_0000 | id).to_string()],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("node-{}", id % 1000),
                "targetRef": {"kind": "Pod", "name": format!("{name}-{n}"), "namespace": ns, "uid": format!("{id:08x}-0000-4000-8000-000000000000")},
                "zone": format!("zone-{}", id as usize % AZS),
            });
            if headless {
                endpoint["hostname"] = format!("{name}-{n}").into();
            }
            endpoint
        })
        .collect();
    let ip = if headless { "None".to_owned() } else { format!("10.96.{}.{}", i >> 8 & 255, i & 255) };
    vec![
        serde_json::json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(&name), "spec": {"clusterIP": ip, "ports": port, "selector": {"app": name}, "type": "ClusterIP"}}),
        serde_json::json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": metadata(&name)}),
        serde_json::json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "metadata": slice, "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}),
    ]
}

fn render(items: impl Iterator<Item = serde_json::Value>, format: Format) -> String {
    let items: Vec<_> = items.collect();
    match format {
        Format::Json => serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string(),
        Format::IndentedJson => serde_json::to_string_pretty(
            &serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items}),
        )
        .unwrap(),
        Format::Yaml => {
            let mut text = String::new();
            for item in &items {
                text.push_str("---\n");
                yaml(&mut text, item, 0);
            }
            text
        }
    }
}

/// Block style, as kubectl prints it.
fn yaml(out: &mut String, value: &serde_json::Value, indent: usize) {
    use serde_json::Value;
    let pad = " ".repeat(indent);
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                write!(out, "{pad}{key}:").unwrap();
                nested(out, value, indent);
            }
        }
        Value::Array(items) => {
            for item in items {
                let mut text = String::new();
                yaml(&mut text, item, indent + 2);
                write!(out, "{pad}- {}", text.trim_start()).unwrap();
            }
        }
        Value::String(text) => writeln!(out, "{pad}\"{text}\"").unwrap(),
        other => writeln!(out, "{pad}{other}").unwrap(),
    }
}

fn nested(out: &mut String, value: &serde_json::Value, indent: usize) {
    match value {
        serde_json::Value::Object(_) => {
            out.push('\n');
            yaml(out, value, indent + 2);
        }
        serde_json::Value::Array(_) => {
            out.push('\n');
            yaml(out, value, indent);
        }
        _ => {
            out.push(' ');
            yaml(out, value, 0);
        }
    }
}
