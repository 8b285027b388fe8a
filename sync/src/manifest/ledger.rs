//! Which file of a cluster gives which object: finds what changed, and settles who wins when two give the same.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::BuildHasher;
use std::path::Path;
use std::sync::Arc;

use foldhash::fast::RandomState;
use portolan_zones::object::{Change, Object, ObjectKey};

use super::claims::Claims;
use super::reading::{Flaw, Reading};

/// Who gives which object.
///
/// Objects themselves are not kept, only a hash of each, so that an object that did not change is no event.
#[derive(Default)]
pub(crate) struct Ledger {
    /// Files that gave something. What each gives is found by looking through `claims`, for a list of every file's
    /// objects would take as much memory again, and files change seldom.
    files: HashSet<Arc<Path>, RandomState>,
    claims: Claims<Claim>,
    /// Files that give an object that another file, earlier in the order, gives too; with the line.
    rivals: HashMap<ObjectKey, BTreeMap<Arc<Path>, Rival>, RandomState>,
    paths: Paths,
    /// Counts the calls of `take`: tells what a file gives now from what it gave before.
    round: u32,
    /// Objects that count, by kind.
    counts: BTreeMap<&'static str, usize>,
    hasher: RandomState,
}

const VACANT: u64 = 0;

/// The file whose object counts. One for each object, so it is kept small.
struct Claim {
    file: FileId,
    /// Hash of the object; `VACANT` after the file that gave it dropped it and its heir has yet to be read again.
    content: u64,
    line: u32,
    round: u32,
}

/// A file's number.
type FileId = u32;

/// Numbers for paths: a number is four octets, millions of times.
#[derive(Default)]
struct Paths {
    paths: Vec<Arc<Path>>,
    free: Vec<FileId>,
    ids: HashMap<Arc<Path>, FileId, RandomState>,
}

impl Paths {
    fn id(&mut self, path: &Arc<Path>) -> FileId {
        let Self { paths, free, ids } = self;
        *ids.entry(path.clone()).or_insert_with(|| match free.pop() {
            Some(id) => {
                paths[id as usize] = path.clone();
                id
            }
            None => {
                paths.push(path.clone());
                (paths.len() - 1) as FileId
            }
        })
    }

    /// The file is gone, and no claim has its number any more.
    fn release(&mut self, path: &Arc<Path>) {
        self.free.extend(self.ids.remove(path));
    }

    /// The path of a number that `id` gave.
    fn path(&self, id: FileId) -> &Arc<Path> {
        &self.paths[id as usize]
    }
}

/// Where the object of another file is.
#[derive(Clone, Copy)]
struct Rival {
    line: u32,
    round: u32,
}

impl Ledger {
    /// Takes what a file says now. Returns the files that must be read again, for they take the place of this one.
    pub(crate) fn take(
        &mut self,
        file: &Arc<Path>,
        reading: &mut Reading,
        changes: &mut Vec<Change>,
    ) -> Vec<Arc<Path>> {
        self.round = self.round.wrapping_add(1);
        let objects = std::mem::take(&mut reading.objects);
        changes.reserve(objects.len());
        for (line, object) in objects {
            let key = object.key();
            if let Some(first) = self.seen(file, &key) {
                let message = format!("is there twice, first at line {first}, which stays");
                reading.flaw(Some(line), Some(key.to_string()), message);
                continue;
            }
            self.claim(file, key, line, object, changes);
        }
        if self.files.insert(file.clone()) || reading.partial {
            return Vec::new();
        }
        let refused: HashSet<&ObjectKey> = reading.refused.iter().collect();
        let mut dropped = self.given_by(file);
        dropped.retain(|key| self.seen(file, key).is_none() && !refused.contains(key));
        dropped.into_iter().filter_map(|key| self.give_up(file, key, changes)).collect()
    }

    /// All objects that a file gives, whether they count or not.
    fn given_by(&self, file: &Arc<Path>) -> Vec<ObjectKey> {
        let id = self.paths.ids.get(file).copied();
        let count = self.claims.iter().filter(|(_, claim)| Some(claim.file) == id).map(|(key, _)| key);
        let rivals = self.rivals.iter().filter(|(_, rivals)| rivals.contains_key(file)).map(|(key, _)| key);
        count.chain(rivals).cloned().collect()
    }

