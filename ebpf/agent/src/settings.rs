//! From the command line and the configuration file to what the agent does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{anyhow, bail};
use ipnet::IpNet;
use portolan_config::{Agent, Beside, Clusterset, Log, Problem, manifests_in};
use portolan_ebpf::follow::Scope;
use portolan_ebpf::hooks::is_unnamed;
use portolan_ebpf::tables::Sizes;

use crate::cli::{DEFAULT_CONFIG, Places, Run};

/// What the file and the command line say together.
#[derive(Debug)]
pub(crate) struct Settings {
    pub clusterset: Clusterset,
    pub agent: Agent,
    pub log: Log,
}

impl Settings {
    /// Reads the configuration file, if there is to be one, and has the command line go before it.
    pub(crate) fn read(asked: &Run) -> anyhow::Result<Self> {
        let needs_none = asked.manifests.is_some() || asked.in_cluster || asked.kubeconfig.is_some();
        let mut settings = Self::of_file(&asked.places, needs_none)?;
        let Self { clusterset, agent, .. } = &mut settings;
        if let Some(folder) = &asked.manifests {
            clusterset.clusters = manifests_in(folder).map_err(|problem| wrong(&[problem]))?;
            clusterset.peers.clear();
            clusterset.own = None;
        }
        if asked.home.is_some() {
            clusterset.home.clone_from(&asked.home);
        }
        if asked.in_cluster || asked.kubeconfig.is_some() {
            clusterset.run_for(asked.kubeconfig.clone(), asked.context.clone());
        }
        // Virtual IPs of the pool are remembered by the server, who answers them.
        clusterset.vips.state_file = None;
        if asked.cgroup.is_some() {
            agent.cgroup.clone_from(&asked.cgroup);
        }
        if asked.node.is_some() {
            agent.node.clone_from(&asked.node);
        }
        if clusterset.clusters.is_empty() && clusterset.peers.is_empty() && clusterset.own.is_none() {
            bail!(
                "there is no cluster: give --in-cluster, --kubeconfig FILE or --manifests DIR, or name one in a \
                 configuration file"
            );
        }
        Ok(settings)
    }

    /// Only where things are in the kernel: for who looks, or tidies up. No file is no harm.
    pub(crate) fn pins(places: &Places) -> anyhow::Result<PathBuf> {
        let there = places.config.is_some() || Path::new(DEFAULT_CONFIG).exists();
        Ok(Self::of_file(places, !there)?.agent.pins)
    }

    fn of_file(places: &Places, needs_none: bool) -> anyhow::Result<Self> {
        let file = places.config.clone().or_else(|| (!needs_none).then(|| DEFAULT_CONFIG.into()));
        let mut settings = match file {
            None => Self { clusterset: Clusterset::default(), agent: Agent::default(), log: Log::default() },
            Some(file) => portolan_config::load(&file, None, |root| Self {
                clusterset: Clusterset::read(root),
                agent: Agent::read(root),
                log: Log::read(root),
            })
            .map_err(|problems| wrong(&problems))?,
        };
        if let Some(pins) = &places.pins {
            settings.agent.pins.clone_from(pins);
        }
        Ok(settings)
    }

    /// How large the maps are.
    pub(crate) fn sizes(&self) -> Sizes {
        let maps = self.agent.maps;
        Sizes {
            flows: maps.sockets,
            affinities: maps.affinity,
            ..Sizes::of(maps.vips, maps.ports, maps.backends)
        }
    }

    /// The Node that this is: what the Pod is told, or what the host calls itself.
    pub(crate) fn node(&self) -> Option<Arc<str>> {
        let told = || std::env::var("NODE_NAME").ok();
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let name = self.agent.node.clone().or_else(told).or_else(host)?;
        let name = name.trim();
        (!name.is_empty()).then(|| name.into())
    }

    /// What is redirected, beside whom.
    pub(crate) fn neighbourhood(&self) -> Neighbourhood {
        let ranges = &self.clusterset.vips.ranges;
        let pool = ranges.ipv4.map(IpNet::V4).into_iter().chain(ranges.ipv6.map(IpNet::V6)).collect();
        Neighbourhood { beside: self.agent.beside, skip: self.agent.skip.clone(), pool }
    }
}

/// What decides on the addresses that are redirected. Where Cilium replaces kube-proxy in the same cgroup, those of Services are its
/// own: ours are those of the pool.
#[derive(Debug)]
pub(crate) struct Neighbourhood {
    beside: Beside,
    skip: Vec<IpNet>,
    pool: Vec<IpNet>,
}

impl Neighbourhood {
    /// What is redirected beside these programs.
    pub(crate) fn scope(&self, programs: &[String]) -> Scope {
        let is_cilium = |name: &String| name.starts_with("cil_sock") || name.starts_with("sock4_connect");
        let cilium = match self.beside {
            Beside::Auto => programs.iter().any(is_cilium),
            Beside::Cilium => true,
            Beside::Nobody => false,
        };
        Scope { skip: self.skip.clone(), only: cilium.then(|| self.pool.clone()) }
    }

    /// What the reader should know of that.
    pub(crate) fn note(&self, programs: &[String]) -> Option<&'static str> {
        let has_unnamed = self.beside == Beside::Auto && programs.iter().any(|name| is_unnamed(name));
        match self.scope(programs).only {
            Some(_) => Some(BESIDE_CILIUM),
            None => has_unnamed.then_some(BESIDE_SOMEBODY),
        }
    }
}

const BESIDE_CILIUM: &str =
    "Cilium redirects Services on this cgroup: only virtual IPs of the pool are redirected by this agent";
const BESIDE_SOMEBODY: &str = "others redirect on this cgroup, too, and only the capability SYS_ADMIN shows whether that is Cilium: \
     if it is, say so by `agent.beside: Cilium`, else `Nobody`";

/// Everything that is wrong, as one error.
fn wrong(problems: &[Problem]) -> anyhow::Error {
    let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
    anyhow!("the configuration is wrong:\n{}", lines.join("\n"))
}
