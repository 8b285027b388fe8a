//! Time of one answer, without any transport: the user-space part of a query's cost.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a bench fails by panicking"
)]

use std::hint::black_box;
use std::num::NonZeroU32;

use criterion::{Criterion, criterion_group, criterion_main};
use governor::clock::Clock;
use portolan_dns::limiter::Limiter;
use portolan_dns::respond::{Reply, Scratch, Verdict, respond};
use portolan_dns::settings::RateLimit;
use portolan_dns::view::{Transport, View};

use crate::common::*;

#[path = "../tests/respond/common/mod.rs"]
#[allow(dead_code, reason = "benches use a part")]
mod common;

fn answers(criterion: &mut Criterion) {
    // Forwarders and pods inside of a cluster, which no limit is for.
    let server = with_cookies().limited(RateLimit::default()).from("10.0.0.9");
    let ask = |name: &str| ask(&name.replace('@', "shop.svc.clusterset.local"));
    for (name, query) in [
        ("vip (limit 150 ns)", ask("cart.@ A")),
        ("vip with EDNS", ask("cart.@ A").edns(1232)),
        ("vip with a cookie", ask("cart.@ A").option(10, &[1; 8])),
        ("srv", ask("_http._tcp.cart.@ SRV")),
        ("three endpoints", ask("db.@ A").edns(1232)),
        ("600 endpoints, cut", ask("big.@ A").edns(1232)),
        ("nodata", ask("cart.@ MX")),
        ("nxdomain", ask("nosvc.@ A")),
    ] {
        row(criterion, name, &server, &server.limiter, &query);
    }
    // A client of the internet: its reply is counted, on the machine's clock, and is within the limit.
    let rate = NonZeroU32::new(100_000_000).unwrap();
    let limit = RateLimit { per_second: Some(rate), burst: rate, ..RateLimit::default() };
    let server = with_cookies().limited(limit).from("203.0.113.7");
    let rate_limit = &server.settings.rate_limit;
    assert!(!rate_limit.exempt.iter().any(|network| network.contains(&server.client)));
    let limiter = Limiter::new(rate_limit, [1; 16]);
    let name = "a virtual IP's A answer to a client that is rate limited";
    row(criterion, name, &server, &limiter, &ask("cart.@ A"));
}

fn with_cookies() -> Server {
    Server::new().set(|settings| {
        settings.cookies.secrets = vec![portolan_dns::cookie::Secret([7; 16])];
    })
}

/// The time of one answer.
fn row<C: Clock>(criterion: &mut Criterion, name: &str, server: &Server, limiter: &Limiter<C>, query: &Ask) {
    let query = query.octets();
    let (mut scratch, mut reply, mut entropy) = (Scratch::default(), Reply::default(), 0_u32);
    let view = View { client: (server.client, 53).into(), transport: Transport::Udp };
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            entropy = entropy.wrapping_add(1);
            let context = server.context_of(limiter, entropy);
            let verdict = respond(&context, black_box(&query), &view, &mut scratch, &mut reply);
            black_box((verdict, reply.octets().len()));
        });
    });
    let last = respond(&server.context_of(limiter, 0), &query, &view, &mut scratch, &mut reply);
    assert!(matches!(last, Verdict::Send(facts) if facts.limited.is_none()), "{name}: over the limit");
}

criterion_group!(benches, answers);
criterion_main!(benches);
