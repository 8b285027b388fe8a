//! What a file means to all programs, and what is said of a wrong one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portolan_sync::ClusterSource;
use portolan_sync::kubernetes::{Access, Origin, OwnConfig, PeerConfig, Pinned};
use portolan_zones::peers::{Forced, Scope, State};
use portolan_zones::places::{Mapping, Place};
use portolan_zones::policy::{Configured, Rules};
use portolan_zones::{ClusterId, Name, ServiceName, ZoneConfig};

use super::*;

const FILE: &str = "/etc/portolan/portolan.yaml";

fn parse(text: &str) -> Result<Clusterset, Vec<Problem>> {
    super::parse(text, Path::new(FILE), None, Clusterset::read)
}

/// Everything that is read here.
fn all(root: &mut Section<'_>) -> (Clusterset, Log) {
    (Clusterset::read(root), Log::read(root))
}

/// `line: field: message` of each problem of `text` under `version: v1`, which is line 1.
fn problems(text: &str) -> Vec<String> {
    let read = super::parse(&format!("version: v1\n{text}"), Path::new(FILE), None, all);
    let problems = read.expect_err(text);
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
    let mut clusterset = Clusterset::default();
    clusterset.vips.state_file = Some("/etc/portolan/vips.json".into());
    let expected = Ok((clusterset, Log::default()));
    for text in [DEFAULTS, "version: v1"] {
        assert_eq!(super::parse(text, Path::new(FILE), None, all), expected);
    }
}

#[test]
fn every_known_key_is_in_the_printed_defaults() {
    let everything = "version: v1\nclusters: [{manifests: a}]\nkubernetes: {}\nzones: [{origin: a.example}]\n\
        view: {networks: [{network: 10.0.0.0/8, region: a}]}\npolicies: [{spec: {}}]\n\
        states: [{cluster: a, state: up}]";
    assert!(super::parse(everything, Path::new(FILE), None, all).is_ok());
    let known = keys(everything, all);
    assert!(known.len() > 50, "{known:?}");
    for field in &known {
        let key = field.rsplit('.').next().unwrap();
        let written = |line: &str| line.trim_start_matches([' ', '#', '-']).starts_with(&format!("{key}:"));
        assert!(DEFAULTS.lines().any(written), "{field} is not in defaults.yaml");
    }
}

/// One file for all programs: each knows the sections that others read, and nobody those that are not in it.
#[test]
fn the_sections_are_those_of_the_printed_defaults() {
    let starts = |line: &&str| line.starts_with(|c: char| c.is_ascii_lowercase()) || *line == "# kubernetes:";
    let written =
        DEFAULTS.lines().filter(starts).filter_map(|line| line.trim_start_matches("# ").split_once(':'));
    let written: Vec<_> = written.map(|(key, _)| key).collect();
    assert_eq!(written, ROOT);
    let others = "version: v1\nlisten: {udp: nowhere}\ncookies: 7\nshutdown: [a]";
    assert_eq!(parse(others), parse("version: v1"));
    assert_eq!(problems("lsten: {}"), ["2: lsten: unknown key `lsten`, did you mean `listen`?"]);
    assert_eq!(problems("tls: {}\ntls: {}"), ["3: tls: `tls` is written twice, first on line 2: remove one"]);
}

/// One row per section: what is written and what it changes.
#[test]
fn every_section_takes_effect() {
    type Change = fn(&mut Clusterset);
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
fn the_log_has_a_form_and_levels() {
    let text = "version: v1\nlog: {format: json, level: 'warn,portolan_dns=trace'}";
    let log = Log { format: LogFormat::Json, level: "warn,portolan_dns=trace".into() };
    assert_eq!(super::parse(text, Path::new(FILE), None, Log::read), Ok(log));
}

#[test]
fn wrong_values_are_named_with_line_and_field() {
    for (text, expected) in [
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
    ] {
        assert_eq!(problems(text), [expected], "{text}");
    }
    assert!(problems("log: {level: inof}")[0].starts_with("2: log.level: `inof` is not error, warn"));
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
fn problems_print_as_compilers_print_them() {
    let problem = parse("version: v2").unwrap_err().remove(0);
    assert_eq!(
        problem.to_string(),
        "/etc/portolan/portolan.yaml:1: version: this release reads `version: v1`"
    );
    let missing =
        load(Path::new("/nonexistent/portolan.yaml"), None, Clusterset::read).unwrap_err().remove(0);
    assert!(missing.to_string().starts_with("/nonexistent/portolan.yaml: cannot be read: "), "{missing}");
    assert_eq!(parse("version: [").unwrap_err().len(), 1);
}

/// systemd.exec(5): a service with a dynamic user may write its StateDirectory= and not its configuration's folder.
#[test]
fn what_is_remembered_is_in_the_state_folder() {
    let state_file = |text: &str| {
        let text = format!("version: v1\nclusters: [{{manifests: m}}]\n{text}");
        let state_folder = Some(Path::new("/var/lib/portolan"));
        let config = super::parse(&text, Path::new(FILE), state_folder, Clusterset::read).unwrap();
        assert_eq!(config.clusters[0].path, Path::new("/etc/portolan/m"), "other paths are beside the file");
        config.vips.state_file
    };
    assert_eq!(state_file(""), Some("/var/lib/portolan/vips.json".into()));
    assert_eq!(state_file("vips: {state-file: a/b}"), Some("/var/lib/portolan/a/b".into()));
    assert_eq!(state_file("vips: {state-file: /run/b}"), Some("/run/b".into()));
    assert_eq!(state_file("vips: {state-file: ''}"), None);
}

/// Two that give away virtual IPs would give away different ones: in a cluster, imports alone have some.
#[test]
fn a_server_in_a_cluster_has_no_pool() {
    let pool = |text: &str| parse(&format!("version: v1\n{text}")).unwrap().sync_config().unwrap().pool;
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
