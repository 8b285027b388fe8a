//! Clusters behind API servers: the one that this process runs for, those that it follows, and the controller.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use portolan_sync::ClusterSource;
use portolan_sync::controller::{GatewayConfig, LeaseTimes};
use portolan_sync::gateway::PortRange;
use portolan_sync::kubernetes::resources::{DEFAULT_STALE_AFTER, DEFAULT_WITHDRAW_AFTER};
use portolan_sync::kubernetes::{Access, Origin, OwnConfig, PeerConfig, Pinned};
use portolan_zones::name::check_label;
use portolan_zones::peers::Labels;
use portolan_zones::{ClusterId, ServiceName};

use crate::policies::labels;
use crate::scalar::Scalar;
use crate::section::Section;

/// The namespace of our own objects when nobody says otherwise.
const NAMESPACE: &str = "portolan-system";
/// Keys of an item of `clusters` that mean something only beside `kubeconfig`.
const OF_KUBECONFIGS: [&str; 5] = ["context", "namespaces", "allow-exec", "stale-after", "withdraw-after"];

/// What `portolan controller` does besides merging.
#[derive(Debug, Clone, PartialEq)]
pub struct Controller {
    /// Where the virtual IPs of imports come from.
    pub vips: Vips,
    /// Whether ClusterPeer objects are followed.
    pub cluster_peers: bool,
    /// The namespace whose ClusterProfiles are followed; `None`: none are.
    pub cluster_profiles: Option<String>,
    /// How long leading takes.
    pub lease: LeaseTimes,
    /// The gateway that exports without one of their own share.
    pub gateway: GatewayConfig,
}

/// Where the virtual IPs of imports come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vips {
    /// A derived Service without a selector gives its ClusterIP.
    Service,
    /// `vips.pool`.
    Pool,
}

impl Default for Controller {
    fn default() -> Self {
        let lease = LeaseTimes::default();
        let gateway = GatewayConfig::default();
        Self { vips: Vips::Service, cluster_peers: true, cluster_profiles: None, lease, gateway }
    }
}

/// One item of `clusters`.
pub(crate) enum Cluster {
    /// Read from files.
    Manifests(ClusterSource),
    /// Followed at its API server.
    Api(Box<PeerConfig>),
}

impl Cluster {
    /// What an item must have for itself, when it is known already.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Manifests(source) => source.name.as_ref().map(ClusterId::as_str),
            Self::Api(peer) => Some(&peer.name),
        }
    }

    pub(crate) fn read(section: &mut Section<'_>) -> Option<Self> {
        let id = section.optional::<ClusterId>("name");
        let manifests = section.optional::<PathBuf>("manifests");
        let kubeconfig = section.optional::<PathBuf>("kubeconfig");
        let network = section.get("network", String::new());
        let peer = peer(section, id.clone(), network.as_str().into());
        match (manifests, kubeconfig) {
            (Some(manifests), None) => {
                for key in OF_KUBECONFIGS.into_iter().filter(|key| section.has(key)).collect::<Vec<_>>() {
                    section.problem(key, format!("`{key}` is for clusters with a `kubeconfig`: remove it"));
                }
                let path = section.beside_file(&manifests);
                let (labels, network) = (labels(section), network.into());
                Some(Self::Manifests(ClusterSource { name: id, path, labels, network }))
            }
            (None, Some(kubeconfig)) => Some(Self::Api(Box::new(peer(section.beside_file(&kubeconfig))))),
            (Some(_), Some(_)) => {
                section.problem("kubeconfig", "`manifests` is given, too: remove one of them");
                None
            }
            (None, None) => {
                section.problem("manifests", "neither `manifests` nor `kubeconfig` is given: one is needed");
                None
            }
        }
    }
}

/// A cluster to follow, but for its kubeconfig. It is called by its id, else its context, else its file.
fn peer(
    section: &mut Section<'_>,
    id: Option<ClusterId>,
    network: Arc<str>,
) -> impl FnOnce(PathBuf) -> PeerConfig + use<> {
    let context = text(section, "context");
    let namespaces = section.has("namespaces").then(|| section.list::<Namespace>("namespaces", Vec::new()));
    if namespaces.as_ref().is_some_and(Vec::is_empty) && section.items("namespaces") == 0 {
        section.problem("namespaces", "no export would count: leave `namespaces` out to accept all");
    }
    let allow_exec = section.get("allow-exec", false);
    let stale_after = section.get("stale-after", DEFAULT_STALE_AFTER);
    if stale_after < Duration::from_secs(1) {
        section.problem("stale-after", "must be at least 1s: the cluster is asked every few seconds");
    }
    let withdraw_after = section.or_off("withdraw-after", Some(DEFAULT_WITHDRAW_AFTER));
    if withdraw_after.is_some_and(|withdraw| withdraw < stale_after) {
        section.problem("withdraw-after", "must not be shorter than `stale-after`");
    }
    let labels = if section.has("kubeconfig") { labels(section) } else { Labels::default() };
    move |path| PeerConfig {
        name: match (&id, &context) {
            (Some(id), _) => id.to_string(),
            (None, Some(context)) => context.clone(),
            (None, None) => path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        },
        origin: Origin::Kubeconfig,
        access: Access::File { path, context, allow_exec },
        id,
        pinned: Pinned::default(),
        network,
        labels,
        namespaces: namespaces
            .map(|names| names.into_iter().map(|Namespace(name)| name).collect::<BTreeSet<_>>()),
        stale_after,
        withdraw_after,
    }
}

