//! `portolan serve` in front of API servers, without a controller: what it knows of them, whatever becomes of them.

use std::path::Path;
use std::time::Duration;

use portolan_tests::harness::kubernetes::{Cluster, Options, Proxy, export, headless_service, pod};
use portolan_tests::harness::{Server, Setup, becomes, eventually, stays};
use serde_json::{Value, json};

const DB: &str = "db.shop.svc.clusterset.local. A";

fn serve(kubeconfigs: &[&Path]) -> Setup {
    let item = |file: &&Path| format!("- {{kubeconfig: '{}', stale-after: 3s}}\n", file.display());
    Setup::new(&format!("clusters:\n{}", kubeconfigs.iter().map(item).collect::<String>()))
}

/// A headless Service with one endpoint, exported.
fn export_db(cluster: &Cluster, address: &str) {
    cluster.namespace("shop");
    cluster.put(&headless_service("shop", "db"));
    cluster.run_pod("shop", "db", "db-0", &[address]);
    cluster.put(&export("shop", "db"));
}

fn answer_becomes(server: &Server, expected: &[&str]) -> Duration {
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    becomes("the answer", &expected, || server.dig(DB).data())
}

fn state(server: &Server, number: usize) -> Value {
    server.status()["clusters"][number].clone()
}

fn problems(server: &Server, number: usize) -> String {
    state(server, number)["problems"].to_string()
}

/// What an API server says is answered at once, and what it no longer says no longer.
#[test]
fn an_api_servers_word_is_answered() {
    let cluster = Cluster::start(Options::new("paris"));
    export_db(&cluster, "10.1.0.1");
    let server = serve(&[&cluster.kubeconfig("admin")]).start();
    answer_becomes(&server, &["10.1.0.1"]);
    let state = state(&server, 0);
    assert_eq!((&state["cluster"], &state["stale"]), (&json!("paris"), &json!(false)), "{state}");
    assert_eq!((&state["objects"]["ServiceExport"], &state["problems"]), (&json!(1), &json!([])), "{state}");

    cluster.run_pod("shop", "db", "db-1", &["10.1.0.2"]);
    answer_becomes(&server, &["10.1.0.1", "10.1.0.2"]);
    cluster.set_ready(&pod("shop", "db", "db-0"), &["10.1.0.1"], false);
    answer_becomes(&server, &["10.1.0.2"]);
    assert!(cluster.delete("ServiceExport", "shop", "db"));
    eventually("it is not exported any more", || server.dig(DB).status == "NXDOMAIN");
}

/// Nothing that is known gets lost with a connection, and what happened meanwhile is known soon after.
#[test]
fn what_is_known_outlives_connections_and_api_servers() {
    let cluster = Cluster::start(Options::new("paris"));
    export_db(&cluster, "10.1.0.1");
    let proxy = Proxy::start(cluster.at());
    let server = serve(&[&cluster.kubeconfig_at("admin", proxy.at())]).start();
    answer_becomes(&server, &["10.1.0.1"]);

    proxy.cut();
    eventually("it is told stale", || state(&server, 0)["stale"] == true);
    assert_eq!(server.dig(DB).data(), ["10.1.0.1"]);
    assert!(problems(&server, 0).contains("can't be reached"), "{}", problems(&server, 0));
    cluster.run_pod("shop", "db", "db-1", &["10.1.0.2"]);
    proxy.resume();
    answer_becomes(&server, &["10.1.0.1", "10.1.0.2"]);
    eventually("it is fresh", || {
        state(&server, 0)["stale"] == false && state(&server, 0)["problems"] == json!([])
    });

    proxy.freeze();
    eventually("a black hole is noticed", || state(&server, 0)["stale"] == true);
    cluster.set_ready(&pod("shop", "db", "db-1"), &["10.1.0.2"], false);
    proxy.resume();
    answer_becomes(&server, &["10.1.0.1"]);

    cluster.kill_api();
    eventually("it is told stale", || state(&server, 0)["stale"] == true);
    stays("what is known", Duration::from_secs(1), || server.dig(DB).data() == ["10.1.0.1"]);
    cluster.start_api();
    cluster.set_ready(&pod("shop", "db", "db-1"), &["10.1.0.2"], true);
    answer_becomes(&server, &["10.1.0.1", "10.1.0.2"]);
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).count();
    assert!(lines <= 8, "{lines} warnings for three outages:\n{log}");
}

/// Kubeconfig files are read again and again: a cluster that moved is found at its new address, and a file that became
/// unusable is told, while the last good one counts on.
#[test]
fn kubeconfig_files_that_change_are_taken_over() {
    let cluster = Cluster::start(Options::new("paris"));
    export_db(&cluster, "10.1.0.1");
    let (old, new) = (Proxy::start(cluster.at()), Proxy::start(cluster.at()));
    let file = cluster.path("moves.kubeconfig");
    std::fs::copy(cluster.kubeconfig_at("admin", old.at()), &file).unwrap();
    let server = serve(&[&file]).start();
    answer_becomes(&server, &["10.1.0.1"]);

    std::fs::write(&file, "users: [").unwrap();
    eventually("the file is told", || problems(&server, 0).contains("moves.kubeconfig"));
    cluster.run_pod("shop", "db", "db-1", &["10.1.0.2"]);
    answer_becomes(&server, &["10.1.0.1", "10.1.0.2"]);

    old.cut();
    eventually("it is told stale", || state(&server, 0)["stale"] == true);
    cluster.set_ready(&pod("shop", "db", "db-0"), &["10.1.0.1"], false);
    std::fs::copy(cluster.kubeconfig_at("admin", new.at()), &file).unwrap();
    answer_becomes(&server, &["10.1.0.2"]);
    eventually("nothing is wrong", || {
        state(&server, 0)["stale"] == false && state(&server, 0)["problems"] == json!([])
    });
}

/// A cluster under two names is followed once, and two clusters under one id are not mixed.
#[test]
fn a_cluster_is_followed_once() {
    let clusters = Cluster::start_all(vec![Options::new("paris"), Options::new("paris")]);
    export_db(&clusters[0], "10.1.0.1");
    export_db(&clusters[1], "10.2.0.1");
    let copy = clusters[0].path("copy.kubeconfig");
    std::fs::copy(clusters[0].kubeconfig("admin"), &copy).unwrap();
    let other = clusters[1].path("other.kubeconfig");
    std::fs::copy(clusters[1].kubeconfig("admin"), &other).unwrap();
    let server = serve(&[&clusters[0].kubeconfig("admin"), &copy, &other]).start();
    eventually("two are told to be duplicates", || {
        (0..3).filter(|number| state(&server, *number)["duplicateOf"].is_string()).count() == 2
    });
    let answer = server.dig(DB).data();
    assert_eq!(answer.len(), 1, "{answer:?}");
}
