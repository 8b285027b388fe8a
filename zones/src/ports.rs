//! Ports of a service that several clusters export: their union, and which of them each cluster exposes.
//!
//! KEP-1645, Constraints and Conflict Resolution: the ports of a service are the union of its exports', and a cluster's
//! endpoints are only used for ports that this cluster exposes. Two ports are one when protocol and number are: names may
//! differ, and then the older export's holds.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::object::{Gateway, Port, Protocol, SlicePort};
use crate::service::Member;

/// Which ports of a service a member exposes.
#[derive(Debug)]
pub struct Exposed<'s> {
    /// The member's own port and the service's, sorted by name and protocol of the member's; `None`: all, as they are.
    pairs: Option<Vec<(&'s Port, &'s Port)>>,
    /// The service's.
    merged: &'s [Port],
}

impl<'s> Exposed<'s> {
    /// Of the service's ports those that the member has. A headless Service need not list its ports: where one side lists
    /// none, all that is in slices counts as it is.
    pub fn of(member: &'s Member, merged: &'s [Port]) -> Self {
        let own = member.ports.as_deref().filter(|own| !own.is_empty() && !merged.is_empty());
        let pairs = own.map(|own| {
            let mut index: Vec<&Port> = merged.iter().collect();
            index.sort_by_key(|port| number(port));
            let find = |port: &Port| index.binary_search_by_key(&number(port), |merged| number(merged)).ok();
            let mut pairs: Vec<_> = own.iter().filter_map(|own| Some((own, index[find(own)?]))).collect();
            pairs.sort_by_key(|(own, _)| (own.name.as_deref(), own.protocol));
            pairs
        });
        Self { pairs, merged }
    }

    /// A slice's ports under the names that the service has for them; others are left out.
    pub fn slice_ports(&self, ports: &Arc<[SlicePort]>) -> Arc<[SlicePort]> {
        let Some(pairs) = &self.pairs else { return ports.clone() };
        let find = |port: &SlicePort| {
            let key = (port.name.as_deref(), port.protocol);
            let at = pairs.binary_search_by_key(&key, |(own, _)| (own.name.as_deref(), own.protocol)).ok()?;
            Some(pairs[at].1)
        };
        if ports.iter().all(|port| find(port).is_some_and(|merged| merged.name == port.name)) {
            return ports.clone();
        }
        let named = |port: &SlicePort| Some(SlicePort { name: find(port)?.name.clone(), ..port.clone() });
        ports.iter().filter_map(named).collect()
    }

    /// The service's ports that are at the member's gateway, and their numbers there.
    pub fn gateway_ports(&self, gateway: &Gateway) -> Vec<(&'s Port, u16)> {
        let there = |port: &'s Port| Some((port, gateway.port(port.protocol, port.number)?));
        match &self.pairs {
            Some(pairs) => pairs.iter().filter_map(|(_, port)| there(port)).collect(),
            None => self.merged.iter().filter_map(there).collect(),
        }
    }
}

/// All ports, the older exports' first: of two with one name, or one (protocol, number), the older counts.
pub(crate) fn union<'p>(exports: impl Iterator<Item = &'p [Port]>) -> Vec<Port> {
    let mut names: HashSet<Option<&str>, RandomState> = HashSet::default();
    let mut numbers: HashSet<(Protocol, u16), RandomState> = HashSet::default();
    let mut ports = Vec::new();
    for port in exports.flatten() {
        if !names.contains(&port.name.as_deref()) && !numbers.contains(&number(port)) {
            names.insert(port.name.as_deref());
            numbers.insert(number(port));
            ports.push(port.clone());
        }
    }
    ports
}

fn number(port: &Port) -> (Protocol, u16) {
    (port.protocol, port.number)
}
