//! Looks for what nobody wants any more, and for what a watch may have missed.

use std::collections::BTreeSet;

use portolan_zones::{ServiceName, Snapshot};

use super::observed::{Observed, Which};
use super::plan::{Action, Target, Verb, What};

/// All services that are, or of which something of ours is left: whoever plans them finds what is too much.
pub(super) fn services(observed: &Observed, snapshot: &Snapshot) -> BTreeSet<ServiceName> {
    let known = snapshot.services.iter().map(|service| service.name.clone());
    known.chain(observed.services()).collect()
}

/// Deletes what has our label and belongs to no service.
pub(super) fn strays(observed: &Observed) -> Vec<Action> {
    let delete = |(which, namespace, name, version)| {
        let what = match which {
            Which::Service => What::Service,
            Which::Slice => What::Slice,
        };
        Action { target: Target { what, namespace, name }, verb: Verb::Delete { version } }
    };
    observed.strays().into_iter().map(delete).collect()
}
