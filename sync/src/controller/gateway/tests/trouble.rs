//! What is refused, what does not fit, and what a crash leaves behind.

use serde_json::json;

use super::*;

/// Those that find no number are told one by one; what others have stays.
#[test]
fn a_range_that_is_full_refuses_only_who_is_too_many() {
    let ports = "20000-20001".parse().unwrap();
    let mut cluster = Cluster::new(GatewayConfig { ports, ..GatewayConfig::default() });
    for name in ["b", "c"] {
        cluster.export(name, &http());
    }
    cluster.settle();
    let before = ["b", "c"].map(|name| cluster.number(name).unwrap());
    cluster.export("a", &http());
    cluster.settle();
    assert_eq!((["b", "c"].map(|name| cluster.number(name).unwrap()), cluster.told("a")), (before, None));
    let refused = cluster.keeper.status().refused;
    assert!(
        refused.len() == 1 && refused[0].starts_with("shop/a:80/TCP: all ports 20000-20001"),
        "{refused:?}"
    );
}

/// What the API server refuses is told, is not tried again and again, and keeps nobody else waiting.
#[test]
fn a_refusal_is_told_and_left_for_a_while() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    cluster.export("web", &http());
    cluster.settle();
    cluster.export("api", &http());
    assert_eq!(cluster.settle_within(2), ["the memory of ports", "the configuration"]);
    let due = cluster.seen.with(|seen| cluster.keeper.due(seen, cluster.now));
    let ports = due.iter().find(|write| matches!(write, Write::Ports { .. })).unwrap();
    cluster.keeper.refused(ports, "conflict with kubectl", std::time::Instant::now());
    let log = cluster.settle();
    assert!(!log.contains(&ports.target()), "{log:?}");
    assert!(cluster.keeper.retry().is_some_and(|retry| retry > std::time::Instant::now()));
    assert!(cluster.problems().contains("the Service's ports can't be written: conflict with kubectl"));
    assert_eq!(
        (cluster.told("api"), cluster.number("web").is_some()),
        (None, true),
        "only what is there is told"
    );
    cluster.export("db", &http());
    assert!(cluster.settle().contains(&ports.target()), "something else is to be written there");
    assert!(cluster.number("api").is_some() && cluster.problems().is_empty());
    assert_eq!(cluster.keeper.retry(), None);
}

/// A number that the configuration lacks is nobody's: not at the gateway's Service, nor at peers. What is served stays told, after
/// a restart, too.
#[test]
fn only_what_is_served_is_told() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    cluster.export("web", &http());
    cluster.settle();
    cluster.export("api", &http());
    for _ in 0..2 {
        let due = cluster.seen.with(|seen| cluster.keeper.due(seen, cluster.now));
        let files = due.iter().find(|write| matches!(write, Write::Files { .. })).unwrap();
        cluster.keeper.refused(files, "forbidden", std::time::Instant::now());
        let log = cluster.settle();
        assert!(log.iter().all(|target| target == "the memory of ports"), "{log:?}");
        assert!(cluster.told("web").is_some() && cluster.told("api").is_none());
        cluster.restart();
    }
    cluster.settle();
    assert!(cluster.told("api").is_some());
}

/// What is too much for a ConfigMap is refused port by port; who is served stays.
#[test]
fn what_does_not_fit_is_refused_one_by_one() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    cluster.export("zebra", &http());
    cluster.settle();
    let before = cluster.told("zebra");
    let ports: Vec<_> = (1..101).map(|n| json!({ "name": format!("p{n}"), "port": n })).collect();
    let names: Vec<_> = (0..40).map(|n| format!("a{n}")).collect();
    names.iter().for_each(|name| cluster.export(name, &json!(ports)));
    cluster.settle();
    let status = cluster.keeper.status();
    assert_eq!(status.ports + status.refused.len(), 1 + 4_000);
    assert!(status.ports > 1_000 && status.refused[0].contains("would not fit into a ConfigMap"));
    assert_eq!(cluster.told("zebra"), before);
    let told = names.iter().filter_map(|name| cluster.told(name));
    let told: usize = told.map(|(_, ports)| ports.split(',').count()).sum();
    assert_eq!((told + 1, cluster.served.lines().count()), (status.ports, status.ports));
    let size: usize = cluster.maps[crate::gateway::FILES].values().map(String::len).sum();
    assert!(size + cluster.served.len() < 1 << 20, "{size}");
    assert_eq!(cluster.settle(), Vec::<String>::new());
}

