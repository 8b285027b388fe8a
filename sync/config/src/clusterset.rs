//! What all programs of a clusterset must agree on: the clusters, the zones, virtual IPs, and what the operator decides of them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use portolan_sync::kubernetes::{KubernetesConfig, OwnConfig, PeerConfig};
use portolan_sync::vip::PoolRanges;
use portolan_sync::{ClusterSource, PoolConfig, ProbeBudget};
use portolan_zones::peers::Forced;
use portolan_zones::places::Mapping;
use portolan_zones::policy::Configured;
use portolan_zones::zone::{Options, ZonesError};
use portolan_zones::{ClusterId, Name, ServiceName, ZoneConfig, Zones};

use crate::document::Problem;
use crate::kubernetes::{self, Cluster, Controller, Vips};
use crate::scalar::Scalar;
use crate::section::Section;
use crate::{policies, view, zones};

/// What feeds the snapshot, and how it is compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Clusterset {
    /// Clusters whose state is read from files.
    pub clusters: Vec<ClusterSource>,
    /// Clusters that are followed at their API servers.
    pub peers: Vec<PeerConfig>,
    /// The cluster whose ServiceImports' VIPs count.
    pub home: Option<ClusterId>,
    /// The cluster that this process runs for.
    pub own: Option<OwnConfig>,
    /// What `portolan controller` does.
    pub controller: Controller,
    /// Zones of services.
    pub zones: Vec<ZoneConfig>,
    /// Origins of zones of PTR records; everything else as the first zone has it.
    pub reverse_zones: Vec<Name>,
    /// Most endpoints of a headless service in one answer.
    pub max_endpoints: usize,
    /// Whether clients may say where they are in the name.
    pub zonal_names: bool,
    /// Virtual IPs of our own.
    pub vips: PoolConfig,
    /// Whom virtual IPs are answered to; `None`: see [`Clusterset::agents`].
    pub answer_to: Option<AnswerTo>,
    /// The Service that node agents are behind, whether virtual IPs need them or not.
    pub agent_service: ServiceName,
    /// Traffic policies of the operator's own; of two about the same the first holds.
    pub policies: Vec<Configured>,
    /// What the operator decides of clusters; of two about the same the later holds.
    pub states: Vec<Forced>,
    /// What health checks may cost.
    pub probes: ProbeBudget,
    /// Where clients are, or may be.
    pub networks: Vec<Mapping>,
}

/// Whom virtual IPs are answered to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerTo {
    /// Every client: something on its node connects them, whichever node that is.
    Everybody,
    /// Clients on nodes with a ready agent.
    Agents,
}

