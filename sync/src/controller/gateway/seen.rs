//! What of the own cluster the shared gateway depends on, as its watch tells.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portolan_zones::object::{Object, Protocol, Service, ServiceKind};
use portolan_zones::{ClusterId, ServiceName};
use serde::Deserialize;
use tokio::sync::Notify;

use super::super::bodies::nullable;
use super::super::observed::Observed;
use super::requests::WRITER;
use crate::convert::{self, Kind, Names, Refused};
pub(super) use crate::gateway::SERVICE;
use crate::gateway::{Site, bind_behind};
use crate::intern::Interner;
use crate::kubernetes::Tap;
use crate::kubernetes::gateway::Service as Addressed;

pub(super) const SHARED: &str = "portolan.dev/shared-gateway";
pub(super) const SHARED_PORTS: &str = "portolan.dev/shared-gateway-ports";

/// Shared by the watch, which tells, and the keeper, which asks.
pub(crate) struct GatewaySeen {
    state: Mutex<Seen>,
    /// Rings when anything is new.
    pub(super) changed: Notify,
}

/// See the module.
#[derive(Default)]
pub(super) struct Seen {
    namespace: String,
    /// Exports, and the Services that could be behind the gateway.
    pub(super) site: Site,
    /// What the exports say of it.
    pub(super) told: BTreeMap<ServiceName, Told>,
    /// The Service in front of it.
    pub(super) entrance: Option<Entrance>,
    /// Where node ports are reached: addresses by Node, and whether it is ready.
    nodes: BTreeMap<String, (Box<[IpAddr]>, bool)>,
    synced: bool,
}

/// What an export says of the shared gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) uid: String,
    /// Addresses or names.
    pub(super) at: Option<String>,
    /// Ports and numbers.
    pub(super) ports: Option<String>,
    /// Whether we said any of it.
    pub(super) ours: bool,
    /// Field managers other than us.
    pub(super) owners: BTreeSet<String>,
}

/// The Service in front of the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entrance {
    pub(super) uid: String,
    /// Whether clients come by node ports.
    pub(super) by_nodes: bool,
    /// Where the gateway listens for its clients.
    pub(super) bind: Option<IpAddr>,
    /// Addresses and names of its load balancer.
    pub(super) balancer: Vec<String>,
    pub(super) ports: Vec<EntrancePort>,
    /// Field managers other than us.
    pub(super) owners: BTreeSet<String>,
}

/// A port of that Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntrancePort {
    pub(super) name: String,
    pub(super) protocol: Protocol,
    pub(super) number: u16,
    pub(super) target: Option<u16>,
    pub(super) node: Option<u16>,
}

impl EntrancePort {
    /// `p-20017`, or `u-20017` for UDP: the name of a port that we keep.
    pub(super) fn name_of(protocol: Protocol, number: u16) -> String {
        format!("{}-{number}", if protocol == Protocol::Udp { "u" } else { "p" })
    }

    pub(super) fn is_ours(&self) -> bool {
        self.name == Self::name_of(self.protocol, self.number)
    }
}

impl GatewaySeen {
    /// The Service is looked for in this namespace.
    pub(crate) fn new(namespace: &str) -> Self {
        let seen = Seen { namespace: namespace.to_owned(), ..Seen::default() };
        Self { state: Mutex::new(seen), changed: Notify::new() }
    }

    /// What is known now.
    pub(super) fn with<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.state())
    }

    pub(super) fn is_synced(&self) -> bool {
        self.state().synced
    }

    pub(super) fn is_installed(&self) -> bool {
        self.state().entrance.is_some()
    }

    fn state(&self) -> MutexGuard<'_, Seen> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap for GatewaySeen {
    fn apply(&self, kind: Kind, json: &str) {
        if self.state().apply(kind, json) {
            self.changed.notify_one();
        }
    }

    fn delete(&self, kind: Kind, namespace: &str, name: &str) {
        if self.state().delete(kind, namespace, name) {
            self.changed.notify_one();
        }
    }

    fn listed(&self, kind: Kind, keys: &HashSet<(String, String)>) {
        self.state().listed(kind, keys);
        self.changed.notify_one();
    }

    fn synced(&self, _: &ClusterId) {
        self.state().synced = true;
        self.changed.notify_one();
    }
}

