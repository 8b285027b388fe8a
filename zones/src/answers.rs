//! Answers of one service: from merged endpoints and addresses to sorted record sets.

mod direct;
mod groups;
mod sets;
mod steer;
mod zonal;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) use groups::{Group, candidates, groups};

use crate::agreed::Agreed;
use crate::clusters::Clusters;
use crate::compact::Few;
use crate::name::{ClusterId, MAX_NAME, push_label};
use crate::object::{Endpoint, Gateway, Place as Spot, Port, Protocol, Slice, SlicePort};
use crate::peers::State;
use crate::places::{Key, Place};
use crate::policy::{Form, Rules};
use crate::ports::Exposed;
use crate::service::{
    Absence, Answers, Host, Member, PortRecords, Reach, RecordSet, Service, SrvSet, SrvTarget, Warning,
};

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
    /// Whether clients may say where they are in the name.
    pub(crate) zonal: bool,
}

/// What the answers depend on besides the service.
pub(crate) struct Scene<'t> {
    pub(crate) limits: Limits,
    /// Where endpoints are.
    pub(crate) clusters: &'t Clusters,
    /// Where clients are.
    pub(crate) areas: &'t [(Key, Place)],
    /// Whether only clients on nodes with a ready agent can connect to virtual IPs.
    pub(crate) by_agent: bool,
}

/// What DNS says of a service by some rules, which have its own fields, and what is wrong with it.
pub(crate) fn render(service: &Service, rules: Option<&Rules>, scene: &Scene<'_>) -> (Answers, Vec<Warning>) {
    // What may stand above the service's name: below it are `svc` and the origin.
    let Some(room) = MAX_NAME.checked_sub(service.name.wire().len() + 4 + scene.limits.origin) else {
        return (Answers::absent(Absence::NameTooLong), vec![Warning::NamesTooLong(1)]);
    };
    let directly = service.headless || rules.is_some_and(|rules| rules.answer != Form::Vip);
    let (mut answers, mut warnings) =
        if directly { endpoints(service, rules, scene, room) } else { cluster_set_ip(service) };
    if scene.by_agent && !directly && answers.absence().is_none() {
        let (mut others, more) = direct::direct(service, rules, &answers, scene, room);
        leave_out_long(&mut others, room);
        warnings.extend(more);
        answers.special().direct = Some(Box::new(others));
    }
    let long = leave_out_long(&mut answers, room);
    if long > 0 {
        warnings.push(Warning::NamesTooLong(long));
    }
    let chooses = rules.filter(|_| !directly && answers.absence().is_none());
    if let Some(choices) = chooses.and_then(|rules| steer::plain(&answers.own, rules)) {
        answers.special().choices = Some(choices);
    }
    (answers, warnings)
}

/// Leaves out the names of ports that don't fit; how many that are.
fn leave_out_long(answers: &mut Answers, room: usize) -> usize {
    let (ports, long): (Vec<_>, Vec<_>) =
        std::mem::take(&mut answers.own.ports).into_iter().partition(|port| port.labels.len() <= room);
    answers.own.ports = ports.into();
    long.len()
}

/// A ClusterSetIP service answers its virtual IPs, ready endpoints or not (KEP-1645 DNS §2.3).
fn cluster_set_ip(service: &Service) -> (Answers, Vec<Warning>) {
    if service.ips.is_empty() {
        return (Answers::absent(Absence::NoVip), vec![Warning::NoVip]);
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
    let own = RecordSet {
        v4: v4.into(),
        v6: v6.into(),
        srv: srv_set(all, addresses * service.spec.ports.len()),
        ports: ports
            .into_iter()
            .map(|(labels, targets)| PortRecords { labels, srv: srv_set(targets, addresses) })
            .collect(),
    };
    (Answers { own, ..Answers::default() }, Vec::new())
}

/// An endpoint, or a gateway to some, on its way into the answers.
pub(crate) struct Target<'s> {
    pub(crate) address: IpAddr,
    /// See [`Endpoint::identity`].
    identity: u32,
    pub(crate) cluster: &'s ClusterId,
    pub(crate) place: Option<&'s Spot>,
    /// Of its cluster.
    pub(crate) region: Option<&'s Arc<str>>,
    pub(crate) ports: Arc<[SlicePort]>,
    /// Whether it is one of a gateway's addresses: all of them together stand for the endpoints behind it.
    pub(crate) gateway: bool,
    /// How many endpoints it stands for, how many of these are ready, and how many of these seem healthy from here.
    pub(crate) all: u32,
    pub(crate) ready: u32,
    pub(crate) well: u32,
    /// What people decided of it.
    pub(crate) state: Option<State>,
    /// `<hostname>.<clusterid>` in wire form.
    labels: Box<[u8]>,
}

