//! Addresses that move, and what finds no room.

use std::net::IpAddr;

use portolan_ebpf::tables::{Memory, Sizes};
use portolan_zones::object::Protocol::Tcp;
use portolan_zones::object::{Conditions, Endpoint};

use crate::common::world::World;
use crate::common::*;
use crate::site::*;

/// An address that goes from one service to another in a pass, or two that change places, lead to one of the two after each single
/// write, whichever goes first: connections made meanwhile don't fail.
#[test]
fn an_address_that_moves_is_never_nobodys() {
    for (why, from, to) in [
        ("s2 comes, s1 goes", &[("s1", "10.96.0.1")][..], &[("s2", "10.96.0.1")][..]),
        ("s1 comes, s2 goes", &[("s2", "10.96.0.1")], &[("s1", "10.96.0.1")]),
        ("to s2, which is there", &[("s1", "10.96.0.1"), ("s2", "10.96.0.2")], &[("s2", "10.96.0.1")]),
        ("from s1, which stays", &[("s1", "10.96.0.1")], &[("s1", "10.96.0.2"), ("s2", "10.96.0.1")]),
        ("from s2, which stays", &[("s2", "10.96.0.1")], &[("s2", "10.96.0.2"), ("s1", "10.96.0.1")]),
        (
            "they change places",
            &[("s1", "10.96.0.1"), ("s2", "10.96.0.2")],
            &[("s1", "10.96.0.2"), ("s2", "10.96.0.1")],
        ),
        (
            "three in a circle",
            &[("s1", "10.96.0.1"), ("s2", "10.96.0.2"), ("s3", "10.96.0.3")],
            &[("s1", "10.96.0.2"), ("s2", "10.96.0.3"), ("s3", "10.96.0.1")],
        ),
    ] {
        let mut world = World::new(&["a"]);
        let say = |world: &mut World, services: &[(&str, &str)]| {
            // An address is one service's at a time.
            for service in ["s1", "s2", "s3"] {
                world.vips(service, &[]);
            }
            for service in ["s1", "s2", "s3"] {
                match services.iter().find(|(its, _)| *its == service) {
                    Some((_, vip)) => {
                        world.export("a", service).vips(service, &[vip]);
                        let at = format!("10.1.1.{}", &service[1..]);
                        world.endpoints("a", service, "v4", &[(&at, "n1")]);
                    }
                    None => drop(world.withdraw("a", service)),
                }
            }
            world.compile()
        };
        // No room to spare: what goes makes it.
        let mut tables = follower(Sizes { vips: 3, ..Sizes::of(6, 12, 12) });
        let (_, writes) = follow(&mut tables, &say(&mut world, from));
        let mut memory = Memory::new(Sizes::of(6, 12, 12));
        writes.iter().for_each(|write| write.perform(&mut memory));
        let (_, writes) = follow(&mut tables, &say(&mut world, to));
        let both = |(_, vip): &&(&str, &str)| from.iter().any(|(_, before)| before == vip);
        for write in &writes {
            write.perform(&mut memory);
            for (_, vip) in to.iter().filter(both) {
                let end = memory.walk((address(vip), port_key(Tcp, 80)), 0, 7);
                assert!(matches!(end, Ok(Some(_))), "{why}: {vip} leads to {end:?} after {write:?}");
            }
        }
        for (service, vip) in to {
            let at = format!("10.1.1.{}", &service[1..]);
            assert_eq!(reached(&memory, vip, 0), set(&[&at]), "{why}: {vip}");
        }
        assert_eq!(memory.vips.len(), to.len(), "{why}: what nobody took over is nobody's");
        assert!(tables.reconciler().refused().is_empty(), "{why}");
    }
}

/// What found no room is written as soon as there is some, in the same pass if it is that which makes it.
#[test]
fn what_was_refused_is_written_when_there_is_room() {
    let mut world = World::new(&["a"]);
    for i in 1..=3 {
        let service = format!("s{i}");
        world.export("a", &service).endpoints("a", &service, "v4", &[(&format!("10.1.1.{i}"), "n1")]);
        world.vips(&service, &[&format!("10.96.0.{i}")]);
    }
    let mut tables = follower(Sizes { vips: 2, ..Sizes::of(8, 8, 8) });
    follow(&mut tables, &world.compile());
    assert_eq!(tables.reconciler().refused().keys().collect::<Vec<_>>(), [&name("s3")]);
    // Nothing changes: it is still told.
    follow(&mut tables, &world.compile());
    assert_eq!(tables.reconciler().refused().len(), 1);

    world.withdraw("a", "s1");
    follow(&mut tables, &world.compile());
    assert!(tables.reconciler().refused().is_empty());
    assert_eq!(reached(memory(&tables), "10.96.0.3", 0), set(&["10.1.1.3"]));
    assert_eq!(front_of(memory(&tables), "10.96.0.1", Tcp, 80), None);
}

/// A port has 65,536 backends in a cluster at most, and 256 clusters. What is left out is told as long as it is.
#[test]
fn more_backends_than_a_port_can_have() {
    let mut world = World::new(&["a"]);
    world.export("a", "s").vips("s", &["10.96.0.1"]);
    let endpoint = |i: u32| Endpoint {
        address: IpAddr::from((0x0a01_0000 + i).to_be_bytes()),
        conditions: Conditions::READY,
        identity: i,
        hostname: None,
        place: None,
    };
    world.slice("a", "s", "v4", (0..70_000).map(endpoint).collect());
    let mut tables = follower(Sizes::of(1, 2, 140_000));
    follow(&mut tables, &world.compile());
    let told = "8928 backends are left out: a port has at most 256 clusters, and 65536 backends in each";
    for _ in 0..2 {
        let refused = tables.reconciler().refused().get(&name("s")).map(ToString::to_string);
        assert_eq!(refused.as_deref(), Some(told), "of two ports 4,464 each");
        follow(&mut tables, &world.compile());
    }
    assert_eq!(reached(memory(&tables), "10.96.0.1", 0).len(), 65_536);
}

#[test]
fn more_clusters_than_a_port_can_have() {
    for (count, told) in [
        (256, None),
        (257, Some("2 backends are left out: a port has at most 256 clusters, and 65536 backends in each")),
    ] {
        let ids: Vec<String> =
            std::iter::once("a".to_owned()).chain((1..count).map(|i| format!("c{i}"))).collect();
        let mut world = World::new(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        for (i, id) in ids.iter().enumerate() {
            world.export(id, "s").endpoints(id, "s", id, &[(&format!("10.1.{}.{}", i / 256, i % 256), "n1")]);
        }
        world.vips("s", &["10.96.0.1"]);
        let mut tables = follower(Sizes::of(1, 2, 1000));
        follow(&mut tables, &world.compile());
        let refused = tables.reconciler().refused().get(&name("s")).map(ToString::to_string);
        assert_eq!(refused.as_deref(), told, "of {count} clusters, for two ports");
        let shares = shares(memory(&tables), "10.96.0.1", 0);
        assert_eq!(shares.len(), 256);
        assert!((shares.values().sum::<f64>() - 1.0).abs() < 1e-9);
    }
}
