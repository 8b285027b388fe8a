//! Where clients are decides what they are answered: by the operator's word, by Nodes, and by databases of the world's networks.

use portolan_tests::harness::{Reply, Server, Setup, eventually};

#[path = "../../../dns/tests/mmdb/mod.rs"]
#[allow(dead_code, reason = "this binary uses a part")]
mod mmdb;

use mmdb::{Mmdb, asn, city};

const DB: &str = "db.shop.svc.clusterset.local A";
/// Ready endpoints of `db` by region.
const PARIS: [&str; 2] = ["10.1.0.20", "10.1.1.20"];
const TOKYO: [&str; 2] = ["10.2.0.20", "10.2.1.20"];
const VIRGINIA: [&str; 2] = ["10.3.0.20", "10.3.1.20"];
const ALL: [&str; 6] = ["10.1.0.20", "10.1.1.20", "10.2.0.20", "10.2.1.20", "10.3.0.20", "10.3.1.20"];

/// One of three endpoints in Virginia is not ready: nothing spills for that.
const POLICY: &str = r#"{
    "apiVersion": "portolan.dev/v1alpha1", "kind": "TrafficPolicy",
    "metadata": {"namespace": "shop", "name": "near", "creationTimestamp": "2026-10-01T08:00:00Z"},
    "spec": {
        "targetRefs": [{"kind": "ServiceExport", "name": "db"}],
        "answer": "Endpoints",
        "locality": {"order": ["Region"]},
        "spillThreshold": 50
    }
}"#;

const PLACES: &str = "
view:
  networks:
  - {network: 198.51.100.0/24, region: ap-northeast}
geoip:
  databases: [City.mmdb, ASN.mmdb]
  places:
  - {near: [38.9, -77.5], region: us-east}
  - {near: [48.9, 2.4], region: eu-west}
  - {country: US, region: us-east}
  - {continent: EU, region: eu-west}
  - {asn: 64500, region: ap-northeast}
";

fn cities() -> Vec<u8> {
    let new_york = city("NA", "US", "NY", [40.7, -74.0]);
    Mmdb::new("GeoLite2-City")
        .network("192.0.2.0/24", &city("EU", "FR", "IDF", [48.9, 2.4]))
        .network("203.0.113.0/24", &new_york)
        .network("233.252.0.0/24", &city("SA", "CO", "DC", [4.7, -74.1]))
        .network("198.51.96.0/20", &new_york)
        .network("10.0.0.0/8", &new_york)
        .network("2001:db8::/32", &city("EU", "DE", "BY", [48.1, 11.6]))
        .with_aliases()
        .octets()
}

fn setup(client_subnet: &str) -> Setup {
    let numbers = Mmdb::new("GeoLite2-ASN").network("203.0.113.64/26", &asn(64500)).octets();
    Setup::sample("three-clusters")
        .file("clusters/paris/policy.json", POLICY)
        .file("City.mmdb", cities())
        .file("ASN.mmdb", numbers)
        .with(PLACES)
        .with(client_subnet)
}

fn trusting() -> Server {
    setup("client-subnet: {trusted-forwarders: [127.0.0.0/8]}").start()
}

fn ask(server: &Server, subnet: &str) -> Reply {
    server.dig(&format!("+subnet={subnet} {DB}"))
}

fn check(server: &Server, subnet: &str, expected: &[&str], scope: u8) {
    let reply = ask(server, subnet);
    assert_eq!(reply.data(), expected, "{subnet}: {}", reply.text);
    assert!(reply.option(&format!("CLIENT-SUBNET: {subnet}/{scope}")), "{subnet}/{scope}: {}", reply.text);
}

/// As those who update databases do.
fn put(server: &Server, name: &str, octets: impl AsRef<[u8]>) {
    server.write("new", octets);
    std::fs::rename(server.path("new"), server.path(name)).unwrap();
}

/// RFC 7871 §7.2.1: the answer is for the subnet's clients, and the scope says for which addresses else it is.
#[test]
fn clients_are_answered_what_is_near_them() {
    let server = trusting();
    // By country, continent, and the nearest of what is named.
    check(&server, "203.0.113.0/28", &VIRGINIA, 26);
    check(&server, "192.0.2.0/24", &PARIS, 24);
    check(&server, "192.0.2.77/32", &PARIS, 24);
    check(&server, "2001:db8:1::/48", &PARIS, 32);
    check(&server, "233.252.0.0/24", &VIRGINIA, 24);
    // A part of a network that another database knows better.
    check(&server, "203.0.113.64/26", &TOKYO, 26);
    // Whom nothing knows: all there is.
    check(&server, "100.64.0.0/10", &ALL, 2);
    // A scope of 0 is for all: a subnet of length 0 is of nobody (RFC 7871 §7.1.2), so the forwarder itself asks.
    assert_eq!(ask(&server, "0.0.0.0/0").data(), ALL);
    // What has no policy is the same for all.
    let cart = server.dig("+subnet=192.0.2.0/24 cart.shop.svc.clusterset.local A");
    assert!(cart.option("CLIENT-SUBNET: 192.0.2.0/24/0"), "{}", cart.text);
    let (code, why) = server.get("/explain?name=db.shop.svc.clusterset.local&from=192.0.2.9");
    assert!(code == 200 && why.contains("region eu-west, by a database"), "{why}");
}

