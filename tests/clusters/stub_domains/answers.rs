//! What must come through whatever stands in front of our server.

use std::net::IpAddr;
use std::time::Duration;

use portolan_tests::harness::{Forwarder, Reply, Server, Setup, WORLD, eventually, headless, list};

/// What answers live, in seconds: a service, a denial.
const TTL: u32 = 5;
/// Pods of `big`: more than one datagram names.
const PODS: u8 = 200;
const SHOP: &str = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}}"#;

/// The sample `dual-stack`, and in its cluster `lisbon`: `shop/big`, and `shop/none` without endpoints.
pub(super) fn server() -> Server {
    let big = headless("big", (0..PODS).map(|pod| IpAddr::from([10, 1, 0, pod])));
    Setup::sample("dual-stack")
        .file("clusters/lisbon/shop.json", SHOP)
        .file("clusters/lisbon/big.json", list(big))
        .file("clusters/lisbon/none.json", list(headless("none", [])))
        .start()
}

/// A question, its status, data of the answer, and owners and addresses of the additional section.
type Row = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const TABLE: [Row; 12] = [
    ("front.web.svc.clusterset.local A", "NOERROR", &["10.96.200.1"], &[]),
    ("front.web.svc.clusterset.local AAAA", "NOERROR", &["fd96::1"], &[]),
    ("FRONT.Web.svc.ClusterSet.LOCAL A", "NOERROR", &["10.96.200.1"], &[]),
    ("front6.web.svc.clusterset.local A", "NOERROR", &[], &[]),
    ("big.shop.svc.clusterset.local AAAA", "NOERROR", &[], &[]),
    ("peers.web.svc.clusterset.local A", "NOERROR", &["10.41.0.20", "10.41.0.21"], &[]),
    ("peers.web.svc.clusterset.local AAAA", "NOERROR", &["fd41::20", "fd41::21", "fd42::20"], &[]),
    ("peers-0.lisbon.peers.web.svc.clusterset.local A", "NOERROR", &["10.41.0.20"], &[]),
    ("peers-0.porto.peers.web.svc.clusterset.local AAAA", "NOERROR", &["fd42::20"], &[]),
    ("peers-9.porto.peers.web.svc.clusterset.local A", "NXDOMAIN", &[], &[]),
    ("nothing.web.svc.clusterset.local A", "NXDOMAIN", &[], &[]),
    (
        "_http._tcp.peers.web.svc.clusterset.local SRV",
        "NOERROR",
        &[
            "0 20 8080 peers-0.lisbon.peers.web.svc.clusterset.local.",
            "0 20 8080 peers-0.porto.peers.web.svc.clusterset.local.",
            "0 20 8080 peers-1.lisbon.peers.web.svc.clusterset.local.",
        ],
        &[
            "peers-0.lisbon.peers.web.svc.clusterset.local. 10.41.0.20",
            "peers-0.lisbon.peers.web.svc.clusterset.local. fd41::20",
            "peers-0.porto.peers.web.svc.clusterset.local. fd42::20",
            "peers-1.lisbon.peers.web.svc.clusterset.local. 10.41.0.21",
            "peers-1.lisbon.peers.web.svc.clusterset.local. fd41::21",
        ],
    ),
];

/// All kinds of names and records, over UDP and TCP, by dig and nslookup; twice, so that a cache is asked, too.
pub(super) fn come_through(way: &Forwarder) {
    for (transport, fetched) in [("+notcp +ignore", true), ("+tcp", false), ("+notcp +ignore", false)] {
        for row in TABLE {
            comes_through(&way.dig(&format!("{transport} {}", row.0)), row, fetched);
        }
    }
    for option in ["", "-vc "] {
        let find = |name: &str| way.nslookup(&format!("{option}{name}"));
        let addresses = |texts: &[&str]| Ok(texts.iter().map(|text| text.parse().unwrap()).collect());
        assert_eq!(find("front.web.svc.clusterset.local"), addresses(&["10.96.200.1", "fd96::1"]));
        assert_eq!(
            find("peers-0.lisbon.peers.web.svc.clusterset.local"),
            addresses(&["10.41.0.20", "fd41::20"])
        );
        let error = find("nothing.web.svc.clusterset.local").unwrap_err();
        assert!(error.contains("can't find nothing.web.svc.clusterset.local: NXDOMAIN"), "{error}");
    }
}

