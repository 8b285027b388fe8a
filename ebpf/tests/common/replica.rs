//! What programs see while tables are written: a copy that is written one word at a time, and what may be read then.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use portolan_ebpf::abi::{Address, Backend, VipKey};
use portolan_ebpf::tables::{Memory, NotThere, Sizes};
use portolan_ebpf::wanted::{Wanted, WantedFront};
use portolan_zones::ServiceName;
use portolan_zones::object::Protocol;

use super::{Random, Spreading, Write, port_key};

/// What services should be, and whose each address is.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub services: BTreeMap<ServiceName, Wanted>,
    pub owners: BTreeMap<IpAddr, ServiceName>,
}

impl State {
    /// After a service was applied: addresses that it had not are its own now, whoever had them.
    pub fn with(&self, name: &ServiceName, wanted: Option<&Wanted>) -> Self {
        let mut next = self.clone();
        let before = next.services.remove(name).map(|wanted| wanted.vips).unwrap_or_default();
        let now = wanted.map(|wanted| wanted.vips.clone()).unwrap_or_default();
        for vip in before.iter().filter(|vip| !now.contains(vip)) {
            if next.owners.get(vip) == Some(name) {
                next.owners.remove(vip);
            }
        }
        next.owners.extend(now.iter().filter(|vip| !before.contains(vip)).map(|vip| (*vip, name.clone())));
        next.services.extend(wanted.map(|wanted| (name.clone(), wanted.clone())));
        next
    }
}

pub fn spread_of(front: &WantedFront, family: usize) -> impl Iterator<Item = (Address, u16)> {
    let (v4, any) = &front.spreads;
    let spread = any.as_ref().filter(|_| family == 1).unwrap_or(v4);
    spread.iter().flat_map(|share| share.backends.iter().map(|(address, port, _)| (*address, *port)))
}

/// What a program may be reading.
#[derive(Debug, Clone, Default)]
struct Reached {
    fronts: BTreeSet<u32>,
    backends: BTreeSet<u32>,
    slots: BTreeSet<u32>,
}

pub struct Replica {
    pub memory: Memory,
    now: Reached,
    /// Since the last rest: a program that began then may read it still.
    lately: Reached,
    /// The same of services' numbers, and whose they are.
    numbers: BTreeMap<u32, ServiceName>,
}

/// Where connections are tried to.
pub struct Probe<'p> {
    pub vips: &'p [IpAddr],
    pub ports: &'p [(Protocol, u16)],
}

impl Replica {
    pub fn new(sizes: Sizes) -> Self {
        let (now, lately) = (Reached::default(), Reached::default());
        Self { memory: Memory::new(sizes), now, lately, numbers: BTreeMap::new() }
    }

    /// Does one write of what is done for `name`. Panics where it changes what a program may be reading, other than by a word
    /// that is in use. Whether programs may see a change.
    pub fn write(&mut self, name: &ServiceName, write: &Write) -> bool {
        let visible = match write {
            Write::Slot(at, _) if self.now.slots.contains(at) => true,
            Write::Slot(at, _) => {
                assert!(!self.lately.slots.contains(at), "slot {at} rests, and is written");
                false
            }
            Write::Backend(number, _) => {
                assert!(!self.lately.backends.contains(number), "backend {number} is in use or rests");
                false
            }
            Write::Front(number, _) => {
                assert!(!self.lately.fronts.contains(number), "front {number} is in use or rests");
                false
            }
            Write::Head(number, ..) | Write::Affinity(number, _) => self.now.fronts.contains(number),
            Write::Vip(_, Some(service)) => self.names(*service, name),
            Write::Port(key, Some(_)) => self.names(key.service, name),
            Write::Vip(_, None)
            | Write::Port(_, None)
            | Write::Member(..)
            | Write::Cluster(..)
            | Write::Rest => true,
        };
        write.perform(&mut self.memory);
        if visible {
            self.look(*write == Write::Rest);
        }
        visible
    }

