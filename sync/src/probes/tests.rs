//! Probers in a time that the test turns, and probes of real servers on loopback.

mod budget;
mod grpc;
mod http;
mod scheduling;
mod tcp;
mod verdicts;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::attempt::Attempts;
use super::verdict::{Outcome, Trouble};
use super::{Budget, Changes, Kind, Probe, Prober, Target};

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(10);
/// How exact the runtime's timers are, with room.
const TICK: Duration = Duration::from_millis(5);

fn budget(per_second: u32, in_flight: usize) -> Budget {
    let (per_second, in_flight) = (NonZeroU32::new(per_second), NonZeroUsize::new(in_flight));
    Budget { per_second: per_second.unwrap(), in_flight: in_flight.unwrap() }
}

fn plenty() -> Budget {
    budget(10_000, 1000)
}

fn probe(kind: Kind) -> Probe {
    Probe { kind, interval: INTERVAL, timeout: SECOND, rise: 2, fall: 3 }
}

/// So many targets, which differ by their port.
fn targets(count: u16) -> Vec<Target> {
    (1..=count).map(|port| at(port, probe(Kind::Tcp))).collect()
}

fn at(port: u16, probe: Probe) -> Target {
    Target { address: (Ipv4Addr::LOCALHOST, port).into(), probe: Arc::new(probe) }
}

fn good() -> Outcome {
    Outcome { rtt: None, result: Ok(()) }
}

fn bad() -> Outcome {
    Outcome { rtt: None, result: Err(Trouble::Theirs("it is down".to_owned())) }
}

/// A prober whose probes are made up: what they find, and how long that takes, is said for each target and round.
struct World {
    prober: Prober,
    changes: Changes,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    begun: HashMap<u16, Vec<Instant>>,
    /// Now, and at most.
    under_way: usize,
    most_under_way: usize,
}

/// Counts a probe as under way until it is dropped, be it at its end or before.
struct UnderWay(Arc<Mutex<Log>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.lock().unwrap().under_way -= 1;
    }
}

impl World {
    fn new(budget: Budget, seed: u64, find: fn(u16, usize) -> (Duration, Outcome)) -> Self {
        let log = Arc::new(Mutex::new(Log::default()));
        let seen = Arc::clone(&log);
        let (prober, changes) = Prober::start_with(&Handle::current(), budget, seed, move |target| {
            let port = target.address.port();
            let round = {
                let mut log = seen.lock().unwrap();
                log.under_way += 1;
                log.most_under_way = log.most_under_way.max(log.under_way);
                let begun = log.begun.entry(port).or_default();
                begun.push(Instant::now());
                begun.len() - 1
            };
            let under_way = UnderWay(Arc::clone(&seen));
            async move {
                let _under_way = under_way;
                let (takes, outcome) = find(port, round);
                sleep(takes).await;
                outcome
            }
        });
        Self { prober, changes, log }
    }

    fn begun(&self, port: u16) -> Vec<Instant> {
        self.log.lock().unwrap().begun.get(&port).cloned().unwrap_or_default()
    }

    fn total(&self) -> usize {
        self.log.lock().unwrap().begun.values().map(Vec::len).sum()
    }

    fn under_way(&self) -> usize {
        self.log.lock().unwrap().under_way
    }
}

/// A server that does this with each connection.
async fn server<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// A server that accepts, keeps the connection and says nothing.
async fn silent() -> SocketAddr {
    server(|stream| async move {
        let _kept = stream;
        std::future::pending::<()>().await;
    })
    .await
}

/// What one probe finds; again, if this machine had no time for it. With the time to connect, if there was a connection.
async fn found(address: SocketAddr, kind: Kind, timeout: Duration) -> (Option<Duration>, Result<(), String>) {
    let attempts = Attempts::new();
    let target = Target { address, probe: Arc::new(Probe { timeout, ..probe(kind) }) };
    for _ in 0..20 {
        let outcome = attempts.attempt(&target).await;
        match outcome.result {
            Ok(()) => return (outcome.rtt, Ok(())),
            Err(Trouble::Theirs(text)) => return (outcome.rtt, Err(text)),
            Err(Trouble::Ours(_)) => {}
        }
    }
    panic!("this machine never has time");
}

/// Long enough for whatever ends by itself.
const LONG: Duration = Duration::from_secs(30);
