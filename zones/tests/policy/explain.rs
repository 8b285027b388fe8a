//! Explanations: that they tell what clients get, what would be if, and how old it is what they are built on.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use portolan_zones::object::*;
use portolan_zones::peers::{Forced, Scope, State};
use portolan_zones::places::{self, Mapping};
use portolan_zones::policy::explain::*;
use portolan_zones::policy::health::Check;
use portolan_zones::policy::{Configured, Form, Latency, Level, Preference, Rules};
use portolan_zones::{Client, Event, Name, QName};

use crate::common::*;
use crate::picture::{drawn, table};
use crate::site::*;

pub const CLIENT: &str = "10.1.1.200";

pub fn inquiry<'a>(client: &str, rtype: &str, supposed: &'a Supposed) -> Inquiry<'a> {
    Inquiry {
        client: Client { address: Some(client.parse().unwrap()), ..Client::default() },
        rtype: rtype.parse().ok(),
        supposed,
        witness: None,
        now: NOW,
    }
}

pub fn explained(world: &World, inquiry: &Inquiry<'_>) -> Explanation {
    world.snapshot.explain(&QName::parse(NAME).unwrap(), inquiry).unwrap()
}

/// Cluster and per cent, over all tiers.
fn shares(explained: &Explanation) -> BTreeMap<String, u32> {
    let mut shares = BTreeMap::new();
    for portion in &explained.portions {
        *shares.entry(portion.cluster.to_string()).or_insert(0) += portion.part;
    }
    shares.into_iter().map(|(cluster, part)| (cluster, (part + 5000) / 10_000)).collect()
}

fn as_text(shares: &BTreeMap<String, u32>) -> String {
    shares.iter().map(|(cluster, percent)| format!("{cluster} {percent}")).collect::<Vec<_>>().join(", ")
}

fn stage<'e>(explained: &'e Explanation, name: &str) -> &'e [String] {
    &explained.stages.iter().find(|stage| stage.name == name).unwrap().lines
}

/// `a=down b=drain c=up d=3`.
pub fn suppose(text: &str) -> Supposed {
    let mut supposed = Supposed::default();
    for (id, what) in text.split_whitespace().map(|word| word.split_once('=').unwrap()) {
        match what.parse() {
            Ok(state) => drop(supposed.states.insert(cluster(id), state)),
            Err(_) => drop(supposed.weights.insert(cluster(id), what.parse().unwrap())),
        }
    }
    supposed
}

pub fn three() -> [Site; 3] {
    [site("a").node("n1", "z1", 2, 2), site("b").node("n1", "z2", 2, 2), site("c").node("n1", "z3", 4, 4)]
}

/// Where there are both families each is spread over what has it: what is explained is what is drawn.
#[test]
fn shares_are_those_of_the_type() {
    let mut world = world(&three(), weighted(&[("a", 1), ("b", 2), ("c", 1)]));
    let v6 = ["fd00:2::1", "fd00:2::2"].map(|address| endpoint(address, None, true));
    world.apply("b", slice("n", "s", "s6-b", &[("http", 8080)], v6.into()));
    world.apply("c", slice("n", "s", "s6-c", &[("http", 8080)], vec![endpoint("fd00:3::1", None, true)]));
    world.apply("b", slice("n", "s", "s-b", &[("http", 8080)], Vec::new()));
    world.compile();
    for (rtype, expected) in
        [("A", "a 50, c 50"), ("AAAA", "b 67, c 33"), ("SRV", "a 25, b 50, c 25"), ("", "a 25, b 50, c 25")]
    {
        let supposed = Supposed::default();
        let told = explained(&world, &inquiry(CLIENT, rtype, &supposed));
        assert_eq!(as_text(&shares(&told)), expected, "{rtype}");
        let foreign = told
            .portions
            .iter()
            .flat_map(|portion| &portion.addresses)
            .filter(|address| rtype == "A" && address.is_ipv6() || rtype == "AAAA" && address.is_ipv4());
        assert_eq!(foreign.count(), 0, "{rtype}");
        assert!(told.answer.starts_with(rtype), "{}", told.answer);
    }
    let counts = counts(&world, CLIENT, 10_000, cluster_of);
    assert_shares(&counts, &[("a", 0.5), ("c", 0.5)], "as explained for A");
}

