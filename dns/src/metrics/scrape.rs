//! One scrape: shards are added up and written.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::{
    DURATION_BOUNDS, FIRST_DURATION, LACKS, LIMITED, Metrics, RCODES, SIZE_BOUNDS, SLOTS, Shard, TYPES, cell,
};
use crate::forwarders::{Fault, Forwarders};
use crate::view::Transport;

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut zones = vec!["dropped".to_owned()];
        zones.extend_from_slice(&self.origins.lock().unwrap_or_else(PoisonError::into_inner));
        zones.resize(SLOTS, "other".to_owned());
        let by_proto = Totals::of(&shards, &zones, |shard| (shard.server.as_str(), shard.proto()));
        let by_server = Totals::of(&shards, &zones, |shard| (shard.server.as_str(), ""));
        let mut scrape = Scrape { encoder: &mut encoder };
        scrape.requests(&by_proto)?;
        scrape.responses(&by_server)?;
        scrape.dnssec_ok(&by_server)?;
        scrape.durations(&by_server)?;
        scrape.sizes("request", cell::REQUEST_SIZE, &by_proto)?;
        scrape.sizes("response", cell::RESPONSE_SIZE, &by_proto)?;
        scrape.own(&shards)?;
        scrape.forwarders(&self.forwarders)?;
        scrape.server(self.panics.load(Ordering::Relaxed))
    }
}

/// Sums of shards by server and protocol.
struct Totals<'a> {
    sums: BTreeMap<(&'a str, &'a str), Vec<u64>>,
    /// Labels of the slots.
    zones: &'a [String],
}

