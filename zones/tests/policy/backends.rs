//! What `dig` shows is what `connect()` gets: the shares that DNS draws by are those of the backends, for every sort of rule.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use portolan_zones::Event;
use portolan_zones::object::*;
use portolan_zones::peers::{Forced, Scope, State};
use portolan_zones::places::Place as Whereabouts;
use portolan_zones::policy::Level::{Cluster, Zone};
use portolan_zones::policy::Preference::{Pin, Prefer};
use portolan_zones::policy::spread::WHOLE;
use portolan_zones::policy::{Form, Latency, Rules};

use crate::common::*;
use crate::site::*;

/// A client on node `a1`, and what is known of the place.
const CLIENT: &str = "10.1.1.200";

fn place() -> Whereabouts {
    Whereabouts {
        cluster: Some(cluster("a")),
        az: Some("z1".into()),
        node: Some("n1".into()),
        ..Default::default()
    }
}

/// `a` and `b` on one network, `d` behind a gateway of two addresses; half of what is in `a1` is not ready.
fn clusterset(rules: Rules) -> World {
    let sites = [
        site("a").node("n1", "z1", 4, 8).node("n2", "z2", 6, 6),
        site("b").node("n1", "z3", 5, 5),
        site("d").node("n1", "z4", 3, 4),
    ];
    let mut world = world(&sites, rules);
    let addresses = (1..=2).map(|i| IpAddr::from([10, 4, 9, i])).collect();
    let gateway = Some(Arc::new(Gateway { at: GatewayAt::Addresses(addresses), ports: Box::default() }));
    let (name, kind, spec) = (service_name("s"), ServiceKind::ClusterIp, http().into());
    world.apply("d", Object::Service(Service { name, kind, spec, gateway }));
    world.table.apply(Event::Network { cluster: cluster("d"), network: "east".into() });
    world.compile();
    world
}

fn backends(world: &World) -> BTreeMap<IpAddr, u32> {
    let service = world.snapshot.services.get(b"\x01s\x01n").unwrap();
    let backends = world.snapshot.backends(service, &place(), 0, None);
    let all: BTreeMap<IpAddr, u32> = backends.iter().map(|b| (b.address, b.part)).collect();
    assert_eq!(all.len(), backends.len(), "each address once");
    all
}

/// Draws 20,000 answers and takes the first record of each; every backend gets what its part says, at a significance of 0.001
/// for each, and nobody else gets anything.
fn agree(world: &World, why: &str) {
    const DRAWS: u32 = 20_000;
    let backends = backends(world);
    assert_eq!(backends.values().sum::<u32>(), if backends.is_empty() { 0 } else { WHOLE }, "{why}");
    let mut drawn: BTreeMap<IpAddr, u32> = BTreeMap::new();
    for entropy in 0..DRAWS {
        let first: Option<Ipv4Addr> = ask(world, CLIENT, entropy).first().copied();
        if let Some(first) = first {
            *drawn.entry(first.into()).or_insert(0) += 1;
        }
    }
    for address in backends.keys().chain(drawn.keys()) {
        let share = f64::from(backends.get(address).copied().unwrap_or(0)) / f64::from(WHOLE);
        let (expected, got) = (share * f64::from(DRAWS), f64::from(drawn.get(address).copied().unwrap_or(0)));
        // Of a binomial distribution, 4.4 standard deviations: 0.001 for a hundred addresses together.
        let bound = 4.4 * (f64::from(DRAWS) * share * (1.0 - share)).sqrt();
        assert!((got - expected).abs() <= bound, "{why}: {address} got {got}, not {expected} ± {bound}");
    }
}

#[test]
fn dns_and_connections_agree() {
    let latency = Latency { margin: Duration::from_millis(5), hold_down: 1 };
    let failover = Rules { failover: [cluster("d"), cluster("a")].into(), ..rules() };
    let slow = Rules { slow_start: NonZeroU16::new(100), ..by(&[Zone, Cluster], Prefer) };
    for (why, rules) in [
        ("all alike", rules()),
        ("zone, then cluster", by(&[Zone, Cluster], Prefer)),
        ("pinned to the zone", by(&[Zone], Pin)),
        ("weights", weighted(&[("a", 1), ("b", 3), ("d", 2)])),
        ("weights and a last resort", weighted(&[("a", 1), ("b", 0), ("d", 2)])),
        ("failover", failover),
        ("latency", Rules { latency: Some(latency), ..rules() }),
        ("slow start", slow),
        ("gateways", Rules { answer: Form::Gateways, ..rules() }),
    ] {
        let mut world = clusterset(rules);
        agree(&world, why);
        let trips = [("b", 40), ("d", 20)].map(|(id, ms)| (cluster(id), Duration::from_millis(ms)));
        world.table.apply(Event::RoundTrips(trips.into()));
        world.apply("a", site("a").node("n1", "z1", 8, 8).node("n2", "z2", 0, 0).slice("s"));
        world.compile_at(NOW + 1);
        agree(&world, &format!("{why}, four came and six are gone"));
        world.compile_at(NOW + 40);
        agree(&world, &format!("{why}, later"));
        let forced = |id, state| Forced { cluster: cluster(id), of: Scope::All, state };
        world.table.apply(Event::Force([forced("a", State::Drain), forced("b", State::Down)].into()));
        world.compile_at(NOW + 41);
        agree(&world, &format!("{why}, a drained and b down"));
    }
}

