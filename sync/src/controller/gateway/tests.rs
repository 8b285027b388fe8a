//! The keeper against an API server in a few lines: it stores what is applied, who owns which field, and gives out node ports.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::keeper::Write;
use super::requests::WRITER;
use super::seen::SERVICE;
use super::*;

const NS: &str = "portolan-system";
type Key = (&'static str, String, String);

/// A cluster, and the keeper of its gateway.
struct Cluster {
    store: BTreeMap<Key, Value>,
    /// ConfigMaps by name.
    maps: BTreeMap<&'static str, BTreeMap<String, String>>,
    seen: GatewaySeen,
    keeper: Keeper,
    config: GatewayConfig,
    now: UnixTime,
    /// Whether what is written comes to nothing, though it is taken.
    deaf: bool,
    /// What the configuration serves.
    served: String,
}

impl Cluster {
    /// With a gateway behind a load balancer.
    fn new(config: GatewayConfig) -> Self {
        let seen = GatewaySeen::new(NS);
        let mut cluster = Self {
            store: BTreeMap::new(),
            maps: BTreeMap::new(),
            seen,
            keeper: Keeper::new(config.clone()),
            config,
            now: 1_790_000_000,
            deaf: false,
            served: String::new(),
        };
        cluster.install("LoadBalancer", &json!([{ "ip": "203.0.113.7" }, { "hostname": "lb.example" }]));
        cluster.restart();
        cluster
    }

    fn install(&mut self, kind: &str, ingress: &Value) {
        self.put(
            "Service",
            json!({ "metadata": { "namespace": NS, "name": SERVICE, "uid": "gw" },
                "spec": { "type": kind, "ports": [{ "name": "health", "port": 8405 }] },
                "status": { "loadBalancer": { "ingress": ingress } } }),
        );
    }

    fn put(&mut self, kind: &'static str, mut object: Value) {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let key = (kind, text("namespace"), text("name"));
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(key.2);
        }
        self.seen.apply(kind_of(kind), &object.to_string());
        self.store.insert(key, object);
    }

    fn remove(&mut self, kind: &'static str, namespace: &str, name: &str) {
        self.store.remove(&(kind, namespace.to_owned(), name.to_owned()));
        self.seen.delete(kind_of(kind), namespace, name);
    }

    /// `shop/<name>` with these ports, exported.
    fn export(&mut self, name: &str, ports: &Value) {
        self.service(name, &json!({ "type": "ClusterIP", "clusterIP": "10.96.0.9", "ports": ports }));
        self.put("ServiceExport", json!({ "metadata": { "namespace": "shop", "name": name } }));
    }

    fn service(&mut self, name: &str, spec: &Value) {
        self.put("Service", json!({ "metadata": { "namespace": "shop", "name": name }, "spec": spec }));
    }

    /// Another process leads: it knows what the store holds.
    fn restart(&mut self) {
        self.seen = GatewaySeen::new(NS);
        for ((kind, ..), object) in &self.store {
            self.seen.apply(kind_of(kind), &object.to_string());
        }
        self.keeper = Keeper::new(self.config.clone());
        let memory = self.maps.get(crate::gateway::MEMORY).cloned().unwrap_or_default();
        let served = crate::gateway::memory::read_served(&self.served);
        self.seen.with(|seen| self.keeper.remember(&memory, served, seen, self.now));
    }

    fn settle(&mut self) -> Vec<String> {
        self.settle_within(usize::MAX)
    }

    /// Writes until nothing is left to do, but stops dead after so many requests. Returns what they were about.
    fn settle_within(&mut self, mut most: usize) -> Vec<String> {
        let mut log = Vec::new();
        for _ in 0..10 {
            let due = self.seen.with(|seen| self.keeper.due(seen, self.now));
            if due.is_empty() {
                return log;
            }
            for write in due {
                if most == 0 {
                    return log;
                }
                most -= 1;
                log.push(write.target());
                if self.deaf && write.kind().is_some() {
                    self.keeper.wrote(&write);
                    continue;
                }
                self.carry_out(&write);
            }
        }
        panic!("does not settle: {log:#?}");
    }

    fn carry_out(&mut self, write: &Write) {
        self.keeper.wrote(write);
        match write {
            Write::Memory(memory) => _ = self.maps.insert(crate::gateway::MEMORY, memory.clone()),
            Write::Files { haproxy, nginx, served } => {
                self.served = crate::gateway::memory::write_served(served);
                let files = [("haproxy.cfg", haproxy), ("nginx.conf", nginx)];
                let files = files.map(|(name, text)| (name.to_owned(), text.clone())).into();
                self.maps.insert(crate::gateway::FILES, files);
            }
            Write::Ports { uid, ports } => {
                let mut object = self.store[&("Service", NS.to_owned(), SERVICE.to_owned())].clone();
                assert_eq!(object["metadata"]["uid"], **uid);
                let before: Vec<_> = object["spec"]["ports"].as_array().unwrap().clone();
                let mut all: Vec<_> =
                    before.iter().filter(|port| port["name"] == "health").cloned().collect();
                all.extend(ports.iter().map(|(name, protocol, number)| {
                    let protocol =
                        if *protocol == portolan_zones::object::Protocol::Udp { "UDP" } else { "TCP" };
                    json!({ "name": name, "protocol": protocol, "port": number, "targetPort": number,
                        "nodePort": number + 10_000 })
                }));
                object["spec"]["ports"] = json!(all);
                self.put("Service", object);
            }
            Write::Told { name, uid, words } => {
                let mut object = self.get(name.name());
                assert_eq!(object["metadata"]["uid"], **uid);
                let own = object["metadata"]["annotations"]["portolan.dev/gateway"].clone();
                object["metadata"]["annotations"] = json!({ "portolan.dev/gateway": own });
                if own.is_null() {
                    object["metadata"]["annotations"] = json!({});
                }
                if let Some((at, ports)) = words {
                    object["metadata"]["annotations"]["portolan.dev/shared-gateway"] = json!(at);
                    object["metadata"]["annotations"]["portolan.dev/shared-gateway-ports"] = json!(ports);
                }
                object["metadata"]["managedFields"] = match words {
                    Some(_) => json!([{ "manager": "kubectl" }, { "manager": WRITER, "operation": "Apply" }]),
                    None => json!([{ "manager": "kubectl" }]),
                };
                self.put("ServiceExport", object);
            }
        }
    }

    fn get(&self, name: &str) -> Value {
        self.store[&("ServiceExport", "shop".to_owned(), name.to_owned())].clone()
    }

    /// What an export says: where, and which ports.
    fn told(&self, name: &str) -> Option<(String, String)> {
        let annotations = self.get(name)["metadata"]["annotations"].clone();
        let text = |key: &str| Some(annotations[format!("portolan.dev/{key}")].as_str()?.to_owned());
        Some((text("shared-gateway")?, text("shared-gateway-ports")?))
    }

    /// The number that port 80 of an export has.
    fn number(&self, name: &str) -> Option<u16> {
        let (_, ports) = self.told(name)?;
        ports.split(',').find_map(|port| port.strip_prefix("80=")?.parse().ok())
    }

    fn haproxy(&self) -> &str {
        self.maps.get(crate::gateway::FILES).map_or("", |files| &files["haproxy.cfg"])
    }

    fn problems(&self) -> String {
        self.keeper.status().problems.join("\n")
    }
}

