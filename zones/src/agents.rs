//! On which nodes of the home cluster virtual IPs can be connected to: those where a node agent is ready.
//!
//! Agents are Pods behind a headless Service. Kubernetes keeps its EndpointSlices, which say where they run and whether they are
//! ready: home's own word, that nobody has to export or to copy. Who comes and goes there is looked up when a query comes;
//! services are not compiled anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::name::{ClusterId, ServiceName};
use crate::object::{Conditions, Slice};
use crate::places::Key;
use crate::policy::spread::At;

/// Home's nodes, and those that have a ready agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agents {
    /// The Service that agents are behind.
    service: ServiceName,
    /// Whose nodes they are on.
    home: Option<ClusterId>,
    /// Sorted: the nodes with a ready one.
    ready: Box<[Key]>,
    /// Sorted: the nodes with one, ready or not.
    there: Box<[Key]>,
    /// What nodes are called: all that there are, and those that only slices tell of.
    names: BTreeMap<Key, Arc<str>>,
}

/// Why a client is not answered virtual IPs that others are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// Its node has no ready agent.
    Agent,
    /// It is on no node of home's, as far as anybody knows.
    Node,
}

impl Agents {
    /// Of home's nodes by name, and of all that home says of the service.
    pub(crate) fn build<'t>(
        service: &ServiceName,
        home: Option<&ClusterId>,
        nodes: impl Iterator<Item = &'t Arc<str>>,
        slices: &'t [Arc<Slice>],
    ) -> Self {
        let key = |node: &Arc<str>| Key::of_node(&At { cluster: home, node: Some(node), ..At::default() });
        let own = slices.iter().filter(|slice| slice.source.is_none());
        let agents: Vec<(&Arc<str>, bool)> = own
            .flat_map(|slice| &slice.endpoints)
            .filter_map(|agent| Some((agent.place.as_ref()?.node.as_ref()?, works(agent.conditions))))
            .collect();
        let ready: BTreeSet<Key> =
            agents.iter().filter(|(_, ready)| *ready).map(|(node, _)| key(node)).collect();
        let there: BTreeSet<Key> = agents.iter().map(|(node, _)| key(node)).collect();
        let all = nodes.chain(agents.iter().map(|(node, _)| *node));
        Self {
            service: service.clone(),
            home: home.cloned(),
            ready: ready.into_iter().collect(),
            there: there.into_iter().collect(),
            names: all.map(|node| (key(node), node.clone())).collect(),
        }
    }

    /// The Service that agents are behind.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Whose nodes they are on; `None`: nobody is home, and nobody has one.
    pub fn home(&self) -> Option<&ClusterId> {
        self.home.as_ref()
    }

    /// How many nodes have a ready one.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.names.len()
    }

    /// Whether the node that this stands for has a ready one.
    pub(crate) fn is_ready_on(&self, node: Key) -> bool {
        self.ready.binary_search(&node).is_ok()
    }

    /// Whether the node that this stands for has one at all.
    pub(crate) fn is_on(&self, node: Key) -> bool {
        self.there.binary_search(&node).is_ok()
    }

    /// What clients on the node that this stands for lack, if anything.
    pub(crate) fn lack(&self, node: Option<Key>) -> Option<Lack> {
        match node {
            Some(node) if self.is_ready_on(node) => None,
            Some(node) if self.names.contains_key(&node) => Some(Lack::Agent),
            _ => Some(Lack::Node),
        }
    }

    /// Whether the same nodes have one.
    pub(crate) fn are_ready_where(&self, others: &Self) -> bool {
        self.ready == others.ready
    }

    /// What a node is called.
    pub(crate) fn name(&self, node: Key) -> Option<&Arc<str>> {
        self.names.get(&node)
    }
}

/// A Service may publish what is not ready (`publishNotReadyAddresses`), which then is called ready: `serving` tells.
fn works(conditions: Conditions) -> bool {
    conditions.ready && conditions.serving && !conditions.terminating
}
