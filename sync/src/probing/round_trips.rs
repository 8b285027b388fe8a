//! How long it takes to get to each cluster, by what probes of its endpoints and gateways found.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use portolan_zones::ClusterId;
use portolan_zones::policy::health::Check;

use crate::probes::{Target, differ};

/// By cluster. Who was not measured is not there.
pub(crate) type RoundTrips = BTreeMap<ClusterId, Duration>;

/// The median of each cluster's targets, each of which counts once; of two in the middle the lower one. Where all targets
/// are new and none was measured yet, what was found before holds.
pub(super) fn medians(
    checks: &HashMap<Target, Vec<Check>>,
    times: &HashMap<Target, Duration>,
    before: &RoundTrips,
) -> RoundTrips {
    let mut by_cluster: BTreeMap<&ClusterId, Vec<Duration>> = BTreeMap::new();
    for (target, time) in times {
        let checks = checks.get(target).map(Vec::as_slice).unwrap_or_default();
        for (i, check) in checks.iter().enumerate() {
            if checks[..i].iter().all(|other| other.cluster != check.cluster) {
                by_cluster.entry(&check.cluster).or_default().push(*time);
            }
        }
    }
    let median = |(cluster, mut times): (&ClusterId, Vec<Duration>)| {
        let middle = times.len().checked_sub(1)? / 2;
        Some((cluster.clone(), *times.select_nth_unstable(middle).1))
    };
    let mut now: RoundTrips = by_cluster.into_iter().filter_map(median).collect();
    for (cluster, time) in before {
        let is_asked = || checks.values().flatten().any(|check| check.cluster == *cluster);
        if !now.contains_key(cluster) && is_asked() {
            now.insert(cluster.clone(), *time);
        }
    }
    now
}

/// Whether somebody who was told these would choose otherwise by those.
pub(super) fn are_news(told: &RoundTrips, now: &RoundTrips) -> bool {
    told.len() != now.len()
        || now.iter().any(|(cluster, time)| differ(told.get(cluster).copied(), Some(*time)))
}
