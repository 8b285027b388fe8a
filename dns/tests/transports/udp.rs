//! DNS over UDP.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;

use hickory_proto::op::{Message, ResponseCode};
use portolan_dns::server::{Listeners, Threads};
use portolan_dns::view::Transport;

use portolan_zones::object::ServiceKind;

use crate::common::*;
use crate::fixtures::{compiled, exported, import};

fn client(server: SocketAddr) -> UdpSocket {
    let local = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(local).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Message {
    let mut buffer = [0; 4096];
    let len = socket.recv(&mut buffer).unwrap();
    Message::from_vec(&buffer[..len]).unwrap()
}

/// Octets that wait in the queue of each socket that is bound to this address, as the kernel tells (proc_net(5)).
fn waiting(address: SocketAddr) -> Vec<usize> {
    // Each word of an address in the machine's order.
    let word = |octets: &[u8]| format!("{:08X}", u32::from_ne_bytes(octets.try_into().unwrap()));
    let (file, ip) = match address.ip() {
        IpAddr::V4(ip) => ("/proc/self/net/udp", word(&ip.octets())),
        IpAddr::V6(ip) => ("/proc/self/net/udp6", ip.octets().chunks(4).map(word).collect()),
    };
    let local = format!("{ip}:{:04X}", address.port());
    let table = std::fs::read_to_string(file).unwrap();
    let rows = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>());
    let queues = rows.filter(|row| row[1] == local).map(|row| row[4].split_once(':').unwrap().1.to_owned());
    queues.map(|queue| usize::from_str_radix(&queue, 16).unwrap()).collect()
}

#[tokio::test]
async fn answers_on_every_socket_and_in_both_families() {
    // Port 0 of both families becomes two ports.
    let udp = vec![any(), "[::1]:0".parse().unwrap()];
    let listeners = Listeners {
        udp,
        udp_threads: Threads::Number(NonZeroUsize::new(3).unwrap()),
        ..Listeners::default()
    };
    let bound = bind(&listeners, |_| {});
    let addresses = bound.addresses().to_vec();
    assert_eq!(addresses.len(), 2);
    let mut clients = Vec::new();
    for (transport, address) in addresses {
        assert_eq!(transport, Transport::Udp);
        for id in 0..50 {
            // A new port each time: the kernel chooses the socket by it.
            let socket = client(address);
            socket.send(&Ask { id, ..ask(CART) }.octets()).unwrap();
            clients.push((socket, id));
        }
        // Nobody reads yet, so it shows who got them: one of three gets none of 50 once in a hundred million times.
        let spread = eventually(|| {
            let waiting = waiting(address);
            (waiting.len() == 3 && waiting.iter().all(|octets| *octets > 0)).then_some(())
        });
        assert!(spread.await.is_some(), "{:?}", waiting(address));
    }
    let served = bound.run();
    for (socket, id) in clients {
        let reply = receive(&socket);
        assert_eq!((reply.metadata.id, reply.answers.len()), (id, 1));
    }
    let scraped = served.scrape();
    for family in ["1", "2"] {
        let start = format!("proto=\"udp\",family=\"{family}\",type=\"A\"}} 50");
        assert!(
            scraped
                .lines()
                .any(|line| line.starts_with("coredns_dns_requests_total") && line.ends_with(&start))
        );
    }
}

#[tokio::test]
async fn sees_new_snapshots_and_settings() {
    let served = serve(|_| {});
    let socket = client(served.address(Transport::Udp));
    let status = |question| {
        socket.send(&ask(question).octets()).unwrap();
        receive(&socket).metadata.response_code
    };
    assert_eq!(status(CART), ResponseCode::NoError);
    served.snapshots.store(std::sync::Arc::new(crate::fixtures::compiled(Vec::new(), true, 1)));
    assert_eq!(status(CART), ResponseCode::NXDomain);
    let mut settings = (**served.settings.load()).clone();
    settings.access.query.deny = vec!["127.0.0.0/8".parse().unwrap()];
    served.settings.store(std::sync::Arc::new(settings));
    assert_eq!(status(CART), ResponseCode::Refused);
}

/// What isn't a query gets no answer (RFC 1035 §4.1.1: QR), and nothing stops the next one: not garbage, not an
/// empty datagram, not an ICMP error for a reply that nobody took.
#[tokio::test]
async fn garbage_is_ignored() {
    let served = serve(|_| {});
    let address = served.address(Transport::Udp);
    let socket = client(address);
    let mut response = ask(CART).octets();
    response[2] |= 0x80;
    for garbage in [&b""[..], b"x", &[0; 11], &response, &[0xff; 2000]] {
        socket.send(garbage).unwrap();
        for _ in 0..10 {
            let gone = client(address);
            gone.send(&ask(CART).octets()).unwrap();
        }
        socket.send(&Ask { id: 77, ..ask(CART) }.octets()).unwrap();
        assert_eq!(receive(&socket).metadata.id, 77);
    }
    let label = format!("{{server=\"dns://{address}\",transport=\"udp\"}} 5");
    served.has_line(&format!("portolan_ignored_total{label}")).await;
}

