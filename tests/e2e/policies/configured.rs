//! What the operator decides in the configuration file: policies of his own, and states of clusters.

use portolan_tests::harness::{Server, Setup, becomes, eventually};

use super::CART;

/// Endpoints of `cart`.
const PARIS: [&str; 2] = ["10.1.0.11", "10.1.1.11"];
const TOKYO: [&str; 2] = ["10.2.0.11", "10.2.1.11"];
const ALL: [&str; 6] = ["10.1.0.11", "10.1.1.11", "10.2.0.11", "10.2.1.11", "10.3.0.11", "10.3.1.11"];

/// The demo's clusters without a policy of theirs; clients are told of by Client Subnet.
fn configured(sections: &str) -> Setup {
    Setup::sample("three-clusters").with("client-subnet: {trusted-forwarders: [127.0.0.0/8]}").with(sections)
}

fn asked(server: &Server, name: &str, subnet: &str) -> Vec<String> {
    server.dig(&format!("{name} A +subnet={subnet}")).data()
}

/// What clients of nowhere in particular get in the end.
fn answered(server: &Server, expected: &[&str]) {
    let expected: Vec<String> = expected.iter().map(ToString::to_string).collect();
    becomes("the answer", &expected, || asked(server, CART, "192.0.2.0/24"));
}

/// A policy of the file holds as one of a manifest does. Another file takes its place; a wrong one is told with its line, and
/// leaves the last good one in force; without any, virtual IPs are answered.
#[test]
fn policies_of_the_configuration_hold_and_change() {
    let mut server = configured("").start();
    let plain = server.yaml();
    let virtual_ip = asked(&server, CART, "10.1.0.7/32");
    assert!(virtual_ip.len() == 1 && virtual_ip[0].starts_with("241."), "{virtual_ip:?}");

    server.reconfigure(&format!(
        "{plain}policies:\n- service: shop/cart\n  spec:\n    answer: Endpoints\n    locality: {{order: [Zone, Region]}}\n"
    ));
    becomes("what is near is answered", &vec![PARIS[0].to_owned()], || asked(&server, CART, "10.1.0.7/32"));
    assert_eq!(asked(&server, CART, "10.2.0.9/32"), TOKYO[..1]);
    assert_eq!(asked(&server, CART, "192.0.2.0/24"), ALL);

    let weights =
        "weights: [{cluster: tokyo, weight: 1}, {cluster: paris, weight: 0}, {cluster: virginia, weight: 0}]";
    let by_weight =
        format!("{plain}policies:\n- namespace: shop\n  spec:\n    answer: Endpoints\n    {weights}\n");
    server.reconfigure(&by_weight);
    becomes("one cluster has all", &TOKYO.map(str::to_owned).to_vec(), || {
        asked(&server, CART, "10.1.0.7/32")
    });

    let wrong = by_weight.replace("tokyo, weight: 1", "tokyo, weight: -1");
    server.reconfigure(&wrong);
    let line = server.yaml().lines().position(|line| line.contains("weight: -1")).unwrap() + 1;
    let told = format!("portolan.yaml:{line}: policies[0].spec.weights[0].weight: -1 is not a number");
    eventually("the wrong one is told", || server.status()["config"]["errors"].to_string().contains(&told));
    assert_eq!(asked(&server, CART, "10.1.0.7/32"), TOKYO, "the last good one holds");

    server.reconfigure(&plain);
    becomes("nothing is left of it", &virtual_ip, || asked(&server, CART, "10.1.0.7/32"));
}

/// A zone has policies of its own: the same service is answered otherwise there, and as before in all others.
#[test]
fn a_zone_has_policies_of_its_own() {
    let server = configured(
        "policies:\n- {zone: global.example.com, spec: {answer: Endpoints, ttlSeconds: 77, locality: {order: [Region]}}}\n",
    )
    .replace("zones:", "zones:\n- {origin: global.example.com}")
    .start();
    let outside = server.dig("cart.shop.svc.global.example.com A +subnet=10.2.0.0/24");
    assert_eq!((outside.data(), outside.ttl()), (TOKYO.map(str::to_owned).to_vec(), 77), "{}", outside.text);
    let inside = asked(&server, CART, "10.2.0.0/24");
    assert!(inside.len() == 1 && inside[0].starts_with("241."), "{inside:?}");
}

/// What people decide goes before what is known: a cluster that is drained gets clients only where no others are left, one that
/// is down none, and both as before when that is taken back. It is remembered in the file, so a restart changes nothing.
#[test]
fn a_cluster_is_drained_taken_down_and_back() {
    let mut server = configured("policies: [{spec: {answer: Endpoints}}]").start();
    let plain = server.yaml();
    let state = |cluster: &str, state: &str| {
        format!("- {{cluster: {cluster}, service: shop/cart, state: {state}}}\n")
    };
    answered(&server, &ALL);
    server.reconfigure(&format!("{plain}states:\n{}", state("paris", "drain")));
    answered(&server, &ALL[2..]);
    // Of another service nothing was said.
    assert_eq!(server.dig("db.shop.svc.clusterset.local A").data().len(), 6);
    let down = [state("paris", "drain"), state("tokyo", "down"), state("virginia", "down")].concat();
    server.reconfigure(&format!("{plain}states:\n{down}"));
    answered(&server, &PARIS);
    let mut server = server.restart();
    answered(&server, &PARIS);
    // Of two about the same the later one holds.
    server.reconfigure(&format!("{plain}states:\n{down}{}", state("paris", "down")));
    answered(&server, &[]);
    server.reconfigure(&plain);
    answered(&server, &ALL);
}

/// `portolan check` says what is wrong with its line, and what has no effect.
#[test]
fn what_is_wrong_with_them_is_told() {
    for (sections, expected) in [
        (
            "policies:\n- {spec: {answer: Sometimes}}",
            "policies[0].spec.answer: `Sometimes` is not one of VIP",
        ),
        ("policies:\n- {zone: example.com, spec: {}}", "policies[0].zone: `example.com.` is not the origin"),
        ("policies:\n- {spec: {localty: {}}}", "did you mean `locality`?"),
        (
            "states:\n- {cluster: paris, state: gone}",
            "states[0].state: `gone` is not `up`, `drain` or `down`",
        ),
    ] {
        let setup = configured(sections);
        let line = setup.yaml().lines().count();
        let (good, text) = setup.run("check", &[]);
        let place = format!("portolan.yaml:{line}: ");
        assert!(!good && text.contains(&place) && text.contains(expected), "{sections}:\n{text}");
    }
    let (good, text) =
        configured("policies: [{spec: {failover: [london, paris]}}]\nstates: [{cluster: rome, state: down}]")
            .run("check", &[]);
    for expected in
        ["names `london`, and no cluster has this id", "states names `rome`, and no cluster has this id"]
    {
        assert!(good && text.contains(expected), "{text}");
    }
    assert!(!text.contains("`paris`, and no"), "{text}");
}
