//! Keeps the cluster's shared gateway: who is behind it, by which numbers, and what peers are told of it.
//!
//! ```text
//! tap (exports, Services, Nodes) ──► seen ──► keeper ──► requests, in an order that is safe to break off:
//!                                     ▲                    memory, configuration, the Service's ports, exports
//!                                     └── answers ◄────────┘
//! ```
//!
//! A number is remembered before anything leads to it, and told to peers after the configuration and the gateway's
//! Service have it. All that there
//! is without a Service `portolan-gateway` in the own namespace is nothing.

mod files;
mod keeper;
mod requests;
mod seen;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipnet::IpNet;
use kube::Client;
use portolan_zones::Name;
use portolan_zones::object::UnixTime;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::election::Leadership;
use crate::convert::Kind;
use crate::gateway::PortRange;
use crate::kubernetes::Tap;
use keeper::Keeper;
use requests::{Failed, Requests};
pub(super) use seen::{Both, GatewaySeen};

/// Between two rounds of requests: what changes meanwhile is written at once.
const PACE: Duration = Duration::from_secs(2);
/// All is written anew, whoever changed it.
const SWEEP: Duration = Duration::from_secs(300);
/// After a request that the API server could not answer.
const PAUSE: Duration = Duration::from_secs(10);
/// One write brings about the next: so often before there is a pause, whatever is due then.
const STEPS: usize = 10;

/// What the shared gateway is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayConfig {
    /// Whether it is kept at all; if not, what is told of it is taken back.
    pub enabled: bool,
    /// Numbers to choose from.
    pub ports: PortRange,
    /// Whether UDP ports are told: HAProxy has none.
    pub udp: bool,
    /// The domain of cluster DNS.
    pub cluster_domain: Name,
    /// Who may connect; empty: everybody.
    pub allow: Vec<IpNet>,
    /// The address to listen at; `None`: all, of the families that the Service in front has.
    pub bind: Option<IpAddr>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            ports: PortRange::default(),
            udp: false,
            cluster_domain: default_domain(),
            allow: Vec::new(),
            bind: None,
        }
    }
}

/// As kubeadm has it.
#[expect(clippy::expect_used, reason = "the text is a constant")]
fn default_domain() -> Name {
    // Two valid labels.
    Name::parse("cluster.local").expect("a domain name")
}

/// How it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayStatus {
    /// Whether there is a Service for it.
    pub installed: bool,
    /// Where peers reach it: addresses and names.
    pub at: Vec<String>,
    /// How many ports have numbers.
    pub ports: usize,
    /// Ports that get none: one line each.
    pub refused: Vec<String>,
    /// What else is wrong.
    pub problems: Vec<String>,
}

/// Keeps it while we lead; runs until it is dropped.
pub(super) async fn keep(
    client: Client,
    namespace: String,
    config: GatewayConfig,
    seen: Arc<GatewaySeen>,
    mut leadership: Leadership,
    status: Arc<Mutex<GatewayStatus>>,
) {
    let requests = Requests::new(client, namespace);
    let mut keeper: Option<Keeper> = None;
    let mut sweep = Instant::now() + SWEEP;
    loop {
        let retry = keeper.as_ref().and_then(Keeper::retry).map(Instant::from_std);
        let wake = keeper.as_ref().and_then(Keeper::wake).map(instant);
        let next = retry.into_iter().chain(wake).fold(sweep, Instant::min);
        tokio::select! {
            () = seen.changed.notified() => {}
            _ = leadership.changed() => {}
            () = sleep_until(next) => {}
        }
        if !leadership.is_leader() {
            keeper = None;
            tell(&status, GatewayStatus::default());
            continue;
        }
        if !seen.is_synced() {
            continue;
        }
        if sweep <= Instant::now() {
            sweep = Instant::now() + SWEEP;
            keeper.iter_mut().for_each(Keeper::forget_written);
        }
        let done = round(&requests, &config, &seen, &leadership, &mut keeper).await;
        let mut now = keeper.as_ref().map(Keeper::status).unwrap_or_default();
        if let Err(why) = &done {
            now.problems.push(format!("shared gateway: {why}"));
            // Tried again, whatever is told meanwhile.
            seen.changed.notify_one();
        }
        tell(&status, now);
        sleep(if done.is_ok() { PACE } else { PAUSE }).await;
    }
}

/// What is new in it is logged, once.
fn tell(status: &Mutex<GatewayStatus>, now: GatewayStatus) {
    let mut told = status.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = now.refused.iter().chain(&now.problems);
    let new = lines.filter(|line| !told.refused.contains(line) && !told.problems.contains(line));
    new.for_each(|line| tracing::warn!("{line}"));
    *told = now;
}

/// Writes until nothing is left to do, or for long enough.
async fn round(
    requests: &Requests,
    config: &GatewayConfig,
    seen: &GatewaySeen,
    leadership: &Leadership,
    keeper: &mut Option<Keeper>,
) -> Result<(), String> {
    let keeper = keeper.get_or_insert_with(|| Keeper::new(config.clone()));
    // Without a gateway nothing is asked for that needs a right.
    if config.enabled && seen.is_installed() && !keeper.remembers() {
        let (numbers, served) = requests.remembered().await.map_err(|failed| failed.to_string())?;
        seen.with(|seen| keeper.remember(&numbers, served, seen, now()));
    }
    for _ in 0..STEPS {
        let writes = seen.with(|seen| keeper.due(seen, now()));
        if writes.is_empty() {
            return Ok(());
        }
        for write in writes {
            let Some(end) = leadership.until() else { return Ok(()) };
            match timeout_at(Instant::from_std(end), requests.send(&write)).await {
                Ok(Ok(answer)) => {
                    keeper.wrote(&write);
                    if let Some(kind) = write.kind() {
                        seen.apply(kind, &answer);
                    }
                }
                // Nothing may lead to what is not remembered.
                Ok(Err(Failed::Refused(why))) if write.is_memory() => {
                    return Err(format!("{} can't be written: {why}", write.target()));
                }
                Ok(Err(Failed::Refused(why))) => keeper.refused(&write, &why, std::time::Instant::now()),
                Ok(Err(Failed::Unreachable(why))) => return Err(format!("{}: {why}", write.target())),
                Err(_) => return Ok(()),
            }
        }
    }
    seen.changed.notify_one();
    Ok(())
}

fn now() -> UnixTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime::try_from(now.as_secs()).unwrap_or(UnixTime::MAX)
}

/// When that is.
fn instant(at: UnixTime) -> Instant {
    Instant::now() + Duration::from_secs(u64::try_from(at - now()).unwrap_or(0))
}

impl keeper::Write {
    /// The kind of the answer, where it is one that is watched.
    fn kind(&self) -> Option<Kind> {
        match self {
            Self::Memory(_) | Self::Files { .. } => None,
            Self::Ports { .. } => Some(Kind::Service),
            Self::Told { .. } => Some(Kind::ServiceExport),
        }
    }
}

#[cfg(test)]
mod tests;
