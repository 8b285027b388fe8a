//! Health checks: what a policy asks for, which endpoints are to be asked, and what came of it.
//!
//! Only what clusters themselves say is asked about: copies of slices are their controller's to judge, which has asked.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::spread::{At, spread};
use super::{Form, Rules, Source};
use crate::answers::{Target, candidates, groups, targets};
use crate::compact::Few;
use crate::name::{ClusterId, ServiceName};
use crate::object::Protocol;
use crate::peers::State;
use crate::places::Place;
use crate::service::{Reach, Service};

/// How endpoints are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: CheckKind,
    /// The name of the service's port; `None`: its first one of TCP.
    pub port: Option<Arc<str>>,
    /// Between two questions.
    pub interval: Duration,
    /// For the whole of one.
    pub timeout: Duration,
    /// So many good answers in a row make healthy what was not.
    pub rise: u32,
    /// So many bad ones in a row make unhealthy what was.
    pub fall: u32,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CheckKind {
    /// Whether it accepts a connection.
    Tcp,
    /// Whether a GET is answered as expected.
    Http {
        /// HTTPS.
        tls: bool,
        /// What is asked for.
        path: Arc<str>,
        /// For `Host` and SNI, where it is not the address.
        host: Option<Arc<str>>,
        /// The first and the last status code that are good.
        status: (u16, u16),
        /// What the body must contain.
        body: Option<Arc<str>>,
    },
    /// Whether `grpc.health.v1.Health` says that a service is serving.
    Grpc {
        /// Over TLS.
        tls: bool,
        /// The service; empty: the server as a whole.
        service: Arc<str>,
    },
}

/// Something that is to be asked. Equal ones are asked once, however many services need the answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Check {
    /// Whose it is.
    pub cluster: ClusterId,
    /// Where.
    pub address: SocketAddr,
    /// How.
    pub how: Arc<HealthCheck>,
}

/// What a service's health check is about, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// What is asked, sorted by address.
    pub checks: Box<[Check]>,
    /// Addresses that are not healthy, sorted.
    pub unhealthy: Box<[IpAddr]>,
}

impl HealthCheck {
    /// Whether it is about nothing but how long it takes to get there.
    fn only_measures(&self) -> bool {
        self.fall == u32::MAX
    }

    /// A connection every ten seconds, whatever comes of it.
    fn measure() -> Self {
        Self {
            kind: CheckKind::Tcp,
            port: None,
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            rise: 1,
            fall: u32::MAX,
        }
    }
}

/// So many of a cluster's endpoints tell how far away it is.
const MEASURED: usize = 8;

/// All checks of all services, and what is known.
#[derive(Default)]
pub(crate) struct Checks {
    users: HashMap<Check, Vec<ServiceName>, RandomState>,
    unhealthy: HashSet<Check, RandomState>,
    /// Whether `users` has other keys than when it was last looked at.
    changed: bool,
}

impl Checks {
    /// What is to be asked, if that is something else than at the last call.
    pub(crate) fn take_news(&mut self) -> Option<HashSet<Check>> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        self.unhealthy.retain(|check| self.users.contains_key(check));
        let (measuring, asked): (Vec<&Check>, Vec<&Check>) =
            self.users.keys().partition(|check| check.how.only_measures());
        // How far away a cluster is a few tell as well as all.
        let mut few: BTreeMap<&ClusterId, BTreeMap<SocketAddr, &Check>> = BTreeMap::new();
        for check in measuring {
            let own = few.entry(&check.cluster).or_default();
            own.insert(check.address, check);
            if own.len() > MEASURED {
                own.pop_last();
            }
        }
        let few = few.values().flat_map(BTreeMap::values).copied();
        Some(asked.into_iter().chain(few).cloned().collect())
    }

    /// All services are about to be filed again.
    pub(crate) fn begin(&mut self) {
        self.changed |= !self.users.is_empty();
        self.users.clear();
    }

    /// Takes a verdict in; the services that it may touch.
    pub(crate) fn hear(&mut self, check: &Check, healthy: bool) -> Vec<ServiceName> {
        // A word on something that nobody needs any more comes too late.
        let Some(users) = self.users.get(check) else { return Vec::new() };
        let news = if healthy { self.unhealthy.remove(check) } else { self.unhealthy.insert(check.clone()) };
        if news { users.clone() } else { Vec::new() }
    }

    /// A service has these checks now, and had others before.
    pub(crate) fn file(&mut self, before: Option<&Service>, after: Option<&Service>) {
        let (old, new) = (checks(before), checks(after));
        for check in old.difference(&new) {
            let name = before.map(|service| &service.name);
            if let Some(users) = self.users.get_mut(check) {
                users.retain(|user| Some(user) != name);
                if users.is_empty() {
                    self.users.remove(check);
                    self.changed = true;
                }
            }
        }
        for check in new.difference(&old) {
            let users = self.users.entry(check.clone()).or_default();
            self.changed |= users.is_empty();
            users.extend(after.map(|service| service.name.clone()));
        }
    }

    /// What a service's check is about, and what is known of that; `None`: it has none. `forms`: what its name answers, in one zone
    /// or another.
    pub(crate) fn of(
        &self,
        service: &Service,
        home: Option<&ClusterId>,
        forms: &BTreeSet<Form>,
    ) -> Option<Box<Checked>> {
        let policy = service.policy.as_ref()?;
        let measure = || policy.rules.latency.map(|_| Arc::new(HealthCheck::measure()));
        let how = &policy.rules.health_check.clone().or_else(measure)?;
        let plain = Arc::new(HealthCheck { kind: CheckKind::Tcp, ..(**how).clone() });
        let check = |target: Target<'_>| {
            // Whoever exports has its own endpoints asked as it wishes, and nobody else's: of these a connection must do.
            let how = match &policy.source {
                Source::Export(..) => {
                    let member = service.members.iter().find(|member| member.cluster == *target.cluster);
                    member.and_then(|member| member.health_check.as_ref()).unwrap_or(&plain)
                }
                _ => how,
            };
            let address = SocketAddr::new(target.address, target.port(how.port.as_deref())?);
            Some(Check { cluster: target.cluster.clone(), address, how: how.clone() })
        };
        let asked = forms.iter().flat_map(|form| targets(service, *form));
        let asked = asked.filter(|t| t.ready > 0 && is_asked(service, t) && is_askable(t.address));
        let mut checks: Vec<Check> = asked.filter_map(check).collect();
        // Home is here.
        checks.retain(|check| !check.how.only_measures() || Some(&check.cluster) != home);
        checks.sort_by_key(|check| check.address);
        checks.dedup();
        let bad = checks.iter().filter(|check| self.unhealthy.contains(check));
        let mut unhealthy: Vec<IpAddr> = bad.map(|check| check.address.ip()).collect();
        unhealthy.dedup();
        Some(Box::new(Checked { checks: checks.into(), unhealthy: unhealthy.into() }))
    }
}

