//! Clients know virtual IPs: what happens to the objects that hold one must not change it.

use serde_json::{Value, json};

use super::super::memory::HOLD;
use super::*;

fn derived(home: &Home) -> Option<String> {
    home.names("Service").into_iter().find(|name| name.starts_with("derived-"))
}

fn ips(home: &Home) -> Value {
    home.get("ServiceImport", "web").map(|import| import["spec"]["ips"].clone()).unwrap_or_default()
}

/// Only the own cluster exports, and its Service is deleted, as `kubectl replace --force` does.
fn without_its_service() -> (Home, Value) {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.tell([takes_back("west", ObjectKey::Export(web()))]);
    home.settle();
    let before = ips(&home);
    assert!(before[0].is_string());
    home.remove("Service", "web");
    home.tell([takes_back("east", ObjectKey::Service(web()))]);
    (home, before)
}

/// An export without its Service is not valid (KEP-1645); what clients know stays while the Service may be on its way.
#[test]
fn an_import_waits_for_a_service_that_is_made_anew() {
    let (mut home, before) = without_its_service();
    let uid = home.uid("ServiceImport", "web");
    home.settle();
    assert_eq!((ips(&home), home.mirrored().len()), (before.clone(), 0), "no endpoint is left");
    let clusters = |home: &Home| home.get("ServiceImport", "web").unwrap()["status"]["clusters"].clone();
    assert_eq!(clusters(&home), json!([{ "cluster": "east" }]), "who it waits for");
    assert!(home.condition("ServiceImport", "Ready").unwrap().1.contains("stay for 5 minutes"));
    assert_eq!(home.condition("ServiceExport", "Valid").unwrap().0, "False/NoService");
    let (ready, message) = home.condition("ServiceExport", "Ready").unwrap();
    assert!(ready == "False/Pending" && message.contains("stay for 5 minutes"), "{ready} {message}");
    // Another leader begins anew to wait.
    home.restart();
    assert_eq!(home.settle(), [""; 0]);
    home.now += HOLD.as_secs() as i64 - 1;
    assert_eq!(home.settle(), [""; 0]);
    home.has_service(ServiceKind::ClusterIp);
    home.tell(exports("east", 100, ServiceKind::ClusterIp, spec()));
    home.settle();
    assert_eq!((ips(&home), home.uid("ServiceImport", "web")), (before, uid));
    assert_eq!(home.mirrored().into_keys().collect::<Vec<_>>(), ["east"]);
    assert_eq!(home.condition("ServiceExport", "Ready").unwrap().0, "True/Ready");
}

#[test]
fn an_import_does_not_wait_for_ever() {
    let (mut home, _) = without_its_service();
    home.settle();
    home.now += HOLD.as_secs() as i64;
    assert!(home.settle().contains(&"delete ServiceImport shop/web".to_owned()));
    assert_eq!(home.condition("ServiceExport", "Ready").unwrap().1, "the export is not valid");
}

/// A peer that was never heard is not behind an import that says who is: that one's endpoints go at once, and it waits no
/// longer for that.
#[test]
fn nobody_else_who_is_silent_keeps_an_import_whose_service_is_gone() {
    let (mut home, before) = without_its_service();
    home.all_heard = false;
    home.tell([Event::Hear(Hearing::AllBut([id("tokyo")].into()))]);
    home.settle();
    assert_eq!((ips(&home), home.mirrored().len()), (before, 0), "no endpoint is left");
    assert!(home.condition("ServiceImport", "Ready").unwrap().1.contains("stay for 5 minutes"));
    home.now += HOLD.as_secs() as i64;
    assert!(home.settle().contains(&"delete ServiceImport shop/web".to_owned()));

    // Who waits remembers for whom: the export is taken back while somebody else is silent.
    let (mut home, _) = without_its_service();
    home.settle();
    home.restart();
    home.all_heard = false;
    home.tell([Event::Hear(Hearing::AllBut([id("tokyo")].into()))]);
    home.remove("ServiceExport", "web");
    home.tell([takes_back("east", ObjectKey::Export(web()))]);
    assert_eq!(home.settle().last().unwrap(), "delete ServiceImport shop/web");
}

/// Whoever takes the export back means it, also while the Service is missing.
#[test]
fn an_import_whose_export_is_taken_back_goes_at_once() {
    for meanwhile in [false, true] {
        let (mut home, _) = without_its_service();
        if meanwhile {
            home.settle();
        }
        home.remove("ServiceExport", "web");
        home.tell([takes_back("east", ObjectKey::Export(web()))]);
        assert_eq!(home.settle().last().unwrap(), "delete ServiceImport shop/web");
        assert_eq!(home.names("Service"), [""; 0]);
    }
}

