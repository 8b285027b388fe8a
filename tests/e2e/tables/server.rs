//! Zones beside the default one, and questions about the server.

use portolan_tests::harness::{Setup, check, check_in};

/// RFC 1034 §4.3.1: a server that isn't an authority says so: REFUSED, with EDE 20 (RFC 8914 §4.21).
#[test]
fn other_zones_are_refused() {
    check(
        &Setup::sample("conformance").start(),
        "
? svc1.testns.svc.cluster.local. A
REFUSED
; EDE: 20
? www.example.com. A
REFUSED
? local. SOA
REFUSED
? . NS
REFUSED
? xclusterset.local. A
REFUSED
? 1.0.0.10.in-addr.arpa. PTR
REFUSED
",
    );
}

/// RFC 4892: class CH names of the server; nothing is told that isn't configured. Other classes hold nothing.
#[test]
fn names_about_the_server() {
    let chaos = |text: &str| {
        format!(
            "
? id.server. TXT CH
{text}
? hostname.bind. TXT CH
{text}
"
        )
    };
    let silent = Setup::sample("conformance").start();
    check(&silent, &chaos("REFUSED"));
    check(
        &silent,
        "\n? version.bind. TXT CH\nREFUSED\n? svc1.testns.svc A CH\nREFUSED\n? svc1.testns.svc A HS\nREFUSED\n",
    );

    let open = Setup::sample("conformance").with("identity: {nsid: fra1, version: portolan}").start();
    check(&open, &chaos(" 0 CH TXT \"fra1\""));
    check(&open, "\n? version.server. TXT CH\n 0 CH TXT \"portolan\"\n? authors.bind. TXT CH\nREFUSED\n");
}

/// RFC 1035 §3.5 and RFC 3596 §2.5: addresses of services and endpoints have names; a shared address has all
/// of them.
#[test]
fn reverse_zones() {
    let server =
        Setup::sample("conformance").with("reverse-zones: [10.0.0.0/8, 172.0.0.0/8, '5678::/16']").start();
    check_in(
        &server,
        "10.in-addr.arpa",
        "
? 1.0.0.10.in-addr.arpa. PTR
 5 IN PTR svc1.testns.svc.clusterset.local.
? 1.0.0.10.in-addr.arpa. A
NODATA
? 0.0.10.in-addr.arpa. PTR
NODATA
? 9.0.0.10.in-addr.arpa. PTR
NXDOMAIN
? x.1.0.0.10.in-addr.arpa. PTR
NXDOMAIN
? 10.in-addr.arpa. SOA
 5 IN SOA ns.dns hostmaster 1 7200 1800 86400 5
? 1.0.0.11.in-addr.arpa. PTR
REFUSED
",
    );
    check_in(
        &server,
        "172.in-addr.arpa",
        "
? 2.0.0.172.in-addr.arpa. PTR
 5 IN PTR 172-0-0-2.cluster1.hdls1.testns.svc.clusterset.local.
? 4.0.0.172.in-addr.arpa. PTR
 5 IN PTR dup-name.cluster1.hdls1.testns.svc.clusterset.local.
",
    );
    let reply = server.dig("-x 5678:abcd::1");
    assert_eq!(reply.data(), ["5678-abcd--1.cluster1.hdls1.testns.svc.clusterset.local."], "{}", reply.text);
}

/// KEP-1645: the zone is `clusterset.local`, "may become configurable": several zones answer from one table,
/// each with names of its own.
#[test]
fn two_zones_over_one_table() {
    let server = Setup::sample("conformance")
        .replace("zones:", "zones:\n- {origin: Global.Example.com, name-server: {addresses: [127.0.0.1]}}")
        .start();
    for zone in ["clusterset.local", "global.example.com"] {
        check_in(
            &server,
            zone,
            "
? svc1.testns.svc A
 5 IN A 10.0.0.1
? svc1.testns.svc SRV
 5 IN SRV 0 100 80 svc1.testns.svc
+ svc1.testns.svc 5 IN A 10.0.0.1
? svc0.testns.svc A
NXDOMAIN
? @ NS
 5 IN NS ns.dns
+ ns.dns 5 IN A 127.0.0.1
",
        );
    }
}

/// RFC 2308 §5: a denial is kept for the smaller of SOA MINIMUM and the SOA's TTL. Each kind of record has its
/// own.
#[test]
fn ttls_are_those_of_the_zone() {
    let server = Setup::sample("conformance")
        .replace(
            "- origin: clusterset.local",
            "- origin: clusterset.local\n  ttl: 30\n  srv-ttl: 20\n  negative-ttl: 10",
        )
        .start();
    for (question, ttl) in [
        ("svc1.testns.svc.clusterset.local A", 30),
        ("svc1.testns.svc.clusterset.local SRV", 20),
        ("svc0.testns.svc.clusterset.local A", 10),
        ("svc1.testns.svc.clusterset.local TXT", 10),
        ("clusterset.local SOA", 30),
        ("dns-version.clusterset.local TXT", 28800),
    ] {
        assert_eq!(server.dig(question).ttl(), ttl, "{question}");
    }
}
