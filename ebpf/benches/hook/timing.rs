//! Cases in turns, and what they take.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::kernel::KernelPlace;

/// Each case comes so often.
const ROUNDS: usize = 41;

/// Servers on all loopback addresses.
pub struct Echo {
    pub udp: SocketAddr,
    pub tcp: SocketAddr,
    _socket: UdpSocket,
}

impl Echo {
    /// TCP gives back what it gets, until it has given an octet.
    pub fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (udp, tcp) = (at(socket.local_addr().unwrap().port()), at(listener.local_addr().unwrap().port()));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut octet = [0];
                if stream.read(&mut octet).is_ok_and(|got| got == 1) {
                    let _ = stream.write_all(&octet);
                }
            }
        });
        Self { udp, tcp, _socket: socket }
    }
}

/// What is measured: inside the hooked cgroup, or outside of it.
pub struct Case<'c> {
    name: &'static str,
    inside: bool,
    once: Box<dyn Fn() -> Duration + 'c>,
}

impl<'c> Case<'c> {
    pub fn new(name: &'static str, inside: bool, once: impl Fn() -> Duration + 'c) -> Self {
        Self { name, inside, once: Box::new(once) }
    }
}

pub fn time(what: impl FnOnce()) -> Duration {
    let start = Instant::now();
    what();
    start.elapsed()
}

/// The server is told that it is over, and closes first: it keeps what TIME-WAIT keeps.
pub fn connect_tcp(to: SocketAddr) -> Duration {
    let start = Instant::now();
    let mut stream = TcpStream::connect(to).unwrap();
    let took = start.elapsed();
    finish(&mut stream);
    took
}

/// From the connect until an octet is back.
pub fn exchange(to: SocketAddr) -> Duration {
    let start = Instant::now();
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let took = start.elapsed();
    let _ = stream.read(&mut [0]);
    took
}

fn finish(stream: &mut TcpStream) {
    stream.write_all(b"x").unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Runs the cases in turns, `count` times each per round, and prints a row for each: p50, p99, and by how much the round's median
/// differs from that of the first case in the same round (minimum, median and maximum of all rounds).
pub fn compare(what: &str, cases: &[Case<'_>], count: usize, place: &KernelPlace) {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    let mut medians: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    for round in 0..ROUNDS {
        // Whoever comes first in a round comes last in the next one.
        let order: Vec<usize> =
            if round % 2 == 0 { (0..cases.len()).collect() } else { (0..cases.len()).rev().collect() };
        for at in order {
            place.enter(cases[at].inside);
            let mut these: Vec<f64> = (0..count).map(|_| (cases[at].once)().as_secs_f64() * 1e6).collect();
            these.sort_by(f64::total_cmp);
            medians[at].push(percentile(&these, 0.5));
            times[at].extend(these);
        }
    }
    println!("{what}");
    for (at, case) in cases.iter().enumerate() {
        times[at].sort_by(f64::total_cmp);
        let mut more: Vec<f64> =
            medians[at].iter().zip(&medians[0]).map(|(own, first)| own - first).collect();
        more.sort_by(f64::total_cmp);
        let difference = if at == 0 {
            String::new()
        } else {
            format!("{:+.2} µs ({:+.2} to {:+.2})", percentile(&more, 0.5), more[0], more[more.len() - 1])
        };
        let (p50, p99) = (percentile(&times[at], 0.5), percentile(&times[at], 0.99));
        println!("  {:<28}p50 {p50:>7.2} µs   p99 {p99:>7.2} µs   {difference}", case.name);
    }
}

pub fn percentile(sorted: &[f64], p: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * p) as usize]
}
