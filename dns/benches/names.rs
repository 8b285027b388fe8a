//! What many names cost: answers about names at random, of ten thousand and of a million, one after the other and a batch at a
//! time with services read ahead. `cargo bench -p portolan-dns --bench names`

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a bench is no library"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use portolan_dns::respond::{Reply, Scratch, respond};
use portolan_dns::view::{Transport, View};
use portolan_zones::QName;
use portolan_zones::lookup::Hint;
use portolan_zones::object::*;

use crate::common::*;

#[path = "../tests/respond/common/mod.rs"]
#[allow(dead_code, reason = "benches use a part")]
mod common;

const ROUNDS: usize = 21;
const QUERIES: usize = 200_000;
const BATCH: usize = 32;

fn main() {
    println!("{ROUNDS} rounds of {QUERIES} answers");
    for names in [1, 10_000, 1_000_000] {
        let server = Server { snapshot: Arc::new(compiled(services(names), true, 42)), ..Server::new() };
        let mut random = 1_u32;
        let queries: Vec<Vec<u8>> = (0..QUERIES.min(50 * names))
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let name = (random >> 8) as usize % names;
                ask(&format!("s{name}.shop.svc.clusterset.local A")).edns(1232).octets()
            })
            .collect();
        let mut figures: Vec<[f64; 2]> =
            (0..ROUNDS).map(|_| [false, true].map(|ahead| round(&server, &queries, ahead))).collect();
        let medians = [0, 1].map(|which| {
            figures.sort_by(|a, b| a[which].total_cmp(&b[which]));
            figures[ROUNDS / 2][which]
        });
        println!("{names} names: {:.0} ns one by one, {:.0} ns read ahead", medians[0], medians[1]);
    }
}

/// Nanoseconds for an answer.
fn round(server: &Server, queries: &[Vec<u8>], ahead: bool) -> f64 {
    let (mut scratch, mut reply, mut qname) = (Scratch::default(), Reply::default(), QName::default());
    let view = View { client: "10.0.0.1:53".parse().unwrap(), transport: Transport::Udp };
    let begun = Instant::now();
    let mut answered = 0;
    while answered < QUERIES {
        for batch in queries.chunks(BATCH) {
            if ahead {
                let (mut hints, mut known) = ([Hint::default(); BATCH], 0);
                for query in batch {
                    if let Some(hint) =
                        qname.read(&query[12..]).ok().and_then(|_| server.snapshot.hint(&qname))
                    {
                        hints[known] = hint;
                        known += 1;
                    }
                }
                server.snapshot.read_ahead(&hints[..known]);
            }
            for query in batch {
                let context = server.context(0);
                black_box(respond(&context, query, &view, &mut scratch, &mut reply));
            }
            answered += batch.len();
        }
    }
    begun.elapsed().as_secs_f64() * 1e9 / answered as f64
}

fn services(names: usize) -> Vec<Object> {
    let mut objects = Vec::new();
    for at in 0..names {
        let name = format!("s{at}");
        objects.extend(exported(&name, ServiceKind::ClusterIp, &[("http", 80)]));
        let [_, a, b, c] = (at as u32).to_be_bytes();
        objects.push(import(&name, &[&format!("241.{a}.{b}.{c}")]));
    }
    objects
}
