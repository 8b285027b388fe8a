//! The real CoreDNS with kubeadm's Corefile, and the block of `deploy/stub-domains/Corefile.coredns`.

use portolan_tests::harness::kubernetes::{export, headless_service};
use portolan_tests::harness::{DNS, Forwarder, Server, coredns, eventually, shipped, world};

use super::answers;
use crate::steps::{fqdn, set_with};

/// What kubeadm's Corefile has, without the plugins `kubernetes` (its names are others' here), `health`, `ready` and
/// `prometheus` (they listen at addresses of their own).
const KUBEADM: &str = "\
.:__PORT__ {
    errors
    forward . __WORLD__ {
        max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
";
const NONE: &str = "none.shop.svc.clusterset.local A";

/// A CoreDNS whose Corefile has the block that is shipped behind everybody's own.
fn start(block: &str, world: &Forwarder) -> Forwarder {
    let own = KUBEADM.replace("__WORLD__", &world.at().to_string()).replace("__PORT__", &DNS.to_string());
    // On this machine each has an address of its own.
    coredns(|address| format!("{own}{block}").replace("errors\n", &format!("errors\n    bind {address}\n")))
}

fn block(server: &Server) -> String {
    shipped("Corefile.coredns", server.at(DNS))
}

/// The block that is shipped, word for word: all comes through, nothing else is asked, the server may go and come.
#[test]
fn forwards_what_is_ours() {
    let (mut server, world) = (answers::server(), world());
    let coredns = start(&block(&server), &world);
    answers::come_through(&coredns);
    answers::large_answers_come_by_tcp(&coredns);
    answers::changes_are_seen(&coredns, &server);
    answers::others_are_not_asked(&coredns, &server);
    assert!(
        coredns.dig(&format!("+edns {NONE}")).option("EDE: 0 (Other): (no ready endpoints)"),
        "it says why"
    );
    answers::an_outage_is_survived(&coredns, &mut server);
}

/// With a cache, which many add: TTLs go down, denials keep their SOA (RFC 2308 §5), and nobody gets older answers
/// than the TTL says. The plugin drops the OPT record, even of what it has just fetched: nobody is told why there is no
/// answer (EDE).
#[test]
fn a_cache_respects_the_times() {
    let (server, world) = (answers::server(), world());
    let coredns = start(&block(&server).replace("errors\n", "errors\n    cache 30\n"), &world);
    answers::come_through(&coredns);
    answers::changes_are_seen(&coredns, &server);
    answers::others_are_not_asked(&coredns, &server);
    for question in ["front6.web.svc.clusterset.local AAAA", "nobody.web.svc.clusterset.local AAAA"] {
        let first = coredns.dig(question);
        let before = answers::asked(&server);
        eventually("its time goes by", || {
            let reply = coredns.dig(question);
            assert_eq!((&reply.status, reply.data()), (&first.status, first.data()), "{}", reply.text);
            reply.ttl() < first.ttl()
        });
        assert_eq!(answers::asked(&server), before, "{question} is in the cache");
        eventually("it is asked for again", || {
            coredns.dig(question);
            answers::asked(&server) > before
        });
    }
    for _ in 0..2 {
        let reply = coredns.dig(&format!("+edns {NONE}"));
        assert_eq!(reply.status, "NXDOMAIN", "{}", reply.text);
        assert!(!reply.option("EDE"), "the block may have a cache by default then: {}", reply.text);
    }
}

/// From a Pod in one cluster to CoreDNS in another one, by API servers, our controllers and servers.
#[test]
fn exports_of_other_clusters_arrive() {
    let ns = "stub-domains";
    let (set, world) = (set_with(ns), world());
    let coredns = start(&block(&set[1].server), &world);
    let question = format!("{} A", fqdn(ns, "db"));
    assert_eq!(coredns.dig(&question).status, "NXDOMAIN");
    set[0].put(&headless_service(ns, "db"));
    set[0].run_pod(ns, "db", "db-0", &["10.1.0.1"]);
    set[0].put(&export(ns, "db"));
    eventually("it is exported", || coredns.dig(&question).data() == ["10.1.0.1"]);
    assert!(set[0].delete("ServiceExport", ns, "db"));
    eventually("it isn't any more", || coredns.dig(&question).status == "NXDOMAIN");
}
