//! Pictures of the shares of all clients: what is drawn is what is explained, and no more than people read.

use std::sync::Arc;

use portolan_zones::QName;
use portolan_zones::object::*;
use portolan_zones::peers::State;
use portolan_zones::policy::explain::*;
use portolan_zones::policy::{Level, Preference};

use crate::common::*;
use crate::explain::{CLIENT, explained, inquiry, suppose, three};
use crate::site::*;

pub fn drawn(world: &World, supposed: &Supposed) -> Picture {
    world.snapshot.picture(&QName::parse(NAME).unwrap(), &inquiry(CLIENT, "", supposed)).unwrap()
}

pub fn table(picture: &Picture) -> Vec<String> {
    picture.rows.iter().map(|row| format!("{} {}", row.bar(), row.place())).collect()
}

/// A row is what a client there is explained to get, and the last one what all others do.
#[test]
fn everywhere_is_every_place() {
    let sites = [
        site("a").region("eu").node("n1", "z1", 2, 2).node("n2", "z2", 2, 2),
        site("b").region("eu").node("n1", "z2", 2, 2),
        site("c").region("us").node("n1", "z3", 4, 4),
    ];
    let world = world(&sites, by(&[Level::Zone, Level::Region], Preference::Prefer));
    let picture = drawn(&world, &Supposed::default());
    assert_eq!(picture.clusters, ["a", "b", "c"].map(cluster));
    assert_eq!(
        table(&picture),
        [
            "AAAAAAAAAA cluster a, region eu, zone z1",
            "AAAAABBBBB cluster a, region eu, zone z2",
            "AAAAABBBBB cluster b, region eu, zone z2",
            "CCCCCCCCCC cluster c, region us, zone z3",
            "AAAABBCCCC anywhere else",
        ]
    );
    let clients = ["10.1.1.9", "10.1.2.9", "10.2.1.9", "10.3.1.9", "192.0.2.1"];
    for supposed in ["", "c=down", "a=drain", "b=5"].map(suppose) {
        let picture = drawn(&world, &supposed);
        for (client, row) in clients.into_iter().zip(&picture.rows) {
            let told = explained(&world, &inquiry(client, "", &supposed));
            let part = |id: &portolan_zones::ClusterId| {
                told.portions.iter().filter(|portion| portion.cluster == *id).map(|p| p.part).sum::<u32>()
            };
            let parts: Vec<u32> = picture.clusters.iter().map(part).collect();
            assert_eq!(row.parts, parts, "{client} {supposed:?}");
        }
    }
}

/// Clients of clusters that are neither home nor behind a service don't come here.
#[test]
fn other_clusters_clients_are_left_out() {
    let mut world = world(&three()[..2], by(&[Level::Zone], Preference::Prefer));
    world.reset("x", site("x").node("n1", "z1", 0, 0).node_objects().collect());
    world.compile();
    let rows = table(&drawn(&world, &Supposed::default()));
    assert_eq!(rows.len(), 3, "{rows:?}");
    assert!(!rows.iter().any(|row| row.contains("cluster x")), "{rows:?}");
}

/// So many clusters, each with a zone and an endpoint of its own.
fn many(count: u8) -> World {
    let ids: Vec<String> = (0..count).map(|at| format!("c{at:02}")).collect();
    let names: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut world = World::new(&["clusterset.local"], &names);
    world.home(names[0]);
    for (at, id) in (0..).zip(&names) {
        let az: Arc<str> = format!("z{at:02}").into();
        let place = Place { node: Some("n".into()), az: Some(az.clone()) };
        let node = Node {
            name: "n".into(),
            az: Some(az),
            region: None,
            pod_cidrs: [([10, at, 0, 0].into(), 24)].into(),
            addresses: Box::default(),
            ready: true,
            entrances: Box::default(),
        };
        let one = Endpoint { place: Some(place.into()), ..endpoint(&format!("10.{at}.0.1"), None, true) };
        world.reset(
            id,
            vec![
                export("n", "s", at.into()),
                service("n", "s", ServiceKind::ClusterIp, http()),
                Object::Node(node),
                slice("n", "s", &format!("s-{id}"), &[("http", 8080)], vec![one]),
            ],
        );
    }
    world.apply(names[0], policy("p", 1, imports(&["s"]), by(&[Level::Zone], Preference::Prefer)));
    world.compile();
    world
}

/// Nobody reads more than fifty rows: how many are left out is told, and anywhere else is always there.
#[test]
fn pictures_are_bounded() {
    let picture = drawn(&many(60), &Supposed::default());
    assert_eq!((picture.rows.len(), picture.more, picture.clusters.len()), (50, 11, 60));
    assert_eq!(picture.rows[49].place(), "anywhere else");
    assert_eq!(picture.rows[0].bar(), "AAAAAAAAAA");
    let few = drawn(&many(10), &Supposed::default());
    assert_eq!((few.rows.len(), few.more), (11, 0));
}

/// Where there are many places those that get the same are one row.
#[test]
fn equal_rows_are_one_where_there_are_many() {
    // Half of the clusters are down: the clients of their zones get what is left, as those do who are nowhere.
    let down = (15..30).map(|at| (cluster(&format!("c{at}")), State::Down)).collect();
    let picture = drawn(&many(30), &Supposed { states: down, ..Supposed::default() });
    let rows = table(&picture);
    assert_eq!((rows.len(), picture.more), (17, 0), "{rows:#?}");
    assert!(rows[15].ends_with("cluster c15, zone z15, and 14 more"), "{rows:#?}");
    assert!(rows[16].ends_with("anywhere else"), "{rows:#?}");
}

/// Ten signs, to the tenth that is closest.
#[test]
fn bars_are_rounded() {
    for (parts, expected) in [
        (&[1_000_000][..], "AAAAAAAAAA"),
        (&[600_000, 300_000, 100_000], "AAAAAABBBC"),
        (&[990_000, 10_000], "AAAAAAAAAA"),
        (&[940_000, 60_000], "AAAAAAAAAB"),
        (&[0, 0], ".........."),
        (&[], ".........."),
    ] {
        assert_eq!(Row { places: Vec::new(), parts: parts.into() }.bar(), expected, "{parts:?}");
    }
}
