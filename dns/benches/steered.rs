//! What it costs that an answer depends on who asks: answers by locality, by weight and for clients that are to stay, against one
//! of as many records that is the same for all. Rounds of both take turns, so that whatever else the machine does is in both.
//! `cargo bench -p portolan-dns --bench steered`

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a bench is no library"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use portolan_dns::respond::{Reply, Scratch, respond};
use portolan_dns::view::{Transport, View};
use portolan_zones::object::*;
use portolan_zones::policy::{Form, Level, Locality, Policy, PolicyName, Preference, Rules, Target};
use portolan_zones::{ClusterId, ServiceName, Snapshot};

use crate::common::*;

#[path = "../tests/respond/common/mod.rs"]
#[allow(dead_code, reason = "benches use a part")]
mod common;

const ROUNDS: usize = 51;
const QUERIES: u32 = 20_000;
/// Nodes of the cluster, each with a network of pods, in three zones.
const NODES: u32 = 1_000;
/// Of the design: by instructions or in paired rounds.
const LIMIT: f64 = 1.05;

fn main() {
    let server = Server { snapshot: Arc::new(snapshot()), ..Server::new() };
    println!("{NODES} nodes; {ROUNDS} rounds of {QUERIES} answers of 3 addresses each");
    for (what, service) in [
        ("by locality", "near"),
        ("by weight", "split"),
        ("by locality and weight, spilling", "spills"),
        ("for clients that are to stay", "stays"),
    ] {
        let mut ratios: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let same = round(&server, "same");
                round(&server, service) / same
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        let median = ratios[ROUNDS / 2];
        println!(
            "{what}: {median:.3} of an answer that is the same for all (limit {LIMIT}, ratio {:.2})",
            median / LIMIT
        );
    }
}

/// Seconds for a round of answers.
fn round(server: &Server, service: &str) -> f64 {
    let query = ask(&format!("{service}.shop.svc.clusterset.local A")).edns(1232).octets();
    let (mut scratch, mut reply) = (Scratch::default(), Reply::default());
    let begun = Instant::now();
    for entropy in 0..QUERIES {
        // A pod of some node.
        let [_, _, high, low] = (entropy % NODES).to_be_bytes();
        let client = IpAddr::from([10, 64 + high, low, 7]);
        let view = View { client: (client, 53).into(), transport: Transport::Udp };
        let context = server.context(entropy);
        let verdict = respond(&context, black_box(&query), &view, &mut scratch, &mut reply);
        black_box((verdict, reply.octets().len()));
    }
    begun.elapsed().as_secs_f64()
}

fn snapshot() -> Snapshot {
    let zone = |i: u32| Some(Arc::from(format!("z{}", i % 3)));
    let mut objects: Vec<Object> = (0..NODES)
        .map(|i| {
            let [_, _, high, low] = i.to_be_bytes();
            Object::Node(Node {
                name: format!("n{i}").into(),
                az: zone(i),
                region: None,
                pod_cidrs: [(IpAddr::from([10, 64 + high, low, 0]), 24)].into(),
                addresses: Box::default(),
                ready: true,
                entrances: Box::default(),
            })
        })
        .collect();
    let near = Locality { order: [Level::Zone].as_slice().into(), reach: Preference::Prefer };
    let weights: Box<[(ClusterId, u32)]> = [(ClusterId::new("fra1").unwrap(), 3)].into();
    let rules = Rules { answer: Form::Endpoints, ..Rules::default() };
    for (service, rules, each) in [
        ("same", None, 1),
        ("near", Some(Rules { locality: Some(near.clone()), ..rules.clone() }), 3),
        ("split", Some(Rules { weights: weights.clone(), ..rules.clone() }), 1),
        ("spills", Some(Rules { locality: Some(near.clone()), weights, ..rules.clone() }), 3),
        ("stays", Some(Rules { locality: Some(near), sticky: true, ..rules }), 3),
    ] {
        objects.extend(exported(service, ServiceKind::Headless, &[]));
        let not_ready = |i: u32| service == "spills" && i % 9 < 3;
        let endpoints = (0..3 * each + if service == "spills" { 9 } else { 0 }).map(|i| Endpoint {
            address: Ipv4Addr::from(0x0a01_0000 + i).into(),
            conditions: if not_ready(i) {
                Conditions { ready: false, serving: false, terminating: false }
            } else {
                Conditions::READY
            },
            identity: i,
            hostname: None,
            place: Some(Place { node: None, az: zone(i) }.into()),
        });
        objects.push(slice(service, &format!("{service}-1"), &[("http", 80)], endpoints.collect()));
        objects.extend(rules.map(|rules| {
            let name = ServiceName::new("shop", service).unwrap();
            let imports = [Arc::from(name.name())].into();
            let target = Target::Services { exports: Box::default(), imports };
            Object::Policy(Policy {
                name: PolicyName::new("shop", service),
                created: 1,
                target,
                rules: rules.into(),
            })
        }));
    }
    compiled(objects, true, 42)
}
