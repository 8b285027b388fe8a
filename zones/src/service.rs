//! A merged service: what all clusters together say about one name, and the answers that follow from it.

use std::mem::offset_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::choices::Choices;
use crate::compact::Few;
use crate::name::{ClusterId, ServiceName};
use crate::object::{Exported, Gateway, Port, ServiceSpec, Slice};
use crate::peers::{Decider, Labels, State};
use crate::policy::health::{Checked, HealthCheck};
use crate::policy::history::Remembered;
use crate::policy::{Attached, Rules};

/// A service of the clusterset, as ServiceImport has it, with the clusters behind it.
///
/// What most queries read comes first, behind what an `Arc` counts: one line of the cache, where the block begins with one. Among many
/// services it is the lines that a query waits for.
#[derive(Debug, Clone, PartialEq)]
#[repr(C)]
pub struct Service {
    /// Namespace and name, the same in all clusters (namespace sameness).
    pub name: ServiceName,
    /// What DNS says of it.
    pub answers: Answers,
    /// Whether what is known of a cluster behind it may be out of date: answered all the same, and said so (RFC 8914 §4.4).
    pub stale: bool,
    /// ServiceImport type `Headless`; otherwise `ClusterSetIP`.
    pub headless: bool,
    /// Whether type and properties are those of the home cluster's import, because not all clusters behind it are heard, or
    /// it does not say which these are.
    pub held: bool,
    /// Whether some cluster exports it and has no Service of its name. An import that nobody else stands behind is for the
    /// controller to keep or to let go: the Service may be about to be made anew.
    pub awaited: bool,
    /// The merged properties.
    pub spec: Arc<ServiceSpec>,
    /// Labels and annotations of the import: the oldest export's.
    pub exported: Option<Arc<Exported>>,
    /// Virtual IPs, at most one per family, in the order of the IP families.
    pub ips: Box<[IpAddr]>,
    /// The clusters behind it, by id.
    pub members: Box<[Member]>,
    /// What the exports disagree on: every export's `Conflict` condition.
    pub conflicts: Few<Conflict>,
    /// What is wrong with it besides, for people.
    pub warnings: Few<Warning>,
    /// The TrafficPolicy that holds, if any.
    pub policy: Option<Arc<Attached>>,
    /// How it is, and was, where somebody asks.
    pub(crate) watched: Option<Box<Watched>>,
    /// What DNS says of it in zones that have policies of their own, by [`Zones`](crate::zone::Zones)' order of these; `None`: the
    /// same.
    pub by_zone: Few<Option<Box<ZoneAnswers>>>,
}

// The line of an `Arc<Service>`: two counters, the name, what is special, IPv4 addresses.
const _: () = assert!(2 * size_of::<usize>() + offset_of!(Service, answers.own.v6) <= 64);

/// What most services lack: nobody asks how they are, and people leave none of their endpoints out.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Watched {
    pub(crate) checked: Option<Box<Checked>>,
    pub(crate) out: Few<(ClusterId, IpAddr)>,
    pub(crate) remembered: Option<Box<Remembered>>,
}

/// What DNS says of a service in a zone, and by which rules.
#[derive(Debug, Clone, PartialEq)]
pub struct ZoneAnswers {
    /// The rules.
    pub policy: Arc<Attached>,
    /// What it says.
    pub answers: Answers,
}

impl Service {
    /// A service of which nothing is known yet.
    pub fn named(name: ServiceName) -> Self {
        Self {
            name,
            answers: Answers::default(),
            stale: false,
            headless: false,
            spec: Arc::default(),
            held: false,
            awaited: false,
            exported: None,
            ips: Box::default(),
            members: Box::default(),
            conflicts: Few::default(),
            warnings: Few::default(),
            policy: None,
            watched: None,
            by_zone: Few::default(),
        }
    }

    /// What its policy's health check is about, and what came of it.
    pub fn checked(&self) -> Option<&Checked> {
        self.watched.as_ref()?.checked.as_deref()
    }

    /// Addresses of clusters that are left out wherever clients are, sorted: what is not healthy, unless so few are that health is
    /// ignored, and what people decided to leave out.
    pub fn out(&self) -> &[(ClusterId, IpAddr)] {
        self.watched.as_ref().map_or(&[], |watched| &watched.out)
    }

