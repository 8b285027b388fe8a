//! What is to be written next, given what is seen. Pure: requests and the clock are the caller's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use portolan_zones::ServiceName;
use portolan_zones::entrances::Entrances;
use portolan_zones::object::{Protocol, UnixTime};

use super::files::{fit, serves, texts};
use super::seen::{Entrance, EntrancePort, SERVICE, Seen, Told};
use super::{GatewayConfig, GatewayStatus};
use crate::controller::words::fingerprint;
use crate::gateway::ports::{Hold, PortKey};
use crate::gateway::{Explicit, GatewayPorts, Listener, Plan, Style, Taken, To, Wanted, memory};

/// What is refused is left alone for so long, unless something else is to be written there.
const RETRY: Duration = Duration::from_secs(60);
/// What a request for the Service's ports is about.
const PORTS: &str = "the Service's ports";

/// A request to be made.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Write {
    /// What is remembered of numbers.
    Memory(BTreeMap<String, String>),
    /// The programs' configurations, and what they serve by which number.
    Files { haproxy: String, nginx: String, served: Served },
    /// The ports of the gateway's Service; so many of them, the last ones, are new.
    Ports { uid: String, ports: Vec<ServicePort>, new: usize },
    /// What an export says: addresses, and numbers; nothing.
    Told { name: ServiceName, uid: String, words: Option<(String, String)> },
}

impl Write {
    /// Whose failure keeps all others from being made.
    pub(super) fn is_memory(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// What it is about, for people.
    pub(super) fn target(&self) -> String {
        match self {
            Self::Memory(_) => "the memory of ports".to_owned(),
            Self::Files { .. } => "the configuration".to_owned(),
            Self::Ports { .. } => PORTS.to_owned(),
            Self::Told { name, .. } => format!("ServiceExport {name}"),
        }
    }
}

/// A port of the gateway's Service: name, protocol, number.
pub(super) type ServicePort = (String, Protocol, u16);

/// How much the gateway's Service takes.
struct Scarce {
    /// As many new ports at once. It doubles when they are taken, and is halved when they are not.
    most: usize,
    /// What the API server said.
    why: String,
    /// When not even ports that are not wanted any more could be taken away.
    stuck: Option<Instant>,
}

/// Ports, and their numbers at the gateway.
pub(super) type Served = BTreeSet<(PortKey, u16)>;

/// See the module.
pub(super) struct Keeper {
    config: GatewayConfig,
    ports: GatewayPorts,
    /// `None`: nobody has looked yet.
    remembered: Option<BTreeMap<String, String>>,
    files: Option<u64>,
    /// What the configuration has that was written last: nothing else may be told.
    served: Served,
    /// Where node ports are told to be.
    entrances: Entrances,
    /// How many ports to add to the Service at once, since it did not take more.
    scarce: Option<Scarce>,
    /// What was taken and has not been seen to take effect, by what it is about.
    accepted: BTreeMap<String, u64>,
    /// What was refused, when and why, by what it is about.
    refused: BTreeMap<String, (u64, Instant, String)>,
    status: GatewayStatus,
}

impl Keeper {
    pub(super) fn new(config: GatewayConfig) -> Self {
        let ports = GatewayPorts::new(config.ports);
        let status = GatewayStatus::default();
        let (accepted, refused, entrances) = Default::default();
        Self {
            config,
            ports,
            remembered: None,
            files: None,
            served: Served::new(),
            entrances,
            scarce: None,
            accepted,
            refused,
            status,
        }
    }

    /// Takes up what was written down. What exports say that we told goes after it: it helps where the memory is lost. As their
    /// authors may write there, too, it holds only for ports that they have, and for numbers that we give out.
    pub(super) fn remember(
        &mut self,
        written: &BTreeMap<String, String>,
        served: Served,
        seen: &Seen,
        now: UnixTime,
    ) {
        self.served = served;
        self.ports.restore(memory::read(written), now);
        let by_nodes = seen.entrance.as_ref().is_some_and(|entrance| entrance.by_nodes);
        if by_nodes {
            self.entrances = Entrances::resume(seen.told_at());
        }
        let ours = seen.told.iter().filter(|(_, told)| told.ours && !by_nodes);
        let keys: BTreeSet<_> = seen.site.shared().collect();
        let told = ours.flat_map(|(name, told)| told_ports(name, told));
        let told = told.filter(|((_, number), hold)| {
            self.config.ports.has(*number) && hold.by.as_ref().is_some_and(|key| keys.contains(key))
        });
        self.ports.restore(told.collect::<Vec<_>>(), now);
        self.remembered = Some(written.clone());
    }

