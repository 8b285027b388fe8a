//! The merge: exports of one service in many clusters become one service, by KEP-1645's conflict rules.
//!
//! The oldest export wins (`creationTimestamp`, ties by cluster id); ports are united; every difference is
//! recorded as a conflict. Pure: the same words in any order give the same service.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::clusters::{Clusters, Hearing};
use crate::compact::Few;
use crate::conflicts::conflicts;
use crate::name::{ClusterId, ServiceName};
use crate::object::{Export, Exported, Gateway, GatewayAt, Import, ServiceKind, ServiceSpec, Slice};
use crate::policy::{Attached, Form, Policies, Rules, Source};
use crate::ports;
use crate::service::{Conflict, Member, Reach};

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
    pub(crate) awaited: bool,
    pub(crate) exported: Option<Arc<Exported>>,
    pub(crate) members: Box<[Member]>,
    pub(crate) conflicts: Few<Conflict>,
    pub(crate) policy: Option<Arc<Attached>>,
    /// What the zones that have policies of their own say, in their order.
    pub(crate) by_zone: Vec<Option<Arc<Attached>>>,
}

/// A valid export with its Service.
pub(crate) struct Voice<'w> {
    pub(crate) cluster: &'w ClusterId,
    pub(crate) export: &'w Export,
    pub(crate) headless: bool,
    pub(crate) spec: &'w Arc<ServiceSpec>,
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
        let by_nodes = |gateway: &Arc<Gateway>| matches!(gateway.at, GatewayAt::Nodes(_));
        self.service.as_ref().and_then(|service| service.gateway.as_ref()).is_some_and(by_nodes)
    }

    fn voice(&self) -> Option<Voice<'_>> {
        let (export, service) = (self.export.as_ref()?, self.service.as_ref()?);
        self.invalid().is_none().then(|| Voice {
            cluster: &self.cluster,
            export,
            headless: service.kind == ServiceKind::Headless,
            spec: &service.spec,
            gateway: export.gateway(service),
            slices: &self.slices,
        })
    }
}

/// Merges what all clusters say; `None` when nobody offers the service.
///
/// A cluster's own word replaces what the home cluster tells of it (by its import, and by slices that a controller mirrored)
/// only when that cluster is heard: before that its word may be half a word. While somebody behind the import is not
/// heard, its spec holds, for only it knows all exports. Whoever may not speak for the namespace has no word in it, and
/// nobody has one for it.
pub(crate) fn merge(
    name: &ServiceName,
    words: &[Word],
    clusters: &Clusters,
    policies: &Policies,
) -> Option<Merged> {
    let home = clusters.home.as_ref().and_then(|home| words.iter().find(|word| word.cluster == *home));
    let accepts = |cluster: &ClusterId| clusters.accepts(cluster, name.namespace());
    let tales = home.and_then(|home| Tales::of(home, accepts));
    let told = |cluster: &ClusterId| tales.as_ref().filter(|tales| tales.clusters.contains(cluster));
    let counts = |voice: &Voice<'_>| {
        accepts(voice.cluster) && (clusters.hearing.hears(voice.cluster) || told(voice.cluster).is_none())
    };
    let mut voices: Vec<Voice<'_>> = words.iter().filter_map(Word::voice).filter(counts).collect();
    voices.sort_by_key(|voice| (voice.export.created, voice.cluster));

    let unheard: Vec<Member> = tales.iter().flat_map(|tales| tales.unheard(&clusters.hearing)).collect();
    let awaited = words.iter().any(|word| word.invalid() == Some(InvalidExport::NoService));
    let (headless, spec, held) = match (voices.first(), &tales) {
        (Some(oldest), _) if unheard.is_empty() => (oldest.headless, united(oldest, &voices), false),
        (None, Some(tales)) if unheard.is_empty() && !tales.import.clusters.is_empty() && !awaited => {
            return None;
        }
        (_, Some(tales)) => {
            // It says nobody who exports it: whoever does may not be heard.
            let held = !unheard.is_empty() || tales.import.clusters.is_empty();
            (tales.import.headless, tales.import.spec.clone(), held)
        }
        (_, None) => return None,
    };
    let mut members: Vec<Member> = voices
        .iter()
        .map(|voice| match (clusters.reach(voice.cluster, voice.gateway), told(voice.cluster)) {
            // Where its gateway was is better than nothing.
            (Reach::Unresolved, Some(tales)) => tales.member(voice.cluster),
            (reach, told) => voice.member(reach, clusters, told),
        })
        .collect();
    for member in &mut members {
        member.health_check = policies.health_check_of(&member.cluster, name);
    }
    members.extend(unheard);
    let exporters = voices.iter().map(|voice| voice.cluster);
    // Only of an exporter who can't be asked itself; the import's writer knew which export is the oldest.
    let is_told = |policy: &&Arc<Attached>| match &policy.source {
        Source::Export(cluster, _) => accepts(cluster) && !clusters.hearing.hears(cluster),
        Source::Configuration { .. } | Source::Import(_) | Source::Namespace(_) | Source::ClusterSet(_) => {
            false
        }
    };
    let told = tales.as_ref().filter(|_| held).and_then(|tales| tales.import.policy.as_ref()).filter(is_told);
    let policy = policies.holds(name, clusters.home.as_ref(), exporters, told);
    let by_zone = policies.hold_in_zones(name);
    let any =
        |such: fn(&Rules) -> bool| policy.iter().chain(by_zone.iter().flatten()).any(|p| such(&p.rules));
    let (by_label, outside) = (any(|r| !r.label_weights.is_empty()), any(|r| r.answer == Form::Gateways));
    for member in &mut members {
        let voice = voices.iter().find(|voice| *voice.cluster == member.cluster);
        let copied = || member.slices.iter().find_map(|slice| slice.state);
        member.exported_state = voice.and_then(|voice| voice.export.state).or_else(copied);
        member.state = clusters.standings.state(&member.cluster, name, member.exported_state);
        if let Some(standing) = clusters.standings.of(&member.cluster).filter(|_| by_label) {
            member.labels = standing.labels.clone();
        }
        if !outside {
            member.gateway = None;
        }
    }
    members.sort_by(|a, b| a.cluster.cmp(&b.cluster));
    Some(Merged {
        headless,
        exported: voices.first().and_then(|voice| voice.export.exported.clone()),
        members: members.into(),
        conflicts: conflicts(&voices),
        spec,
        held,
        awaited,
        policy,
        by_zone,
    })
}

