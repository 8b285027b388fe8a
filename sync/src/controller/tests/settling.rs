//! How it gets there: as few requests as it takes, from wherever it starts, and never at others' cost.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::super::world::Trouble;
use super::*;
use crate::kubernetes::Tap;

/// API requests per change of an endpoint: one.
#[test]
fn a_change_of_one_endpoint_is_one_request() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.settle();
    home.tell([slice("west", "web-xyz", &["10.2.0.1", "10.2.0.2"])]);
    let log = home.settle();
    assert!(log.len() == 1 && log[0].starts_with("apply EndpointSlice"), "{log:?}");
    assert_eq!(home.mirrored()["west"], ["10.2.0.1", "10.2.0.2"]);
    assert_eq!(home.settle(), [""; 0], "nothing differs: nothing is written");
}

/// KEP-1645: the import exists while there is an export; what belongs to a cluster goes with its export.
#[test]
fn what_an_export_brought_goes_with_it() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.settle();
    home.tell([takes_back("west", ObjectKey::Export(web()))]);
    home.settle();
    assert_eq!(home.mirrored().into_keys().collect::<Vec<_>>(), ["east"]);
    home.remove("ServiceExport", "web");
    home.tell([takes_back("east", ObjectKey::Export(web()))]);
    let log = home.settle();
    assert_eq!(log.last().unwrap(), "delete ServiceImport shop/web", "the owner goes last: {log:?}");
    assert_eq!(log.len(), 3, "{log:?}");
    assert_eq!(home.names("Service"), ["web"], "the exported Service is not ours");
}

/// Namespace sameness: an import goes only where the namespace is, and as soon as it is.
#[test]
fn an_import_waits_for_its_namespace() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.remove("Namespace", "shop");
    assert_eq!(home.settle(), [""; 0]);
    home.put("Namespace", json!({ "metadata": { "name": "shop" } }));
    assert!(home.observed.take_touched().namespaces.contains("shop"));
    home.settle();
    assert_eq!(home.names("ServiceImport"), ["web"]);
    let going = json!({ "name": "shop", "deletionTimestamp": "2026-11-21T00:00:00Z" });
    home.put("Namespace", json!({ "metadata": going }));
    home.tell([slice("west", "web-xyz", &["10.2.0.9"])]);
    assert_eq!(home.settle(), [""; 0], "nothing is written to a namespace that goes");
}

/// Foreign objects are never touched; an export is told who stands in the way.
#[test]
fn what_others_made_is_left_alone() {
    let import = json!({
        "metadata": { "namespace": "shop", "name": "web", "labels": { "app.kubernetes.io/managed-by": "other" } },
        "spec": { "type": "Headless", "ports": [] },
    });
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.put("ServiceImport", import.clone());
    assert_eq!(home.settle(), ["apply ServiceExport shop/web (status)"]);
    let (ready, message) = home.condition("ServiceExport", "Ready").unwrap();
    assert!(ready == "True/Ready" && message.contains("was not made by Portolan"), "{ready} {message}");
    assert_eq!(home.get("ServiceImport", "web").unwrap()["spec"], import["spec"]);

    home.tell([takes_back("west", ObjectKey::Export(web())), takes_back("east", ObjectKey::Export(web()))]);
    home.settle();
    assert_eq!(home.names("ServiceImport"), ["web"], "not even when nobody exports");

    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.settle();
    let derived = home.names("Service").into_iter().find(|name| name.starts_with("derived-")).unwrap();
    let mut home = two_clusters(ServiceKind::ClusterIp);
    let spec = json!({ "type": "ClusterIP", "clusterIP": "10.96.7.7", "clusterIPs": ["10.96.7.7"] });
    home.put("Service", json!({ "metadata": { "namespace": "shop", "name": derived }, "spec": spec }));
    home.settle();
    assert_eq!(home.get("Service", &derived).unwrap()["spec"], spec);
    let (_, message) = home.condition("ServiceImport", "Ready").unwrap();
    assert!(message.contains(&derived), "{message}");
}