/// What was is told as well as what is: what vanished, what is new, what is far away, and for whom that counts.
#[test]
fn what_was_is_told() {
    let latency = Latency { margin: Duration::from_millis(10), hold_down: 60 };
    let rules = Rules { latency: Some(latency), slow_start: NonZeroU16::new(100), ..rules() };
    let mut world = world(&three(), rules);
    let trips = [("b", 40), ("c", 12)].map(|(id, ms)| (cluster(id), Duration::from_millis(ms)));
    world.table.apply(Event::RoundTrips(trips.into()));
    world.apply("a", site("a").node("n1", "z1", 1, 1).slice("s"));
    world.apply("b", site("b").node("n1", "z2", 3, 3).slice("s"));
    world.compile_at(NOW + 1);
    let supposed = Supposed::default();
    let told = explained(&world, &inquiry(CLIENT, "", &supposed));
    assert_eq!(stage(&told, "ready")[0], "a: 1 of 1 ready, 1 more were there lately and are gone");
    assert_eq!(
        stage(&told, "latency"),
        [
            "a: at home, band 1",
            "b: 40.0 ms away, band 3",
            "c: 12.0 ms away, band 2",
            "10 ms more make another band, once that lasted for 60 s",
        ]
    );
    assert_eq!(stage(&told, "slow start"), ["10.2.1.3 is new: 10 % of its share"]);
    assert_eq!(
        stage(&told, "locality")[0],
        "tier 1, anywhere, band 1: 1 of 2 healthy (1 of them gone), bears 70.0 %"
    );
    assert_eq!(as_text(&shares(&told)), "a 70, c 30", "c is closer than b");
    let far = explained(&world, &inquiry("10.2.1.200", "", &supposed));
    assert_eq!(stage(&far, "latency"), ["measured from home, where this client is not: it does not count"]);
}

/// Who decided what is decided.
#[test]
fn who_decides_is_told() {
    let mut world = world(&three(), rules());
    let forced = Forced { cluster: cluster("a"), of: Scope::All, state: State::Down };
    world.table.apply(Event::Force([forced].into()));
    let Object::Export(export) = export("n", "s", 2) else { unreachable!() };
    world.apply("b", Object::Export(Export { state: Some(State::Drain), ..export }));
    world.compile();
    let told = explained(&world, &inquiry(CLIENT, "", &suppose("c=up")));
    assert_eq!(
        stage(&told, "state"),
        [
            "a: down: it gets nobody, by the configuration",
            "b: drain: it gets clients only when no others are left, by its ServiceExport",
            "c: up: whatever probes say, it is healthy, as is supposed",
        ]
    );
    assert_eq!(as_text(&shares(&told)), "c 100");
    let back = explained(&world, &inquiry(CLIENT, "", &suppose("a=up b=up c=down")));
    assert_eq!(as_text(&shares(&back)), "a 50, b 50", "what is supposed goes before what is decided");
}

/// A name is explained by the policy of its zone.
#[test]
fn zones_are_explained_apart() {
    let mut world = World::new(&["clusterset.local", "global.example.com"], &["a", "b", "c"]);
    world.home("a");
    for site in three() {
        world.reset(site.id, site.objects("s", ServiceKind::ClusterIp, http()));
    }
    world.vip("n", "s", &["10.96.0.1"]);
    let rules = Rules { answer: Form::Endpoints, failover: [cluster("c")].into(), ..Rules::default() };
    let zone = Some(Name::parse("global.example.com").unwrap());
    world.table.apply(Event::Configure([Configured { zone, of: Scope::All, rules: rules.into() }].into()));
    world.compile();
    let supposed = Supposed::default();
    let told = |name: &str| {
        let name = QName::parse(name).unwrap();
        let told = world.snapshot.explain(&name, &inquiry(CLIENT, "", &supposed)).unwrap();
        (told.held.to_string(), told.answer.clone(), as_text(&shares(&told)))
    };
    assert_eq!(
        told("s.n.svc.global.example.com"),
        (
            "the configuration's policy about all services in global.example.com.".into(),
            "endpoints, by these shares".into(),
            "c 100".into()
        )
    );
    let gateways = Rules { answer: Form::Gateways, ..Rules::default() };
    let zone = Some(Name::parse("global.example.com").unwrap());
    world.table.apply(Event::Configure([Configured { zone, of: Scope::All, rules: gateways.into() }].into()));
    world.compile();
    let name = QName::parse("s.n.svc.global.example.com").unwrap();
    let told = world.snapshot.explain(&name, &inquiry(CLIENT, "", &supposed)).unwrap();
    assert_eq!(stage(&told, "reachable")[0], "a: removed: no gateway to it is known");
    assert!(told.answer.contains("no gateway is known"), "{}", told.answer);
    let told = |name: &str| {
        let name = QName::parse(name).unwrap();
        let told = world.snapshot.explain(&name, &inquiry(CLIENT, "", &supposed)).unwrap();
        (told.held.to_string(), told.answer.clone(), as_text(&shares(&told)))
    };
    let (held, answer, _) = told(NAME);
    let spread = "kube-proxy spreads its connections over all that is ready, whatever the shares below";
    assert_eq!(
        (&*held, answer),
        ("no TrafficPolicy", format!("virtual IP 10.96.0.1, whoever asks; {spread}"))
    );
}

