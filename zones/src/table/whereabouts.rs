//! Where clients are, as it follows from Nodes and from what the operator says.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clusters::Clusters;
use crate::places::{Key, Mapping, Place, Places};

/// See the module.
#[derive(Default)]
pub(super) struct Whereabouts {
    mappings: Box<[Mapping]>,
    pub(super) places: Arc<Places>,
    /// Of `places`: each area that clients are in.
    pub(super) areas: BTreeMap<Key, Place>,
    /// Whether they are to be listed anew.
    outdated: bool,
}

impl Whereabouts {
    /// The operator says this from now on.
    pub(super) fn map(&mut self, mappings: Box<[Mapping]>) {
        self.outdated |= self.mappings != mappings;
        self.mappings = mappings;
    }

    /// Somebody else is the home cluster.
    pub(super) fn forget(&mut self) {
        self.outdated = true;
    }

    /// Lists places anew, if anything changed; whether there are other areas than before.
    pub(super) fn settle(&mut self, clusters: &Clusters, nodes_moved: bool) -> bool {
        if !std::mem::take(&mut self.outdated) && !nodes_moved {
            return false;
        }
        let places = Places::build(&self.mappings, clusters.home.as_ref(), clusters.nodes());
        if places == *self.places {
            return false;
        }
        let areas = places.areas();
        self.places = Arc::new(places);
        std::mem::replace(&mut self.areas, areas) != self.areas
    }
}
