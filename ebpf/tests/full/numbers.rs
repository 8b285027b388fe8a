//! Numbers do not run out: those of clusters, and of the backends of one port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use portolan_ebpf::abi::Address;
use portolan_ebpf::tables::Sizes;
use portolan_zones::object::Protocol::Tcp;

use crate::common::*;
use crate::small::*;

/// A clusterset whose clusters come and go does not run out of their numbers; one that is taken over tells nothing of its former
/// cluster, which may have been down.
#[test]
fn clusters_come_and_go() {
    const CLUSTERS: u32 = 4;
    let mut all = reconciler(Sizes { clusters: CLUSTERS, ..ROOM });
    let with = |ids: &[&str]| {
        let backends: Vec<String> = ids.iter().map(|id| format!("10.{}.0.1", &id[1..])).collect();
        let shares: Vec<[(&str, u16, u32); 1]> = backends.iter().map(|at| [(at.as_str(), 80, 1)]).collect();
        let shares: Vec<_> = ids.iter().zip(&shares).map(|(id, backends)| (*id, &backends[..])).collect();
        wanted(&["10.96.0.1"], vec![front(Tcp, 80, spread(&shares))])
    };
    apply(&mut all, "stays", Some(in_cluster("10.96.0.9", "stays", "10.200.0.1")));
    for year in 0..100_u32 {
        let ids: Vec<String> = (0..=year % 2).map(|of| format!("c{}", year * 2 % 250 + of)).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let wanted = with(&ids);
        apply(&mut all, "s", Some(wanted.clone()));
        all.rest().unwrap();
        assert_eq!(refusal(&all, "s"), None, "{year}");
        let backends: Vec<String> = ids.iter().map(|id| format!("10.{}.0.1", &id[1..])).collect();
        let backends: Vec<&str> = backends.iter().map(String::as_str).collect();
        let memory = &all.tables().memory;
        assert_eq!(reached(memory, "10.96.0.1", 0), of(&backends), "{year}");
        assert_eq!(reached(memory, "10.96.0.9", 0), of(&["10.200.0.1"]));
        let numbers: BTreeSet<u32> = memory
            .fronts
            .keys()
            .flat_map(|front| Spreading::at(memory, *front, 0).clusters.into_keys())
            .collect();
        assert!(
            numbers.iter().all(|number| *number < CLUSTERS && !memory.down.contains_key(number)),
            "{year}"
        );
        assert_eq!(all.fill().clusters, (1 + ids.len() as u32, CLUSTERS), "those with backends");
        let names =
            all.counted().flat_map(|counted| counted.backends.into_iter().map(|(id, ..)| id.to_string()));
        let names: BTreeSet<String> = names.collect();
        assert_eq!(names.len(), 1 + ids.len(), "{names:?}");
        assert!(ids.iter().all(|id| names.contains(*id)), "{names:?}");
        for id in ids {
            all.mark(&cluster(id), year % 3 == 0);
            all.mark(&cluster("stays"), false);
        }
    }
    // As many as there can be at a time, and one more.
    apply(&mut all, "s", Some(with(&["c1", "c2", "c3", "c4"])));
    assert!(refusal(&all, "s").unwrap().starts_with("no room for clusters: services have backends in"));
    apply(&mut all, "s", None);
    all.rest().unwrap();
    apply(&mut all, "s", Some(with(&["c1", "c2", "c3"])));
    assert_eq!(refusal(&all, "s"), None);
}

/// As many as positions of 16 bits can tell apart, and one less.
#[test]
fn sixty_five_thousand_backends_of_one_port() {
    for count in [65_535_u32, 65_536] {
        let backends = (0..count)
            .map(|at| (Address::from(IpAddr::from((0x0a00_0000 + at).to_be_bytes())), 80, 1 + at % 3));
        let mut spread = spread(&[("a", &[])]);
        spread[0].backends = backends.collect();
        spread[0].part = 1_000_000;
        let mut all = reconciler(Sizes::of(1, 1, count));
        apply(&mut all, "s", Some(wanted(&["10.96.0.1"], vec![front(Tcp, 80, spread.clone())])));
        assert_eq!(refusal(&all, "s"), None);
        let memory = &all.tables().memory;
        let shares = Spreading::at(memory, 0, 0).shares;
        assert_eq!(shares.len() as u32, count);
        let whole: u32 = spread[0].backends.iter().map(|(.., part)| part).sum();
        let parts: BTreeMap<_, u32> = spread[0].backends.iter().map(|(at, _, part)| (*at, *part)).collect();
        for (number, share) in shares {
            let part = f64::from(parts[&memory.backends[&number].address]) / f64::from(whole);
            assert!((share - part).abs() < 1.0 / 65_536.0, "{number}: {share}, not {part}");
        }
    }
}
