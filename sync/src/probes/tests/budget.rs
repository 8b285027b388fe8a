//! What all probes together may cost.

use super::*;

/// Where the budget does not suffice all are probed less often, and in turn.
#[tokio::test(start_paused = true)]
async fn a_small_budget_stretches_all_intervals_alike() {
    let world = World::new(budget(100, 1000), 1, |_, _| (Duration::ZERO, good()));
    world.prober.set(targets(3000));
    sleep(SECOND * 300).await;
    let total = world.total();
    assert!((29_000..=30_010).contains(&total), "{total} in 300 s of 100 per second");
    for port in 1..=3000 {
        let times = world.begun(port).len();
        assert!((9..=11).contains(&times), "{port}: {times}");
    }
    assert!(world.prober.behind() > INTERVAL, "{:?}", world.prober.behind());
}

/// In no second is there more than a tenth above the budget.
#[tokio::test(start_paused = true)]
async fn no_second_has_more_than_the_budget_and_a_tenth() {
    let world = World::new(budget(100, 1000), 1, |_, _| (Duration::ZERO, good()));
    world.prober.set(targets(300));
    sleep(SECOND * 30).await;
    // For as long as nobody is due the budget does not grow.
    world.prober.set([]);
    sleep(SECOND * 30).await;
    world.prober.set(targets(3000));
    sleep(SECOND * 30).await;
    let mut begun: Vec<_> = (1..=3000).flat_map(|port| world.begun(port)).collect();
    begun.sort();
    for (index, time) in begun.iter().enumerate() {
        let within = begun[index..].iter().take_while(|other| **other < *time + SECOND).count();
        assert!(within <= 111, "{within} from {time:?}");
    }
    assert!(begun.len() > 3000);
}

/// Targets that never answer hold no more places than there are, and all still get their turn.
#[tokio::test(start_paused = true)]
async fn no_more_are_under_way_than_may_be() {
    let world = World::new(budget(1000, 10), 1, |_, _| (SECOND, bad()));
    world.prober.set(targets(100));
    sleep(SECOND * 100).await;
    assert_eq!(world.log.lock().unwrap().most_under_way, 10);
    for port in 1..=100 {
        let times = world.begun(port).len();
        assert!((8..=11).contains(&times), "{port}: {times}");
    }
}

/// With room enough nothing is late, and the budget is no pace.
#[tokio::test(start_paused = true)]
async fn a_budget_that_suffices_is_not_felt() {
    let world = World::new(budget(1000, 100), 1, |_, _| (Duration::ZERO, good()));
    world.prober.set(targets(1000));
    for _ in 0..100 {
        sleep(SECOND).await;
        assert!(world.prober.behind() <= Duration::from_millis(50), "{:?}", world.prober.behind());
    }
    assert!((9500..=10_500).contains(&world.total()), "{}", world.total());
}
