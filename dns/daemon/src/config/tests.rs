//! What a file means, and what is said of a wrong one.

use std::sync::Arc;

use portolan_dns::geo::{Clue, Code, Position, Rule};
use portolan_sync::kubernetes::{Access, Origin, Pinned};
use portolan_zones::ServiceName;
use portolan_zones::peers::{Scope, State};
use portolan_zones::places::Place;
use portolan_zones::policy::Rules;

use super::*;

const FILE: &str = "/etc/portolan/portolan.yaml";

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    Config::parse(text, Path::new(FILE), None)
}

/// `line: field: message` of each problem of `text` under `version: v1`, which is line 1.
fn problems(text: &str) -> Vec<String> {
    let problems = parse(&format!("version: v1\n{text}")).expect_err(text);
    problems.into_iter().map(|p| format!("{}: {}: {}", p.line, p.field, p.message)).collect()
}

fn own(access: Access, network: &str, id: Option<ClusterId>) -> OwnConfig {
    OwnConfig {
        access,
        id,
        network: network.into(),
        labels: Box::default(),
        namespace: "portolan-system".into(),
    }
}

/// What a reader of `check --print-defaults` sees is what holds.
#[test]
fn the_printed_defaults_are_the_defaults() {
    let mut expected = Config::default();
    expected.vips.state_file = Some("/etc/portolan/vips.json".into());
    assert_eq!(parse(DEFAULTS), Ok(expected.clone()));
    assert_eq!(parse("version: v1"), Ok(expected));
}

#[test]
fn every_known_key_is_in_the_printed_defaults() {
    let everything = "version: v1\nclusters: [{manifests: a}]\nkubernetes: {}\nzones: [{origin: a.example}]\n\
        view: {networks: [{network: 10.0.0.0/8, region: a}]}\npolicies: [{spec: {}}]\n\
        states: [{cluster: a, state: up}]\n\
        geoip: {databases: [a], places: [{asn: 1, region: a}]}";
    let (config, known) = spec::parse(everything, Path::new(FILE), None);
    assert!(config.is_ok(), "{config:?}");
    assert!(known.len() > 50, "{known:?}");
    for field in &known {
        let key = field.rsplit('.').next().unwrap();
        let written = |line: &str| line.trim_start_matches([' ', '#', '-']).starts_with(&format!("{key}:"));
        assert!(DEFAULTS.lines().any(written), "{field} is not in defaults.yaml");
    }
}