/// What somebody changes or deletes of ours is put right.
#[test]
fn drift_is_put_right() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.settle();
    let before = home.store.clone();
    for ((kind, namespace, name), object) in &before {
        let mut edited = object.clone();
        match *kind {
            "ServiceImport" => edited["spec"]["ports"] = json!([]),
            "EndpointSlice" => edited["endpoints"] = json!([]),
            "Service" if name.starts_with("derived-") => {
                edited["spec"]["sessionAffinity"] = json!("ClientIP");
            }
            _ => continue,
        }
        home.put(kind, edited);
        let log = home.settle();
        assert_eq!(log, [format!("apply {kind} {namespace}/{name}")]);
        if *kind != "ServiceImport" {
            home.remove(kind, name);
            let log = home.settle();
            assert_eq!(log[0], format!("apply {kind} {namespace}/{name}"), "deleted");
        }
    }
}

/// Clients know the virtual IP: who deletes the derived Service changes nothing for them, unless somebody else got the address.
#[test]
fn a_derived_service_that_was_deleted_gets_its_address_back() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.settle();
    let derived = home.names("Service").into_iter().find(|name| name.starts_with("derived-")).unwrap();
    let ips = |home: &Home| home.get("ServiceImport", "web").unwrap()["spec"]["ips"].clone();
    let before = ips(&home);
    home.remove("Service", &derived);
    assert_eq!(home.settle().len(), 1);
    assert_eq!(ips(&home), before);
    home.remove("Service", &derived);
    home.taken = serde_json::from_value(before.clone()).unwrap();
    home.settle();
    home.settle();
    assert_ne!(ips(&home), before);
    assert_eq!(home.condition("ServiceImport", "Ready").unwrap().0, "True/Ready");
}

/// What is known only from our own copies stays, spec and slices, until the cluster is heard again.
#[test]
fn a_cluster_that_is_not_heard_keeps_what_it_had() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    let local = ServiceSpec { internal_traffic_local: true, ..spec() };
    home.tell(exports("west", 200, ServiceKind::ClusterIp, local));
    home.settle();
    let (import, slices) = (home.get("ServiceImport", "web"), home.mirrored());
    let conflict = home.condition("ServiceExport", "Conflict").unwrap();
    assert_eq!(conflict.0, "True/InternalTrafficPolicyConflict");
    // The controller starts again while west is down.
    home.table = portolan_zones::Table::default();
    home.all_heard = false;
    home.restart();
    home.tell([Event::Home(Some(id("east"))), Event::Hear(Hearing::AllBut([id("west")].into()))]);
    let store = home.store.clone();
    for ((kind, ..), object) in store {
        if ["ServiceImport", "EndpointSlice"].contains(&kind) {
            home.put(kind, object);
        }
    }
    home.tell(exports("east", 100, ServiceKind::ClusterIp, ServiceSpec { ports: [].into(), ..spec() }));
    home.tell([slice("east", "web-abc", &["10.1.0.7"])]);
    home.settle();
    let mut expected = slices;
    expected.insert("east".to_owned(), vec!["10.1.0.7".to_owned()]);
    assert_eq!(home.mirrored(), expected);
    assert_eq!(home.get("ServiceImport", "web"), import);
    assert_eq!(home.condition("ServiceExport", "Conflict").unwrap(), conflict);
    // west is heard, and does not export any more.
    home.tell([Event::Hear(Hearing::AllBut([].into()))]);
    home.settle();
    assert_eq!(home.mirrored().into_keys().collect::<Vec<_>>(), ["east"]);
    assert_eq!(home.condition("ServiceExport", "Conflict").unwrap().0, "False/NoConflicts");
}

/// An import that says of nobody that they export it may have lost its status: it goes only when all are heard.
#[test]
fn an_import_that_nobody_stands_behind_goes_when_all_are_heard() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.settle_within(1);
    home.tell([takes_back("west", ObjectKey::Export(web())), takes_back("east", ObjectKey::Export(web()))]);
    home.remove("ServiceExport", "web");
    home.all_heard = false;
    assert_eq!(home.settle(), [""; 0]);
    home.all_heard = true;
    assert_eq!(home.settle(), ["delete ServiceImport shop/web"]);
}

