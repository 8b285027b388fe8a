//! One cluster's files: reads again what changed, and tells the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use portolan_zones::ClusterId;
use portolan_zones::object::Change;

use super::ledger::Ledger;
use super::reading::{Flaw, Reading};
use super::scan::{Listing, Stamp, is_json, is_manifest};
use super::{ClusterSource, Problem, Severity};
use crate::intern::Interner;

/// Largest JSON file.
const MAX_JSON: u64 = 1 << 30;
/// Largest YAML file: a tree takes many times the size of its text.
const MAX_YAML: u64 = 256 << 20;
/// A file younger than this when it was read may change again without its time showing it.
const CLOCK_GRAIN: Duration = Duration::from_millis(50);

/// One cluster's files.
pub(crate) struct Source {
    config: ClusterSource,
    files: BTreeMap<Arc<Path>, Known>,
    ledger: Ledger,
    interner: Interner,
    /// What is wrong with the folder itself.
    folder_flaws: Vec<(Arc<Path>, Flaw)>,
    /// Whether the folder has been read once.
    synced: bool,
    /// Whether a file changed that was not read yet.
    waiting: bool,
    /// Whether the folder could not be read the last time.
    lost: bool,
    /// See [`Source::id`].
    id: Option<ClusterId>,
}

/// What is known of a file.
struct Known {
    /// `None`: must be read again.
    stamp: Option<Stamp>,
    identity: Option<(usize, ClusterId)>,
    flaws: Vec<Flaw>,
    /// Whether it may still give objects that it can't be read for any more.
    broken: bool,
}

impl Source {
    pub(crate) fn new(config: ClusterSource) -> Self {
        let mut source = Self {
            config,
            files: BTreeMap::new(),
            ledger: Ledger::default(),
            interner: Interner::default(),
            folder_flaws: Vec::new(),
            synced: false,
            waiting: false,
            lost: false,
            id: None,
        };
        source.id = source.id_told();
        source
    }

    pub(crate) fn config(&self) -> &ClusterSource {
        &self.config
    }

    /// Whether the same files are configured, whatever else is; that is taken over.
    pub(crate) fn takes(&mut self, config: &ClusterSource) -> bool {
        let same = (&self.config.name, &self.config.path) == (&config.name, &config.path);
        if same {
            self.config.labels.clone_from(&config.labels);
            self.config.network.clone_from(&config.network);
        }
        same
    }

    /// Whether its objects are known.
    pub(crate) fn is_synced(&self) -> bool {
        self.synced
    }

    /// Whether what is known may be out of date, for the folder can't be read any more.
    pub(crate) fn is_stale(&self) -> bool {
        self.synced && self.lost
    }

