//! What is known of the clusters themselves: which one asks, which ones are heard, and which can be reached how.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::entrances::Entrances;
use crate::name::ClusterId;
use crate::object::{Gateway, GatewayAt, Node, Place as Spot, UnixTime};
use crate::places::Place;
use crate::service::Reach;
use crate::standing::Standings;

/// Whose exports are heard from the clusters themselves. Of all others only the home cluster's imports and mirrored
/// slices tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hearing {
    /// These clusters.
    Only(BTreeSet<ClusterId>),
    /// All but these: whoever is neither heard nor named is no member of the clusterset any more.
    AllBut(BTreeSet<ClusterId>),
}

impl Hearing {
    /// Whether a cluster that exports a service would be known to do so.
    pub fn hears(&self, cluster: &ClusterId) -> bool {
        match self {
            Self::Only(clusters) => clusters.contains(cluster),
            Self::AllBut(clusters) => !clusters.contains(cluster),
        }
    }
}

impl Default for Hearing {
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

/// The clusters of a table.
#[derive(Default)]
pub(crate) struct Clusters {
    pub(crate) home: Option<ClusterId>,
    pub(crate) hearing: Hearing,
    /// The namespaces that a cluster's exports are accepted in; of clusters that are not named, in all.
    pub(crate) accepted: BTreeMap<ClusterId, BTreeSet<String>>,
    /// Clusters on one network reach each other's endpoints; those that are not named are on one that has no name.
    networks: BTreeMap<ClusterId, Arc<str>>,
    nodes: BTreeMap<(ClusterId, Arc<str>), Node>,
    /// Where node ports are reached.
    entrances: BTreeMap<ClusterId, Entrances>,
    /// Clusters whose entrances are to be listed anew.
    moved: BTreeSet<ClusterId>,
    /// The region of each cluster whose Nodes are all in one.
    regions: BTreeMap<ClusterId, Arc<str>>,
    pub(crate) standings: Standings,
    /// Nodes that are elsewhere than before, or have other networks.
    relocated: BTreeSet<(ClusterId, Arc<str>)>,
}

impl Clusters {
    /// Nodes of all clusters.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&ClusterId, &Node)> {
        self.nodes.iter().map(|((cluster, _), node)| (cluster, node))
    }

    /// Whether some of home's Nodes don't say which addresses their pods have.
    pub(crate) fn hide_pods(&self) -> bool {
        let own = |((cluster, _), _): &(&(ClusterId, Arc<str>), &Node)| Some(cluster) == self.home.as_ref();
        self.nodes.iter().filter(own).any(|(_, node)| node.pod_cidrs.is_empty())
    }

    /// Takes a node in.
    pub(crate) fn apply_node(&mut self, cluster: &ClusterId, node: Node) {
        let key = (cluster.clone(), node.name.clone());
        let before = self.nodes.insert(key.clone(), node);
        let (node, before) = (&self.nodes[&key], before.as_ref());
        if before.is_none_or(|before| (&before.entrances, before.ready) != (&node.entrances, node.ready)) {
            self.moved.insert(cluster.clone());
        }
        let where_is = |node: &Node| {
            let Node { az, region, pod_cidrs, addresses, .. } = node;
            (az.clone(), region.clone(), pod_cidrs.clone(), addresses.clone())
        };
        if before.is_none_or(|before| where_is(before) != where_is(node)) {
            self.relocated.insert(key);
        }
    }

    /// A node is gone.
    pub(crate) fn delete_node(&mut self, cluster: &ClusterId, name: &str) {
        let key = (cluster.clone(), Arc::from(name));
        if self.nodes.remove(&key).is_some() {
            self.moved.insert(cluster.clone());
            self.relocated.insert(key);
        }
    }

    /// Nodes that are elsewhere than at the last call, or have other networks.
    pub(crate) fn take_relocated(&mut self) -> BTreeSet<(ClusterId, Arc<str>)> {
        std::mem::take(&mut self.relocated)
    }

    /// A cluster left.
    pub(crate) fn forget(&mut self, cluster: &ClusterId) {
        self.networks.remove(cluster);
        self.standings.forget(cluster);
        self.entrances.remove(cluster);
        self.moved.remove(cluster);
    }

    /// Whether a cluster may speak for a namespace.
    pub(crate) fn accepts(&self, cluster: &ClusterId, namespace: &str) -> bool {
        self.accepted.get(cluster).is_none_or(|namespaces| namespaces.contains(namespace))
    }

    /// Puts a cluster on a network; whether it was on another one.
    pub(crate) fn set_network(&mut self, cluster: ClusterId, network: Arc<str>) -> bool {
        let before = self.network(Some(&cluster)) != &*network;
        self.networks.insert(cluster, network);
        before
    }

