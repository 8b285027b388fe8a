//! `sessionAffinity: ClientIP`: a client keeps its backend, for as long as it says. A client is a network namespace (abi.h).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use portolan_tests::harness::node::{Cgroup, Host, Talk, backends, can_hook, connects, datagrams};
use portolan_tests::harness::{Package, eventually};

use crate::site::{SERVERS, Site, service, slice};
use crate::survival::bpftool;

const THEIRS: [&str; 2] = ["http 8080/TCP", "who 5353/UDP"];

/// A service with affinity for so many seconds, whose endpoints are these, but for one that is not ready.
fn web(seconds: u32, not_ready: &str) -> String {
    let spec = format!(
        "sessionAffinity: ClientIP\n  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {seconds}}}}}"
    );
    let endpoints = ["11", "12", "13", "14"]
        .map(|end| format!("10.1.0.{end}{}", if end == not_ready { "!" } else { "" }));
    service("web", &spec, &["http 80/TCP", "who 53/UDP"])
        + &slice("web", "a", &THEIRS, &endpoints.each_ref().map(String::as_str))
}

/// Who answers all of so many connections.
fn only(host: &Host, cgroup: &Cgroup, vip: &str, count: u32) -> String {
    let said = connects(host, Some(cgroup), vip, 80, count);
    assert_eq!((said.answers(), said.names.len(), said.strangers.len()), (count, 1, 0), "{said:?}");
    said.names.keys().next().unwrap().clone()
}

/// Kubernetes, Service v1: "ClientIP" sends all of a client to one endpoint. All processes of a network namespace are one client,
/// as they have its addresses; each namespace makes a choice of its own, and keeps it.
#[test]
fn a_network_namespace_keeps_its_backend() {
    if !can_hook("a_network_namespace_keeps_its_backend") {
        return;
    }
    let mut site = Site::new(&web(10_800, ""));
    let others = site.more_clients(8);
    let _servers = backends(&site.server, &SERVERS);
    site.agent.start();
    let vip = site.vip("web", false);
    let cgroup = &site.cgroup;
    let first = only(&site.client, cgroup, &vip, 100);
    let theirs: Vec<String> = others.iter().map(|other| only(other, cgroup, &vip, 10)).collect();
    assert_eq!(only(&site.client, cgroup, &vip, 100), first, "another process of the same namespace");
    for (other, its) in others.iter().zip(&theirs) {
        assert_eq!(only(other, cgroup, &vip, 10), *its);
    }
    let all: BTreeSet<&String> = theirs.iter().chain([&first]).collect();
    assert!(all.len() > 1, "nine namespaces have one backend of four: {all:?}");
    // The same for UDP, whichever way packets are sent.
    let [packets, connected] =
        ["udp", "connected-udp"].map(|kind| datagrams(&site.client, Some(cgroup), kind, &vip, 53, 100));
    assert_eq!((packets.answers(), packets.names.len()), (100, 1), "{packets:?}");
    assert_eq!(packets.names, connected.names);
}

/// RFC 6724 §2: who connects a UDP socket to a port of TCP only asks for its own address. That makes no choice for those who come.
#[test]
fn who_asks_has_no_affinity() {
    if !can_hook("who_asks_has_no_affinity") {
        return;
    }
    let mut site = Site::new(&web(10_800, ""));
    let _servers = backends(&site.server, &SERVERS);
    site.agent.start();
    let vip = site.vip("web", false);
    let kept = || {
        let map = site.agent.pins().join("v2/sessions/affinities");
        let (read, text) = bpftool(&["map", "dump", "pinned", map.to_str().unwrap(), "--json"]);
        assert!(read, "{text}");
        serde_json::from_str::<serde_json::Value>(&text).unwrap().as_array().unwrap().len()
    };
    let asks = "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((sys.argv[1], 80)); \
                print(s.getsockname()[0])";
    let (done, text) = site.run("python3", Package::Python3, &["-c", asks, &vip]);
    assert!(done && text == "10.1.0.1\n", "{text}");
    assert_eq!(kept(), 0, "it asked");
    only(&site.client, &site.cgroup, &vip, 1);
    assert_eq!(kept(), 1, "it connected");
}

