//! Response rate limiting without locks and without growth: a table of fixed size, hashed with a secret key.
//!
//! A bucket holds the allowance of a client network and a class of responses (as BIND and Knot have it).
//! Networks that fall into one bucket share it; the key keeps attackers from choosing whom they share with.

use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use siphasher::sip::SipHasher24;

use crate::settings::RateLimit;

/// Number of buckets: 512 KiB.
const BUCKETS: usize = 1 << 16;

/// The state of response rate limiting, shared by all UDP threads. A reload of its settings makes a new one.
pub struct Limiter<C: Clock = DefaultClock> {
    buckets: Option<RateLimiter<usize, Table, C, NoOpMiddleware<C::Instant>>>,
    key: [u8; 16],
    limited: AtomicU32,
}

/// What kinds of responses are counted apart, so that a flood of one doesn't silence another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The name has such records.
    Answer,
    /// NOERROR without records.
    NoData,
    /// NXDOMAIN.
    NxDomain,
    /// Everything else.
    Error,
}

/// What becomes of a reply over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limited {
    /// Sent, for limits are only being tried out.
    Logged,
    /// An empty, truncated reply is sent in its place.
    Slipped,
    /// Nothing is sent.
    Dropped,
}

struct Table(Box<[InMemoryState]>);

impl StateStore for Table {
    type Key = usize;

    fn measure_and_replace<T, F, E>(&self, bucket: &usize, f: F) -> Result<T, E>
    where
        F: Fn(Option<governor::nanos::Nanos>) -> Result<(T, governor::nanos::Nanos), E>,
    {
        self.0[bucket % BUCKETS].measure_and_replace(&NotKeyed::NonKey, f)
    }
}

impl Limiter {
    /// A limiter on the machine's clock. `key` is drawn at random once per process.
    pub fn new(settings: &RateLimit, key: [u8; 16]) -> Self {
        Self::with_clock(settings, key, DefaultClock::default())
    }
}

impl<C: Clock> Limiter<C> {
    /// A limiter on any clock.
    pub fn with_clock(settings: &RateLimit, key: [u8; 16], clock: C) -> Self {
        let buckets = settings.per_second.map(|rate| {
            let quota = Quota::per_second(rate).allow_burst(settings.burst);
            let table = Table((0..BUCKETS).map(|_| InMemoryState::default()).collect());
            RateLimiter::new(quota, table, clock)
        });
        Self { buckets, key, limited: AtomicU32::new(0) }
    }

    /// Counts a reply; `None` if it is within its limit. `settings` are those that the limiter was made with.
    pub fn check(&self, settings: &RateLimit, client: IpAddr, class: Class) -> Option<Limited> {
        let buckets = self.buckets.as_ref()?;
        if settings.exempt.iter().any(|network| network.contains(&client)) {
            return None;
        }
        let bucket = self.bucket(settings, client, class);
        if buckets.check_key(&bucket).is_ok() {
            return None;
        }
        if settings.log_only {
            return Some(Limited::Logged);
        }
        let count = self.limited.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if settings.slip > 0 && count.is_multiple_of(settings.slip) {
            Some(Limited::Slipped)
        } else {
            Some(Limited::Dropped)
        }
    }

    fn bucket(&self, settings: &RateLimit, client: IpAddr, class: Class) -> usize {
        let network = match client {
            IpAddr::V4(v4) => u128::from(masked_v4(v4.to_bits(), settings.ipv4_prefix)),
            IpAddr::V6(v6) => masked_v6(v6.to_bits(), settings.ipv6_prefix),
        };
        let mut hasher = SipHasher24::new_with_key(&self.key);
        hasher.write_u128(network);
        hasher.write_u8(class as u8 | u8::from(client.is_ipv6()) << 4);
        // The table's size is a power of two: the low bits are as good as any.
        hasher.finish() as usize % BUCKETS
    }
}

fn masked_v4(bits: u32, prefix: u8) -> u32 {
    bits & !u32::MAX.checked_shr(prefix.into()).unwrap_or(0)
}