/// Why the zones of a configuration make no snapshot.
#[derive(Debug, thiserror::Error)]
#[error("these zones can't be served")]
pub struct Unservable(#[from] ZonesError);

impl Clusterset {
    /// Takes its sections from the root.
    pub fn read(root: &mut Section<'_>) -> Self {
        let default = Self::default();
        let (clusters, peers) = clusters(root);
        let home = root.optional("home");
        let own =
            root.has("kubernetes").then(|| root.section("kubernetes", |s| kubernetes::own(s, home.clone())));
        let (zones, reverse_zones) = zones::read(root);
        let (vips, answer_to, agent_service) = root.section("vips", |section| {
            let answer_to = section.optional("answer-to");
            let agent_service = section.get("agents", default.agent_service);
            (vips(section, default.vips), answer_to, agent_service)
        });
        Self {
            clusters,
            peers,
            home,
            own,
            policies: policies::policies(root, &zones),
            controller: root.section("controller", Controller::read),
            zones,
            reverse_zones,
            max_endpoints: root.at_least_one("max-endpoints", default.max_endpoints),
            zonal_names: root.get("zonal-names", default.zonal_names),
            vips,
            answer_to,
            agent_service,
            states: policies::states(root),
            probes: root.section("probes", |section| probes(section, default.probes)),
            networks: root.section("view", view::networks),
        }
    }

    /// What feeds the snapshot, in the words of who compiles it. Whom virtual IPs are answered to, [`Clusterset::agents`], is for
    /// those to add who answer.
    pub fn sync_config(&self) -> Result<portolan_sync::Config, Unservable> {
        Ok(portolan_sync::Config {
            clusters: self.clusters.clone(),
            kubernetes: self.kubernetes(),
            home: self.home.clone(),
            places: self.networks.clone().into(),
            policies: self.policies.clone().into(),
            forced: self.states.clone().into(),
            pool: self.pool(),
            agents: None,
            probes: self.probes,
            zones: self.served_zones()?,
        })
    }

    /// In a cluster that one alone is followed: what the others export is in it, for the controller writes it there.
    fn kubernetes(&self) -> KubernetesConfig {
        match &self.own {
            Some(own) => KubernetesConfig { own: Some(own.clone()), clusters: Vec::new() },
            None => KubernetesConfig { own: None, clusters: self.peers.clone() },
        }
    }

    /// The virtual IPs that a program other than the controller gives away: none in a cluster, where imports alone have some.
    fn pool(&self) -> Option<PoolConfig> {
        self.own.is_none().then(|| self.vips.clone())
    }

    /// The Service of the node agents that virtual IPs need; `None`: they need none. Unless the operator knows better, nobody but
    /// agents connects those of a cluster's pool.
    pub fn agents(&self) -> Option<ServiceName> {
        let pooled = self.own.is_some() && self.controller.vips == Vips::Pool;
        let default = if pooled { AnswerTo::Agents } else { AnswerTo::Everybody };
        (self.answer_to.unwrap_or(default) == AnswerTo::Agents).then(|| self.agent_service.clone())
    }

    /// All zones, as they are answered.
    pub fn served_zones(&self) -> Result<Arc<Zones>, Unservable> {
        let options = Options { max_endpoints: self.max_endpoints, zonal_names: self.zonal_names };
        Ok(Zones::with(self.all_zones(), options)?)
    }

    /// Those of services, then those of PTR records.
    pub fn all_zones(&self) -> Vec<ZoneConfig> {
        let reverse = self.reverse_zones.iter().filter_map(|origin| {
            let first = self.zones.first()?.clone();
            Some(ZoneConfig { origin: origin.clone(), ..first })
        });
        self.zones.iter().cloned().chain(reverse).collect()
    }

    /// Makes it the configuration of a process that runs for the cluster of `kubeconfig`, without one that of this
    /// Pod; what else is known of the own cluster stays.
    pub fn run_for(&mut self, kubeconfig: Option<PathBuf>, context: Option<String>) {
        let access = kubernetes::own_access(kubeconfig, context);
        self.own = Some(match self.own.take() {
            Some(own) => OwnConfig { access, ..own },
            None => kubernetes::own_at(access, self.home.clone()),
        });
    }
}

/// A cluster for each subfolder of a folder of manifests, in the order of their names.
pub fn manifests_in(folder: &Path) -> Result<Vec<ClusterSource>, Problem> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| Problem::of_file(folder, format!("cannot be read: {error}")))?;
    let visible = |path: &PathBuf| {
        path.is_dir() && !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    let mut folders: Vec<_> = entries.into_iter().map(|entry| entry.path()).filter(visible).collect();
    if folders.is_empty() {
        return Err(Problem::of_file(
            folder,
            "has no subfolder: each subfolder is a cluster, with its manifests",
        ));
    }
    folders.sort();
    Ok(folders
        .into_iter()
        .map(|path| ClusterSource { name: None, path, labels: Box::default(), network: "".into() })
        .collect())
}

/// Those of files, and those of API servers.
fn clusters(root: &mut Section<'_>) -> (Vec<ClusterSource>, Vec<PeerConfig>) {
    let listed = root.sections("clusters", Vec::new(), Cluster::read);
    let names: Vec<_> = listed.iter().map(|cluster| cluster.name().map(str::to_owned)).collect();
    root.refuse_twice("clusters", names.iter().map(Option::as_ref));
    let (mut clusters, mut peers) = (Vec::new(), Vec::new());
    for cluster in listed {
        match cluster {
            Cluster::Manifests(source) => clusters.push(source),
            Cluster::Api(peer) => peers.push(*peer),
        }
    }
    (clusters, peers)
}

fn probes(section: &mut Section<'_>, default: ProbeBudget) -> ProbeBudget {
    ProbeBudget {
        per_second: section.get("per-second", default.per_second),
        in_flight: section.get("in-flight", default.in_flight),
    }
}

fn vips(section: &mut Section<'_>, default: PoolConfig) -> PoolConfig {
    let ranges = section.section("pool", |pool| PoolRanges {
        ipv4: pool.or_off("ipv4", default.ranges.ipv4),
        ipv6: pool.or_off("ipv6", default.ranges.ipv6),
    });
    if let Err(error) = ranges.check() {
        section.problem("pool", error.to_string());
    }
    let state_file = section.or_off("state-file", default.state_file);
    let state_file = state_file.map(|file| section.in_state_folder(&file));
    PoolConfig { ranges, quarantine: section.get("quarantine", default.quarantine), state_file }
}

impl Scalar for AnswerTo {
    const EXPECTED: &'static str = "`Everybody` or `Agents`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "Everybody" => Ok(Self::Everybody),
            "Agents" => Ok(Self::Agents),
            _ => Err(format!("is not {}", Self::EXPECTED)),
        }
    }
}

impl Default for Clusterset {
    fn default() -> Self {
        Self {
            clusters: Vec::new(),
            peers: Vec::new(),
            home: None,
            own: None,
            controller: Controller::default(),
            zones: zones::default().into_iter().collect(),
            reverse_zones: Vec::new(),
            max_endpoints: 1000,
            zonal_names: false,
            vips: PoolConfig {
                ranges: PoolRanges::default(),
                quarantine: Duration::from_secs(3600),
                state_file: Some("vips.json".into()),
            },
            answer_to: None,
            agent_service: kubernetes::agent_service(),
            policies: Vec::new(),
            states: Vec::new(),
            probes: ProbeBudget::default(),
            networks: Vec::new(),
        }
    }
}
