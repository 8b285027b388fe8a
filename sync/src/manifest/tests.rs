//! Files in, events and problems out: what is good is taken, what is bad takes nothing away.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use portolan_zones::Event;
use portolan_zones::object::{Change, ClusterEvent, Object};

use super::*;

mod clusters;

/// One folder for each cluster, and what a table fed with the events would hold.
struct World {
    root: tempfile::TempDir,
    clusters: Clusters,
    held: BTreeMap<String, BTreeMap<String, Object>>,
}

impl World {
    /// Folders of these names, each a source.
    fn new(names: &[&str]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let source = |name: &&str| {
            let path = root.path().join(name);
            fs::create_dir(&path).unwrap();
            ClusterSource { name: None, path, labels: Box::default(), network: "".into() }
        };
        let clusters = Clusters::new(names.iter().map(source).collect());
        Self { root, clusters, held: BTreeMap::new() }
    }

    fn one() -> Self {
        Self::new(&["c1"])
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.path().join(file)
    }

    fn write(&self, file: &str, text: &str) -> &Self {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn remove(&self, file: &str) -> &Self {
        fs::remove_file(self.path(file)).unwrap();
        self
    }

    /// Reads again; returns what the events were, as text.
    fn refresh(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        for event in self.clusters.refresh(|_| true, |_, _| false) {
            match event {
                Event::Cluster(ClusterEvent { cluster, change }) => {
                    self.apply(&cluster.to_string(), change, &mut told);
                }
                Event::Forget(cluster) => {
                    self.held.remove(cluster.as_str());
                    told.push(format!("forget {cluster}"));
                }
                Event::Hear(_) => {}
                Event::Expect(clusters) => told.push(format!("expect {clusters:?}")),
                Event::Stale { cluster, stale } => told.push(format!("{cluster}: stale {stale}")),
                Event::Labels { cluster, labels } => {
                    let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                    told.push(format!("{cluster}: labels {}", labels.join(",")));
                }
                Event::Network { cluster, network } => told.push(format!("{cluster}: network {network}")),
                other => panic!("{other:?}"),
            }
        }
        told
    }

    fn apply(&mut self, cluster: &str, change: Change, told: &mut Vec<String>) {
        let held = self.held.entry(cluster.to_owned()).or_default();
        match change {
            Change::Apply(object) => {
                told.push(format!("{cluster}: apply {}", object.key()));
                held.insert(object.key().to_string(), object);
            }
            Change::Delete(key) => {
                told.push(format!("{cluster}: delete {key}"));
                assert!(held.remove(&key.to_string()).is_some(), "deleted what is not there: {key}");
            }
            Change::Synced => panic!("files are told whole"),
            Change::Reset(objects) => {
                told.push(format!("{cluster}: reset to {}", objects.len()));
                *held = objects.into_iter().map(|object| (object.key().to_string(), object)).collect();
            }
        }
    }

    fn held(&self, cluster: &str) -> Vec<&str> {
        self.held.get(cluster).into_iter().flatten().map(|(key, _)| &**key).collect()
    }

    fn problems(&self) -> Vec<String> {
        let root = format!("{}/", self.root.path().display());
        self.clusters.problems().iter().map(|problem| problem.to_string().replace(&root, "")).collect()
    }

    fn expect_problems(&self, starts: &[&str]) {
        let problems = self.problems();
        assert_eq!(problems.len(), starts.len(), "{problems:#?}");
        for (problem, start) in problems.iter().zip(starts) {
            assert!(problem.starts_with(start), "{problem}\n does not start with\n{start}");
        }
    }

    /// The port that Service `s/<name>` has.
    fn port(&self, name: &str) -> u16 {
        let Object::Service(service) = &self.held["c1"][&format!("Service s/{name}")] else { panic!() };
        service.spec.ports[0].number
    }
}

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  namespace: s\n  name: {name}\nspec:\n  ports:\n  - port: {port}\n"
    )
}

fn service_json(name: &str, port: u16) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "Service", "metadata": {{"namespace": "s", "name": "{name}"}},
           "spec": {{"ports": [{{"port": {port}}}]}}}}"#
    )
}

fn property(id: &str) -> String {
    format!(
        "apiVersion: about.k8s.io/v1beta1\nkind: ClusterProperty\nmetadata:\n  name: cluster.clusterset.k8s.io\nspec:\n  value: {id}\n"
    )
}