    /// Whether a file changed that was held when it should have been read.
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting
    }

    /// Objects that count, by kind.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.ledger.counts().clone()
    }

    /// The cluster's id: its ClusterProperty's, else the configured one, else the name of the file or folder.
    /// `None` when that is no id. Another id has to wait while any file is broken: the objects are read again to be told
    /// under it, and what the broken file gave before can't be.
    pub(crate) fn id(&self) -> Option<ClusterId> {
        self.id.clone()
    }

    /// The id by what the files say now.
    fn id_told(&self) -> Option<ClusterId> {
        let told = self.files.values().filter_map(|known| known.identity.as_ref());
        // `min_by_key` takes the first of equals.
        let told = told.min_by_key(|(rank, _)| *rank).map(|(_, id)| id.clone());
        told.or_else(|| self.config.name.clone()).or_else(|| self.default_id())
    }

    fn default_id(&self) -> Option<ClusterId> {
        let path = &self.config.path;
        let name = if is_manifest(path) { path.file_stem() } else { path.file_name() };
        ClusterId::new(name?.to_str()?).ok()
    }

    /// Forgets all and reads all: the changes are then the whole.
    pub(crate) fn reload(&mut self) -> Vec<Change> {
        *self = Self::new(self.config.clone());
        self.refresh(&|_, _| false)
    }

    /// Reads what changed since the last time; what can't be read keeps what it gave. So does a file that changed then
    /// and is `held` still, by a writer; the first time of all nothing is held.
    pub(crate) fn refresh(&mut self, held: &(dyn Fn(&Path, SystemTime) -> bool + Sync)) -> Vec<Change> {
        let path: Arc<Path> = self.config.path.as_path().into();
        let mut changes = Vec::new();
        self.folder_flaws.clear();
        let listing = match Listing::of(&path) {
            Ok(listing) => listing,
            Err(error) => {
                let message = format!("can't be read: {error}; what it gave before stays");
                self.folder_flaws.push((path, Flaw { line: None, object: None, message }));
                self.lost = true;
                return changes;
            }
        };
        self.lost = false;
        for (path, message) in &listing.unread {
            let flaw = Flaw { line: None, object: None, message: message.clone() };
            self.folder_flaws.push((path.as_path().into(), flaw));
        }
        let mut again = BTreeSet::new();
        let is_gone = |file: &Path| !listing.files.contains_key(file) && !listing.is_unread(file);
        let gone: Vec<_> = self.files.keys().filter(|file| is_gone(file)).cloned().collect();
        for file in gone {
            self.files.remove(&file);
            again.extend(self.ledger.remove(&file, &mut changes));
        }
        // An heir may be gone as well, and has handed on by now.
        again.retain(|file| self.files.contains_key(file));
        let synced = self.synced;
        let held = |file: &Path, stamp: &Stamp| synced && held(file, stamp.modified());
        self.waiting = false;
        for (file, stamp) in &listing.files {
            if self.files.get(file).is_some_and(|known| known.stamp == Some(*stamp)) {
                continue;
            }
            if held(file, stamp) {
                self.waiting = true;
            } else {
                again.extend(self.read(file, Some(*stamp), &mut changes));
            }
        }
        // Each round hands an object on to a file later in the order, so this ends.
        while let Some(file) = again.pop_first() {
            let stamp = listing.files.get(&file);
            if stamp.is_some_and(|stamp| held(&file, stamp)) {
                // What it inherits stays as it was until then.
                self.files.entry(file).and_modify(|known| known.stamp = None);
                self.waiting = true;
            } else {
                again.extend(self.read(&file, stamp.copied(), &mut changes));
            }
        }
        if !self.synced || self.id.is_none() || !self.is_broken() {
            self.id = self.id_told();
        }
        self.synced = true;
        changes
    }

    /// Whether anything counts that could not be read again, or not yet.
    fn is_broken(&self) -> bool {
        self.waiting || !self.folder_flaws.is_empty() || self.files.values().any(|known| known.broken)
    }

    /// Reads one file; returns the files that must be read again because of it.
    fn read(&mut self, file: &Arc<Path>, stamp: Option<Stamp>, changes: &mut Vec<Change>) -> Vec<Arc<Path>> {
        let (mut reading, stamp) = match content(file) {
            Ok((bytes, settled)) => {
                let reading = Reading::of(&bytes, is_json(file), &mut self.interner);
                (reading, stamp.filter(|_| settled))
            }
            Err(message) => (Reading::failed(message), None),
        };
        let before = self.files.get(file).and_then(|known| known.identity.clone());
        let identity = reading.identity.take().or(before.filter(|_| reading.partial));
        let broken = reading.partial || !reading.refused.is_empty();
        let again = self.ledger.take(file, &mut reading, changes);
        self.files.insert(file.clone(), Known { stamp, identity, flaws: reading.flaws, broken });
        again
    }

    /// All that is wrong, in the order of the files.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let cluster = self.id().map(|id| id.to_string()).unwrap_or_default();
        let problem = |file: &Path, flaw: &Flaw| Problem {
            severity: Severity::Error,
            cluster: cluster.clone(),
            file: file.to_owned(),
            line: flaw.line,
            object: flaw.object.clone(),
            message: flaw.message.clone(),
        };
        let mut problems: Vec<_> = self.folder_flaws.iter().map(|(file, flaw)| problem(file, flaw)).collect();
        if cluster.is_empty() {
            let message = "the name is no cluster id: configure one by `name`".to_owned();
            problems.push(problem(&self.config.path, &Flaw { line: None, object: None, message }));
        }
        if let Some(next) = self.id_told().filter(|next| self.id.as_ref() != Some(next)) {
            let message = format!("the cluster's id becomes `{next}` when all its files can be read");
            problems.push(problem(&self.config.path, &Flaw { line: None, object: None, message }));
        }
        for (file, known) in &self.files {
            problems.extend(known.flaws.iter().map(|flaw| problem(file, flaw)));
        }
        problems.extend(self.ledger.duplicates().iter().map(|(file, flaw)| problem(file, flaw)));
        problems.extend(self.identities().into_iter().map(|(file, flaw)| problem(&file, &flaw)));
        problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        problems
    }

    /// Files that give the cluster another id than the one that counts.
    fn identities(&self) -> Vec<(Arc<Path>, Flaw)> {
        let told = |known: &Known| known.identity.clone();
        let Some(best) = self.files.values().filter_map(told).min_by_key(|(rank, _)| *rank) else {
            return Vec::new();
        };
        let others = self.files.iter().filter_map(|(file, known)| Some((file, told(known)?)));
        let others = others.filter(|(_, (rank, id))| *rank == best.0 && *id != best.1);
        let flaw = |id| Flaw {
            line: None,
            object: Some(format!("ClusterProperty {id}")),
            message: format!("the cluster's id is `{}` already, by a file that comes first", best.1),
        };
        others.map(|(file, (_, id))| (file.clone(), flaw(id))).collect()
    }
}

/// A file's content, and whether its times will show the next change.
fn content(path: &Path) -> Result<(Vec<u8>, bool), String> {
    let failed = |error: std::io::Error| format!("can't be read: {error}; what it gave before stays");
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err("is no regular file".to_owned());
    }
    let most = if is_json(path) { MAX_JSON } else { MAX_YAML };
    let mut bytes = Vec::with_capacity(metadata.len().min(most) as usize + 1);
    file.take(most + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(format!(
            "is larger than {} MiB: split it (or write JSON, up to {} MiB); what it gave before stays",
            most >> 20,
            MAX_JSON >> 20
        ));
    }
    let modified = metadata.modified().map_err(failed)?;
    let age = SystemTime::now().duration_since(modified).unwrap_or_default();
    Ok((bytes, age > CLOCK_GRAIN))
}
