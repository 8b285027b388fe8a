//! Numbers of service ports at the shared gateway: each has one of its own, and keeps it.
//!
//! A port's number follows from its service's name where it can, and is remembered, so that nothing moves when other
//! services come and go. A freed number goes back to its own service at once, to another one only after a quarantine, or
//! when no other is free: peers may still send there what is meant for the former.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::Hasher;
use std::str::FromStr;

use portolan_zones::ServiceName;
use portolan_zones::object::{Protocol, UnixTime};
use siphasher::sip::SipHasher13;

use super::memory;

/// Key of the hash that chooses numbers: fixed, for they must stay over restarts and versions.
const KEY: &[u8; 16] = b"portolan-gateway";
/// How long a freed number rests, in seconds: a day longer than peers go on by what they saw last (`withdrawAfter`).
pub const QUARANTINE: UnixTime = 8 * 24 * 3600;

/// A port of a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// Whose.
    pub service: ServiceName,
    /// Transport.
    pub protocol: Protocol,
    /// The service's own number.
    pub number: u16,
}

/// `shop/web:80/TCP`.
impl fmt::Display for PortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        };
        write!(f, "{}:{}/{protocol}", self.service, self.number)
    }
}

/// Numbers to choose from, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// `None` for a range that is empty, or has number 0.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first > 0 && first <= last).then_some(Self { first, last })
    }

    pub(crate) fn has(self, number: u16) -> bool {
        (self.first..=self.last).contains(&number)
    }

    fn size(self) -> u32 {
        u32::from(self.last - self.first) + 1
    }

    /// All numbers, from the one that `hash` points at.
    fn all_from(self, hash: u64) -> impl Iterator<Item = u16> {
        let (first, size) = (u32::from(self.first), self.size());
        let start = (hash % u64::from(size)) as u32;
        // At most `last`, which is a u16.
        (0..size).map(move |step| (first + (start + step) % size) as u16)
    }
}

/// Below Kubernetes' node ports and Linux' ephemeral ports.
impl Default for PortRange {
    fn default() -> Self {
        Self { first: 20_000, last: 29_999 }
    }
}

/// `20000-29999`, as it is configured.
impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let wrong = || PortError::Range(text.to_owned());
        let (first, last) = text.split_once('-').ok_or_else(wrong)?;
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| wrong());
        Self::new(number(first)?, number(last)?).ok_or_else(wrong)
    }
}

/// Why there is no number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// No range.
    #[error("`{0}` is no range of ports: write it as 20000-29999")]
    Range(String),
    /// All are taken.
    #[error(
        "{key}: all ports {range} of the shared gateway are taken: widen the range, or unexport services"
    )]
    Exhausted {
        /// Who wants one.
        key: PortKey,
        /// Of which.
        range: PortRange,
    },
    /// What is remembered has a bound.
    #[error(
        "{0}: no more ports of the shared gateway can be remembered, for a ConfigMap holds no more: unexport services, or give them \
         gateways of their own"
    )]
    Unmemorable(PortKey),
}

/// A number that is not free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Who has it, or had it last; `None`: somebody who is not known.
    pub by: Option<PortKey>,
    /// Until when others don't get it; `None`: it is in use.
    pub until: Option<UnixTime>,
}

/// How much can still be remembered.
struct Space {
    /// In octets, what rests included.
    used: usize,
    /// What rests, that which has rested longest last.
    resting: Vec<(Protocol, u16)>,
}

impl Space {
    fn of(held: &BTreeMap<(Protocol, u16), Hold>) -> Self {
        let mut resting: Vec<_> = held.iter().filter_map(|(at, hold)| Some((hold.until?, *at))).collect();
        resting.sort_unstable_by(|a, b| b.cmp(a));
        let resting = resting.into_iter().map(|(_, at)| at).collect();
        Self { used: held.values().map(|hold| memory::octets(hold.by.as_ref())).sum(), resting }
    }

    /// Whether there is enough for one more. What has rested longest is forgotten for it: nobody is refused for the sake of who is
    /// gone.
    fn holds(&mut self, key: &PortKey, held: &mut BTreeMap<(Protocol, u16), Hold>) -> bool {
        while self.used + memory::octets(Some(key)) > memory::MOST_OCTETS {
            let Some(at) = self.resting.pop() else { return false };
            // Its own service may have it back by now.
            if held.get(&at).is_some_and(|hold| hold.until.is_some()) {
                let hold = held.remove(&at);
                self.used -= hold.map_or(0, |hold| memory::octets(hold.by.as_ref()));
            }
        }
        true
    }

    fn replace(&mut self, before: Option<&Hold>, key: &PortKey) {
        self.used -= before.map_or(0, |hold| memory::octets(hold.by.as_ref()));
        self.used += memory::octets(Some(key));
    }
}

/// Who has which number. TCP and UDP are counted apart. Pure: time comes in, and what is remembered is the caller's to keep.
#[derive(Debug, Clone, Default)]
pub struct GatewayPorts {
    range: PortRange,
    assigned: BTreeMap<PortKey, u16>,
    /// All numbers that are not free.
    held: BTreeMap<(Protocol, u16), Hold>,
}

