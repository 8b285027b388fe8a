//! At which addresses of its Nodes a cluster's node ports are told: a few that take traffic, and no others for as long as these do.
//!
//! Whatever is told of them is written into many objects of many clusters. So an address that fails goes at once, but comes back
//! only after it has been well for a while: a Node that flaps costs two changes, however long it goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::object::UnixTime;

/// As many at most: enough to survive nodes, few enough for every client to know.
const MOST: usize = 8;
/// What failed has to be well for so long, in seconds, before it is told again.
const REST: UnixTime = 300;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Entrances {
    told: BTreeSet<IpAddr>,
    /// What was told and failed.
    resting: BTreeMap<IpAddr, Rest>,
    /// When all that failed were told last.
    despaired: Option<UnixTime>,
}

#[derive(Debug, Clone, Copy)]
struct Rest {
    /// Whether its Node is ready.
    well: bool,
    /// When it may be told again, if that stays so.
    until: UnixTime,
}

impl Entrances {
    /// These were told by an earlier run.
    pub fn resume(told: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { told: told.into_iter().take(MOST).collect(), ..Self::default() }
    }

    /// What is told, sorted.
    pub fn told(&self) -> impl Iterator<Item = IpAddr> {
        self.told.iter().copied()
    }

    /// When to look again, though no Node changed.
    pub fn due(&self) -> Option<UnixTime> {
        self.resting.values().filter(|rest| rest.well).map(|rest| rest.until).min()
    }

