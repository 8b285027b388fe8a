//! From a write to a file to the snapshot that shows it.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it should be")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_sync::kubernetes::{Access, OwnConfig};
use portolan_sync::vip::PoolRanges;
use portolan_sync::{ClusterSource, Config, KubernetesConfig, PoolConfig, Running, start};
use portolan_zones::{ClusterId, Name, ServiceName, Snapshot, ZoneConfig, Zones};

/// What an operator may expect; a loaded machine gets a multiple before a test fails.
const DEADLINE: Duration = Duration::from_secs(20);
/// Slower than this and changes were found by polling, which is every 5 s, not by the kernel's word.
const BEFORE_POLL: Duration = Duration::from_secs(2);

fn config(root: &Path, clusters: &[&str]) -> Config {
    let source = |name: &&str| ClusterSource {
        name: None,
        path: root.join(name),
        labels: Box::default(),
        network: "".into(),
    };
    Config {
        clusters: clusters.iter().map(source).collect(),
        kubernetes: KubernetesConfig::default(),
        home: None,
        places: Box::default(),
        policies: Box::default(),
        forced: Box::default(),
        agents: None,
        pool: Some(PoolConfig {
            ranges: PoolRanges::default(),
            quarantine: Duration::from_secs(3600),
            state_file: Some(root.join("state/vips.json")),
        }),
        probes: Default::default(),
        zones: Zones::new(vec![ZoneConfig::new(Name::parse("clusterset.local").unwrap())]).unwrap(),
    }
}

/// A Service, its export, and an EndpointSlice with this many endpoints.
fn exported(name: &str, endpoints: usize) -> String {
    let addresses: String = (1..=endpoints).map(|i| format!("- addresses: [10.0.0.{i}]\n")).collect();
    let metadata = format!("metadata: {{namespace: s, name: {name}");
    format!(
        "apiVersion: v1\nkind: Service\n{metadata}}}\nspec: {{ports: [{{port: 80}}]}}\n---\n\
         apiVersion: multicluster.x-k8s.io/v1alpha1\nkind: ServiceExport\n{metadata}}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         {metadata}, labels: {{kubernetes.io/service-name: {name}}}}}\nendpoints:\n{addresses}"
    )
}

fn endpoints(snapshot: &Snapshot, name: &str) -> Option<usize> {
    let service = ServiceName::new("s", name).unwrap();
    snapshot.services.get(service.wire()).map(|service| service.endpoints())
}

