//! All sources together: which of them speaks for which cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use portolan_zones::object::{Change, ClusterEvent, Object};
use portolan_zones::peers::Labels;
use portolan_zones::{ClusterId, Event, Hearing};

use super::source::Source;
use super::{ClusterSource, Problem, Severity};
use crate::status::SourceStatus;

/// The configured sources, in order.
pub(crate) struct Clusters {
    entries: Vec<Entry>,
    expected: Option<BTreeSet<ClusterId>>,
    heard: BTreeSet<ClusterId>,
    /// Clusters that a source spoke for before it was taken out of the configuration.
    orphans: BTreeSet<ClusterId>,
    /// Clusters that were told to be stale.
    stale: BTreeSet<ClusterId>,
    /// Labels that clusters were told to have.
    labels: BTreeMap<ClusterId, Labels>,
    /// Networks that clusters were told to be on.
    networks: BTreeMap<ClusterId, Arc<str>>,
}

struct Entry {
    source: Source,
    /// The cluster whose objects the table has from here.
    speaks_for: Option<ClusterId>,
    /// Whether it has been read and its objects were told, or dropped: if so, the next changes are not the whole.
    told: bool,
    /// Whether there was ever a ServiceExport: if so, the files say what the cluster exports, and otherwise they may be those
    /// of a cluster where only imports were looked at.
    exports: bool,
    /// What the last refresh found, until it is told.
    changes: Vec<Change>,
    changed_at: Option<jiff::Timestamp>,
    checked_at: Option<jiff::Timestamp>,
}

impl Entry {
    fn new(config: ClusterSource) -> Self {
        Self {
            source: Source::new(config),
            speaks_for: None,
            told: false,
            exports: false,
            changes: Vec::new(),
            changed_at: None,
            checked_at: None,
        }
    }
}

impl Clusters {
    pub(crate) fn new(sources: Vec<ClusterSource>) -> Self {
        let entries = sources.into_iter().map(Entry::new).collect();
        Self {
            entries,
            expected: None,
            heard: BTreeSet::new(),
            orphans: BTreeSet::new(),
            stale: BTreeSet::new(),
            labels: BTreeMap::new(),
            networks: BTreeMap::new(),
        }
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = &ClusterSource> {
        self.entries.iter().map(|entry| entry.source.config())
    }

    /// Takes other sources; those that stay keep what is known. The next refresh tells the difference.
    pub(crate) fn reconfigure(&mut self, sources: Vec<ClusterSource>) {
        let mut before = std::mem::take(&mut self.entries);
        for config in sources {
            let known = before.iter_mut().position(|entry| entry.source.takes(&config));
            let entry = known.map_or_else(|| Entry::new(config), |at| before.swap_remove(at));
            self.entries.push(entry);
        }
        self.orphans.extend(before.into_iter().filter_map(|entry| entry.speaks_for));
    }

    /// Reads again what changed in the sources that `which` picks (and in those never read, or that have files which
    /// had to wait), in parallel; returns one batch of events that must be applied together. For `held` see
    /// [`Source::refresh`].
    pub(crate) fn refresh(
        &mut self,
        which: impl Fn(&ClusterSource) -> bool,
        held: impl Fn(&Path, SystemTime) -> bool + Sync,
    ) -> Vec<Event> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let due = |entry: &Entry| {
            let source = &entry.source;
            !source.is_synced() || source.has_waiting() || which(source.config())
        };
        let now = jiff::Timestamp::now();
        let read = |entry: &mut Entry| {
            entry.changes = entry.source.refresh(&held);
            if entry.source.is_synced() && !entry.source.is_stale() {
                entry.checked_at = Some(now);
            }
        };
        let mut entries: Vec<_> = self.entries.iter_mut().filter(|entry| due(entry)).collect();
        let share = entries.len().div_ceil(cores).max(1);
        if entries.len() <= 1 {
            entries.iter_mut().for_each(|entry| read(entry));
        } else {
            std::thread::scope(|scope| {
                for part in entries.chunks_mut(share) {
                    scope.spawn(|| part.iter_mut().for_each(|entry| read(entry)));
                }
            });
        }
        self.tell()
    }

