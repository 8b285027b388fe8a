//! Answers by the MCS DNS specification (KEP-1645 specification.md) and RFC 8020, 2308.

use portolan_zones::object::*;

use crate::common::*;

fn clusterset() -> World {
    let mut world =
        World::new(&["clusterset.local", "global.example.com", "10.in-addr.arpa"], &["a", "b.reg"]);
    world.home("a").reset(
        "a",
        vec![
            Object::Namespace("empty".into()),
            export("shop", "cart", 1),
            service(
                "shop",
                "cart",
                ServiceKind::ClusterIp,
                spec(&[
                    port("http", Protocol::Tcp, 80),
                    port("dns", Protocol::Udp, 53),
                    port("", Protocol::Tcp, 9),
                ]),
            ),
            import("shop", "cart", 1, &["10.0.0.1"]),
            export("shop", "db", 1),
            service("shop", "db", ServiceKind::Headless, spec(&[])),
            slice(
                "shop",
                "db",
                "db-1",
                &[("sql", 5432)],
                vec![
                    endpoint("10.1.0.1", Some("db-0"), true),
                    endpoint("10.1.0.2", None, true),
                    endpoint("10.1.0.3", Some("db-2"), false),
                ],
            ),
            slice("shop", "db", "db-6", &[("sql", 5432)], vec![endpoint("fd00::1", Some("db-0"), true)]),
            export("shop", "down", 1),
            service("shop", "down", ServiceKind::Headless, spec(&[])),
            slice("shop", "down", "down-1", &[], vec![endpoint("10.1.0.9", None, false)]),
        ],
    );
    world.reset(
        "b.reg",
        vec![
            export("shop", "db", 2),
            service("shop", "db", ServiceKind::Headless, spec(&[])),
            slice("shop", "db", "db-1", &[("sql", 5432)], vec![endpoint("10.2.0.1", Some("db-0"), true)]),
        ],
    );
    world.compile();
    world
}

#[test]
fn every_row() {
    let world = clusterset();
    let db =
        "0 20 5432 10-1-0-2.a.db.shop.svc, 0 20 5432 db-0.a.db.shop.svc, 0 20 5432 db-0.b.reg.db.shop.svc";
    let db = db.replace("0 20", "0 25");
    for (question, rtype, expected) in [
        // §2.3 ClusterSetIP: A is the clusterset IP; SRV for named ports; the bare name has all ports.
        ("cart.shop.svc", "A", "10.0.0.1"),
        ("CART.Shop.SVC", "A", "10.0.0.1"),
        ("cart.shop.svc", "AAAA", "NODATA"),
        ("cart.shop.svc", "TXT", "NODATA"),
        ("cart.shop.svc", "ANY", "ANY"),
        ("_http._tcp.cart.shop.svc", "SRV", "0 100 80 cart.shop.svc"),
        ("_dns._udp.cart.shop.svc", "SRV", "0 100 53 cart.shop.svc"),
        ("cart.shop.svc", "SRV", "0 33 53 cart.shop.svc, 0 33 80 cart.shop.svc, 0 33 9 cart.shop.svc"),
        ("_http._udp.cart.shop.svc", "SRV", "NXDOMAIN"),
        ("_http._tcp.cart.shop.svc", "A", "NODATA"),
        // RFC 8020: a name with names below it exists.
        ("_tcp.cart.shop.svc", "SRV", "NODATA"),
        ("_sctp.cart.shop.svc", "SRV", "NXDOMAIN"),
        // §2.3.4: must not exist for ClusterSetIP.
        ("a.cart.shop.svc", "A", "NXDOMAIN"),
        ("x.a.cart.shop.svc", "A", "NXDOMAIN"),
        // §2.4 headless: ready endpoints of all clusters; names by hostname or dashed address.
        ("db.shop.svc", "A", "10.1.0.1, 10.1.0.2, 10.2.0.1"),
        ("db.shop.svc", "AAAA", "fd00::1"),
        ("db.shop.svc", "SRV", &db),
        ("_sql._tcp.db.shop.svc", "SRV", &db),
        ("db-0.a.db.shop.svc", "A", "10.1.0.1"),
        ("db-0.a.db.shop.svc", "AAAA", "fd00::1"),
        ("db-0.a.db.shop.svc", "MX", "NODATA"),
        ("db-0.b.reg.db.shop.svc", "A", "10.2.0.1"),
        ("10-1-0-2.a.db.shop.svc", "A", "10.1.0.2"),
        ("10-1-0-2.a.db.shop.svc", "AAAA", "NODATA"),
        ("db-2.a.db.shop.svc", "A", "NXDOMAIN"),
        ("db-0.db.shop.svc", "A", "NXDOMAIN"),
        ("x.db-0.a.db.shop.svc", "A", "NXDOMAIN"),
        // §2.4.4: no records at <clusterid>; it is an empty non-terminal, also in part.
        ("a.db.shop.svc", "A", "NODATA"),
        ("b.reg.db.shop.svc", "A", "NODATA"),
        ("reg.db.shop.svc", "A", "NODATA"),
        ("eg.db.shop.svc", "A", "NXDOMAIN"),
        // §2.4.1: no ready endpoint, no name.
        ("down.shop.svc", "A", "NXDOMAIN"),
        ("a.down.shop.svc", "A", "NXDOMAIN"),
        // The zone's own names.
        ("dns-version", "TXT", "\"1.0.0\""),
        ("dns-version", "A", "NODATA"),
        ("ns.dns", "A", "127.0.0.1"),
        ("ns.dns", "AAAA", "NODATA"),
        ("dns", "A", "NODATA"),
        ("x.ns.dns", "A", "NXDOMAIN"),
        ("s", "A", "NXDOMAIN"),
        ("svc", "A", "NODATA"),
        ("pod", "NS", "NODATA"),
        ("x.pod", "A", "NXDOMAIN"),
        ("shop.svc", "A", "NODATA"),
        ("empty.svc", "NS", "NODATA"),
        ("nons.svc", "A", "NXDOMAIN"),
        ("nosvc.shop.svc", "A", "NXDOMAIN"),
        ("foo", "NS", "NXDOMAIN"),
    ] {
        for zone in ["clusterset.local", "global.example.com"] {
            assert_eq!(
                world.lookup(&format!("{question}.{zone}"), rtype),
                expected,
                "{question}.{zone} {rtype}"
            );
        }
    }
    for (question, rtype, expected) in [
        ("clusterset.local", "SOA", "SOA"),
        ("clusterset.local", "NS", "NS"),
        ("clusterset.local", "HINFO", "NODATA"),
        ("local", "SOA", "REFUSED"),
        (".", "NS", "REFUSED"),
        ("xclusterset.local", "A", "REFUSED"),
        ("1.0.0.10.in-addr.arpa", "PTR", "cart.shop.svc.clusterset.local."),
        ("1.0.2.10.in-addr.arpa", "PTR", "db-0.b.reg.db.shop.svc.clusterset.local."),
        ("1.0.0.10.in-addr.arpa", "A", "NODATA"),
        ("0.0.10.in-addr.arpa", "PTR", "NODATA"),
        ("10.in-addr.arpa", "SOA", "SOA"),
        ("9.0.0.10.in-addr.arpa", "PTR", "NXDOMAIN"),
        ("x.1.0.0.10.in-addr.arpa", "PTR", "NXDOMAIN"),
        ("ns.dns.10.in-addr.arpa", "A", "127.0.0.1"),
        ("1.0.0.11.in-addr.arpa", "PTR", "REFUSED"),
    ] {
        assert_eq!(world.lookup(question, rtype), expected, "{question} {rtype}");
    }
}

