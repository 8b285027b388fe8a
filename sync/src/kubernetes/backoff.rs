//! How long to wait before the next try.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// Doubles from try to try, by chance between half and the whole of it, so that clients who failed together don't come
/// back together.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The next wait; `chance` is from 0 to 1.
    pub(crate) fn next(&mut self, chance: f64) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(self.most);
        jitter(wait, chance)
    }

    /// Whether there was a failure since something last worked.
    pub(crate) fn is_under_way(&self) -> bool {
        self.next > self.first
    }

    /// Something worked.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Between half of a time and the whole.
pub(crate) fn jitter(time: Duration, chance: f64) -> Duration {
    time.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

/// From 0 to 1; good enough to spread load, no secret.
pub(crate) fn chance() -> f64 {
    let random = std::hash::RandomState::new().build_hasher().finish();
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_a_limit_and_starts_over() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(200), ms(1000));
        let waits: Vec<_> = (0..5).map(|_| backoff.next(1.0)).collect();
        assert_eq!(waits, [ms(200), ms(400), ms(800), ms(1000), ms(1000)]);
        backoff.reset();
        assert!(!backoff.is_under_way());
        assert_eq!(backoff.next(0.0), ms(100));
        assert!(backoff.is_under_way());
    }

    /// Who failed together does not come back together.
    #[test]
    fn waits_differ_and_are_never_less_than_half() {
        let waits: Vec<_> = (0..1000).map(|_| jitter(Duration::from_secs(1), chance())).collect();
        let (least, most) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
        assert!(
            *least >= Duration::from_millis(500) && *most <= Duration::from_secs(1),
            "{least:?} {most:?}"
        );
        assert!(*most - *least > Duration::from_millis(400), "{least:?} {most:?}");
    }
}
