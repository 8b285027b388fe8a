//! Virtual IPs: who claims which, and what is wished of the pool.

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Table, VipDemand};
use crate::claims::Age;
use crate::merge::Merged;
use crate::name::ServiceName;
use crate::object::{Import, IpFamily};

impl Table {
    /// Who has an address, if anybody: an import, else a pool assignment.
    pub fn owner(&self, address: IpAddr) -> Option<&ServiceName> {
        self.claims.owner(address)
    }

    /// The service whose import has an address; the pool must not give it to another one.
    pub fn import_owner(&self, address: IpAddr) -> Option<&ServiceName> {
        self.claims.import_owner(address)
    }

    /// The addresses of a service: its home import's, else the pool's; and those that somebody else owns.
    pub(crate) fn addresses(
        &self,
        name: &ServiceName,
    ) -> (SmallVec<[IpAddr; 2]>, Vec<(IpAddr, ServiceName)>) {
        let Some(entry) = self.entries.get(name) else {
            return Default::default();
        };
        let wanted = entry.claimed.as_ref().map_or(&*entry.pool, |import| &import.ips);
        let mut taken = Vec::new();
        let mut own = SmallVec::new();
        for ip in wanted {
            match self.owner(*ip) {
                Some(owner) if owner != name => taken.push((*ip, owner.clone())),
                _ => own.push(*ip),
            }
        }
        (own, taken)
    }

    pub(super) fn set_pool(&mut self, name: &ServiceName, ips: &[IpAddr]) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let before = std::mem::replace(&mut entry.pool, ips.into());
        self.unclaim(&before, Age::POOL, name);
        self.claim(ips, Age::POOL, name);
        // A merged service that waits for the compiler takes its addresses then.
        if self.entries.get(name).is_some_and(|entry| entry.pending.is_none()) {
            self.touch(name);
        }
        self.drop_if_empty(name);
    }

    /// Brings `claims` in line with the service's home import.
    pub(super) fn file_claims(&mut self, name: &ServiceName) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        let now = entry.claim(self.clusters.home.as_ref()).cloned();
        let before = std::mem::replace(&mut entry.claimed, now.clone());
        let ips = |import: Option<Arc<Import>>| {
            let age = import.as_ref().map(|import| Age::import(import.created));
            let ips = import.map(|import| import.ips.clone()).unwrap_or_default();
            age.map(|age| (age, ips))
        };
        if let Some((age, ips)) = ips(before) {
            self.unclaim(&ips, age, name);
        }
        if let Some((age, ips)) = ips(now) {
            self.claim(&ips, age, name);
        }
    }

    fn claim(&mut self, ips: &[IpAddr], age: Age, name: &ServiceName) {
        for ip in ips {
            let touched = self.claims.claim(*ip, age, name);
            touched.iter().for_each(|other| self.touch(other));
        }
    }

    fn unclaim(&mut self, ips: &[IpAddr], age: Age, name: &ServiceName) {
        for ip in ips {
            let touched = self.claims.unclaim(*ip, age, name);
            touched.iter().for_each(|other| self.touch(other));
        }
    }

    /// What the pool should do for a service; `None` when all is as it should be.
    pub(super) fn demand(&self, name: &ServiceName, merged: Option<&Merged>) -> Option<VipDemand> {
        let entry = self.entries.get(name)?;
        let mut families = SmallVec::new();
        if let Some(merged) = merged.filter(|merged| !merged.headless && entry.claimed.is_none()) {
            families.clone_from(&merged.spec.ip_families);
            if families.is_empty() {
                families.push(IpFamily::V4);
            }
        }
        let has: SmallVec<[IpFamily; 2]> = entry.pool.iter().map(|ip| IpFamily::from(*ip)).collect();
        let lost = entry.pool.iter().any(|ip| self.owner(*ip) != Some(name));
        (has != families || (lost && !families.is_empty()))
            .then(|| VipDemand { service: name.clone(), families })
    }
}
