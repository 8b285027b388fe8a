//! What agents of a lower ABI have pinned: taken over, as far as it fits.
//!
//! Links run the new programs from one moment to the next, whoever pinned them, and move to the folder of the new ABI. So do maps of
//! sessions that have the shape that they had: what is in them is as true as before. Others are made anew, and established
//! connections show where they really go. When all is attached, what is left of a lower ABI is removed.

use std::cmp::Reverse;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::{PinError, PinnedLink, Pins, entries, folder_of, gone, link_at, links_of, sessions_of, versions};
use crate::abi::ABI_VERSION;
use crate::hooks::{HOOKS, Hook};
use crate::kernel::{SESSIONS, Session};
use crate::sys;

/// Whether all that is in a folder may be of an agent of a lower ABI, whose hooks and maps can be others.
pub(super) fn check(folder: &Path) -> Result<(), PinError> {
    let foreign = entries(folder)?.into_iter().find(|name| !["links", "sessions"].contains(&name.as_str()));
    if let Some(name) = foreign {
        return Err(PinError::Foreign { path: folder.join(name) });
    }
    let links = links_of(folder);
    for name in entries(&links)? {
        let path = links.join(&name);
        let pinned = sys::open_pin(&path).map_err(|error| refused(&path, error))?;
        let hook = HOOKS.iter().find(|hook| hook.name == name);
        let is_ours = sys::link_info(pinned.as_fd())
            .ok()
            .flatten()
            .is_some_and(|info| hook.is_none_or(|hook| hook.attach_type == info.attach_type));
        if !is_ours {
            return Err(PinError::Foreign { path });
        }
    }
    Ok(())
}

impl Pins {
    /// Lower ABIs that are there, the highest first.
    pub(crate) fn former(&self) -> Vec<u32> {
        versions(&self.root).into_iter().filter(|version| *version < ABI_VERSION).collect()
    }

    /// Has maps of sessions be those of a lower ABI that have the same shape, for programs that are loaded after this. What can't
    /// be taken over.
    pub(crate) fn take_sessions_over(&self) -> Result<Vec<String>, PinError> {
        let mut anew = Vec::new();
        for map in &SESSIONS {
            let ours = self.sessions().join(map.name);
            if ours.try_exists().map_err(|error| refused(&ours, error))? {
                continue;
            }
            for abi in self.former() {
                match self.take_session_over(map, abi, &ours)? {
                    Some(true) => break,
                    Some(false) => anew.push(format!(
                        "map {} of ABI {abi} has another shape and is made anew: connections that it was made for may show their \
                         backends",
                        map.name
                    )),
                    None => {}
                }
            }
        }
        Ok(anew)
    }

    /// Whether it could be; `None`: it is not there.
    fn take_session_over(&self, map: &Session, abi: u32, ours: &Path) -> Result<Option<bool>, PinError> {
        let path = sessions_of(&folder_of(&self.root, abi)).join(map.name);
        let pinned = match sys::open_pin(&path) {
            Ok(pinned) => pinned,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refused(&path, error)),
        };
        if !sys::map_shape(pinned.as_fd()).is_ok_and(|shape| map.is(shape)) {
            return Ok(Some(false));
        }
        sys::pin(pinned.as_fd(), ours).map_err(|error| refused(ours, error))?;
        Ok(Some(true))
    }

    /// The link of a hook that an agent of a lower ABI pinned, and of which.
    pub(crate) fn former_link(&self, hook: Hook) -> Result<Option<(u32, PinnedLink)>, PinError> {
        for abi in self.former() {
            if let Some(link) = link_at(&self.former_link_path(abi, hook), hook)? {
                return Ok(Some((abi, link)));
            }
        }
        Ok(None)
    }

    /// Has the link of a hook be where this agent's are.
    pub(crate) fn take_link_over(&self, abi: u32, hook: Hook) -> Result<(), PinError> {
        let path = self.former_link_path(abi, hook);
        fs::rename(&path, self.link_path(hook)).map_err(|error| refused(&path, error))
    }

    /// Removes what lower ABIs have left: the names of their links, which are attached no more.
    pub(crate) fn remove_former(&self) -> Result<Vec<String>, PinError> {
        let mut removed = Vec::new();
        for abi in self.former() {
            let folder = folder_of(&self.root, abi);
            removed.extend(remove_all(&links_of(&folder))?);
            remove_all(&sessions_of(&folder))?;
            gone(fs::remove_dir(&folder), &folder)?;
        }
        Ok(removed)
    }

    fn former_link_path(&self, abi: u32, hook: Hook) -> PathBuf {
        links_of(&folder_of(&self.root, abi)).join(hook.name)
    }
}

/// A folder of pins, with all that is in it: hooks in the reverse order of attaching.
fn remove_all(folder: &Path) -> Result<Vec<String>, PinError> {
    let mut names = entries(folder)?;
    names.sort_by_key(|name| Reverse(HOOKS.iter().position(|hook| hook.name == name)));
    for name in &names {
        let path = folder.join(name);
        gone(fs::remove_file(&path), &path)?;
    }
    gone(fs::remove_dir(folder), folder)?;
    Ok(names)
}

fn refused(path: &Path, error: io::Error) -> PinError {
    PinError::Refused { path: path.to_owned(), error }
}
