//! Gateways: how a service is reached from another network, as its export, its load balancer or its node ports say.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use portolan_zones::name::check_label;
use portolan_zones::object::{Gateway, GatewayAt, GatewayPort};

use super::{ConvertError, MOST_PORTS, Refused, address, bounded, port_number, protocol};
use crate::kube_types as kube;

/// Addresses of the names that load balancers and annotations give instead of addresses, as they were last resolved.
/// In lower case, without a dot at the end. A name that is not in it contributes nothing.
pub type Names = HashMap<Box<str>, Box<[IpAddr]>>;

const PORTS: &str = "metadata.annotations[portolan.dev/gateway-ports]";
const GATEWAY: &str = "metadata.annotations[portolan.dev/gateway]";
const SHARED: &str = "metadata.annotations[portolan.dev/shared-gateway]";
const SHARED_PORTS: &str = "metadata.annotations[portolan.dev/shared-gateway-ports]";
const INGRESS: &str = "status.loadBalancer.ingress";
/// Addresses and names of one gateway, and ports that have other numbers there.
pub(crate) const MOST_ENTRANCES: usize = 100;
/// Each name costs a look-up now and then.
const MOST_NAMES: usize = 8;

/// Names that must be resolved to know where a Service's load balancer is.
pub fn names_of_service(service: &kube::Service<'_>) -> Vec<Box<str>> {
    entrances(INGRESS, ingresses(service), &mut Refused::default())
        .map_or_else(|_| Vec::new(), |all| all.names)
}

/// Names that must be resolved to know where an export's gateway is, as it says.
pub fn names_of_export(export: &kube::ServiceExport<'_>) -> Vec<Box<str>> {
    let Some(known) = annotations(export) else { return Vec::new() };
    let text = known.gateway.as_deref().or(known.shared_gateway.as_deref()).unwrap_or_default();
    entrances(GATEWAY, entries(text), &mut Refused::default()).map_or_else(|_| Vec::new(), |all| all.names)
}

/// What the author of a ServiceExport says: addresses or names, and the ports that have other numbers there. Else what the
/// controller of its cluster says of the gateway that all share.
pub(super) fn of_export(
    export: &kube::ServiceExport<'_>,
    names: &Names,
    refused: &mut Refused,
) -> Result<Option<Arc<Gateway>>, ConvertError> {
    let Some(known) = annotations(export) else { return Ok(None) };
    let Some(text) = known.gateway.as_deref() else {
        // What is wrong with it is none of the author's faults: the export counts all the same.
        let (at, ports) = (known.shared_gateway.as_deref(), known.shared_gateway_ports.as_deref());
        let shared = at.zip(ports).map(|(at, ports)| shared(at, ports, names, refused));
        return Ok(shared.transpose().map(Option::flatten).unwrap_or_else(|error| {
            refused.push(error);
            None
        }));
    };
    let ports = ports_of(PORTS, known.gateway_ports.as_deref().unwrap_or_default(), MOST_ENTRANCES)?;
    let at = entrances(GATEWAY, entries(text), refused)?.resolve(names);
    Ok(Some(gateway(at.unwrap_or_else(|| GatewayAt::Addresses(Box::default())), ports)))
}

/// The gateway that all exports of a cluster share, if any of the service's ports is there.
fn shared(
    at: &str,
    ports: &str,
    names: &Names,
    refused: &mut Refused,
) -> Result<Option<Arc<Gateway>>, ConvertError> {
    let ports = ports_of(SHARED_PORTS, ports, MOST_PORTS)?;
    let at = match entrances(SHARED, entries(at), refused)?.resolve(names) {
        Some(GatewayAt::Addresses(addresses)) => addresses,
        Some(_) => Box::default(),
        None => return Ok(None),
    };
    Ok((!ports.is_empty()).then(|| gateway(GatewayAt::Shared(at), ports)))
}

/// What our controller says on a copy, in the same words: addresses only, and all ports that are there. What is wrong with it
/// takes no endpoints away.
pub(super) fn of_copy(metadata: &kube::Metadata<'_>, refused: &mut Refused) -> Option<Arc<Gateway>> {
    let known = metadata.annotations.as_ref()?;
    told(known.gateway.as_deref()?, known.gateway_ports.as_deref()?).unwrap_or_else(|error| {
        refused.push(error);
        None
    })
}

fn told(at: &str, ports: &str) -> Result<Option<Arc<Gateway>>, ConvertError> {
    let at: Vec<&str> = entries(at).collect();
    let ports = ports_of(PORTS, ports, MOST_PORTS)?;
    let mut addresses = Vec::with_capacity(at.len().min(MOST_ENTRANCES));
    for entry in bounded(GATEWAY, &at, MOST_ENTRANCES)? {
        let value = address(|| GATEWAY.to_owned(), entry)?;
        if !is_endpoint(&value) {
            return Err(ConvertError::NoEndpoint { field: GATEWAY.to_owned(), value });
        }
        addresses.push(value);
    }
    addresses.sort_unstable();
    addresses.dedup();
    let is_there = !addresses.is_empty() && !ports.is_empty();
    Ok(is_there.then(|| gateway(GatewayAt::Nodes(addresses.into()), ports)))
}