    /// The line that a file gives an object on, if that was found in this round.
    fn seen(&self, file: &Arc<Path>, key: &ObjectKey) -> Option<u32> {
        let claim = self.claims.get(key)?;
        if self.paths.path(claim.file) == file {
            return (claim.round == self.round).then_some(claim.line);
        }
        let rival = self.rivals.get(key)?.get(file)?;
        (rival.round == self.round).then_some(rival.line)
    }

    /// A file is gone, with its objects.
    pub(crate) fn remove(&mut self, file: &Arc<Path>, changes: &mut Vec<Change>) -> Vec<Arc<Path>> {
        self.files.remove(file);
        let given = self.given_by(file).into_iter();
        let heirs = given.filter_map(|key| self.give_up(file, key, changes)).collect();
        self.paths.release(file);
        heirs
    }

    /// Number of objects that count, by kind.
    pub(crate) fn counts(&self) -> &BTreeMap<&'static str, usize> {
        &self.counts
    }

    /// Objects that don't count because another file gives them.
    pub(crate) fn duplicates(&self) -> Vec<(Arc<Path>, Flaw)> {
        let mut flaws = Vec::new();
        for (key, rivals) in &self.rivals {
            let Some(winner) = self.claims.get(key) else {
                continue;
            };
            for (file, Rival { line, .. }) in rivals {
                let message = format!(
                    "is in {} too, which comes first and counts",
                    self.paths.path(winner.file).display()
                );
                let flaw = Flaw { line: Some(*line), object: Some(key.to_string()), message };
                flaws.push((file.clone(), flaw));
            }
        }
        flaws.sort_by(|(a, x), (b, y)| (a, x.line).cmp(&(b, y.line)));
        flaws
    }

    fn claim(
        &mut self,
        file: &Arc<Path>,
        key: ObjectKey,
        line: u32,
        object: Object,
        changes: &mut Vec<Change>,
    ) {
        let (content, round) = (self.hasher.hash_one(&object) | 1, self.round);
        let id = self.paths.id(file);
        let Some(claim) = self.claims.get_mut(&key) else {
            *self.counts.entry(kind(&key)).or_default() += 1;
            self.claims.insert(key, Claim { file: id, content, line, round });
            changes.push(Change::Apply(object));
            return;
        };
        let holder = self.paths.path(claim.file);
        if *holder < *file {
            self.rivals.entry(key).or_default().insert(file.clone(), Rival { line, round });
            return;
        }
        if claim.file != id {
            let rivals = self.rivals.entry(key).or_default();
            rivals.remove(file);
            rivals.insert(holder.clone(), Rival { line: claim.line, round: claim.round });
            claim.file = id;
        }
        (claim.line, claim.round) = (line, round);
        if claim.content != content {
            claim.content = content;
            changes.push(Change::Apply(object));
        }
    }

    /// A file no longer gives an object. Returns the file that does so now, to be read again.
    fn give_up(&mut self, file: &Arc<Path>, key: ObjectKey, changes: &mut Vec<Change>) -> Option<Arc<Path>> {
        let rivals = self.rivals.get_mut(&key);
        let claim = self.claims.get_mut(&key)?;
        if self.paths.path(claim.file) != file {
            let rivals = rivals?;
            rivals.remove(file);
            if rivals.is_empty() {
                self.rivals.remove(&key);
            }
            return None;
        }
        let Some((heir, Rival { line, round })) = rivals.and_then(BTreeMap::pop_first) else {
            self.claims.remove(&key);
            *self.counts.entry(kind(&key)).or_default() -= 1;
            changes.push(Change::Delete(key));
            return None;
        };
        if self.rivals.get(&key).is_some_and(BTreeMap::is_empty) {
            self.rivals.remove(&key);
        }
        *claim = Claim { file: self.paths.id(&heir), content: VACANT, line, round };
        Some(heir)
    }
}

fn kind(key: &ObjectKey) -> &'static str {
    match key {
        ObjectKey::Export(_) => "ServiceExport",
        ObjectKey::Service(_) => "Service",
        ObjectKey::Import(_) => "ServiceImport",
        ObjectKey::Slice(_) => "EndpointSlice",
        ObjectKey::Node(_) => "Node",
        ObjectKey::Namespace(_) => "Namespace",
        ObjectKey::Policy(_) => "TrafficPolicy",
        ObjectKey::Peer(_) => "ClusterPeer",
    }
}
