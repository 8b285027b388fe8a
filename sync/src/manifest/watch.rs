//! A thread that reads again what changed: at once when the kernel says so, and now and then in any case.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use portolan_zones::Event;

use super::scan::is_manifest;
use super::writers::{self, Hold, Writers};
use super::{ClusterSource, Clusters, Problem};
use crate::status::SourceStatus;

/// A change is rarely alone: what follows so soon is read together with it.
const COALESCE: Duration = Duration::from_millis(10);
/// Even without any word of a change, everything is looked at so often: some file systems give none.
const POLL: Duration = Duration::from_secs(5);
/// How often in a row the folders to watch are looked for, while they come and go.
const LOOKS: usize = 8;

/// What the thread is told.
pub(crate) enum Signal {
    /// By the kernel.
    Changed(notify::Result<notify::Event>),
    /// By the operator.
    Reconfigure(Vec<ClusterSource>),
    /// The end.
    Stop,
}

/// The running thread.
pub(crate) struct Watch {
    signals: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Reads all sources, then watches them. Each batch goes to `feed`, which says whether to go on; then `show`
    /// is told how the sources are.
    pub(crate) fn start(
        sources: Vec<ClusterSource>,
        feed: impl FnMut(Vec<Event>) -> bool + Send + 'static,
        show: impl FnMut(Vec<SourceStatus>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (signals, received) = channel();
        let own = signals.clone();
        let run = move || Watching::new(sources, own, Box::new(feed), Box::new(show)).run(&received);
        let thread = std::thread::Builder::new().name("manifests".to_owned()).spawn(run)?;
        Ok(Self { signals, thread: Some(thread) })
    }

    /// Watches other sources from now on.
    pub(crate) fn reconfigure(&self, sources: Vec<ClusterSource>) {
        // A send fails only when the thread has ended, and then there is nothing to tell it.
        let _ = self.signals.send(Signal::Reconfigure(sources));
    }

    /// Ends the thread and waits for it.
    pub(crate) fn stop(&mut self) {
        let _ = self.signals.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Feed = Box<dyn FnMut(Vec<Event>) -> bool + Send>;
type Show = Box<dyn FnMut(Vec<SourceStatus>) + Send>;

struct Watching {
    clusters: Clusters,
    feed: Feed,
    show: Show,
    signals: Sender<Signal>,
    /// `None` where the kernel gives none; polling goes on.
    watcher: Option<RecommendedWatcher>,
    /// What is watched.
    watched: Places,
    /// Problems that were logged already.
    logged: HashSet<String>,
    /// Who is writing.
    writers: Writers,
    /// When everything is to be looked at.
    poll: Instant,
    /// When files are to be looked at that were too young last time.
    again: Option<Instant>,
}

impl Watching {
    fn new(sources: Vec<ClusterSource>, signals: Sender<Signal>, feed: Feed, show: Show) -> Self {
        Self {
            clusters: Clusters::new(sources),
            feed,
            show,
            signals,
            watcher: None,
            watched: Places::new(),
            logged: HashSet::new(),
            writers: Writers::default(),
            poll: Instant::now() + POLL,
            again: None,
        }
    }

    fn run(mut self, received: &Receiver<Signal>) {
        self.make_watcher();
        let mut due = Due::All;
        loop {
            // Watched first, read second: what changes in between is read twice, but never missed; and what is
            // watched anew may have changed unseen.
            due.extend(self.watch_all());
            if !self.refresh(&due) {
                return;
            }
            match self.wait(received) {
                Some(next) => due = next,
                None => return,
            }
        }
    }

    /// Waits until there is something to look at; `None` at the end.
    fn wait(&mut self, received: &Receiver<Signal>) -> Option<Due> {
        let mut due = Due::Only(HashSet::new());
        // When the changes that `due` tells of are to be read.
        let mut until: Option<Instant> = None;
        loop {
            let look = until.unwrap_or_else(|| self.next_look());
            match received.recv_timeout(look.saturating_duration_since(Instant::now())) {
                Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
                Ok(Signal::Reconfigure(sources)) => {
                    self.clusters.reconfigure(sources);
                    self.make_watcher();
                    due = Due::All;
                }
                Ok(Signal::Changed(event)) => {
                    self.forget_removed(&event);
                    let note = |event| self.writers.note(event, Instant::now(), SystemTime::now());
                    if event.as_ref().map_or(true, note) {
                        due.add(event);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = Instant::now();
            if now >= look {
                self.writers.take_quiet(now).iter().for_each(|path| due.add_file(path));
                return Some(if now >= self.poll { Due::All } else { due });
            }
            if !due.is_empty() {
                until.get_or_insert(now + COALESCE);
            }
        }
    }

    /// When to look again without any word of a change.
    fn next_look(&self) -> Instant {
        [self.again, self.writers.first_quiet()].into_iter().flatten().fold(self.poll, Instant::min)
    }

    fn refresh(&mut self, due: &Due) -> bool {
        let (clock, writers) = (SystemTime::now(), &self.writers);
        // Where the kernel gives no word, there is only the time to go by.
        let delay = if self.watcher.is_some() { writers::DELAY } else { writers::QUIET };
        let young = AtomicBool::new(false);
        let held = |path: &Path, modified| {
            let hold = writers.hold(&absolute(path), modified, clock, delay);
            young.fetch_or(hold == Some(Hold::Young), Ordering::Relaxed);
            hold.is_some()
        };
        let events = self.clusters.refresh(|source| due.concerns(source), held);
        self.again = young.into_inner().then(|| Instant::now() + delay);
        if matches!(due, Due::All) {
            self.poll = Instant::now() + POLL;
        }
        self.writers.looked();
        if !events.is_empty() && !(self.feed)(events) {
            return false;
        }
        let status = self.clusters.status();
        self.log(status.iter().flat_map(|source| &source.problems));
        (self.show)(status);
        true
    }

    /// A line for each problem when it comes up, and not again while it lasts.
    fn log<'a>(&mut self, problems: impl Iterator<Item = &'a Problem>) {
        let mut now = HashSet::new();
        for problem in problems {
            let text = problem.to_string();
            if !self.logged.contains(&text) && !now.contains(&text) {
                tracing::warn!(cluster = problem.cluster, "{text}");
            }
            now.insert(text);
        }
        self.logged = now;
    }

    fn make_watcher(&mut self) {
        let signals = self.signals.clone();
        let tell = move |event: notify::Result<notify::Event>| {
            if !event.as_ref().is_ok_and(is_only_read) {
                // A send fails only when the thread that listens has ended.
                let _ = signals.send(Signal::Changed(event));
            }
        };
        self.watched.clear();
        self.watcher = notify::recommended_watcher(tell)
            .inspect_err(|error| {
                tracing::warn!(%error, "files can't be watched: they are looked at every {} s", POLL.as_secs());
            })
            .ok();
    }

    /// Watches what is to be watched, and no more; returns the folders that were not until now.
    fn watch_all(&mut self) -> Vec<PathBuf> {
        let mut anew = Vec::new();
        let Some(watcher) = &mut self.watcher else {
            return anew;
        };
        // A folder that is made while the one above is not watched yet would be missed: look again.
        for _ in 0..LOOKS {
            let wanted = places(self.clusters.sources());
            if wanted == self.watched {
                break;
            }
            for (path, _) in self.watched.iter().filter(|(path, place)| wanted.get(*path) != Some(place)) {
                // The kernel has mostly ended it already.
                let _ = watcher.unwatch(path);
            }
            for (path, place) in wanted.iter().filter(|(path, place)| self.watched.get(*path) != Some(place))
            {
                if let Err(error) = watcher.watch(path, place.mode) {
                    let path = path.display();
                    tracing::warn!(%error, %path, "can't be watched: it is looked at every {} s", POLL.as_secs());
                }
                anew.push(path.clone());
            }
            self.watched = wanted;
        }
        anew
    }

    /// A folder that was removed is watched no more, even if the next of its name has the same inode.
    fn forget_removed(&mut self, event: &notify::Result<notify::Event>) {
        if let Ok(event) = event
            && event.kind.is_remove()
        {
            event.paths.iter().for_each(|path| _ = self.watched.remove(path));
        }
    }
}

/// Folders to watch.
type Places = BTreeMap<PathBuf, Place>;

#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// A folder that is made anew must be watched anew.
    inode: u64,
    mode: RecursiveMode,
}

/// The folders whose changes tell of the sources' changes: each source's own with all in it; for a file (another is
/// renamed onto it to replace it) and for what is missing the nearest folder above, by itself.
fn places<'a>(sources: impl Iterator<Item = &'a ClusterSource>) -> Places {
    let mut places = Places::new();
    let mut others = Vec::new();
    for path in sources.map(|source| absolute(&source.path)) {
        match folder_inode(&path) {
            Some(inode) => _ = places.insert(path, Place { inode, mode: RecursiveMode::Recursive }),
            None => others.push(path),
        }
    }
    for path in others {
        let above = path.ancestors().skip(1).find_map(|folder| Some((folder, folder_inode(folder)?)));
        let seen = |folder: &Path| {
            let mut above = folder.ancestors().filter_map(|folder| places.get(folder));
            above.any(|place| place.mode == RecursiveMode::Recursive)
        };
        if let Some((folder, inode)) = above.filter(|(folder, _)| !seen(folder)) {
            places.insert(folder.to_owned(), Place { inode, mode: RecursiveMode::NonRecursive });
        }
    }
    places
}

/// Which sources to look at.
enum Due {
    All,
    /// Those that these paths are of.
    Only(HashSet<PathBuf>),
}

impl Due {
    fn add(&mut self, event: notify::Result<notify::Event>) {
        let Self::Only(paths) = self else {
            return;
        };
        match event {
            Ok(event) if !event.need_rescan() && !event.paths.is_empty() => {
                // A folder's name is enough: sources are looked at as a whole.
                paths.extend(event.paths.iter().filter_map(|path| path.parent()).map(Path::to_owned));
                paths.extend(event.paths.into_iter().filter(|path| !is_manifest(path)));
            }
            _ => *self = Self::All,
        }
    }

    /// A file by its name.
    fn add_file(&mut self, path: &Path) {
        if let Self::Only(paths) = self {
            paths.extend(path.parent().map(Path::to_owned));
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Only(paths) if paths.is_empty())
    }

    /// These folders, too.
    fn extend(&mut self, folders: Vec<PathBuf>) {
        if let Self::Only(paths) = self {
            paths.extend(folders);
        }
    }

    fn concerns(&self, source: &ClusterSource) -> bool {
        let Self::Only(paths) = self else {
            return true;
        };
        let root = absolute(&source.path);
        let folder = if is_manifest(&root) { root.parent().unwrap_or(&root) } else { &root };
        paths.iter().any(|path| path.starts_with(folder))
    }
}

/// Reading a file is an event too, and must not make us read again.
fn is_only_read(event: &notify::Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// `None` when there is no such folder.
fn folder_inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir).map(|metadata| metadata.ino())
}