/// Polls until the snapshot is as it should be; returns how long that took.
fn until(running: &Running, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Duration {
    let begun = Instant::now();
    let snapshots = running.snapshots();
    while !holds(&snapshots.load()) {
        assert!(begun.elapsed() < DEADLINE, "{what}: {:?}; {:#?}", snapshots.load(), running.status());
        std::thread::yield_now();
    }
    begun.elapsed()
}

fn world(clusters: &[&str]) -> (tempfile::TempDir, Config) {
    let root = tempfile::tempdir().unwrap();
    clusters.iter().for_each(|name| fs::create_dir(root.path().join(name)).unwrap());
    let config = config(root.path(), clusters);
    (root, config)
}

#[test]
fn a_change_of_a_file_shows_at_once() {
    let (root, config) = world(&["c1", "c2"]);
    let file = root.path().join("c1/a.yaml");
    fs::write(&file, exported("a", 1)).unwrap();
    let running = start(config).unwrap();
    until(&running, "start", |snapshot| snapshot.complete && endpoints(snapshot, "a") == Some(1));
    let mut times = Vec::new();
    for count in 2..12 {
        fs::write(&file, exported("a", count)).unwrap();
        times.push(until(&running, "written", |snapshot| endpoints(snapshot, "a") == Some(count)));
    }
    times.sort();
    assert!(times[5] < Duration::from_millis(100), "from write to snapshot: {times:?}");
    // As editors do it, in a folder made just now.
    fs::create_dir(root.path().join("c2/new")).unwrap();
    fs::write(root.path().join("c2/new/b.yaml.tmp"), exported("b", 3)).unwrap();
    fs::rename(root.path().join("c2/new/b.yaml.tmp"), root.path().join("c2/new/b.yaml")).unwrap();
    let time = until(&running, "renamed", |snapshot| endpoints(snapshot, "b") == Some(3));
    assert!(time < BEFORE_POLL, "{time:?}");
    fs::remove_file(&file).unwrap();
    let time = until(&running, "removed", |snapshot| endpoints(snapshot, "a").is_none());
    assert!(time < BEFORE_POLL, "{time:?}");
    running.stop();
}

/// A mounted ConfigMap changes by a rename of the link `..data`.
#[test]
fn a_swapped_config_map_shows_at_once() {
    let (root, config) = world(&["c1"]);
    let folder = root.path().join("c1");
    let swap = |version: &str, count| {
        fs::create_dir(folder.join(version)).unwrap();
        fs::write(folder.join(version).join("a.yaml"), exported("a", count)).unwrap();
        std::os::unix::fs::symlink(version, folder.join("..tmp")).unwrap();
        fs::rename(folder.join("..tmp"), folder.join("..data")).unwrap();
    };
    swap("..2026_1", 1);
    std::os::unix::fs::symlink("..data/a.yaml", folder.join("a.yaml")).unwrap();
    let running = start(config).unwrap();
    until(&running, "start", |snapshot| endpoints(snapshot, "a") == Some(1));
    swap("..2026_2", 2);
    let time = until(&running, "swapped", |snapshot| endpoints(snapshot, "a") == Some(2));
    assert!(time < BEFORE_POLL, "{time:?}");
}

/// Waits until the first source is told to be gone.
fn until_gone(running: &Running) {
    let problem = until_told(running, "a vanished folder is told", |problems| problems.first().cloned());
    assert!(problem.contains("can't be read"), "{problem}");
}

/// Waits until the first source tells of no problem, so that what is told next is news.
fn until_well(running: &Running) {
    until_told(running, "a folder that is back is well", |problems| problems.is_empty().then_some(()));
}

fn until_told<T>(running: &Running, what: &str, told: impl Fn(&[String]) -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        let status = running.status();
        // What was read shows before it is told who read it.
        let source = status.sources.first();
        let problems =
            source.map(|source| source.problems.iter().map(ToString::to_string).collect::<Vec<_>>());
        if let Some(told) = problems.as_deref().and_then(&told) {
            return told;
        }
        assert!(begun.elapsed() < BEFORE_POLL, "{what}: {problems:?}");
        std::thread::yield_now();
    }
}

/// A folder made anew is seen, and watched, at once.
#[test]
fn a_folder_may_vanish_and_come_back() {
    let (root, config) = world(&["c1", "c2"]);
    let (folder, file) = (root.path().join("c1"), root.path().join("c1/a.yaml"));
    fs::write(&file, exported("a", 1)).unwrap();
    let running = start(config).unwrap();
    until(&running, "start", |snapshot| snapshot.complete && endpoints(snapshot, "a") == Some(1));
    for round in 1..6 {
        fs::remove_dir_all(&folder).unwrap();
        // With and without a look at it while it is gone.
        if round % 2 == 1 {
            until_gone(&running);
        }
        fs::create_dir(&folder).unwrap();
        for count in [2 * round, 2 * round + 1] {
            fs::write(&file, exported("a", count)).unwrap();
            let time = until(&running, "came back", |snapshot| endpoints(snapshot, "a") == Some(count));
            assert!(time < BEFORE_POLL, "round {round}: {time:?}");
        }
        until_well(&running);
    }
}

