//! What of a cluster is to be had at its shared gateway, and at which numbers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use portolan_zones::ServiceName;
use portolan_zones::object::{
    Change, ClusterEvent, Export, Object, Port, Protocol, Service, ServiceKind, Slice, UnixTime,
};
use portolan_zones::{ClusterId, Event};

use super::ports::{GatewayPorts, PortKey};
use super::{HEALTH_PORT, Listener, To, UDP_HEALTH_PORT, Upstream};

/// The objects of one cluster that a gateway depends on.
#[derive(Debug, Clone, Default)]
pub struct Site {
    exports: BTreeMap<ServiceName, Export>,
    services: BTreeMap<ServiceName, Service>,
    addresses: BTreeMap<ServiceName, IpAddr>,
    slices: BTreeMap<ServiceName, Vec<Arc<Slice>>>,
}

/// What becomes of exports whose author names a gateway, and ports there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Explicit {
    /// That gateway is another one.
    Elsewhere,
    /// This is that gateway: it listens on those ports.
    Here,
}

/// What sort of gateway it is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// About exports whose author names another gateway.
    pub explicit: Explicit,
    /// What it leads to.
    pub to: To,
    /// Whether it has UDP ports.
    pub udp: bool,
}

/// Numbers of the gateway that are somebody else's.
pub type Taken = BTreeSet<(Protocol, u16)>;

/// All ports of a gateway, by number, and what could not be had.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// By number.
    pub listeners: Vec<Listener>,
    /// One line for each port that gets none.
    pub refused: Vec<String>,
}

impl Site {
    /// One cluster's objects among all that manifests tell.
    pub fn of_cluster(cluster: &ClusterId, events: impl IntoIterator<Item = Event>) -> Self {
        let mut site = Self::default();
        for event in events {
            let Event::Cluster(ClusterEvent { cluster: of, change }) = event else { continue };
            match change {
                _ if of != *cluster => {}
                Change::Apply(object) => site.add(object),
                Change::Reset(objects) => objects.into_iter().for_each(|object| site.add(object)),
                Change::Delete(_) | Change::Synced => {}
            }
        }
        site
    }

    /// Takes an object in; those that don't matter here are left out, and so is what was mirrored from other clusters.
    pub fn add(&mut self, object: Object) {
        match object {
            Object::Export(export) => _ = self.exports.insert(export.name.clone(), export),
            Object::Service(service) => _ = self.services.insert(service.name.clone(), service),
            Object::Slice(slice) if slice.source.is_none() => {
                self.slices.entry(slice.service.clone()).or_default().push(Arc::new(slice));
            }
            _ => {}
        }
    }

    /// Takes in a Service's ClusterIP.
    pub fn add_address(&mut self, service: ServiceName, address: IpAddr) {
        self.addresses.insert(service, address);
    }

    /// Replaces an export, or takes it away; whether that makes a difference.
    pub(crate) fn set_export(&mut self, name: &ServiceName, export: Option<Object>) -> bool {
        let before = self.exports.remove(name);
        export.into_iter().for_each(|object| self.add(object));
        self.exports.get(name) != before.as_ref()
    }

    /// The same for a Service, and its ClusterIP.
    pub(crate) fn set_service(
        &mut self,
        name: &ServiceName,
        service: Option<Object>,
        address: Option<IpAddr>,
    ) -> bool {
        let before = (self.services.remove(name), self.addresses.remove(name));
        if service.is_some() {
            self.addresses.extend(address.map(|address| (name.clone(), address)));
        }
        service.into_iter().for_each(|object| self.add(object));
        (self.services.get(name), self.addresses.get(name)) != (before.0.as_ref(), before.1.as_ref())
    }

    /// All Services that are known.
    pub(crate) fn services(&self) -> impl Iterator<Item = &ServiceName> {
        self.services.keys()
    }

