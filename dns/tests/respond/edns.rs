//! EDNS(0) and its options (RFC 6891 and those cited).

use hickory_proto::op::Message;
use portolan_dns::cookie::Secret;
use portolan_dns::view::Transport;

use crate::common::*;

const CART: &str = "cart.shop.svc.clusterset.local A";
const NSID: u16 = 3;
const SUBNET: u16 = 8;
const COOKIE: u16 = 10;
const KEEPALIVE: u16 = 11;
const PADDING: u16 = 12;

fn status(server: &Server, query: &Ask) -> &'static str {
    rcode(server.message(&query.octets()).metadata.response_code)
}

fn replied(server: &Server, query: &Ask) -> Vec<(u16, Vec<u8>)> {
    options(&server.reply(&query.octets()).unwrap().0)
}

/// RFC 6891 §6.1.1: an OPT is answered with an OPT, and none with none.
#[test]
fn opt_answers_opt() {
    let server = Server::new();
    assert!(server.message(&ask(CART).octets()).edns.is_none());
    let mut query = ask(CART).edns(4096);
    query.edns.as_mut().unwrap().2 = 0xffff;
    let edns = server.message(&query.octets()).edns.unwrap();
    assert_eq!((edns.max_payload(), edns.version()), (1232, 0));
    assert_eq!(
        (edns.flags().dnssec_ok, edns.flags().z),
        (true, 0),
        "DO is echoed, unknown flags are not (§6.1.4)"
    );
    assert!(edns.options().options.is_empty());
    let negative = server.message(&ask("example.com A").edns(512).octets());
    assert!(negative.edns.is_some_and(|edns| !edns.flags().dnssec_ok));
}

/// RFC 6891 §6.1.3: BADVERS with our highest version; options of other versions mean nothing.
#[test]
fn versions() {
    let server = Server::new();
    let mut query = ask(CART).option(SUBNET, &[0xff; 7]);
    query.edns.as_mut().unwrap().1 = 1;
    let message = server.message(&query.octets());
    assert_eq!(rcode(message.metadata.response_code), "BADVERS");
    assert_eq!(message.edns.unwrap().version(), 0);
    assert!(message.answers.is_empty());
}

/// RFC 6891 §6.1.2: unknown options are ignored.
#[test]
fn unknown_options() {
    let server = Server::new();
    let query = ask(CART).option(65001, b"?").option(14, &[]).option(KEEPALIVE, &[]).option(PADDING, &[0; 9]);
    assert_eq!(status(&server, &query), "NOERROR");
    assert!(replied(&server, &query).is_empty(), "keepalive and padding are not for UDP");
}

#[test]
fn options_past_the_end() {
    let mut query = ask(CART).option(65001, b"abc").octets();
    // The low octet of the option's length.
    let length = query.len() - 4;
    query[length] = 9;
    let octets = Server::new().reply(&query).unwrap().0;
    let message = hickory_proto::op::Message::from_vec(&octets).unwrap();
    assert_eq!(rcode(message.metadata.response_code), "FORMERR");
    assert!(message.edns.is_some(), "RFC 6891 §7: FORMERR without OPT would say that EDNS is unknown");
}

/// RFC 5001 §2.2: the server's name, if it is asked for and told.
#[test]
fn nsid() {
    let query = ask(CART).option(NSID, &[]);
    let telling = Server::new().set(|settings| settings.identity.nsid = Some("fra1-a".into()));
    assert_eq!(replied(&telling, &query), [(NSID, b"fra1-a".to_vec())]);
    assert!(replied(&telling, &ask(CART).edns(1232)).is_empty());
    assert!(replied(&Server::new(), &query).is_empty());
}

fn with_secret() -> Server {
    Server::new().set(|settings| settings.cookies.secrets = vec![Secret([7; 16])])
}