/// `fetched`: not out of a cache. dnsmasq's doesn't keep additional sections.
fn comes_through(reply: &Reply, (question, status, data, additional): Row, fetched: bool) {
    let seen = (reply.status.as_str(), reply.data());
    assert_eq!(seen, (status, data.iter().map(ToString::to_string).collect()), "{question}: {}", reply.text);
    // RFC 1034 §5.2.1 lets clients look for what they asked, RFC 1035 §2.3.3 asks to keep its case.
    let name = question.split(' ').next().unwrap();
    assert!(reply.question[0].starts_with(&format!("{name}. ")), "{question}: {}", reply.text);
    assert!(reply.ttl() <= TTL, "{question}: {}", reply.text);
    if data.is_empty() {
        // RFC 2308 §2: a denial without its SOA can't be cached by those behind.
        let soa = &reply.authority[0];
        assert!(soa.starts_with("clusterset.local. ") && soa.contains(" SOA "), "{question}: {}", reply.text);
        assert!(soa.ends_with(&format!(" {TTL}")), "{question}: {}", reply.text);
    }
    let mut glue: Vec<_> = reply.additional.iter().map(|record| owner_and_data(record)).collect();
    glue.sort();
    assert!(glue == additional || (!fetched && glue.is_empty()), "{question}: {}", reply.text);
}

fn owner_and_data(record: &str) -> String {
    let words: Vec<_> = record.split(' ').collect();
    format!("{} {}", words[0], words[4..].join(" "))
}

/// RFC 7766 §5, RFC 2181 §9: an answer that doesn't fit is truncated, and fetched whole by TCP.
pub(super) fn large_answers_come_by_tcp(way: &Forwarder) {
    let question = "big.shop.svc.clusterset.local A";
    for size in ["+bufsize=512", "+bufsize=1232"] {
        let reply = way.dig(&format!("+notcp +ignore {size} {question}"));
        assert!(reply.flag("tc") && reply.answer.len() < PODS.into(), "{}", reply.text);
        let reply = way.dig(&format!("{size} {question}"));
        assert!(reply.text.contains("Truncated, retrying in TCP mode"), "{}", reply.text);
        assert_eq!((reply.answer.len(), reply.flag("tc")), (PODS.into(), false), "{}", reply.text);
    }
}

/// What changes is seen as soon as the answers that say otherwise have had their time, denials too.
pub(super) fn changes_are_seen(way: &Forwarder, server: &Server) {
    // Time for the server to read the manifest, and more for a busy machine.
    let in_time = Duration::from_secs((TTL + 3).into());
    let question = "db.shop.svc.clusterset.local A";
    assert_eq!(way.dig(question).status, "NXDOMAIN");
    for address in ["10.9.0.1", "10.9.0.2"] {
        server.write("clusters/lisbon/db.json", list(headless("db", [address.parse().unwrap()])));
        let took = eventually(&format!("{address} is seen"), || way.dig(question).data() == [address]);
        assert!(took < in_time, "{address}: {took:?}");
    }
    std::fs::remove_file(server.path("clusters/lisbon/db.json")).unwrap();
    let took = eventually("it is gone", || way.dig(question).status == "NXDOMAIN");
    assert!(took < in_time, "{took:?}");
}

/// Names that are not ours are somebody else's, and ours nobody else's.
pub(super) fn others_are_not_asked(way: &Forwarder, server: &Server) {
    let before = asked(server);
    for name in ["www.example.com", "xclusterset.local", "local", "clusterset.local.example.com"] {
        let reply = way.dig(&format!("{name} A"));
        assert_eq!(reply.data(), [WORLD], "{name}: {}", reply.text);
    }
    assert_eq!(asked(server), before, "none of these is ours");
    // A name that nobody has asked for before, so that it is in no cache.
    assert_eq!(way.dig("fresh.shop.svc.clusterset.local A").status, "NXDOMAIN");
    assert_eq!(asked(server), before + 1, "this one is");
}

/// While our server is away nobody answers in its place, and when it is back it is found.
pub(super) fn an_outage_is_survived(way: &Forwarder, server: &mut Server) {
    let question = "front.web.svc.clusterset.local A";
    assert_eq!(way.dig(question).data(), ["10.96.200.1"]);
    server.kill();
    eventually("no answer, or none that is one", || {
        let reply = way.dig(question);
        assert!(reply.data().iter().all(|data| data == "10.96.200.1"), "{}", reply.text);
        matches!(reply.status.as_str(), "SERVFAIL" | "REFUSED" | "none")
    });
    server.start_again();
    eventually("it is found again", || way.dig(question).data() == ["10.96.200.1"]);
    assert_eq!(way.dig("+tcp front.web.svc.clusterset.local AAAA").data(), ["fd96::1"]);
}

/// Queries that the server has had.
pub(super) fn asked(server: &Server) -> u64 {
    server.metric("coredns_dns_requests_total", &[]).unwrap_or_default() as u64
}