/// GitOps prunes and makes anew: the address that clients know is asked for again, unless somebody else has it by then.
#[test]
fn an_export_that_comes_back_gets_its_address_back() {
    for (taken, later) in [(false, 0), (true, 0), (false, 3600)] {
        let mut home = two_clusters(ServiceKind::ClusterIp);
        home.settle();
        let before = ips(&home);
        home.tell([
            takes_back("west", ObjectKey::Export(web())),
            takes_back("east", ObjectKey::Export(web())),
        ]);
        home.remove("ServiceExport", "web");
        home.settle();
        assert_eq!((ips(&home), derived(&home)), (Value::Null, None));
        if taken {
            home.taken = serde_json::from_value(before.clone()).unwrap();
        }
        home.now += later;
        // So that the next address that is given out would be another one.
        home.put("Service", json!({ "metadata": { "namespace": "shop", "name": "other" } }));
        home.has_export();
        home.tell(exports("east", 100, ServiceKind::ClusterIp, spec()));
        home.settle();
        home.settle();
        assert_eq!(ips(&home) == before, !taken && later == 0, "{taken} {later}");
        assert_eq!(home.condition("ServiceImport", "Ready").unwrap().0, "True/Ready");
    }
}

/// A webhook that fails, a quota, a range without room: all of it passes.
#[test]
fn no_refusal_takes_an_address_away() {
    let refusals = [
        "failed calling webhook \"validate.kyverno.svc\": connection refused",
        "exceeded quota: services, requested: services=1, used: services=7",
        "failed to allocate a serviceIP: range is full",
    ];
    for refusal in refusals {
        let mut home = two_clusters(ServiceKind::ClusterIp);
        home.settle();
        let before = ips(&home);
        home.remove("Service", &derived(&home).unwrap());
        home.refuses_services = Some(refusal);
        for _ in 0..10 {
            home.settle();
            assert_eq!(ips(&home), before, "{refusal}");
            assert_eq!(home.condition("ServiceImport", "Ready").unwrap().0, "False/Pending");
        }
        home.refuses_services = None;
        home.settle();
        assert_eq!(ips(&home), before, "{refusal}");
        let service = home.get("Service", &derived(&home).unwrap()).unwrap();
        assert_eq!(service["spec"]["clusterIPs"], before);
        assert_eq!(home.condition("ServiceImport", "Ready").unwrap().0, "True/Ready");
    }
}

/// A peer that is dead for days is no reason to leave what is wrong here.
#[test]
fn while_a_peer_is_not_heard_the_derived_service_is_put_right() {
    use IpFamily::{V4, V6};
    for (wanted, families) in
        [(&[V4][..], &["IPv4"][..]), (&[V4, V6], &["IPv4", "IPv6"]), (&[V6, V4], &["IPv4"])]
    {
        let mut home = two_clusters(ServiceKind::ClusterIp);
        home.families = families.to_vec();
        let spec = || ServiceSpec { ip_families: wanted.iter().copied().collect(), ..spec() };
        home.tell(exports("east", 100, ServiceKind::ClusterIp, spec()));
        home.tell(exports("west", 200, ServiceKind::ClusterIp, spec()));
        home.settle();
        let (before, name) = (ips(&home), derived(&home).unwrap());
        home.all_heard = false;
        home.tell([Event::Hear(Hearing::AllBut([id("west")].into()))]);
        assert_eq!(home.settle(), [""; 0], "{wanted:?}: nothing changes for that");
        home.remove("Service", &name);
        assert_eq!(home.settle(), [format!("apply Service shop/{name}")]);
        assert_eq!(ips(&home), before);
        let service = home.get("Service", &name).unwrap();
        let has: Vec<String> = serde_json::from_value(service["spec"]["clusterIPs"].clone()).unwrap();
        assert!(before.as_array().unwrap().iter().all(|ip| has.contains(&ip.as_str().unwrap().to_owned())));
    }
}

/// An import that lacks what its definition does not have is no model for a Service that has it.
#[test]
fn a_derived_service_that_is_there_is_not_made_like_an_import_that_is_held() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    let local = || ServiceSpec { internal_traffic_local: true, ..spec() };
    home.lacks = vec!["spec.internalTrafficPolicy"];
    home.tell(exports("east", 100, ServiceKind::ClusterIp, local()));
    home.tell(exports("west", 200, ServiceKind::ClusterIp, local()));
    home.settle();
    home.all_heard = false;
    home.tell([Event::Hear(Hearing::AllBut([id("west")].into()))]);
    assert_eq!(home.settle(), [""; 0]);
    let service = home.get("Service", &derived(&home).unwrap()).unwrap();
    assert_eq!(service["spec"]["internalTrafficPolicy"], "Local");
}

/// What is to be said of the own export needs no word of others.
#[test]
fn an_export_is_judged_while_nobody_is_heard() {
    let mut home = Home::new("east");
    home.all_heard = false;
    home.tell([Event::Hear(Hearing::AllBut([id("west")].into()))]);
    home.tell(exports("west", 200, ServiceKind::ClusterIp, spec()));
    home.put("ServiceImport", json!({ "metadata": { "namespace": "shop", "name": "web", "labels": { "portolan.dev/managed": "true" } }, "spec": { "type": "ClusterSetIP", "ips": [], "ports": [] } }));
    home.has_export();
    home.settle();
    assert_eq!(home.condition("ServiceExport", "Valid").unwrap().0, "False/NoService");
    assert_eq!(home.names("ServiceImport"), ["web"]);
}
