//! What is seen of forwarders that may say where their clients are.

use portolan_dns::respond::Placed;

use crate::common::*;

/// Trusts the network that it is asked from.
fn server() -> Server {
    Server::of(placed())
        .set(|settings| settings.edns.trusted_forwarders = vec!["203.0.113.0/24".parse().unwrap()])
}

fn subnet(address: [u8; 4], bits: u8) -> Vec<u8> {
    let octets = &address[..usize::from(bits).div_ceil(8)];
    [&[0, if bits == 0 { 0 } else { 1 }, bits, 0][..], octets].concat()
}

fn seen(server: &Server, query: &Ask) -> Option<Placed> {
    server.reply(&query.octets()).unwrap().1.placed
}

fn near(address: [u8; 4], bits: u8) -> Ask {
    ask("near.shop.svc.clusterset.local A").option(8, &subnet(address, bits))
}

/// RFC 7871 §7.3.1: an answer is for the clients in its scope, whatever prefix of their addresses was told.
#[test]
fn clients_that_an_answer_is_for_are_one() {
    let server = server();
    let first = seen(&server, &near([10, 64, 0, 0], 24)).unwrap();
    assert_eq!(first.ttl, 30);
    assert_eq!(seen(&server, &near([10, 64, 0, 77], 32)), Some(first), "the Node's network is one");
    let other = seen(&server, &near([10, 64, 1, 0], 24)).unwrap();
    assert_ne!(other.subnet, first.subnet);
    assert_eq!(other.question, first.question);
    // Who is to stay with an answer shares it with nobody.
    let stays =
        |address| seen(&server, &ask("stays.shop.svc.clusterset.local A").option(8, &subnet(address, 32)));
    let [one, two] = [[10, 64, 0, 1], [10, 64, 0, 2]].map(|address| stays(address).unwrap());
    assert!(one.subnet != two.subnet && one.ttl == 5, "{one:?}, {two:?}");
}

/// Virtual IPs that need an agent are for one node's clients: a cache that mixes clients up is seen. Names of addresses are the
/// same for all.
#[test]
fn virtual_ips_that_need_agents_are_for_one_node() {
    let trusting = |settings: &mut portolan_dns::settings::Settings| {
        settings.edns.trusted_forwarders = vec!["203.0.113.0/24".parse().unwrap()];
    };
    let server = Server::of(behind_agents()).set(trusting);
    let cart = |node| ask("cart.shop.svc.clusterset.local A").option(8, &subnet([10, 64, node, 0], 24));
    for (node, address, other) in [(0, " A 241.0.0.1", "10.1.0.1"), (1, " A 10.1.0.1", "241.0.0.1")] {
        let (octets, facts) = server.reply(&cart(node).octets()).unwrap();
        let text = server.ask(&cart(node).octets());
        assert!(text.contains(address) && !text.contains(other), "{text}");
        assert_eq!(options(&octets)[0], (8, vec![0, 1, 24, 24, 10, 64, node]), "{text}");
        assert_ne!(facts.placed, seen(&server, &cart(1 - node)));
    }
    // The forwarder itself is on no node.
    assert!(server.ask(&ask("cart.shop.svc.clusterset.local A").octets()).contains(" A 10.1.0.1"));
    let name = ask("1.0.0.241.in-addr.arpa PTR").option(8, &subnet([10, 64, 1, 0], 24));
    assert!(server.ask(&name.octets()).contains(" PTR cart.shop.svc.clusterset.local."));
    assert_eq!(seen(&server, &name), None);
}

/// Caches keep answers by name, type, DO and CD.
#[test]
fn questions_are_told_apart_as_caches_do() {
    let server = server();
    let question =
        |query: Ask| seen(&server, &query.option(8, &subnet([10, 64, 0, 0], 24))).unwrap().question;
    let plain = question(ask("near.shop.svc.clusterset.local A"));
    assert_eq!(question(ask("NEAR.shop.svc.clusterset.local A")), plain);
    for other in [
        ask("near.shop.svc.clusterset.local SRV"),
        ask("stays.shop.svc.clusterset.local A"),
        ask("near.shop.svc.clusterset.local A").flags(0x0010),
        Ask { edns: Some((1232, 0, 0x8000, Vec::new())), ..ask("near.shop.svc.clusterset.local A") },
    ] {
        assert_ne!(question(other.clone()), plain, "{other:?}");
    }
}

/// Nothing is seen of those who may not say where clients are, nor of answers that don't depend on it.
#[test]
fn what_tells_nothing_is_not_seen() {
    let trusting = server();
    let silent = seen(&trusting, &ask("near.shop.svc.clusterset.local A")).unwrap();
    assert_eq!(silent.subnet, None, "no client is told of");
    for query in [
        near([0; 4], 0),
        ask("same.shop.svc.clusterset.local A").option(8, &subnet([10, 64, 0, 0], 24)),
        ask("near.shop.svc.clusterset.local TXT").option(8, &subnet([10, 64, 0, 0], 24)),
        ask("none.shop.svc.clusterset.local A").option(8, &subnet([10, 64, 0, 0], 24)),
    ] {
        assert_eq!(seen(&trusting, &query), None, "{query:?}");
    }
    let untrusted = server().from("198.51.100.1");
    for query in [near([10, 64, 0, 0], 24), ask("near.shop.svc.clusterset.local A")] {
        assert_eq!(seen(&untrusted, &query), None);
    }
    let without = server().set(|settings| settings.edns.client_subnet = false);
    assert_eq!(seen(&without, &near([10, 64, 0, 0], 24)), None);
}
