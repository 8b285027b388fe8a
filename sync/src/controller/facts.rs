//! What is kept of the own cluster's objects: only what it takes to see whether they are as they should be.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use portolan_zones::ClusterId;
use portolan_zones::object::ServiceKind;
use serde::Deserialize;
use serde::de::IgnoredAny;
use smallvec::SmallVec;

use super::bodies::{DerivedSpec, EndpointBody, ImportSpec, PortBody, SliceBody, nullable};
use super::conditions::Condition;
use super::words;
use crate::convert::{Kind, MANAGED_BY};

/// All that is kept about one service.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) import: Option<ImportFacts>,
    pub(super) derived: Option<DerivedFacts>,
    /// Ours, by name.
    pub(super) slices: BTreeMap<Arc<str>, SliceFacts>,
    pub(super) export: Option<ExportFacts>,
    /// The own cluster's Service of this name.
    pub(super) kind: Option<ServiceKind>,
}

/// Facts of one service with what holds around it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Seen {
    pub(super) facts: Facts,
    /// Whether its namespace exists, and stays.
    pub(super) namespace: bool,
    /// Whether a Service that is not ours has the derived Service's name.
    pub(super) derived_taken: bool,
}

/// A ServiceImport.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ImportFacts {
    pub(super) ours: bool,
    pub(super) uid: Box<str>,
    /// `metadata.resourceVersion`: later is greater.
    pub(super) version: u64,
    pub(super) spec: u64,
    /// `spec.ips`.
    pub(super) ips: SmallVec<[IpAddr; 2]>,
    /// Hash of the metadata that we gave it, as it says.
    pub(super) applied: Option<Box<str>>,
    pub(super) derived: Option<Box<str>>,
    /// But ours.
    pub(super) labels: BTreeMap<String, String>,
    /// But ours.
    pub(super) annotations: BTreeMap<String, String>,
    /// `status.clusters`.
    pub(super) clusters: Vec<String>,
    pub(super) ready: Option<Condition>,
}

/// A derived Service of ours.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DerivedFacts {
    pub(super) uid: Box<str>,
    pub(super) version: u64,
    /// Of spec, owner and labels.
    pub(super) state: u64,
    pub(super) ips: SmallVec<[IpAddr; 2]>,
}

/// An EndpointSlice of ours.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SliceFacts {
    pub(super) uid: Box<str>,
    pub(super) version: u64,
    pub(super) state: u64,
    pub(super) source: Option<ClusterId>,
}

/// A ServiceExport.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ExportFacts {
    pub(super) version: u64,
    pub(super) generation: Option<i64>,
    pub(super) conditions: Vec<Condition>,
}

/// `metadata`, owned by the text.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    resource_version: String,
    generation: Option<i64>,
    pub(super) deletion_timestamp: Option<IgnoredAny>,
    #[serde(deserialize_with = "nullable")]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    owner_references: Vec<Owner>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    api_version: String,
    kind: String,
    uid: String,
}

/// Any object's metadata.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    #[serde(default)]
    pub(super) metadata: Meta,
}

#[derive(Deserialize)]
struct RawImport {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    spec: ImportSpec,
    #[serde(default, deserialize_with = "nullable")]
    status: RawStatus,
}

