//! Messages by hand: what a server must refuse, and what it must not answer at all.

use std::net::TcpStream;
use std::time::Duration;

use portolan_tests::harness::{DNS, Server, Setup, ask_tcp, ask_udp, query, rcode};

const FORMERR: u8 = 1;
const NOTIMP: u8 = 4;
const REFUSED: u8 = 5;
const NOTAUTH: u8 = 9;
const A: u16 = 1;
const SOA: u16 = 6;
const PATIENCE: Duration = Duration::from_secs(5);

/// A query for `svc1`, changed.
fn svc1(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut message = query("svc1.testns.svc.clusterset.local", A);
    change(&mut message);
    message
}

fn with_opcode(mut message: Vec<u8>, opcode: u8) -> Vec<u8> {
    message[2] = opcode << 3;
    message
}

/// An OPT record with these options.
fn opt(options: &[u8]) -> Vec<u8> {
    let len = (options.len() as u16).to_be_bytes();
    [&[0, 0, 41, 4, 208, 0, 0, 0, 0][..], &len, options].concat()
}

fn with_opt(opts: &[Vec<u8>]) -> Vec<u8> {
    svc1(|message| {
        message[11] = opts.len() as u8;
        message.extend(opts.concat());
    })
}

fn is_alive(server: &Server) {
    let reply = ask_udp(server.at(DNS), &svc1(|_| {}), PATIENCE).expect("the server answers");
    assert!(reply.ends_with(&[10, 0, 0, 1]));
}

/// RFC 1035 §4.1.1, RFC 6891 §6.1.1, RFC 9619 (one question): the id comes back, QR is set, and what can't be
/// understood is FORMERR; opcodes that aren't implemented are NOTIMP.
#[test]
fn malformed_messages_are_refused() {
    let server = Setup::sample("conformance").start();
    let label_too_long =
        [&[0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[64; 65], &[0, 0, 1, 0, 1]].concat();
    let name_too_long = {
        let mut message = vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for _ in 0..5 {
            message.push(60);
            message.extend([b'a'; 60]);
        }
        message.extend([0, 0, 1, 0, 1]);
        message
    };
    for (what, message, expected) in [
        ("a header alone", vec![0x12, 0x34, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], FORMERR),
        ("no question", vec![0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], FORMERR),
        ("two questions", svc1(|m| m[5] = 2), FORMERR),
        ("65535 questions", svc1(|m| m[4..6].fill(0xff)), FORMERR),
        ("a cut name", svc1(|m| m.truncate(20)), FORMERR),
        ("no class", svc1(|m| m.truncate(m.len() - 2)), FORMERR),
        ("more than it says", svc1(|m| m.push(0)), FORMERR),
        ("an answer in a query", svc1(|m| m[7] = 1), FORMERR),
        ("a record that isn't there", svc1(|m| m[11] = 1), FORMERR),
        ("65535 records that aren't there", svc1(|m| m[10..12].fill(0xff)), FORMERR),
        ("a pointer for a name", svc1(|m| m.splice(12.., [0xc0, 12, 0, 1, 0, 1]).for_each(drop)), FORMERR),
        ("a label of a reserved kind", svc1(|m| m[12] = 0x84), FORMERR),
        ("a label of 64 octets", label_too_long, FORMERR),
        ("a name of 305 octets", name_too_long, FORMERR),
        ("two OPT records", with_opt(&[opt(&[]), opt(&[])]), FORMERR),
        ("an OPT that isn't the root's", with_opt(&[[&[1, b'x'][..], &opt(&[])].concat()]), FORMERR),
        ("an option past its end", with_opt(&[opt(&[0, 10, 0, 8, 1])]), FORMERR),
        ("a cookie of 3 octets", with_opt(&[opt(&[0, 10, 0, 3, 1, 2, 3])]), FORMERR),
        ("OPT asked for", query("clusterset.local", 41), FORMERR),
        ("AXFR over UDP", query("clusterset.local", 252), FORMERR),
        ("IQUERY", with_opcode(svc1(|_| {}), 1), NOTIMP),
        ("STATUS", with_opcode(svc1(|_| {}), 2), NOTIMP),
        ("an opcode nobody has", with_opcode(svc1(|_| {}), 15), NOTIMP),
        ("DSO", with_opcode(vec![0x12, 0x34, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 6), NOTIMP),
        ("MAILB", query("clusterset.local", 253), NOTIMP),
    ] {
        let reply = ask_udp(server.at(DNS), &message, PATIENCE).unwrap_or_else(|| panic!("{what}: no reply"));
        assert_eq!(reply[..2], [0x12, 0x34], "{what}: id");
        assert_eq!(reply[2] & 0xf8, 0x80 | message[2] & 0x78, "{what}: QR and opcode");
        assert_eq!(rcode(&reply), expected, "{what}");
        assert_eq!(reply[6..10], [0; 4], "{what}: no records");
        if message.len() > 12 && expected != FORMERR {
            let mut stream = TcpStream::connect(server.at(DNS)).unwrap();
            assert_eq!(rcode(&ask_tcp(&mut stream, &message).unwrap()), expected, "{what} over TCP");
        }
    }
    is_alive(&server);
}

/// A response must not be answered, or two servers could talk for ever; nor what has no header.
#[test]
fn some_messages_are_not_answered() {
    let server = Setup::sample("conformance").start();
    let silence = Duration::from_millis(200);
    for (what, message) in [
        ("a response", svc1(|m| m[2] = 0x80)),
        ("a malformed response", vec![0x12, 0x34, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        ("11 octets", vec![0; 11]),
        ("nothing", vec![]),
    ] {
        assert_eq!(ask_udp(server.at(DNS), &message, silence), None, "{what}");
    }
    is_alive(&server);
    assert!(server.metric("portolan_ignored_total", &[]).unwrap() >= 3.0);
    assert_eq!(server.metric("coredns_panics_total", &[]), Some(0.0));
}

/// RFC 1996 §3 and RFC 2136 §3.1: zones come from Kubernetes alone. NOTIFY and UPDATE of a zone of ours are
/// refused, of any other name NOTAUTH; an UPDATE must name its zone by SOA.
#[test]
fn zones_are_changed_by_kubernetes_alone() {
    let server = Setup::sample("conformance").start();
    let (notify, update) = (4, 5);
    for (opcode, name, rtype, expected) in [
        (notify, "clusterset.local", SOA, REFUSED),
        (notify, "example.com", SOA, NOTAUTH),
        (update, "clusterset.local", SOA, REFUSED),
        (update, "example.com", SOA, NOTAUTH),
        (update, "svc.clusterset.local", SOA, NOTAUTH),
        (update, "clusterset.local", A, FORMERR),
    ] {
        let reply = ask_udp(server.at(DNS), &with_opcode(query(name, rtype), opcode), PATIENCE).unwrap();
        assert_eq!(rcode(&reply), expected, "opcode {opcode} {name} {rtype}");
    }
    is_alive(&server);
}
