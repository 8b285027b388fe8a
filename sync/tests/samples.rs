//! `zones/samples`: from the manifests of every scenario to its zone file.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portolan_sync::vip::PoolRanges;
use portolan_sync::{ClusterSource, Config, KubernetesConfig, PoolConfig, Severity, load_once};
use portolan_zones::peers::{Forced, Scope, State};
use portolan_zones::policy::{Configured, Rules};
use portolan_zones::{ClusterId, Name, Snapshot, ZoneConfig, Zones, zonefile};
use serde::Deserialize;

/// What the samples' configurations say.
#[derive(Deserialize)]
struct Sample {
    clusters: Vec<SampleCluster>,
    home: Option<String>,
}

#[derive(Deserialize)]
struct SampleCluster {
    name: Option<String>,
    manifests: PathBuf,
}

fn config(folder: &Path) -> Config {
    let text = fs::read_to_string(folder.join("portolan.yaml")).unwrap();
    let sample: Sample = serde_saphyr::from_str(&text).unwrap();
    let source = |cluster: SampleCluster| ClusterSource {
        name: cluster.name.map(|name| ClusterId::new(&name).unwrap()),
        path: folder.join(cluster.manifests),
        labels: Box::default(),
        network: "".into(),
    };
    let mut zone = ZoneConfig::new(Name::parse("clusterset.local").unwrap());
    zone.name_server_addresses.push([127, 0, 0, 1].into());
    Config {
        clusters: sample.clusters.into_iter().map(source).collect(),
        kubernetes: KubernetesConfig::default(),
        home: sample.home.map(|home| ClusterId::new(&home).unwrap()),
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
        zones: Zones::new(vec![zone]).unwrap(),
    }
}

/// The expected zone file, `VIP4(namespace/name)` and `VIP6(…)` replaced by what the pool gave.
fn expected(folder: &Path, snapshot: &Snapshot) -> String {
    let mut text = fs::read_to_string(folder.join("clusterset.local.zone")).unwrap();
    for service in snapshot.services.iter() {
        for ip in &service.ips {
            let family = if ip.is_ipv4() { 4 } else { 6 };
            text = text.replace(&format!("VIP{family}({})", service.name), &ip.to_string());
        }
    }
    text
}

/// The order of records means nothing (RFC 1035 §5).
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn every_sample_compiles_to_its_zone_file() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zones/samples");
    let mut seen = 0;
    for entry in fs::read_dir(samples).unwrap() {
        let folder = entry.unwrap().path();
        let config = config(&folder);
        let (snapshot, problems) = load_once(&config, 1).unwrap();
        let errors: Vec<_> = problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", folder.display());
        assert!(snapshot.complete);
        let zones: &Arc<Zones> = &snapshot.zones;
        let mut text = String::new();
        zonefile::write_zone(&mut text, &snapshot, zones.primary().unwrap()).unwrap();
        assert_eq!(sorted(&text), sorted(&expected(&folder, &snapshot)), "{}", folder.display());
        seen += 1;
    }
    assert!(seen >= 9);
}

/// KEP-1645: `Valid=False` with the reason; nothing is broken by it, so these are warnings.
#[test]
fn exports_that_do_not_count_are_warnings() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../zones/samples");
    let (_, problems) = load_once(&config(&samples.join("export-without-service")), 1).unwrap();
    assert!(problems.iter().all(|problem| problem.severity == Severity::Warning));
    let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let east = |export, reason| format!("ServiceExport {export}: does not count in cluster east: {reason}");
    assert_eq!(
        told,
        [
            east("private/good", "NoService"),
            east("shop/external", "InvalidServiceType"),
            east("shop/half", "NoService"),
            east("shop/orphan", "NoService"),
            east("shop/split", "NoService"),
        ]
    );
}

/// A misspelled home would turn all imports' addresses off without a word, and a misspelled state would change nothing.
#[test]
fn clusters_that_no_source_is_are_warned_of() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../zones/samples/imports-differ"));
    let mut config = config(folder);
    let warnings = |config: &Config| -> Vec<String> {
        let problems = load_once(config, 1).unwrap().1;
        problems.iter().filter(|p| p.severity == Severity::Warning).map(|p| p.message.clone()).collect()
    };
    assert_eq!(warnings(&config), [""; 0]);
    config.home = Some(ClusterId::new("nowhere").unwrap());
    let told = warnings(&config);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("home is `nowhere`, and no cluster has this id: the clusters are "),
        "{told:?}"
    );
    let state = |id| Forced { cluster: ClusterId::new(id).unwrap(), of: Scope::All, state: State::Up };
    config.forced = [state("lima"), state("nowhere")].into();
    let weights = ["nowhere", "elsewhere"].map(|id| (ClusterId::new(id).unwrap(), 1)).into();
    let rules = Rules { weights, ..Rules::default() }.into();
    config.policies = [Configured { zone: None, of: Scope::All, rules }].into();
    let told = warnings(&config);
    let expected = [
        "policy of the configuration names `elsewhere`",
        "names `nowhere`",
        "home is `nowhere`",
        "states names `nowhere`",
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.contains(expected), "{told}");
    }
}
