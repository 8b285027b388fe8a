//! Lines of the table: how each cluster is.

use std::collections::BTreeMap;

use super::{Cluster, Source};
use crate::age::age;

/// One line of the table.
pub(super) struct Line {
    pub cells: [String; 10],
    pub well: bool,
    pub problems: Vec<String>,
}

/// Kinds as the table has them; others are shown as they are called.
const KINDS: [(&str, &str); 9] = [
    ("ServiceExport", "exports"),
    ("ServiceImport", "imports"),
    ("Service", "services"),
    ("EndpointSlice", "slices"),
    ("Node", "nodes"),
    ("Namespace", "namespaces"),
    ("Lease", "leases"),
    ("TrafficPolicy", "policies"),
    ("ClusterPeer", "peers"),
];

impl Source {
    pub(super) fn line(&self, now: i64) -> Line {
        let cluster = self.cluster.clone().unwrap_or_else(|| "?".to_owned());
        // What is stale is a folder that can't be read any more.
        let reachable = !self.stale;
        Line {
            cells: [
                cluster,
                self.path.clone(),
                yes(reachable),
                fresh(now, self.checked_at),
                yes(self.synced),
                yes(self.stale),
                objects(&self.objects),
                "-".to_owned(),
                round_trip(self.round_trip_time),
                self.problems.first().cloned().unwrap_or_else(|| "-".to_owned()),
            ],
            well: self.synced && !self.stale,
            problems: self.problems.clone(),
        }
    }
}

impl Cluster {
    pub(super) fn line(&self, now: i64) -> Line {
        let mut problems = self.problems.clone();
        if let Some(first) = &self.duplicate_of {
            problems.insert(0, format!("{first} is followed in its place"));
        }
        if self.refused_exports > 0 {
            let refused = self.refused_exports;
            let some = self.refused.join(", ");
            problems
                .push(format!("{refused} exports don't count: their namespaces are not accepted: {some}"));
        }
        let stale = self.leases.iter().filter(|lease| lease.stale);
        problems.extend(stale.clone().map(|lease| {
            format!("the controller does not hear {}: its endpoints may be out of date", lease.cluster)
        }));
        let source = match self.origin.as_str() {
            "own" => self.name.clone(),
            origin => format!("{origin} {}", self.name),
        };
        let state = if self.withdrawn { "withdrawn".to_owned() } else { yes(self.stale) };
        // A peer that is this cluster itself is followed already; nothing is wrong with it.
        let well = self.is_own
            || (self.reachable
                && self.synced
                && !self.stale
                && !self.withdrawn
                && self.duplicate_of.is_none()
                && stale.count() == 0);
        Line {
            cells: [
                self.cluster.clone().unwrap_or_else(|| "?".to_owned()),
                source,
                if self.is_own { "is own".to_owned() } else { yes(self.reachable) },
                fresh(now, self.contact_at),
                yes(self.synced),
                state,
                objects(&self.objects),
                self.lag_seconds.map_or_else(|| "-".to_owned(), |lag| format!("{:.0}ms", lag * 1000.0)),
                round_trip(self.round_trip_time),
                problems.first().cloned().unwrap_or_else(|| "-".to_owned()),
            ],
            well,
            problems,
        }
    }
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

fn round_trip(milliseconds: Option<f64>) -> String {
    milliseconds.map_or_else(|| "-".to_owned(), |time| format!("{time:.1}ms"))
}

fn fresh(now: i64, at: Option<i64>) -> String {
    at.map_or_else(|| "never".to_owned(), |at| age(now - at))
}

fn objects(objects: &BTreeMap<String, u64>) -> String {
    let word = |kind| KINDS.into_iter().find(|(known, _)| *known == kind).map_or(kind, |(_, word)| word);
    let counted: Vec<_> = objects.iter().map(|(kind, count)| format!("{count} {}", word(kind))).collect();
    if counted.is_empty() { "-".to_owned() } else { counted.join(", ") }
}