/// One row per section: what is written and what it changes.
#[test]
fn every_section_takes_effect() {
    type Change = fn(&mut Config);
    let rows: &[(&str, Change)] = &[
        ("clusters: [{name: fra1, manifests: a}, {manifests: /b}]", |c| {
            c.clusters = vec![
                ClusterSource {
                    name: Some(ClusterId::new("fra1").unwrap()),
                    path: "/etc/portolan/a".into(),
                    labels: Box::default(),
                },
                ClusterSource { name: None, path: "/b".into(), labels: Box::default() },
            ];
        }),
        (
            "clusters: [{manifests: a}, {kubeconfig: b.yaml}, {name: fra1, kubeconfig: /c, context: admin, network: n, \
             namespaces: [shop, db], allow-exec: true, stale-after: 5s, withdraw-after: ''}]",
            |c| {
                c.clusters = vec![ClusterSource {
                    name: None,
                    path: "/etc/portolan/a".into(),
                    labels: Box::default(),
                }];
                let path = "/etc/portolan/b.yaml".into();
                let plain = PeerConfig {
                    name: "b".into(),
                    origin: Origin::Kubeconfig,
                    access: Access::File { path, context: None, allow_exec: false },
                    id: None,
                    pinned: Pinned::default(),
                    network: "".into(),
                    labels: Box::default(),
                    namespaces: None,
                    stale_after: Duration::from_secs(30),
                    withdraw_after: Some(Duration::from_secs(7 * 86_400)),
                };
                let context = Some("admin".to_owned());
                let full = PeerConfig {
                    name: "fra1".into(),
                    access: Access::File { path: "/c".into(), context, allow_exec: true },
                    id: Some(ClusterId::new("fra1").unwrap()),
                    network: "n".into(),
                    labels: Box::default(),
                    namespaces: Some(["shop", "db"].map(str::to_owned).into()),
                    stale_after: Duration::from_secs(5),
                    withdraw_after: None,
                    ..plain.clone()
                };
                c.peers = vec![plain, full];
            },
        ),
        ("clusters: [{kubeconfig: b, context: east}]\nkubernetes: {}\nhome: fra1", |c| {
            c.home = Some(ClusterId::new("fra1").unwrap());
            c.own = Some(own(Access::InCluster, "", c.home.clone()));
            let config = parse("version: v1\nclusters: [{kubeconfig: b, name: east}]").unwrap();
            let access = Access::File {
                path: "/etc/portolan/b".into(),
                context: Some("east".into()),
                allow_exec: false,
            };
            c.peers = config
                .peers
                .into_iter()
                .map(|p| PeerConfig { id: None, access: access.clone(), ..p })
                .collect();
        }),
        ("kubernetes: {kubeconfig: k, context: fra1, network: n, namespace: dns}", |c| {
            let path = "/etc/portolan/k".into();
            let access = Access::File { path, context: Some("fra1".into()), allow_exec: true };
            c.own = Some(OwnConfig { namespace: "dns".into(), ..own(access, "n", None) });
        }),
        (
            "controller: {vips: Pool, cluster-peers: false, cluster-profiles: fleet, lease: {duration: 5s, renew: 3s, retry: 1s}}",
            |c| {
                let lease = [5, 3, 1].map(Duration::from_secs);
                c.controller.vips = Vips::Pool;
                (c.controller.cluster_peers, c.controller.cluster_profiles) = (false, Some("fleet".into()));
                let times = &mut c.controller.lease;
                [times.duration, times.renew, times.retry] = lease;
            },
        ),
        ("home: fra1.eu", |c| c.home = Some(ClusterId::new("fra1.eu").unwrap())),
        (
            "zones: [{origin: Global.Example.com., ttl: 30, name-server: {name: ns1, addresses: [192.0.2.1]}}]",
            |c| {
                let mut zone = ZoneConfig::new(Name::parse("global.example.com").unwrap());
                (zone.ttl, zone.name_server) = (30, "ns1".into());
                zone.name_server_addresses = vec!["192.0.2.1".parse().unwrap()];
                c.zones = vec![zone];
            },
        ),
        ("reverse-zones: [241.0.0.0/8, 0.0.d.f.ip6.arpa]", |c| {
            let name = |text| Name::parse(text).unwrap();
            c.reverse_zones = vec![name("241.in-addr.arpa"), name("0.0.d.f.ip6.arpa")];
        }),
        ("zonal-names: true", |c| c.zonal_names = true),
        ("max-endpoints: 16", |c| c.max_endpoints = 16),
        ("vips: {pool: {ipv4: 241.1.0.0/16, ipv6: ''}, state-file: /var/lib/vips, quarantine: 2h}", |c| {
            c.vips.ranges.ipv4 = Some("241.1.0.0/16".parse().unwrap());
            (c.vips.ranges.ipv6, c.vips.state_file) = (None, Some("/var/lib/vips".into()));
            c.vips.quarantine = Duration::from_secs(7200);
        }),
        (
            "listen: {udp: 127.0.0.1:5353, tcp: [], tls: ['[::1]:853']}\ntls: {certificate: c.pem, key: k.pem}",
            |c| {
                let tls = vec!["[::1]:853".parse().unwrap()];
                let udp = vec!["127.0.0.1:5353".parse().unwrap()];
                c.listen = Listen { udp, tcp: vec![], tls, https: vec![], quic: vec![] };
                c.tls = Some(Tls {
                    certificate: "/etc/portolan/c.pem".into(),
                    key: "/etc/portolan/k.pem".into(),
                });
            },
        ),
        (
            "policies: [{zone: clusterset.local, service: shop/cart, spec: {sticky: true}}, \
             {namespace: shop, spec: {weights: [{cluster: no, weight: 3}]}}, {spec: {ttlSeconds: 7}}]",
            |c| {
                let clusterset = Name::parse("clusterset.local").unwrap();
                let cart = ServiceName::new("shop", "cart").unwrap();
                let weights = [(ClusterId::new("no").unwrap(), 3)].into();
                let rules = |rules: Rules| Arc::new(rules);
                c.policies = vec![
                    Configured {
                        zone: Some(clusterset),
                        of: Scope::Service(cart),
                        rules: rules(Rules { sticky: true, ..Rules::default() }),
                    },
                    Configured {
                        zone: None,
                        of: Scope::Namespace("shop".into()),
                        rules: rules(Rules { weights, ..Rules::default() }),
                    },
                    Configured {
                        zone: None,
                        of: Scope::All,
                        rules: rules(Rules { ttl: Some(7), ..Rules::default() }),
                    },
                ];
            },
        ),
        (
            "states: [{cluster: a, state: down}, {cluster: b, service: shop/cart, state: up}, \
             {cluster: a, namespace: shop, state: drain}]",
            |c| {
                let cart = ServiceName::new("shop", "cart").unwrap();
                let id = |id| ClusterId::new(id).unwrap();
                c.states = vec![
                    Forced { cluster: id("a"), of: Scope::All, state: State::Down },
                    Forced { cluster: id("b"), of: Scope::Service(cart), state: State::Up },
                    Forced { cluster: id("a"), of: Scope::Namespace("shop".into()), state: State::Drain },
                ];
            },
        ),
        (
            "clusters: [{manifests: a, labels: {tier: 1, x.example/y: ''}}, {kubeconfig: b, labels: {b: no}}]\n\
             kubernetes: {labels: {own: yes}}",
            |c| {
                let without = "version: v1\nclusters: [{manifests: a}, {kubeconfig: b}]\nkubernetes: {}";
                *c = parse(without).unwrap();
                let labels =
                    |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
                c.own.as_mut().unwrap().labels = labels(&[("own", "yes")]);
                c.clusters[0].labels = labels(&[("tier", "1"), ("x.example/y", "")]);
                c.peers[0].labels = labels(&[("b", "no")]);
            },
        ),
        ("probes: {per-second: 50, in-flight: 8}", |c| {
            c.probes.per_second = std::num::NonZeroU32::new(50).unwrap();
            c.probes.in_flight = std::num::NonZeroUsize::new(8).unwrap();
        }),
        ("https: {path: /q}", |c| c.https_path = "/q".into()),
        ("tcp: {idle-timeout: 500ms, max-connections: 5}", |c| {
            (c.answers.tcp.idle_timeout, c.answers.tcp.max_connections) = (Duration::from_millis(500), 5);
        }),
        ("edns: {max-udp-payload: 4096}", |c| c.answers.edns.max_udp_payload = 4096),
        ("client-subnet: {enabled: false}", |c| c.answers.edns.client_subnet = false),
        (
            "view: {networks: [{network: 10.8.0.0/16, region: eu, zone: eu-a, cluster: paris}, {network: fd00::/8, zone: b}]}",
            |c| {
                let eu = Place {
                    cluster: ClusterId::new("paris").ok(),
                    region: Some("eu".into()),
                    az: Some("eu-a".into()),
                    node: None,
                };
                let b = Place { az: Some("b".into()), ..Place::default() };
                c.networks = vec![
                    Mapping { network: Some(("10.8.0.0".parse().unwrap(), 16)), place: eu },
                    Mapping { network: Some(("fd00::".parse().unwrap(), 8)), place: b },
                ];
            },
        ),
        (
            "geoip: {databases: [City.mmdb, /asn.mmdb], places: [{country: de, region: a}, {asn: 64500, region: a}, \
             {country: DE, subdivision: by, region: a}, {continent: EU, region: a}, {near: [40.7, -74], region: a}]}",
            |c| {
                c.geo.databases = ["/etc/portolan/City.mmdb", "/asn.mmdb"].map(PathBuf::from).into();
                let code = |text| Code::new(text).unwrap();
                let clues = [
                    Clue::Country(code("DE")),
                    Clue::Asn(64500),
                    Clue::Subdivision(code("DE"), code("BY")),
                    Clue::Continent(code("EU")),
                    Clue::Near(Position::new(40.7, -74.0).unwrap()),
                ];
                let place = Place { region: Some("a".into()), ..Place::default() };
                c.geo.rules = clues.map(|clue| Rule { clue, place: place.clone() }).into();
            },
        ),
        ("identity: {nsid: fra1}", |c| c.answers.identity.nsid = Some("fra1".into())),
        ("cookies: {enabled: false, secrets: [00000000000000000000000000000001]}", |c| {
            let secret = Secret(1_u128.to_be_bytes());
            c.cookies = Cookies { enabled: false, secrets: vec![secret], secret_file: None };
        }),
        ("rate-limit: {slip: 0, exempt: [192.0.2.1], log-only: true}", |c| {
            (c.answers.rate_limit.slip, c.answers.rate_limit.log_only) = (0, true);
            c.answers.rate_limit.exempt = vec!["192.0.2.1/32".parse().unwrap()];
        }),
        ("rate-limit: {enabled: false}", |c| c.answers.rate_limit.per_second = None),
        ("access: {query: {deny: [192.0.2.0/24]}, transfer: {allow: 192.0.2.1}}", |c| {
            c.answers.access.query.deny = vec!["192.0.2.0/24".parse().unwrap()];
            c.answers.access.transfer.allow = vec!["192.0.2.1/32".parse().unwrap()];
        }),
        ("admin: {listen: ''}", |c| c.admin = None),
        ("shutdown: {lameduck: 0s}", |c| c.lameduck = Duration::ZERO),
        ("log: {format: json, level: 'warn,portolan_dns=trace'}", |c| {
            c.log = Log { format: LogFormat::Json, level: "warn,portolan_dns=trace".into() };
        }),
    ];
    for (text, change) in rows {
        let mut expected = parse("version: v1").unwrap();
        let before = expected.clone();
        change(&mut expected);
        assert_ne!(expected, before, "the row changes nothing: {text}");
        assert_eq!(parse(&format!("version: v1\n{text}")), Ok(expected), "{text}");
    }
}

