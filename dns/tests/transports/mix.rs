//! The transports say the same: UDP in batches of all sizes, TCP with many queries in flight.

use std::net::UdpSocket;

use hickory_proto::op::Message;
use portolan_dns::view::Transport;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::common::*;
use crate::fixtures::{options, question, text};

/// Queries that are asked.
const QUERIES: usize = 20_000;
/// Of one client at a time: more than a batch of the server, less than its queue holds at least.
const BURSTS: [usize; 7] = [1, 2, 7, 31, 32, 33, 100];
const PAYLOAD: u16 = 4096;

/// What replies depend on besides the question is left out: the time (cookies), the transport (keepalive, padding,
/// transfers), its limits.
fn queries() -> Vec<Vec<u8>> {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let question = question();
    let mut queries = Vec::new();
    while queries.len() < QUERIES {
        let mut ask = question.new_tree(&mut runner).unwrap().current();
        if let Some((payload, _, _, options)) = &mut ask.edns {
            *payload = PAYLOAD;
            options.retain(|(code, _)| ![10, 11, 12].contains(code));
        }
        if ![251, 252].contains(&ask.rtype) {
            ask.id = queries.len() as u16;
            queries.push(ask.octets());
        }
    }
    queries
}

fn by_udp(served: &Served, queries: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind(any()).unwrap();
    socket.connect(served.address(Transport::Udp)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut replies = vec![Vec::new(); queries.len()];
    let mut buffer = [0; PAYLOAD as usize];
    let (mut next, mut bursts) = (0, BURSTS.iter().cycle());
    while next < queries.len() {
        let end = (next + bursts.next().unwrap()).min(queries.len());
        for query in &queries[next..end] {
            socket.send(query).unwrap();
        }
        for _ in next..end {
            let len = socket.recv(&mut buffer).unwrap();
            let id = usize::from(u16::from_be_bytes([buffer[0], buffer[1]]));
            assert!((next..end).contains(&id) && replies[id].is_empty(), "a reply to {id} of {next}..{end}");
            replies[id] = buffer[..len].to_vec();
        }
        next = end;
    }
    replies
}

async fn by_tcp(served: &Served, queries: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let (mut read, mut write) = served.connect().await.into_split();
    let framed: Vec<u8> =
        queries.iter().flat_map(|q| [&(q.len() as u16).to_be_bytes()[..], q].concat()).collect();
    let writer = tokio::spawn(async move { write.write_all(&framed).await.map(|()| write) });
    let mut replies = Vec::new();
    for _ in queries {
        let reply = timeout(PATIENCE, async {
            let mut reply = vec![0; read.read_u16().await.unwrap().into()];
            read.read_exact(&mut reply).await.unwrap();
            reply
        });
        replies.push(reply.await.unwrap());
    }
    drop(writer.await.unwrap().unwrap());
    replies
}

/// A set of several records begins with any of them: the same records in the order of their texts.
fn sorted(octets: &[u8]) -> String {
    let message = Message::from_vec(octets).unwrap();
    let mut lines: Vec<_> = text(&message).lines().map(str::to_owned).collect();
    lines.sort();
    format!("{:02x?}\n{}\n{:?}", &octets[..12], lines.join("\n"), options(octets))
}

/// "The contents of the message are the same" whatever carries it (RFC 7766 §5), octet by octet; but for the truncated.
#[tokio::test(flavor = "multi_thread")]
async fn udp_and_tcp_say_the_same() {
    let served = serve(|settings| {
        settings.edns.max_udp_payload = PAYLOAD;
        settings.rate_limit.per_second = None;
    });
    let queries = queries();
    let udp = by_udp(&served, &queries);
    let tcp = by_tcp(&served, &queries).await;
    let (mut equal, mut reordered, mut truncated) = (0, 0, 0);
    for ((query, udp), tcp) in queries.iter().zip(&udp).zip(&tcp) {
        if udp == tcp {
            equal += 1;
        } else if udp[2] & 2 != 0 {
            assert!(tcp.len() > 512 && tcp[2] & 2 == 0, "{query:02x?}");
            truncated += 1;
        } else {
            assert_eq!(udp.len(), tcp.len(), "{query:02x?}");
            assert_eq!(sorted(udp), sorted(tcp), "{query:02x?}");
            reordered += 1;
        }
    }
    assert!(equal > QUERIES / 2 && reordered > 0, "{equal} {reordered} {truncated}");
}
