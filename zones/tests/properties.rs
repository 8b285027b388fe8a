//! What must hold for any clusterset: order leaves no trace, diffs lead where they say, lookups agree with the zone's text.

use std::collections::{BTreeMap, BTreeSet};

use portolan_zones::object::*;
use portolan_zones::{Change, Event, QName, Snapshot};
use proptest::prelude::*;

use crate::common::*;

const CLUSTERS: [&str; 3] = ["a", "b.reg", "c"];

/// Something that one cluster says; small numbers, so that objects meet.
fn change() -> impl Strategy<Value = Change> {
    let service_name = || prop::sample::select(vec!["s", "t"]);
    let kind =
        prop::sample::select(vec![ServiceKind::ClusterIp, ServiceKind::Headless, ServiceKind::ExternalName]);
    let host = prop::option::of(prop::sample::select(vec!["h0", "h1"]));
    let endpoints = prop::collection::vec((0..6_u8, host, any::<bool>(), any::<bool>()), 0..4);
    let apply = prop_oneof![
        (service_name(), 0..3_i64).prop_map(|(s, created)| export("n", s, created)),
        (service_name(), kind, 80..83_u16).prop_map(|(s, kind, number)| {
            service("n", s, kind, spec(&[port("http", Protocol::Tcp, number), port("", Protocol::Udp, 53)]))
        }),
        (service_name(), 0..3_i64, 0..3_u8).prop_map(|(s, created, ip)| import(
            "n",
            s,
            created,
            &[&format!("10.9.0.{ip}")]
        )),
        (service_name(), 0..3_u8, endpoints).prop_map(|(s, at, endpoints)| {
            let one = |(n, host, v6, ready): (u8, Option<&str>, bool, bool)| {
                endpoint(&if v6 { format!("fd00::{n:x}") } else { format!("10.0.0.{n}") }, host, ready)
            };
            slice("n", s, &format!("slice-{at}"), &[("http", 80)], endpoints.into_iter().map(one).collect())
        }),
        Just(Object::Namespace("n".into())),
        Just(Object::Namespace("m".into())),
    ];
    prop_oneof![4 => apply.clone().prop_map(Change::Apply), 1 => apply.prop_map(|object| Change::Delete(object.key()))]
}

/// Each cluster's own order is kept; how they interleave, and when VIPs come in between, is arbitrary.
fn streams() -> impl Strategy<Value = Vec<(usize, Change)>> {
    prop::collection::vec((0..CLUSTERS.len(), change()), 0..40)
}

fn world() -> World {
    let mut world = World::new(&["clusterset.local", "10.in-addr.arpa"], &CLUSTERS);
    world.home("a");
    for cluster in CLUSTERS {
        world.reset(cluster, vec![]);
    }
    world
}

/// The pool's part, deterministic per service.
fn give_vips(world: &mut World) {
    for _ in 0..3 {
        for demand in world.table.settle() {
            let last = demand.service.name().len() as u8;
            let ips = demand
                .families
                .iter()
                .map(|_| std::net::IpAddr::from([241, 0, demand.service.name().as_bytes()[0], last]));
            world.table.apply(Event::Vips { service: demand.service.clone(), ips: ips.collect() });
        }
    }
}