/// A headless service answers its ready endpoints, by address, name and port (KEP-1645 DNS §2.4); so does any other where a
/// policy says so.
fn endpoints(
    service: &Service,
    rules: Option<&Rules>,
    scene: &Scene<'_>,
    room: usize,
) -> (Answers, Vec<Warning>) {
    let mut warnings = Vec::new();
    let form = rules.map_or(Form::Vip, |rules| rules.answer);
    let mut targets: Vec<Target<'_>> =
        targets(service, form).filter(|target| target.ready > 0 || rules.is_some()).collect();
    let all = targets.len();
    targets.retain(|target| target.labels.len() <= room);
    if targets.len() < all {
        warnings.push(Warning::NamesTooLong(all - targets.len()));
    }
    // Those that are ready first, in the order in which they came.
    targets.sort_by_key(|target| target.ready == 0);
    let count = targets.partition_point(|target| target.ready > 0);
    if count == 0 {
        return (Answers::absent(Absence::NoReadyEndpoints), warnings);
    }
    // Where a policy chooses, whoever is shown depends on who asks: all have names, and a class shows what it can.
    let named = match rules {
        Some(_) => count,
        None => subset(&mut targets[..count], MAX_NAME - room, scene.limits.endpoints),
    };
    if named < count {
        warnings.push(Warning::Subset { shown: named, ready: count });
    }
    let mut answers = endpoint_answers(&targets[..named]);
    if scene.limits.zonal {
        let zonal = zonal::zonal(&targets[..named], &answers, service, scene);
        answers.special().zonal = Some(Box::new(zonal));
    }
    if let Some(rules) = rules {
        let choices = steer::choices(&targets, &answers, service, rules, scene);
        answers.special().choices = Some(choices);
    }
    (answers, warnings)
}

impl Target<'_> {
    /// Whether people decided that it gets nobody, or nobody else's clients.
    pub(crate) fn is_taken_out(&self) -> bool {
        matches!(self.state, Some(State::Down | State::Drain))
    }
}

/// All that can be reached and is not about to end: where rules want gateways, what clients in no cluster can reach.
pub(crate) fn targets(service: &Service, form: Form) -> impl Iterator<Item = Target<'_>> {
    service.members.iter().flat_map(move |member| {
        let exposed = Exposed::of(member, &service.spec.ports);
        let reached: Vec<Target<'_>> = match (form, &member.gateway, &member.reach) {
            _ if service.headless && (form == Form::Gateways || member.reach != Reach::Flat) => Vec::new(),
            (Form::Gateways, Some(gateway), _) | (_, _, Reach::Gateway(gateway)) => {
                gateways_of(service, member, gateway, &exposed)
            }
            (Form::Gateways, None, _) => endpoints_of(member, &exposed, |slice| slice.gateway),
            (_, _, Reach::Flat) => endpoints_of(member, &exposed, |_| true),
            (_, _, Reach::Unresolved | Reach::Nowhere) => Vec::new(),
        };
        reached
    })
}

fn endpoints_of<'s>(
    member: &'s Member,
    exposed: &Exposed<'_>,
    such: impl Fn(&Slice) -> bool,
) -> Vec<Target<'s>> {
    let mut targets = Vec::new();
    for slice in member.slices.iter().filter(|slice| such(slice)) {
        let ports = exposed.slice_ports(&slice.ports);
        targets.extend(slice.endpoints.iter().filter(lasting).map(|endpoint| Target {
            address: endpoint.address,
            identity: endpoint.identity,
            cluster: &member.cluster,
            place: endpoint.place.as_deref(),
            region: member.region.as_ref(),
            ports: ports.clone(),
            gateway: false,
            all: 1,
            ready: endpoint.conditions.ready.into(),
            well: endpoint.conditions.ready.into(),
            state: member.state(),
            labels: endpoint_labels(endpoint.hostname.as_deref(), endpoint.address, &member.cluster),
        }));
    }
    targets
}

/// Whether an endpoint is not about to end.
fn lasting(endpoint: &&Endpoint) -> bool {
    endpoint.conditions.ready || !endpoint.conditions.terminating
}

