//! Which files a source has, and whether one changed: by `stat` alone.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Deepest folder that is read.
const MAX_DEPTH: usize = 32;

/// What changes when a file's content does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// When the content last changed; a time before 1970 is taken for 1970.
    pub(crate) fn modified(&self) -> SystemTime {
        let (seconds, nanos) = self.modified;
        let since = Duration::new(seconds.try_into().unwrap_or(0), nanos.try_into().unwrap_or(0));
        SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// What is there.
#[derive(Default)]
pub(crate) struct Listing {
    /// The files, sorted by path.
    pub(crate) files: BTreeMap<Arc<Path>, Stamp>,
    /// Folders and files that could not be looked at, and why: what they gave stays.
    pub(crate) unread: Vec<(PathBuf, String)>,
}

impl Listing {
    /// Lists a folder with all folders in it, or a single file. An error is about the path itself.
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let mut listing = Self::default();
        if metadata.is_dir() {
            listing.folder(path, &mut vec![(metadata.dev(), metadata.ino())])?;
        } else {
            listing.files.insert(path.into(), Stamp::of(&metadata));
        }
        Ok(listing)
    }

    /// Whether a path is in a folder that could not be read, or is such a file.
    pub(crate) fn is_unread(&self, file: &Path) -> bool {
        self.unread.iter().any(|(path, _)| file.starts_with(path))
    }

    /// `above` are the folders that lead here: a symbolic link to one of them is not followed.
    ///
    /// Links are followed otherwise: a mounted ConfigMap's files, and folders, are links into `..data`.
    fn folder(&mut self, folder: &Path, above: &mut Vec<(u64, u64)>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if is_hidden(&path) {
                continue;
            }
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                // Gone in the meantime, or a link to nothing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    self.unread.push((path, error.to_string()));
                    continue;
                }
            };
            let id = (metadata.dev(), metadata.ino());
            if metadata.is_file() && is_manifest(&path) {
                self.files.insert(path.into(), Stamp::of(&metadata));
            } else if metadata.is_dir() && above.len() >= MAX_DEPTH {
                self.unread.push((path, format!("is more than {MAX_DEPTH} folders deep: not read")));
            } else if metadata.is_dir() && !above.contains(&id) {
                above.push(id);
                if let Err(error) = self.folder(&path, above) {
                    self.unread.push((path, format!("can't be read: {error}; what it gave before stays")));
                }
                above.pop();
            }
        }
        Ok(())
    }
}

/// Whether a file is JSON, by its name.
pub(crate) fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "json")
}

/// Whether a file holds objects, by its name.
pub(crate) fn is_manifest(path: &Path) -> bool {
    is_json(path) || path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Hidden files, and what editors leave: `.x.swp`, `#x#`, `x~` (which has another extension anyway).
fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().map(std::ffi::OsStr::as_encoded_bytes).unwrap_or_default();
    name.starts_with(b".") || name.starts_with(b"#") || name.ends_with(b"~")
}