    pub(super) fn remembers(&self) -> bool {
        self.remembered.is_some()
    }

    /// All is to be written anew, whoever changed it.
    pub(super) fn forget_written(&mut self) {
        self.remembered = self.remembered.take().map(|_| BTreeMap::new());
        self.files = None;
    }

    pub(super) fn status(&self) -> GatewayStatus {
        self.status.clone()
    }

    /// When what was refused is to be tried again.
    pub(super) fn retry(&self) -> Option<Instant> {
        self.refused.values().map(|(_, at, _)| *at + RETRY).min()
    }

    /// When to look again, though nothing is new.
    pub(super) fn wake(&self) -> Option<UnixTime> {
        self.entrances.due()
    }

    /// The next requests, in their order; none when all is as it should be.
    pub(super) fn due(&mut self, seen: &Seen, now: UnixTime) -> Vec<Write> {
        self.status = GatewayStatus::default();
        let writes = match &seen.entrance {
            Some(entrance) if self.config.enabled => self.install(entrance, seen, now),
            _ => self.tell(seen, &BTreeMap::new()),
        };
        let clock = Instant::now();
        self.judge_accepted(&writes, seen, clock);
        let is_new = |write: &Write| {
            let before = self.refused.get(&write.target());
            before.is_none_or(|(print, at, _)| *print != fingerprint(write) || clock >= *at + RETRY)
        };
        let (due, waits): (Vec<_>, Vec<_>) = writes.into_iter().partition(is_new);
        self.refused.retain(|target, _| waits.iter().any(|write| write.target() == *target));
        self.status.problems.extend(self.refused.values().map(|(.., why)| why.clone()));
        due
    }

    /// It was made.
    pub(super) fn wrote(&mut self, write: &Write) {
        match write {
            Write::Memory(memory) => self.remembered = Some(memory.clone()),
            Write::Files { served, .. } => {
                self.files = Some(fingerprint(write));
                self.served.clone_from(served);
            }
            Write::Ports { .. } | Write::Told { .. } => {
                if let (Write::Ports { new: 1.., .. }, Some(scarce)) = (write, &mut self.scarce) {
                    scarce.most = scarce.most.saturating_mul(2);
                }
                self.accepted.insert(write.target(), fingerprint(write));
            }
        }
    }

    /// What was taken and is due all the same came to nothing: somebody else owns the field, too, or a webhook changes it. It
    /// must not be written over and over.
    fn judge_accepted(&mut self, writes: &[Write], seen: &Seen, now: Instant) {
        let accepted = std::mem::take(&mut self.accepted);
        for write in writes.iter().filter(|write| accepted.get(&write.target()) == Some(&fingerprint(write)))
        {
            let owners = match write {
                Write::Ports { .. } => seen.entrance.as_ref().map(|entrance| &entrance.owners),
                Write::Told { name, .. } => seen.told.get(name).map(|told| &told.owners),
                Write::Memory(_) | Write::Files { .. } => None,
            };
            let owners: Vec<_> = owners.into_iter().flatten().map(String::as_str).collect();
            let why = format!(
                "it was accepted, but has no effect: a webhook changes it, or one of its other field managers owns the same \
                 fields ({})",
                owners.join(", ")
            );
            self.lay_aside(write, &why, now);
        }
    }

    /// It came to nothing. Of several new ports some may be taken: the cluster has a few node ports left, say.
    pub(super) fn refused(&mut self, write: &Write, why: &str, now: Instant) {
        if let Write::Ports { new: new @ 1.., .. } = write {
            let stuck = self.scarce.as_ref().and_then(|scarce| scarce.stuck);
            self.scarce = Some(Scarce { most: (new / 2).max(1), why: why.to_owned(), stuck });
            if *new > 1 {
                return;
            }
        }
        self.lay_aside(write, why, now);
    }