    /// All ports that are to be had, with numbers of `ports`, which is brought in line. None of them is in `taken`.
    pub fn plan(&self, ports: &mut GatewayPorts, wanted: Wanted, mut taken: Taken, now: UnixTime) -> Plan {
        let Wanted { explicit, to, udp } = wanted;
        let mut plan = Plan::default();
        let mut fixed = BTreeMap::new();
        if explicit == Explicit::Here {
            for (key, number) in self.exported().flat_map(|(export, service)| explicit_ports(export, service))
            {
                match fixed.get(&(key.protocol, number)) {
                    None => _ = fixed.insert((key.protocol, number), key),
                    Some(other) => {
                        plan.refused.push(format!("{key}: {other} has port {number} of the gateway already"));
                    }
                }
            }
        }
        let keys = self.shared().filter(|key| udp || key.protocol != Protocol::Udp).collect();
        taken.extend(
            fixed.keys().copied().chain([HEALTH_PORT, UDP_HEALTH_PORT].map(|port| (Protocol::Tcp, port))),
        );
        let refused = ports.settle(&keys, &taken, now);
        plan.refused.extend(refused.iter().map(ToString::to_string));
        let shared = ports.assigned().iter().map(|(key, number)| (key.clone(), *number));
        let fixed = fixed.into_iter().map(|((_, number), key)| (key, number));
        plan.listeners = fixed
            .chain(shared)
            .map(|(key, port)| Listener { to: self.upstream(&key, to), key, port })
            .collect();
        plan.listeners.sort_by_key(|listener| (listener.port, listener.key.protocol));
        plan
    }

    /// Ports of exported services that have no gateway of their own.
    pub(crate) fn shared(&self) -> impl Iterator<Item = PortKey> {
        self.exported().flat_map(|(export, service)| shared_ports(export, service))
    }

    fn exported(&self) -> impl Iterator<Item = (&Export, &Service)> {
        self.exports.values().filter_map(|export| Some((export, self.services.get(&export.name)?)))
    }

    fn upstream(&self, key: &PortKey, to: To) -> Upstream {
        match to {
            To::Services => Upstream::Service(self.addresses.get(&key.service).copied()),
            To::Endpoints => Upstream::Endpoints(self.endpoints(key)),
        }
    }

    /// Those that are ready, at the target port that their slice has for it.
    fn endpoints(&self, key: &PortKey) -> Vec<SocketAddr> {
        let is_it = |port: &&Port| (port.protocol, port.number) == (key.protocol, key.number);
        let service = self.services.get(&key.service);
        let Some(port) = service.and_then(|service| service.spec.ports.iter().find(is_it)) else {
            return Vec::new();
        };
        let mut all = BTreeSet::new();
        for slice in self.slices.get(&key.service).into_iter().flatten() {
            let target = slice.ports.iter().find(|p| p.name == port.name && p.protocol == port.protocol);
            let Some(target) = target.map(|target| target.number.unwrap_or(port.number)) else { continue };
            let ready = slice.endpoints.iter().filter(|endpoint| endpoint.conditions.ready);
            all.extend(ready.map(|endpoint| SocketAddr::new(endpoint.address, target)));
        }
        all.into_iter().collect()
    }
}

/// The ports of an exported service that are to be had at the gateway that all share: none where it has a gateway of its own, or
/// none could stand for its pods. SCTP is nobody's: no proxy has it.
pub(crate) fn shared_ports(export: &Export, service: &Service) -> impl Iterator<Item = PortKey> {
    let shared = service.kind == ServiceKind::ClusterIp
        && export.gateway(service).is_none_or(|gateway| gateway.is_shared());
    let ports = if shared { &service.spec.ports[..] } else { &[] };
    let ports = ports.iter().filter(|port| port.protocol != Protocol::Sctp);
    ports.map(|port| PortKey { service: service.name.clone(), protocol: port.protocol, number: port.number })
}

/// The service's ports that the export's author gives numbers at a gateway.
fn explicit_ports(export: &Export, service: &Service) -> Vec<(PortKey, u16)> {
    let said = export.gateway.as_deref().filter(|gateway| !gateway.is_shared());
    let said = said.filter(|_| service.kind == ServiceKind::ClusterIp);
    let ports = said.map_or(&[][..], |gateway| &gateway.ports).iter();
    let has =
        |protocol, number| service.spec.ports.iter().any(|p| (p.protocol, p.number) == (protocol, number));
    let ports = ports.filter(|port| port.protocol != Protocol::Sctp && has(port.protocol, port.number));
    let key = |port: &portolan_zones::object::GatewayPort| PortKey {
        service: service.name.clone(),
        protocol: port.protocol,
        number: port.number,
    };
    ports.map(|port| (key(port), port.gateway)).collect()
}