fn checks(service: Option<&Service>) -> HashSet<Check> {
    let checked = service.and_then(Service::checked);
    checked.into_iter().flat_map(|checked| checked.checks.iter().cloned()).collect()
}

/// What of a service is left out wherever clients are: what people decided to leave out, and what is not healthy, but where the
/// engine ignores that.
pub(crate) fn out(service: &Service, rules: Option<&Rules>) -> Few<(ClusterId, IpAddr)> {
    let decides = service.members.iter().any(|m| matches!(m.state(), Some(State::Down | State::Drain)));
    let fails = service.checked().is_some_and(|checked| !checked.unhealthy.is_empty());
    let Some(rules) = rules.filter(|_| decides || fails) else { return Few::default() };
    let rules = Rules { locality: None, ..rules.clone() };
    let targets: Vec<Target<'_>> = targets(service, rules.answer).collect();
    let groups = groups(&targets, |_| Place::default());
    let spread = spread(&candidates(service, &groups, &At::default(), None), &rules, &At::default());
    let chosen: HashSet<u32> = spread.shares().flat_map(|(_, share)| &share.chosen).copied().collect();
    let is_out = |target: &&Target<'_>| !service.is_healthy(target.address) || target.is_taken_out();
    let lost = (0..).zip(&groups).filter(|(at, _)| !chosen.contains(at));
    let out = lost.flat_map(|(_, group)| group.targets).filter(is_out);
    let mut out: Vec<_> = out.map(|target| (target.cluster.clone(), target.address)).collect();
    out.sort_unstable();
    out.dedup();
    out.into()
}

/// Whether anybody may have it asked: not where clouds tell machines their secrets.
fn is_askable(address: IpAddr) -> bool {
    const AWS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    const GOOGLE: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
    match address {
        // Alibaba Cloud, Azure.
        IpAddr::V4(v4) => !matches!(v4.octets(), [100, 100, 100, 200] | [168, 63, 129, 16]),
        // The addresses of IPv4 behind NAT64 (RFC 6052 §2.1) are judged as these elsewhere.
        IpAddr::V6(v6) => v6 != AWS && v6 != GOOGLE && v6.segments()[..6] != [0x64, 0xff9b, 0, 0, 0, 0],
    }
}

/// Whether its cluster speaks for itself.
fn is_asked(service: &Service, target: &Target<'_>) -> bool {
    let member = service.members.iter().find(|member| member.cluster == *target.cluster);
    target.gateway
        || member.is_some_and(|member| {
            matches!(member.reach, Reach::Gateway(_))
                || member.slices.iter().all(|slice| slice.source.is_none())
        })
}

impl Target<'_> {
    /// The number of the port of this name; without one of the first TCP port.
    fn port(&self, name: Option<&str>) -> Option<u16> {
        let such = |port: &&crate::object::SlicePort| match name {
            Some(name) => port.name.as_deref() == Some(name),
            None => port.protocol == Protocol::Tcp,
        };
        self.ports.iter().find(such)?.number
    }
}

impl Service {
    /// Whether it is left out wherever clients are.
    pub fn is_out(&self, cluster: &ClusterId, address: IpAddr) -> bool {
        self.out().binary_search_by(|(id, out)| (id, out).cmp(&(cluster, &address))).is_ok()
    }

    /// Whether an endpoint, or a gateway, seems healthy from here.
    pub fn is_healthy(&self, address: IpAddr) -> bool {
        self.checked().is_none_or(|checked| checked.unhealthy.binary_search(&address).is_err())
    }
}
