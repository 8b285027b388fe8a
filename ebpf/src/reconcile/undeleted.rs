//! Entries of hash maps, and those that the kernel refused to delete: they lead somewhere still, so the numbers in them are
//! nobody else's until they are gone.

use std::collections::{BTreeMap, HashSet};

use foldhash::fast::RandomState;

use super::Reconciler;
use crate::abi::{MemberKey, PortKey, VipKey};
use crate::tables::{Tables, WriteError};

/// What should not be there, by what it leads to.
#[derive(Default)]
pub(super) struct Undeleted {
    /// Services.
    pub(super) vips: BTreeMap<VipKey, u32>,
    /// Fronts.
    ports: BTreeMap<PortKey, u32>,
    /// Backends.
    members: BTreeMap<MemberKey, u32>,
    /// What was said of the last one.
    why: Option<WriteError>,
}

/// Numbers that nobody may be given.
pub(super) struct Bound {
    pub(super) services: HashSet<u32, RandomState>,
    pub(super) fronts: HashSet<u32, RandomState>,
    pub(super) backends: HashSet<u32, RandomState>,
}

impl Undeleted {
    /// What the entries lead to, or are of.
    pub(super) fn bound(&self) -> Bound {
        let services = self.vips.values().copied().chain(self.ports.keys().map(|key| key.service));
        let fronts = self.ports.values().copied().chain(self.members.keys().map(|key| key.front));
        Bound {
            services: services.collect(),
            fronts: fronts.collect(),
            backends: self.members.values().copied().collect(),
        }
    }

    fn count(&self) -> usize {
        self.vips.len() + self.ports.len() + self.members.len()
    }
}

impl<T: Tables> Reconciler<T> {
    /// How many entries the kernel refused to delete, which is tried again at each rest, and what it said of the last one.
    pub fn undeleted(&self) -> Option<(usize, &WriteError)> {
        let count = self.undeleted.count();
        self.undeleted.why.as_ref().filter(|_| count > 0).map(|why| (count, why))
    }

    pub(super) fn set_vip(&mut self, key: VipKey, service: u32) -> Result<(), WriteError> {
        self.tables.set_vip(key, Some(service))?;
        self.undeleted.vips.remove(&key);
        Ok(())
    }

    pub(super) fn set_port(&mut self, key: PortKey, front: u32) -> Result<(), WriteError> {
        self.tables.set_port(key, Some(front))?;
        self.undeleted.ports.remove(&key);
        Ok(())
    }

    pub(super) fn set_member(&mut self, key: MemberKey, backend: u32) -> Result<(), WriteError> {
        self.tables.set_member(key, Some(backend))?;
        self.undeleted.members.remove(&key);
        Ok(())
    }

    pub(super) fn delete_vip(&mut self, key: VipKey, service: u32) {
        let deleted = self.tables.set_vip(key, None);
        note(&mut self.undeleted.vips, key, service, deleted, &mut self.undeleted.why);
    }

    /// Whether it is gone.
    pub(super) fn delete_port(&mut self, key: PortKey, front: u32) -> bool {
        let deleted = self.tables.set_port(key, None);
        let is_gone = deleted.is_ok();
        note(&mut self.undeleted.ports, key, front, deleted, &mut self.undeleted.why);
        is_gone
    }

    pub(super) fn delete_member(&mut self, key: MemberKey, backend: u32) {
        let deleted = self.tables.set_member(key, None);
        note(&mut self.undeleted.members, key, backend, deleted, &mut self.undeleted.why);
    }

    /// Deletes what could not be, if it can be now.
    pub(super) fn delete_again(&mut self) {
        let Undeleted { vips, ports, members, .. } = std::mem::take(&mut self.undeleted);
        vips.into_iter().for_each(|(key, service)| self.delete_vip(key, service));
        for (key, front) in ports {
            self.delete_port(key, front);
        }
        members.into_iter().for_each(|(key, backend)| self.delete_member(key, backend));
    }
}

/// What is there still leads where it led, which a replacement that was refused did not change.
fn note<K: Ord>(
    undeleted: &mut BTreeMap<K, u32>,
    key: K,
    number: u32,
    deleted: Result<(), WriteError>,
    why: &mut Option<WriteError>,
) {
    match deleted {
        Ok(()) => drop(undeleted.remove(&key)),
        Err(error) => {
            undeleted.entry(key).or_insert(number);
            *why = Some(error);
        }
    }
}
