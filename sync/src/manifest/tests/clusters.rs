//! Clusters as a whole: which source speaks for one, its id, its folder coming and going.

use super::*;

/// Which source speaks for a cluster decides whether it is stale.
#[test]
fn a_stale_source_that_yields_its_cluster_leaves_it_fresh() {
    let mut world = World::new(&["c1", "c2"]);
    let source = |name: &str, path| ClusterSource {
        name: ClusterId::new(name).ok(),
        path,
        labels: Box::default(),
        network: "".into(),
    };
    let (old, new) = (source("c", world.path("c1")), source("c", world.path("c2")));
    world.clusters = Clusters::new(vec![old.clone()]);
    world.refresh();
    fs::remove_dir(world.path("c1")).unwrap();
    assert_eq!(world.refresh(), ["c: stale true"]);
    world.clusters.reconfigure(vec![new, old]);
    assert_eq!(world.refresh(), ["c: reset to 0", "c: stale false"]);
}

/// (d) A vanished folder keeps everything, and comes back where it was; a file that is removed deletes its objects.
#[test]
fn a_vanished_folder_takes_nothing_away() {
    let mut world = World::one();
    world.write("c1/a.yaml", &service("a", 1)).write("c1/b.yaml", &service("b", 1));
    world.refresh();
    fs::rename(world.path("c1"), world.path("away")).unwrap();
    assert_eq!(world.refresh(), ["c1: stale true"]);
    assert_eq!(world.refresh(), [""; 0], "told once");
    world.expect_problems(&["c1: can't be read: No such file or directory"]);
    fs::rename(world.path("away"), world.path("c1")).unwrap();
    assert_eq!(world.refresh(), ["c1: stale false"]);
    assert_eq!(world.problems(), [""; 0]);
    world.remove("c1/a.yaml");
    assert_eq!(world.refresh(), ["c1: delete Service s/a"]);
}

#[test]
fn a_cluster_that_was_never_there_is_waited_for() {
    let mut world = World::new(&["c1", "c2"]);
    fs::remove_dir(world.path("c2")).unwrap();
    assert_eq!(world.refresh(), ["c1: reset to 0", "expect {\"c1\", \"c2\"}"]);
    world.write("c2/a.yaml", &service("a", 1));
    assert_eq!(world.refresh(), ["c2: reset to 1"]);
}

/// (e) An empty file gives no objects.
#[test]
fn an_empty_file_deletes_its_objects() {
    for empty in ["", "\n\n", "# nothing\n", "---\n"] {
        let mut world = World::one();
        world.write("c1/a.yaml", &service("a", 1)).write("c1/b.json", &service_json("b", 1));
        world.refresh();
        world.write("c1/a.yaml", empty);
        assert_eq!(world.refresh(), ["c1: delete Service s/a"], "{empty:?}");
        assert_eq!(world.problems(), [""; 0]);
    }
    let mut world = World::one();
    world.write("c1/b.json", &service_json("b", 1));
    world.refresh();
    world.write("c1/b.json", " ");
    assert_eq!(world.refresh(), ["c1: delete Service s/b"]);
}

/// KEP-2149: ClusterProperty `cluster.clusterset.k8s.io` is the cluster's id.
#[test]
fn the_id_is_the_propertys_else_the_configured_one_else_the_folders() {
    let mut world = World::one();
    world.refresh();
    assert_eq!(world.clusters.status()[0].cluster.as_ref().unwrap().as_str(), "c1");
    world.write("c1/a.yaml", &service("a", 1)).write("c1/id.yaml", &property("fra1.b"));
    assert_eq!(world.refresh(), ["fra1.b: reset to 1", "forget c1", "expect {\"fra1.b\"}"]);
    world.write("c1/id.yaml", "kind: [");
    assert_eq!(world.refresh(), [""; 0], "a broken file keeps the id");
    world.write("c1/id.yaml", &property("ber1"));
    assert_eq!(world.refresh(), ["ber1: reset to 1", "forget fra1.b", "expect {\"ber1\"}"]);
    world.write("c1/other.yaml", &property("lon1"));
    assert_eq!(world.refresh(), [""; 0]);
    world.expect_problems(&["c1/other.yaml: ClusterProperty lon1: the cluster's id is `ber1` already"]);
    let old = property("old").replace("cluster.clusterset.k8s.io", "id.k8s.io");
    world.write("c1/a-first.yaml", &old).remove("c1/other.yaml");
    assert_eq!(world.refresh(), [""; 0], "the former name yields to the one of today");
    let named = ClusterSource {
        name: ClusterId::new("named").ok(),
        path: world.path("c1"),
        labels: Box::default(),
        network: "".into(),
    };
    world.remove("c1/a-first.yaml").remove("c1/id.yaml");
    assert_eq!(load(&[named]).0.len(), 2, "the objects, and who is expected");
}

