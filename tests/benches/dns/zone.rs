//! The services that all servers answer for: as manifests for ours, and as ours prints them (`portolan zone`) for the others.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use portolan_tests::harness::portolan;
use tempfile::TempDir;

pub const ORIGIN: &str = "clusterset.local";
/// Manifests of a clusterset are in so many files for each cluster.
pub const FILES: usize = 100;
/// Weights of the two clusters.
pub const WEIGHTS: [u32; 2] = [3, 1];
/// Networks of clients, and those that forwarders tell of: the first of each is in the first availability zone, and so on.
pub const CLIENTS: [&str; 3] = ["127.64.0.0/16", "127.65.0.0/16", "127.66.0.0/16"];
pub const SUBNETS: [&str; 3] = ["198.18.0.0/16", "198.19.0.0/16", "198.20.0.0/16"];
/// A client of the second availability zone.
pub const CLIENT: &str = "127.65.0.7";
/// EDNS Client Subnet of a client there, as dnsperf wants it: 198.19.0.0/24 (RFC 7871 §6).
pub const SUBNET: &str = "8:00011800c61300";
/// What they get.
pub const PLACE: usize = 1;

/// What a service's name answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// One virtual IP.
    Static,
    /// The endpoint of one of two clusters, by [`WEIGHTS`].
    Weighted,
    /// The endpoint of the client's availability zone, of three.
    Near,
}

/// Services in a folder of their own, which has the manifests and what is asked.
pub struct Zone {
    pub names: usize,
    pub answers: Answers,
    folder: TempDir,
    /// Files that were given other addresses.
    changed: AtomicUsize,
}

impl Zone {
    pub fn new(names: usize, answers: Answers) -> Self {
        let folder = tempfile::Builder::new().prefix("portolan-bench-").tempdir().unwrap();
        let zone = Self { names, answers, folder, changed: AtomicUsize::new(0) };
        zone.write_manifests();
        fs::write(zone.path("portolan.yaml"), zone.config()).unwrap();
        let questions: String = (0..names).map(|at| format!("{} A\n", name(zone.shuffled(at)))).collect();
        fs::write(zone.questions(), questions).unwrap();
        zone
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// All names, in no order: what dnsperf reads.
    pub fn questions(&self) -> PathBuf {
        self.path("questions")
    }

    /// So many services, far from each other, the last one among them.
    pub fn sample(&self, count: usize) -> impl Iterator<Item = usize> {
        let step = (self.names / count).max(1);
        let last = self.names - 1;
        (0..count.min(self.names)).map(move |at| last - at * step)
    }

    /// A service's addresses of which an answer has one.
    pub fn addresses(&self, service: usize) -> Vec<Ipv4Addr> {
        match self.answers {
            Answers::Static => vec![vip(service, 0)],
            Answers::Weighted => (0..WEIGHTS.len()).map(|cluster| endpoint(service, cluster)).collect(),
            Answers::Near => (0..CLIENTS.len()).map(|place| endpoint(service, place)).collect(),
        }
    }

    /// What our server is told, without where it listens.
    pub fn config(&self) -> String {
        let mut text = format!(
            "version: v1\nhome: a\nvips: {{state-file: \"\"}}\nlog: {{level: warn}}\nshutdown: {{lameduck: 0s}}\n\
             zones: [{{origin: {ORIGIN}, name-server: {{addresses: [127.0.0.1]}}}}]\nclusters:\n"
        );
        for cluster in self.clusters() {
            writeln!(text, "  - {{name: {cluster}, manifests: '{}'}}", self.path(cluster).display()).unwrap();
        }
        match self.answers {
            Answers::Static => {}
            Answers::Weighted => writeln!(
                text,
                "policies: [{{spec: {{answer: Endpoints, weights: [{{cluster: a, weight: {}}}, {{cluster: b, weight: {}}}]}}}}]",
                WEIGHTS[0], WEIGHTS[1]
            )
            .unwrap(),
            Answers::Near => {
                text.push_str(
                    "policies: [{spec: {answer: Endpoints, locality: {order: [Zone]}}}]\n\
                     client-subnet: {trusted-forwarders: [127.0.0.0/8]}\nview:\n  networks:\n",
                );
                for (network, place) in placed() {
                    writeln!(text, "    - {{network: {network}, zone: az{place}}}").unwrap();
                }
            }
        }
        text
    }

    /// The zone as text (RFC 1035 §5), by our own hand.
    pub fn text(&self) -> PathBuf {
        let file = self.path("zone");
        if !file.exists() {
            let output = fs::File::create(&file).unwrap();
            let mut command = Command::new(portolan());
            command.args(["zone", "--config"]).arg(self.path("portolan.yaml")).stdout(output);
            assert!(command.status().unwrap().success(), "portolan zone");
        }
        file
    }

    /// The zone without its services' records, for servers that have other ways to say what these are.
    pub fn apex(&self) -> String {
        format!(
            "$ORIGIN {ORIGIN}.\n$TTL 5\n@ SOA ns.dns hostmaster 1 7200 1800 86400 5\n@ NS ns.dns\nns.dns A 127.0.0.1\n"
        )
    }

    /// A file of manifests: its services, whose virtual IPs are those of a `round` (0 is what [`Zone::addresses`] says).
    fn rewrite(&self, file: usize, round: usize) {
        let objects =
            self.of_file(file).map(|service| exported(service, vip(service, round))).collect::<Vec<_>>();
        replace(&self.services(file), &list(&objects));
    }

    fn services(&self, file: usize) -> PathBuf {
        self.path(&format!("a/part-{file}.json"))
    }

    /// Gives the services of the next file other addresses than they have, whoever asked for the last one. Returns which file it is, and
    /// the number of the addresses.
    pub fn change(&self) -> (usize, usize) {
        let changed = self.changed.fetch_add(1, Ordering::Relaxed);
        let (file, number) = (changed % FILES, 1 + changed / FILES % 2);
        let before = fs::read(self.services(file)).unwrap();
        self.rewrite(file, number);
        assert_ne!(fs::read(self.services(file)).unwrap(), before, "a change that is none");
        (file, number)
    }

    /// Services of one file.
    pub fn each_file(&self) -> usize {
        self.names.div_ceil(FILES)
    }

    /// Services of a file of manifests.
    pub fn of_file(&self, file: usize) -> std::ops::Range<usize> {
        let each = self.each_file();
        (file * each).min(self.names)..((file + 1) * each).min(self.names)
    }

    fn clusters(&self) -> &'static [&'static str] {
        if self.answers == Answers::Weighted { &["a", "b"] } else { &["a"] }
    }

