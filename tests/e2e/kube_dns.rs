//! kube-dns's stub domains: its dnsmasq, with the flags that it is started with, forwards `clusterset.local`
//! to us.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Stdio};

use portolan_tests::harness::{
    DNS, Package, Reply, Server, Setup, eventually, headless, list, loopback, program, run,
};

/// A running dnsmasq; ends with the test.
struct Dnsmasq {
    child: Child,
    address: Ipv4Addr,
}

impl Dnsmasq {
    /// As `dnsmasq-nanny` runs it for a stub domain, plus `more`; nothing of this machine's own configuration.
    fn forwarding_to(server: &Server, more: &[&str]) -> Self {
        let address = loopback();
        let upstream = server.at(DNS);
        let mut dnsmasq = program("dnsmasq", Package::DnsmasqBase);
        dnsmasq.args(["--no-daemon", "--no-resolv", "--no-hosts", "--bind-interfaces", "--cache-size=1000"]);
        dnsmasq.args(["--pid-file=", "--conf-file=/dev/null", "--dns-loop-detect"]).args(more);
        dnsmasq.arg(format!("--server=/clusterset.local/{}#{}", upstream.ip(), upstream.port()));
        dnsmasq.arg(format!("--listen-address={address}")).arg(format!("--port={DNS}"));
        dnsmasq.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let dnsmasq = Self { child: dnsmasq.spawn().expect("dnsmasq starts"), address };
        // A name of its own: asking for it forwards nothing.
        eventually("dnsmasq answers", || dnsmasq.dig("version.bind TXT CH").status == "NOERROR");
        dnsmasq
    }

    fn dig(&self, words: &str) -> Reply {
        let mut dig = program("dig", Package::Dnsutils);
        dig.arg(format!("@{}", self.address)).args(["-p", &DNS.to_string(), "+tries=1", "+time=2"]);
        Reply::parse(&run(dig.args(words.split_whitespace())).1)
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Queries that the server has had.
fn asked(server: &Server) -> u64 {
    server.metric("coredns_dns_requests_total", &[]).unwrap_or_default() as u64
}

/// Everything that a pod asks for comes through, and is cached: asked again, it isn't forwarded.
#[test]
fn answers_come_through_and_are_cached() {
    let server = Setup::sample("conformance")
        .replace(
            "- origin: clusterset.local",
            "- origin: clusterset.local\n  ttl: 300\n  srv-ttl: 300\n  negative-ttl: 300",
        )
        .start();
    let dnsmasq = Dnsmasq::forwarding_to(&server, &[]);
    let questions = [
        ("svc1.testns.svc.clusterset.local A", "NOERROR", &["10.0.0.1"][..]),
        ("svc1.testns.svc.clusterset.local AAAA", "NOERROR", &[]),
        ("SVC1.testns.svc.ClusterSet.local A", "NOERROR", &["10.0.0.1"]),
        ("svc6.testns.svc.clusterset.local AAAA", "NOERROR", &["1234:abcd::1"]),
        ("dup-name.cluster1.hdls1.testns.svc.clusterset.local A", "NOERROR", &["172.0.0.4", "172.0.0.5"]),
        (
            "_http._tcp.svc1.testns.svc.clusterset.local SRV",
            "NOERROR",
            &["0 100 80 svc1.testns.svc.clusterset.local."],
        ),
        ("svc1.testns.svc.clusterset.local SRV", "NOERROR", &["0 100 80 svc1.testns.svc.clusterset.local."]),
        ("dns-version.clusterset.local TXT", "NOERROR", &["\"1.0.0\""]),
        ("svc0.testns.svc.clusterset.local A", "NXDOMAIN", &[]),
        ("testns.svc.clusterset.local A", "NOERROR", &[]),
    ];
    for (question, status, data) in questions {
        for transport in ["+notcp", "+tcp"] {
            let reply = dnsmasq.dig(&format!("{transport} {question}"));
            assert_eq!(
                (reply.status.as_str(), reply.data()),
                (status, data.iter().map(ToString::to_string).collect()),
                "{question}: {}",
                reply.text
            );
            assert!(reply.question[0].starts_with(question.split(' ').next().unwrap()), "{}", reply.text);
        }
    }
    let before = asked(&server);
    assert!(before >= 8, "{before}");
    for (question, status, _) in questions.into_iter().filter(|(question, ..)| question.ends_with(" A")) {
        assert_eq!(dnsmasq.dig(question).status, status);
    }
    assert_eq!(asked(&server), before, "all of them were cached");
}

/// A stub domain is forwarded, and nothing else: other names never reach us.
#[test]
fn other_names_are_not_forwarded() {
    let server = Setup::sample("conformance").start();
    let dnsmasq = Dnsmasq::forwarding_to(&server, &[]);
    let before = asked(&server);
    for name in ["www.example.com", "local", "xclusterset.local", "svc1.testns.svc.cluster.local"] {
        let reply = dnsmasq.dig(&format!("{name} A"));
        assert_eq!((reply.status.as_str(), reply.answer.len()), ("REFUSED", 0), "{}", reply.text);
    }
    assert_eq!(asked(&server), before);
}

/// RFC 2308 §5: a denial is kept for the SOA's MINIMUM; a service that appears is seen after that.
#[test]
fn denials_are_forgotten_after_the_negative_ttl() {
    let yaml =
        "clusters: [{name: a, manifests: clusters/a}]\nzones: [{origin: clusterset.local, negative-ttl: 1}]";
    let server = Setup::new(yaml).file("clusters/a/db.json", list(headless("db", []))).start();
    let dnsmasq = Dnsmasq::forwarding_to(&server, &[]);
    let reply = dnsmasq.dig("db.shop.svc.clusterset.local A");
    assert_eq!((reply.status.as_str(), reply.ttl()), ("NXDOMAIN", 1), "{}", reply.text);
    server.write("clusters/a/db.json", list(headless("db", ["10.1.0.1".parse().unwrap()])));
    eventually("the service is seen", || {
        dnsmasq.dig("db.shop.svc.clusterset.local A").data() == ["10.1.0.1"]
    });
}

/// kube-dns runs dnsmasq with `--no-negcache`: then each denial is asked for again, and answered.
#[test]
fn without_a_cache_of_denials() {
    let server = Setup::sample("conformance").start();
    let dnsmasq = Dnsmasq::forwarding_to(&server, &["--no-negcache"]);
    for round in 1..=3 {
        let before = asked(&server);
        assert_eq!(dnsmasq.dig("svc0.testns.svc.clusterset.local A").status, "NXDOMAIN");
        assert!(asked(&server) > before, "round {round}");
    }
}

/// RFC 7766 §5, RFC 2181 §9: an answer that doesn't fit is truncated, whole records only, and fetched by TCP.
#[test]
fn large_answers_come_by_tcp() {
    let pods = 200;
    let addresses = (0..pods).map(|pod| IpAddr::from([10, 1, 0, pod]));
    let server = Setup::new("clusters: [{name: a, manifests: clusters/a}]")
        .file("clusters/a/db.json", list(headless("db", addresses)))
        .start();
    let dnsmasq = Dnsmasq::forwarding_to(&server, &[]);
    let question = "db.shop.svc.clusterset.local A";
    let reply = dnsmasq.dig(&format!("+ignore +bufsize=512 {question}"));
    assert!(reply.flag("tc"), "{}", reply.text);
    let reply = dnsmasq.dig(question);
    assert_eq!((reply.answer.len(), reply.flag("tc")), (pods.into(), false), "{}", reply.text);
}