#[derive(Deserialize)]
struct RawExport {
    #[serde(default)]
    metadata: Meta,
    #[serde(default, deserialize_with = "nullable")]
    status: RawStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawStatus {
    #[serde(deserialize_with = "nullable")]
    clusters: Vec<RawCluster>,
    #[serde(deserialize_with = "nullable")]
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCluster {
    cluster: String,
}

#[derive(Deserialize)]
struct RawService {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    spec: DerivedSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSlice<'a> {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    address_type: String,
    #[serde(default, deserialize_with = "nullable")]
    ports: Vec<PortBody>,
    #[serde(borrow, default)]
    endpoints: Option<Vec<EndpointBody<'a>>>,
}

impl Meta {
    /// Whether an object of a kind is ours to change and to delete. Labels are copied, by people and by other controllers
    /// (a Service's onto its slices): a slice and a Service need more than one.
    pub(super) fn is_ours(&self, kind: Kind) -> bool {
        let has = |key, value| self.labels.get(key).is_some_and(|label| label == value);
        has(words::MANAGED, words::TRUE)
            && match kind {
                Kind::Service => self.name.starts_with(words::DERIVED_PREFIX) && !self.owner().is_empty(),
                Kind::EndpointSlice => has(words::SLICE_MANAGED_BY, MANAGED_BY),
                _ => true,
            }
    }

    pub(super) fn version(&self) -> u64 {
        self.resource_version.parse().unwrap_or_default()
    }

    /// The ServiceImport that owns it.
    fn owner(&self) -> &str {
        let is_import = |owner: &&Owner| {
            owner.kind == "ServiceImport" && owner.api_version.split('/').next() == Some(words::MCS)
        };
        self.owner_references.iter().find(is_import).map_or("", |owner| &owner.uid)
    }
}

impl Facts {
    /// Whether there is an import, and it is ours.
    pub(super) fn has_import(&self) -> bool {
        self.import.as_ref().is_some_and(|import| import.ours)
    }
}

impl ImportFacts {
    pub(super) fn of(json: &str) -> serde_json::Result<Self> {
        let RawImport { mut metadata, spec, status } = serde_json::from_str(json)?;
        let ours = metadata.is_ours(Kind::ServiceImport);
        let mut taken = |key: &str| metadata.annotations.remove(key).map(Box::from);
        let (applied, derived) = (taken(words::APPLIED), taken(words::DERIVED));
        metadata.labels.remove(words::MANAGED);
        Ok(Self {
            ours,
            uid: metadata.uid.as_str().into(),
            version: metadata.version(),
            spec: words::fingerprint(&spec),
            ips: spec.ips.into(),
            applied,
            derived,
            labels: if ours { metadata.labels } else { BTreeMap::new() },
            annotations: if ours { metadata.annotations } else { BTreeMap::new() },
            clusters: status.clusters.into_iter().map(|cluster| cluster.cluster).collect(),
            ready: status.conditions.into_iter().find(|condition| condition.kind == "Ready"),
        })
    }
}

impl ExportFacts {
    pub(super) fn of(json: &str) -> serde_json::Result<Self> {
        let RawExport { metadata, status } = serde_json::from_str(json)?;
        let ours = |condition: &Condition| ["Valid", "Ready", "Conflict"].contains(&&*condition.kind);
        Ok(Self {
            version: metadata.version(),
            generation: metadata.generation,
            conditions: status.conditions.into_iter().filter(ours).collect(),
        })
    }
}

impl DerivedFacts {
    pub(super) fn of(json: &str) -> serde_json::Result<Self> {
        let RawService { metadata, spec } = serde_json::from_str(json)?;
        let service = metadata.labels.get(words::IMPORTED).map(String::as_str).unwrap_or_default();
        Ok(Self {
            uid: metadata.uid.as_str().into(),
            version: metadata.version(),
            state: Self::state(&spec, metadata.owner(), service),
            ips: spec.cluster_ips.into(),
        })
    }

    /// What of a derived Service is ours to say: where it may have both families, the API server says which.
    pub(super) fn state(spec: &DerivedSpec, owner: &str, service: &str) -> u64 {
        let DerivedSpec { kind, ip_family_policy, ip_families, cluster_ips: _, ports, traffic } = spec;
        let families = (ip_family_policy == "SingleStack").then_some(ip_families);
        words::fingerprint(&(kind, ip_family_policy, families, ports, traffic, owner, service))
    }
}

/// What sort of Service it is, as an export sees it.
pub(super) fn service_kind(json: &str) -> serde_json::Result<ServiceKind> {
    #[derive(Deserialize)]
    struct Raw {
        spec: Spec,
    }
    #[derive(Deserialize)]
    struct Spec {
        #[serde(rename = "type")]
        kind: Option<String>,
        #[serde(rename = "clusterIP")]
        cluster_ip: Option<String>,
    }
    let Raw { spec } = serde_json::from_str(json)?;
    Ok(match (spec.kind.as_deref(), spec.cluster_ip.as_deref()) {
        (Some("ExternalName"), _) => ServiceKind::ExternalName,
        (_, Some("None")) => ServiceKind::Headless,
        _ => ServiceKind::ClusterIp,
    })
}

impl SliceFacts {
    pub(super) fn of(json: &str) -> serde_json::Result<Self> {
        let raw: RawSlice<'_> = serde_json::from_str(json)?;
        let labels = [
            words::MANAGED,
            words::SLICE_MANAGED_BY,
            words::IMPORTED,
            words::SOURCE,
            words::SERVICE,
            words::GATEWAY,
            words::STATE,
            words::REGION,
        ];
        let annotations = [words::IDENTITIES, words::GATEWAY, words::GATEWAY_PORTS];
        let has = |from: &BTreeMap<String, String>, keys: &[&'static str]| {
            keys.iter().filter_map(|key| Some((*key, Cow::from(from.get(*key)?.clone())))).collect()
        };
        let source = raw.metadata.labels.get(words::SOURCE).and_then(|id| ClusterId::new(id).ok());
        let body = SliceBody {
            labels: has(&raw.metadata.labels, &labels),
            annotations: has(&raw.metadata.annotations, &annotations),
            owner: raw.metadata.owner().into(),
            address_type: raw.address_type.into(),
            ports: raw.ports,
            endpoints: raw.endpoints.unwrap_or_default(),
        };
        let uid = raw.metadata.uid.as_str().into();
        Ok(Self { uid, version: raw.metadata.version(), state: words::fingerprint(&body), source })
    }
}
