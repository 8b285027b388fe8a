//! Where clients are, as it follows from Nodes and from what the operator says.

use std::sync::Arc;

use crate::clusters::Clusters;
use crate::places::{Key, Mapping, Place, Places};

/// See the module.
#[derive(Default)]
pub(super) struct Whereabouts {
    mappings: Box<[Mapping]>,
    pub(super) places: Arc<Places>,
    /// Of `places`: each area that clients are in, in its order there.
    pub(super) areas: Vec<(Key, Place)>,
    /// Whether they are to be listed anew.
    outdated: bool,
    /// Whether slices are asked where pods of the home cluster are, as Nodes don't say, or must not be wrong.
    pub(super) by_slices: bool,
    /// Whether what slices say is to be read anew.
    pub(super) pods_moved: bool,
}

impl Whereabouts {
    /// The operator says this from now on.
    pub(super) fn map(&mut self, mappings: Box<[Mapping]>) {
        self.outdated |= self.mappings != mappings;
        self.mappings = mappings;
    }

    /// Somebody else is the home cluster, or virtual IPs are for others than before.
    pub(super) fn forget(&mut self) {
        self.outdated = true;
    }

    /// Lists places anew, if anything changed; whether there are other areas than before. `is_gated`: it matters on which node of home a
    /// client is, for one is sent astray who is thought to be on another.
    pub(super) fn settle(
        &mut self,
        clusters: &Clusters,
        nodes_moved: bool,
        at_home: bool,
        is_gated: bool,
    ) -> bool {
        let outdated = std::mem::take(&mut self.outdated);
        if !outdated && !nodes_moved {
            return false;
        }
        let by_slices = is_gated || clusters.hide_pods();
        self.pods_moved |= (outdated || at_home) && (by_slices || self.by_slices);
        self.by_slices = by_slices;
        let places = Places::build(&self.mappings, clusters.home.as_ref(), clusters.nodes());
        if places == *self.places {
            return false;
        }
        let areas = places.areas();
        self.places = Arc::new(places);
        std::mem::replace(&mut self.areas, areas) != self.areas
    }
}
