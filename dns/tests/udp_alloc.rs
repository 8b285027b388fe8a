//! UDP threads allocate nothing for a query: counted by the allocator of a process that does nothing else.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "tests fail by panicking"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::common::*;

#[path = "transports/common.rs"]
#[allow(dead_code, reason = "this binary uses a part")]
mod common;

#[path = "respond/common/mod.rs"]
#[allow(dead_code, reason = "this binary uses a part")]
mod fixtures;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting what all threads ask of it.
struct Counting;

// SAFETY: every call is handed to `System` unchanged.
#[expect(unsafe_code, reason = "only an allocator can count allocations")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are `System`'s.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const QUERIES: usize = 10_000;
const BURST: usize = 20;

/// Timers of the runtime may allocate now and then; a query must not.
#[tokio::test]
async fn udp_threads_allocate_nothing() {
    let served = serve(|settings| settings.rate_limit.per_second = None);
    let socket = UdpSocket::bind(any()).unwrap();
    socket.connect(served.address(portolan_dns::view::Transport::Udp)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (query, mut reply) = (ask(CART).option(3, &[]).octets(), [0; 512]);
    let mut round = || {
        for _ in 0..BURST {
            socket.send(&query).unwrap();
        }
        for _ in 0..BURST {
            assert!(socket.recv(&mut reply).unwrap() > query.len());
        }
    };
    (0..10).for_each(|_| round());
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..QUERIES / BURST).for_each(|_| round());
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert!(allocations < QUERIES / 100, "{allocations} for {QUERIES} queries");
    drop(std::hint::black_box(vec![1_u8; 10]));
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > before, "the counter counts");
}
