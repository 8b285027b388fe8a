//! Failures second by second, and who bears the load meanwhile: charts in `golden/`, one for each story.
//! `PORTOLAN_ACCEPT=1` takes what is drawn for what is expected.
//!
//! A column is a second, a row a cluster and node (`a1`), a sign its share of the client's draws in tenths: `#` all, `9` to
//! `1`, `+` something, `.` nothing. `none` is NXDOMAIN or NODATA, `moved` the share of clients that are sent elsewhere than
//! the second before.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::path::Path;
use std::time::Duration;

use portolan_zones::object::*;
use portolan_zones::peers::{Forced, Scope, State};
use portolan_zones::places::{Mapping, Place as Whereabouts};
use portolan_zones::policy::Level::{Cluster, Zone};
use portolan_zones::policy::Preference::Prefer;
use portolan_zones::policy::{Latency, Rules, Spill};
use portolan_zones::{Change, Event};

use crate::common::*;
use crate::site::*;

/// What becomes of nodes, `a1` or all of a cluster `a` or all there are `*`.
#[derive(Clone, Copy)]
enum What {
    /// So many per cent of their endpoints are ready.
    Ready(u8),
    /// One second up, one down, until something else is said.
    Flaps,
    /// The cluster leaves the clusterset: its export is gone.
    Leaves,
    /// It is back.
    Joins,
    /// So many per cent of the endpoints that there were at first are there, and ready.
    Exist(u8),
    /// The operator decides.
    Is(State),
    /// The operator has nothing to say any more, of anybody.
    Free,
    /// It takes so many milliseconds to get to the cluster.
    Takes(u64),
    /// Whether it can't be read: what was last known of it counts.
    Silent(bool),
    /// What health checks find of it.
    Checked(bool),
}

use What::{Checked, Exist, Flaps, Free, Is, Joins, Leaves, Ready, Silent, Takes};

