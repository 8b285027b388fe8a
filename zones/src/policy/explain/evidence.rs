//! How old what is known is: when clusters were last heard, and what came of asking endpoints.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::NAMED;
use crate::name::ClusterId;
use crate::object::UnixTime;
use crate::policy::health::Check;

/// Whoever follows clusters and asks endpoints, and tells what it knows of some.
#[derive(Clone)]
pub struct Witness(Arc<Knows>);

type Knows = dyn Fn(&[ClusterId], &[Check]) -> Evidence + Send + Sync;

impl Witness {
    /// Asked for evidence it may lock and copy: it is for people.
    pub fn new(knows: impl Fn(&[ClusterId], &[Check]) -> Evidence + Send + Sync + 'static) -> Self {
        Self(Arc::new(knows))
    }

    /// What is known of clusters and checks.
    pub fn evidence(&self, clusters: &[ClusterId], checks: &[Check]) -> Evidence {
        (self.0)(clusters, checks)
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness").finish_non_exhaustive()
    }
}

/// What is known besides a snapshot.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Evidence {
    /// Of clusters, in the order in which they were named.
    pub heard: Vec<Heard>,
    /// Of checks, likewise; those that are not under way have none.
    pub probed: Vec<Probed>,
}

/// When a cluster was last heard.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// The cluster.
    pub cluster: ClusterId,
    /// From whom, for people: a folder, an API server, the copies in the own cluster. Empty: from nobody.
    pub from: String,
    /// When; `None`: not yet.
    pub at: Option<UnixTime>,
    /// Whether what is known of it may be out of date.
    pub stale: bool,
}

/// What came of asking an endpoint, or a gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Probed {
    /// Whose it is.
    pub cluster: ClusterId,
    /// What is asked.
    pub address: SocketAddr,
    /// What is made of the answers; who was not asked yet counts as healthy.
    pub healthy: bool,
    /// For how long it has been so.
    pub lasts: Duration,
    /// How long ago it was last asked; `None`: not yet.
    pub asked: Option<Duration>,
    /// How long it takes to connect.
    pub rtt: Option<Duration>,
    /// What went wrong last, even if all is well since.
    pub error: Option<String>,
}

impl Evidence {
    /// A line for each cluster; those of which the same is known have one together.
    pub(super) fn freshness(&self, now: UnixTime) -> Vec<String> {
        let mut lines: Vec<(String, Vec<&str>)> = Vec::new();
        for heard in &self.heard {
            let said = heard.said(now);
            match lines.iter_mut().find(|(line, _)| *line == said) {
                Some((_, clusters)) => clusters.push(heard.cluster.as_str()),
                None => lines.push((said, vec![heard.cluster.as_str()])),
            }
        }
        let line = |(line, clusters): (String, Vec<&str>)| match clusters.len().saturating_sub(NAMED) {
            0 => format!("{}: {line}", clusters.join(", ")),
            more => format!("{} and {more} more: {line}", clusters[..NAMED].join(", ")),
        };
        lines.into_iter().map(line).collect()
    }

    /// A line for each check.
    pub(super) fn health(&self) -> Vec<String> {
        self.probed.iter().map(ToString::to_string).collect()
    }
}

impl Heard {
    /// Seconds since then.
    pub fn age(&self, now: UnixTime) -> Option<i64> {
        self.at.map(|at| now.saturating_sub(at).max(0))
    }

    fn said(&self, now: UnixTime) -> String {
        let from = if self.from.is_empty() { String::new() } else { format!(", from {}", self.from) };
        let stale = if self.stale { ": stale, its last known state counts" } else { "" };
        match self.age(now) {
            Some(age) => format!("heard {} ago{from}{stale}", Age(age)),
            None => format!("not heard yet{from}{stale}"),
        }
    }
}

/// Short enough for a TXT record.
impl fmt::Display for Probed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| Age(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
        let Self { cluster, address, healthy, .. } = self;
        write!(f, "{cluster} {address}: ")?;
        let Some(asked) = self.asked else { return f.write_str("not asked yet, counts as healthy") };
        let not = if *healthy { "" } else { "not " };
        write!(f, "{not}healthy for {}, asked {} ago", seconds(self.lasts), seconds(asked))?;
        if let Some(rtt) = self.rtt {
            write!(f, ", connects in {:.1} ms", rtt.as_secs_f64() * 1000.0)?;
        }
        match self.error.as_deref().filter(|_| !healthy) {
            Some(error) => write!(f, ": {}", error.chars().take(MOST_OF_ERROR).collect::<String>()),
            None => Ok(()),
        }
    }
}

/// Characters of an error that are shown.
const MOST_OF_ERROR: usize = 80;

/// Seconds as kubectl's AGE has them: the two largest units that count.
#[derive(Debug, Clone, Copy)]
pub struct Age(pub i64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.max(0);
        let mut units = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')].into_iter().peekable();
        while let Some((length, unit)) = units.next() {
            let count = rest / length;
            rest %= length;
            if count > 0 {
                write!(f, "{count}{unit}")?;
                return match units.peek().map(|(length, unit)| (rest / length, unit)) {
                    Some((next @ 1.., unit)) => write!(f, "{next}{unit}"),
                    _ => Ok(()),
                };
            }
        }
        f.write_str("0s")
    }
}