/// The operator's networks go before Nodes, and both before databases; the scope is never wider than what all of them say.
#[test]
fn who_is_trusted_more_is_believed() {
    let server = trusting();
    check(&server, "198.51.100.0/24", &TOKYO, 24);
    check(&server, "198.51.101.0/24", &VIRGINIA, 24);
    check(&server, "198.51.104.0/24", &VIRGINIA, 21);
    check(&server, "10.1.0.0/24", &PARIS, 24);
    check(&server, "10.2.1.7/32", &TOKYO, 24);
    check(&server, "10.9.0.0/16", &VIRGINIA, 13);
}

/// RFC 7871 §11.2: who may say for whom they ask is listed. The word of all others means nothing, and is echoed.
#[test]
fn a_forwarder_that_is_not_trusted_is_not_believed() {
    for client_subnet in ["", "client-subnet: {trusted-forwarders: [192.0.2.0/24, '2001:db8::/32']}"] {
        let server = setup(client_subnet).start();
        check(&server, "192.0.2.0/24", &ALL, 0);
        check(&server, "2001:db8::/56", &ALL, 0);
        assert_eq!(server.dig(DB).data(), ALL);
    }
    // The other end counts itself, where something is known of it.
    let server = setup("").replace("198.51.100.0/24", "127.0.0.0/8").start();
    check(&server, "192.0.2.0/24", &TOKYO, 0);
}

/// RFC 7871 §6 and §7.1.2: what is malformed is FORMERR, from whomever it comes.
#[test]
fn malformed_subnets_are_refused() {
    for server in [trusting(), setup("").start()] {
        for (option, what) in [
            ("00", "shorter than its fixed part"),
            ("00010000ff", "octets that the prefix doesn't have"),
            ("00011800c000", "fewer octets than the prefix has"),
            ("00011800c0000200", "more octets than the prefix has"),
            ("00011700c00003", "bits behind the prefix"),
            ("00012100c000020100", "a prefix longer than an IPv4 address"),
            ("00028100", "a prefix longer than an IPv6 address"),
            ("00011818c00002", "a scope in a query"),
            ("00091800c00002", "a family that does not exist"),
        ] {
            let reply = server.dig(&format!("+ednsopt=8:{option} {DB}"));
            assert_eq!((&*reply.status, reply.answer.len()), ("FORMERR", 0), "{what}: {}", reply.text);
        }
        assert_eq!(server.dig(&format!("+ednsopt=8:00011800c00002 {DB}")).status, "NOERROR");
    }
}

/// Databases that are replaced are taken up; one that is damaged is told, and changes nothing. Nor does a configuration that
/// names one.
#[test]
fn databases_and_places_change_while_they_are_used() {
    let mut server = trusting();
    let metric = |server: &Server, name: &str| {
        server.metric(&format!("portolan_geoip_database_{name}"), &["City.mmdb"])
    };
    check(&server, "192.0.2.0/24", &PARIS, 24);
    assert_eq!((metric(&server, "loaded"), metric(&server, "failed")), (Some(1.0), Some(0.0)));
    let whole = cities();
    put(&server, "City.mmdb", &whole[..whole.len() - 10]);
    eventually("the damage is told", || metric(&server, "failed") == Some(1.0));
    check(&server, "192.0.2.0/24", &PARIS, 24);
    assert!(server.log().contains("the one read before stays in use"), "{}", server.log());
    let yaml = server.yaml();
    server.reconfigure(&yaml.replace("country: US, region: us-east", "country: US, region: eu-west"));
    eventually("the configuration is refused", || {
        server.metric("portolan_config_reload_total", &["result=\"failure\""]) >= Some(1.0)
    });
    check(&server, "203.0.113.0/28", &VIRGINIA, 26);

    let moved = Mmdb::new("GeoLite2-City").network("192.0.2.0/25", &city("NA", "US", "NY", [40.7, -74.0]));
    put(&server, "City.mmdb", moved.octets());
    eventually("the new one is in use", || ask(&server, "192.0.2.0/25").data() == VIRGINIA);
    server.signal("HUP");
    eventually("and so are the new places", || ask(&server, "192.0.2.0/25").data() == PARIS);
    check(&server, "192.0.2.0/25", &PARIS, 25);
    check(&server, "192.0.2.128/25", &ALL, 25);
    assert_eq!(metric(&server, "failed"), Some(0.0));

    server.reconfigure(&yaml.replace("198.51.100.0/24", "192.0.2.0/24"));
    eventually("networks change, too", || ask(&server, "192.0.2.0/25").data() == TOKYO);
}

