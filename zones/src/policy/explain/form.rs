//! Who is answered a virtual IP, where that is not everybody.

use std::net::IpAddr;

use super::Stage;
use crate::agents::Agents;
use crate::places::Keys;
use crate::policy::{Form, Rules};
use crate::service::Service;
use crate::snapshot::Snapshot;

/// What becomes of connections to a virtual IP that everybody gets.
const SPREAD: &str = "kube-proxy spreads its connections over all that is ready, whatever the shares below";

/// Who gets a service's virtual IPs.
pub(super) enum Reach<'s> {
    /// Everybody.
    All,
    /// This client, or not, and why.
    One(bool, String),
    /// Clients on some nodes.
    Some(&'s Agents),
}

impl Snapshot {
    /// Where a service's virtual IPs are for some: whose agents decide.
    fn gate(&self, service: &Service, rules: &Rules) -> Option<&Agents> {
        let has_vip = !service.headless && rules.answer == Form::Vip && !service.ips.is_empty();
        self.agents.as_deref().filter(|_| has_vip)
    }

    /// Whether a client gets them.
    pub(super) fn reach_of(
        &self,
        service: &Service,
        rules: &Rules,
        client: IpAddr,
        keys: Option<Keys>,
    ) -> Reach<'_> {
        let Some(agents) = self.gate(service, rules) else { return Reach::All };
        let is_ready = self.lack(keys).is_none();
        let named = keys.and_then(|keys| Some((keys.node, agents.name(keys.node)?)));
        let why = match (named, agents.home()) {
            (Some((_, node)), _) if is_ready => format!("node {node} has a ready agent"),
            (Some((key, node)), _) if agents.is_on(key) => {
                format!("node {node} has no ready agent: there is one, but it is not ready")
            }
            (Some((_, node)), _) => {
                format!("node {node} has no ready agent: Service {} has none there", agents.service())
            }
            (None, Some(home)) if keys.is_some() => {
                format!("{client} is on no node of this cluster, {home}, but elsewhere")
            }
            (None, Some(home)) => format!(
                "{client} is on no node of this cluster, {home}, that is known: it is in no Node's addresses or podCIDRs, and no \
                 exported Service's EndpointSlice has it"
            ),
            (None, None) => {
                "it is not known which cluster this is, so that no node has a ready agent".to_owned()
            }
        };
        Reach::One(is_ready, why)
    }

    /// Which clients do.
    pub(super) fn reach(&self, service: &Service, rules: &Rules) -> Reach<'_> {
        self.gate(service, rules).map_or(Reach::All, Reach::Some)
    }
}

impl Reach<'_> {
    /// Where it depends on who asks: what this client gets, and why.
    pub(super) fn stage(&self) -> Option<Stage> {
        let Self::One(gets, why) = self else { return None };
        let form = if *gets { "VIP" } else { "endpoints" };
        Some(Stage { name: "form", lines: vec![format!("{form}: {why}")] })
    }

    /// The answer, of virtual IPs of the family that is asked for and of what stands in for them.
    pub(super) fn answer(&self, ips: &str, direct: &str) -> String {
        let vip = |then: &str| match ips {
            "" => "nothing: it has no virtual IP of this family".to_owned(),
            ips => format!("virtual IP {ips}{then}"),
        };
        match self {
            Self::All => vip(&format!(", whoever asks; {SPREAD}")),
            Self::One(true, _) => vip("; the node's agent spreads its connections by these shares"),
            Self::One(false, _) => direct.to_owned(),
            Self::Some(agents) => {
                let vip = vip(", which agents spread by these shares");
                let (ready, nodes) = (agents.ready(), agents.nodes());
                format!("on the {ready} of {nodes} nodes with a ready agent {vip}; elsewhere {direct}")
            }
        }
    }
}
