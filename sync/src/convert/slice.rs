//! EndpointSlices.

use std::hash::Hasher;
use std::net::IpAddr;

use portolan_zones::ClusterId;
use portolan_zones::name::{ServiceName, Text};
use portolan_zones::object::{Conditions, Endpoint, Object, Slice, SliceName, SlicePort};
use siphasher::sip::SipHasher24;

use super::{
    ConvertError, MOST_PORTS, Refused, address, bounded, gateway, is_endpoint, label, metadata, namespace_of,
    port_name, port_number, protocol, slice_name,
};
use crate::intern::Interner;
use crate::kube_types as kube;

/// Who writes the slices of our own controller.
pub const MANAGED_BY: &str = "controller.portolan.dev";
/// Multi-cluster controllers: what they wrote is another cluster's and must not be taken for this one's own.
const MIRRORS: [&str; 8] = [
    MANAGED_BY,
    "lighthouse-agent.submariner.io",
    "endpointslice-mesh-controller.cilium.io",
    "endpointslice-dispatch-controller.karmada.io",
    "endpointslice-controller.karmada.io",
    "endpointslice.reflection.liqo.io",
    "aws-cloud-map-mcs-controller-for-k8s",
    "clusternet-agent",
];

/// Kubernetes' own controllers, which copy a Service's labels to its slices: what these say of another cluster is anybody's
/// word who may make a Service. (KEP-1645: a mirrored slice must not be managed by them.)
const KUBERNETES: [&str; 2] = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];
/// The API's limits.
const MOST_ENDPOINTS: usize = 1000;
const MOST_ADDRESSES: usize = 100;

/// Translates an EndpointSlice; `None` for one that belongs to no service, or that a multi-cluster controller
/// mirrored from a cluster which it does not name.
pub fn slice(
    slice: &kube::EndpointSlice<'_>,
    interner: &mut Interner,
    refused: &mut Refused,
) -> Result<Option<Object>, ConvertError> {
    let metadata = metadata(&slice.metadata)?;
    let name = slice_name(metadata)?;
    let Some((service, source)) = owner(metadata, &name, interner)? else {
        return Ok(None);
    };
    let labels = metadata.labels.as_ref();
    let is_gateway =
        source.is_some() && labels.is_some_and(|labels| labels.gateway.as_deref() == Some("true"));
    let region = labels.and_then(|labels| labels.region.as_ref()).filter(|_| source.is_some());
    let region = region.filter(|region| !region.is_empty()).map(|region| interner.text(region));
    let state = labels.and_then(|labels| labels.state.as_ref()?.parse().ok()).filter(|_| source.is_some());
    let ours =
        source.is_some() && labels.is_some_and(|labels| labels.managed_by.as_deref() == Some(MANAGED_BY));
    let outside = if ours && !is_gateway { gateway::of_copy(metadata, refused) } else { None };
    let family = match slice.address_type.as_deref().unwrap_or_default() {
        "IPv4" => "IPv4",
        "IPv6" => "IPv6",
        "FQDN" => return Err(ConvertError::Fqdn),
        "" => return Err(ConvertError::Missing { field: "addressType".to_owned() }),
        other => return Err(ConvertError::unknown("addressType", other, &["IPv4", "IPv6", "FQDN"])),
    };
    let from = bounded("endpoints", slice.endpoints.as_deref().unwrap_or_default(), MOST_ENDPOINTS)?;
    let mut endpoints = Vec::with_capacity(from.len());
    for (i, endpoint) in from.iter().enumerate() {
        push_endpoint(&mut endpoints, i, endpoint, family, interner, refused)?;
    }
    if source.is_some() {
        take_identities(metadata, &mut endpoints);
    }
    Ok(Some(Object::Slice(Slice {
        name,
        service,
        source,
        ours,
        gateway: is_gateway,
        state,
        region,
        outside,
        ports: ports(slice.ports.as_deref().unwrap_or_default(), interner)?,
        endpoints: endpoints.into(),
    })))
}

/// The service that a slice belongs to, and the cluster that it was mirrored from (KEP-1645, "Using EndpointSlice
/// objects"). On a mirrored slice the MCS label decides: the other one names the derived Service.
fn owner(
    metadata: &kube::Metadata<'_>,
    name: &SliceName,
    interner: &mut Interner,
) -> Result<Option<(ServiceName, Option<ClusterId>)>, ConvertError> {
    let Some(labels) = &metadata.labels else {
        tracing::debug!(slice = %name, "ignored: it has no service-name label");
        return Ok(None);
    };
    let copied = labels.managed_by.as_deref().is_some_and(|writer| KUBERNETES.contains(&writer));
    let source = labels.source_cluster.as_deref().filter(|text| !text.is_empty() && !copied);
    let (field, service) = match (source, &labels.imported_service) {
        (Some(_), Some(service)) => {
            ("metadata.labels[multicluster.kubernetes.io/service-name]", Some(service))
        }
        _ => ("metadata.labels[kubernetes.io/service-name]", labels.service.as_ref()),
    };
    let Some(service) = service.filter(|text| !text.is_empty()) else {
        tracing::debug!(slice = %name, "ignored: it has no service-name label");
        return Ok(None);
    };
    let writers = [&labels.managed_by, &labels.created_by];
    let mirror = writers.into_iter().flatten().find(|writer| MIRRORS.contains(&&***writer));
    if let (None, Some(mirror)) = (source, mirror) {
        let mirror = &**mirror;
        tracing::debug!(slice = %name, mirror, "ignored: mirrored from elsewhere");
        return Ok(None);
    }
    let service = label(field, Some(service))?;
    let service = interner
        .service(namespace_of(metadata)?, service)
        .map_err(|error| ConvertError::name(field, error))?;
    let source = source.map(ClusterId::new).transpose().map_err(|error| {
        ConvertError::name("metadata.labels[multicluster.kubernetes.io/source-cluster]", error)
    })?;
    Ok(Some((service, source)))
}

