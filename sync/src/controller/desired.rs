//! What our cluster's objects of one service should be. Pure: a function of the snapshot and of what is observed.

use std::collections::{BTreeMap, BTreeSet};

use portolan_zones::object::UnixTime;
use portolan_zones::{ClusterId, Service, ServiceName};

use super::bodies::{DerivedSpec, SliceBody};
use super::conditions::{ExportCase, Verdict, of_export};
use super::facts::{Facts, Seen};
use super::imports::{self, ImportBody};
use super::{derived, slices, words};
use crate::vip::PoolRanges;

/// What holds for all services.
#[derive(Debug, Clone)]
pub(super) struct World {
    /// The own cluster.
    pub(super) home: ClusterId,
    /// The pool that virtual IPs come from; `None`: derived Services give them.
    pub(super) pool: Option<PoolRanges>,
    /// The version of the MCS API that the own cluster serves.
    pub(super) mcs: &'static str,
    /// Whether all configured clusters are heard: only then does an import that nobody stands behind go.
    pub(super) all_heard: bool,
    /// Now.
    pub(super) now: UnixTime,
}

/// What went wrong when this service's objects were last written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Trouble {
    /// Why the derived Service has no address.
    pub(super) vip: Option<VipTrouble>,
    /// All else, for people.
    pub(super) other: Vec<String>,
}

/// Why a derived Service was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum VipTrouble {
    #[error(
        "no virtual IP: the cluster's range of Service addresses is exhausted: delete Services, or add a ServiceCIDR"
    )]
    Exhausted,
    #[error("no virtual IP: the cluster's Services have no addresses of the service's IP family: {0}")]
    Family(String),
    #[error("no virtual IP: Service {0} exists and was not made by Portolan: delete it")]
    Foreign(String),
    #[error("no virtual IP: somebody else has the former one")]
    Taken,
    #[error("no virtual IP: {0}")]
    Refused(String),
}

/// How one object should be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Want<T> {
    /// Not there.
    Gone,
    /// As it is.
    Kept,
    /// Like this.
    Like(T),
}

/// How all objects of one service should be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Desired<'a> {
    pub(super) import: Want<ImportBody>,
    /// `status` of the import.
    pub(super) import_status: Option<ImportStatus>,
    /// The Service that gives the virtual IP, for kube-proxy to connect.
    pub(super) derived: Want<DerivedSpec>,
    /// By name.
    pub(super) slices: BTreeMap<String, SliceBody<'a>>,
    /// Clusters whose slices stay as they are, for they are all that is known of them.
    pub(super) kept: BTreeSet<&'a ClusterId>,
    /// Conditions of the own cluster's export.
    pub(super) export: Vec<Verdict>,
    /// An object of somebody else that stands where ours should.
    pub(super) foreign: Option<String>,
}

/// `status` of a ServiceImport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImportStatus {
    /// Sorted.
    pub(super) clusters: Vec<String>,
    pub(super) ready: Verdict,
}

/// What should be; `None`: leave everything as it is.
pub(super) fn desire<'a>(
    name: &ServiceName,
    service: Option<&'a Service>,
    seen: &'a Seen,
    world: &World,
    trouble: &Trouble,
) -> Option<Desired<'a>> {
    // Namespace sameness: an import goes only where its namespace is. What was in a vanished one is being collected.
    if !seen.namespace {
        return None;
    }
    let facts = &seen.facts;
    let backed = service.filter(|service| !service.members.is_empty());
    if service.is_some_and(|service| service.held) && backed.is_none() && !world.all_heard {
        return None;
    }
    let mut desired = Desired {
        import: Want::Gone,
        import_status: None,
        derived: Want::Gone,
        slices: BTreeMap::new(),
        kept: BTreeSet::new(),
        export: Vec::new(),
        foreign: None,
    };
    if let Some(service) = backed {
        match &facts.import {
            Some(import) if !import.ours => {
                desired.foreign = Some(format!(
                    "ServiceImport {name} was not made by Portolan and is left alone: delete it to have it made anew"
                ));
            }
            _ => offer(&mut desired, service, seen, world, trouble),
        }
    }
    desired.export = export_verdicts(&desired, service, facts, world, trouble);
    Some(desired)
}

/// The service exists: import, address, slices.
fn offer<'a>(
    desired: &mut Desired<'a>,
    service: &'a Service,
    seen: &'a Seen,
    world: &World,
    trouble: &Trouble,
) {
    let facts = &seen.facts;
    let by_service = !service.headless && world.pool.is_none();
    if seen.derived_taken && by_service {
        let taken = format!("{}/{}", service.name.namespace(), words::derived_name(&service.name));
        desired.foreign = Some(VipTrouble::Foreign(taken).to_string());
    }
    let ips = imports::ips(service, facts, world, trouble);
    let ready = imports::ready(service, seen, &ips, world, trouble);
    let mut clusters: Vec<String> = service.members.iter().map(|m| m.cluster.to_string()).collect();
    clusters.sort();
    desired.import_status = Some(ImportStatus { clusters, ready });
    (desired.import, desired.derived) = match (service.held, by_service && !seen.derived_taken) {
        (true, _) => (Want::Kept, Want::Kept),
        (false, true) => (
            Want::Like(imports::body(service, &ips, world)),
            Want::Like(derived::spec(service, facts, world, trouble)),
        ),
        (false, false) => (Want::Like(imports::body(service, &ips, world)), Want::Gone),
    };
    if let Some(import) = &facts.import {
        let service_label = by_service.then(|| words::derived_name(&service.name));
        slices::push(desired, service, service_label.as_deref(), &import.uid);
    }
}

fn export_verdicts(
    desired: &Desired<'_>,
    service: Option<&Service>,
    facts: &Facts,
    world: &World,
    trouble: &Trouble,
) -> Vec<Verdict> {
    let Some(export) = &facts.export else { return Vec::new() };
    let not_ready = desired.import_status.as_ref().filter(|status| !status.ready.holds);
    let mut texts = trouble.other.clone();
    texts.extend(desired.foreign.clone());
    texts.extend(not_ready.map(|status| status.ready.message.clone()));
    texts.dedup();
    let conflict = || export.conditions.iter().find(|condition| condition.kind == "Conflict");
    of_export(&ExportCase {
        generation: export.generation,
        service: facts.kind,
        merged: service.is_some_and(|s| s.members.iter().any(|member| member.cluster == world.home)),
        conflicts: service.map_or(&[], |service| &service.conflicts),
        held: service.filter(|service| service.held).and_then(|_| conflict()),
        trouble: (!texts.is_empty()).then(|| texts.join("; ")),
    })
}
