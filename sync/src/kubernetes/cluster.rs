//! One cluster: feels its pulse, watches its kinds, and tells the table what it says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_zones::object::{Change, ClusterEvent};
use portolan_zones::{ClusterId, Event};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::ClusterState;
use super::discovery::Topic;
use super::intake::Intake;
use super::leases::Leases;
use super::names::{Resolved, resolve};
use super::problems::About;
use super::pulse::{Pulse, feel, unix_now};
use super::silence::Silence;
use super::spec::{Spec, Standing};
use super::tap::Tapping;
use super::watch::{QUEUE, Word, watch};

/// Words that are taken in at once, at most, before the table is told.
const BATCH: usize = 512;
/// Between two judgements of how fresh it is.
const TICK: Duration = Duration::from_secs(1);

/// What the followers have decided about a cluster.
#[derive(Clone)]
pub(crate) struct Order {
    pub(crate) spec: Arc<Spec>,
    pub(crate) standing: Standing,
    /// Grows with every decision, over all clusters.
    pub(crate) number: u64,
}

/// What the followers hear of a cluster.
#[derive(Clone, PartialEq)]
pub(crate) struct Report {
    /// As its configuration has it; `None`: the own cluster.
    pub(crate) name: Option<String>,
    pub(crate) state: ClusterState,
    /// The id under which the table has its objects.
    pub(crate) speaks_for: Option<ClusterId>,
    /// The last decision that it knows of.
    pub(crate) obeyed: u64,
    /// Whether we hear it, and everything that we need of it.
    pub(crate) heard: bool,
}

impl Report {
    /// Nothing was heard yet.
    pub(crate) fn unknown(spec: &Spec) -> Self {
        let state = ClusterState::unknown(spec.label(), spec.origin);
        Self { name: spec.name.clone(), state, speaks_for: None, obeyed: 0, heard: false }
    }
}

/// Who is told what.
pub(crate) struct Ends {
    pub(crate) orders: watch::Receiver<Order>,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) events: mpsc::Sender<Vec<Event>>,
    /// Whether the own cluster can't be heard, so that nobody else's silence means anything.
    pub(crate) deaf: watch::Receiver<bool>,
}

/// See the module.
pub(crate) struct Cluster {
    ends: Ends,
    spec: Arc<Spec>,
    standing: Standing,
    tap: Option<Tapping>,
    intake: Intake,
    leases: Leases,
    silence: Silence,
    pulses: watch::Receiver<Pulse>,
    /// The task behind `pulses`.
    pulse: JoinSet<()>,
    /// The client that the watches have; 0: there are none.
    generation: u64,
    watches: JoinSet<()>,
    words: mpsc::Receiver<(Topic, Word)>,
    outages: watch::Sender<tokio::time::Instant>,
    names: watch::Sender<BTreeSet<Box<str>>>,
    resolved: mpsc::Receiver<Resolved>,
    /// The task behind `resolved`.
    _resolver: JoinSet<()>,
    /// The id under which the table has its objects.
    speaks_for: Option<ClusterId>,
    /// The last decision that was obeyed.
    obeyed: u64,
    state: ClusterState,
    reported: Option<Report>,
}

impl Cluster {
    pub(crate) fn new(ends: Ends, tap: Option<Tapping>, runtime: &Handle) -> Self {
        let _entered = runtime.enter();
        let Order { spec, standing, number } = ends.orders.borrow().clone();
        let (names, wanted) = watch::channel(Default::default());
        let (answers, resolved) = mpsc::channel(QUEUE);
        let mut resolver = JoinSet::new();
        resolver.spawn(resolve(wanted, answers));
        let mut cluster = Self {
            intake: Intake::new(spec.label()),
            state: Report::unknown(&spec).state,
            ends,
            standing,
            tap,
            leases: Leases::default(),
            silence: Silence::new(Instant::now()),
            pulses: watch::channel(Pulse::default()).1,
            pulse: JoinSet::new(),
            generation: 0,
            watches: JoinSet::new(),
            words: mpsc::channel(1).1,
            outages: watch::channel(tokio::time::Instant::now()).0,
            names,
            resolved,
            _resolver: resolver,
            speaks_for: None,
            obeyed: number,
            reported: None,
            spec,
        };
        cluster.connect();
        cluster.intake.listen(&cluster.topics(), cluster.spec.namespaces.as_ref());
        cluster
    }

