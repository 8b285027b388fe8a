//! UDP sockets that were redirected when they connected, as the programs have noted them: for who closes those whose backend is gone.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData};

use crate::abi::{COUNT_UNNOTED, COUNTS, Origin};
use crate::kernel::{LoadError, of_map, take, words};
use crate::sys::{self, Words};

/// See the module.
pub struct ConnectedSockets {
    map: Mutex<HashMap<MapData, u64, Origin>>,
    size: u32,
    counts: Words,
}

impl std::fmt::Debug for ConnectedSockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectedSockets").field("size", &self.size).finish_non_exhaustive()
    }
}

impl ConnectedSockets {
    pub(crate) fn of(programs: &mut Ebpf) -> Result<Self, LoadError> {
        let map = take(programs, "connected")?;
        let Map::HashMap(made) = &map else {
            return Err(LoadError::Object("connected is no hash map".to_owned()));
        };
        let size = sys::map_shape(made.fd().as_fd()).map_err(LoadError::Memory)?.entries;
        let map = HashMap::try_from(map).map_err(|error| of_map("connected", &error))?;
        Ok(Self { map: Mutex::new(map), size, counts: words(programs, "counts", COUNTS)? })
    }

    /// The one with this cookie.
    pub fn find(&self, cookie: u64) -> Option<Origin> {
        self.map().get(&cookie, 0).ok()
    }

    /// All of them with their cookies, as far as they stay while they are read.
    pub fn all(&self) -> Vec<(u64, Origin)> {
        let map = self.map();
        // Where one goes that was to lead to the next one, the kernel begins again: not for ever.
        map.iter().take(self.size as usize).filter_map(Result::ok).collect()
    }

    /// How many there are, and can be.
    pub fn fill(&self) -> (u32, u32) {
        let used = self.map().keys().take(self.size as usize).count();
        (used as u32, self.size)
    }

    /// Sockets that found no room since the programs were loaded: nobody closes them.
    pub fn unnoted(&self) -> u64 {
        self.counts[COUNT_UNNOTED].load(Ordering::Relaxed)
    }

    /// Forgets one, if this is still what is noted of it; whether it was.
    pub(crate) fn forget(&self, cookie: u64, noted: &Origin) -> bool {
        let mut map = self.map();
        map.get(&cookie, 0).is_ok_and(|now| now == *noted) && map.remove(&cookie).is_ok()
    }

    fn map(&self) -> MutexGuard<'_, HashMap<MapData, u64, Origin>> {
        // It is a descriptor: whoever panicked has changed nothing of it.
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
