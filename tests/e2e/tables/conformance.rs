//! What CoreDNS's multi-cluster tests ask, and what the MCS DNS specification (KEP-1645) says beyond them.

use portolan_tests::harness::{Setup, check};

/// KEP-1645, DNS specification 2.3: "`<service>.<ns>.svc.<zone>` … the ClusterSetIP"; dual stack: both. A
/// family that the service lacks is NODATA, never NXDOMAIN (RFC 2308 §2.2): musl would give up the other one.
#[test]
fn clusterset_ips() {
    check(
        &Setup::sample("conformance").start(),
        "
? svc1.testns.svc A
 5 IN A 10.0.0.1
? svc1.testns.svc AAAA
NODATA
? svc1.testns.svc TXT
NODATA
? svc1.testns.svc SOA
NODATA
? svc1.testns.svc MX
NODATA
? svc1.testns.svc TYPE65
NODATA
? svc6.testns.svc AAAA
 5 IN AAAA 1234:abcd::1
? svc6.testns.svc A
NODATA
? svc-dual-stack.testns.svc A
 5 IN A 10.0.0.3
? svc-dual-stack.testns.svc AAAA
 5 IN AAAA 10::3
? svcempty.testns.svc A
 5 IN A 10.0.0.2
",
    );
}

/// KEP-1645, DNS specification 2.3: "`_<port>._<protocol>.<service>.<ns>.svc.<zone>`". The bare name has all
/// ports, as the conformance suite asks. Addresses of the target are additional (RFC 2782).
#[test]
fn service_ports() {
    check(
        &Setup::sample("conformance").start(),
        "
? svc1.testns.svc SRV
 5 IN SRV 0 100 80 svc1.testns.svc
+ svc1.testns.svc 5 IN A 10.0.0.1
? _http._tcp.svc1.testns.svc SRV
 5 IN SRV 0 100 80 svc1.testns.svc
+ svc1.testns.svc 5 IN A 10.0.0.1
? svc6.testns.svc SRV
 5 IN SRV 0 100 80 svc6.testns.svc
+ svc6.testns.svc 5 IN AAAA 1234:abcd::1
? svc-dual-stack.testns.svc SRV
 5 IN SRV 0 50 80 svc-dual-stack.testns.svc
+ svc-dual-stack.testns.svc 5 IN A 10.0.0.3
+ svc-dual-stack.testns.svc 5 IN AAAA 10::3
? _http._tcp.svc-dual-stack.testns.svc SRV
 5 IN SRV 0 50 80 svc-dual-stack.testns.svc
+ svc-dual-stack.testns.svc 5 IN A 10.0.0.3
+ svc-dual-stack.testns.svc 5 IN AAAA 10::3
? _http._tcp.svc1.testns.svc A
NODATA
? _http._udp.svc1.testns.svc SRV
NXDOMAIN
? _https._tcp.svc1.testns.svc SRV
NXDOMAIN
? _tcp.svc1.testns.svc SRV
NODATA
? _udp.svc1.testns.svc SRV
NXDOMAIN
? http._tcp.svc1.testns.svc SRV
NXDOMAIN
",
    );
}

/// KEP-1645, DNS specification 2.4: all ready endpoints, a name for each, one SRV record for each endpoint and
/// port. An endpoint without hostname is called by its address with dashes, as in cluster DNS.
#[test]
fn headless_services() {
    check(
        &Setup::sample("conformance").start(),
        "
? hdls1.testns.svc A
 5 IN A 172.0.0.2
 5 IN A 172.0.0.3
 5 IN A 172.0.0.4
 5 IN A 172.0.0.5
? hdls1.testns.svc AAAA
 5 IN AAAA 5678:abcd::1
 5 IN AAAA 5678:abcd::2
? hdlsprtls.testns.svc A
 5 IN A 172.0.0.20
? hdlsprtls.testns.svc SRV
NODATA
? 172-0-0-20.cluster1.hdlsprtls.testns.svc A
 5 IN A 172.0.0.20
? 172-0-0-2.cluster1.hdls1.testns.svc A
 5 IN A 172.0.0.2
? 172-0-0-2.cluster1.hdls1.testns.svc AAAA
NODATA
? 5678-abcd--1.cluster1.hdls1.testns.svc AAAA
 5 IN AAAA 5678:abcd::1
? 5678-abcd--1.cluster1.hdls1.testns.svc A
NODATA
? dup-name.cluster1.hdls1.testns.svc A
 5 IN A 172.0.0.4
 5 IN A 172.0.0.5
? _http._tcp.hdls1.testns.svc SRV
 5 IN SRV 0 16 80 172-0-0-2.cluster1.hdls1.testns.svc
 5 IN SRV 0 16 80 172-0-0-3.cluster1.hdls1.testns.svc
 5 IN SRV 0 16 80 5678-abcd--1.cluster1.hdls1.testns.svc
 5 IN SRV 0 16 80 5678-abcd--2.cluster1.hdls1.testns.svc
 5 IN SRV 0 16 80 dup-name.cluster1.hdls1.testns.svc
+ 172-0-0-2.cluster1.hdls1.testns.svc 5 IN A 172.0.0.2
+ 172-0-0-3.cluster1.hdls1.testns.svc 5 IN A 172.0.0.3
+ 5678-abcd--1.cluster1.hdls1.testns.svc 5 IN AAAA 5678:abcd::1
+ 5678-abcd--2.cluster1.hdls1.testns.svc 5 IN AAAA 5678:abcd::2
+ dup-name.cluster1.hdls1.testns.svc 5 IN A 172.0.0.4
+ dup-name.cluster1.hdls1.testns.svc 5 IN A 172.0.0.5
",
    );
}

