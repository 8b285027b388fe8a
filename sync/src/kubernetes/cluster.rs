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
use super::connection::Connection;
use super::discovery::Topic;
use super::identity::{Identity, Stranger};
use super::intake::Intake;
use super::leases::Leases;
use super::names::{Resolved, resolve, system};
use super::problems::About;
use super::pulse::unix_now;
use super::reporting::{Ends, Order, Report};
use super::silence::Silence;
use super::spec::{Spec, Standing};
use super::tap::Tapping;
use super::watch::{QUEUE, Word, watch};

/// Words that are taken in at once, at most, before the table is told.
const BATCH: usize = 512;
/// Between two judgements of how fresh it is, and at least between two reports of mere counts and times.
const TICK: Duration = Duration::from_secs(1);

/// The task that does it.
pub(crate) struct Cluster {
    ends: Ends,
    spec: Arc<Spec>,
    standing: Standing,
    tap: Option<Tapping>,
    intake: Intake,
    leases: Leases,
    silence: Silence,
    connection: Connection,
    /// The client that the watches have, and what they watch; `None`: they are to begin anew.
    watched: Option<(u64, Vec<Topic>)>,
    watches: JoinSet<()>,
    words: mpsc::Receiver<(Topic, Word)>,
    outages: watch::Sender<tokio::time::Instant>,
    names: watch::Sender<BTreeSet<Box<str>>>,
    resolved: mpsc::Receiver<Resolved>,
    /// The task behind `resolved`.
    _resolver: JoinSet<()>,
    identity: Identity,
    /// The id under which the table has its objects.
    speaks_for: Option<ClusterId>,
    /// The last decision that was obeyed.
    obeyed: u64,
    state: ClusterState,
    reported: Option<(Report, Instant)>,
}

impl Cluster {
    pub(crate) fn new(ends: Ends, tap: Option<Tapping>, runtime: &Handle) -> Self {
        let _entered = runtime.enter();
        let Order { spec, standing, number } = ends.orders.borrow().clone();
        let (names, wanted) = watch::channel(Default::default());
        let (answers, resolved) = mpsc::channel(QUEUE);
        let mut resolver = JoinSet::new();
        resolver.spawn(resolve(system, wanted, answers));
        Self {
            intake: Intake::new(spec.label(), spec.name.is_none()),
            state: Report::unknown(&spec).state,
            ends,
            standing,
            tap,
            leases: Leases::default(),
            silence: Silence::new(Instant::now()),
            connection: Connection::new(spec.access.clone(), spec.stale_after),
            watched: None,
            watches: JoinSet::new(),
            words: mpsc::channel(1).1,
            outages: watch::channel(tokio::time::Instant::now()).0,
            names,
            resolved,
            _resolver: resolver,
            identity: spec.identity(),
            speaks_for: None,
            obeyed: number,
            reported: None,
            spec,
        }
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
            () = self.connection.asked() => self.felt(),
            changed = self.ends.orders.changed() => {
                changed.ok()?;
                self.obey(&mut events);
            }
            Some((name, answer)) = self.resolved.recv() => self.intake.resolved(&name, answer),
            _ = tick.tick() => {}
        }
        self.identify();
        self.judge(&mut events);
        self.attend();
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

    /// An API server was asked.
    fn felt(&mut self) {
        self.take_over();
        let pulse = self.connection.pulse();
        let problems = &mut self.intake.problems;
        problems.found(About::Server, pulse.error);
        if pulse.contact.is_none() {
            return;
        }
        problems.found(About::Uid, pulse.unknown);
        self.identity.answers(pulse.uid.as_ref());
        if let Some(began) = pulse.outage {
            self.outages.send_if_modified(|known| std::mem::replace(known, began) != began);
        }
    }

    /// New credentials take the place of those that work once the same cluster answers to them, as far as its UID tells.
    fn take_over(&mut self) {
        let mut problem = None;
        if let Some(next) = self.connection.next_pulse() {
            let mut identity = self.identity.clone();
            identity.meets(next.uid.clone());
            let stranger = identity.stranger().and_then(|_| identity.problem(self.spec.origin));
            problem = next.error.or(stranger);
            if problem.is_none() && next.contact.is_some() {
                self.connection.take_over();
                self.meet(next.uid);
            }
        }
        let text = |text| format!("the new credentials can't be used, and the former ones count on: {text}");
        self.intake.problems.found(About::Credentials, problem.map(text));
    }

