//! The only translation from Kubernetes types to the model's.
//!
//! What comes out is valid by itself: labels, addresses, ports, times. Whoever reads objects (files now, a
//! watch of the API later) comes through here.

mod error;
mod gateway;
mod peer;
mod policy;
mod service;
mod slice;

use std::net::IpAddr;
use std::sync::Arc;

use portolan_zones::ClusterId;
use portolan_zones::name::{ServiceName, check_label};
use portolan_zones::object::{Node, Object, ObjectKey, Protocol, SliceName, UnixTime};
use portolan_zones::policy::PolicyName;

pub use error::{ConvertError, Refused};
pub(crate) use gateway::{MOST_ENTRANCES, is_endpoint};
pub use gateway::{Names, names_of_export, names_of_service};
pub use peer::peer;
pub use policy::{TrafficPolicy, policy, rules, tell as tell_policy};
pub use service::{export, import, service};
pub use slice::{MANAGED_BY, slice};

use crate::intern::Interner;
use crate::kube_types as kube;

/// The property that holds a cluster's id (KEP-2149), and what it was called before.
const ID_PROPERTIES: [&str; 2] = ["cluster.clusterset.k8s.io", "id.k8s.io"];

/// Addresses, or networks, of a Node.
const MOST_PER_NODE: usize = 100;
/// Ports of a Service, ServiceImport or EndpointSlice.
const MOST_PORTS: usize = 1000;
/// When Kubernetes was first published, 2014-06-07: nothing in it is older.
const FIRST_COMMIT: UnixTime = 1_402_099_200;

/// The kinds that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Kubernetes'")]
pub enum Kind {
    Service,
    EndpointSlice,
    ServiceExport,
    ServiceImport,
    Node,
    Namespace,
    ClusterProperty,
    TrafficPolicy,
    ClusterPeer,
}

impl Kind {
    /// The kind that `apiVersion` and `kind` name; `None` when it does not matter here.
    ///
    /// KEP-1645's examples print the group `multicluster.k8s.io`; the API is `multicluster.x-k8s.io`.
    pub fn of(api_version: &str, kind: &str) -> Result<Option<Self>, ConvertError> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let (kind, versions): (_, &'static [&'static str]) = match (group, kind) {
            ("", "Service") => (Self::Service, &["v1"]),
            ("", "Node") => (Self::Node, &["v1"]),
            ("", "Namespace") => (Self::Namespace, &["v1"]),
            ("discovery.k8s.io", "EndpointSlice") => (Self::EndpointSlice, &["v1"]),
            ("multicluster.x-k8s.io" | "multicluster.k8s.io", "ServiceExport") => {
                (Self::ServiceExport, &["v1alpha1", "v1beta1"])
            }
            ("multicluster.x-k8s.io" | "multicluster.k8s.io", "ServiceImport") => {
                (Self::ServiceImport, &["v1alpha1", "v1beta1"])
            }
            ("portolan.dev", "TrafficPolicy") => (Self::TrafficPolicy, &["v1alpha1"]),
            ("portolan.dev", "ClusterPeer") => (Self::ClusterPeer, &["v1alpha1"]),
            ("about.k8s.io", "ClusterProperty") => (Self::ClusterProperty, &["v1alpha1", "v1beta1"]),
            _ => return Ok(None),
        };
        if versions.contains(&version) {
            return Ok(Some(kind));
        }
        Err(ConvertError::unknown("apiVersion", api_version, versions))
    }

    /// The key that an object of this kind with these names has; `None` for names that none can have.
    pub fn key(self, metadata: &kube::Metadata<'_>) -> Option<ObjectKey> {
        let mut interner = Interner::default();
        Some(match self {
            Self::Service => ObjectKey::Service(service_name(metadata, &mut interner).ok()?),
            Self::ServiceExport => ObjectKey::Export(service_name(metadata, &mut interner).ok()?),
            Self::ServiceImport => ObjectKey::Import(service_name(metadata, &mut interner).ok()?),
            Self::EndpointSlice => ObjectKey::Slice(slice_name(metadata).ok()?),
            Self::Node => ObjectKey::Node(subdomain("metadata.name", metadata.name.as_deref()).ok()?.into()),
            Self::Namespace => ObjectKey::Namespace(name(metadata).ok()?.into()),
            Self::TrafficPolicy => {
                let name = subdomain("metadata.name", metadata.name.as_deref()).ok()?;
                ObjectKey::Policy(PolicyName::new(namespace_of(metadata).ok()?, name))
            }
            Self::ClusterPeer => {
                ObjectKey::Peer(subdomain("metadata.name", metadata.name.as_deref()).ok()?.into())
            }
            Self::ClusterProperty => return None,
        })
    }
}