/// Batches among many names: each query has its own answer, whatever else came along.
#[tokio::test]
async fn each_query_of_a_batch_has_its_own_answer() {
    const NAMES: u16 = 6000;
    let objects = (0..NAMES).flat_map(|at| {
        let name = format!("s{at}");
        let [high, low] = at.to_be_bytes();
        let [service, export] = exported(&name, ServiceKind::ClusterIp, &[("http", 80)]);
        [service, export, import(&name, &[&format!("241.0.{high}.{low}")])]
    });
    let served = serve(|settings| settings.rate_limit.per_second = None);
    served.snapshots.store(std::sync::Arc::new(compiled(objects.collect(), true, 42)));
    let socket = client(served.address(Transport::Udp));
    for burst in (0..NAMES + 40).collect::<Vec<_>>().chunks(50) {
        for id in burst {
            socket
                .send(&Ask { id: *id, ..ask(&format!("s{id}.shop.svc.clusterset.local A")) }.octets())
                .unwrap();
            let others = ["x.example A", "clusterset.local SOA", "db.shop.svc.clusterset.local A"];
            socket.send(&Ask { id: 60_000, ..ask(others[usize::from(id % 3)]) }.octets()).unwrap();
            socket.send(&[*id as u8; 7]).unwrap();
        }
        let mut waiting: BTreeSet<u16> = burst.iter().copied().collect();
        while !waiting.is_empty() {
            let reply = receive(&socket);
            let id = reply.metadata.id;
            if id == 60_000 {
                continue;
            }
            assert!(waiting.remove(&id), "{id} twice");
            let [high, low] = id.to_be_bytes();
            let told: Vec<String> = reply.answers.iter().map(|record| record.data.to_string()).collect();
            let expected = (id < NAMES).then(|| format!("241.0.{high}.{low}"));
            assert_eq!(told, Vec::from_iter(expected), "{id}");
        }
    }
}

/// RFC 2181 §4.1: "the server must respond to queries from … the address to which the query was sent", also where it is
/// bound to none, and IPv4 clients of an IPv6 socket are none else.
#[tokio::test]
async fn replies_leave_where_queries_arrived() {
    for (bound, asked) in [
        ("0.0.0.0:0", &["127.0.0.1", "127.0.0.2", "127.1.2.3"][..]),
        ("[::]:0", &["::1", "127.0.0.1", "127.9.9.9"]),
    ] {
        let listeners = Listeners { udp: vec![bound.parse().unwrap()], ..Listeners::default() };
        let served = serve_on(&listeners, |_| {});
        let port = served.address(Transport::Udp).port();
        for (id, address) in (0..).zip(asked.iter().cycle().take(50)) {
            // A connected socket takes replies from nowhere else.
            let socket = client(SocketAddr::new(address.parse().unwrap(), port));
            socket.send(&Ask { id, ..ask(CART) }.octets()).unwrap();
            assert_eq!(receive(&socket).metadata.id, id, "{bound} {address}");
        }
    }
}

/// What is longer than any query may be is malformed, and stops nothing.
#[tokio::test]
async fn endless_queries_are_malformed() {
    let served = serve(|_| {});
    let socket = client(served.address(Transport::Udp));
    for len in [4096, 4097, 65_507] {
        let mut query = ask(CART).edns(1232).octets();
        // An option that goes on to the end of the datagram.
        let value = len - query.len() - 4;
        let end = query.len();
        query[end - 2..].copy_from_slice(&(value as u16 + 4).to_be_bytes());
        query.extend([0xfd, 0xe9]);
        query.extend((value as u16).to_be_bytes());
        query.resize(len, 0);
        socket.send(&query).unwrap();
        let expected = if len > 4096 { ResponseCode::FormErr } else { ResponseCode::NoError };
        assert_eq!(receive(&socket).metadata.response_code, expected, "{len}");
    }
}

/// More than can be answered: clients get replies to what the queue holds, which is what came first, the rest is dropped and
/// counted, and nothing is lost without a count.
#[tokio::test]
async fn what_is_dropped_is_counted() {
    const SENT: u16 = 40_000;
    /// Packets that wait on a core for the kernel, by default (`net.core.netdev_max_backlog`).
    const BACKLOG: usize = 1000;
    let listeners = Listeners {
        udp: vec![any()],
        udp_threads: Threads::Number(NonZeroUsize::MIN),
        ..Listeners::default()
    };
    let bound = bind(&listeners, |settings| settings.rate_limit.per_second = None);
    // So many that each has room for its replies.
    let clients: Vec<UdpSocket> = (0..100).map(|_| client(bound.address())).collect();
    // Nobody reads yet.
    for (id, socket) in (0..SENT).zip(clients.iter().cycle()) {
        socket.send(&Ask { id, ..ask(CART) }.octets()).unwrap();
    }
    for socket in &clients {
        socket.set_nonblocking(true).unwrap();
    }
    let served = bound.run();
    let address = served.address(Transport::Udp);
    let label = format!("portolan_udp_dropped_total{{server=\"dns://{address}\",transport=\"udp\"}} ");
    let mut answered = BTreeSet::new();
    let mut buffer = [0; 512];
    let dropped = eventually(|| {
        for socket in &clients {
            while let Ok(len) = socket.recv(&mut buffer) {
                let reply = Message::from_vec(&buffer[..len]).unwrap();
                assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
                assert!(answered.insert(reply.metadata.id), "{} twice", reply.metadata.id);
            }
        }
        let scraped = served.scrape();
        let dropped: usize = scraped.lines().find_map(|line| line.strip_prefix(&label)?.parse().ok())?;
        (answered.len() + dropped == usize::from(SENT)).then_some(dropped)
    });
    let dropped = dropped.await.unwrap_or_else(|| panic!("{} replies, {}", answered.len(), served.scrape()));
    assert!((usize::from(SENT / 2)..usize::from(SENT) - 100).contains(&dropped), "{dropped}");
    // But for those that the kernel reordered before they came to the queue: a process may move to another core meanwhile.
    let last = usize::from(*answered.last().unwrap());
    assert!(last < answered.len() + BACKLOG, "{answered:?}");
    // What comes now is answered.
    let socket = client(address);
    socket.send(&Ask { id: 99, ..ask(CART) }.octets()).unwrap();
    assert_eq!(receive(&socket).metadata.id, 99);
}
