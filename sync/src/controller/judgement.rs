//! Who counts as a cluster of the clusterset, and whether all are heard: what imports may go for.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::words;
use crate::kubernetes::ClusterState;
use crate::kubernetes::peers::PeerList;

/// What is believed of the clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Judgement {
    /// Whether all clusters that are configured are heard.
    pub(super) all_heard: bool,
    /// Another number for another judgement.
    pub(super) number: u64,
}

/// The clusters that are configured, and how they are.
#[derive(Clone)]
pub(super) struct Clusters {
    pub(super) list: watch::Receiver<Arc<PeerList>>,
    pub(super) states: watch::Receiver<Arc<[ClusterState]>>,
}

impl Clusters {
    /// Waits until there is something new.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            Ok(()) = self.list.changed() => {}
            Ok(()) = self.states.changed() => {}
            else => std::future::pending().await,
        }
    }

    /// What is believed now.
    pub(super) fn judge(&self) -> Judgement {
        let (list, states) = (self.list.borrow().clone(), self.states.borrow().clone());
        judge(&list, &states)
    }
}

fn judge(list: &PeerList, states: &[ClusterState]) -> Judgement {
    let settled: BTreeSet<&str> = states.iter().filter(|s| is_settled(s)).map(|s| &*s.name).collect();
    let all_heard = list.complete && list.peers.iter().all(|peer| settled.contains(&*peer.name));
    // Whose exports go when a cluster is withdrawn, or is found to be another one: either may be a mistake.
    let of = |s: &ClusterState| {
        (s.name.clone(), s.id.clone(), is_settled(s), s.withdrawn, s.duplicate_of.is_some())
    };
    let states: BTreeSet<_> = states.iter().map(of).collect();
    let peers: BTreeSet<&str> = list.peers.iter().map(|peer| &*peer.name).collect();
    Judgement { all_heard, number: words::fingerprint(&(list.complete, peers, states)) }
}

/// Whether nothing that a cluster says is still to come.
fn is_settled(state: &ClusterState) -> bool {
    state.synced || state.withdrawn || state.is_own || state.duplicate_of.is_some()
}
