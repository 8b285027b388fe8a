//! DNS over TCP (RFC 7766).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use portolan_dns::view::Transport;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::common::*;
use crate::fixtures::{compiled, exported, import};

async fn connect_from(client: &str, server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(client.parse().unwrap(), 0)).unwrap();
    socket.connect(server).await.unwrap()
}

async fn is_closed(stream: &mut TcpStream) -> bool {
    receive(stream).await.is_none()
}

/// RFC 7766 §6.2.1.1: many queries at once, each with its answer.
#[tokio::test]
async fn a_thousand_queries_in_one_write() {
    let served = serve(|_| {});
    let mut stream = served.connect().await;
    let queries: Vec<u8> = (0..1000).flat_map(|id| framed(id, ask(CART))).collect();
    stream.write_all(&queries).await.unwrap();
    let mut ids = HashSet::new();
    while ids.len() < 1000 {
        let reply = receive(&mut stream).await.expect("an answer to each");
        assert_eq!(reply.answers.len(), 1);
        assert!(ids.insert(reply.metadata.id), "answered twice");
    }
    assert_eq!(exchange(&mut stream, 7, ask(CART)).await.answers.len(), 1, "the connection stays");
}

/// However a message is cut into segments (RFC 7766 §8).
#[tokio::test]
async fn queries_in_pieces() {
    let served = serve(|_| {});
    let mut stream = served.connect().await;
    stream.set_nodelay(true).unwrap();
    let two = [framed(1, ask(CART)), framed(2, ask(CART))].concat();
    for octet in two {
        stream.write_all(&[octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let ids =
        [receive(&mut stream).await, receive(&mut stream).await].map(|reply| reply.unwrap().metadata.id);
    assert_eq!(ids, [1, 2]);
}

/// Answers too long for one batch, and a client that reads only when it has asked everything.
#[tokio::test]
async fn long_answers() {
    let served = serve(|_| {});
    let mut stream = served.connect().await;
    let queries: Vec<u8> =
        (0..300).flat_map(|id| framed(id, ask("big.shop.svc.clusterset.local A"))).collect();
    stream.write_all(&queries).await.unwrap();
    for id in 0..300 {
        let reply = receive(&mut stream).await.unwrap();
        assert_eq!((reply.metadata.id, reply.answers.len(), reply.metadata.truncation), (id, 600, false));
    }
}

/// RFC 7766 §6.2.1.1: a transfer doesn't hold other answers up; RFC 5936 §2.2: it begins and ends with the SOA.
#[tokio::test]
async fn other_answers_come_between_messages_of_a_transfer() {
    let served = serve(|settings| settings.access.transfer.allow = vec!["127.0.0.0/8".parse().unwrap()]);
    // 16 MB: several times what the kernel takes while nobody reads (`net.ipv4.tcp_wmem`, `net.ipv4.tcp_rmem`), so that the
    // second query arrives before the end is made.
    let ports: Vec<String> = (0..20).map(|port| format!("port-{port}")).collect();
    let ports: Vec<(&str, u16)> = ports.iter().map(|port| (port.as_str(), 80)).collect();
    let (mut objects, long) = (Vec::new(), "x".repeat(50));
    for i in 0..4000 {
        let name = format!("{long}-{i}");
        objects.extend(exported(&name, portolan_zones::object::ServiceKind::ClusterIp, &ports));
        objects.push(import(&name, &[&format!("241.1.{}.{}", i / 250, i % 250)]));
    }
    served.snapshots.store(std::sync::Arc::new(compiled(objects, true, 1)));
    let mut stream = served.connect().await;
    stream.write_all(&framed(1, ask("clusterset.local AXFR"))).await.unwrap();
    let first = receive(&mut stream).await.unwrap();
    assert_eq!((first.metadata.id, first.answers[0].record_type().to_string()), (1, "SOA".to_owned()));
    stream.write_all(&framed(2, ask(&format!("{long}-7.shop.svc.clusterset.local A")))).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut ids = Vec::new();
    let mut last = None;
    while let Some(reply) = receive(&mut stream).await {
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        ids.push(reply.metadata.id);
        if reply.metadata.id == 1 {
            last = reply.answers.last().map(|record| record.record_type().to_string());
        }
    }
    assert_eq!(last.as_deref(), Some("SOA"));
    assert_eq!(ids.iter().filter(|id| **id == 2).count(), 1);
    assert_eq!(ids.last(), Some(&1), "after all of {} messages of the transfer", ids.len());
}

/// RFC 7766 §6.2.2: pipelined queries of a client that closes its side are answered.
#[tokio::test]
async fn half_closed_connections_get_their_answers() {
    let served = serve(|_| {});
    let mut stream = served.connect().await;
    // More than one batch of replies.
    let queries: Vec<u8> = (0..300).flat_map(|id| framed(id, ask(CART))).collect();
    stream.write_all(&queries).await.unwrap();
    stream.shutdown().await.unwrap();
    for id in 0..300 {
        assert_eq!(receive(&mut stream).await.expect("an answer").metadata.id, id);
    }
    assert!(is_closed(&mut stream).await);
}

/// RFC 7766 §6.2.3: after the idle timeout; octets of a query that never ends don't keep a connection.
#[tokio::test]
async fn idle_connections_end() {
    let served = serve(|settings| settings.tcp.idle_timeout = Duration::from_millis(300));
    let mut silent = served.connect().await;
    let mut used = served.connect().await;
    assert_eq!(exchange(&mut used, 1, ask(CART)).await.answers.len(), 1);
    let (start, mut slow) = (Instant::now(), served.connect().await);
    let trickle = async {
        let query = framed(1, ask(CART));
        for octet in query.iter().cycle().take(20).chain(&query) {
            if slow.write_all(&[*octet]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        is_closed(&mut slow).await
    };
    let (silent, used, slow) = tokio::join!(is_closed(&mut silent), is_closed(&mut used), trickle);
    assert!(silent && used && slow);
    assert!(start.elapsed() < PATIENCE);
}

/// A message shorter than a header, or none, is no DNS: the connection ends.
#[tokio::test]
async fn garbage_ends_the_connection() {
    let served = serve(|_| {});
    for garbage in [&[0, 0][..], &[0, 1, 9], &[0, 11], b"\0\0GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = served.connect().await;
        assert_eq!(exchange(&mut stream, 1, ask(CART)).await.answers.len(), 1);
        stream.write_all(garbage).await.unwrap();
        assert!(is_closed(&mut stream).await, "{garbage:?}");
    }
    // A sound length and nonsense for a query: an error is the answer.
    let mut stream = served.connect().await;
    stream.write_all(b"\0\x0d\x12\x34\0\0\0\x01\0\0\0\0\0\0\xff").await.unwrap();
    let reply = receive(&mut stream).await.unwrap();
    assert_eq!((reply.metadata.id, reply.metadata.response_code), (0x1234, ResponseCode::FormErr));
}

/// Over a limit the connection that was idle longest makes room (RFC 7766 §6.2.3).
#[tokio::test]
async fn limits_of_connections() {
    type Limit = fn(&mut portolan_dns::settings::Tcp);
    let limits: [Limit; 2] = [|tcp| tcp.max_connections = 3, |tcp| tcp.max_connections_per_client = 3];
    for limit in limits {
        let served = serve(|settings| limit(&mut settings.tcp));
        let mut streams = Vec::new();
        for id in 0..3 {
            let mut stream = served.connect().await;
            exchange(&mut stream, id, ask(CART)).await;
            streams.push(stream);
        }
        exchange(&mut streams[0], 3, ask(CART)).await;
        let mut next = served.connect().await;
        exchange(&mut next, 4, ask(CART)).await;
        assert!(is_closed(&mut streams.remove(1)).await, "idle longest");
        for stream in &mut streams {
            exchange(stream, 5, ask(CART)).await;
        }
        let server = format!("{{server=\"dns://{}\",transport=\"tcp\"}}", served.address(Transport::Tcp));
        served.has_line(&format!("portolan_tcp_evicted_total{server} 1")).await;
        served.has_line(&format!("portolan_tcp_connections{server} 3")).await;
        drop((streams, next));
        served.has_line(&format!("portolan_tcp_connections{server} 0")).await;
    }
}

/// A client that doesn't read makes us hold one batch, not more: we stop reading, and it can't write on for ever.
#[tokio::test]
async fn a_client_that_does_not_read_is_not_read_from() {
    let served = serve(|_| {});
    let mut stream = served.connect().await;
    ask_and_not_read(&mut stream).await;
    // Who reads is served on.
    for _ in 0..50 {
        assert_eq!(receive(&mut stream).await.unwrap().answers.len(), 600);
    }
}

/// RFC 9210 §4.1: places that are held by clients that take no replies are given to others.
#[tokio::test]
async fn clients_that_do_not_read_lock_nobody_out() {
    let served =
        serve(|settings| (settings.tcp.max_connections, settings.tcp.max_connections_per_client) = (4, 2));
    let server = served.address(Transport::Tcp);
    let mut slow = JoinSet::new();
    for client in ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"] {
        slow.spawn(async move {
            let mut stream = connect_from(client, server).await;
            ask_and_not_read(&mut stream).await;
            stream
        });
    }
    let _open = slow.join_all().await;
    let mut next = connect_from("127.0.0.4", server).await;
    assert_eq!(exchange(&mut next, 1, ask(CART)).await.answers.len(), 1);
    // Of a client at its own limit, another one.
    let mut again = connect_from("127.0.0.3", server).await;
    assert_eq!(exchange(&mut again, 2, ask(CART)).await.answers.len(), 1);
    let label = format!("{{server=\"dns://{server}\",transport=\"tcp\"}}");
    served.has_line(&format!("portolan_tcp_evicted_total{label} 2")).await;
    served.has_line(&format!("portolan_tcp_rejected_total{label} 0")).await;
}
