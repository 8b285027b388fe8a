//! Virtual IPs that need a node agent: who is on a node with a ready one gets them, all others what can be reached without.

use std::net::IpAddr;
use std::sync::Arc;

use portolan_zones::object::*;
use portolan_zones::places::{self, Mapping};
use portolan_zones::policy::explain::Supposed;
use portolan_zones::policy::{Configured, Form, Level, Preference, Rules};
use portolan_zones::{Client, Event, Found, Name, QName, Service, zonefile};

use crate::common::*;
use crate::explain::{explained, inquiry};
use crate::picture::drawn;
use crate::site::*;

const VIP: &str = "241.0.0.1";
/// Clients on home's nodes, on a peer's node of the same name, by the operator's word on `n1`'s network, and nowhere.
const ON_N1: &str = "10.1.1.200";
const ON_N2: &str = "10.1.2.200";
const PEERS: &str = "10.2.1.200";
const MAPPED: &str = "10.1.1.65";
const NOWHERE: &str = "192.0.2.1";

/// A slice of the agents' Service: nodes, and whether the agent there is ready.
pub fn agents(name: &str, nodes: &[(&str, bool)]) -> Object {
    let agent = |(at, (node, ready)): (u8, &(&str, bool))| Endpoint {
        place: Some(Arc::new(Place { node: Some((*node).into()), az: None })),
        ..endpoint(&format!("172.16.0.{at}"), None, *ready)
    };
    slice("portolan-system", "portolan-agent", name, &[], (1..).zip(nodes).map(agent).collect())
}

pub fn switch_on(world: &mut World) {
    world.table.apply(Event::Agents(Some(name("portolan-system", "portolan-agent"))));
}

fn two_sites() -> [Site; 2] {
    [site("a").node("n1", "z1", 2, 2).node("n2", "z2", 1, 1), site("b").node("n1", "z3", 1, 1)]
}

/// `n/s` of two clusters with a virtual IP; of home's nodes `n1` has a ready agent and `n2` one that is not.
fn gated(kind: ServiceKind, rules: Option<Rules>) -> World {
    let mut world = world_of(&two_sites(), kind, &http(), rules);
    switch_on(&mut world);
    world.apply("a", agents("agents-1", &[("n1", true), ("n2", false)]));
    world.vip("n", "s", &[VIP]);
    let place = places::Place { region: Some("eu".into()), ..places::Place::default() };
    let network = Some((MAPPED.parse().unwrap(), 26));
    world.table.apply(Event::Map([Mapping { network, place }].into()));
    world.compile();
    world
}

/// `VIP`, or the endpoints as `a1 b1`.
fn form(world: &World, client: &str) -> String {
    match ask(world, client, 0).as_slice() {
        [one] if one.to_string() == VIP => "VIP".to_owned(),
        _ => reached(world, client),
    }
}

fn forms(world: &World) -> [String; 5] {
    [ON_N1, ON_N2, PEERS, MAPPED, NOWHERE].map(|client| form(world, client))
}

fn service(world: &World) -> Arc<Service> {
    world.snapshot.services.get(b"\x01s\x01n").unwrap().clone()
}

/// What a client finds at a name.
fn at(world: &World, qname: &str, rtype: &str, client: &str) -> &'static str {
    let address = client.parse().ok();
    let client = Client { address, ..Client::default() };
    let qname = QName::parse(qname).unwrap();
    match world.snapshot.lookup_for(&qname, rtype.parse().unwrap(), &client).unwrap().found {
        Found::Records(_) => "records",
        Found::NoData => "NODATA",
        Found::NxDomain(_) => "NXDOMAIN",
        Found::NotReady => "SERVFAIL",
    }
}

