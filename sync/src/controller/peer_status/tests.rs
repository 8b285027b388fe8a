//! States of clusters → what a ClusterPeer's status says, and when it is written. No API server, no clock.

use portolan_zones::ClusterId;

use super::*;

fn clock(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOON: &str = "2026-03-01T12:00:00Z";
const ONE: &str = "2026-03-01T13:00:00Z";

fn heard() -> ClusterState {
    ClusterState {
        id: ClusterId::new("west").ok(),
        uid: Some("u".to_owned()),
        version: Some("v1.34.1".to_owned()),
        reachable: true,
        synced: true,
        contact_at: Some(clock(NOON).as_second()),
        objects: [("ServiceExport", 3), ("Service", 5), ("EndpointSlice", 7)].into(),
        refused_exports: 2,
        refused: vec!["shop/web".to_owned()],
        ..ClusterState::unknown("west", Some(Origin::ClusterPeer))
    }
}

fn conditions(status: &ClusterPeerStatus) -> Vec<String> {
    let text =
        |c: &Condition| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message).trim().to_owned();
    status.conditions.iter().map(text).collect()
}

#[test]
fn a_status_says_how_the_cluster_is() {
    let silent =
        ClusterState { reachable: false, problems: vec!["connection refused".to_owned()], ..heard() };
    let cases: [(&[&str], Option<ClusterState>, [&str; 3]); 9] = [
        (
            &[],
            Some(heard()),
            [
                "Accepted=True Valid: 2 exports don't count, for their namespaces are not in spec.namespaces: shop/web, …",
                "Reachable=True Answers:",
                "Synced=True Listed:",
            ],
        ),
        (&[], None, ["Accepted=True Valid:", "Reachable=Unknown NotAsked:", "Synced=False NotListed:"]),
        (
            &["Secret portolan-system/west is missing"],
            None,
            [
                "Accepted=False Invalid: Secret portolan-system/west",
                "Reachable=Unknown NotAsked",
                "Synced=False",
            ],
        ),
        (
            &[],
            Some(silent.clone()),
            [
                "Accepted=True",
                "Reachable=False NoAnswer: what is known of it counts on: connection refused",
                "Synced=True",
            ],
        ),
        (
            &[],
            Some(ClusterState { stale: true, ..silent.clone() }),
            [
                "Accepted=True",
                "Reachable=False Stale: what is known of it counts on, and is marked stale",
                "Synced=True",
            ],
        ),
        (
            &[],
            Some(ClusterState { stale: true, withdrawn: true, ..silent }),
            ["Accepted=True", "Reachable=False Withdrawn: its endpoints are withdrawn", "Synced=True"],
        ),
        (
            &[],
            Some(ClusterState { is_own: true, synced: false, ..heard() }),
            ["Accepted=True OwnCluster", "Reachable=True", "Synced=False OwnCluster"],
        ),
        (
            &[],
            Some(ClusterState { duplicate_of: Some("east".to_owned()), ..heard() }),
            ["Accepted=False Duplicate: east, which is the same cluster", "Reachable=True", "Synced=True"],
        ),
        (
            &[],
            Some(ClusterState { stranger: Some("another one".to_owned()), ..heard() }),
            ["Accepted=False AnotherCluster: another one", "Reachable=True", "Synced=True"],
        ),
    ];
    for (problems, state, expected) in cases {
        let status = status(&ClusterPeerStatus::default(), Some(4), problems, state.as_ref(), clock(NOON));
        let told = conditions(&status);
        let wrong = expected.iter().zip(&told).find(|(start, text)| !text.starts_with(*start));
        assert_eq!(wrong, None, "{told:#?}");
        assert_eq!(status.observed_generation, Some(4));
    }
}

#[test]
fn counts_are_those_of_the_cluster_and_outlive_it() {
    let first = status(&ClusterPeerStatus::default(), None, &[], Some(&heard()), clock(NOON));
    assert_eq!((first.exports, first.services, first.endpoint_slices, first.refused_exports), (3, 5, 7, 2));
    assert_eq!(first.cluster_id.as_deref(), Some("west"));
    assert_eq!(first.last_contact, Some(Time(clock(NOON))));
    // A controller that was just started and can't reach it knows what the one before it wrote: which cluster it is,
    // above all.
    let silent = ClusterState::unknown("west", Some(Origin::ClusterPeer));
    let second = status(&first, None, &[], Some(&silent), clock(ONE));
    assert_eq!(
        ClusterPeerStatus { conditions: Vec::new(), ..second },
        ClusterPeerStatus { conditions: Vec::new(), ..first }
    );
}

/// API conventions: lastTransitionTime is when the status turned, not when a message did.
#[test]
fn conditions_keep_the_time_when_they_turned() {
    let first = status(&ClusterPeerStatus::default(), None, &[], Some(&heard()), clock(NOON));
    let silent = ClusterState { reachable: false, problems: vec!["x".repeat(5000)], ..heard() };
    let second = status(&first, None, &[], Some(&silent), clock(ONE));
    let times: Vec<_> = second.conditions.iter().map(|c| c.last_transition_time.0).collect();
    assert_eq!(times, [clock(NOON), clock(ONE), clock(NOON)]);
    assert!(second.conditions.iter().all(|c| c.message.len() <= MESSAGE));
}