/// RFC 7873 §5.2: no cookie, client cookie only, bad and good server cookies; malformed ones are FORMERR.
#[test]
fn cookies() {
    let server = with_secret();
    assert!(replied(&server, &ask(CART).edns(1232)).is_empty());
    let [(COOKIE, fresh)] =
        &replied(&server, &ask(CART).option(COOKIE, b"\x01\x02\x03\x04\x05\x06\x07\x08"))[..]
    else {
        panic!("a cookie");
    };
    assert_eq!((fresh.len(), &fresh[..8]), (24, &b"\x01\x02\x03\x04\x05\x06\x07\x08"[..]));
    assert_eq!(replied(&server, &ask(CART).option(COOKIE, fresh)), [(COOKIE, fresh.clone())]);
    let mut bad = fresh.clone();
    bad[23] ^= 1;
    assert_eq!(replied(&server, &ask(CART).option(COOKIE, &bad)), [(COOKIE, fresh.clone())]);
    assert_eq!(status(&server, &ask(CART).option(COOKIE, &bad)), "NOERROR");
    for len in [0, 1, 7, 9, 15, 41, 64] {
        assert_eq!(status(&server, &ask(CART).option(COOKIE, &vec![1; len])), "FORMERR", "{len}");
    }
    // Without a secret it is an unknown option.
    assert!(replied(&Server::new(), &ask(CART).option(COOKIE, fresh)).is_empty());
    assert_eq!(status(&Server::new(), &ask(CART).option(COOKIE, &[1])), "NOERROR");
}

/// RFC 7873 §5.4: a query without a question gets "a reply that has an empty Answer Section and has a COOKIE option";
/// it "SHALL have the RCODE BADCOOKIE if the Server Cookie sent with the query was invalid".
#[test]
fn queries_for_a_cookie_alone() {
    let server = with_secret();
    let reply = |server: &Server, ask: &Ask| {
        let (octets, _) = server.reply(&without_question(ask)).unwrap();
        (text(&Message::from_vec(&octets).unwrap()), options(&octets))
    };
    let with = |option: &[u8]| ask(CART).option(COOKIE, option);
    let (said, options) = reply(&server, &with(b"12345678"));
    assert_eq!(said, "NOERROR\n");
    let [(COOKIE, good)] = &options[..] else { panic!("a cookie") };
    assert_eq!(reply(&server, &with(good)), ("NOERROR\n".to_owned(), vec![(COOKIE, good.clone())]));
    let bad = [b"12345678", &[9; 16][..]].concat();
    assert_eq!(reply(&server, &with(&bad)), ("BADCOOKIE\n".to_owned(), vec![(COOKIE, good.clone())]));

    for (server, query, why) in [
        (&server, ask(CART), "no OPT"),
        (&server, ask(CART).edns(1232), "no cookie"),
        (&server, with(b"1234567"), "a malformed cookie"),
        (&server, with(b"12345678").flags(0x2000), "NOTIFY"),
        (&Server::new(), with(b"12345678"), "a server without cookies"),
    ] {
        assert_eq!(reply(server, &query).0, "FORMERR\n", "{why}");
    }
    let mut two = with(b"12345678").octets();
    two[5] = 2;
    assert_eq!(rcode(server.message(&two).metadata.response_code), "FORMERR");
}

/// A client of a dual-stack socket has one address, however it is written.
#[test]
fn mapped_addresses_have_one_cookie() {
    let query = ask(CART).option(COOKIE, b"12345678");
    let cookie = |client| replied(&with_secret().from(client), &query);
    assert_eq!(cookie("203.0.113.7"), cookie("::ffff:203.0.113.7"));
    assert_ne!(cookie("203.0.113.7"), cookie("203.0.113.8"));
}

