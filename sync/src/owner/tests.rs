//! Who gets an address when there are too few, and when; with the time given.

use std::fs;

use super::*;
use crate::manifest::{self, ClusterSource};
use portolan_zones::{ClusterId, Name, ZoneConfig};

const QUARANTINE: UnixTime = 60;
const START: UnixTime = 1_000_000;

struct World {
    folder: tempfile::TempDir,
    state: State,
    snapshot: Snapshot,
}

impl World {
    fn new(ipv4: &str, ipv6: &str) -> Self {
        let zones = Zones::new(vec![ZoneConfig::new(Name::parse("clusterset.local").unwrap())]).unwrap();
        let snapshot = Snapshot::unsynced(zones.clone());
        let mut state = State::new(zones, Some(config(ipv4, ipv6)), Arc::default(), false);
        state.take(Message::Events(vec![Event::Home(ClusterId::new("c1").ok())]));
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("c1")).unwrap();
        Self { folder, state, snapshot }
    }

    /// The cluster has these services from now on; each is a name with `spec` fields, or an `import` of an address.
    fn say(&mut self, services: &[(&str, &str)]) {
        let text: String = services.iter().map(|(name, spec)| objects(name, spec)).collect();
        let path = self.folder.path().join("c1");
        fs::write(path.join("x.yaml"), text).unwrap();
        let (events, problems) =
            manifest::load(&[ClusterSource { name: None, path, labels: Box::default(), network: "".into() }]);
        assert!(problems.is_empty(), "{problems:?}");
        self.state.take(Message::Events(events));
    }

    /// Lets the owner work at this time; returns every service with its addresses, and the problems.
    fn at(&mut self, now: UnixTime) -> (Vec<String>, Vec<String>) {
        if let Some(next) = self.state.advance(&self.snapshot, (START + now).into()) {
            self.snapshot = next;
        }
        let told = |service: &Arc<Service>| {
            let ips: String = service.ips.iter().map(|ip| format!(" {ip}")).collect();
            format!("{}{ips}", service.name)
        };
        let mut services: Vec<_> = self.snapshot.services.iter().map(told).collect();
        services.sort();
        (services, self.state.status.lock().unwrap().vip_problems.clone())
    }
}

fn config(ipv4: &str, ipv6: &str) -> PoolConfig {
    PoolConfig {
        ranges: PoolRanges { ipv4: ipv4.parse().ok(), ipv6: ipv6.parse().ok() },
        quarantine: Duration::from_secs(QUARANTINE as u64),
        state_file: None,
    }
}

fn objects(name: &str, spec: &str) -> String {
    let metadata = format!("metadata: {{namespace: s, name: {name}}}");
    if let Some(ips) = spec.strip_prefix("import ") {
        return format!(
            "---\napiVersion: multicluster.x-k8s.io/v1alpha1\nkind: ServiceImport\n{metadata}\n\
             spec: {{type: ClusterSetIP, ips: [{ips}], ports: [{{port: 80}}]}}\n"
        );
    }
    format!(
        "---\napiVersion: v1\nkind: Service\n{metadata}\nspec: {{ports: [{{port: 80}}], {spec}}}\n---\n\
         apiVersion: multicluster.x-k8s.io/v1alpha1\nkind: ServiceExport\n{metadata}\n"
    )
}

const DUAL: &str = "ipFamilies: [IPv4, IPv6]";

#[test]
fn a_refused_service_gets_what_another_gives_back_after_its_quarantine() {
    let mut world = World::new("10.0.0.1/32", "");
    world.say(&[("a", "")]);
    assert_eq!(world.at(0).0, ["s/a 10.0.0.1"]);
    world.say(&[("a", ""), ("b", ""), ("c", "")]);
    let (services, problems) = world.at(1);
    assert_eq!(services, ["s/a 10.0.0.1", "s/b", "s/c"]);
    assert!(problems[0].contains("service s/b: pool 10.0.0.1/32 is exhausted"), "{problems:?}");
    world.say(&[("b", ""), ("c", "")]);
    assert_eq!(world.at(2).0, ["s/b", "s/c"]);
    assert_eq!(
        world.at(2 + QUARANTINE - 1).0,
        ["s/b", "s/c"],
        "clients may still use it for another service"
    );
    let (services, problems) = world.at(2 + QUARANTINE);
    assert_eq!(services, ["s/b 10.0.0.1", "s/c"]);
    assert_eq!(problems.len(), 1, "{problems:?}");
    let generation = world.snapshot.generation;
    world.at(3 * QUARANTINE);
    assert_eq!(
        world.snapshot.generation, generation,
        "nothing was freed: nothing is tried, nothing published"
    );
}

/// A service that comes back while nobody else may have its address gets it, however full the pool is.
#[test]
fn a_full_pool_gives_a_service_its_own_address_back() {
    let mut world = World::new("10.0.0.1/32", "");
    world.say(&[("b", "")]);
    world.at(0);
    world.say(&[("a", "")]);
    assert_eq!(world.at(1).1.len(), 1);
    world.say(&[("a", ""), ("b", "")]);
    assert_eq!(world.at(2).0, ["s/a", "s/b 10.0.0.1"]);
    assert_eq!(world.at(2 + QUARANTINE).0, ["s/a", "s/b 10.0.0.1"]);
}