/// Only clients on home's nodes, by Nodes' word, are behind agents. RFC 7871 §7.2.1: the scope is the prefix for which that is so.
#[test]
fn virtual_ips_are_for_clients_behind_a_ready_agent() {
    const ALL: &str = "a1 a2 b1";
    let world = gated(ServiceKind::ClusterIp, None);
    assert_eq!(forms(&world), ["VIP", ALL, ALL, ALL, ALL]);
    for (client, scope) in
        [(ON_N1, 25), (ON_N2, 24), (PEERS, 24), (MAPPED, 26), (NOWHERE, 1), ("10.1.9.9", 21)]
    {
        let (_, chosen) = told(&world.snapshot, NAME, client, 0);
        assert_eq!(chosen.unwrap().scope, scope, "{client}");
    }
    // Nobody in particular, as zone transfers and files are for: virtual IPs.
    assert_eq!(world.lookup(NAME, "A"), VIP);
    let mut text = String::new();
    zonefile::write_zone(&mut text, &world.snapshot, world.zones.iter().next().unwrap()).unwrap();
    assert!(text.contains(VIP) && !text.contains("10.1.1.1"), "{text}");
}

/// Agents come and go: the lookup decides, no service is compiled anew, and the serial says that answers are others.
#[test]
fn readiness_is_followed_without_compiling() {
    let mut world = gated(ServiceKind::ClusterIp, None);
    let compiled = service(&world);
    for (nodes, expected) in [
        (&[("n1", false), ("n2", false)][..], ["a1 a2 b1", "a1 a2 b1"]),
        (&[("n1", false), ("n2", true)], ["a1 a2 b1", "VIP"]),
        (&[], ["a1 a2 b1", "a1 a2 b1"]),
        (&[("n1", true), ("n2", true)], ["VIP", "VIP"]),
    ] {
        let serial = world.snapshot.serial;
        let older = world.snapshot.clone();
        assert!(world.apply("a", agents("agents-1", nodes)).compile());
        assert_eq!([form(&world, ON_N1), form(&world, ON_N2)], expected, "{nodes:?}");
        assert_ne!(world.snapshot.serial, serial, "{nodes:?}");
        assert!(Arc::ptr_eq(&compiled, &service(&world)), "{nodes:?}: nothing was compiled");
        let patched = older.patched(&world.snapshot.diff(&older));
        assert_eq!(patched.agents, world.snapshot.agents);
    }
    let agents = world.snapshot.agents.clone().unwrap();
    assert_eq!((agents.ready(), agents.nodes()), (2, 2));
    // What an agent's slice says besides is no news to anybody.
    assert!(!world.apply("a", super::agents::agents("agents-1", &[("n2", true), ("n1", true)])).compile());
    // A node that joins has none; its agent's slice may come before it.
    world.apply("a", super::agents::agents("agents-2", &[("n3", true)])).compile();
    assert_eq!((world.snapshot.agents.as_ref().unwrap().ready()), 3);
    let serial = world.snapshot.serial;
    let site = site("a").node("n1", "z1", 0, 0).node("n2", "z2", 0, 0).node("n3", "z1", 0, 0);
    for node in site.node_objects() {
        world.apply("a", node);
    }
    world.compile();
    assert_eq!(form(&world, "10.1.3.9"), "VIP");
    assert_ne!(world.snapshot.serial, serial, "its clients are somewhere now");
}

/// A serial that moves has every secondary ask (RFC 1982, RFC 1996): not when no answer depends on agents.
#[test]
fn the_serial_rests_while_no_answer_depends_on_agents() {
    for (kind, rules) in [(ServiceKind::Headless, None), (ServiceKind::ClusterIp, Some(rules()))] {
        let mut world = gated(kind, rules);
        let serial = world.snapshot.serial;
        assert!(world.apply("a", agents("agents-1", &[("n2", true)])).compile(), "people are told");
        assert_eq!(world.snapshot.serial, serial);
    }
}

