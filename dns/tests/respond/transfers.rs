//! Zone transfers (RFC 5936, RFC 1995).

use hickory_proto::op::Message;
use portolan_dns::respond::{Reply, Verdict};
use portolan_dns::settings::Settings;
use portolan_dns::view::Transport;
use portolan_zones::Snapshot;

use crate::common::*;

const ZONE: &str = "clusterset.local AXFR";

fn open(settings: &mut Settings) {
    settings.access.transfer.allow = vec!["203.0.113.0/24".parse().unwrap()];
}

fn server(snapshot: Snapshot) -> Server {
    Server::of(snapshot).set(open).by(Transport::Tcp)
}

/// The messages of a transfer, checked for what they have in common.
fn transferred(server: &Server, query: &Ask) -> Vec<Message> {
    let mut reply = Reply::default();
    let Verdict::Transfer(mut transfer, facts) = server.verdict(&query.octets(), &mut reply) else {
        panic!("no transfer");
    };
    assert_eq!((facts.rcode, facts.zone.is_some()), (0, true));
    let mut messages = Vec::new();
    while transfer.next(&mut reply) {
        assert!(reply.octets().len() <= 17_000, "{}", reply.octets().len());
        let message = Message::from_vec(reply.octets()).unwrap();
        assert_eq!(message.metadata.id, query.id);
        assert!(message.metadata.authoritative && !message.metadata.truncation, "RFC 5936 §2.2.1");
        assert!(!message.answers.is_empty() && message.authorities.is_empty());
        assert!(messages.len() < 100);
        messages.push(message);
    }
    assert!(!transfer.next(&mut reply), "the end is the end");
    messages
}

/// Owner, TTL, type and value of a record, as a zone file has them.
fn line(record: &hickory_proto::rr::Record) -> String {
    record.to_string()
}

/// RFC 5936 §2.2: the SOA first and last, and between them every record of the zone once.
#[test]
fn whole_zones() {
    let server = server(shop());
    for origin in ["clusterset.local", "241.in-addr.arpa"] {
        let messages = transferred(&server, &ask(&format!("{origin} AXFR")));
        let lines: Vec<String> = messages.iter().flat_map(|m| &m.answers).map(line).collect();
        assert_eq!(lines.first(), lines.last());
        let soa = format!("{origin}. 5 IN SOA ns.dns.{origin}. hostmaster.{origin}. 42 7200 1800 86400 3");
        assert_eq!(lines.iter().filter(|line| **line == soa).count(), 2);
        let mut sorted: Vec<&String> = lines[..lines.len() - 1].iter().collect();
        sorted.sort();
        sorted.dedup();
        let zone =
            server.snapshot.zones.iter().find(|zone| zone.config.origin.to_string() == format!("{origin}."));
        assert_eq!(sorted.len(), lines.len() - 1, "no record twice");
        assert_eq!(sorted.len(), server.snapshot.records(zone.unwrap()).len());
    }
}

/// Every record of a transfer is answered when it is asked for.
#[test]
fn a_transfer_says_what_answers_say() {
    let server = server(shop());
    let messages = transferred(&server, &ask(ZONE));
    assert!(messages.len() > 2, "{} messages", messages.len());
    let mut asked = 0;
    for record in messages.iter().flat_map(|message| &message.answers).step_by(7) {
        let name = record.name.to_string();
        let message = server
            .message(&ask(&format!("{} {}", name.trim_end_matches('.'), record.record_type())).octets());
        assert!(message.answers.contains(record), "{record}");
        asked += 1;
    }
    assert!(asked > 100);
}

/// RFC 6891 §6.1.1: also a transfer's reply has an OPT when the query has one.
#[test]
fn transfers_with_edns() {
    let server = server(shop());
    let messages = transferred(&server, &ask(ZONE).edns(1232));
    assert!(messages[0].edns.is_some());
    assert!(transferred(&server, &ask(ZONE)).iter().all(|message| message.edns.is_none()));
}