/// A virtual IP is one answer for all; what is behind it is chosen all the same, and has its ports.
#[test]
fn behind_a_virtual_ip_there_is_a_choice() {
    let mut world = clusterset(Rules { answer: Form::Vip, ..weighted(&[("a", 0), ("b", 1), ("d", 3)]) });
    world.vip("n", "s", &["10.96.0.1"]).compile();
    assert_eq!(world.lookup(NAME, "A"), "10.96.0.1");
    let by_cluster = backends(&world).iter().fold(BTreeMap::new(), |mut sums, (address, part)| {
        let IpAddr::V4(v4) = address else { panic!("{address}") };
        *sums.entry(cluster_of(*v4)).or_insert(0) += part;
        sums
    });
    // Three of four endpoints behind d's gateway are ready: 75 % × 1.4 is a whole.
    assert_eq!(by_cluster, BTreeMap::from([("b".to_owned(), WHOLE / 4), ("d".to_owned(), WHOLE / 4 * 3)]));
    let service = world.snapshot.services.get(b"\x01s\x01n").unwrap();
    let ports = |id: &str| {
        let backends = world.snapshot.backends(service, &place(), 0, None);
        backends.iter().find(|backend| backend.cluster == cluster(id)).unwrap().ports[0].number
    };
    assert_eq!((ports("b"), ports("d")), (Some(8080), Some(80)), "target ports, and the gateway's");
}

/// Without any policy the Service's own fields count, whatever DNS answers: `internalTrafficPolicy: Local` leads to no other node.
#[test]
fn kubernetes_own_fields_count_without_a_policy() {
    let sites = [site("a").node("n1", "z1", 2, 2).node("n2", "z1", 2, 2), site("b").node("n1", "z1", 2, 2)];
    let local = ServiceSpec { internal_traffic_local: true, ..http() };
    let world = world_of(&sites, ServiceKind::ClusterIp, &local, None);
    let backends = backends(&world);
    let spots = backends.keys().map(|address| match address {
        IpAddr::V4(v4) => spot(*v4),
        IpAddr::V6(v6) => v6.to_string(),
    });
    assert_eq!(spots.collect::<std::collections::BTreeSet<_>>(), ["a1".to_owned()].into());
}

/// Sockets that reach one family only go to what has an address of it, as A and AAAA are answered: half of what is in `a` has IPv4
/// addresses, all of `b` has IPv6 ones.
#[test]
fn families_are_spread_apart() {
    let sites = [site("a").node("n1", "z1", 4, 4), site("b").node("n1", "z2", 4, 4)];
    let mut world = world(&sites, Rules::default());
    let v6 = |i: u16| Endpoint {
        address: IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, i]),
        conditions: Conditions::READY,
        identity: i.into(),
        hostname: None,
        place: None,
    };
    let slice = Slice {
        name: SliceName::new("n", "s-v6"),
        service: service_name("s"),
        source: None,
        ours: false,
        gateway: false,
        state: None,
        region: None,
        outside: None,
        ports: Arc::new([]),
        endpoints: (1..=2).map(v6).collect(),
    };
    world.apply("b", Object::Slice(slice));
    world.compile();
    let service = world.snapshot.services.get(b"\x01s\x01n").unwrap();
    let of = |family| -> BTreeMap<String, u32> {
        let backends = world.snapshot.backends(service, &place(), 0, family);
        assert!(family.is_none() || backends.iter().all(|b| family == Some(b.address.into())));
        let mut parts = BTreeMap::new();
        for backend in backends {
            *parts.entry(backend.cluster.to_string()).or_default() += backend.part;
        }
        parts
    };
    let parts = |of: &[(&str, u32)]| of.iter().map(|(id, part)| ((*id).to_owned(), *part)).collect();
    assert_eq!(of(Some(IpFamily::V4)), parts(&[("a", WHOLE / 2), ("b", WHOLE / 2)]));
    assert_eq!(of(Some(IpFamily::V6)), parts(&[("b", WHOLE)]));
    assert_eq!(of(None), parts(&[("a", WHOLE * 2 / 5), ("b", WHOLE * 3 / 5)]));
}
