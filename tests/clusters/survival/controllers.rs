//! Controllers of one cluster: several at once, killed, stalled, and with clocks that are wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use portolan_tests::harness::kubernetes::{
    CONTROLLER, Clusterset, Member, Plan, SYSTEM, export, object, ours, service, with,
};
use portolan_tests::harness::{DNS, Server, becomes, eventually, stays};
use serde_json::{Value, json};

use super::{DB, addresses, answered, export_headless, slice, steady};
use crate::steps::{endpoints, fqdn, mirrored};

/// Short, so that nobody waits for long.
const LEASE: &str = "controller: {lease: {duration: 3s, renew: 2s, retry: 500ms}}";

/// Paris and Tokyo, whose controllers take over from each other fast.
fn fast() -> Clusterset {
    let set = Clusterset::start(&Plan { controller: LEASE.into(), ..Plan::new(2) });
    for member in set.iter() {
        member.put(&portolan_tests::harness::kubernetes::namespace("shop"));
    }
    set
}

fn leads(server: &Server) -> bool {
    server.status()["controller"]["leading"] == true
}

/// Requests so far that should change something.
fn writes(server: &Server) -> u64 {
    let status = server.status();
    let requests = status["controller"]["requests"].as_array().unwrap();
    requests.iter().map(|requests| requests["count"].as_u64().unwrap()).sum()
}

/// Who holds the Lease, and how often it changed hands.
fn holder(member: &Member) -> (String, i64) {
    let lease = member.get("Lease", SYSTEM, "portolan-controller").unwrap();
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    (holder.to_owned(), lease["spec"]["leaseTransitions"].as_i64().unwrap_or_default())
}

/// design.md §3: of several controllers only the leader writes. Another one goes on when it is killed or stalled; who
/// comes back, even in the middle of something, does not write.
#[test]
fn one_of_two_writes() {
    let mut set = fast();
    let second = ours(&set[0], CONTROLLER, set[0].at(), LEASE).for_command("controller").start();
    export_headless(&set[1], "db", &["10.2.0.1"]);
    answered(&set[0].server, DB, &["10.2.0.1"]);
    assert!(leads(&set[0].controller) && !leads(&second));
    assert_eq!(writes(&second), 0);
    let (first_holder, transitions) = holder(&set[0]);

    set[0].controller.kill();
    set[1].put(&slice("db", "db", &["10.2.0.2"]));
    steady(&set[0].server, DB, &[&["10.2.0.1"], &["10.2.0.2"]], || {
        answered(&set[0].server, DB, &["10.2.0.2"]);
    });
    assert!(leads(&second) && writes(&second) > 0);
    let (second_holder, later) = holder(&set[0]);
    assert!(second_holder != first_holder && later == transitions + 1, "{second_holder} {later}");

    set[0].controller.start_again();
    set[1].put(&slice("db", "db", &["10.2.0.3"]));
    answered(&set[0].server, DB, &["10.2.0.3"]);
    assert!(leads(&second) && !leads(&set[0].controller));
    assert_eq!(writes(&set[0].controller), 0);

    second.signal("STOP");
    set[1].put(&slice("db", "db", &["10.2.0.4"]));
    answered(&set[0].server, DB, &["10.2.0.4"]);
    assert!(leads(&set[0].controller));
    let version = || set[0].list("EndpointSlice", "shop", "")[0]["metadata"]["resourceVersion"].clone();
    let before = version();
    second.signal("CONT");
    eventually("who was stalled knows that it leads no more", || !leads(&second));
    stays("nothing is written anew", Duration::from_secs(2), || version() == before);
    assert!(leads(&set[0].controller));
}

