//! What dnsperf prints.

/// One run of dnsperf.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    pub sent: u64,
    pub answered: u64,
    /// Of those, with NOERROR.
    pub good: u64,
    pub seconds: f64,
    /// Octets of an average reply.
    pub reply_octets: u32,
}

impl Run {
    /// Of what dnsperf prints at its end; `None` when it ended early.
    pub fn parse(text: &str) -> Option<Self> {
        let first_word = |label: &str| -> Option<&str> { after(text, label)?.split_whitespace().next() };
        let good = after(text, "Response codes:").and_then(|codes| {
            let (_, rest) = codes.split_once("NOERROR ")?;
            rest.split_whitespace().next()?.parse().ok()
        });
        let octets = after(text, "Average packet size:").and_then(|sizes| {
            let (_, reply) = sizes.split_once("response ")?;
            reply.split_whitespace().next()?.parse().ok()
        });
        Some(Self {
            sent: first_word("Queries sent:")?.parse().ok()?,
            answered: first_word("Queries completed:")?.parse().ok()?,
            good: good.unwrap_or(0),
            seconds: first_word("Run time (s):")?.parse().ok()?,
            reply_octets: octets.unwrap_or(0),
        })
    }

    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.seconds
    }

    /// The part of queries without an answer.
    pub fn loss(&self) -> f64 {
        1.0 - self.answered as f64 / (self.sent as f64).max(1.0)
    }

    /// The part of the queries without an answer that a server says it dropped; above 1 when it says more.
    pub fn counted(&self, dropped: u64) -> f64 {
        let lost = self.sent - self.answered;
        if lost == dropped { 1.0 } else { dropped as f64 / (lost as f64).max(1.0) }
    }
}

fn after<'t>(text: &'t str, label: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.trim_start().strip_prefix(label))
}

/// Microseconds that each answer took, sorted, from what `dnsperf -v` prints: `> NOERROR <name> A <seconds>`.
pub fn latencies(text: &str) -> Vec<f64> {
    let of_line = |line: &str| line.strip_prefix("> ")?.rsplit_once(' ')?.1.parse::<f64>().ok();
    let mut all: Vec<f64> = text.lines().filter_map(of_line).map(|seconds| seconds * 1e6).collect();
    all.sort_by(f64::total_cmp);
    all
}