/// A mirrored slice has no `targetRef`, for its pods are elsewhere: an annotation says who is who, if it is about as
/// many endpoints as there are.
fn take_identities(metadata: &kube::Metadata<'_>, endpoints: &mut [Endpoint]) {
    let annotation = metadata.annotations.as_ref().and_then(|annotations| annotations.identities.as_deref());
    let Some(text) = annotation else { return };
    let identities: Option<Vec<u32>> = text.split(',').map(|hex| u32::from_str_radix(hex, 16).ok()).collect();
    let Some(identities) = identities.filter(|all| all.len() == endpoints.len()) else { return };
    for (endpoint, identity) in endpoints.iter_mut().zip(identities) {
        endpoint.identity = identity;
    }
}

/// One entry per address: the addresses of an endpoint are interchangeable.
fn push_endpoint(
    endpoints: &mut Vec<Endpoint>,
    at: usize,
    from: &kube::Endpoint<'_>,
    family: &'static str,
    interner: &mut Interner,
    refused: &mut Refused,
) -> Result<(), ConvertError> {
    let conditions = conditions(from.conditions.unwrap_or_default());
    let hostname = from.hostname.as_deref().filter(|text| !text.is_empty());
    if let Some(hostname) = hostname {
        portolan_zones::name::check_label(hostname)
            .map_err(|error| ConvertError::Name { field: format!("endpoints[{at}].hostname"), error })?;
    }
    let node = from.node_name.as_deref().filter(|text| !text.is_empty());
    let place = interner.place(node, from.az.as_deref().filter(|text| !text.is_empty()));
    let addresses = from.addresses.as_deref().unwrap_or_default();
    let addresses = bounded("endpoints[].addresses", addresses, MOST_ADDRESSES)?;
    for (i, text) in addresses.iter().enumerate() {
        let field = || format!("endpoints[{at}].addresses[{i}]");
        let address = address(field, text)?;
        if address.is_ipv4() != (family == "IPv4") {
            return Err(ConvertError::Family { field: field(), value: text.to_string(), family });
        }
        if !is_endpoint(&address) {
            refused.push(ConvertError::NoEndpoint { field: field(), value: address });
            continue;
        }
        endpoints.push(Endpoint {
            address,
            conditions,
            identity: identity(from.target_ref.as_ref(), address),
            hostname: hostname.map(Text::from),
            place: place.clone(),
        });
    }
    Ok(())
}

/// Unset `ready` means ready, unset `serving` as ready, unset `terminating` no (EndpointSlice API).
fn conditions(from: kube::Conditions) -> Conditions {
    let ready = from.ready.unwrap_or(true);
    Conditions {
        ready,
        serving: from.serving.unwrap_or(ready),
        terminating: from.terminating.unwrap_or(false),
    }
}

/// A hash with a fixed key, so that all replicas agree, of what `targetRef` names, else of the address.
fn identity(target: Option<&kube::TargetRef<'_>>, address: IpAddr) -> u32 {
    let mut hasher = SipHasher24::new_with_key(b"portolanendpoint");
    let mut text = |text: Option<&str>| {
        hasher.write(text.unwrap_or_default().as_bytes());
        hasher.write(&[0]);
    };
    match target {
        Some(kube::TargetRef { kind, namespace, name: Some(name), .. }) => {
            text(kind.as_deref());
            text(namespace.as_deref());
            text(Some(name));
        }
        Some(kube::TargetRef { uid: Some(uid), .. }) => text(Some(uid)),
        _ => match address {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()),
        },
    }
    (hasher.finish() >> 32) as u32
}

fn ports(
    from: &[kube::Port<'_>],
    interner: &mut Interner,
) -> Result<std::sync::Arc<[SlicePort]>, ConvertError> {
    let from = bounded("ports", from, MOST_PORTS)?;
    let mut ports = Vec::with_capacity(from.len());
    for (i, port) in from.iter().enumerate() {
        let field = |name: &str| format!("ports[{i}].{name}");
        let app_protocol = port.app_protocol.as_deref().filter(|text| !text.is_empty());
        ports.push(SlicePort {
            name: port_name(|| field("name"), port.name.as_deref(), interner)?,
            protocol: protocol(|| field("protocol"), port.protocol.as_deref())?,
            number: port.port.map(|number| port_number(|| field("port"), number)).transpose()?,
            app_protocol: app_protocol.map(|text| interner.text(text)),
        });
    }
    Ok(interner.slice_ports(&ports))
}
