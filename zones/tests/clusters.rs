//! Clusters that are heard, or only told of by an import, and how those on other networks are reached.

use std::sync::Arc;

use portolan_zones::object::*;
use portolan_zones::peers::Scope;
use portolan_zones::policy::{Configured, Form, Rules};
use portolan_zones::service::Reach;
use portolan_zones::{Event, Hearing};

use crate::common::*;

/// Import `n/s` of type ClusterSetIP, at `10.9.9.9`, exported by `clusters` as its writer last knew.
fn imported(clusters: &[&str]) -> Object {
    let Object::Import(import) = import("n", "s", 1, &["10.9.9.9"]) else { unreachable!() };
    Object::Import(Import { clusters: clusters.iter().map(|id| cluster(id)).collect(), ..import })
}

fn pods(source: Option<&str>, address: &str) -> Object {
    let name = source.map_or("own".to_owned(), |id| format!("of-{id}"));
    let slice = slice("n", "s", &name, &[("http", 8080)], vec![endpoint(address, None, true)]);
    source.map_or(slice.clone(), |id| mirrored(slice, id))
}

fn exported(created: UnixTime) -> [Object; 2] {
    [
        export("n", "s", created),
        service("n", "s", ServiceKind::ClusterIp, spec(&[port("http", Protocol::Tcp, 80)])),
    ]
}

/// `cluster: addresses` of each member.
fn members(world: &World) -> Vec<String> {
    let Some(service) = world.snapshot.services.get(b"\x01s\x01n") else { return Vec::new() };
    let addresses = |slices: &[Arc<Slice>]| -> Vec<String> {
        slices.iter().flat_map(|s| s.endpoints.iter().map(|e| e.address.to_string())).collect()
    };
    service.members.iter().map(|m| format!("{}: {}", m.cluster, addresses(&m.slices).join(" "))).collect()
}

fn hear(world: &mut World, hearing: Hearing) {
    world.table.apply(Event::Hear(hearing));
    world.compile();
}

fn ids(clusters: &[&str]) -> std::collections::BTreeSet<portolan_zones::ClusterId> {
    clusters.iter().map(|id| cluster(id)).collect()
}

/// A cluster that fell silent while it was being listed is taken out whole: what it had said by then must not stay.
#[test]
fn a_reset_takes_away_what_a_half_read_cluster_said() {
    let mut world = World::new(&["clusterset.local"], &["home", "a"]);
    world.home("home").reset("home", Vec::new());
    for object in exported(1).into_iter().chain([pods(None, "10.1.0.1")]) {
        world.apply("a", object);
    }
    world.compile();
    assert_eq!(members(&world), ["a: 10.1.0.1"]);
    world.reset("a", Vec::new());
    world.compile();
    assert_eq!(members(&world), [""; 0]);
}

/// A controller reads back what it wrote: a cluster that is heard and exports no more must not live on in its copies.
#[test]
fn copies_of_a_cluster_that_is_heard_do_not_count() {
    let mut world = World::new(&["clusterset.local"], &["home"]);
    world
        .home("home")
        .reset("home", vec![imported(&["a", "b"]), pods(Some("a"), "10.1.0.1"), pods(Some("b"), "10.2.0.1")]);
    for (hearing, expected) in [
        (Hearing::default(), vec!["a: 10.1.0.1", "b: 10.2.0.1"]),
        (Hearing::Only(ids(&["a"])), vec!["b: 10.2.0.1"]),
        (Hearing::AllBut(ids(&["a"])), vec!["a: 10.1.0.1"]),
        (Hearing::AllBut(ids(&["c"])), vec![]),
        (Hearing::Only(ids(&["a", "b"])), vec![]),
    ] {
        hear(&mut world, hearing.clone());
        assert_eq!(members(&world), expected, "{hearing:?}");
        let held = world.snapshot.services.get(b"\x01s\x01n").is_some_and(|service| service.held);
        assert_eq!(held, !expected.is_empty(), "{hearing:?}");
    }
}

/// What nobody exports has no name, though an import of it is left over; an import that says nothing of its clusters
/// (another implementation's, or one just written) is taken at its word.
#[test]
fn an_import_alone_stands_unless_its_clusters_are_heard() {
    let mut world = World::new(&["clusterset.local"], &["home"]);
    world.home("home").reset("home", vec![imported(&["a"])]);
    hear(&mut world, Hearing::Only(ids(&["home", "a"])));
    assert_eq!(world.lookup("s.n.svc.clusterset.local", "A"), "NXDOMAIN");
    world.apply("home", imported(&[]));
    world.compile();
    assert_eq!(world.lookup("s.n.svc.clusterset.local", "A"), "10.9.9.9");
    world.apply("home", imported(&["a", "b"]));
    world.compile();
    assert_eq!(members(&world), ["b: "], "b may still export it");
}