impl Voice<'_> {
    fn member(&self, reach: Reach, clusters: &Clusters, told: Option<&Tales<'_>>) -> Member {
        let outside = match &reach {
            Reach::Flat => &clusters.reach_from_outside(self.cluster, self.gateway),
            other => other,
        };
        let gateway = match outside {
            Reach::Gateway(gateway) => Some(gateway.clone()),
            Reach::Unresolved => told.and_then(|tales| tales.member(self.cluster).gateway),
            Reach::Flat | Reach::Nowhere => None,
        };
        let own = self.slices.iter().filter(|slice| slice.source.is_none());
        Member {
            slices: own.cloned().collect(),
            ports: Some(self.spec.ports.clone()),
            region: clusters.region(self.cluster),
            gateway,
            ..Member::of(self.cluster.clone(), reach)
        }
    }
}

/// What the home cluster tells of others.
struct Tales<'w> {
    import: &'w Import,
    home: &'w Word,
    /// Whom it tells of. Where the import says who exports it, nobody else is added by a label on a slice; but our own
    /// controller writes slices before it says so.
    clusters: BTreeSet<&'w ClusterId>,
}

impl<'w> Tales<'w> {
    fn of(home: &'w Word, accepts: impl Fn(&ClusterId) -> bool) -> Option<Self> {
        let import = home.import.as_deref()?;
        let mut clusters: BTreeSet<&ClusterId> = import.clusters.iter().collect();
        let is_told = |slice: &&Arc<Slice>| import.clusters.is_empty() || slice.ours;
        clusters.extend(home.slices.iter().filter(is_told).filter_map(|slice| slice.source.as_ref()));
        clusters.retain(|cluster| accepts(cluster));
        Some(Self { import, home, clusters })
    }

    /// Those that don't speak for themselves.
    fn unheard(&self, hearing: &Hearing) -> impl Iterator<Item = Member> {
        self.clusters.iter().filter(|id| !hearing.hears(id)).map(|id| self.member(id))
    }

    /// What is told of a cluster. The copies that a controller made of the home cluster's own slices are what is exported;
    /// only until there are any, its own slices stand for them.
    fn member(&self, id: &ClusterId) -> Member {
        let slices_of = |source: Option<&ClusterId>| -> Box<[Arc<Slice>]> {
            self.home.slices.iter().filter(|slice| slice.source.as_ref() == source).cloned().collect()
        };
        let copies = slices_of(Some(id));
        let slices = if copies.is_empty() && *id == self.home.cluster { slices_of(None) } else { copies };
        let region = slices.iter().find_map(|slice| slice.region.clone());
        let gateway = slices.iter().find_map(|slice| slice.outside.clone());
        Member { slices, region, gateway, ..Member::of(id.clone(), Reach::Flat) }
    }
}

/// The oldest export's spec with the union of all ports.
fn united(oldest: &Voice<'_>, voices: &[Voice<'_>]) -> Arc<ServiceSpec> {
    if voices.iter().all(|voice| voice.spec.ports == oldest.spec.ports) {
        return oldest.spec.clone();
    }
    Arc::new(ServiceSpec {
        ports: ports::union(voices.iter().map(|voice| &*voice.spec.ports)).into(),
        ..(**oldest.spec).clone()
    })
}