    /// What was, as far as its policy cares.
    pub fn remembered(&self) -> Option<&Remembered> {
        self.watched.as_ref()?.remembered.as_deref()
    }

    pub(crate) fn watched(&mut self) -> &mut Watched {
        self.watched.get_or_insert_default()
    }

    /// What it answers in a zone with this number among those that have policies of their own; `None`: in any other.
    pub fn answers_in(&self, zone: Option<u8>) -> &Answers {
        let own = zone.and_then(|zone| self.by_zone.get(usize::from(zone))?.as_ref());
        own.map_or(&self.answers, |own| &own.answers)
    }

    /// Reads what a lookup will read of it; the result says nothing.
    pub(crate) fn touch(&self) -> usize {
        let name = self.name.wire().first().copied();
        let choices = self.answers.choices().map_or(0, Choices::touch);
        self.answers.own.v4.len() ^ choices ^ usize::from(self.stale) ^ usize::from(name.unwrap_or(0))
    }

    /// What it answers in all zones.
    pub(crate) fn all_answers(&self) -> impl Iterator<Item = &Answers> {
        let own = self.by_zone.iter().flatten().map(|own| &own.answers);
        std::iter::once(&self.answers).chain(own)
    }

    /// Whether some zone's answers depend on who asks.
    pub(crate) fn is_steered(&self) -> bool {
        self.all_answers().any(|answers| answers.choices().is_some() || answers.direct().is_some())
    }

    /// Whether some zone answers virtual IPs to those alone who can connect to them.
    pub(crate) fn is_by_agent(&self) -> bool {
        self.all_answers().any(|answers| answers.direct().is_some())
    }

    /// The rules that hold in such a zone, with the service's own fields; `None`: there is nothing to choose by.
    pub fn rules_in(&self, zone: Option<u8>) -> Option<Rules> {
        self.rules(self.policy_in(zone).map(|policy| &*policy.rules))
    }

    /// The policy that holds in such a zone, if any.
    pub fn policy_in(&self, zone: Option<u8>) -> Option<&Arc<Attached>> {
        let own = zone.and_then(|zone| self.by_zone.get(usize::from(zone))?.as_ref());
        own.map(|own| &own.policy).or(self.policy.as_ref())
    }

    /// What rules, or people, make of it.
    pub(crate) fn rules(&self, rules: Option<&Rules>) -> Option<Rules> {
        let decided = self.members.iter().any(|member| member.state.is_some());
        let rules = rules.cloned().or_else(|| decided.then(Rules::default));
        rules.map(|rules| rules.for_service(self))
    }

    /// Whether clients of a cluster are expected: those of home, of the clusters behind it, and of no cluster. All others ask
    /// their own servers: for where these are no answers are compiled, as their Nodes are many.
    pub(crate) fn expects(&self, cluster: Option<&ClusterId>, home: Option<&ClusterId>) -> bool {
        let is_member = |id: &ClusterId| self.members.iter().any(|member| member.cluster == *id);
        cluster.is_none_or(|id| home == Some(id) || is_member(id))
    }

    /// Number of endpoint addresses in all clusters, ready or not.
    pub fn endpoints(&self) -> usize {
        self.members.iter().flat_map(|member| &*member.slices).map(|slice| slice.endpoints.len()).sum()
    }
}

/// One cluster behind a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Its endpoints, shared with the table.
    pub slices: Box<[Arc<Slice>]>,
    /// How clients of the home cluster get there.
    pub reach: Reach,
    /// The ports of its own Service, by which the ports in its slices are those of the merged one, see
    /// [`Exposed`](crate::ports::Exposed). `None` when the slices are the home cluster's copies, which say it themselves.
    pub ports: Option<Arc<[Port]>>,
    /// The region that the cluster is in, if it is in one.
    pub region: Option<Arc<str>>,
    /// How its own policy about its export has its endpoints asked whether they are well.
    pub health_check: Option<Arc<HealthCheck>>,
    /// The gateway to it for clients of other networks, whether those of the home cluster need it or not, where a policy of the
    /// service answers that.
    pub gateway: Option<Arc<Gateway>>,
    /// What people decide of its endpoints, and who did.
    pub state: Option<(State, Decider)>,
    /// What the author of its export decided.
    pub exported_state: Option<State>,
    /// Its labels, where the service's policies give weights by labels.
    pub labels: Labels,
}