fn kind_of(kind: &str) -> Kind {
    match kind {
        "ServiceExport" => Kind::ServiceExport,
        "Node" => Kind::Node,
        _ => Kind::Service,
    }
}

fn http() -> Value {
    json!([{ "name": "http", "protocol": "TCP", "port": 80 }])
}

/// First what is remembered, last what peers are told; and then nothing more.
#[test]
fn an_export_without_a_gateway_gets_a_port_of_the_shared_one() {
    let mut cluster = Cluster::new(GatewayConfig { udp: true, ..GatewayConfig::default() });
    cluster.settle();
    cluster.export(
        "web",
        &json!([{ "port": 80 }, { "port": 53, "protocol": "UDP" }, { "port": 9, "protocol": "SCTP" }]),
    );
    let log = cluster.settle();
    assert_eq!(
        log,
        ["the memory of ports", "the configuration", "the Service's ports", "ServiceExport shop/web"]
    );
    let number = cluster.number("web").unwrap();
    let (at, ports) = cluster.told("web").unwrap();
    assert_eq!(at, "203.0.113.7,lb.example");
    assert!(ports.starts_with(&format!("80={number},53/UDP=")), "{ports}");
    let memory = &cluster.maps[crate::gateway::MEMORY];
    assert_eq!(memory[&format!("tcp-{number}")], "shop/web:80");
    assert!(cluster.haproxy().contains("server web web.shop.svc.cluster.local:80 "), "{}", cluster.haproxy());
    assert!(cluster.maps[crate::gateway::FILES]["nginx.conf"].contains("proxy_pass 10.96.0.9:53;"));
    assert_eq!((cluster.settle().len(), cluster.problems()), (0, String::new()));
    let status = cluster.keeper.status();
    assert_eq!((status.installed, status.ports), (true, 2));
}