    fn lay_aside(&mut self, write: &Write, why: &str, now: Instant) {
        if let (Write::Ports { new: 0, .. }, Some(scarce)) = (write, &mut self.scarce) {
            scarce.stuck = Some(now);
        }
        let why = format!("shared gateway: {} can't be written: {why}", write.target());
        self.refused.insert(write.target(), (fingerprint(write), now, why));
    }

    fn install(&mut self, entrance: &Entrance, seen: &Seen, now: UnixTime) -> Vec<Write> {
        let others = entrance.ports.iter().filter(|port| !port.is_ours());
        let taken: Taken = others.map(|port| (port.protocol, port.number)).collect();
        let wanted = Wanted { explicit: Explicit::Elsewhere, to: To::Services, udp: self.config.udp };
        let mut plan = seen.site.plan(&mut self.ports, wanted, taken, now);
        let files = self.files(&mut plan, entrance);
        let at = self.at(entrance, seen, now);
        self.status.installed = true;
        self.status.ports = plan.listeners.len();
        self.status.refused.clone_from(&plan.refused);
        if at.is_empty() {
            let what =
                if entrance.by_nodes { "no Node is there" } else { "its load balancer has no address yet" };
            self.status.problems.push(format!("shared gateway: peers are told nothing of it: {what}"));
        }
        plan.listeners.retain(|listener| self.served.contains(&serves(listener)));
        let words = words(&plan, entrance, &at);
        self.status.at = at;
        let told = self.tell(seen, &words);
        let (added, removed): (Vec<_>, Vec<_>) =
            told.into_iter().partition(|write| matches!(write, Write::Told { words: Some(_), .. }));
        let memory = memory::write(&self.ports);
        let memory = (self.remembered.as_ref() != Some(&memory)).then_some(Write::Memory(memory));
        let middle = [files, self.ports(&plan, entrance)].into_iter().flatten();
        memory.into_iter().chain(removed).chain(middle).chain(added).collect()
    }

    /// Where peers reach the gateway; nowhere while its load balancer has no address.
    fn at(&mut self, entrance: &Entrance, seen: &Seen, now: UnixTime) -> Vec<String> {
        if !entrance.by_nodes {
            self.entrances = Entrances::default();
            return entrance.balancer.clone();
        }
        self.entrances.settle(seen.nodes(), now);
        self.entrances.told().map(|ip| ip.to_string()).collect()
    }

    /// The Service's ports, if ours are not as they should be. While it did not take all that are new, what frees node ports goes
    /// before what needs some.
    fn ports(&mut self, plan: &Plan, entrance: &Entrance) -> Option<Write> {
        let ours = entrance.ports.iter().filter(|port| port.is_ours());
        let has: BTreeSet<_> = ours.map(|port| (port.name.clone(), port.target)).collect();
        let port = |listener: &Listener| {
            let protocol = listener.key.protocol;
            (EntrancePort::name_of(protocol, listener.port), protocol, listener.port)
        };
        let is_there = |(name, _, number): &ServicePort| has.contains(&(name.clone(), Some(*number)));
        let (mut ports, new): (Vec<_>, Vec<_>) = plan.listeners.iter().map(port).partition(is_there);
        if new.is_empty() {
            self.scarce = None;
        }
        let goes = ports.len() < has.len();
        // In one request the API server would look for new node ports before it frees the others.
        let most = match &self.scarce {
            None => usize::MAX,
            Some(scarce) if goes && scarce.stuck.is_none_or(|at| at.elapsed() >= RETRY) => 0,
            Some(scarce) => scarce.most,
        };
        if let Some(scarce) = &self.scarce {
            let lacks = |listener: &&Listener| !is_there(&port(listener));
            let line = |listener: &Listener| {
                format!("{}: the Service {SERVICE} takes no more ports: {}", listener.key, scarce.why)
            };
            self.status.refused.extend(plan.listeners.iter().filter(lacks).map(line));
        }
        let new = new.into_iter().take(most);
        let count = new.len();
        ports.extend(new);
        (goes || count > 0).then(|| Write::Ports { uid: entrance.uid.clone(), ports, new: count })
    }

