//! Sites by sentence: `site("a").region("eu").node("n1", "z1", 9, 10)` is cluster `a` with a node `n1` in zone `z1`, on which
//! nine of ten endpoints of service `n/s` are ready.
//!
//! Addresses tell where they are: `10.<cluster>.<node>.<endpoint>`, cluster `a` being 1, its first node 1. An answer is
//! therefore read as `a1`, `b2`: cluster and node. Every node's pods have the network `10.<cluster>.<node>.0/24`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use portolan_zones::lookup::Chosen;
use portolan_zones::object::*;
use portolan_zones::policy::health::{CheckKind, HealthCheck};
use portolan_zones::policy::spread::At;
use portolan_zones::policy::{Form, Level, Locality, Policy, PolicyName, Preference, Rules, Target};
use portolan_zones::{Client, Found, QName, Records, ServiceName, Snapshot};

use crate::common::*;

pub const NAME: &str = "s.n.svc.clusterset.local";

#[derive(Clone)]
pub struct Site {
    pub id: &'static str,
    pub region: &'static str,
    /// Whether slices say in which zone an endpoint is; Nodes do in any case.
    pub zoned_slices: bool,
    pub nodes: Vec<Spot>,
}

/// A node with endpoints.
#[derive(Clone)]
pub struct Spot {
    pub name: &'static str,
    pub az: &'static str,
    pub ready: u8,
    pub all: u8,
}

pub fn site(id: &'static str) -> Site {
    Site { id, region: "", zoned_slices: true, nodes: Vec::new() }
}

impl Site {
    pub fn region(self, region: &'static str) -> Self {
        Self { region, ..self }
    }

    pub fn zones_by_nodes_only(self) -> Self {
        Self { zoned_slices: false, ..self }
    }

    pub fn node(mut self, name: &'static str, az: &'static str, ready: u8, all: u8) -> Self {
        self.nodes.push(Spot { name, az, ready, all });
        self
    }

    pub fn octet(&self) -> u8 {
        self.id.as_bytes()[0] - b'a' + 1
    }

    /// Nodes, an export as old as its cluster's letter, its Service and slices.
    pub fn objects(&self, service: &str, kind: ServiceKind, spec: ServiceSpec) -> Vec<Object> {
        let mut objects =
            vec![export("n", service, self.octet().into()), crate::common::service("n", service, kind, spec)];
        objects.extend(self.node_objects());
        objects.push(self.slice(service));
        objects
    }

    pub fn node_objects(&self) -> impl Iterator<Item = Object> {
        let of = |(at, spot): (u8, &Spot)| {
            Object::Node(Node {
                name: spot.name.into(),
                az: some(spot.az),
                region: some(self.region),
                pod_cidrs: [(IpAddr::from([10, self.octet(), at, 0]), 24)].into(),
                addresses: Box::default(),
                ready: true,
                entrances: Box::default(),
            })
        };
        (1..).zip(&self.nodes).map(of)
    }

    pub fn slice(&self, service: &str) -> Object {
        let endpoints = (1_u8..).zip(&self.nodes).flat_map(|(at, spot)| {
            let az = if self.zoned_slices { some(spot.az) } else { None };
            let place = Some(Arc::new(Place { node: some(spot.name), az }));
            (1..=spot.all).map(move |i| Endpoint {
                place: place.clone(),
                ..endpoint(&format!("10.{}.{at}.{i}", self.octet()), None, i <= spot.ready)
            })
        });
        slice("n", service, &format!("{service}-{}", self.id), &[("http", 8080)], endpoints.collect())
    }
}

fn some(text: &str) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| text.into())
}

/// Rules under which the name answers endpoints, all alike.
pub fn rules() -> Rules {
    Rules { answer: Form::Endpoints, ..Rules::default() }
}

pub fn by(order: &[Level], reach: Preference) -> Rules {
    Rules { locality: Some(Locality { order: order.into(), reach }), ..rules() }
}

pub fn weighted(weights: &[(&str, u32)]) -> Rules {
    Rules { weights: weights.iter().map(|(id, weight)| (cluster(id), *weight)).collect(), ..rules() }
}

/// A connection every ten seconds.
pub fn tcp_check() -> Arc<HealthCheck> {
    let (interval, timeout) = (Duration::from_secs(10), Duration::from_secs(2));
    HealthCheck { kind: CheckKind::Tcp, port: None, interval, timeout, rise: 2, fall: 3 }.into()
}

pub fn policy(policy: &str, created: UnixTime, target: Target, rules: Rules) -> Object {
    Object::Policy(Policy { name: PolicyName::new("n", policy), created, target, rules: rules.into() })
}

pub fn imports(services: &[&str]) -> Target {
    Target::Services { exports: Box::default(), imports: services.iter().map(|s| (*s).into()).collect() }
}

