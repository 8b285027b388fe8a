//! What a file means to all programs.

mod refused;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use portolan_sync::ClusterSource;
use portolan_sync::controller::GatewayConfig;
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
fn all(root: &mut Section<'_>) -> (Clusterset, Log, Agent) {
    (Clusterset::read(root), Log::read(root), Agent::read(root))
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
    let expected = Ok((clusterset, Log::default(), Agent::default()));
    for text in [DEFAULTS, "version: v1"] {
        assert_eq!(super::parse(text, Path::new(FILE), None, all), expected);
    }
}

/// Nobody but agents connects virtual IPs of a cluster's pool; of others their operator knows.
#[test]
fn virtual_ips_of_a_clusters_pool_need_agents() {
    for (text, expected) in [
        ("", None),
        ("kubernetes: {}", None),
        ("controller: {vips: Pool}", None),
        ("kubernetes: {}\ncontroller: {vips: Pool}", Some("portolan-node/portolan-agent")),
        ("kubernetes: {}\ncontroller: {vips: Pool}\nvips: {answer-to: Everybody}", None),
        ("vips: {answer-to: Agents, agents: a/b}", Some("a/b")),
        ("vips: {agents: a/b}", None),
    ] {
        let agents = parse(&format!("version: v1\n{text}")).unwrap().agents();
        assert_eq!(agents.map(|name| name.to_string()).as_deref(), expected, "{text}");
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
    let values = values(&tree::parse(DEFAULTS).unwrap(), "");
    for field in &known {
        let key = field.rsplit('.').next().unwrap();
        let commented = |line: &str| {
            line.trim_start().starts_with('#')
                && line.trim_start_matches([' ', '#', '-']).starts_with(&format!("{key}:"))
        };
        let shown = values.contains(field) || DEFAULTS.lines().any(commented);
        assert!(shown, "{field} is not in defaults.yaml");
    }
}

/// The paths of all keys that `node` holds at `path`, without positions in lists.
fn values(node: &tree::Node, path: &str) -> Vec<String> {
    let below = |entry: &tree::Entry| {
        let field = format!("{path}.{}", entry.key).trim_start_matches('.').to_owned();
        [values(&entry.node, &field), vec![field]].concat()
    };
    match &node.value {
        tree::Value::Map(entries) => entries.iter().flat_map(below).collect(),
        tree::Value::List(items) => items.iter().flat_map(|item| values(item, path)).collect(),
        tree::Value::Null | tree::Value::Scalar(_) => Vec::new(),
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
    assert_eq!(refused::problems("lsten: {}"), ["2: lsten: unknown key `lsten`, did you mean `listen`?"]);
    assert_eq!(
        refused::problems("tls: {}\ntls: {}"),
        ["3: tls: `tls` is written twice, first on line 2: remove one"]
    );
}

/// One row per section: what is written and what it changes.
#[test]
fn every_section_takes_effect() {
    type Change = fn(&mut Clusterset);
    let rows: &[(&str, Change)] = &[
        ("clusters: [{name: fra1, manifests: a, network: east}, {manifests: /b}]", |c| {
            c.clusters = vec![
                ClusterSource {
                    name: Some(ClusterId::new("fra1").unwrap()),
                    path: "/etc/portolan/a".into(),
                    labels: Box::default(),
                    network: "east".into(),
                },
                ClusterSource { name: None, path: "/b".into(), labels: Box::default(), network: "".into() },
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
                    network: "".into(),
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
        (
            "controller: {gateway: {enabled: false, ports: 7000-7999, udp: true, cluster-domain: k8s.example, allow: [10.0.0.0/8], bind: 10.0.0.1}}",
            |c| {
                c.controller.gateway = GatewayConfig {
                    enabled: false,
                    ports: "7000-7999".parse().unwrap(),
                    udp: true,
                    cluster_domain: Name::parse("k8s.example").unwrap(),
                    allow: vec!["10.0.0.0/8".parse().unwrap()],
                    bind: Some("10.0.0.1".parse().unwrap()),
                };
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
        ("vips: {answer-to: Agents, agents: kube-system/hooks}", |c| {
            c.answer_to = Some(AnswerTo::Agents);
            c.agent_service = ServiceName::new("kube-system", "hooks").unwrap();
        }),
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
