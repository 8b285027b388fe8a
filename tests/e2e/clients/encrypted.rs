//! DNS over TLS, HTTPS and QUIC, by `kdig`.

use portolan_tests::harness::{HTTPS, QUIC, Reply, Server, TLS, eventually, run};

use super::{SVC1, certificate, encrypted};

/// Asks over a transport; `kdig` must verify the server's certificate. 3.2 crashes on a `+quic` before the authority.
fn ask(server: &Server, transport: &str, port: u16, words: &str) -> Reply {
    let authority = server.path("cert.pem");
    let authority = authority.display();
    server.kdig(port, &format!("+tls-ca={authority} +tls-hostname=dns.portolan.test {transport} {words}"))
}

/// RFC 7858, RFC 8484, RFC 9250: every transport gives the same answers.
#[test]
fn every_transport_answers_alike() {
    let server = encrypted();
    for (transport, port, session) in [
        ("+tls", TLS, "TLS session (TLS1.3)"),
        ("+https", HTTPS, "HTTP session (HTTP/2-POST)"),
        ("+quic", QUIC, "QUIC session"),
    ] {
        for (question, status, data) in [
            (SVC1, "NOERROR", &["10.0.0.1"][..]),
            (
                "svc1.testns.svc.clusterset.local SRV",
                "NOERROR",
                &["0 100 80 svc1.testns.svc.clusterset.local."],
            ),
            ("svc1.testns.svc.clusterset.local AAAA", "NOERROR", &[]),
            ("svc0.testns.svc.clusterset.local A", "NXDOMAIN", &[]),
            ("www.example.com A", "REFUSED", &[]),
        ] {
            let reply = ask(&server, transport, port, question);
            assert!(reply.text.contains(session), "{transport}: {}", reply.text);
            assert_eq!(
                (reply.status.as_str(), &reply.data()[..]),
                (status, &data.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
                "{transport} {question}: {}",
                reply.text
            );
            assert_eq!(reply.flag("aa"), status != "REFUSED", "{transport} {question}");
        }
    }
}

/// RFC 8467 §4.1: replies to padded queries on encrypted transports are padded to 468 octets. RFC 7830 §6: not
/// over UDP.
#[test]
fn padding() {
    let server = encrypted();
    for (transport, port) in [("+tls", TLS), ("+https", HTTPS), ("+quic", QUIC)] {
        let reply = ask(&server, transport, port, &format!("{SVC1} +padding"));
        assert!(reply.option("PADDING"), "{transport}: {}", reply.text);
        assert_eq!(reply.size() % 468, 0, "{transport}: {}", reply.text);
    }
    let reply = server.kdig(portolan_tests::harness::DNS, &format!("+padding=128 {SVC1}"));
    assert!(reply.status == "NOERROR" && !reply.option("PADDING"), "{}", reply.text);
}

/// RFC 7858 §3.4 and RFC 7828: connections over TLS are kept and tell for how long.
#[test]
fn tls_tells_its_idle_timeout() {
    let server = encrypted();
    let reply = ask(&server, "+tls", TLS, &format!("+ednsopt=11 {SVC1}"));
    assert!(reply.option("Option (11): 012C"), "30 s in units of 100 ms: {}", reply.text);
    let reply = ask(&server, "+tls +keepopen", TLS, &format!("{SVC1} {SVC1}"));
    assert_eq!(reply.text.matches("status: NOERROR").count(), 2, "{}", reply.text);
}

/// A renewed certificate is taken up without a restart or a signal; a broken one is not, and the good one
/// stays.
#[test]
fn certificates_are_renewed() {
    let server = encrypted();
    let old = std::fs::read(server.path("cert.pem")).unwrap();
    server.write("old.pem", &old);
    let trusts = |authority: &str, transport: &str, port| {
        let authority = server.path(authority);
        let words =
            format!("+tls-ca={} +tls-hostname=dns.portolan.test {transport} {SVC1}", authority.display());
        server.kdig(port, &words).status == "NOERROR"
    };
    server.write("cert.pem", "-----BEGIN CERTIFICATE-----\nbroken\n");
    eventually("the broken certificate is reported", || server.log().contains("cert.pem"));
    assert!(trusts("old.pem", "+tls", TLS));

    certificate(&server.path("cert.pem"), &server.path("key.pem"));
    for (transport, port) in [("+tls", TLS), ("+https", HTTPS), ("+quic", QUIC)] {
        eventually("the renewed certificate is served", || trusts("cert.pem", transport, port));
        assert!(!trusts("old.pem", transport, port), "{transport}");
    }
}

/// RFC 8484 §4.1: the path is the configured one; another one holds nothing.
#[test]
fn https_has_one_path() {
    let server = encrypted();
    assert_eq!(ask(&server, "+https=/dns-query", HTTPS, SVC1).status, "NOERROR");
    assert_ne!(ask(&server, "+https=/other", HTTPS, SVC1).status, "NOERROR");
}

/// RFC 7858 §3.1: what isn't TLS is no reason to stop serving those who speak it.
#[test]
fn plain_text_on_the_tls_port() {
    let server = encrypted();
    let (_, text) = run(portolan_tests::harness::program("dig", portolan_tests::harness::Package::Dnsutils)
        .arg(format!("@{}", server.at(TLS).ip()))
        .args(["-p", &TLS.to_string(), "+tcp", "+tries=1", "+time=1"])
        .args(SVC1.split(' ')));
    assert!(!text.contains("status:"), "{text}");
    assert_eq!(ask(&server, "+tls", TLS, SVC1).status, "NOERROR");
}

/// Queries leave no line in the log, whoever carries them.
#[test]
fn queries_are_not_logged() {
    let server = encrypted();
    let before = server.log();
    for (transport, port) in [("+tls", TLS), ("+https", HTTPS), ("+quic", QUIC)] {
        assert_eq!(ask(&server, transport, port, SVC1).status, "NOERROR", "{transport}");
    }
    assert_eq!(server.log(), before);
}
