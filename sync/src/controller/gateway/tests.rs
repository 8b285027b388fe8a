//! The keeper against an API server in a few lines: it stores what is applied, who owns which field, and gives out node ports.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::keeper::Write;
use super::requests::WRITER;
use super::seen::SERVICE;
use super::*;

mod rounds;
mod telling;
mod trouble;

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
    /// How many node ports there are.
    node_ports: usize,
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
            node_ports: usize::MAX,
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
        for _ in 0..40 {
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
                // They are looked for before those are free that go.
                if let Write::Ports { new, .. } = &write
                    && *new > 0
                    && self.taken_node_ports() + new > self.node_ports
                {
                    let why = "failed to allocate a nodePort: range is full";
                    self.keeper.refused(&write, why, std::time::Instant::now());
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
            Write::Ports { uid, ports, .. } => {
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

    /// All but that for its health.
    fn taken_node_ports(&self) -> usize {
        let gateway = &self.store[&("Service", NS.to_owned(), SERVICE.to_owned())];
        gateway["spec"]["ports"].as_array().unwrap().len() - 1
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