/// A watch that lags behind our own writes takes nothing back.
#[test]
fn what_was_just_written_is_not_forgotten_for_old_news() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.settle();
    let old: Vec<_> = home.store.values().map(ToString::to_string).collect();
    let kinds: Vec<_> = home.store.keys().map(|(kind, ..)| *kind).collect();
    home.tell([slice("west", "web-xyz", &["10.2.0.5"])]);
    home.settle();
    for (kind, json) in kinds.iter().zip(&old) {
        if *kind == "EndpointSlice" {
            home.observed.apply(crate::convert::Kind::EndpointSlice, json);
        }
    }
    assert_eq!(home.plan(&Trouble::default(), &BTreeSet::new()), []);
}

/// MCS API before v0.3: what a definition lacks is refused, field by field; all else is written, and nothing for ever.
#[test]
fn fields_that_are_not_kept_are_not_insisted_upon() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.lacks = vec![
        "spec.ipFamilies",
        "spec.internalTrafficPolicy",
        "spec.trafficDistribution",
        "status.conditions",
    ];
    let spec = ServiceSpec { traffic_distribution: Some("PreferClose".into()), ..spec() };
    home.tell(exports("east", 100, ServiceKind::ClusterIp, spec));
    home.settle();
    assert_eq!(home.settle(), [""; 0]);
    let import = home.get("ServiceImport", "web").unwrap();
    assert!(import["spec"]["ips"][0].is_string() && import["spec"]["ipFamilies"].is_null());
    assert_eq!(import["status"], json!({ "clusters": [{ "cluster": "east" }, { "cluster": "west" }] }));
    assert_eq!(home.condition("ServiceExport", "Ready").unwrap().0, "True/Ready");
    // Newer definitions are installed.
    home.lacks.clear();
    home.lacking.clear();
    home.settle();
    assert_eq!(home.get("ServiceImport", "web").unwrap()["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(home.condition("ServiceImport", "Ready").unwrap().0, "True/Ready");
}

/// What can't be deleted is tried again for ever: nothing that is said of it may turn each time.
#[test]
fn a_status_does_not_turn_while_a_deletion_fails() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    home.settle();
    home.tell([takes_back("west", ObjectKey::Export(web()))]);
    home.refuses_deletions = true;
    home.settle();
    assert!(home.condition("ServiceExport", "Ready").unwrap().1.contains("is not allowed"));
    for _ in 0..3 {
        assert_eq!(home.settle().len(), 1, "only what fails is tried again");
    }
    home.refuses_deletions = false;
    home.settle();
    assert!(!home.condition("ServiceExport", "Ready").unwrap().1.contains("is not allowed"));
}

/// What happens to the clusterset.
#[derive(Debug, Clone)]
enum Happening {
    Export { west: bool, headless: bool, families: u8, port: u16 },
    Unexport { west: bool },
    Endpoints { west: bool, slice: u8, count: u8 },
    Network { far: bool },
    Full(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        (any::<bool>(), any::<bool>(), 0..4_u8, 80..83_u16).prop_map(|(west, headless, families, port)| {
            Happening::Export { west, headless, families, port }
        }),
        any::<bool>().prop_map(|west| Happening::Unexport { west }),
        (any::<bool>(), 0..3_u8, 0..4_u8).prop_map(|(west, slice, count)| Happening::Endpoints {
            west,
            slice,
            count
        }),
        any::<bool>().prop_map(|far| Happening::Network { far }),
        any::<bool>().prop_map(Happening::Full),
    ]
}

