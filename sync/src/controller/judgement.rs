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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::{Access, Origin, PeerConfig, Pinned};

    fn peer(name: &str) -> PeerConfig {
        PeerConfig {
            name: name.to_owned(),
            origin: Origin::ClusterPeer,
            access: Access::InCluster,
            id: None,
            pinned: Pinned::default(),
            network: Arc::default(),
            labels: Box::default(),
            namespaces: None,
            stale_after: std::time::Duration::from_secs(30),
            withdraw_after: None,
        }
    }

    /// A wrong Secret makes a cluster a duplicate, a long outage has it withdrawn: its exports go either way, and either may
    /// be put right.
    #[test]
    fn all_that_makes_exports_go_is_another_judgement() {
        let unknown = ClusterState::unknown("west", Some(Origin::ClusterPeer));
        let synced = ClusterState { synced: true, ..unknown.clone() };
        let withdrawn = ClusterState { withdrawn: true, ..synced.clone() };
        let twin = ClusterState { duplicate_of: Some("east".to_owned()), ..synced.clone() };
        let list = PeerList { peers: vec![peer("west")], complete: true, ..PeerList::default() };
        let of = |state: &ClusterState| judge(&list, std::slice::from_ref(state));
        let all = [&unknown, &synced, &withdrawn, &twin].map(of);
        assert_eq!(all.map(|judgement| judgement.all_heard), [false, true, true, true]);
        let numbers: BTreeSet<u64> = all.iter().map(|judgement| judgement.number).collect();
        assert_eq!(numbers.len(), all.len(), "{all:?}");
        let reachable = ClusterState { reachable: true, ..synced.clone() };
        assert_eq!(of(&reachable), of(&synced), "what nothing goes for is none");
        let incomplete = PeerList { complete: false, ..list.clone() };
        assert!(!judge(&incomplete, &[synced]).all_heard);
    }
}
