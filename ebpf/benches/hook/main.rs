//! What the socket hook costs: connect() without it, past it and through it, at 10, 10,000 and 100,000 virtual IPs; the same
//! connections by what people use instead; and how fast changes are in the kernel. As root: `make bench-ebpf`.
//!
//! One process makes all connections, in turns: inside the hooked cgroup and outside of it, for a socket counts to the cgroup that
//! its process is in when it is made. It runs in a network namespace of its own, and talks to loopback addresses only.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a bench is no library"
)]

#[path = "../../../zones/tests/common/mod.rs"]
mod common;
mod kernel;
mod peers;
mod timing;
mod updates;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use common::*;
use kernel::{KernelPlace, run};
use portolan_zones::object::{Object, Protocol, ServiceKind, SessionAffinity};
use timing::{Case, Echo, compare, time};

/// Numbers of virtual IPs.
const VIPS: [u32; 3] = [10, 10_000, 100_000];
/// Services have so many endpoints.
const ENDPOINTS: u32 = 3;

fn main() {
    if !std::fs::read_to_string("/proc/self/status").unwrap().contains("Uid:\t0\t") {
        println!("skipped: only root may attach BPF programs and make network namespaces");
        return;
    }
    if std::env::var_os("IN_NAMESPACE").is_none() {
        // What is measured leaves nothing: the namespaces end with their last process.
        let error = Command::new("unshare")
            .args(["--net", "--mount"])
            .arg(std::env::current_exe().unwrap())
            .env("IN_NAMESPACE", "1")
            .exec();
        panic!("unshare: {error}");
    }
    run(&["ip", "link", "set", "lo", "up"]);
    let place = KernelPlace::make();
    let echo = Echo::start();
    for vips in VIPS {
        measure(&place, &echo, vips);
    }
}

fn measure(place: &KernelPlace, echo: &Echo, vips: u32) {
    let mut world = clusterset(vips, echo);
    let mut hook = place.load(vips);
    let start = Instant::now();
    hook.follow(&Arc::new(world.snapshot.clone())).1.unwrap();
    let (loading, memory) = (start.elapsed(), place.memory());
    hook.attach().unwrap();
    println!(
        "\n{vips} virtual IPs with two ports and {ENDPOINTS} backends: written in {:.0} ms, {memory:.0} MB of maps",
        loading.as_secs_f64() * 1e3
    );
    let plain = Ipv4Addr::from(u32::from(FIRST) + vips - 1);
    let keeping = Ipv4Addr::from(u32::from(FIRST) + vips - 2);
    let udp = |to: SocketAddr| {
        move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            time(|| socket.connect(to).unwrap())
        }
    };
    let tcp = |to: SocketAddr| move || timing::connect_tcp(to);
    let cases = [
        Case::new("without a hook", false, udp(echo.udp)),
        Case::new("past it (miss)", true, udp(echo.udp)),
        Case::new("through it (hit)", true, udp((plain, 53).into())),
        Case::new("hit with session affinity", true, udp((keeping, 53).into())),
    ];
    compare("connect(), UDP", &cases, 2000, place);
    let cases = [
        Case::new("without a hook", false, tcp(echo.tcp)),
        Case::new("past it (miss)", true, tcp(echo.tcp)),
        Case::new("through it (hit)", true, tcp((plain, 80).into())),
        Case::new("hit with session affinity", true, tcp((keeping, 80).into())),
    ];
    compare("connect(), TCP, with the handshake over loopback", &cases, 200, place);
    if vips == VIPS[VIPS.len() - 1] {
        peers::measure(place, echo, (plain, 80).into());
        updates::measure(&mut world, &mut hook, vips);
    }
    drop(hook);
    place.clear();
}

/// The first virtual IP.
const FIRST: Ipv4Addr = Ipv4Addr::new(241, 0, 0, 1);

/// Services with a TCP and a UDP port. The backends of the last two are the echo's; clients of the one before the last keep
/// theirs.
fn clusterset(vips: u32, echo: &Echo) -> World {
    let mut world = World::new(&["clusterset.local"], &["a"]);
    world.home("a");
    let mut objects = Vec::new();
    for i in 0..vips {
        let name = format!("service-{i}");
        let mut spec = spec(&[port("tcp", Protocol::Tcp, 80), port("udp", Protocol::Udp, 53)]);
        if i + 2 == vips {
            spec.session_affinity = SessionAffinity::ClientIp { timeout: 10_800 };
        }
        objects.push(export("n", &name, 1));
        let ip = Ipv4Addr::from(u32::from(FIRST) + i).to_string();
        let Object::Import(mut import) = import("n", &name, 1, &[&ip]) else { panic!("no import") };
        import.spec = Arc::new(spec.clone());
        objects.push(Object::Import(import));
        objects.push(service("n", &name, ServiceKind::ClusterIp, spec));
        objects.push(match vips - i {
            1 | 2 => slice_of(i, Ipv4Addr::new(127, 0, 0, 1), echo.tcp.port(), echo.udp.port(), 0),
            _ => slice_of(i, Ipv4Addr::from(0x0a00_0000 + i * 8), 8080, 5353, 0),
        });
    }
    world.reset("a", objects);
    world.compile();
    world
}

/// Endpoints with addresses from `first + moved` on.
fn slice_of(service: u32, first: Ipv4Addr, tcp: u16, udp: u16, moved: u32) -> Object {
    let address = |n: u32| Ipv4Addr::from(u32::from(first) + moved + n).to_string();
    let endpoints = (0..ENDPOINTS).map(|n| endpoint(&address(n), None, true)).collect();
    let name = format!("service-{service}");
    let Object::Slice(mut slice) = slice("n", &name, &name, &[("tcp", tcp)], endpoints) else {
        panic!("no slice")
    };
    let mut ports = slice.ports.to_vec();
    ports.push(portolan_zones::object::SlicePort {
        name: Some("udp".into()),
        protocol: Protocol::Udp,
        number: Some(udp),
        app_protocol: None,
    });
    slice.ports = ports.into();
    Object::Slice(slice)
}