impl Member {
    /// What people decided of its endpoints.
    pub(crate) fn state(&self) -> Option<State> {
        self.state.map(|(state, _)| state)
    }

    /// A cluster of which nothing else is known yet.
    pub fn of(cluster: ClusterId, reach: Reach) -> Self {
        Self {
            cluster,
            slices: Box::default(),
            reach,
            ports: None,
            region: None,
            health_check: None,
            gateway: None,
            state: None,
            exported_state: None,
            labels: Box::default(),
        }
    }
}

/// How clients of the home cluster get to what a cluster exports.
#[derive(Debug, Clone, PartialEq)]
pub enum Reach {
    /// To the addresses in its slices: one network, or a controller wrote there what can be reached.
    Flat,
    /// Through this gateway, whose addresses are known.
    Gateway(Arc<Gateway>),
    /// Another network, and a gateway of which no address is known.
    Unresolved,
    /// Another network, and no gateway.
    Nowhere,
}

/// Something that the exports of one service disagree on (KEP-1645, Constraints and Conflict Resolution).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Condition reason.
    pub reason: ConflictReason,
    /// Who says what, and what holds.
    pub message: String,
}

/// Reasons of the ServiceExport condition `Conflict` (MCS API v1beta1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the API's")]
pub enum ConflictReason {
    Port,
    Type,
    SessionAffinity,
    SessionAffinityConfig,
    Labels,
    Annotations,
    InternalTrafficPolicy,
    TrafficDistribution,
    IpFamily,
}

impl ConflictReason {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Port => "PortConflict",
            Self::Type => "TypeConflict",
            Self::SessionAffinity => "SessionAffinityConflict",
            Self::SessionAffinityConfig => "SessionAffinityConfigConflict",
            Self::Labels => "LabelsConflict",
            Self::Annotations => "AnnotationsConflict",
            Self::InternalTrafficPolicy => "InternalTrafficPolicyConflict",
            Self::TrafficDistribution => "TrafficDistributionConflict",
            Self::IpFamily => "IPFamilyConflict",
        }
    }
}

/// Why a service answers less than its objects seem to promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Two imports claim one address; the older one has it.
    #[error(
        "virtual IP {ip} belongs to {owner}, whose ServiceImport is older: give one of them another address"
    )]
    VipTaken {
        /// The address.
        ip: IpAddr,
        /// Who has it.
        owner: ServiceName,
    },
    /// ClusterSetIP without an address: no answer yet.
    #[error("no virtual IP: the home cluster's ServiceImport has none, and no pool gave one")]
    NoVip,
    /// Names that don't fit in 255 octets below the configured zones: the service's own, or its endpoints' or ports'.
    #[error(
        "{0} names are longer than a domain name can be and were left out: shorten the zone's origin, the cluster id, or the names of the service, its ports or endpoints"
    )]
    NamesTooLong(usize),
    /// A cluster behind the service can't be reached.
    #[error(
        "cluster {cluster} is on another network and its endpoints can't be reached: give the Service there a load balancer or node ports, or its ServiceExport the annotation portolan.dev/gateway (headless services need one network)"
    )]
    Unreachable {
        /// The cluster.
        cluster: ClusterId,
    },
    /// A cluster behind the service has a gateway, but nobody knows where.
    #[error(
        "cluster {cluster} is on another network and the addresses of its gateway are not known: its host name can't be resolved, or the cluster's Nodes can't be read"
    )]
    Unresolved {
        /// The cluster.
        cluster: ClusterId,
    },
    /// More endpoints than an answer may hold.
    #[error("answers hold {shown} of {ready} ready endpoints (max-endpoints, message size)")]
    Subset {
        /// How many are answered.
        shown: usize,
        /// How many are ready.
        ready: usize,
    },
}

