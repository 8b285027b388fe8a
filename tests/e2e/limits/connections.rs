//! TCP: how many connections, for how long, in which order.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use portolan_tests::harness::{DNS, Server, Setup, ask_tcp, eventually, query, rcode};

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.at(DNS)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// Whether the server has closed the connection; waits for it.
fn closed(stream: &mut TcpStream) -> bool {
    // A reset, for what it never read, is an end too.
    stream
        .read(&mut [0])
        .map_or_else(|error| error.kind() != std::io::ErrorKind::WouldBlock, |read| read == 0)
}

fn svc1() -> Vec<u8> {
    query("svc1.testns.svc.clusterset.local", 1)
}

/// RFC 9210 §4.1 and RFC 7766 §6.2.2: one client has its share of the connections. Over it, its own connection
/// that has been idle longest makes room.
#[test]
fn a_client_has_its_share_of_connections() {
    let server = Setup::sample("conformance").with("tcp: {max-connections-per-client: 3}").start();
    let mut open: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = connect(&server);
            assert_eq!(rcode(&ask_tcp(&mut stream, &svc1()).unwrap()), 0);
            stream
        })
        .collect();
    assert!(closed(&mut open[0]), "the first one made room");
    for stream in &mut open[1..] {
        assert_eq!(rcode(&ask_tcp(stream, &svc1()).unwrap()), 0);
    }
    assert_eq!(server.metric("portolan_tcp_evicted_total", &[]), Some(1.0));
}

/// RFC 7766 §6.2.3: an idle connection is closed; one in use is not.
#[test]
fn idle_connections_are_closed() {
    let server = Setup::sample("conformance").with("tcp: {idle-timeout: 300ms}").start();
    let (mut idle, mut half) = (connect(&server), connect(&server));
    // The first octet of a length, and never the second one.
    half.write_all(&[0]).unwrap();
    assert!(closed(&mut idle) && closed(&mut half));
    eventually("no connection is left", || server.metric("portolan_tcp_connections", &[]) == Some(0.0));
    assert_eq!(rcode(&ask_tcp(&mut connect(&server), &svc1()).unwrap()), 0);
}

/// RFC 7766 §6.2.1.1: queries may be sent before replies are read; every one is answered, in any order.
#[test]
fn queries_are_pipelined() {
    let server = Setup::sample("conformance").start();
    let mut stream = connect(&server);
    let mut sent = Vec::new();
    for id in 0..300_u16 {
        let mut message = svc1();
        message[..2].copy_from_slice(&id.to_be_bytes());
        sent.extend_from_slice(&(message.len() as u16).to_be_bytes());
        sent.extend_from_slice(&message);
    }
    stream.write_all(&sent).unwrap();
    let mut ids: Vec<u16> = (0..300)
        .map(|_| {
            let mut len = [0; 2];
            stream.read_exact(&mut len).unwrap();
            let mut reply = vec![0; u16::from_be_bytes(len).into()];
            stream.read_exact(&mut reply).unwrap();
            u16::from_be_bytes([reply[0], reply[1]])
        })
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..300).collect::<Vec<_>>());
}

/// A stream that makes no sense ends its own connection at most.
#[test]
fn broken_streams_end_alone() {
    let server = Setup::sample("conformance").start();
    let mut good = connect(&server);
    for octets in [&[0, 0][..], &[0, 5, 1, 2, 3, 4, 5], &[0xff; 4096]] {
        let mut bad = connect(&server);
        bad.write_all(octets).unwrap();
        drop(bad);
        assert_eq!(rcode(&ask_tcp(&mut good, &svc1()).unwrap()), 0);
    }
}
