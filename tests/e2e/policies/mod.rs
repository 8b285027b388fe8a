//! Traffic policies, from a manifest to what clients get and where they connect.

mod agents;
mod configured;
mod explain;
mod forwarders;
mod health;
mod readme;
mod shares;

use portolan_tests::harness::{Server, Setup, eventually};
use serde_json::Value;

/// `dig` says so of a reply's client subnet: address, source and scope prefix length.
fn subnet(text: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix("; CLIENT-SUBNET: "));
    line.unwrap_or("none").to_owned()
}

const CART: &str = "cart.shop.svc.clusterset.local";

/// The demo's clusters, with a policy of Paris; clients are told of by Client Subnet.
fn with_policy(spec: &str) -> Setup {
    let policy = policy("near", "ServiceExport", "2026-10-02T00:00:00Z", spec);
    Setup::sample("three-clusters")
        .with("client-subnet: {trusted-forwarders: [127.0.0.0/8]}")
        .file("clusters/paris/near.yaml", policy)
}

fn policy(name: &str, kind: &str, created: &str, spec: &str) -> String {
    format!(
        "apiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\n\
         metadata: {{name: {name}, namespace: shop, creationTimestamp: '{created}'}}\n\
         spec: {{targetRefs: [{{kind: {kind}, name: cart}}], {spec}}}\n"
    )
}

fn asked_from(server: &Server, subnet: &str) -> Vec<String> {
    server.dig(&format!("{CART} A +subnet={subnet}")).data()
}

const NEAR: &str = "answer: Endpoints, locality: {order: [Zone, Region]}";

/// Clients get what is close, told by their Nodes' networks; RFC 7871 §7.2.1: the scope is the prefix for which that is so.
#[test]
fn answers_differ_by_where_clients_are() {
    let server = with_policy(NEAR).start();
    for (client, expected, scope) in [
        ("10.1.0.7/32", &["10.1.0.11"][..], "10.1.0.7/32/24"),
        ("10.1.1.0/24", &["10.1.1.11"], "10.1.1.0/24/24"),
        ("10.2.0.9/32", &["10.2.0.11"], "10.2.0.9/32/24"),
        (
            "198.51.100.0/24",
            &["10.1.0.11", "10.1.1.11", "10.2.0.11", "10.2.1.11", "10.3.0.11", "10.3.1.11"],
            "198.51.100.0/24/6",
        ),
    ] {
        let reply = server.dig(&format!("{CART} A +subnet={client}"));
        assert_eq!(reply.data(), expected, "{client}: {}", reply.text);
        assert_eq!(subnet(&reply.text), scope, "{}", reply.text);
    }
    // What no policy is about is the same for all, and says so.
    let reply = server.dig("db.shop.svc.clusterset.local A +subnet=10.1.0.7/32");
    assert_eq!(subnet(&reply.text), "10.1.0.7/32/0", "{}", reply.text);
}

/// RFC 7871 §11.2: whoever could say where its clients are would choose the answer. Only those who are trusted may.
#[test]
fn clients_are_believed_of_trusted_forwarders_only() {
    let server = with_policy(NEAR)
        .replace("trusted-forwarders: [127.0.0.0/8]", "trusted-forwarders: [192.0.2.0/24]")
        .start();
    let reply = server.dig(&format!("{CART} A +subnet=10.1.0.7/32"));
    assert_eq!(reply.data().len(), 6, "{}", reply.text);
    assert_eq!(subnet(&reply.text), "10.1.0.7/32/0", "{}", reply.text);
    // No client is told of: RFC 7871 §7.1.2.
    let trusting = with_policy(NEAR).start();
    assert_eq!(asked_from(&trusting, "0.0.0.0/0").len(), 6);
}

/// Policies come, change and go like all manifests; the older of two about one export holds, and a broken one leaves the
/// last good one in force.
#[test]
fn policies_are_followed_as_they_change() {
    let server = with_policy(NEAR).start();
    let from_paris = || asked_from(&server, "10.1.0.7/32");
    assert_eq!(from_paris(), ["10.1.0.11"]);
    let younger = policy("later", "ServiceExport", "2026-10-03T00:00:00Z", "answer: Endpoints");
    server.write("clusters/paris/later.yaml", younger);
    server.write(
        "clusters/paris/near.yaml",
        policy("near", "ServiceExport", "2026-10-02T00:00:00Z", "answer: Sometimes"),
    );
    eventually("the broken policy is told", || server.status()["sources"].to_string().contains("Sometimes"));
    assert_eq!(from_paris(), ["10.1.0.11"], "the last good one holds");
    std::fs::remove_file(server.path("clusters/paris/near.yaml")).unwrap();
    eventually("the younger one holds", || from_paris().len() == 6);
    std::fs::remove_file(server.path("clusters/paris/later.yaml")).unwrap();
    eventually("a virtual IP is answered again", || {
        let answer = from_paris();
        answer.len() == 1 && answer[0].starts_with("241.")
    });
}

