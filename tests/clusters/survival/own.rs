//! The own cluster's API server, and clocks that are wrong.

use std::time::Duration;

use portolan_tests::harness::kubernetes::{
    Cluster, Options, SERVER, SYSTEM, install, namespace, object, ours, with,
};
use portolan_tests::harness::{DNS, eventually, query, stays};
use serde_json::{Value, json};

use super::{
    DB, addresses, answered, cluster, export_headless, is_stale, paris_and_tokyo, slice, steady,
    told_fresh_by_lease, versions,
};

const BOTH: &[&str] = &["10.1.0.1", "10.2.0.1"];

/// Own API server down: answers come from memory, and nobody else is judged by what can't be seen (design.md §3: frozen,
/// not expired). A server that starts then denies nothing, and answers from what is in the own cluster as soon as that
/// is there, with every peer still down.
#[test]
fn own_api_server_killed() {
    let mut set = paris_and_tokyo(json!({ "staleAfter": "3s" }));
    export_headless(&set[0], "db", &["10.1.0.1"]);
    export_headless(&set[1], "db", &["10.2.0.1"]);
    answered(&set[0].server, DB, BOTH);
    let before = versions(&set[0], "tokyo");
    told_fresh_by_lease(&set[0], "tokyo");

    set[0].kill_api();
    set[1].kill_api();
    steady(&set[0].server, DB, &[BOTH], || {
        stays("nobody is judged", Duration::from_secs(7), || {
            !is_stale(&set[0].server, DB) && cluster(&set[0].controller, "tokyo")["stale"] == false
        });
    });

    set[0].server.kill();
    set[0].server.spawn_again();
    let at = set[0].server.at(DNS);
    let asked = query(DB, 1);
    eventually("it listens", || {
        portolan_tests::harness::ask_udp(at, &asked, Duration::from_millis(100)).is_some()
    });
    stays("nothing is denied", Duration::from_secs(1), || {
        let servfail = Err(2);
        addresses(at, DB) == servfail && addresses(at, "never.shop.svc.clusterset.local.") == servfail
    });

    set[0].start_api();
    answered(&set[0].server, DB, BOTH);
    eventually("what nobody exports is denied", || {
        addresses(at, "never.shop.svc.clusterset.local.") == Err(3)
    });
    set[0].controller.kill();
    set[0].controller.start_again();
    eventually("the answer says that Tokyo isn't heard", || is_stale(&set[0].server, DB));
    steady(&set[0].server, DB, &[BOTH], || {
        stays("what is known of Tokyo", Duration::from_secs(2), || versions(&set[0], "tokyo") == before);
    });
    set[1].start_api();
    eventually("Tokyo is fresh", || !is_stale(&set[0].server, DB));
    assert_eq!(versions(&set[0], "tokyo"), before);
}

/// The network of a whole site gone: who hears nobody, not even their own API server, has no word about others.
#[test]
fn cut_off_from_everybody() {
    // Longer than it takes to notice that the own API server is silent: a question every five seconds, three to answer.
    let set = paris_and_tokyo(json!({ "staleAfter": "13s" }));
    let paris = &set[0];
    export_headless(paris, "db", &["10.1.0.1"]);
    export_headless(&set[1], "db", &["10.2.0.1"]);
    answered(&paris.server, DB, BOTH);
    told_fresh_by_lease(paris, "tokyo");
    steady(&paris.server, DB, &[BOTH], || {
        set.proxy(0, 0).freeze();
        set.proxy(0, 1).freeze();
        stays("nobody is judged", Duration::from_secs(17), || {
            !is_stale(&paris.server, DB) && cluster(&paris.controller, "tokyo")["stale"] == false
        });
        set.proxy(0, 0).resume();
        eventually("Tokyo alone isn't heard", || is_stale(&paris.server, DB));
        set.proxy(0, 1).resume();
        eventually("Tokyo is heard", || !is_stale(&paris.server, DB));
    });
}

/// Clocks of two machines differ: a Lease is old when it has not been *seen* to change for as long as it says, whatever
/// the times in it are (as client-go's leader election has it; KEP-1645, "Endpoint TTL").
#[test]
fn freshness_is_judged_by_what_is_seen() {
    let paris = Cluster::start(Options { controllers: false, ..Options::new("paris") });
    install(&paris);
    paris.put(&namespace("shop"));
    paris.put(&object("v1", "ServiceAccount", SYSTEM, "portolan-server"));
    let import = object("multicluster.x-k8s.io/v1beta1", "ServiceImport", "shop", "db");
    let ports = json!([{ "name": "http", "protocol": "TCP", "port": 8080 }]);
    paris.put(&with(import, json!({ "spec": { "type": "Headless", "ports": ports } })));
    let labels = json!({
        "kubernetes.io/service-name": null,
        "multicluster.kubernetes.io/service-name": "db",
        "multicluster.kubernetes.io/source-cluster": "tokyo",
    });
    paris.put(&with(slice("db", "db-tokyo", &["10.2.0.1"]), json!({ "metadata": { "labels": labels } })));
    let renew = |at: &str| {
        let lease = object("coordination.k8s.io/v1", "Lease", SYSTEM, "portolan-peer-tokyo");
        let metadata = json!({
            "labels": { "portolan.dev/peer": "tokyo" }, "annotations": { "portolan.dev/cluster": "tokyo" },
        });
        paris.put(&with(
            lease,
            json!({ "metadata": metadata, "spec": { "leaseDurationSeconds": 5, "renewTime": at } }),
        ))
    };
    renew("2001-01-01T00:00:00.000000Z");
    let server = ours(&paris, SERVER, paris.at(), "").start();
    answered(&server, DB, &["10.2.0.1"]);

    let mut seconds = 0;
    let mut behind = || -> Value {
        seconds += 1;
        renew(&format!("2001-01-01T00:{:02}:{:02}.000000Z", seconds / 60, seconds % 60))
    };
    stays("a clock that is years behind is as good as any", Duration::from_secs(8), || {
        behind();
        !is_stale(&server, DB)
    });
    renew("2099-01-01T00:00:00.000000Z");
    let took = eventually("a promise far ahead counts for five seconds", || is_stale(&server, DB));
    assert!(took > Duration::from_secs(4), "{took:?}");
    steady(&server, DB, &[&["10.2.0.1"]], || {
        eventually("any change is a sign of life", || {
            behind();
            !is_stale(&server, DB)
        });
    });
}
