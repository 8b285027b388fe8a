//! `portolan serve`: starts the parts in order, follows the configuration, and ends them in the reverse order.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use portolan_config::{LogLevel, Problem};
use portolan_dns::cookie::Secret;
use portolan_dns::geo::Geo;
use portolan_dns::server::{Listeners, Server};
use portolan_dns::settings::Settings;
use portolan_dns::tls::Certificate;
use portolan_program::{Outcome, Signals, Told, Watch, bind_admin, live};
use prometheus_client::registry::Registry;
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{self, Shown};
use crate::cli::Serve;
use crate::config::Config;
use crate::metrics::ClusterMetrics;
use crate::status::{Listener, Phase, Status, VERSION};
use crate::{reload, sockets, source};

/// What is in flight when listening ends may take so long.
const FINISH: Duration = Duration::from_secs(5);
/// How often it is looked whether the clusters are read, until they are.
const READY_POLL: Duration = Duration::from_millis(10);

/// Serves until a signal says otherwise.
pub(crate) fn serve(asked: Serve) -> anyhow::Result<Outcome> {
    // Before the file is read, so that no change of it is missed.
    let mut watch = Watch::new().context("files can't be watched")?;
    watch.follow(asked.source.file_for(&asked.own));
    let config = load(&asked).map_err(|problems| source::failure(&problems))?;
    let level = config.log.start()?;
    live(async |signals| Daemon::start(asked, config, level, watch).await?.run(signals).await)
}

/// The configuration as the command line has it.
fn load(asked: &Serve) -> Result<Config, Vec<Problem>> {
    let mut config = asked.source.load_for(&asked.own)?;
    if !asked.listen.is_empty() {
        config.listen.udp.clone_from(&asked.listen);
        config.listen.tcp.clone_from(&asked.listen);
    }
    Ok(config)
}

/// Logs what works and is seldom meant.
fn warn_of(asked: &Serve, config: &Config) {
    for warning in asked.source.warnings_for(&asked.own, config) {
        warn!("{warning}");
    }
}

/// Shared with the admin server, which asks it for its status.
type Clusters = Arc<Mutex<portolan_sync::Running>>;

/// All parts of a running server.
struct Daemon {
    asked: Serve,
    /// As it was at the start: what needs a restart is what differs from this.
    started_with: Config,
    lameduck: Duration,
    /// Signs cookies when no secret is configured: the same one until the end.
    made_up: Secret,
    level: LogLevel,
    status: Arc<Status>,
    settings: Arc<ArcSwap<Settings>>,
    certificate: Option<Arc<Certificate>>,
    geo: Arc<Geo>,
    clusters: Clusters,
    server: portolan_dns::server::Running,
    end_admin: CancellationToken,
    watch: Watch,
}

impl Daemon {
    /// Reads, binds and answers, in this order; an error leaves nothing behind.
    async fn start(asked: Serve, config: Config, level: LogLevel, mut watch: Watch) -> anyhow::Result<Self> {
        info!(version = VERSION, clusters = config.clusterset.clusters.len(), "starting");
        warn_of(&asked, &config);
        let mut registry = Registry::default();
        let status = Arc::new(Status::new(asked.source.file_for(&asked.own), &mut registry));
        let made_up = made_up_secret()?;
        let settings = Arc::new(ArcSwap::from_pointee(config.settings(made_up)));
        let certificate = config.tls.as_ref().map(|tls| Certificate::load(&tls.certificate, &tls.key));
        let certificate = certificate.transpose().context("TLS can't be set up")?;
        let geo = Geo::start(config.geo.clone());

        let running = portolan_sync::start(config.sync_config()?)?;
        let snapshots = running.snapshots();
        let witness = running.witness();
        let clusters = Arc::new(Mutex::new(running));
        let metrics = Arc::<portolan_dns::metrics::Metrics>::default();
        registry.register_collector(Box::new(metrics.clone()));
        registry.register_collector(Box::new(geo.clone()));
        registry.register_collector(Box::new(ClusterMetrics::new(snapshots.clone(), sync_status(&clusters))));

        let listeners = Listeners {
            witness: Some(witness.clone()),
            ..listeners(&config, certificate.clone(), geo.clone())
        };
        let bound = Server::bind(&listeners, snapshots.clone(), settings.clone(), metrics)?;
        let admin = match config.admin {
            Some(address) => Some(bind_admin(address, "admin.listen").await?),
            None => None,
        };
        let server = bound.run().context("the DNS server can't be started")?;
        let addresses = server.local_addresses().iter();
        let mut listening: Vec<_> = addresses
            .map(|(transport, address)| Listener { transport: transport.label(), address: *address })
            .collect();
        let end_admin = CancellationToken::new();
        if let Some(listener) = admin {
            listening.push(Listener { transport: "admin", address: listener.local_addr()? });
            let (status, clusters) = (status.clone(), sync_status(&clusters));
            let geo = Some(geo.clone());
            let shown = Shown { status, snapshots, clusters, geo, witness, controller: None, registry };
            admin::start(listener, shown, end_admin.clone());
        }
        for Listener { transport, address } in &listening {
            info!(transport, %address, "listening");
        }
        status.listening(listening);
        status.enter(Phase::Serving);

        watch.follow(asked.source.file_for(&asked.own).into_iter().chain(config.files()));
        let lameduck = config.lameduck;
        Ok(Self {
            asked,
            started_with: config,
            lameduck,
            made_up,
            level,
            status,
            settings,
            certificate,
            geo,
            clusters,
            server,
            end_admin,
            watch,
        })
    }

