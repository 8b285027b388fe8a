//! Brings the own cluster's objects in line, service by service: what the snapshot, the watch or a new leadership touch is
//! queued, planned and carried out until nothing is left to do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use portolan_zones::{ServiceName, Snapshot};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::apply::{Connection, WriteError, Writer, kind};
use super::desired::{Trouble, VipTrouble, World, desire};
use super::election::Leadership;
use super::observed::Observed;
use super::plan::{Action, Target, Verb, plan};
use super::queue::{Outcome, Queue};
use super::{sweep, words};
use crate::kubernetes::ClusterState;
use crate::kubernetes::backoff::{Backoff, chance};
use crate::kubernetes::peers::PeerList;
use crate::owner::MAX_PROBLEMS;
use crate::publish::{Generations, Snapshots};
use crate::vip::PoolRanges;

/// Services that are written at a time.
const WORKERS: usize = 16;
/// Rounds of planning for one service: import, derived Service, import's address, slices and statuses, and some for what is
/// refused.
const ROUNDS: usize = 12;
/// The watch tells us before the snapshot has it.
const SETTLE: Duration = Duration::from_millis(30);
/// How often an address that a deleted derived Service had is asked for: the API server frees it a little later.
const TRIES: u32 = 3;
/// Between two sweeps.
const SWEEP: Duration = Duration::from_secs(600);

/// How the writing is going.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteStatus {
    /// Whether this process writes.
    pub leader: bool,
    /// Services that wait to be written, or are being written.
    pub queue: usize,
    /// Services that could not be written, and why. At most [`MAX_PROBLEMS`].
    pub failures: Vec<(String, String)>,
    /// How many there are, listed or not.
    pub failure_count: usize,
    /// Services without a virtual IP for want of addresses. At most [`MAX_PROBLEMS`].
    pub exhausted: Vec<String>,
    /// Objects of others where ours should be. At most [`MAX_PROBLEMS`].
    pub foreign: Vec<String>,
    /// Why nothing at all can be written.
    pub unreachable: Option<String>,
}

/// What it takes to reconcile.
pub(super) struct Reconciler {
    pub(super) snapshots: Snapshots,
    pub(super) observed: Arc<Observed>,
    pub(super) writer: Arc<Writer>,
    pub(super) leadership: Leadership,
    pub(super) states: watch::Receiver<Arc<[ClusterState]>>,
    pub(super) list: watch::Receiver<Arc<PeerList>>,
    /// `None`: derived Services give the virtual IPs.
    pub(super) pool: Option<PoolRanges>,
    pub(super) status: Arc<Mutex<WriteStatus>>,
}

/// What the loop remembers.
struct Progress {
    queue: Queue,
    /// What failed, until it is tried again.
    blocked: HashMap<ServiceName, Blocked>,
    foreign: BTreeMap<ServiceName, String>,
    /// The snapshot up to which all changes are queued; `None`: everything has to be looked at.
    seen: Option<Arc<Snapshot>>,
    swept: Instant,
    /// While the API server can't be asked.
    pause: Option<Instant>,
    backoff: Backoff,
    unreachable: Option<String>,
    all_heard: bool,
}

/// What a service's last attempts came to grief on.
#[derive(Debug, Clone, Default)]
struct Blocked {
    failed: BTreeSet<Target>,
    trouble: Trouble,
}

/// What came of one service.
struct Pass {
    name: ServiceName,
    outcome: Outcome,
    blocked: Blocked,
    foreign: Option<String>,
    unreachable: Option<String>,
}

impl Reconciler {
    /// Runs until it is told to end; requests under way are waited for.
    pub(super) async fn run(self, mut generations: Generations, end: CancellationToken) {
        let this = Arc::new(self);
        let mut leadership = this.leadership.clone();
        let mut states = this.states.clone();
        let mut workers: JoinSet<Pass> = JoinSet::new();
        let mut progress = Progress::new();
        loop {
            this.refill(&mut progress);
            this.employ(&mut progress, &mut workers);
            this.report(&progress);
            let due = progress.next_due().map(tokio::time::Instant::from_std);
            tokio::select! {
                () = end.cancelled() => break,
                _ = leadership.changed() => progress.start_over(),
                Ok(()) = generations.changed() => {}
                Ok(()) = states.changed() => {}
                () = this.observed.touched.notified() => {}
                Some(Ok(pass)) = workers.join_next() => progress.take(pass),
                () = tokio::time::sleep_until(due.unwrap_or_else(far)), if due.is_some() => {}
            }
        }
        while workers.join_next().await.is_some() {}
    }