#[test]
fn objects_come_in_every_form() {
    let both = ["Service s/a", "Service s/b"];
    let (a, b) = (service("a", 1), service("b", 2));
    let (ja, jb) = (service_json("a", 1), service_json("b", 2));
    let indented = |text: &str| text.replace('\n', "\n  ");
    for (file, text) in [
        ("x.yaml", format!("{a}---\n{b}")),
        ("x.yml", format!("# first\n---\n{a}...\n---\n# second\n{b}---\n")),
        ("x.yaml", format!("\u{feff}--- # with a comment\r\n{}---\r\n{b}", a.replace('\n', "\r\n"))),
        ("deep/er/x.yaml", format!("%YAML 1.2\n---\n{a}---\n{b}")),
        ("x.yaml", format!("apiVersion: v1\nkind: List\nitems:\n- {}\n- {}\n", indented(&a), indented(&b))),
        ("x.yaml", format!("{ja}\n---\n{jb}")),
        ("x.json", format!(r#"{{"apiVersion": "v1", "items": [{ja}, {jb}], "kind": "List"}}"#)),
        ("x.json", format!("{ja}\n\n{jb}\n")),
        ("x.json", format!("\u{feff}{ja}{jb}")),
    ] {
        let mut world = World::one();
        world.write(&format!("c1/{file}"), &text);
        world.refresh();
        assert_eq!(world.held("c1"), both, "{text}");
        assert_eq!(world.problems(), [""; 0], "{text}");
    }
}

/// `kubectl get --raw` leaves out the items' own kind.
#[test]
fn items_of_typed_lists_inherit_their_kind() {
    let slice = |name: &str| {
        format!(
            r#"{{"metadata": {{"namespace": "s", "name": "{name}", "labels": {{"kubernetes.io/service-name": "a"}}}},
               "addressType": "IPv4", "endpoints": [{{"addresses": ["10.0.0.1"]}}]}}"#
        )
    };
    let list = format!(
        r#"{{"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "metadata": {{}}, "items": [{}, {}]}}"#,
        slice("x"),
        slice("y")
    );
    for file in ["c1/x.json", "c1/x.yaml"] {
        let mut world = World::one();
        world.write(file, &list);
        world.refresh();
        assert_eq!(world.held("c1"), ["EndpointSlice s/x", "EndpointSlice s/y"]);
    }
    let mut world = World::one();
    world.write(
        "c1/x.json",
        r#"{"kind": "List", "apiVersion": "v1", "items": [{"metadata": {"name": "x"}}]}"#,
    );
    world.refresh();
    world.expect_problems(&["c1/x.json:1: kind is missing"]);
}

#[test]
fn what_is_not_ours_is_ignored() {
    let mut world = World::one();
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {ports: x}\n";
    world.write("c1/a.yaml", deployment);
    for file in
        ["c1/.hidden.yaml", "c1/..data/x.yaml", "c1/#x.yaml#", "c1/x.yaml~", "c1/.x.yaml.swp", "c1/x.txt"]
    {
        world.write(file, &service("no", 1));
    }
    assert_eq!(world.refresh(), ["c1: reset to 0", "expect {\"c1\"}"]);
    assert_eq!(world.problems(), [""; 0]);
}

#[test]
fn only_what_changed_is_told() {
    let mut world = World::one();
    world.write("c1/a.yaml", &format!("{}---\n{}", service("a", 1), service("b", 1)));
    world.write("c1/c.yaml", &service("c", 1));
    assert_eq!(world.refresh(), ["c1: reset to 3", "expect {\"c1\"}"]);
    assert_eq!(world.refresh(), [""; 0]);
    world.write("c1/a.yaml", &format!("# other text\n{}---\n{}", service("a", 2), service("b", 1)));
    assert_eq!(world.refresh(), ["c1: apply Service s/a"]);
    world.remove("c1/c.yaml");
    assert_eq!(world.refresh(), ["c1: delete Service s/c"]);
    world.write("c1/a.yaml", &service("b", 1)).write("c1/z.yaml", &service("a", 2));
    assert_eq!(world.refresh(), ["c1: delete Service s/a", "c1: apply Service s/a"], "moved to another file");
}

/// (a) An object that can't be read is refused alone, and its last good version stays.
#[test]
fn a_bad_object_is_refused_alone() {
    let list = |first: &str, third: &str| {
        let items = [service_json("a", 1).as_str(), first, &service_json("c", 3), third].join(",\n");
        format!("{{\"apiVersion\": \"v1\",\n\"kind\": \"List\",\n\"items\": [\n{items}\n]}}\n")
    };
    let mut world = World::one();
    world.write("c1/x.json", &list(&service_json("b", 2), &service_json("d", 4)));
    world.refresh();
    world.write("c1/x.json", &list(&service_json("b", 2).replace("2}", "\"two\"}"), &service_json("d", 5)));
    assert_eq!(world.refresh(), ["c1: apply Service s/d"]);
    world.expect_problems(&[
        "c1/x.json:7: Service s/b: spec.ports[0].port: invalid type: string \"two\", expected i64",
    ]);
    assert_eq!((world.port("b"), world.port("d")), (2, 5));
    world.write("c1/x.json", &list(&service_json("b", 7), &service_json("d", 5)));
    assert_eq!(world.refresh(), ["c1: apply Service s/b"]);
    assert_eq!(world.problems(), [""; 0]);
}

