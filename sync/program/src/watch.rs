//! Notices that files have other contents: the configuration, certificates, secrets.
//!
//! Folders are watched rather than files, for editors and Kubernetes replace files by renaming; and contents are
//! compared, for a folder has more events than changes.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

/// How long after an event contents are read: writers need a moment to finish.
const SETTLE: Duration = Duration::from_millis(200);

/// Files and what they held last.
pub struct Watch {
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
    folders: BTreeSet<PathBuf>,
    events: mpsc::Receiver<()>,
    /// When to look, after an event.
    look: Option<Instant>,
    watcher: RecommendedWatcher,
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> notify::Result<Self> {
        let (sender, events) = mpsc::channel(1);
        // A full channel already says that something happened.
        let watcher = notify::recommended_watcher(move |_| {
            let _ = sender.try_send(());
        })?;
        Ok(Self { files: Vec::new(), folders: BTreeSet::new(), events, look: None, watcher })
    }

    /// Watches `files` from now on, and no others; what is known of one that stays is kept, so that no change is lost.
    /// A folder that can't be watched is left out with a warning, and tried again the next time.
    pub fn follow(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let mut before: HashMap<_, _> = self.files.drain(..).collect();
        for file in files {
            let held = before.remove(&file).unwrap_or_else(|| std::fs::read(&file).ok());
            self.files.push((file, held));
        }
        let wanted: BTreeSet<PathBuf> = self.files.iter().map(|(file, _)| folder(file)).collect();
        for gone in self.folders.difference(&wanted) {
            // The folder itself may be gone: then there is nothing to stop.
            drop(self.watcher.unwatch(gone));
        }
        self.folders.retain(|folder| wanted.contains(folder));
        for new in wanted {
            if self.folders.contains(&new) {
                continue;
            }
            match self.watcher.watch(&new, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.folders.insert(new)),
                Err(error) => {
                    warn!(folder = %new.display(), %error, "changes here are not noticed: send SIGHUP after one");
                }
            }
        }
    }

    /// Returns once a file holds something else than before. An event is not lost when the future is dropped.
    pub async fn changed(&mut self) {
        loop {
            match self.look {
                None if self.events.recv().await.is_none() => return std::future::pending().await,
                None => self.look = Some(Instant::now() + SETTLE),
                Some(at) => {
                    sleep_until(at).await;
                    self.look = None;
                    if self.read() {
                        return;
                    }
                }
            }
        }
    }

    /// Whether a file holds something else than when it was last read.
    fn read(&mut self) -> bool {
        let mut changed = false;
        for (file, held) in &mut self.files {
            let holds = std::fs::read(file).ok();
            changed |= holds != *held;
            *held = holds;
        }
        changed
    }
}

fn folder(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// Kubernetes mounts a ConfigMap as a link to a folder that it replaces.
    #[tokio::test]
    async fn changes_are_noticed_however_they_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("portolan.yaml");
        std::fs::write(&file, "1").unwrap();
        let mut watch = Watch::new().unwrap();
        watch.follow([file.clone()]);

        let soon = Duration::from_secs(10);
        std::fs::write(&file, "2").unwrap();
        timeout(soon, watch.changed()).await.expect("written in place");

        let other = folder.path().join("new");
        std::fs::write(&other, "3").unwrap();
        std::fs::rename(&other, &file).unwrap();
        timeout(soon, watch.changed()).await.expect("renamed over");

        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("..data", &file).unwrap();
        timeout(soon, watch.changed()).await.expect("gone");
        std::fs::write(folder.path().join("..data"), "4").unwrap();
        timeout(soon, watch.changed()).await.expect("behind a link");
    }

    #[tokio::test]
    async fn a_neighbour_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("portolan.yaml");
        std::fs::write(&file, "1").unwrap();
        let mut watch = Watch::new().unwrap();
        watch.follow([file.clone()]);
        std::fs::write(folder.path().join("neighbour"), "2").unwrap();
        std::fs::write(&file, "1").unwrap();
        assert!(timeout(SETTLE * 3, watch.changed()).await.is_err());
    }
}