/// There are fewer node ports than exports: a few requests find that out, those who get none are named, and they get one when one
/// is free again.
#[test]
fn as_many_as_there_are_node_ports_get_one() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    cluster.node_ports = 40;
    let names: Vec<_> = (0..100).map(|n| format!("s{n}")).collect();
    names.iter().for_each(|name| cluster.export(name, &http()));
    let log = cluster.settle();
    let asked = log.iter().filter(|target| *target == "the Service's ports").count();
    assert!(asked < 30, "{asked} requests");
    let told = names.iter().filter(|name| cluster.told(name).is_some()).count();
    let status = cluster.keeper.status();
    assert_eq!((told, status.refused.len()), (40, 60));
    assert!(status.problems[0].contains("range is full"), "{:?}", status.problems);
    assert!(
        !cluster.haproxy().contains("range is full"),
        "the configuration is the same whatever is refused"
    );
    cluster.node_ports = 100;
    cluster.export("another", &http());
    cluster.remove("ServiceExport", "shop", "another");
    assert_eq!(
        cluster.settle(),
        Vec::<String>::new(),
        "not before its time, or something else is to be written"
    );
    let gone = names.iter().find(|name| cluster.told(name).is_some()).unwrap();
    cluster.remove("ServiceExport", "shop", gone);
    cluster.settle();
    let status = cluster.keeper.status();
    assert_eq!((status.refused, status.problems), (vec![], vec![]));
    assert!(names.iter().filter(|name| *name != gone).all(|name| cluster.told(name).is_some()));
}

/// Server-side apply can't remove a list entry that another manager owns as well, and a webhook may strip what is written: the
/// answer is 200 each time, and must not be asked for again and again.
#[test]
fn what_is_accepted_without_effect_is_told_and_left_for_a_while() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    cluster.settle();
    let mut gateway = cluster.store[&("Service", NS.to_owned(), SERVICE.to_owned())].clone();
    let kept = json!({ "name": "p-20017", "port": 20_017, "protocol": "TCP", "targetPort": 20_017 });
    gateway["spec"]["ports"].as_array_mut().unwrap().push(kept);
    gateway["metadata"]["managedFields"] = json!([{ "manager": "helm", "operation": "Update" }]);
    cluster.put("Service", gateway.clone());
    cluster.deaf = true;
    assert_eq!(cluster.settle(), ["the Service's ports"]);
    let problems = cluster.problems();
    assert!(
        problems.contains("it was accepted, but has no effect") && problems.contains("(helm)"),
        "{problems}"
    );
    assert_eq!(cluster.settle(), Vec::<String>::new());
    cluster.deaf = false;
    gateway["spec"]["ports"].as_array_mut().unwrap().pop();
    cluster.put("Service", gateway);
    cluster.export("web", &http());
    cluster.settle();
    assert_eq!((cluster.problems(), cluster.number("web").is_some()), (String::new(), true));
    cluster.deaf = true;
    cluster.put("ServiceExport", json!({ "metadata": { "namespace": "shop", "name": "web" } }));
    assert_eq!(cluster.settle(), ["ServiceExport shop/web"], "annotations are stripped");
    assert!(cluster.problems().contains("ServiceExport shop/web can't be written"), "{}", cluster.problems());
}

/// Whenever a process ends, the next one gives every port the number that anybody may know of; so it is when what is remembered
/// is lost, or is nonsense.
#[test]
fn a_crash_between_any_two_requests_keeps_ports() {
    for most in 0..14 {
        let ports = "20000-20007".parse().unwrap();
        let mut cluster = Cluster::new(GatewayConfig { ports, ..GatewayConfig::default() });
        let names = ["a", "b", "c", "d", "e"];
        names[..3].iter().for_each(|name| cluster.export(name, &http()));
        cluster.settle_within(most);
        let told: Vec<_> = names[..3].iter().map(|name| cluster.number(name)).collect();
        names[3..].iter().for_each(|name| cluster.export(name, &http()));
        if most % 3 == 1 {
            cluster.maps.insert(crate::gateway::MEMORY, [("tcp-x".to_owned(), "?".to_owned())].into());
        }
        cluster.restart();
        cluster.settle();
        let now: Vec<_> = names.iter().map(|name| cluster.number(name).unwrap()).collect();
        for (at, told) in told.iter().enumerate() {
            assert!(told.is_none_or(|told| told == now[at]), "after {most}: {told:?} {now:?}");
        }
        let unique: std::collections::BTreeSet<_> = now.iter().collect();
        assert_eq!(unique.len(), names.len());
        let config = cluster.haproxy();
        assert!(now.iter().all(|number| config.contains(&format!("frontend tcp-{number}\n"))), "{config}");
    }
}
