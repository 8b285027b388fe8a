//! Another cluster's API server, the way to it, and what it lets us in with.

use std::time::{Duration, Instant};

use portolan_tests::harness::kubernetes::{
    Clusterset, Impostor, Member, PEER, SYSTEM, condition, export, introduce, object, service, with,
};
use portolan_tests::harness::{eventually, stays};
use serde_json::json;

use super::{
    DB, addresses, answered, cluster, export_headless, is_stale, metric, paris_and_tokyo, problems, slice,
    steady, told_fresh_by_lease, versions,
};
use crate::steps::mirrored;

const BOTH: &[&str] = &["10.1.0.1", "10.2.0.1"];
const CHANGED: &[&str] = &["10.1.0.1", "10.2.0.2"];
const PARIS_ALONE: &[&str] = &["10.1.0.1"];
/// Time enough for credentials to be taken over before they expire.
const LASTS: Duration = Duration::from_secs(20);

/// Both export `db`, and Paris answers with the endpoints of both.
fn with_db(set: &Clusterset) -> (&Member, &Member) {
    let (paris, tokyo) = (&set[0], &set[1]);
    export_headless(paris, "db", &["10.1.0.1"]);
    export_headless(tokyo, "db", &["10.2.0.1"]);
    answered(&paris.server, DB, BOTH);
    told_fresh_by_lease(paris, "tokyo");
    (paris, tokyo)
}

/// What people, programs and DNS clients see of a peer that can't be heard.
fn told_stale(paris: &Member) {
    eventually("the answer says so", || is_stale(&paris.server, DB));
    eventually("the status says so", || cluster(&paris.controller, "tokyo")["stale"] == true);
    assert_eq!(metric(&paris.controller, "portolan_cluster_stale", "tokyo"), Some(1.0));
    assert_eq!(metric(&paris.controller, "portolan_cluster_reachable", "tokyo"), Some(0.0));
    eventually("the ClusterPeer says so", || reachable(paris).starts_with("False"));
}

fn told_fresh(paris: &Member) {
    eventually("the answer is fresh", || !is_stale(&paris.server, DB));
    eventually("the status says so", || cluster(&paris.controller, "tokyo")["stale"] == false);
    eventually("the ClusterPeer says so", || reachable(paris).starts_with("True"));
}

/// The ClusterPeer's condition: status and message.
fn reachable(paris: &Member) -> String {
    let peer = paris.get("ClusterPeer", "", "tokyo").unwrap();
    let condition = condition(&peer, "Reachable").cloned().unwrap_or_default();
    format!("{} {}", condition["status"].as_str().unwrap_or_default(), condition["message"])
}

/// design.md §5: an API server that is down is not a service that is down: last known good is kept, and said so. What
/// happened meanwhile arrives, and nothing is written for an outage that changed nothing (§7).
#[test]
fn killed_and_started_again() {
    let set = paris_and_tokyo(json!({ "staleAfter": "3s" }));
    let (paris, tokyo) = with_db(&set);
    let before = versions(paris, "tokyo");
    steady(&paris.server, DB, &[BOTH], || {
        tokyo.kill_api();
        told_stale(paris);
        // So that what changes while it is down is there before anybody looks.
        set.proxy(0, 1).cut();
        tokyo.start_api();
        assert_eq!(versions(paris, "tokyo"), before);
        assert_eq!(metric(&paris.controller, "portolan_cluster_withdrawn", "tokyo"), Some(0.0));
    });
    tokyo.put(&slice("db", "db", &["10.2.0.2"]));
    steady(&paris.server, DB, &[BOTH, CHANGED], || {
        set.proxy(0, 1).resume();
        answered(&paris.server, DB, CHANGED);
    });
    told_fresh(paris);
    steady(&paris.server, DB, &[CHANGED], || answered(&tokyo.server, DB, CHANGED));
}

