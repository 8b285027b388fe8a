//! Numbers: what stays, what rests, what is refused.

use proptest::prelude::*;

use super::*;

fn key(name: &str, protocol: Protocol, number: u16) -> PortKey {
    PortKey { service: ServiceName::new("n", name).unwrap(), protocol, number }
}

fn web(name: &str) -> PortKey {
    key(name, Protocol::Tcp, 80)
}

fn settle(ports: &mut GatewayPorts, wanted: &[PortKey], now: UnixTime) -> Vec<PortError> {
    ports.settle(&wanted.iter().cloned().collect(), &BTreeSet::new(), now)
}

#[test]
fn ranges_are_written_as_they_are_read() {
    for (text, expected) in
        [("20000-29999", Some("20000-29999")), (" 1 - 1 ", Some("1-1")), ("1-65535", Some("1-65535"))]
    {
        assert_eq!(text.parse::<PortRange>().ok().map(|range| range.to_string()).as_deref(), expected);
    }
    for bad in ["", "20000", "0-10", "10-9", "1-65536", "a-b", "1-2-3"] {
        assert!(bad.parse::<PortRange>().unwrap_err().to_string().contains("20000-29999"), "{bad}");
    }
}

/// Numbers outlive processes: a change of the hash would move every service whose memory is lost.
#[test]
fn numbers_follow_from_names() {
    let mut ports = GatewayPorts::default();
    let wanted = [web("a"), key("a", Protocol::Udp, 80), key("a", Protocol::Tcp, 443), web("b")];
    assert_eq!(settle(&mut ports, &wanted, 0), []);
    let numbers = wanted.each_ref().map(|key| ports.number(key).unwrap());
    assert_eq!(numbers[0], numbers[1], "TCP and UDP are counted apart");
    assert_eq!(numbers, NUMBERS);
}

const NUMBERS: [u16; 4] = [28_826, 28_826, 25_562, 22_307];

#[test]
fn small_ranges_fill_to_the_last_number_and_refuse_one_by_one() {
    let mut ports = GatewayPorts::new("7-9".parse().unwrap());
    let wanted: Vec<_> = ["a", "b", "c", "d", "e"].map(web).into();
    let refused = settle(&mut ports, &wanted, 0);
    assert_eq!(ports.assigned().values().copied().collect::<BTreeSet<_>>(), [7, 8, 9].into());
    assert_eq!(refused.len(), 2);
    let text = refused[0].to_string();
    assert!(text.starts_with("n/d:80/TCP: all ports 7-9 of the shared gateway are taken"), "{text}");
    let before = ports.assigned().clone();
    settle(&mut ports, &wanted, 1);
    assert_eq!(*ports.assigned(), before, "the others keep theirs");
    // The other protocol has its own.
    assert_eq!(settle(&mut ports, &[key("a", Protocol::Udp, 53)], 1), []);
}

#[test]
fn a_freed_number_rests_before_others_get_it() {
    let week = 7 * 24 * 3600;
    let mut ports = GatewayPorts::new("7-8".parse().unwrap());
    settle(&mut ports, &[web("a")], 0);
    let had = ports.number(&web("a")).unwrap();
    assert_eq!(settle(&mut ports, &[], 10), []);
    assert_eq!(settle(&mut ports, &[web("b")], 10 + week), [], "peers may remember it for a week");
    assert_eq!(ports.number(&web("b")), Some(15 - had));
    settle(&mut ports, &[web("a"), web("b")], 10 + week);
    assert_eq!(ports.number(&web("a")), Some(had), "its own service gets it back");
    settle(&mut ports, &[web("b")], 1_000_000);
    assert_eq!(settle(&mut ports, &[web("b"), web("c")], 1_000_000 + QUARANTINE), []);
    assert_eq!(ports.number(&web("c")), Some(had));
}

