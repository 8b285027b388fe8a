//! One endpoint's change and one lookup, at a million names, against their limits (design: 50 µs p99; lookup and
//! render together 150 ns). `cargo bench -p portolan-zones`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a bench is no library"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use common::*;
use hickory_proto::rr::RecordType;
use portolan_zones::object::*;
use portolan_zones::{QName, Snapshot};

const CHANGES: usize = 20_000;
const LOOKUPS: usize = 2_000_000;

fn main() {
    for names in [10_000, 100_000, 1_000_000] {
        let start = Instant::now();
        let mut world = clusterset(names);
        println!("{names} services: first compile {:.2} s", start.elapsed().as_secs_f64());
        changes(&mut world, names);
        lookups(&world.snapshot, names);
    }
}

/// One in ten is headless with ten endpoints; the others have a virtual IP and one endpoint.
fn clusterset(names: usize) -> World {
    let mut world = World::new(&["clusterset.local"], &["a"]);
    let mut objects = Vec::with_capacity(names * 4);
    for i in 0..names {
        let (ns, s) = place(i);
        objects.push(export(&ns, &s, 1));
        let kind = if i % 10 == 0 { ServiceKind::Headless } else { ServiceKind::ClusterIp };
        objects.push(service(&ns, &s, kind, spec(&[port("http", Protocol::Tcp, 80)])));
        if kind == ServiceKind::ClusterIp {
            objects.push(import(
                &ns,
                &s,
                1,
                &[&std::net::Ipv4Addr::from(0xf100_0000 + i as u32).to_string()],
            ));
        }
        objects.push(endpoints(i, 0));
    }
    world.home("a").reset("a", objects);
    world.compile();
    world
}

fn place(i: usize) -> (String, String) {
    (format!("ns-{}", i % 500), format!("service-{i}"))
}

fn endpoints(i: usize, round: usize) -> Object {
    let (ns, s) = place(i);
    let count = if i.is_multiple_of(10) { 10 } else { 1 };
    let one = |n: usize| {
        let address =
            std::net::Ipv4Addr::from(0x0a00_0000 + ((i * 16 + n + round * 4_099) as u32 & 0xff_ffff));
        endpoint(
            &address.to_string(),
            Some(&format!("pod-{n}")),
            n > 0 || round.is_multiple_of(2) || count == 1,
        )
    };
    slice(&ns, &s, "x", &[("http", 80)], (0..count).map(one).collect())
}

/// Apply one changed slice, compile, publish; the snapshot before is freed by the same thread, as the owner does.
fn changes(world: &mut World, names: usize) {
    let mut times: Vec<Duration> = Vec::with_capacity(CHANGES);
    let mut at = 7_usize;
    for round in 1..=CHANGES {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let object = endpoints((at >> 20) % names, round);
        let start = Instant::now();
        world.apply("a", object);
        assert!(world.compile_at(NOW + round as i64));
        times.push(start.elapsed());
    }
    times.sort();
    let micros = |p: f64| times[((times.len() - 1) as f64 * p) as usize].as_secs_f64() * 1e6;
    let (p50, p99, p999) = (micros(0.5), micros(0.99), micros(0.999));
    let ratio = p99 / 50.0;
    println!(
        "{names} services: one change p50 {p50:.1} µs, p99 {p99:.1} µs, p99.9 {p999:.1} µs (limit p99 50 µs, ratio {ratio:.2})"
    );
}

/// Random names, so that nothing but the top of the index is in the cache.
fn lookups(snapshot: &Snapshot, names: usize) {
    let qnames: Vec<Vec<u8>> = (0..65_536)
        .map(|i| {
            let (ns, s) = place((i * 7_919) % names);
            QName::parse(&format!("{s}.{ns}.svc.clusterset.local")).unwrap().wire().to_vec()
        })
        .collect();
    let mut qname = QName::default();
    let start = Instant::now();
    for i in 0..LOOKUPS {
        qname.read(&qnames[i & 0xffff]).unwrap();
        black_box(snapshot.lookup(&qname, RecordType::A));
    }
    let nanos = start.elapsed().as_secs_f64() * 1e9 / LOOKUPS as f64;
    println!("{names} services: read name and look up {nanos:.0} ns");
}
