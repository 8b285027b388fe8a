//! Where node agents are ready, as it follows from home's Nodes and slices.

use std::sync::Arc;

use super::Table;
use crate::agents::Agents;
use crate::name::ServiceName;

/// See the module.
#[derive(Default)]
pub(super) struct Readiness {
    /// The Service that agents are behind; `None`: nobody needs one.
    pub(super) service: Option<ServiceName>,
    agents: Option<Arc<Agents>>,
    /// Whether `agents` is to be put together anew.
    pub(super) outdated: bool,
}

impl Table {
    /// Only whether one is needed makes other answers, for all services.
    pub(super) fn set_agents(&mut self, service: Option<ServiceName>) {
        let before = std::mem::replace(&mut self.readiness.service, service);
        self.readiness.outdated |= before != self.readiness.service;
        if before.is_some() != self.readiness.service.is_some() {
            self.whereabouts.forget();
            self.touch_all();
        }
    }

    /// Looks anew where agents are, if that may have changed.
    pub(super) fn settle_agents(&mut self) {
        if !std::mem::take(&mut self.readiness.outdated) {
            return;
        }
        let home = self.clusters.home.as_ref();
        let build = |service: &ServiceName| {
            let words = self.entries.get(service).map_or(&[][..], |entry| &entry.words);
            let own = words.iter().find(|word| Some(&word.cluster) == home);
            let slices = own.map_or(&[][..], |word| &word.slices);
            let nodes = self.clusters.nodes().filter(|(cluster, _)| Some(*cluster) == home);
            Agents::build(service, home, nodes.map(|(_, node)| &node.name), slices)
        };
        let agents = self.readiness.service.as_ref().map(build);
        if self.readiness.agents.as_deref() != agents.as_ref() {
            self.readiness.agents = agents.map(Arc::new);
        }
    }

    /// Where agents are; `None`: nobody needs one.
    pub(crate) fn agents(&self) -> &Option<Arc<Agents>> {
        &self.readiness.agents
    }
}
