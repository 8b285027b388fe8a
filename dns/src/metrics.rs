//! Metrics with CoreDNS's names and labels, so that its dashboards and alerts keep working, and a few of our own.
//!
//! Every UDP thread and every other listener counts into a shard of its own: a plain array, no map and no lock. A scrape
//! adds the shards up. As in CoreDNS `server` is scheme and port (`dns://:53`, with the address unless it is
//! unspecified), `proto` is `udp` or `tcp` whatever runs on top of it, `family` is `1` for IPv4 and `2` for IPv6,
//! `view` is empty, and what is in none of our zones has the zone `dropped`.

mod scrape;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use portolan_zones::Zones;
use portolan_zones::agents::Lack;

use crate::forwarders::Forwarders;
use crate::limiter::Limited;
use crate::respond::Facts;
use crate::view::Transport;

/// Most zones that are counted apart in the life of a process; later ones share the label `other`.
const MAX_ZONES: usize = 32;
/// A slot for names in none of our zones, the zones, a slot for zones over the limit.
const SLOTS: usize = MAX_ZONES + 2;
const UNKNOWN_ZONE: u8 = 0;

/// Types with a label of their own; the same ones as in CoreDNS, and HTTPS.
const TYPES: [(RecordType, &str); 18] = [
    (RecordType::A, "A"),
    (RecordType::AAAA, "AAAA"),
    (RecordType::SRV, "SRV"),
    (RecordType::PTR, "PTR"),
    (RecordType::SOA, "SOA"),
    (RecordType::NS, "NS"),
    (RecordType::TXT, "TXT"),
    (RecordType::HTTPS, "HTTPS"),
    (RecordType::CNAME, "CNAME"),
    (RecordType::MX, "MX"),
    (RecordType::ANY, "ANY"),
    (RecordType::AXFR, "AXFR"),
    (RecordType::IXFR, "IXFR"),
    (RecordType::DS, "DS"),
    (RecordType::DNSKEY, "DNSKEY"),
    (RecordType::RRSIG, "RRSIG"),
    (RecordType::NSEC, "NSEC"),
    (RecordType::NSEC3, "NSEC3"),
];
/// Response codes by their number; the last one stands for all others.
const RCODES: [&str; 25] = [
    "NOERROR",
    "FORMERR",
    "SERVFAIL",
    "NXDOMAIN",
    "NOTIMP",
    "REFUSED",
    "YXDOMAIN",
    "YXRRSET",
    "NXRRSET",
    "NOTAUTH",
    "NOTZONE",
    "11",
    "12",
    "13",
    "14",
    "15",
    "BADVERS",
    "BADKEY",
    "BADTIME",
    "BADMODE",
    "BADNAME",
    "BADALG",
    "BADTRUNC",
    "BADCOOKIE",
    "other",
];
/// Durations double from 0.25 ms, in nanoseconds.
const FIRST_DURATION: u64 = 250_000;
const DURATION_BOUNDS: usize = 16;
/// Octets of messages.
const SIZE_BOUNDS: [usize; 14] =
    [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000];

/// Where the cells of a slot are: counts by family and type, by response code, of DO bits; then histograms, each with
/// a cell per bound, one for what is over the last bound, and one for the sum.
mod cell {
    use super::{DURATION_BOUNDS, RCODES, SIZE_BOUNDS, TYPES};
    pub(super) const FAMILY: usize = TYPES.len() + 1;
    pub(super) const REQUESTS: usize = 0;
    pub(super) const RESPONSES: usize = REQUESTS + 2 * FAMILY;
    pub(super) const DNSSEC_OK: usize = RESPONSES + RCODES.len();
    pub(super) const DURATION: usize = DNSSEC_OK + 1;
    pub(super) const REQUEST_SIZE: usize = DURATION + DURATION_BOUNDS + 2;
    pub(super) const RESPONSE_SIZE: usize = REQUEST_SIZE + SIZE_BOUNDS.len() + 2;
    pub(super) const WIDTH: usize = RESPONSE_SIZE + SIZE_BOUNDS.len() + 2;
}

/// All counters of the DNS side. Register an `Arc` of it as a collector.
#[derive(Default)]
pub struct Metrics {
    shards: Mutex<Vec<Arc<Shard>>>,
    /// Origins by slot, the first one at slot 1. A zone that comes back finds its old slot: counters never go back.
    origins: Mutex<Vec<String>>,
    panics: AtomicU64,
    /// What caches in front make of answers.
    pub(crate) forwarders: Forwarders,
}