#[test]
fn wrong_values_are_named_with_line_and_field() {
    for (text, expected) in [
        ("listn: {}", "2: listn: unknown key `listn`, did you mean `listen`?"),
        (
            "tcp: {idle-timout: 5s}",
            "2: tcp.idle-timout: unknown key `idle-timout`, did you mean `idle-timeout`?",
        ),
        ("https: {zzzz: 1}", "2: https.zzzz: unknown key `zzzz`, known here: path"),
        ("home: a\nhome: b", "3: home: `home` is written twice, first on line 2: remove one"),
        (
            "clusters:\n  - name: a",
            "3: clusters[0].manifests: neither `manifests` nor `kubeconfig` is given: one is needed",
        ),
        (
            "clusters: [{manifests: a, kubeconfig: b}]",
            "2: clusters[0].kubeconfig: `manifests` is given, too: remove one of them",
        ),
        (
            "clusters:\n  - manifests: a\n    network: b",
            "4: clusters[0].network: `network` is for clusters with a `kubeconfig`: remove it",
        ),
        (
            "clusters:\n  - {kubeconfig: a, context: x}\n  - {kubeconfig: b, context: x}",
            "4: clusters[1]: `x` is listed twice: remove one",
        ),
        (
            "clusters: [{kubeconfig: a, namespaces: []}]",
            "2: clusters[0].namespaces: no export would count: leave `namespaces` out to accept all",
        ),
        (
            "clusters: [{kubeconfig: a, namespaces: [a.b]}]",
            "2: clusters[0].namespaces[0]: `a.b` is no namespace: `a.b` is no DNS label: lower-case letters, digits \
             and `-` only, starting and ending with a letter or digit (RFC 1123)",
        ),
        (
            "clusters: [{kubeconfig: a, stale-after: 1m, withdraw-after: 30s}]",
            "2: clusters[0].withdraw-after: must not be shorter than `stale-after`",
        ),
        (
            "clusters: [{kubeconfig: a, stale-after: 0s}]",
            "2: clusters[0].stale-after: must be at least 1s: the cluster is asked every few seconds",
        ),
        (
            "kubernetes: {context: a}",
            "2: kubernetes.context: a context is one of a `kubeconfig`, and none is given",
        ),
        ("controller: {vips: pool}", "2: controller.vips: `pool` is not `Service` or `Pool`"),
        (
            "controller: {lease: {duration: 10s}}",
            "2: controller.lease.duration: must be longer than `renew`, or two could lead at once",
        ),
        (
            "controller: {lease: {retry: 9s}}",
            "2: controller.lease.renew: must be longer than twice `retry`, which must not be 0",
        ),
        (
            "clusters:\n  - {name: a, manifests: x}\n  - {name: a, manifests: y}",
            "4: clusters[1]: `a` is listed twice: remove one",
        ),
        ("clusters: fra1", "2: clusters: expected a list: lines that begin with `-`"),
        ("zones: []", "2: zones: there must be a zone: leave `zones` out for clusterset.local"),
        ("zones: [{origin: .}]", "2: zones[0].origin: the root can't be served"),
        (
            "zones: [{origin: a, ttl: 3000000000}]",
            "2: zones[0].ttl: 3000000000 seconds are more than 2147483647 (RFC 2181 §8)",
        ),
        (
            "reverse-zones:\n- 10.0.0.0/12",
            "3: reverse-zones[0]: `10.0.0.0/12` is not on an octet boundary: use /8, /16, /24 or /32",
        ),
        ("max-endpoints: 0", "2: max-endpoints: must be at least 1"),
        ("max-endpoints: many", "2: max-endpoints: `many` is not a whole number"),
        ("max-endpoints: [1]", "2: max-endpoints: expected a whole number, not a list"),
        (
            "vips: {pool: {ipv4: 242.1.0.0/16}}",
            "2: vips.pool: pool 242.1.0.0/16 overlaps 242.0.0.0/8 (Submariner Globalnet): choose another range",
        ),
        (
            "vips: {pool: {ipv4: fd00::/64}}",
            "2: vips.pool.ipv4: `fd00::/64` is not an IPv4 network such as `241.0.0.0/8`",
        ),
        (
            "listen:\n  udp:\n    - 127.0.0.1",
            "4: listen.udp[0]: `127.0.0.1` is not an address with a port, such as `0.0.0.0:53` or `[::]:53`",
        ),
        (
            "listen: {https: '[::1]:443'}",
            "1: tls: listen.tls, listen.https and listen.quic need `certificate` and `key` here",
        ),
        ("tls: {certificate: a}", "2: tls.key: `certificate` is given and `key` is not: both are needed"),
        ("tcp: 5s", "2: tcp: expected a section of `key: value` lines"),
        ("tcp: {idle-timeout: 10}", "2: tcp.idle-timeout: `10` has no unit: write 10s for seconds"),
        ("edns: {max-udp-payload: 100}", "2: edns.max-udp-payload: must be from 512 to 4096 octets"),
        (
            "cookies:\n  secrets:\n  - 0xsecret",
            "4: cookies.secrets[0]: what is written here is not 32 hexadecimal digits",
        ),
        ("rate-limit: {ipv4-prefix: 33}", "2: rate-limit.ipv4-prefix: is a prefix length: at most 32"),
        (
            "access: {query: {allow: [10.0.0.1/8]}}",
            "2: access.query.allow[0]: `10.0.0.1/8` has bits behind its prefix: write 10.0.0.0/8",
        ),
        (
            "view: {networks: [{region: a}]}",
            "2: view.networks[0].network: `network` is missing: it has no default",
        ),
        (
            "view: {networks: [{network: 10.0.0.0/8}]}",
            "2: view.networks[0].region: none of `region`, `zone` and `cluster` is given: where is it?",
        ),
        (
            "view:\n  networks:\n  - {network: 10.0.0.0/8, zone: a}\n  - {network: 10.0.0.0/8, zone: b}",
            "5: view.networks[1]: `10.0.0.0/8` is listed twice: remove one",
        ),
        (
            "view: {networks: [{network: 10.0.0.0/8, regon: a, zone: b}]}",
            "2: view.networks[0].regon: unknown key `regon`, did you mean `region`?",
        ),
        (
            "geoip: {places: [{country: DE, region: a}]}",
            "2: geoip.databases: `places` need a database that finds clients: name one here",
        ),
        (
            "geoip: {databases: a.mmdb}",
            "2: geoip.places: `databases` tell nothing without `places`: say here what countries mean",
        ),
        (
            "geoip: {databases: [a, a], places: [{asn: 1, region: a}]}",
            "2: geoip.databases[1]: `a` is listed twice: remove one",
        ),
        (
            "geoip:\n  databases: a\n  places:\n  - {country: Germany, region: a}",
            "5: geoip.places[0].country: `Germany` is not a country's two letters (ISO 3166-1), such as `DE`",
        ),
        (
            "geoip: {databases: a, places: [{continent: XX, region: a}]}",
            "2: geoip.places[0].continent: `XX` is not one of `AF`, `AN`, `AS`, `EU`, `NA`, `OC` and `SA`",
        ),
        (
            "geoip: {databases: a, places: [{country: DE, subdivision: DE-BY, region: a}]}",
            "2: geoip.places[0].subdivision: `DE-BY` is not what is behind the dash of a subdivision's code (ISO 3166-2), \
             such as `BY` of DE-BY",
        ),
        (
            "geoip: {databases: a, places: [{asn: 1, subdivision: BY, region: a}]}",
            "2: geoip.places[0].subdivision: is one of a `country`, and none is given",
        ),
        (
            "geoip: {databases: a, places: [{region: a}]}",
            "2: geoip.places[0].country: none of `asn`, `country`, `continent` and `near` is given: one is needed",
        ),
        (
            "geoip: {databases: a, places: [{asn: 1, near: [0, 0], region: a}]}",
            "2: geoip.places[0].near: `asn` is given, too: remove one, or make two items of it",
        ),
        (
            "geoip: {databases: a, places: [{near: [91, 0], region: a}]}",
            "2: geoip.places[0].near: expected latitude (-90 to 90) and longitude (-180 to 180) in degrees, such as \
             `[40.7, -74.0]`",
        ),
        (
            "geoip: {databases: a, places: [{near: [north, 0], region: a}]}",
            "2: geoip.places[0].near[0]: `north` is not a number",
        ),
        (
            "geoip:\n  databases: a\n  places:\n  - {asn: 1, region: a}\n  - {asn: 1, region: b}",
            "6: geoip.places[1]: is about the same clients as geoip.places[0]: remove one",
        ),
        (
            "geoip: {databases: a, places: [{asn: 1, cluster: A_b}]}",
            "2: geoip.places[0].cluster: `A_b` is no cluster id: `A_b` is no DNS label: lower-case letters, digits and `-` \
             only, starting and ending with a letter or digit (RFC 1123)",
        ),
        (
            "policies: [{service: cart, spec: {}}]",
            "2: policies[0].service: `cart` is not a service's namespace and name, such as `shop/cart`",
        ),
        (
            "policies: [{service: a/b, namespace: a, spec: {}}]",
            "2: policies[0].namespace: `service` is given, too: remove one of them",
        ),
        ("policies: [{namespace: a}]", "2: policies[0].spec: `spec` is missing: it says what the policy is"),
        (
            "policies: [{zone: example.com, spec: {}}]",
            "2: policies[0].zone: `example.com.` is not the origin of one of `zones`",
        ),
        (
            "policies:\n- spec:\n    weights:\n    - {cluster: a, weight: 1}\n    - {cluster: b, weight: -1}",
            "6: policies[0].spec.weights[1].weight: -1 is not a number from 0 to 1000000",
        ),
        (
            "policies:\n- spec:\n    failover: [a, b, a]",
            "4: policies[0].spec.failover[2]: `a` is listed twice",
        ),
        (
            "policies:\n- spec:\n    answer: VIP\n    localty: {}",
            "5: policies[0].spec.localty: unknown key `localty`, did you mean `locality`?",
        ),
        (
            "policies:\n- spec:\n    healthCheck:\n      type: HTTP\n      interval: 0s",
            "6: policies[0].spec.healthCheck.interval: `0s` is not a time such as 10s or 1m, from a second to a day",
        ),
        (
            "policies:\n- spec:\n    sticky: true\n    scope: ClusterSet",
            "5: policies[0].spec.scope: is for TrafficPolicy objects: say `service` or `namespace` beside `spec`, or \
             neither for all",
        ),
        (
            "zones: [{origin: a.example}]\npolicies: [{zone: a.example, spec: {slowStart: 9s}}, {spec: {slowStart: 9s}}]",
            "3: policies[0].spec.slowStart: endpoints are judged alike in all zones: say it in a policy without `zone`",
        ),
        (
            "policies: [{spec: {targetRefs: [{kind: ServiceExport, name: a}]}}]",
            "2: policies[0].spec.targetRefs: is for TrafficPolicy objects: say `service` or `namespace` beside `spec`, \
             or neither for all",
        ),
        (
            "policies:\n- {namespace: a, spec: {}}\n- {service: a/b, spec: {}}\n- {namespace: a, spec: {}}",
            "5: policies[2]: is about the same as policies[0]: remove one",
        ),
        ("states: [{state: up}]", "2: states[0].cluster: `cluster` is missing: it has no default"),
        (
            "states:\n- {cluster: a,\n   state: off}",
            "4: states[0].state: `off` is not `up`, `drain` or `down`",
        ),
        (
            "clusters: [{manifests: a, labels: [b]}]",
            "2: clusters[0].labels: expected a section of `key: value` lines",
        ),
        (
            "clusters: [{manifests: a, labels: {b: c d}}]",
            "2: clusters[0].labels.b: `c d` is no label's value: at most 63 letters, digits, `-`, `_` and `.`, of which \
             a letter or digit comes first and last",
        ),
        ("kubernetes: {labels: {a/: b}}", "2: kubernetes.labels.a/: `a/` is no label's key"),
        (
            "kubernetes:\n  labels:\n    example.com/tier: a\n    example.com/-: b",
            "5: kubernetes.labels.example.com/-: `example.com/-` is no label's key",
        ),
        (
            "clusters:\n- manifests: a\n  labels:\n    example: a\n    example.com/tier: c d",
            "6: clusters[0].labels.example.com/tier: `c d` is no label's value: at most 63 letters, digits, `-`, `_` and \
             `.`, of which a letter or digit comes first and last",
        ),
        ("log: {format: xml}", "2: log.format: `xml` is not `human` or `json`"),
        ("https: {path: q}", "2: https.path: `q` must start with `/`"),
    ] {
        assert_eq!(problems(text), [expected], "{text}");
    }
    assert!(problems("log: {level: inof}")[0].starts_with("2: log.level: `inof` is not error, warn"));
    assert!(problems("cookies: {secret-file: none}")[0].contains("/etc/portolan/none cannot be read"));
}

