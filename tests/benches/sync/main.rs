//! How soon a change in one cluster's real API server is answered by DNS, and what following and writing cost.
//! `make bench-sync`, or `cargo bench -p portolan-tests --bench sync [-- SERVICES=20000 MEMORY=50000 CHANGES=1000 VIPS=10]`
//!
//! Cluster `paris` has all services; they are asked for at a server that follows paris' API server directly, and at one of
//! cluster `tokyo`, where a controller writes what paris exports, and through CoreDNS in front of that. A time counts
//! from before the write is sent to paris until a client has the new answer, so the API server's own part is in it.
//! One in `VIPS` services has a virtual IP, the others are headless.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a bench is no library"
)]

mod ask;
mod load;
mod use_of;

use std::time::{Duration, Instant};

use portolan_tests::harness::kubernetes::{
    CONTROLLER, Cluster, Options, PEER, Part, SERVER, binary, install, introduce, ours,
};
use portolan_tests::harness::{DYING_WITH_US, Server, Setup, loopback, portolan, until_within};
use serde_json::json;

use ask::Asker;
use load::{ENDPOINTS, Load, host_of};
use use_of::{cpu, cpu_model, lists, peak, reset_peak, resident, writes};

/// So long may a whole clusterset take to be copied.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Limits of the design: p99, directly and through controller and slices.
const DIRECT: Duration = Duration::from_millis(50);
const COPIED: Duration = Duration::from_millis(250);
/// Changes a second beside the one that is measured.
const BUSY: u32 = 50;
/// Changes that are waited for behind a cache.
const CACHED: usize = 10;

fn main() {
    let given = |key: &str| {
        let prefix = format!("{key}=");
        std::env::args().find_map(|arg| arg.strip_prefix(&prefix)?.parse::<usize>().ok())
    };
    let services = given("SERVICES").unwrap_or(20_000);
    let memory = given("MEMORY").unwrap_or(50_000);
    let changes = given("CHANGES").unwrap_or(1_000);
    let vips = given("VIPS").unwrap_or(10);
    // Built before anything is timed.
    portolan();
    println!("on {}, {} cores", cpu_model(), std::thread::available_parallelism().unwrap());

    // Room for the derived Services of all.
    let arguments = vec!["--service-cluster-ip-range=10.0.0.0/12".to_owned()];
    let options = |id| Options { arguments: arguments.clone(), ..Options::new(id) };
    let clusters = Cluster::start_all(vec![options("paris"), options("tokyo")]);
    let (paris, tokyo) = (&clusters[0], &clusters[1]);
    for cluster in &clusters {
        install(cluster);
        load::namespaces(cluster);
    }
    let mut load = Load::new(paris, vips);
    let begun = Instant::now();
    load.grow_to(services);
    println!(
        "{services} services × {ENDPOINTS} endpoints written to paris in {:.0} s",
        begun.elapsed().as_secs_f64()
    );

    let direct = direct_server(paris);
    changes_directly(&direct, &mut load, changes);
    let copied = copying(paris, tokyo, services);
    changes_copied(&copied, tokyo, &mut load, changes);
    changes_cached(&copied.server, &mut load);
    memory_of(&direct, &copied, &mut load, memory);
    relist(&direct, paris);
}

/// A server that follows paris itself.
fn direct_server(paris: &Cluster) -> Server {
    let kubeconfig = std::fs::read_to_string(paris.kubeconfig(PEER)).unwrap();
    let setup =
        Setup::new("clusters: [{name: paris, kubeconfig: paris.yaml}]").file("paris.yaml", kubeconfig);
    let setup = setup.under(&DYING_WITH_US);
    let begun = Instant::now();
    let server = setup.start();
    until_within(PATIENCE, "the server is ready", || (server.try_get("/ready")?.0 == 200).then_some(()));
    println!("directly: serving {:.1} s after the start", begun.elapsed().as_secs_f64());
    server
}

fn changes_directly(server: &Server, load: &mut Load, changes: usize) {
    let asker = Asker::new(server.at(portolan_tests::harness::DNS));
    measure("directly, alone", DIRECT, &asker, load, changes, &[("server", server.pid())]);
    let busy = load.busy(BUSY);
    measure(&format!("directly, beside {BUSY} changes/s"), DIRECT, &asker, load, changes, &[]);
    busy.end();
}

/// Controller and server of tokyo.
struct Copied {
    controller: Server,
    server: Server,
}

fn copying(paris: &Cluster, tokyo: &Cluster, services: usize) -> Copied {
    let kubeconfig = std::fs::read_to_string(paris.kubeconfig(PEER)).unwrap();
    introduce(tokyo, "paris", &kubeconfig, &json!({}));
    let begun = Instant::now();
    let controller = ours(tokyo, CONTROLLER, tokyo.at(), "").for_command("controller").start();
    let server = ours(tokyo, SERVER, tokyo.at(), "").start();
    let written = writes(tokyo);
    until_copied(&server, services);
    let (seconds, written) = (begun.elapsed().as_secs_f64(), writes(tokyo) - written);
    println!(
        "{services} services imported in {seconds:.0} s by {written} writes ({:.1} a service, {:.0} a second)",
        written as f64 / services as f64,
        written as f64 / seconds
    );
    Copied { controller, server }
}