    fn tell(&mut self) -> Vec<Event> {
        let spoken: BTreeSet<_> = self.entries.iter().filter_map(|entry| entry.speaks_for.clone()).collect();
        let mut events = Vec::new();
        let mut taken = BTreeSet::new();
        for entry in &mut self.entries {
            let changes = std::mem::take(&mut entry.changes);
            let whole = !std::mem::replace(&mut entry.told, entry.source.is_synced());
            // Of several sources that claim one id, the first wins.
            let Some(id) = entry.source.id().filter(|id| taken.insert(id.clone())) else {
                entry.speaks_for = None;
                continue;
            };
            if !entry.source.is_synced() {
                continue;
            }
            if !changes.is_empty() || entry.changed_at.is_none() {
                entry.changed_at = Some(jiff::Timestamp::now());
            }
            if entry.speaks_for.as_ref() == Some(&id) {
                let event = |change| Event::Cluster(ClusterEvent { cluster: id.clone(), change });
                events.extend(changes.into_iter().map(event));
            } else {
                let all = if whole { changes } else { entry.source.reload() };
                let change = Change::Reset(all.into_iter().filter_map(applied).collect());
                events.push(Event::Cluster(ClusterEvent { cluster: id.clone(), change }));
                entry.speaks_for = Some(id.clone());
            }
            let ClusterSource { labels, network, .. } = entry.source.config();
            if self.networks.get(&id).map_or("", |known| known) != &**network {
                self.networks.insert(id.clone(), network.clone());
                events.push(Event::Network { cluster: id.clone(), network: network.clone() });
            }
            if self.labels.get(&id).unwrap_or(&Labels::default()) != labels {
                self.labels.insert(id.clone(), labels.clone());
                events.push(Event::Labels { cluster: id.clone(), labels: labels.clone() });
            }
            let stale = entry.source.is_stale();
            if stale != self.stale.contains(&id) {
                if stale {
                    self.stale.insert(id.clone())
                } else {
                    self.stale.remove(&id)
                };
                events.push(Event::Stale { cluster: id, stale });
            }
        }
        let gone = spoken.union(&self.orphans).filter(|id| !taken.contains(*id)).cloned();
        events.extend(gone.map(Event::Forget).collect::<Vec<_>>());
        self.orphans.clear();
        // A cluster that is forgotten is no longer stale, and has no labels and no network.
        self.stale.retain(|id| taken.contains(id));
        self.labels.retain(|id, _| taken.contains(id));
        self.networks.retain(|id, _| taken.contains(id));
        if self.expected.as_ref() != Some(&taken) {
            events.push(Event::Expect(taken.clone()));
            self.expected = Some(taken);
        }
        events.extend(self.hearing());
        events
    }

    /// Whose exports the files tell, if that is news.
    fn hearing(&mut self) -> Option<Event> {
        for entry in &mut self.entries {
            entry.exports |= entry.source.counts().get("ServiceExport").is_some_and(|count| *count > 0);
        }
        let telling = self.entries.iter().filter(|entry| entry.exports);
        let heard: BTreeSet<_> = telling.filter_map(|entry| entry.speaks_for.clone()).collect();
        let news = heard != self.heard;
        self.heard.clone_from(&heard);
        news.then(|| Event::Hear(Hearing::Only(heard)))
    }

    /// All that is wrong, in the order of the sources.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        (0..self.entries.len()).flat_map(|at| self.problems_of(at)).collect()
    }

    fn problems_of(&self, at: usize) -> Vec<Problem> {
        let source = &self.entries[at].source;
        let mut problems = source.problems();
        let Some(id) = source.id() else {
            return problems;
        };
        let first = self.entries[..at].iter().find(|other| other.source.id().as_ref() == Some(&id));
        if let Some(first) = first {
            problems.insert(
                0,
                Problem {
                    severity: Severity::Error,
                    cluster: id.to_string(),
                    file: source.config().path.clone(),
                    line: None,
                    object: None,
                    message: format!(
                        "cluster id `{id}` is that of {} already, which counts: give one of them another id",
                        first.source.config().path.display()
                    ),
                },
            );
        }
        problems
    }

    /// How each source is.
    pub(crate) fn status(&self) -> Vec<SourceStatus> {
        let status = |(at, entry): (usize, &Entry)| SourceStatus {
            cluster: entry.source.id(),
            path: entry.source.config().path.clone(),
            synced: entry.speaks_for.is_some(),
            objects: entry.source.counts(),
            stale: entry.source.is_stale(),
            changed_at: entry.changed_at.map(jiff::Timestamp::as_second),
            checked_at: entry.checked_at.map(jiff::Timestamp::as_second),
            problems: self.problems_of(at),
        };
        self.entries.iter().enumerate().map(status).collect()
    }
}

fn applied(change: Change) -> Option<Object> {
    match change {
        Change::Apply(object) => Some(object),
        Change::Delete(_) | Change::Reset(_) | Change::Synced => None,
    }
}