    /// Somebody else may answer from now on: they are asked first who they are.
    fn meet(&mut self, uid: Option<String>) {
        self.identity.meets(uid);
        self.intake.forget_id();
        self.watched = None;
    }

    /// What is of interest: of who is not followed only who it is.
    fn topics(&self) -> Vec<Topic> {
        let all = self.spec.wanted.iter().map(|wanted| wanted.topic);
        all.filter(|topic| self.speaks_for.is_some() || *topic == Topic::ClusterProperty).collect()
    }

    /// Watches what is to be watched now. What is known stays, and the lists tell what still holds. Of a stranger, and
    /// until it is clear whether it is one, only who it is can be of interest, so that what was known of the one in whose
    /// place it is holds.
    fn attend(&mut self) {
        let pulse = self.connection.pulse();
        let topics = self.topics();
        let mut watched = topics.clone();
        match self.identity.stranger() {
            Some(Stranger::Uid { .. }) => watched.clear(),
            None if self.identity.asked => {}
            _ => watched.retain(|topic| *topic == Topic::ClusterProperty),
        }
        let now = (pulse.generation, watched);
        if self.watched.as_ref() == Some(&now) {
            return;
        }
        self.intake.listen(&topics, self.spec.namespaces.as_ref());
        self.watches = JoinSet::new();
        let (_, watched) = self.watched.insert(now);
        let Some(client) = &pulse.client else { return };
        let (sender, words) = mpsc::channel(QUEUE);
        self.words = words;
        for wanted in self.spec.wanted.iter().filter(|wanted| watched.contains(&wanted.topic)) {
            let outages = self.outages.subscribe();
            self.watches.spawn(watch(client.clone(), wanted.clone(), sender.clone(), outages));
        }
    }

    /// Does what the followers decided.
    fn obey(&mut self, events: &mut Vec<Event>) {
        let Order { spec, standing, number } = self.ends.orders.borrow_and_update().clone();
        self.obeyed = number;
        let before = std::mem::replace(&mut self.spec, spec);
        if let Some(id) = &self.speaks_for {
            if before.network != self.spec.network {
                events.push(Event::Network { cluster: id.clone(), network: self.spec.network.clone() });
            }
            if before.labels != self.spec.labels {
                events.push(Event::Labels { cluster: id.clone(), labels: self.spec.labels.clone() });
            }
        }
        self.identity.configured.clone_from(&self.spec.id);
        let good = self.identity.stranger().is_none();
        if self.connection.set(&self.spec.access, self.spec.stale_after, good) {
            self.meet(None);
        }
        self.take_over();
        if before.wanted != self.spec.wanted || before.namespaces != self.spec.namespaces {
            self.watched = None;
        }
        if !self.spec.has_leases() {
            events.extend(self.leases.take_back());
        }
        if before.wanted != self.spec.wanted {
            // Until it is clear that what is wanted now has been listed, too.
            self.state.synced = false;
        }
        self.stand(standing, events);
    }

    /// Takes its place among the others.
    fn stand(&mut self, standing: Standing, events: &mut Vec<Event>) {
        self.standing = standing;
        self.intake.problems.found(About::Duplicate, self.standing.problem());
        let id = self.standing.follows().cloned();
        if id == self.speaks_for {
            return;
        }
        self.begin_anew();
        self.state.withdrawn = false;
        events.extend(std::mem::replace(&mut self.speaks_for, id).map(Event::Forget));
        if let Some(cluster) = self.speaks_for.clone() {
            events.push(Event::Network { cluster: cluster.clone(), network: self.spec.network.clone() });
            events.push(Event::Labels { cluster: cluster.clone(), labels: self.spec.labels.clone() });
            events.push(Event::Stale { cluster, stale: self.state.stale });
        }
    }

    /// Everything is listed and told anew.
    fn begin_anew(&mut self) {
        self.intake.forget();
        self.watched = None;
        self.state.synced = false;
    }

