//! Brings the own cluster's objects in line, service by service: what the snapshot, the watch or a new leadership touch is
//! queued, and whoever works takes it from there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use portolan_zones::ServiceName;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::apply::{Writer, told_lacking};
use super::brake::Brake;
use super::contests::Contests;
use super::election::Leadership;
use super::judgement::Clusters;
use super::memory::Memory;
use super::observed::Observed;
use super::pass::Pass;
use super::progress::{Progress, SWEEP, WORKERS, WriteStatus};
use super::{sweep, words};
use crate::publish::{Generations, Snapshots};
use crate::vip::PoolRanges;

/// The watch tells us before the snapshot has it.
const SETTLE: Duration = Duration::from_millis(30);

/// What it takes to reconcile.
pub(super) struct Reconciler {
    pub(super) snapshots: Snapshots,
    pub(super) observed: Arc<Observed>,
    pub(super) writer: Arc<Writer>,
    pub(super) leadership: Leadership,
    pub(super) clusters: Clusters,
    /// As it was judged last.
    pub(super) all_heard: AtomicBool,
    /// `None`: derived Services give the virtual IPs.
    pub(super) pool: Option<PoolRanges>,
    pub(super) status: Arc<Mutex<WriteStatus>>,
    /// Who else leads a controller that writes to this cluster.
    pub(super) rivals: watch::Receiver<Option<String>>,
    pub(super) memory: Memory,
    pub(super) brake: Brake,
    pub(super) contests: Contests,
    /// When it is cancelled nothing more is begun.
    pub(super) end: CancellationToken,
}

impl Reconciler {
    /// Runs until it is told to end; requests under way are waited for.
    pub(super) async fn run(self, mut generations: Generations) {
        let this = Arc::new(self);
        let mut leadership = this.leadership.clone();
        let mut clusters = this.clusters.clone();
        this.judge();
        let mut workers: JoinSet<Option<Pass>> = JoinSet::new();
        let mut progress = Progress::new();
        loop {
            if this.refill(&mut progress) {
                workers.spawn(this.clone().delete_strays());
            }
            this.employ(&mut progress, &mut workers);
            this.report(&mut progress);
            let due = progress.next_due().map(tokio::time::Instant::from_std);
            tokio::select! {
                () = this.end.cancelled() => break,
                _ = leadership.changed() => progress.start_over(),
                Ok(()) = generations.changed() => {}
                () = clusters.changed() => this.judge(),
                () = this.observed.touched.notified() => {}
                Some(done) = workers.join_next() => if let Ok(Some(pass)) = done {
                    progress.take(pass);
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(far)), if due.is_some() => {}
            }
        }
        while workers.join_next().await.is_some() {}
    }

    fn judge(&self) {
        let judgement = self.clusters.judge();
        self.brake.judge(judgement.number, Instant::now());
        self.all_heard.store(judgement.all_heard, Ordering::Relaxed);
    }

    /// Queues what changed; whether everything was. Nothing is before the own cluster is known.
    fn refill(&self, progress: &mut Progress) -> bool {
        let touched = self.observed.take_touched();
        let all_heard = self.all_heard();
        if all_heard != std::mem::replace(&mut progress.all_heard, all_heard) {
            progress.seen = None;
        }
        let snapshot = self.snapshots.load_full();
        let known = self.observed.home().is_some() && snapshot.complete;
        if !self.leadership.is_leader() || !known {
            progress.start_over();
            self.memory.forget_waiting();
            return false;
        }
        let now = Instant::now();
        let sweep = progress.seen.is_none() || progress.swept + SWEEP <= now;
        if sweep {
            progress.swept = now;
            self.writer.forget_lacking();
            let all = sweep::services(&self.observed, &snapshot);
            all.into_iter().for_each(|name| progress.queue.push(name, now));
        } else if let Some(seen) = &progress.seen
            && seen.generation != snapshot.generation
        {
            let diff = snapshot.diff(seen);
            let names = diff.services.iter().filter_map(|change| change.name().cloned());
            names.for_each(|name| progress.queue.push(name, now));
        }
        // Somebody else's Service may have stood where a derived one should, and be gone.
        let derived =
            |name: &ServiceName| ServiceName::new(name.namespace(), &words::derived_name(name)).ok();
        let freed = progress.foreign.keys().filter(|name| {
            !touched.services.is_empty() && derived(name).is_some_and(|name| touched.services.contains(&name))
        });
        freed.for_each(|name| progress.queue.push(name.clone(), now + SETTLE));
        touched.services.into_iter().for_each(|name| progress.queue.push(name, now + SETTLE));
        if !touched.namespaces.is_empty() {
            let all = sweep::services(&self.observed, &snapshot).into_iter();
            let there = all.filter(|name| touched.namespaces.contains(name.namespace()));
            there.for_each(|name| progress.queue.push(name, now));
        }
        progress.seen = Some(snapshot);
        sweep
    }

    /// Whether all clusters that are configured are heard.
    pub(super) fn all_heard(&self) -> bool {
        self.all_heard.load(Ordering::Relaxed)
    }

    /// Deletes what is ours and belongs to nothing; a later sweep tries again what fails.
    async fn delete_strays(self: Arc<Self>) -> Option<Pass> {
        let strays = sweep::strays(&self.observed);
        let connection = if strays.is_empty() { None } else { self.writer.connection().await.ok() }?;
        for action in strays {
            let end = self.until()?;
            tracing::info!(object = %action.target, "deleted: it is ours and belongs to no service");
            if let Err(error) = self.writer.carry_out(&connection, &action, end).await {
                tracing::warn!("{error}");
            }
        }
        None
    }

    /// Gives workers what is due.
    fn employ(self: &Arc<Self>, progress: &mut Progress, workers: &mut JoinSet<Option<Pass>>) {
        let now = Instant::now();
        if progress.is_paused(now) {
            return;
        }
        while progress.queue.running() < WORKERS
            && let Some((name, retry)) = progress.queue.pop(now)
        {
            let blocked = progress.blocked.get(&name).filter(|_| !retry).cloned().unwrap_or_default();
            let times = progress.queue.times(&name);
            let this = self.clone();
            workers.spawn(async move { Some(this.bring_in_line(name, blocked, times).await) });
        }
    }

    fn report(&self, progress: &mut Progress) {
        let lacking = self.writer.lacking();
        let lacking = (!lacking.is_empty()).then(|| told_lacking(&lacking));
        let notices: Vec<String> = lacking.into_iter().chain(self.rivals.borrow().clone()).collect();
        if let Some(status) = progress.report(self.leadership.is_leader(), &notices) {
            *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
        }
    }
}

fn far() -> tokio::time::Instant {
    tokio::time::Instant::now() + SWEEP
}