    async fn run(mut self, mut signals: Signals) -> anyhow::Result<()> {
        let mut poll = interval(READY_POLL);
        let mut answering = false;
        loop {
            tokio::select! {
                told = signals.next() => match told {
                    Told::End => break,
                    Told::Reload => self.reload(),
                },
                () = self.watch.changed() => self.reload(),
                _ = poll.tick(), if !answering => {
                    answering = self.has_read_clusters();
                    if answering {
                        self.tell_ready()?;
                    }
                }
            }
        }
        self.status.enter(Phase::Draining);
        info!(lameduck = ?self.lameduck, "told to end: not ready, still answering");
        tokio::select! {
            () = self.finish() => info!("ended"),
            () = signals.end() => warn!("told to end again: ended at once"),
        }
        Ok(())
    }

    /// Whether every cluster was tried, and what could be read is answered.
    fn has_read_clusters(&self) -> bool {
        let clusters = lock(&self.clusters);
        clusters.snapshots().load().complete || clusters.status().sources.iter().any(|source| !source.synced)
    }

    fn tell_ready(&self) -> anyhow::Result<()> {
        info!("answering");
        match &self.asked.ready_file {
            Some(file) => sockets::write_ready_file(file, &self.status.current().listeners),
            None => Ok(()),
        }
    }

    /// Brings the configuration file into force, or leaves everything as it is and says why.
    fn reload(&mut self) {
        let changed = load(&self.asked)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
            .and_then(|config| {
                warn_of(&self.asked, &config);
                self.change(&config).map_err(|error| vec![format!("{error:#}")])
            });
        reload::tell(&self.status, changed);
    }

    /// What may fail comes first: then either all of it is in force or nothing.
    fn change(&mut self, config: &Config) -> anyhow::Result<Vec<&'static str>> {
        let clusters = config.sync_config()?;
        if let Some(certificate) = &self.certificate {
            certificate.reload().context("the TLS certificate")?;
        }
        let geo = self.geo.prepare(&config.geo)?;
        lock(&self.clusters).reconfigure(clusters)?;
        self.geo.adopt(geo);
        self.level.set(&config.log)?;
        self.settings.store(Arc::new(config.settings(self.made_up)));
        self.lameduck = config.lameduck;
        self.watch.follow(self.asked.source.file_for(&self.asked.own).into_iter().chain(config.files()));
        Ok(self.started_with.needs_restart(config))
    }

    /// Ends in the reverse order of the start.
    async fn finish(self) {
        sleep(self.lameduck).await;
        if !self.server.shutdown(FINISH).await {
            warn!(after = ?FINISH, "connections were cut off");
        }
        self.end_admin.cancel();
        // Ends when the last owner lets go, which may be the admin server; what must be remembered is saved then.
        drop(tokio::task::spawn_blocking(|| drop(self.clusters)).await);
    }
}

fn listeners(config: &Config, certificate: Option<Arc<Certificate>>, geo: Arc<Geo>) -> Listeners {
    let mut listen = config.listen.clone();
    sockets::without_missing_ipv6(&mut listen);
    Listeners {
        udp: listen.udp,
        tcp: listen.tcp,
        tls: listen.tls,
        https: listen.https,
        quic: listen.quic,
        certificate,
        geo,
        https_path: config.https_path.clone(),
        udp_threads: config.udp_threads.clone(),
        ..Listeners::default()
    }
}

/// How to ask the clusters for their status. A weak reference: it must not keep them from ending.
fn sync_status(clusters: &Clusters) -> admin::ClusterStatus {
    let clusters = Arc::downgrade(clusters);
    Arc::new(move || clusters.upgrade().map(|clusters| lock(&clusters).status()).unwrap_or_default())
}

/// A panic elsewhere leaves the clusters as they were: each method changes them last.
fn lock(clusters: &Mutex<portolan_sync::Running>) -> std::sync::MutexGuard<'_, portolan_sync::Running> {
    clusters.lock().unwrap_or_else(PoisonError::into_inner)
}

fn made_up_secret() -> anyhow::Result<Secret> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets).context("the system gives no random numbers")?;
    Ok(Secret(octets))
}
