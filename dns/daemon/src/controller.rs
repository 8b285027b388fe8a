//! `portolan controller`: starts the parts in order, follows the configuration, and gives up the lease at the end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use portolan_config::{LogLevel, Problem, Vips};
use portolan_program::{Outcome, Signals, Told, Watch, bind_admin, live};
use portolan_sync::controller::{
    ControllerConfig, ControllerStatus, RunningController, VipMode, start_controller,
};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{self, Shown};
use crate::cli;
use crate::config::Config;
use crate::metrics::{ClusterMetrics, ControllerMetrics};
use crate::status::{Listener, Phase, Status, VERSION};
use crate::{reload, sockets, source};

/// How often it is looked whether the own cluster is read, until it is.
const READY_POLL: Duration = Duration::from_millis(20);

/// Writes until a signal says otherwise.
pub(crate) fn run(asked: cli::Controller) -> anyhow::Result<Outcome> {
    // Before the file is read, so that no change of it is missed.
    let mut watch = Watch::new().context("files can't be watched")?;
    watch.follow(file(&asked));
    let config = load(&asked).map_err(|problems| source::failure(&problems))?;
    let level = config.log.start()?;
    live(async |signals| Daemon::start(asked, config, level, watch).await?.run(signals).await)
}

fn file(asked: &cli::Controller) -> Option<PathBuf> {
    asked.source().file_for(&asked.own)
}

/// The configuration as the command line has it; it names a cluster to write to.
fn load(asked: &cli::Controller) -> Result<Config, Vec<Problem>> {
    let config = asked.source().load_for(&asked.own)?;
    if config.clusterset.own.is_none() {
        let message =
            "which cluster is written to? Name it as `kubernetes`, or give --in-cluster or --kubeconfig FILE";
        return Err(vec![Problem::of_file(&file(asked).unwrap_or_default(), message)]);
    }
    Ok(config)
}

/// Shared with the admin server, which asks it for its status; `None` at the end. It must not end with the admin
/// server's last question: its end waits, which no task may.
type Controller = Arc<Mutex<Option<RunningController>>>;

/// All parts of a running controller.
struct Daemon {
    asked: cli::Controller,
    /// As it was at the start: what needs a restart is what differs from this.
    started_with: Config,
    level: LogLevel,
    status: Arc<Status>,
    controller: Controller,
    end_admin: CancellationToken,
    watch: Watch,
}

impl Daemon {
    /// Binds and starts, in this order: nothing that may fail comes after the start.
    async fn start(
        asked: cli::Controller,
        config: Config,
        level: LogLevel,
        mut watch: Watch,
    ) -> anyhow::Result<Self> {
        info!(version = VERSION, peers = config.clusterset.peers.len(), "starting");
        let mut registry = Registry::default();
        let status = Arc::new(Status::new(file(&asked), &mut registry));
        let admin = match config.admin {
            Some(address) => Some(bind_admin(address, "admin.listen").await?),
            None => None,
        };
        let address = admin.as_ref().map(TcpListener::local_addr).transpose()?;
        let running = start_controller(controller_config(&config)?)?;
        let (snapshots, witness) = (running.snapshots(), running.witness());
        let controller = Arc::new(Mutex::new(Some(running)));
        let (clusters, writes) = (clusters(&controller), writes(&controller));
        registry.register_collector(Box::new(ClusterMetrics::new(snapshots.clone(), clusters.clone())));
        registry.register_collector(Box::new(ControllerMetrics::new(writes.clone())));
        let end_admin = CancellationToken::new();
        if let Some((listener, address)) = admin.zip(address) {
            info!(transport = "admin", %address, "listening");
            status.listening(vec![Listener { transport: "admin", address }]);
            let shown = Shown {
                status: status.clone(),
                snapshots,
                clusters,
                geo: None,
                witness,
                controller: Some(writes),
                registry,
            };
            admin::start(listener, shown, end_admin.clone());
        }
        status.enter(Phase::Serving);
        watch.follow(file(&asked));
        Ok(Self { asked, started_with: config, level, status, controller, end_admin, watch })
    }

