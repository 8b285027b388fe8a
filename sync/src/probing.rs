//! Has endpoints asked whether they are well, as the policies of services want it, and tells the table what came of it.
//!
//! ```text
//! table ── checks ──► prober ── verdicts that changed ──► table
//! ```

use std::collections::{HashMap, HashSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::ControlFlow;
use std::sync::Arc;

use http::uri::{Authority, PathAndQuery};
use portolan_zones::Event;
use portolan_zones::policy::health::{Check, CheckKind, HealthCheck};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::owner::MAX_PROBLEMS;
use crate::probes::{Budget, Changes, Kind, Probe, Prober, Target};

/// What the table wants to be asked.
pub(crate) type Wanted = watch::Receiver<Arc<HashSet<Check>>>;

/// What all health checks of this process together may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeBudget {
    /// Checks that begin, in the long run.
    pub per_second: NonZeroU32,
    /// Checks under way.
    pub in_flight: NonZeroUsize,
}

impl Default for ProbeBudget {
    fn default() -> Self {
        // Both are not 0.
        let (per_second, in_flight) =
            (NonZeroU32::MIN.saturating_add(999), NonZeroUsize::MIN.saturating_add(511));
        Self { per_second, in_flight }
    }
}

/// How health checks fare.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProbeStatus {
    /// What is asked.
    pub targets: usize,
    /// What is not healthy, and the last error. At most [`MAX_PROBLEMS`].
    pub unhealthy: Vec<(String, String)>,
    /// How many there are, listed or not.
    pub unhealthy_count: usize,
    /// By how many seconds the one that waits longest is late: the budget is too small for it.
    pub behind: f64,
}

/// A running prober. Dropping it ends it.
pub(crate) struct Probing {
    runtime: Option<Runtime>,
    prober: Arc<Prober>,
}

impl Probing {
    /// Begins to ask what is wanted; `tell` may block, and says whether to go on.
    pub(crate) fn start(
        wanted: Wanted,
        budget: ProbeBudget,
        tell: impl Fn(Vec<Event>) -> bool + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(2)
            .thread_name("probes")
            .enable_all()
            .build()?;
        let ProbeBudget { per_second, in_flight } = budget;
        let seed = u64::from(std::process::id());
        let (prober, changes) = Prober::start(runtime.handle(), Budget { per_second, in_flight }, seed);
        let prober = Arc::new(prober);
        let follower = Follower {
            prober: prober.clone(),
            checks: HashMap::new(),
            told: HashSet::new(),
            tell: Arc::new(tell),
        };
        runtime.spawn(follower.run(wanted, changes));
        Ok(Self { runtime: Some(runtime), prober })
    }

    /// How they fare.
    pub(crate) fn status(&self) -> ProbeStatus {
        let verdicts = self.prober.verdicts();
        let mut unhealthy: Vec<(String, String)> = verdicts
            .iter()
            .filter(|(_, verdict)| !verdict.healthy)
            .map(|(target, verdict)| {
                let error = verdict.error.as_deref().unwrap_or_default().to_owned();
                (target.address.to_string(), error)
            })
            .collect();
        unhealthy.sort();
        let unhealthy_count = unhealthy.len();
        unhealthy.truncate(MAX_PROBLEMS);
        ProbeStatus {
            targets: verdicts.len(),
            unhealthy,
            unhealthy_count,
            behind: self.prober.behind().as_secs_f64(),
        }
    }

    /// Ends all probes at once.
    pub(crate) fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Between the table and the prober.
struct Follower<T> {
    prober: Arc<Prober>,
    /// What is to be told when a target changes.
    checks: HashMap<Target, Vec<Check>>,
    /// What the table was told to be unhealthy.
    told: HashSet<Check>,
    tell: Arc<T>,
}

impl<T: Fn(Vec<Event>) -> bool + Send + Sync + 'static> Follower<T> {
    async fn run(mut self, mut wanted: Wanted, mut changes: Changes) {
        wanted.mark_changed();
        loop {
            let news = tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let checks = wanted.borrow_and_update().clone();
                    self.want(&checks)
                }
                changed = changes.next() => {
                    let Some(changed) = changed else { return };
                    let changed = changed.into_iter().map(|(target, verdict)| (target, verdict.healthy));
                    self.learn(changed)
                }
            };
            if self.pass_on(news).await.is_break() {
                return;
            }
        }
    }

    /// These are asked from now on; what is known of them already is news to whoever is new.
    fn want(&mut self, wanted: &HashSet<Check>) -> Vec<(Check, bool)> {
        self.checks.clear();
        for check in wanted {
            if let Some(probe) = probe_of(&check.how) {
                let target = Target { address: check.address, probe: Arc::new(probe) };
                self.checks.entry(target).or_default().push(check.clone());
            }
        }
        self.prober.set(self.checks.keys().cloned());
        // The table may have forgotten meanwhile what it was told: it is told all, and what is no news does no harm.
        self.told.clear();
        let mut all = Vec::new();
        for (target, verdict) in self.prober.verdicts() {
            for check in self.checks.get(&target).into_iter().flatten() {
                if !verdict.healthy {
                    self.told.insert(check.clone());
                }
                all.push((check.clone(), verdict.healthy));
            }
        }
        all
    }

    /// What the table does not know yet.
    fn learn(&mut self, verdicts: impl IntoIterator<Item = (Target, bool)>) -> Vec<(Check, bool)> {
        let mut news = Vec::new();
        for (target, healthy) in verdicts {
            for check in self.checks.get(&target).into_iter().flatten() {
                let is_news = if healthy { self.told.remove(check) } else { self.told.insert(check.clone()) };
                news.extend(is_news.then(|| (check.clone(), healthy)));
            }
        }
        news
    }

    async fn pass_on(&self, news: Vec<(Check, bool)>) -> ControlFlow<()> {
        if news.is_empty() {
            return ControlFlow::Continue(());
        }
        let tell = self.tell.clone();
        // The table's queue may be full: probes go on meanwhile.
        let told = spawn_blocking(move || tell(vec![Event::Checked(news)])).await;
        if told.unwrap_or(false) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// How a check asks; `None` where its words make no request.
pub(crate) fn probe_of(check: &HealthCheck) -> Option<Probe> {
    let kind = match &check.kind {
        CheckKind::Tcp => Kind::Tcp,
        CheckKind::Http { tls, path, host, status: (first, last), body } => Kind::Http {
            tls: *tls,
            path: PathAndQuery::try_from(&**path).ok()?,
            host: host.as_deref().map(Authority::try_from).transpose().ok()?,
            status: *first..=*last,
            body: body.as_deref().map(str::to_owned),
        },
        CheckKind::Grpc { tls, service } => Kind::Grpc { tls: *tls, service: service.to_string() },
    };
    let HealthCheck { interval, timeout, rise, fall, .. } = *check;
    Some(Probe { kind, interval, timeout, rise, fall })
}
