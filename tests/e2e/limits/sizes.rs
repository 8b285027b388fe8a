//! Answers that don't fit.

use std::net::IpAddr;

use portolan_tests::harness::{Server, Setup, eventually, headless, list};

const BIG: &str = "big.shop.svc.clusterset.local";

fn with_pods(pods: u32, yaml: &str) -> Server {
    let address = |pod: u32| IpAddr::from((0x0a01_0000 + pod).to_be_bytes());
    let server = Setup::new("clusters: [{name: a, manifests: clusters/a}]")
        .with(yaml)
        .file("clusters/a/big.json", list(headless("big", (0..pods).map(address))))
        .start();
    eventually("the service is known", || server.dig(&format!("{BIG} A")).status == "NOERROR");
    server
}

/// RFC 2181 §9 and RFC 6891 §6.2.5: a UDP reply is no larger than the smaller of both sides' limits; what
/// doesn't fit is left out by whole records, with TC. By TCP everything comes.
#[test]
fn large_answers_are_truncated_over_udp() {
    let server = with_pods(200, "");
    for (size, limit) in
        [("+noedns", 512), ("+bufsize=512", 512), ("+bufsize=1232", 1232), ("+bufsize=4096", 1232)]
    {
        let reply = server.dig(&format!("+notcp +ignore {size} {BIG} A"));
        assert!(reply.flag("tc") && reply.status == "NOERROR", "{size}: {}", reply.text);
        assert!(reply.size() <= limit, "{size}: {} octets", reply.size());
        assert!(!reply.answer.is_empty() && reply.answer.len() < 200, "{size}: {}", reply.answer.len());
        assert_eq!(reply.edns.is_empty(), size == "+noedns", "OPT is always whole: {}", reply.text);
    }
    assert_eq!(server.dig(&format!("{BIG} A")).answer.len(), 200, "dig comes back by TCP");
    let reply = server.dig(&format!("+tcp {BIG} SRV"));
    assert!(!reply.flag("tc") && reply.answer.len() == 200, "{}", reply.answer.len());

    let wide = with_pods(200, "edns: {max-udp-payload: 4096}");
    let reply = wide.dig(&format!("+notcp +ignore +bufsize=4096 {BIG} A"));
    assert!(!reply.flag("tc") && reply.answer.len() == 200, "{}", reply.text);
}

/// RFC 2181 §9: additional records that don't fit are left out without TC, for they only save a question.
#[test]
fn glue_gives_way_without_truncation() {
    let server = with_pods(18, "");
    let reply = server.dig(&format!("+notcp +ignore +bufsize=1232 {BIG} SRV"));
    assert_eq!((reply.answer.len(), reply.flag("tc")), (18, false), "{}", reply.text);
    assert!(reply.additional.len() < 18, "{}", reply.text);
    assert_eq!(server.dig(&format!("+tcp {BIG} SRV")).additional.len(), 18);
}

/// KEP-1645, DNS specification 2.4: "a subset of ready endpoints", "justified by performance and response
/// size". 65,535 endpoints of one service are served: a stable subset that fits one message, and every
/// endpoint by its own name.
#[test]
fn a_service_of_65535_endpoints() {
    let server = with_pods(65_535, "");
    let reply = server.dig(&format!("+notcp +ignore {BIG} A"));
    assert!(reply.flag("tc") && reply.size() <= 1232, "{}", reply.text);
    let whole = server.dig(&format!("+tcp {BIG} A"));
    assert_eq!((whole.status.as_str(), whole.flag("tc")), ("NOERROR", false));
    assert!((500..=1000).contains(&whole.answer.len()), "{}", whole.answer.len());
    assert_eq!(server.dig(&format!("+tcp {BIG} A")).data(), whole.data(), "the same subset");
    let srv = server.dig(&format!("+tcp {BIG} SRV"));
    assert!(!srv.flag("tc") && srv.answer.len() > 100, "{}", srv.answer.len());
    // The same subset has names (2.4.2), and no other endpoint does.
    for address in whole.data().iter().step_by(100) {
        assert_eq!(
            server.dig(&format!("{}.a.{BIG} A", address.replace('.', "-"))).data(),
            [address.as_str()]
        );
    }
    assert_eq!(server.status()["counts"]["endpoints"], 65_535);
}