/// The import of a service that a cluster which is not heard exports too keeps its type and properties.
#[test]
fn an_import_holds_while_a_cluster_behind_it_is_not_heard() {
    let mut world = World::new(&["clusterset.local"], &["home", "a"]);
    world.home("home").reset("home", vec![imported(&["a", "b"])]).reset("a", exported(5).into());
    let service = |world: &World| world.snapshot.services.get(b"\x01s\x01n").unwrap().clone();
    hear(&mut world, Hearing::AllBut(ids(&["b"])));
    assert!(service(&world).held && service(&world).spec.ports.is_empty(), "as the import has it");
    hear(&mut world, Hearing::AllBut(ids(&[])));
    assert!(!service(&world).held && service(&world).spec.ports.len() == 1, "as a exports it");
}

/// A server in a cluster hears no exports. KEP-1645: what is not exported must not leak into the clusterset's answer, so
/// copies go before the cluster's own slices; these stand in until there are copies.
#[test]
fn own_slices_stand_in_until_there_are_copies() {
    let mut world = World::new(&["clusterset.local"], &["home"]);
    let slices = [pods(Some("a"), "10.1.0.1"), pods(None, "10.0.0.2")];
    world.home("home").reset("home", slices.into_iter().chain([imported(&["a", "home"])]).collect());
    world.compile();
    assert_eq!(members(&world), ["a: 10.1.0.1", "home: 10.0.0.2"]);
    world.apply("home", pods(Some("home"), "10.0.0.1"));
    world.compile();
    assert_eq!(members(&world), ["a: 10.1.0.1", "home: 10.0.0.1"]);
    world.reset("home", vec![imported(&["a"]), pods(Some("a"), "10.1.0.1"), pods(None, "10.0.0.2")]);
    world.compile();
    assert_eq!(members(&world), ["a: 10.1.0.1"], "not exported here: own slices are nobody's business");
}

fn with_gateway([export, service]: [Object; 2], at: GatewayAt, ports: &[(u16, u16)]) -> [Object; 2] {
    let Object::Service(service) = service else { unreachable!() };
    let port = |(number, gateway): &(u16, u16)| GatewayPort {
        protocol: Protocol::Tcp,
        number: *number,
        gateway: *gateway,
    };
    let gateway = Some(Arc::new(Gateway { at, ports: ports.iter().map(port).collect() }));
    [export, Object::Service(Service { gateway, ..service })]
}

fn node(name: &str, entrances: &[&str]) -> Object {
    node_that_is(true, name, entrances)
}

fn node_that_is(ready: bool, name: &str, entrances: &[&str]) -> Object {
    let addresses: Box<[_]> = entrances.iter().map(|ip| ip.parse().unwrap()).collect();
    Object::Node(Node {
        name: name.into(),
        az: None,
        region: None,
        pod_cidrs: Box::default(),
        addresses: addresses.clone(),
        ready,
        entrances: addresses,
    })
}

/// `flat`, `nowhere`, or the gateway's addresses and the number that port 80 has there.
fn reach(world: &World, id: &str) -> String {
    let service = world.snapshot.services.get(b"\x01s\x01n").unwrap();
    match &service.members.iter().find(|member| member.cluster == cluster(id)).unwrap().reach {
        Reach::Flat => "flat".to_owned(),
        Reach::Nowhere => "nowhere".to_owned(),
        Reach::Unresolved => "unresolved".to_owned(),
        Reach::Gateway(gateway) => {
            let list: Vec<_> = gateway.addresses().iter().map(ToString::to_string).collect();
            format!("{} :{}", list.join(" "), gateway.port(Protocol::Tcp, 80).unwrap())
        }
    }
}

fn put_on(world: &mut World, id: &str, network: &str) {
    world.table.apply(Event::Network { cluster: cluster(id), network: network.into() });
    world.compile();
}