/// RFC 7871 §7.2.1: a sound option comes back with scope 0, for the answer is the same everywhere.
#[test]
fn client_subnet() {
    let server = Server::new();
    for sound in [
        &[0, 1, 24, 0, 198, 51, 100][..],
        &[0, 1, 0, 0],
        &[0, 1, 32, 0, 198, 51, 100, 1],
        &[0, 1, 17, 0, 198, 51, 0x80],
        &[0, 2, 56, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 1],
        &[0, 2, 0, 0],
    ] {
        assert_eq!(
            replied(&server, &ask(CART).option(SUBNET, sound)),
            [(SUBNET, sound.to_vec())],
            "{sound:?}"
        );
    }
    for (malformed, why) in [
        (&[][..], "empty"),
        (&[0, 1, 24], "no scope"),
        (&[0, 1, 24, 0, 198, 51], "too short for its prefix"),
        (&[0, 1, 24, 0, 198, 51, 100, 0], "too long for its prefix"),
        (&[0, 1, 33, 0, 198, 51, 100, 1, 0], "longer than IPv4"),
        (&[0, 2, 129, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "longer than IPv6"),
        (&[0, 1, 17, 0, 198, 51, 0xc0], "a bit beyond the prefix"),
        (&[0, 1, 24, 24, 198, 51, 100], "scope in a query"),
        (&[0, 3, 0, 0], "unknown family"),
        (&[0, 0, 8, 0, 1], "address of no family"),
    ] {
        assert_eq!(status(&server, &ask(CART).option(SUBNET, malformed)), "FORMERR", "{why}");
    }
    // What `dig +subnet=0` sends: no family, so nothing to say back.
    let none = ask(CART).option(SUBNET, &[0, 0, 0, 0]);
    assert_eq!((status(&server, &none), replied(&server, &none)), ("NOERROR", vec![]));
    let deaf = Server::new().set(|settings| settings.edns.client_subnet = false);
    assert!(replied(&deaf, &ask(CART).option(SUBNET, &[0, 1, 24, 0, 198, 51, 100])).is_empty());
    assert_eq!(status(&deaf, &ask(CART).option(SUBNET, &[1])), "NOERROR");
}

/// RFC 8914, with EDNS only.
#[test]
fn extended_errors() {
    let server = Server::new().set(|s| s.access.query.deny = vec!["198.51.100.0/24".parse().unwrap()]);
    let error = |server: &Server, question: &str| {
        let name = question.replace('@', "clusterset.local");
        let bare = server.reply(&ask(&name).octets()).unwrap().0;
        assert_eq!(extended_error(&bare), None, "no EDNS, no extended error");
        extended_error(&server.reply(&ask(&name).edns(1232).octets()).unwrap().0)
    };
    let row = |code, text: &str| Some((code, text.to_owned()));
    for (question, expected) in [
        ("cart.shop.svc.@ A", None),
        ("nosvc.shop.svc.@ A", None),
        ("cart.shop.svc.@ TXT", None),
        ("down.shop.svc.@ A", row(0, "no ready endpoints")),
        ("pending.shop.svc.@ A", row(0, "no virtual IP yet")),
        ("example.com A", row(20, "")),
    ] {
        assert_eq!(error(&server, question), expected, "{question}");
    }
    let denied = server.from("198.51.100.1");
    assert_eq!(error(&denied, "cart.shop.svc.@ A"), row(18, ""));
    assert_eq!(status(&denied, &ask(CART)), "REFUSED");
    let early = Server::of(compiled(Vec::new(), false, 1));
    assert_eq!(error(&early, "cart.shop.svc.@ A"), row(14, "not every cluster has been read yet"));
}

/// RFC 7828 §3.3.2: on TCP, the idle timeout in units of 100 ms for who asks; clients send none (§3.2.1).
#[test]
fn keepalive() {
    let query = ask(CART).option(KEEPALIVE, &[]);
    for transport in [Transport::Tcp, Transport::Tls] {
        let server = Server::new().by(transport);
        assert_eq!(replied(&server, &query), [(KEEPALIVE, vec![1, 44])], "30 s");
        assert!(replied(&server, &ask(CART).edns(1232)).is_empty());
        assert_eq!(status(&server, &ask(CART).option(KEEPALIVE, &[0, 1])), "FORMERR");
    }
    for transport in [Transport::Udp, Transport::Https, Transport::Quic] {
        assert!(replied(&Server::new().by(transport), &query).is_empty());
    }
    assert_eq!(status(&Server::new(), &ask(CART).option(KEEPALIVE, &[0, 1])), "NOERROR", "ignored on UDP");
}

/// RFC 7830 §4, RFC 8467 §4.1: padded queries get replies of a multiple of 468 octets, where nobody can look inside.
#[test]
fn padding() {
    let padded = ask(CART).option(PADDING, &[0; 20]);
    for (transport, pads) in [
        (Transport::Udp, false),
        (Transport::Tcp, false),
        (Transport::Tls, true),
        (Transport::Https, true),
        (Transport::Quic, true),
    ] {
        let server = Server::new().by(transport);
        let len = |query: &Ask| server.reply(&query.octets()).unwrap().0.len();
        assert_eq!(len(&padded) == 468, pads, "{transport:?}");
        assert!(len(&ask(CART).edns(1232)) < 100, "{transport:?}: not padded itself");
        let many = ask("big.shop.svc.clusterset.local A").option(PADDING, &[]);
        assert_eq!(len(&many) % 468 == 0, pads, "{transport:?}");
    }
}
