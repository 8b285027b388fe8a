//! Headers, questions and opcodes; what a broken query gets (RFC 1035 §4.1, RFC 8906).

use crate::common::*;

const CART: &str = "cart.shop.svc.clusterset.local A";

fn status(server: &Server, query: &[u8]) -> String {
    let (octets, _) = server.reply(query).unwrap();
    assert_eq!(octets[..2], query[..2], "the id comes back");
    let message = hickory_proto::op::Message::from_vec(&octets).unwrap();
    let opcode = query[2] >> 3 & 15;
    assert_eq!(octets[2] >> 3 & 15, opcode, "the opcode comes back");
    assert!(message.answers.is_empty() && message.authorities.is_empty());
    rcode(message.metadata.response_code).to_owned()
}

#[test]
fn what_is_no_query_gets_no_reply() {
    let server = Server::new();
    let query = ask(CART).octets();
    for len in 0..12 {
        assert!(server.reply(&query[..len]).is_none(), "{len} octets");
    }
    assert!(server.reply(&ask(CART).flags(0x8000).octets()).is_none(), "a response");
    assert!(server.reply(&ask(CART).flags(0x8400).edns(1232).octets()).is_none(), "a response");
}

/// Any octets cut off give FORMERR with the id.
#[test]
fn cut_queries_are_malformed() {
    let server = Server::new();
    for query in [ask(CART).octets(), ask(CART).option(10, &[1; 8]).octets()] {
        for len in 12..query.len() {
            assert_eq!(status(&server, &query[..len]), "FORMERR", "{len} octets");
        }
    }
}

