//! Slices by cluster and name: the deletion of one doesn't say which service it belongs to.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::name::ClusterId;
use crate::object::{Slice, SliceName};

/// All slices of all clusters; each is shared with the service that it belongs to.
#[derive(Default)]
pub(crate) struct Slices {
    by_cluster: HashMap<ClusterId, HashSet<ByName, RandomState>>,
}

impl Slices {
    /// Files a slice; returns the one of its name.
    pub(crate) fn insert(&mut self, cluster: &ClusterId, slice: Arc<Slice>) -> Option<Arc<Slice>> {
        let slices = self.by_cluster.entry(cluster.clone()).or_default();
        slices.replace(ByName(slice)).map(|before| before.0)
    }

    /// Takes a slice away.
    pub(crate) fn remove(&mut self, cluster: &ClusterId, name: &SliceName) -> Option<Arc<Slice>> {
        self.by_cluster.get_mut(cluster)?.take(name).map(|slice| slice.0)
    }

    /// Takes all slices of a cluster away.
    pub(crate) fn forget(&mut self, cluster: &ClusterId) {
        self.by_cluster.remove(cluster);
    }
}

/// A slice, found by its name.
struct ByName(Arc<Slice>);

impl Borrow<SliceName> for ByName {
    fn borrow(&self) -> &SliceName {
        &self.0.name
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}
