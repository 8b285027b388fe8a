//! Time of one answer, without any transport: the user-space part of a query's cost.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    unreachable_pub,
    reason = "a bench fails by panicking"
)]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use portolan_dns::respond::{Reply, Scratch, respond};
use portolan_dns::settings::RateLimit;
use portolan_dns::view::{Transport, View};

use crate::common::*;

#[path = "../tests/respond/common/mod.rs"]
#[allow(dead_code, reason = "benches use a part")]
mod common;

fn answers(criterion: &mut Criterion) {
    let server = Server::new().limited(RateLimit::default()).from("10.0.0.9").set(|settings| {
        settings.cookies.secrets = vec![portolan_dns::cookie::Secret([7; 16])];
    });
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
        let query = query.octets();
        let (mut scratch, mut reply, mut entropy) = (Scratch::default(), Reply::default(), 0_u32);
        let view = View { client: (server.client, 53).into(), transport: Transport::Udp };
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                entropy = entropy.wrapping_add(1);
                let context = server.context(entropy);
                let verdict = respond(&context, black_box(&query), &view, &mut scratch, &mut reply);
                black_box((verdict, reply.octets().len()));
            });
        });
    }
}

criterion_group!(benches, answers);
criterion_main!(benches);
