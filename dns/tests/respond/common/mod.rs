//! A server without transports, questions as octets, replies as text in the form of zone files.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use governor::clock::{Clock, FakeRelativeClock};
use hickory_proto::op::Message;
use portolan_dns::limiter::Limiter;
use portolan_dns::respond::{Context, Dropped, Facts, Reply, Scratch, Verdict, respond};
use portolan_dns::settings::{RateLimit, Settings};
use portolan_dns::transfer::Transfers;
use portolan_dns::view::{Transport, View};
use portolan_zones::Snapshot;

mod clusters;
mod queries;
mod replies;

pub use clusters::*;
pub use queries::*;
pub use replies::*;

pub const NOW: u32 = 1_800_000_000;

/// `respond` with everything it needs.
pub struct Server {
    pub settings: Settings,
    pub snapshot: Arc<Snapshot>,
    pub limiter: Limiter<FakeRelativeClock>,
    pub clock: FakeRelativeClock,
    pub transfers: Transfers,
    pub entropy: Cell<u32>,
    pub client: IpAddr,
    pub transport: Transport,
}

impl Server {
    /// The shop in its clusterset, asked by UDP from a public address, without a rate limit.
    pub fn new() -> Self {
        Self::of(shop())
    }

    pub fn of(snapshot: Snapshot) -> Self {
        let mut settings = Settings::default();
        settings.rate_limit.per_second = None;
        let clock = FakeRelativeClock::default();
        Self {
            limiter: Limiter::with_clock(&settings.rate_limit, [1; 16], clock.clone()),
            settings,
            transfers: Transfers::default(),
            snapshot: Arc::new(snapshot),
            clock,
            entropy: Cell::new(0),
            client: "203.0.113.7".parse().unwrap(),
            transport: Transport::Udp,
        }
    }

    pub fn set(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self.limiter = Limiter::with_clock(&self.settings.rate_limit, [1; 16], self.clock.clone());
        self
    }

    pub fn limited(self, limit: RateLimit) -> Self {
        self.set(|settings| settings.rate_limit = limit)
    }

    pub fn by(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }

    pub fn from(mut self, client: &str) -> Self {
        self.client = client.parse().unwrap();
        self
    }

    /// What `respond` needs, with this which record comes first by.
    pub fn context(&self, entropy: u32) -> Context<'_, FakeRelativeClock> {
        self.context_of(&self.limiter, entropy)
    }

    /// The same with a limiter on another clock, made from the same settings.
    pub fn context_of<'s, C: Clock>(&'s self, limiter: &'s Limiter<C>, entropy: u32) -> Context<'s, C> {
        Context {
            settings: &self.settings,
            limiter,
            snapshot: &self.snapshot,
            transfers: &self.transfers,
            beyond: None,
            witness: None,
            now: NOW,
            entropy,
        }
    }

    pub fn verdict(&self, query: &[u8], reply: &mut Reply) -> Verdict {
        let context = self.context(self.entropy.get());
        let view = View { client: SocketAddr::new(self.client, 5353), transport: self.transport };
        respond(&context, query, &view, &mut Scratch::default(), reply)
    }

    /// The reply's octets and facts; `None` when nothing is sent.
    pub fn reply(&self, query: &[u8]) -> Option<(Vec<u8>, Facts)> {
        let mut reply = Reply::default();
        match self.verdict(query, &mut reply) {
            Verdict::Send(facts) => Some((reply.octets().to_vec(), facts)),
            Verdict::Drop(Dropped::NoQuery | Dropped::Limited(_)) => None,
            Verdict::Transfer(..) => panic!("a transfer"),
        }
    }

    pub fn message(&self, query: &[u8]) -> Message {
        let (octets, _) = self.reply(query).unwrap();
        Message::from_vec(&octets).unwrap()
    }

    /// The reply as text, see [`text`].
    pub fn ask(&self, query: &[u8]) -> String {
        text(&self.message(query))
    }
}
