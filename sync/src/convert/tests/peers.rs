//! What ClusterPeers tell tables, and what people decide of endpoints.

use std::time::Duration;

use portolan_zones::object::Export;
use portolan_zones::peers::{Peer, State};

use super::*;

/// What it is, and what of it is left out.
fn peer_of(value: Value) -> Result<(Option<Peer>, Option<String>), String> {
    let mut refused = Refused::default();
    match peer(&read(&value), &mut Interner::default(), &mut refused) {
        Ok(Some(Object::Peer(peer))) => Ok((Some(peer), refused.text())),
        Ok(None) => Ok((None, refused.text())),
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => Err(error.to_string()),
    }
}

fn export_of(annotations: Value) -> (Export, Option<String>) {
    let mut refused = Refused::default();
    let value = json!({"metadata": {"namespace": "shop", "name": "cart", "annotations": annotations}});
    match export(&read(&value), &Names::new(), &mut Interner::default(), &mut refused) {
        Ok(Object::Export(export)) => (export, refused.text()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_tells_of_its_cluster() {
    let (peer, refused) = peer_of(json!({
        "metadata": {
            "name": "west",
            "labels": {"tier": "gold", "site": "north", "app.kubernetes.io/name": ""},
            "annotations": {"portolan.dev/state": "drain", "other": "x"},
        },
        "spec": {"credentials": {"secret": {"name": "west"}}, "clusterId": "configured"},
        "status": {"clusterId": "lima", "roundTripTime": "12.3ms", "exports": 3},
    }))
    .unwrap();
    let labels = [("app.kubernetes.io/name", ""), ("site", "north"), ("tier", "gold")];
    let expected = Peer {
        name: "west".into(),
        cluster: ClusterId::new("lima").unwrap(),
        labels: labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        state: Some(State::Drain),
        rtt: Some(Duration::from_micros(12_300)),
    };
    assert_eq!((peer, refused), (Some(expected), None));
}

#[test]
fn a_peer_without_an_id_tells_nothing() {
    for (value, cluster) in [
        (json!({"metadata": {"name": "west"}}), None),
        (json!({"metadata": {"name": "west"}, "spec": {}, "status": {}}), None),
        (json!({"metadata": {"name": "west"}, "spec": {"clusterId": "lima"}}), Some("lima")),
        (json!({"metadata": {"name": "west"}, "spec": null, "status": {"clusterId": "lima"}}), Some("lima")),
    ] {
        let (peer, refused) = peer_of(value.clone()).unwrap();
        assert_eq!(peer.as_ref().map(|peer| peer.cluster.as_str()), cluster, "{value}");
        assert_eq!(refused, None, "{value}");
    }
    let error = peer_of(json!({"metadata": {"name": "west"}, "status": {"clusterId": "Lima!"}})).unwrap_err();
    assert!(error.starts_with("status.clusterId: "), "{error}");
}

/// A time that can't be read takes nothing else away.
#[test]
fn an_unknown_time_is_none() {
    let (peer, refused) = peer_of(json!({
        "metadata": {"name": "west", "annotations": {"portolan.dev/state": "drain"}},
        "spec": {"clusterId": "lima"},
        "status": {"roundTripTime": "soon"},
    }))
    .unwrap();
    let peer = peer.unwrap();
    assert_eq!((peer.state, peer.rtt), (Some(State::Drain), None));
    let refused = refused.unwrap();
    assert!(refused.contains("`soon` is not a time such as 12.3ms; this is left out"), "{refused}");
}

/// A slip of the pen doesn't bring a cluster back that was drained: the ClusterPeer is refused, and its last good version
/// holds. An export's author says nothing by it.
#[test]
fn an_unknown_state_is_no_word() {
    for text in ["", "drained", "do wn"] {
        let error = peer_of(json!({
            "metadata": {"name": "west", "annotations": {"portolan.dev/state": text}},
            "spec": {"clusterId": "lima"},
        }))
        .unwrap_err();
        let expected =
            format!("metadata.annotations[portolan.dev/state]: `{text}` is not one of up, drain, down");
        assert_eq!(error, expected);
    }
    for (text, expected) in [("up", State::Up), ("drain", State::Drain), ("down", State::Down)] {
        let (export, refused) = export_of(json!({"portolan.dev/state": text}));
        assert_eq!((export.state, refused), (Some(expected), None), "{text}");
    }
    assert_eq!(export_of(json!({})).0.state, None);
    for text in ["", "drained", "do wn"] {
        let (export, refused) = export_of(json!({"portolan.dev/state": text}));
        assert_eq!(export.state, None, "{text}");
        let refused = refused.unwrap();
        assert!(
            refused.contains(&format!("metadata.annotations[portolan.dev/state]: `{text}`")),
            "{refused}"
        );
    }
}
