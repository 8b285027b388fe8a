//! Who is answered, and how often.

use std::net::UdpSocket;

use portolan_tests::harness::{DNS, Server, Setup, check, eventually, query};

const QUERIES: usize = 500;
const BATCH: usize = 50;
const SVC1: &str = "svc1.testns.svc.clusterset.local A";

/// A bounded flood from one source: how many replies are whole, and how many are truncated. All others were dropped for the
/// limit, which the metrics count: nothing else is lost, for no batch comes before the last one is done with.
fn flood(server: &Server) -> (usize, usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server.at(DNS)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let message = query("svc1.testns.svc.clusterset.local", 1);
    let (mut whole, mut truncated) = (0, 0);
    let mut reply = [0; 512];
    for sent in (BATCH..=QUERIES).step_by(BATCH) {
        for _ in 0..BATCH {
            socket.send(&message).unwrap();
        }
        eventually("each query has its reply, or is counted as dropped", || {
            while let Ok(len) = socket.recv(&mut reply) {
                assert!(len <= 2 * message.len(), "an attacker gains nothing: {len} octets");
                if reply[2] & 0x02 == 0 { whole += 1 } else { truncated += 1 }
            }
            whole + truncated + limited(server, "dropped") == sent
        });
    }
    (whole, truncated)
}

fn limited(server: &Server, action: &str) -> usize {
    server.metric("portolan_rate_limited_total", &[&format!("action=\"{action}\"")]).unwrap_or_default()
        as usize
}

/// Over the rate, replies are dropped, and every second one is sent truncated so that a real client comes by
/// TCP. What proves its address, by TCP or by a cookie (RFC 7873 §5.2.5), is not limited.
#[test]
fn floods_are_limited_and_real_clients_are_not() {
    let server = Setup::sample("conformance")
        .with("rate-limit: {exempt: [], per-second: 1, burst: 20, slip: 2}")
        .start();
    let (whole, truncated) = flood(&server);
    assert!((20..60).contains(&whole), "{whole} whole");
    let over = QUERIES - whole;
    assert!(truncated.abs_diff(over / 2) <= 10, "{truncated} truncated of {over} over the limit");
    assert_eq!(limited(&server, "slipped"), truncated);

    assert_eq!(server.dig(&format!("+tcp {SVC1}")).data(), ["10.0.0.1"]);
    for _ in 0..4 {
        // Half of these are dropped, the other half tells the cookie to come back with.
        let reply = server.dig(&format!("+tries=4 +cookie {SVC1}"));
        assert_eq!(reply.data(), ["10.0.0.1"], "{}", reply.text);
    }
}

/// To try a limit out: count, and answer.
#[test]
fn limits_can_be_tried_out() {
    let server = Setup::sample("conformance")
        .with("rate-limit: {exempt: [], per-second: 1, burst: 20, log-only: true}")
        .start();
    assert_eq!(flood(&server), (QUERIES, 0));
    assert!(limited(&server, "logged") > QUERIES - 60, "{}", limited(&server, "logged"));
}

/// Pods, nodes and forwarders are not limited, as long as nobody says otherwise.
#[test]
fn private_networks_are_not_limited() {
    let server = Setup::sample("conformance").with("rate-limit: {per-second: 1, burst: 1}").start();
    assert_eq!(flood(&server), (QUERIES, 0));
}

/// RFC 8914 §4.19: who may not ask is told so; the closest network decides.
#[test]
fn access_lists() {
    let refused = "\n? svc1.testns.svc A\nREFUSED\n; EDE: 18\n? svc0.testns.svc A\nREFUSED\n";
    let answered = "\n? svc1.testns.svc A\n 5 IN A 10.0.0.1\n";
    for (access, table) in [
        ("{deny: [127.0.0.0/8]}", refused),
        ("{allow: [10.0.0.0/8]}", refused),
        ("{deny: [127.0.0.0/8], allow: [127.0.0.1]}", answered),
        ("{allow: [127.0.0.0/8]}", answered),
    ] {
        check(&Setup::sample("conformance").with(&format!("access: {{query: {access}}}")).start(), table);
    }
}
