//! A simulation without API servers: 255 clusters of 15,000 endpoints each in one table, in one process. Limit: 1.5 GiB
//! of memory, a tenth of the 15 GiB that Cilium publishes for an agent in 200 such clusters (design-cfps, CFP-39876).
//! `cargo bench -p portolan-sync --bench clusterset`
//!
//! Objects go the way that a watch takes: JSON of one object, `convert`, the table. Every service is exported by five
//! clusters; all share one allocator with the daemon.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench is no library")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_sync::convert::{self, Names, Refused};
use portolan_sync::intern::Interner;
use portolan_zones::object::{Change, ClusterEvent, Object};
use portolan_zones::{ClusterId, Event, Hearing, Name, Snapshot, Table, ZoneConfig, Zones, compile};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLUSTERS: usize = 255;
const NODES: usize = 300;
const SERVICES: usize = 1500;
const ENDPOINTS: usize = 10;
/// Clusters that export one service.
const EXPORTERS: usize = 5;
const CHANGES: usize = 10_000;
const LIMIT_GIB: f64 = 1.5;
const NOW: i64 = 1_800_000_000;

fn main() {
    let zones = Zones::new(vec![ZoneConfig::new(Name::parse("clusterset.local").unwrap())]).unwrap();
    let mut world = World::new(zones);
    let begun = Instant::now();
    for cluster in 0..CLUSTERS {
        world.load(cluster);
    }
    let counts = world.snapshot.counts;
    assert_eq!(counts.services, CLUSTERS * SERVICES / EXPORTERS);
    assert_eq!(counts.endpoints, CLUSTERS * SERVICES * ENDPOINTS);
    let (gib, seconds) = (resident_gib(), begun.elapsed().as_secs_f64());
    println!(
        "{CLUSTERS} clusters × {} endpoints, {} services: {gib:.2} GiB (limit {LIMIT_GIB} GiB, ratio {:.2}), {:.0} bytes per endpoint, told in {seconds:.1} s",
        SERVICES * ENDPOINTS,
        counts.services,
        gib / LIMIT_GIB,
        gib * f64::from(1 << 30) / counts.endpoints as f64,
    );
    let mut times: Vec<_> = (1..=CHANGES).map(|round| world.change(round)).collect();
    report("one slice changes", &mut times);
    let mut times: Vec<_> = (0..20).map(|cluster| world.stale(cluster * 7)).collect();
    report("one cluster becomes stale (1,500 services)", &mut times);
    let mut times: Vec<_> = (0..20).map(|cluster| world.withdraw(cluster * 7)).collect();
    report("one cluster is withdrawn (15,000 endpoints)", &mut times);
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort();
    let micros = |p: f64| times[((times.len() - 1) as f64 * p) as usize].as_secs_f64() * 1e6;
    println!("{what}: p50 {:.1} µs, p99 {:.1} µs", micros(0.5), micros(0.99));
}

struct World {
    table: Table,
    zones: Arc<Zones>,
    snapshot: Snapshot,
    /// One for each cluster, as each source has its own.
    interners: Vec<Interner>,
}

impl World {
    fn new(zones: Arc<Zones>) -> Self {
        let mut table = Table::default();
        table.apply(Event::Home(Some(id(0))));
        table.apply(Event::Hear(Hearing::Only((0..CLUSTERS).map(id).collect())));
        table.apply(Event::Expect((0..CLUSTERS).map(id).collect()));
        let interners = (0..CLUSTERS).map(|_| Interner::default()).collect();
        Self { table, snapshot: Snapshot::unsynced(zones.clone()), zones, interners }
    }

    /// A cluster tells everything, object by object.
    fn load(&mut self, cluster: usize) {
        for node in 0..NODES {
            let text = node_json(cluster, node);
            let object = convert::node(&serde_json::from_str(&text).unwrap(), &mut self.interners[cluster]);
            self.say(cluster, Change::Apply(object.unwrap()));
        }
        for service in 0..SERVICES {
            for object in self.exported(cluster, service) {
                self.say(cluster, Change::Apply(object));
            }
            let slice = self.slice(cluster, service, 0);
            self.say(cluster, Change::Apply(slice));
        }
        self.say(cluster, Change::Synced);
        self.compile();
    }

