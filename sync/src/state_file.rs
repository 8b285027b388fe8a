//! The file that remembers virtual IPs: read once, replaced whole, never half written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::vip::Memory;

/// What went wrong with the state file. Serving goes on without it.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// It can't be read.
    #[error("can't read virtual IPs from {path}: {error}: addresses are chosen anew until it can")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It isn't what we wrote.
    #[error(
        "{path} is no state file of virtual IPs ({reason}): it was moved to {kept}, addresses are chosen anew"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where it is now.
        kept: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It can't be written.
    #[error("can't write virtual IPs to {path}: {error}: a restart may change addresses until it can")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Reads the file; `None` when there is none yet. With `keep_corrupt` a file that makes no sense is moved aside.
pub(crate) fn load(path: &Path, keep_corrupt: bool) -> Result<Option<Memory>, StateFileError> {
    let read_error = |error| StateFileError::Read { path: path.to_owned(), error };
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(read_error(error)),
    };
    let reason = match serde_json::from_slice::<Memory>(&text) {
        Ok(memory) if memory.is_known() => return Ok(Some(memory)),
        Ok(_) => "of another version".to_owned(),
        Err(error) => error.to_string(),
    };
    let kept = beside(path, "corrupt");
    if keep_corrupt {
        fs::rename(path, &kept).map_err(read_error)?;
    }
    Err(StateFileError::Corrupt { path: path.to_owned(), kept, reason })
}

/// Writes the file beside its place, flushes it to the disk, then puts it in place.
pub(crate) fn save(path: &Path, memory: &Memory) -> Result<(), StateFileError> {
    write(path, memory).map_err(|error| StateFileError::Write { path: path.to_owned(), error })
}

fn write(path: &Path, memory: &Memory) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let temporary = beside(path, "new");
    let written = serde_json::to_vec(memory).map_err(io::Error::from).and_then(|text| {
        let mut file = File::create(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    match written {
        // The name itself is on the disk only when the folder is.
        Ok(()) => File::open(folder)?.sync_all(),
        Err(error) => {
            // It may not exist; what matters is the first error.
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vip::{PoolRanges, VipPool};
    use portolan_zones::object::IpFamily;
    use portolan_zones::{ServiceName, VipDemand};

    fn memory() -> Memory {
        let mut pool = VipPool::new(PoolRanges::default(), 60);
        let service = ServiceName::new("n", "s").unwrap();
        let families = [IpFamily::V4].into_iter().collect();
        pool.allocate(&VipDemand { service, families }, |_| false, 0);
        pool.take_memory().unwrap()
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/vips.json");
        assert!(load(&path, true).unwrap().is_none());
        save(&path, &memory()).unwrap();
        let read = load(&path, true).unwrap().unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), serde_json::to_string(&memory()).unwrap());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_corrupt_file_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vips.json");
        for text in ["", "{\"version\":1", "{\"version\":9,\"assigned\":[],\"freed\":[]}", "\u{0}\u{0}"] {
            fs::write(&path, text).unwrap();
            let error = load(&path, true).unwrap_err().to_string();
            assert!(error.contains("moved to"), "{error}");
            assert_eq!(fs::read_to_string(folder.path().join("vips.json.corrupt")).unwrap(), text);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_full_disk_is_an_error_and_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vips.json");
        save(&path, &memory()).unwrap();
        let before = fs::read(&path).unwrap();
        // Writing goes to the temporary file first: make that one a device that is always full.
        std::os::unix::fs::symlink("/dev/full", folder.path().join("vips.json.new")).unwrap();
        let error = save(&path, &memory()).unwrap_err().to_string();
        assert!(error.contains("can't write virtual IPs") && error.contains("No space left"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
        let error = save(Path::new("/dev/null/vips.json"), &memory()).unwrap_err().to_string();
        assert!(error.contains("/dev/null/vips.json"), "{error}");
    }
}