/// The gateway that all services of a cluster share gives way to one of the Service's own, and nothing goes before what the
/// export's author says.
#[test]
fn the_shared_gateway_comes_last() {
    let gateway = |at: GatewayAt, to: u16| {
        let port = GatewayPort { protocol: Protocol::Tcp, number: 80, gateway: to };
        Some(Arc::new(Gateway { at, ports: [port].into() }))
    };
    let at = |address: &str| -> Box<[_]> { [address.parse().unwrap()].into() };
    let said = || gateway(GatewayAt::Addresses(at("192.0.2.1")), 1);
    let own = || gateway(GatewayAt::Addresses(at("192.0.2.2")), 2);
    let shared = || gateway(GatewayAt::Shared(at("192.0.2.3")), 3);
    for (export_says, service_has, expected) in [
        (said(), own(), "192.0.2.1 :1"),
        (said(), None, "192.0.2.1 :1"),
        (shared(), own(), "192.0.2.2 :2"),
        (shared(), None, "192.0.2.3 :3"),
        (None, own(), "192.0.2.2 :2"),
    ] {
        let mut world = World::new(&["clusterset.local"], &["home", "a"]);
        let [Object::Export(export), Object::Service(service)] = exported(1) else { unreachable!() };
        let export = Object::Export(Export { gateway: export_says, ..export });
        let service = Object::Service(Service { gateway: service_has, ..service });
        world.home("home").reset("home", Vec::new()).reset("a", vec![export, service]);
        put_on(&mut world, "a", "east");
        assert_eq!(reach(&world, "a"), expected);
    }
}

/// Two clusters on one network are flat; otherwise a service is reached through its cluster's gateway.
#[test]
fn other_networks_are_reached_through_gateways() {
    let balancer = |address: &str| GatewayAt::Addresses([address.parse().unwrap()].into());
    let shared = |address: &str| GatewayAt::Shared([address.parse().unwrap()].into());
    for (gateway, expected) in [
        (None, "nowhere"),
        (Some((balancer("203.0.113.7"), vec![])), "203.0.113.7 :80"),
        (Some((GatewayAt::Addresses([].into()), vec![])), "nowhere"),
        (Some((GatewayAt::Unresolved, vec![])), "unresolved"),
        (Some((GatewayAt::Nodes([].into()), vec![(80, 30_080)])), "192.0.2.1 192.0.2.2 :30080"),
        (Some((shared("203.0.113.8"), vec![(80, 20_017)])), "203.0.113.8 :20017"),
        (Some((GatewayAt::Shared([].into()), vec![(80, 20_017)])), "unresolved"),
    ] {
        let mut world = World::new(&["clusterset.local"], &["home", "a"]);
        let objects = exported(1);
        let objects = match gateway.clone() {
            Some((at, ports)) => with_gateway(objects, at, &ports),
            None => objects,
        };
        let nodes = [node("n1", &["192.0.2.1"]), node("n2", &["192.0.2.2"]), node("n3", &[])];
        world.home("home").reset("home", Vec::new()).reset("a", objects.into_iter().chain(nodes).collect());
        world.compile();
        assert_eq!(reach(&world, "a"), "flat", "one network unless it is said otherwise");
        put_on(&mut world, "a", "east");
        assert_eq!(reach(&world, "a"), expected, "{gateway:?}");
        let warnings = world
            .snapshot
            .services
            .get(b"\x01s\x01n")
            .unwrap()
            .warnings
            .iter()
            .filter(|w| w.to_string().contains("cluster a"))
            .count();
        assert_eq!(warnings, usize::from(["nowhere", "unresolved"].contains(&expected)));
        put_on(&mut world, "home", "east");
        assert_eq!(reach(&world, "a"), "flat");
    }
}

/// Nodes come and go: node ports are reached at those that take traffic, and only services behind them change.
#[test]
fn node_ports_follow_the_nodes() {
    let mut world = World::new(&["clusterset.local"], &["home", "a"]);
    let objects = with_gateway(exported(1), GatewayAt::Nodes([].into()), &[(80, 30_080)]);
    world
        .home("home")
        .reset("home", Vec::new())
        .reset("a", objects.into_iter().chain([node("n1", &["192.0.2.1"])]).collect());
    put_on(&mut world, "a", "east");
    assert_eq!(reach(&world, "a"), "192.0.2.1 :30080");
    world.apply("a", node("n2", &["192.0.2.2"])).apply("a", node("n1", &[]));
    world.compile();
    assert_eq!(reach(&world, "a"), "192.0.2.2 :30080");
    world.say("a", portolan_zones::Change::Delete(ObjectKey::Node("n2".into())));
    world.compile();
    assert_eq!(reach(&world, "a"), "nowhere");
    for i in 0..20 {
        world.apply("a", node(&format!("m{i:02}"), &[&format!("192.0.2.{}", 100 + i)]));
    }
    world.compile();
    assert_eq!(reach(&world, "a").split(' ').count(), 8 + 1, "a bounded list");
}