impl GatewayPorts {
    /// Nobody has any.
    pub fn new(range: PortRange) -> Self {
        Self { range, ..Self::default() }
    }

    /// Gives each of `wanted` a number, that which it has or had if there is one; takes all others back. Numbers in `taken` are
    /// somebody else's. Returns who gets none, and why.
    pub fn settle(
        &mut self,
        wanted: &BTreeSet<PortKey>,
        taken: &BTreeSet<(Protocol, u16)>,
        now: UnixTime,
    ) -> Vec<PortError> {
        self.held.retain(|_, hold| hold.until.is_none_or(|until| until > now));
        let keeps = |key: &PortKey, number: u16| {
            wanted.contains(key) && self.range.has(number) && !taken.contains(&(key.protocol, number))
        };
        let (kept, released): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.assigned).into_iter().partition(|(key, number)| keeps(key, *number));
        self.assigned = kept;
        for (key, number) in released {
            let at = (key.protocol, number);
            self.held.insert(at, Hold { by: Some(key), until: Some(now + QUARANTINE) });
        }
        let former = self.former(taken);
        let mut space = Space::of(&self.held);
        let mut full = BTreeSet::new();
        let mut refused = Vec::new();
        // Those first that had one: what rests is taken from others only when nothing else is left.
        let (had, new): (Vec<_>, Vec<_>) = wanted
            .iter()
            .filter(|key| !self.assigned.contains_key(key))
            .partition(|key| former.contains_key(key));
        for key in had.into_iter().chain(new) {
            let old = former.get(key).copied();
            if old.is_none() && !space.holds(key, &mut self.held) {
                refused.push(PortError::Unmemorable(key.clone()));
                continue;
            }
            let found = old.or_else(|| {
                // Once none is free, none will be before the next call.
                (!full.contains(&key.protocol))
                    .then(|| self.choose(key, taken).or_else(|| self.rested(key, taken)))
                    .flatten()
            });
            let Some(number) = found else {
                full.insert(key.protocol);
                refused.push(PortError::Exhausted { key: key.clone(), range: self.range });
                continue;
            };
            let before =
                self.held.insert((key.protocol, number), Hold { by: Some(key.clone()), until: None });
            space.replace(before.as_ref(), key);
            self.assigned.insert(key.clone(), number);
        }
        refused
    }

    /// The number that a service's port has.
    pub fn number(&self, key: &PortKey) -> Option<u16> {
        self.assigned.get(key).copied()
    }

    /// All that are in use, by service.
    pub fn assigned(&self) -> &BTreeMap<PortKey, u16> {
        &self.assigned
    }

    /// All that are not free: what is to be remembered.
    pub fn held(&self) -> &BTreeMap<(Protocol, u16), Hold> {
        &self.held
    }

    /// Takes up what an earlier run remembered. Of two numbers of one port the first stays, the other rests; a number whose
    /// owner can't be told rests, too. What is known already goes before.
    pub fn restore(&mut self, remembered: impl IntoIterator<Item = ((Protocol, u16), Hold)>, now: UnixTime) {
        let latest = now + QUARANTINE;
        for ((protocol, number), hold) in remembered {
            if number == 0 || self.held.contains_key(&(protocol, number)) {
                continue;
            }
            let by = hold.by.filter(|key| key.protocol == protocol);
            let until = match (&by, hold.until) {
                (Some(key), None) if !self.assigned.contains_key(key) => {
                    self.assigned.insert(key.clone(), number);
                    None
                }
                (_, until) => Some(until.unwrap_or(latest).min(latest)),
            };
            self.held.insert((protocol, number), Hold { by, until });
        }
    }

    /// Which numbers rest that ports had; of several the lowest.
    fn former(&self, taken: &BTreeSet<(Protocol, u16)>) -> BTreeMap<PortKey, u16> {
        let resting = self.held.iter().rev().filter(|(_, hold)| hold.until.is_some());
        let usable = resting.filter(|(at, _)| self.range.has(at.1) && !taken.contains(at));
        usable.filter_map(|((_, number), hold)| Some((hold.by.clone()?, *number))).collect()
    }

    /// The number that has rested longest.
    fn rested(&self, key: &PortKey, taken: &BTreeSet<(Protocol, u16)>) -> Option<u16> {
        let resting = self.held.iter().filter_map(|(at, hold)| Some((hold.until?, at)));
        let usable =
            resting.filter(|(_, at)| at.0 == key.protocol && self.range.has(at.1) && !taken.contains(at));
        usable.min().map(|(_, at)| at.1)
    }

    /// The first free number from the one that the name points at.
    fn choose(&self, key: &PortKey, taken: &BTreeSet<(Protocol, u16)>) -> Option<u16> {
        let mut hasher = SipHasher13::new_with_key(KEY);
        hasher.write(key.service.wire());
        hasher.write(&key.number.to_be_bytes());
        let mut numbers = self.range.all_from(hasher.finish());
        numbers.find(|number| {
            let at = (key.protocol, *number);
            !self.held.contains_key(&at) && !taken.contains(&at)
        })
    }
}

#[cfg(test)]
mod tests;
