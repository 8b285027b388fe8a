//! How many UDP threads there are, and which cores they run on.

use std::io;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// UDP threads of each address, each with a socket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Threads {
    /// As many as cores that the process may use, or as it may use time of (cgroups); they run where the system lets them.
    #[default]
    AsCores,
    /// So many; they run where the system lets them.
    Number(NonZeroUsize),
    /// One on each of these cores and on no other.
    Pinned(Vec<u16>),
}

/// A thread can't run where it should.
#[derive(Debug, thiserror::Error)]
#[error(
    "a UDP thread can't be pinned to core {core}: {why}; `taskset -cp {pid}` shows the cores that this process may use"
)]
pub struct CoreError {
    /// Its number, from 0, as in `/proc/cpuinfo`.
    pub core: u16,
    /// What the system says.
    pub why: String,
    pid: u32,
}

impl Threads {
    /// A core for each thread, or none for those that may run anywhere. Cores that the process may not use are refused.
    pub(super) fn cores(&self) -> Result<Vec<Option<u16>>, CoreError> {
        let anywhere = |number: NonZeroUsize| vec![None; number.get()];
        match self {
            Self::AsCores => Ok(anywhere(available_parallelism().unwrap_or(NonZeroUsize::MIN))),
            Self::Number(number) => Ok(anywhere(*number)),
            Self::Pinned(cores) => cores.iter().map(|core| may_use(*core).map(|()| Some(*core))).collect(),
        }
    }
}

fn may_use(core: u16) -> Result<(), CoreError> {
    let error = |why: String| CoreError { core, why, pid: std::process::id() };
    let allowed = sched_getaffinity(None).map_err(|errno| error(io::Error::from(errno).to_string()))?;
    // `is_set` takes no larger numbers.
    let known = usize::from(core) < CpuSet::MAX_CPU && allowed.is_set(core.into());
    if known { Ok(()) } else { Err(error("it does not exist, or is not for this process".to_owned())) }
}

/// Keeps the calling thread on a core of [`Threads::cores`].
pub(super) fn pin(core: u16) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core.into());
    sched_setaffinity(None, &set).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_have_the_cores_that_are_named() {
        let number = Threads::Number(NonZeroUsize::new(3).unwrap());
        assert_eq!(number.cores().unwrap(), [None; 3]);
        assert_eq!(Threads::AsCores.cores().unwrap().len(), available_parallelism().unwrap().get());
        let allowed = sched_getaffinity(None).unwrap();
        let first = (0..CpuSet::MAX_CPU as u16).find(|core| allowed.is_set((*core).into())).unwrap();
        let pinned = Threads::Pinned(vec![first, first]);
        assert_eq!(pinned.cores().unwrap(), [Some(first); 2]);
        std::thread::spawn(move || {
            pin(first).unwrap();
            assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
        })
        .join()
        .unwrap();
        for core in [CpuSet::MAX_CPU as u16 - 1, CpuSet::MAX_CPU as u16, u16::MAX] {
            let error = Threads::Pinned(vec![first, core]).cores().unwrap_err();
            let expected = format!("a UDP thread can't be pinned to core {core}: it does not exist");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
}
