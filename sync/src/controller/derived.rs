//! The derived Service: selector-less, it gives the import its virtual IP, and kube-proxy connects it to our slices.

use portolan_zones::Service;
use portolan_zones::object::{IpFamily, Port};

use super::bodies::{DerivedSpec, PortBody, Traffic, family};
use super::facts::Facts;
use super::imports::{self, families};
use super::world::Past;

/// The derived Service of a ClusterSetIP service.
///
/// Which address comes first does not matter: the import has its own order. So the API server chooses the first family
/// of two, and an existing first address, which can't change, is kept: a family that is missing is added to it.
pub(super) fn spec(service: &Service, facts: &Facts, past: &Past) -> DerivedSpec {
    let wanted = families(service);
    let has: Vec<IpFamily> =
        facts.derived.iter().flat_map(|derived| &derived.ips).map(|ip| (*ip).into()).collect();
    let single = match (&*wanted, has.first()) {
        ([only], None) => Some(*only),
        ([only], Some(first)) if only == first => Some(*only),
        _ => None,
    };
    let (policy, listed) = match single {
        Some(only) => ("SingleStack", vec![only]),
        None => ("PreferDualStack", has),
    };
    let cluster_ips = match &facts.derived {
        Some(_) => Vec::new(),
        None => imports::former(service, facts, past).into_vec(),
    };
    DerivedSpec {
        kind: "ClusterIP".to_owned(),
        ip_family_policy: policy.to_owned(),
        ip_families: listed.into_iter().map(|f| family(f).to_owned()).collect(),
        cluster_ips,
        ports: service.spec.ports.iter().map(|port| named(port, service)).collect(),
        traffic: Traffic::from(&*service.spec),
    }
}

fn named(port: &Port, service: &Service) -> PortBody {
    let mut body = PortBody::from(port);
    if body.name.is_none() {
        body.name = name_of_unnamed(service);
    }
    body
}

/// What the unnamed port is called where it is one of several: a Service must name them all, and slices must have the
/// same names for kube-proxy. Clusters with only one port may leave it unnamed.
pub(super) fn name_of_unnamed(service: &Service) -> Option<String> {
    let ports = &service.spec.ports;
    let unnamed = ports.iter().find(|port| port.name.is_none()).filter(|_| ports.len() > 1)?;
    let name = format!("{}-{}", unnamed.protocol.label().trim_start_matches('_'), unnamed.number);
    let is_free = |name: &String| ports.iter().all(|port| port.name.as_deref() != Some(name));
    let others = (1..=ports.len()).map(|number| format!("{name}-{number}"));
    std::iter::once(name.clone()).chain(others).find(is_free)
}