/// Only home's own word about its own Pods counts, and only of an agent that works.
#[test]
fn nobody_else_says_where_agents_are() {
    let mut world = gated(ServiceKind::ClusterIp, None);
    let none = |world: &mut World, why: &str| {
        world.compile();
        assert_eq!(form(world, ON_N1), "a1 a2 b1", "{why}");
    };
    world.apply("a", mirrored(agents("agents-1", &[("n1", true)]), "b"));
    none(&mut world, "a copy of another cluster's agents");
    world.apply("b", agents("agents-1", &[("n1", true)]));
    none(&mut world, "another cluster's agents");
    let Object::Slice(mut other) = agents("agents-1", &[("n1", true)]) else { unreachable!() };
    other.service = name("portolan-system", "other");
    world.apply("a", Object::Slice(other));
    none(&mut world, "another Service");
    for (conditions, why) in [
        (Conditions { ready: true, serving: false, terminating: false }, "published though not ready"),
        (Conditions { ready: true, serving: true, terminating: true }, "it is about to end"),
        (Conditions { ready: false, serving: true, terminating: true }, "it is about to end"),
    ] {
        let Object::Slice(mut slice) = agents("agents-1", &[("n1", true)]) else { unreachable!() };
        slice.endpoints[0].conditions = conditions;
        world.apply("a", Object::Slice(slice));
        none(&mut world, why);
    }
    // Of two Pods on a node, as a rollout has them, one is enough.
    world.apply("a", agents("agents-2", &[("n1", false), ("n1", true)])).compile();
    assert_eq!(form(&world, ON_N1), "VIP");
    world.table.apply(Event::Home(None));
    // Without a home imports and agents are nobody's.
    none(&mut world, "nobody is home");
    world.home("b").compile();
    assert_eq!([form(&world, ON_N1), form(&world, PEERS)], ["a1 a2 b1", "VIP"], "b's own agents");
    world.table.apply(Event::Forget(cluster("b")));
    world.compile();
    assert_ne!(form(&world, PEERS), "VIP", "it has left");
}

/// Pods whose Nodes don't say which addresses they have are where slices say.
#[test]
fn pods_are_found_by_their_slices() {
    let mut world = gated(ServiceKind::ClusterIp, None);
    for object in two_sites()[0].node_objects() {
        let Object::Node(node) = object else { unreachable!() };
        let address: IpAddr = if &*node.name == "n1" { "10.9.9.1" } else { "10.9.9.2" }.parse().unwrap();
        world.apply(
            "a",
            Object::Node(Node { pod_cidrs: Box::default(), addresses: [address].into(), ..node }),
        );
    }
    world.compile();
    for (client, expected) in [
        ("10.1.1.1", "VIP"),
        ("10.9.9.1", "VIP"),
        ("10.1.2.1", "a1 a2 b1"),
        ("10.9.9.2", "a1 a2 b1"),
        (ON_N1, "a1 a2 b1"),
    ] {
        assert_eq!(form(&world, client), expected, "{client}");
    }
    let told = explained(&world, &inquiry("10.1.1.1", "A", &Supposed::default()));
    assert_eq!(told.stages[0].lines, ["VIP: node n1 has a ready agent"]);
}

/// Node.spec.podCIDR: what the control plane gave the node; Calico's and Cilium's own address management go by other networks. A pod
/// that an EndpointSlice places is where its kubelet says; only who is no endpoint is looked for in podCIDRs.
#[test]
fn pods_are_where_their_slices_say_whatever_networks_nodes_have() {
    let mut world = gated(ServiceKind::ClusterIp, None);
    let place = |node: &str| Some(Arc::new(Place { node: Some(node.into()), az: None }));
    let pods = |nodes: [&str; 2]| {
        let at = [("10.1.1.7", nodes[0]), ("10.1.2.7", nodes[1])];
        let pods = at.map(|(ip, node)| Endpoint { place: place(node), ..endpoint(ip, None, true) });
        slice("n", "s", "s-a", &[("http", 8080)], pods.into())
    };
    let scope = |world: &World, client| told(&world.snapshot, NAME, client, 0).1.unwrap().scope;
    let swapped = ["n2", "n1"];
    world.apply("a", pods(swapped)).compile();
    for (client, expected, length) in [
        ("10.1.1.7", "a1 a2 b1", 32),
        ("10.1.2.7", "VIP", 32),
        (ON_N1, "VIP", 32),
        (ON_N2, "a1 a2 b1", 32),
        (NOWHERE, "a1 a2 b1", 1),
    ] {
        assert_eq!((form(&world, client).as_str(), scope(&world, client)), (expected, length), "{client}");
    }
    let told = explained(&world, &inquiry("10.1.2.7", "A", &Supposed::default()));
    assert_eq!(told.stages[0].lines, ["VIP: node n1 has a ready agent"]);
    // Nodes that get those networks after all; and the slice that agrees with them.
    world.apply("a", pods(["n1", "n2"])).compile();
    assert_eq!((form(&world, "10.1.1.7").as_str(), scope(&world, "10.1.1.7")), ("VIP", 26));
    assert_eq!((form(&world, "10.1.2.7").as_str(), scope(&world, "10.1.2.7")), ("a1 a2 b1", 24));
    world.apply("a", pods(swapped)).compile();
    for object in two_sites()[0].node_objects() {
        let Object::Node(node) = object else { unreachable!() };
        let at = if &*node.name == "n1" { 2 } else { 1 };
        world.apply(
            "a",
            Object::Node(Node { pod_cidrs: [(IpAddr::from([10, 1, at, 0]), 24)].into(), ..node }),
        );
    }
    world.compile();
    assert_eq!((form(&world, "10.1.2.7").as_str(), scope(&world, "10.1.2.7")), ("VIP", 24));
    // The operator knows best; and without agents nobody needs to know.
    world.apply("a", pods(swapped)).compile();
    world.table.apply(Event::Agents(None));
    world.compile();
    assert_eq!(form(&world, "10.1.1.7"), "VIP");
}

