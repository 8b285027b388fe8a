//! What is to be taken for granted, whatever is known: to see what then would be.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::name::ClusterId;
use crate::peers::{Decider, State};
use crate::policy::{Attached, Rules};
use crate::service::Service;
use crate::standing::Standing;

/// What is to be taken for granted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Supposed {
    /// What people decide of these clusters.
    pub states: BTreeMap<ClusterId, State>,
    /// Weights in place of the policy's.
    pub weights: BTreeMap<ClusterId, u32>,
    /// Rules in place of those that hold.
    pub rules: Option<Arc<Rules>>,
}

impl Supposed {
    /// The clusters that it is about.
    pub fn clusters(&self) -> impl Iterator<Item = &ClusterId> {
        self.states.keys().chain(self.weights.keys())
    }

    /// A service as people would have it.
    pub(super) fn service<'s>(
        &self,
        service: &'s Service,
        standings: &BTreeMap<ClusterId, Standing>,
    ) -> Cow<'s, Service> {
        if self.states.is_empty() && self.rules.is_none() {
            return Cow::Borrowed(service);
        }
        let mut service = service.clone();
        for member in &mut service.members {
            let state = self.states.get(&member.cluster);
            member.state = state.map(|state| (*state, Decider::Operator)).or(member.state);
            if let Some(standing) = standings.get(&member.cluster) {
                member.labels = standing.labels.clone();
            }
        }
        Cow::Owned(service)
    }

    /// The rules of a service in a zone, and whose they are; `None`: no policy's.
    pub(super) fn rules(&self, service: &Service, zone: Option<u8>) -> (Rules, Option<Arc<Attached>>) {
        let held = service.policy_in(zone);
        let rules = self.rules.as_ref().or(held.map(|policy| &policy.rules));
        let mut rules = rules.map(|rules| (**rules).clone()).unwrap_or_default().for_service(service);
        if !self.weights.is_empty() {
            let mut weights: BTreeMap<_, _> = rules.weights.iter().cloned().collect();
            weights.extend(self.weights.clone());
            rules.weights = weights.into_iter().collect();
        }
        (rules, held.filter(|_| self.rules.is_none()).cloned())
    }
}
