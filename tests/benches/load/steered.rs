//! What it costs the server that an answer depends on who asks: CPU per query, user and system, over loopback UDP. Rounds of
//! all sorts of answers take turns at one server, so that whatever else the machine does is in all of them.

use std::fmt::Write as _;
use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use portolan_tests::harness::{DNS, Server, Setup, headless, list, query};
use serde_json::json;

const ROUNDS: usize = 41;
/// So often every client asks in a round of one sort of answers.
const TIMES: usize = 200;
/// Clients, each in a network of its own; they ask at once.
const CLIENTS: usize = 64;
/// Networks that the operator knows, in three zones.
const NETWORKS: usize = 1_000;
/// Of the design.
const LIMIT: f64 = 1.05;
/// The same for all; all have three addresses, and names of one length.
const STATIC: &str = "same";
const ROWS: [(&str, &str); 3] = [("by locality", "near"), ("by weight", "part"), ("sticky", "keep")];

/// Prints the figures.
pub(super) fn run() {
    let server = setup().start();
    let clients: Vec<_> = (0..CLIENTS).map(|at| client(&server, at)).collect();
    check(&clients);
    let measured: Vec<[f64; 4]> = (0..ROUNDS)
        .map(|_| [STATIC, ROWS[0].1, ROWS[1].1, ROWS[2].1].map(|service| round(&server, &clients, service)))
        .collect();
    let median = |of: &dyn Fn(&[f64; 4]) -> f64| {
        let mut all: Vec<f64> = measured.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    println!(
        "Answers of 3 addresses over loopback UDP, {NETWORKS} networks, {ROUNDS} rounds of {} queries: \
         static: {:.2} µs of the server's CPU per query",
        TIMES * CLIENTS,
        median(&|round| round[0])
    );
    for (at, (what, _)) in (1..).zip(ROWS) {
        let ratio = median(&|round| round[at] / round[0]);
        println!(
            "{what}: {:.2} µs, {ratio:.3} of a static one (limit {LIMIT}, ratio {:.2})",
            median(&|round| round[at]),
            ratio / LIMIT
        );
    }
}

/// Two clusters; a service for each sort of answers.
fn setup() -> Setup {
    let mut yaml =
        "clusters: [{manifests: clusters/a}, {manifests: clusters/b}]\nview:\n  networks:\n".to_owned();
    for network in 0..NETWORKS {
        let zone = network % 3;
        writeln!(yaml, "  - {{network: 127.{}.{}.0/24, zone: z{zone}}}", 64 + network / 256, network % 256)
            .unwrap();
    }
    let in_zones = |cluster: u8, name: &str, each: u8| {
        let addresses = (0..each * 3).map(|at| [10, cluster, name.len() as u8, at + 1].into());
        let mut objects = headless(name, addresses);
        let slice = objects.last_mut().unwrap();
        for (at, endpoint) in slice["endpoints"].as_array_mut().unwrap().iter_mut().enumerate() {
            endpoint["zone"] = json!(format!("z{}", at % 3));
        }
        objects
    };
    let policy = |name: &str, mut spec: serde_json::Value| {
        spec["targetRefs"] = json!([{ "kind": "ServiceExport", "name": name }]);
        spec["answer"] = json!("Endpoints");
        let metadata = json!({ "namespace": "shop", "name": name });
        json!({ "apiVersion": "portolan.dev/v1alpha1", "kind": "TrafficPolicy", "metadata": metadata, "spec": spec })
    };
    let weights = json!([{ "cluster": "a", "weight": 3 }, { "cluster": "b", "weight": 1 }]);
    let policies = [
        policy("near", json!({ "locality": { "order": ["Zone"] } })),
        policy("part", json!({ "weights": weights })),
        policy("keep", json!({ "weights": weights, "sticky": true })),
    ];
    let of_a =
        [in_zones(1, STATIC, 1), in_zones(1, "near", 3), in_zones(1, "part", 1), in_zones(1, "keep", 1)];
    let of_b = [in_zones(2, "part", 1), in_zones(2, "keep", 1)];
    Setup::new(&yaml)
        .file("clusters/a/objects.json", list(of_a.concat()))
        .file("clusters/a/policies.json", list(policies))
        .file("clusters/b/objects.json", list(of_b.concat()))
}

/// The network of a client; those of three in a row are in three zones.
fn network(client: usize) -> usize {
    client * 13 % NETWORKS
}

fn client(server: &Server, at: usize) -> UdpSocket {
    let network = network(at);
    let address = [127, 64 + (network / 256) as u8, (network % 256) as u8, 7];
    let socket = UdpSocket::bind((std::net::Ipv4Addr::from(address), 0)).unwrap();
    socket.connect(server.at(DNS)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// Everybody asks at once; `see` gets each client's number and the reply to it.
fn ask(clients: &[UdpSocket], message: &[u8], mut see: impl FnMut(usize, &[u8])) {
    for client in clients {
        client.send(message).unwrap();
    }
    let mut reply = [0; 512];
    for (at, client) in clients.iter().enumerate() {
        let len = client.recv(&mut reply).unwrap();
        assert_eq!(reply[7], 3, "three addresses");
        see(at, &reply[..len]);
    }
}

/// What is measured is what it is said to be.
fn check(clients: &[UdpSocket]) {
    let last_address = |reply: &[u8]| -> [u8; 4] { reply[reply.len() - 4..].try_into().unwrap() };
    ask(clients, &question("near"), |client, reply| {
        let zone = usize::from(last_address(reply)[3] - 1) % 3;
        assert_eq!(zone, network(client) % 3, "client {client}");
    });
    let clusters_of = |service| {
        let mut clusters = vec![0; CLIENTS];
        ask(clients, &question(service), |client, reply| clusters[client] = last_address(reply)[1]);
        clusters
    };
    assert!([1, 2].iter().all(|cluster| clusters_of("part").contains(cluster)));
    assert_eq!(clusters_of("keep"), clusters_of("keep"));
    assert!([1, 2].iter().all(|cluster| clusters_of("keep").contains(cluster)));
}

fn question(service: &str) -> Vec<u8> {
    query(&format!("{service}.shop.svc.clusterset.local"), 1)
}

/// Microseconds of the server's CPU per query.
fn round(server: &Server, clients: &[UdpSocket], service: &str) -> f64 {
    let message = question(service);
    let before = cpu(server.pid());
    for _ in 0..TIMES {
        ask(clients, &message, |_, _| {});
    }
    (cpu(server.pid()) - before) as f64 / 1000.0 / (TIMES * clients.len()) as f64
}

/// Nanoseconds that all threads of a process were running: user and system.
fn cpu(pid: u32) -> u64 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let of_thread = |thread: std::io::Result<fs::DirEntry>| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    threads.filter_map(of_thread).sum()
}