fn masked_v6(bits: u128, prefix: u8) -> u128 {
    bits & !u128::MAX.checked_shr(prefix.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;

    use super::*;

    fn settings(per_second: u32, slip: u32) -> RateLimit {
        RateLimit {
            per_second: NonZeroU32::new(per_second),
            burst: NonZeroU32::new(2).unwrap(),
            slip,
            ..RateLimit::default()
        }
    }

    fn limiter(settings: &RateLimit) -> (Limiter<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limiter::with_clock(settings, [7; 16], clock.clone()), clock)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_its_burst_and_then_its_rate() {
        let settings = settings(10, 0);
        let (limiter, clock) = limiter(&settings);
        let check = |client| limiter.check(&settings, ip(client), Class::Answer);
        assert_eq!([check("203.0.113.1"), check("203.0.113.2")], [None, None]);
        assert_eq!(check("203.0.113.3"), Some(Limited::Dropped), "same /24");
        assert_eq!(check("198.51.100.1"), None, "another /24");
        clock.advance(Duration::from_millis(100));
        assert_eq!([check("203.0.113.9"), check("203.0.113.9")], [None, Some(Limited::Dropped)]);
    }

    #[test]
    fn ipv6_networks_are_56_bits_long() {
        let settings = settings(10, 0);
        let (limiter, _clock) = limiter(&settings);
        let check = |client| limiter.check(&settings, ip(client), Class::Answer);
        assert_eq!([check("2001:db8:0:1::1"), check("2001:db8:0:2::1")], [None, None]);
        assert_eq!(check("2001:db8:0:ff::1"), Some(Limited::Dropped), "same /56");
        assert_eq!(check("2001:db8:0:100::1"), None, "another /56");
    }

    #[test]
    fn classes_are_counted_apart() {
        let settings = settings(10, 0);
        let (limiter, _clock) = limiter(&settings);
        let check = |class| limiter.check(&settings, ip("203.0.113.1"), class);
        for class in [Class::Answer, Class::NoData, Class::NxDomain, Class::Error] {
            assert_eq!([check(class), check(class)], [None, None], "{class:?}");
            assert_eq!(check(class), Some(Limited::Dropped), "{class:?}");
        }
    }

    #[test]
    fn every_nth_limited_reply_slips() {
        let settings = settings(1, 3);
        let (limiter, _clock) = limiter(&settings);
        let checks: Vec<_> =
            (0..8).map(|_| limiter.check(&settings, ip("203.0.113.1"), Class::Error)).collect();
        let (slip, drop) = (Some(Limited::Slipped), Some(Limited::Dropped));
        assert_eq!(checks, [None, None, drop, drop, slip, drop, drop, slip]);
    }

    #[test]
    fn private_networks_are_exempt() {
        let settings = settings(1, 0);
        let (limiter, _clock) = limiter(&settings);
        for client in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "169.254.1.1",
            "::1",
            "fd00::1",
            "fe80::1",
        ] {
            for _ in 0..5 {
                assert_eq!(limiter.check(&settings, ip(client), Class::Answer), None, "{client}");
            }
        }
    }

    #[test]
    fn trying_it_out_drops_nothing() {
        let settings = RateLimit { log_only: true, ..settings(1, 1) };
        let (limiter, _clock) = limiter(&settings);
        let checks: Vec<_> =
            (0..4).map(|_| limiter.check(&settings, ip("203.0.113.1"), Class::Answer)).collect();
        assert_eq!(checks, [None, None, Some(Limited::Logged), Some(Limited::Logged)]);
    }

    #[test]
    fn off_is_off() {
        let settings = RateLimit { per_second: None, ..settings(1, 1) };
        let (limiter, _clock) = limiter(&settings);
        for _ in 0..1000 {
            assert_eq!(limiter.check(&settings, ip("203.0.113.1"), Class::Answer), None);
        }
    }
}