/// A Node that flaps is written into copies of all services behind it: at most twice, and it comes back though nobody says more.
#[test]
fn a_node_that_flaps_is_left_out_until_it_is_steady() {
    let mut world = World::new(&["clusterset.local"], &["home", "a"]);
    let objects = with_gateway(exported(1), GatewayAt::Nodes([].into()), &[(80, 30_080)]);
    let nodes = [node("n1", &["192.0.2.1"]), node("n2", &["192.0.2.2"])];
    world.home("home").reset("home", Vec::new()).reset("a", objects.into_iter().chain(nodes).collect());
    put_on(&mut world, "a", "east");
    assert_eq!(reach(&world, "a"), "192.0.2.1 192.0.2.2 :30080");
    for ready in [false, true, false, true] {
        world.apply("a", node_that_is(ready, "n2", &["192.0.2.2"]));
        world.compile();
        assert_eq!(reach(&world, "a"), "192.0.2.1 :30080", "ready: {ready}");
    }
    assert!(!world.compile_at(NOW + 299));
    assert!(world.compile_at(NOW + 300));
    assert_eq!(reach(&world, "a"), "192.0.2.1 192.0.2.2 :30080");
}

/// Kubernetes doesn't evict when all nodes are lost at once ("full disruption"): it is the control plane that can't be
/// reached, and node ports go on working.
#[test]
fn nodes_that_are_all_not_ready_are_entrances() {
    let mut world = World::new(&["clusterset.local"], &["home", "a"]);
    let objects = with_gateway(exported(1), GatewayAt::Nodes([].into()), &[(80, 30_080)]);
    world.home("home").reset("home", Vec::new()).reset("a", objects.into());
    put_on(&mut world, "a", "east");
    assert_eq!(reach(&world, "a"), "unresolved", "no node was told of yet");
    for (ready, expected) in [
        ([true, true], "192.0.2.1 192.0.2.2 :30080"),
        ([false, true], "192.0.2.2 :30080"),
        ([false, false], "192.0.2.1 192.0.2.2 :30080"),
    ] {
        let nodes = [("n1", "192.0.2.1", ready[0]), ("n2", "192.0.2.2", ready[1])];
        for (name, address, ready) in nodes {
            world.apply("a", node_that_is(ready, name, &[address]));
        }
        world.apply("a", node_that_is(true, "excluded", &[]));
        world.compile();
        assert_eq!(reach(&world, "a"), expected, "{ready:?}");
    }
}

/// Kinds are listed one by one: until a cluster is heard whole, what home tells of it holds (a controller that starts anew
/// must not take half a word for all).
#[test]
fn half_a_word_does_not_replace_what_home_tells() {
    let mut world = World::new(&["clusterset.local"], &["home"]);
    world
        .home("home")
        .reset("home", vec![imported(&["a", "b"]), pods(Some("a"), "10.1.0.1"), pods(Some("b"), "10.2.0.1")]);
    hear(&mut world, Hearing::AllBut(ids(&["a", "b", "c"])));
    let told = ["a: 10.1.0.1", "b: 10.2.0.1"];
    for (id, object) in [("b", &exported(1)[0]), ("b", &exported(1)[1]), ("c", &exported(9)[0])] {
        world.apply(id, object.clone()).compile();
        assert_eq!(members(&world), told, "{id} has not said all");
    }
    world.apply("c", exported(9)[1].clone()).compile();
    assert_eq!(members(&world), [told[0], told[1], "c: "], "of c nobody tells anything");
    world.apply("b", pods(None, "10.2.0.2")).compile();
    hear(&mut world, Hearing::AllBut(ids(&["a", "c"])));
    assert_eq!(members(&world), ["a: 10.1.0.1", "b: 10.2.0.2", "c: "], "b has said all");
}

/// Whoever may make slices in a namespace must not add a cluster to its services.
#[test]
fn a_slice_adds_no_cluster_that_the_import_does_not_name() {
    let mut world = World::new(&["clusterset.local"], &["home"]);
    world
        .home("home")
        .reset("home", vec![imported(&["a"]), pods(Some("a"), "10.1.0.1"), pods(Some("x"), "10.6.6.6")])
        .compile();
    assert_eq!(members(&world), ["a: 10.1.0.1"]);
    world.apply("home", imported(&[])).compile();
    assert_eq!(members(&world), ["a: 10.1.0.1", "x: 10.6.6.6"], "an import that names nobody");
}

