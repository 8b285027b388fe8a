//! Real clients: `nslookup` as Kubernetes' conformance suite runs it, `dig` and `kdig` with what EDNS offers.

use std::path::Path;

use portolan_tests::harness::{Server, Setup, eventually};

mod encrypted;
mod places;

/// The mcs-api conformance suite asks by `nslookup <svc>.<ns>.svc.<zone>`, and looks for each address.
#[test]
fn nslookup_finds_addresses_of_both_families() {
    let server = Setup::sample("conformance").start();
    for (name, expected) in [
        ("svc1", &["10.0.0.1"][..]),
        ("svc6", &["1234:abcd::1"]),
        ("svc-dual-stack", &["10.0.0.3", "10::3"]),
        ("hdls1", &["172.0.0.2", "172.0.0.3", "172.0.0.4", "172.0.0.5", "5678:abcd::1", "5678:abcd::2"]),
    ] {
        let text = server.nslookup(&format!("{name}.testns.svc.clusterset.local"));
        for address in expected {
            assert!(text.contains(&format!("Address: {address}\n")), "{name}: {text}");
        }
        assert!(!text.contains("server can't find"), "{name}: {text}");
    }
    let text = server.nslookup("svc0.testns.svc.clusterset.local");
    assert!(text.contains("NXDOMAIN"), "{text}");
}

/// The suite asks `nslookup -type=SRV` at the bare name: one record with port and target of a ClusterSetIP
/// service; for a headless one, targets that begin with hostname or dashed address.
#[test]
fn nslookup_finds_services_by_their_bare_name() {
    let server = Setup::sample("conformance").start();
    let lines = |name: &str| -> Vec<String> {
        let text = server.nslookup(&format!("-type=SRV {name}.testns.svc.clusterset.local"));
        text.lines().filter_map(|line| Some(line.split_once("service = ")?.1.to_owned())).collect()
    };
    assert_eq!(lines("svc1"), ["0 100 80 svc1.testns.svc.clusterset.local."]);
    let mut targets: Vec<_> =
        lines("hdls1").iter().map(|line| line.split([' ', '.']).nth(3).unwrap().to_owned()).collect();
    targets.sort();
    assert_eq!(targets, ["172-0-0-2", "172-0-0-3", "5678-abcd--1", "5678-abcd--2", "dup-name"]);
}

const SVC1: &str = "svc1.testns.svc.clusterset.local A";

/// RFC 6891 §6.1.3: a version that is not understood is answered BADVERS, with ours; without EDNS, no OPT
/// (§6.1.1).
#[test]
fn edns_versions_and_flags() {
    let server = Setup::sample("conformance").start();
    let reply = server.dig(&format!("+edns=1 +noednsnegotiation {SVC1}"));
    assert_eq!((reply.status.as_str(), reply.answer.len()), ("BADVERS", 0), "{}", reply.text);
    assert!(reply.option("EDNS: version: 0,"), "{}", reply.text);

    let reply = server.dig(&format!("+noedns {SVC1}"));
    assert_eq!((reply.status.as_str(), reply.edns.len()), ("NOERROR", 0), "{}", reply.text);
    // RFC 3225 §3: DO is copied. RFC 6840 §5.7: AD is not set, for nothing was validated.
    let reply = server.dig(&format!("+dnssec +adflag {SVC1}"));
    assert!(reply.option("flags: do;") && !reply.flag("ad"), "{}", reply.text);
    // RFC 6891 §6.1.2: unknown options and flags are ignored.
    let reply = server.dig(&format!("+ednsopt=65001:abcd +ednsflags=0x1 {SVC1}"));
    assert_eq!((reply.status.as_str(), reply.option("65001")), ("NOERROR", false), "{}", reply.text);
    // RFC 1035 §4.1.1: RD is copied, RA says that there is no recursion.
    assert!(server.dig(&format!("+rec {SVC1}")).flag("rd"));
    assert!(!server.dig(&format!("+norec {SVC1}")).flag("rd"));
}

/// RFC 5001: the configured identifier, and only when it is asked for.
#[test]
fn nsid() {
    let server = Setup::sample("conformance").with("identity: {nsid: fra1}").start();
    assert!(server.dig(&format!("+nsid {SVC1}")).option("(\"fra1\")"));
    assert!(server.kdig(portolan_tests::harness::DNS, &format!("+nsid {SVC1}")).option("\"fra1\""));
    assert!(!server.dig(SVC1).option("NSID"));
    let silent = Setup::sample("conformance").start();
    assert!(!silent.dig(&format!("+nsid {SVC1}")).option("NSID"));
}

/// RFC 7873 §5.2: a client cookie gets a server cookie, which is good next time. dig checks that its own comes
/// back.
#[test]
fn cookies() {
    let server = Setup::sample("conformance").start();
    let first = server.dig(&format!("+cookie=0123456789abcdef {SVC1}"));
    let cookie = first.edns.iter().find_map(|line| line.strip_prefix("COOKIE: ")).expect("a cookie");
    let (cookie, verdict) = cookie.split_once(' ').unwrap();
    assert_eq!((cookie.len(), verdict), (48, "(good)"), "{}", first.text);
    assert!(cookie.starts_with("0123456789abcdef01000000"), "RFC 9018 §4: version 1, reserved 0: {cookie}");
    let second = server.dig(&format!("+cookie={cookie} {SVC1}"));
    assert!(second.option(&format!("COOKIE: {cookie} (good)")), "not renewed at once: {}", second.text);
    // RFC 7873 §5.2.2: a cookie of a wrong length is FORMERR.
    assert_eq!(server.dig(&format!("+cookie=0123456789abcd {SVC1}")).status, "FORMERR");

    let off = Setup::sample("conformance").with("cookies: {enabled: false}").start();
    assert!(!off.dig(&format!("+cookie {SVC1}")).option("COOKIE"));
}

