//! How long a change of a file takes to show in the snapshot, with 20,000 services of 10 endpoints each in 500 files;
//! limit 100 ms. `cargo bench -p portolan-sync`
//!
//! A change rewrites a whole file of 40 services. It is written in place, so the time includes what the kernel takes to
//! tell of it, and the 10 ms in which further changes are waited for.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench is no library")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use portolan_sync::vip::PoolRanges;
use portolan_sync::{ClusterSource, Config, KubernetesConfig, PoolConfig, Running, start};
use portolan_zones::{ClusterId, Name, ServiceName, Snapshot, ZoneConfig, Zones};

const SERVICES: usize = 20_000;
const FILES: usize = 500;
const ENDPOINTS: usize = 10;
const CHANGES: usize = 300;
const LIMIT: Duration = Duration::from_millis(100);
/// Longer than this and something is broken, not slow.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let folder = tempfile::tempdir().unwrap();
    (0..FILES).for_each(|file| write_file(folder.path(), file, 80));
    let begun = Instant::now();
    let running = start(config(folder.path())).unwrap();
    until(&running, |snapshot| snapshot.complete);
    let counts = running.snapshots().load().counts;
    assert_eq!((counts.services, counts.endpoints), (SERVICES, SERVICES * ENDPOINTS));
    println!("{SERVICES} services in {FILES} files: read in {:.2} s", begun.elapsed().as_secs_f64());
    let mut times: Vec<_> = (0..CHANGES).map(|round| change(&running, folder.path(), round)).collect();
    times.sort();
    let millis = |p: f64| times[((times.len() - 1) as f64 * p) as usize].as_secs_f64() * 1e3;
    let (p50, p99, limit) = (millis(0.5), millis(0.99), LIMIT.as_secs_f64() * 1e3);
    let ratio = p99 / limit;
    println!(
        "{SERVICES} services: write to snapshot p50 {p50:.1} ms, p99 {p99:.1} ms (limit p99 {limit} ms, ratio {ratio:.2})"
    );
    running.stop();
}

/// Writes one file with another port; the time until a reader sees that port.
fn change(running: &Running, folder: &Path, round: usize) -> Duration {
    // Files far from each other, each with a port of its own.
    let (file, port) = (round * 7 % FILES, 1000 + round as u16);
    let service = ServiceName::new(&format!("ns-{file}"), &format!("service-{file}")).unwrap();
    let begun = Instant::now();
    write_file(folder, file, port);
    until(running, |snapshot| {
        snapshot.services.get(service.wire()).is_some_and(|service| service.spec.ports[0].number == port)
    });
    begun.elapsed()
}

fn until(running: &Running, holds: impl Fn(&Snapshot) -> bool) {
    let (begun, snapshots) = (Instant::now(), running.snapshots());
    while !holds(&snapshots.load()) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", running.status().owner);
        // The reader must not take a core from those it waits for.
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn config(folder: &Path) -> Config {
    Config {
        clusters: vec![ClusterSource {
            name: ClusterId::new("bench").ok(),
            path: folder.to_owned(),
            labels: Box::default(),
            network: "".into(),
        }],
        kubernetes: KubernetesConfig::default(),
        home: None,
        places: Box::default(),
        policies: Box::default(),
        forced: Box::default(),
        agents: None,
        pool: Some(PoolConfig {
            ranges: PoolRanges::default(),
            quarantine: Duration::from_secs(3600),
            state_file: None,
        }),
        probes: Default::default(),
        zones: Zones::new(vec![ZoneConfig::new(Name::parse("clusterset.local").unwrap())]).unwrap(),
    }
}

/// One namespace's services, exports and EndpointSlices.
fn write_file(folder: &Path, file: usize, port: u16) {
    let mut text = String::from("{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [\n");
    for i in (file..SERVICES).step_by(FILES) {
        write_service(&mut text, file, i, port);
    }
    text.truncate(text.len() - ",\n".len());
    text.push_str("]}\n");
    fs::write(folder.join(format!("ns-{file}.json")), text).unwrap();
}

fn write_service(text: &mut String, file: usize, i: usize, port: u16) {
    let metadata = format!(r#""metadata": {{"name": "service-{i}", "namespace": "ns-{file}"}}"#);
    let endpoints: Vec<_> = (0..ENDPOINTS)
        .map(|n| {
            let ip = std::net::Ipv4Addr::from((10 << 24) + (i * ENDPOINTS + n) as u32);
            let conditions = r#""conditions": {"ready": true, "serving": true, "terminating": false}"#;
            format!(r#"{{"addresses": ["{ip}"], {conditions}, "nodeName": "node-{}"}}"#, n * i % 1000)
        })
        .collect();
    let ports = format!(r#"[{{"name": "http", "port": {port}, "protocol": "TCP"}}]"#);
    write!(
        text,
        r#"{{"apiVersion": "v1", "kind": "Service", {metadata}, "spec": {{"ports": {ports}}}}},
{{"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", {metadata}}},
{{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "metadata": {{"name": "service-{i}-x7k2p", "namespace": "ns-{file}", "labels": {{"kubernetes.io/service-name": "service-{i}"}}}}, "ports": {ports}, "endpoints": [{}]}},
"#,
        endpoints.join(", ")
    )
    .unwrap();
}
