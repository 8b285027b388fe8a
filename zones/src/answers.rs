//! Answers of one service: from merged endpoints and addresses to sorted record sets.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::name::{ClusterId, MAX_NAME, push_label};
use crate::object::{Endpoint, Port, Protocol, SlicePort};
use crate::ports::Exposed;
use crate::service::{Absence, Answers, Host, PortRecords, Reach, Service, SrvSet, SrvTarget, Warning};

/// Octets that the records of one answer may take together, so that it fits in one message over TCP.
const MESSAGE_BUDGET: usize = 60_000;
/// An AAAA record with a compressed owner name.
const AAAA_RECORD: usize = 28;
/// An SRV record with a compressed owner name, without its target.
const SRV_RECORD: usize = 18;

/// What bounds the answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Octets of the longest origin, with its root label.
    pub(crate) origin: usize,
    /// Most endpoints in one answer.
    pub(crate) endpoints: usize,
}

/// What DNS says of a service, and what is wrong with it.
pub(crate) fn render(service: &Service, limits: Limits) -> (Answers, Vec<Warning>) {
    // What may stand above the service's name: below it are `svc` and the origin.
    let Some(room) = MAX_NAME.checked_sub(service.name.wire().len() + 4 + limits.origin) else {
        let answers = Answers { absent: Some(Absence::NameTooLong), ..Answers::default() };
        return (answers, vec![Warning::NamesTooLong(1)]);
    };
    let (mut answers, mut warnings) =
        if service.headless { headless(service, limits, room) } else { cluster_set_ip(service) };
    let (ports, long): (Vec<_>, Vec<_>) =
        std::mem::take(&mut answers.ports).into_iter().partition(|port| port.labels.len() <= room);
    if !long.is_empty() {
        warnings.push(Warning::NamesTooLong(long.len()));
    }
    answers.ports = ports.into();
    (answers, warnings)
}

/// A ClusterSetIP service answers its virtual IPs, ready endpoints or not (KEP-1645 DNS §2.3).
fn cluster_set_ip(service: &Service) -> (Answers, Vec<Warning>) {
    if service.ips.is_empty() {
        return (Answers { absent: Some(Absence::NoVip), ..Answers::default() }, vec![Warning::NoVip]);
    }
    let own = |port: &Port| SrvTarget { host: None, port: port.number };
    let mut ports: BTreeMap<Box<[u8]>, BTreeSet<SrvTarget>> = BTreeMap::new();
    for port in &*service.spec.ports {
        if let Some(name) = &port.name {
            ports.entry(port_labels(name, port.protocol)).or_default().insert(own(port));
        }
    }
    let addresses = service.ips.len();
    let all: BTreeSet<_> = service.spec.ports.iter().map(own).collect();
    let (v4, v6) = split(service.ips.iter().copied());
    let answers = Answers {
        v4: v4.into(),
        v6: v6.into(),
        srv: srv_set(all, addresses * service.spec.ports.len()),
        ports: ports
            .into_iter()
            .map(|(labels, targets)| PortRecords { labels, srv: srv_set(targets, addresses) })
            .collect(),
        ..Answers::default()
    };
    (answers, Vec::new())
}

/// A ready endpoint on its way into the answers.
struct Ready<'s> {
    endpoint: &'s Endpoint,
    cluster: &'s ClusterId,
    ports: Arc<[SlicePort]>,
    /// `<hostname>.<clusterid>` in wire form.
    labels: Box<[u8]>,
}

/// A headless service answers its ready endpoints, by address, name and port (KEP-1645 DNS §2.4).
fn headless(service: &Service, limits: Limits, room: usize) -> (Answers, Vec<Warning>) {
    let mut warnings = Vec::new();
    let mut ready: Vec<Ready<'_>> = ready(service).collect();
    let all = ready.len();
    ready.retain(|r| r.labels.len() <= room);
    if ready.len() < all {
        warnings.push(Warning::NamesTooLong(all - ready.len()));
    }
    let shown = subset(&mut ready, MAX_NAME - room, limits.endpoints);
    if shown < ready.len() {
        warnings.push(Warning::Subset { shown, ready: ready.len() });
        ready.truncate(shown);
    }
    if ready.is_empty() {
        return (Answers { absent: Some(Absence::NoReadyEndpoints), ..Answers::default() }, warnings);
    }
    (endpoint_answers(&ready), warnings)
}

fn ready(service: &Service) -> impl Iterator<Item = Ready<'_>> {
    let reachable = service.members.iter().filter(|member| member.reach == Reach::Flat);
    reachable.flat_map(|member| {
        let exposed = Exposed::of(member, &service.spec.ports);
        member.slices.iter().flat_map(move |slice| {
            let ports = exposed.slice_ports(&slice.ports);
            slice.endpoints.iter().filter(|endpoint| endpoint.conditions.ready).map(move |endpoint| Ready {
                endpoint,
                cluster: &member.cluster,
                ports: ports.clone(),
                labels: endpoint_labels(endpoint, &member.cluster),
            })
        })
    })
}

