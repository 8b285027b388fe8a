//! Where the reconciler writes: the kernel's maps, or a copy of them in memory for tests and `--dry-run`.

use std::collections::BTreeMap;

use crate::abi::{Address, Backend, Front, MemberKey, PortKey, VipKey};

/// How many elements each map has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Virtual IPs; of services there can be as many.
    pub vips: u32,
    /// Ports of services.
    pub ports: u32,
    /// Backends of all ports.
    pub backends: u32,
    /// Words that say how ports are spread over backends.
    pub slots: u32,
    /// Clusters.
    pub clusters: u32,
    /// UDP flows that are known at a time.
    pub flows: u32,
    /// Clients that are known where services ask for session affinity.
    pub affinities: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self::of(32_768, 65_536, 131_072)
    }
}

impl Sizes {
    /// For so many virtual IPs, ports and backends. A port takes two words in `slots` for each cluster and one for each backend,
    /// twice where families differ; and what replaces it is there beside it for a moment.
    pub fn of(vips: u32, ports: u32, backends: u32) -> Self {
        let slots = backends.saturating_mul(4).saturating_add(ports.saturating_mul(4));
        Self { vips, ports, backends, slots, clusters: 1024, flows: 65_536, affinities: 65_536 }
    }
}

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The kernel's map has no room, although it was counted.
    #[error("map {map} is full: raise its size under `agent.maps`")]
    Full {
        /// Its name.
        map: &'static str,
    },
    /// The kernel refuses.
    #[error("map {map} can't be written: {error}")]
    Refused {
        /// Its name.
        map: &'static str,
        /// What it says.
        error: std::io::Error,
    },
}

/// The tables of one generation.
pub trait Tables {
    /// How large they are.
    fn sizes(&self) -> Sizes;
    /// Whose address it is; `None`: nobody's.
    fn set_vip(&mut self, key: VipKey, service: Option<u32>) -> Result<(), WriteError>;
    /// What a port of a service is; `None`: it has none.
    fn set_port(&mut self, key: PortKey, front: Option<u32>) -> Result<(), WriteError>;
    /// Whether clients of a front with affinity may come back there.
    fn set_member(&mut self, key: MemberKey, backend: Option<u32>) -> Result<(), WriteError>;
    /// A front that no key leads to yet.
    fn write_front(&mut self, number: u32, front: &Front);
    /// Where its backends are from now on; of the family at this position.
    fn store_head(&mut self, front: u32, family: usize, head: u64);
    /// How long its clients stay where they are, from now on.
    fn store_affinity(&mut self, front: u32, seconds: u32);
    /// Words that no head leads to yet.
    fn write_slots(&mut self, first: u32, words: &[u64]);
    /// A backend that no slot names yet. Its counter begins anew.
    fn write_backend(&mut self, number: u32, backend: &Backend);
    /// Whether a cluster may be used.
    fn store_cluster(&mut self, number: u32, down: bool);
    /// Waits until no program reads what was replaced before this.
    fn rest(&mut self) -> Result<(), WriteError>;
    /// Connections and flows to a backend.
    fn hits(&self, backend: u32) -> u64;
    /// How often there was no backend.
    fn unreachable(&self, front: u32) -> u64;
}

/// Tables in memory.
#[derive(Debug, Clone)]
pub struct Memory {
    sizes: Sizes,
    /// As the kernel's map of the same name.
    pub vips: BTreeMap<VipKey, u32>,
    /// As the kernel's map of the same name.
    pub ports: BTreeMap<PortKey, u32>,
    /// As the kernel's map of the same name.
    pub members: BTreeMap<MemberKey, u32>,
    /// As the kernel's map of the same name; what was never written is not there.
    pub fronts: BTreeMap<u32, Front>,
    /// As the kernel's map of the same name.
    pub backends: BTreeMap<u32, Backend>,
    /// As the kernel's map of the same name; 0 where nothing was written.
    pub slots: Vec<u64>,
    /// Those that are down.
    pub down: BTreeMap<u32, bool>,
}