/// Renamed away with all in it, and back: the same folder, with the same inode. What it gave stays in between.
#[test]
fn a_folder_may_be_renamed_away_and_back() {
    let (root, config) = world(&["c1"]);
    let (folder, away) = (root.path().join("c1"), root.path().join("away"));
    fs::write(folder.join("a.yaml"), exported("a", 1)).unwrap();
    let running = start(config).unwrap();
    until(&running, "start", |snapshot| endpoints(snapshot, "a") == Some(1));
    for count in 2..6 {
        fs::rename(&folder, &away).unwrap();
        until_gone(&running);
        assert_eq!(endpoints(&running.snapshots().load(), "a"), Some(count - 1), "what it gave stays");
        until(&running, "stale", is_stale);
        let source = &running.status().sources[0];
        assert!(source.stale && source.checked_at.is_some());
        fs::write(away.join("a.yaml"), exported("a", count)).unwrap();
        fs::rename(&away, &folder).unwrap();
        let time = until(&running, "came back", |snapshot| {
            endpoints(snapshot, "a") == Some(count) && !is_stale(snapshot)
        });
        assert!(time < BEFORE_POLL, "{time:?}");
        until_well(&running);
    }
}

/// Whether the answers of service `a` are marked as perhaps out of date (RFC 8914, EDE 3).
fn is_stale(snapshot: &Snapshot) -> bool {
    snapshot.services.get(ServiceName::new("s", "a").unwrap().wire()).unwrap().stale
}

/// A missing name may be denied only when all clusters are known; one that is missing is seen as soon as it is there,
/// however many folders above it are missing too.
#[test]
fn a_cluster_that_is_missing_at_the_start_is_waited_for() {
    for missing in ["c2", "deep/down/c2", "c2/all.yaml"] {
        let (root, mut config) = world(&["c1"]);
        let path = root.path().join(missing);
        config.clusters.push(ClusterSource {
            name: ClusterId::new("late").ok(),
            path: path.clone(),
            labels: Box::default(),
            network: "".into(),
        });
        fs::write(root.path().join("c1/a.yaml"), exported("a", 1)).unwrap();
        let running = start(config).unwrap();
        until(&running, "start", |snapshot| endpoints(snapshot, "a") == Some(1));
        assert!(!running.snapshots().load().complete);
        let file = if missing.ends_with("yaml") { path } else { path.join("b.yaml") };
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, exported("b", 1)).unwrap();
        let time =
            until(&running, "there now", |snapshot| snapshot.complete && endpoints(snapshot, "b") == Some(1));
        assert!(time < BEFORE_POLL, "{missing}: {time:?}");
        fs::write(&file, exported("b", 2)).unwrap();
        let time = until(&running, "changed", |snapshot| endpoints(snapshot, "b") == Some(2));
        assert!(time < BEFORE_POLL, "{missing}: {time:?}");
    }
}

#[test]
fn other_settings_lose_nothing() {
    let (root, config) = world(&["c1", "c2", "c3"]);
    for name in ["c1", "c2", "c3"] {
        fs::write(root.path().join(name).join("x.yaml"), exported(name, 1)).unwrap();
    }
    let mut changed = config.clone();
    changed.clusters.remove(1);
    changed.home = ClusterId::new("c3").ok();
    changed.zones = Zones::new(vec![ZoneConfig::new(Name::parse("global.example").unwrap())]).unwrap();
    let mut running = start(config).unwrap();
    until(&running, "start", |snapshot| snapshot.complete);
    let vip = |snapshot: &Snapshot, name: &str| {
        snapshot.services.get(ServiceName::new("s", name).unwrap().wire()).map(|service| service.ips.clone())
    };
    let before: Arc<Snapshot> = running.snapshots().load_full();
    running.reconfigure(changed.clone()).unwrap();
    until(&running, "reconfigured", |snapshot| {
        snapshot.zones == changed.zones && vip(snapshot, "c2").is_none()
    });
    let after = running.snapshots().load_full();
    assert_eq!((vip(&after, "c1"), vip(&after, "c3")), (vip(&before, "c1"), vip(&before, "c3")));
    let mut refused = changed.clone();
    refused.pool.as_mut().unwrap().ranges.ipv4 = "243.0.0.0/16".parse().ok();
    assert!(running.reconfigure(refused).unwrap_err().to_string().contains("Submariner"));
    fs::write(root.path().join("c3/x.yaml"), exported("c3", 2)).unwrap();
    until(&running, "still watched", |snapshot| endpoints(snapshot, "c3") == Some(2));
}

