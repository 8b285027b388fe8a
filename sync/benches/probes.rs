//! 30,000 TCP probes every 10 s. Limits: 60 % of a core, and 100 MB of memory in all; CoreDNS-GSLB publishes 60 % and
//! 667 MB for as many. `cargo bench -p portolan-sync --bench probes`
//!
//! The prober has a thread of its own, whose time on the CPU is counted, with the kernel's work for it (over loopback
//! also the server's half of each handshake); memory is that of the process, with the server that is probed.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench is no library")]

use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use portolan_sync::probes::{Budget, Kind, Probe, Prober, Target};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TARGETS: usize = 30_000;
/// Addresses that are probed. There are as many probes of each as it takes: they differ by a microsecond.
const LISTENERS: usize = 250;
const INTERVAL: Duration = Duration::from_secs(10);
/// The first interval, in which verdicts are made, and one more.
const TIME: Duration = Duration::from_secs(20);
const CPU_LIMIT: f64 = 0.6;
const MEMORY_LIMIT_MB: f64 = 100.0;

static ACCEPTED: AtomicU64 = AtomicU64::new(0);

fn main() {
    let addresses = serve();
    let runtime = runtime();
    let budget =
        Budget { per_second: NonZeroU32::new(4000).unwrap(), in_flight: NonZeroUsize::new(1000).unwrap() };
    let (prober, mut changes) = Prober::start(runtime.handle(), budget, 1);
    prober.set(targets(&addresses));
    let (begun, cpu) = (Instant::now(), cpu_time());
    runtime.block_on(async {
        let read = async { while changes.next().await.is_some() {} };
        let _ = tokio::time::timeout(TIME, read).await;
    });
    let share = (cpu_time() - cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    let (accepted, memory) = (ACCEPTED.load(Ordering::Relaxed), peak_mb());
    let verdicts = prober.verdicts();
    let failed = verdicts.iter().find(|(_, verdict)| verdict.checked.is_none() || !verdict.healthy);
    assert!(failed.is_none() && verdicts.len() == TARGETS, "{failed:?}");
    println!(
        "{TARGETS} TCP probes per {} s: {accepted} in {:.1} s ({:.2} of what is due), {:.2} s late",
        INTERVAL.as_secs(),
        begun.elapsed().as_secs_f64(),
        accepted as f64 / (TARGETS as f64 * TIME.as_secs_f64() / INTERVAL.as_secs_f64()),
        prober.behind().as_secs_f64(),
    );
    println!(
        "CPU: {:.1} % of a core, {:.0} µs per probe (limit {:.0} %, ratio {:.2})",
        share * 100.0,
        share * begun.elapsed().as_secs_f64() * 1e6 / accepted as f64,
        CPU_LIMIT * 100.0,
        share / CPU_LIMIT,
    );
    println!(
        "memory at its peak: {memory:.0} MB (limit {MEMORY_LIMIT_MB:.0} MB, ratio {:.2})",
        memory / MEMORY_LIMIT_MB
    );
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A server on a thread of its own, which accepts and closes.
fn serve() -> Vec<SocketAddr> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            for _ in 0..LISTENERS {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                tokio::spawn(async move {
                    while listener.accept().await.is_ok() {
                        ACCEPTED.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            drop(sender);
            std::future::pending::<()>().await;
        });
    });
    receiver.into_iter().collect()
}

fn targets(addresses: &[SocketAddr]) -> Vec<Target> {
    let probe = |index| {
        let interval = INTERVAL + Duration::from_micros(index as u64);
        Arc::new(Probe { kind: Kind::Tcp, interval, timeout: Duration::from_secs(1), rise: 2, fall: 3 })
    };
    let probes: Vec<_> = (0..TARGETS / LISTENERS).map(probe).collect();
    let of = |probe: &Arc<Probe>| {
        let probe = Arc::clone(probe);
        addresses.iter().map(move |&address| Target { address, probe: Arc::clone(&probe) })
    };
    probes.iter().flat_map(of).collect()
}

/// What this thread had of the CPU.
fn cpu_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

/// The most that the process ever held in memory.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024.0 / 1e6
}