/// Told under another id, a broken file's last good objects would be lost: the id waits for the file.
#[test]
fn the_id_changes_when_nothing_is_lost_by_it() {
    let good = format!("{}---\n{}", service("a", 1), service("b", 1));
    for bad in ["kind: [", &good.replace("port: 1", "port: 0")] {
        let mut world = World::one();
        world.write("c1/x.yaml", &good).write("c1/id.yaml", &property("ber1"));
        world.refresh();
        world.write("c1/x.yaml", bad);
        world.refresh();
        world.write("c1/id.yaml", &property("fra1")).write("c1/y.yaml", &service("c", 1));
        assert_eq!(world.refresh(), ["ber1: apply Service s/c"]);
        assert_eq!(world.held("ber1"), ["Service s/a", "Service s/b", "Service s/c"]);
        assert!(world.problems()[0].starts_with("c1: the cluster's id becomes `fra1` when"), "{bad}");
        world.write("c1/x.yaml", &good);
        assert_eq!(world.refresh(), ["fra1: reset to 3", "forget ber1", "expect {\"fra1\"}"]);
        assert_eq!(world.problems(), [""; 0]);
    }
}

#[test]
fn of_two_sources_with_one_id_the_first_counts() {
    let mut world = World::new(&["c1", "c2"]);
    world.write("c1/a.yaml", &service("a", 1)).write("c2/b.yaml", &service("b", 1));
    world.write("c2/id.yaml", &property("c1"));
    assert_eq!(world.refresh(), ["c1: reset to 1", "expect {\"c1\"}"]);
    world.expect_problems(&["c2: cluster id `c1` is that of "]);
    world.write("c1/id.yaml", &property("c3"));
    assert_eq!(world.refresh(), ["c3: reset to 1", "c1: reset to 1", "expect {\"c1\", \"c3\"}"]);
    assert_eq!((world.held("c3"), world.held("c1")), (vec!["Service s/a"], vec!["Service s/b"]));
    world.remove("c1/id.yaml");
    assert_eq!(world.refresh(), ["c1: reset to 1", "forget c3", "expect {\"c1\"}"]);
    assert_eq!(world.held("c1"), ["Service s/a"]);
}

#[test]
fn sources_come_and_go_without_the_others() {
    let mut world = World::new(&["c1", "c2"]);
    world.write("c1/a.yaml", &service("a", 1)).write("c2/b.yaml", &service("b", 1));
    world.refresh();
    let source = |name: &str| ClusterSource {
        name: None,
        path: world.path(name),
        labels: Box::default(),
        network: "".into(),
    };
    world.write("c3/c.yaml", &service("c", 1));
    let sources = vec![source("c3"), source("c1")];
    world.clusters.reconfigure(sources);
    assert_eq!(world.refresh(), ["c3: reset to 1", "forget c2", "expect {\"c1\", \"c3\"}"]);
}

/// Labels are the configuration's: they change without a file being read again, and go with their cluster.
#[test]
fn clusters_have_the_labels_of_their_configuration() {
    let mut world = World::new(&[]);
    world.write("c1/a.yaml", &service("a", 1)).write("c2/b.yaml", &service("b", 1));
    let source = |name: &str, tier: Option<&str>| ClusterSource {
        name: None,
        path: world.path(name),
        labels: tier.iter().map(|tier| ("tier".into(), (*tier).into())).collect(),
        network: "".into(),
    };
    let (gold, tin, bare) = (source("c1", Some("gold")), source("c1", Some("tin")), source("c1", None));
    let other = source("c2", None);
    for (sources, told) in [
        (vec![gold.clone()], &["c1: reset to 1", "c1: labels tier=gold", "expect {\"c1\"}"][..]),
        (vec![tin, other.clone()], &["c1: labels tier=tin", "c2: reset to 1", "expect {\"c1\", \"c2\"}"]),
        (vec![bare, other], &["c1: labels "]),
        (vec![gold], &["c1: labels tier=gold", "forget c2", "expect {\"c1\"}"]),
        (vec![], &["forget c1", "expect {}"]),
    ] {
        world.clusters.reconfigure(sources);
        assert_eq!(world.refresh(), told);
    }
}