    fn write_manifests(&self) {
        for (number, cluster) in self.clusters().iter().enumerate() {
            fs::create_dir(self.path(cluster)).unwrap();
            for file in 0..FILES {
                if self.answers == Answers::Static {
                    self.rewrite(file, 0);
                    continue;
                }
                let places =
                    if self.answers == Answers::Near { 0..CLIENTS.len() } else { number..number + 1 };
                let objects: Vec<_> =
                    self.of_file(file).map(|service| headless(service, places.clone())).collect();
                fs::write(self.path(&format!("{cluster}/part-{file}.json")), list(&objects)).unwrap();
            }
        }
    }

    /// Each service once, in no order: the step has no divisor with the number of names but one.
    fn shuffled(&self, at: usize) -> usize {
        (at * 7_919 + 13) % self.names
    }
}

/// Networks of clients with the number of their availability zone.
pub fn placed() -> impl Iterator<Item = (&'static str, usize)> {
    [CLIENTS, SUBNETS].into_iter().flat_map(|networks| networks.into_iter().zip(0..))
}

/// Relative to the origin.
pub fn relative(service: usize) -> String {
    format!("{}.{}.svc", service_name(service), namespace(service))
}

pub fn name(service: usize) -> String {
    format!("{}.{ORIGIN}", relative(service))
}

pub fn service_name(service: usize) -> String {
    format!("s{service:07}")
}

pub fn namespace(service: usize) -> String {
    format!("n{:02}", service % 100)
}

pub fn vip(service: usize, round: usize) -> Ipv4Addr {
    Ipv4Addr::from(0xf100_0001 + (service + round * 0x10_0000) as u32)
}

fn endpoint(service: usize, place: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0001 + ((place as u32) << 24) + service as u32)
}

const EXPORT: &str = r#""apiVersion":"multicluster.x-k8s.io/v1beta1","kind":"ServiceExport""#;
const IMPORT: &str = r#""apiVersion":"multicluster.x-k8s.io/v1beta1","kind":"ServiceImport""#;
const SERVICE: &str = r#""apiVersion":"v1","kind":"Service""#;
const SLICE: &str = r#""apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","addressType":"IPv4""#;
const PORTS: &str = r#""ports":[{"port":80,"protocol":"TCP"}]"#;

fn metadata(service: usize) -> String {
    format!(r#""metadata":{{"namespace":"{}","name":"{}"}}"#, namespace(service), service_name(service))
}

fn exported(service: usize, vip: Ipv4Addr) -> String {
    let metadata = metadata(service);
    format!(
        r#"{{{SERVICE},{metadata},"spec":{{"clusterIP":"10.96.0.1",{PORTS}}}}},{{{EXPORT},{metadata}}},{{{IMPORT},{metadata},"spec":{{"type":"ClusterSetIP","ips":["{vip}"],{PORTS}}}}}"#
    )
}

fn headless(service: usize, places: std::ops::Range<usize>) -> String {
    let (name, namespace, metadata) = (service_name(service), namespace(service), metadata(service));
    let endpoint = |place: usize| {
        let address = endpoint(service, place);
        format!(r#"{{"addresses":["{address}"],"conditions":{{"ready":true}},"zone":"az{place}"}}"#)
    };
    let endpoints: Vec<_> = places.map(endpoint).collect();
    format!(
        r#"{{{SERVICE},{metadata},"spec":{{"clusterIP":"None",{PORTS}}}}},{{{EXPORT},{metadata}}},{{{SLICE},"metadata":{{"namespace":"{namespace}","name":"{name}-1","labels":{{"kubernetes.io/service-name":"{name}"}}}},{PORTS},"endpoints":[{}]}}"#,
        endpoints.join(",")
    )
}

fn list(objects: &[String]) -> String {
    format!(r#"{{"apiVersion":"v1","kind":"List","items":[{}]}}"#, objects.join(","))
}

/// Renamed over the old one: nobody reads half a file.
fn replace(file: &Path, text: &str) {
    let aside = file.with_extension("aside");
    fs::write(&aside, text).unwrap();
    fs::rename(aside, file).unwrap();
}