/// HAProxy has no UDP: peers are not told of what nobody answers.
#[test]
fn udp_is_told_only_where_it_is_said_to_be_there() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    cluster.export("dns", &json!([{ "port": 53, "protocol": "UDP" }]));
    cluster.settle();
    assert_eq!(cluster.told("dns"), None);
}

/// A gateway of its own, the end of the export, and the end of the gateway: each takes it back.
#[test]
fn what_was_told_is_taken_back() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    let is = |kind: &str, ip: &str, node_port: u16| {
        let port = json!({ "port": 80, "nodePort": node_port });
        json!({ "type": kind, "clusterIP": ip, "ports": [port] })
    };
    let becomes = |spec: Value| move |cluster: &mut Cluster| cluster.service("web", &spec);
    let has_own = becomes(is("NodePort", "10.96.0.9", 30_080));
    let balanced = becomes(is("LoadBalancer", "10.96.0.9", 0));
    let headless = becomes(is("ClusterIP", "None", 0));
    let said = |cluster: &mut Cluster| {
        let mut export = cluster.get("web");
        export["metadata"]["annotations"]["portolan.dev/gateway"] = json!("192.0.2.1");
        cluster.put("ServiceExport", export);
    };
    type End<'a> = (&'a str, &'a dyn Fn(&mut Cluster));
    let ends: [End<'_>; 6] = [
        ("node ports", &has_own),
        ("a balancer that has no address yet", &balanced),
        ("pods of its own", &headless),
        ("its author's word", &said),
        ("no Service", &|cluster| cluster.remove("Service", "shop", "web")),
        ("no gateway", &|cluster| cluster.remove("Service", NS, SERVICE)),
    ];
    for (what, end) in ends {
        cluster.export("web", &http());
        cluster.install("LoadBalancer", &json!([{ "ip": "203.0.113.7" }]));
        cluster.settle();
        let number = cluster.number("web").unwrap_or_else(|| panic!("before {what}"));
        end(&mut cluster);
        cluster.settle();
        assert_eq!(cluster.told("web"), None, "{what}");
        if what != "no gateway" {
            assert!(!cluster.haproxy().contains(&format!("tcp-{number}")), "{what}");
        }
        assert_eq!((cluster.settle().len(), cluster.problems()), (0, String::new()), "{what}");
    }
    cluster.install("LoadBalancer", &json!([{ "ip": "203.0.113.7" }]));
    cluster.export("web", &http());
    cluster.settle();
    let number = cluster.number("web").unwrap();
    cluster.remove("ServiceExport", "shop", "web");
    cluster.settle();
    let freed = &cluster.maps[crate::gateway::MEMORY][&format!("tcp-{number}")];
    assert!(freed.starts_with("shop/web:80, free from "), "{freed}");
    cluster.config.enabled = false;
    cluster.export("web", &http());
    cluster.restart();
    assert!(cluster.settle().is_empty());
}

