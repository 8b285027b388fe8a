//! The parts of our objects that are ours to write, both ways: as they are wanted, and as the API server shows them.
//!
//! Wanted and shown are compared by a fingerprint of the same type, so that nothing else of an object is kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use portolan_zones::object::{IpFamily, Port, Protocol, ServiceSpec, SessionAffinity, SlicePort};
use serde::{Deserialize, Deserializer, Serialize};
use smallvec::SmallVec;

/// `spec` of a ServiceImport.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ImportSpec {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) ports: Vec<PortBody>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub(super) ips: Vec<IpAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub(super) ip_families: Vec<String>,
    #[serde(flatten)]
    pub(super) traffic: Traffic,
}

/// `spec` of a derived Service. Its IP families are settled with the API server, see [`super::derived`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct DerivedSpec {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) ip_family_policy: String,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub(super) ip_families: Vec<String>,
    /// Asked for only to get back what the import has.
    #[serde(rename = "clusterIPs", skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub(super) cluster_ips: Vec<IpAddr>,
    #[serde(deserialize_with = "nullable")]
    pub(super) ports: Vec<PortBody>,
    #[serde(flatten)]
    pub(super) traffic: Traffic,
}

/// What a Service and a ServiceImport say of traffic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Traffic {
    #[serde(skip_serializing_if = "String::is_empty")]
    session_affinity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_affinity_config: Option<AffinityConfig>,
    #[serde(skip_serializing_if = "String::is_empty")]
    internal_traffic_policy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic_distribution: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: ClientIp,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClientIp {
    timeout_seconds: u32,
}

/// A port of any of our objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PortBody {
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "filled")]
    pub(super) name: Option<String>,
    pub(super) protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) app_protocol: Option<String>,
    /// `None` only in slices: all ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
}

/// An EndpointSlice of ours, but for namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SliceBody<'a> {
    /// Those of our labels that it has.
    pub(super) labels: BTreeMap<&'static str, Cow<'a, str>>,
    /// Those of our annotations that it has.
    pub(super) annotations: BTreeMap<&'static str, Cow<'a, str>>,
    /// UID of the ServiceImport that owns it.
    pub(super) owner: Cow<'a, str>,
    pub(super) address_type: Cow<'a, str>,
    pub(super) ports: Vec<PortBody>,
    pub(super) endpoints: Vec<EndpointBody<'a>>,
}

/// An endpoint of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct EndpointBody<'a> {
    pub(super) addresses: SmallVec<[IpAddr; 1]>,
    pub(super) conditions: ConditionsBody,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) hostname: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) node_name: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", rename = "zone")]
    pub(super) az: Option<Cow<'a, str>>,
}

/// `conditions` of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ConditionsBody {
    pub(super) ready: Option<bool>,
    pub(super) serving: Option<bool>,
    pub(super) terminating: Option<bool>,
}

impl Traffic {
    /// Says nothing of a field, by the name that it has in the API.
    pub(super) fn drop_field(&mut self, field: &str) {
        match field {
            "sessionAffinity" => self.session_affinity.clear(),
            "sessionAffinityConfig" => self.session_affinity_config = None,
            "internalTrafficPolicy" => self.internal_traffic_policy.clear(),
            "trafficDistribution" => self.traffic_distribution = None,
            _ => {}
        }
    }
}

impl From<&ServiceSpec> for Traffic {
    fn from(spec: &ServiceSpec) -> Self {
        let (session_affinity, session_affinity_config) = match spec.session_affinity {
            SessionAffinity::None => ("None", None),
            SessionAffinity::ClientIp { timeout } => {
                ("ClientIP", Some(AffinityConfig { client_ip: ClientIp { timeout_seconds: timeout } }))
            }
        };
        Self {
            session_affinity: session_affinity.to_owned(),
            session_affinity_config,
            internal_traffic_policy: if spec.internal_traffic_local { "Local" } else { "Cluster" }.to_owned(),
            traffic_distribution: spec.traffic_distribution.as_deref().map(str::to_owned),
        }
    }
}

impl From<&Port> for PortBody {
    fn from(port: &Port) -> Self {
        Self {
            name: port.name.as_deref().map(str::to_owned),
            protocol: protocol(port.protocol).to_owned(),
            app_protocol: port.app_protocol.as_deref().map(str::to_owned),
            port: Some(port.number),
        }
    }
}

impl From<&SlicePort> for PortBody {
    fn from(port: &SlicePort) -> Self {
        Self {
            name: port.name.as_deref().map(str::to_owned),
            protocol: protocol(port.protocol).to_owned(),
            app_protocol: port.app_protocol.as_deref().map(str::to_owned),
            port: port.number,
        }
    }
}

/// As the API spells it.
pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

/// As the API spells it.
pub(super) fn family(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "IPv4",
        IpFamily::V6 => "IPv6",
    }
}

/// Absent and null are nothing.
pub(super) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Absent, null and empty are nothing.
fn filled<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.filter(|text| !text.is_empty()))
}