/// Until the server knows all services with all their endpoints.
fn until_copied(server: &Server, services: usize) {
    until_within(PATIENCE, "all services are imported", || {
        std::thread::sleep(Duration::from_millis(500));
        let counts = &server.status()["counts"];
        (counts["services"] == services && counts["endpoints"] == services * ENDPOINTS).then_some(())
    });
}

fn changes_copied(copied: &Copied, tokyo: &Cluster, load: &mut Load, changes: usize) {
    let asker = Asker::new(copied.server.at(portolan_tests::harness::DNS));
    let before = writes(tokyo);
    let pids = [("controller", copied.controller.pid()), ("server", copied.server.pid())];
    measure("copied by a controller, alone", COPIED, &asker, load, changes, &pids);
    let requests = (writes(tokyo) - before) as f64 / changes as f64;
    println!(
        "  {requests:.2} writes to tokyo's API server for each change (limit 2, ratio {:.2})",
        requests / 2.0
    );
    let busy = load.busy(BUSY);
    measure(&format!("copied, beside {BUSY} changes/s"), COPIED, &asker, load, changes, &[]);
    busy.end();
}

/// Behind caches a change is seen when what they hold has expired: the answer's TTL is the limit.
fn changes_cached(server: &Server, load: &mut Load) {
    let at = server.at(portolan_tests::harness::DNS);
    for (what, cache) in [
        ("CoreDNS with `cache 30`", "cache 30"),
        ("NodeLocal DNS' block", "cache { success 9984 30\n denial 9984 5\n }"),
    ] {
        let address = loopback();
        let setup = Setup::new("");
        let corefile =
            format!("clusterset.local:5300 {{\n bind {address}\n errors\n {cache}\n forward . {at}\n}}\n");
        std::fs::write(setup.path("Corefile"), corefile).unwrap();
        let arguments = ["-conf".to_owned(), setup.path("Corefile").display().to_string()];
        let mut part = Part::start(&binary("coredns"), &arguments, setup.path("coredns.log"));
        let asker = Asker::new((address, 5300).into());
        let ttl = Duration::from_secs(5);
        measure(&format!("behind {what}, asked all the time"), ttl, &asker, load, CACHED, &[]);
        part.kill();
    }
}

/// Changes one service after the other and waits for each to be answered.
fn measure(
    what: &str,
    limit: Duration,
    asker: &Asker,
    load: &mut Load,
    changes: usize,
    pids: &[(&str, u32)],
) {
    let before: Vec<_> = pids.iter().map(|(_, pid)| cpu(*pid)).collect();
    let mut times: Vec<Duration> = (0..changes)
        .map(|_| {
            let service = load.next_measured();
            asker.warm(&host_of(service));
            let begun = Instant::now();
            let address = load.change(service);
            asker.until(&host_of(service), address);
            begun.elapsed()
        })
        .collect();
    times.sort();
    let millis = |p: f64| times[((times.len() - 1) as f64 * p) as usize].as_secs_f64() * 1e3;
    let limit = limit.as_secs_f64() * 1e3;
    println!(
        "{what}: {changes} changes, p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms (limit p99 {limit} ms, ratio {:.2})",
        millis(0.5),
        millis(0.99),
        millis(1.0),
        millis(0.99) / limit
    );
    for ((who, pid), before) in pids.iter().zip(before) {
        let micros = (cpu(*pid) - before).as_secs_f64() * 1e6 / changes as f64;
        println!("  {who}: {micros:.0} µs of CPU for each change, with all that it does meanwhile");
    }
}

fn memory_of(direct: &Server, copied: &Copied, load: &mut Load, services: usize) {
    load.grow_to(services);
    until_copied(&copied.server, services);
    until_copied(direct, services);
    let endpoints = services * ENDPOINTS;
    for (who, server) in [
        ("server, directly", direct),
        ("controller", &copied.controller),
        ("server, of copies", &copied.server),
    ] {
        let resident = resident(server.pid());
        println!(
            "{who}: {} MB with {services} services, {endpoints} endpoints: {} bytes for each",
            resident >> 20,
            resident as usize / endpoints
        );
    }
}

/// Other credentials, as rotation gives them: everything is listed again.
fn relist(server: &Server, paris: &Cluster) {
    let before = resident(server.pid());
    reset_peak(server.pid());
    let told = lists(paris, "endpointslices");
    std::fs::copy(paris.kubeconfig("admin"), server.path("paris.yaml")).unwrap();
    until_within(PATIENCE, "paris is listed again", || {
        std::thread::sleep(Duration::from_millis(500));
        (lists(paris, "endpointslices") > told).then_some(())
    });
    until_quiet(server);
    let peak = peak(server.pid());
    println!(
        "a relist: {} MB before, {} MB at most (limit twice as much, ratio {:.2})",
        before >> 20,
        peak >> 20,
        peak as f64 / (2 * before) as f64
    );
}

/// Until a server has nothing to do: less than a tenth of a core for a while.
fn until_quiet(server: &Server) {
    let mut last = cpu(server.pid());
    let mut quiet = 0;
    until_within(PATIENCE, "the server is quiet", || {
        std::thread::sleep(Duration::from_secs(1));
        let now = cpu(server.pid());
        quiet = if now - last < Duration::from_millis(100) { quiet + 1 } else { 0 };
        last = now;
        (quiet == 5).then_some(())
    });
}