    async fn run(mut self, mut signals: Signals) -> anyhow::Result<()> {
        let mut poll = interval(READY_POLL);
        let mut ready = false;
        loop {
            tokio::select! {
                told = signals.next() => match told {
                    Told::End => break,
                    Told::Reload => self.reload().await,
                },
                () = self.watch.changed() => self.reload().await,
                _ = poll.tick(), if !ready => {
                    ready = admin::own_is_read(&status_of(&self.controller).clusters);
                    if ready {
                        self.tell_ready()?;
                    }
                }
            }
        }
        self.status.enter(Phase::Draining);
        info!("told to end: what is being written is finished, and the lease is given up");
        tokio::select! {
            () = self.finish() => info!("ended"),
            () = signals.end() => warn!("told to end again: ended at once"),
        }
        Ok(())
    }

    fn tell_ready(&self) -> anyhow::Result<()> {
        info!("this cluster is read");
        match &self.asked.ready_file {
            Some(file) => sockets::write_ready_file(file, &self.status.current().listeners),
            None => Ok(()),
        }
    }

    /// Brings the configuration file into force, or leaves everything as it is and says why.
    async fn reload(&mut self) {
        let changed = match load(&self.asked) {
            Ok(config) => self.change(config).await.map_err(|error| vec![format!("{error:#}")]),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        };
        reload::tell(&self.status, changed);
    }

    async fn change(&mut self, config: Config) -> anyhow::Result<Vec<&'static str>> {
        self.level.set(&config.log)?;
        let needs_restart = self.started_with.controller_needs_restart(&config);
        let agents = config.clusterset.agents();
        let decisions = lock(&self.controller).as_mut().map(|running| {
            running.set_peers(config.clusterset.peers);
            running.decisions()
        });
        if let Some(decisions) = decisions {
            // The table may have much to read before: whoever asks how all is does not wait for that.
            let (policies, states) = (config.clusterset.policies, config.clusterset.states);
            tokio::task::spawn_blocking(move || decisions.set(&policies, &states, agents)).await?;
        }
        Ok(needs_restart)
    }

    /// Ends in the reverse order of the start, the admin server last: it tells that this process is draining.
    async fn finish(self) {
        let running = lock(&self.controller).take();
        drop(tokio::task::spawn_blocking(|| drop(running)).await);
        self.end_admin.cancel();
    }
}

fn controller_config(config: &Config) -> anyhow::Result<ControllerConfig> {
    let clusterset = config.served();
    let (zones, agents) = (clusterset.served_zones()?, clusterset.agents());
    Ok(ControllerConfig {
        own: clusterset.own.context("no cluster to write to is configured")?,
        peers: clusterset.peers,
        vips: match clusterset.controller.vips {
            Vips::Service => VipMode::Service,
            Vips::Pool => VipMode::Pool(clusterset.vips),
        },
        identity: identity()?,
        cluster_peers: clusterset.controller.cluster_peers,
        cluster_profiles: clusterset.controller.cluster_profiles,
        lease: clusterset.controller.lease,
        gateway: clusterset.controller.gateway.clone(),
        probes: clusterset.probes,
        policies: clusterset.policies.into(),
        forced: clusterset.states.into(),
        agents,
        zones,
    })
}

/// Who holds the lease: the Pod's name, and something that tells two processes of one host apart.
fn identity() -> anyhow::Result<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("portolan");
    let mut octets = [0; 4];
    getrandom::fill(&mut octets).context("the system gives no random numbers")?;
    Ok(format!("{host}_{:08x}", u32::from_be_bytes(octets)))
}

/// How to ask for the clusters.
fn clusters(controller: &Controller) -> admin::ClusterStatus {
    let controller = controller.clone();
    Arc::new(move || status_of(&controller).clusters)
}

/// How to ask what is written.
fn writes(controller: &Controller) -> admin::ControllerStatus {
    let controller = controller.clone();
    Arc::new(move || status_of(&controller).into())
}

/// At the end there is nothing to say.
fn status_of(controller: &Controller) -> ControllerStatus {
    lock(controller).as_ref().map(RunningController::status).unwrap_or_default()
}

/// A panic elsewhere leaves the controller as it was: each method changes it last.
fn lock(controller: &Mutex<Option<RunningController>>) -> MutexGuard<'_, Option<RunningController>> {
    controller.lock().unwrap_or_else(PoisonError::into_inner)
}
