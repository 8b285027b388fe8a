//! `portolan-agent run`: starts the parts in order, and ends them in the reverse order. The hook itself stays.

use std::sync::{Arc, Mutex};

use anyhow::Context;
use portolan_ebpf::hooks::Cgroup;
use portolan_ebpf::pins::{Pins, look};
use portolan_ebpf::{Extras, Redirection};
use portolan_program::{Outcome, Signals, Told, bind_admin, live, serve_admin, write_ready_file};
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{self, Shown};
use crate::cli::Run;
use crate::dry_run;
use crate::keeper::{Keeper, Kept, Parts, Shared, lock};
use crate::metrics::AgentMetrics;
use crate::report::Fixed;
use crate::settings::Settings;
use crate::trace::Trace;

/// Redirects until a signal says otherwise.
pub(crate) fn run(asked: &Run) -> anyhow::Result<Outcome> {
    let settings = Settings::read(asked)?;
    if asked.dry_run {
        return dry_run::run(&settings, asked.format);
    }
    let _level = settings.log.start()?;
    live(async |signals| Agent::start(asked, settings).await?.run(signals).await)
}

/// All parts of a running agent.
struct Agent {
    clusters: Arc<portolan_sync::Running>,
    keeper: Keeper,
    kept: Arc<Mutex<Kept>>,
    end_admin: CancellationToken,
    ready_file: Option<std::path::PathBuf>,
    admin: Option<std::net::SocketAddr>,
}

impl Agent {
    async fn start(asked: &Run, settings: Settings) -> anyhow::Result<Self> {
        info!(version = env!("CARGO_PKG_VERSION"), "starting");
        let cgroup = Cgroup::open(settings.agent.cgroup.as_deref())?;
        let path = cgroup.path().to_owned();
        let pins = Pins::open(&settings.agent.pins)?;
        let (redirection, extras) = Redirection::load(pins, cgroup, settings.sizes(), settings.node())?;
        let Extras { events, connected, lacks, kept: mut notes } = extras;
        let connected = Arc::new(connected);
        notes.extend(lacks.iter().map(|lack| format!("not all can be had of this kernel: {lack}")));
        for note in &notes {
            warn!(kernel = portolan_ebpf::kernel::release(), "{note}");
        }
        // Before anything is attached: who can't start changes nothing.
        let listener = match settings.agent.admin {
            Some(address) => Some(bind_admin(address, "agent.admin.listen").await?),
            None => None,
        };
        let redirection: Shared = Arc::new(Mutex::new(redirection));
        let kept = Arc::<Mutex<Kept>>::default();

        let config = settings.clusterset.sync_config()?;
        let clusters = Arc::new(portolan_sync::start(config)?);
        let (reads, snapshots) = (Arc::downgrade(&clusters), clusters.snapshots());
        // What another agent left in the kernel is not given up for a part of it.
        let is_first = look(&settings.agent.pins).is_empty();
        let ready = move || {
            reads.upgrade().is_some_and(|clusters| {
                clusters.snapshots().load().complete || is_first && clusters.has_read_clusters()
            })
        };
        let parts = Parts {
            redirection: redirection.clone(),
            cgroup: path,
            connected: connected.clone(),
            snapshots,
            shown: kept.clone(),
        };
        let keeper =
            Keeper::start(parts, settings.neighbourhood(), ready).context("no thread could be started")?;

        let trace = Trace::start(events, redirection.clone()).context("decisions can't be read")?;
        let end_admin = CancellationToken::new();
        let mut admin_address = None;
        if let Some(listener) = listener {
            admin_address = Some(listener.local_addr()?);
            info!(transport = "admin", address = %listener.local_addr()?, "listening");
            let mut registry = Registry::default();
            registry.register_collector(Box::new(AgentMetrics::new(
                redirection.clone(),
                kept.clone(),
                connected.clone(),
            )));
            let sources = Arc::downgrade(&clusters);
            let shown = Shown {
                redirection,
                kept: kept.clone(),
                sources: Arc::new(move || {
                    sources.upgrade().map(|clusters| clusters.status()).unwrap_or_default()
                }),
                fixed: Fixed { pins: settings.agent.pins, notes, connected },
                trace,
                registry,
            };
            serve_admin(listener, admin::router(shown), end_admin.clone());
        }
        let ready_file = asked.ready_file.clone();
        Ok(Self { clusters, keeper, kept, end_admin, ready_file, admin: admin_address })
    }

    async fn run(self, mut signals: Signals) -> anyhow::Result<()> {
        let mut generations = self.clusters.generations();
        let mut poll = tokio::time::interval(std::time::Duration::from_millis(20));
        let mut told_ready = self.ready_file.is_none();
        loop {
            tokio::select! {
                told = signals.next() => match told {
                    Told::End => break,
                    Told::Reload => info!("nothing is reloaded: restart the agent, which changes nothing for connections"),
                },
                changed = generations.changed() => match changed {
                    Ok(()) => self.keeper.wake(),
                    Err(_) => break,
                },
                _ = poll.tick(), if !told_ready => {
                    told_ready = lock(&self.kept).attached;
                    if told_ready {
                        self.tell_ready()?;
                    }
                }
            }
        }
        info!("told to end: connections are redirected as before until `portolan-agent detach`");
        self.end_admin.cancel();
        let Self { clusters, keeper, .. } = self;
        tokio::task::spawn_blocking(move || {
            keeper.stop();
            drop(clusters);
        })
        .await?;
        Ok(())
    }

    fn tell_ready(&self) -> anyhow::Result<()> {
        let admin = [("admin", self.admin.into_iter().collect())].into();
        match &self.ready_file {
            Some(file) => write_ready_file(file, &admin),
            None => Ok(()),
        }
    }
}
