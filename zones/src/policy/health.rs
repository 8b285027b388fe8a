//! Health checks: what a policy asks for, which endpoints are to be asked, and what came of it.
//!
//! Only what clusters themselves say is asked about: copies of slices are their controller's to judge, which has asked.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::answers::{Target, targets};
use crate::name::ServiceName;
use crate::object::Protocol;
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
    /// Where.
    pub address: SocketAddr,
    /// How.
    pub how: Arc<HealthCheck>,
}

/// What a service's health check is about, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// Where to ask, sorted.
    pub at: Box<[SocketAddr]>,
    /// Addresses that are not healthy, sorted.
    pub unhealthy: Box<[IpAddr]>,
}

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
        Some(self.users.keys().cloned().collect())
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

    /// What a service's check is about, and what is known of that; `None`: it has none.
    pub(crate) fn of(&self, service: &Service) -> Option<Box<Checked>> {
        let how = service.policy.as_ref()?.rules.health_check.as_ref()?;
        let mut at: Vec<SocketAddr> = targets(service)
            .filter(|target| target.ready > 0 && is_asked(service, target))
            .filter_map(|target| Some(SocketAddr::new(target.address, target.port(how.port.as_deref())?)))
            .collect();
        at.sort_unstable();
        at.dedup();
        let is_bad = |at: &&SocketAddr| self.unhealthy.contains(&Check { address: **at, how: how.clone() });
        let mut unhealthy: Vec<IpAddr> = at.iter().filter(is_bad).map(SocketAddr::ip).collect();
        unhealthy.dedup();
        Some(Box::new(Checked { at: at.into(), unhealthy: unhealthy.into() }))
    }
}

fn checks(service: Option<&Service>) -> HashSet<Check> {
    let how = service.and_then(|service| service.policy.as_ref()?.rules.health_check.clone());
    let at = service.and_then(|service| Some(&service.checked.as_ref()?.at));
    let check = |(at, how): (&SocketAddr, &Arc<HealthCheck>)| Check { address: *at, how: how.clone() };
    how.iter().flat_map(|how| at.into_iter().flatten().map(move |at| check((at, how)))).collect()
}

/// Whether its cluster speaks for itself.
fn is_asked(service: &Service, target: &Target<'_>) -> bool {
    let member = service.members.iter().find(|member| member.cluster == *target.cluster);
    member.is_some_and(|member| {
        matches!(member.reach, Reach::Gateway(_)) || member.slices.iter().all(|slice| slice.source.is_none())
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
    /// Whether enough is healthy for health to count, where there are no places to choose between: under the panic threshold
    /// it does not.
    pub fn heeds_health(&self) -> bool {
        let (Some(checked), Some(policy)) = (&self.checked, &self.policy) else { return false };
        let healthy = checked.at.len().saturating_sub(checked.unhealthy.len());
        healthy * 100 >= usize::from(policy.rules.panic_threshold) * checked.at.len()
    }

    /// Whether an endpoint, or a gateway, seems healthy from here.
    pub fn is_healthy(&self, address: IpAddr) -> bool {
        self.checked.as_ref().is_none_or(|checked| checked.unhealthy.binary_search(&address).is_err())
    }
}