pub fn exports(services: &[&str]) -> Target {
    Target::Services { exports: services.iter().map(|s| (*s).into()).collect(), imports: Box::default() }
}

pub fn http() -> ServiceSpec {
    spec(&[port("http", Protocol::Tcp, 80)])
}

/// Service `n/s` of these sites, the first of which asks, under a policy about its import.
pub fn world(sites: &[Site], rules: Rules) -> World {
    world_of(sites, ServiceKind::ClusterIp, &http(), Some(rules))
}

pub fn world_of(sites: &[Site], kind: ServiceKind, spec: &ServiceSpec, rules: Option<Rules>) -> World {
    let ids: Vec<&str> = sites.iter().map(|site| site.id).collect();
    let mut world = World::new(&["clusterset.local"], &ids);
    world.home(ids[0]);
    for site in sites {
        world.reset(site.id, site.objects("s", kind, spec.clone()));
    }
    if let Some(rules) = rules {
        world.apply(ids[0], policy("p", 1, imports(&["s"]), rules));
    }
    world.compile();
    world
}

/// The records that a client gets in their order, cut and turned as it is told; and what is told with them.
pub fn told(
    snapshot: &Snapshot,
    service: &str,
    address: &str,
    entropy: u32,
) -> (Vec<Ipv4Addr>, Option<Chosen>) {
    let name = QName::parse(service).unwrap();
    let client = Client { address: Some(address.parse().unwrap()), entropy, beyond: None };
    let lookup = snapshot.lookup_for(&name, "A".parse().unwrap(), &client).unwrap();
    let records = match lookup.found {
        Found::Records(Records::A(records)) => records,
        Found::NoData => &[],
        other => panic!("{service}: {other:?}"),
    };
    let mut turned = records.to_vec();
    if let Some(chosen) = lookup.chosen {
        turned.rotate_left(chosen.rotation as usize % records.len().max(1));
        turned.truncate(chosen.most.map_or(usize::MAX, |most| most.get().into()));
    }
    (turned, lookup.chosen)
}

/// The records that a client gets.
pub fn ask(world: &World, address: &str, entropy: u32) -> Vec<Ipv4Addr> {
    told(&world.snapshot, NAME, address, entropy).0
}

/// `a1`: cluster and node of an endpoint.
pub fn spot(address: Ipv4Addr) -> String {
    let [_, cluster, node, _] = address.octets();
    format!("{}{node}", char::from(b'a' + cluster - 1))
}

/// All that a client may be sent to, as `a1 b2`; nothing: NODATA.
pub fn reached(world: &World, address: &str) -> String {
    let all: BTreeSet<String> = (0..64).flat_map(|entropy| ask(world, address, entropy)).map(spot).collect();
    all.into_iter().collect::<Vec<_>>().join(" ")
}

/// How often a client that takes the first record is sent where; nowhere is `-`.
pub fn counts(world: &World, address: &str, draws: u32, of: fn(Ipv4Addr) -> String) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for entropy in 0..draws {
        let first = ask(world, address, entropy).first().copied();
        *counts.entry(first.map_or("-".to_owned(), of)).or_insert(0) += 1;
    }
    counts
}

pub fn cluster_of(address: Ipv4Addr) -> String {
    spot(address)[..1].to_owned()
}

/// Pearson's chi-square test: the counts are what these shares lead to, at a significance of 0.001. The draws are the same
/// in every run: it can't fail by chance.
pub fn assert_shares(counts: &BTreeMap<String, u32>, expected: &[(&str, f64)], why: &str) {
    /// Of 1 to 5 degrees of freedom.
    const CRITICAL: [f64; 5] = [10.828, 13.816, 16.266, 18.467, 20.515];
    let draws = f64::from(counts.values().sum::<u32>());
    let possible: Vec<_> = expected.iter().filter(|(_, share)| *share > 0.0).collect();
    for got in counts.keys() {
        assert!(possible.iter().any(|(name, _)| name == got), "{why}: {got} must get nothing: {counts:?}");
    }
    let whole: f64 = possible.iter().map(|(_, share)| share).sum();
    let deviation = |(name, share): &&(&str, f64)| {
        let expected = share / whole * draws;
        (f64::from(counts.get(*name).copied().unwrap_or(0)) - expected).powi(2) / expected
    };
    let statistic: f64 = possible.iter().map(deviation).sum();
    let critical = possible.len().checked_sub(2).map_or(f64::EPSILON, |freedom| CRITICAL[freedom]);
    assert!(
        statistic <= critical,
        "{why}: chi-square {statistic:.2} > {critical}: {counts:?}, not {expected:?}"
    );
}

/// Where a client or an endpoint is, for the engine alone.
pub fn at<'s>(cluster: &'s portolan_zones::ClusterId, az: &'s str) -> At<'s> {
    At { cluster: Some(cluster), region: None, az: Some(az), node: None }
}

pub fn service_name(text: &str) -> ServiceName {
    name("n", text)
}
