//! Configuration: what it means to a server and to a controller.
//!
//! What all programs share is read by `portolan-config`, which says how a file is read, too; here is what DNS adds.

mod answers;
mod default;
mod geoip;
mod scalar;
mod spec;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use portolan_config::{Clusterset, Log, Problem, Unservable, Vips};
use portolan_dns::cookie::Secret;
use portolan_dns::geo::GeoConfig;
use portolan_dns::server::Threads;
use portolan_dns::settings::Settings;
use portolan_zones::ZoneConfig;
use portolan_zones::places::Mapping;

/// Everything that an operator can decide.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// What feeds the snapshot.
    pub clusterset: Clusterset,
    /// Where DNS is served.
    pub listen: Listen,
    /// Who answers UDP.
    pub udp_threads: Threads,
    /// Certificate of the encrypted transports.
    pub tls: Option<Tls>,
    /// Path of DNS over HTTPS (RFC 8484).
    pub https_path: String,
    /// How queries are answered; its cookie secrets are in `cookies`.
    pub answers: Settings,
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

impl Config {
    /// Reads a file. What is to be remembered is in `state_folder`, without one beside the file.
    pub(crate) fn load(file: &Path, state_folder: Option<&Path>) -> Result<Self, Vec<Problem>> {
        portolan_config::load(file, state_folder, spec::read)
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

    /// The clusterset as a server answers from it: a zone whose name server has no addresses gets those of `listen` that are no
    /// wildcards, and clients may be where databases find them, too.
    pub(crate) fn served(&self) -> Clusterset {
        let mut served = self.clusterset.clone();
        let without_glue = served.zones.iter_mut().filter(|zone| zone.name_server_addresses.is_empty());
        let glue = self.listen.specific_addresses();
        without_glue.for_each(|zone| zone.name_server_addresses.clone_from(&glue));
        let found = self.geo.rules.iter().map(|rule| Mapping { network: None, place: rule.place.clone() });
        served.networks.extend(found);
        served
    }

    /// [`Config::served`] in the words of who compiles it, with what depends on node agents.
    pub(crate) fn sync_config(&self) -> Result<portolan_sync::Config, Unservable> {
        let served = self.served();
        Ok(portolan_sync::Config { agents: served.agents(), ..served.sync_config()? })
    }

    /// The sections in which `new` differs and only a restart of a server brings it into force.
    pub(crate) fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        named([
            ("listen", self.listen != new.listen),
            ("udp", self.udp_threads != new.udp_threads),
            ("tls", self.tls != new.tls),
            ("probes", self.clusterset.probes != new.clusterset.probes),
            ("https", self.https_path != new.https_path),
            ("admin", self.admin != new.admin),
            ("log.format", self.log.format != new.log.format),
        ])
    }

    /// The same for a controller: everything but the clusters that it follows, and the level of its log.
    pub(crate) fn controller_needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let (old_set, new_set) = (&self.clusterset, &new.clusterset);
        let pool = old_set.controller.vips == Vips::Pool && old_set.vips != new_set.vips;
        named([
            ("kubernetes", old_set.own != new_set.own),
            ("controller", old_set.controller != new_set.controller),
            ("vips", pool),
            ("probes", old_set.probes != new_set.probes),
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
        let zones = self.served().zones.into_iter();
        let without_glue = zones.filter(|zone| zone.name_server_addresses.is_empty());
        let warning = |zone: ZoneConfig| {
            let (origin, server) = (zone.origin, zone.name_server);
            format!(
                "zone {origin}: no address for its name server {server}: zone checkers and delegations need one: \
                 set zones[].name-server.addresses"
            )
        };
        let Clusterset { own, home, .. } = &self.clusterset;
        let homeless = self.clusterset.agents().filter(|_| own.is_none() && home.is_none()).map(|agents| {
            format!(
                "vips.answer-to: nobody is answered a virtual IP, for it is not known in which cluster the agents of {agents} \
                 count: set `home`"
            )
        });
        without_glue.map(warning).chain(homeless).collect()
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