fn same(a: &Snapshot, b: &Snapshot) {
    assert_eq!(zone_text(a), zone_text(b));
    let mut differing = Vec::new();
    a.services.diff(&b.services, &mut |before, after| {
        if before != after {
            differing.push((before.cloned(), after.cloned()));
        }
    });
    assert_eq!(differing, []);
    assert_eq!((a.counts, a.complete), (b.counts, b.complete));
    for namespace in ["n", "m"] {
        let qname = QName::parse(&format!("{namespace}.svc.clusterset.local")).unwrap();
        let rtype = hickory_proto::rr::RecordType::A;
        assert_eq!(found(a, &qname, rtype), found(b, &qname, rtype));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_gives_the_same_table(events in streams(), keys in prop::collection::vec(any::<u64>(), 40), steps in 1..8_usize) {
        let mut in_order = world();
        for (cluster, change) in &events {
            in_order.say(CLUSTERS[*cluster], change.clone());
        }
        give_vips(&mut in_order);
        in_order.compile();

        // Another interleaving: clusters take turns by random keys; VIPs and compilations come in between.
        let mut queues: BTreeMap<usize, Vec<Change>> = BTreeMap::new();
        for (cluster, change) in events.iter().rev() {
            queues.entry(*cluster).or_default().push(change.clone());
        }
        let mut shuffled = world();
        for key in keys.iter().cycle().take(events.len()) {
            let alive: Vec<usize> = queues.iter().filter(|(_, queue)| !queue.is_empty()).map(|(c, _)| *c).collect();
            let cluster = alive[*key as usize % alive.len()];
            let change = queues.get_mut(&cluster).and_then(Vec::pop).unwrap();
            shuffled.say(CLUSTERS[cluster], change);
            if (*key as usize).is_multiple_of(steps) {
                give_vips(&mut shuffled);
                shuffled.compile();
            }
        }
        give_vips(&mut shuffled);
        shuffled.compile();
        same(&in_order.snapshot, &shuffled.snapshot);
    }

    #[test]
    fn a_patch_leads_from_one_snapshot_to_the_other(before in streams(), after in streams()) {
        let mut world = world();
        for (cluster, change) in before {
            world.say(CLUSTERS[cluster], change);
        }
        give_vips(&mut world);
        world.compile();
        let older = world.snapshot.clone();
        for (cluster, change) in after {
            world.say(CLUSTERS[cluster], change);
        }
        give_vips(&mut world);
        world.compile_at(NOW + 5);
        let newer = &world.snapshot;
        let patched = older.patched(&newer.diff(&older));
        same(&patched, newer);
        prop_assert_eq!((patched.serial, patched.generation), (newer.serial, newer.generation));
        prop_assert!(newer.diff(&patched).services.is_empty());
        // The serial moved exactly if the zone's text did, or namespaces came or went.
        if newer.serial == older.serial {
            prop_assert_eq!(zone_text(&older), zone_text(newer));
        }
    }

    #[test]
    fn lookups_agree_with_the_zones_text(events in streams(), extra in prop::collection::vec("[a-z0-9_-]{1,3}", 1..4)) {
        let mut world = world();
        for (cluster, change) in events {
            world.say(CLUSTERS[cluster], change);
        }
        give_vips(&mut world);
        world.compile();
        let scan = Scan::of(&world);
        let mut names: BTreeSet<String> = scan.names.clone();
        for name in &scan.names {
            names.extend(extra.iter().map(|label| format!("{label}.{name}")));
        }
        for name in &names {
            for rtype in ["A", "AAAA", "SRV", "TXT", "PTR", "NS"] {
                prop_assert_eq!(world.lookup(name, rtype), scan.answer(name, rtype), "{} {}", name, rtype);
            }
        }
    }
}

/// A naive server over the zone's text: every line is a record, every ancestor of an owner exists.
struct Scan {
    records: BTreeMap<(String, String), Vec<String>>,
    names: BTreeSet<String>,
}

impl Scan {
    fn of(world: &World) -> Self {
        let mut scan = Self { records: BTreeMap::new(), names: BTreeSet::new() };
        let mut origin = String::new();
        for line in world.text().lines() {
            if let Some(zone) = line.strip_prefix("$ORIGIN ") {
                origin = zone.trim_end_matches('.').to_owned();
                scan.exists(&origin, &origin);
                continue;
            }
            let mut fields = line.splitn(5, ' ');
            let mut next = || fields.next().unwrap();
            let (owner, _, _, rtype, value) = (next(), next(), next(), next(), next());
            let owner = if owner == "@" { origin.clone() } else { format!("{owner}.{origin}") };
            let value = if rtype == "NS" { "NS" } else { value };
            scan.exists(&owner, &origin);
            scan.records.entry((owner, rtype.to_owned())).or_default().push(value.to_owned());
        }
        // A zone's text can't show empty non-terminals without children.
        for label in ["svc", "pod"] {
            scan.exists(&format!("{label}.clusterset.local"), "clusterset.local");
        }
        for namespace in ["n", "m"] {
            if world.lookup(&format!("{namespace}.svc.clusterset.local"), "A") == "NODATA" {
                scan.exists(&format!("{namespace}.svc.clusterset.local"), "clusterset.local");
            }
        }
        scan
    }

    fn exists(&mut self, name: &str, origin: &str) {
        let mut name = name;
        self.names.insert(name.to_owned());
        while name != origin {
            name = name.split_once('.').unwrap().1;
            self.names.insert(name.to_owned());
        }
    }

    fn answer(&self, name: &str, rtype: &str) -> String {
        match self.records.get(&(name.to_owned(), rtype.to_owned())) {
            Some(values) => {
                let mut values = values.clone();
                values.sort();
                values.join(", ")
            }
            None if self.names.contains(name) => "NODATA".into(),
            None => "NXDOMAIN".into(),
        }
    }
}