/// Before every cluster has been read, a missing name may exist there: SERVFAIL, while known names are answered.
#[test]
fn missing_names_are_not_denied_before_the_first_sync() {
    let mut world = World::new(&["clusterset.local"], &["a", "b"]);
    world.compile();
    assert_eq!(world.lookup("cart.shop.svc.clusterset.local", "A"), "SERVFAIL");
    assert_eq!(world.lookup("clusterset.local", "SOA"), "SOA");
    world.home("a").reset(
        "a",
        vec![
            export("shop", "cart", 1),
            service("shop", "cart", ServiceKind::ClusterIp, spec(&[])),
            import("shop", "cart", 1, &["10.0.0.1"]),
        ],
    );
    world.compile();
    assert_eq!(world.lookup("cart.shop.svc.clusterset.local", "A"), "10.0.0.1");
    assert_eq!(world.lookup("other.shop.svc.clusterset.local", "A"), "SERVFAIL");
    world.reset("b", vec![]);
    assert!(world.compile());
    assert_eq!(world.lookup("other.shop.svc.clusterset.local", "A"), "NXDOMAIN");
}

/// Many endpoints: the answer is a subset that fits one message, the same pods in A and AAAA (§2.4.1).
#[test]
fn large_services_answer_one_subset_in_all_types() {
    let mut world = World::new(&["clusterset.local"], &["a"]);
    let pods = 65_535_u32;
    let endpoints = |v6: bool| {
        let one = |pod: u32| {
            let address =
                if v6 { format!("fd00::{pod:x}") } else { format!("10.0.{}.{}", pod >> 8, pod & 255) };
            Endpoint { identity: pod, ..endpoint(&address, None, true) }
        };
        (0..pods).map(one).collect()
    };
    world.reset(
        "a",
        vec![
            export("n", "big", 1),
            service("n", "big", ServiceKind::Headless, spec(&[])),
            slice("n", "big", "v4", &[("http", 80)], endpoints(false)),
            slice("n", "big", "v6", &[("http", 80)], endpoints(true)),
        ],
    );
    world.compile();
    let big = world.snapshot.services.get(b"\x03big\x01n").unwrap();
    let v4: Vec<u32> = big.answers.own.v4.iter().map(|a| u32::from(*a) & 0xffff).collect();
    let v6: Vec<u32> = big.answers.own.v6.iter().map(|a| u128::from(*a) as u32 & 0xffff).collect();
    assert_eq!(v4, v6);
    assert!(v4.len() > 200 && v4.len() <= 1000, "{}", v4.len());
    assert!(big.warnings[0].to_string().contains("of 131070 ready endpoints"), "{}", big.warnings[0]);
    let before = v4;
    // One pod more or less moves the subset by one pod at most.
    world.apply("a", slice("n", "big", "v5", &[("http", 80)], vec![endpoint("10.9.9.9", None, true)]));
    world.compile();
    let big = world.snapshot.services.get(b"\x03big\x01n").unwrap();
    let kept = big.answers.own.v4.iter().filter(|a| before.contains(&(u32::from(**a) & 0xffff))).count();
    assert!(kept + 2 >= before.len());
}