/// KEP-1645, "Endpoint TTL": what a cluster said goes when it was not heard for too long, and only that. It comes back
/// with the cluster.
#[test]
fn killed_for_good() {
    let set = paris_and_tokyo(json!({ "staleAfter": "2s", "withdrawAfter": "8s" }));
    let (paris, tokyo) = with_db(&set);
    tokyo.put(&service("shop", "web"));
    tokyo.put(&slice("web", "web", &["10.2.0.9"]));
    tokyo.put(&export("shop", "web"));
    let web = "web.shop.svc.clusterset.local.";
    eventually("web has a virtual IP", || {
        addresses(paris.server.at(portolan_tests::harness::DNS), web).is_ok_and(|a| a.len() == 1)
    });

    let killed = Instant::now();
    steady(&paris.server, DB, &[BOTH, PARIS_ALONE], || {
        tokyo.kill_api();
        told_stale(paris);
        answered(&paris.server, DB, PARIS_ALONE);
    });
    // It was heard last some time before it was killed, but not long before.
    assert!(killed.elapsed() > Duration::from_secs(7), "after {:?} already", killed.elapsed());
    eventually("what only Tokyo had is gone", || paris.dig(&format!("{web} A")).status == "NXDOMAIN");
    eventually("its import is gone", || paris.get("ServiceImport", "shop", "web").is_none());
    eventually("its slices are gone", || versions(paris, "tokyo").is_empty());
    let import = paris.get("ServiceImport", "shop", "db").unwrap();
    assert_eq!(import["status"]["clusters"], json!([{ "cluster": "paris" }]));
    assert_eq!(mirrored(paris, "shop", "db").len(), 1, "Paris' own stay");
    assert_eq!(metric(&paris.controller, "portolan_cluster_withdrawn", "tokyo"), Some(1.0));

    tokyo.start_api();
    steady(&paris.server, DB, &[BOTH, PARIS_ALONE], || answered(&paris.server, DB, BOTH));
    eventually("web is back", || paris.get("ServiceImport", "shop", "web").is_some());
    told_fresh(paris);
}

/// A cluster moves: a new address in the ClusterPeer's Secret is enough.
#[test]
fn replaced_at_another_address() {
    let peer = json!({ "staleAfter": "3s" });
    let set = paris_and_tokyo(peer.clone());
    let (paris, tokyo) = with_db(&set);
    let before = versions(paris, "tokyo");
    steady(&paris.server, DB, &[BOTH], || {
        tokyo.kill_api();
        tokyo.change_port();
        tokyo.start_api();
        told_stale(paris);
        let kubeconfig = std::fs::read_to_string(tokyo.kubeconfig(PEER)).unwrap();
        introduce(paris, "tokyo", &kubeconfig, &peer);
        told_fresh(paris);
        assert_eq!(versions(paris, "tokyo"), before, "nothing had changed");
    });
    tokyo.put(&slice("db", "db", &["10.2.0.2"]));
    steady(&paris.server, DB, &[BOTH, CHANGED], || answered(&paris.server, DB, CHANGED));
}

/// A black hole: nothing ends, nothing comes. It is noticed, and whatever was held back arrives.
#[test]
fn silently_hung() {
    let set = paris_and_tokyo(json!({ "staleAfter": "4s" }));
    let (paris, tokyo) = with_db(&set);
    steady(&paris.server, DB, &[BOTH], || {
        set.proxy(0, 1).freeze();
        tokyo.put(&slice("db", "db", &["10.2.0.2"]));
        told_stale(paris);
        assert!(problems(&paris.controller, "tokyo").contains("gives no answer in 3 s"));
    });
    steady(&paris.server, DB, &[BOTH, CHANGED], || {
        set.proxy(0, 1).resume();
        answered(&paris.server, DB, CHANGED);
    });
    told_fresh(paris);
}

