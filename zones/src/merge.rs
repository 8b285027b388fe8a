//! The merge: exports of one service in many clusters become one service, by KEP-1645's conflict rules.
//!
//! The oldest export wins (`creationTimestamp`, ties by cluster id); ports are united; every difference is
//! recorded as a conflict. Pure: the same words in any order give the same service.

use std::sync::Arc;

use crate::clusters::Clusters;
use crate::name::ClusterId;
use crate::object::{
    Export, Exported, Gateway, GatewayAt, Import, Port, ServiceKind, ServiceSpec, SessionAffinity, Slice,
};
use crate::service::{Conflict, ConflictReason, Member, Reach};

/// Everything that one cluster says about one service.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Word {
    pub(crate) cluster: ClusterId,
    pub(crate) export: Option<Export>,
    pub(crate) service: Option<crate::object::Service>,
    pub(crate) import: Option<Arc<Import>>,
    /// Sorted by name, so that the order of arrival leaves no trace.
    pub(crate) slices: Vec<Arc<Slice>>,
}

/// The ServiceExport condition `Valid: False` (MCS API v1beta1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidExport {
    /// There is no Service of the export's name.
    NoService,
    /// The Service is of type ExternalName.
    InvalidServiceType,
}

impl InvalidExport {
    /// As the API spells the reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoService => "NoService",
            Self::InvalidServiceType => "InvalidServiceType",
        }
    }
}

/// What the exports agree on; the service's addresses are not decided here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Merged {
    pub(crate) headless: bool,
    pub(crate) spec: Arc<ServiceSpec>,
    pub(crate) held: bool,
    pub(crate) exported: Option<Arc<Exported>>,
    pub(crate) members: Box<[Member]>,
    pub(crate) conflicts: Box<[Conflict]>,
}

/// A valid export with its Service.
struct Voice<'w> {
    cluster: &'w ClusterId,
    export: &'w Export,
    headless: bool,
    spec: &'w Arc<ServiceSpec>,
    gateway: Option<&'w Arc<Gateway>>,
    slices: &'w [Arc<Slice>],
}

impl Word {
    /// Whether it is this cluster's, or the home cluster's about it: an import, or what a controller mirrored.
    pub(crate) fn is_about(&self, cluster: &ClusterId) -> bool {
        self.cluster == *cluster
            || self.import.as_ref().is_some_and(|import| import.clusters.contains(cluster))
            || self.slices.iter().any(|slice| slice.source.as_ref() == Some(cluster))
    }

    pub(crate) fn new(cluster: ClusterId) -> Self {
        Self { cluster, export: None, service: None, import: None, slices: Vec::new() }
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.export.is_none() && self.service.is_none() && self.import.is_none() && self.slices.is_empty()
    }

    /// Why this cluster's export doesn't count, if there is one that doesn't.
    pub(crate) fn invalid(&self) -> Option<InvalidExport> {
        self.export.as_ref()?;
        match self.service.as_ref().map(|service| service.kind) {
            None => Some(InvalidExport::NoService),
            Some(ServiceKind::ExternalName) => Some(InvalidExport::InvalidServiceType),
            Some(ServiceKind::ClusterIp | ServiceKind::Headless) => None,
        }
    }

    /// Whether clients of another network come in by node ports.
    pub(crate) fn is_behind_nodes(&self) -> bool {
        let by_nodes = |gateway: &Arc<Gateway>| gateway.at == GatewayAt::Nodes;
        self.service.as_ref().and_then(|service| service.gateway.as_ref()).is_some_and(by_nodes)
    }

    fn voice(&self) -> Option<Voice<'_>> {
        let (export, service) = (self.export.as_ref()?, self.service.as_ref()?);
        self.invalid().is_none().then(|| Voice {
            cluster: &self.cluster,
            export,
            headless: service.kind == ServiceKind::Headless,
            spec: &service.spec,
            gateway: export.gateway.as_ref().or(service.gateway.as_ref()),
            slices: &self.slices,
        })
    }
}