    /// Queues what changed. Nothing is before the own cluster is known.
    fn refill(&self, progress: &mut Progress) {
        let touched = self.observed.take_touched();
        let all_heard = self.all_heard();
        if all_heard != std::mem::replace(&mut progress.all_heard, all_heard) {
            progress.seen = None;
        }
        let snapshot = self.snapshots.load_full();
        let known = self.observed.home().is_some() && snapshot.complete;
        if !self.leadership.is_leader() || !known {
            return progress.start_over();
        }
        let now = Instant::now();
        let sweep = progress.seen.is_none() || progress.swept + SWEEP <= now;
        if sweep {
            progress.swept = now;
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
        if sweep {
            self.delete_strays();
        }
    }

    /// Whether all clusters that are configured are heard.
    fn all_heard(&self) -> bool {
        let (list, states) = (self.list.borrow().clone(), self.states.borrow().clone());
        let settled = |state: &ClusterState| {
            state.synced || state.withdrawn || state.is_own || state.duplicate_of.is_some()
        };
        let heard = |name: &str| states.iter().any(|state| state.name == name && settled(state));
        list.complete && list.peers.iter().all(|peer| heard(&peer.name))
    }

    /// Deletes what has our label and belongs to nothing; a later sweep tries again what fails.
    fn delete_strays(&self) {
        let strays = sweep::strays(&self.observed);
        if strays.is_empty() {
            return;
        }
        let (writer, leadership) = (self.writer.clone(), self.leadership.clone());
        tokio::spawn(async move {
            let Ok(connection) = writer.connection().await else { return };
            for action in strays {
                if !leadership.is_leader() {
                    return;
                }
                tracing::info!(object = %action.target, "deleted: it is labelled as ours and belongs to no service");
                if let Err(error) = writer.carry_out(&connection, &action).await {
                    tracing::warn!("{error}");
                }
            }
        });
    }

    /// Gives workers what is due.
    fn employ(self: &Arc<Self>, progress: &mut Progress, workers: &mut JoinSet<Pass>) {
        let now = Instant::now();
        if progress.pause.is_some_and(|until| now < until) {
            return;
        }
        while progress.queue.running() < WORKERS
            && let Some((name, retry)) = progress.queue.pop(now)
        {
            let blocked = progress.blocked.get(&name).filter(|_| !retry).cloned().unwrap_or_default();
            let times = progress.queue.times(&name);
            let this = self.clone();
            workers.spawn(async move { this.bring_in_line(name, blocked, times).await });
        }
    }

    /// Plans and writes until nothing is left to do. `times`: how often that failed in a row.
    async fn bring_in_line(&self, name: ServiceName, blocked: Blocked, times: u32) -> Pass {
        let mut outcome = if blocked.failed.is_empty() { Outcome::Right } else { Outcome::Blocked };
        let mut pass = Pass { name, outcome: Outcome::Untried, blocked, foreign: None, unreachable: None };
        let connection = match self.writer.connection().await {
            Ok(connection) => connection,
            Err(error) => return Pass { unreachable: Some(error.to_string()), ..pass },
        };
        let mut done: Vec<Action> = Vec::new();
        for _ in 0..ROUNDS {
            let actions = self.next(&mut pass, connection.mcs);
            if actions.is_empty() {
                pass.outcome = outcome;
                return pass;
            }
            for action in actions {
                if !self.leadership.is_leader() {
                    return pass;
                }
                match self.write(&connection, &action, &done).await {
                    Ok(()) => done.push(action),
                    Err(WriteError::Unreachable(error)) => return Pass { unreachable: Some(error), ..pass },
                    Err(error) => {
                        outcome = Outcome::Failed(error.to_string());
                        pass.blocked.note(&action, &error, times);
                        break;
                    }
                }
            }
        }
        let unsettled = || Outcome::Failed("too much is refused at once, or others change it".to_owned());
        pass.outcome = if matches!(outcome, Outcome::Failed(_)) { outcome } else { unsettled() };
        pass
    }

    /// The next requests for a service, as everything is now.
    fn next(&self, pass: &mut Pass, mcs: &'static str) -> Vec<Action> {
        let Some(home) = self.observed.home() else { return Vec::new() };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let world = World { home, pool: self.pool.clone(), mcs, all_heard: self.all_heard(), now };
        let service = self.snapshots.load().services.get(pass.name.wire()).cloned();
        let seen = self.observed.see(&pass.name);
        let desired = desire(&pass.name, service.as_deref(), &seen, &world, &pass.blocked.trouble);
        let Some(desired) = desired else { return Vec::new() };
        pass.foreign.clone_from(&desired.foreign);
        plan(&pass.name, &desired, &seen.facts, &world, &pass.blocked.failed)
    }

    async fn write(
        &self,
        connection: &Connection,
        action: &Action,
        done: &[Action],
    ) -> Result<(), WriteError> {
        let target = &action.target;
        if done.contains(action) {
            let message = "it is not as it was just written: somebody else, or the API server, changes it";
            return Err(WriteError::Refused { target: target.clone(), code: 0, message: message.to_owned() });
        }
        match self.writer.carry_out(connection, action).await? {
            Some(json) => self.observed.wrote(kind(target.what), &json),
            None => self.observed.deleted(kind(target.what), &target.namespace, &target.name),
        }
        Ok(())
    }

    fn report(&self, progress: &Progress) {
        let failures = progress.queue.failures();
        let list = failures.iter().take(MAX_PROBLEMS);
        let exhausted = progress.blocked.iter().filter(|(_, b)| b.trouble.vip == Some(VipTrouble::Exhausted));
        let mut exhausted: Vec<_> = exhausted.map(|(name, _)| name.to_string()).collect();
        exhausted.sort();
        exhausted.truncate(MAX_PROBLEMS);
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = WriteStatus {
            leader: self.leadership.is_leader(),
            queue: progress.queue.len(),
            failures: list.map(|(name, failure)| (name.to_string(), failure.error.clone())).collect(),
            failure_count: failures.len(),
            exhausted,
            foreign: progress.foreign.values().take(MAX_PROBLEMS).cloned().collect(),
            unreachable: progress.unreachable.clone(),
        };
    }
}

impl Blocked {
    /// Remembers what was refused. What was only too late, because the object changed, needs no telling.
    fn note(&mut self, action: &Action, error: &WriteError, times: u32) {
        self.failed.insert(action.target.clone());
        let WriteError::Refused { code, .. } = error else { return };
        let late = match action.verb {
            Verb::Delete { .. } => *code == 409,
            Verb::Apply { force, .. } => force && matches!(code, 404 | 409),
        };
        match error.vip() {
            _ if late => {}
            Some(VipTrouble::Taken) if times < TRIES => {}
            Some(vip) => self.trouble.vip = Some(vip),
            None => self.trouble.other.push(error.to_string()),
        }
    }
}

impl Progress {
    fn new() -> Self {
        Self {
            queue: Queue::default(),
            blocked: HashMap::new(),
            foreign: BTreeMap::new(),
            seen: None,
            swept: Instant::now(),
            pause: None,
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(10)),
            unreachable: None,
            all_heard: false,
        }
    }