    fn exported(&mut self, cluster: usize, service: usize) -> [Object; 2] {
        let (interner, names) = (&mut self.interners[cluster], Names::new());
        let refused = &mut Refused::default();
        let text = service_json(cluster, service);
        let export =
            convert::export(&serde_json::from_str(&text).unwrap(), &names, interner, refused).unwrap();
        let service = convert::service(&serde_json::from_str(&text).unwrap(), &names, interner, refused)
            .unwrap()
            .unwrap();
        [export, service]
    }

    fn slice(&mut self, cluster: usize, service: usize, round: usize) -> Object {
        let text = slice_json(cluster, service, round);
        convert::slice(
            &serde_json::from_str(&text).unwrap(),
            &mut self.interners[cluster],
            &mut Refused::default(),
        )
        .unwrap()
        .unwrap()
    }

    /// From a changed object to the next snapshot, with the translation.
    fn change(&mut self, round: usize) -> Duration {
        let (cluster, service) = (round * 31 % CLUSTERS, round * 97 % SERVICES);
        let text = slice_json(cluster, service, round);
        let begun = Instant::now();
        let slice = convert::slice(
            &serde_json::from_str(&text).unwrap(),
            &mut self.interners[cluster],
            &mut Refused::default(),
        )
        .unwrap();
        self.say(cluster, Change::Apply(slice.unwrap()));
        self.compile();
        begun.elapsed()
    }

    fn stale(&mut self, cluster: usize) -> Duration {
        let begun = Instant::now();
        self.table.apply(Event::Stale { cluster: id(cluster), stale: true });
        self.compile();
        begun.elapsed()
    }

    fn withdraw(&mut self, cluster: usize) -> Duration {
        let begun = Instant::now();
        self.say(cluster, Change::Reset(Vec::new()));
        self.compile();
        begun.elapsed()
    }

    fn say(&mut self, cluster: usize, change: Change) {
        self.table.apply(Event::Cluster(ClusterEvent { cluster: id(cluster), change }));
    }

    fn compile(&mut self) {
        if let Some(next) = compile(&mut self.table, &self.zones, &self.snapshot, NOW) {
            self.snapshot = next;
        }
    }
}

fn id(cluster: usize) -> ClusterId {
    ClusterId::new(&format!("cluster-{cluster}")).unwrap()
}

/// Five clusters in a row have the same services.
fn metadata(cluster: usize, service: usize) -> (String, String) {
    let group = cluster / EXPORTERS;
    (format!("ns-{}", service % 50), format!("service-{group}-{service}"))
}

fn service_json(cluster: usize, service: usize) -> String {
    let (namespace, name) = metadata(cluster, service);
    format!(
        r#"{{"metadata": {{"namespace": "{namespace}", "name": "{name}", "creationTimestamp": "2026-01-02T03:04:05Z"}}, "spec": {{"clusterIP": "10.0.0.1", "ports": [{{"name": "http", "port": 80}}]}}}}"#
    )
}

fn slice_json(cluster: usize, service: usize, round: usize) -> String {
    let (namespace, name) = metadata(cluster, service);
    let endpoints: Vec<_> = (0..ENDPOINTS)
        .map(|n| {
            let ip = std::net::Ipv4Addr::from((10 << 24) + (service * ENDPOINTS + n + round) as u32);
            let node = (service * 13 + n) % NODES;
            format!(
                r#"{{"addresses": ["{ip}"], "conditions": {{"ready": true, "serving": true, "terminating": false}}, "nodeName": "node-{node}", "zone": "az-{}", "targetRef": {{"kind": "Pod", "namespace": "{namespace}", "name": "{name}-{n}"}}}}"#,
                node % 3
            )
        })
        .collect();
    format!(
        r#"{{"metadata": {{"namespace": "{namespace}", "name": "{name}-x7k2p", "labels": {{"kubernetes.io/service-name": "{name}"}}}}, "addressType": "IPv4", "ports": [{{"name": "http", "port": 8080, "protocol": "TCP"}}], "endpoints": [{}]}}"#,
        endpoints.join(", ")
    )
}

fn node_json(cluster: usize, node: usize) -> String {
    format!(
        r#"{{"metadata": {{"name": "node-{node}", "labels": {{"topology.kubernetes.io/zone": "az-{}", "topology.kubernetes.io/region": "r-{cluster}"}}}}, "spec": {{"podCIDRs": ["10.{}.{}.0/24"]}}, "status": {{"addresses": [{{"type": "InternalIP", "address": "172.16.{}.{}"}}]}}}}"#,
        node % 3,
        node / 256,
        node % 256,
        node / 256,
        node % 256
    )
}

/// What the process holds in memory.
fn resident_gib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / f64::from(1 << 20)
}
