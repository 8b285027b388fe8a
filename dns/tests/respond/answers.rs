//! Answers of the MCS DNS specification (KEP-1645) as messages.

use crate::common::*;

const ZONE: &str = "clusterset.local";
const SOA: &str = "ns.dns.clusterset.local. hostmaster.clusterset.local. 42 7200 1800 86400 3";

fn check(server: &Server, question: &str, expected: &str) {
    let expected: String = expected.lines().map(|line| format!("{}\n", line.trim_start())).collect();
    let expected = expected.replace("@", ZONE).replace("%soa", SOA);
    let reply = server.ask(&ask(&question.replace('@', ZONE)).octets());
    assert_eq!(reply, expected.trim_start(), "{question}");
}

#[test]
fn every_type() {
    let server = Server::new();
    for (question, expected) in [
        ("cart.shop.svc.@ A", "NOERROR aa\ncart.shop.svc.@. 5 IN A 241.0.0.1"),
        ("cart.shop.svc.@ AAAA", "NOERROR aa\ncart.shop.svc.@. 5 IN AAAA fd41::1"),
        ("db-0.fra1.db.shop.svc.@ AAAA", "NOERROR aa\ndb-0.fra1.db.shop.svc.@. 5 IN AAAA fd10::1"),
        // Negative answers have an SOA (RFC 2308 §3), whose TTL is the lower one of its own and MINIMUM (§5).
        ("cart.shop.svc.@ TXT", "NOERROR aa\nAUTHORITY\n@. 3 IN SOA %soa"),
        ("db-1.fra1.db.shop.svc.@ AAAA", "NOERROR aa\nAUTHORITY\n@. 3 IN SOA %soa"),
        ("fra1.db.shop.svc.@ A", "NOERROR aa\nAUTHORITY\n@. 3 IN SOA %soa"),
        ("nosvc.shop.svc.@ A", "NXDOMAIN aa\nAUTHORITY\n@. 3 IN SOA %soa"),
        ("down.shop.svc.@ A", "NXDOMAIN aa\nAUTHORITY\n@. 3 IN SOA %soa"),
        ("@ A", "NOERROR aa\nAUTHORITY\n@. 3 IN SOA %soa"),
        // SRV with the addresses of its target (RFC 2782).
        (
            "_http._tcp.cart.shop.svc.@ SRV",
            "NOERROR aa
            _http._tcp.cart.shop.svc.@. 7 IN SRV 0 50 80 cart.shop.svc.@.
            ADDITIONAL
            cart.shop.svc.@. 5 IN A 241.0.0.1
            cart.shop.svc.@. 5 IN AAAA fd41::1",
        ),
        // All ports of one target: its addresses come once.
        (
            "cart.shop.svc.@ SRV",
            "NOERROR aa
            cart.shop.svc.@. 7 IN SRV 0 25 80 cart.shop.svc.@.
            cart.shop.svc.@. 7 IN SRV 0 25 443 cart.shop.svc.@.
            ADDITIONAL
            cart.shop.svc.@. 5 IN A 241.0.0.1
            cart.shop.svc.@. 5 IN AAAA fd41::1",
        ),
        (
            "_sql._tcp.db.shop.svc.@ SRV",
            "NOERROR aa
            _sql._tcp.db.shop.svc.@. 7 IN SRV 0 25 5432 db-0.fra1.db.shop.svc.@.
            _sql._tcp.db.shop.svc.@. 7 IN SRV 0 25 5432 db-1.fra1.db.shop.svc.@.
            _sql._tcp.db.shop.svc.@. 7 IN SRV 0 25 5432 db-2.fra1.db.shop.svc.@.
            ADDITIONAL
            db-0.fra1.db.shop.svc.@. 5 IN A 10.1.0.1
            db-0.fra1.db.shop.svc.@. 5 IN AAAA fd10::1
            db-1.fra1.db.shop.svc.@. 5 IN A 10.1.0.2
            db-2.fra1.db.shop.svc.@. 5 IN A 10.1.0.3",
        ),
        ("dns-version.@ TXT", "NOERROR aa\ndns-version.@. 28800 IN TXT 1.0.0"),
        ("@ SOA", "NOERROR aa\n@. 5 IN SOA %soa"),
        (
            "@ NS",
            "NOERROR aa
            @. 5 IN NS ns.dns.@.
            ADDITIONAL
            ns.dns.@. 5 IN A 192.0.2.53
            ns.dns.@. 5 IN AAAA 2001:db8::53",
        ),
        ("1.0.0.241.in-addr.arpa PTR", "NOERROR aa\n1.0.0.241.in-addr.arpa. 5 IN PTR cart.shop.svc.@."),
        (
            "2.0.0.241.in-addr.arpa PTR",
            "NXDOMAIN aa\nAUTHORITY\n241.in-addr.arpa. 3 IN SOA ns.dns.241.in-addr.arpa. hostmaster.241.in-addr.arpa. 42 7200 1800 86400 3",
        ),
        // RFC 8020 §2: there is something below it, or not.
        (
            "0.0.241.in-addr.arpa PTR",
            "NOERROR aa\nAUTHORITY\n241.in-addr.arpa. 3 IN SOA ns.dns.241.in-addr.arpa. hostmaster.241.in-addr.arpa. 42 7200 1800 86400 3",
        ),
        (
            "1.0.241.in-addr.arpa PTR",
            "NXDOMAIN aa\nAUTHORITY\n241.in-addr.arpa. 3 IN SOA ns.dns.241.in-addr.arpa. hostmaster.241.in-addr.arpa. 42 7200 1800 86400 3",
        ),
        (
            "0.0.0.0.1.4.d.f.ip6.arpa PTR",
            "NOERROR aa\nAUTHORITY\n1.4.d.f.ip6.arpa. 3 IN SOA ns.dns.1.4.d.f.ip6.arpa. hostmaster.1.4.d.f.ip6.arpa. 42 7200 1800 86400 3",
        ),
        // RFC 8482 §4.2.
        ("cart.shop.svc.@ ANY", "NOERROR aa\ncart.shop.svc.@. 3789 IN HINFO RFC8482 "),
        ("nosvc.shop.svc.@ ANY", "NXDOMAIN aa\nAUTHORITY\n@. 3 IN SOA %soa"),
        ("example.com A", "REFUSED"),
        ("local SOA", "REFUSED"),
        (". NS", "REFUSED"),
    ] {
        check(&server, question, expected);
    }
}

