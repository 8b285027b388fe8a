//! What people decide: forced states, labels of clusters, and the operator's own policies, of all zones or of one.

use std::net::IpAddr;
use std::sync::Arc;

use portolan_zones::object::*;
use portolan_zones::peers::{Forced, Labels, Peer, Scope, State};
use portolan_zones::policy::Level::Zone;
use portolan_zones::policy::Preference::Pin;
use portolan_zones::policy::{Attached, Configured, Form, PolicyName, Rules, Source, Target};
use portolan_zones::{Change, Event, Name, QName};

use crate::common::*;
use crate::site::*;

const CLIENT: &str = "10.1.1.200";
const GLOBAL: &str = "s.n.svc.global.example.com";

fn sites() -> [Site; 3] {
    [("a", "za"), ("b", "zb"), ("c", "zc")].map(|(id, az)| site(id).node("n1", az, 2, 2))
}

fn labels(labels: &[(&str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn peer(id: &str, state: Option<State>) -> Object {
    Object::Peer(Peer { name: id.into(), cluster: cluster(id), labels: labels(&[]), state, rtt: None })
}

fn exported(state: Option<State>) -> Object {
    let Object::Export(export) = export("n", "s", 2) else { unreachable!() };
    Object::Export(Export { state, ..export })
}

fn force(world: &mut World, forced: &[(&str, Scope, State)]) {
    let forced =
        forced.iter().map(|(id, of, state)| Forced { cluster: cluster(id), of: of.clone(), state: *state });
    world.table.apply(Event::Force(forced.collect()));
}

/// Whoever is closest to the one who asks decides: the operator, then the own cluster's ClusterPeer, then the export. Of the
/// operator's words the last one that is about the service counts.
#[test]
fn the_operator_then_the_peer_then_the_export() {
    let mut world = world(&sites(), rules());
    let all = "a1 b1 c1";
    let without = "a1 c1";
    let mut step = |change: &dyn Fn(&mut World), expected: &str, why: &str| {
        change(&mut world);
        world.compile();
        assert_eq!(reached(&world, CLIENT), expected, "{why}");
    };
    step(&|_| {}, all, "nobody says anything");
    step(&|w| _ = w.apply("b", exported(Some(State::Down))), without, "the export's author");
    step(&|w| _ = w.apply("a", peer("b", Some(State::Up))), all, "the ClusterPeer");
    step(&|w| _ = w.apply("c", peer("b", Some(State::Down))), all, "another cluster's ClusterPeer");
    step(&|w| force(w, &[("b", Scope::All, State::Drain)]), without, "the operator");
    let later = [
        ("b", Scope::All, State::Drain),
        ("b", Scope::Namespace("other".into()), State::Down),
        ("b", Scope::Service(service_name("s")), State::Up),
    ];
    step(&|w| force(w, &later), all, "the operator, of this service");
    step(&|w| force(w, &later[..2]), without, "the operator, of another namespace");
    step(&|w| force(w, &[]), all, "the ClusterPeer again");
    let gone = Change::Delete(ObjectKey::Peer("b".into()));
    step(&|w| _ = w.say("a", gone.clone()), without, "the export again");
    step(&|w| _ = w.apply("b", exported(None)), all, "nobody any more");
}

/// A server that hears its own cluster alone knows what an export's author decided by the copies.
#[test]
fn copies_tell_of_the_export() {
    let mut world = World::new(&["clusterset.local"], &["a"]);
    world.home("a").reset("a", vec![import("n", "s", 1, &["10.96.0.1"])]);
    world.apply("a", policy("p", 1, imports(&["s"]), rules()));
    let mut copy = |id: &'static str, state: Option<State>| {
        let Object::Slice(slice) = mirrored(site(id).node("n1", "z1", 2, 2).slice("s"), id) else { panic!() };
        world.apply("a", Object::Slice(Slice { state, ..slice })).compile();
        reached(&world, CLIENT)
    };
    assert_eq!((copy("b", None), copy("c", None)), ("b1".into(), "b1 c1".into()));
    assert_eq!((copy("b", Some(State::Drain)), copy("c", Some(State::Down))), ("c1".into(), "b1".into()));
}

/// Of several ClusterPeers about one cluster the strictest word counts, whatever they are called; blanks and capitals don't.
#[test]
fn the_strictest_of_several_peers_counts() {
    let mut world = world(&sites(), rules());
    let named = |name: &str, state| {
        let Object::Peer(told) = peer("b", state) else { unreachable!() };
        Object::Peer(Peer { name: name.into(), ..told })
    };
    world.apply("a", named("a-first", None)).apply("a", named("b-second", Some(State::Down)));
    world.apply("a", named("c-third", Some(State::Up))).compile();
    assert_eq!(reached(&world, CLIENT), "a1 c1");
    world.say("a", Change::Delete(ObjectKey::Peer("b-second".into()))).compile();
    assert_eq!(reached(&world, CLIENT), "a1 b1 c1");
    for text in ["drain", " Drain", "DRAIN\n"] {
        assert_eq!(text.parse(), Ok(State::Drain), "{text:?}");
    }
    assert!("drained".parse::<State>().is_err());
}

/// kube-proxy connects to whatever is ready: a drained cluster's copies are not, as long as others are there.
#[test]
fn copies_of_a_drained_cluster_are_not_ready() {
    let mut world = world(&sites()[..2], rules());
    let out = |world: &World| {
        let service = world.snapshot.services.get(b"\x01s\x01n").unwrap();
        let is_out = |(id, address): (&str, &str)| service.is_out(&cluster(id), address.parse().unwrap());
        [("a", "10.1.1.1"), ("b", "10.2.1.1")].map(is_out)
    };
    force(&mut world, &[("b", Scope::All, State::Drain)]);
    world.compile();
    assert_eq!(out(&world), [false, true]);
    force(&mut world, &[("b", Scope::All, State::Drain), ("a", Scope::All, State::Down)]);
    world.compile();
    assert_eq!(out(&world), [true, false], "nobody else is left");
    force(&mut world, &[]);
    world.compile();
    assert_eq!(out(&world), [false, false]);
}

/// A server that hears its own cluster alone knows by the copies where the gateways of home and of clusters on its network
/// are, with the ports that are there. Where the network is another one, the copies are the gateway's addresses.
#[test]
fn copies_tell_of_gateways() {
    let mut world = World::new(&["clusterset.local", "global.example.com"], &["a"]);
    let Object::Import(mut import) = import("n", "s", 1, &["10.96.0.1"]) else { unreachable!() };
    import.spec = spec(&[port("http", Protocol::Tcp, 80), port("admin", Protocol::Tcp, 90)]).into();
    world.home("a").reset("a", vec![Object::Import(import)]);
    world.table.apply(global(Rules { answer: Form::Gateways, ..Rules::default() }));
    let copy = |id: &'static str, ready: u8, outside: Option<IpAddr>| {
        let Object::Slice(slice) = mirrored(site(id).node("n1", "z1", ready, 2).slice("s"), id) else {
            panic!()
        };
        let ports = [GatewayPort { protocol: Protocol::Tcp, number: 80, gateway: 30_080 }].into();
        let gateway = |at| Arc::new(Gateway { at: GatewayAt::Nodes([at].into()), ports });
        Slice { outside: outside.map(gateway), ..slice }
    };
    let at = |octet: u8| Some(IpAddr::from([10, octet, 9, 1]));
    world.apply("a", Object::Slice(copy("a", 2, None))).compile();
    assert_eq!(world.lookup(GLOBAL, "A"), "NXDOMAIN", "nobody says that there is one");
    let mut say = |slice: Slice| {
        world.apply("a", Object::Slice(slice)).compile();
        in_zone(&world, GLOBAL)
    };
    assert_eq!(say(copy("a", 2, at(1))), "a9", "home's");
    assert_eq!(say(copy("b", 2, at(2))), "a9 b9", "of one network");
    assert_eq!(say(Slice { gateway: true, ..copy("c", 2, None) }), "a9 b9 c1", "of another network");
    assert_eq!(say(copy("b", 2, at(7))), "a9 c1 g9", "it moved");
    assert_eq!(say(copy("b", 0, at(7))), "a9 c1", "nothing behind it is ready");
    assert_eq!(world.lookup("_http._tcp.s.n.svc.global.example.com", "SRV").matches("30080").count(), 1);
    assert_eq!(
        world.lookup("_admin._tcp.s.n.svc.global.example.com", "SRV"),
        "NXDOMAIN",
        "it is at no gateway"
    );
    assert_eq!(world.lookup(NAME, "A"), "10.96.0.1");
}

/// What is drained is the last resort; what is down gets nobody, though nobody else is left: NODATA, or NXDOMAIN of a name
/// that has nothing else.
#[test]
fn drained_is_last_and_down_is_never() {
    for rules in [Some(rules()), Some(weighted(&[("a", 3), ("b", 0)])), None] {
        let kind = if rules.is_some() { ServiceKind::ClusterIp } else { ServiceKind::Headless };
        let mut world = world_of(&sites()[..2], kind, &http(), rules);
        force(&mut world, &[("a", Scope::All, State::Drain), ("b", Scope::All, State::Up)]);
        world.compile();
        let weighted_last = reached(&world, CLIENT);
        assert!(
            ["b1", "a1 b1"].contains(&&*weighted_last),
            "b, or both are the last resort: {weighted_last}"
        );
        force(&mut world, &[("a", Scope::All, State::Drain), ("b", Scope::All, State::Down)]);
        world.compile();
        assert_eq!(reached(&world, CLIENT), "a1", "nobody else is left");
        force(&mut world, &[("a", Scope::All, State::Down), ("b", Scope::All, State::Down)]);
        world.compile();
        assert_eq!(reached(&world, CLIENT), "", "whoever is down is never answered");
        force(&mut world, &[]);
        world.compile();
        assert!(reached(&world, CLIENT).contains("a1"), "it holds until it is taken back");
    }
}

/// A server that hears its own cluster alone weighs by labels, too, as the exporter's policy on the import says.
#[test]
fn weights_by_label_travel() {
    let mut world = World::new(&["clusterset.local"], &["a"]);
    let rules = Rules { label_weights: [(labels(&[("tier", "gold")]), 3)].into(), ..rules() };
    let source = Source::Export(cluster("b"), PolicyName::new("n", "p"));
    let told = Arc::new(Attached { rules: rules.into(), source, created: None });
    let Object::Import(import) = import("n", "s", 1, &["10.96.0.1"]) else { unreachable!() };
    let clusters = ["b", "c"].map(cluster).into();
    world.home("a").reset("a", vec![Object::Import(Import { policy: Some(told), clusters, ..import })]);
    for id in ["b", "c"] {
        world.apply("a", mirrored(site(id).node("n1", "z1", 2, 2).slice("s"), id));
    }
    let Object::Peer(b) = peer("b", None) else { unreachable!() };
    world.apply("a", Object::Peer(Peer { labels: labels(&[("tier", "gold")]), ..b })).compile();
    assert_shares(&counts(&world, CLIENT, 10_000, cluster_of), &[("b", 3.0), ("c", 1.0)], "b is gold");
}

/// Labels are a ClusterPeer's, or configured; all must fit, the first that fits holds, and a weight by name goes before.
#[test]
fn weights_by_label() {
    let by_label = [(labels(&[("tier", "gold"), ("site", "x")]), 6), (labels(&[("tier", "gold")]), 3)];
    let rules = Rules { label_weights: by_label.into(), ..weighted(&[("c", 1)]) };
    let mut world = world(&sites(), rules);
    let label = |world: &mut World, id: &str, of: &[(&str, &str)]| {
        world.table.apply(Event::Labels { cluster: cluster(id), labels: labels(of) });
    };
    let mut shares = |change: &dyn Fn(&mut World), expected: [f64; 3], why: &str| {
        change(&mut world);
        world.compile();
        let expected: Vec<_> = ["a", "b", "c"].into_iter().zip(expected).collect();
        assert_shares(&counts(&world, CLIENT, 10_000, cluster_of), &expected, why);
    };
    shares(&|_| {}, [1.0, 1.0, 1.0], "nobody has a label");
    shares(&|w| label(w, "a", &[("tier", "gold")]), [3.0, 1.0, 1.0], "a has one");
    let b = |labels| Peer { name: "b".into(), cluster: cluster("b"), labels, state: None, rtt: None };
    let told = b(labels(&[("site", "x"), ("tier", "gold")]));
    shares(&|w| _ = w.apply("a", Object::Peer(told.clone())), [3.0, 6.0, 1.0], "b is told to have both");
    shares(&|w| label(w, "b", &[("site", "y")]), [3.0, 3.0, 1.0], "what is configured goes before");
    shares(&|w| label(w, "c", &[("tier", "gold")]), [3.0, 3.0, 1.0], "c is weighted by name");
    shares(&|w| label(w, "a", &[]), [1.0, 3.0, 1.0], "a has none any more");
}

fn configured(zone: Option<&str>, of: Scope, rules: Rules) -> Configured {
    Configured { zone: zone.map(|zone| Name::parse(zone).unwrap()), of, rules: rules.into() }
}

/// The operator's go before the own cluster's of the same reach; what is about the service goes before what travels with it,
/// and that before what is about more.
#[test]
fn configured_policies_have_their_place() {
    let mut world = world(&sites(), Rules { ttl: Some(1), ..rules() });
    let ttl = |seconds| Rules { ttl: Some(seconds), ..rules() };
    let by_scope = [
        configured(None, Scope::Service(service_name("other")), ttl(9)),
        configured(None, Scope::All, ttl(4)),
        configured(None, Scope::Namespace("n".into()), ttl(3)),
        configured(None, Scope::Service(service_name("s")), ttl(2)),
    ];
    let mut holds = |policies: &[Configured]| {
        world.table.apply(Event::Configure(policies.into()));
        world.compile();
        told(&world.snapshot, NAME, CLIENT, 0).1.unwrap().ttl.unwrap()
    };
    assert_eq!(holds(&by_scope), 2, "the configuration's about the service");
    assert_eq!(holds(&by_scope[..3]), 1, "the own cluster's about the import");
    world.say("a", Change::Delete(ObjectKey::Policy(PolicyName::new("n", "p"))));
    world.apply("b", policy("travels", 1, exports(&["s"]), ttl(5)));
    world.apply("a", policy("space", 1, Target::Namespace, ttl(6)));
    let mut holds = |policies: &[Configured]| {
        world.table.apply(Event::Configure(policies.into()));
        world.compile();
        told(&world.snapshot, NAME, CLIENT, 0).1.unwrap().ttl.unwrap()
    };
    assert_eq!(holds(&by_scope[..3]), 5, "the export's");
    world.say("b", Change::Delete(ObjectKey::Policy(PolicyName::new("n", "travels"))));
    let mut holds = |policies: &[Configured]| {
        world.table.apply(Event::Configure(policies.into()));
        world.compile();
        told(&world.snapshot, NAME, CLIENT, 0).1.unwrap().ttl.unwrap()
    };
    assert_eq!(holds(&by_scope[..3]), 3, "the configuration's about the namespace");
    assert_eq!(holds(&by_scope[..2]), 6, "the own cluster's about the namespace");
    let all = |world: &World| told(&world.snapshot, NAME, CLIENT, 0).1.unwrap().ttl;
    world.say("a", Change::Delete(ObjectKey::Policy(PolicyName::new("n", "space"))));
    world.compile();
    assert_eq!(all(&world), Some(4), "the configuration's about all");
}

/// `a`, which asks, `b` and `c`, each with a gateway for those outside; in two zones.
fn two_zones(kind: ServiceKind) -> World {
    let mut world = World::new(&["clusterset.local", "global.example.com"], &["a", "b", "c"]);
    world.home("a");
    for site in &sites() {
        world.reset(site.id, site.objects("s", kind, http()));
        let at = GatewayAt::Addresses([IpAddr::from([10, site.octet(), 9, 1])].into());
        let gateway = Some(Arc::new(Gateway { at, ports: Box::default() }));
        let service = Service { name: service_name("s"), kind, spec: http().into(), gateway };
        world.apply(site.id, Object::Service(service));
    }
    world.vip("n", "s", &["10.96.0.1"]);
    world
}

fn global(rules: Rules) -> Event {
    Event::Configure([configured(Some("global.example.com"), Scope::All, rules)].into())
}

fn in_zone(world: &World, name: &str) -> String {
    let answers = (0..64).flat_map(|entropy| told(&world.snapshot, name, "192.0.2.1", entropy).0);
    let all: std::collections::BTreeSet<String> = answers.map(spot).collect();
    all.into_iter().collect::<Vec<_>>().join(" ")
}

/// One zone answers the virtual IP to pods, the other one the gateways to clients on the internet, from one table; each says
/// the same in a transfer, and a policy that goes leaves no trace.
#[test]
fn a_zone_has_policies_of_its_own() {
    let mut world = two_zones(ServiceKind::ClusterIp);
    world.table.apply(global(Rules { answer: Form::Gateways, ttl: Some(7), ..Rules::default() }));
    world.compile();
    assert_eq!(world.lookup(NAME, "A"), "10.96.0.1");
    assert_eq!(in_zone(&world, GLOBAL), "a9 b9 c9", "endpoints on the own network have gateways, too");
    let (_, chosen) = told(&world.snapshot, GLOBAL, "192.0.2.1", 0);
    assert_eq!(chosen.unwrap().ttl, Some(7));
    assert!(
        world.lookup(GLOBAL, "SRV").ends_with("80 10-3-9-1.c.s.n.svc"),
        "{}",
        world.lookup(GLOBAL, "SRV")
    );
    assert_eq!(world.lookup("10-3-9-1.c.s.n.svc.global.example.com", "A"), "10.3.9.1");
    assert_eq!(world.lookup("10-3-9-1.c.s.n.svc.clusterset.local", "A"), "NXDOMAIN");
    let text = world.text();
    let zone =
        |origin: &str| text.split("$ORIGIN ").find(|zone| zone.starts_with(origin)).unwrap().to_owned();
    assert_eq!(zone("global.example.com.").matches("\ns.n.svc 5 IN A 10.").count(), 3, "{text}");
    assert!(zone("clusterset.local.").contains("\ns.n.svc 5 IN A 10.96.0.1\n"), "{text}");
    world.table.apply(Event::Configure(Box::default()));
    assert!(world.compile());
    assert_eq!(world.lookup(GLOBAL, "A"), "10.96.0.1");
}

/// What fails behind a gateway weighs less there, and a cluster without a ready endpoint is no answer.
#[test]
fn gateways_stand_for_what_is_behind_them() {
    let mut world = two_zones(ServiceKind::ClusterIp);
    world.table.apply(global(Rules { answer: Form::Gateways, ..Rules::default() }));
    world.apply("b", site("b").node("n1", "zb", 0, 2).slice("s"));
    world.apply("c", site("c").node("n1", "zc", 6, 6).slice("s"));
    world.compile();
    let mut counts = std::collections::BTreeMap::new();
    for entropy in 0..10_000 {
        let first = told(&world.snapshot, GLOBAL, "192.0.2.1", entropy).0[0];
        *counts.entry(cluster_of(first)).or_insert(0) += 1;
    }
    assert_shares(&counts, &[("a", 2.0), ("c", 6.0)], "by what is ready");
}

/// Endpoints of headless services have no addresses outside.
#[test]
fn headless_services_have_no_gateways() {
    let mut world = two_zones(ServiceKind::Headless);
    world.table.apply(global(Rules { answer: Form::Gateways, ..Rules::default() }));
    world.compile();
    assert_eq!(world.lookup(GLOBAL, "A"), "NXDOMAIN");
    assert_ne!(world.lookup(NAME, "A"), "NXDOMAIN");
}

/// A service that no zone answers leaves its namespace unnamed; one that a single zone answers doesn't (RFC 8020).
#[test]
fn a_namespace_exists_where_any_zone_answers() {
    let mut world = two_zones(ServiceKind::ClusterIp);
    world.vip("n", "s", &[]).compile();
    assert_eq!(world.lookup("n.svc.global.example.com", "A"), "NXDOMAIN");
    world.table.apply(global(Rules { answer: Form::Gateways, ..Rules::default() }));
    world.compile();
    assert_eq!(world.lookup("n.svc.global.example.com", "A"), "NODATA");
    assert_eq!((&*world.lookup(NAME, "A"), &*in_zone(&world, GLOBAL)), ("NXDOMAIN", "a9 b9 c9"));
    world.table.apply(Event::Configure(Box::default()));
    world.compile();
    assert_eq!(world.lookup("n.svc.global.example.com", "A"), "NXDOMAIN");
}

/// What a zone's policy pins in one zone, another zone answers as ever.
#[test]
fn zones_choose_on_their_own() {
    let mut world = two_zones(ServiceKind::ClusterIp);
    world.apply("a", policy("p", 1, imports(&["s"]), by(&[Zone], Pin)));
    let failover = Rules { failover: [cluster("c")].into(), ..rules() };
    world.table.apply(Event::Configure(
        [configured(Some("global.example.com"), Scope::Service(service_name("s")), failover)].into(),
    ));
    world.compile();
    let ask = |name: &str| {
        let (answer, _) = told(&world.snapshot, name, CLIENT, 0);
        answer.into_iter().map(spot).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!((ask(NAME), ask(GLOBAL)), ([String::from("a1")].into(), [String::from("c1")].into()));
    let unknown = QName::parse("t.n.svc.global.example.com").unwrap();
    assert_eq!(found(&world.snapshot, &unknown, "A".parse().unwrap()), "NXDOMAIN");
}

/// What a zone answers is asked as well as what others do: gateways where pods are asked for the rest.
#[test]
fn all_that_is_answered_is_asked() {
    let mut world = two_zones(ServiceKind::ClusterIp);
    world.apply("a", policy("p", 1, imports(&["s"]), Rules { health_check: Some(tcp_check()), ..rules() }));
    world.table.apply(global(Rules { answer: Form::Gateways, ..Rules::default() }));
    world.compile();
    let checks = world.table.take_checks().unwrap();
    let at = |address: &str| checks.iter().filter(|check| check.address.to_string() == address).count();
    assert_eq!((checks.len(), at("10.2.9.1:80"), at("10.2.1.1:8080")), (9, 1, 1), "{checks:?}");
    let dead = checks.iter().filter(|check| check.address.to_string() == "10.2.9.1:80");
    world.table.apply(Event::Checked(dead.map(|check| (check.clone(), false)).collect()));
    world.compile();
    assert_eq!((in_zone(&world, GLOBAL), in_zone(&world, NAME)), ("a9 c9".into(), "a1 b1 c1".into()));
}

/// A pod of another network is not the one of home that has the same address.
#[test]
fn networks_may_overlap() {
    let mut world = two_zones(ServiceKind::ClusterIp);
    world.apply("a", policy("p", 1, imports(&["s"]), Rules { health_check: Some(tcp_check()), ..rules() }));
    world.table.apply(Event::Network { cluster: cluster("b"), network: "east".into() });
    let same = slice("n", "s", "s-b", &[("http", 8080)], vec![endpoint("10.1.1.1", None, true)]);
    world.apply("b", same).compile();
    let checks = world.table.take_checks().unwrap();
    let dead = checks.iter().filter(|check| check.address.to_string() == "10.1.1.1:8080");
    world.table.apply(Event::Checked(dead.map(|check| (check.clone(), false)).collect()));
    world.compile();
    assert!(reached(&world, CLIENT).contains("b9"), "{}", reached(&world, CLIENT));
}