impl Seen {
    /// Where node ports are reached: addresses of each Node, and whether it is ready.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&[IpAddr], bool)> {
        self.nodes.values().map(|(at, ready)| (&**at, *ready))
    }

    /// The addresses that we told an export of, as all others.
    pub(super) fn told_at(&self) -> impl Iterator<Item = IpAddr> {
        let told = self.told.values().find_map(|told| told.at.as_ref().filter(|_| told.ours));
        told.into_iter().flat_map(|at| at.split(',')).filter_map(|ip| ip.parse().ok())
    }

    /// Whether anything is new.
    fn apply(&mut self, kind: Kind, json: &str) -> bool {
        let (names, mut interner, mut refused) = (Names::new(), Interner::default(), Refused::default());
        match kind {
            Kind::ServiceExport => {
                let Ok(raw) = serde_json::from_str::<RawExport>(json) else { return false };
                let read = serde_json::from_str(json).ok();
                let export = read
                    .and_then(|export| convert::export(&export, &names, &mut interner, &mut refused).ok());
                let Some((name, told)) = raw.told() else { return false };
                // One that can't be read has no part in it, but what was told of it is still to be taken back.
                let changed = self.site.set_export(&name, export);
                self.told.insert(name, told.clone()) != Some(told) || changed
            }
            Kind::Service => {
                let Ok(raw) = serde_json::from_str::<RawService>(json) else { return false };
                if raw.metadata.namespace == self.namespace && raw.metadata.name == SERVICE {
                    let entrance = Some(raw.entrance());
                    return std::mem::replace(&mut self.entrance, entrance.clone()) != entrance;
                }
                let Ok(name) = ServiceName::new(&raw.metadata.namespace, &raw.metadata.name) else {
                    return false;
                };
                let read = serde_json::from_str(json).ok();
                let service = read
                    .and_then(|s| convert::service(&s, &names, &mut interner, &mut refused).ok().flatten());
                // A load balancer that has no address yet will have one.
                let is_balanced = raw.spec.kind == "LoadBalancer";
                let address = serde_json::from_str::<Addressed>(json).ok().and_then(|s| s.address());
                let service = service.filter(|s| !is_balanced && address.is_some() && could_share(s));
                self.site.set_service(&name, service, address.map(|(_, ip)| ip))
            }
            Kind::Node => {
                let read = serde_json::from_str(json).ok();
                let Some(Object::Node(node)) = read.and_then(|n| convert::node(&n, &mut interner).ok())
                else {
                    return false;
                };
                let state = (node.entrances, node.ready);
                self.nodes.insert(node.name.to_string(), state.clone()) != Some(state)
            }
            _ => false,
        }
    }

    fn delete(&mut self, kind: Kind, namespace: &str, name: &str) -> bool {
        let service = || ServiceName::new(namespace, name).ok();
        match kind {
            Kind::ServiceExport => service().is_some_and(|name| {
                self.site.set_export(&name, None);
                self.told.remove(&name).is_some()
            }),
            Kind::Service if namespace == self.namespace && name == SERVICE => self.entrance.take().is_some(),
            Kind::Service => service().is_some_and(|name| self.site.set_service(&name, None, None)),
            Kind::Node => self.nodes.remove(name).is_some(),
            _ => false,
        }
    }

    /// Deletes what a list lacks.
    fn listed(&mut self, kind: Kind, keys: &HashSet<(String, String)>) {
        let names: Vec<(String, String)> = match kind {
            Kind::ServiceExport => self.told.keys().map(pair).collect(),
            Kind::Service => {
                let gateway = self.entrance.is_some().then(|| (self.namespace.clone(), SERVICE.to_owned()));
                self.site.services().map(pair).chain(gateway).collect()
            }
            Kind::Node => self.nodes.keys().map(|name| (String::new(), name.clone())).collect(),
            _ => Vec::new(),
        };
        for (namespace, name) in names.into_iter().filter(|key| !keys.contains(key)) {
            self.delete(kind, &namespace, &name);
        }
    }
}