/// Who was told whom to ask before knows what other settings brought, clusters behind API servers as well.
#[test]
fn a_witness_outlives_other_settings() {
    let (root, config) = world(&["c1", "c2"]);
    let mut running = start(Config { clusters: config.clusters[..1].into(), ..config.clone() }).unwrap();
    let witness = running.witness();
    let heard = |ids: &[&str]| -> Vec<String> {
        let ids: Vec<ClusterId> = ids.iter().map(|id| ClusterId::new(id).unwrap()).collect();
        witness.evidence(&ids, &[]).heard.into_iter().map(|heard| heard.from).collect()
    };
    let path = |name: &str| root.path().join(name).display().to_string();
    until(&running, "start", |_| heard(&["c1", "c2"]) == [path("c1"), String::new()]);
    let own = OwnConfig {
        access: Access::File { path: root.path().join("none"), context: None, allow_exec: false },
        id: None,
        network: "".into(),
        labels: Box::default(),
        namespace: "portolan-system".into(),
    };
    let kubernetes = KubernetesConfig { own: Some(own), ..KubernetesConfig::default() };
    running.reconfigure(Config { kubernetes, ..config }).unwrap();
    let copies = "its copies in the own cluster".to_owned();
    until(&running, "reconfigured", |_| heard(&["c2", "east"]) == [path("c2"), copies.clone()]);
}

/// A restart changes no address, even of a service whose first choice another one has by now.
#[test]
fn a_restart_changes_no_virtual_ip() {
    let (root, mut config) = world(&["c1"]);
    config.pool.as_mut().unwrap().ranges = PoolRanges { ipv4: "198.18.0.0/28".parse().ok(), ipv6: None };
    let names: Vec<_> = (0..8).map(|i| format!("svc-{i}")).collect();
    let vips = |snapshot: &Snapshot| -> Vec<_> {
        snapshot.services.iter().map(|service| (service.name.to_string(), service.ips.clone())).collect()
    };
    let file = root.path().join("c1/x.yaml");
    let mut before = Vec::new();
    for round in [&names[..5], &names[..]] {
        let text: Vec<_> = round.iter().map(|name| exported(name, 1)).collect();
        fs::write(&file, text.join("---\n")).unwrap();
        let running = start(config.clone()).unwrap();
        until(&running, "start", |snapshot| {
            snapshot.services.len() == round.len() && snapshot.services.iter().all(|s| s.ips.len() == 1)
        });
        let now = vips(&running.snapshots().load());
        running.stop();
        assert!(before.iter().all(|vip| now.contains(vip)), "{before:?} {now:?}");
        before = now;
    }
    assert_eq!(before.len(), 8);
}

/// What can't be read is not lost: it is left alone until it can be, and holds then.
#[test]
fn a_state_file_that_cannot_be_read_is_never_replaced() {
    let (root, config) = world(&["c1"]);
    let file = config.pool.as_ref().unwrap().state_file.clone().unwrap();
    fs::write(root.path().join("c1/a.yaml"), exported("a", 1)).unwrap();
    let running = start(config.clone()).unwrap();
    until(&running, "start", |snapshot| snapshot.complete);
    running.stop();
    let remembered = root.path().join("remembered");
    fs::rename(&file, &remembered).unwrap();
    // A regular file whose reading fails with EIO, even for root.
    std::os::unix::fs::symlink("/proc/self/mem", &file).unwrap();
    fs::write(root.path().join("c1/a.yaml"), exported("b", 1)).unwrap();
    let running = start(config.clone()).unwrap();
    until(&running, "start", |snapshot| {
        snapshot.complete && snapshot.services.iter().all(|service| service.ips.len() == 1)
    });
    let error = running.status().owner.state_file_error.unwrap();
    assert!(error.contains("can't read virtual IPs from") && error.contains("not saved"), "{error}");
    running.stop();
    assert!(file.is_symlink(), "the last save of all left it alone too");
    let running = start(config).unwrap();
    until(&running, "start", |snapshot| endpoints(snapshot, "b") == Some(1));
    fs::rename(&remembered, &file).unwrap();
    until(&running, "can be read", |_| {
        let text = fs::read_to_string(&file).unwrap_or_default();
        text.contains("\"s/a\"") && text.contains("\"s/b\"")
    });
    assert_eq!(running.status().owner.state_file_error, None);
}