#[test]
fn malformed_queries() {
    let server = Server::new();
    let good = ask(CART).octets();
    let with = |at: usize, value: u8| {
        let mut query = good.clone();
        query[at] = value;
        query
    };
    let a_record = [&[0xc0, 12][..], &[0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4]].concat();
    let record = |section: usize| [&with(section, 1)[..], &a_record].concat();
    let two_opts = {
        let mut query = ask(CART).edns(1232).octets();
        query.extend(opt(1232, 0, 0, &[]));
        query[11] = 2;
        query
    };
    let named_opt = {
        let mut query = with(11, 1);
        query.extend([&b"\x01x\x00"[..], &opt(1232, 0, 0, &[])[1..]].concat());
        query
    };
    let pointer = [&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat();
    let long_label = [&good[..12], &[0x40, b'x', 0, 0, 1, 0, 1]].concat();
    for (query, why) in [
        (with(5, 0), "QDCOUNT 0"),
        (with(5, 2), "QDCOUNT 2"),
        (with(4, 1), "QDCOUNT 257"),
        ([&good[..], &[0]].concat(), "trailing octet"),
        ([&good[..], &a_record].concat(), "record that no count covers"),
        (record(7), "record in Answer"),
        (record(9), "record in Authority"),
        (with(11, 1), "missing additional record"),
        // RFC 6891 §6.1.1: "If a query message with more than one OPT RR is received, a FORMERR MUST be returned."
        (two_opts, "two OPTs"),
        (named_opt, "OPT whose owner is not the root"),
        // RFC 1035 §4.1.4: pointers go back to a prior occurrence.
        (pointer, "compression pointer in the question"),
        (long_label, "reserved label type"),
        (ask("cart.shop.svc.clusterset.local OPT").octets(), "QTYPE OPT"),
        (ask("cart.shop.svc.clusterset.local TSIG").octets(), "QTYPE TSIG"),
        (ask("clusterset.local AXFR").octets(), "AXFR over UDP (RFC 5936 §4.2)"),
    ] {
        assert_eq!(status(&server, &query), "FORMERR", "{why}");
    }
    let skipped = server.ask(&record(11));
    assert!(skipped.starts_with("NOERROR aa\n"), "a record in Additional is skipped: {skipped}");
}

#[test]
fn opcodes_and_types() {
    let server = Server::new();
    let opcode = |question: &str, opcode: u16| ask(question).flags(opcode << 11).octets();
    for (query, expected) in [
        // RFC 1996 §3.10, RFC 2136 §3.1.
        (opcode("clusterset.local SOA", 4), "REFUSED"),
        (opcode("ClusterSet.Local SOA", 4), "REFUSED"),
        (opcode("example.com SOA", 4), "NOTAUTH"),
        (opcode("svc.clusterset.local SOA", 4), "NOTAUTH"),
        (opcode("clusterset.local SOA", 5), "REFUSED"),
        (opcode("example.com SOA", 5), "NOTAUTH"),
        (opcode("clusterset.local A", 5), "FORMERR"),
        (ask("clusterset.local TYPE249").octets(), "NOTIMP"),
        (ask("clusterset.local TYPE253").octets(), "NOTIMP"),
        (ask("clusterset.local TYPE254").octets(), "NOTIMP"),
        // Other classes than IN are not ours.
        (ask(CART).class(255).octets(), "REFUSED"),
        (ask(CART).class(254).octets(), "REFUSED"),
        (ask(CART).class(4).octets(), "REFUSED"),
        (ask(CART).class(3).octets(), "REFUSED"),
    ] {
        assert_eq!(status(&server, &query), expected, "{query:?}");
    }
    // RFC 8906 §8.3.1: unknown opcodes are asked with a header alone.
    for opcode in [1, 2, 3, 6, 7, 15_u8] {
        let query = [0xab, 0xcd, opcode << 3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(status(&server, &query), "NOTIMP", "opcode {opcode}");
    }
}

/// RFC 1035 §4.1.1: RD is copied; RFC 4035 §3.1.6: so is CD. RA, AD and the reserved bit are clear, whatever came.
#[test]
fn flags() {
    let server = Server::new();
    let flags = |flags| server.ask(&ask(CART).flags(flags).octets()).lines().next().unwrap().to_owned();
    for (asked, replied) in [
        (0x0000, "NOERROR aa"),
        (0x0100, "NOERROR aa rd"),
        (0x0010, "NOERROR aa cd"),
        (0x0110, "NOERROR aa rd cd"),
        (0x07ef, "NOERROR aa rd"),
    ] {
        assert_eq!(flags(asked), replied, "{asked:#06x}");
    }
    let (octets, _) = server.reply(&ask(CART).flags(0x07ff).octets()).unwrap();
    assert_eq!(octets[3] & 0x40, 0, "the reserved bit");
}

/// RFC 4892: what a server tells of itself, if it may.
#[test]
fn names_of_the_server() {
    let silent = Server::new();
    let telling = Server::new().set(|settings| {
        settings.identity.nsid = Some("fra1-a".into());
        settings.identity.version = Some("portolan 1".into());
    });
    for (name, text) in [
        ("id.server", "fra1-a"),
        ("hostname.bind", "fra1-a"),
        ("HostName.Bind", "fra1-a"),
        ("version.server", "portolan 1"),
        ("version.bind", "portolan 1"),
    ] {
        let query = ask(&format!("{name} TXT")).class(3).octets();
        assert_eq!(status(&silent, &query), "REFUSED", "{name}");
        assert_eq!(telling.ask(&query), format!("NOERROR aa\n{name}. 0 CH TXT {text}\n"));
        assert_eq!(status(&telling, &ask(&format!("{name} A")).class(3).octets()), "REFUSED");
        assert_eq!(status(&telling, &ask(&format!("{name} TXT")).octets()), "REFUSED", "class IN");
    }
    assert_eq!(status(&telling, &ask("authors.bind TXT").class(3).octets()), "REFUSED");
}

/// What metrics count.
#[test]
fn facts() {
    use hickory_proto::rr::RecordType;
    let server = Server::new();
    let facts = |query: &Ask| {
        let (_, facts) = server.reply(&query.octets()).unwrap();
        (facts.zone, facts.rtype, facts.rcode, facts.dnssec_ok, facts.truncated)
    };
    let mut dnssec = ask(CART).edns(1232);
    dnssec.edns.as_mut().unwrap().2 = 0x8000;
    for (query, expected) in [
        (ask(CART), (Some(2), RecordType::A, 0, false, false)),
        (dnssec, (Some(2), RecordType::A, 0, true, false)),
        (ask("x.241.in-addr.arpa AAAA"), (Some(1), RecordType::AAAA, 3, false, false)),
        (ask("example.com MX"), (None, RecordType::MX, 5, false, false)),
        (ask("big.shop.svc.clusterset.local A"), (Some(2), RecordType::A, 0, false, true)),
    ] {
        assert_eq!(facts(&query), expected);
    }
}