/// What is answered in a zone with policies of its own is compiled for it alone.
#[test]
fn a_few_zones_have_policies_of_their_own() {
    let text = |zones: usize| {
        let origins: String = (0..10).map(|at| format!("- origin: z{at}\n")).collect();
        let policy =
            |at| format!("- {{zone: z{at}, spec: {{}}}}\n- {{zone: z{at}, namespace: a, spec: {{}}}}\n");
        format!("zones:\n{origins}policies:\n{}", (0..zones).map(policy).collect::<String>())
    };
    assert_eq!(parse(&format!("version: v1\n{}", text(8))).map(|config| config.policies.len()), Ok(16));
    let one_more = "policies[16]: at most 8 zones have policies of their own, and this is one more";
    assert_eq!(problems(&text(9)), [format!("30: {one_more}")]);
    assert_eq!(problems(&text(10)), [format!("30: {one_more}")]);
}

#[test]
fn every_problem_is_told_at_once_in_the_order_of_lines() {
    let text = "log:\n  level: loud\nlisten:\n  udp: [nowhere]\n  tcp: ['[::]:53', '[::]:53']\nzones:\n  - orign: a\ntpc: {}\n";
    let fields: Vec<_> = parse(text).unwrap_err().into_iter().map(|p| (p.line, p.field)).collect();
    let expected = [
        (1, "version"),
        (2, "log.level"),
        (4, "listen.udp[0]"),
        (5, "listen.tcp[1]"),
        (7, "zones[0].origin"),
        (7, "zones[0].orign"),
        (8, "tpc"),
    ];
    assert_eq!(fields, expected.map(|(line, field)| (line, field.to_owned())));
}