/// Translates a Node.
pub fn node(node: &kube::Node<'_>, interner: &mut Interner) -> Result<Object, ConvertError> {
    let metadata = metadata(&node.metadata)?;
    let labels = metadata.labels.as_ref();
    let place = |text: Option<&kube::Text<'_>>, interner: &mut Interner| {
        text.filter(|text| !text.is_empty()).map(|text| interner.text(text))
    };
    let spec = node.spec.as_ref();
    let single = spec.and_then(|spec| spec.pod_cidr.as_ref()).filter(|cidr| !cidr.is_empty());
    let cidrs = spec.and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
    let cidrs = bounded("spec.podCIDRs", cidrs, MOST_PER_NODE)?;
    let pod_cidrs = if cidrs.is_empty() {
        single.map(|text| cidr("spec.podCIDR".to_owned(), text)).into_iter().collect::<Result<_, _>>()?
    } else {
        let cidrs = cidrs.iter().enumerate();
        cidrs.map(|(i, text)| cidr(format!("spec.podCIDRs[{i}]"), text)).collect::<Result<_, _>>()?
    };
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let addresses = bounded("status.addresses", addresses, MOST_PER_NODE)?;
    let listed =
        addresses.iter().filter_map(|a| Some((a.kind.as_deref()?, a.address.as_deref()?.parse().ok()?)));
    let listed: Vec<(&str, IpAddr)> = listed.collect();
    let of = |kind: &str| listed.iter().filter(|(k, _)| *k == kind).map(|(_, ip)| *ip).collect::<Box<[_]>>();
    let excluded = labels.is_some_and(|labels| labels.excluded.is_some());
    let entrances = match of("ExternalIP") {
        _ if excluded => Box::default(),
        none if none.is_empty() => of("InternalIP"),
        external => external,
    };
    let entrances = entrances.into_iter().filter(is_endpoint).collect();
    Ok(Object::Node(Node {
        name: interner.text(subdomain("metadata.name", metadata.name.as_deref())?),
        az: place(labels.and_then(|labels| labels.az.as_ref()), interner),
        region: place(labels.and_then(|labels| labels.region.as_ref()), interner),
        pod_cidrs,
        addresses: listed.iter().map(|(_, ip)| *ip).collect(),
        ready: is_ready(node),
        entrances,
    }))
}

/// Condition `Ready`; a Node that says nothing of it is taken as ready.
fn is_ready(node: &kube::Node<'_>) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.kind.as_deref() == Some("Ready"));
    ready.is_none_or(|condition| condition.status.as_deref() == Some("True"))
}

/// Translates a Namespace.
pub fn namespace(namespace: &kube::Namespace<'_>, interner: &mut Interner) -> Result<Object, ConvertError> {
    Ok(Object::Namespace(interner.text(name(metadata(&namespace.metadata)?)?)))
}

/// The rank of a ClusterProperty of this name among those that give an id.
pub(crate) fn id_rank(name: &str) -> Option<usize> {
    ID_PROPERTIES.iter().position(|known| *known == name)
}

/// The id that a ClusterProperty gives its cluster; `None` when it is about something else.
///
/// The number is its rank: the property of today (0) goes before its former name (1).
pub fn cluster_id(property: &kube::ClusterProperty<'_>) -> Result<Option<(usize, ClusterId)>, ConvertError> {
    let name = metadata(&property.metadata)?.name.as_deref().unwrap_or_default();
    let Some(rank) = id_rank(name) else {
        return Ok(None);
    };
    let value = property.spec.as_ref().and_then(|spec| spec.value.as_ref());
    let value = value.ok_or(ConvertError::Missing { field: "spec.value".to_owned() })?;
    let id = ClusterId::new(value).map_err(|error| ConvertError::name("spec.value", error))?;
    Ok(Some((rank, id)))
}

fn metadata<'a, 'b>(
    metadata: &'b Option<kube::Metadata<'a>>,
) -> Result<&'b kube::Metadata<'a>, ConvertError> {
    metadata.as_ref().ok_or(ConvertError::Missing { field: "metadata".to_owned() })
}

fn required<'a>(field: &str, text: Option<&'a str>) -> Result<&'a str, ConvertError> {
    text.filter(|text| !text.is_empty()).ok_or_else(|| ConvertError::Missing { field: field.to_owned() })
}