    /// Another one leads, or we just begin to: everything has to be looked at.
    fn start_over(&mut self) {
        self.queue.clear();
        self.blocked.clear();
        self.foreign.clear();
        self.seen = None;
    }

    fn next_due(&self) -> Option<Instant> {
        let sweep = self.seen.is_some().then(|| self.swept + SWEEP);
        // When workers are short, the next one that is through is what is waited for.
        let due = self.queue.next_due().filter(|_| self.queue.running() < WORKERS);
        let due = due.map(|due| self.pause.map_or(due, |pause| due.max(pause)));
        [sweep, due].into_iter().flatten().min()
    }

    fn take(&mut self, pass: Pass) {
        let Pass { name, outcome, blocked, foreign, unreachable } = pass;
        let now = Instant::now();
        match unreachable {
            Some(error) => {
                if self.pause.is_none_or(|until| until <= now) {
                    self.pause = Some(now + self.backoff.next(chance()));
                }
                if self.unreachable.as_ref() != Some(&error) {
                    tracing::warn!("nothing can be written to the own cluster: {error}");
                    self.unreachable = Some(error);
                }
            }
            None if outcome != Outcome::Untried => {
                self.pause = None;
                self.unreachable = None;
                self.backoff.reset();
            }
            None => {}
        }
        if let Some(text) = foreign {
            if self.foreign.get(&name) != Some(&text) {
                tracing::warn!("{text}");
                self.foreign.insert(name.clone(), text);
            }
        } else if outcome != Outcome::Untried {
            self.foreign.remove(&name);
        }
        if let Outcome::Failed(error) = &outcome
            && self.queue.failures().get(&name).is_none_or(|failure| failure.error != *error)
        {
            tracing::warn!(service = %name, "{error}");
        }
        if blocked.failed.is_empty() {
            self.blocked.remove(&name);
        } else {
            self.blocked.insert(name.clone(), blocked);
        }
        self.queue.done(name, outcome, now, chance());
    }
}

fn far() -> tokio::time::Instant {
    tokio::time::Instant::now() + SWEEP
}