/// RFC 1035 §3.3.14: a character-string has 255 octets, which two of the longest addresses leave room for.
#[test]
fn virtual_ips_of_both_families_fit_a_line() {
    let mut world = world(&three(), Rules::default());
    let longest = ["2001:db8:1111:2222:3333:4444:5555:6666", "2001:db8:1111:2222:3333:4444:5555:7777"];
    world.vip("n", "s", &longest);
    world.compile();
    let supposed = Supposed::default();
    let told = explained(&world, &inquiry(CLIENT, "AAAA", &supposed));
    assert!(longest.iter().all(|ip| told.answer.contains(ip)), "{}", told.answer);
    for line in told.lines() {
        assert!(line.len() <= 255, "no character-string of TXT: {line}");
    }
}

/// A family that nothing has is answered by nothing, and that is said.
#[test]
fn a_type_that_nothing_has_gets_nothing() {
    let world = world(&three(), rules());
    let supposed = Supposed::default();
    let told = explained(&world, &inquiry(CLIENT, "AAAA", &supposed));
    assert_eq!((told.portions.len(), told.answer.contains("nothing")), (0, true), "{}", told.answer);
    assert_eq!(as_text(&shares(&explained(&world, &inquiry(CLIENT, "A", &supposed)))), "a 25, b 25, c 50");
}

/// What people would say of clusters: down is nobody's, drain the last resort, up heeds no probe; weights are as in a policy.
#[test]
fn what_would_be_if() {
    let rules = Rules { health_check: Some(tcp_check()), ..by(&[Level::Zone], Preference::Prefer) };
    let mut world = world(&three(), rules);
    let healthy = world.snapshot.clone();
    let checks = world.table.take_checks().unwrap();
    let of_a = checks.iter().filter(|check| check.cluster == cluster("a"));
    world.table.apply(Event::Checked(of_a.map(|check| (check.clone(), false)).collect()));
    world.compile();
    for (well, supposed, expected) in [
        (true, "", "a 100"),
        (true, "a=down", "b 33, c 67"),
        (true, "a=drain", "b 33, c 67"),
        (true, "a=drain b=down", "c 100"),
        (true, "a=drain b=down c=down", "a 100"),
        (true, "a=down b=drain c=drain", "b 33, c 67"),
        (true, "a=down b=down c=down", ""),
        (true, "a=0", "b 50, c 50"),
        (true, "a=down b=3", "b 75, c 25"),
        (false, "", "b 33, c 67"),
        (false, "a=up", "a 100"),
        (false, "a=up c=down", "a 100"),
        (false, "b=drain c=drain", "b 33, c 67"),
    ] {
        let snapshot = if well { &healthy } else { &world.snapshot };
        let suppositions = suppose(supposed);
        let told =
            snapshot.explain(&QName::parse(NAME).unwrap(), &inquiry(CLIENT, "", &suppositions)).unwrap();
        assert_eq!(as_text(&shares(&told)), expected, "well: {well}, {supposed}");
        assert_eq!(told.held.supposes, !supposed.is_empty());
        for (id, state) in &suppositions.states {
            let said = stage(&told, "state")
                .iter()
                .any(|line| line.starts_with(&format!("{id}: {}", state.as_str())));
            assert!(said, "{supposed}: {:?}", told.stages);
        }
    }
}

/// Drained clusters do not make weights of what has none: the others share by their endpoints.
#[test]
fn draining_changes_nothing_among_the_others() {
    let world = world(&three(), rules());
    let with = |text: &str| as_text(&shares(&explained(&world, &inquiry(CLIENT, "", &suppose(text)))));
    assert_eq!((with(""), with("a=drain")), ("a 25, b 25, c 50".into(), "b 33, c 67".into()));
}

