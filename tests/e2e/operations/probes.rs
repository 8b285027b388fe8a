//! `/health`, `/ready`, `/metrics`, `/status`.

use portolan_tests::harness::{ADMIN, DNS, Setup, eventually};

/// Kubernetes' probes: alive is one thing, to be sent queries another.
#[test]
fn health_and_readiness() {
    let server = Setup::new("clusters: [{name: a, manifests: clusters/a}]").start();
    assert_eq!(server.get("/health"), (200, "alive\n".to_owned()));
    let (code, why) = server.get("/ready");
    assert!(code == 503 && why.contains("syncing"), "no cluster is read: {code} {why}");
    assert_eq!(server.status()["complete"], false);
    server.write("clusters/a/n.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: n}}");
    eventually("the server is ready", || server.get("/ready").0 == 200);
    assert_eq!(server.status()["complete"], true);
    assert_eq!(server.get("/nothing").0, 404);
}

/// Names and labels are CoreDNS's (its `metrics` plugin), so that its dashboards and alerts keep working.
#[test]
fn metrics_are_those_of_coredns() {
    let server = Setup::sample("conformance").start();
    for (question, times) in [
        ("+notcp svc1.testns.svc.clusterset.local A", 3),
        ("+tcp svc1.testns.svc.clusterset.local AAAA", 2),
        ("+notcp +dnssec svc0.testns.svc.clusterset.local SRV", 1),
        ("+notcp www.example.com TYPE65280", 1),
    ] {
        for _ in 0..times {
            server.dig(question);
        }
    }
    let dns = format!("server=\"dns://{}\"", server.at(DNS));
    let zone = "zone=\"clusterset.local.\"";
    let requests = |labels: &[&str]| server.metric("coredns_dns_requests_total", labels);
    assert_eq!(
        requests(&[&dns, zone, "view=\"\"", "proto=\"udp\"", "family=\"1\"", "type=\"A\""]),
        Some(3.0)
    );
    assert_eq!(requests(&[zone, "proto=\"tcp\"", "family=\"1\"", "type=\"AAAA\""]), Some(2.0));
    assert_eq!(requests(&[zone, "proto=\"udp\"", "type=\"SRV\""]), Some(1.0));
    assert_eq!(requests(&["zone=\"dropped\"", "type=\"other\""]), Some(1.0));
    let responses = |labels: &[&str]| server.metric("coredns_dns_responses_total", labels);
    assert_eq!(responses(&[&dns, zone, "rcode=\"NOERROR\""]), Some(5.0));
    assert_eq!(responses(&[zone, "rcode=\"NXDOMAIN\""]), Some(1.0));
    assert_eq!(responses(&["zone=\"dropped\"", "rcode=\"REFUSED\""]), Some(1.0));
    assert_eq!(server.metric("coredns_dns_do_requests_total", &[zone]), Some(1.0));
    assert_eq!(server.metric("coredns_dns_request_duration_seconds_count", &[zone]), Some(6.0));
    assert_eq!(server.metric("coredns_dns_request_size_bytes_count", &[zone, "proto=\"udp\""]), Some(4.0));
    assert_eq!(server.metric("coredns_dns_response_size_bytes_count", &[zone, "proto=\"tcp\""]), Some(2.0));
    assert_eq!(server.metric("coredns_panics_total", &[]), Some(0.0));
    assert_eq!(server.metric("coredns_build_info", &[]), Some(1.0));
    assert_eq!(server.metric("portolan_config_last_reload_successful", &[]), Some(1.0));
    let (_, text) = server.get("/metrics");
    assert!(text.ends_with("# EOF\n"), "OpenMetrics: the exposition must end with EOF");
    assert!(text.contains("# TYPE coredns_dns_requests counter"), "{text}");
}

/// One page that tells what is answered, from what, and how the server is.
#[test]
fn status_tells_what_is_known() {
    let server = Setup::sample("three-clusters").start();
    let status = server.status();
    assert_eq!(status["phase"], "serving");
    assert_eq!(status["complete"], true);
    assert_eq!(status["zones"].as_array().map(Vec::len), Some(1), "{status}");
    assert_eq!(status["counts"]["services"], 4, "{status}");
    assert_eq!(status["counts"]["headless"], 1, "{status}");
    let serial: u64 =
        server.dig("clusterset.local SOA").data()[0].split(' ').nth(2).unwrap().parse().unwrap();
    assert_eq!(status["serial"], serial);
    let sources = status["sources"].as_array().unwrap();
    let clusters: Vec<_> = sources.iter().map(|source| source["cluster"].as_str().unwrap()).collect();
    assert_eq!(clusters, ["paris", "tokyo", "virginia"], "{status}");
    let listeners = status["listeners"].as_array().unwrap();
    for (transport, port) in [("udp", DNS), ("tcp", DNS), ("admin", ADMIN)] {
        let address = server.at(port).to_string();
        let bound = listeners.iter().any(|l| l["transport"] == transport && l["address"] == *address);
        assert!(bound, "{transport} {address}: {status}");
    }
    let file = server.path("portolan.yaml");
    assert_eq!(status["config"]["file"].as_str(), file.to_str());
    assert_eq!(status["config"]["errors"].as_array().map(Vec::len), Some(0));
}

/// Without an admin address nothing listens there; DNS is served all the same.
#[test]
fn the_admin_address_can_be_off() {
    let server = Setup::sample("conformance").with("admin: {listen: ''}").start();
    assert!(server.try_get("/health").is_none());
    assert_eq!(server.dig("svc1.testns.svc.clusterset.local A").data(), ["10.0.0.1"]);
}
