//! `deploy/crds` is what the types say. `PORTOLAN_ACCEPT=1` takes what the types say for what is expected.

use std::path::Path;

use portolan_sync::kubernetes::resources::{ClusterPeer, crds};

#[test]
fn deployed_crds_are_those_of_the_types() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    for (file, made) in crds() {
        let path = folder.join(file);
        if std::env::var_os("PORTOLAN_ACCEPT").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &made).unwrap();
        }
        let deployed = std::fs::read_to_string(&path).unwrap();
        assert_eq!(made, deployed, "{file}: PORTOLAN_ACCEPT=1 cargo test -p portolan-sync --test crds");
    }
}

/// A spec with nothing but credentials is whole; what is left out has the values that the API server fills in.
#[test]
fn the_smallest_peer_has_defaults() {
    let json = r#"{"apiVersion":"portolan.dev/v1alpha1","kind":"ClusterPeer","metadata":{"name":"west"},
        "spec":{"credentials":{"secret":{"name":"west"}}}}"#;
    let spec = serde_json::from_str::<ClusterPeer>(json).unwrap().spec;
    assert_eq!(spec.stale_after().as_secs(), 30);
    assert_eq!(spec.withdraw_after().map(|after| after.as_secs()), Some(7 * 24 * 3600));
    assert_eq!((&*spec.credentials.secret.key, spec.credentials.allow_exec), ("kubeconfig", false));
    assert_eq!(spec.namespaces, None);
}

#[test]
fn durations_are_read_as_the_api_server_reads_them() {
    let cases = [("45s", Some(45)), ("1h30m", Some(5400)), ("2h3m4s", Some(7384)), ("never", None)];
    let json = r#"{"credentials":{"secret":{"name":"west"}}}"#;
    let mut spec: portolan_sync::kubernetes::resources::ClusterPeerSpec = serde_json::from_str(json).unwrap();
    for (text, seconds) in cases {
        spec.withdraw_after = text.to_owned();
        assert_eq!(spec.withdraw_after().map(|after| after.as_secs()), seconds, "{text}");
    }
    // What no API server lets through is the default, and nothing that a peer would be withdrawn by at once.
    for text in ["", "-5s", "soon", "999999999999999999999h"] {
        spec.withdraw_after = text.to_owned();
        assert_eq!(spec.withdraw_after().map(|after| after.as_secs()), Some(604_800), "{text}");
    }
}
