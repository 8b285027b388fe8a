//! Numbers of clusters: one that no backend is in may be given to another cluster.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use portolan_zones::ClusterId;

/// See the module. A cluster keeps its number until another one needs it.
pub(super) struct Clusters {
    numbers: HashMap<ClusterId, u16, RandomState>,
    /// Backends in each by its number, those that rest among them.
    backends: Vec<u32>,
    in_use: u32,
    bound: u32,
}

impl Clusters {
    pub(super) fn below(bound: u32) -> Self {
        Self { numbers: HashMap::default(), backends: Vec::new(), in_use: 0, bound: bound.min(1 << 16) }
    }

    pub(super) fn get(&self, cluster: &ClusterId) -> Option<u16> {
        self.numbers.get(cluster).copied()
    }

    /// Clusters by their numbers.
    pub(super) fn by_number(&self) -> HashMap<u16, &ClusterId, RandomState> {
        self.numbers.iter().map(|(id, number)| (*number, id)).collect()
    }

    /// How many have backends, or had some until lately.
    pub(super) fn in_use(&self) -> u32 {
        self.in_use
    }

    /// Whether backends are in it.
    pub(super) fn is_used(&self, cluster: &ClusterId) -> bool {
        self.get(cluster).is_some_and(|number| self.backends[usize::from(number)] > 0)
    }

    /// A number for a cluster that has none; those of `spared` keep theirs. `None`: all are in use.
    pub(super) fn give(&mut self, cluster: &ClusterId, spared: &[&ClusterId]) -> Option<u16> {
        let next = self.backends.len();
        let number = match u16::try_from(next) {
            Ok(number) if (next as u32) < self.bound => {
                self.backends.push(0);
                number
            }
            _ => {
                let is_free = |id: &&ClusterId| !self.is_used(id) && !spared.contains(id);
                let former = self.numbers.keys().find(is_free)?.clone();
                self.numbers.remove(&former)?
            }
        };
        self.numbers.insert(cluster.clone(), number);
        Some(number)
    }

    /// A backend is in it.
    pub(super) fn enter(&mut self, number: u16) {
        let backends = &mut self.backends[usize::from(number)];
        self.in_use += u32::from(*backends == 0);
        *backends += 1;
    }

    /// A backend is in it no more, and nothing leads there.
    pub(super) fn leave(&mut self, number: u16) {
        let backends = &mut self.backends[usize::from(number)];
        *backends -= 1;
        self.in_use -= u32::from(*backends == 0);
    }
}