/// The cluster that this process runs for: the section is there, even if empty. Its id is `home` where no ClusterProperty says
/// it.
pub(crate) fn own(section: &mut Section<'_>, home: Option<ClusterId>) -> OwnConfig {
    let kubeconfig = section.optional::<PathBuf>("kubeconfig").map(|file| section.beside_file(&file));
    let context = text(section, "context");
    if context.is_some() && kubeconfig.is_none() {
        section.problem("context", "a context is one of a `kubeconfig`, and none is given");
    }
    let network = section.get("network", String::new());
    let namespace = section.get("namespace", Namespace(NAMESPACE.into())).0;
    let own = own_at(own_access(kubeconfig, context), home);
    OwnConfig { network: network.into(), namespace, labels: labels(section), ..own }
}

/// The cluster behind `access`, of which nothing else is said.
pub(crate) fn own_at(access: Access, home: Option<ClusterId>) -> OwnConfig {
    OwnConfig { access, id: home, network: "".into(), labels: Box::default(), namespace: NAMESPACE.into() }
}

/// Whoever runs a process for a cluster chose its kubeconfig: it may run programs to get credentials.
pub(crate) fn own_access(kubeconfig: Option<PathBuf>, context: Option<String>) -> Access {
    kubeconfig.map_or(Access::InCluster, |path| Access::File { path, context, allow_exec: true })
}

/// The Service that node agents are behind when nobody says otherwise.
#[expect(clippy::expect_used, reason = "both names are constants")]
pub(crate) fn agent_service() -> ServiceName {
    // Both are RFC 1123 labels.
    ServiceName::new("portolan-node", "portolan-agent").expect("two labels make a name")
}

/// A text that is not empty.
fn text(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    section.optional::<String>(key).filter(|text| !text.is_empty())
}

impl Controller {
    pub(crate) fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        Self {
            vips: section.get("vips", default.vips),
            cluster_peers: section.get("cluster-peers", default.cluster_peers),
            cluster_profiles: section.optional("cluster-profiles").map(|Namespace(name)| name),
            lease: section.section("lease", |section| lease(section, default.lease)),
            gateway: section.section("gateway", |section| gateway(section, default.gateway)),
        }
    }
}

fn lease(section: &mut Section<'_>, default: LeaseTimes) -> LeaseTimes {
    let lease = LeaseTimes {
        duration: section.get("duration", default.duration),
        renew: section.get("renew", default.renew),
        retry: section.get("retry", default.retry),
    };
    if lease.duration <= lease.renew {
        section.problem("duration", "must be longer than `renew`, or two could lead at once");
    }
    if lease.retry.is_zero() || lease.renew <= lease.retry * 2 {
        section.problem("renew", "must be longer than twice `retry`, which must not be 0");
    }
    lease
}

fn gateway(section: &mut Section<'_>, default: GatewayConfig) -> GatewayConfig {
    GatewayConfig {
        enabled: section.get("enabled", default.enabled),
        ports: section.get("ports", default.ports),
        udp: section.get("udp", default.udp),
        cluster_domain: section.get("cluster-domain", default.cluster_domain),
        allow: section.list("allow", default.allow),
        bind: section.optional("bind"),
    }
}

impl Scalar for PortRange {
    const EXPECTED: &'static str = "a range of ports such as `20000-29999`";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("is not {}", Self::EXPECTED))
    }
}

/// A namespace's name: one DNS label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Namespace(pub(crate) String);

impl Scalar for Namespace {
    const EXPECTED: &'static str = "a namespace";

    fn parse(text: &str) -> Result<Self, String> {
        check_label(text).map_err(|error| format!("is no namespace: {error}"))?;
        Ok(Self(text.to_owned()))
    }
}

impl Scalar for Vips {
    const EXPECTED: &'static str = "`Service` or `Pool`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "Service" => Ok(Self::Service),
            "Pool" => Ok(Self::Pool),
            _ => Err(format!("is not {}", Self::EXPECTED)),
        }
    }
}
