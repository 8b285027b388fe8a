//! What the task of one cluster and the followers tell each other.

use std::sync::Arc;

use portolan_zones::{ClusterId, Event};
use tokio::sync::{mpsc, watch};

use super::ClusterState;
use super::identity::Identity;
use super::spec::{Spec, Standing};

/// What the followers have decided about a cluster.
#[derive(Clone)]
pub(crate) struct Order {
    pub(crate) spec: Arc<Spec>,
    pub(crate) standing: Standing,
    /// Grows with every decision, over all clusters.
    pub(crate) number: u64,
}

/// What the followers hear of a cluster.
#[derive(Clone, PartialEq)]
pub(crate) struct Report {
    /// As its configuration has it; `None`: the own cluster.
    pub(crate) name: Option<String>,
    pub(crate) state: ClusterState,
    /// Whom it stands for, and who answers.
    pub(crate) identity: Identity,
    /// The id under which the table has its objects.
    pub(crate) speaks_for: Option<ClusterId>,
    /// The last decision that it knows of.
    pub(crate) obeyed: u64,
    /// Whether we hear it, and everything that we need of it.
    pub(crate) heard: bool,
}

impl Report {
    /// Nothing was heard yet.
    pub(crate) fn unknown(spec: &Spec) -> Self {
        let state = ClusterState::unknown(spec.label(), spec.origin);
        let identity = spec.identity();
        Self { name: spec.name.clone(), state, identity, speaks_for: None, obeyed: 0, heard: false }
    }

    /// Whether nothing is different but counts and times, by which nobody decides anything.
    pub(crate) fn is_much_like(&self, other: &Self) -> bool {
        self.state.is_much_like(&other.state)
            && (&self.name, &self.identity, &self.speaks_for, self.obeyed, self.heard)
                == (&other.name, &other.identity, &other.speaks_for, other.obeyed, other.heard)
    }
}

/// Who is told what.
pub(crate) struct Ends {
    pub(crate) orders: watch::Receiver<Order>,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) events: mpsc::Sender<Vec<Event>>,
    /// Whether the own cluster can't be heard, so that nobody else's silence means anything.
    pub(crate) deaf: watch::Receiver<bool>,
}
