//! A kernel that refuses to write, to delete or to wait: what it refused is done later, and nothing is used again before.

use portolan_ebpf::reconcile::Reconciler;
use portolan_ebpf::tables::Sizes;
use portolan_ebpf::wanted::Wanted;
use portolan_zones::object::Protocol::{Tcp, Udp};

use crate::common::replica::Replica;
use crate::common::*;
use crate::small::*;

/// The kernel may refuse any write of a hash map, out of memory for one: what was refused is written the next time.
#[test]
fn what_the_kernel_refuses_is_written_later() {
    let affine = |backends: &[&str]| {
        let mut wanted = plain("10.96.0.1", backends);
        wanted.fronts[0].affinity = 60;
        wanted
    };
    let refusals: [(&str, Refuses); 3] = [
        ("vips", |write| matches!(write, Write::Vip(_, Some(_)))),
        ("ports", |write| matches!(write, Write::Port(_, Some(_)))),
        ("members", |write| matches!(write, Write::Member(_, Some(_)))),
    ];
    for (what, refuses) in refusals {
        for existing in [false, true] {
            let mut all = reconciler(ROOM);
            if existing {
                apply(&mut all, "s", Some(wanted(&["10.96.0.2"], vec![front(Udp, 53, Vec::new())])));
            }
            all.tables_mut().refuses = refuses;
            apply(&mut all, "s", Some(affine(&["10.1.0.1", "10.1.0.2"])));
            assert!(refusal(&all, "s").unwrap().contains("can't be written"), "{what}");
            all.rest().unwrap();
            all.tables_mut().refuses = |_| false;
            apply(&mut all, "s", Some(affine(&["10.1.0.1", "10.1.0.2"])));
            assert_eq!(refusal(&all, "s"), None, "{what}");
            let memory = &all.tables().memory;
            assert_eq!(reached(memory, "10.96.0.1", 0), of(&["10.1.0.1", "10.1.0.2"]), "{what} {existing}");
            assert_eq!((memory.vips.len(), memory.ports.len(), memory.members.len()), (1, 1, 2), "{what}");
        }
    }
}

/// What the kernel refuses to delete still leads somewhere: its numbers are nobody else's, it is told of, and deleted when the
/// kernel lets it be.
#[test]
fn what_can_not_be_deleted_is_not_used_again() {
    let affine = |vip: &str, port: u16, at: &str| {
        let mut wanted = wanted(&[vip], vec![front(Tcp, port, spread(&[("a", &[(at, 80, 1)])]))]);
        wanted.fronts[0].affinity = 60;
        wanted
    };
    let refusals: [(&str, Refuses); 4] = [
        ("vips", |write| matches!(write, Write::Vip(_, None))),
        ("ports", |write| matches!(write, Write::Port(_, None))),
        ("members", |write| matches!(write, Write::Member(_, None))),
        ("all", |write| matches!(write, Write::Vip(_, None) | Write::Port(_, None) | Write::Member(_, None))),
    ];
    for (what, refuses) in refusals {
        let mut all = reconciler(ROOM);
        let mut replica = Replica::new(ROOM);
        // The replica fails where a number is used again that programs may still come to.
        let mut step = |all: &mut Reconciler<Recorder>, service: &str, wanted: Option<Wanted>| {
            apply(all, service, wanted);
            all.rest().unwrap();
            for write in all.tables_mut().take() {
                replica.write(&name(service), &write);
            }
        };
        step(&mut all, "old", Some(affine("10.96.0.1", 80, "10.1.0.1")));
        step(&mut all, "lives", Some(affine("10.96.0.2", 80, "10.1.0.2")));
        all.tables_mut().refuses = refuses;
        step(&mut all, "old", None);
        step(&mut all, "lives", Some(affine("10.96.0.3", 81, "10.1.0.3")));
        for i in 5..9 {
            step(
                &mut all,
                &format!("s{i}"),
                Some(affine(&format!("10.96.0.{i}"), 80, &format!("10.1.0.{i}"))),
            );
        }
        let memory = &all.tables().memory;
        for vip in ["10.96.0.1", "10.96.0.2"] {
            let ends = reached(memory, vip, 0).unwrap_or_default();
            assert!(ends.is_empty(), "{what}: {vip} leads to {ends:?}");
        }
        let stale = (memory.vips.len(), memory.ports.len(), memory.members.len());
        let expected = match what {
            "vips" => (7, 5, 5),
            "ports" => (5, 7, 5),
            "members" => (5, 5, 7),
            _ => (7, 7, 7),
        };
        assert_eq!(stale, expected, "{what}");
        let (count, why) = all.undeleted().map(|(count, why)| (count, why.to_string())).unwrap();
        assert_eq!(count, if what == "all" { 6 } else { 2 }, "{what}");
        assert!(why.contains("can't be written"), "{why}");
        assert_eq!(all.fill().vips.0, memory.vips.len() as u32, "{what}: they take room");

        // What is written over is not deleted later.
        step(&mut all, "lives", Some(affine("10.96.0.1", 80, "10.1.0.2")));
        all.tables_mut().refuses = |_| false;
        all.rest().unwrap();
        assert!(all.undeleted().is_none(), "{what}");
        let memory = &all.tables().memory;
        assert_eq!((memory.vips.len(), memory.ports.len(), memory.members.len()), (5, 5, 5), "{what}");
        assert_eq!(reached(memory, "10.96.0.1", 0), of(&["10.1.0.2"]), "{what}");
        let fill = all.fill();
        assert_eq!([fill.vips.0, fill.ports.0, fill.backends.0], [5; 3], "{what}: all numbers are back");
    }
}

/// While the kernel refuses to wait, nothing is used again; afterwards all of it is.
#[test]
fn without_a_rest_nothing_is_used_again() {
    let mut all = reconciler(Sizes { backends: 1, ..ROOM });
    apply(&mut all, "s1", Some(plain("10.96.0.1", &["10.1.0.1"])));
    apply(&mut all, "s1", None);
    all.tables_mut().refuses = |write| *write == Write::Rest;
    assert!(all.rest().is_err());
    apply(&mut all, "s2", Some(plain("10.96.0.2", &["10.1.0.2"])));
    assert!(refusal(&all, "s2").unwrap().starts_with("no room for backends: 1 of 1"));
    all.tables_mut().refuses = |_| false;
    all.rest().unwrap();
    apply(&mut all, "s2", Some(plain("10.96.0.2", &["10.1.0.2"])));
    assert_eq!(reached(&all.tables().memory, "10.96.0.2", 0), of(&["10.1.0.2"]));
}