impl Memory {
    /// Empty ones.
    pub fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            vips: BTreeMap::new(),
            ports: BTreeMap::new(),
            members: BTreeMap::new(),
            fronts: BTreeMap::new(),
            backends: BTreeMap::new(),
            slots: Vec::new(),
            down: BTreeMap::new(),
        }
    }

    /// The backend that a connection would go to, by the same steps as the program's; numbers are drawn from `random`. `Err`:
    /// the port is not there, or the address is nobody's.
    pub fn walk(
        &self,
        to: (Address, PortKey),
        family: usize,
        random: u64,
    ) -> Result<Option<(u32, Backend)>, NotThere> {
        let service = *self.vips.get(&VipKey { address: to.0 }).ok_or(NotThere::Address)?;
        let number = *self.ports.get(&PortKey { service, ..to.1 }).ok_or(NotThere::Port)?;
        let head = self.fronts.get(&number).map_or(0, |front| front.heads[family]);
        let (first, clusters) = ((head >> 32) as u32, head as u32);
        let alias = |first: u32, step: u32, count: u32, random: u32, limit: &dyn Fn(u64) -> (u32, u32)| {
            let spread = u64::from(random) * u64::from(count);
            let at = (spread >> 32) as u32;
            let (limit, other) = limit(self.slot(first + step * at));
            if spread as u32 >= limit { other } else { at }
        };
        if clusters == 0 {
            return Ok(None);
        }
        let of_cluster = |word: u64| (word as u32, (word >> 32) as u32 & 0xffff);
        let at = alias(first, 2, clusters, random as u32, &of_cluster);
        if self.down.contains_key(&((self.slot(first + 2 * at) >> 48) as u32)) {
            return Ok(None);
        }
        let behind = self.slot(first + 2 * at + 1);
        let (first, count) = ((behind >> 32) as u32, behind as u32);
        let of_backend = |word: u64| ((word as u32 & 0xffff) << 16, (word >> 16) as u32 & 0xffff);
        let at = alias(first, 1, count, (random >> 32) as u32, &of_backend);
        let backend = (self.slot(first + at) >> 32) as u32;
        Ok(self.backends.get(&backend).map(|found| (backend, *found)))
    }

    fn slot(&self, at: u32) -> u64 {
        self.slots.get(at as usize).copied().unwrap_or_default()
    }
}

/// Why a connection is none of the hook's, or is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotThere {
    /// Nobody's address: the connection is left alone.
    Address,
    /// The service has no such port: ECONNREFUSED.
    Port,
}

impl Tables for Memory {
    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn set_vip(&mut self, key: VipKey, service: Option<u32>) -> Result<(), WriteError> {
        set(&mut self.vips, key, service);
        Ok(())
    }

    fn set_port(&mut self, key: PortKey, front: Option<u32>) -> Result<(), WriteError> {
        set(&mut self.ports, key, front);
        Ok(())
    }

    fn set_member(&mut self, key: MemberKey, backend: Option<u32>) -> Result<(), WriteError> {
        set(&mut self.members, key, backend);
        Ok(())
    }

    fn write_front(&mut self, number: u32, front: &Front) {
        self.fronts.insert(number, *front);
    }

    fn store_head(&mut self, front: u32, family: usize, head: u64) {
        self.fronts.entry(front).or_default().heads[family] = head;
    }

    fn store_affinity(&mut self, front: u32, seconds: u32) {
        self.fronts.entry(front).or_default().affinity = seconds;
    }

    fn write_slots(&mut self, first: u32, words: &[u64]) {
        let end = first as usize + words.len();
        if self.slots.len() < end {
            self.slots.resize(end, 0);
        }
        self.slots[first as usize..end].copy_from_slice(words);
    }

    fn write_backend(&mut self, number: u32, backend: &Backend) {
        self.backends.insert(number, *backend);
    }

    fn store_cluster(&mut self, number: u32, down: bool) {
        set(&mut self.down, number, down.then_some(true));
    }

    fn rest(&mut self) -> Result<(), WriteError> {
        Ok(())
    }

    fn hits(&self, _: u32) -> u64 {
        0
    }

    fn unreachable(&self, _: u32) -> u64 {
        0
    }
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}
