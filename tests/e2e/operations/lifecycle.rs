//! Start and end.

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use portolan_tests::harness::{DNS, Server, Setup, ask_tcp, ask_udp, eventually, loopback, query, until};

const SVC1: &str = "svc1.testns.svc.clusterset.local A";

/// Kubernetes takes a pod out of its Services some time after it told it to end: until then queries come, and
/// are answered, while `/ready` says not to send more.
#[test]
fn sigterm_drains() {
    // Longer than anything here takes.
    let server = Setup::sample("conformance").with("shutdown: {lameduck: 10m}").start();
    assert_eq!(server.get("/ready").0, 200);
    // Opened before the end, as forwarders keep them; most use TCP (node-local-dns).
    let mut kept = TcpStream::connect(server.at(DNS)).unwrap();
    let message = query("svc1.testns.svc.clusterset.local", 1);
    ask_tcp(&mut kept, &message).unwrap();
    server.signal("TERM");
    let ((_, why), _) =
        until("readiness is withdrawn", || server.try_get("/ready").filter(|(code, _)| *code == 503));
    assert!(why.contains("draining"), "{why}");
    for transport in ["+notcp", "+tcp"] {
        assert_eq!(server.dig(&format!("{transport} {SVC1}")).data(), ["10.0.0.1"], "{transport}");
    }
    assert!(ask_tcp(&mut kept, &message).unwrap().ends_with(&[10, 0, 0, 1]), "on a connection from before");
    assert_eq!(server.get("/health").0, 200, "alive: no reason to kill it");
}

/// It ends by itself when the time of draining is over, not before, whoever keeps a connection. The exit status is 0.
#[test]
fn sigterm_ends_well() {
    let lameduck = Duration::from_secs(1);
    let mut server = Setup::sample("conformance").with("shutdown: {lameduck: 1s}").start();
    let mut kept = TcpStream::connect(server.at(DNS)).unwrap();
    ask_tcp(&mut kept, &query("svc1.testns.svc.clusterset.local", 1)).unwrap();
    let told = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log());
    assert!(told.elapsed() >= lameduck, "{:?}", told.elapsed());
    assert!(server.try_get("/health").is_none());
    assert_eq!(kept.read(&mut [0]).unwrap(), 0, "the connection has ended");
}

/// SIGINT, by Ctrl-C, ends it as well; and a second signal ends it at once.
#[test]
fn a_second_signal_does_not_wait() {
    let mut server = Setup::sample("conformance").with("shutdown: {lameduck: 10m}").start();
    server.signal("INT");
    until("readiness is withdrawn", || server.try_get("/ready").filter(|(code, _)| *code == 503));
    server.signal("INT");
    server.wait();
}

/// An address in use ends the start with the address, the transport and what to do.
#[test]
fn a_port_in_use_is_told() {
    for transport in ["udp", "tcp"] {
        let setup = Setup::sample("conformance");
        let at = setup.at(DNS);
        let _udp = (transport == "udp").then(|| UdpSocket::bind(at).unwrap());
        let _tcp = (transport == "tcp").then(|| TcpListener::bind(at).unwrap());
        let mut server = Server::spawn(setup);
        let status = server.wait();
        assert_eq!(status.code(), Some(1), "{transport}");
        let log = server.log();
        assert!(
            [at.to_string().as_str(), transport, "in use"].iter().all(|word| log.contains(word)),
            "{transport}: {log}"
        );
        assert!(!server.path("ready.json").exists(), "never ready");
    }
}

/// A second server must not join the first one's sockets and take half of its queries: SO_REUSEPORT would let it.
#[test]
fn a_second_server_is_kept_out() {
    let first = Setup::sample("conformance").start();
    for transport in ["udp", "tcp"] {
        let listen = format!("listen: {{udp: [], tcp: [], {transport}: ['{}']}}", first.at(DNS));
        let listen = listen.replacen(&format!("{transport}: [], "), "", 1);
        let mut second = Server::spawn(Setup::sample("conformance").with(&listen));
        assert_eq!(second.wait().code(), Some(1), "{transport}");
        assert!(second.log().contains("in use"), "{transport}: {}", second.log());
    }
    assert_eq!(first.dig(SVC1).data(), ["10.0.0.1"]);
}

/// On port 0 the system chooses; the ready file tells, and so can anything that starts a server.
#[test]
fn the_ready_file_tells_chosen_ports() {
    let address = loopback();
    let listen = format!(
        "listen: {{udp: ['{address}:0', '[::1]:0'], tcp: ['{address}:0']}}\nadmin: {{listen: '{address}:0'}}"
    );
    let server = Setup::sample("conformance").with(&listen).start();
    let text = std::fs::read_to_string(server.path("ready.json")).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&text).unwrap();
    for (transport, addresses) in [("udp", 2), ("tcp", 1), ("admin", 1)] {
        let bound = ready[transport].as_array().unwrap();
        assert_eq!(bound.len(), addresses, "{ready}");
        for at in bound {
            let at: std::net::SocketAddr = at.as_str().unwrap().parse().unwrap();
            assert_ne!(at.port(), 0, "{ready}");
        }
    }
    let (v4, v6) = (ready["udp"][0].as_str().unwrap(), ready["udp"][1].as_str().unwrap());
    for at in [v4, v6] {
        let reply = ask_udp(
            at.parse().unwrap(),
            &query("svc1.testns.svc.clusterset.local", 1),
            Duration::from_secs(5),
        );
        assert!(reply.is_some_and(|reply| reply.ends_with(&[10, 0, 0, 1])), "{at}");
    }
}

/// The log is for programs when it is wanted so: one JSON object a line, from the first to the last.
#[test]
fn the_log_can_be_json() {
    let mut server = Setup::sample("conformance").with("log: {format: json, level: debug}").start();
    server.signal("TERM");
    server.wait();
    let log = server.log();
    assert!(log.lines().count() >= 2, "{log}");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
}

/// Queries leave no line in the log: at the rates of DNS that would be an attack of its own.
#[test]
fn queries_are_not_logged() {
    let server = Setup::sample("conformance").start();
    eventually("the start is logged", || !server.log().is_empty());
    let before = server.log();
    for question in [SVC1, "svc0.testns.svc.clusterset.local A", "www.example.com A"] {
        server.dig(question);
        server.dig(&format!("+tcp {question}"));
    }
    assert_eq!(server.log(), before);
}