/// RFC 4343 §4.1 and draft-vixie-dnsext-dns0x20: the question comes back as it was, and so do owner names.
#[test]
fn case_is_echoed() {
    let server = Server::new();
    let query = ask("CaRt.shop.SVC.ClusterSet.Local A").octets();
    let (octets, _) = server.reply(&query).unwrap();
    assert_eq!(octets[12..query.len()], query[12..]);
    assert_eq!(server.ask(&query), "NOERROR aa\nCaRt.shop.SVC.ClusterSet.Local. 5 IN A 241.0.0.1\n");
    let negative = server.ask(&ask("x.ClusterSet.Local A").octets());
    assert!(negative.contains("\nClusterSet.Local. 3 IN SOA ns.dns.ClusterSet.Local. "), "{negative}");
}

/// RFC 2782: "name compression is not to be used for this field" (Target).
#[test]
fn srv_targets_are_written_out() {
    let (octets, _) =
        Server::new().reply(&ask("_http._tcp.cart.shop.svc.clusterset.local SRV").octets()).unwrap();
    let target = wire("cart.shop.svc.clusterset.local");
    let found = octets.windows(target.len()).filter(|window| *window == target).count();
    assert_eq!(found, 2, "once in the question, once as target");
}

/// Sets start at another record each time, so that clients that take the first one spread.
#[test]
fn sets_rotate() {
    let server = Server::new();
    let first = |question: &str, entropy| {
        server.entropy.set(entropy);
        let message = server.message(&ask(question).octets());
        (message.answers.len(), message.answers[0].data.to_string(), message.additionals.len())
    };
    let db = "db.shop.svc.clusterset.local A";
    for (entropy, address) in [(0, "10.1.0.1"), (1, "10.1.0.2"), (2, "10.1.0.3"), (3, "10.1.0.1")] {
        assert_eq!(first(db, entropy), (3, address.to_owned(), 0));
    }
    let target = |entropy| {
        let (count, data, glue) = first("db.shop.svc.clusterset.local SRV", entropy);
        assert_eq!((count, glue), (6, 4), "each address once, wherever the set starts");
        data
    };
    let targets: Vec<_> = (0..6).map(target).collect();
    assert!(targets[0].contains(" 80 db-0.") && targets[5].contains(" 5432 db-2."), "{targets:?}");
}

/// Before every cluster has been read, a missing name may exist there: SERVFAIL, never NXDOMAIN.
#[test]
fn unknown_is_not_denied() {
    let mut objects: Vec<_> = exported("cart", portolan_zones::object::ServiceKind::ClusterIp, &[]).into();
    objects.push(import("cart", &["241.0.0.1"]));
    let server = Server::of(compiled(objects, false, 42));
    check(&server, "cart.shop.svc.@ A", "NOERROR aa\ncart.shop.svc.@. 5 IN A 241.0.0.1");
    check(&server, "nosvc.shop.svc.@ A", "SERVFAIL");
}
