//! All clusters together: who is followed, and what the table is told of them as a whole.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use portolan_zones::{ClusterId, Event};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::clusterset::{Announcement, Candidate, Verdict, announce, judge};
use super::reporting::{Ends, Order, Report};
use super::spec::{Spec, Standing};
use super::tap::Tapping;
use super::{ClusterState, OwnConfig, PeerConfig, Role, Tap};

/// Batches that may wait for the table, and reports that may wait for us.
const QUEUE: usize = 64;
/// Counts and times that nobody decides by are shown so often: they change with every batch of every cluster.
const SHOW: Duration = Duration::from_millis(500);

/// What is to be followed.
#[derive(Clone, Default)]
struct Wish {
    own: Option<OwnConfig>,
    peers: Vec<PeerConfig>,
    /// Whether these are all.
    complete: bool,
}

/// Follows clusters until it is stopped or dropped.
pub(crate) struct Followers {
    wishes: watch::Sender<Wish>,
    states: watch::Receiver<Arc<[ClusterState]>>,
    end: CancellationToken,
    forwarder: Mutex<Option<JoinHandle<()>>>,
}

impl Followers {
    /// Begins to follow the own cluster, if there is one, and the peers; `None`: they are told later by
    /// [`set`](Self::set), and until then nobody is taken to be gone. Batches of events go to `feed`, which may block and
    /// says whether to go on.
    pub(crate) fn start(
        runtime: &Handle,
        role: Role,
        own: Option<OwnConfig>,
        peers: Option<Vec<PeerConfig>>,
        tap: Option<Arc<dyn Tap>>,
        mut feed: impl FnMut(Vec<Event>) -> bool + Send + 'static,
    ) -> std::io::Result<Self> {
        let (events, mut batches) = mpsc::channel::<Vec<Event>>(QUEUE);
        let forward = move || {
            while let Some(batch) = batches.blocking_recv() {
                if !feed(batch) {
                    return;
                }
            }
        };
        let forwarder = std::thread::Builder::new().name("clusters".to_owned()).spawn(forward)?;
        let wishes =
            watch::Sender::new(Wish { own, complete: peers.is_some(), peers: peers.unwrap_or_default() });
        let (shown, states) = watch::channel(Arc::default());
        let end = CancellationToken::new();
        let (reporter, reports) = mpsc::channel(QUEUE);
        let set = Set {
            role,
            runtime: runtime.clone(),
            tap,
            entries: Vec::new(),
            told: false,
            announced: Announcement::default(),
            decisions: 0,
            silent: BTreeSet::new(),
            deaf: watch::channel(false).0,
            reporter,
            events,
            shown,
            unshown: false,
        };
        let run = set.run(wishes.subscribe(), reports);
        let ended = end.clone();
        runtime.spawn(async move {
            tokio::select! {
                () = run => {}
                () = ended.cancelled() => {}
            }
        });
        Ok(Self { wishes, states, end, forwarder: Mutex::new(Some(forwarder)) })
    }

    /// Follows these peers from now on. Those that stay keep what is known of them, even with other credentials.
    /// Unless these are all that there are, `complete`, nobody is taken to be gone.
    pub(crate) fn set(&self, peers: Vec<PeerConfig>, complete: bool) {
        self.wishes.send_modify(|wish| (wish.peers, wish.complete) = (peers, complete));
    }

    /// Follows another own cluster, and these peers.
    pub(crate) fn reconfigure(&self, own: Option<OwnConfig>, peers: Vec<PeerConfig>) {
        self.wishes.send_replace(Wish { own, peers, complete: true });
    }

    /// How the clusters are, the own one first, then in the order configured.
    pub(crate) fn states(&self) -> watch::Receiver<Arc<[ClusterState]>> {
        self.states.clone()
    }