fn pair(name: &ServiceName) -> (String, String) {
    (name.namespace().to_owned(), name.name().to_owned())
}

/// All others are not even remembered: there may be many.
fn could_share(object: &Object) -> bool {
    matches!(object, Object::Service(Service { kind: ServiceKind::ClusterIp, gateway: None, .. }))
}

/// Tells two: the watch has one tap.
pub(crate) struct Both(pub(crate) Arc<Observed>, pub(crate) Arc<GatewaySeen>);

impl Tap for Both {
    fn apply(&self, kind: Kind, json: &str) {
        self.0.apply(kind, json);
        self.1.apply(kind, json);
    }

    fn delete(&self, kind: Kind, namespace: &str, name: &str) {
        self.0.delete(kind, namespace, name);
        self.1.delete(kind, namespace, name);
    }

    fn listed(&self, kind: Kind, keys: &HashSet<(String, String)>) {
        self.0.listed(kind, keys);
        self.1.listed(kind, keys);
    }

    fn synced(&self, id: &ClusterId) {
        self.0.synced(id);
        self.1.synced(id);
    }
}

#[derive(Deserialize)]
struct RawExport {
    metadata: Meta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Meta {
    namespace: String,
    name: String,
    uid: String,
    #[serde(deserialize_with = "nullable")]
    annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    managed_fields: Vec<FieldOwner>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FieldOwner {
    #[serde(rename = "manager")]
    name: String,
    operation: String,
}

impl Meta {
    fn others(&self) -> BTreeSet<String> {
        let owners = self.managed_fields.iter().map(|owner| &owner.name);
        owners.filter(|name| *name != WRITER).cloned().collect()
    }
}

impl RawExport {
    fn told(mut self) -> Option<(ServiceName, Told)> {
        let meta = &mut self.metadata;
        let told = Told {
            at: meta.annotations.remove(SHARED),
            ports: meta.annotations.remove(SHARED_PORTS),
            // By an Update anybody may give himself any name, to which no apply would be held.
            ours: meta.managed_fields.iter().any(|owner| owner.name == WRITER && owner.operation == "Apply"),
            owners: meta.others(),
            uid: std::mem::take(&mut meta.uid),
        };
        Some((ServiceName::new(&meta.namespace, &meta.name).ok()?, told))
    }
}

#[derive(Deserialize)]
struct RawService {
    metadata: Meta,
    #[serde(default)]
    spec: RawSpec,
    #[serde(default, deserialize_with = "nullable")]
    status: RawStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    #[serde(rename = "type")]
    kind: String,
    #[serde(deserialize_with = "nullable")]
    ports: Vec<RawPort>,
    #[serde(deserialize_with = "nullable")]
    ip_families: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPort {
    name: String,
    protocol: String,
    port: u16,
    /// A number, or a container port's name.
    target_port: serde_json::Value,
    node_port: Option<u16>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    #[serde(deserialize_with = "nullable")]
    load_balancer: RawBalancer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawBalancer {
    #[serde(deserialize_with = "nullable")]
    ingress: Vec<RawIngress>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawIngress {
    ip: Option<String>,
    hostname: Option<String>,
}

impl RawService {
    fn entrance(self) -> Entrance {
        let port = |port: RawPort| EntrancePort {
            protocol: match &*port.protocol {
                "UDP" => Protocol::Udp,
                "SCTP" => Protocol::Sctp,
                _ => Protocol::Tcp,
            },
            name: port.name,
            number: port.port,
            target: port.target_port.as_u64().and_then(|number| u16::try_from(number).ok()),
            node: port.node_port.filter(|number| *number > 0),
        };
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty() && !text.contains(','));
        let entrance = |at: RawIngress| filled(at.ip).or_else(|| filled(at.hostname));
        Entrance {
            owners: self.metadata.others(),
            uid: self.metadata.uid,
            by_nodes: self.spec.kind == "NodePort",
            bind: bind_behind(&self.spec.ip_families),
            balancer: self.status.load_balancer.ingress.into_iter().filter_map(entrance).collect(),
            ports: self.spec.ports.into_iter().map(port).collect(),
        }
    }
}
