//! The EndpointSlices of a service: copies of every cluster's own, or the addresses of the gateway in front of them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use portolan_zones::object::{Conditions, Endpoint, Gateway, IpFamily, Port, Protocol, Slice};
use portolan_zones::ports::Exposed;
use portolan_zones::service::{Member, Reach};
use portolan_zones::{ClusterId, Service};
use smallvec::smallvec;

use super::bodies::{ConditionsBody, EndpointBody, PortBody, SliceBody, family, protocol};
use super::derived::name_of_unnamed;
use super::words;
use crate::convert::{MANAGED_BY, MOST_ENTRANCES};

/// The API's limit of endpoints in a slice.
const MOST: usize = 1000;

/// A service's slices as they should be.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Slices<'a> {
    pub(super) by_name: Bodies<'a>,
    /// Clusters whose slices stay as they are, for they are all that is known of them.
    pub(super) kept: BTreeSet<&'a ClusterId>,
}

impl<'a> Slices<'a> {
    /// Of all clusters. `derived` is the Service that they are connected to, `owner` the import's UID.
    pub(super) fn of(service: &'a Service, derived: Option<&str>, owner: &'a str) -> Self {
        let mut slices = Self::default();
        let unnamed = derived.and_then(|_| name_of_unnamed(service));
        let writer = Writer { service, derived, owner, unnamed };
        for member in &service.members {
            // Of a cluster that is not heard our own copies are all that is known: they are no source.
            if member.slices.iter().any(|slice| slice.source.is_some()) {
                slices.kept.insert(&member.cluster);
                continue;
            }
            let exposed = Exposed::of(member, &service.spec.ports);
            match &member.reach {
                Reach::Flat => {
                    let outside = writer.outside(member, &exposed);
                    for slice in &member.slices {
                        writer.copy(member, slice, &exposed, &outside, &mut slices.by_name);
                    }
                }
                Reach::Gateway(gateway) if !service.headless => {
                    writer.gateway(member, gateway, &exposed, &mut slices.by_name);
                }
                Reach::Gateway(_) | Reach::Unresolved | Reach::Nowhere => {}
            }
        }
        slices
    }
}

type Bodies<'a> = BTreeMap<String, SliceBody<'a>>;
type Annotations<'a> = BTreeMap<&'static str, Cow<'a, str>>;

struct Writer<'a, 'd> {
    service: &'a Service,
    derived: Option<&'d str>,
    owner: &'a str,
    unnamed: Option<String>,
}