    /// The configurations, if they are not written yet. What has no place in them is refused.
    fn files(&mut self, plan: &mut Plan, entrance: &Entrance) -> Option<Write> {
        let GatewayConfig { allow, bind, cluster_domain, .. } = self.config.clone();
        let style = Style { allow, bind: bind.or(entrance.bind), ..Style::new(cluster_domain) };
        let refused = fit(plan, &self.served, |plan| texts(plan, &style));
        plan.refused.extend(refused);
        match texts(plan, &style) {
            Ok([haproxy, nginx]) => {
                let served = plan.listeners.iter().map(serves).collect();
                let write = Write::Files { haproxy, nginx, served };
                (self.files != Some(fingerprint(&write))).then_some(write)
            }
            Err(error) => {
                let text = format!("shared gateway: its configuration stays as it is: {error}");
                self.status.problems.push(text);
                None
            }
        }
    }

    /// What exports say otherwise than they should. Other people's words are left alone.
    fn tell(&mut self, seen: &Seen, words: &BTreeMap<ServiceName, (String, String)>) -> Vec<Write> {
        let mut writes = Vec::new();
        for (name, told) in &seen.told {
            let wanted = words.get(name);
            let says =
                told.at.as_ref().zip(told.ports.as_ref()).map(|(at, ports)| (at.clone(), ports.clone()));
            let silent = told.at.is_none() && told.ports.is_none();
            if says.as_ref() == wanted && (says.is_some() || silent) {
                continue;
            }
            if !silent && !told.ours {
                if self.config.enabled && seen.entrance.is_some() {
                    self.status.problems.push(format!(
                        "shared gateway: what ServiceExport {name} says of it was not written by Portolan and is left alone: \
                         remove its portolan.dev/shared-gateway annotations, or name the gateway by portolan.dev/gateway"
                    ));
                }
                continue;
            }
            writes.push(Write::Told { name: name.clone(), uid: told.uid.clone(), words: wanted.cloned() });
        }
        writes
    }
}

/// What each export is to say: only ports that the Service has already.
fn words(plan: &Plan, entrance: &Entrance, at: &[String]) -> BTreeMap<ServiceName, (String, String)> {
    let mut words: BTreeMap<ServiceName, (String, String)> = BTreeMap::new();
    if at.is_empty() {
        return words;
    }
    let mut listeners: Vec<_> = plan.listeners.iter().collect();
    listeners.sort_by(|a, b| a.key.cmp(&b.key));
    for listener in listeners {
        let PortKey { service, protocol, number } = &listener.key;
        let is_it = |port: &&EntrancePort| {
            port.is_ours() && (port.protocol, port.number) == (*protocol, listener.port)
        };
        let Some(port) = entrance.ports.iter().find(is_it) else { continue };
        let there = if entrance.by_nodes { port.node } else { Some(port.number) };
        let Some(there) = there else { continue };
        let (_, ports) = words.entry(service.clone()).or_insert_with(|| (at.join(","), String::new()));
        if !ports.is_empty() {
            ports.push(',');
        }
        *ports += &match protocol {
            Protocol::Udp => format!("{number}/UDP={there}"),
            _ => format!("{number}={there}"),
        };
    }
    words
}

/// The numbers that we once told of a service.
fn told_ports(name: &ServiceName, told: &Told) -> Vec<((Protocol, u16), Hold)> {
    let entry = |entry: &str| {
        let (service, there) = entry.split_once('=')?;
        let (number, protocol) = match service.split_once('/') {
            Some((number, "UDP")) => (number, Protocol::Udp),
            Some(_) => return None,
            None => (service, Protocol::Tcp),
        };
        let key = PortKey { service: name.clone(), protocol, number: number.parse().ok()? };
        Some(((protocol, there.parse().ok()?), Hold { by: Some(key), until: None }))
    };
    told.ports.iter().flat_map(|text| text.split(',')).filter_map(entry).collect()
}
