//! Rate limits as clients see them, and access lists.

use std::num::NonZeroU32;

use portolan_dns::cookie::Secret;
use portolan_dns::limiter::Limited;
use portolan_dns::respond::{Dropped, Reply, Verdict};
use portolan_dns::settings::RateLimit;
use portolan_dns::view::Transport;

use crate::common::*;

const CART: &str = "cart.shop.svc.clusterset.local A";

/// One reply a second, burst one.
fn limit(slip: u32) -> RateLimit {
    RateLimit { per_second: NonZeroU32::new(1), burst: NonZeroU32::MIN, slip, ..RateLimit::default() }
}

/// What came back for a row of queries: the first line, or `-`.
fn row(server: &Server, query: &Ask, times: usize) -> Vec<String> {
    let reply = || server.reply(&query.octets());
    let line = |octets: Vec<u8>| {
        let message = hickory_proto::op::Message::from_vec(&octets).unwrap();
        format!("{} {}", text(&message).lines().next().unwrap(), message.answers.len())
    };
    (0..times).map(|_| reply().map_or("-".to_owned(), |(octets, _)| line(octets))).collect()
}

#[test]
fn a_flood_is_cut() {
    let server = Server::new().limited(limit(0));
    assert_eq!(row(&server, &ask(CART), 4), ["NOERROR aa 1", "-", "-", "-"]);
    assert_eq!(row(&server, &ask("x.clusterset.local A"), 2), ["NXDOMAIN aa 0", "-"], "another class");
    server.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(row(&server, &ask(CART), 2), ["NOERROR aa 1", "-"]);
    let mut reply = Reply::default();
    let Verdict::Drop(Dropped::Limited(facts)) = server.verdict(&ask(CART).octets(), &mut reply) else {
        panic!("dropped");
    };
    assert_eq!((facts.limited, reply.octets().len()), (Some(Limited::Dropped), 0));
}

/// Honest clients come back by TCP: every second limited reply is empty and truncated, and no longer than the query.
#[test]
fn slipped_replies() {
    let server = Server::new().limited(limit(2));
    assert_eq!(row(&server, &ask(CART), 5), ["NOERROR aa 1", "-", "NOERROR tc 0", "-", "NOERROR tc 0"]);
    let (octets, facts) = loop {
        if let Some(reply) = server.reply(&ask(CART).octets()) {
            break reply;
        }
    };
    assert_eq!((octets.len(), facts.limited), (ask(CART).octets().len(), Some(Limited::Slipped)));
}

/// RFC 7873 §5.2.3: a client with a cookie is told BADCOOKIE and a new server cookie, with which it isn't limited.
#[test]
fn cookies_prove_addresses() {
    let mut limit = limit(1);
    limit.per_second = NonZeroU32::new(1);
    let server = Server::new().limited(limit).set(|s| s.cookies.secrets = vec![Secret([7; 16])]);
    let client_only = ask(CART).option(10, b"12345678");
    assert_eq!(row(&server, &client_only, 3), ["NOERROR aa 1", "BADCOOKIE 0", "BADCOOKIE 0"]);
    let (octets, _) = server.reply(&client_only.octets()).unwrap();
    let (_, cookie) = options(&octets).into_iter().find(|(code, _)| *code == 10).unwrap();
    let proven = ask(CART).option(10, &cookie);
    assert_eq!(row(&server, &proven, 3), ["NOERROR aa 1"; 3]);
    let stolen = Server { client: "203.0.113.8".parse().unwrap(), ..server };
    assert_eq!(row(&stolen, &proven, 1), ["BADCOOKIE 0"]);
}

#[test]
fn who_is_never_limited() {
    for client in ["127.0.0.1", "10.0.0.1", "::ffff:10.0.0.1", "fd00::1"] {
        let server = Server::new().limited(limit(0)).from(client);
        assert_eq!(row(&server, &ask(CART), 3), ["NOERROR aa 1"; 3], "{client}");
    }
    for transport in [Transport::Tcp, Transport::Tls, Transport::Https, Transport::Quic] {
        let server = Server::new().limited(limit(0)).by(transport);
        assert_eq!(row(&server, &ask(CART), 3), ["NOERROR aa 1"; 3], "{transport:?}");
    }
    let trying = Server::new().limited(RateLimit { log_only: true, ..limit(0) });
    assert_eq!(row(&trying, &ask(CART), 3), ["NOERROR aa 1"; 3]);
    assert_eq!(trying.reply(&ask(CART).octets()).unwrap().1.limited, Some(Limited::Logged));
}

#[test]
fn access_lists() {
    let server = Server::new().set(|s| s.access.query.allow = vec!["203.0.113.0/24".parse().unwrap()]);
    assert_eq!(row(&server, &ask(CART), 1), ["NOERROR aa 1"]);
    for client in ["198.51.100.1", "::ffff:198.51.100.1", "2001:db8::1"] {
        let server = Server { client: client.parse().unwrap(), ..Server::new() };
        let server = server.set(|s| s.access.query.allow = vec!["203.0.113.0/24".parse().unwrap()]);
        for question in [CART, "clusterset.local AXFR", "x.clusterset.local A", "example.com A"] {
            let server = Server { transport: Transport::Tcp, ..server_like(&server) };
            assert_eq!(row(&server, &ask(question), 1), ["REFUSED 0"], "{client} {question}");
        }
    }
}

fn server_like(server: &Server) -> Server {
    let settings = server.settings.clone();
    Server { client: server.client, ..Server::new() }.set(|s| *s = settings)
}