/// Without the Service nothing is set up and nothing said.
#[test]
fn nothing_happens_where_it_is_not_installed() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    cluster.remove("Service", NS, SERVICE);
    cluster.export("web", &http());
    assert_eq!((cluster.settle().len(), cluster.keeper.status()), (0, GatewayStatus::default()));
}

/// Ports are where nodes are; a load balancer has to have an address first.
#[test]
fn the_gateway_is_where_its_service_is() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    cluster.export("web", &http());
    cluster.install("LoadBalancer", &json!(null));
    cluster.settle();
    assert_eq!(cluster.told("web"), None);
    assert!(cluster.problems().contains("its load balancer has no address yet"), "{}", cluster.problems());
    cluster.install("NodePort", &json!(null));
    let node = |name: &str, at: &str, ready: &str| {
        json!({ "metadata": { "name": name }, "status": {
            "addresses": [{ "type": "InternalIP", "address": at }], "conditions": [{ "type": "Ready", "status": ready }] } })
    };
    cluster.put("Node", node("a", "10.0.0.1", "True"));
    cluster.put("Node", node("b", "10.0.0.2", "True"));
    cluster.put("Node", node("c", "10.0.0.3", "False"));
    cluster.settle();
    let (at, _) = cluster.told("web").unwrap();
    assert_eq!(at, "10.0.0.1,10.0.0.2");
    let number = cluster.number("web").unwrap();
    assert!(cluster.haproxy().contains(&format!("frontend tcp-{}\n", number - 10_000)), "{number}");
    cluster.put("Node", node("a", "10.0.0.1", "False"));
    cluster.settle();
    assert_eq!(cluster.told("web").unwrap().0, "10.0.0.2");
}

/// Whatever somebody else wrote there stays, and is told.
#[test]
fn words_of_others_are_left_alone() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    cluster.export("web", &http());
    let mut export = cluster.get("web");
    export["metadata"]["annotations"] = json!({ "portolan.dev/shared-gateway": "192.0.2.66" });
    cluster.put("ServiceExport", export.clone());
    cluster.export("api", &http());
    cluster.settle();
    assert_eq!(cluster.get("web"), export);
    assert!(cluster.problems().contains("what ServiceExport shop/web says of it"), "{}", cluster.problems());
    assert!(cluster.number("api").is_some(), "the others are told");
}

/// Field managers are names that anybody may give himself: what was not applied is not ours, and what is restored is no more
/// than the service may have anyway.
#[test]
fn words_under_our_name_give_nobody_more_than_is_due() {
    let mut cluster = Cluster::new(GatewayConfig::default());
    cluster.export("web", &http());
    cluster.settle();
    let number = cluster.number("web").unwrap();
    let words = |operation: &str, ports: &str| {
        json!({ "metadata": { "namespace": "shop", "name": "eve",
            "annotations": { "portolan.dev/shared-gateway": "203.0.113.7", "portolan.dev/shared-gateway-ports": ports },
            "managedFields": [{ "manager": WRITER, "operation": operation }] } })
    };
    cluster.export("eve", &http());
    cluster.put("ServiceExport", words("Update", "80=20007"));
    let before = cluster.get("eve");
    cluster.settle();
    assert_eq!(cluster.get("eve"), before, "not ours");
    let ports: Vec<_> = (1..100).map(|n| format!("{n}={}", 20_100 + n)).collect();
    cluster.put("ServiceExport", words("Apply", &format!("{},81={number},80=22", ports.join(","))));
    cluster.maps.clear();
    cluster.restart();
    cluster.settle();
    assert_eq!((cluster.number("web"), cluster.number("eve")), (Some(number), Some(20_180)));
    let memory = &cluster.maps[crate::gateway::MEMORY];
    assert_eq!(memory.len(), 2, "{memory:?}");
}

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