/// Pods of clusters on one network reach each other: a change of it is told, and once.
#[test]
fn clusters_are_on_the_networks_of_their_configuration() {
    let mut world = World::new(&[]);
    world.write("c1/a.yaml", &service("a", 1));
    let source = |network: &str| ClusterSource {
        name: None,
        path: world.path("c1"),
        labels: Box::default(),
        network: network.into(),
    };
    let (east, west, plain) = (source("east"), source("west"), source(""));
    for (sources, told) in [
        (vec![east.clone()], &["c1: reset to 1", "c1: network east", "expect {\"c1\"}"][..]),
        (vec![east], &[]),
        (vec![west], &["c1: network west"]),
        (vec![plain], &["c1: network "]),
    ] {
        world.clusters.reconfigure(sources);
        assert_eq!(world.refresh(), told);
    }
}

#[test]
fn a_single_file_is_a_cluster_too() {
    let mut world = World::new(&[]);
    world.write("paris.yaml", &service("a", 1));
    world.clusters.reconfigure(vec![ClusterSource {
        name: None,
        path: world.path("paris.yaml"),
        labels: Box::default(),
        network: "".into(),
    }]);
    assert_eq!(world.refresh(), ["paris: reset to 1", "expect {\"paris\"}"]);
    world.remove("paris.yaml");
    assert_eq!(world.refresh(), ["paris: stale true"]);
    world.expect_problems(&["paris.yaml: can't be read"]);
}

/// A mounted ConfigMap: files are links into `..data`, which is a link that is swapped by a rename.
#[test]
fn swapped_links_are_changes() {
    let mut world = World::one();
    let swap = |world: &World, version: &str, port: u16| {
        world.write(&format!("c1/..{version}/a.yaml"), &service("a", port));
        std::os::unix::fs::symlink(format!("..{version}"), world.path("c1/..tmp")).unwrap();
        fs::rename(world.path("c1/..tmp"), world.path("c1/..data")).unwrap();
    };
    swap(&world, "2026_1", 1);
    std::os::unix::fs::symlink("..data/a.yaml", world.path("c1/a.yaml")).unwrap();
    std::os::unix::fs::symlink(".", world.path("c1/loop")).unwrap();
    world.refresh();
    assert_eq!((world.held("c1"), world.port("a")), (vec!["Service s/a"], 1));
    swap(&world, "2026_2", 2);
    assert_eq!(world.refresh(), ["c1: apply Service s/a"]);
}

/// What people say of clusters can be tried out without an API server.
#[test]
fn peers_are_read_from_files() {
    let mut world = World::one();
    let peer = |state: &str| {
        format!(
            "apiVersion: portolan.dev/v1alpha1\nkind: ClusterPeer\n\
             metadata: {{name: west, labels: {{tier: gold}}, annotations: {{portolan.dev/state: {state}}}}}\n\
             spec: {{clusterId: lima, credentials: {{secret: {{name: west}}}}}}\n"
        )
    };
    world.write("c1/peer.yaml", &peer("drain"));
    world.refresh();
    let held = &world.held["c1"]["ClusterPeer west"];
    let Object::Peer(held) = held else { panic!("{held:?}") };
    assert_eq!((held.cluster.as_str(), held.state), ("lima", Some(portolan_zones::peers::State::Drain)));
    assert_eq!(held.labels.len(), 1);
    world.write("c1/peer.yaml", &peer("gone"));
    world.refresh();
    let problems = world.clusters.problems();
    assert!(
        problems[0]
            .to_string()
            .contains("ClusterPeer west: metadata.annotations[portolan.dev/state]: `gone`")
    );
    let Object::Peer(held) = &world.held["c1"]["ClusterPeer west"] else { panic!() };
    assert_eq!(held.state, Some(portolan_zones::peers::State::Drain), "the last good version holds");
}