/// The times in a Lease are somebody else's: it has expired when it has not been seen to change for its duration, and no
/// sooner (client-go's leader election).
#[test]
fn leaders_with_wrong_clocks() {
    let mut set = fast();
    set[0].controller.kill();
    let mut seconds = 0;
    let mut renew = |paris: &Member, year: u32| {
        seconds += 1;
        let at = format!("{year}-01-01T00:{:02}:{:02}.000000Z", seconds / 60, seconds % 60);
        let lease = object("coordination.k8s.io/v1", "Lease", SYSTEM, "portolan-controller");
        let spec = json!({ "holderIdentity": "another", "leaseDurationSeconds": 3, "renewTime": at });
        paris.put(&with(lease, json!({ "spec": spec })));
    };
    renew(&set[0], 2001);
    set[0].controller.start_again();
    export_headless(&set[1], "db", &["10.2.0.1"]);
    let imported = || set[0].get("ServiceImport", "shop", "db").is_some();
    stays("the other one leads", Duration::from_secs(6), || {
        renew(&set[0], 2001);
        !leads(&set[0].controller) && !imported()
    });
    renew(&set[0], 2099);
    let took = eventually("its time is over", || leads(&set[0].controller));
    assert!(took > Duration::from_millis(2500), "{took:?}");
    answered(&set[0].server, DB, &["10.2.0.1"]);
}

/// design.md §7: nothing known is lost. A controller that is killed in the middle of its writes, again and again, leaves
/// halves behind; the next one completes them: no duplicates, no orphans.
#[test]
fn killed_between_writes() {
    let mut set = fast();
    let mut wanted = BTreeMap::new();
    for round in 0..5_u8 {
        let before = writes(&set[0].controller);
        for number in 0..8_u8 {
            let name = format!("service-{number}");
            let address = format!("10.2.{round}.{number}");
            match (round + number) % 4 {
                0 if wanted.remove(&name).is_some() => {
                    assert!(set[1].delete("ServiceExport", "shop", &name));
                }
                _ => {
                    set[1].put(&slice(&name, &name, &[&address]));
                    let headless = number % 2 == 0;
                    if headless {
                        export_headless(&set[1], &name, &[&address]);
                    } else {
                        set[1].put(&with(service("shop", &name), json!({ "spec": { "selector": null } })));
                        set[1].put(&export("shop", &name));
                    }
                    wanted.insert(name, (address, headless));
                }
            }
        }
        eventually("it is writing", || writes(&set[0].controller) > before);
        set[0].controller.kill();
        set[0].controller.start_again();
    }
    settled(&set[0], &wanted);
}

/// Waits until there is exactly what belongs to these services of Tokyo's: address, and whether they are headless.
fn settled(paris: &Member, wanted: &BTreeMap<String, (String, bool)>) {
    let names = |kind: &str, selector: &str| -> Vec<Value> {
        let found = paris.list(kind, "shop", selector);
        found.iter().map(|object| object["metadata"]["name"].clone()).collect()
    };
    let all: Vec<Value> = wanted.keys().map(|name| json!(name)).collect();
    becomes("the imports", &all, || names("ServiceImport", ""));
    for (name, (address, headless)) in wanted {
        let expected: BTreeSet<String> = [format!("tokyo {address}")].into();
        becomes(&format!("the slices of {name}"), &(1, expected), || {
            let slices = mirrored(paris, "shop", name);
            (slices.len(), endpoints(&slices))
        });
        let import = paris.get("ServiceImport", "shop", name).unwrap();
        let answer = if *headless { json!([address]) } else { import["spec"]["ips"].clone() };
        let answer: Vec<_> = answer.as_array().unwrap().iter().map(|ip| ip.as_str().unwrap()).collect();
        answered(&paris.server, &fqdn("shop", name), &answer);
    }
    let vips = wanted.values().filter(|(_, headless)| !headless).count();
    becomes("the derived Services", &vips, || names("Service", "").len());
    becomes("all slices", &wanted.len(), || names("EndpointSlice", "").len());
    for number in 0..8 {
        let name = format!("service-{number}");
        if !wanted.contains_key(&name) {
            assert_eq!(addresses(paris.server.at(DNS), &fqdn("shop", &name)), Err(3), "{name} is gone");
        }
    }
}
