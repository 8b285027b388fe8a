//! Gateways: how a service is reached from another network, as its export, its load balancer or its node ports say.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use portolan_zones::object::{Gateway, GatewayAt, GatewayPort};

use super::{ConvertError, port_number, protocol};
use crate::kube_types as kube;

/// Addresses of the names that load balancers and annotations give instead of addresses, as they were last resolved.
/// A name that is not in it contributes nothing.
pub type Names = HashMap<Box<str>, Box<[IpAddr]>>;

const PORTS: &str = "metadata.annotations[portolan.dev/gateway-ports]";

/// Names that must be resolved to know where a Service's load balancer is.
pub fn names_of_service(service: &kube::Service<'_>) -> Vec<Box<str>> {
    names(ingresses(service).filter_map(entrance))
}

/// Names that must be resolved to know where an export's author says that its gateway is.
pub fn names_of_export(export: &kube::ServiceExport<'_>) -> Vec<Box<str>> {
    names(annotations(export).and_then(|known| known.gateway.as_deref()).into_iter().flat_map(entries))
}

/// What the author of a ServiceExport says: addresses or names, and the ports that have other numbers there.
pub(super) fn of_export(
    export: &kube::ServiceExport<'_>,
    names: &Names,
) -> Result<Option<Arc<Gateway>>, ConvertError> {
    let Some(text) = annotations(export).and_then(|known| known.gateway.as_deref()) else {
        return Ok(None);
    };
    let ports = annotations(export).and_then(|known| known.gateway_ports.as_deref()).unwrap_or_default();
    let ports = entries(ports).map(port).collect::<Result<Vec<_>, _>>()?;
    Ok(Some(gateway(GatewayAt::Addresses(addresses(entries(text), names)), ports)))
}

/// A Service's load balancer, else its node ports. A load balancer that has no address yet is none.
pub(super) fn of_service(
    service: &kube::Service<'_>,
    names: &Names,
) -> Result<Option<Arc<Gateway>>, ConvertError> {
    let addresses = addresses(ingresses(service).filter_map(entrance), names);
    if !addresses.is_empty() {
        return Ok(Some(gateway(GatewayAt::Addresses(addresses), Vec::new())));
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

fn gateway(at: GatewayAt, mut ports: Vec<GatewayPort>) -> Arc<Gateway> {
    ports.sort_unstable();
    Arc::new(Gateway { at, ports: ports.into() })
}

fn annotations<'b, 'a>(export: &'b kube::ServiceExport<'a>) -> Option<&'b kube::Annotations<'a>> {
    export.metadata.as_ref()?.annotations.as_ref()
}

fn ingresses<'b, 'a>(service: &'b kube::Service<'a>) -> impl Iterator<Item = &'b kube::Ingress<'a>> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default().iter()
}

/// Cloud providers give an address or a name; where both are given the address needs no resolving.
fn entrance<'b>(ingress: &'b kube::Ingress<'_>) -> Option<&'b str> {
    let given = |text: &'b Option<kube::Text<'_>>| text.as_deref().filter(|text| !text.is_empty());
    given(&ingress.ip).or_else(|| given(&ingress.hostname))
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

fn names<'t>(entries: impl Iterator<Item = &'t str>) -> Vec<Box<str>> {
    entries.filter(|entry| entry.parse::<IpAddr>().is_err()).map(Box::from).collect()
}

fn addresses<'t>(entries: impl Iterator<Item = &'t str>, names: &Names) -> Box<[IpAddr]> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for entry in entries {
        match entry.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => addresses.extend(names.get(entry).into_iter().flat_map(|known| known.iter())),
        }
    }
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into()
}

/// `80=30080` or `53/UDP=30053`.
fn port(entry: &str) -> Result<GatewayPort, ConvertError> {
    let wrong = || ConvertError::GatewayPort { value: entry.to_owned() };
    let (service, gateway) = entry.split_once('=').ok_or_else(wrong)?;
    let (number, transport) = service.split_once('/').unwrap_or((service, "TCP"));
    let parse = |text: &str| text.trim().parse::<u16>().ok().filter(|number| *number != 0).ok_or_else(wrong);
    Ok(GatewayPort {
        protocol: protocol(|| PORTS.to_owned(), Some(transport.trim()))?,
        number: parse(number)?,
        gateway: parse(gateway)?,
    })
}
