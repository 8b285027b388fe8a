//! Message sizes and truncation (RFC 1035 §4.2.1, RFC 2181 §9, RFC 6891 §6.2).

use portolan_dns::view::Transport;

use crate::common::*;

const BIG: &str = "big.shop.svc.clusterset.local A";

/// Length, TC and number of answers.
fn size(server: &Server, query: &Ask) -> (usize, bool, usize) {
    let (octets, facts) = server.reply(&query.octets()).unwrap();
    let message = hickory_proto::op::Message::from_vec(&octets).unwrap();
    assert_eq!(message.metadata.truncation, facts.truncated);
    assert_eq!(message.edns.is_some(), query.edns.is_some(), "OPT is kept");
    (octets.len(), message.metadata.truncation, message.answers.len())
}

#[test]
fn limits() {
    let server = Server::new();
    // 12 octets of header, 35 of question, 16 for each A record, 11 of OPT.
    let rows = [
        (None, 512),
        (Some(0), 512),
        (Some(511), 512),
        (Some(600), 600),
        (Some(1232), 1232),
        (Some(4096), 1232),
    ];
    for (payload, limit) in rows {
        let query = payload.map_or(ask(BIG), |payload| ask(BIG).edns(payload));
        let fitting = (limit - 12 - 35 - if payload.is_some() { 11 } else { 0 }) / 16;
        let (len, truncated, answers) = size(&server, &query);
        assert!(len <= limit, "{payload:?}: {len}");
        assert_eq!((truncated, answers), (true, fitting), "{payload:?}");
    }
    let jumbo = Server::new().set(|settings| settings.edns.max_udp_payload = 4096);
    assert!(size(&jumbo, &ask(BIG).edns(4096)).0 > 4000);
    let tiny = Server::new().set(|settings| settings.edns.max_udp_payload = 100);
    assert!(size(&tiny, &ask(BIG).edns(4096)).0 > 490, "512 is the least (RFC 6891 §6.2.3)");
}

#[test]
fn streams_are_not_truncated() {
    for transport in [Transport::Tcp, Transport::Tls, Transport::Https, Transport::Quic] {
        let server = Server::new().by(transport);
        let (_, truncated, answers) = size(&server, &ask(BIG));
        assert_eq!((truncated, answers), (false, 600), "{transport:?}");
    }
}

/// Every SRV fits in 65,535 octets; glue that can't be pointed at or doesn't fit is left out without TC.
#[test]
fn glue_is_optional() {
    let srv = ask("_http._tcp.big.shop.svc.clusterset.local SRV");
    let message = Server::new().by(Transport::Tcp).message(&srv.octets());
    assert_eq!((message.metadata.truncation, message.answers.len()), (false, 600));
    assert!(message.additionals.len() > 200 && message.additionals.len() < 600);
    for (record, target) in message.additionals.iter().zip(&message.answers) {
        assert!(target.data.to_string().ends_with(&record.name.to_string()), "{record} {target}");
    }
    // Two records fit in 512 octets, a part of the four addresses too.
    let db = ask("_sql._tcp.db.shop.svc.clusterset.local SRV");
    let message = Server::new().message(&db.octets());
    assert_eq!(
        (message.metadata.truncation, message.answers.len(), message.additionals.len()),
        (false, 3, 4)
    );
    // With a long OPT the last of them doesn't fit, and is not missed.
    let all = ask("db.shop.svc.clusterset.local SRV").edns(512).option(3, &[]);
    let telling = Server::new().set(|settings| settings.identity.nsid = Some("n".repeat(40).into()));
    let message = telling.message(&all.octets());
    assert_eq!(
        (message.metadata.truncation, message.answers.len(), message.additionals.len()),
        (false, 6, 3)
    );
    let cut = Server::new().message(&srv.octets());
    assert!(cut.metadata.truncation && cut.additionals.is_empty() && cut.answers.len() > 4);
}

/// The text of an extended error goes first, before any record; its code stays.
#[test]
fn extended_text_gives_way() {
    let server = Server::new().set(|settings| {
        settings.identity.nsid = Some("n".repeat(200).into());
        settings.cookies.secrets = vec![portolan_dns::cookie::Secret([1; 16])];
    });
    let label = "x".repeat(63);
    let mut texts = Vec::new();
    for len in 1..=63 {
        let name = format!("{label}.{label}.{}.down.shop.svc.clusterset.local A", "y".repeat(len));
        let subnet = [&[0, 2, 128, 0][..], &[1; 16]].concat();
        let query = ask(&name).edns(512).option(3, &[]).option(10, &[1; 8]).option(8, &subnet);
        let (octets, facts) = server.reply(&query.octets()).unwrap();
        assert!(octets.len() <= 512 && !facts.truncated, "{}", octets.len());
        let (code, text) = extended_error(&octets).unwrap();
        assert_eq!((facts.rcode, code), (3, 0));
        texts.push(text);
    }
    texts.dedup();
    assert_eq!(texts, ["no ready endpoints", ""], "from short to long questions");
}
