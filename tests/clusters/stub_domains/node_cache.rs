//! NodeLocal DNSCache with the block of `deploy/stub-domains/Corefile.nodelocaldns`.

use std::thread;

use portolan_tests::harness::{DNS, WORLD, node_cache, shipped, world};

use super::answers;

/// At both addresses that Pods ask: the node's own, and the cluster DNS's Service IP where the node's cache has taken
/// that over (kube-proxy's mode `iptables`).
#[test]
fn forwards_what_is_ours() {
    let (mut server, world) = (answers::server(), world());
    let block = shipped("Corefile.nodelocaldns", server.at(DNS));
    let (cache, service) = node_cache(&block, world.at(), world.at());
    answers::come_through(&cache);
    let name = "front.web.svc.clusterset.local";
    assert_eq!(cache.dig_at(service, &format!("{name} A")).data(), ["10.96.200.1"], "at the Service IP");
    assert_eq!(cache.dig("web.default.svc.cluster.local A").data(), [WORLD], "the cluster's DNS");
    answers::large_answers_come_by_tcp(&cache);
    answers::changes_are_seen(&cache, &server);
    answers::others_are_not_asked(&cache, &server);
    answers::an_outage_is_survived(&cache, &mut server);
}

/// `force_tcp`: whatever Pods ask by, the cache asks by TCP, and many questions share few connections that stay
/// (RFC 7766 §6.2.1).
#[test]
fn asks_by_connections_that_stay() {
    const CLIENTS: usize = 4;
    const QUESTIONS: usize = 200;
    let (server, world) = (answers::server(), world());
    let block = shipped("Corefile.nodelocaldns", server.at(DNS));
    let (cache, _) = node_cache(&block, world.at(), world.at());
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let cache = &cache;
            scope.spawn(move || {
                for number in 0..QUESTIONS / CLIENTS {
                    let name = format!("n{client}-{number}.web.svc.clusterset.local");
                    assert_eq!(cache.dig(&format!("+notcp {name} A")).status, "NXDOMAIN");
                }
            });
        }
    });
    let by = |proto: &str| server.metric("coredns_dns_requests_total", &[&format!("proto=\"{proto}\"")]);
    assert_eq!(by("udp").unwrap_or_default(), 0.0);
    assert_eq!(by("tcp").unwrap_or_default() as usize, QUESTIONS);
    // One question at a time on each: the plugin `forward` doesn't pipeline.
    let open = server.metric("portolan_tcp_connections", &[]).unwrap() as usize;
    assert!((1..=2 * CLIENTS).contains(&open), "{open} connections");
}
