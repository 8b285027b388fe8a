//! What a policy for all services costs when something changes: 100,000 services of three clusters, without one and with
//! locality, weights, slow start, latency and health checks. `cargo bench -p portolan-zones --bench policies`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a bench is no library"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::num::NonZeroU16;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::*;
use portolan_zones::Event;
use portolan_zones::object::*;
use portolan_zones::policy::health::{Check, CheckKind, HealthCheck};
use portolan_zones::policy::{Form, Latency, Level, Locality, Policy, PolicyName, Preference, Rules, Target};

const SERVICES: usize = 100_000;
const CLUSTERS: [&str; 3] = ["a", "b", "c"];
const FLIPS: usize = 5_000;

/// Each case in a process of its own: what one leaves in memory is none of the next one's.
fn main() {
    let all = everything();
    let cases = [
        ("no policy", None),
        ("endpoints", Some(Rules { answer: Form::Endpoints, ..Rules::default() })),
        ("locality", Some(Rules { slow_start: None, latency: None, health_check: None, ..all.clone() })),
        ("everything", Some(all)),
    ];
    if let Ok(case) = std::env::var("CASE") {
        let (what, rules) = cases.into_iter().find(|(what, _)| *what == case).unwrap();
        return measure(what, rules.as_ref());
    }
    for (what, _) in cases {
        let status = Command::new(std::env::current_exe().unwrap()).env("CASE", what).status().unwrap();
        assert!(status.success(), "{what}");
    }
}

fn measure(what: &str, rules: Option<&Rules>) {
    let before = resident();
    let start = Instant::now();
    let mut world = clusterset(rules);
    let (seconds, memory) = (start.elapsed().as_secs_f64(), resident() - before);
    println!("{what}: {SERVICES} services compiled in {seconds:.2} s, {memory:.0} MiB");
    changes(&mut world, what);
    flips(&mut world, what);
}

fn everything() -> Rules {
    let kind = CheckKind::Tcp;
    let (interval, timeout) = (Duration::from_secs(10), Duration::from_secs(2));
    let check = HealthCheck { kind, port: None, interval, timeout, rise: 2, fall: 3 };
    let order = [Level::Zone, Level::Cluster].as_slice().into();
    Rules {
        answer: Form::Endpoints,
        locality: Some(Locality { order, reach: Preference::Prefer }),
        weights: [(cluster("a"), 3), (cluster("b"), 2)].into(),
        slow_start: NonZeroU16::new(30),
        latency: Some(Latency { margin: Duration::from_millis(10), hold_down: 60 }),
        health_check: Some(Arc::new(check)),
        ..Rules::default()
    }
}

/// Each service has two endpoints in each of two zones of each cluster.
fn clusterset(rules: Option<&Rules>) -> World {
    let mut world = World::new(&["clusterset.local"], &CLUSTERS);
    world.home("a");
    for (number, id) in (0..).zip(CLUSTERS) {
        let mut objects = Vec::new();
        for zone in 0..2_u8 {
            objects.push(Object::Node(Node {
                name: format!("n{zone}").into(),
                az: Some(az(number, zone)),
                region: Some("eu".into()),
                pod_cidrs: [([10 + number * 2 + zone, 0, 0, 0].into(), 8)].into(),
                addresses: Box::default(),
                ready: true,
                entrances: Box::default(),
            }));
        }
        for i in 0..SERVICES {
            let name = format!("service-{i}");
            objects.push(export("n", &name, 1));
            objects.push(service(
                "n",
                &name,
                ServiceKind::ClusterIp,
                spec(&[port("http", Protocol::Tcp, 80)]),
            ));
            objects.push(endpoints(number, i, true));
        }
        if let Some(rules) = rules.filter(|_| number == 0) {
            let (name, target) = (PolicyName::new("portolan-system", "all"), Target::ClusterSet);
            objects.push(Object::Policy(Policy { name, created: 1, target, rules: rules.clone().into() }));
        }
        world.reset(id, objects);
    }
    world.compile();
    world
}

fn az(number: u8, zone: u8) -> Arc<str> {
    format!("{}{zone}", CLUSTERS[usize::from(number)]).into()
}

fn endpoints(number: u8, i: usize, all_ready: bool) -> Object {
    let place = [0, 1].map(|zone| {
        Some(Arc::new(Place { node: Some(format!("n{zone}").into()), az: Some(az(number, zone)) }))
    });
    let of = |n: usize| {
        let host = std::net::Ipv4Addr::from(
            (u32::from(10 + number * 2 + (n % 2) as u8) << 24) + (i * 2 + n / 2) as u32,
        );
        let place = place[n % 2].clone();
        Endpoint { place, ..endpoint(&host.to_string(), None, all_ready || n > 0) }
    };
    let id = CLUSTERS[usize::from(number)];
    slice("n", &format!("service-{i}"), &format!("{id}-{i}"), &[("http", 80)], (0..4).map(of).collect())
}

/// One endpoint of one service is not ready any more, or is again.
fn changes(world: &mut World, what: &str) {
    let change = |round: usize, world: &mut World| {
        let i = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % SERVICES;
        world.apply("a", endpoints(0, i, false));
    };
    measured(world, &format!("{what}: one endpoint's change"), change);
}

/// One endpoint of one service fails its health check: nothing but its service is compiled anew.
fn flips(world: &mut World, what: &str) {
    let Some(checks) = world.table.take_checks() else { return };
    let checks: Vec<Check> = checks.into_iter().take(FLIPS + 1).collect();
    let flip = |round: usize, world: &mut World| {
        world.table.apply(Event::Checked(vec![(checks[round].clone(), false)]));
    };
    measured(world, &format!("{what}: one health flip"), flip);
}

fn measured(world: &mut World, what: &str, change: impl Fn(usize, &mut World)) {
    let mut times: Vec<Duration> = Vec::with_capacity(FLIPS);
    for round in 1..=FLIPS {
        let before = world.snapshot.clone();
        let start = Instant::now();
        change(round, world);
        world.compile_at(NOW);
        times.push(start.elapsed());
        if round == 1 {
            let other = |service: &&Arc<portolan_zones::Service>| {
                let was = before.services.get(service.name.wire()).unwrap();
                !Arc::ptr_eq(was, service)
            };
            println!(
                "{what}: {} services compiled anew",
                world.snapshot.services.iter().filter(other).count()
            );
        }
    }
    times.sort();
    let micros = |p: f64| times[((times.len() - 1) as f64 * p) as usize].as_secs_f64() * 1e6;
    println!("{what}: p50 {:.1} µs, p99 {:.1} µs", micros(0.5), micros(0.99));
}

/// MiB of this process in memory.
fn resident() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
