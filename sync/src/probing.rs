//! Has endpoints asked whether they are well, as the policies of services want it, and tells the table what came of it.
//!
//! ```text
//! table ── checks ──► prober ── verdicts that changed, and how far away clusters are ──► table
//! ```

mod round_trips;

use std::collections::{HashMap, HashSet};
use std::num::{NonZeroU32, NonZeroUsize};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};
use portolan_zones::policy::explain::Probed;
use portolan_zones::policy::health::{Check, CheckKind, HealthCheck};
use portolan_zones::{ClusterId, Event};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::owner::MAX_PROBLEMS;
use crate::probes::{Budget, Changes, Kind, Probe, Prober, Target, Verdict};
pub(crate) use round_trips::RoundTrips;

/// How far away clusters are is looked at, and told, so often at most.
const PACE: Duration = Duration::from_secs(5);

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
    /// How long it takes to get to each cluster of which anything is asked, as it was last told. Sorted.
    pub round_trips: Vec<(ClusterId, Duration)>,
}

/// A running prober. Dropping it ends it.
pub(crate) struct Probing {
    runtime: Option<Runtime>,
    prober: Arc<Prober>,
    round_trips: watch::Receiver<Arc<RoundTrips>>,
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
        let (told_times, round_trips) = watch::channel(Arc::default());
        let follower = Follower {
            prober: prober.clone(),
            checks: HashMap::new(),
            told: HashSet::new(),
            times: HashMap::new(),
            told_times,
            tell: Arc::new(tell),
        };
        runtime.spawn(follower.run(wanted, changes));
        Ok(Self { runtime: Some(runtime), prober, round_trips })
    }

    /// How long it takes to get to each cluster.
    pub(crate) fn round_trips(&self) -> watch::Receiver<Arc<RoundTrips>> {
        self.round_trips.clone()
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
            round_trips: self.round_trips.borrow().iter().map(|(id, time)| (id.clone(), *time)).collect(),
        }
    }

    /// Tells what came of checks, as far as they are under way, whoever holds this prober meanwhile.
    pub(crate) fn evidence(&self) -> impl Fn(&[Check]) -> Vec<Probed> + Send + Sync + use<> {
        let prober = self.prober.clone();
        move |checks| checks.iter().filter_map(|check| probed(&prober, check)).collect()
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

fn probed(prober: &Prober, check: &Check) -> Option<Probed> {
    let target = Target { address: check.address, probe: Arc::new(probe_of(&check.how)?) };
    let verdict = prober.verdict(&target)?;
    Some(Probed {
        cluster: check.cluster.clone(),
        address: check.address,
        healthy: verdict.healthy,
        lasts: verdict.since.elapsed(),
        asked: verdict.checked.map(|at| at.elapsed()),
        rtt: verdict.rtt,
        error: verdict.error.as_deref().map(str::to_owned),
    })
}

/// Between the table and the prober.
struct Follower<T> {
    prober: Arc<Prober>,
    /// What is to be told when a target changes.
    checks: HashMap<Target, Vec<Check>>,
    /// What the table was told to be unhealthy.
    told: HashSet<Check>,
    /// How long it takes to get to each target, as far as that is known.
    times: HashMap<Target, Duration>,
    /// What the table was told of clusters.
    told_times: watch::Sender<Arc<RoundTrips>>,
    tell: Arc<T>,
}

impl<T: Fn(Vec<Event>) -> bool + Send + Sync + 'static> Follower<T> {
    async fn run(mut self, mut wanted: Wanted, mut changes: Changes) {
        wanted.mark_changed();
        // Whether there are other times or targets than when clusters were last looked at, and when they may be again.
        let (mut unseen, mut due) = (false, Instant::now());
        loop {
            let event = tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let checks = wanted.borrow_and_update().clone();
                    unseen = true;
                    checked(self.want(&checks))
                }
                changed = changes.next() => {
                    let Some(changed) = changed else { return };
                    unseen = true;
                    checked(self.learn(changed))
                }
                () = sleep_until(due), if unseen => {
                    (unseen, due) = (false, Instant::now() + PACE);
                    self.look()
                }
            };
            if self.pass_on(event).await.is_break() {
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
        self.times.clear();
        let mut all = Vec::new();
        for (target, verdict) in self.prober.verdicts() {
            let Some(checks) = self.checks.get(&target) else { continue };
            for check in checks {
                if !verdict.healthy {
                    self.told.insert(check.clone());
                }
                all.push((check.clone(), verdict.healthy));
            }
            self.times.extend(verdict.rtt.map(|time| (target, time)));
        }
        all
    }

    /// What the table does not know yet.
    fn learn(&mut self, verdicts: Vec<(Target, Verdict)>) -> Vec<(Check, bool)> {
        let mut news = Vec::new();
        for (target, Verdict { healthy, rtt, .. }) in verdicts {
            let Some(checks) = self.checks.get(&target) else { continue };
            for check in checks {
                let is_news = if healthy { self.told.remove(check) } else { self.told.insert(check.clone()) };
                news.extend(is_news.then(|| (check.clone(), healthy)));
            }
            self.times.extend(rtt.map(|time| (target, time)));
        }
        news
    }

    /// How far away clusters are, if that is news.
    fn look(&mut self) -> Option<Event> {
        let now = round_trips::medians(&self.checks, &self.times, &self.told_times.borrow());
        if !round_trips::are_news(&self.told_times.borrow(), &now) {
            return None;
        }
        self.told_times.send_replace(Arc::new(now.clone()));
        Some(Event::RoundTrips(now))
    }

    async fn pass_on(&self, event: Option<Event>) -> ControlFlow<()> {
        let Some(event) = event else {
            return ControlFlow::Continue(());
        };
        let tell = self.tell.clone();
        // The table's queue may be full: probes go on meanwhile.
        let told = spawn_blocking(move || tell(vec![event])).await;
        if told.unwrap_or(false) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

fn checked(news: Vec<(Check, bool)>) -> Option<Event> {
    (!news.is_empty()).then_some(Event::Checked(news))
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

#[cfg(test)]
mod tests;
