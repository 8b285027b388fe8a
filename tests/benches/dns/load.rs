//! dnsperf against one server: as much as that answers, and its latency at half of it; or more than it answers.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use portolan_tests::harness::TLS;

use super::client::Client;
use super::figures::dnsperf::{Run, latencies};
use super::figures::memory::Memory;
use super::figures::statistics::percentile;
use super::figures::table::Round;
use super::running::{Cpu, LOAD_CORE, Running, find};

/// Queries on their way at once, at first; fewer where too many are lost.
const OUTSTANDING: u32 = 200;
/// Of what is asked at a rate that is answered.
pub(super) const ENOUGH: u32 = 1_000;
/// Sockets, or connections.
const SOCKETS: u32 = 10;
/// More than that is overload.
const LOSS: f64 = 0.001;
/// A latency is told in words of text: more would fill the disk.
const MOST_TOLD: f64 = 300_000.0;
/// Queries under overload, as a ratio to what is answered.
const OVERLOAD: f64 = 3.0;
/// dnsperf takes a query for lost after so many seconds (`-t`).
const TIMEOUT: f64 = 1.0;
/// A server that counts what its sockets dropped asks the kernel once a second.
const COUNTS: Duration = Duration::from_secs(2);

/// dnsperf's words for a transport (`-m`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
    Dot,
}

/// How much a server is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// As much as it answers, then half of it.
    Saturated,
    /// As much as it answers, then [`OVERLOAD`] times that. It has a part of its core, or dnsperf could not ask so much.
    Overloaded,
    /// Half of what it answers, for long.
    Soaked,
}

/// Asks the server at an address how many queries it has dropped so far.
pub type Dropped = fn(SocketAddr) -> Result<u64, String>;

/// How a server is driven.
#[derive(Clone, Copy)]
pub struct Drive<'d> {
    pub server: &'d Running,
    pub load: Load,
    pub transport: Transport,
    pub client: Client,
    /// A name and a type a line.
    pub questions: &'d Path,
    pub seconds: u32,
    pub dropped: Option<Dropped>,
    /// For what dnsperf tells.
    pub aside: &'d Path,
}

/// What dnsperf is told besides whom it asks.
pub(super) struct Words {
    pub outstanding: u32,
    /// Each sends by sockets of its own.
    pub threads: u32,
    /// Queries a second at most.
    pub rate: Option<f64>,
    pub seconds: u32,
    /// Whether each answer is told.
    pub each: bool,
}

