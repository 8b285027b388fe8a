//! The owner of the table: one thread that takes batches in, settles virtual IPs, compiles and publishes.
//!
//! A batch is applied whole before anything is published, so that readers never see half of it. Batches that wait
//! are taken together. The state file is written from here, at most once a second, after what is new has been published.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use portolan_zones::object::{Change, ClusterEvent, Object, ObjectKey, UnixTime};
use portolan_zones::policy::health::Check;
use portolan_zones::{Event, Now, Service, ServiceName, Snapshot, Table, VipDemand, Zones, compile};

use tokio::sync::watch;

use crate::publish::{Generations, Publisher, Snapshots};
use crate::state_file::{self, Saver, StateFileError};
use crate::vip::{PoolRanges, VipPool, Vips};

/// How the pool of virtual IPs is run.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolConfig {
    /// Where addresses come from.
    pub ranges: PoolRanges,
    /// How long a freed address is kept from other services.
    pub quarantine: Duration,
    /// Where assignments are remembered; `None`: a restart chooses anew.
    pub state_file: Option<PathBuf>,
}

/// What the owner is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Applied whole, published once.
    Events(Vec<Event>),
    /// Other zones to answer.
    Zones(Arc<Zones>),
    /// Another pool, or none.
    Pool(Option<PoolConfig>),
    /// Save and end.
    Stop,
}

/// How the owner fares, for `/status` and metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnerStatus {
    /// Services with addresses of the pool.
    pub pool_services: usize,
    /// Services that lack addresses of the pool, and why. At most [`MAX_PROBLEMS`].
    pub vip_problems: Vec<String>,
    /// How many there are, listed or not.
    pub vip_problem_count: usize,
    /// The state file's last error; gone when it could be written again.
    pub state_file_error: Option<String>,
    /// Exports that don't count: service, cluster, reason as the MCS API spells it. At most [`MAX_PROBLEMS`].
    pub invalid_exports: Vec<(String, String, &'static str)>,
    /// How many there are, listed or not.
    pub invalid_export_count: usize,
    /// TrafficPolicies that don't hold for all that they are about: cluster, policy, why. At most [`MAX_PROBLEMS`] of other
    /// clusters than the own one.
    pub policy_problems: Vec<(String, String, String)>,
}

/// Most problems of one sort that a status lists.
pub const MAX_PROBLEMS: usize = 100;
/// Batches that may wait before sources have to.
const QUEUE: usize = 64;
/// Between two writes of the state file, and how long an idle owner sleeps.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Between two tellings of what is to be checked: it is told whole.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Rounds of settling: an address that changes hands moves its old owner, which seldom moves a third service.
const ROUNDS: usize = 4;

/// A running owner.
pub(crate) struct Owner {
    sender: SyncSender<Message>,
    snapshots: Snapshots,
    generations: Generations,
    status: Arc<Mutex<OwnerStatus>>,
    checks: watch::Receiver<Arc<HashSet<Check>>>,
    thread: Option<JoinHandle<()>>,
}

impl Owner {
    /// Starts the thread. Its first snapshot says that nothing is known yet.
    pub(crate) fn start(zones: Arc<Zones>, pool: Option<PoolConfig>) -> std::io::Result<Self> {
        let publisher = Publisher::new(Snapshot::unsynced(zones.clone()));
        let (snapshots, generations) = (publisher.snapshots(), publisher.generations());
        let status = Arc::new(Mutex::new(OwnerStatus::default()));
        let (sender, receiver) = sync_channel(QUEUE);
        let mut state = State::new(zones, pool, status.clone(), true);
        let checks = state.checks.subscribe();
        let run = move || state.run(&receiver, publisher);
        let thread = std::thread::Builder::new().name("table".into()).spawn(run)?;
        Ok(Self { sender, snapshots, generations, status, checks, thread: Some(thread) })
    }

    /// Where sources send to; a full queue makes them wait.
    pub(crate) fn sender(&self) -> SyncSender<Message> {
        self.sender.clone()
    }