/// At most two writes a minute when nothing happens; at once what people wait for.
#[test]
fn statuses_are_written_when_they_are_news() {
    let of =
        |state: &ClusterState| status(&ClusterPeerStatus::default(), None, &[], Some(state), clock(NOON));
    let old = of(&heard());
    let later = ClusterState { contact_at: Some(clock(NOON).as_second() + 5), ..heard() };
    let more = ClusterState { objects: [("ServiceExport", 4)].into(), ..later.clone() };
    let silent = ClusterState { reachable: false, ..heard() };
    let renamed = ClusterState { id: ClusterId::new("west2").ok(), ..heard() };
    let start = Instant::now();
    // What is new, and after how many seconds it is written.
    let cases = [(heard(), None), (later, Some(30)), (more, Some(10)), (silent, Some(0)), (renamed, Some(0))];
    for (state, due) in cases {
        let new = of(&state);
        let written = Some((old.clone(), start));
        let at = |seconds| {
            is_due(
                written.as_ref(),
                &ClusterPeerStatus::default(),
                &new,
                start + Duration::from_secs(seconds),
            )
        };
        let first = (0..120).find(|seconds| at(*seconds));
        assert_eq!(first, due, "{state:?}");
    }
    // A new leader writes what it finds different, and only that.
    assert!(!is_due(None, &old, &old, start));
    assert!(is_due(None, &ClusterPeerStatus::default(), &old, start));
}

/// A write each time that a probe took a little longer would wake all who watch ClusterPeers.
#[test]
fn times_are_written_when_they_have_moved() {
    let time = |micros: Option<u64>| micros.map(Duration::from_micros);
    for (written, measured, expected) in [
        (None, None, None),
        (None, Some(12_345), Some("12.3ms")),
        (None, Some(20), Some("0.1ms")),
        (None, Some(2_500_000), Some("2500.0ms")),
        (Some("12.3ms"), None, Some("12.3ms")),
        (Some("12.3ms"), Some(15_000), Some("12.3ms")),
        (Some("12.3ms"), Some(15_500), Some("15.5ms")),
        (Some("12.3ms"), Some(9_000), Some("9.0ms")),
        (Some("0.1ms"), Some(1_000), Some("0.1ms")),
        (Some("0.1ms"), Some(1_200), Some("1.2ms")),
        (Some("somebody's"), Some(1_200), Some("1.2ms")),
    ] {
        let told = round_trip(written, time(measured));
        assert_eq!(told.as_deref(), expected, "{written:?}, {measured:?}");
        // What was written is what is read, and is no news.
        assert!(measured.is_none() || round_trip(told.as_deref(), time(measured)) == told, "{told:?}");
    }
    let old = ClusterPeerStatus::default();
    let new = ClusterPeerStatus { round_trip_time: Some("12.3ms".to_owned()), ..old.clone() };
    let start = Instant::now();
    let written = (old.clone(), start);
    let first = (0..120).find(|s| is_due(Some(&written), &old, &new, start + Duration::from_secs(*s)));
    assert_eq!(first, Some(10), "with the counts");
}

/// How far away another cluster is says nothing of the one that has its ClusterPeer now.
#[test]
fn a_time_is_of_the_cluster_that_it_was_measured_to() {
    let old = ClusterPeerStatus {
        cluster_id: Some("west".to_owned()),
        round_trip_time: Some("12.3ms".to_owned()),
        ..ClusterPeerStatus::default()
    };
    let mut peer = ClusterPeer::new(
        "west",
        serde_json::from_value(json!({ "credentials": { "secret": { "name": "west" } } })).unwrap(),
    );
    peer.status = Some(old);
    let peers: ClusterPeers = [("west".to_owned(), Arc::new(peer))].into();
    let times: RoundTrips = [("west", 12), ("lima", 13)]
        .map(|(id, millis)| (ClusterId::new(id).unwrap(), Duration::from_millis(millis)))
        .into();
    let (silent, none) = (ClusterState::unknown("west", Some(Origin::ClusterPeer)), RoundTrips::new());
    let now = |id: &str| ClusterState { id: ClusterId::new(id).ok(), ..heard() };
    for (state, times, expected) in [
        (now("west"), &times, Some("12.3ms")),
        (now("west"), &none, Some("12.3ms")),
        (silent, &none, Some("12.3ms")),
        (now("lima"), &none, None),
        (now("lima"), &times, Some("13.0ms")),
    ] {
        let told = statuses(&peers, &PeerList::default(), std::slice::from_ref(&state), times, clock(NOON));
        assert_eq!(told["west"].1.round_trip_time.as_deref(), expected, "{:?}", state.id);
    }
}
