//! Once its buffers have grown, an answer allocates nothing: counted by the allocator, thread by thread.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "tests fail by panicking")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use portolan_dns::geo::{Clue, Geo, GeoConfig, Rule};
use portolan_dns::respond::{Reply, Scratch, Verdict, respond};
use portolan_dns::settings::RateLimit;
use portolan_dns::view::{Transport, View};
use portolan_zones::places::{Locate, Place};

use crate::common::*;

#[path = "respond/common/mod.rs"]
#[allow(dead_code, reason = "this binary uses a part")]
mod common;

#[path = "mmdb/mod.rs"]
#[allow(dead_code, reason = "this binary uses a part")]
mod mmdb;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting what the calling thread asks of it.
struct Counting;

// SAFETY: every call is handed to `System` unchanged; counting touches a `Cell` without a destructor.
#[expect(unsafe_code, reason = "only an allocator can count allocations")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are `System`'s.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are `System`'s.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Every kind of reply but a transfer, limits and options included.
#[test]
fn answers_allocate_nothing() {
    let server = Server::new().limited(RateLimit { slip: 1, ..RateLimit::default() }).set(|settings| {
        settings.identity.nsid = Some("fra1-a".into());
        settings.cookies.secrets = vec![portolan_dns::cookie::Secret([7; 16])];
    });
    let mut queries = Vec::new();
    for question in [
        "cart.shop.svc.clusterset.local A",
        "cart.shop.svc.clusterset.local SRV",
        "cart.shop.svc.clusterset.local ANY",
        "big.shop.svc.clusterset.local A",
        "_http._tcp.big.shop.svc.clusterset.local SRV",
        "x.clusterset.local A",
        "down.shop.svc.clusterset.local A",
        "clusterset.local NS",
        "1.0.0.241.in-addr.arpa PTR",
        "0.0.241.in-addr.arpa PTR",
        "1.0.241.in-addr.arpa PTR",
        "0.0.0.0.1.4.d.f.ip6.arpa PTR",
        "dns-version.clusterset.local TXT",
        "example.com A",
    ] {
        queries.push(ask(question).octets());
        let options =
            ask(question).option(3, &[]).option(10, &[1; 8]).option(12, &[]).option(8, &[0, 1, 8, 0, 9]);
        queries.push(options.octets());
    }
    queries.push(vec![0; 30]);
    let (mut scratch, mut reply) = (Scratch::default(), Reply::default());
    let mut round = |transport| {
        for (entropy, query) in (0..).zip(&queries) {
            let context = server.context(entropy);
            let view = View { client: (server.client, 53).into(), transport };
            let verdict = respond(&context, query, &view, &mut scratch, &mut reply);
            assert!(matches!(verdict, Verdict::Send(_)));
        }
    };
    for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
        round(transport);
        let before = ALLOCATIONS.get();
        (0..500).for_each(|_| round(transport));
        assert_eq!(ALLOCATIONS.get() - before, 0, "{transport:?}");
    }
    let before = ALLOCATIONS.get();
    drop(vec![1_u8; 10]);
    assert!(ALLOCATIONS.get() > before, "the counter counts");
}

/// Nor does what is seen of forwarders that say where clients are.
#[test]
fn answers_by_place_allocate_nothing() {
    let trusting = |settings: &mut portolan_dns::settings::Settings| {
        settings.edns.trusted_forwarders = vec!["203.0.113.0/24".parse().unwrap()];
    };
    let server = Server::of(placed()).set(trusting);
    let query = ask("near.shop.svc.clusterset.local A").option(8, &[0, 1, 24, 0, 10, 64, 1]).octets();
    let mut reply = Reply::default();
    let mut facts = || match server.verdict(&query, &mut reply) {
        Verdict::Send(facts) => facts,
        Verdict::Drop(_) | Verdict::Transfer(..) => panic!("no answer"),
    };
    assert!(facts().placed.is_some());
    let before = ALLOCATIONS.get();
    (0..500).for_each(|_| assert!(facts().placed.is_some()));
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

/// Nor does the look at the agents' nodes: who is on one and who is not.
#[test]
fn answers_by_agent_allocate_nothing() {
    let trusting = |settings: &mut portolan_dns::settings::Settings| {
        settings.edns.trusted_forwarders = vec!["203.0.113.0/24".parse().unwrap()];
    };
    let server = Server::of(behind_agents()).set(trusting);
    let on =
        |node: u8| ask("cart.shop.svc.clusterset.local A").option(8, &[0, 1, 24, 0, 10, 64, node]).octets();
    let (queries, mut reply) = ([on(0), on(1), on(2)], Reply::default());
    let mut last = |query: &[u8]| {
        assert!(matches!(server.verdict(query, &mut reply), Verdict::Send(facts) if facts.placed.is_some()));
        reply.octets().windows(4).any(|octets| octets == [241, 0, 0, 1])
    };
    assert_eq!(queries.each_ref().map(|query| last(query)), [true, false, false]);
    let before = ALLOCATIONS.get();
    (0..500).for_each(|_| queries.iter().for_each(|query| _ = last(query)));
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

/// Where a client is is looked up in what was made of databases before.
#[test]
fn places_of_the_world_allocate_nothing() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let networks = ["192.0.2.0/24", "198.51.100.0/25", "2001:db8::/32"];
    let database = mmdb::Mmdb::new("ASN");
    let database =
        networks.iter().fold(database, |database, network| database.network(network, &mmdb::asn(1)));
    std::fs::write(file.path(), database.octets()).unwrap();
    let rule = Rule { clue: Clue::Asn(1), place: Place { region: Some("a".into()), ..Place::default() } };
    let geo = Geo::start(GeoConfig { databases: vec![file.path().to_owned()], rules: vec![rule] });
    let atlas = geo.atlas();
    let before = ALLOCATIONS.get();
    let addresses =
        ["192.0.2.1", "192.0.3.1", "198.51.100.1", "2001:db8::1", "::1"].map(|a| a.parse().unwrap());
    let known = addresses.iter().filter(|address| atlas.locate(**address).0.is_some()).count();
    assert_eq!((known, ALLOCATIONS.get() - before), (3, 0));
}