/// RFC 9018 §3: servers behind one address share their secrets, and so know each other's cookies; others don't.
#[test]
fn servers_of_one_secret_know_each_others_cookies() {
    let cookie_of = |server: &Server, cookie: &str| {
        let reply = server.dig(&format!("+cookie={cookie} {SVC1}"));
        let cookie = reply.edns.iter().find_map(|line| line.strip_prefix("COOKIE: ")).unwrap().to_owned();
        cookie.trim_end_matches(" (good)").to_owned()
    };
    let secret = |digit: &str| format!("cookies: {{secrets: ['{}']}}", digit.repeat(32));
    let [one, same, other] =
        ["1", "1", "2"].map(|digit| Setup::sample("conformance").with(&secret(digit)).start());
    let cookie = cookie_of(&one, "0123456789abcdef");
    assert_eq!(cookie_of(&same, &cookie), cookie);
    assert_ne!(cookie_of(&other, &cookie), cookie);
}

/// RFC 7871 §7.2.1: the option comes back; scope 0, for the answer is the same for everybody. §6: a family
/// that doesn't exist is FORMERR. Not understood, it is ignored as unknown.
#[test]
fn client_subnet() {
    let server = Setup::sample("conformance").start();
    for (subnet, echoed) in
        [("10.1.2.0/24", "10.1.2.0/24/0"), ("2001:db8::/56", "2001:db8::/56/0"), ("0", "0.0.0.0/0/0")]
    {
        let reply = server.dig(&format!("+subnet={subnet} {SVC1}"));
        assert!(reply.option(&format!("CLIENT-SUBNET: {echoed}")), "{subnet}: {}", reply.text);
        assert_eq!(reply.data(), ["10.0.0.1"]);
    }
    assert_eq!(server.dig(&format!("+ednsopt=8:00091800c00002 {SVC1}")).status, "FORMERR");
    let off = Setup::sample("conformance").with("client-subnet: {enabled: false}").start();
    let reply = off.dig(&format!("+subnet=10.1.2.0/24 {SVC1}"));
    assert!(reply.status == "NOERROR" && !reply.option("CLIENT-SUBNET"), "{}", reply.text);
}

/// RFC 7828 §3.3.2: TCP clients that ask are told the idle timeout; over UDP the option is ignored (§3.2.1).
/// RFC 7766 §6.2.1: a connection is used for more than one query.
#[test]
fn tcp_connections_are_kept() {
    let server = Setup::sample("conformance").with("tcp: {idle-timeout: 5s}").start();
    let reply = server.dig(&format!("+tcp +keepalive {SVC1}"));
    assert!(
        reply.option("TCP-KEEPALIVE: 5.0 secs") || reply.option("TCP KEEPALIVE: 5.0 secs"),
        "{}",
        reply.text
    );
    assert!(!server.dig(&format!("+keepalive {SVC1}")).option("KEEPALIVE"));

    let text = server.dig(&format!("+tcp +keepopen {SVC1} +tcp +keepopen {SVC1}")).text;
    assert_eq!(text.matches("status: NOERROR").count(), 2, "{text}");
}

/// RFC 2181 §5.1 leaves the order of records free: which one is first changes from query to query, for clients
/// that only try the first.
#[test]
fn answers_are_rotated() {
    let server = Setup::sample("conformance").start();
    let mut first = std::collections::BTreeSet::new();
    eventually("every address has been first", || {
        first.insert(
            server.dig("+short hdls1.testns.svc.clusterset.local A").text.lines().next().map(str::to_owned),
        );
        first.len() == 4
    });
}

/// A certificate for `dns.portolan.test`, signed by itself: it is its own authority.
fn certificate(certificate: &Path, key: &Path) {
    let pair = rcgen::generate_simple_self_signed(["dns.portolan.test".to_owned()]).unwrap();
    // The key first: until both are there, they don't fit.
    std::fs::write(key, pair.signing_key.serialize_pem()).unwrap();
    std::fs::write(certificate, pair.cert.pem()).unwrap();
}

/// A server with all transports.
fn encrypted() -> Server {
    let setup = Setup::sample("conformance");
    certificate(&setup.path("cert.pem"), &setup.path("key.pem"));
    let at = |port| setup.at(port);
    use portolan_tests::harness::{DNS, HTTPS, QUIC, TLS};
    let listen = format!(
        "listen:
  udp: ['{dns}']
  tcp: ['{dns}']
  tls: ['{tls}']
  https: ['{https}']
  quic: ['{quic}']
tls: {{certificate: cert.pem, key: key.pem}}
",
        dns = at(DNS),
        tls = at(TLS),
        https = at(HTTPS),
        quic = at(QUIC),
    );
    setup.with(&listen).start()
}
