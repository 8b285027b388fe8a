//! How many clusters run at once, for the memory and the processor: about 420 MB each.

use std::sync::{Condvar, Mutex};

/// Besides those that all tests share.
const AT_ONCE: usize = 4;

static TAKEN: Mutex<usize> = Mutex::new(0);
static GIVEN_BACK: Condvar = Condvar::new();

/// To run so many clusters; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit(usize);

impl Permit {
    /// Waits until so many more may run.
    pub(super) fn take(clusters: usize) -> Self {
        assert!(clusters <= AT_ONCE, "{clusters} clusters: at most {AT_ONCE} run at once");
        let taken = TAKEN.lock().unwrap();
        *GIVEN_BACK.wait_while(taken, |taken| *taken + clusters > AT_ONCE).unwrap() += clusters;
        Self(clusters)
    }

    /// One for each cluster.
    pub(super) fn split(mut self) -> Vec<Self> {
        let clusters = std::mem::take(&mut self.0);
        (0..clusters).map(|_| Self(1)).collect()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap() -= self.0;
        GIVEN_BACK.notify_all();
    }
}