/// A host name that can't be resolved is not the end of a gateway: where it was, as the copies have it, holds.
#[test]
fn copies_hold_while_a_gateway_is_unresolved() {
    let mut world = World::new(&["clusterset.local"], &["home", "a"]);
    let objects =
        |at| with_gateway(exported(1), at, &[]).into_iter().chain([pods(None, "10.1.0.1")]).collect();
    let home = |clusters: &[&str]| vec![imported(clusters), pods(Some("a"), "203.0.113.7")];
    world.home("home").reset("home", home(&["a"])).reset("a", objects(GatewayAt::Unresolved));
    put_on(&mut world, "a", "east");
    hear(&mut world, Hearing::Only(ids(&["home", "a"])));
    assert_eq!((members(&world), reach(&world, "a")), (vec!["a: 203.0.113.7".to_owned()], "flat".to_owned()));
    let held = world.snapshot.services.get(b"\x01s\x01n").unwrap().held;
    assert!(!held, "its properties are known");
    world.reset("a", objects(GatewayAt::Addresses(["203.0.113.8".parse().unwrap()].into()))).compile();
    assert_eq!(
        (members(&world)[0].as_str(), reach(&world, "a")),
        ("a: 10.1.0.1", "203.0.113.8 :80".to_owned())
    );
    world.reset("a", objects(GatewayAt::Unresolved)).reset("home", home(&["b"])).compile();
    assert_eq!(reach(&world, "a"), "unresolved", "nothing is told of it");
}

/// A controller that was just started doesn't take back what the copies tell clients of other networks.
#[test]
fn a_gateway_of_the_own_network_stays_where_it_was_while_it_is_not_resolved() {
    let at = |address: &str| Gateway {
        at: GatewayAt::Addresses([address.parse().unwrap()].into()),
        ports: [].into(),
    };
    let Object::Slice(copy) = pods(Some("a"), "10.1.0.1") else { panic!() };
    let copy = Object::Slice(Slice { outside: Some(at("203.0.113.7").into()), ..copy });
    for (now, expected) in [
        (GatewayAt::Unresolved, Some(at("203.0.113.7"))),
        (at("203.0.113.8").at, Some(at("203.0.113.8"))),
        (GatewayAt::Addresses([].into()), None),
    ] {
        let mut world = World::new(&["clusterset.local"], &["home", "a"]);
        let own = with_gateway(exported(1), now, &[]).into_iter().chain([pods(None, "10.1.0.1")]).collect();
        let rules = Rules { answer: Form::Gateways, ..Rules::default() }.into();
        world.table.apply(Event::Configure([Configured { zone: None, of: Scope::All, rules }].into()));
        world.home("home").reset("home", vec![imported(&["a"]), copy.clone()]).reset("a", own);
        hear(&mut world, Hearing::Only(ids(&["home", "a"])));
        let service = world.snapshot.services.get(b"\x01s\x01n").unwrap();
        assert_eq!(service.members[0].gateway.as_deref(), expected.as_ref());
        assert_eq!(members(&world), ["a: 10.1.0.1"]);
        assert!(service.members[0].slices.iter().all(|slice| slice.source.is_none()), "its own slices count");
    }
}

/// An endpoint's name can't be reached through a gateway: never answer an address that the asker can't use.
#[test]
fn headless_endpoints_of_other_networks_are_not_answered() {
    let mut world = World::new(&["clusterset.local"], &["home", "a", "b"]);
    let headless = |id: &str, address: &str| {
        vec![
            export("n", "s", 1),
            service("n", "s", ServiceKind::Headless, spec(&[])),
            slice("n", "s", &format!("{id}-1"), &[("p", 80)], vec![endpoint(address, None, true)]),
        ]
    };
    world
        .home("home")
        .reset("home", Vec::new())
        .reset("a", headless("a", "10.1.0.1"))
        .reset("b", headless("b", "10.2.0.1"));
    put_on(&mut world, "b", "east");
    assert_eq!(world.lookup("s.n.svc.clusterset.local", "A"), "10.1.0.1");
    assert_eq!(world.lookup("10-2-0-1.b.s.n.svc.clusterset.local", "A"), "NXDOMAIN");
    let service = world.snapshot.services.get(b"\x01s\x01n").unwrap();
    assert_eq!(service.members.len(), 2, "it is a member all the same");
    assert!(service.warnings[0].to_string().starts_with("cluster b is on another network"));
}

