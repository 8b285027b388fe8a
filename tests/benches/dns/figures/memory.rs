//! A server's memory while something goes on.

use std::time::Duration;

/// Octets, those that several processes share by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    pub before: u64,
    pub after: u64,
    pub most: u64,
}

/// What was there at a time since the begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    pub at: Duration,
    pub octets: u64,
}

impl Memory {
    /// Of the figures at both ends.
    pub fn between(before: u64, after: u64) -> Self {
        Self { before, after, most: before.max(after) }
    }

    /// From the end of the first tenth on, in which a server may take what it needs for the load; `None` without samples.
    pub fn soaked(samples: &[Sample]) -> Option<Self> {
        let last = samples.last()?;
        let before = samples.iter().find(|sample| sample.at * 10 >= last.at)?.octets;
        let most = samples.iter().map(|sample| sample.octets).max()?;
        Some(Self { before, after: last.octets, most })
    }

    /// The end as a ratio to the begin.
    pub fn growth(&self) -> f64 {
        self.after as f64 / (self.before as f64).max(1.0)
    }
}

impl Sample {
    pub const CSV_HEAD: &str = "seconds,memory_octets\n";

    /// A line of CSV.
    pub fn csv(&self) -> String {
        format!("{:.1},{}\n", self.at.as_secs_f64(), self.octets)
    }
}