/// Puts the endpoints to answer first and returns how many they are: whole pods in an order that all servers
/// agree on, so that A, AAAA and SRV tell of the same ones (KEP-1645 DNS §2.4.1), and no more than one message holds.
fn subset(ready: &mut [Ready<'_>], fixed_name: usize, most: usize) -> usize {
    let octets =
        |r: &Ready<'_>| AAAA_RECORD.max(r.ports.len().max(1) * (SRV_RECORD + fixed_name + r.labels.len()));
    if ready.len() <= most && ready.iter().map(octets).sum::<usize>() <= MESSAGE_BUDGET {
        return ready.len();
    }
    let rank = |r: &Ready<'_>| (r.endpoint.identity.wrapping_mul(0x9e37_79b1), r.endpoint.identity);
    ready.sort_by(|a, b| {
        (rank(a), a.cluster, a.endpoint.address).cmp(&(rank(b), b.cluster, b.endpoint.address))
    });
    let (mut pods, mut spent, mut shown) = (0, 0, 0);
    for pod in ready.chunk_by(|a, b| rank(a) == rank(b) && a.cluster == b.cluster) {
        pods += 1;
        spent += pod.iter().map(octets).sum::<usize>();
        if pods > most || spent > MESSAGE_BUDGET {
            break;
        }
        shown += pod.len();
    }
    shown
}

fn endpoint_answers(ready: &[Ready<'_>]) -> Answers {
    let mut by_host: BTreeMap<&[u8], BTreeSet<IpAddr>> = BTreeMap::new();
    for r in ready {
        by_host.entry(&r.labels).or_default().insert(r.endpoint.address);
    }
    let positions: HashMap<&[u8], u32> = by_host.keys().zip(0..).map(|(labels, at)| (*labels, at)).collect();
    let mut ports: BTreeMap<Box<[u8]>, (BTreeSet<SrvTarget>, usize)> = BTreeMap::new();
    let mut all = (BTreeSet::new(), 0);
    let mut seen = BTreeSet::new();
    for r in ready {
        for port in &*r.ports {
            // An endpoint may be in two slices for a moment; it counts once.
            let Some(number) =
                port.number.filter(|_| seen.insert((r.endpoint.address, &*r.labels, port_key(port))))
            else {
                continue;
            };
            let target = SrvTarget { host: positions.get(&*r.labels).copied(), port: number };
            all.0.insert(target);
            all.1 += 1;
            if let Some(name) = &port.name {
                let records = ports.entry(port_labels(name, port.protocol)).or_default();
                records.0.insert(target);
                records.1 += 1;
            }
        }
    }
    let (v4, v6) = split(by_host.values().flatten().copied());
    Answers {
        absent: None,
        v4: v4.into(),
        v6: v6.into(),
        srv: srv_set(all.0, all.1),
        ports: ports
            .into_iter()
            .map(|(labels, (targets, behind))| PortRecords { labels, srv: srv_set(targets, behind) })
            .collect(),
        clusters: clusters(ready),
        hosts: by_host.into_iter().map(|(labels, addresses)| host(labels, addresses)).collect(),
    }
}

fn host(labels: &[u8], addresses: BTreeSet<IpAddr>) -> Host {
    let (v4, v6) = split(addresses.into_iter());
    Host { labels: labels.into(), v4: v4.into(), v6: v6.into() }
}

fn clusters(ready: &[Ready<'_>]) -> Box<[Box<[u8]>]> {
    let ids: BTreeSet<&ClusterId> = ready.iter().map(|r| r.cluster).collect();
    ids.into_iter().map(|id| cluster_labels(id).into()).collect()
}

fn port_key(port: &SlicePort) -> (Option<&str>, Protocol, Option<u16>) {
    (port.name.as_deref(), port.protocol, port.number)
}

/// Sorted, without duplicates, by family.
fn split(addresses: impl Iterator<Item = IpAddr>) -> (Vec<std::net::Ipv4Addr>, Vec<std::net::Ipv6Addr>) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for address in addresses {
        match address {
            IpAddr::V4(a) => v4.push(a),
            IpAddr::V6(a) => v6.push(a),
        }
    }
    v4.sort_unstable();
    v4.dedup();
    v6.sort_unstable();
    v6.dedup();
    (v4, v6)
}

/// `behind` is the number of addresses and ports that the records stand for: CoreDNS divides 100 by it.
fn srv_set(targets: BTreeSet<SrvTarget>, behind: usize) -> SrvSet {
    let weight = (100 / behind.max(1)).max(1) as u16;
    SrvSet { weight, targets: targets.into_iter().collect() }
}

/// `_<name>._<proto>` in wire form. RFC 6335 §5.1: service names compare case-insensitively.
fn port_labels(name: &str, protocol: Protocol) -> Box<[u8]> {
    let mut labels = Vec::with_capacity(name.len() + 8);
    push_label(&mut labels, format!("_{}", name.to_ascii_lowercase()).as_bytes());
    push_label(&mut labels, protocol.label().as_bytes());
    labels.into()
}

/// `<hostname>.<clusterid>` in wire form; without a hostname the address with dashes (as CoreDNS names endpoints).
fn endpoint_labels(endpoint: &Endpoint, cluster: &ClusterId) -> Box<[u8]> {
    let mut labels = Vec::with_capacity(24 + cluster.as_str().len());
    match &endpoint.hostname {
        Some(hostname) => push_label(&mut labels, hostname.as_bytes()),
        None => {
            let dashed = endpoint.address.to_string().replace(['.', ':'], "-");
            push_label(&mut labels, dashed.as_bytes());
        }
    }
    labels.extend(cluster_labels(cluster));
    labels.into()
}

fn cluster_labels(cluster: &ClusterId) -> Vec<u8> {
    let mut labels = Vec::with_capacity(cluster.as_str().len() + 1);
    for label in cluster.as_str().split('.') {
        push_label(&mut labels, label.as_bytes());
    }
    labels
}
