//! What probes in a row make of a target, and what of that is told.

use tokio::time::timeout;

use super::*;
use crate::probes::verdict::Verdict;

/// A verdict after these probes, ten seconds apart: `+` is a success, `-` a failure, `o` a fault of ours.
fn after(probes: &str, rise: u32, fall: u32) -> Verdict {
    let probe = Probe { rise, fall, ..probe(Kind::Tcp) };
    let now = Instant::now();
    let mut verdict = Verdict::unknown(now);
    for (round, sign) in (1..).zip(probes.chars()) {
        let outcome = match sign {
            '+' => good(),
            '-' => bad(),
            _ => Outcome { rtt: None, result: Err(Trouble::Ours("no files".to_owned())) },
        };
        verdict.learn(&probe, &outcome, now + INTERVAL * round);
    }
    verdict
}

/// `fall` failures in a row make unhealthy, `rise` successes in a row healthy; less than that changes nothing, nor does
/// what goes wrong here. Unknown counts as healthy.
#[tokio::test]
async fn rise_and_fall_are_counted_in_a_row() {
    let cases = [
        ("", 2, 3, true),
        ("--", 2, 3, true),
        ("---", 2, 3, false),
        ("--+--+--+", 2, 3, true),
        ("--o-", 2, 3, false),
        ("--oooooo", 2, 3, true),
        ("---+", 2, 3, false),
        ("---+-+-+-+", 2, 3, false),
        ("---++", 2, 3, true),
        ("---+o+", 2, 3, true),
        ("---++--", 2, 3, true),
        ("---++---", 2, 3, false),
        ("-", 1, 1, false),
        ("-+", 1, 1, true),
        ("-", 0, 0, false),
        ("-+", 0, 0, true),
    ];
    for (probes, rise, fall, healthy) in cases {
        assert_eq!(after(probes, rise, fall).healthy, healthy, "{probes} rise {rise} fall {fall}");
    }
}

#[tokio::test]
async fn a_verdict_has_its_evidence() {
    let (verdict, now) = (after("+---++o", 2, 3), Instant::now());
    assert_eq!((verdict.successes, verdict.failures), (2, 0));
    assert_eq!(verdict.error.as_deref(), Some("no files"));
    assert_eq!((verdict.checked.unwrap() - now).as_secs().div_ceil(10), 6);
    assert_eq!((verdict.since - now).as_secs().div_ceil(10), 6);
    let verdict = after("----", 2, 3);
    assert_eq!((verdict.successes, verdict.failures), (0, 4));
    assert_eq!((verdict.since - now).as_secs().div_ceil(10), 3);
    assert_eq!(verdict.error.as_deref(), Some("it is down"));
}

/// A peak counts at once, and its rest falls to 1/e in ten seconds.
#[tokio::test]
async fn times_rise_at_once_and_fall_slowly() {
    let (probe, begun) = (probe(Kind::Tcp), Instant::now());
    let mut verdict = Verdict::unknown(begun);
    let mut rtt = |seconds, millis: Option<u64>| {
        let outcome = Outcome { rtt: millis.map(Duration::from_millis), ..bad() };
        verdict.learn(&probe, &outcome, begun + SECOND * seconds);
        verdict.rtt.map(|rtt| rtt.as_millis())
    };
    assert_eq!(rtt(0, None), None);
    assert_eq!(rtt(1, Some(10)), Some(10));
    assert_eq!(rtt(2, Some(110)), Some(110));
    assert_eq!(rtt(3, None), Some(110));
    assert_eq!(rtt(12, Some(10)), Some(46));
    assert_eq!(rtt(22, Some(10)), Some(23));
    assert_eq!(rtt(22, Some(50)), Some(50));
    assert_eq!(rtt(300, Some(10)), Some(10));
}

/// A start, or an endpoint that comes, empties nothing: the first that is told of a dead target comes with its third
/// failure. It comes back with its second success.
#[tokio::test(start_paused = true)]
async fn what_is_told_are_changes() {
    let mut world =
        World::new(plenty(), 1, |_, round| (Duration::ZERO, if round < 5 { bad() } else { good() }));
    world.prober.set(targets(1));
    let fallen = world.changes.next().await.unwrap();
    assert_eq!((fallen.len(), fallen[0].1.healthy, fallen[0].1.failures), (1, false, 3));
    assert_eq!(world.begun(1).len(), 3);
    let risen = world.changes.next().await.unwrap();
    assert_eq!((risen.len(), risen[0].1.healthy, risen[0].1.successes), (1, true, 2));
    assert_eq!(world.begun(1).len(), 7);
    assert!(timeout(INTERVAL * 100, world.changes.next()).await.is_err());
}

/// What fails now and then, never often enough in a row, is never told.
#[tokio::test(start_paused = true)]
async fn what_flaps_is_not_told() {
    let mut world =
        World::new(plenty(), 1, |_, round| (Duration::ZERO, if round % 3 == 2 { good() } else { bad() }));
    world.prober.set(targets(10));
    assert!(timeout(INTERVAL * 50, world.changes.next()).await.is_err());
    assert!(world.begun(1).len() > 40);
}

/// A reader who was away for a long time reads each target once, as it is now.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_misses_nothing_and_nothing_piles_up() {
    let mut world =
        World::new(plenty(), 1, |_, round| (Duration::ZERO, if round / 5 % 2 == 0 { bad() } else { good() }));
    world.prober.set(targets(100));
    sleep(INTERVAL * 103).await;
    let told = world.changes.next().await.unwrap();
    assert_eq!(told.len(), 100);
    for (target, verdict) in told {
        assert_eq!(Some(verdict), world.prober.verdict(&target));
    }
}

/// Times are told when they changed by more than a quarter, so that noise wakes nobody.
#[tokio::test(start_paused = true)]
async fn times_are_told_when_they_matter() {
    let mut world = World::new(plenty(), 1, |_, round| {
        let millis = [100, 105, 95, 110, 124, 90, 126, 125][round.min(7)];
        (Duration::ZERO, Outcome { rtt: Some(Duration::from_millis(millis)), ..good() })
    });
    world.prober.set(targets(1));
    for (rtt, rounds) in [(100, 1), (126, 7)] {
        let told = world.changes.next().await.unwrap();
        assert_eq!(told[0].1.rtt, Some(Duration::from_millis(rtt)));
        assert_eq!(world.begun(1).len(), rounds);
    }
    assert!(timeout(INTERVAL * 20, world.changes.next()).await.is_err());
}