#[test]
fn a_bad_object_in_yaml_is_told_by_line() {
    let list = |port: &str| {
        let b = service("b", 2).replace("port: 2", port).replace('\n', "\n  ");
        format!("apiVersion: v1\nkind: List\nitems:\n- {}\n- {b}\n", service("a", 1).replace('\n', "\n  "))
    };
    let mut world = World::one();
    world.write("c1/x.yaml", &list("port: 2"));
    world.write("c1/y.yaml", &format!("---\n{}---\n{}", service("c", 1), service("d", 2)));
    world.refresh();
    world.write("c1/x.yaml", &list("port: 70000"));
    world.write("c1/y.yaml", &format!("---\n{}---\n{}", service("c", 1), service("d", 0)));
    assert_eq!(world.refresh(), [""; 0]);
    world.expect_problems(&[
        "c1/x.yaml:13: Service s/b: spec.ports[0].port: 70000 is not a port from 1 to 65535",
        "c1/y.yaml:11: Service s/d: spec.ports[0].port: 0 is not a port from 1 to 65535",
    ]);
    assert_eq!((world.port("b"), world.port("d")), (2, 2));
}

/// Which object a nameless one was can't be known: nothing of its file goes.
#[test]
fn an_object_without_a_name_takes_nothing_away() {
    let mut world = World::one();
    world.write("c1/x.yaml", &format!("{}---\n{}", service("a", 1), service("b", 1)));
    world.refresh();
    for broken in
        ["kind: Service\n", "apiVersion: v1\n", "apiVersion: v1\nkind: Service\nmetadata: {namespace: s}\n"]
    {
        world.write("c1/x.yaml", &format!("{}---\n{broken}", service("a", 1)));
        assert_eq!(world.refresh(), [""; 0], "{broken}");
        assert_eq!(world.problems().len(), 1);
    }
}

/// (b) A document that can't be parsed keeps what the file gave; what else is in the file is taken.
#[test]
fn a_half_written_file_takes_nothing_away() {
    let mut world = World::one();
    world
        .write("c1/x.json", &service_json("a", 1))
        .write("c1/y.yaml", &format!("{}---\n{}", service("b", 1), service("c", 1)));
    world.refresh();
    let whole = service_json("a", 1);
    for cut in [1, 20, whole.len() - 1] {
        world.write("c1/x.json", &whole[..cut]);
        assert_eq!(world.refresh(), [""; 0], "cut at {cut}");
        assert!(world.problems()[0].contains("can't be parsed"), "{:?}", world.problems());
    }
    world.write("c1/x.json", &whole).write("c1/y.yaml", &format!("{}---\nkind: [\n", service("b", 2)));
    assert_eq!(world.refresh(), ["c1: apply Service s/b"]);
    world.expect_problems(&["c1/y.yaml:"]);
    assert_eq!(world.held("c1"), ["Service s/a", "Service s/b", "Service s/c"]);
}

#[test]
fn what_is_no_text_is_refused() {
    let mut world = World::one();
    world.write("c1/x.yaml", &service("a", 1));
    world.refresh();
    fs::write(world.path("c1/x.yaml"), b"kind: Service\nname: \xff\n").unwrap();
    assert_eq!(world.refresh(), [""; 0]);
    world.expect_problems(&["c1/x.yaml:2: is not UTF-8"]);
}