#[test]
fn who_gets_none() {
    let refused = |server: &Server, question: &str| {
        let (octets, _) = server.reply(&ask(question).edns(1232).octets()).unwrap();
        let message = Message::from_vec(&octets).unwrap();
        (rcode(message.metadata.response_code), extended_error(&octets).map(|(code, _)| code))
    };
    let nobody = Server::new().by(Transport::Tcp);
    assert_eq!(refused(&nobody, ZONE), ("REFUSED", Some(18)), "nobody is listed");
    let elsewhere = server(shop()).from("198.51.100.1");
    assert_eq!(refused(&elsewhere, ZONE), ("REFUSED", Some(18)));
    assert_eq!(refused(&elsewhere, "example.com AXFR"), ("REFUSED", Some(18)), "and no probing for zones");
    assert_eq!(refused(&server(shop()), "example.com AXFR"), ("NOTAUTH", None));
    assert_eq!(refused(&server(shop()), "svc.clusterset.local AXFR"), ("NOTAUTH", None));
    assert_eq!(refused(&server(shop()).by(Transport::Udp), ZONE), ("FORMERR", None));
    for transport in [Transport::Https, Transport::Quic] {
        assert_eq!(refused(&server(shop()).by(transport), ZONE), ("REFUSED", Some(18)), "{transport:?}");
    }
    let early = server(compiled(Vec::new(), false, 42));
    assert_eq!(refused(&early, ZONE), ("SERVFAIL", Some(14)), "half a zone would be taken for the whole");
}

/// Each transfer holds a snapshot for as long as its client likes: there are four at a time, on however many
/// connections. Who comes in vain learns why (RFC 8914) and doesn't take it for an answer of the zone.
#[test]
fn few_at_a_time() {
    let server = server(shop());
    let axfr = ask(ZONE);
    let begin = || match server.verdict(&axfr.octets(), &mut Reply::default()) {
        Verdict::Transfer(transfer, _) => Some(transfer),
        _ => None,
    };
    let mut running: Vec<_> = std::iter::from_fn(begin).take(10).collect();
    assert_eq!(running.len(), 4);
    let (octets, facts) = server.reply(&axfr.clone().edns(1232).octets()).unwrap();
    assert_eq!(facts.rcode, 2, "SERVFAIL");
    assert_eq!(extended_error(&octets), Some((0, "too many transfers".to_owned())));
    assert_eq!(server.message(&ixfr(42).octets()).answers.len(), 1, "a lone SOA is no transfer");
    running.pop();
    assert!(begin().is_some(), "a client that went gives its place back");
}

/// `clusterset.local IXFR` from a serial.
fn ixfr(serial: u32) -> Ask {
    let mut soa = wire("clusterset.local");
    soa.extend([0, 6, 0, 1, 0, 0, 0, 0, 0, 22, 0, 0]);
    soa.extend(serial.to_be_bytes());
    soa.extend([0; 16]);
    Ask { authority: vec![soa], ..ask("clusterset.local IXFR") }
}

/// RFC 1995 §2 and §4: the SOA alone says "nothing newer", or over UDP "come by TCP"; else the whole zone comes.
#[test]
fn incremental_transfers() {
    let server = server(shop());
    let lone = |server: &Server, serial| {
        let message = server.message(&ixfr(serial).octets());
        (message.answers.len(), message.answers[0].record_type().to_string())
    };
    for serial in [42, 43, 42 + 0x7fff_ffff] {
        assert_eq!(lone(&server, serial), (1, "SOA".to_owned()), "{serial} (RFC 1982)");
    }
    for serial in [41, 0, u32::MAX] {
        let messages = transferred(&server, &ixfr(serial));
        assert_eq!(messages[0].answers[0].record_type().to_string(), "SOA");
        assert!(messages.len() > 2);
    }
    assert_eq!(lone(&Server { transport: Transport::Udp, ..server }, 41), (1, "SOA".to_owned()));
    let server = Server::new().set(open).by(Transport::Tcp);
    let without = server.message(&ask("clusterset.local IXFR").octets());
    assert_eq!(rcode(without.metadata.response_code), "FORMERR");
    let denied = Server::new().by(Transport::Tcp).message(&ixfr(1).octets());
    assert_eq!(rcode(denied.metadata.response_code), "REFUSED");
}
