//! Since when a cluster has not been heard, and what follows from it.
//!
//! Who can't hear their own API server can't tell whether others fell silent or they themselves went deaf: such times
//! don't count.

use std::time::{Duration, Instant};

/// A cluster's silence. Instants are passed in, and never go back.
#[derive(Debug, Clone)]
pub(crate) struct Silence {
    heard: Instant,
    /// How much of the time since then does not count.
    discounted: Duration,
    /// Up to when it was judged.
    judged: Instant,
}

impl Silence {
    /// Listening begins.
    pub(crate) fn new(now: Instant) -> Self {
        Self { heard: now, discounted: Duration::ZERO, judged: now }
    }

    /// It was heard at this time, which may be some while ago.
    pub(crate) fn heard(&mut self, at: Instant) {
        if at > self.heard {
            self.heard = at;
            self.discounted = Duration::ZERO;
            self.judged = self.judged.max(at);
        }
    }

    /// How long it has been silent; the time since the last call does not count when we were deaf ourselves.
    pub(crate) fn judge(&mut self, now: Instant, deaf: bool) -> Duration {
        let since = now.saturating_duration_since(self.judged);
        self.judged = self.judged.max(now);
        if deaf {
            self.discounted += since;
        }
        now.saturating_duration_since(self.heard).saturating_sub(self.discounted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds, whether we are deaf, when it was last heard → how long it has been silent.
    #[test]
    fn silence_counts_only_while_we_hear_ourselves() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let steps = [
            (0, false, None, 0),
            (10, false, None, 10),
            (20, true, None, 10),
            (500, true, None, 10),
            (505, false, None, 15),
            (510, false, Some(508), 2),
            (520, true, None, 2),
            (530, true, Some(525), 0),
            (540, false, Some(300), 10),
            (1540, false, None, 1010),
        ];
        let mut silence = Silence::new(start);
        for (now, deaf, heard, expected) in steps {
            if let Some(heard) = heard {
                silence.heard(at(heard));
            }
            assert_eq!(silence.judge(at(now), deaf), Duration::from_secs(expected), "at {now} s");
        }
    }
}
