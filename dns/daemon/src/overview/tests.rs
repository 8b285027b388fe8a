//! What people and scripts are told.

use serde_json::{Value, json};

use super::*;

fn status() -> Value {
    let west = json!({
        "name": "west", "origin": "ClusterPeer", "cluster": "fra2", "reachable": true, "synced": true,
        "stale": false, "withdrawn": false, "contactAt": 998, "objects": {"EndpointSlice": 3, "ServiceExport": 1},
        "refusedExports": 0, "refused": [], "lagSeconds": 0.0124, "roundTripTime": 12.345, "problems": [], "duplicateOf": null, "isOwn": false,
        "leases": [{"cluster": "ber1", "stale": false}],
    });
    json!({
        "version": "1.0", "command": "controller", "now": 1000, "uptimeSeconds": 7300, "phase": "serving",
        "complete": true,
        "config": {"file": "portolan.yaml", "errors": [], "needsRestart": []},
        "sources": [], "clusters": [west],
        "controller": {"leading": true, "queue": 2, "requests": [{"count": 5}], "failed": 1, "unreachable": null, "problems": []},
        "vips": {"problems": [], "stateFileError": null}, "invalidExports": [], "policyProblems": [], "probes": {"targets": 0, "unhealthy": 0, "listed": []},
        "counts": {"services": 4, "endpoints": 9, "conflicts": 0},
    })
}

fn read(status: Value) -> Report {
    serde_json::from_value(status).unwrap()
}

#[test]
fn a_table_says_how_each_cluster_is() {
    let text = read(status()).human().unwrap();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(lines[0], ["portolan controller 1.0: serving for 2h1m"]);
    assert_eq!(lines[2], ["leads; 2 services in the queue, 5 requests, 1 of them failed"]);
    assert_eq!(
        lines[5],
        ["fra2", "ClusterPeer west", "yes", "2s", "yes", "no", "3 slices, 1 exports", "12ms", "12.3ms", "-"]
    );
    assert!(!text.contains("PROBLEMS"), "{text}");
}

/// Only where virtual IPs need agents there is anything to say of them.
#[test]
fn agents_are_counted() {
    let mut status = status();
    assert!(!read(status.clone()).human().unwrap().contains("agent"));
    status["agents"] = json!({"ready": 2, "nodes": 3});
    let text = read(status).human().unwrap();
    assert_eq!(
        text.lines().nth(2),
        Some("2 of 3 nodes have a ready agent: their clients are answered virtual IPs")
    );
}

/// Scripts ask by the exit status.
#[test]
fn what_is_not_heard_is_not_well() {
    assert!(read(status()).is_well());
    for (key, value) in [
        ("reachable", json!(false)),
        ("synced", json!(false)),
        ("stale", json!(true)),
        ("withdrawn", json!(true)),
        ("duplicateOf", json!("east")),
        ("leases", json!([{"cluster": "ber1", "stale": true}])),
    ] {
        let mut status = status();
        status["clusters"][0][key] = value;
        assert!(!read(status).is_well(), "{key}");
    }
    let mut mute = status();
    mute["controller"]["unreachable"] = json!("connection refused");
    assert!(!read(mute).is_well(), "nothing can be written");
    let mut own = status();
    own["clusters"][0]["isOwn"] = json!(true);
    own["clusters"][0]["reachable"] = json!(false);
    assert!(read(own).is_well(), "a peer that is this cluster is no problem");
    let source = json!({
        "cluster": null, "path": "clusters/a", "synced": true, "stale": true, "objects": {}, "checkedAt": null,
        "roundTripTime": null,
        "problems": ["gone"],
    });
    let mut stale = status();
    stale["sources"] = json!([source]);
    let report = read(stale);
    assert!(!report.is_well() && report.human().unwrap().contains("clusters/a"));
}

#[test]
fn everything_else_that_is_wrong_is_listed_below() {
    let mut status = status();
    status["clusters"][0]["problems"] = json!(["first", "second"]);
    status["clusters"][0]["refusedExports"] = json!(3);
    status["clusters"][0]["refused"] = json!(["shop/web"]);
    status["config"]["errors"] = json!(["a.yaml:1: wrong"]);
    status["config"]["needsRestart"] = json!(["listen"]);
    status["vips"]["problems"] = json!(["the pool is exhausted"]);
    status["controller"]["problems"] = json!(["shop/cart can't be written"]);
    status["invalidExports"] = json!([{ "service": "shop/db", "cluster": "fra2", "reason": "NoService" }]);
    let text = read(status).human().unwrap();
    let (table, below) = text.split_once("PROBLEMS").unwrap();
    assert!(table.contains("first") && !table.contains("second"), "{text}");
    for expected in [
        "fra2: second",
        "fra2: 3 exports don't count: their namespaces are not accepted: shop/web",
        "refused: a.yaml:1: wrong",
        "only a restart brings into force: listen",
        "the pool is exhausted",
        "shop/cart can't be written",
        "shop/db: the export of fra2 does not count: NoService",
    ] {
        assert!(below.contains(expected), "{expected}: {text}");
    }
}