/// What is wrong is told with file and field, and does no harm.
#[test]
fn policies_that_are_wrong_are_told() {
    for (spec, expected) in [
        (
            "weights: [{cluster: paris, weight: -1}]",
            "spec.weights[0].weight: -1 is not a number from 0 to 1000000",
        ),
        ("weights: [{cluster: paris, weight: 4294967296}]", "is not a number from 0 to 1000000"),
        (
            "weights: [{cluster: a, weight: 1}, {cluster: a, weight: 2}]",
            "spec.weights[1].cluster: `a` is listed twice",
        ),
        ("failover: [paris, paris]", "spec.failover[1]: `paris` is listed twice"),
        ("failover: ['Paris!']", "spec.failover[0]"),
        ("locality: {order: [Zone, Zone]}", "spec.locality.order[1]: `Zone` is listed twice"),
        ("locality: {order: [Planet]}", "Planet"),
        ("locality: {order: [Zone], mode: Insist}", "Insist"),
        ("maxRecords: 0", "spec.maxRecords: 0 is not a number from 1 to 1000"),
        ("ttlSeconds: -5", "spec.ttlSeconds: -5 is not a number from 0 to 86400"),
        ("panicThreshold: 101", "spec.panicThreshold: 101 is not a number from 0 to 100"),
        ("scope: ClusterSet", "spec.scope"),
        ("localty: {order: [Zone]}", "localty"),
    ] {
        let (good, text) = with_policy(spec).run("check", &[]);
        assert!(!good && text.contains("near.yaml") && text.contains(expected), "{spec}:\n{text}");
    }
}

/// TTL and number of records are the policy's; RFC 2181 §5.2: all records of a set have one TTL.
#[test]
fn records_are_as_many_and_live_as_long_as_the_policy_says() {
    let server = with_policy("answer: Endpoints, maxRecords: 2, ttlSeconds: 1").start();
    let mut seen = std::collections::BTreeSet::new();
    eventually("every endpoint comes up", || {
        let reply = server.dig(&format!("{CART} A"));
        assert_eq!((reply.data().len(), reply.ttl()), (2, 1), "{}", reply.text);
        seen.extend(reply.data());
        seen.len() == 6
    });
    let reply = server.dig(&format!("_http._tcp.{CART} SRV"));
    assert_eq!((reply.data().len(), reply.ttl()), (2, 1), "{}", reply.text);
}

/// The same explanation from the server, by the command, by HTTP and by dig, where that is allowed.
#[test]
fn a_server_says_why() {
    let server = with_policy(NEAR).with("access: {explain: {allow: [127.0.0.0/8]}}").start();
    let (code, text) = server.get(&format!("/explain?name={CART}&from=10.1.0.7&if=paris=down"));
    assert_eq!(code, 200, "{text}");
    let told: Value = serde_json::from_str(&text).unwrap();
    let shares: Vec<_> =
        told["shares"].as_array().unwrap().iter().map(|s| (&s["cluster"], &s["percent"])).collect();
    assert_eq!(shares, [(&"tokyo".into(), &50.0.into()), (&"virginia".into(), &50.0.into())], "{text}");
    for (question, expected) in [
        ("name=nobody.shop.svc.clusterset.local&from=10.1.0.7", "no service has this name"),
        ("name=a..b&from=10.1.0.7", "is no domain name"),
        (&format!("name={CART}&from=10.1.0.7&if=paris"), "CLUSTER=down"),
        (&format!("name={CART}&from=here"), "from"),
        (&format!("name={CART}&from=10.1.0.7&policy=%7B"), "the policy"),
    ] {
        let (code, text) = server.get(&format!("/explain?{question}"));
        assert!(code == 400 && text.contains(expected), "{question}: {code} {text}");
    }
    let lines = server.dig(&format!("{CART} CH TXT +subnet=10.1.0.7/32 +tcp")).text;
    for expected in ["policy: TrafficPolicy shop/near of paris", "share: tier 1, paris: 100.0 % of 10.1.0.11"]
    {
        assert!(lines.contains(expected), "{lines}");
    }
    let closed = with_policy(NEAR).start();
    assert_eq!(closed.dig(&format!("{CART} CH TXT")).status, "REFUSED");
}

/// As CoreDNS' option `zonal` has it for one cluster: who pins to a place gets what is there or nothing, who prefers one gets all
/// where there is nothing. What a virtual IP answers has no such names.
#[test]
fn clients_say_in_the_name_where_they_are() {
    let server = Setup::sample("three-clusters").with("zonal-names: true").start();
    let db = "db.shop.svc.clusterset.local";
    let all = ["10.1.0.20", "10.1.1.20", "10.2.0.20", "10.2.1.20", "10.3.0.20", "10.3.1.20"];
    for (above, expected) in [
        ("eu-west-a.pin._zone", Ok(&["10.1.0.20"][..])),
        ("EU-West-A.Pin._Zone", Ok(&["10.1.0.20"])),
        ("eu-west-a.prefer._zone", Ok(&["10.1.0.20"])),
        ("mars-a.pin._zone", Ok(&[])),
        ("mars-a.prefer._zone", Ok(&all)),
        ("ap-northeast.pin._region", Ok(&["10.2.0.20", "10.2.1.20"])),
        ("mars.prefer._region", Ok(&all)),
        ("pin._zone", Ok(&[])),
        ("_zone", Ok(&[])),
        ("eu-west-a.insist._zone", Err("NXDOMAIN")),
        ("a.eu-west-a.pin._zone", Err("NXDOMAIN")),
    ] {
        let reply = server.dig(&format!("{above}.{db} A"));
        let seen = if reply.status == "NOERROR" { Ok(reply.data()) } else { Err(&*reply.status) };
        assert_eq!(
            seen,
            expected.map(|data| data.iter().map(ToString::to_string).collect()),
            "{above}: {}",
            reply.text
        );
    }
    let srv = server.dig(&format!("eu-west-a.pin._zone.{db} SRV"));
    assert_eq!(srv.data().len(), 1, "{}", srv.text);
    assert_eq!(server.dig(&format!("eu-west-a.pin._zone.{CART} A")).status, "NXDOMAIN");
    // Nobody gets them who did not ask for them.
    let plain = Setup::sample("three-clusters").start();
    assert_eq!(plain.dig(&format!("eu-west-a.pin._zone.{db} A")).status, "NXDOMAIN");
}