impl<'a> Writer<'a, '_> {
    /// One cluster's slice in pieces that the API takes, with the ports that this cluster exposes. One without endpoints has
    /// no copy; nor has one without such a port, unless it is endpoints' names that matter.
    fn copy(
        &self,
        member: &'a Member,
        slice: &'a Slice,
        exposed: &Exposed<'_>,
        outside: &Annotations<'a>,
        into: &mut Bodies<'a>,
    ) {
        let exposed = exposed.slice_ports(&slice.ports);
        if exposed.is_empty() && !slice.ports.is_empty() && !self.service.headless {
            return;
        }
        let mut ports: Vec<PortBody> = exposed.iter().map(PortBody::from).collect();
        for port in ports.iter_mut().filter(|port| port.name.is_none()) {
            port.name.clone_from(&self.unnamed);
        }
        for (i, chunk) in slice.endpoints.chunks(MOST).enumerate() {
            let family = IpFamily::from(chunk[0].address);
            let name = self.name(member, &slice.name.to_string(), family, i);
            let endpoints = chunk.iter().map(|from| self.endpoint(member, from)).collect();
            let mut body = self.body(member, family, ports.clone(), endpoints);
            let identities = self.service.headless.then(|| (words::IDENTITIES, identities(chunk).into()));
            body.annotations =
                outside.iter().map(|(key, text)| (*key, text.clone())).chain(identities).collect();
            into.insert(name, body);
        }
    }

    /// Where a cluster's gateway is, for the clients of other networks that servers here answer. Endpoints of a headless
    /// service are reached by their own addresses, or not at all.
    fn outside(&self, member: &Member, exposed: &Exposed<'_>) -> Annotations<'a> {
        let gateway = member.gateway.as_deref().filter(|_| !self.service.headless);
        let Some(gateway) = gateway else { return Annotations::new() };
        let at: Vec<String> =
            gateway.addresses().iter().take(MOST_ENTRANCES).map(ToString::to_string).collect();
        let ports: Vec<String> = exposed.gateway_ports(gateway).into_iter().map(gateway_port).collect();
        if at.is_empty() || ports.is_empty() {
            return Annotations::new();
        }
        [(words::GATEWAY, at.join(", ").into()), (words::GATEWAY_PORTS, ports.join(", ").into())].into()
    }

    /// The gateway's addresses stand for all endpoints behind it.
    fn gateway(&self, member: &'a Member, gateway: &Gateway, exposed: &Exposed<'_>, into: &mut Bodies<'a>) {
        let ready = member.slices.iter().flat_map(|slice| &slice.endpoints).any(|e| e.conditions.ready);
        let conditions = Conditions { ready, serving: ready, terminating: false };
        let ports = exposed.gateway_ports(gateway).into_iter().map(|(port, number)| {
            let mut body = PortBody::from(port);
            body.port = Some(number);
            body.name = body.name.or_else(|| self.unnamed.clone());
            body
        });
        let ports: Vec<PortBody> = ports.collect();
        if ports.is_empty() {
            return;
        }
        for family in [IpFamily::V4, IpFamily::V6] {
            let own = gateway.addresses().iter().copied();
            let own: Vec<IpAddr> = own.filter(|address| IpFamily::from(*address) == family).collect();
            for (i, chunk) in own.chunks(MOST).enumerate() {
                let endpoints = chunk
                    .iter()
                    .map(|address| bare(*address, self.seen(member, *address, conditions)))
                    .collect();
                let mut body = self.body(member, family, ports.clone(), endpoints);
                body.labels.insert(words::GATEWAY, "true".into());
                into.insert(self.name(member, "", family, i), body);
            }
        }
    }

    fn body(
        &self,
        member: &'a Member,
        of: IpFamily,
        ports: Vec<PortBody>,
        endpoints: Vec<EndpointBody<'a>>,
    ) -> SliceBody<'a> {
        let mut labels: BTreeMap<&'static str, Cow<'a, str>> = BTreeMap::from([
            (words::MANAGED, words::TRUE.into()),
            (words::SLICE_MANAGED_BY, MANAGED_BY.into()),
            (words::IMPORTED, self.service.name.name().into()),
            (words::SOURCE, member.cluster.as_str().into()),
        ]);
        let region = member.region.as_deref().filter(|region| words::is_label(words::REGION, region));
        labels.extend(region.map(|region| (words::REGION, region.into())));
        labels.extend(member.exported_state.map(|state| (words::STATE, state.as_str().into())));
        labels.extend(self.derived.map(|name| (words::SERVICE, name.to_owned().into())));
        let address_type = family(of).into();
        let annotations = Annotations::new();
        SliceBody { labels, annotations, owner: self.owner.into(), address_type, ports, endpoints }
    }

    fn endpoint(&self, member: &Member, from: &'a Endpoint) -> EndpointBody<'a> {
        let place = from.place.as_deref();
        EndpointBody {
            hostname: from.hostname.as_deref().map(Cow::from),
            node_name: place.and_then(|place| place.node.as_deref()).map(Cow::from),
            az: place.and_then(|place| place.az.as_deref()).map(Cow::from),
            ..bare(from.address, self.seen(member, from.address, from.conditions))
        }
    }

    /// Ready is what its cluster says is ready and what seems healthy from here.
    fn seen(&self, member: &Member, address: IpAddr, conditions: Conditions) -> Conditions {
        Conditions { ready: conditions.ready && !self.service.is_out(&member.cluster, address), ..conditions }
    }

    /// The same for the same piece of the same slice for ever; the family is in it because a slice can't change it.
    fn name(&self, member: &Member, slice: &str, of: IpFamily, chunk: usize) -> String {
        let texts = [
            self.service.name.wire(),
            member.cluster.as_str().as_bytes(),
            slice.as_bytes(),
            family(of).as_bytes(),
            chunk.to_string().as_bytes(),
        ]
        .map(Vec::from);
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        format!("{}-{}", self.service.name.name(), words::short(&texts))
    }
}

fn bare(address: IpAddr, conditions: Conditions) -> EndpointBody<'static> {
    let Conditions { ready, serving, terminating } = conditions;
    let conditions =
        ConditionsBody { ready: Some(ready), serving: Some(serving), terminating: Some(terminating) };
    EndpointBody { addresses: smallvec![address], conditions, hostname: None, node_name: None, az: None }
}

/// A port and its number at the gateway, as people write it on ServiceExports: `80=30080` or `53/UDP=30053`.
fn gateway_port((port, number): (&Port, u16)) -> String {
    match port.protocol {
        Protocol::Tcp => format!("{}={number}", port.number),
        other => format!("{}/{}={number}", port.number, protocol(other)),
    }
}

fn identities(endpoints: &[Endpoint]) -> String {
    let list: Vec<_> = endpoints.iter().map(|endpoint| format!("{:x}", endpoint.identity)).collect();
    list.join(",")
}
