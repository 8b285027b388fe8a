//! How connections are spread: as policies say, judged by a chi-square test against what they say.

use portolan_tests::harness::node::{Said, backends, can_hook, connects, datagrams};

use crate::site::{SERVERS, Site, service, slice};

/// What a chi-square statistic of so many degrees of freedom exceeds by chance once in a thousand times.
const CRITICAL: [f64; 4] = [0.0, 10.828, 13.816, 16.266];
/// Connections of one sample.
const COUNT: u32 = 4000;

/// A sample must fit the shares, in thousandths; of those that don't, one in a thousand is by chance, so a second one is taken.
fn fits(shares: &[(&str, u32)], mut sample: impl FnMut() -> Said) {
    let mut tries = String::new();
    for _ in 0..2 {
        let said = sample();
        assert!(said.errors.is_empty() && said.strangers.is_empty(), "{said:?}");
        assert!(said.names.keys().all(|name| shares.iter().any(|(known, _)| known == name)), "{said:?}");
        let of = |(name, share): &(&str, u32)| {
            let expected = f64::from(COUNT) * f64::from(*share) / 1000.0;
            let seen = f64::from(said.names.get(*name).copied().unwrap_or_default());
            (seen - expected).powi(2) / expected
        };
        let statistic: f64 = shares.iter().map(of).sum();
        if statistic <= CRITICAL[shares.len() - 1] {
            return;
        }
        tries.push_str(&format!("{:?}: chi-square {statistic:.1}\n", said.names));
    }
    panic!("not {shares:?} of a thousand:\n{tries}");
}

const PORTS: [&str; 2] = ["http 80/TCP", "who 53/UDP"];
const THEIRS: [&str; 2] = ["http 8080/TCP", "who 5353/UDP"];

fn web(endpoints: &[&str]) -> String {
    service("web", "", &PORTS) + &slice("web", "a", &THEIRS, endpoints)
}

/// Without any policy each endpoint gets as much as any other (KEP-1645: no cluster is preferred).
#[test]
fn endpoints_get_the_same() {
    if !can_hook("endpoints_get_the_same") {
        return;
    }
    let mut site = Site::of(
        &[("paris", &web(&["10.1.0.11", "10.1.0.12", "10.1.0.13"])), ("oslo", &web(&["10.1.0.14"]))],
        "",
        "",
    );
    let _servers = backends(&site.server, &SERVERS);
    site.agent.start();
    let vip = site.vip("web", false);
    let (client, inside) = site.inside();
    let same = [("11", 250), ("12", 250), ("13", 250), ("14", 250)];
    fits(&same, || connects(client, inside, &vip, 80, COUNT));
    fits(&same, || datagrams(client, inside, "udp", &vip, 53, COUNT));
    fits(&same, || datagrams(client, inside, "connected-udp", &vip, 53, COUNT));
    // One socket is one client: its packets are not spread.
    for _ in 0..5 {
        let names = site.python("sockets.py", &["many_packets", &vip, "53", "500"]);
        assert_eq!(names.as_array().unwrap().len(), 1, "{names}");
    }
}

/// design.md §5: weights are of clusters, whatever number of endpoints each has; a policy may come with a cluster's manifests or
/// with the configuration, which goes before.
#[test]
fn clusters_get_what_their_weights_say() {
    if !can_hook("clusters_get_what_their_weights_say") {
        return;
    }
    let policy = "apiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: split, namespace: default}\n\
                  spec:\n  targetRefs: [{kind: ServiceExport, name: web}]\n  \
                  weights: [{cluster: paris, weight: 3}, {cluster: oslo, weight: 1}]\n";
    let configured = "policies:\n- service: default/web\n  spec: \
                      {weights: [{cluster: paris, weight: 1}, {cluster: oslo, weight: 4}]}\n";
    for (yaml, shares) in
        [("", [("11", 375), ("12", 375), ("13", 250)]), (configured, [("11", 100), ("12", 100), ("13", 800)])]
    {
        let mut site = Site::of(
            &[("paris", &web(&["10.1.0.11", "10.1.0.12"])), ("oslo", &web(&["10.1.0.13"]))],
            yaml,
            "",
        );
        site.agent.write("clusters/paris/policy.yaml", policy);
        let _servers = backends(&site.server, &SERVERS);
        site.agent.start();
        let vip = site.vip("web", false);
        let (client, inside) = site.inside();
        fits(&shares, || connects(client, inside, &vip, 80, COUNT));
        fits(&shares, || datagrams(client, inside, "connected-udp", &vip, 53, COUNT));
    }
}

/// Two Nodes, in two topology zones.
fn nodes() -> String {
    let node = |(name, az, address)| {
        format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: {az}}}}}\n\
             status: {{addresses: [{{type: InternalIP, address: {address}}}]}}\n---\n"
        )
    };
    [("n1", "az1", "10.1.0.1"), ("n2", "az2", "10.1.0.2")].map(node).concat()
}

/// design.md §5: what is close to the node keeps all while its healthy part times 1.4 is whole, then spills in proportion.
/// Kubernetes' `trafficDistribution` keeps its own meaning: elsewhere only when there is none.
#[test]
fn what_is_close_comes_first() {
    if !can_hook("what_is_close_comes_first") {
        return;
    }
    let all = ["10.1.0.11@az1", "10.1.0.12@az1", "10.1.0.13@az2", "10.1.0.14@az2"];
    let half = ["10.1.0.11@az1", "10.1.0.12!@az1", "10.1.0.13@az2", "10.1.0.14@az2"];
    let none = ["10.1.0.11!@az1", "10.1.0.12!@az1", "10.1.0.13@az2", "10.1.0.14@az2"];
    let own = |endpoints: &[&str]| {
        service("web", "trafficDistribution: PreferClose", &PORTS)
            + &slice("web", "a", &THEIRS, endpoints)
            + &nodes()
    };
    let policy = "policies:\n- service: default/web\n  spec: {locality: {order: [Zone]}}\n";
    let here = &[("11", 500), ("12", 500)][..];
    let there = &[("13", 500), ("14", 500)][..];
    for (yaml, node, steps) in [
        (policy, "n1", [(all, here), (half, &[("11", 700), ("13", 150), ("14", 150)]), (none, there)]),
        (policy, "n2", [(all, there), (half, there), (none, there)]),
        ("", "n1", [(all, here), (half, &[("11", 1000)]), (none, there)]),
    ] {
        let manifests = |endpoints: &[&str]| {
            if yaml.is_empty() { own(endpoints) } else { web(endpoints) + &nodes() }
        };
        let mut site = Site::with(&manifests(&all), yaml, &format!("node: {node}"));
        let _servers = backends(&site.server, &SERVERS);
        site.agent.start();
        let vip = site.vip("web", false);
        for (at, (endpoints, shares)) in steps.into_iter().enumerate() {
            if at > 0 {
                site.rewrite("clusters/paris/services.yaml", manifests(&endpoints));
            }
            let (client, inside) = site.inside();
            fits(shares, || datagrams(client, inside, "connected-udp", &vip, 53, COUNT));
        }
    }
}