    /// Runs until it is dropped, or nobody listens.
    pub(crate) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.step(&mut tick).await.is_some() {}
    }

    /// Waits for one thing to happen, and does what follows.
    async fn step(&mut self, tick: &mut tokio::time::Interval) -> Option<()> {
        let mut events = Vec::new();
        let mut began = None;
        tokio::select! {
            Some((topic, word)) = self.words.recv() => {
                began = Some(Instant::now());
                self.hear(topic, word);
                for _ in 1..BATCH {
                    let Ok((topic, word)) = self.words.try_recv() else { break };
                    self.hear(topic, word);
                }
            }
            changed = self.pulses.changed(), if !self.pulse.is_empty() => match changed {
                Ok(()) => self.felt(),
                // It never ends by itself, but if it did it would have to be begun anew.
                Err(_) => self.connect(),
            },
            changed = self.ends.orders.changed() => {
                changed.ok()?;
                self.obey(&mut events);
            }
            Some((name, answer)) = self.resolved.recv() => self.intake.resolved(&name, answer),
            _ = tick.tick() => {}
        }
        self.judge(&mut events);
        self.tell(&mut events);
        if !events.is_empty() {
            self.ends.events.send(events).await.ok()?;
            self.state.lag = began.map(|began| began.elapsed()).or(self.state.lag);
        }
        self.report().await
    }

    fn hear(&mut self, topic: Topic, word: Word) {
        if let Some(tap) = &mut self.tap {
            tap.hear(topic, &word);
        }
        if topic == Topic::Lease {
            self.leases.hear(&word, Instant::now());
        }
        self.intake.hear(topic, word, Instant::now());
    }

    /// Begins to feel the pulse, with the credentials of the configuration. Watches with others end.
    fn connect(&mut self) {
        let (sender, pulses) = watch::channel(Pulse::default());
        self.pulses = pulses;
        self.pulse = JoinSet::new();
        self.pulse.spawn(feel(self.spec.access.clone(), self.spec.stale_after, sender));
        self.watches = JoinSet::new();
        self.generation = 0;
    }

    /// The API server was asked.
    fn felt(&mut self) {
        let pulse = self.pulses.borrow_and_update().clone();
        let problems = &mut self.intake.problems;
        match &pulse.error {
            Some(error) => problems.set(About::Server, error.clone()),
            None => problems.clear(&About::Server),
        }
        if pulse.contact.is_none() {
            return;
        }
        match &pulse.unknown {
            Some(text) => problems.set(About::Uid, text.clone()),
            None => problems.clear(&About::Uid),
        }
        if pulse.error.is_none() && pulse.generation != self.generation {
            self.watch();
        }
        if let Some(began) = pulse.outage {
            self.outages.send_if_modified(|known| std::mem::replace(known, began) != began);
        }
    }

    /// What is watched now: who is not followed is only asked who it is.
    fn topics(&self) -> Vec<Topic> {
        let followed = self.speaks_for.is_some() && !self.state.withdrawn;
        let all = self.spec.wanted.iter().map(|wanted| wanted.topic);
        all.filter(|topic| followed || *topic == Topic::ClusterProperty).collect()
    }

    /// Begins all watches anew; what is known stays, and the lists tell what still holds.
    fn watch(&mut self) {
        self.watches = JoinSet::new();
        let topics = self.topics();
        self.intake.listen(&topics, self.spec.namespaces.as_ref());
        let pulse = self.pulses.borrow();
        let Some(client) = &pulse.client else { return };
        self.generation = pulse.generation;
        let (sender, words) = mpsc::channel(QUEUE);
        self.words = words;
        for wanted in self.spec.wanted.iter().filter(|wanted| topics.contains(&wanted.topic)) {
            let outages = self.outages.subscribe();
            self.watches.spawn(watch(client.clone(), wanted.clone(), sender.clone(), outages));
        }
    }

    /// Does what the followers decided.
    fn obey(&mut self, events: &mut Vec<Event>) {
        let Order { spec, standing, number } = self.ends.orders.borrow_and_update().clone();
        self.obeyed = number;
        let before = std::mem::replace(&mut self.spec, spec);
        if before.network != self.spec.network
            && let Some(id) = &self.speaks_for
        {
            events.push(Event::Network { cluster: id.clone(), network: self.spec.network.clone() });
        }
        let moved = self.stand(standing, events);
        if before.access != self.spec.access || before.stale_after != self.spec.stale_after {
            self.connect();
        } else if moved || before.wanted != self.spec.wanted || before.namespaces != self.spec.namespaces {
            self.watch();
        }
    }

    /// Takes its place among the others; whether it is followed otherwise than before.
    fn stand(&mut self, standing: Standing, events: &mut Vec<Event>) -> bool {
        self.standing = standing;
        match self.standing.duplicate_of() {
            Some(other) => {
                let text = format!(
                    "it is not followed, for {other} is the same cluster or has the same id, and came first"
                );
                self.intake.problems.set(About::Duplicate, text);
            }
            None => self.intake.problems.clear(&About::Duplicate),
        }
        let id = self.standing.follows().cloned();
        if id == self.speaks_for {
            return false;
        }
        self.intake.forget();
        (self.state.synced, self.state.withdrawn) = (false, false);
        events.extend(std::mem::replace(&mut self.speaks_for, id).map(Event::Forget));
        if let Some(cluster) = self.speaks_for.clone() {
            events.push(Event::Network { cluster: cluster.clone(), network: self.spec.network.clone() });
            events.push(Event::Stale { cluster, stale: self.state.stale });
        }
        true
    }

    /// Judges how fresh it is, and what follows from that.
    fn judge(&mut self, events: &mut Vec<Event>) {
        let (now, deaf) = (Instant::now(), *self.ends.deaf.borrow());
        let pulse = self.pulses.borrow();
        let contact = pulse.contact.map(tokio::time::Instant::into_std);
        let contact = contact.map(|contact| self.intake.deaf_since().map_or(contact, |at| at.min(contact)));
        if let Some(contact) = contact {
            self.silence.heard(contact);
        }
        let reachable = pulse.is_reachable();
        drop(pulse);
        let silent = self.silence.judge(now, deaf);
        let stale = silent >= self.spec.stale_after;
        let withdrawn = self.spec.withdraw_after.is_some_and(|after| silent >= after);
        if self.spec.has_leases() {
            events.extend(self.leases.judge(now, !reachable || self.intake.is_broken(Topic::Lease)));
        }
        if stale != self.state.stale {
            self.state.stale = stale;
            self.log_staleness();
            events.extend(self.speaks_for.clone().map(|cluster| Event::Stale { cluster, stale }));
        }
        if withdrawn != self.state.withdrawn {
            self.state.withdrawn = withdrawn;
            if let (true, Some(cluster)) = (withdrawn, self.speaks_for.clone()) {
                events.push(Event::Cluster(ClusterEvent { cluster, change: Change::Reset(Vec::new()) }));
                self.intake.forget();
                self.state.synced = false;
            }
            self.watch();
        }
    }

    fn log_staleness(&self) {
        let cluster = self.spec.label();
        if self.state.stale {
            tracing::warn!(
                cluster,
                "not heard for {:?}: what is known of it may be out of date",
                self.spec.stale_after
            );
        } else {
            tracing::info!(cluster, "heard again");
        }
    }

    /// What is new, for the table.
    fn tell(&mut self, events: &mut Vec<Event>) {
        let Some(cluster) = &self.speaks_for else {
            self.intake.take_changes();
            return;
        };
        let changes = self.intake.take_changes();
        if !changes.is_empty() {
            self.state.changed_at = Some(unix_now());
        }
        let event = |change| Event::Cluster(ClusterEvent { cluster: cluster.clone(), change });
        events.extend(changes.into_iter().map(event));
        if !self.state.synced && !self.state.withdrawn && self.intake.is_complete() {
            self.state.synced = true;
            events.push(event(Change::Synced));
            if let Some(tap) = &self.tap {
                tap.synced(cluster);
            }
        }
        let names = self.intake.take_wanted_names();
        if let Some(names) = names {
            self.names.send_replace(names);
        }
    }

    /// Tells the followers how it is, if that is new.
    async fn report(&mut self) -> Option<()> {
        self.identify();
        let pulse = self.pulses.borrow().clone();
        let state = &mut self.state;
        state.reachable = pulse.is_reachable();
        (state.uid, state.version) = (pulse.uid.or(state.uid.take()), pulse.version.or(state.version.take()));
        state.contact_at = pulse.contact_at.or(state.contact_at);
        state.objects = self.intake.counts();
        (state.refused_exports, state.refused) = self.intake.refused_exports();
        (state.is_own, state.duplicate_of) = (self.standing == Standing::Own, self.standing.duplicate_of());
        state.problems = self.intake.problems.texts();
        let report = Report {
            name: self.spec.name.clone(),
            state: self.state.clone(),
            speaks_for: self.speaks_for.clone(),
            obeyed: self.obeyed,
            heard: self.state.reachable && self.intake.deaf_since().is_none(),
        };
        if self.reported.as_ref() != Some(&report) {
            self.reported = Some(report.clone());
            self.ends.reports.send(report).await.ok()?;
        }
        Some(())
    }

    /// Finds out which id it has: by its own word, else by configuration, else what it was.
    fn identify(&mut self) {
        if !self.intake.knows_id() {
            return;
        }
        let said = self.intake.id().or(self.spec.id.as_ref()).cloned();
        let problems = &mut self.intake.problems;
        match (said, &self.state.id) {
            (Some(id), _) => {
                problems.clear(&About::Identity);
                self.state.id = Some(id);
            }
            (None, Some(id)) => problems.set(
                About::Identity,
                format!("it no longer has the ClusterProperty cluster.clusterset.k8s.io: it is taken for `{id}` as before"),
            ),
            (None, None) => problems.set(
                About::Identity,
                "it has no id, so that it can't be followed: make the ClusterProperty cluster.clusterset.k8s.io in it, \
                 or configure its id"
                    .to_owned(),
            ),
        }
    }
}
