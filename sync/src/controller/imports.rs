//! The ServiceImport of a service: its spec, the metadata that exports take along, and whether it can be used.

use std::collections::BTreeMap;
use std::net::IpAddr;

use portolan_zones::Service;
use portolan_zones::object::IpFamily;
use smallvec::SmallVec;

use super::bodies::{ImportSpec, PortBody, Traffic, family};
use super::conditions::{Verdict, import_ready, import_waits};
use super::facts::{Facts, Seen};
use super::memory::{HOLD, Ips};
use super::words;
use super::world::{Lacking, Past, VipTrouble, World};
use crate::convert;
use crate::vip::PoolRanges;

/// A ServiceImport, but for namespace, name and status.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ImportBody {
    /// Exported ones; what we mean by labels of our own goes without saying.
    pub(super) labels: BTreeMap<String, String>,
    /// Exported ones.
    pub(super) annotations: BTreeMap<String, String>,
    /// The derived Service's name.
    pub(super) derived: Option<String>,
    pub(super) spec: ImportSpec,
}

impl ImportBody {
    /// A hash of the metadata, kept on the object: who compares it sees what is to be taken back.
    pub(super) fn applied(&self) -> String {
        format!("{:016x}", words::fingerprint(&(&self.labels, &self.annotations)))
    }
}

/// The import of a service that has these addresses.
pub(super) fn body(service: &Service, ips: &[IpAddr], world: &World) -> ImportBody {
    let derived = (!service.headless && world.pool.is_none()).then(|| words::derived_name(&service.name));
    let families = if service.headless {
        service.spec.ip_families.clone()
    } else {
        ips.iter().map(|ip| (*ip).into()).collect()
    };
    let exported = service.exported.as_deref();
    let mut annotations = take(exported.map_or(&[], |e| &e.annotations), |key, _| words::is_annotation(key));
    // Servers follow their own cluster alone: what exporters say of policy comes to them by the import.
    let told = service.policy.as_ref().and_then(|policy| convert::tell_policy(policy));
    annotations.extend(told.map(|policy| (words::POLICY.to_owned(), policy)));
    ImportBody {
        labels: take(exported.map_or(&[], |e| &e.labels), words::is_label),
        annotations,
        derived,
        spec: kept(
            &world.lacking,
            ImportSpec {
                kind: if service.headless { "Headless" } else { "ClusterSetIP" }.to_owned(),
                ports: service.spec.ports.iter().map(PortBody::from).collect(),
                ips: ips.to_vec(),
                ip_families: families.into_iter().map(|f: IpFamily| family(f).to_owned()).collect(),
                traffic: Traffic::from(&*service.spec),
            },
        ),
    }
}

/// Fields that can be left out where definitions lack them, for clients can do without.
pub(super) const SPARE: [&str; 6] = [
    "spec.ipFamilies",
    "spec.sessionAffinity",
    "spec.sessionAffinityConfig",
    "spec.internalTrafficPolicy",
    "spec.trafficDistribution",
    CONDITIONS,
];
/// All conditions of imports.
pub(super) const CONDITIONS: &str = "status.conditions";
/// A field of exports' conditions.
pub(super) const OBSERVED: &str = "status.conditions.observedGeneration";

/// What the API server takes of a spec.
fn kept(lacking: &Lacking, mut spec: ImportSpec) -> ImportSpec {
    for field in lacking {
        match *field {
            "spec.ipFamilies" => spec.ip_families.clear(),
            field => spec.traffic.drop_field(field.trim_start_matches("spec.")),
        }
    }
    spec
}