/// Sources that tell objects one by one say when that was all: until then no name is denied.
#[test]
fn a_cluster_told_one_by_one_is_synced_when_it_says_so() {
    let mut world = World::new(&["clusterset.local"], &["a"]);
    for object in exported(1) {
        world.apply("a", object);
    }
    world.vip("n", "s", &["241.0.0.1"]).compile();
    world.vip("n", "s", &["241.0.0.1"]).compile();
    assert_eq!(world.lookup("s.n.svc.clusterset.local", "A"), "241.0.0.1");
    assert_eq!(world.lookup("x.n.svc.clusterset.local", "A"), "SERVFAIL");
    world.say("a", portolan_zones::Change::Synced).compile();
    assert_eq!(world.lookup("x.n.svc.clusterset.local", "A"), "NXDOMAIN");
}

/// Our controller writes slices before it says whose they are: one that dies in between has copied them all the same, and
/// must not take half a word of theirs for all when it starts anew.
#[test]
fn our_own_copies_tell_of_clusters_that_the_import_does_not_name_yet() {
    let mut world = World::new(&["clusterset.local"], &["home"]);
    let Object::Slice(copy) = pods(Some("b"), "10.2.0.1") else { unreachable!() };
    let copy = Object::Slice(Slice { ours: true, ..copy });
    world.home("home").reset("home", vec![imported(&["a"]), pods(Some("a"), "10.1.0.1"), copy]);
    let told = ["a: 10.1.0.1", "b: 10.2.0.1"];
    hear(&mut world, Hearing::Only(ids(&["home"])));
    assert_eq!(members(&world), told);
    hear(&mut world, Hearing::AllBut(ids(&["a", "b"])));
    for object in exported(1) {
        world.apply("b", object).compile();
        assert_eq!(members(&world), told, "b has not said all");
    }
    hear(&mut world, Hearing::AllBut(ids(&["a"])));
    assert_eq!(members(&world), [told[0], "b: "], "it has");
}

/// An import whose clusters are all heard is held by nobody: one that waits for a Service is the controller's to judge.
#[test]
fn nobody_who_is_not_heard_is_behind_an_import_that_says_so() {
    let mut world = World::new(&["clusterset.local"], &["home", "a"]);
    world.home("home").reset("home", Vec::new()).reset("a", vec![exported(1)[0].clone()]);
    hear(&mut world, Hearing::AllBut(ids(&["silent"])));
    for (clusters, expected) in [(&["a"][..], (false, 0)), (&["a", "silent"], (true, 1)), (&[], (true, 0))] {
        world.apply("home", imported(clusters)).compile();
        let service = world.snapshot.services.get(b"\x01s\x01n").unwrap();
        assert_eq!((service.held, service.members.len()), expected, "{clusters:?}");
        assert!(service.awaited);
    }
}

/// A cluster that may not speak for the namespace any more has no word in it, and neither has home's import for it: nobody
/// may be heard who would take that back.
#[test]
fn who_is_not_accepted_in_a_namespace_is_not_told_of() {
    let mut world = World::new(&["clusterset.local"], &["home", "b"]);
    let told = [imported(&["a", "b", "c"]), pods(Some("a"), "10.1.0.1"), pods(Some("c"), "10.3.0.1")];
    world
        .home("home")
        .reset("home", told.into())
        .reset("b", exported(1).into())
        .apply("b", pods(None, "10.2.0.1"));
    hear(&mut world, Hearing::AllBut(ids(&["a", "c"])));
    let all = ["a: 10.1.0.1", "b: 10.2.0.1", "c: 10.3.0.1"];
    let limits = |limits: &[(&str, &str)]| {
        limits.iter().map(|(id, namespace)| (cluster(id), [(*namespace).to_owned()].into())).collect()
    };
    for (accepted, expected) in [
        (limits(&[]), &all[..]),
        (limits(&[("a", "n")]), &all),
        (limits(&[("a", "other")]), &all[1..]),
        (limits(&[("b", "other")]), &[all[0], all[2]]),
        (limits(&[("a", "other"), ("c", "other")]), &all[1..2]),
        (limits(&[("a", "other"), ("b", "other"), ("c", "other")]), &[]),
    ] {
        world.table.apply(Event::Accept(accepted));
        world.compile();
        assert_eq!(members(&world), expected);
    }
    assert_eq!(world.lookup("s.n.svc.clusterset.local", "A"), "NXDOMAIN");
}
