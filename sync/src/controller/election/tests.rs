//! The election's decisions as tables: what was seen when → what is done. No API server, no clock, no waiting.

use futures_util::FutureExt;

use super::*;

const CLOCK: &str = "2026-03-01T12:00:00Z";

fn clock() -> Timestamp {
    CLOCK.parse().unwrap()
}

fn candidate(identity: &str) -> Candidate {
    Candidate { identity: identity.to_owned(), times: LeaseTimes::default(), observed: None }
}

/// A Lease as another controller with another clock may have written it.
fn lease(holder: &str, renewed: &str, transitions: i32) -> Lease {
    let spec = LeaseSpec {
        holder_identity: Some(holder.to_owned()).filter(|holder| !holder.is_empty()),
        lease_duration_seconds: Some(15),
        acquire_time: Some(MicroTime(clock())),
        renew_time: Some(MicroTime(renewed.parse().unwrap())),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    };
    Lease { spec: Some(spec), ..Lease::default() }
}

fn after(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The holder and count that are written, `None` for nothing.
fn written(action: Action) -> Option<(String, i32)> {
    match action {
        Action::Wait => None,
        Action::Create(lease) | Action::Replace(lease) => {
            let spec = lease.spec.unwrap();
            Some((spec.holder_identity.unwrap(), spec.lease_transitions.unwrap()))
        }
    }
}

/// client-go: `observedTime.Add(LeaseDurationSeconds).After(now)`, the time being our own observation.
#[test]
fn a_lease_expires_by_what_we_saw_and_never_by_its_clock() {
    let ours = |count| Some(("a".to_owned(), count));
    // Who holds it, its renewTime, how long ago we saw this record first → what is written.
    let cases = [
        ("b", "2026-03-01T12:00:00Z", 0, None),
        ("b", "2026-03-01T12:00:00Z", 14, None),
        ("b", "2026-03-01T12:00:00Z", 15, ours(4)),
        // A holder whose clock is a day slow, or a day fast, is alive, or dead, all the same.
        ("b", "2026-02-28T12:00:00Z", 1, None),
        ("b", "2026-03-02T12:00:00Z", 16, ours(4)),
        // Given back: nobody waits.
        ("", "2026-03-01T12:00:00Z", 0, ours(4)),
        // Ours from before: a renewal is no transition.
        ("a", "2026-03-01T12:00:00Z", 0, ours(3)),
        ("a", "2026-03-01T12:00:00Z", 60, ours(3)),
    ];
    for (holder, renewed, age, expected) in cases {
        let mut candidate = candidate("a");
        let start = Instant::now();
        candidate.observe(Some(lease(holder, renewed, 3)), start);
        let action = candidate.decide(start + after(age), clock());
        assert_eq!(written(action), expected, "held by {holder:?} since {renewed}, seen {age} s ago");
    }
}

/// A holder that renews is seen to: each new record starts the time anew. A changed label is no renewal.
#[test]
fn only_a_renewal_prolongs_a_lease() {
    let start = Instant::now();
    let mut candidate = candidate("a");
    candidate.observe(Some(lease("b", "2026-03-01T12:00:00Z", 0)), start);
    candidate.observe(Some(lease("b", "2026-03-01T12:00:02Z", 0)), start + after(10));
    assert_eq!(candidate.decide(start + after(20), clock()), Action::Wait);

    let mut labelled = lease("b", "2026-03-01T12:00:02Z", 0);
    labelled.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    labelled.metadata.resource_version = Some("7".to_owned());
    candidate.observe(Some(labelled), start + after(24));
    let Action::Replace(taken) = candidate.decide(start + after(25), clock()) else { panic!("expired") };
    // The version that was read last is the one to be replaced: whoever changed it meanwhile wins.
    assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"));
    assert_eq!(taken.metadata.labels.unwrap().len(), 2);
}

#[test]
fn an_absent_lease_is_made() {
    let mut candidate = candidate("a");
    for _ in 0..2 {
        let Action::Create(lease) = candidate.decide(Instant::now(), clock()) else {
            panic!("nothing is there")
        };
        let spec = lease.spec.unwrap();
        assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(15), Some(0)));
        assert_eq!(spec.acquire_time, Some(MicroTime(clock())));
        // Deleted behind our back, it is made again.
        candidate.observe(Some(self::lease("a", CLOCK, 0)), Instant::now());
        candidate.observe(None, Instant::now());
    }
}

/// A renewal keeps when the lead began, and renews the rest.
#[test]
fn renewals_keep_the_time_of_the_takeover() {
    let mut candidate = candidate("a");
    candidate.observe(Some(lease("a", CLOCK, 2)), Instant::now());
    let later: Timestamp = "2026-03-01T13:00:00Z".parse().unwrap();
    let Action::Replace(renewed) = candidate.decide(Instant::now(), later) else { panic!("ours") };
    let spec = renewed.spec.unwrap();
    assert_eq!(spec.acquire_time, Some(MicroTime(clock())));
    assert_eq!(spec.renew_time, Some(MicroTime(later)));
}

/// A lost update: the replace was refused, and what is read then is another's. We don't lead, and wait.
#[test]
fn who_loses_the_race_follows() {
    let start = Instant::now();
    let mut candidate = candidate("a");
    candidate.observe(Some(lease("a", CLOCK, 0)), start);
    assert!(candidate.leads(start + after(14)));
    candidate.observe(Some(lease("b", CLOCK, 1)), start + after(14));
    assert!(!candidate.leads(start + after(14)));
    assert_eq!(candidate.decide(start + after(14), clock()), Action::Wait);
    assert_eq!(candidate.release(clock()), None, "what is another's is not given back");
}

/// client-go's ReleaseOnCancel: no holder, one second, the count kept.
#[test]
fn a_lease_given_back_has_no_holder() {
    let mut candidate = candidate("a");
    candidate.observe(Some(lease("a", CLOCK, 5)), Instant::now());
    let spec = candidate.release(clock()).unwrap().spec.unwrap();
    let kept = (spec.holder_identity, spec.lease_duration_seconds, spec.lease_transitions);
    assert_eq!(kept, (None, Some(1), Some(5)));
}

/// The holder stops before anybody may begin, however long it was stalled, and nobody has to tell it.
#[tokio::test]
async fn a_lead_lapses_by_itself() {
    let (lead, until) = watch::channel(None);
    let mut leadership = Leadership { until, told: false };
    assert!(!leadership.is_leader());
    lead.send_replace(Some(Instant::now() + Duration::from_secs(3600)));
    assert!(leadership.is_leader() && leadership.changed().await);
    // The renewal's deadline has passed; no message was sent after it.
    lead.send_replace(Some(Instant::now()));
    assert!(!leadership.is_leader());
    assert!(!leadership.changed().await);
    drop(lead);
    assert_eq!(leadership.changed().now_or_never(), None, "an election that ended has no more news");
}

#[test]
fn candidates_come_at_different_times_and_leaders_at_their_own() {
    let retry = LeaseTimes::default().retry;
    assert_eq!(pause(retry, true, 0.9), retry);
    assert_eq!(pause(retry, false, 0.0), retry);
    assert_eq!(pause(retry, false, 1.0), retry.mul_f64(2.2));
    assert!((0.0..=1.0).contains(&random()));
    // A leader that misses a renewal has two more before its time is over, and that is before another's begins.
    let times = LeaseTimes::default();
    assert!(times.retry * 2 < times.renew && times.renew < times.duration);
}
