//! Decisions as they are made: collected while somebody asks for them, and only then does the kernel tell any.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use portolan_ebpf::abi::{Event, Verdict};
use portolan_ebpf::kernel::Events;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::keeper::{Shared, lock};

/// Decisions that are kept for who asks again.
const KEPT: usize = 10_000;
/// Nobody asked for so long: the kernel need not tell any more.
const INTEREST: Duration = Duration::from_secs(5);
/// Who asks waits so long for a decision.
const WAIT: Duration = Duration::from_secs(1);

/// A decision, for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Decision {
    /// Seconds since the machine started.
    pub at: f64,
    /// Whose process it was; 0 on a kernel that does not tell.
    pub pid: u32,
    /// Its name.
    pub command: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// The service; `None`: it was gone when this was told.
    pub service: Option<String>,
    /// Where it wanted to go.
    pub vip: SocketAddr,
    /// Where it was sent.
    pub backend: Option<SocketAddr>,
    /// What became of it.
    pub verdict: String,
    /// Whether it connected; else it sent a packet.
    pub connected: bool,
}

/// What who asks gets.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Told {
    /// What to ask for next.
    pub next: u64,
    /// Decisions that came too fast, and are not told.
    pub lost: u64,
    pub decisions: Vec<Decision>,
}

/// See the module.
pub(crate) struct Trace {
    redirection: Shared,
    state: Mutex<State>,
    came: Notify,
}

#[derive(Default)]
struct State {
    kept: VecDeque<Decision>,
    /// The number of the first one that is kept.
    first: u64,
    until: Option<Instant>,
    services: HashMap<IpAddr, String>,
}

impl Trace {
    /// Reads decisions in a thread.
    pub(crate) fn start(events: Events, redirection: Shared) -> std::io::Result<Arc<Self>> {
        let trace = Arc::new(Self { redirection, state: Mutex::default(), came: Notify::new() });
        lock(&trace.redirection).sample(0);
        let reader = trace.clone();
        std::thread::Builder::new().name("trace".into()).spawn(move || reader.read(events))?;
        Ok(trace)
    }

    /// Decisions from a number on, of which one of so many is told.
    pub(crate) async fn from(self: Arc<Self>, after: Option<u64>, sample: u32) -> Told {
        let came = self.came.notified();
        // It waits for the tables.
        let wanted = self.clone();
        let next = tokio::task::spawn_blocking(move || wanted.wanted(sample)).await.unwrap_or_default();
        let after = after.unwrap_or(next);
        if lock(&self.state).next() <= after {
            // Whatever comes first.
            let _ = tokio::time::timeout(WAIT, came).await;
        }
        let state = lock(&self.state);
        let first = after.clamp(state.first, state.next());
        let decisions = state.kept.iter().skip((first - state.first) as usize).cloned().collect();
        Told { next: state.next(), lost: first.saturating_sub(after), decisions }
    }

    /// Somebody wants to know: the number of the next one.
    fn wanted(&self, sample: u32) -> u64 {
        // Names are those of now; services seldom move.
        let services = {
            let redirection = lock(&self.redirection);
            redirection.sample(sample);
            let vips = redirection.follower().reconciler().vips();
            vips.map(|(vip, name)| (vip, name.to_string())).collect()
        };
        let mut state = lock(&self.state);
        state.services = services;
        state.until = Some(Instant::now() + INTEREST);
        state.next()
    }

    /// Reads for as long as the process runs.
    fn read(&self, mut events: Events) {
        loop {
            events.wait(WAIT);
            let mut state = lock(&self.state);
            let before = state.next();
            while let Some(event) = events.take() {
                state.keep(&event);
            }
            let over = state.until.is_some_and(|until| until <= Instant::now());
            if over {
                *state = State { first: state.next(), ..State::default() };
            }
            let came = state.next() > before;
            drop(state);
            if came {
                self.came.notify_waiters();
            }
            if over {
                lock(&self.redirection).sample(0);
            }
        }
    }
}

impl State {
    fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    fn keep(&mut self, event: &Event) {
        if self.until.is_none() {
            return;
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
            self.first += 1;
        }
        let decision = self.decision(event);
        self.kept.push_back(decision);
    }

    fn decision(&self, event: &Event) -> Decision {
        let verdict = match event.verdict {
            Verdict::Redirected => "redirected",
            Verdict::Kept => "kept by affinity",
            Verdict::Unreachable => "no backend: EHOSTUNREACH",
            Verdict::NoPort => "no such port: ECONNREFUSED",
            Verdict::Family => "IPv4 backends only: EAFNOSUPPORT",
            Verdict::Asks => "no such port: let through, as who asks for its own address connects so",
        };
        Decision {
            at: Duration::from_nanos(event.time).as_secs_f64(),
            pid: event.pid,
            command: event.command.clone(),
            protocol: protocol(event.protocol),
            service: self.services.get(&event.vip.0).cloned(),
            vip: event.vip.into(),
            backend: event.backend.map(SocketAddr::from),
            verdict: verdict.to_owned(),
            connected: event.connected,
        }
    }
}

fn protocol(number: u8) -> String {
    match number {
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        other => format!("protocol {other}"),
    }
}
