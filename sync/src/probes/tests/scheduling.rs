//! Who is probed when, and what of it is told.

use tokio::time::{advance, timeout};

use super::*;

/// All targets are probed within the first interval, at times spread over it, and from then on after an interval of a
/// tenth more or less.
#[tokio::test(start_paused = true)]
async fn probes_are_spread_over_the_interval_and_stay_so() {
    let world = World::new(plenty(), 7, |_, _| (Duration::ZERO, good()));
    let begun = Instant::now();
    world.prober.set(targets(500));
    sleep(INTERVAL * 10).await;
    let mut tenths = [0; 10];
    let mut gaps = Vec::new();
    for port in 1..=500 {
        let times = world.begun(port);
        let first = times[0] - begun;
        assert!(first <= INTERVAL + TICK, "{first:?}");
        tenths[(first.as_secs_f64() / 1.001) as usize] += 1;
        gaps.extend(times.windows(2).map(|pair| pair[1] - pair[0]));
    }
    assert!(tenths.iter().all(|count| (25..=80).contains(count)), "{tenths:?}");
    let (least, most) = (*gaps.iter().min().unwrap(), *gaps.iter().max().unwrap());
    assert!(least >= INTERVAL.mul_f64(0.9) - TICK && least < INTERVAL.mul_f64(0.92), "{least:?}");
    assert!(most <= INTERVAL.mul_f64(1.1) + TICK && most > INTERVAL.mul_f64(1.08), "{most:?}");
}

/// The same seed makes the same times, and another others.
#[tokio::test(start_paused = true)]
async fn times_are_the_seeds() {
    let mut times = Vec::new();
    for seed in [1, 1, 2] {
        let world = World::new(plenty(), seed, |_, _| (Duration::ZERO, good()));
        let begun = Instant::now();
        world.prober.set(targets(20));
        sleep(INTERVAL * 3).await;
        let of = |port| world.begun(port).iter().map(|time| (*time - begun).as_millis()).collect::<Vec<_>>();
        times.push((1..=20).map(of).collect::<Vec<_>>());
    }
    assert_eq!(times[0], times[1]);
    assert_ne!(times[0], times[2]);
}

/// Two users of one target with the same probe in two places cost one probe; another probe is another target.
#[tokio::test(start_paused = true)]
async fn equal_targets_are_probed_once() {
    let world = World::new(plenty(), 1, |_, _| (Duration::ZERO, good()));
    let (one, other) = (probe(Kind::Tcp), Probe { fall: 9, ..probe(Kind::Tcp) });
    world.prober.set([
        at(1, one.clone()),
        at(1, one),
        at(2, other.clone()),
        at(2, Probe { fall: 8, ..other }),
    ]);
    sleep(INTERVAL + TICK).await;
    assert_eq!((world.begun(1).len().min(2), world.prober.verdicts().len()), (1, 3));
    assert!(world.begun(2).len() >= 2);
}

/// Those that stay keep their turns and their verdict; of those that go nothing stays, not even a probe under way; one
/// that comes again is unknown.
#[tokio::test(start_paused = true)]
async fn a_new_set_keeps_what_stays_and_drops_what_goes() {
    let mut world = World::new(plenty(), 1, |port, _| {
        if port == 2 { (Duration::from_secs(3600), good()) } else { (Duration::ZERO, bad()) }
    });
    let [one, two, three] = <[Target; 3]>::try_from(targets(3)).unwrap();
    world.prober.set([one.clone(), two.clone(), three.clone()]);
    sleep(INTERVAL * 5).await;
    assert_eq!(world.under_way(), 1);
    let before = world.prober.verdict(&one).unwrap();
    assert!(!before.healthy);
    let last = *world.begun(1).last().unwrap();
    world.prober.set([one.clone(), at(4, probe(Kind::Tcp))]);
    sleep(TICK).await;
    assert_eq!(world.under_way(), 0, "a probe of what is gone goes on");
    assert_eq!((world.prober.verdict(&two), world.prober.verdict(&three)), (None, None));
    assert_eq!(world.prober.verdict(&one), Some(before));
    let told = world.changes.next().await.unwrap();
    assert!(told.iter().all(|(target, _)| *target == one), "{told:?}");
    let rounds = world.begun(3).len();
    sleep(INTERVAL * 2).await;
    assert_eq!(world.begun(3).len(), rounds);
    let next = world.begun(1).into_iter().find(|time| *time > last).unwrap();
    assert!((INTERVAL.mul_f64(0.9)..=INTERVAL.mul_f64(1.1) + TICK).contains(&(next - last)));
    world.prober.set([one, three.clone()]);
    sleep(TICK).await;
    let verdict = world.prober.verdict(&three).unwrap();
    assert!(verdict.healthy && verdict.checked.is_none() && verdict.error.is_none(), "{verdict:?}");
}