/// A gateway's addresses, all of which lead to all endpoints behind it.
fn gateways_of<'s>(
    service: &Service,
    member: &'s Member,
    gateway: &Gateway,
    exposed: &Exposed<'_>,
) -> Vec<Target<'s>> {
    let ports = exposed.gateway_ports(gateway).into_iter().map(|(port, number)| SlicePort {
        name: port.name.clone(),
        protocol: port.protocol,
        number: Some(number),
        app_protocol: port.app_protocol.clone(),
    });
    let ports: Arc<[SlicePort]> = ports.collect();
    let behind = || member.slices.iter().flat_map(|slice| &slice.endpoints).filter(lasting);
    let ready = || behind().filter(|endpoint| endpoint.conditions.ready);
    // Of another network's endpoints nobody here knows anything, whoever has the same addresses here.
    let is_flat = member.reach == Reach::Flat;
    let well = ready().filter(|endpoint| !is_flat || service.is_healthy(endpoint.address)).count();
    let (all, ready) = (behind().count(), ready().count());
    let target = |address: &IpAddr| Target {
        address: *address,
        identity: Agreed::new(b"portolan gateway").address(Some(*address)).finish() as u32,
        cluster: &member.cluster,
        place: None,
        region: member.region.as_ref(),
        ports: ports.clone(),
        gateway: true,
        all: all as u32,
        ready: ready as u32,
        well: well as u32,
        state: member.state(),
        labels: endpoint_labels(None, *address, &member.cluster),
    };
    gateway.addresses().iter().map(target).collect()
}

/// Puts the endpoints to answer first and returns how many they are: whole pods in an order that all servers
/// agree on, so that A, AAAA and SRV tell of the same ones (KEP-1645 DNS §2.4.1), and no more than one message holds.
fn subset(ready: &mut [Target<'_>], fixed_name: usize, most: usize) -> usize {
    let octets = |target: &Target<'_>| octets(target, fixed_name);
    if ready.len() <= most && ready.iter().map(octets).sum::<usize>() <= MESSAGE_BUDGET {
        return ready.len();
    }
    ready.sort_by(|a, b| (rank(a), a.cluster, a.address).cmp(&(rank(b), b.cluster, b.address)));
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

/// Octets that a target takes in the answer that is the longest.
fn octets(target: &Target<'_>, fixed_name: usize) -> usize {
    AAAA_RECORD.max(target.ports.len().max(1) * (SRV_RECORD + fixed_name + target.labels.len()))
}

/// An order that says nothing of addresses, and is the same everywhere.
fn rank(target: &Target<'_>) -> (u32, u32) {
    (target.identity.wrapping_mul(0x9e37_79b1), target.identity)
}

fn endpoint_answers(ready: &[Target<'_>]) -> Answers {
    let mut by_host: BTreeMap<&[u8], BTreeSet<IpAddr>> = BTreeMap::new();
    for r in ready {
        by_host.entry(&r.labels).or_default().insert(r.address);
    }
    let positions: HashMap<&[u8], u32> = by_host.keys().zip(0..).map(|(labels, at)| (*labels, at)).collect();
    let mut ports: BTreeMap<Box<[u8]>, (BTreeSet<SrvTarget>, usize)> = BTreeMap::new();
    let mut all = (BTreeSet::new(), 0);
    let mut seen = BTreeSet::new();
    for r in ready {
        for port in &*r.ports {
            // An endpoint may be in two slices for a moment; it counts once.
            let Some(number) = port.number.filter(|_| seen.insert((r.address, &*r.labels, port_key(port))))
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
    let own = RecordSet {
        v4: v4.into(),
        v6: v6.into(),
        srv: srv_set(all.0, all.1),
        ports: ports
            .into_iter()
            .map(|(labels, (targets, behind))| PortRecords { labels, srv: srv_set(targets, behind) })
            .collect(),
    };
    Answers {
        own,
        clusters: clusters(ready),
        hosts: by_host.into_iter().map(|(labels, addresses)| host(labels, addresses)).collect(),
        ..Answers::default()
    }
}

fn host(labels: &[u8], addresses: BTreeSet<IpAddr>) -> Host {
    let (v4, v6) = split(addresses.into_iter());
    Host { labels: labels.into(), v4: v4.into(), v6: v6.into() }
}

fn clusters(ready: &[Target<'_>]) -> Few<Box<[u8]>> {
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
fn endpoint_labels(hostname: Option<&str>, address: IpAddr, cluster: &ClusterId) -> Box<[u8]> {
    let mut labels = Vec::with_capacity(24 + cluster.as_str().len());
    match hostname {
        Some(hostname) => push_label(&mut labels, hostname.as_bytes()),
        None => {
            let dashed = address.to_string().replace(['.', ':'], "-");
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