    pub(crate) fn snapshots(&self) -> Snapshots {
        self.snapshots.clone()
    }

    /// Changes with every snapshot that is published.
    pub(crate) fn generations(&self) -> Generations {
        self.generations.clone()
    }

    /// What is to be asked whether it is well.
    pub(crate) fn checks(&self) -> watch::Receiver<Arc<HashSet<Check>>> {
        self.checks.clone()
    }

    /// How it fares, as it is at any time.
    pub(crate) fn shown(&self) -> Arc<Mutex<OwnerStatus>> {
        self.status.clone()
    }

    pub(crate) fn status(&self) -> OwnerStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has everything saved and ends the thread.
    pub(crate) fn stop(&mut self) {
        // An owner that is gone needs no telling.
        let _ = self.sender.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One snapshot from these events, as a running owner would publish it; the state file is read and left alone.
pub(crate) fn compile_once(
    events: Vec<Event>,
    zones: Arc<Zones>,
    pool: Option<PoolConfig>,
    now: UnixTime,
) -> (Snapshot, OwnerStatus) {
    let status = Arc::new(Mutex::new(OwnerStatus::default()));
    let mut state = State::new(zones.clone(), pool, status.clone(), false);
    state.restore(now);
    events.into_iter().for_each(|event| state.table.apply(event));
    let first = Snapshot::unsynced(zones);
    let snapshot = state.advance(&first, now.into()).unwrap_or(first);
    let status = status.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (snapshot, status)
}

struct State {
    table: Table,
    zones: Arc<Zones>,
    pool: VipPool,
    /// `None`: only imports have virtual IPs.
    config: Option<PoolConfig>,
    status: Arc<Mutex<OwnerStatus>>,
    /// Services that lack addresses, and why, until they have them.
    wanting: BTreeMap<ServiceName, String>,
    /// Whether the state file may be touched.
    writes: bool,
    /// The state file may hold what is not known: it must not be replaced before it could be read.
    unread: bool,
    saver: Option<Saver>,
    /// What is to be asked whether it is well.
    checks: watch::Sender<Arc<HashSet<Check>>>,
    /// When that was last told.
    asked: Option<Instant>,
    /// Whether anything was taken in since the last report: some of it shows in no snapshot.
    unreported: bool,
}

impl State {
    fn new(
        zones: Arc<Zones>,
        config: Option<PoolConfig>,
        status: Arc<Mutex<OwnerStatus>>,
        writes: bool,
    ) -> Self {
        let (ranges, quarantine) = pool_settings(config.as_ref());
        let pool = VipPool::new(ranges, quarantine);
        Self {
            table: Table::default(),
            zones,
            pool,
            config,
            status,
            wanting: BTreeMap::new(),
            writes,
            unread: true,
            saver: None,
            checks: watch::Sender::default(),
            asked: None,
            unreported: true,
        }
    }

    fn run(&mut self, receiver: &Receiver<Message>, mut publisher: Publisher) {
        let began = Instant::now();
        self.restore(unix_now());
        let mut saved = Instant::now();
        loop {
            let message = receiver.recv_timeout(SAVE_EVERY);
            let stop = match message {
                Ok(first) => {
                    std::iter::once(first).chain(receiver.try_iter().take(QUEUE)).any(|m| self.take(m))
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if let Some(next) =
                self.advance(&publisher.current(), Now { wall: unix_now(), steady: seconds(began.elapsed()) })
            {
                tracing::debug!(generation = next.generation, serial = next.serial, "published");
                publisher.publish(next);
            }
            publisher.sweep();
            if stop || saved.elapsed() >= SAVE_EVERY {
                self.save(stop);
                saved = Instant::now();
            }
            if stop {
                return;
            }
        }
    }

    /// Takes one message in; whether it was the last one.
    fn take(&mut self, message: Message) -> bool {
        self.unreported = true;
        match message {
            Message::Events(events) => {
                if events.iter().any(may_free) {
                    self.pool.reopen();
                }
                events.into_iter().for_each(|event| self.table.apply(event));
            }
            Message::Zones(zones) => self.zones = zones,
            Message::Pool(config) => {
                let (ranges, quarantine) = pool_settings(config.as_ref());
                self.pool.reconfigure(ranges, quarantine);
                for (service, ips) in self.pool.in_ranges() {
                    self.table.apply(Event::Vips { service: service.clone(), ips });
                }
                let before = std::mem::replace(&mut self.config, config);
                let moved = state_file_of(before.as_ref()) != self.state_file();
                if moved {
                    self.saver = None;
                    self.unread = true;
                    self.pool.keep_changed();
                }
            }
            Message::Stop => return true,
        }
        false
    }

    /// Gives addresses to who needs them, then compiles.
    fn advance(&mut self, previous: &Snapshot, now: Now) -> Option<Snapshot> {
        self.pool.end_quarantines(now.wall);
        let again = self.ask_again();
        for _ in 0..ROUNDS {
            let demands = self.table.settle();
            if again {
                let wants =
                    |service: &ServiceName| demands.binary_search_by(|d| d.service.cmp(service)).is_ok();
                self.wanting.retain(|service, _| wants(service));
            }
            let mut given = false;
            for demand in demands {
                given |= self.meet(demand, now.wall);
            }
            if !given {
                break;
            }
        }
        if self.table.is_complete() {
            self.pool.free_unclaimed(now.wall);
        }
        let next = compile(&mut self.table, &self.zones, previous, now);
        if self.asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY)
            && let Some(checks) = self.table.take_checks()
        {
            self.checks.send_replace(Arc::new(checks));
            self.asked = Some(Instant::now());
        }
        if let Some(next) = &next {
            let lacks =
                |name: &ServiceName| next.services.get(name.wire()).is_some_and(|s| lacks_addresses(s));
            self.wanting.retain(|service, _| lacks(service));
        }
        if std::mem::take(&mut self.unreported) || next.is_some() || again {
            self.report();
        }
        next
    }

    /// Has the services that were refused ask once more, if an address may have become free; whether they do.
    fn ask_again(&mut self) -> bool {
        if !self.pool.take_reopened() || self.wanting.is_empty() {
            return false;
        }
        for service in self.wanting.keys() {
            let ips = self.pool.assigned(service).map(Vips::from).unwrap_or_default();
            self.table.apply(Event::Vips { service: service.clone(), ips });
        }
        true
    }

    /// Gives a service the addresses that it wants; whether that changed anything.
    fn meet(&mut self, demand: VipDemand, now: UnixTime) -> bool {
        if self.config.is_none() {
            return false;
        }
        if self.wanting.contains_key(&demand.service) && self.pool.is_full_for(&demand) {
            return false;
        }
        let before = self.pool.assigned(&demand.service).map(Vips::from).unwrap_or_default();
        let table = &self.table;
        let claimed = |ip| table.import_owner(ip).is_some_and(|owner| *owner != demand.service);
        let (ips, failure) = self.pool.allocate(&demand, claimed, now);
        if let Some(problem) = failure.map(|failure| failure.to_string()) {
            if self.wanting.insert(demand.service.clone(), problem.clone()).as_ref() != Some(&problem) {
                tracing::warn!("{problem}");
            }
        } else {
            self.wanting.remove(&demand.service);
        }
        let given = before != ips;
        self.table.apply(Event::Vips { service: demand.service, ips });
        given
    }

    fn report(&self) {
        let invalid = self.table.invalid_exports().take(MAX_PROBLEMS);
        let invalid =
            invalid.map(|(name, cluster, why)| (name.to_string(), cluster.to_string(), why.as_str()));
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.vip_problems = self.wanting.values().take(MAX_PROBLEMS).cloned().collect();
        status.vip_problem_count = self.wanting.len();
        status.invalid_exports = invalid.collect();
        status.invalid_export_count = self.table.invalid_exports().count();
        status.pool_services = self.pool.len();
        status.policy_problems.clear();
        // The own cluster's come first, and are never crowded out by those of others.
        let (own, mut others): (Vec<_>, Vec<_>) =
            self.table.overridden_policies().partition(|(cluster, ..)| self.table.is_home(cluster));
        others.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        let told = own.into_iter().chain(others.into_iter().take(MAX_PROBLEMS));
        let told =
            told.map(|(cluster, policy, why)| (cluster.to_string(), policy.to_string(), why.to_string()));
        status.policy_problems.extend(told);
    }

    /// Takes up what the state file remembers, unless it can't be read; then it is left alone.
    fn restore(&mut self, now: UnixTime) {
        let Some(path) = self.state_file().map(Path::to_owned) else { return };
        let path = &path;
        let loaded = state_file::load(path, self.writes);
        self.unread = !matches!(loaded, Ok(_) | Err(StateFileError::Corrupt { .. }));
        if let Ok(Some(memory)) = loaded {
            let refused = self.pool.restore(memory, now);
            if refused > 0 {
                tracing::warn!(file = %path.display(), refused, "entries of the state file make no sense and were left out");
            }
            self.state_file_failed(None);
        } else {
            self.state_file_failed(loaded.err().map(|error| error.to_string()));
        }
    }

    /// Has the state file written if there is anything new. At the end it waits: for a write that is under way, which
    /// may lack the newest, and for one more.
    fn save(&mut self, last: bool) {
        let Some(path) = self.state_file().filter(|_| self.writes).map(Path::to_owned) else { return };
        if self.unread {
            self.restore(unix_now());
        }
        if self.unread {
            return;
        }
        let saver = self.saver.get_or_insert_with(|| Saver::start(path));
        if let Some(result) = if last { saver.wait() } else { saver.result() } {
            if result.is_some() {
                self.pool.keep_changed();
            }
            self.state_file_failed(result);
        }
        let Some(saver) = &mut self.saver else { return };
        if saver.is_idle()
            && let Some(memory) = self.pool.take_memory()
        {
            saver.write(memory);
        }
        if last && let Some(error) = self.saver.take().and_then(Saver::finish) {
            self.state_file_failed(Some(error));
        }
    }

    fn state_file(&self) -> Option<&Path> {
        state_file_of(self.config.as_ref())
    }

    fn state_file_failed(&self, error: Option<String>) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = error.as_ref().filter(|error| status.state_file_error.as_ref() != Some(error)) {
            tracing::error!("{error}");
        }
        status.state_file_error = error;
    }
}

/// No pool has no ranges.
fn pool_settings(config: Option<&PoolConfig>) -> (PoolRanges, UnixTime) {
    config.map_or((PoolRanges { ipv4: None, ipv6: None }, 0), |pool| {
        (pool.ranges.clone(), seconds(pool.quarantine))
    })
}

fn state_file_of(config: Option<&PoolConfig>) -> Option<&Path> {
    config?.state_file.as_deref()
}

/// Whether an import may have let go of an address that the pool could give.
fn may_free(event: &Event) -> bool {
    let Event::Cluster(ClusterEvent { change, .. }) = event else {
        return matches!(event, Event::Forget(_) | Event::Home(_));
    };
    matches!(
        change,
        Change::Apply(Object::Import(_)) | Change::Delete(ObjectKey::Import(_)) | Change::Reset(_)
    )
}

fn lacks_addresses(service: &Service) -> bool {
    !service.headless && service.ips.len() < service.spec.ip_families.len().max(1)
}

fn seconds(duration: Duration) -> UnixTime {
    duration.as_secs().try_into().unwrap_or(UnixTime::MAX / 2)
}

fn unix_now() -> UnixTime {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, seconds)
}

#[cfg(test)]
mod tests;