/// Without the prober there is nothing left of it.
#[tokio::test(start_paused = true)]
async fn the_end_of_the_prober_is_the_end_of_all() {
    let mut world = World::new(plenty(), 1, |_, _| (Duration::from_secs(3600), good()));
    world.prober.set(targets(50));
    sleep(INTERVAL + TICK).await;
    assert_eq!(world.under_way(), 50);
    drop(world.prober);
    assert_eq!(world.changes.next().await, None);
    let gone = async {
        while world.log.lock().unwrap().under_way > 0 {
            sleep(TICK).await;
        }
    };
    timeout(SECOND, gone).await.unwrap();
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

/// A machine that slept for an hour asks everybody once, within its budget, and makes up for nothing.
#[tokio::test(start_paused = true)]
async fn a_jump_in_time_is_no_storm() {
    let world = World::new(budget(100, 50), 1, |_, _| (Duration::ZERO, good()));
    world.prober.set(targets(200));
    sleep(INTERVAL * 3).await;
    let before = world.total();
    advance(Duration::from_secs(3600)).await;
    sleep(Duration::from_millis(500)).await;
    let soon = world.total() - before;
    assert!((50..=61).contains(&soon), "{soon} in half a second of 100 per second");
    sleep(Duration::from_secs(5)).await;
    let later = world.total() - before;
    assert!((200..=202).contains(&later), "{later}: everybody once");
}

/// A probe that takes longer than the interval is followed by the next at once, and never accompanied by it.
#[tokio::test(start_paused = true)]
async fn probes_of_one_target_do_not_overlap() {
    let world = World::new(plenty(), 1, |_, _| (INTERVAL * 2, bad()));
    world.prober.set(targets(1));
    sleep(INTERVAL * 21).await;
    assert!((10..=11).contains(&world.begun(1).len()), "{}", world.begun(1).len());
    assert_eq!(world.log.lock().unwrap().most_under_way, 1);
}

/// A probe that panics is a fault of ours: the target stays as it was, and gets its next turn.
#[tokio::test(start_paused = true)]
async fn a_panic_is_no_verdict() {
    let world = World::new(plenty(), 1, |_, round| {
        assert!(round >= 5, "this is meant to be seen in the test's output");
        (Duration::ZERO, good())
    });
    let [target] = <[Target; 1]>::try_from(targets(1)).unwrap();
    world.prober.set([target.clone()]);
    sleep(INTERVAL * 4).await;
    let verdict = world.prober.verdict(&target).unwrap();
    assert!(verdict.healthy && verdict.checked.is_none(), "{verdict:?}");
    assert!(verdict.error.unwrap().contains("fault of Portolan"));
    sleep(INTERVAL * 4).await;
    assert!(world.prober.verdict(&target).unwrap().successes > 0);
}

/// Times that no clock reaches are no reason to panic.
#[tokio::test(start_paused = true)]
async fn extreme_times_do_no_harm() {
    let world = World::new(budget(100, 10), 1, |_, _| (Duration::ZERO, good()));
    let always = Probe { interval: Duration::ZERO, rise: 0, fall: 0, ..probe(Kind::Tcp) };
    let never = Probe { interval: Duration::MAX, timeout: Duration::MAX, ..probe(Kind::Tcp) };
    world.prober.set([at(1, always), at(2, never), at(3, probe(Kind::Tcp))]);
    sleep(SECOND * 61).await;
    assert!((5..=7).contains(&world.begun(3).len()), "{}", world.begun(3).len());
    assert!(world.begun(1).len() > 1000);
    assert!(world.begun(2).is_empty());
}