/// Headless services have no virtual IPs, and services whose names answer directly no use for them.
#[test]
fn others_are_answered_as_ever() {
    for (kind, rules) in [
        (ServiceKind::Headless, None),
        (ServiceKind::Headless, Some(by(&[Level::Zone], Preference::Prefer))),
        (ServiceKind::ClusterIp, Some(by(&[Level::Cluster], Preference::Prefer))),
    ] {
        let (with, without) = (gated(kind, rules.clone()), world_of(&two_sites(), kind, &http(), rules));
        for client in [ON_N1, ON_N2, PEERS, NOWHERE] {
            let answers = [&with, &without].map(|world| told(&world.snapshot, NAME, client, 3).0);
            assert_eq!(answers[0], answers[1], "{client}");
        }
        assert_eq!(service(&with).answers.direct(), None);
    }
}

/// Switched off, all is as if it had never been on.
#[test]
fn it_can_be_switched_on_and_off() {
    let mut world = gated(ServiceKind::ClusterIp, None);
    world.table.apply(Event::Agents(None));
    assert!(world.compile());
    assert_eq!(forms(&world), ["VIP"; 5]);
    assert_eq!((world.snapshot.agents.is_none(), service(&world).answers.direct().is_none()), (true, true));
    assert_eq!(told(&world.snapshot, NAME, ON_N1, 0).1, None);
    switch_on(&mut world);
    assert!(world.compile());
    assert_eq!(forms(&world)[..2], ["VIP", "a1 a2 b1"]);
    world.table.apply(Event::Agents(Some(name("portolan-system", "other"))));
    world.compile();
    assert_eq!(form(&world, ON_N1), "a1 a2 b1", "agents of another name");
}

/// The rules that hold choose for those who get endpoints as they would if they said so.
#[test]
fn policies_hold_for_who_gets_endpoints() {
    let vip = |rules: Rules| Rules { answer: Form::Vip, ..rules };
    let world = gated(ServiceKind::ClusterIp, Some(vip(weighted(&[("a", 1), ("b", 3)]))));
    assert_eq!(form(&world, ON_N1), "VIP");
    let expected = [("a", 1.0), ("b", 3.0)];
    assert_shares(&counts(&world, NOWHERE, 10_000, cluster_of), &expected, "weights");
    let near = gated(ServiceKind::ClusterIp, Some(vip(by(&[Level::Node], Preference::Prefer))));
    assert_eq!(forms(&near), ["VIP", "a2", "b1", "a1 a2 b1", "a1 a2 b1"]);
    let sticky =
        gated(ServiceKind::ClusterIp, Some(Rules { ttl: Some(7), sticky: true, ..Rules::default() }));
    let (_, chosen) = told(&sticky.snapshot, NAME, ON_N2, 0);
    assert_eq!(chosen.map(|chosen| (chosen.ttl, chosen.scope)), Some((Some(7), 32)));
    let (_, chosen) = told(&sticky.snapshot, NAME, ON_N1, 0);
    assert_eq!(
        chosen.map(|chosen| (chosen.ttl, chosen.scope)),
        Some((Some(7), 25)),
        "one VIP for the whole node"
    );
}