/// Names longer than 255 octets can't be said; they are left out and reported, the rest is answered.
#[test]
fn names_at_the_limits() {
    let id = format!("{}.{}", "c".repeat(31), "d".repeat(31));
    let mut world = World::new(&["clusterset.local"], &[&id]);
    let (host, service_name, ns) = ("h".repeat(63), "s".repeat(63), "n".repeat(50));
    world.reset(
        &id,
        vec![
            export(&ns, &service_name, 1),
            service(&ns, &service_name, ServiceKind::Headless, spec(&[])),
            slice(
                &ns,
                &service_name,
                "x",
                &[("p", 1)],
                vec![endpoint("10.0.0.1", Some(&host), true), endpoint("10.0.0.2", Some("ok"), true)],
            ),
        ],
    );
    world.compile();
    assert_eq!(world.lookup(&format!("{service_name}.{ns}.svc.clusterset.local"), "A"), "10.0.0.2");
    assert_eq!(world.lookup(&format!("ok.{id}.{service_name}.{ns}.svc.clusterset.local"), "A"), "10.0.0.2");
    assert_eq!(world.snapshot.counts.warnings, 1);
}

/// Ports and services whose names don't fit are left out and reported, too.
#[test]
fn long_ports_and_services() {
    let origin = format!("{}.{}.z", "o".repeat(63), "o".repeat(57));
    let mut world = World::new(&[&origin], &["a"]);
    let (ns, long) = ("n".repeat(60), "p".repeat(60));
    let ports = || spec(&[port(&long, Protocol::Tcp, 1), port("ok", Protocol::Tcp, 2)]);
    let too_long = "s".repeat(63);
    world.home("a").reset(
        "a",
        vec![
            export(&ns, "s", 1),
            service(&ns, "s", ServiceKind::ClusterIp, ports()),
            import(&ns, "s", 1, &["10.0.0.1"]),
            export(&"n".repeat(63), &too_long, 1),
            service(&"n".repeat(63), &too_long, ServiceKind::ClusterIp, ports()),
            import(&"n".repeat(63), &too_long, 1, &["10.0.0.2"]),
        ],
    );
    world.compile();
    assert_eq!(world.lookup(&format!("_ok._tcp.s.{ns}.svc.{origin}"), "SRV"), format!("0 100 2 s.{ns}.svc"));
    assert_eq!(world.snapshot.counts.warnings, 2);
    let text = world.text();
    assert!(!text.contains("ppp") && !text.contains("10.0.0.2"), "{text}");
}

/// Each endpoint of a headless service has its SRV record, also where two names share an address.
#[test]
fn names_that_share_an_address() {
    let mut world = World::new(&["clusterset.local"], &["a"]);
    world.reset(
        "a",
        vec![
            export("n", "s", 1),
            service("n", "s", ServiceKind::Headless, spec(&[])),
            slice(
                "n",
                "s",
                "x",
                &[("p", 1)],
                vec![endpoint("10.0.0.1", Some("h0"), true), endpoint("10.0.0.1", Some("h1"), true)],
            ),
        ],
    );
    world.compile();
    assert_eq!(world.lookup("s.n.svc.clusterset.local", "SRV"), "0 50 1 h0.a.s.n.svc, 0 50 1 h1.a.s.n.svc");
}

/// The serial moves only when an answer does; the generation with every change.
#[test]
fn serial_and_generation() {
    let mut world = clusterset();
    let (serial, generation) = (world.snapshot.serial, world.snapshot.generation);
    assert_eq!(serial, NOW as u32);
    assert!(!world.compile(), "nothing changed");
    // An endpoint of a ClusterSetIP service: the agent must know, DNS answers the same.
    world
        .apply("a", slice("shop", "cart", "cart-1", &[("http", 80)], vec![endpoint("10.1.1.1", None, true)]));
    assert!(world.compile());
    assert_eq!((world.snapshot.serial, world.snapshot.generation), (serial, generation + 1));
    world.apply("a", slice("shop", "db", "db-2", &[], vec![endpoint("10.1.0.7", None, true)]));
    assert!(world.compile());
    assert_eq!((world.snapshot.serial, world.snapshot.generation), (serial + 1, generation + 2));
    assert!(world.snapshot.diff(&clusterset().snapshot).to_string().contains("~ shop/db"));
}