/// How many threads count into a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writers {
    /// Plain stores do.
    One,
    /// Needs atomic additions.
    Many,
}

/// The counters of one UDP thread or of one other listener.
pub(crate) struct Shard {
    server: String,
    transport: Transport,
    writers: Writers,
    cells: Box<[AtomicU64]>,
    limited: [AtomicU64; 3],
    /// Answers with endpoints to clients whom no agent connects.
    direct: [AtomicU64; 2],
    /// Messages that are no queries.
    pub(crate) ignored: AtomicU64,
    /// Datagrams that the kernel dropped since a thread had no time for them.
    pub(crate) dropped: AtomicU64,
    /// Replies that the network did not take.
    pub(crate) unsent: AtomicU64,
    /// Connections that are open now.
    pub(crate) connections: AtomicU64,
    /// Connections that were refused for their number.
    pub(crate) rejected: AtomicU64,
    /// Connections that were closed to make room.
    pub(crate) evicted: AtomicU64,
    pub(crate) handshake_failures: AtomicU64,
}

/// What is measured of a query that was understood.
pub(crate) struct Sample<'a> {
    /// What was answered.
    pub(crate) facts: &'a Facts,
    /// The zone's slot, from [`Metrics::slots`].
    pub(crate) slot: u8,
    pub(crate) ipv6: bool,
    pub(crate) took: Duration,
    /// Octets of the query.
    pub(crate) request: usize,
    /// Octets of the reply, if there is one.
    pub(crate) response: Option<usize>,
}

impl Shard {
    pub(crate) fn record(&self, sample: &Sample<'_>) {
        let facts = sample.facts;
        let slot = usize::from(sample.slot) * cell::WIDTH;
        let nanos = u64::try_from(sample.took.as_nanos()).unwrap_or(u64::MAX);
        let family = if sample.ipv6 { cell::FAMILY } else { 0 };
        self.add(slot + cell::REQUESTS + family + type_index(facts.rtype), 1);
        self.add(slot + cell::DURATION + duration_bucket(nanos), 1);
        self.add(slot + cell::DURATION + DURATION_BOUNDS + 1, nanos);
        self.add_size(slot + cell::REQUEST_SIZE, sample.request);
        if facts.dnssec_ok {
            self.add(slot + cell::DNSSEC_OK, 1);
        }
        if let Some(response) = sample.response {
            self.add(slot + cell::RESPONSES + usize::from(facts.rcode).min(RCODES.len() - 1), 1);
            self.add_size(slot + cell::RESPONSE_SIZE, response);
        }
        if let Some(lack) = facts.lack {
            self.add_to(&self.direct[lack_index(lack)], 1);
        }
        if let Some(limited) = facts.limited {
            count(&self.limited[limited_index(limited)]);
        }
    }

    fn add_size(&self, histogram: usize, size: usize) {
        let bucket = SIZE_BOUNDS.iter().position(|bound| size <= *bound).unwrap_or(SIZE_BOUNDS.len());
        self.add(histogram + bucket, 1);
        self.add(histogram + SIZE_BOUNDS.len() + 1, size as u64);
    }

    #[inline]
    fn add(&self, cell: usize, n: u64) {
        self.add_to(&self.cells[cell], n);
    }

    #[inline]
    fn add_to(&self, cell: &AtomicU64, n: u64) {
        match self.writers {
            Writers::One => cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed),
            Writers::Many => {
                cell.fetch_add(n, Ordering::Relaxed);
            }
        }
    }

    /// CoreDNS knows no other protocols than these two.
    fn proto(&self) -> &'static str {
        match self.transport {
            Transport::Udp | Transport::Quic => "udp",
            Transport::Tcp | Transport::Tls | Transport::Https => "tcp",
        }
    }
}

/// Counts an event that is rare enough for an atomic addition.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn type_index(rtype: RecordType) -> usize {
    TYPES.iter().position(|(known, _)| *known == rtype).unwrap_or(TYPES.len())
}

fn duration_bucket(nanos: u64) -> usize {
    let units = nanos.div_ceil(FIRST_DURATION).max(1);
    let bucket = u64::BITS - (units - 1).leading_zeros();
    DURATION_BOUNDS.min(bucket as usize)
}

fn limited_index(limited: Limited) -> usize {
    match limited {
        Limited::Logged => 0,
        Limited::Slipped => 1,
        Limited::Dropped => 2,
    }
}