type Story = [(u32, &'static str, What)];

struct Stage {
    name: &'static str,
    sites: Vec<Site>,
    spec: ServiceSpec,
    rules: Rules,
    seconds: u32,
    story: &'static Story,
}

const CLIENTS: u32 = 1_000;

/// Clients at one place: 198.18.0.0/16 is where node `a1` is.
fn address(client: u32) -> String {
    Ipv4Addr::from(0xc612_0000 + client).to_string()
}

impl Stage {
    fn new(name: &'static str, rules: Rules, seconds: u32, story: &'static Story) -> Self {
        let sites = vec![
            site("a").node("n1", "z1", 10, 10).node("n2", "z2", 10, 10),
            site("b").node("n1", "z3", 10, 10),
            site("c").node("n1", "z4", 10, 10),
        ];
        Self { name, sites, spec: http(), rules, seconds, story }
    }

    fn chart(&self) -> String {
        let kind = ServiceKind::ClusterIp;
        let mut world = world_of(&self.sites, kind, &self.spec, Some(self.rules.clone()));
        let az = Some("z1".into());
        let place = Whereabouts { cluster: Some(cluster("a")), az, ..Whereabouts::default() };
        let network = ("198.18.0.0".parse().unwrap(), 16);
        world.table.apply(Event::Map([Mapping { network: Some(network), place }].into()));
        let mut flapping: BTreeSet<&str> = BTreeSet::new();
        let mut seconds: Vec<Vec<String>> = Vec::new();
        let checks = world.table.take_checks().unwrap_or_default();
        let (mut forced, mut trips) = (Vec::new(), BTreeMap::new());
        for second in 0..self.seconds {
            for (_, whom, what) in self.story.iter().filter(|(at, ..)| *at == second) {
                flapping.remove(whom);
                match what {
                    Ready(percent) => self.set_ready(&mut world, whom, *percent),
                    Flaps => _ = flapping.insert(whom),
                    Leaves => _ = world.say(whom, Change::Delete(ObjectKey::Export(name("n", "s")))),
                    Joins => _ = world.apply(whom, export("n", "s", 9)),
                    Exist(percent) => self.set_existing(&mut world, whom, *percent),
                    Is(state) => {
                        forced.push(Forced { cluster: cluster(whom), of: Scope::All, state: *state });
                        world.table.apply(Event::Force(forced.clone().into()));
                    }
                    Free => {
                        forced.clear();
                        world.table.apply(Event::Force(Box::default()));
                    }
                    Silent(stale) => {
                        world.table.apply(Event::Stale { cluster: cluster(whom), stale: *stale });
                    }
                    Checked(healthy) => {
                        let own = checks.iter().filter(|check| check.cluster == cluster(whom));
                        let verdicts = own.map(|check| (check.clone(), *healthy)).collect();
                        world.table.apply(Event::Checked(verdicts));
                    }
                    Takes(time) => {
                        trips.insert(cluster(whom), Duration::from_millis(*time));
                        world.table.apply(Event::RoundTrips(trips.clone()));
                    }
                }
            }
            for whom in &flapping {
                self.set_ready(&mut world, whom, if second % 2 == 0 { 0 } else { 100 });
            }
            world.compile_at(NOW + i64::from(second));
            seconds.push((0..CLIENTS).map(|client| target(&world, client)).collect());
        }
        self.draw(&seconds)
    }

    fn set_existing(&self, world: &mut World, whom: &str, percent: u8) {
        let concerned = |site: &&Site| whom == "*" || whom.starts_with(site.id);
        for site in self.sites.iter().filter(concerned) {
            let Object::Slice(mut slice) = site.slice("s") else { unreachable!() };
            let stays = |endpoint: &Endpoint| match endpoint.address {
                std::net::IpAddr::V4(at) if whom == "*" || whom == site.id || whom == spot(at) => {
                    u16::from(at.octets()[3]) * 10 <= percent.into()
                }
                _ => true,
            };
            slice.endpoints = slice.endpoints.into_iter().filter(stays).collect();
            world.apply(site.id, Object::Slice(slice));
        }
    }

    fn set_ready(&self, world: &mut World, whom: &str, percent: u8) {
        for site in self.sites.iter().filter(|site| whom == "*" || whom.starts_with(site.id)) {
            let Object::Slice(mut slice) = world_slice(world, site) else { unreachable!() };
            for endpoint in &mut slice.endpoints {
                let std::net::IpAddr::V4(address) = endpoint.address else { continue };
                if whom == "*" || whom == site.id || whom == spot(address) {
                    let ready = u16::from(address.octets()[3]) * 10 <= percent.into();
                    endpoint.conditions = Conditions { ready, serving: ready, terminating: false };
                }
            }
            world.apply(site.id, Object::Slice(slice));
        }
    }

    fn draw(&self, seconds: &[Vec<String>]) -> String {
        let nodes =
            self.sites.iter().flat_map(|site| (1..=site.nodes.len()).map(move |n| format!("{}{n}", site.id)));
        let rows: Vec<String> = nodes.chain(["none".to_owned()]).collect();
        let mut chart = format!("{}\n\n", self.name);
        for (second, whom, what) in self.story {
            let what = match what {
                Ready(percent) => format!("{percent} % ready"),
                Flaps => "flaps".to_owned(),
                Leaves => "leaves".to_owned(),
                Joins => "joins".to_owned(),
                Exist(percent) => format!("{percent} % are there"),
                Is(state) => format!("is told to be {}", state.as_str()),
                Free => "what was told is taken back".to_owned(),
                Takes(time) => format!("is {time} ms away"),
                Silent(stale) => if *stale { "can't be read" } else { "can be read again" }.to_owned(),
                Checked(healthy) => {
                    if *healthy { "passes its checks" } else { "fails its checks" }.to_owned()
                }
            };
            let _ = writeln!(chart, "{second:>5} s  {whom:<2} {what}");
        }
        let ruler: String = (0..self.seconds).map(|s| if s.is_multiple_of(5) { '|' } else { ' ' }).collect();
        let _ = writeln!(chart, "\n       {}", ruler.trim_end());
        let sign = |count: usize| match (count * 10 + CLIENTS as usize / 2) / CLIENTS as usize {
            _ if count == CLIENTS as usize => '#',
            _ if count == 0 => '.',
            0 => '+',
            tenths => char::from(b'0' + tenths.min(9) as u8),
        };
        for row in rows {
            let line = seconds.iter().map(|second| sign(second.iter().filter(|at| **at == row).count()));
            let _ = writeln!(chart, "{row:<6} {}", line.collect::<String>());
        }
        let moved = |pair: &[Vec<String>]| pair[0].iter().zip(&pair[1]).filter(|(a, b)| a != b).count();
        let line: String = seconds.windows(2).map(|pair| sign(moved(pair))).collect();
        let _ = writeln!(chart, "{:<6} .{line}", "moved");
        chart
    }
}

/// Where a client is sent to.
fn target(world: &World, client: u32) -> String {
    if world.lookup(NAME, "A") == "NXDOMAIN" {
        return "none".into();
    }
    ask(world, &address(client), client).first().map_or("none".to_owned(), |first| spot(*first))
}

/// What the cluster last said.
fn world_slice(world: &World, site: &Site) -> Object {
    let service = world.snapshot.services.get(b"\x01s\x01n");
    let members = service.iter().flat_map(|service| &service.members);
    let slice = members.filter(|member| member.cluster == cluster(site.id)).flat_map(|m| &m.slices).next();
    slice.map_or_else(|| site.slice("s"), |slice| Object::Slice((**slice).clone()))
}

fn stages() -> Vec<Stage> {
    let zonal = || by(&[Zone, Cluster], Prefer);
    let turns = || Rules { failover: ["a", "b", "c"].map(cluster).into(), ..rules() };
    let sticky = |rules: Rules| Rules { sticky: true, ..rules };
    let outage: &Story = &[
        (3, "a1", Ready(70)),
        (6, "a1", Ready(40)),
        (9, "a1", Ready(0)),
        (13, "a2", Ready(50)),
        (16, "a2", Ready(0)),
        (20, "b", Ready(20)),
        (23, "c", Ready(20)),
        (27, "*", Ready(0)),
        (31, "b", Ready(100)),
        (34, "a", Ready(100)),
        (37, "c", Ready(100)),
    ];
    let flapping: &Story = &[(3, "a", Flaps), (13, "a", Ready(100)), (16, "a", Leaves), (20, "a", Joins)];
    let weighing: &Story = &[
        (3, "a", Ready(50)),
        (6, "a", Ready(0)),
        (10, "a", Ready(100)),
        (13, "b", Leaves),
        (17, "b", Joins),
        (20, "a", Leaves),
        (22, "b", Leaves),
        (25, "*", Ready(0)),
        (28, "*", Ready(100)),
    ];
    let vanishing: &Story = &[
        (3, "a1", Exist(50)),
        (12, "a1", Exist(0)),
        (20, "a1", Exist(100)),
        (28, "a", Exist(0)),
        (36, "a", Exist(100)),
    ];
    let recovering: &Story = &[
        (3, "a1", Ready(0)),
        (6, "a1", Ready(100)),
        (20, "c", Exist(0)),
        (23, "c", Exist(100)),
        (38, "*", Ready(0)),
        (40, "*", Ready(100)),
    ];
    let deciding: &Story = &[
        (3, "a", Is(State::Drain)),
        (7, "*", Free),
        (10, "b", Is(State::Down)),
        (13, "c", Is(State::Drain)),
        (16, "a", Ready(0)),
        (19, "b", Is(State::Up)),
        (22, "*", Free),
    ];
    let moving: &Story = &[
        (2, "b", Takes(20)),
        (2, "c", Takes(25)),
        (5, "a", Ready(0)),
        // Farther than the margin, but not for as long as it must be.
        (8, "b", Takes(80)),
        (12, "b", Takes(22)),
        (16, "b", Takes(80)),
        (30, "c", Takes(200)),
        (44, "a", Ready(100)),
    ];
    let parting: &Story = &[
        // Nothing is lost because an API server is: its endpoints may be as well as ever.
        (3, "a", Silent(true)),
        (8, "b", Silent(true)),
        (12, "a", Checked(false)),
        (16, "b", Checked(false)),
        (20, "c", Checked(false)),
        (24, "b", Checked(true)),
        (26, "b", Silent(false)),
        (28, "a", Checked(true)),
        (30, "a", Silent(false)),
        (32, "c", Checked(true)),
    ];
    let checked = Rules { health_check: Some(tcp_check()), ..zonal() };
    let latency = Latency { margin: Duration::from_millis(10), hold_down: 6 };
    let slow = Rules { slow_start: NonZeroU16::new(10), ..rules() };
    let same_zone = ServiceSpec { traffic_distribution: Some("PreferSameZone".into()), ..http() };
    vec![
        Stage::new("zone, then cluster, then all: graded spill", zonal(), 42, outage),
        Stage::new("the same with a cliff", Rules { spill: Spill::Cliff, ..zonal() }, 42, outage),
        Stage { spec: same_zone, ..Stage::new("trafficDistribution PreferSameZone", rules(), 42, outage) },
        Stage::new("failover a, b, c through an outage", turns(), 42, outage),
        Stage::new("failover a, b, c while a flaps", turns(), 25, flapping),
        Stage::new("weights 60, 30, 10", weighted(&[("a", 60), ("b", 30), ("c", 10)]), 32, weighing),
        Stage::new(
            "weights 60, 30, 10, sticky",
            sticky(weighted(&[("a", 60), ("b", 30), ("c", 10)])),
            32,
            weighing,
        ),
        Stage::new(
            "weights 60, 30 and a last resort",
            weighted(&[("a", 60), ("b", 30), ("c", 0)]),
            32,
            weighing,
        ),
        Stage::new("sticky clients through graded spill", sticky(zonal()), 42, outage),
        Stage::new("endpoints that are gone", zonal(), 42, vanishing),
        Stage::new("slow start of ten seconds", slow.clone(), 55, recovering),
        Stage::new("slow start, sticky", sticky(slow), 55, recovering),
        Stage::new("a partition, and health checks", checked, 36, parting),
        Stage::new("forced states", rules(), 26, deciding),
        Stage::new("by latency", Rules { latency: Some(latency), ..rules() }, 50, moving),
    ]
}

#[test]
fn stories_are_as_charted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy/golden");
    let mut expected = BTreeSet::new();
    let mut differing = BTreeMap::new();
    for stage in stages() {
        let file = format!("{}.txt", stage.name.replace([',', ':'], "").replace(' ', "-"));
        let (path, drawn) = (folder.join(&file), stage.chart());
        if std::env::var_os("PORTOLAN_ACCEPT").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &drawn).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        if golden != drawn {
            differing.insert(file.clone(), format!("expected:\n{golden}\ndrawn:\n{drawn}"));
        }
        expected.insert(file);
    }
    let all: Vec<String> = differing.into_values().collect();
    assert!(
        all.is_empty(),
        "{}\nPORTOLAN_ACCEPT=1 cargo test -p portolan-zones --test policy",
        all.join("\n")
    );
    let there = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap());
    assert_eq!(there.collect::<BTreeSet<_>>(), expected, "no story is left over");
}
