//! What is exported, by whom, and whose virtual IPs count.

use portolan_tests::harness::{Setup, check};

/// KEP-1645, "Exporting Services": only what a ServiceExport names and a Service of the same cluster backs.
#[test]
fn exports_without_service() {
    let server = Setup::sample("export-without-service").start();
    check(
        &server,
        "
? good.shop.svc A
 5 IN A 10.96.71.1
? half.shop.svc A
 5 IN A 10.72.0.51
? half-0.west.half.shop.svc A
 5 IN A 10.72.0.51
? half-0.east.half.shop.svc A
NXDOMAIN
? orphan.shop.svc A
NXDOMAIN
? external.shop.svc A
NXDOMAIN
? external.shop.svc CNAME
NXDOMAIN
? unexported.shop.svc A
NXDOMAIN
? unexported-headless.shop.svc A
NXDOMAIN
? split.shop.svc A
NXDOMAIN
? good.private.svc A
NXDOMAIN
",
    );
    let invalid = server.status()["invalidExports"].to_string();
    for export in ["shop/orphan", "shop/external", "shop/split", "private/good"] {
        assert!(invalid.contains(export), "{export} is told: {invalid}");
    }
    assert!(!invalid.contains("shop/good"), "{invalid}");
}

/// KEP-1645: each cluster may assign a service its own ClusterSetIP; the answers are those of `home`.
#[test]
fn virtual_ips_are_those_of_home() {
    for (home, table) in [
        (
            "oslo",
            "
? api.shop.svc A
 5 IN A 10.96.81.1
? api.shop.svc AAAA
NODATA
? web.shop.svc A
 5 IN A 10.96.81.2
? web.shop.svc AAAA
 5 IN AAAA fd96:81::2
",
        ),
        (
            "rome",
            "
? api.shop.svc A
 5 IN A 10.96.82.1
? api.shop.svc AAAA
 5 IN AAAA fd96:82::1
? web.shop.svc A
 5 IN A 10.96.82.2
",
        ),
        (
            "lima",
            "
? api.shop.svc A
 5 IN A 10.96.83.1
? api.shop.svc AAAA
NODATA
? web.shop.svc A
NODATA
? web.shop.svc AAAA
 5 IN AAAA fd96:83::2
",
        ),
    ] {
        check(
            &Setup::sample("imports-differ").replace("home: oslo", &format!("home: {home}")).start(),
            table,
        );
    }
}

/// KEP-1645, "Using EndpointSlice objects": what a controller of another make mirrored is answered, by
/// `source-cluster`. Same-named Services of the cluster itself must not leak (KEP-1645, DNS).
#[test]
fn imports_alone_suffice() {
    check(
        &Setup::sample("imported-only").start(),
        "
? cart.shop.svc A
 5 IN A 10.96.91.1
? db.shop.svc A
 5 IN A 10.1.0.20
 5 IN A 10.1.1.20
 5 IN A 10.2.0.20
 5 IN A 10.91.0.20
? db-0.paris.db.shop.svc A
 5 IN A 10.1.0.20
? db-0.tokyo.db.shop.svc A
 5 IN A 10.2.0.20
? 10-91-0-20.edge.db.shop.svc A
 5 IN A 10.91.0.20
? telemetry.shop.svc SRV
 5 IN SRV 0 100 4317 telemetry.shop.svc
+ telemetry.shop.svc 5 IN A 10.96.91.3
? local-only.shop.svc A
NXDOMAIN
",
    );
}

/// KEP-1645, "Constraints and Conflict Resolution": ports are a union, and the oldest export wins.
#[test]
fn conflicts() {
    let server = Setup::sample("conflicts").start();
    check(
        &server,
        "
? extra-port.demo.svc SRV
 5 IN SRV 0 50 80 extra-port.demo.svc
 5 IN SRV 0 50 9100 extra-port.demo.svc
+ extra-port.demo.svc 5 IN A 10.96.100.3
? _http._tcp.port-number.demo.svc SRV
 5 IN SRV 0 100 80 port-number.demo.svc
+ port-number.demo.svc 5 IN A 10.96.100.1
? headless-younger.demo.svc A
 5 IN A 10.96.100.7
? headless-oldest.demo.svc A
 5 IN A 10.10.0.18
 5 IN A 10.20.0.18
",
    );
    assert!(server.status()["counts"]["conflicts"].as_u64().unwrap() >= 10, "{}", server.status());
}

/// A name that isn't known yet must not be denied while a cluster is unread: SERVFAIL and EDE 14 (RFC 8914
/// §4.15), as CoreDNS does before its first sync. What is known is answered.
#[test]
fn before_every_cluster_is_read() {
    let server = Setup::sample("conformance")
        .replace("home:", "- {name: late, manifests: clusters/late}\nhome:")
        .start();
    check(
        &server,
        "
? svc1.testns.svc A
 5 IN A 10.0.0.1
? svc1.testns.svc AAAA
NODATA
? @ SOA
 5 IN SOA ns.dns hostmaster 1 7200 1800 86400 5
? svc0.testns.svc A
SERVFAIL
; EDE: 14
? svc1.nons.svc A
SERVFAIL
",
    );
    assert_eq!(server.get("/ready").0, 503);

    server.write("clusters/late/namespace.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: late}}");
    portolan_tests::harness::eventually("the server is ready", || server.get("/ready").0 == 200);
    check(
        &server,
        "
? svc0.testns.svc A
NXDOMAIN
? late.svc A
NODATA
",
    );
}
