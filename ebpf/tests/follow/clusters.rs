//! Clusters that are gone as a whole are out at once, and only then.

use portolan_zones::Event;
use portolan_zones::object::{ObjectKey, SliceName};
use portolan_zones::peers::State;
use portolan_zones::policy::Rules;

use crate::common::world::World;
use crate::common::*;
use crate::site::*;

/// Twenty services in `a` and `b`, with health checks.
fn twenty(rules: Rules) -> (World, Vec<String>) {
    let mut world = World::new(&["a", "b"]);
    let services: Vec<String> = (1..=20).map(|i| format!("s{i:02}")).collect();
    for (i, service) in (1..).zip(&services) {
        for (id, octet) in [("a", 1), ("b", 2)] {
            world.export(id, service);
            world.endpoints(id, service, "v4", &[(&format!("10.{octet}.0.{i}"), "n1")]);
        }
        world.vips(service, &[&format!("10.96.0.{i}")]);
    }
    let names: Vec<&str> = services.iter().map(String::as_str).collect();
    world.policy(&names, rules);
    world.compile();
    (world, services)
}

fn is_visible(write: &Write) -> bool {
    !matches!(write, Write::Slot(..) | Write::Backend(..) | Write::Front(..))
}

/// A cluster that is gone as a whole is out of all services by one word, before the first of them is written anew; and that word
/// does not stay.
#[test]
fn a_cluster_that_goes_down_is_out_at_once() {
    let (mut world, _) = twenty(Rules::default());
    let mut tables = small();
    follow(&mut tables, &world.snapshot);
    world.hear(down("b", State::Down));
    let (pass, writes) = follow(&mut tables, &world.compile());
    assert_eq!((pass.services, pass.down), (20, vec![cluster("b")]));
    let visible: Vec<&Write> = writes.iter().filter(|write| is_visible(write)).collect();
    let Write::Cluster(number, true) = visible[0] else { panic!("{:?}", visible[0]) };
    assert_eq!(writes.last(), Some(&Write::Cluster(*number, false)), "when nothing leads there any more");
    assert_eq!(rewritten(&writes).len(), 40);
    let memory = memory(&tables);
    assert!(memory.down.is_empty());
    assert_eq!(reached(memory, "10.96.0.20", 0), set(&["10.1.0.20"]));

    world.hear(Event::Force(Box::default()));
    let (pass, _) = follow(&mut tables, &world.compile());
    assert_eq!(pass.down, []);
    let memory = &tables.reconciler().tables().memory;
    assert_eq!(reached(memory, "10.96.0.20", 0), set(&["10.1.0.20", "10.2.0.20"]));
}

/// One service that still has something usable there is a reason to take nothing out; and so are few services.
#[test]
fn a_cluster_that_is_used_still_is_not_out() {
    let (mut world, services) = twenty(Rules::default());
    let mut tables = small();
    follow(&mut tables, &world.snapshot);
    for service in &services[1..] {
        world.delete("b", ObjectKey::Slice(SliceName::new("n", &format!("{service}-v4"))));
    }
    let (pass, writes) = follow(&mut tables, &world.compile());
    assert_eq!((pass.services, pass.down), (19, vec![]));
    assert!(!writes.iter().any(|write| matches!(write, Write::Cluster(..))));
    assert_eq!(reached(memory(&tables), "10.96.0.1", 0), set(&["10.1.0.1", "10.2.0.1"]));
    assert_eq!(reached(memory(&tables), "10.96.0.2", 0), set(&["10.1.0.2"]));
    world.delete("b", ObjectKey::Slice(SliceName::new("n", "s01-v4")));
    let (pass, _) = follow(&mut tables, &world.compile());
    assert_eq!(pass.down, [], "one service is written as fast as a word");
}

/// Where nothing is healthy health is ignored: nothing may be out then, not for a moment either.
#[test]
fn clusters_that_serve_although_nothing_is_healthy_are_not_out() {
    let (mut world, services) = twenty(Rules { health_check: tcp_check(), ..Rules::default() });
    let mut tables = small();
    follow(&mut tables, &world.snapshot);
    let all: Vec<String> = (1..=20).flat_map(|i| [format!("10.1.0.{i}"), format!("10.2.0.{i}")]).collect();
    world.unhealthy(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let (pass, writes) = follow(&mut tables, &world.compile());
    let usable = services
        .iter()
        .map(|service| world.snapshot.usable(&world.service(service), 0).count())
        .sum::<usize>();
    assert_eq!((pass.services, usable), (20, 0));
    assert_eq!(pass.down, []);
    assert!(!writes.iter().any(|write| matches!(write, Write::Cluster(..))));
    assert_eq!(reached(memory(&tables), "10.96.0.1", 0), set(&["10.1.0.1", "10.2.0.1"]));
}