fn happen(home: &mut Home, happening: &Happening) {
    let cluster = |west: bool| if west { "west" } else { "east" };
    match *happening {
        Happening::Export { west, headless, families, port: number } => {
            use IpFamily::{V4, V6};
            let ip_families = [&[V4][..], &[V6], &[V4, V6], &[V6, V4]][usize::from(families)];
            let spec = ServiceSpec {
                ports: [port(Some("http"), number)].into(),
                ip_families: ip_families.iter().copied().collect(),
                ..spec()
            };
            let kind = if headless { ServiceKind::Headless } else { ServiceKind::ClusterIp };
            if !west {
                home.has_service(kind);
                home.has_export();
            }
            home.tell(exports(cluster(west), 100 + i64::from(west), kind, spec));
        }
        Happening::Unexport { west } => {
            if !west {
                home.remove("ServiceExport", "web");
            }
            home.tell([takes_back(cluster(west), ObjectKey::Export(web()))]);
        }
        Happening::Endpoints { west, slice: n, count } => {
            let addresses: Vec<String> =
                (0..count).map(|i| format!("10.{n}.{}.{i}", u8::from(west))).collect();
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            home.tell([slice(cluster(west), &format!("web-{n}"), &addresses)]);
        }
        Happening::Network { far } => {
            let network = if far { "far" } else { "" };
            home.tell([Event::Network { cluster: id("west"), network: network.into() }]);
        }
        Happening::Full(full) => home.full = full,
    }
}

/// The import's UID and addresses.
fn addresses(home: &Home) -> (String, Vec<String>) {
    let key = ("ServiceImport", "shop".to_owned(), "web".to_owned());
    let Some(import) = home.store.get(&key) else { return Default::default() };
    let ips = serde_json::from_value(import["spec"]["ips"].clone()).unwrap_or_default();
    (import["metadata"]["uid"].to_string(), ips)
}

/// Whether an import, if it is still the same, has no other address of a family than it had.
fn is_kept(before: &(String, Vec<String>), after: &(String, Vec<String>)) -> bool {
    let family = |ip: &String| ip.contains(':');
    let kept = |ip: &String| after.1.iter().all(|other| family(other) != family(ip) || other == ip);
    before.0 != after.0 || before.1.iter().all(kept)
}

/// What does not depend on the way there: no UIDs, versions, times or addresses.
fn essence(home: &Home) -> Vec<String> {
    let mut all = Vec::new();
    for ((kind, _, name), object) in &home.store {
        let mut object = object.clone();
        for field in ["uid", "resourceVersion", "ownerReferences", "generation"] {
            object["metadata"][field] = json!(null);
        }
        for field in ["ips", "clusterIPs", "clusterIP"] {
            if object["spec"].is_object() {
                let count = object["spec"][field].as_array().map(Vec::len);
                object["spec"][field] = json!(count);
            }
        }
        for condition in object["status"]["conditions"].as_array_mut().into_iter().flatten() {
            condition["lastTransitionTime"] = json!(null);
        }
        all.push(format!("{kind} {name} {object}"));
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happens, and wherever a controller dies between two requests, the next one ends at the same objects, and then
    /// has nothing left to do.
    #[test]
    fn a_crash_between_two_requests_leaves_no_trace(
        happenings in prop::collection::vec((happening(), 0..6_usize), 1..12),
    ) {
        let mut steady = Home::new("east");
        let mut unlucky = Home::new("east");
        for home in [&mut steady, &mut unlucky] {
            home.tell([Event::Hear(Hearing::AllBut([].into()))]);
        }
        for (happening, survives) in &happenings {
            let before = [&steady, &unlucky].map(addresses);
            happen(&mut steady, happening);
            steady.settle();
            happen(&mut unlucky, happening);
            unlucky.settle_within(*survives);
            unlucky.restart();
            // Clients know an address as long as it is the same import's.
            let after = [&steady, &unlucky].map(addresses);
            prop_assert!(before.iter().zip(&after).all(|(before, after)| is_kept(before, after)), "{before:?} {after:?}");
        }
        let before = addresses(&unlucky);
        for home in [&mut steady, &mut unlucky] {
            home.full = false;
            home.settle();
            prop_assert_eq!(home.plan(&Trouble::default(), &BTreeSet::new()), vec![]);
        }
        prop_assert!(is_kept(&before, &addresses(&unlucky)), "{before:?} {:?}", addresses(&unlucky));
        // Which families a Service had before may show in it for ever: an address that is there is kept.
        let but_derived = |home: &Home| -> Vec<String> {
            essence(home).into_iter().filter(|text| !text.starts_with("Service derived-")).collect()
        };
        prop_assert_eq!(but_derived(&steady), but_derived(&unlucky));
    }
}
