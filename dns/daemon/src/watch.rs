//! Notices that files have other contents: the configuration, certificates, secrets.
//!
//! Folders are watched rather than files, for editors and Kubernetes replace files by renaming; and contents are
//! compared, for a folder has more events than changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::sleep;

/// How long after an event contents are read: writers need a moment to finish.
const SETTLE: Duration = Duration::from_millis(200);

/// Files and what they held last.
pub struct Watch {
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
    events: mpsc::Receiver<()>,
    watcher: RecommendedWatcher,
}

impl Watch {
    /// Watches nothing yet.
    pub fn new() -> notify::Result<Self> {
        let (sender, events) = mpsc::channel(1);
        // A full channel already says that something happened.
        let watcher = notify::recommended_watcher(move |_| drop(sender.try_send(())))?;
        Ok(Self { files: Vec::new(), events, watcher })
    }

    /// Watches `files` from now on, and no others. One whose folder can't be watched is left out, with a warning.
    pub fn follow(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let folders = |files: &[(PathBuf, _)]| files.iter().map(|(file, _)| folder(file)).collect::<Vec<_>>();
        let before = folders(&self.files);
        self.files = files
            .into_iter()
            .map(|file| {
                let held = std::fs::read(&file).ok();
                (file, held)
            })
            .collect();
        let after = folders(&self.files);
        for gone in before.iter().filter(|folder| !after.contains(folder)) {
            // The folder itself may be gone: then there is nothing to stop.
            drop(self.watcher.unwatch(gone));
        }
        for new in after.iter().filter(|folder| !before.contains(folder)) {
            if let Err(error) = self.watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %new.display(), %error, "changes are not noticed here: send SIGHUP after one");
            }
        }
    }

    /// Returns once a file holds something else than before.
    pub async fn changed(&mut self) {
        loop {
            if self.events.recv().await.is_none() {
                return std::future::pending().await;
            }
            sleep(SETTLE).await;
            let mut changed = false;
            for (file, held) in &mut self.files {
                let holds = std::fs::read(file).ok();
                changed |= holds != *held;
                *held = holds;
            }
            if changed {
                return;
            }
        }
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