/// Merges what all clusters say; `None` when nobody offers the service.
///
/// The home cluster's import stands in for clusters that are not heard directly: their mirrored slices count, and
/// since only the import knows their exports, its spec holds then. Of clusters that are heard it tells nothing new.
pub(crate) fn merge(words: &[Word], clusters: &Clusters) -> Option<Merged> {
    let mut voices: Vec<Voice<'_>> = words.iter().filter_map(Word::voice).collect();
    voices.sort_by_key(|voice| (voice.export.created, voice.cluster));
    let home = clusters.home.as_ref().and_then(|home| words.iter().find(|word| word.cluster == *home));
    let import = home.and_then(|word| Some((word.import.as_deref()?, word)));

    let unheard = import.map_or_else(Vec::new, |(import, word)| unheard(import, word, &voices, clusters));
    let (headless, spec, held) = match (voices.first(), import) {
        (Some(oldest), _) if unheard.is_empty() => (oldest.headless, united(oldest, &voices), false),
        (None, Some((import, _))) if unheard.is_empty() && !import.clusters.is_empty() => return None,
        (_, Some((import, _))) => (import.headless, import.spec.clone(), true),
        (_, None) => return None,
    };
    let mut members: Vec<Member> = voices.iter().map(|voice| member(voice, clusters)).collect();
    members.extend(unheard);
    members.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    Some(Merged {
        headless,
        exported: voices.first().and_then(|voice| voice.export.exported.clone()),
        members: members.into(),
        conflicts: conflicts(&voices),
        spec,
        held,
    })
}

fn member(voice: &Voice<'_>, clusters: &Clusters) -> Member {
    let own = voice.slices.iter().filter(|slice| slice.source.is_none());
    let reach = clusters.reach(voice.cluster, voice.gateway);
    Member { cluster: voice.cluster.clone(), slices: own.cloned().collect(), reach }
}

/// Clusters that only the home cluster's import and mirrored slices tell of. The copies that a controller made of its own
/// slices are what is exported; only until there are any, while the import names it, its own slices stand for them.
fn unheard(import: &Import, home: &Word, voices: &[Voice<'_>], clusters: &Clusters) -> Vec<Member> {
    let mirrored = home.slices.iter().filter_map(|slice| slice.source.as_ref());
    let mut ids: Vec<&ClusterId> = mirrored.chain(&*import.clusters).collect();
    ids.sort();
    ids.dedup();
    ids.retain(|id| !clusters.hearing.hears(id) && voices.iter().all(|voice| *voice.cluster != **id));
    let slices_of = |source: Option<&ClusterId>| -> Box<[Arc<Slice>]> {
        home.slices.iter().filter(|slice| slice.source.as_ref() == source).cloned().collect()
    };
    let member = |id: &ClusterId| {
        let copies = slices_of(Some(id));
        let slices = if copies.is_empty() && *id == home.cluster { slices_of(None) } else { copies };
        Member { cluster: id.clone(), slices, reach: Reach::Flat }
    };
    ids.into_iter().map(member).collect()
}

/// The oldest export's spec with the union of all ports.
fn united(oldest: &Voice<'_>, voices: &[Voice<'_>]) -> Arc<ServiceSpec> {
    if voices.iter().all(|voice| voice.spec.ports == oldest.spec.ports) {
        return oldest.spec.clone();
    }
    Arc::new(ServiceSpec { ports: union(voices).into(), ..(**oldest.spec).clone() })
}

/// Ports by name first, then by (protocol, number): whoever is older keeps both.
fn union(voices: &[Voice<'_>]) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for port in voices.iter().flat_map(|voice| &*voice.spec.ports) {
        let clash = |p: &Port| p.name == port.name || (p.protocol, p.number) == (port.protocol, port.number);
        if !ports.iter().any(clash) {
            ports.push(port.clone());
        }
    }
    ports
}