#[test]
fn problems_print_as_compilers_print_them() {
    let problem = parse("version: v2").unwrap_err().remove(0);
    assert_eq!(
        problem.to_string(),
        "/etc/portolan/portolan.yaml:1: version: this release reads `version: v1`"
    );
    let missing = Config::load(Path::new("/nonexistent/portolan.yaml"), None).unwrap_err().remove(0);
    assert!(missing.to_string().starts_with("/nonexistent/portolan.yaml: cannot be read: "), "{missing}");
    assert_eq!(parse("version: [").unwrap_err().len(), 1);
}

#[test]
fn glue_is_what_is_listened_on_but_no_wildcard() {
    let glue = |text: &str| {
        parse(&format!("version: v1\n{text}")).unwrap().all_zones().remove(0).name_server_addresses
    };
    assert_eq!(glue(""), Vec::<IpAddr>::new());
    let listen = "listen: {udp: ['192.0.2.1:53', '0.0.0.0:53'], tcp: ['192.0.2.1:53']}";
    assert_eq!(glue(listen), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    let written = format!("{listen}\nzones: [{{origin: a, name-server: {{addresses: [192.0.2.9]}}}}]");
    assert_eq!(glue(&written), ["192.0.2.9".parse::<IpAddr>().unwrap()]);
}

/// A delegation needs glue (RFC 1034 §4.2.1); zones that nobody delegates are served without it.
#[test]
fn a_name_server_without_address_is_a_warning() {
    let warnings = |text: &str| parse(&format!("version: v1\n{text}")).unwrap().warnings();
    assert_eq!(
        warnings("reverse-zones: [241.0.0.0/8]"),
        [
            "zone clusterset.local.: no address for its name server ns.dns: zone checkers and delegations need one: \
             set zones[].name-server.addresses"
        ]
    );
    assert_eq!(warnings("listen: {udp: ['192.0.2.1:53']}"), Vec::<String>::new());
    let one = "zones: [{origin: a, name-server: {addresses: [192.0.2.9]}}, {origin: b}]";
    assert!(warnings(one)[0].starts_with("zone b.: ") && warnings(one).len() == 1, "{:?}", warnings(one));
}

/// systemd.exec(5): a service with a dynamic user may write its StateDirectory= and not its configuration's folder.
#[test]
fn what_is_remembered_is_in_the_state_folder() {
    let state_file = |text: &str| {
        let text = format!("version: v1\ntls: {{certificate: c, key: k}}\n{text}");
        let config = Config::parse(&text, Path::new(FILE), Some(Path::new("/var/lib/portolan"))).unwrap();
        assert_eq!(config.tls.unwrap().key, Path::new("/etc/portolan/k"), "other paths are beside the file");
        config.vips.state_file
    };
    assert_eq!(state_file(""), Some("/var/lib/portolan/vips.json".into()));
    assert_eq!(state_file("vips: {state-file: a/b}"), Some("/var/lib/portolan/a/b".into()));
    assert_eq!(state_file("vips: {state-file: /run/b}"), Some("/run/b".into()));
    assert_eq!(state_file("vips: {state-file: ''}"), None);
}

#[test]
fn cookies_are_off_made_up_or_configured() {
    let made_up = Secret([7; 16]);
    let secrets =
        |text: &str| parse(&format!("version: v1\n{text}")).unwrap().settings(made_up).cookies.secrets;
    assert_eq!(secrets(""), [made_up]);
    assert_eq!(secrets("cookies: {enabled: false}"), []);
    assert_eq!(
        secrets("cookies: {secrets: [00000000000000000000000000000001]}"),
        [Secret(1_u128.to_be_bytes())]
    );
}

#[test]
fn what_needs_a_restart_is_named() {
    let running = parse("version: v1").unwrap();
    let needs = |text: &str| running.needs_restart(&parse(&format!("version: v1\n{text}")).unwrap());
    assert_eq!(needs("admin: {listen: ''}\nlisten: {tcp: []}"), ["listen", "admin"]);
    assert_eq!(needs("log: {format: json}"), ["log.format"]);
    assert_eq!(needs("kubernetes: {}\nclusters: [{kubeconfig: a}]"), Vec::<&str>::new());
    assert_eq!(needs("log: {level: debug}\nzones: [{origin: a}]\nrate-limit: {slip: 3}"), Vec::<&str>::new());
}

#[test]
fn what_needs_a_restart_of_a_controller_is_named() {
    let running = parse("version: v1\nkubernetes: {}").unwrap();
    let needs =
        |text: &str| running.controller_needs_restart(&parse(&format!("version: v1\n{text}")).unwrap());
    assert_eq!(needs("kubernetes: {}\nclusters: [{kubeconfig: a}]\nlisten: {udp: []}"), Vec::<&str>::new());
    assert_eq!(needs("kubernetes: {}\ncontroller: {vips: Pool}"), ["controller"]);
    assert_eq!(needs("kubernetes: {network: a}\nadmin: {listen: ''}"), ["kubernetes", "admin"]);
    assert_eq!(needs("kubernetes: {}\nhome: fra1"), ["kubernetes"], "the own cluster's id");
}

/// Two that give away virtual IPs would give away different ones: in a cluster, imports alone have some.
#[test]
fn a_server_in_a_cluster_has_no_pool() {
    let pool = |text: &str| parse(&format!("version: v1\n{text}")).unwrap().pool();
    assert!(pool("clusters: [{kubeconfig: a}]").is_some());
    assert_eq!(pool("kubernetes: {}\nvips: {pool: {ipv4: 241.1.0.0/16}}"), None);
}

/// What the command line does not say of the own cluster stays as the file has it.
#[test]
fn the_command_line_chooses_the_own_cluster() {
    let mut config = parse("version: v1\nhome: fra1\nkubernetes: {network: n, kubeconfig: k}").unwrap();
    config.run_for(None, None);
    assert_eq!(config.own, Some(own(Access::InCluster, "n", ClusterId::new("fra1").ok())));
    let mut config = parse("version: v1\nhome: fra1").unwrap();
    config.run_for(Some("k".into()), Some("c".into()));
    let access = Access::File { path: "k".into(), context: Some("c".into()), allow_exec: true };
    assert_eq!(config.own, Some(own(access, "", ClusterId::new("fra1").ok())));
}
