//! dnsperf against one server: as much as that answers, and its latency at half of it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use portolan_tests::harness::TLS;

use super::client::Client;
use super::figures::dnsperf::{Run, latencies};
use super::figures::statistics::percentile;
use super::figures::table::Round;
use super::running::{Cpu, LOAD_CORE, find};

/// Queries on their way at once, at first; fewer where too many are lost.
const OUTSTANDING: u32 = 200;
/// Sockets, or connections.
const SOCKETS: &str = "10";
/// More than that is overload.
const LOSS: f64 = 0.001;
/// A latency is told in words of text: more would fill the disk.
const MOST_TOLD: f64 = 300_000.0;

/// dnsperf's words for a transport (`-m`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
    Dot,
}

/// How a server is driven.
#[derive(Clone, Copy)]
pub struct Drive<'d> {
    pub at: SocketAddr,
    pub transport: Transport,
    pub client: Client,
    /// A name and a type a line.
    pub questions: &'d Path,
    pub seconds: u32,
}

impl Drive<'_> {
    /// As many queries as the server answers without losing more than [`LOSS`] of them, and then half as many.
    pub fn round(&self, pids: &[u32], aside: &Path) -> Result<Round, String> {
        let round = self.saturate(pids)?;
        Ok(Round { latency: self.latency(round.rate / 2.0, aside)?, ..round })
    }

    fn saturate(&self, pids: &[u32]) -> Result<Round, String> {
        let mut outstanding = OUTSTANDING;
        loop {
            let before = Cpu::of(pids);
            let run = self.run(&["-q", &outstanding.to_string()], Stdio::piped())?;
            let (user, system) = Cpu::of(pids).since(before);
            let run = Run::parse(&run).ok_or_else(|| format!("dnsperf said: {run}"))?;
            if run.good < run.answered || run.answered == 0 {
                return Err(format!("{} of {} answers are errors", run.answered - run.good, run.answered));
            }
            if run.loss() > LOSS && outstanding > 10 {
                outstanding /= 2;
                continue;
            }
            let micros = |seconds: f64| seconds * 1e6 / run.answered as f64;
            return Ok(Round {
                rate: run.rate(),
                loss: run.loss(),
                user: micros(user),
                system: micros(system),
                busy: (user + system) / run.seconds,
                outstanding,
                reply_octets: run.reply_octets,
                latency: [0.0; 3],
            });
        }
    }

    /// Microseconds: p50, p99, p99.9 at so many queries a second.
    fn latency(&self, rate: f64, aside: &Path) -> Result<[f64; 3], String> {
        let rate = rate.min(MOST_TOLD / f64::from(self.seconds)).max(1.0);
        let told = aside.join("latencies");
        let output = File::create(&told).map_err(|error| error.to_string())?;
        self.run(&["-v", "-Q", &format!("{rate:.0}"), "-q", "1000"], output.into())?;
        let all = latencies(&fs::read_to_string(&told).map_err(|error| error.to_string())?);
        Ok([0.5, 0.99, 0.999].map(|part| percentile(&all, part)))
    }

    fn run(&self, more: &[&str], output: Stdio) -> Result<String, String> {
        let mut dnsperf = Command::new("taskset");
        dnsperf.args(["-c", LOAD_CORE]).arg(find("dnsperf", "dnsperf")?);
        let port = if self.transport == Transport::Dot { TLS } else { self.at.port() };
        dnsperf.args(["-s", &self.at.ip().to_string(), "-p", &port.to_string()]);
        dnsperf.args(["-m", self.transport.word(), "-c", SOCKETS, "-T", "1", "-t", "1"]);
        dnsperf.args(["-l", &self.seconds.to_string(), "-d"]).arg(self.questions);
        dnsperf.args(self.client.arguments()).args(more);
        let child =
            dnsperf.stdout(output).stderr(Stdio::null()).spawn().map_err(|error| error.to_string())?;
        let output = child.wait_with_output().map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
