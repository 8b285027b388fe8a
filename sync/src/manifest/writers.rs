//! Files that somebody is writing: they are not read before they are whole.
//!
//! `kubectl get -o yaml >file` empties the file at once and fills it when the API has answered, and a YAML list cut
//! in the middle still parses. The kernel tells when a writer closes a file; until then what the file gave stays.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use notify::EventKind;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode};

use super::scan::is_manifest;

/// A file that its writer keeps open is read when nothing was written for so long.
pub(crate) const QUIET: Duration = Duration::from_secs(5);
/// The kernel's word of a write may reach us so much later than the write itself.
pub(crate) const DELAY: Duration = Duration::from_millis(50);

/// Why a file is not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// A writer has it open: the kernel will tell when it is closed.
    Open,
    /// It was changed just now, and what the kernel has to say of it may be under way.
    Young,
}

/// What the kernel told of writers.
#[derive(Default)]
pub(crate) struct Writers {
    /// Files that are being written, and when they last were.
    open: HashMap<PathBuf, Instant>,
    /// Files that were closed, or put in place, since they were last looked at; and when that was told.
    whole: HashMap<PathBuf, SystemTime>,
}

impl Writers {
    /// Takes note of an event; whether there is anything to read because of it.
    pub(crate) fn note(&mut self, event: &notify::Event, now: Instant, clock: SystemTime) -> bool {
        match event.kind {
            EventKind::Create(CreateKind::Folder) => true,
            EventKind::Create(_) => !self.opened(event, now, is_own_file),
            EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => !self.opened(event, now, |_| true),
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                self.left(event);
                self.whole.extend(event.paths.iter().map(|path| (path.clone(), clock)));
                true
            }
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => {
                self.left(event);
                true
            }
            _ => true,
        }
    }

    /// Notes manifests as open; whether the event is about nothing else.
    fn opened(&mut self, event: &notify::Event, now: Instant, is_file: impl Fn(&Path) -> bool) -> bool {
        let before = event.paths.iter().filter(|path| is_manifest(path) && is_file(path));
        let opened: Vec<_> = before.map(|path| (path.clone(), now)).collect();
        let all = !event.need_rescan() && opened.len() == event.paths.len();
        self.open.extend(opened);
        all
    }

    /// Whoever wrote these files, or any in these folders, does so no more.
    fn left(&mut self, event: &notify::Event) {
        self.open.retain(|file, _| !event.paths.iter().any(|path| file.starts_with(path)));
    }

    /// Whether a file has to wait that was modified then; `delay` is how long word of that may take.
    pub(crate) fn hold(
        &self,
        path: &Path,
        modified: SystemTime,
        clock: SystemTime,
        delay: Duration,
    ) -> Option<Hold> {
        if self.open.contains_key(path) {
            return Some(Hold::Open);
        }
        if self.whole.get(path).is_some_and(|told| modified <= *told) {
            return None;
        }
        // A time to come says nothing.
        clock.duration_since(modified).is_ok_and(|age| age < delay).then_some(Hold::Young)
    }

    /// What was told whole has been looked at.
    pub(crate) fn looked(&mut self) {
        self.whole.clear();
    }

    /// When the first of the open files will have been quiet for long enough.
    pub(crate) fn first_quiet(&self) -> Option<Instant> {
        self.open.values().min().map(|last| *last + QUIET)
    }

    /// Files that have been quiet for long enough: they are taken for whole from now on.
    pub(crate) fn take_quiet(&mut self, now: Instant) -> Vec<PathBuf> {
        self.open.extract_if(|_, last| *last + QUIET <= now).map(|(path, _)| path).collect()
    }
}

/// Whether a new name is that of a new file: a link to one that is there is never closed.
fn is_own_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{DataChange, RemoveKind};

    const CLOSE: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));
    const WRITE: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const PUT: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::To));
    const AWAY: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::From));
    const GONE: EventKind = EventKind::Remove(RemoveKind::File);

    /// Each line: what is told of which path, one after the other, and what holds of `/c/a.yaml` then.
    #[test]
    fn a_file_waits_for_its_writer() {
        let (file, now, clock) = (Path::new("/c/a.yaml"), Instant::now(), SystemTime::now());
        for (events, hold) in [
            (&[][..], Some(Hold::Young)),
            (&[(WRITE, "/c/a.yaml")], Some(Hold::Open)),
            (&[(WRITE, "/c/b.yaml")], Some(Hold::Young)),
            (&[(WRITE, "/c/a.yaml"), (CLOSE, "/c/b.yaml")], Some(Hold::Open)),
            (&[(WRITE, "/c/a.yaml"), (CLOSE, "/c/a.yaml")], None),
            (&[(CLOSE, "/c/a.yaml"), (WRITE, "/c/a.yaml")], Some(Hold::Open)),
            (&[(WRITE, "/c/a.yaml"), (PUT, "/c/a.yaml")], None),
            (&[(WRITE, "/c/a.yaml"), (GONE, "/c/a.yaml")], Some(Hold::Young)),
            (&[(WRITE, "/c/a.yaml"), (AWAY, "/c")], Some(Hold::Young)),
        ] {
            let mut writers = Writers::default();
            for (kind, path) in events {
                let event = notify::Event::new(*kind).add_path(path.into());
                assert_eq!(writers.note(&event, now, clock), *kind != WRITE, "{event:?}");
            }
            assert_eq!(writers.hold(file, clock, clock, DELAY), hold, "{events:?}");
            let later = writers.hold(file, clock, clock + DELAY, DELAY);
            assert_eq!(later, hold.filter(|hold| *hold == Hold::Open), "{events:?}");
        }
    }

    #[test]
    fn a_writer_that_never_closes_is_waited_for_so_long_and_no_longer() {
        let (file, begun, clock) = (Path::new("/c/a.yaml"), Instant::now(), SystemTime::now());
        let mut writers = Writers::default();
        for second in 0..8 {
            let now = begun + Duration::from_secs(second);
            writers.note(&notify::Event::new(WRITE).add_path(file.into()), now, clock);
            assert!(writers.take_quiet(now).is_empty());
        }
        let last = begun + Duration::from_secs(7);
        assert_eq!(writers.first_quiet(), Some(last + QUIET));
        assert_eq!(writers.take_quiet(last + QUIET), [file]);
        assert_eq!(writers.hold(file, clock, clock + QUIET, DELAY), None);
        assert_eq!(writers.first_quiet(), None);
    }

    /// What was written again after it was told closed is not whole, though nobody told of that yet.
    #[test]
    fn word_of_a_close_is_about_what_was_before() {
        let (file, now, clock) = (Path::new("/c/a.yaml"), Instant::now(), SystemTime::now());
        let mut writers = Writers::default();
        writers.note(&notify::Event::new(CLOSE).add_path(file.into()), now, clock);
        let after = clock + Duration::from_millis(1);
        assert_eq!(writers.hold(file, after, after, DELAY), Some(Hold::Young));
        writers.looked();
        assert_eq!(writers.hold(file, clock, clock, DELAY), Some(Hold::Young));
    }
}