/// A load balancer that lost its backend answers 404 to all (here a fake, which has the cluster's certificate). That is no
/// word of the cluster behind it: what is known is out of date, not gone.
#[test]
fn behind_something_that_answers_404_to_all() {
    let set = paris_and_tokyo(json!({ "staleAfter": "4s" }));
    let (paris, tokyo) = with_db(&set);
    let before = versions(paris, "tokyo");
    let nobody = Impostor::start(tokyo, 404, "404 page not found");
    steady(&paris.server, DB, &[BOTH], || {
        set.proxy(0, 1).redirect(nobody.at());
        told_stale(paris);
        assert!(problems(&paris.controller, "tokyo").contains("no API server"));
        // Longer than it takes to look twice whether a kind is not served any more.
        stays("its slices are there", Duration::from_secs(70), || versions(paris, "tokyo") == before);
    });
    steady(&paris.server, DB, &[BOTH], || {
        set.proxy(0, 1).redirect(tokyo.at());
        told_fresh(paris);
    });
    assert_eq!(versions(paris, "tokyo"), before, "nothing had changed");
}

/// A router that forgot all connections: they hang, and new ones work. Nothing is stale for that, and changes arrive
/// long before the watches would have ended by themselves (a minute).
#[test]
fn only_old_connections_hang() {
    let set = paris_and_tokyo(json!({ "staleAfter": "15s" }));
    let (paris, tokyo) = with_db(&set);
    set.proxy(0, 1).lose_connections();
    tokyo.put(&slice("db", "db", &["10.2.0.2"]));
    let took = steady(&paris.server, DB, &[BOTH, CHANGED], || answered(&paris.server, DB, CHANGED));
    assert!(!is_stale(&paris.server, DB), "after {took:?}");
    let tokyo = cluster(&paris.controller, "tokyo");
    assert_eq!((&tokyo["stale"], &tokyo["reachable"]), (&json!(false), &json!(true)), "{tokyo}");
}

/// Credentials that come to their end by themselves, as bound tokens do: the same.
#[test]
fn credentials_expired() {
    let set = paris_and_tokyo(json!({ "staleAfter": "3s" }));
    let (paris, tokyo) = with_db(&set);
    let at = set.proxy(0, 1).at();
    let give = |kubeconfig: String| {
        let secret = object("v1", "Secret", SYSTEM, "tokyo");
        paris.put(&with(secret, json!({ "stringData": { "kubeconfig": kubeconfig } })));
    };
    steady(&paris.server, DB, &[BOTH], || {
        give(tokyo.kubeconfig_until((SYSTEM, "portolan-peer"), at, LASTS));
        told_stale(paris);
        assert!(reachable(paris).contains("refuses the credentials"), "{}", reachable(paris));
        give(std::fs::read_to_string(tokyo.kubeconfig_at(PEER, at)).unwrap());
        told_fresh(paris);
    });
    tokyo.put(&slice("db", "db", &["10.2.0.2"]));
    answered(&paris.server, DB, CHANGED);
}

/// Credentials that are worth nothing any more: what is known stays, who reads the message knows what to do, and new ones
/// in the Secret are enough.
#[test]
fn credentials_revoked() {
    let peer = json!({ "staleAfter": "3s" });
    let set = paris_and_tokyo(peer.clone());
    let (paris, tokyo) = with_db(&set);
    steady(&paris.server, DB, &[BOTH], || {
        // What deploy/ tells to do to take the right away.
        assert!(tokyo.delete("ServiceAccount", SYSTEM, "portolan-peer"));
        told_stale(paris);
        let problems = problems(&paris.controller, "tokyo");
        assert!(problems.contains("refuses the credentials") && problems.contains("new ones"), "{problems}");
        assert!(reachable(paris).contains("refuses the credentials"), "{}", reachable(paris));

        tokyo.put(&object("v1", "ServiceAccount", SYSTEM, "portolan-peer"));
        let kubeconfig = std::fs::read_to_string(tokyo.kubeconfig_at(PEER, set.proxy(0, 1).at())).unwrap();
        let secret = object("v1", "Secret", SYSTEM, "tokyo");
        paris.put(&with(secret, json!({ "stringData": { "kubeconfig": kubeconfig } })));
        told_fresh(paris);
    });
    tokyo.put(&slice("db", "db", &["10.2.0.2"]));
    answered(&paris.server, DB, CHANGED);
}