/// The answers of one service, independent of the zone that it is asked in.
///
/// Addresses and labels only: the twelve octets in front of every address are the same for all records of
/// an answer, so writing them costs no more than copying them, and nothing is stored per zone.
#[derive(Debug, Clone, PartialEq, Default)]
#[repr(C)]
pub struct Answers {
    /// What makes it more than that all get all of `own`.
    pub(crate) special: Option<Box<Special>>,
    /// Of the service's name and its ports: all that there are, whoever asks.
    pub own: RecordSet,
    /// Names of endpoints, where the service's name answers endpoints; sorted by their labels.
    pub hosts: Few<Host>,
    /// The ids of the clusters that `hosts` end with, in wire form: empty non-terminals.
    pub clusters: Few<Box<[u8]>>,
}

/// What most services' answers lack: they are the same for all who ask.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Special {
    pub(crate) absent: Option<Absence>,
    pub(crate) choices: Option<Choices>,
    pub(crate) zonal: Option<Box<Zonal>>,
    pub(crate) direct: Option<Box<Answers>>,
}

impl Answers {
    /// Of a service whose name does not exist.
    pub(crate) fn absent(why: Absence) -> Self {
        let special = Special { absent: Some(why), ..Special::default() };
        Self { special: Some(Box::new(special)), ..Self::default() }
    }

    /// Why the name doesn't exist although the service does.
    pub fn absence(&self) -> Option<Absence> {
        self.special.as_ref()?.absent
    }

    /// Which of `own` a client gets, where a policy chooses; `None`: all of it.
    pub fn choices(&self) -> Option<&Choices> {
        self.special.as_ref()?.choices.as_ref()
    }

    /// Which of `own` are where, for clients who say where they are in the name; `None`: there are no such names.
    pub fn zonal(&self) -> Option<&Zonal> {
        self.special.as_ref()?.zonal.as_deref()
    }

    /// What those get who can't connect to virtual IPs, for no agent is ready on their node; `None`: the same.
    pub fn direct(&self) -> Option<&Answers> {
        self.special.as_ref()?.direct.as_deref()
    }

    pub(crate) fn special(&mut self) -> &mut Special {
        self.special.get_or_insert_default()
    }
}

/// Records of endpoints by where they are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Zonal {
    /// Positions in `sets` by availability zone, in lower case and sorted.
    pub(crate) zones: Box<[(Box<[u8]>, u16)]>,
    /// The same by region.
    pub(crate) regions: Box<[(Box<[u8]>, u16)]>,
    pub(crate) sets: Box<[RecordSet]>,
}

/// Records of a service's name and of its ports.
#[derive(Debug, Clone, PartialEq, Default)]
#[repr(C)]
pub struct RecordSet {
    /// A records of the service's name.
    pub v4: SmallVec<[Ipv4Addr; 2]>,
    /// AAAA records of the service's name.
    pub v6: Box<[Ipv6Addr]>,
    /// SRV records of the bare name: all ports, no duplicate (port, target).
    pub srv: SrvSet,
    /// SRV records by port, sorted by key.
    pub ports: Box<[PortRecords]>,
}

/// Why a service that exists has no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// Headless, and no endpoint is ready: NXDOMAIN (KEP-1645 DNS §2.4.1).
    NoReadyEndpoints,
    /// ClusterSetIP without a virtual IP.
    NoVip,
    /// Its name would be longer than 255 octets.
    NameTooLong,
}

/// SRV records of one owner; all have priority 0 and one weight (as CoreDNS has them).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SrvSet {
    /// 100 divided by the addresses and ports behind, at least 1.
    pub weight: u16,
    /// Port and target of each record.
    pub targets: Box<[SrvTarget]>,
}

/// One SRV record's port and target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SrvTarget {
    /// Position in [`Answers::hosts`]; `None` is the service's own name.
    pub host: Option<u32>,
    /// Port number.
    pub port: u16,
}

/// `_<port>._<proto>` below a service.
#[derive(Debug, Clone, PartialEq)]
pub struct PortRecords {
    /// Both labels in wire form.
    pub labels: Box<[u8]>,
    /// Its records.
    pub srv: SrvSet,
}

/// `<hostname>.<clusterid>` below a headless service.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Hostname and cluster id in wire form.
    pub labels: Box<[u8]>,
    /// A records.
    pub v4: SmallVec<[Ipv4Addr; 2]>,
    /// AAAA records.
    pub v6: Box<[Ipv6Addr]>,
}