/// A server starts without a database, and takes it up when it comes; `check` says that it is missing.
#[test]
fn a_missing_database_is_waited_for() {
    let setup = setup("client-subnet: {trusted-forwarders: [127.0.0.0/8]}");
    std::fs::remove_file(setup.path("City.mmdb")).unwrap();
    let (good, text) = setup.run("check", &[]);
    let expected =
        format!("geoip.databases[0]: database `{}` cannot be read", setup.path("City.mmdb").display());
    assert!(!good && text.contains(&expected), "{text}");
    let server = setup.start();
    check(&server, "192.0.2.0/24", &ALL, 9);
    check(&server, "203.0.113.64/26", &TOKYO, 26);
    put(&server, "City.mmdb", cities());
    eventually("it is in use", || ask(&server, "192.0.2.0/24").data() == PARIS);
}

/// `portolan lookup` shows what a client would get.
#[test]
fn lookup_answers_as_the_server_does() {
    let setup = setup("");
    for (from, expected, other) in
        [("192.0.2.9", PARIS, TOKYO), ("203.0.113.1", VIRGINIA, PARIS), ("198.51.100.1", TOKYO, PARIS)]
    {
        let (good, text) = setup.run("lookup", &["db.shop.svc.clusterset.local", "A", "--from", from]);
        assert!(good && expected.iter().all(|address| text.contains(address)), "{from}: {text}");
        assert!(!other.iter().any(|address| text.contains(address)), "{from}: {text}");
    }
}

/// A service of a cluster with a gateway for those outside, and an endpoint that nobody outside gets to.
fn behind_gateway(gateway: &str, pod: &str) -> String {
    let metadata = |more: &str| {
        format!(
            r#"{{"namespace": "shop", "name": "web", "creationTimestamp": "2026-10-01T08:00:00Z"{more}}}"#
        )
    };
    let annotation = format!(r#", "annotations": {{"portolan.dev/gateway": "{gateway}"}}"#);
    let label = r#", "labels": {"kubernetes.io/service-name": "web"}"#;
    let ports = r#"[{"name": "http", "port": 80, "protocol": "TCP"}]"#;
    format!(
        r#"{{"apiVersion": "v1", "kind": "List", "items": [
            {{"apiVersion": "v1", "kind": "Service", "metadata": {service},
              "spec": {{"type": "ClusterIP", "clusterIP": "10.96.7.7", "ports": {ports}}}}},
            {{"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": {export}}},
            {{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {slice},
              "addressType": "IPv4", "ports": {ports}, "endpoints": [{{"addresses": ["{pod}"]}}]}}
        ]}}"#,
        service = metadata(""),
        export = metadata(&annotation),
        slice = metadata(label),
    )
}

/// One process answers pods a virtual IP in clusterset.local, and clients on the internet the gateway that is closest by their
/// resolver's EDNS Client Subnet in a zone of its own. Where nothing is near, or a gateway's cluster has nothing that is ready,
/// others stand in.
#[test]
fn the_internet_is_sent_to_the_nearest_gateway() {
    const WEB: &str = "web.shop.svc.global.example.com";
    let policy = "policies:\n- zone: global.example.com\n  spec: {answer: Gateways, locality: {order: [Region]}, ttlSeconds: 30}\n";
    let server = setup("client-subnet: {trusted-forwarders: [127.0.0.0/8]}")
        .file("clusters/paris/web.json", behind_gateway("198.18.1.1", "10.1.0.90"))
        .file("clusters/tokyo/web.json", behind_gateway("198.18.2.1", "10.2.0.90"))
        .file("clusters/virginia/web.json", behind_gateway("198.18.3.1", "10.3.0.90"))
        .with(policy)
        .replace("zones:", "zones:\n- {origin: global.example.com}")
        .start();
    let ask = |question: &str| server.dig(question);
    let near = |subnet: &str| ask(&format!("+subnet={subnet} {WEB} A"));
    let nearest =
        [("192.0.2.0/24", "198.18.1.1"), ("203.0.113.0/26", "198.18.3.1"), ("203.0.113.64/26", "198.18.2.1")];
    for (subnet, gateway) in nearest {
        let reply = near(subnet);
        assert_eq!((reply.data(), reply.ttl()), (vec![gateway.to_owned()], 30), "{subnet}: {}", reply.text);
    }
    assert_eq!(near("100.64.0.0/10").data().len(), 3, "nobody knows where");
    let srv = ask(&format!("+subnet=192.0.2.0/24 _http._tcp.{WEB} SRV")).data();
    assert_eq!(srv, [format!("0 100 80 198-18-1-1.paris.{WEB}.")]);
    let inside = ask("+subnet=192.0.2.0/24 web.shop.svc.clusterset.local A").data();
    assert!(inside.len() == 1 && inside[0].starts_with("241."), "{inside:?}");

    let empty = behind_gateway("198.18.1.1", "10.1.0.90").replace(r#"[{"addresses": ["10.1.0.90"]}]"#, "[]");
    server.write("clusters/paris/web.json", empty);
    eventually("the others stand in", || {
        near("192.0.2.0/24").data() == ["198.18.2.1", "198.18.3.1"].map(str::to_owned)
    });
}
