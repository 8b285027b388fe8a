//! Health checks: who is asked what, and what becomes of those who are not well.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use portolan_zones::Event;
use portolan_zones::object::*;
use portolan_zones::policy::health::{Check, CheckKind, HealthCheck};
use portolan_zones::policy::{AllDown, Rules};

use crate::common::*;
use crate::site::*;

const CLIENT: &str = "10.1.1.200";

fn http_check() -> Option<Arc<HealthCheck>> {
    let status = (200, 299);
    let kind = CheckKind::Http { tls: false, path: "/".into(), host: None, status, body: None };
    Some(Arc::new(HealthCheck { kind, ..(*tcp_check()).clone() }))
}

fn checked() -> Rules {
    Rules { health_check: http_check(), ..rules() }
}

fn sites() -> [Site; 2] {
    [site("a").node("n1", "z1", 3, 4), site("b").node("n1", "z2", 2, 2)]
}

/// All of these clusters' checks have failed.
fn fail(world: &mut World, checks: &HashSet<Check>, clusters: &[u8]) {
    let failed =
        |check: &&Check| matches!(check.address.ip(), IpAddr::V4(v4) if clusters.contains(&v4.octets()[1]));
    let verdicts = checks.iter().filter(failed).map(|check| (check.clone(), false)).collect();
    world.table.apply(Event::Checked(verdicts));
    world.compile();
}

/// Addresses that are left out of copies, as `a1`.
fn out(world: &World) -> String {
    let service = world.snapshot.services.get(b"\x01s\x01n").unwrap();
    let out = service.members.iter().flat_map(|member| {
        let endpoints = member.slices.iter().flat_map(|slice| &*slice.endpoints);
        endpoints.map(|endpoint| endpoint.address).filter(|address| service.is_out(&member.cluster, *address))
    });
    let spots = out.map(|address| if let IpAddr::V4(v4) = address { spot(v4) } else { panic!("{address}") });
    spots.collect::<Vec<_>>().join(" ")
}

/// Those that are ready, at the port of their slice. What is not ready needs no check, and what is gone none any more.
#[test]
fn ready_endpoints_are_asked() {
    let mut world = world(&sites(), checked());
    let checks = world.table.take_checks().unwrap();
    let mut at: Vec<String> = checks.iter().map(|check| check.address.to_string()).collect();
    at.sort();
    assert_eq!(at, ["10.1.1.1:8080", "10.1.1.2:8080", "10.1.1.3:8080", "10.2.1.1:8080", "10.2.1.2:8080"]);
    assert_eq!(world.table.take_checks(), None, "no news");
    world.reset("b", Vec::new());
    world.compile();
    assert_eq!(world.table.take_checks().unwrap().len(), 3);
    world.apply("a", policy("p", 1, imports(&["s"]), rules()));
    world.compile();
    assert_eq!(world.table.take_checks().unwrap().len(), 0);
}

/// A whole cluster that is down is left out, though it is the larger one: the other bears all. Where nobody is well health is
/// ignored, or nothing is answered, as the policy has it.
#[test]
fn what_is_not_well_is_left_out() {
    let mut world = world(&sites(), checked());
    let checks = world.table.take_checks().unwrap();
    fail(&mut world, &checks, &[1]);
    assert_eq!((reached(&world, CLIENT), out(&world)), ("b1".into(), "a1 a1 a1".into()));
    fail(&mut world, &checks, &[2]);
    assert_eq!((reached(&world, CLIENT), out(&world)), ("a1 b1".into(), String::new()));
    world.apply("a", policy("p", 1, imports(&["s"]), Rules { all_down: AllDown::Nothing, ..checked() }));
    world.compile();
    assert_eq!((reached(&world, CLIENT), out(&world)), (String::new(), "a1 a1 a1 b1 b1".into()));
    // They are well again.
    let verdicts = checks.iter().map(|check| (check.clone(), true)).collect();
    world.table.apply(Event::Checked(verdicts));
    world.compile();
    assert_eq!((reached(&world, CLIENT), out(&world)), ("a1 b1".into(), String::new()));
}

/// Nothing that a cluster says has requests of its making sent to another one's endpoints: there a connection must do. The own
/// cluster's operators may ask all.
#[test]
fn an_exporter_has_its_own_endpoints_asked() {
    let asked = |world: &mut World| {
        let checks = world.table.take_checks().unwrap();
        let mut asked: Vec<_> = checks
            .iter()
            .map(|check| (check.address.to_string(), matches!(check.how.kind, CheckKind::Http { .. })))
            .collect();
        asked.sort();
        asked.into_iter().map(|(address, http)| (address[..5].to_owned(), http)).collect::<HashSet<_>>()
    };
    let mut world = world_of(&sites(), ServiceKind::ClusterIp, &http(), None);
    world.apply("b", policy("p", 1, exports(&["s"]), checked()));
    world.compile();
    assert_eq!(asked(&mut world), [("10.1.".to_owned(), false), ("10.2.".to_owned(), true)].into());
    world.apply("a", policy("own", 1, imports(&["s"]), checked()));
    world.compile();
    assert_eq!(asked(&mut world), [("10.1.".to_owned(), true), ("10.2.".to_owned(), true)].into());
}

/// Addresses at which clouds tell machines their secrets are nobody's to ask.
#[test]
fn clouds_are_not_asked_for_their_secrets() {
    let mut world = world(&sites(), checked());
    let secrets =
        ["fd00:ec2::254", "fd20:ce::254", "64:ff9b::a9fe:a9fe"].map(|text| endpoint(text, None, true));
    world.apply("b", slice("n", "s", "s6", &[("http", 8080)], secrets.into()));
    let secrets = ["100.100.100.200", "168.63.129.16"].map(|text| endpoint(text, None, true));
    world.apply("b", slice("n", "s", "s4", &[("http", 8080)], secrets.into()));
    world.compile();
    assert_eq!(world.table.take_checks().unwrap().len(), 5);
}

/// Verdicts on what nobody asks for any more come too late; those of a service that comes back are news again.
#[test]
fn late_verdicts_change_nothing() {
    let mut world = world(&sites(), checked());
    let checks = world.table.take_checks().unwrap();
    let objects = sites()[1].objects("s", ServiceKind::ClusterIp, http());
    world.reset("b", Vec::new());
    world.compile();
    fail(&mut world, &checks, &[2]);
    world.table.take_checks();
    world.reset("b", objects);
    world.compile();
    assert_eq!(reached(&world, CLIENT), "a1 b1");
    fail(&mut world, &checks, &[2]);
    assert_eq!(reached(&world, CLIENT), "a1");
}