impl Drive<'_> {
    /// Whatever the load is, it is measured by as many queries as the server answers without losing more than [`LOSS`] of them.
    pub fn round(&self) -> Result<Round, String> {
        match self.load {
            Load::Saturated => {
                let round = self.saturate(self.seconds)?;
                Ok(Round { latency: self.latency(round.rate / 2.0)?, ..round })
            }
            Load::Overloaded => self.overload(self.saturate(self.seconds)?.rate),
            Load::Soaked => self.soak(),
        }
    }

    pub(super) fn saturate(&self, seconds: u32) -> Result<Round, String> {
        let mut outstanding = OUTSTANDING;
        loop {
            let (round, _) =
                self.measure(&Words { outstanding, threads: 1, rate: None, seconds, each: false })?;
            if round.loss <= LOSS || outstanding <= 10 {
                return Ok(round);
            }
            outstanding /= 2;
        }
    }

    /// Microseconds: p50, p99, p99.9 at so many queries a second.
    fn latency(&self, rate: f64) -> Result<[f64; 3], String> {
        let rate = Some(rate.min(MOST_TOLD / f64::from(self.seconds)).max(1.0));
        self.run(&Words { outstanding: ENOUGH, threads: 1, rate, seconds: self.seconds, each: true })?;
        self.latencies()
    }

    /// Lost queries are on their way until they are taken for lost, and must not keep dnsperf from asking more. A thread of it
    /// sleeps after every second query until it has sent as many as may be on their way: one alone would ask too few.
    fn overload(&self, capacity: f64) -> Result<Round, String> {
        let rate = capacity * OVERLOAD;
        let seconds = ((MOST_TOLD / rate) as u32).clamp(1, self.seconds);
        let outstanding = (rate * TIMEOUT).ceil() as u32;
        let count = |dropped: Dropped| dropped(self.server.at);
        let before = self.dropped.map(count).transpose()?;
        let words = Words { outstanding, threads: SOCKETS, rate: Some(rate), seconds, each: true };
        let (round, run) = self.measure(&words)?;
        let counted = match (self.dropped, before) {
            (Some(dropped), Some(before)) => {
                std::thread::sleep(COUNTS);
                Some(run.counted(count(dropped)? - before))
            }
            _ => None,
        };
        let memory = Memory { before: self.server.at_rest, ..round.memory };
        Ok(Round { capacity, latency: self.latencies()?, memory, counted, ..round })
    }

    /// One run of dnsperf, and what it cost the server.
    pub(super) fn measure(&self, words: &Words) -> Result<(Round, Run), String> {
        let pids = self.server.pids();
        let (memory, cpu) = (self.server.memory(), Cpu::of(&pids));
        let run = self.run(words)?;
        let (user, system) = Cpu::of(&pids).since(cpu);
        let micros = |seconds: f64| seconds * 1e6 / run.answered as f64;
        let round = Round {
            rate: run.rate(),
            sent: run.sent as f64 / f64::from(words.seconds),
            capacity: run.rate(),
            loss: run.loss(),
            user: micros(user),
            system: micros(system),
            busy: (user + system) / run.seconds,
            outstanding: words.outstanding,
            reply_octets: run.reply_octets,
            memory: Memory::between(memory, self.server.memory()),
            ..Round::default()
        };
        Ok((round, run))
    }

    fn told(&self) -> Result<String, String> {
        fs::read_to_string(self.aside.join("told")).map_err(|error| error.to_string())
    }

    /// Of the last run that told each answer.
    fn latencies(&self) -> Result<[f64; 3], String> {
        let all = latencies(&self.told()?);
        Ok([0.5, 0.99, 0.999].map(|part| percentile(&all, part)))
    }

    /// The error says what dnsperf did, or that there were no good answers alone.
    fn run(&self, words: &Words) -> Result<Run, String> {
        let mut dnsperf = Command::new("taskset");
        dnsperf.args(["-c", LOAD_CORE]).arg(find("dnsperf", "dnsperf")?);
        let at = self.server.at;
        let port = if self.transport == Transport::Dot { TLS } else { at.port() };
        dnsperf.args(["-s", &at.ip().to_string(), "-p", &port.to_string()]);
        dnsperf.args([
            "-m",
            self.transport.word(),
            "-c",
            &SOCKETS.to_string(),
            "-T",
            &words.threads.to_string(),
        ]);
        dnsperf.args(["-t", &TIMEOUT.to_string(), "-q", &words.outstanding.to_string()]);
        dnsperf.args(["-l", &words.seconds.to_string(), "-d"]).arg(self.questions);
        dnsperf.args(self.client.arguments());
        if let Some(rate) = words.rate {
            dnsperf.args(["-Q", &format!("{rate:.0}")]);
        }
        if words.each {
            dnsperf.arg("-v");
        }
        let told = File::create(self.aside.join("told")).map_err(|error| error.to_string())?;
        dnsperf.stdout(told).stderr(Stdio::null()).status().map_err(|error| error.to_string())?;
        let text = self.told()?;
        let run = Run::parse(&text).ok_or_else(|| format!("dnsperf said: {text}"))?;
        if run.good < run.answered || run.answered == 0 {
            return Err(format!("{} of {} answers are errors", run.answered - run.good, run.answered));
        }
        Ok(run)
    }
}

impl Transport {
    fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Dot => "dot",
        }
    }
}