    /// Judges how fresh it is, and what follows from that. Whatever a stranger says is no word of this cluster.
    fn judge(&mut self, events: &mut Vec<Event>) {
        let (now, deaf) = (Instant::now(), *self.ends.deaf.borrow());
        let pulse = self.connection.pulse();
        let contact = pulse.contact.filter(|_| self.identity.stranger().is_none());
        let contact = contact.map(tokio::time::Instant::into_std);
        let contact = contact.map(|contact| self.intake.deaf_since().map_or(contact, |at| at.min(contact)));
        if let Some(contact) = contact {
            self.silence.heard(contact);
            self.state.contact_at = pulse.contact_at.or(self.state.contact_at);
        }
        self.state.reachable = pulse.is_reachable();
        self.state.version = pulse.version.or(self.state.version.take());
        let silent = self.silence.judge(now, deaf);
        let stale = silent >= self.spec.stale_after;
        let withdrawn = self.spec.withdraw_after.is_some_and(|after| silent >= after);
        if self.spec.has_leases() {
            let broken = !self.state.reachable || self.intake.is_broken(Topic::Lease);
            events.extend(self.leases.judge(now, broken));
        }
        if stale != self.state.stale {
            self.state.stale = stale;
            self.log_staleness();
            events.extend(self.speaks_for.clone().map(|cluster| Event::Stale { cluster, stale }));
        }
        if withdrawn != self.state.withdrawn {
            self.state.withdrawn = withdrawn;
            // It is watched all the while, for only a list of all that is needed is a word that brings it back.
            self.begin_anew();
            if let (true, Some(cluster)) = (withdrawn, self.speaks_for.clone()) {
                events.push(Event::Cluster(ClusterEvent { cluster, change: Change::Reset(Vec::new()) }));
            }
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

    /// What is new, for the table: nothing of who is not followed, or withdrawn.
    fn tell(&mut self, events: &mut Vec<Event>) {
        let changes = self.intake.take_changes();
        let Some(cluster) = self.speaks_for.as_ref().filter(|_| !self.state.withdrawn) else { return };
        if !changes.is_empty() {
            self.state.changed_at = Some(unix_now());
        }
        let event = |change| Event::Cluster(ClusterEvent { cluster: cluster.clone(), change });
        events.extend(changes.into_iter().map(event));
        if !self.state.synced && self.intake.is_complete(Instant::now(), self.spec.stale_after) {
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

    /// Tells the followers how it is: at once what they decide by, counts and times now and then.
    async fn report(&mut self) -> Option<()> {
        let state = &mut self.state;
        state.objects = self.intake.counts();
        (state.refused_exports, state.refused) = self.intake.refused_exports();
        (state.is_own, state.duplicate_of) = (self.standing == Standing::Own, self.standing.duplicate_of());
        let Identity { pinned_id, pinned_uid, .. } = &self.identity;
        (state.id, state.uid) = if state.is_own {
            (self.identity.id().cloned(), self.identity.uid().cloned())
        } else {
            (pinned_id.clone(), pinned_uid.clone())
        };
        let stranger = self.identity.stranger().and_then(|_| self.identity.problem(self.spec.origin));
        state.stranger = stranger;
        state.problems = self.intake.problems.texts();
        state.leases = self.leases.peers();
        let report = Report {
            name: self.spec.name.clone(),
            state: self.state.clone(),
            identity: self.identity.clone(),
            speaks_for: self.speaks_for.clone(),
            obeyed: self.obeyed,
            heard: self.state.reachable && self.intake.deaf_since().is_none(),
        };
        let told = self
            .reported
            .as_ref()
            .is_some_and(|(last, at)| *last == report || (last.is_much_like(&report) && at.elapsed() < TICK));
        if !told {
            self.reported = Some((report.clone(), Instant::now()));
            self.ends.reports.send(report).await.ok()?;
        }
        Some(())
    }

    /// Finds out who it is, and says what is wrong with that.
    fn identify(&mut self) {
        // A server that is there and can't tell is not waited for forever.
        let patience = if self.state.reachable { self.spec.stale_after } else { Duration::MAX };
        if self.intake.knows_id(Instant::now(), patience) {
            self.identity.asked = true;
            self.identity.said_id = self.intake.id().cloned();
        }
        if let Some(id) = &self.speaks_for
            && self.identity.claim() == Some(id)
        {
            self.identity.pin(id);
        }
        self.intake.problems.found(About::Identity, self.identity.problem(self.spec.origin));
    }
}