/// All differences, in the order of their reasons.
fn conflicts(voices: &[Voice<'_>]) -> Box<[Conflict]> {
    let Some((oldest, younger)) = voices.split_first() else {
        return Box::default();
    };
    if younger.is_empty() {
        return Box::default();
    }
    let mut found = Vec::new();
    port_conflict(voices, &mut found);
    let mut differ = |reason, what, of: &dyn Fn(&Voice<'_>) -> String| {
        let held = of(oldest);
        for voice in younger {
            let said = of(voice);
            if said != held {
                found.push(Conflict { reason, message: differs(what, oldest, &held, voice, &said) });
            }
        }
    };
    use ConflictReason as R;
    differ(R::Type, "type", &|v| if v.headless { "Headless" } else { "ClusterSetIP" }.to_owned());
    differ(R::SessionAffinity, "sessionAffinity", &|v| affinity(v).0.to_owned());
    differ(R::Labels, "exportedLabels", &|v| pairs(v, |exported| &exported.labels));
    differ(R::Annotations, "exportedAnnotations", &|v| pairs(v, |exported| &exported.annotations));
    differ(R::InternalTrafficPolicy, "internalTrafficPolicy", &|v| {
        if v.spec.internal_traffic_local { "Local" } else { "Cluster" }.to_owned()
    });
    differ(R::TrafficDistribution, "trafficDistribution", &|v| {
        v.spec.traffic_distribution.as_deref().unwrap_or("none").to_owned()
    });
    differ(R::IpFamily, "ipFamilies", &|v| families(v));
    affinity_config_conflict(oldest, younger, &mut found);
    found.sort_by(|a, b| (a.reason, &a.message).cmp(&(b.reason, &b.message)));
    found.into()
}

fn differs(what: &str, oldest: &Voice<'_>, held: &str, voice: &Voice<'_>, said: &str) -> String {
    let (older, younger) = (oldest.cluster, voice.cluster);
    format!(
        "{what}: cluster {younger} says {said}, which is ignored: the oldest export, of cluster {older}, says {held}"
    )
}

/// Keys and values.
type Pairs = [(Arc<str>, Arc<str>)];

fn pairs(voice: &Voice<'_>, of: fn(&Exported) -> &Pairs) -> String {
    let pairs = voice.export.exported.as_deref().map_or(&[][..], of);
    let list: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{{{}}}", list.join(", "))
}

/// Order is a preference, no conflict.
fn families(voice: &Voice<'_>) -> String {
    let mut families = voice.spec.ip_families.to_vec();
    families.sort();
    let list: Vec<_> =
        families.iter().map(|family| format!("IP{}", &format!("{family:?}").to_lowercase())).collect();
    list.join(", ")
}

fn affinity(voice: &Voice<'_>) -> (&'static str, Option<u32>) {
    match voice.spec.session_affinity {
        SessionAffinity::None => ("None", None),
        SessionAffinity::ClientIp { timeout } => ("ClientIP", Some(timeout)),
    }
}

/// Timeouts only differ where both sides have one.
fn affinity_config_conflict(oldest: &Voice<'_>, younger: &[Voice<'_>], found: &mut Vec<Conflict>) {
    let Some(held) = affinity(oldest).1 else { return };
    for voice in younger {
        if let Some(said) = affinity(voice).1.filter(|said| *said != held) {
            let message =
                differs("sessionAffinityConfig", oldest, &format!("{held} s"), voice, &format!("{said} s"));
            found.push(Conflict { reason: ConflictReason::SessionAffinityConfig, message });
        }
    }
}

/// Any cluster whose ports are not all ports is in conflict (MCS conformance: union and Conflict on both exports).
fn port_conflict(voices: &[Voice<'_>], found: &mut Vec<Conflict>) {
    let mut union = union(voices);
    union.sort_by(port_order);
    for voice in voices {
        let mut own = voice.spec.ports.to_vec();
        own.sort_by(port_order);
        if own != union {
            let list = |ports: &[Port]| ports.iter().map(port_text).collect::<Vec<_>>().join(", ");
            let message = format!(
                "ports: cluster {} has {}; the service has {}",
                voice.cluster,
                list(&own),
                list(&union)
            );
            found.push(Conflict { reason: ConflictReason::Port, message });
        }
    }
}

fn port_order(a: &Port, b: &Port) -> std::cmp::Ordering {
    let key = |p: &Port| (p.protocol, p.number);
    key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
}

fn port_text(port: &Port) -> String {
    let app = port.app_protocol.as_ref().map(|app| format!(" ({app})")).unwrap_or_default();
    format!("{} {:?}/{}{app}", port.name.as_deref().unwrap_or("unnamed"), port.protocol, port.number)
}
