//! What must not lose an answer: API servers, networks, credentials and controllers that fail, one after the other
//! and together (design.md §3 and §7; KEP-1645, "Endpoint TTL").

mod controllers;
mod own;
mod peers;
mod reading;
mod rights;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use portolan_tests::harness::kubernetes::{
    Cluster, Clusterset, Member, Plan, SYSTEM, export, headless_service, namespace, object, with,
};
use portolan_tests::harness::{DNS, Server, ask_udp, becomes, eventually, query, rcode};
use serde_json::{Value, json};

/// The service that most tests ask for.
const DB: &str = "db.shop.svc.clusterset.local.";
const A: u16 = 1;
/// `dig` prints it for RFC 8914, code 3: Stale Answer.
const STALE_ANSWER: &str = "EDE: 3";

/// Paris and Tokyo, with all ways to API servers through proxies; `peer` is merged into the ClusterPeers' `spec`.
fn paris_and_tokyo(peer: Value) -> Clusterset {
    let set = Clusterset::start(&Plan { proxies: true, peer, ..Plan::new(2) });
    for member in set.iter() {
        member.put(&namespace("shop"));
    }
    set
}

/// Exports a headless service `shop/<name>` with these ready endpoints. It has no selector: its slice is the test's, and
/// no controller has to come back before it changes.
fn export_headless(cluster: &Cluster, name: &str, addresses: &[&str]) {
    cluster.put(&with(headless_service("shop", name), json!({ "spec": { "selector": null } })));
    cluster.put(&slice(name, name, addresses));
    cluster.put(&export("shop", name));
}

/// An EndpointSlice of `shop/<service>` with these ready endpoints.
fn slice(service: &str, name: &str, addresses: &[&str]) -> Value {
    let endpoint = |address| json!({ "addresses": [address], "conditions": { "ready": true } });
    let fields = json!({
        "metadata": { "labels": { "kubernetes.io/service-name": service } },
        "addressType": "IPv4",
        "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }],
        "endpoints": addresses.iter().map(endpoint).collect::<Vec<_>>(),
    });
    with(object("discovery.k8s.io/v1", "EndpointSlice", "shop", name), fields)
}

/// Waits until a server answers with these addresses.
fn answered(server: &Server, name: &str, expected: &[&str]) -> Duration {
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    becomes(&format!("the answer for {name}"), &Ok(expected), || addresses(server.at(DNS), name))
}

/// The addresses of an answer, sorted; an RCODE when there is none. Read by hand, for it is asked thousands of times.
fn addresses(at: SocketAddr, name: &str) -> Result<Vec<String>, u8> {
    let reply = ask_udp(at, &query(name, A), Duration::from_secs(2)).expect("a reply");
    if rcode(&reply) != 0 {
        return Err(rcode(&reply));
    }
    let count = usize::from(u16::from_be_bytes([reply[6], reply[7]]));
    // Each record has a compressed owner, and ends with its address.
    let records = reply[query(name, A).len()..].chunks_exact(16).take(count);
    let address =
        |record: &[u8]| Ipv4Addr::from([record[12], record[13], record[14], record[15]]).to_string();
    let mut addresses: Vec<_> = records.map(address).collect();
    addresses.sort();
    Ok(addresses)
}

/// Runs something while a server is asked all the time: every reply must be one of these answers.
fn steady<T>(server: &Server, name: &str, allowed: &[&[&str]], run: impl FnOnce() -> T) -> T {
    let at = server.at(DNS);
    let allowed: Vec<Vec<&str>> = allowed.iter().map(|answer| answer.to_vec()).collect();
    watched(
        || {
            let answer = addresses(at, name);
            assert!(answer.as_ref().is_ok_and(|answer| allowed.iter().any(|a| a == answer)), "{answer:?}");
        },
        run,
    )
}

/// Runs something while a witness looks again and again, who panics at what must not be.
fn watched<T>(look: impl Fn() + Sync, run: impl FnOnce() -> T) -> T {
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Once at least.
            look();
            while !over.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(5));
                look();
            }
        });
        // Also when it panics, or the witness would never end.
        let _ends = Ends(&over);
        run()
    })
}

/// What a process of ours says of a cluster that it follows, by name.
fn cluster(server: &Server, name: &str) -> Value {
    let status = server.status();
    let clusters = status["clusters"].as_array().unwrap();
    clusters.iter().find(|cluster| cluster["name"] == name).cloned().unwrap_or_default()
}

/// All that is wrong with it.
fn problems(server: &Server, name: &str) -> String {
    cluster(server, name)["problems"].to_string()
}

/// Whether a server says that its answer may be out of date.
fn is_stale(server: &Server, name: &str) -> bool {
    server.dig(&format!("{name} A")).option(STALE_ANSWER)
}

/// Waits until a member tells its servers how fresh another one is: what is killed before that was never known.
fn told_fresh_by_lease(member: &Member, peer: &str) {
    let lease = format!("portolan-peer-{peer}");
    eventually("there is a Lease", || member.get("Lease", SYSTEM, &lease).is_some());
    eventually("it is fresh", || !is_stale(&member.server, DB));
}

/// A metric of a process of ours about a cluster.
fn metric(server: &Server, name: &str, cluster: &str) -> Option<f64> {
    server.metric(name, &[&format!("cluster=\"{cluster}\"")])
}

/// The slices that a member wrote for a service of another one: name and resource version, which a write changes.
fn versions(member: &Member, source: &str) -> Vec<(String, String)> {
    let selector = format!("multicluster.kubernetes.io/source-cluster={source}");
    let slices = member.list("EndpointSlice", "shop", &selector);
    let text = |slice: &Value, key: &str| slice["metadata"][key].as_str().unwrap().to_owned();
    slices.iter().map(|slice| (text(slice, "name"), text(slice, "resourceVersion"))).collect()
}
