//! Who has which virtual IP: of all that claim an address, the oldest has it.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use smallvec::SmallVec;

use crate::name::ServiceName;
use crate::object::UnixTime;

/// A claim's age: the import's `creationTimestamp`; addresses of the pool are the youngest claims of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Age(UnixTime);

impl Age {
    /// An address that the pool gave.
    pub(crate) const POOL: Self = Self(UnixTime::MAX);

    /// An address of an import; one without a time is still older than the pool.
    pub(crate) fn import(created: UnixTime) -> Self {
        Self(created.min(UnixTime::MAX - 1))
    }
}

/// All claims by address.
#[derive(Default)]
pub(crate) struct Claims {
    by_address: HashMap<IpAddr, Claimants, RandomState>,
}

/// Oldest first; of one age the first by name.
type Claimants = SmallVec<[(Age, ServiceName); 1]>;

impl Claims {
    /// Who has an address.
    pub(crate) fn owner(&self, address: IpAddr) -> Option<&ServiceName> {
        self.by_address.get(&address)?.first().map(|(_, owner)| owner)
    }

    /// Who has an address by an import.
    pub(crate) fn import_owner(&self, address: IpAddr) -> Option<&ServiceName> {
        let (age, owner) = self.by_address.get(&address)?.first()?;
        (*age < Age::POOL).then_some(owner)
    }

    /// Files a claim. Returns the others who claim the address, if it changed hands: they must be looked at again.
    pub(crate) fn claim(&mut self, address: IpAddr, age: Age, name: &ServiceName) -> Vec<ServiceName> {
        self.change(address, name, |claimants| {
            let claim = (age, name.clone());
            if let Err(at) = claimants.binary_search(&claim) {
                claimants.insert(at, claim);
            }
        })
    }

    /// Takes a claim back. Returns the same as [`Claims::claim`].
    pub(crate) fn unclaim(&mut self, address: IpAddr, age: Age, name: &ServiceName) -> Vec<ServiceName> {
        self.change(address, name, |claimants| claimants.retain(|claim| *claim != (age, name.clone())))
    }

    fn change(
        &mut self,
        address: IpAddr,
        name: &ServiceName,
        change: impl FnOnce(&mut Claimants),
    ) -> Vec<ServiceName> {
        let claimants = self.by_address.entry(address).or_default();
        let before = claimants.first().cloned();
        change(claimants);
        let others = claimants.iter().map(|(_, other)| other).filter(|other| *other != name);
        let touched =
            if claimants.first() == before.as_ref() { Vec::new() } else { others.cloned().collect() };
        if claimants.is_empty() {
            self.by_address.remove(&address);
        }
        touched
    }
}