    /// Takes in what Nodes there are: the addresses of each, and whether it is ready. Whether others are told than before.
    ///
    /// Nodes that are not ready take no traffic, but when none is ready it is the control plane that lost them: Kubernetes doesn't
    /// evict then ("full disruption"), and node ports go on working.
    pub fn settle<'n>(&mut self, nodes: impl Iterator<Item = (&'n [IpAddr], bool)>, now: UnixTime) -> bool {
        let [mut lost, mut ready] = [BTreeSet::new(), BTreeSet::new()];
        nodes.for_each(|(at, is_ready)| if is_ready { &mut ready } else { &mut lost }.extend(at));
        let before = self.told.clone();
        self.follow(&lost, &ready, now);
        let is_disrupted = ready.is_empty();
        let usable = if is_disrupted { lost } else { ready };
        self.told.retain(|at| usable.contains(at));
        let gone = before.difference(&self.told).map(|at| (*at, Rest { well: false, until: now + REST }));
        self.resting.extend(gone);
        let despairs = is_disrupted && self.despaired.is_none_or(|last| last + REST <= now);
        let rested = usable.iter().filter(|at| despairs || !self.resting.contains_key(at));
        let room = MOST.saturating_sub(self.told.len());
        let new: Vec<IpAddr> = rested.filter(|at| !self.told.contains(at)).take(room).copied().collect();
        self.told.extend(new);
        if self.told.is_empty() {
            self.told.extend(usable.iter().take(MOST));
        }
        if despairs && self.told != before {
            self.despaired = Some(now);
        }
        self.told != before
    }

    /// How those are that rest. Who is gone for good is forgotten.
    fn follow(&mut self, lost: &BTreeSet<IpAddr>, ready: &BTreeSet<IpAddr>, now: UnixTime) {
        for (at, rest) in &mut self.resting {
            let well = ready.contains(at);
            // It has to be well from the first second to the last.
            if lost.contains(at) || well && !rest.well {
                rest.until = now + REST;
            }
            rest.well = well;
        }
        self.resting.retain(|_, rest| rest.until > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nodes by the last octet of their addresses: ready ones, and lost ones.
    struct Nodes {
        entrances: Entrances,
        changes: usize,
        now: UnixTime,
    }

    impl Nodes {
        fn new() -> Self {
            Self { entrances: Entrances::default(), changes: 0, now: 1_000 }
        }

        /// As these are after so many seconds.
        fn are(&mut self, after: UnixTime, ready: &[u8], lost: &[u8]) -> Vec<u8> {
            self.now += after;
            let address = |octet: &u8| [IpAddr::from([192, 0, 2, *octet])];
            let nodes: Vec<_> = ready
                .iter()
                .map(|n| (address(n), true))
                .chain(lost.iter().map(|n| (address(n), false)))
                .collect();
            let nodes = nodes.iter().map(|(at, ready)| (&at[..], *ready));
            self.changes += usize::from(self.entrances.settle(nodes, self.now));
            self.told()
        }

        fn told(&self) -> Vec<u8> {
            let last = |at: IpAddr| match at {
                IpAddr::V4(v4) => v4.octets()[3],
                IpAddr::V6(_) => 0,
            };
            self.entrances.told().map(last).collect()
        }
    }

    /// A kubelet that is heard now and then, for an hour: it goes at once, and comes back once, when it has been well for long.
    #[test]
    fn a_node_that_flaps_costs_two_changes() {
        let mut nodes = Nodes::new();
        assert_eq!(nodes.are(0, &[1, 2, 3], &[]), [1, 2, 3]);
        nodes.changes = 0;
        for _ in 0..60 {
            assert_eq!(nodes.are(30, &[1, 3], &[2]), [1, 3]);
            assert_eq!(nodes.are(30, &[1, 2, 3], &[]), [1, 3]);
        }
        assert_eq!(nodes.entrances.due(), Some(nodes.now + REST));
        assert_eq!(nodes.are(REST - 1, &[1, 2, 3], &[]), [1, 3]);
        assert_eq!(nodes.are(1, &[1, 2, 3], &[]), [1, 2, 3]);
        assert_eq!((nodes.changes, nodes.entrances.due()), (2, None));
    }

    /// The same where no other is ready: clients are never sent nowhere, and are not sent to and fro either.
    #[test]
    fn the_only_node_that_is_ready_now_and_then_costs_few_changes() {
        let mut nodes = Nodes::new();
        nodes.are(0, &[1, 2], &[]);
        nodes.are(0, &[1], &[2]);
        nodes.changes = 0;
        for _ in 0..60 {
            assert!(nodes.are(30, &[], &[1, 2]).contains(&1));
            assert_eq!(nodes.are(30, &[1], &[2]), [1]);
        }
        assert!(nodes.changes <= 2 * 3600 / REST as usize, "{}", nodes.changes);
    }

    /// A few Nodes stay the ones that are told, whoever joins and whoever goes that nobody was told of.
    #[test]
    fn who_is_told_stays() {
        let mut nodes = Nodes::new();
        let all: Vec<u8> = (20..40).collect();
        let first: Vec<u8> = (20..28).collect();
        assert_eq!(nodes.are(0, &all, &[]), first);
        let more: Vec<u8> = (1..40).collect();
        assert_eq!(nodes.are(0, &more, &[]), first, "they come before the others by address");
        assert_eq!(nodes.are(0, &more[..30], &[]), first);
        nodes.entrances = Entrances::resume(nodes.entrances.told());
        assert_eq!(nodes.are(0, &more, &[]), first, "another process");
    }

    /// All that are lost are told at once; what is gone for good is not remembered.
    #[test]
    fn a_control_plane_that_lost_its_nodes_takes_no_entrance_away() {
        let mut nodes = Nodes::new();
        nodes.are(0, &[1, 2, 3], &[]);
        assert_eq!(nodes.are(10, &[3], &[1, 2]), [3]);
        assert_eq!(nodes.are(10, &[], &[1, 2, 3]), [1, 2, 3]);
        assert_eq!(nodes.are(10, &[], &[]), [] as [u8; 0]);
        assert_eq!(nodes.are(10, &[2], &[]), [2], "better one that may fail than none");
        nodes.are(REST, &[2], &[]);
        assert!(nodes.entrances.resting.is_empty());
    }
}