impl<'a> Totals<'a> {
    fn of(
        shards: &'a [Arc<Shard>],
        zones: &'a [String],
        key: impl Fn(&'a Shard) -> (&'a str, &'a str),
    ) -> Self {
        let mut totals = BTreeMap::new();
        for shard in shards {
            let sums: &mut Vec<u64> = totals.entry(key(shard)).or_insert_with(|| vec![0; shard.cells.len()]);
            for (sum, cell) in sums.iter_mut().zip(&shard.cells) {
                *sum += cell.load(Ordering::Relaxed);
            }
        }
        Self { sums: totals, zones }
    }

    /// The labels that all of CoreDNS's metrics have, the protocol, and the cells of each slot.
    fn slots(&self) -> impl Iterator<Item = ([(&'static str, &str); 3], &str, &[u64])> {
        self.sums.iter().flat_map(|((server, proto), sums)| {
            let slots = sums.chunks_exact(cell::WIDTH).zip(self.zones);
            slots.map(|(cells, zone)| ([("server", *server), ("zone", zone), ("view", "")], *proto, cells))
        })
    }
}

struct Scrape<'e, 'a> {
    encoder: &'e mut DescriptorEncoder<'a>,
}

impl Scrape<'_, '_> {
    fn requests(&mut self, totals: &Totals<'_>) -> fmt::Result {
        let mut metric = self.counter("coredns_dns_requests", "DNS queries")?;
        for ([server, zone, view], proto, cells) in totals.slots() {
            let requests = &cells[cell::REQUESTS..cell::REQUESTS + 2 * cell::FAMILY];
            for (at, n) in requests.iter().enumerate().filter(|(_, n)| **n > 0) {
                let family = if at < cell::FAMILY { "1" } else { "2" };
                let rtype = TYPES.get(at % cell::FAMILY).map_or("other", |(_, label)| label);
                add(
                    &mut metric,
                    &[server, zone, view, ("proto", proto), ("family", family), ("type", rtype)],
                    *n,
                )?;
            }
        }
        Ok(())
    }

    fn responses(&mut self, totals: &Totals<'_>) -> fmt::Result {
        let mut metric = self.counter("coredns_dns_responses", "DNS replies by response code")?;
        for (place, _, cells) in totals.slots() {
            let responses = &cells[cell::RESPONSES..cell::RESPONSES + RCODES.len()];
            for (n, rcode) in responses.iter().zip(RCODES).filter(|(n, _)| **n > 0) {
                let [server, zone, view] = place;
                add(&mut metric, &[server, zone, view, ("rcode", rcode), ("plugin", "portolan")], *n)?;
            }
        }
        Ok(())
    }

    fn dnssec_ok(&mut self, totals: &Totals<'_>) -> fmt::Result {
        let mut metric = self.counter("coredns_dns_do_requests", "DNS queries with the DO bit")?;
        for (place, _, cells) in totals.slots() {
            let n = cells[cell::DNSSEC_OK];
            if n > 0 {
                add(&mut metric, &place, n)?;
            }
        }
        Ok(())
    }

    fn durations(&mut self, totals: &Totals<'_>) -> fmt::Result {
        let name = "coredns_dns_request_duration_seconds";
        let help = "Time from reading a query to having its reply";
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let bounds = (0..DURATION_BOUNDS).map(|at| (FIRST_DURATION << at) as f64 / 1e9);
        let bounds: Vec<f64> = bounds.chain([f64::INFINITY]).collect();
        for (place, _, cells) in totals.slots() {
            let cells = &cells[cell::DURATION..][..DURATION_BOUNDS + 2];
            observe(&mut metric, &place, &bounds, cells, 1e9)?;
        }
        Ok(())
    }

    fn sizes(&mut self, what: &str, at: usize, totals: &Totals<'_>) -> fmt::Result {
        let name = format!("coredns_dns_{what}_size_bytes");
        let help = format!("Size of a DNS {what} in octets");
        let mut metric = self.encoder.encode_descriptor(&name, &help, None, MetricType::Histogram)?;
        let bounds: Vec<f64> = SIZE_BOUNDS.iter().map(|b| *b as f64).chain([f64::INFINITY]).collect();
        for ([server, zone, view], proto, cells) in totals.slots() {
            let cells = &cells[at..][..SIZE_BOUNDS.len() + 2];
            observe(&mut metric, &[server, zone, view, ("proto", proto)], &bounds, cells, 1.0)?;
        }
        Ok(())
    }

    /// What CoreDNS doesn't count: UDP threads of one address are added up.
    fn own(&mut self, shards: &[Arc<Shard>]) -> fmt::Result {
        let sum = |of: fn(&Shard) -> &AtomicU64, only: fn(Transport) -> bool| {
            let mut sums = BTreeMap::new();
            for shard in shards.iter().filter(|shard| only(shard.transport)) {
                let key = (shard.server.as_str(), shard.transport.label());
                *sums.entry(key).or_insert(0) += of(shard).load(Ordering::Relaxed);
            }
            sums
        };
        let of_stream = |transport| matches!(transport, Transport::Tcp | Transport::Tls);
        let help = "Open connections";
        let mut metric =
            self.encoder.encode_descriptor("portolan_tcp_connections", help, None, MetricType::Gauge)?;
        for ((server, transport), n) in sum(|shard| &shard.connections, of_stream) {
            let labels = [("server", server), ("transport", transport)];
            metric.encode_family(&labels)?.encode_gauge(&n)?;
        }
        let mut counters = |name, help, of, only| {
            let mut metric = self.counter(name, help)?;
            for ((server, transport), n) in sum(of, only) {
                add(&mut metric, &[("server", server), ("transport", transport)], n)?;
            }
            Ok(())
        };
        counters("portolan_ignored", "Messages that are no queries", |shard| &shard.ignored, |_| true)?;
        let of_udp = |transport| transport == Transport::Udp;
        let help = "Datagrams that the kernel dropped at a socket: nearly always since more waited than could be answered";
        counters("portolan_udp_dropped", help, |shard| &shard.dropped, of_udp)?;
        let help = "Replies that the network did not take";
        counters("portolan_udp_unsent", help, |shard| &shard.unsent, of_udp)?;
        let help = "Connections refused for their number";
        counters("portolan_tcp_rejected", help, |shard| &shard.rejected, of_stream)?;
        let help = "Idle connections closed to make room";
        counters("portolan_tcp_evicted", help, |shard| &shard.evicted, of_stream)?;
        let help = "TLS handshakes that failed or took too long";
        let of_tls = |transport| transport == Transport::Tls;
        counters("portolan_tls_handshake_failures", help, |shard| &shard.handshake_failures, of_tls)?;
        let mut metric = self.counter("portolan_rate_limited", "Replies over the rate limit")?;
        for (at, action) in LIMITED.iter().enumerate() {
            let n = shards.iter().map(|shard| shard.limited[at].load(Ordering::Relaxed)).sum();
            add(&mut metric, &[("action", *action)], n)?;
        }
        let help = "Answers with endpoints in place of virtual IPs (vips.answer-to: Agents), as the client's node has no ready agent, \
                    or it is on no node that is known";
        let mut metric = self.counter("portolan_dns_direct_answers", help)?;
        for (at, lacks) in LACKS.iter().enumerate() {
            let n = shards.iter().map(|shard| shard.direct[at].load(Ordering::Relaxed)).sum();
            add(&mut metric, &[("lacks", *lacks)], n)?;
        }
        Ok(())
    }

    fn forwarders(&mut self, forwarders: &Forwarders) -> fmt::Result {
        for (name, help, fault) in [
            (
                "portolan_dns_ecs_ignored_forwarders",
                "Trusted forwarders whose cache ignores where clients are",
                Fault::Ignores,
            ),
            (
                "portolan_dns_ecs_missing_forwarders",
                "Askers in trusted-forwarders that never say where clients are: clients, or forwarders to be mended",
                Fault::Silent,
            ),
        ] {
            let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            metric.encode_gauge(&forwarders.count(fault))?;
        }
        Ok(())
    }

    fn server(&mut self, panics: u64) -> fmt::Result {
        let mut metric = self.counter("coredns_panics", "Bugs of the server that were hit")?;
        metric.encode_counter::<NoLabelSet, _, u64>(&panics, None)?;
        let name = "coredns_build_info";
        let mut metric = self.encoder.encode_descriptor(name, "This build", None, MetricType::Gauge)?;
        let labels = [("version", env!("CARGO_PKG_VERSION")), ("revision", ""), ("goversion", "")];
        metric.encode_family(&labels)?.encode_gauge(&1u64)
    }

    fn counter<'s>(&'s mut self, name: &'s str, help: &str) -> Result<MetricEncoder<'s>, fmt::Error> {
        self.encoder.encode_descriptor(name, help, None, MetricType::Counter)
    }
}

fn add(metric: &mut MetricEncoder<'_>, labels: &impl EncodeLabelSet, n: u64) -> fmt::Result {
    metric.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(&n, None)
}

/// Writes a histogram from a cell per bound and one for the sum, unless nothing was observed.
fn observe(
    metric: &mut MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    bounds: &[f64],
    cells: &[u64],
    per_unit: f64,
) -> fmt::Result {
    let (counts, sum) = cells.split_at(bounds.len());
    let total = counts.iter().sum();
    if total == 0 {
        return Ok(());
    }
    let buckets: Vec<(f64, u64)> = bounds.iter().copied().zip(counts.iter().copied()).collect();
    let sum = sum.iter().sum::<u64>() as f64 / per_unit;
    metric.encode_family(labels)?.encode_histogram::<NoLabelSet>(sum, total, &buckets, None)
}
