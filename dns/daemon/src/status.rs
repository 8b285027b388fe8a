//! What the daemon knows about itself: phase, configuration, listeners. The admin server shows it.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;

/// The version of this binary.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where the daemon is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Sockets are not bound, or the clusters are not read.
    Starting,
    /// Queries are answered from all clusters.
    Serving,
    /// Told to end: queries are answered, and nobody should begin to ask.
    Draining,
}

/// The configuration in force and the last attempt to change it.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfigStatus {
    /// The file; none when everything came from the command line.
    pub file: Option<PathBuf>,
    /// When the configuration in force was read, in seconds since the Unix epoch.
    pub loaded: u64,
    /// When a change was last tried, likewise; 0: never.
    pub tried: u64,
    /// Why the last change was refused, one line a problem; empty: it is in force.
    pub errors: Vec<String>,
    /// What of the file only a restart brings into force.
    pub needs_restart: Vec<&'static str>,
}

/// One bound address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Listener {
    /// `udp`, `tcp`, `tls`, `https`, `quic` or `admin`.
    pub transport: &'static str,
    /// With the port that the system chose when 0 was asked for.
    pub address: std::net::SocketAddr,
}

/// Shared by the daemon, which writes, and the admin server, which reads.
pub(crate) struct Status {
    started: u64,
    current: Mutex<Current>,
    metrics: Metrics,
}

/// A consistent copy of what changes.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    /// Phase of life.
    pub phase: Phase,
    /// Configuration.
    pub config: ConfigStatus,
    /// Bound addresses.
    pub listeners: Vec<Listener>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reload {
    result: &'static str,
}

struct Metrics {
    reloads: Family<Reload, Counter>,
    last_success: Gauge,
    last_successful: Gauge,
}

impl Status {
    /// The status of a daemon that starts with the configuration in `file`; registers its metrics.
    pub(crate) fn new(file: Option<PathBuf>, registry: &mut Registry) -> Self {
        let now = unix_now();
        let config = ConfigStatus { file, loaded: now, ..ConfigStatus::default() };
        let current = Current { phase: Phase::Starting, config, listeners: Vec::new() };
        let metrics = Metrics::new(registry);
        metrics.succeeded(now);
        Self { started: now, current: Mutex::new(current), metrics }
    }

    /// Seconds since the start.
    pub(crate) fn uptime(&self) -> u64 {
        unix_now().saturating_sub(self.started)
    }

    /// A copy of what is current.
    pub(crate) fn current(&self) -> Current {
        self.lock().clone()
    }

    /// Moves on. Draining is final.
    pub(crate) fn enter(&self, phase: Phase) {
        let mut current = self.lock();
        if current.phase != Phase::Draining {
            current.phase = phase;
        }
    }

    /// Notes the bound addresses.
    pub(crate) fn listening(&self, listeners: Vec<Listener>) {
        self.lock().listeners = listeners;
    }

    /// A new configuration is in force, but for what needs a restart.
    pub(crate) fn reloaded(&self, needs_restart: Vec<&'static str>) {
        let now = unix_now();
        let config = &mut self.lock().config;
        (config.loaded, config.tried) = (now, now);
        (config.errors, config.needs_restart) = (Vec::new(), needs_restart);
        self.metrics.reloads.get_or_create(&Reload { result: "success" }).inc();
        self.metrics.succeeded(now);
    }

    /// A new configuration was refused: the old one stays in force.
    pub(crate) fn refused(&self, errors: Vec<String>) {
        let config = &mut self.lock().config;
        (config.tried, config.errors) = (unix_now(), errors);
        self.metrics.reloads.get_or_create(&Reload { result: "failure" }).inc();
        self.metrics.last_successful.set(0);
    }

    /// A thread that panicked leaves no half-written value behind: each writer sets whole fields.
    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metrics {
    fn new(registry: &mut Registry) -> Self {
        let new = Self {
            reloads: Family::default(),
            last_success: Gauge::default(),
            last_successful: Gauge::default(),
        };
        for result in ["success", "failure"] {
            new.reloads.get_or_create(&Reload { result }).inc_by(0);
        }
        let build = Info::new([("version", VERSION)]);
        registry.register("portolan_build", "The binary that runs", build);
        registry.register(
            "portolan_config_reload",
            "Attempts to change the configuration",
            new.reloads.clone(),
        );
        registry.register_with_unit(
            "portolan_config_last_reload_success_timestamp",
            "When the configuration in force was read, since the Unix epoch",
            Unit::Seconds,
            new.last_success.clone(),
        );
        let help = "Whether the configuration file is in force as it was last read";
        registry.register("portolan_config_last_reload_successful", help, new.last_successful.clone());
        new
    }

    fn succeeded(&self, now: u64) {
        self.last_success.set(i64::try_from(now).unwrap_or(i64::MAX));
        self.last_successful.set(1);
    }
}

/// Seconds since the Unix epoch.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn a_refused_configuration_is_told_until_a_good_one_comes() {
        let mut registry = Registry::default();
        let status = Status::new(Some("a.yaml".into()), &mut registry);
        assert!(metrics(&registry).contains("portolan_config_reload_total{result=\"failure\"} 0"));

        status.refused(vec!["a.yaml:1: wrong".into()]);
        assert_eq!(status.current().config.errors, ["a.yaml:1: wrong"]);
        let text = metrics(&registry);
        assert!(text.contains("portolan_config_reload_total{result=\"failure\"} 1"), "{text}");
        assert!(text.contains("portolan_config_last_reload_successful 0"), "{text}");

        status.reloaded(vec!["listen"]);
        let config = status.current().config;
        assert_eq!((config.errors.len(), config.needs_restart), (0, vec!["listen"]));
        assert!(metrics(&registry).contains("portolan_config_last_reload_successful 1"));
    }

    #[test]
    fn draining_is_final() {
        let status = Status::new(None, &mut Registry::default());
        status.enter(Phase::Draining);
        status.enter(Phase::Serving);
        assert_eq!(status.current().phase, Phase::Draining);
    }
}
