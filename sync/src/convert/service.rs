//! Services, ServiceExports and ServiceImports.

use std::collections::BTreeMap;
use std::sync::Arc;

use portolan_zones::ClusterId;
use portolan_zones::object::{
    Export, Exported, Import, IpFamily, Object, Port, Service, ServiceKind, ServiceSpec, SessionAffinity,
};
use smallvec::SmallVec;

use super::gateway::{self, Names};
use super::{
    ConvertError, MOST_PORTS, Refused, address, bounded, created, metadata, port_name, port_number, protocol,
    service_name,
};
use super::{peer, policy};
use crate::intern::Interner;
use crate::kube_types as kube;

/// `sessionAffinityConfig.clientIP.timeoutSeconds` when it is left out.
const DEFAULT_AFFINITY: u32 = 10_800;
/// What derived Services' names begin with, ours and others'.
const DERIVED: &str = "derived-";
/// Octets of an export's labels, and of its annotations: the API allows an object 256 KiB of annotations, and one that has
/// more could not be written in any cluster.
const MOST_METADATA: usize = 64 * 1024;
/// Clusters behind an import, and its addresses.
const MOST_CLUSTERS: usize = 10_000;

/// Translates a Service; `None` for one that was derived from a ServiceImport: exported again, it would be a loop.
pub fn service(
    service: &kube::Service<'_>,
    names: &Names,
    interner: &mut Interner,
    refused: &mut Refused,
) -> Result<Option<Object>, ConvertError> {
    let metadata = metadata(&service.metadata)?;
    let name = service_name(metadata, interner)?;
    let imported = metadata.labels.as_ref().is_some_and(|labels| labels.imported_service.is_some());
    if imported && name.name().starts_with(DERIVED) {
        return Ok(None);
    }
    let empty = kube::ServiceSpec::default();
    let from = service.spec.as_ref().unwrap_or(&empty);
    let ips = from.cluster_ips.as_deref().filter(|ips| !ips.is_empty());
    let ips = ips.or(from.cluster_ip.as_ref().map(std::slice::from_ref)).unwrap_or_default();
    let headless = ips.iter().any(|ip| &**ip == "None");
    let kind = match from.kind.as_deref().unwrap_or_default() {
        "ExternalName" => ServiceKind::ExternalName,
        "ClusterIP" | "NodePort" | "LoadBalancer" | "" if headless => ServiceKind::Headless,
        "ClusterIP" | "NodePort" | "LoadBalancer" | "" => ServiceKind::ClusterIp,
        other => {
            let allowed = &["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
            return Err(ConvertError::unknown("spec.type", other, allowed));
        }
    };
    let addresses = ips.iter().filter(|ip| !ip.is_empty() && &***ip != "None");
    let addresses: SmallVec<[_; 2]> = addresses
        .enumerate()
        .map(|(i, ip)| address(|| format!("spec.clusterIPs[{i}]"), ip))
        .collect::<Result<_, _>>()?;
    let gateway = gateway::of_service(service, names, refused)?;
    let spec = spec(from, &addresses, interner)?;
    Ok(Some(Object::Service(Service { name, kind, spec, gateway })))
}

/// Translates a ServiceImport.
pub fn import(import: &kube::ServiceImport<'_>, interner: &mut Interner) -> Result<Object, ConvertError> {
    let metadata = metadata(&import.metadata)?;
    let empty = kube::ServiceSpec::default();
    let from = import.spec.as_ref().unwrap_or(&empty);
    let headless = match from.kind.as_deref().unwrap_or_default() {
        "Headless" => true,
        "ClusterSetIP" | "" => false,
        other => return Err(ConvertError::unknown("spec.type", other, &["ClusterSetIP", "Headless"])),
    };
    let ips = from.ips.as_deref().unwrap_or_default().iter().enumerate();
    let ips: Arc<[_]> =
        ips.map(|(i, ip)| address(|| format!("spec.ips[{i}]"), ip)).collect::<Result<_, _>>()?;
    Ok(Object::Import(Import {
        name: service_name(metadata, interner)?,
        created: created(metadata)?,
        headless,
        spec: spec(from, &ips, interner)?,
        ips,
        clusters: clusters(import)?,
        policy: metadata.annotations.as_ref().and_then(|a| policy::told(a.policy.as_deref()?)).map(Arc::new),
    }))
}

/// `status.clusters`: who exports it.
fn clusters(import: &kube::ServiceImport<'_>) -> Result<Arc<[ClusterId]>, ConvertError> {
    let listed = import.status.as_ref().and_then(|status| status.clusters.as_deref()).unwrap_or_default();
    let mut clusters = Vec::with_capacity(listed.len().min(MOST_CLUSTERS));
    for (i, cluster) in bounded("status.clusters", listed, MOST_CLUSTERS)?.iter().enumerate() {
        let field = || format!("status.clusters[{i}].cluster");
        let id = cluster.cluster.as_deref().ok_or_else(|| ConvertError::Missing { field: field() })?;
        clusters.push(ClusterId::new(id).map_err(|error| ConvertError::name(&field(), error))?);
    }
    clusters.sort();
    clusters.dedup();
    Ok(clusters.into())
}

/// Translates a ServiceExport.
pub fn export(
    export: &kube::ServiceExport<'_>,
    names: &Names,
    interner: &mut Interner,
    refused: &mut Refused,
) -> Result<Object, ConvertError> {
    let metadata = metadata(&export.metadata)?;
    let spec = export.spec.as_ref();
    let name = service_name(metadata, interner)?;
    let (labels, annotations) =
        spec.map_or((None, None), |spec| (spec.exported_labels.as_ref(), spec.exported_annotations.as_ref()));
    let exported = Exported {
        labels: pairs("spec.exportedLabels", labels, interner, refused),
        annotations: pairs("spec.exportedAnnotations", annotations, interner, refused),
    };
    let exported = (exported != Exported::default()).then(|| Arc::new(exported));
    let gateway = gateway::of_export(export, names, refused)?;
    let state = peer::state(metadata.annotations.as_ref()).unwrap_or_else(|error| {
        refused.push(error);
        None
    });
    Ok(Object::Export(Export { name, created: created(metadata)?, exported, gateway, state }))
}

/// The first of them by key, as many as fit.
pub(super) fn pairs(
    field: &str,
    from: Option<&BTreeMap<kube::Text<'_>, kube::Text<'_>>>,
    interner: &mut Interner,
    refused: &mut Refused,
) -> Box<[(Arc<str>, Arc<str>)]> {
    let (mut pairs, mut octets) = (Vec::new(), 0);
    for (key, value) in from.into_iter().flatten() {
        octets += key.len() + value.len();
        if octets > MOST_METADATA {
            let (field, key) = (field.to_owned(), key.chars().take(63).collect());
            refused.push(ConvertError::TooLarge { field, key, most: MOST_METADATA });
            break;
        }
        pairs.push((interner.text(key), interner.text(value)));
    }
    pairs.into()
}

/// The properties that Services and ServiceImports share; families left out are those of the addresses, else IPv4.
fn spec(
    from: &kube::ServiceSpec<'_>,
    addresses: &[std::net::IpAddr],
    interner: &mut Interner,
) -> Result<Arc<ServiceSpec>, ConvertError> {
    let mut ip_families = SmallVec::<[IpFamily; 2]>::new();
    for (i, family) in from.ip_families.as_deref().unwrap_or_default().iter().enumerate() {
        let family = match &**family {
            "IPv4" => IpFamily::V4,
            "IPv6" => IpFamily::V6,
            other => {
                return Err(ConvertError::unknown(format!("spec.ipFamilies[{i}]"), other, &["IPv4", "IPv6"]));
            }
        };
        push_once(&mut ip_families, family);
    }
    if ip_families.is_empty() {
        addresses.iter().for_each(|ip| push_once(&mut ip_families, (*ip).into()));
    }
    if ip_families.is_empty() {
        ip_families.push(IpFamily::V4);
    }
    let internal_traffic_local = match from.internal_traffic_policy.as_deref().unwrap_or_default() {
        "Local" => true,
        "Cluster" | "" => false,
        other => {
            return Err(ConvertError::unknown("spec.internalTrafficPolicy", other, &["Cluster", "Local"]));
        }
    };
    let distribution = from.traffic_distribution.as_deref().filter(|text| !text.is_empty());
    let spec = ServiceSpec {
        ports: ports(from.ports.as_deref().unwrap_or_default(), interner)?,
        ip_families,
        session_affinity: session_affinity(from)?,
        internal_traffic_local,
        traffic_distribution: distribution.map(|text| interner.text(text)),
    };
    Ok(interner.spec(&spec))
}

fn push_once(families: &mut SmallVec<[IpFamily; 2]>, family: IpFamily) {
    if !families.contains(&family) {
        families.push(family);
    }
}

fn ports(from: &[kube::Port<'_>], interner: &mut Interner) -> Result<Arc<[Port]>, ConvertError> {
    let from = bounded("spec.ports", from, MOST_PORTS)?;
    let mut ports = Vec::with_capacity(from.len());
    for (i, port) in from.iter().enumerate() {
        let field = |name: &str| format!("spec.ports[{i}].{name}");
        let number = port.port.ok_or_else(|| ConvertError::Missing { field: field("port") })?;
        let app_protocol = port.app_protocol.as_deref().filter(|text| !text.is_empty());
        ports.push(Port {
            name: port_name(|| field("name"), port.name.as_deref(), interner)?,
            protocol: protocol(|| field("protocol"), port.protocol.as_deref())?,
            number: port_number(|| field("port"), number)?,
            app_protocol: app_protocol.map(|text| interner.text(text)),
        });
    }
    Ok(interner.ports(&ports))
}

fn session_affinity(from: &kube::ServiceSpec<'_>) -> Result<SessionAffinity, ConvertError> {
    match from.session_affinity.as_deref().unwrap_or_default() {
        "None" | "" => return Ok(SessionAffinity::None),
        "ClientIP" => {}
        other => return Err(ConvertError::unknown("spec.sessionAffinity", other, &["None", "ClientIP"])),
    }
    let client_ip = from.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let Some(value) = client_ip.and_then(|client_ip| client_ip.timeout_seconds) else {
        return Ok(SessionAffinity::ClientIp { timeout: DEFAULT_AFFINITY });
    };
    // Kubernetes' own bounds: more than none, at most a day.
    match u32::try_from(value) {
        Ok(timeout @ 1..=86_400) => Ok(SessionAffinity::ClientIp { timeout }),
        _ => {
            let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds".to_owned();
            Err(ConvertError::Seconds { field, value })
        }
    }
}