    /// Ends all tasks and waits until nothing more is fed. Not from a task of the same runtime.
    pub(crate) fn stop(&self) {
        self.end.cancel();
        let forwarder = self.forwarder.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(forwarder) = forwarder {
            // It ends when the last task that could feed it has ended.
            let _ = forwarder.join();
        }
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// The task that holds all together.
struct Set {
    role: Role,
    runtime: Handle,
    tap: Option<Arc<dyn Tap>>,
    /// The own cluster first, then in the order configured.
    entries: Vec<Entry>,
    /// Whether it is known which peers there are.
    told: bool,
    announced: Announcement,
    /// Counts the decisions about all entries.
    decisions: u64,
    /// Clusters told to be stale that were never heard: only others' words tell of them.
    silent: BTreeSet<ClusterId>,
    deaf: watch::Sender<bool>,
    reporter: mpsc::Sender<Report>,
    events: mpsc::Sender<Vec<Event>>,
    shown: watch::Sender<Arc<[ClusterState]>>,
    /// Whether something is different from what is shown.
    unshown: bool,
}

struct Entry {
    spec: Arc<Spec>,
    orders: watch::Sender<Order>,
    report: Report,
    /// The first decision about it: who does not know of that one reports of an entry before, of the same name.
    first: u64,
    /// Whoever does not know of this decision can't tell whether all that is wanted has been listed.
    wants_more: u64,
    /// The ids under which the table may have its objects.
    holds: BTreeSet<ClusterId>,
    task: Task,
}

/// A task that ends with its entry.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Set {
    async fn run(mut self, mut wishes: watch::Receiver<Wish>, mut reports: mpsc::Receiver<Report>) {
        wishes.mark_changed();
        let mut tick = tokio::time::interval(SHOW);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut decides = true;
            tokio::select! {
                changed = wishes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let wish = wishes.borrow_and_update().clone();
                    if self.take(wish).await.is_none() {
                        return;
                    }
                }
                Some(report) = reports.recv() => {
                    decides = self.hear(report);
                    // What waits is news of the same moment.
                    while let Ok(report) = reports.try_recv() {
                        decides |= self.hear(report);
                    }
                }
                _ = tick.tick(), if self.unshown => {
                    self.show();
                    continue;
                }
            }
            if !decides {
                self.unshown = true;
            } else if self.settle().await.is_none() {
                return;
            }
        }
    }

    /// Takes a report in; whether anything may have to be decided by it.
    fn hear(&mut self, report: Report) -> bool {
        let known = |entry: &&mut Entry| entry.spec.name == report.name && report.obeyed >= entry.first;
        let Some(entry) = self.entries.iter_mut().find(known) else { return false };
        if report.obeyed == entry.orders.borrow().number {
            entry.holds = report.speaks_for.iter().cloned().collect();
        }
        let before = std::mem::replace(&mut entry.report, report);
        !before.is_much_like(&entry.report)
    }

    /// Takes up what is to be followed. The table hears first from whom it is to hear, so that nobody who goes, or has less
    /// to say, is missed where home's imports still tell of them.
    async fn take(&mut self, wish: Wish) -> Option<()> {
        self.told = wish.complete;
        // Who asks for something else waits to hear whom to expect, though it be the same clusters.
        self.announced.expected = None;
        let peers = wish.peers;
        let direct = !peers.is_empty();
        let role = self.role;
        let own = wish.own.iter().map(|own| Spec::own(own, role, direct));
        let mut before = std::mem::take(&mut self.entries);
        for spec in own.chain(peers.iter().map(|peer| Spec::peer(peer, wish.own.is_none()))) {
            if self.entries.iter().any(|entry| entry.spec.name == spec.name) {
                continue;
            }
            let spec = Arc::new(spec);
            let entry = match before.iter().position(|entry| entry.spec.is_same_entry(&spec)) {
                Some(at) => self.change(before.swap_remove(at), spec),
                None => self.begin(spec),
            };
            self.entries.push(entry);
        }
        self.announce().await?;
        for entry in &mut self.entries {
            let (spec, number) = (entry.spec.clone(), entry.wants_more);
            entry.orders.send_if_modified(|order| {
                let changed = order.spec != spec;
                (order.spec, order.number) = (spec, order.number.max(number));
                changed
            });
        }
        for entry in before {
            self.end(entry).await?;
        }
        Some(())
    }

    /// Has other settings, which it is told later.
    fn change(&mut self, mut entry: Entry, spec: Arc<Spec>) -> Entry {
        if spec.wanted.iter().any(|wanted| !entry.spec.wanted.contains(wanted)) {
            self.decisions += 1;
            entry.wants_more = self.decisions;
        }
        entry.spec = spec;
        entry
    }

    fn begin(&mut self, spec: Arc<Spec>) -> Entry {
        self.decisions += 1;
        let (orders, obeyed) =
            watch::channel(Order { spec: spec.clone(), standing: Standing::Waits, number: self.decisions });
        let ends = Ends {
            orders: obeyed,
            reports: self.reporter.clone(),
            events: self.events.clone(),
            // The own cluster's silence is ours.
            deaf: if spec.name.is_some() { self.deaf.subscribe() } else { watch::channel(false).1 },
        };
        let tap = self.tap.clone().filter(|_| spec.name.is_none()).map(Tapping::new);
        let report = Report::unknown(&spec);
        let cluster = Cluster::new(ends, tap, &self.runtime);
        let task = Task(self.runtime.spawn(cluster.run()).abort_handle());
        let first = self.decisions;
        Entry { spec, orders, report, first, wants_more: first, holds: BTreeSet::new(), task }
    }

    /// Follows a cluster no longer; all that it said is gone.
    async fn end(&mut self, entry: Entry) -> Option<()> {
        // Once it has let go of this it feeds nothing any more.
        let (orders, Task(task)) = (entry.orders, &entry.task);
        task.abort();
        orders.closed().await;
        let mut spoken = entry.holds;
        spoken.retain(|id| self.entries.iter().all(|other| !other.holds.contains(id)));
        if spoken.is_empty() {
            return Some(());
        }
        self.events.send(spoken.into_iter().map(Event::Forget).collect()).await.ok()
    }

    /// Decides who is followed, tells the table, and shows how all are.
    async fn settle(&mut self) -> Option<()> {
        for (at, verdict) in self.announce().await?.into_iter().enumerate() {
            self.decide(at, verdict);
        }
        let own = self.entries.iter().find(|entry| entry.spec.name.is_none());
        let deaf = own.is_some_and(|own| !own.report.heard);
        self.deaf.send_if_modified(|known| std::mem::replace(known, deaf) != deaf);
        self.show();
        Some(())
    }

    /// Tells the table what follows from how all are.
    async fn announce(&mut self) -> Option<Vec<Verdict>> {
        let candidates: Vec<Candidate> = self.entries.iter().map(Entry::candidate).collect();
        let verdicts = judge(&candidates);
        let announcement = announce(self.role, &candidates, &verdicts, self.told);
        let mut events = announcement.news(&self.announced);
        events.extend(self.silent_ones());
        self.announced = announcement;
        if !events.is_empty() {
            self.events.send(events).await.ok()?;
        }
        Some(verdicts)
    }

    fn show(&mut self) {
        self.unshown = false;
        let states: Arc<[ClusterState]> =
            self.entries.iter().map(|entry| entry.report.state.clone()).collect();
        self.shown.send_if_modified(|shown| {
            let changed = **shown != *states;
            *shown = states;
            changed
        });
    }

    /// Has an entry told what becomes of it.
    fn decide(&mut self, at: usize, verdict: Verdict) {
        let standing = match verdict {
            Verdict::Wait => Standing::Waits,
            Verdict::Follow(id) => Standing::Follows(id),
            Verdict::Own => Standing::Own,
            Verdict::Duplicate(of, likeness) => {
                Standing::Duplicate(self.entries[of].spec.label().to_owned(), likeness)
            }
        };
        let entry = &mut self.entries[at];
        if entry.orders.borrow().standing == standing {
            return;
        }
        self.decisions += 1;
        entry.holds.extend(standing.follows().cloned());
        entry.orders.send_modify(|order| (order.standing, order.number) = (standing, self.decisions));
    }

    /// Clusters that have never been heard are stale, too, where others' words tell of them.
    fn silent_ones(&mut self) -> Vec<Event> {
        let spoken: BTreeSet<&ClusterId> = self.entries.iter().flat_map(|entry| &entry.holds).collect();
        let never = self.entries.iter().filter(|entry| entry.holds.is_empty() && entry.report.state.stale);
        let hints = never.filter_map(|entry| entry.report.identity.id()).filter(|id| !spoken.contains(id));
        let silent: BTreeSet<ClusterId> = hints.cloned().collect();
        let event = |cluster: &ClusterId, stale| Event::Stale { cluster: cluster.clone(), stale };
        // Who speaks for it now has told how it is.
        let over = self.silent.difference(&silent).filter(|id| !spoken.contains(id));
        let over = over.map(|id| event(id, false));
        let events = over.chain(silent.difference(&self.silent).map(|id| event(id, true))).collect();
        self.silent = silent;
        events
    }
}

impl Entry {
    fn candidate(&self) -> Candidate {
        let Report { state, identity, obeyed, .. } = &self.report;
        Candidate {
            identity: identity.clone(),
            hint: self.spec.pinned.id.clone(),
            accepted: self.spec.namespaces.clone(),
            holds: self.holds.clone(),
            synced: state.synced && *obeyed >= self.wants_more,
            withdrawn: state.withdrawn,
        }
    }
}
