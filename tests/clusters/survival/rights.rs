//! Rights that another cluster takes away in part.

use portolan_tests::harness::eventually;
use serde_json::json;

use super::{DB, answered, cluster, export_headless, is_stale, paris_and_tokyo, steady, told_fresh_by_lease};

/// RFC 8914, code 3: an API server that answers and does not let its endpoints be read tells nothing new. What was known is
/// answered, and servers, who only see a Lease, say that it may be old.
#[test]
fn endpoints_that_may_not_be_read_any_more_are_stale() {
    let set = paris_and_tokyo(json!({ "staleAfter": "3s" }));
    let (paris, tokyo) = (&set[0], &set[1]);
    export_headless(paris, "db", &["10.1.0.1"]);
    export_headless(tokyo, "db", &["10.2.0.1"]);
    let both: &[&str] = &["10.1.0.1", "10.2.0.1"];
    answered(&paris.server, DB, both);
    told_fresh_by_lease(paris, "tokyo");

    let role = tokyo.get("ClusterRole", "", "portolan-peer").unwrap();
    let mut rules = role["rules"].as_array().unwrap().clone();
    rules.retain(|rule| rule["resources"] != json!(["endpointslices"]));
    assert_eq!(rules.len() + 1, role["rules"].as_array().unwrap().len());
    steady(&paris.server, DB, &[both], || {
        tokyo.patch("ClusterRole", "", "portolan-peer", json!({ "rules": rules }));
        // A watch that is open stays so.
        set.proxy(0, 1).cut();
        set.proxy(0, 1).resume();
        eventually("the answer says so", || is_stale(&paris.server, DB));
        let tokyo = cluster(&paris.controller, "tokyo");
        assert_eq!((&tokyo["reachable"], &tokyo["stale"]), (&json!(true), &json!(true)), "{tokyo}");
    });
    steady(&paris.server, DB, &[both], || {
        tokyo.patch("ClusterRole", "", "portolan-peer", json!({ "rules": role["rules"] }));
        eventually("it is fresh again", || !is_stale(&paris.server, DB));
    });
}