/// Bounds: nesting, aliases that multiply, what is no object at all.
#[test]
fn hostile_documents_are_refused() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
        + &(b'b'..=b'k')
            .map(|c| {
                let before = char::from(c - 1);
                format!("{0}: &{0} [{1}]\n", char::from(c), vec![format!("*{before}"); 9].join(","))
            })
            .collect::<String>();
    for (file, text) in [
        ("x.json", "[".repeat(100_000)),
        ("x.json", format!("{{\"items\": {}", "[".repeat(100_000))),
        ("x.json", "5".to_owned()),
        ("x.json", "{\"kind\": 5}".to_owned()),
        ("x.json", r#"{"kind": "List", "apiVersion": "v1", "items": 5}"#.to_owned()),
        ("x.json", r#"{"kind": "List", "apiVersion": "v1", "items": [5, null, "x"]}"#.to_owned()),
        ("x.yaml", "[".repeat(100_000)),
        ("x.yaml", "just text".to_owned()),
        ("x.yaml", "- a\n- b\n".to_owned()),
        ("x.yaml", bomb),
    ] {
        let mut world = World::one();
        world.write(&format!("c1/{file}"), &text);
        world.refresh();
        assert!(!world.problems().is_empty(), "{}", &text[..text.len().min(80)]);
    }
}

/// serde-saphyr's own budget ends at 250,000 nodes: a file with 20,000 endpoints has more.
#[test]
fn large_yaml_files_are_read() {
    let endpoint = "  - addresses: [10.0.0.1]\n    nodeName: n1\n    conditions: {ready: true, serving: true, terminating: false}\n";
    let head = |i: usize| {
        format!(
            "- apiVersion: discovery.k8s.io/v1\n  kind: EndpointSlice\n  addressType: IPv4\n  metadata:\n    namespace: s\n    name: x{i}\n    labels: {{kubernetes.io/service-name: a}}\n  endpoints:\n"
        )
    };
    let slice = |i| head(i) + &endpoint.repeat(1000);
    let mut world = World::one();
    // One document, for the budget is a document's.
    let all: String = (0..30).map(slice).collect();
    world.write("c1/x.yaml", &format!("apiVersion: v1\nkind: List\nitems:\n{all}"));
    world.refresh();
    assert_eq!(world.problems(), [""; 0]);
    let Object::Slice(slice) = &world.held["c1"]["EndpointSlice s/x29"] else { panic!() };
    assert_eq!((world.held["c1"].len(), slice.endpoints.len()), (30, 1000));
}

/// (c) Of two objects with one key the first by path and position counts; when it goes, the other takes its place.
#[test]
fn the_first_of_two_counts_until_it_goes() {
    let mut world = World::one();
    world.write("c1/b.yaml", &service("a", 2)).write("c1/c.yaml", &service("a", 3));
    world.write("c1/d.yaml", &format!("{}---\n{}", service("d", 1), service("d", 2)));
    world.refresh();
    assert_eq!((world.port("a"), world.port("d")), (2, 1));
    world.expect_problems(&[
        "c1/c.yaml:1: Service s/a: is in ",
        "c1/d.yaml:10: Service s/d: is there twice, first at line 1",
    ]);
    world.write("c1/a.yaml", &service("a", 1));
    assert_eq!(world.refresh(), ["c1: apply Service s/a"]);
    assert_eq!(world.port("a"), 1);
    world.write("c1/c.yaml", &service("a", 4));
    assert_eq!(world.refresh(), [""; 0], "a change of one that does not count");
    world.remove("c1/a.yaml").remove("c1/b.yaml");
    world.refresh();
    assert_eq!(world.port("a"), 4);
    world.expect_problems(&["c1/d.yaml:10"]);
    world.write("c1/d.yaml", &service("d", 2)).remove("c1/c.yaml");
    world.refresh();
    assert_eq!((world.held("c1"), world.port("d")), (vec!["Service s/d"], 2));
}

/// A winner that can't be read any more stays, in its last good version; it does not make way for the other one.
#[test]
fn a_winner_that_is_broken_stays_the_winner() {
    let mut world = World::one();
    world.write("c1/a.yaml", &service("a", 1)).write("c1/b.yaml", &service("a", 2));
    world.refresh();
    world.write("c1/a.yaml", &service("a", 0));
    assert_eq!(world.refresh(), [""; 0]);
    world.write("c1/a.yaml", "");
    world.refresh();
    assert_eq!(world.port("a"), 2, "an empty file gives nothing");
}

#[test]
fn all_problems_of_a_file_are_told_up_to_a_bound() {
    let mut world = World::one();
    let bad = service_json("a", 0);
    world.write("c1/x.json", &vec![bad; 1500].join("\n"));
    world.refresh();
    let problems = world.problems();
    assert_eq!(problems.len(), 1001);
    assert!(
        problems.iter().any(|problem| problem == "c1/x.json: 500 more problems in this file"),
        "{}",
        problems[0]
    );
}

#[test]
fn problems_print_like_compilers() {
    let problem = |file: &str, line, object: Option<&str>| Problem {
        severity: Severity::Error,
        cluster: String::new(),
        file: Path::new(file).to_owned(),
        line,
        object: object.map(str::to_owned),
        message: "m".to_owned(),
    };
    assert_eq!(problem("f", Some(3), Some("Service a/b")).to_string(), "f:3: Service a/b: m");
    assert_eq!(problem("f", None, None).to_string(), "f: m");
    assert_eq!(problem("", None, None).to_string(), "m");
}