/// Kubernetes' own fields are about virtual IPs, and about what stands in for them. Whom there is nothing for gets NODATA: the
/// name exists (RFC 2308 §2.2).
#[test]
fn a_services_own_fields_hold_for_who_gets_endpoints() {
    let local = ServiceSpec { internal_traffic_local: true, ..http() };
    let close = ServiceSpec { traffic_distribution: Some("PreferSameZone".into()), ..http() };
    for (spec, expected) in
        [(local, ["VIP", "a2", "b1", "", ""]), (close, ["VIP", "a2", "b1", "a1 a2 b1", "a1 a2 b1"])]
    {
        let mut world = gated(ServiceKind::ClusterIp, None);
        for id in ["a", "b"] {
            world.apply(id, crate::common::service("n", "s", ServiceKind::ClusterIp, spec.clone()));
        }
        world.compile();
        assert_eq!(forms(&world), expected);
    }
}

/// What is on another network is reached through its gateway; where there is none, or nothing is ready, there is nothing to say.
/// Names don't come and go with who asks (RFC 8020).
#[test]
fn what_can_be_reached_is_answered() {
    const PORT: &str = "_http._tcp.s.n.svc.clusterset.local";
    let mut world = gated(ServiceKind::ClusterIp, None);
    world.table.apply(Event::Network { cluster: cluster("b"), network: "east".into() });
    world.apply("a", slice("n", "s", "s-a", &[("http", 8080)], Vec::new())).compile();
    assert_eq!(forms(&world), ["VIP", "", "", "", ""], "no gateway");
    for (qname, rtype, with, without) in [
        (NAME, "A", "records", "NODATA"),
        (NAME, "AAAA", "NODATA", "NODATA"),
        (NAME, "SRV", "records", "NODATA"),
        (NAME, "ANY", "records", "records"),
        (PORT, "SRV", "records", "NODATA"),
        (PORT, "A", "NODATA", "NODATA"),
        ("_tcp.s.n.svc.clusterset.local", "A", "NODATA", "NODATA"),
        ("_other._tcp.s.n.svc.clusterset.local", "SRV", "NXDOMAIN", "NXDOMAIN"),
        ("x.b.s.n.svc.clusterset.local", "A", "NXDOMAIN", "NXDOMAIN"),
    ] {
        let found = [ON_N1, NOWHERE].map(|client| at(&world, qname, rtype, client));
        assert_eq!(found, [with, without], "{qname} {rtype}");
    }
    let addresses = [IpAddr::from([10, 2, 9, 1])].into();
    let gateway = Gateway { at: GatewayAt::Addresses(addresses), ports: Box::default() };
    let behind = portolan_zones::object::Service {
        name: service_name("s"),
        kind: ServiceKind::ClusterIp,
        spec: http().into(),
        gateway: Some(Arc::new(gateway)),
    };
    world.apply("b", Object::Service(behind)).compile();
    assert_eq!(forms(&world), ["VIP", "b9", "b9", "b9", "b9"]);
}

/// Endpoints' names, which SRV records point at, answer everybody: a cache may ask for one client what it got for another.
#[test]
fn names_of_endpoints_answer_everybody() {
    let world = gated(ServiceKind::ClusterIp, None);
    for client in [ON_N1, NOWHERE, "nobody"] {
        assert_eq!(at(&world, &format!("10-1-1-1.a.{NAME}"), "A", client), "records", "{client}");
        assert_eq!(at(&world, &format!("a.{NAME}"), "A", client), "NODATA", "{client}");
        assert_eq!(at(&world, &format!("10-1-1-9.a.{NAME}"), "A", client), "NXDOMAIN", "{client}");
    }
}

