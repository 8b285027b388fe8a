//! Which addresses are redirected at all.

use std::collections::BTreeSet;
use std::net::IpAddr;

use portolan_ebpf::follow::{Follower, Scope};
use portolan_ebpf::tables::Sizes;
use portolan_zones::object::Protocol::Tcp;

use crate::common::world::World;
use crate::common::*;
use crate::site::*;

#[test]
fn only_addresses_in_scope_are_redirected() {
    for (skip, only, expected) in [
        (&[][..], None, &["10.96.0.1", "10.97.0.1", "fd96::1"][..]),
        (&["10.96.0.0/16"], None, &["10.97.0.1", "fd96::1"]),
        (&[], Some(&["10.96.0.0/15"][..]), &["10.96.0.1", "10.97.0.1"]),
        (&["10.97.0.1/32"], Some(&["10.96.0.0/15"]), &["10.96.0.1"]),
        (&["::/0", "0.0.0.0/0"], None, &[]),
        (&[], Some(&[]), &[]),
    ] {
        let networks = |of: &[&str]| of.iter().map(|network| network.parse().unwrap()).collect::<Vec<_>>();
        let scope = Scope { skip: networks(skip), only: only.map(networks) };
        let mut world = World::new(&["a"]);
        world
            .export("a", "s")
            .endpoints("a", "s", "v4", &[("10.1.1.1", "n1")])
            .vips("s", &["10.96.0.1", "fd96::1"]);
        world.export("a", "t").endpoints("a", "t", "v4", &[("10.1.1.2", "n1")]).vips("t", &["10.97.0.1"]);
        let mut tables = Follower::new(Recorder::new(Sizes::of(8, 8, 8)), scope, None);
        follow(&mut tables, &world.compile());
        let vips = memory(&tables).vips.keys().map(|key| IpAddr::from(key.address).to_string());
        assert_eq!(vips.collect::<BTreeSet<_>>(), set(expected), "skip {skip:?}, only {only:?}");
    }
}

/// Who comes beside the agent, or goes, changes what it redirects: services that it leaves to others, or takes, are written at once,
/// no other is touched, and nobody's sockets are closed for it.
#[test]
fn other_addresses_are_redirected_when_the_scope_changes() {
    let mut world = World::new(&["a"]);
    for (service, at, vips) in [
        ("s", "10.1.1.1", &["10.96.0.1", "fd96::1"][..]),
        ("t", "10.1.1.2", &["10.97.0.1"]),
        ("u", "10.1.1.3", &["241.0.0.1"]),
    ] {
        world.export("a", service).endpoints("a", service, "v4", &[(at, "n1")]).vips(service, vips);
    }
    let mut tables = small();
    follow(&mut tables, &world.compile());
    for (only, expected) in [
        (Some(&["241.0.0.0/8"][..]), &["241.0.0.1"][..]),
        (None, &["10.96.0.1", "10.97.0.1", "241.0.0.1", "fd96::1"]),
        (Some(&["241.0.0.0/8", "10.96.0.0/16"]), &["10.96.0.1", "241.0.0.1"]),
    ] {
        let only = only.map(|of| of.iter().map(|network| network.parse().unwrap()).collect());
        tables.reconciler_mut().tables_mut().take();
        let (pass, rested) = tables.rescope(Scope { skip: Vec::new(), only });
        rested.unwrap();
        let lost: Vec<_> = pass.lost.iter().map(|lost| lost.backend).collect();
        assert_eq!((pass.services, lost), (3, Vec::new()), "{expected:?}");
        let vips: BTreeSet<_> = tables.reconciler().vips().map(|(vip, _)| vip.to_string()).collect();
        assert_eq!(vips, set(expected));
        let untouched = front_of(memory(&tables), "241.0.0.1", Tcp, 80).unwrap();
        assert!(!rewritten(&tables.reconciler_mut().tables_mut().take()).contains(&untouched));
    }
}

/// Addresses that every host has for itself are left alone, whatever an import says: programs that talk to their own host would
/// end elsewhere.
#[test]
fn what_every_host_has_is_no_virtual_ip() {
    let special = [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
    ];
    for vip in special {
        let mut world = World::new(&["a"]);
        world.export("a", "s").endpoints("a", "s", "v4", &[("10.1.1.1", "n1")]);
        world.vips("s", &[vip, "10.96.0.1"]);
        let mut tables = small();
        follow(&mut tables, &world.compile());
        let vips: Vec<_> = tables.reconciler().vips().map(|(vip, _)| vip.to_string()).collect();
        assert_eq!(vips, ["10.96.0.1"], "{vip}");
    }
}