/// Nobody is refused for the sake of who is gone; but who had a number goes before who has none.
#[test]
fn when_none_is_free_the_one_that_rested_longest_is_given_out() {
    let mut ports = GatewayPorts::new("7-9".parse().unwrap());
    settle(&mut ports, &[web("x"), web("y"), web("z")], 0);
    let [x, y] = ["x", "y"].map(|name| ports.number(&web(name)).unwrap());
    settle(&mut ports, &[web("x"), web("z")], 10);
    settle(&mut ports, &[web("z")], 20);
    assert_eq!(settle(&mut ports, &[web("a"), web("z")], 30), []);
    assert_eq!(ports.number(&web("a")), Some(y));
    assert_eq!(settle(&mut ports, &[web("a"), web("b"), web("x"), web("z")], 40).len(), 1);
    assert_eq!((ports.number(&web("b")), ports.number(&web("x"))), (None, Some(x)));
}

/// Kubernetes: "The data stored in a ConfigMap cannot exceed 1 MiB"; a request that does is refused as a whole, and with it all that
/// depends on it. Those who are too many are named, and nobody who has a number loses it.
#[test]
fn what_is_remembered_has_a_bound() {
    let long = |n: usize| web(&format!("{n:05}-{}", "x".repeat(57)));
    let size = |ports: &GatewayPorts| {
        let written = crate::gateway::memory::write(ports);
        let managed: usize = written.keys().map(|key| key.len() + 8).sum();
        let data: usize = written.iter().map(|(key, value)| key.len() + value.len() + 6).sum();
        (written.values().map(String::len).sum::<usize>(), data + managed)
    };
    let mut ports = GatewayPorts::new("1-65535".parse().unwrap());
    let first = [web("a"), web("b")];
    settle(&mut ports, &first, 0);
    let numbers = first.each_ref().map(|key| ports.number(key));
    let many: Vec<_> = first.iter().cloned().chain((0..30_000).map(long)).collect();
    let refused = settle(&mut ports, &many, 1);
    assert_eq!(ports.assigned().len() + refused.len(), many.len());
    assert_eq!(first.each_ref().map(|key| ports.number(key)), numbers);
    assert!(ports.assigned().len() > 7_000 && !refused.is_empty(), "{}", ports.assigned().len());
    let text = refused[0].to_string();
    assert!(
        text.starts_with("n/") && text.contains(":80/TCP: no more ports of the shared gateway"),
        "{text}"
    );
    let before = ports.assigned().clone();
    assert_eq!(settle(&mut ports, &many, 2), refused);
    assert_eq!(*ports.assigned(), before);
    // All of them go, and rest; others come.
    for (wanted, now) in [(&many[..0], 3), (&many[29_000..], 4)] {
        assert_eq!(settle(&mut ports, wanted, now), []);
        let (values, all) = size(&ports);
        assert!(values < 1 << 20 && all < 3 << 19, "{values} {all}");
    }
}

/// What somebody else has is left to them, whoever came first.
#[test]
fn taken_numbers_are_given_up() {
    let mut ports = GatewayPorts::new("7-8".parse().unwrap());
    settle(&mut ports, &[web("a")], 0);
    let had = ports.number(&web("a")).unwrap();
    let taken = [(Protocol::Tcp, had)].into();
    assert_eq!(ports.settle(&[web("a")].into(), &taken, 1), []);
    assert_eq!(ports.number(&web("a")), Some(15 - had));
}

#[test]
fn another_range_moves_what_is_outside() {
    let mut before = GatewayPorts::new("7-8".parse().unwrap());
    settle(&mut before, &[web("a"), web("b")], 0);
    let mut ports = GatewayPorts::new("8-9".parse().unwrap());
    ports.restore(before.held().clone(), 5);
    assert_eq!(settle(&mut ports, &[web("a"), web("b")], 5), []);
    assert_eq!(ports.assigned().values().copied().collect::<BTreeSet<_>>(), [8, 9].into());
    let stays = before.assigned().iter().find(|(_, number)| **number == 8).unwrap().0;
    assert_eq!(ports.number(stays), Some(8));
}

