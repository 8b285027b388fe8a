//! Hands snapshots to readers. Readers never wait and never free: the writer keeps old snapshots until nobody reads them.

use std::sync::Arc;

use arc_swap::ArcSwap;
use portolan_zones::Snapshot;
use tokio::sync::watch;

/// What readers load from.
pub type Snapshots = Arc<ArcSwap<Snapshot>>;

/// Tells the generation of the newest snapshot, for those who follow the snapshots and are not asked for them.
pub type Generations = watch::Receiver<u64>;

/// The writer's end.
pub(crate) struct Publisher {
    current: Snapshots,
    generation: watch::Sender<u64>,
    /// Replaced, but perhaps still read: freeing a snapshot takes long, so it must not happen in a thread that answers.
    retired: Vec<Arc<Snapshot>>,
}

impl Publisher {
    pub(crate) fn new(first: Snapshot) -> Self {
        let generation = watch::Sender::new(first.generation);
        Self { current: Arc::new(ArcSwap::from_pointee(first)), generation, retired: Vec::new() }
    }

    pub(crate) fn generations(&self) -> Generations {
        self.generation.subscribe()
    }

    pub(crate) fn snapshots(&self) -> Snapshots {
        self.current.clone()
    }

    pub(crate) fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Readers that come now get `next`.
    pub(crate) fn publish(&mut self, next: Snapshot) {
        let generation = next.generation;
        self.retired.push(self.current.swap(Arc::new(next)));
        self.generation.send_replace(generation);
        self.sweep();
    }

    /// Frees what nobody reads any more. A swap has turned every reader's borrow into a count, so one count is ours.
    pub(crate) fn sweep(&mut self) {
        self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_keep_what_they_read_and_the_writer_frees_it() {
        let mut publisher = Publisher::new(Snapshot::default());
        let snapshots = publisher.snapshots();
        let guard = snapshots.load();
        let weak = Arc::downgrade(&publisher.current());
        let mut next = Snapshot::default();
        next.generation = 1;
        publisher.publish(next);
        assert_eq!((guard.generation, snapshots.load().generation), (0, 1));
        drop(guard);
        assert!(weak.upgrade().is_some(), "a reader that lets go frees nothing");
        publisher.sweep();
        assert!(weak.upgrade().is_none());
    }
}