/// A witness that knows these, and remembers what it was asked.
fn witness(evidence: Evidence) -> (Witness, Arc<Mutex<Vec<Check>>>) {
    let asked = Arc::<Mutex<Vec<Check>>>::default();
    let remembered = asked.clone();
    let witness = Witness::new(move |clusters, checks| {
        remembered.lock().unwrap().extend(checks.iter().cloned());
        let heard = evidence.heard.iter().filter(|heard| clusters.contains(&heard.cluster)).cloned();
        Evidence { heard: heard.collect(), probed: evidence.probed.clone() }
    });
    (witness, asked)
}

fn heard(id: &str, from: &str, ago: Option<i64>, stale: bool) -> Heard {
    Heard { cluster: cluster(id), from: from.to_owned(), at: ago.map(|ago| NOW - ago), stale }
}

fn probed(id: &str, address: &str, healthy: bool, asked: Option<u64>) -> Probed {
    Probed {
        cluster: cluster(id),
        address: address.parse().unwrap(),
        healthy,
        lasts: Duration::from_secs(125),
        asked: asked.map(Duration::from_secs),
        rtt: Some(Duration::from_micros(1250)),
        error: Some("connection refused".to_owned()),
    }
}

/// issue 4: every stage says how old its evidence is. Ages are by the clock that is given.
#[test]
fn what_is_known_has_an_age() {
    let world = world(&three(), rules());
    let (witness, _) = witness(Evidence {
        heard: vec![
            heard("a", "clusters/a", Some(3), false),
            heard("b", "ClusterPeer b", Some(7300), true),
            heard("c", "", None, false),
            heard("d", "of another service", Some(1), false),
        ],
        probed: vec![
            probed("a", "10.1.1.1:8080", true, Some(4)),
            probed("b", "10.2.1.1:8080", false, Some(12)),
            probed("c", "[fd00::1]:8080", true, None),
        ],
    });
    let supposed = Supposed::default();
    let inquiry = Inquiry { witness: Some(&witness), ..inquiry(CLIENT, "", &supposed) };
    let told = explained(&world, &inquiry);
    assert_eq!(
        stage(&told, "fresh"),
        [
            "a: heard 3s ago, from clusters/a",
            "b: heard 2h1m ago, from ClusterPeer b: stale, its last known state counts",
            "c: not heard yet",
        ]
    );
    assert_eq!(
        stage(&told, "healthy"),
        [
            "a 10.1.1.1:8080: healthy for 2m5s, asked 4s ago, connects in 1.2 ms",
            "b 10.2.1.1:8080: not healthy for 2m5s, asked 12s ago, connects in 1.2 ms: connection refused",
            "c [fd00::1]:8080: not asked yet, counts as healthy",
        ]
    );
    // Made at 1, as the clock has it at 1,000,000.
    assert_eq!(told.held.age, Some(NOW - 1));
    assert_eq!(told.held.to_string(), "TrafficPolicy n/p, about the import, made 11d13h ago");
    let later = explained(&world, &Inquiry { now: NOW + 60, ..inquiry });
    assert_eq!(stage(&later, "fresh")[0], "a: heard 1m3s ago, from clusters/a");
    // A clock that went back makes nothing younger than now.
    let before = explained(&world, &Inquiry { now: 0, ..inquiry });
    assert_eq!(stage(&before, "fresh")[0], "a: heard 0s ago, from clusters/a");
    for line in told.lines() {
        assert!(line.len() <= 255, "no character-string of TXT: {line}");
    }
    assert!(told.lines().contains(&"fresh: c: not heard yet".to_owned()), "{:?}", told.lines());
}

/// A policy without an age is not told to be old.
#[test]
fn no_age_is_no_age() {
    let mut world = world(&three(), rules());
    world.apply("a", policy("p", UnixTime::MAX, imports(&["s"]), rules()));
    world.compile();
    let supposed = Supposed::default();
    let told = explained(&world, &inquiry(CLIENT, "", &supposed));
    assert_eq!((told.held.age, told.held.to_string().contains("ago")), (None, false));
}

/// The evidence of what is shown and of what is not healthy is asked for, and not of thousands.
#[test]
fn few_checks_are_looked_up() {
    let sites = [site("a").node("n1", "z1", 200, 200), site("b").node("n1", "z2", 50, 50)];
    let mut world = world(&sites, Rules { health_check: Some(tcp_check()), ..rules() });
    let checks = world.table.take_checks().unwrap();
    let sick = |check: &&Check| ["10.1.1.77:8080", "10.1.1.78:8080"].contains(&&*check.address.to_string());
    world.table.apply(Event::Checked(checks.iter().filter(sick).map(|c| (c.clone(), false)).collect()));
    world.compile();
    let (witness, asked) = witness(Evidence::default());
    let supposed = Supposed::default();
    let told = explained(&world, &Inquiry { witness: Some(&witness), ..inquiry(CLIENT, "", &supposed) });
    let mut asked: Vec<String> =
        asked.lock().unwrap().iter().map(|check| check.address.to_string()).collect();
    asked.sort();
    let expected = [
        "10.1.1.1:8080",
        "10.1.1.2:8080",
        "10.1.1.3:8080",
        "10.1.1.4:8080",
        "10.1.1.77:8080",
        "10.1.1.78:8080",
        "10.2.1.1:8080",
        "10.2.1.2:8080",
        "10.2.1.3:8080",
        "10.2.1.4:8080",
    ];
    assert_eq!(asked, expected);
    assert_eq!(stage(&told, "healthy"), ["and 240 more are asked"]);
}

