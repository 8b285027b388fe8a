//! Configuration: what it means.
//!
//! A file goes through three stages: text → located tree (`tree`), tree → values with every problem collected
//! (`section`, `scalar`, `spec`), and values → [`Config`], which knows nothing of YAML. Units and the reason for
//! each default stand in `defaults.yaml`; a test holds it equal to [`Config::default`].

mod answers;
mod default;
mod kubernetes;
mod objects;
mod policies;
mod scalar;
mod section;
mod spec;
mod tree;
mod whereabouts;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use portolan_dns::cookie::Secret;
use portolan_dns::geo::GeoConfig;
use portolan_dns::settings::Settings;
use portolan_sync::kubernetes::{OwnConfig, PeerConfig};
use portolan_sync::{ClusterSource, PoolConfig, ProbeBudget};
use portolan_zones::peers::Forced;
use portolan_zones::places::Mapping;
use portolan_zones::policy::Configured;
use portolan_zones::zone::Options;
use portolan_zones::{ClusterId, Name, ZoneConfig};

pub(crate) use kubernetes::{Controller, Vips};
pub(crate) use section::Problem;

/// The whole default configuration, with comments.
pub(crate) const DEFAULTS: &str = include_str!("defaults.yaml");

/// Everything that an operator can decide.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
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
    /// Traffic policies of the operator's own; of two about the same the first holds.
    pub policies: Vec<Configured>,
    /// What the operator decides of clusters; of two about the same the later holds.
    pub states: Vec<Forced>,
    /// What health checks may cost.
    pub probes: ProbeBudget,
    /// Where DNS is served.
    pub listen: Listen,
    /// Certificate of the encrypted transports.
    pub tls: Option<Tls>,
    /// Path of DNS over HTTPS (RFC 8484).
    pub https_path: String,
    /// How queries are answered; its cookie secrets are in `cookies`.
    pub answers: Settings,
    /// Networks whose clients' place is known.
    pub networks: Vec<Mapping>,
    /// Databases that know where other clients are.
    pub geo: GeoConfig,
    /// DNS cookies.
    pub cookies: Cookies,
    /// Admin HTTP; `None` is off.
    pub admin: Option<SocketAddr>,
    /// How long a server that is told to end goes on answering while it is not ready.
    pub lameduck: Duration,
    /// Log lines.
    pub log: Log,
}

/// Addresses by transport.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listen {
    pub udp: Vec<SocketAddr>,
    pub tcp: Vec<SocketAddr>,
    pub tls: Vec<SocketAddr>,
    pub https: Vec<SocketAddr>,
    pub quic: Vec<SocketAddr>,
}

/// PEM files.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tls {
    /// Certificate chain, leaf first.
    pub certificate: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// DNS cookies, RFC 7873 and RFC 9018.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cookies {
    /// Whether cookies are answered.
    pub enabled: bool,
    /// The first signs, all verify. Empty: one is made up at the start.
    pub secrets: Vec<Secret>,
    /// The file that some of them come from.
    pub secret_file: Option<PathBuf>,
}

/// How log lines look and which there are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Log {
    /// For people or for programs.
    pub format: LogFormat,
    /// A level, or directives such as `info,portolan_dns=debug`.
    pub level: String,
}

