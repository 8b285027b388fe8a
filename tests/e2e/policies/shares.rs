//! Shares as the backends see them that clients connect to after resolving.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use portolan_tests::harness::{DNS, Server, Setup, ask_udp, headless, list, namespaces, query};

/// Where backends listen, as their slices say.
const PORT: u16 = 80;
/// Clients that resolve and connect, one after the other.
const CLIENTS: usize = 10_000;
/// Of one degree of freedom and of two: what a chi-square statistic exceeds with a chance of one in ten million when the
/// shares are as they should be.
const CRITICAL: [f64; 2] = [28.4, 32.2];

/// A backend that says who it is.
fn backend(address: &str) -> IpAddr {
    let listener = TcpListener::bind((address, PORT)).unwrap();
    let who = address.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            drop(stream.and_then(|mut stream| stream.write_all(who.as_bytes())));
        }
    });
    address.parse().unwrap()
}

/// The address of the only A record of a reply.
fn first_address(reply: &[u8]) -> Option<Ipv4Addr> {
    let answers = u16::from_be_bytes([reply[6], reply[7]]);
    let octets: [u8; 4] = reply.get(reply.len().checked_sub(4)?..)?.try_into().ok()?;
    (answers == 1).then(|| octets.into())
}

/// Who answered how many clients.
fn connected(server: &Server, name: &str) -> BTreeMap<String, usize> {
    let question = query(name, 1);
    let mut counts = BTreeMap::new();
    for _ in 0..CLIENTS {
        let reply = ask_udp(server.at(DNS), &question, Duration::from_secs(5)).expect("a reply");
        let address = first_address(&reply).expect("one address");
        let mut stream = TcpStream::connect(SocketAddr::from((address, PORT))).unwrap();
        let mut who = String::new();
        stream.read_to_string(&mut who).unwrap();
        *counts.entry(who).or_default() += 1;
    }
    counts
}

fn chi_square(counts: &[(usize, f64)]) -> f64 {
    counts.iter().map(|(seen, expected)| (*seen as f64 - expected).powi(2) / expected).sum()
}

/// Weights 3 to 1, and a cluster of weight 0: three quarters of all clients connect to the first, none to the last.
#[test]
fn clients_connect_by_weight() {
    let addresses = ["10.99.1.1", "10.99.2.1", "10.99.3.1"];
    if !namespaces::in_network_with("policies::shares::clients_connect_by_weight", &addresses) {
        return;
    }
    let backends = addresses.map(backend);
    let mut setup =
        Setup::new("clusters: [{manifests: clusters/a}, {manifests: clusters/b}, {manifests: clusters/c}]");
    for (cluster, backend) in ["a", "b", "c"].into_iter().zip(&backends) {
        setup = setup.file(&format!("clusters/{cluster}/web.yaml"), list(headless("web", [*backend])));
    }
    let server = setup
        .file(
            "clusters/a/policy.yaml",
            "apiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: split, namespace: shop}\n\
             spec:\n  targetRefs: [{kind: ServiceExport, name: web}]\n  maxRecords: 1\n  \
             weights: [{cluster: a, weight: 3}, {cluster: b, weight: 1}, {cluster: c, weight: 0}]\n",
        )
        .start();
    let counts = connected(&server, "web.shop.svc.clusterset.local");
    let of = |at: usize| counts.get(&backends[at].to_string()).copied().unwrap_or_default();
    let statistic = chi_square(&[(of(0), CLIENTS as f64 * 0.75), (of(1), CLIENTS as f64 * 0.25)]);
    assert!(statistic < CRITICAL[0] && of(2) == 0, "{counts:?}: chi-square {statistic:.1}");
}

/// Without weights every endpoint gets as much as any other.
#[test]
fn clients_connect_to_all_endpoints_alike() {
    let addresses = ["10.99.1.1", "10.99.1.2", "10.99.1.3"];
    if !namespaces::in_network_with("policies::shares::clients_connect_to_all_endpoints_alike", &addresses) {
        return;
    }
    let backends = addresses.map(backend);
    let server = Setup::new("clusters: [{manifests: clusters/a}]")
        .file("clusters/a/web.yaml", list(headless("web", backends)))
        .file(
            "clusters/a/policy.yaml",
            "apiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: one, namespace: shop}\n\
             spec: {targetRefs: [{kind: ServiceExport, name: web}], maxRecords: 1}\n",
        )
        .start();
    let counts = connected(&server, "web.shop.svc.clusterset.local");
    let seen: Vec<_> = counts.values().map(|count| (*count, CLIENTS as f64 / 3.0)).collect();
    let statistic = chi_square(&seen);
    assert!(seen.len() == 3 && statistic < CRITICAL[1], "{counts:?}: chi-square {statistic:.1}");
}
