//! Which clusters are in contact → which Leases are renewed and kept. No API server, no clock, no waiting.

use super::*;
use crate::kubernetes::{Access, Origin, PeerConfig, Pinned};

fn peer(name: &str, stale_after: u64) -> PeerConfig {
    PeerConfig {
        name: name.to_owned(),
        origin: Origin::ClusterPeer,
        access: Access::InCluster,
        id: None,
        pinned: Pinned::default(),
        network: Arc::default(),
        labels: Box::default(),
        namespaces: None,
        stale_after: Duration::from_secs(stale_after),
        withdraw_after: None,
    }
}

fn state(name: &str, reachable: bool, id: Option<&str>) -> ClusterState {
    ClusterState {
        reachable,
        synced: reachable,
        id: id.map(|id| ClusterId::new(id).unwrap()),
        ..ClusterState::unknown(name, Some(Origin::ClusterPeer))
    }
}

/// Whoever answers, and does not tell what is asked (RBAC took endpoints away, a list that never came), is not fresh.
#[test]
fn an_answer_is_not_enough() {
    let west = state("west", true, Some("w"));
    let cases = [
        (west.clone(), true),
        (ClusterState { reachable: false, ..west.clone() }, false),
        (ClusterState { synced: false, ..west.clone() }, false),
        (ClusterState { stale: true, ..west.clone() }, false),
        (ClusterState { withdrawn: true, ..west }, false),
    ];
    let list = PeerList { peers: vec![peer("west", 30)], complete: true, ..PeerList::default() };
    for (state, expected) in cases {
        let plan = plan(&list, std::slice::from_ref(&state));
        assert_eq!((!plan.renew.is_empty(), plan.keep.unwrap().len()), (expected, 1), "{state:?}");
    }
}

#[test]
fn a_lease_is_renewed_while_its_cluster_is_in_contact() {
    let names = ["west", "silent", "nameless", "unheard", "self", "twin"];
    let list =
        PeerList { peers: names.map(|name| peer(name, 120)).into(), complete: true, ..PeerList::default() };
    let own = ClusterState { is_own: true, ..state("self", true, Some("home")) };
    let twin = ClusterState { duplicate_of: Some("west".to_owned()), ..state("twin", true, Some("w")) };
    let mut other = state("silent", true, Some("s"));
    other.origin = Some(Origin::Kubeconfig);
    let states = [
        state("west", true, Some("w")),
        other,
        state("silent", false, Some("s")),
        state("nameless", true, None),
        own,
        twin,
    ];
    let plan = plan(&list, &states);
    let renewed: Vec<_> =
        plan.renew.iter().map(|(name, renewal)| (&**name, renewal.cluster.as_str())).collect();
    assert_eq!(renewed, [("portolan-peer-west", "w")]);
    assert_eq!(plan.renew["portolan-peer-west"].duration.as_secs(), 120, "the ClusterPeer's staleAfter");
    // A Lease that is not renewed is kept: it is what tells that the cluster is stale.
    let kept =
        ["portolan-peer-nameless", "portolan-peer-silent", "portolan-peer-unheard", "portolan-peer-west"];
    assert_eq!(plan.keep, Some(kept.map(str::to_owned).into()));
}

/// Before all is listed, who is not there may only be unknown yet.
#[test]
fn nothing_is_deleted_before_all_clusters_are_known() {
    assert_eq!(plan(&PeerList::default(), &[]), Plan::default());
    let complete = PeerList { complete: true, ..PeerList::default() };
    assert_eq!(plan(&complete, &[]).keep, Some(BTreeSet::new()));
}

/// Names and labels that the API server takes, whatever people call their contexts; different ones for different names.
#[test]
fn any_name_gets_a_lease() {
    let long = "x".repeat(200);
    let cases = ["west", "eu.west", "admin@west", "fleet/west", "fleet-west", "West", "Ünü", "-", &long];
    let mut seen = BTreeSet::new();
    for peer in cases {
        let (name, label) = names(peer);
        assert!(name.split('.').all(|part| check_label(part).is_ok()) && name.len() < 128, "{peer}: {name}");
        assert!(is_label(PEER, &label), "{peer}: {label}");
        assert!(seen.insert(name), "{peer}");
    }
    assert_eq!(names("eu.west"), ("portolan-peer-eu.west".to_owned(), "eu.west".to_owned()));
    assert!(names("admin@west").0.starts_with("portolan-peer-admin-west-"));
}

#[test]
fn a_lease_holds_what_dns_servers_read() {
    let renewal = Renewal {
        label: "west".to_owned(),
        cluster: ClusterId::new("west.example").unwrap(),
        duration: SHORTEST,
    };
    let at: Timestamp = "2026-03-01T12:00:00.25Z".parse().unwrap();
    let read: Lease = serde_json::from_value(lease("portolan-peer-west", &renewal, at)).unwrap();
    assert_eq!(read.metadata.labels.unwrap()[PEER], "west");
    assert_eq!(read.metadata.annotations.unwrap()[CLUSTER], "west.example");
    let spec = read.spec.unwrap();
    assert_eq!(
        (spec.renew_time.unwrap().0, spec.lease_duration_seconds),
        (at, Some(SHORTEST.as_secs() as i32))
    );
}

/// Two renewals may fail before anybody takes the cluster for stale, and DNS servers say so when the ClusterPeer does.
#[test]
fn a_lease_outlasts_failed_renewals() {
    for (stale_after, duration) in [(1, SHORTEST.as_secs()), (5, 5), (30, 30), (3600, 3600)] {
        let list = PeerList { peers: vec![peer("west", stale_after)], ..PeerList::default() };
        let plan = plan(&list, &[state("west", true, Some("w"))]);
        let renewal = &plan.renew["portolan-peer-west"];
        assert_eq!(renewal.duration.as_secs(), duration);
        assert!(every(renewal.duration) * 3 <= renewal.duration);
        assert!((TICK..=EVERY).contains(&every(renewal.duration)), "{:?}", every(renewal.duration));
    }
    assert!(EVERY * 2 + PATIENCE < crate::kubernetes::resources::DEFAULT_STALE_AFTER);
}
