//! What connections to a service are spread over: the choice that DNS answers by, for who redirects virtual IPs.

use std::net::IpAddr;
use std::sync::Arc;

use super::spread::{apportion, spread};
use super::{Form, Rules};
use crate::answers::{Target, candidates, groups, targets};
use crate::name::ClusterId;
use crate::object::{IpFamily, SlicePort};
use crate::peers::State;
use crate::places::Place;
use crate::service::Service;
use crate::snapshot::Snapshot;

/// An address that connections go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Whose it is.
    pub cluster: ClusterId,
    /// An endpoint's, or a gateway's.
    pub address: IpAddr,
    /// Its ports by the service's names for them: target ports of endpoints, a gateway's own for what is behind it.
    pub ports: Arc<[SlicePort]>,
    /// Its part of [`WHOLE`](super::spread::WHOLE).
    pub part: u32,
}

impl Snapshot {
    /// What connections to a service could go to in the zone at this position, and at which ports, whoever chooses: reached from
    /// here, ready, and well as far as that is known. Where rules want gateways, those.
    pub fn usable<'s>(
        &self,
        service: &'s Service,
        zone: usize,
    ) -> impl Iterator<Item = (&'s ClusterId, IpAddr, Arc<[SlicePort]>)> + use<'s> {
        let is_usable = |target: &Target<'_>| {
            target.ready > 0
                && target.well > 0
                && target.state != Some(State::Down)
                && (target.state == Some(State::Up) || service.is_healthy(target.address))
        };
        targets(service, form_of(&self.rules_of(service, zone)))
            .filter(is_usable)
            .map(|target| (target.cluster, target.address, target.ports))
    }

    /// Whether it matters where clients of a service are, in the zone at this position.
    pub fn depends_on_place(&self, service: &Service, zone: usize) -> bool {
        let rules = self.rules_of(service, zone);
        rules.locality.is_some() || rules.latency.is_some()
    }

    /// Where connections go that clients at a place make to a service, in the zone at this position: the shares sum to
    /// [`WHOLE`](super::spread::WHOLE), or there are none. Rules that answer a virtual IP choose among what is behind it. With a
    /// family only addresses of it count, and what has none gives way to what has some, as for A and AAAA.
    pub fn backends(
        &self,
        service: &Service,
        place: &Place,
        zone: usize,
        family: Option<IpFamily>,
    ) -> Vec<Backend> {
        let rules = self.rules_of(service, zone);
        let targets: Vec<Target<'_>> = targets(service, form_of(&rules)).collect();
        let groups =
            groups(&targets, |target| self.places.of_endpoint(target.cluster, target.place, target.region));
        let candidates = candidates(service, &groups, &place.at(), family);
        let spread = spread(&candidates, &rules, &place.at());
        let mut backends = Vec::new();
        for (tier, share) in spread.shares() {
            let heeds_health = spread.heeds_health(tier);
            let chosen: Vec<usize> = share.chosen.iter().map(|at| *at as usize).collect();
            let bears: Vec<u64> = chosen.iter().map(|at| candidates[*at].bears(heeds_health)).collect();
            for (at, part) in chosen.iter().zip(apportion(&bears, share.part)) {
                let fits = |target: &&Target<'_>| {
                    family.is_none_or(|family| IpFamily::from(target.address) == family)
                };
                let answered: Vec<&Target<'_>> = groups[*at].answered(service).filter(fits).collect();
                let parts = apportion(&vec![1; answered.len()], part);
                let backend = |(target, part): (&&Target<'_>, u32)| Backend {
                    cluster: target.cluster.clone(),
                    address: target.address,
                    ports: target.ports.clone(),
                    part,
                };
                backends.extend(answered.iter().zip(parts).filter(|(_, part)| *part > 0).map(backend));
            }
        }
        backends
    }

    /// Those of a policy, or Kubernetes' own.
    fn rules_of(&self, service: &Service, zone: usize) -> Rules {
        let kubernetes_own = || Rules::default().for_service(service);
        service.rules_in(self.variant(zone)).unwrap_or_else(kubernetes_own)
    }
}

/// What stands behind an answer by these rules: a virtual IP's connections go to endpoints.
fn form_of(rules: &Rules) -> Form {
    if rules.answer == Form::Gateways { Form::Gateways } else { Form::Endpoints }
}