/// A zone of its own rules is as it says; virtual IPs of others still need agents.
#[test]
fn zones_differ() {
    let mut world = World::new(&["clusterset.local", "global.example.com"], &["a", "b"]);
    world.home("a");
    for site in two_sites() {
        world.reset(site.id, site.objects("s", ServiceKind::ClusterIp, http()));
    }
    switch_on(&mut world);
    world.apply("a", agents("agents-1", &[("n1", true)])).vip("n", "s", &[VIP]);
    let zone = Some(Name::parse("global.example.com").unwrap());
    let of = portolan_zones::peers::Scope::All;
    world
        .table
        .apply(Event::Configure([Configured { zone, of, rules: weighted(&[("b", 0)]).into() }].into()));
    world.compile();
    let ask = |zone: &str, client: &str| told(&world.snapshot, &format!("s.n.svc.{zone}"), client, 0).0.len();
    assert_eq!([ON_N1, NOWHERE].map(|client| ask("clusterset.local", client)), [1, 4]);
    assert_eq!([ON_N1, NOWHERE].map(|client| ask("global.example.com", client)), [3, 3]);
    let by_zone = service(&world).by_zone[0].clone().unwrap();
    assert_eq!(by_zone.answers.direct(), None);
}

/// Which form a client gets, and why, is told with the steps; shares are those of what it gets, or of what its agent connects to.
#[test]
fn which_form_and_why_is_told() {
    let mut world = gated(ServiceKind::ClusterIp, None);
    let supposed = Supposed::default();
    for (client, form, answer) in [
        (ON_N1, "VIP: node n1 has a ready agent", "A: virtual IP 241.0.0.1; the node's agent spreads"),
        (
            ON_N2,
            "endpoints: node n2 has no ready agent: there is one, but it is not ready",
            "A: endpoints, by these shares",
        ),
        (
            PEERS,
            "endpoints: 10.2.1.200 is on no node of this cluster, a, but elsewhere",
            "A: endpoints, by these shares",
        ),
        (
            MAPPED,
            "endpoints: 10.1.1.65 is on no node of this cluster, a, but elsewhere",
            "A: endpoints, by these shares",
        ),
        (
            NOWHERE,
            "endpoints: 192.0.2.1 is on no node of this cluster, a, that is known: it is in no Node's addresses or podCIDRs, and \
             no exported Service's EndpointSlice has it",
            "A: endpoints, by these shares",
        ),
    ] {
        let told = explained(&world, &inquiry(client, "A", &supposed));
        assert_eq!((told.stages[0].name, &*told.stages[0].lines), ("form", &[form.to_owned()][..]));
        assert!(told.answer.starts_with(answer), "{}", told.answer);
        assert!(told.lines().contains(&format!("form: {form}")));
        let shares: Vec<_> = told.portions.iter().flat_map(|portion| portion.addresses.clone()).collect();
        assert_eq!(shares.len(), 4, "{client}");
        assert_eq!(
            told.scope,
            crate::site::told(&world.snapshot, NAME, client, 0).1.unwrap().scope,
            "{client}"
        );
    }
    world.apply("a", agents("agents-1", &[("n1", true)])).compile();
    let told = explained(&world, &inquiry(ON_N2, "A", &supposed));
    let none = "endpoints: node n2 has no ready agent: Service portolan-system/portolan-agent has none there";
    assert_eq!(told.stages[0].lines, [none]);
    let picture = drawn(&world, &supposed);
    assert_eq!(
        picture.answer,
        "on the 1 of 2 nodes with a ready agent virtual IP 241.0.0.1, which agents spread by these shares; \
         elsewhere endpoints, by these shares"
    );
    let direct = Supposed { rules: Some(rules().into()), ..Supposed::default() };
    let told = explained(&world, &inquiry(ON_N1, "A", &direct));
    assert_eq!((told.stages[0].name, &*told.answer), ("reachable", "A: endpoints, by these shares"));
    for id in ["a", "b"] {
        world.apply(id, slice("n", "s", &format!("s-{id}"), &[("http", 8080)], Vec::new()));
    }
    world.compile();
    let told = explained(&world, &inquiry(NOWHERE, "A", &supposed));
    assert_eq!(told.answer, "A: nothing: no endpoint that can be reached is ready");
}
