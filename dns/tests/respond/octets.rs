//! Any octets have a verdict; what is replied can be read, is no longer than allowed, and echoes what it must.

use std::sync::LazyLock;

use hickory_proto::op::{Message, MessageType};
use portolan_dns::cookie::Secret;
use portolan_dns::respond::{Dropped, Reply, Verdict};
use portolan_dns::view::Transport;
use proptest::prelude::*;

use crate::common::*;

const TRANSPORTS: [Transport; 5] =
    [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Https, Transport::Quic];

/// A server by each transport.
static SERVERS: LazyLock<Vec<Settings>> = LazyLock::new(|| {
    let settings = |transport| Settings { transport, snapshot: std::sync::Arc::new(shop()) };
    TRANSPORTS.into_iter().map(settings).collect()
});

struct Settings {
    transport: Transport,
    snapshot: std::sync::Arc<portolan_zones::Snapshot>,
}

impl Settings {
    fn server(&self) -> Server {
        let server =
            Server { snapshot: self.snapshot.clone(), ..Server::of(portolan_zones::Snapshot::default()) };
        server.by(self.transport).set(|settings| {
            settings.identity.nsid = Some("fra1-a".into());
            settings.cookies.secrets = vec![Secret([7; 16])];
            settings.access.transfer.allow = vec!["0.0.0.0/0".parse().unwrap()];
        })
    }
}

fn check(query: &[u8], which: usize, entropy: u32) {
    let server = SERVERS[which % TRANSPORTS.len()].server();
    server.entropy.set(entropy);
    let mut reply = Reply::default();
    match server.verdict(query, &mut reply) {
        Verdict::Drop(Dropped::NoQuery) => assert!(query.len() < 12 || query[2] & 0x80 != 0),
        Verdict::Drop(Dropped::Limited(_)) => panic!("no limit is set"),
        Verdict::Transfer(mut transfer, _) => {
            assert!(server.transport.carries_transfers());
            while transfer.next(&mut reply) {
                sound(query, reply.octets());
            }
        }
        Verdict::Send(facts) => {
            let message = sound(query, reply.octets());
            assert_eq!(u16::from(message.metadata.response_code), facts.rcode);
            let limit = if server.transport.is_stream() { 65_535 } else { 1232 };
            assert!(reply.octets().len() <= limit);
            if message.edns.is_none() && !server.transport.is_stream() {
                assert!(reply.octets().len() <= 512, "RFC 1035 §4.2.1");
            }
        }
    }
}

fn sound(query: &[u8], octets: &[u8]) -> Message {
    let message = Message::from_vec(octets).unwrap_or_else(|error| panic!("{error}: {octets:02x?}"));
    assert_eq!(octets[..2], query[..2], "id");
    assert_eq!(message.metadata.message_type, MessageType::Response);
    if let [question] = &message.queries[..] {
        let len = question.name().len() + 4;
        assert_eq!(octets[12..12 + len], query[12..12 + len], "question");
    }
    message
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_octets(octets in prop::collection::vec(any::<u8>(), 0..300), which: usize) {
        check(&octets, which, 0);
    }

    #[test]
    fn any_sections(mut octets in prop::collection::vec(any::<u8>(), 12..200), counts: [bool; 4], which: usize) {
        octets[2] &= 0x7f;
        for (at, one) in counts.into_iter().enumerate() {
            octets[4 + 2 * at] = 0;
            octets[5 + 2 * at] = u8::from(one);
        }
        check(&octets, which, 0);
    }

    #[test]
    fn questions(ask in question(), which: usize, entropy: u32) {
        check(&ask.octets(), which, entropy);
    }

    #[test]
    fn no_questions(ask in question(), which: usize) {
        check(&without_question(&ask), which, 0);
    }

    #[test]
    fn mutated_questions(ask in question(), at: prop::sample::Index, octet: u8, cut in 0..3_usize, which: usize) {
        let mut octets = ask.octets();
        let at = at.index(octets.len());
        octets[at] = octet;
        if cut == 0 {
            octets.truncate(at);
        }
        check(&octets, which, 0);
    }
}

/// What fuzzing found worth keeping (`make fuzz`): the first octet chooses the transport.
#[test]
fn the_fuzz_corpus_is_answered_soundly() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/packet");
    let mut inputs = 0;
    for file in std::fs::read_dir(corpus).unwrap() {
        let octets = std::fs::read(file.unwrap().path()).unwrap();
        let Some((choice, query)) = octets.split_first() else { continue };
        check(query, usize::from(*choice), u32::from(*choice));
        inputs += 1;
    }
    assert!(inputs > 100, "the corpus is not where it should be");
}