/// A log line's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// One readable line.
    Human,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads a file. What is to be remembered is in `state_folder`, without one beside the file.
    pub(crate) fn load(file: &Path, state_folder: Option<&Path>) -> Result<Self, Vec<Problem>> {
        match std::fs::read_to_string(file) {
            Ok(text) => Self::parse(&text, file, state_folder),
            Err(error) => Err(vec![Problem::of_file(file, format!("cannot be read: {error}"))]),
        }
    }

    /// Takes `text` as what `file` holds; `file` locates problems and relative paths, and is not read.
    pub(crate) fn parse(text: &str, file: &Path, state_folder: Option<&Path>) -> Result<Self, Vec<Problem>> {
        spec::parse(text, file, state_folder).0
    }

    /// How queries are answered, with `made_up` as the cookies' secret when there is none.
    pub(crate) fn settings(&self, made_up: Secret) -> Settings {
        let secrets = match (self.cookies.enabled, self.cookies.secrets.is_empty()) {
            (false, _) => Vec::new(),
            (true, true) => vec![made_up],
            (true, false) => self.cookies.secrets.clone(),
        };
        Settings { cookies: portolan_dns::settings::Cookies { secrets }, ..self.answers.clone() }
    }

    /// Where clients are, and may be.
    pub(crate) fn places(&self) -> Box<[Mapping]> {
        let named = self.geo.rules.iter().map(|rule| Mapping { network: None, place: rule.place.clone() });
        self.networks.iter().cloned().chain(named).collect()
    }

    /// Makes it the configuration of a process that runs for the cluster of `kubeconfig`, without one that of this
    /// Pod; what else is known of the own cluster stays.
    pub(crate) fn run_for(&mut self, kubeconfig: Option<PathBuf>, context: Option<String>) {
        let access = kubernetes::own_access(kubeconfig, context);
        self.own = Some(match self.own.take() {
            Some(own) => OwnConfig { access, ..own },
            None => kubernetes::own_at(access, self.home.clone()),
        });
    }

    /// What holds for all zones of services.
    pub(crate) fn options(&self) -> Options {
        Options { max_endpoints: self.max_endpoints, zonal_names: self.zonal_names }
    }

    /// The virtual IPs that a server gives away: none in a cluster, where imports alone have some.
    pub(crate) fn pool(&self) -> Option<PoolConfig> {
        self.own.is_none().then(|| self.vips.clone())
    }

    /// The sections in which `new` differs and only a restart of a server brings it into force.
    pub(crate) fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        named([
            ("listen", self.listen != new.listen),
            ("tls", self.tls != new.tls),
            ("probes", self.probes != new.probes),
            ("https", self.https_path != new.https_path),
            ("admin", self.admin != new.admin),
            ("log.format", self.log.format != new.log.format),
        ])
    }

    /// The same for a controller: everything but the clusters that it follows, and the level of its log.
    pub(crate) fn controller_needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let pool = self.controller.vips == Vips::Pool && self.vips != new.vips;
        named([
            ("kubernetes", self.own != new.own),
            ("controller", self.controller != new.controller),
            ("vips", pool),
            ("probes", self.probes != new.probes),
            ("admin", self.admin != new.admin),
            ("log.format", self.log.format != new.log.format),
        ])
    }

    /// The files whose contents count besides the configuration itself and the manifests.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let tls = self.tls.iter().flat_map(|tls| [tls.certificate.clone(), tls.key.clone()]);
        tls.chain(self.cookies.secret_file.clone()).collect()
    }

    /// What works and is seldom meant.
    pub(crate) fn warnings(&self) -> Vec<String> {
        // Zones of PTR records have the name server of the first zone.
        let zones = self.all_zones().into_iter().take(self.zones.len());
        let without_glue = zones.filter(|zone| zone.name_server_addresses.is_empty());
        let warning = |zone: ZoneConfig| {
            let (origin, server) = (zone.origin, zone.name_server);
            format!(
                "zone {origin}: no address for its name server {server}: zone checkers and delegations need one: \
                 set zones[].name-server.addresses"
            )
        };
        without_glue.map(warning).collect()
    }

    /// All zones. One whose name server has no addresses gets those of `listen` that are no wildcards.
    pub(crate) fn all_zones(&self) -> Vec<ZoneConfig> {
        let reverse = self.reverse_zones.iter().filter_map(|origin| {
            let first = self.zones.first()?.clone();
            Some(ZoneConfig { origin: origin.clone(), ..first })
        });
        let glue = self.listen.specific_addresses();
        let with_glue = |mut zone: ZoneConfig| {
            if zone.name_server_addresses.is_empty() {
                zone.name_server_addresses.clone_from(&glue);
            }
            zone
        };
        self.zones.iter().cloned().chain(reverse).map(with_glue).collect()
    }
}

fn named<const N: usize>(sections: [(&'static str, bool); N]) -> Vec<&'static str> {
    sections.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

impl Listen {
    /// Addresses of plain DNS that are no wildcards, each once.
    fn specific_addresses(&self) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        for address in self.udp.iter().chain(&self.tcp).map(SocketAddr::ip) {
            if !address.is_unspecified() && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }
}

#[cfg(test)]
mod tests;