/// What of an export's metadata may be taken along.
fn take(
    pairs: &[(std::sync::Arc<str>, std::sync::Arc<str>)],
    valid: fn(&str, &str) -> bool,
) -> BTreeMap<String, String> {
    let fit = pairs.iter().filter(|(key, value)| !words::is_reserved(key) && valid(key, value));
    fit.map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

/// The families that a service wants, in its order.
pub(super) fn families(service: &Service) -> SmallVec<[IpFamily; 2]> {
    let families = &service.spec.ip_families;
    if families.is_empty() { SmallVec::from_slice(&[IpFamily::V4]) } else { families.clone() }
}

/// The virtual IPs that it has, in the families' order.
pub(super) fn ips(service: &Service, facts: &Facts, world: &World, past: &Past) -> Ips {
    let given = match (&world.pool, &facts.derived) {
        (Some(ranges), _) => service.ips.iter().copied().filter(|ip| is_within(ranges, *ip)).collect(),
        (None, Some(derived)) => derived.ips.clone(),
        (None, None) => lost(service, facts, past),
    };
    in_order(service, &given)
}

/// The virtual IPs that a derived Service is to have which is not there: clients may know them. What the import has counts
/// first, then what it had before it was last deleted.
pub(super) fn former(service: &Service, facts: &Facts, past: &Past) -> Ips {
    let lost = in_order(service, &lost(service, facts, past));
    if lost.is_empty() && !is_taken(past) { in_order(service, &past.former) } else { lost }
}

fn in_order(service: &Service, given: &[IpAddr]) -> Ips {
    if service.headless {
        return Ips::new();
    }
    let of = |family| given.iter().copied().find(|ip| IpFamily::from(*ip) == family);
    families(service).into_iter().filter_map(of).collect()
}

/// Only then are addresses let go that clients know: whatever else a derived Service is refused for may pass.
fn is_taken(past: &Past) -> bool {
    matches!(past.trouble.vip, Some(VipTrouble::Taken | VipTrouble::Family(_)))
}

/// The addresses of a derived Service that somebody deleted, as the import still has them.
fn lost(service: &Service, facts: &Facts, past: &Past) -> Ips {
    if is_taken(past) {
        return Ips::new();
    }
    let derived = words::derived_name(&service.name);
    let import = facts.import.as_ref().filter(|import| import.derived.as_deref() == Some(&*derived));
    import.map(|import| import.ips.clone()).unwrap_or_default()
}

/// Addresses of another range are left over from other settings, and can't be kept.
fn is_within(ranges: &PoolRanges, ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ranges.ipv4.is_some_and(|range| range.contains(&ip)),
        IpAddr::V6(ip) => ranges.ipv6.is_some_and(|range| range.contains(&ip)),
    }
}

/// Condition `Ready` of the import.
pub(super) fn ready(service: &Service, seen: &Seen, ips: &[IpAddr], world: &World, past: &Past) -> Verdict {
    let import = seen.facts.import.as_ref();
    if service.held {
        let before = import.and_then(|import| import.ready.as_ref());
        return match before {
            Some(ready) if ready.status == "True" => import_ready(&ready.message),
            Some(ready) if ready.reason == FAMILY => import_waits(FAMILY, &ready.message),
            Some(ready) => import_waits("Pending", &ready.message),
            None => import_waits("Pending", "not all clusters that export the service are heard"),
        };
    }
    if service.headless {
        return import_ready("the service can be used");
    }
    let wanted = families(service);
    if !ips.is_empty() && (seen.facts.derived.is_some() || world.pool.is_some()) {
        let lacks = wanted.iter().find(|family| ips.iter().all(|ip| IpFamily::from(*ip) != **family));
        return import_ready(match lacks {
            None => "the service can be used".to_owned(),
            Some(lack) => format!(
                "the service can be used; it has no {} address, for the cluster gives none",
                family(*lack)
            ),
        });
    }
    let text =
        |family_list: &[IpFamily]| family_list.iter().map(|f| family(*f)).collect::<Vec<_>>().join(", ");
    match (&past.trouble.vip, &seen.facts.derived, &world.pool) {
        _ if seen.derived_taken && world.pool.is_none() => {
            let taken = format!("{}/{}", service.name.namespace(), words::derived_name(&service.name));
            import_waits("Pending", VipTrouble::Foreign(taken).to_string())
        }
        (_, _, Some(_)) => import_waits(
            "Pending",
            "no virtual IP: the pool has none left, or none of the service's IP families: widen the pool",
        ),
        (Some(vip @ VipTrouble::Family(_)), ..) => import_waits(FAMILY, vip.to_string()),
        (Some(vip), ..) => import_waits("Pending", vip.to_string()),
        (None, Some(derived), _) if !derived.ips.is_empty() => {
            import_waits(FAMILY, VipTrouble::Family(text(&wanted)).to_string())
        }
        (None, ..) => import_waits("Pending", "waits for the derived Service's address"),
    }
}

/// `Ready` of an import whose exports all lack their Services.
pub(super) fn waits_for_its_service() -> Verdict {
    let minutes = HOLD.as_secs() / 60;
    import_waits(
        "Pending",
        format!(
            "no cluster that exports the service has a Service of its name: the import and its virtual IP stay for \
             {minutes} minutes, in case that it is made anew"
        ),
    )
}

/// Reason of the condition `Ready` (MCS API v1beta1).
const FAMILY: &str = "IPFamilyNotSupported";