/// A Service's load balancer, else its node ports. A load balancer that has no entrance yet is none; one whose name is not
/// resolved yet is there all the same: its node ports may well be closed.
pub(super) fn of_service(
    service: &kube::Service<'_>,
    names: &Names,
    refused: &mut Refused,
) -> Result<Option<Arc<Gateway>>, ConvertError> {
    if let Some(at) = entrances(INGRESS, ingresses(service), refused)?.resolve(names) {
        return Ok(Some(gateway(at, Vec::new())));
    }
    let mut ports = Vec::new();
    let listed = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    for (i, port) in listed.iter().enumerate() {
        let field = |name: &str| format!("spec.ports[{i}].{name}");
        let (Some(number), Some(node_port @ 1..)) = (port.port, port.node_port) else { continue };
        ports.push(GatewayPort {
            protocol: protocol(|| field("protocol"), port.protocol.as_deref())?,
            number: port_number(|| field("port"), number)?,
            gateway: port_number(|| field("nodePort"), node_port)?,
        });
    }
    Ok((!ports.is_empty()).then(|| gateway(GatewayAt::Nodes(Box::default()), ports)))
}

/// Where a gateway is said to be.
#[derive(Default)]
struct Entrances {
    addresses: Vec<IpAddr>,
    /// In lower case, without a dot at the end.
    names: Vec<Box<str>>,
}

impl Entrances {
    /// With the addresses of the names; `None`: nothing is said.
    fn resolve(self, names: &Names) -> Option<GatewayAt> {
        if self.addresses.is_empty() && self.names.is_empty() {
            return None;
        }
        let mut addresses = self.addresses;
        addresses.extend(self.names.iter().filter_map(|name| names.get(name)).flat_map(|known| known.iter()));
        if addresses.is_empty() {
            return Some(GatewayAt::Unresolved);
        }
        addresses.sort_unstable();
        addresses.dedup();
        Some(GatewayAt::Addresses(addresses.into()))
    }
}

/// Reads addresses and names; those that are no use are left out.
fn entrances<'t>(
    field: &str,
    entries: impl Iterator<Item = &'t str>,
    refused: &mut Refused,
) -> Result<Entrances, ConvertError> {
    let entries: Vec<&str> = entries.collect();
    let mut found = Entrances::default();
    for entry in bounded(field, &entries, MOST_ENTRANCES)? {
        let field = || field.to_owned();
        match entry.parse::<IpAddr>() {
            Ok(address) if is_endpoint(&address) => found.addresses.push(address),
            Ok(value) => refused.push(ConvertError::NoEndpoint { field: field(), value }),
            Err(_) => match host_name(entry) {
                Some(name) if found.names.contains(&name) => {}
                Some(_) if found.names.len() == MOST_NAMES => {
                    let len = MOST_NAMES + 1;
                    refused.push(ConvertError::TooMany {
                        field: field() + ": host names",
                        len,
                        most: MOST_NAMES,
                    });
                }
                Some(name) => found.names.push(name),
                None => refused.push(ConvertError::Host { field: field(), value: (*entry).to_owned() }),
            },
        }
    }
    Ok(found)
}

/// Whether an endpoint may have this address: Kubernetes' ValidateEndpointIP, and no multicast.
pub(crate) fn is_endpoint(address: &IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !(local || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

/// A name that may be looked up, in lower case: a public or private one of two labels at least, which says the same
/// everywhere. Clusters' own names, ours among them, would be answered by our own DNS; and text whose last label begins with
/// a digit may be taken for an address (RFC 1123 §2.1; `127.1`).
fn host_name(text: &str) -> Option<Box<str>> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let labels: Vec<&str> = name.split('.').collect();
    let last = labels.last().filter(|last| last.starts_with(|c: char| c.is_ascii_alphabetic()))?;
    let local = ["localhost", "localdomain"].contains(last)
        || labels[1..].contains(&"svc")
        || [".cluster.local", ".clusterset.local"].iter().any(|zone| name.ends_with(zone));
    let valid =
        labels.len() >= 2 && name.len() <= 253 && labels.iter().all(|label| check_label(label).is_ok());
    (valid && !local).then(|| name.into())
}

fn gateway(at: GatewayAt, mut ports: Vec<GatewayPort>) -> Arc<Gateway> {
    ports.sort_unstable();
    ports.dedup_by_key(|port| (port.protocol, port.number));
    Arc::new(Gateway { at, ports: ports.into() })
}

fn annotations<'b, 'a>(export: &'b kube::ServiceExport<'a>) -> Option<&'b kube::Annotations<'a>> {
    export.metadata.as_ref()?.annotations.as_ref()
}

fn ingresses<'b>(service: &'b kube::Service<'_>) -> impl Iterator<Item = &'b str> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default().iter().filter_map(entrance)
}

/// Cloud providers give an address or a name; where both are given the address needs no resolving.
fn entrance<'b>(ingress: &'b kube::Ingress<'_>) -> Option<&'b str> {
    let given = |text: &'b Option<kube::Text<'_>>| text.as_deref().filter(|text| !text.is_empty());
    given(&ingress.ip).or_else(|| given(&ingress.hostname))
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

/// `80=30080, 53/UDP=30053`.
fn ports_of(field: &'static str, text: &str, most: usize) -> Result<Vec<GatewayPort>, ConvertError> {
    let listed: Vec<&str> = entries(text).collect();
    bounded(field, &listed, most)?.iter().map(|entry| port(field, entry)).collect()
}

/// `80=30080` or `53/UDP=30053`.
fn port(field: &'static str, entry: &str) -> Result<GatewayPort, ConvertError> {
    let wrong = || ConvertError::GatewayPort { field, value: entry.to_owned() };
    let (service, gateway) = entry.split_once('=').ok_or_else(wrong)?;
    let (number, transport) = service.split_once('/').unwrap_or((service, "TCP"));
    let parse = |text: &str| text.trim().parse::<u16>().ok().filter(|number| *number != 0).ok_or_else(wrong);
    Ok(GatewayPort {
        protocol: protocol(|| field.to_owned(), Some(transport.trim()))?,
        number: parse(number)?,
        gateway: parse(gateway)?,
    })
}