    /// The region that a cluster is in, if all its Nodes are in one.
    pub(crate) fn region(&self, cluster: &ClusterId) -> Option<Arc<str>> {
        self.regions.get(cluster).cloned()
    }

    /// Looks anew which regions clusters are in; returns those that are in another one than before.
    pub(crate) fn settle_regions(&mut self, clusters: impl IntoIterator<Item = ClusterId>) -> Vec<ClusterId> {
        let mut changed = Vec::new();
        for cluster in clusters.into_iter().collect::<BTreeSet<_>>() {
            let from = (cluster.clone(), Arc::from(""));
            let own = self.nodes.range(from..).take_while(|((c, _), _)| *c == cluster);
            let regions: BTreeSet<Option<Arc<str>>> = own.map(|(_, node)| node.region.clone()).collect();
            let only = if regions.len() == 1 { regions.into_iter().next().flatten() } else { None };
            let before = match only.clone() {
                Some(region) => self.regions.insert(cluster.clone(), region),
                None => self.regions.remove(&cluster),
            };
            if before != only {
                changed.push(cluster);
            }
        }
        changed
    }

    /// Where an endpoint of a cluster is: as its slice says, and its node for what that leaves open.
    pub(crate) fn place(&self, cluster: &ClusterId, spot: Option<&Spot>, region: Option<&Arc<str>>) -> Place {
        let name = spot.and_then(|spot| spot.node.clone());
        let node = name.clone().and_then(|name| self.nodes.get(&(cluster.clone(), name)));
        let az = spot.and_then(|spot| spot.az.clone()).or_else(|| node.and_then(|node| node.az.clone()));
        let region = node.and_then(|node| node.region.clone()).or_else(|| region.cloned());
        Place { cluster: Some(cluster.clone()), region, az, node: name }
    }

    /// Looks anew where node ports are told where nodes came or went, or what failed has rested; returns the clusters where that made
    /// a difference.
    pub(crate) fn settle_entrances(&mut self, now: UnixTime) -> Vec<ClusterId> {
        let is_due =
            |(_, entrances): &(&ClusterId, &Entrances)| entrances.due().is_some_and(|due| due <= now);
        let rested = self.entrances.iter().filter(is_due).map(|(cluster, _)| cluster.clone());
        let rested: Vec<ClusterId> = rested.collect();
        let mut changed = Vec::new();
        for cluster in std::mem::take(&mut self.moved).into_iter().chain(rested) {
            let from = (cluster.clone(), Arc::from(""));
            let own = self.nodes.range(from..).take_while(|((c, _), _)| *c == cluster);
            let nodes = own.map(|(_, node)| (&*node.entrances, node.ready));
            // That there is none is another word than that none is known.
            let is_new = !self.entrances.contains_key(&cluster);
            if self.entrances.entry(cluster.clone()).or_default().settle(nodes, now) || is_new {
                changed.push(cluster);
            }
        }
        changed
    }

    /// How clients of the home cluster reach what is behind a cluster's export.
    pub(crate) fn reach(&self, cluster: &ClusterId, gateway: Option<&Arc<Gateway>>) -> Reach {
        if Some(cluster) == self.home.as_ref()
            || self.network(Some(cluster)) == self.network(self.home.as_ref())
        {
            return Reach::Flat;
        }
        self.reach_from_outside(cluster, gateway)
    }

    /// How clients of another network do.
    pub(crate) fn reach_from_outside(&self, cluster: &ClusterId, gateway: Option<&Arc<Gateway>>) -> Reach {
        let Some(gateway) = gateway else { return Reach::Nowhere };
        let found = match &gateway.at {
            GatewayAt::Unresolved => return Reach::Unresolved,
            GatewayAt::Shared(at) if at.is_empty() => return Reach::Unresolved,
            GatewayAt::Addresses(_) | GatewayAt::Shared(_) => gateway.clone(),
            GatewayAt::Nodes(_) => match self.entrances.get(cluster) {
                Some(nodes) => {
                    let at = GatewayAt::Nodes(nodes.told().collect());
                    Arc::new(Gateway { at, ports: gateway.ports.clone() })
                }
                // Not a single node was ever told of.
                None => return Reach::Unresolved,
            },
        };
        if found.addresses().is_empty() { Reach::Nowhere } else { Reach::Gateway(found) }
    }

    fn network(&self, cluster: Option<&ClusterId>) -> &str {
        cluster.and_then(|cluster| self.networks.get(cluster)).map_or("", |network| network)
    }
}
