//! What our cluster's objects of one service should be. Pure: a function of the snapshot and of what is observed.

use portolan_zones::{Service, ServiceName};

use super::bodies::DerivedSpec;
use super::conditions::{ExportCase, Verdict, of_export};
use super::facts::{Facts, Seen};
use super::imports::{self, ImportBody};
use super::slices::Slices;
use super::world::{Past, VipTrouble, World};
use super::{derived, words};

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
    pub(super) slices: Slices<'a>,
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

/// What keeps a service's objects where they are, or does not.
enum Standing<'a> {
    /// Clusters export it.
    Backed(&'a Service),
    /// Nobody is known to, and not all clusters are heard.
    Unheard(&'a Service),
    /// Its exports lack their Services, which may be about to be made anew.
    Waits(&'a Service),
    /// Nobody exports it.
    Gone,
}

impl<'a> Standing<'a> {
    fn of(service: Option<&'a Service>, world: &World, past: &Past) -> Self {
        match service {
            None => Self::Gone,
            Some(service) if !service.members.is_empty() => Self::Backed(service),
            Some(service) if service.held && !world.all_heard => Self::Unheard(service),
            Some(service) if service.awaited && !past.waited => Self::Waits(service),
            Some(_) => Self::Gone,
        }
    }
}

/// What should be; `None`: leave everything as it is.
pub(super) fn desire<'a>(
    name: &ServiceName,
    service: Option<&'a Service>,
    seen: &'a Seen,
    world: &World,
    past: &Past,
) -> Option<Desired<'a>> {
    // Namespace sameness: an import goes only where its namespace is. What was in a vanished one is being collected.
    if !seen.namespace {
        return None;
    }
    let mut desired = Desired {
        import: Want::Gone,
        import_status: None,
        derived: Want::Gone,
        slices: Slices::default(),
        export: Vec::new(),
        foreign: None,
    };
    let import = seen.facts.import.as_ref();
    match Standing::of(service, world, past) {
        Standing::Gone => {}
        _ if import.is_some_and(|import| !import.ours) => {
            desired.foreign = Some(format!(
                "ServiceImport {name} was not made by Portolan and is left alone: delete it to have it made anew"
            ));
        }
        Standing::Backed(service) => offer(&mut desired, service, seen, world, past),
        Standing::Unheard(service) => {
            keep(&mut desired, service, seen, world, past);
            desired.slices.kept =
                seen.facts.slices.values().filter_map(|slice| slice.source.as_ref()).collect();
        }
        Standing::Waits(service) => {
            keep(&mut desired, service, seen, world, past);
            let ready = imports::waits_for_its_service();
            // Who exported it is what the next one who judges it goes by.
            let clusters = import.map(|import| import.clusters.clone()).unwrap_or_default();
            desired.import_status = Some(ImportStatus { clusters, ready });
        }
    }
    desired.export = export_verdicts(&desired, service, &seen.facts, world, past);
    Some(desired)
}

/// The import stays as it is, and its address with it: a derived Service that is missing is made anew. One that is there
/// may know more than an import whose definition lacks fields.
fn keep<'a>(desired: &mut Desired<'a>, service: &'a Service, seen: &'a Seen, world: &World, past: &Past) {
    let has_address = seen.facts.import.as_ref().is_some_and(|import| !import.ips.is_empty());
    desired.import = Want::Kept;
    let is_lost = has_address && seen.facts.derived.is_none();
    desired.derived = if is_lost && gives_address(service, seen, world) {
        Want::Like(derived::spec(service, &seen.facts, past))
    } else {
        Want::Kept
    };
}

/// Whether a derived Service of ours gives the service its address.
fn gives_address(service: &Service, seen: &Seen, world: &World) -> bool {
    !service.headless && world.pool.is_none() && !seen.derived_taken
}

/// The service exists: import, address, slices.
fn offer<'a>(desired: &mut Desired<'a>, service: &'a Service, seen: &'a Seen, world: &World, past: &Past) {
    let facts = &seen.facts;
    let by_service = !service.headless && world.pool.is_none();
    if seen.derived_taken && by_service {
        let taken = format!("{}/{}", service.name.namespace(), words::derived_name(&service.name));
        desired.foreign = Some(VipTrouble::Foreign(taken).to_string());
    }
    let ips = imports::ips(service, facts, world, past);
    let ready = imports::ready(service, seen, &ips, world, past);
    let mut clusters: Vec<String> = service.members.iter().map(|m| m.cluster.to_string()).collect();
    clusters.sort();
    desired.import_status = Some(ImportStatus { clusters, ready });
    if service.held {
        keep(desired, service, seen, world, past);
    } else {
        desired.import = Want::Like(imports::body(service, &ips, world));
        if gives_address(service, seen, world) {
            desired.derived = Want::Like(derived::spec(service, facts, past));
        }
    }
    if let Some(import) = &facts.import {
        let service_label = by_service.then(|| words::derived_name(&service.name));
        desired.slices = Slices::of(service, service_label.as_deref(), &import.uid);
    }
}

/// What is wrong here is no matter of the export, which other clusters may use: it is told, and the export is ready.
fn export_verdicts(
    desired: &Desired<'_>,
    service: Option<&Service>,
    facts: &Facts,
    world: &World,
    past: &Past,
) -> Vec<Verdict> {
    let Some(export) = &facts.export else { return Vec::new() };
    let not_ready = desired.import_status.as_ref().filter(|status| !status.ready.holds);
    let mut texts = past.trouble.other.clone();
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
        here: (!texts.is_empty()).then(|| texts.join("; ")),
    })
}