    /// A service's number is that of one service until it has rested.
    fn names(&mut self, number: u32, name: &ServiceName) -> bool {
        let owner = self.numbers.entry(number).or_insert_with(|| name.clone());
        assert_eq!(owner, name, "number {number} is in use or rests");
        true
    }

    /// Goes wherever programs can go; nothing on the way may be somebody else's.
    fn look(&mut self, rested: bool) {
        let memory = &self.memory;
        let mut now = Reached { fronts: memory.ports.values().copied().collect(), ..Reached::default() };
        for front in &now.fronts {
            for head in memory.fronts[front].heads {
                let Spreading { slots, shares, .. } = Spreading::of(memory, head);
                for backend in shares.keys() {
                    assert_eq!(memory.backends[backend].front, *front, "a slot leads to another's backend");
                }
                now.slots.extend(slots);
                now.backends.extend(shares.keys());
            }
        }
        for (key, number) in &memory.members {
            let backend = memory.backends[number];
            let leads = (backend.address, backend.port, backend.front);
            assert_eq!(leads, (key.address, key.port, key.front), "a member leads elsewhere");
            now.backends.insert(*number);
        }
        if rested {
            self.lately = Reached::default();
            let of_ports = memory.ports.keys().map(|key| key.service);
            let used: BTreeSet<u32> = memory.vips.values().copied().chain(of_ports).collect();
            self.numbers.retain(|number, _| used.contains(number));
        }
        self.lately.fronts.extend(&now.fronts);
        self.lately.backends.extend(&now.backends);
        self.lately.slots.extend(&now.slots);
        self.now = now;
    }

    /// Connects to everything, by a few numbers each: all that comes of it is of one of these states, for that very service and
    /// port.
    pub fn check(&self, states: [&State; 2], probe: &Probe<'_>, random: &mut Random) {
        for vip in probe.vips {
            for port in probe.ports {
                for family in [0, 1] {
                    for _ in 0..3 {
                        let got = self.walk(*vip, *port, family, random.draw());
                        assert!(
                            allowed(states, *vip, *port, family, got),
                            "{vip} {port:?} family {family} leads to {got:?}; before and after:\n{states:#?}"
                        );
                    }
                }
            }
        }
    }

    fn walk(
        &self,
        vip: IpAddr,
        (protocol, port): (Protocol, u16),
        family: usize,
        random: u64,
    ) -> Result<Option<Backend>, NotThere> {
        let key = port_key(protocol, port);
        let found = self.memory.walk((vip.into(), key), family, random)?;
        let service = self.memory.vips[&VipKey { address: vip.into() }];
        let front = self.memory.ports[&portolan_ebpf::abi::PortKey { service, ..key }];
        Ok(found.map(|(_, backend)| {
            assert_eq!(backend.front, front, "a backend of another port");
            backend
        }))
    }
}

/// Whether a connection may end so, in one of two states: of the service that has the address in one of them.
fn allowed(
    states: [&State; 2],
    vip: IpAddr,
    (protocol, port): (Protocol, u16),
    family: usize,
    got: Result<Option<Backend>, NotThere>,
) -> bool {
    let owners = states.map(|state| state.owners.get(&vip));
    if got == Err(NotThere::Address) {
        return owners.contains(&None);
    }
    let services = owners.iter().flatten().flat_map(|name| states.map(|state| state.services.get(*name)));
    services.flatten().any(|wanted| {
        let is_it = |front: &&WantedFront| front.protocol == protocol && front.port == port;
        match (wanted.fronts.iter().find(is_it), got) {
            (None, Err(NotThere::Port)) => true,
            (Some(front), Ok(None)) => spread_of(front, family).next().is_none(),
            (Some(front), Ok(Some(backend))) => {
                spread_of(front, family).any(|at| at == (backend.address, backend.port.into()))
            }
            _ => false,
        }
    })
}
