//! The difference between two snapshots, for whoever follows them: the log, the eBPF maps, people.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::agents::Agents;
use crate::name::{ClusterId, ServiceName};
use crate::places::Places;
use crate::pods::Pods;
use crate::service::Service;
use crate::snapshot::Snapshot;
use crate::standing::Standing;
use crate::zone::Zones;

/// What leads from one snapshot to another.
#[derive(Debug, Clone)]
pub struct Diff {
    /// Services that are new, changed or gone, by name.
    pub services: Vec<ServiceDiff>,
    /// Whole: a persistent map is shared, not copied.
    namespaces: imbl::HashMap<Arc<str>, u32>,
    places: Arc<Places>,
    variants: Box<[Option<u8>]>,
    pods: Pods,
    agents: Option<Arc<Agents>>,
    standings: Arc<BTreeMap<ClusterId, Standing>>,
    zones: Arc<Zones>,
    generation: u64,
    serial: u32,
    complete: bool,
}

/// One service that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceDiff {
    /// As it was; `None` when it is new.
    pub before: Option<Arc<Service>>,
    /// As it is; `None` when it is gone.
    pub after: Option<Arc<Service>>,
}

impl ServiceDiff {
    /// The service's name.
    pub fn name(&self) -> Option<&ServiceName> {
        self.after.as_ref().or(self.before.as_ref()).map(|service| &service.name)
    }
}

impl Snapshot {
    /// What changed since `older`. Cheap when this one was derived from it.
    pub fn diff(&self, older: &Self) -> Diff {
        let mut services = Vec::new();
        older.services.diff(&self.services, &mut |before, after| {
            if before.map(|s| &**s) != after.map(|s| &**s) {
                services.push(ServiceDiff { before: before.cloned(), after: after.cloned() });
            }
        });
        services.sort_by(|a, b| a.name().cmp(&b.name()));
        let Self { generation, serial, complete, .. } = *self;
        Diff {
            services,
            namespaces: self.namespaces.clone(),
            places: self.places.clone(),
            variants: self.variants.clone(),
            pods: self.pods.clone(),
            agents: self.agents.clone(),
            standings: self.standings.clone(),
            zones: self.zones.clone(),
            generation,
            serial,
            complete,
        }
    }

    /// The snapshot that `diff` leads to from this one.
    #[must_use]
    pub fn patched(&self, diff: &Diff) -> Self {
        let mut next = if self.zones == diff.zones { self.clone() } else { self.rezoned(&diff.zones) };
        for service in &diff.services {
            if let Some(name) = service.name() {
                next.replace(name, service.after.as_ref());
            }
        }
        next.namespaces = diff.namespaces.clone();
        next.places = diff.places.clone();
        (next.variants, next.pods) = (diff.variants.clone(), diff.pods.clone());
        next.standings = diff.standings.clone();
        next.agents = diff.agents.clone();
        Self { generation: diff.generation, serial: diff.serial, complete: diff.complete, ..next }
    }

    /// The same services in other zones: reverse names depend on what is configured.
    fn rezoned(&self, zones: &Arc<Zones>) -> Self {
        let mut next = Self::unsynced(zones.clone());
        for service in self.services.iter() {
            next.replace(&service.name, Some(service));
        }
        next
    }
}

/// One line per service: `+` new, `~` changed, `-` gone.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "generation {} serial {}", self.generation, self.serial)?;
        for change in &self.services {
            let Some(name) = change.name() else { continue };
            let sign = match (&change.before, &change.after) {
                (None, _) => '+',
                (_, None) => '-',
                _ => '~',
            };
            writeln!(f, "{sign} {name}")?;
        }
        Ok(())
    }
}