fn lack_index(lack: Lack) -> usize {
    match lack {
        Lack::Agent => 0,
        Lack::Node => 1,
    }
}

/// What clients lack, by [`lack_index`].
const LACKS: [&str; 2] = ["agent", "node"];
const LIMITED: [&str; 3] = ["logged", "slipped", "dropped"];

impl Metrics {
    /// A shard of its own for a thread or listener.
    pub(crate) fn shard(&self, transport: Transport, address: SocketAddr, writers: Writers) -> Arc<Shard> {
        let shard = Arc::new(Shard {
            server: server_label(transport, address),
            transport,
            writers,
            cells: (0..SLOTS * cell::WIDTH).map(|_| AtomicU64::new(0)).collect(),
            limited: Default::default(),
            direct: Default::default(),
            ignored: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            handshake_failures: AtomicU64::new(0),
        });
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).push(shard.clone());
        shard
    }

    /// The slots of these zones, in their order. New zones get slots as long as there are any.
    pub(crate) fn slots(&self, zones: &Zones) -> Box<[u8]> {
        let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = |zone: &portolan_zones::zone::Zone| {
            let origin = zone.config.origin.to_string();
            let known = origins.iter().position(|known| *known == origin);
            let at = known.unwrap_or_else(|| {
                if origins.len() < MAX_ZONES {
                    origins.push(origin);
                    origins.len() - 1
                } else {
                    MAX_ZONES
                }
            });
            // SLOTS is far below 256.
            (at + 1) as u8
        };
        zones.iter().map(slot).collect()
    }

    /// A bug made something panic, which was caught.
    pub(crate) fn count_panic(&self) {
        count(&self.panics);
    }
}

/// The slot of a zone, by its position in the snapshot that the slots were made for.
pub(crate) fn slot_of(slots: &[u8], zone: Option<usize>) -> u8 {
    zone.and_then(|zone| slots.get(zone)).copied().unwrap_or(UNKNOWN_ZONE)
}

fn server_label(transport: Transport, address: SocketAddr) -> String {
    let scheme = match transport {
        Transport::Udp | Transport::Tcp => "dns",
        Transport::Tls => "tls",
        Transport::Https => "https",
        Transport::Quic => "quic",
    };
    if address.ip().is_unspecified() {
        format!("{scheme}://:{}", address.port())
    } else {
        format!("{scheme}://{address}")
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("panics", &self.panics).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CoreDNS: 16 buckets that double from 0.25 ms; a bound belongs to its bucket.
    #[test]
    fn durations_double() {
        for (nanos, bucket) in [
            (0, 0),
            (250_000, 0),
            (250_001, 1),
            (500_000, 1),
            (500_001, 2),
            (1_000_001, 3),
            (250_000 << 15, 15),
            ((250_000 << 15) + 1, 16),
            (u64::MAX, 16),
        ] {
            assert_eq!(duration_bucket(nanos), bucket, "{nanos}");
        }
    }

    #[test]
    fn a_zone_keeps_its_slot_and_too_many_share_one() {
        let zones = |range: std::ops::Range<usize>| {
            let origin = |i| portolan_zones::Name::parse(&format!("z{i}.test")).unwrap();
            Zones::new(range.map(|i| portolan_zones::ZoneConfig::new(origin(i))).collect()).unwrap()
        };
        let metrics = Metrics::default();
        assert_eq!(*metrics.slots(&zones(0..2)), [1, 2]);
        assert_eq!(*metrics.slots(&zones(1..3)), [2, 3]);
        let slots = metrics.slots(&zones(0..40));
        assert_eq!((slots[2], slots[31], slots[32], slots[39]), (3, 32, 33, 33));
        assert_eq!(slot_of(&slots, None), UNKNOWN_ZONE);
        assert_eq!(slot_of(&slots, Some(1)), 2);
    }

    #[test]
    fn servers_are_named_as_in_coredns() {
        for (transport, address, label) in [
            (Transport::Udp, "0.0.0.0:53", "dns://:53"),
            (Transport::Tcp, "[::]:53", "dns://:53"),
            (Transport::Tls, "127.0.0.1:853", "tls://127.0.0.1:853"),
            (Transport::Https, "[::1]:443", "https://[::1]:443"),
            (Transport::Quic, "0.0.0.0:853", "quic://:853"),
        ] {
            assert_eq!(server_label(transport, address.parse().unwrap()), label);
        }
    }
}
