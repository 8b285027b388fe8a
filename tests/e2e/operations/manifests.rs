//! Manifests change, break and vanish: answers follow what is known, and nothing known is lost.

use std::net::IpAddr;
use std::time::Duration;

use portolan_tests::harness::{DNS, Server, Setup, ask_udp, eventually, headless, list, query, until};

use super::answers;

const DB: &str = "db.shop.svc.clusterset.local A";

fn pods(hosts: impl IntoIterator<Item = u8>) -> String {
    list(headless("db", hosts.into_iter().map(|host| IpAddr::from([10, 1, 0, host]))))
}

fn started() -> Server {
    let server = Setup::new("clusters: [{name: a, manifests: clusters/a}]")
        .file("clusters/a/db.json", pods([1]))
        .start();
    answers(&server, DB, &["10.1.0.1"]);
    server
}

/// Whether a problem in `/status` names all of this.
fn told(server: &Server, words: &[&str]) -> bool {
    let sources = server.status()["sources"].to_string();
    words.iter().all(|word| sources.contains(word))
}

/// A change is answered in well under a second; `bench` measures by how much. A machine that stalls makes one or another late,
/// and not more.
#[test]
fn changes_are_answered_at_once() {
    let server = started();
    let serial = || server.dig("clusterset.local SOA").data()[0].clone();
    let question = query("db.shop.svc.clusterset.local", 1);
    let change = |host| {
        let before = serial();
        server.write("clusters/a/db.json", pods([host]));
        let (_, took) = until("the change is answered", || {
            let reply = ask_udp(server.at(DNS), &question, Duration::from_secs(5));
            reply.filter(|reply| reply.ends_with(&[10, 1, 0, host]))
        });
        assert_ne!(serial(), before, "RFC 1034 §4.3.5: the serial moves with the answers");
        took
    };
    let took: Vec<Duration> = (2..22).map(change).collect();
    eprintln!("manifest to answer: {took:?}");
    let late = took.iter().filter(|took| **took >= Duration::from_secs(1)).count();
    assert!(late <= 2, "{took:?}");
}

/// Files come and go, in folders that come and go; editors replace files by renaming.
#[test]
fn files_and_folders_come_and_go() {
    let server = started();
    let beside = server.path("clusters/a/.db.json.swp");
    std::fs::write(&beside, pods([2])).unwrap();
    std::fs::rename(&beside, server.path("clusters/a/db.json")).unwrap();
    answers(&server, DB, &["10.1.0.2"]);

    let more = list(headless("more", [IpAddr::from([10, 1, 1, 1])]));
    server.write("clusters/a/deep/er/more.json", more);
    answers(&server, "more.shop.svc.clusterset.local A", &["10.1.1.1"]);
    std::fs::remove_dir_all(server.path("clusters/a/deep")).unwrap();
    eventually("the service is gone", || server.dig("more.shop.svc.clusterset.local A").status == "NXDOMAIN");
    assert_eq!(server.dig(DB).data(), ["10.1.0.2"]);
}

/// A half-written file keeps what it held; the status names file and line until it is whole again.
#[test]
fn a_half_written_file_keeps_the_last_good() {
    let server = started();
    let whole = pods([1, 2]);
    server.write("clusters/a/db.json", &whole[..whole.len() / 2]);
    eventually("the problem is told", || told(&server, &["db.json"]));
    assert_eq!(server.dig(DB).data(), ["10.1.0.1"]);
    assert!(server.log().contains("db.json"), "{}", server.log());
    server.write("clusters/a/db.json", whole);
    answers(&server, DB, &["10.1.0.1", "10.1.0.2"]);
    eventually("nothing is wrong any more", || !told(&server, &["db.json:"]));
}

/// A folder that vanishes, as an unmounted volume does, is no order to forget; one that comes back is read.
#[test]
fn a_vanished_folder_keeps_the_last_good() {
    let server = started();
    std::fs::rename(server.path("clusters"), server.path("elsewhere")).unwrap();
    eventually("the problem is told", || {
        told(&server, &["clusters/a"]) && server.log().contains("clusters/a")
    });
    assert_eq!(server.dig(DB).data(), ["10.1.0.1"]);
    let stale = |server: &Server| server.dig(DB).option("EDE: 3 (Stale Answer)");
    eventually("RFC 8914 §4.4: the answer is told to be stale", || stale(&server));
    assert_eq!(server.status()["sources"][0]["stale"], true);
    assert_eq!(server.get("/ready").0, 200, "what is known is still served");
    server.write("elsewhere/a/db.json", pods([3]));
    std::fs::rename(server.path("elsewhere"), server.path("clusters")).unwrap();
    answers(&server, DB, &["10.1.0.3"]);
    assert!(!stale(&server));
}

/// One bad object among good ones is left out alone, and named with file, line, kind and name.
#[test]
fn a_bad_object_is_named() {
    let server = started();
    server.write(
        "clusters/a/mixed.yaml",
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-more, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.7]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-bad, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
endpoints: [{addresses: [10.1.0.256]}]
",
    );
    answers(&server, DB, &["10.1.0.1", "10.1.0.7"]);
    eventually("the object is named", || {
        told(&server, &["mixed.yaml:7: EndpointSlice shop/db-bad: ", "10.1.0.256"])
    });
}

/// Other kinds of objects, and files that are no manifests, are none of our business.
#[test]
fn other_objects_are_ignored() {
    let server = started();
    server.write("clusters/a/README.md", "not: [yaml");
    server.write(
        "clusters/a/other.yaml",
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {replicas: much}}",
    );
    server.write("clusters/a/db.json", pods([4]));
    answers(&server, DB, &["10.1.0.4"]);
    let problems = &server.status()["sources"][0]["problems"];
    assert_eq!(problems.as_array().map(Vec::len), Some(0), "{problems}");
}