/// Kubernetes, `timeoutSeconds`: how long it holds after the last connection. Then any backend may be chosen, until then none.
#[test]
fn affinity_ends_with_its_time() {
    if !can_hook("affinity_ends_with_its_time") {
        return;
    }
    let mut site = Site::new(&web(SHORT, ""));
    let _servers = backends(&site.server, &SERVERS);
    site.agent.start();
    let vip = site.vip("web", false);
    let first = only(&site.client, &site.cgroup, &vip, 20);
    another_is_chosen(&site, &vip, &first);
}

/// An affinity that ends while somebody watches, and not while he connects.
const SHORT: u32 = 4;

/// When affinity is over, again and again, until connections go elsewhere.
fn another_is_chosen(site: &Site, vip: &str, first: &str) {
    // Whole seconds are counted: one that has begun is not over.
    let over = Duration::from_millis(u64::from(SHORT) * 1000 + 1050);
    eventually("another backend is chosen", || {
        let since = Instant::now();
        eventually("its time is over", || since.elapsed() > over);
        only(&site.client, &site.cgroup, vip, 20) != first
    });
}

/// udp(7): a connected socket gets packets of its peer alone. What it sends to the virtual IP by sendto(2) goes on to that peer, wherever
/// the client's affinity has others go by now.
#[test]
fn affinity_moves_no_flow() {
    if !can_hook("affinity_moves_no_flow") {
        return;
    }
    let mut site = Site::new(&web(SHORT, ""));
    let _servers = backends(&site.server, &SERVERS);
    site.agent.start();
    let vip = site.vip("web", false);
    let first = only(&site.client, &site.cgroup, &vip, 1);
    let mut held = Talk::start(&site.client, Some(&site.cgroup), "held.py", &[&vip, "53", "5"]);
    let before = held.say("ask");
    another_is_chosen(&site, &vip, &first);
    assert_eq!(held.say("sent"), before);
}

/// Where IPv6 has backends of its own, a client keeps one of each family (KEP-1645: A and AAAA are answers of their own), however it
/// alternates.
#[test]
fn each_family_has_an_affinity() {
    if !can_hook("each_family_has_an_affinity") {
        return;
    }
    let both = ["11", "12"];
    let (v4, v6) = (both.map(|end| format!("10.1.0.{end}")), both.map(|end| format!("fd00:1::{end}")));
    let spec = "ipFamilies: [IPv4, IPv6]\n  sessionAffinity: ClientIP";
    let mut site = Site::new(
        &(service("web", spec, &["http 80/TCP"])
            + &slice("web", "v4", &THEIRS[..1], &v4.each_ref().map(String::as_str))
            + &slice("web", "v6", &THEIRS[..1], &v6.each_ref().map(String::as_str))),
    );
    let servers: Vec<String> = v4.iter().chain(&v6).map(|at| format!("{at}/tcp/{at}/8080")).collect();
    let _servers = backends(&site.server, &servers.iter().map(String::as_str).collect::<Vec<_>>());
    site.agent.start();
    let vips = [false, true].map(|is_v6| site.vip("web", is_v6));
    let chosen = || vips.each_ref().map(|vip| only(&site.client, &site.cgroup, vip, 5));
    let first = chosen();
    for _ in 0..12 {
        assert_eq!(chosen(), first);
    }
}

/// A backend that is not ready gets nothing, affinity or not; its clients stay where they went then.
#[test]
fn clients_move_when_their_backend_is_not_ready_and_stay() {
    if !can_hook("clients_move_when_their_backend_is_not_ready_and_stay") {
        return;
    }
    let mut site = Site::new(&web(10_800, ""));
    let _servers = backends(&site.server, &SERVERS);
    site.agent.start();
    let vip = site.vip("web", false);
    let first = only(&site.client, &site.cgroup, &vip, 50);
    site.rewrite("clusters/paris/services.yaml", web(10_800, &first));
    let second = only(&site.client, &site.cgroup, &vip, 50);
    assert_ne!(second, first);
    site.rewrite("clusters/paris/services.yaml", web(10_800, ""));
    assert_eq!(only(&site.client, &site.cgroup, &vip, 50), second);
}
