//! How fast changes are in the kernel, once they are in a snapshot.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

use portolan_ebpf::Redirection;

use super::common::World;
use super::slice_of;
use super::timing::percentile;

/// Services of which a backend changes at once.
const AT_ONCE: u32 = 10_000;
/// Changes one by one.
const ONE_BY_ONE: u32 = 500;

pub fn measure(world: &mut World, hook: &mut Redirection, vips: u32) {
    let moved = |i: u32, by: u32| slice_of(i, Ipv4Addr::from(0x0a00_0000 + i * 8), 8080, 5353, by);
    for i in 0..AT_ONCE {
        world.apply("a", moved(i, 1));
    }
    world.compile();
    let next = Arc::new(world.snapshot.clone());
    let start = Instant::now();
    let (pass, rested) = hook.follow(&next);
    let took = start.elapsed();
    rested.unwrap();
    println!(
        "changes\n  a backend of each of {} services at once: in the kernel after {:.0} ms",
        pass.services,
        took.as_secs_f64() * 1e3
    );
    let mut times = Vec::new();
    for round in 0..ONE_BY_ONE {
        let i = round.wrapping_mul(7919) % (vips - 2);
        world.apply("a", moved(i, 2 + round % 3));
        world.compile();
        let next = Arc::new(world.snapshot.clone());
        let start = Instant::now();
        hook.follow(&next).1.unwrap();
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "  one service's: in the kernel, and what it replaced free again, after p50 {:.2} ms, p99 {:.2} ms",
        percentile(&times, 0.5),
        percentile(&times, 0.99)
    );
}