fn label<'a>(field: &str, text: Option<&'a str>) -> Result<&'a str, ConvertError> {
    let text = required(field, text)?;
    check_label(text).map_err(|error| ConvertError::name(field, error))?;
    Ok(text)
}

/// A name of several labels, as Nodes and EndpointSlices have.
fn subdomain<'a>(field: &str, text: Option<&'a str>) -> Result<&'a str, ConvertError> {
    let text = required(field, text)?;
    if text.len() > 253 {
        return Err(ConvertError::TooLong { field: field.to_owned(), len: text.len(), most: 253 });
    }
    text.split('.').try_for_each(check_label).map_err(|error| ConvertError::name(field, error))?;
    Ok(text)
}

fn name<'b>(metadata: &'b kube::Metadata<'_>) -> Result<&'b str, ConvertError> {
    label("metadata.name", metadata.name.as_deref())
}

fn namespace_of<'b>(metadata: &'b kube::Metadata<'_>) -> Result<&'b str, ConvertError> {
    label("metadata.namespace", metadata.namespace.as_deref())
}

fn service_name(metadata: &kube::Metadata<'_>, interner: &mut Interner) -> Result<ServiceName, ConvertError> {
    let (namespace, name) = (namespace_of(metadata)?, name(metadata)?);
    interner.service(namespace, name).map_err(|error| ConvertError::name("metadata.name", error))
}

fn slice_name(metadata: &kube::Metadata<'_>) -> Result<SliceName, ConvertError> {
    let name = subdomain("metadata.name", metadata.name.as_deref())?;
    Ok(SliceName::new(namespace_of(metadata)?, name))
}

/// Seconds since the epoch. An object without a time counts as the youngest, so that it never wins over one that has one; so
/// does one that claims to be older than Kubernetes. One from the future is younger than all others anyway.
fn created(metadata: &kube::Metadata<'_>) -> Result<UnixTime, ConvertError> {
    let Some(text) = metadata.creation_timestamp.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(UnixTime::MAX);
    };
    let time: jiff::Timestamp = text.parse().map_err(|_| ConvertError::Time {
        field: "metadata.creationTimestamp".to_owned(),
        value: text.into(),
    })?;
    Ok(Some(time.as_second()).filter(|time| *time >= FIRST_COMMIT).unwrap_or(UnixTime::MAX))
}

/// A list that is no longer than the API allows, or than anybody needs.
fn bounded<'b, T>(field: &str, list: &'b [T], most: usize) -> Result<&'b [T], ConvertError> {
    let len = list.len();
    let fits = len <= most;
    fits.then_some(list).ok_or_else(|| ConvertError::TooMany { field: field.to_owned(), len, most })
}

fn address(field: impl FnOnce() -> String, text: &str) -> Result<IpAddr, ConvertError> {
    text.parse().map_err(|_| ConvertError::Address { field: field(), value: text.to_owned() })
}

fn cidr(field: String, text: &str) -> Result<(IpAddr, u8), ConvertError> {
    let net: Result<ipnet::IpNet, _> = text.parse();
    net.map(|net| (net.network(), net.prefix_len()))
        .map_err(|_| ConvertError::Network { field, value: text.to_owned() })
}

fn port_number(field: impl FnOnce() -> String, number: i64) -> Result<u16, ConvertError> {
    u16::try_from(number)
        .ok()
        .filter(|number| *number != 0)
        .ok_or_else(|| ConvertError::Port { field: field(), value: number })
}

/// A port's name becomes the label `_name`, which leaves it 62 octets. Empty is unnamed.
fn port_name(
    field: impl Fn() -> String,
    text: Option<&str>,
    interner: &mut Interner,
) -> Result<Option<Arc<str>>, ConvertError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    check_label(text).map_err(|error| ConvertError::Name { field: field(), error })?;
    if text.len() > 62 {
        return Err(ConvertError::TooLong { field: field(), len: text.len(), most: 62 });
    }
    Ok(Some(interner.text(text)))
}

fn protocol(field: impl FnOnce() -> String, text: Option<&str>) -> Result<Protocol, ConvertError> {
    match text.unwrap_or_default() {
        "TCP" | "" => Ok(Protocol::Tcp),
        "UDP" => Ok(Protocol::Udp),
        "SCTP" => Ok(Protocol::Sctp),
        other => Err(ConvertError::unknown(field(), other, &["TCP", "UDP", "SCTP"])),
    }
}

#[cfg(test)]
mod tests;