/// KEP-1645, DNS specification 2.3.4 and 2.4.4: no record at `<clusterid>.<svc>`. Where names are below it, it
/// is an empty non-terminal: NODATA (RFC 8020), where CoreDNS says NXDOMAIN and so hides them from careful
/// resolvers.
#[test]
fn names_that_must_not_resolve() {
    check(
        &Setup::sample("conformance").start(),
        "
? cluster1.hdls1.testns.svc A
NODATA
? cluster1.svc1.testns.svc A
NXDOMAIN
? cluster2.hdls1.testns.svc A
NXDOMAIN
? 5678-abcd--1.hdls1.testns.svc AAAA
NXDOMAIN
? 172-0-0-2.hdls1.testns.svc A
NXDOMAIN
? 172-0-0-9.cluster1.hdls1.testns.svc A
NXDOMAIN
? bogusendpoint.cluster1.hdls1.testns.svc A
NXDOMAIN
? bogusendpoint.cluster1.svc0.testns.svc A
NXDOMAIN
? bogusendpoint.cluster1.svc1.testns.svc A
NXDOMAIN
? a.b.cluster1.hdls1.testns.svc A
NXDOMAIN
? svc0.testns.svc A
NXDOMAIN
? svc0.testns.svc AAAA
NXDOMAIN
? svc0.testns.svc TXT
NXDOMAIN
? svc1.nons.svc A
NXDOMAIN
? svc0.svc-nons.svc TXT
NXDOMAIN
? svc1.testns.pod A
NXDOMAIN
? svc1.testns.other A
NXDOMAIN
? svc1.testns A
NXDOMAIN
? *.testns.svc A
NXDOMAIN
",
    );
}

/// RFC 1034 §4.3.2 for the names above services, and what a zone must have (RFC 1034 §4.2.1); KEP-1645, DNS
/// specification 2.2: "`dns-version.<zone>`".
#[test]
fn the_zone_itself() {
    check(
        &Setup::sample("conformance").start(),
        r#"
? @ SOA
 5 IN SOA ns.dns hostmaster 1 7200 1800 86400 5
? @ NS
 5 IN NS ns.dns
+ ns.dns 5 IN A 127.0.0.1
? ns.dns A
 5 IN A 127.0.0.1
? ns.dns AAAA
NODATA
? dns A
NODATA
? dns-version TXT
 28800 IN TXT "1.0.0"
? dns-version A
NODATA
? @ A
NODATA
? @ AAAA
NODATA
? @ SRV
NODATA
? @ HINFO
NODATA
? svc A
NODATA
? pod A
NODATA
? testns.svc A
NODATA
? svc NS
NODATA
? testns.svc NS
NODATA
? foo NS
NXDOMAIN
? foo.svc NS
NXDOMAIN
"#,
    );
}

/// RFC 8482 §4.2: a question for all types is answered with one synthesized record, for it is asked by
/// attackers mostly; NODATA and NXDOMAIN stay what they are.
#[test]
fn any_is_answered_in_brief() {
    check(
        &Setup::sample("conformance").start(),
        r#"
? svc1.testns.svc ANY
 3789 IN HINFO "RFC8482" ""
? @ ANY
 3789 IN HINFO "RFC8482" ""
? svc ANY
NODATA
? svc0.testns.svc ANY
NXDOMAIN
"#,
    );
}

/// RFC 4343 §4: names compare without case, and the question's case comes back, in owners too.
#[test]
fn case_is_ignored_and_echoed() {
    let server = Setup::sample("conformance").start();
    check(
        &server,
        "
? SVC1.TestNS.Svc.ClusterSet.LOCAL. A
 5 IN A 10.0.0.1
? _HTTP._Tcp.sVC1.testns.svc.clusterset.local. SRV
 5 IN SRV 0 100 80 svc1.testns.svc
+ sVC1.testns.svc 5 IN A 10.0.0.1
? 172-0-0-2.CLUSTER1.hdls1.testns.svc.clusterset.local. A
 5 IN A 172.0.0.2
",
    );
    for name in ["Svc0.testns.svc.ClusterSet.LOCAL.", "svc1.testns.svc.ClusterSet.LOCAL."] {
        let reply = server.dig(&format!("+nocmd {name} AAAA"));
        assert_eq!(reply.question, [format!("{name} IN AAAA")]);
        assert!(reply.authority[0].starts_with("ClusterSet.LOCAL. 5 IN SOA "), "{}", reply.text);
    }
}