#[test]
fn a_family_that_was_exhausted_is_added_when_it_can_be() {
    let mut world = World::new("10.0.0.0/24", "fd00::1/128");
    world.say(&[("a", "ipFamilies: [IPv6]")]);
    world.at(0);
    world.say(&[("a", "ipFamilies: [IPv6]"), ("b", DUAL)]);
    let (services, problems) = world.at(1);
    assert!(services[1].starts_with("s/b 10.0.0.") && !services[1].contains("fd00"), "{services:?}");
    assert!(problems[0].contains("s/b: pool fd00::1/128 is exhausted"), "{problems:?}");
    let v4 = services[1].clone();
    world.say(&[("b", DUAL)]);
    world.at(2);
    assert_eq!(world.at(2 + QUARANTINE), (vec![format!("{v4} fd00::1")], vec![]));
}

#[test]
fn an_address_that_an_import_lets_go_of_is_given() {
    let mut world = World::new("10.0.0.1/32", "");
    world.say(&[("a", ""), ("a", "import 10.0.0.1"), ("b", "")]);
    assert_eq!(world.at(0).0, ["s/a 10.0.0.1", "s/b"]);
    world.say(&[("a", ""), ("a", "import 192.0.2.1"), ("b", "")]);
    assert_eq!(world.at(1), (vec!["s/a 192.0.2.1".into(), "s/b 10.0.0.1".into()], vec![]));
}

/// A refusal is told as long as the service wants an address, and no longer.
#[test]
fn a_refused_service_that_wants_nothing_any_more_is_no_problem() {
    for end in [
        &[("a", "")][..],
        &[("a", ""), ("b", "clusterIP: None")],
        &[("a", ""), ("b", ""), ("b", "import 192.0.2.1")],
    ] {
        let mut world = World::new("10.0.0.1/32", "");
        world.say(&[("a", ""), ("b", "")]);
        assert_eq!(world.at(0).1.len(), 1);
        world.say(end);
        assert_eq!(world.at(1).1, [""; 0], "{end:?}");
    }
}

#[test]
fn another_pool_moves_only_what_lies_outside() {
    let mut world = World::new("10.0.0.0/31", "");
    world.say(&[("a", ""), ("b", DUAL), ("c", "")]);
    let (before, problems) = world.at(0);
    assert_eq!((&*before[2], problems.len()), ("s/c", 1));
    world.state.take(Message::Pool(Some(config("10.0.0.0/29", "fd00::/120"))));
    let (wider, problems) = world.at(1);
    assert_eq!(wider[0], before[0], "what lies inside stays");
    assert!(wider[1].starts_with(&format!("{} fd00::", before[1])), "{wider:?}");
    assert!(wider[2].starts_with("s/c 10.0.0.") && problems.is_empty(), "{wider:?} {problems:?}");
    world.state.take(Message::Pool(Some(config("10.9.0.0/24", "fd00::/120"))));
    let (moved, problems) = world.at(2);
    assert!(moved.iter().all(|service| service.contains(" 10.9.0.")) && problems.is_empty(), "{moved:?}");
    assert_eq!(moved[1].split(' ').nth(2), wider[1].split(' ').nth(2), "the other family stays");
    world.state.take(Message::Pool(Some(config("", ""))));
    let (none, problems) = world.at(3);
    assert_eq!((none, problems.len()), (vec!["s/a".into(), "s/b".into(), "s/c".into()], 3));
}

/// What was given while the state file was being written is not lost by an end in that moment.
#[test]
fn the_end_saves_what_a_write_under_way_lacks() {
    let mut world = World::new("10.0.0.0/24", "");
    let file = world.folder.path().join("vips.json");
    world.state.writes = true;
    world.state.config.as_mut().unwrap().state_file = Some(file.clone());
    // A write to a pipe is under way until somebody reads.
    let pipe = world.folder.path().join("vips.json.new");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    world.say(&[("a", "")]);
    world.at(0);
    world.state.save(false);
    world.say(&[("a", ""), ("b", "")]);
    world.at(1);
    world.state.save(false);
    assert!(!file.exists() && world.state.saver.as_ref().is_some_and(|saver| !saver.is_idle()));
    let reader = std::thread::spawn(move || fs::read(pipe));
    world.state.save(true);
    reader.join().unwrap().unwrap();
    let saved = fs::read_to_string(file).unwrap();
    assert!(saved.contains("\"s/a\"") && saved.contains("\"s/b\""), "{saved}");
}

/// Lists are cut, counts are not.
#[test]
fn problems_are_counted_beyond_those_listed() {
    let mut world = World::new("10.0.0.1/32", "");
    let names: Vec<_> = (0..MAX_PROBLEMS + 6).map(|i| format!("s{i}")).collect();
    world.say(&names.iter().map(|name| (&**name, "")).collect::<Vec<_>>());
    assert_eq!(world.at(0).1.len(), MAX_PROBLEMS);
    assert_eq!(world.state.status.lock().unwrap().vip_problem_count, MAX_PROBLEMS + 5);
    world.say(&names.iter().map(|name| (&**name, "type: ExternalName")).collect::<Vec<_>>());
    world.at(1);
    let status = world.state.status.lock().unwrap().clone();
    assert_eq!((status.vip_problem_count, status.vip_problems), (0, Vec::new()));
    assert_eq!((status.invalid_export_count, status.invalid_exports.len()), (MAX_PROBLEMS + 6, MAX_PROBLEMS));
}
