//! What is told of how far away clusters are.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc;

use super::round_trips::{are_news, medians};
use super::*;

/// Well under what a test may take, and far over what anything here does.
const PATIENCE: Duration = Duration::from_secs(20);

fn id(name: &str) -> ClusterId {
    ClusterId::new(name).unwrap()
}

fn check(cluster: &str, address: SocketAddr) -> Check {
    let how = HealthCheck {
        kind: CheckKind::Tcp,
        port: None,
        interval: Duration::from_millis(100),
        timeout: Duration::from_secs(5),
        rise: 1,
        fall: 1,
    };
    Check { cluster: id(cluster), address, how: Arc::new(how) }
}

fn target(check: &Check) -> Target {
    Target { address: check.address, probe: Arc::new(probe_of(&check.how).unwrap()) }
}

fn at(host: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 0, 0, host), 80).into()
}

fn milliseconds(of: &[(&str, u64)]) -> RoundTrips {
    of.iter().map(|(cluster, time)| (id(cluster), Duration::from_millis(*time))).collect()
}

/// One that is far away, or is stuck, does not move its cluster; what several services ask counts once.
#[test]
fn a_cluster_is_as_far_as_half_of_what_is_there() {
    let mut checks: HashMap<Target, Vec<Check>> = HashMap::new();
    let mut times = HashMap::new();
    for (cluster, host, time) in [
        ("lima", 1, Some(10)),
        ("lima", 2, Some(500)),
        ("lima", 3, Some(12)),
        ("lima", 3, Some(12)),
        ("oslo", 4, Some(7)),
        ("oslo", 5, Some(3)),
        // A gateway of both.
        ("oslo", 3, Some(12)),
        ("oslo", 6, Some(9)),
        ("tokyo", 7, None),
    ] {
        let check = check(cluster, at(host));
        times.extend(time.map(|time| (target(&check), Duration::from_millis(time))));
        checks.entry(target(&check)).or_default().push(check);
    }
    times.insert(target(&check("gone", at(9))), Duration::from_millis(1));
    let none = RoundTrips::new();
    assert_eq!(medians(&checks, &times, &none), milliseconds(&[("lima", 12), ("oslo", 7)]));
    assert_eq!(medians(&checks, &HashMap::new(), &none), none);
    // What is asked in another way from now on is where it was.
    let before = milliseconds(&[("gone", 1), ("oslo", 30), ("tokyo", 20)]);
    assert_eq!(medians(&checks, &times, &before), milliseconds(&[("lima", 12), ("oslo", 7), ("tokyo", 20)]));
    assert_eq!(medians(&HashMap::new(), &times, &before), none);
}

#[test]
fn small_changes_are_no_news() {
    let told = milliseconds(&[("lima", 100), ("oslo", 2)]);
    for (now, expected) in [
        (&[("lima", 100), ("oslo", 2)][..], false),
        (&[("lima", 125), ("oslo", 3)], false),
        (&[("lima", 75), ("oslo", 1)], false),
        (&[("lima", 126), ("oslo", 2)], true),
        (&[("lima", 100), ("oslo", 4)], true),
        (&[("lima", 100)], true),
        (&[("lima", 100), ("tokyo", 2)], true),
        (&[("lima", 100), ("oslo", 2), ("tokyo", 2)], true),
    ] {
        assert_eq!(are_news(&told, &milliseconds(now)), expected, "{now:?}");
    }
}

/// From a real connection; whose the endpoint is may change while it is asked on, and what is asked no more is not known.
#[test]
fn who_is_asked_is_as_far_as_it_takes_to_connect() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let wanted = |clusters: &[&str]| -> Arc<HashSet<Check>> {
        Arc::new(clusters.iter().map(|cluster| check(cluster, address)).collect())
    };
    let (wish, wished) = watch::channel(wanted(&["lima"]));
    let (sender, told) = mpsc::channel();
    let tell = move |events: Vec<Event>| {
        let times = events.into_iter().filter_map(|event| match event {
            Event::RoundTrips(times) => Some(times),
            _ => None,
        });
        times.map(|times| sender.send(times)).all(|sent| sent.is_ok())
    };
    let probing = Probing::start(wished, ProbeBudget::default(), tell).unwrap();
    for clusters in [&["lima"][..], &["tokyo"], &["lima", "tokyo"], &[]] {
        wish.send_replace(wanted(clusters));
        // A machine that is busy makes further news of times.
        let found = std::iter::from_fn(|| told.recv_timeout(PATIENCE).ok())
            .find(|times| times.keys().map(ClusterId::as_str).eq(clusters.iter().copied()));
        let times = found.unwrap_or_else(|| panic!("{clusters:?} was not told"));
        assert!(times.values().all(|time| *time > Duration::ZERO && *time < PATIENCE), "{times:?}");
        let shown: Vec<_> = probing.status().round_trips.into_iter().map(|(id, _)| id.to_string()).collect();
        assert_eq!(shown, clusters);
        assert_eq!(probing.round_trips().borrow().len(), clusters.len());
    }
}