/// `kubectl get -o yaml >file` empties the file at once and writes when the API answers, and a list that is cut in the
/// middle still parses: what the file gave stays until it is whole, however often other files make us look.
#[test]
fn a_file_that_is_being_written_takes_nothing_away() {
    let (root, config) = world(&["c1"]);
    let (file, other) = (root.path().join("c1/a.yaml"), root.path().join("c1/other.yaml"));
    let text = |count| format!("{}---\n{}", exported("a", count), exported("b", count));
    fs::write(&file, text(1)).unwrap();
    let running = start(config).unwrap();
    let both = |snapshot: &Snapshot| (endpoints(snapshot, "a"), endpoints(snapshot, "b"));
    until(&running, "start", |snapshot| both(snapshot) == (Some(1), Some(1)));
    // Longer than any delay but the poll's; each round another file is written, so that the folder is looked at.
    let mut changes = 0;
    let mut stays = |what: &str, rounds: usize| {
        for _ in 0..rounds {
            changes += 1;
            fs::write(&other, exported("other", changes)).unwrap();
            until(&running, what, |snapshot| {
                assert_eq!(both(snapshot), (Some(1), Some(1)), "{what}");
                endpoints(snapshot, "other") == Some(changes)
            });
        }
    };
    let mut writer = fs::File::create(&file).unwrap();
    stays("emptied", 20);
    let whole = text(2);
    // Cut between two endpoints: the first document, and half of the second.
    let (half, rest) = whole.split_at(whole.rfind("- addresses").unwrap());
    writer.write_all(half.as_bytes()).unwrap();
    stays("half written", 20);
    writer.write_all(rest.as_bytes()).unwrap();
    stays("all written, not closed", 5);
    drop(writer);
    let time = until(&running, "closed", |snapshot| both(snapshot) == (Some(2), Some(2)));
    assert!(time < BEFORE_POLL, "{time:?}");
}

/// Who keeps a file open is not waited for without end.
#[test]
fn a_writer_that_never_closes_is_read_when_it_is_quiet() {
    let (root, config) = world(&["c1"]);
    let file = root.path().join("c1/a.yaml");
    fs::write(&file, exported("a", 1)).unwrap();
    let running = start(config).unwrap();
    until(&running, "start", |snapshot| endpoints(snapshot, "a") == Some(1));
    let mut writer = fs::File::create(&file).unwrap();
    writer.write_all(exported("a", 2).as_bytes()).unwrap();
    let time = until(&running, "quiet", |snapshot| endpoints(snapshot, "a") != Some(1));
    assert!(time > Duration::from_secs(4), "{time:?}");
    assert_eq!(endpoints(&running.snapshots().load(), "a"), Some(2));
}

/// KEP-1645: an export without a Service doesn't count (`Valid=False`, NoService). No answer changes by it, but the
/// status does, at once.
#[test]
fn an_export_without_a_service_shows_in_the_status() {
    let (root, config) = world(&["c1"]);
    fs::write(root.path().join("c1/a.yaml"), exported("a", 1)).unwrap();
    let running = start(config).unwrap();
    until(&running, "start", |snapshot| snapshot.complete && endpoints(snapshot, "a") == Some(1));
    let generation = running.snapshots().load().generation;
    let orphan = "apiVersion: multicluster.x-k8s.io/v1alpha1\nkind: ServiceExport\nmetadata: {namespace: s, name: b}\n";
    fs::write(root.path().join("c1/b.yaml"), orphan).unwrap();
    let listed = |wanted: &[(String, String, &'static str)]| {
        until(&running, "status", |_| {
            let owner = running.status().owner;
            owner.invalid_exports == wanted && owner.invalid_export_count == wanted.len()
        });
    };
    listed(&[("s/b".into(), "c1".into(), "NoService")]);
    fs::remove_file(root.path().join("c1/b.yaml")).unwrap();
    listed(&[]);
    assert_eq!(running.snapshots().load().generation, generation, "nothing was published");
}
