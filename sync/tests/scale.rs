//! 100,000 services with 10 endpoints each, from JSON: how long and how large.
//!
//! Only of use when optimised: `cargo test --release -p portolan-sync --test scale -- --ignored --nocapture`.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use portolan_sync::vip::PoolRanges;
use portolan_sync::{ClusterSource, Config, PoolConfig, start};
use portolan_zones::{Name, ZoneConfig, Zones};

const SERVICES: usize = 100_000;
const ENDPOINTS: usize = 10;
/// Of ten services, one is headless.
const HEADLESS_EVERY: usize = 10;

/// The objects as `kubectl get -o json` prints them, one item a line.
fn manifest() -> String {
    let mut text = String::from("{\"apiVersion\": \"v1\", \"items\": [\n");
    let time = "2026-10-01T08:00:00Z";
    for i in 0..SERVICES {
        let metadata = format!(
            r#""metadata": {{"creationTimestamp": "{time}", "name": "svc-{i}", "namespace": "ns-{}"}}"#,
            i % 500
        );
        let cluster_ip = if i.is_multiple_of(HEADLESS_EVERY) { r#""clusterIP": "None", "# } else { "" };
        write!(
            text,
            r#"{{"apiVersion": "v1", "kind": "Service", {metadata}, "spec": {{{cluster_ip}"ports": [{{"name": "http", "port": 80, "protocol": "TCP"}}]}}}},
{{"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", {metadata}}},
"#
        )
        .unwrap();
    }
    for i in 0..SERVICES {
        slice(&mut text, i);
    }
    text.push_str("], \"kind\": \"List\", \"metadata\": {}}\n");
    text
}

fn slice(text: &mut String, i: usize) {
    text.push_str(r#"{"addressType": "IPv4", "apiVersion": "discovery.k8s.io/v1", "endpoints": ["#);
    for j in 0..ENDPOINTS {
        let n = i * ENDPOINTS + j;
        let comma = if j > 0 { "," } else { "" };
        let hostname = if i.is_multiple_of(HEADLESS_EVERY) {
            format!(r#""hostname": "svc-{i}-{j}", "#)
        } else {
            String::new()
        };
        write!(
            text,
            r#"{comma}{{"addresses": ["10.{}.{}.{}"], "conditions": {{"ready": true, "serving": true, "terminating": false}}, {hostname}"nodeName": "node-{}", "targetRef": {{"kind": "Pod", "name": "svc-{i}-5f4d8c7b9-{j:05}", "namespace": "ns-{}", "uid": "b3a4bfef-7bbd-54f1-8951-{n:012}"}}, "zone": "eu-west-{}"}}"#,
            n >> 16 & 255, n >> 8 & 255, n & 255, n % 5000, i % 500, n % 3
        )
        .unwrap();
    }
    let comma = if i + 1 < SERVICES { ",\n" } else { "\n" };
    write!(
        text,
        r#"], "kind": "EndpointSlice", "metadata": {{"labels": {{"kubernetes.io/service-name": "svc-{i}"}}, "name": "svc-{i}-x4k7z", "namespace": "ns-{}"}}, "ports": [{{"name": "http", "port": 8080, "protocol": "TCP"}}]}}{comma}"#,
        i % 500
    )
    .unwrap();
}

/// Resident memory of this process, in octets, now.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

fn config(folder: &Path) -> Config {
    let zone = |i: usize| ZoneConfig::new(Name::parse(&format!("zone-{i}.example")).unwrap());
    Config {
        clusters: vec![ClusterSource { name: None, path: folder.to_owned() }],
        home: None,
        pool: PoolConfig {
            ranges: PoolRanges::default(),
            quarantine: Duration::from_secs(3600),
            state_file: None,
        },
        zones: Zones::new((0..30).map(zone).collect()).unwrap(),
    }
}

#[test]
#[ignore = "takes gigabytes and, unless optimised, minutes"]
fn a_million_endpoints_from_json() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("c1");
    fs::create_dir(&folder).unwrap();
    let text = manifest();
    println!("manifest: {} MB", text.len() >> 20);
    fs::write(folder.join("all.json"), text).unwrap();
    let before = resident();
    let begun = Instant::now();
    let running = start(config(&folder)).unwrap();
    let snapshots = running.snapshots();
    while !snapshots.load().complete {
        assert!(begun.elapsed() < Duration::from_secs(300), "{:#?}", running.status());
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("start to serving: {:?}", begun.elapsed());
    let counts = snapshots.load().counts;
    assert_eq!((counts.services, counts.endpoints), (SERVICES, SERVICES * ENDPOINTS));
    let used = resident().saturating_sub(before);
    println!("memory: {} octets for each endpoint", used / (SERVICES * ENDPOINTS));
    // A change of one service in a file of its own, as long as the others are not looked at again.
    let mut times: Vec<_> = (1..=20u16)
        .map(|port| {
            let metadata = r#""metadata": {"name": "x", "namespace": "ns-1"}"#;
            let service = format!(
                r#"{{"apiVersion": "v1", "kind": "Service", {metadata}, "spec": {{"ports": [{{"port": {port}}}]}}}}
                {{"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", {metadata}}}"#
            );
        let generation = snapshots.load().generation;
        let begun = Instant::now();
        fs::write(folder.join("one.json"), service).unwrap();
        while snapshots.load().generation == generation {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::yield_now();
        }
        begun.elapsed()
    }).collect();
    times.sort();
    println!("write to snapshot: median {:?}, longest {:?}", times[10], times[19]);
    running.stop();
}