/// A memory that was edited: two numbers of one port, one that is nobody's, ends that lie centuries ahead.
#[test]
fn a_strange_memory_gives_nobody_anothers_number() {
    let mut ports = GatewayPorts::new("1-4".parse().unwrap());
    let hold = |by: Option<PortKey>, until| Hold { by, until };
    let tcp = |number| (Protocol::Tcp, number);
    ports.restore(
        [
            (tcp(1), hold(Some(web("a")), None)),
            (tcp(2), hold(Some(web("a")), None)),
            (tcp(3), hold(None, None)),
            (tcp(4), hold(Some(key("a", Protocol::Udp, 80)), Some(UnixTime::MAX))),
            (tcp(0), hold(Some(web("b")), None)),
        ],
        100,
    );
    assert_eq!(settle(&mut ports, &[web("a"), web("b")], 100), []);
    assert_eq!((ports.number(&web("a")), ports.number(&web("b"))), (Some(1), Some(2)));
    assert!(ports.held().values().all(|hold| hold.until.is_none_or(|until| until == 100 + QUARANTINE)));
}

/// What happens to a set of ports: they come and go, time passes, and the memory is all that a new process has.
#[derive(Debug, Clone)]
enum Happening {
    Wants(u8, bool),
    Leaves(u8, bool),
    Passes(i64),
    Restarts,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        4 => (0..12_u8, any::<bool>()).prop_map(|(name, udp)| Happening::Wants(name, udp)),
        2 => (0..12_u8, any::<bool>()).prop_map(|(name, udp)| Happening::Leaves(name, udp)),
        1 => (0..2 * QUARANTINE).prop_map(Happening::Passes),
        1 => Just(Happening::Restarts),
    ];
    proptest::collection::vec(one, 1..60)
}

proptest! {
    /// No two have one number, nothing moves while it is wanted, and no number changes hands before its rest is over but
    /// when none is free.
    #[test]
    fn numbers_are_unique_and_stay(happenings in happenings()) {
        let range: PortRange = "1-8".parse().unwrap();
        let mut ports = GatewayPorts::new(range);
        let (mut wanted, mut now) = (BTreeSet::new(), 0);
        let mut last_use: BTreeMap<(Protocol, u16), (PortKey, UnixTime)> = BTreeMap::new();
        for happening in happenings {
            let before = ports.assigned().clone();
            let of = |name: u8, udp| key(&format!("s{name}"), if udp { Protocol::Udp } else { Protocol::Tcp }, 80);
            match happening {
                Happening::Wants(name, udp) => _ = wanted.insert(of(name, udp)),
                Happening::Leaves(name, udp) => _ = wanted.remove(&of(name, udp)),
                Happening::Passes(seconds) => now += seconds,
                Happening::Restarts => {
                    let written = crate::gateway::memory::write(&ports);
                    ports = GatewayPorts::new(range);
                    ports.restore(crate::gateway::memory::read(&written), now);
                }
            }
            let refused = ports.settle(&wanted, &BTreeSet::new(), now);
            prop_assert_eq!(ports.assigned().len() + refused.len(), wanted.len());
            let numbers: BTreeSet<_> = ports.assigned().iter().map(|(key, n)| (key.protocol, *n)).collect();
            prop_assert_eq!(numbers.len(), ports.assigned().len(), "each has its own");
            for (key, number) in ports.assigned() {
                prop_assert!(before.get(key).is_none_or(|before| before == number), "{} moved", key);
                if let Some((owner, used)) = last_use.get(&(key.protocol, *number)) {
                    let is_full = ports.held().keys().filter(|at| at.0 == key.protocol).count() == 8;
                    prop_assert!(owner == key || used + QUARANTINE <= now || is_full, "{} was {}'s", number, owner);
                }
            }
            for (key, number) in ports.assigned() {
                last_use.insert((key.protocol, *number), (key.clone(), now));
            }
        }
    }
}