/// Should one ask here all the same, what is explained is what it gets: no answers are compiled for where it is.
#[test]
fn strangers_are_answered_as_anywhere_else() {
    let mut world = world(&three()[..2], by(&[Level::Zone], Preference::Prefer));
    world.reset("x", site("x").node("n1", "z1", 0, 0).node_objects().collect());
    world.compile();
    let supposed = Supposed::default();
    for (client, expected, is_stranger) in [(CLIENT, "a 100", false), ("10.24.1.9", "a 50, b 50", true)] {
        let told = explained(&world, &inquiry(client, "", &supposed));
        assert_eq!(as_text(&shares(&told)), expected, "{client}");
        let said = stage(&told, "locality").iter().any(|line| line.contains("x is neither home"));
        assert_eq!(said, is_stranger, "{:?}", told.stages);
        let expected: Vec<(&str, f64)> =
            if is_stranger { vec![("a", 0.5), ("b", 0.5)] } else { vec![("a", 1.0)] };
        assert_shares(&counts(&world, client, 10_000, cluster_of), &expected, client);
    }
}

/// So it is of those whom the operator's networks name, whether home and its Nodes are known or not.
#[test]
fn strangers_of_the_configuration_are_answered_as_anywhere_else() {
    let sites = &three()[..2];
    for (home, has_nodes, of_x) in [
        (Some("a"), true, "a 50, b 50"),
        (Some("a"), false, "a 50, b 50"),
        (None, true, "a 50, b 50"),
        (None, false, "a 50, b 50"),
        (Some("x"), false, "a 100"),
    ] {
        let mut world = World::new(&["clusterset.local"], &["a", "b"]);
        for site in sites {
            let objects = site.objects("s", ServiceKind::ClusterIp, http()).into_iter();
            let wanted = |object: &Object| has_nodes || !matches!(object, Object::Node(_));
            world.reset(site.id, objects.filter(wanted).collect());
        }
        let rules = by(&[Level::Zone], Preference::Prefer);
        world.table.apply(Event::Home(home.map(cluster)));
        world
            .table
            .apply(Event::Configure([Configured { zone: None, of: Scope::All, rules: rules.into() }].into()));
        let network = |third, id: &str| Mapping {
            network: Some(([192, 0, third, 0].into(), 24)),
            place: places::Place {
                cluster: Some(cluster(id)),
                az: Some("z1".into()),
                ..places::Place::default()
            },
        };
        world.table.apply(Event::Map([network(2, "x"), network(3, "b")].into()));
        world.compile();
        let supposed = Supposed::default();
        for (client, expected) in
            [("192.0.2.9", of_x), ("192.0.3.9", "a 100"), ("198.51.100.1", "a 50, b 50")]
        {
            let why = format!("{client}, home {home:?}, with Nodes: {has_nodes}");
            assert_eq!(
                as_text(&shares(&explained(&world, &inquiry(client, "", &supposed)))),
                expected,
                "{why}"
            );
            let drawn: &[_] = if expected == "a 100" { &[("a", 1.0)] } else { &[("a", 0.5), ("b", 0.5)] };
            assert_shares(&counts(&world, client, 10_000, cluster_of), drawn, &why);
        }
        let rows = table(&drawn(&world, &supposed));
        assert_eq!(rows.iter().any(|row| row.contains("cluster x")), home == Some("x"), "{rows:?}");
    }
}

#[test]
fn ages_have_two_units_at_most() {
    for (seconds, expected) in [
        (-3, "0s"),
        (0, "0s"),
        (59, "59s"),
        (61, "1m1s"),
        (3600, "1h"),
        (7300, "2h1m"),
        (90_061, "1d1h"),
        (86_460, "1d"),
    ] {
        assert_eq!(Age(seconds).to_string(), expected);
    }
}
