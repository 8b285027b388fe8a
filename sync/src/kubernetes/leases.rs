//! How fresh each peer is, as the controller says it: a Lease for each, renewed while the peer is in contact.
//!
//! Clocks of two machines differ: a Lease is old when *we* have not seen it change for as long as it says, as client-go
//! judges leaders (KEP-1645, "Endpoint TTL").

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use portolan_zones::{ClusterId, Event};
use serde::Deserialize;

use super::raw::Raw;
use super::silence::Silence;
use super::watch::Word;

/// Picks the Leases of peers.
pub(crate) const SELECTOR: &str = "portolan.dev/peer";
/// Of a Lease that does not say it.
const DEFAULT_DURATION: Duration = Duration::from_secs(30);
/// Nobody needs more time than a day.
const MAX_DURATION: u64 = 86_400;

/// All Leases of peers.
#[derive(Default)]
pub(crate) struct Leases {
    peers: BTreeMap<String, Peer>,
    /// The Leases that the list under way has named.
    listing: Option<BTreeSet<String>>,
    /// Clusters that were told to be stale.
    told: BTreeSet<ClusterId>,
}

struct Peer {
    cluster: ClusterId,
    duration: Duration,
    renewed: String,
    silence: Silence,
}

#[derive(Deserialize, Default)]
struct Lease {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Deserialize, Default)]
struct Annotations {
    #[serde(rename = "portolan.dev/cluster")]
    cluster: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Spec {
    renew_time: Option<String>,
    lease_duration_seconds: Option<u64>,
}

impl Leases {
    /// Takes a word about Leases in.
    pub(crate) fn hear(&mut self, word: &Word, now: Instant) {
        match word {
            Word::Begin => self.listing = Some(BTreeSet::new()),
            Word::Listed(raw) | Word::Apply(raw) => self.apply(raw, now),
            Word::Delete(raw) => _ = self.peers.remove(raw.name()),
            Word::Done => {
                if let Some(listed) = self.listing.take() {
                    self.peers.retain(|name, _| listed.contains(name));
                }
            }
            Word::Absent | Word::Broken(_) | Word::Denied(_) | Word::Mended => {}
        }
    }

    /// Nobody listens to Leases any more: what they told is taken back.
    pub(crate) fn take_back(&mut self) -> Vec<Event> {
        let told = std::mem::take(self).told;
        told.into_iter().map(|cluster| Event::Stale { cluster, stale: false }).collect()
    }

    /// Which clusters went stale, or came back; `deaf`: our own watch is broken, so that silence means nothing.
    pub(crate) fn judge(&mut self, now: Instant, deaf: bool) -> Vec<Event> {
        let mut stale = BTreeSet::new();
        for peer in self.peers.values_mut() {
            if peer.silence.judge(now, deaf) >= peer.duration {
                stale.insert(peer.cluster.clone());
            }
        }
        let event = |cluster: &ClusterId, stale| Event::Stale { cluster: cluster.clone(), stale };
        let over = self.told.difference(&stale).map(|cluster| event(cluster, false));
        let events = over.chain(stale.difference(&self.told).map(|cluster| event(cluster, true))).collect();
        self.told = stale;
        events
    }

    /// All clusters that there are Leases of, and whether they were told to be stale.
    pub(crate) fn peers(&self) -> BTreeMap<ClusterId, bool> {
        self.peers.values().map(|peer| (peer.cluster.clone(), self.told.contains(&peer.cluster))).collect()
    }

    fn apply(&mut self, raw: &Raw, now: Instant) {
        if let Some(listed) = &mut self.listing {
            listed.insert(raw.name().to_owned());
        }
        let lease: Lease = serde_json::from_str(raw.json()).unwrap_or_default();
        let cluster = lease.metadata.annotations.cluster.and_then(|id| ClusterId::new(&id).ok());
        let Some(cluster) = cluster else {
            // A peer whose id is not known yet is none that anything is told of.
            self.peers.remove(raw.name());
            return;
        };
        let duration = lease.spec.lease_duration_seconds.filter(|seconds| *seconds > 0);
        let duration = duration.map_or(DEFAULT_DURATION, |s| Duration::from_secs(s.min(MAX_DURATION)));
        let renewed = lease.spec.renew_time.unwrap_or_default();
        match self.peers.get_mut(raw.name()) {
            Some(peer) => {
                if peer.renewed != renewed {
                    peer.silence.heard(now);
                }
                (peer.cluster, peer.duration, peer.renewed) = (cluster, duration, renewed);
            }
            None => {
                let peer = Peer { cluster, duration, renewed, silence: Silence::new(now) };
                self.peers.insert(raw.name().to_owned(), peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(name: &str, cluster: &str, renewed: u32) -> Raw {
        serde_json::from_str(&format!(
            r#"{{"metadata": {{"name": "{name}", "annotations": {{"portolan.dev/cluster": "{cluster}"}}}},
                "spec": {{"renewTime": "2026-01-01T00:00:{renewed:02}.000000Z", "leaseDurationSeconds": 30}}}}"#
        ))
        .unwrap()
    }

    fn texts(events: Vec<Event>) -> Vec<String> {
        let text = |event| match event {
            Event::Stale { cluster, stale } => format!("{cluster} {stale}"),
            other => format!("{other:?}"),
        };
        events.into_iter().map(text).collect()
    }

    /// Seconds, what the watch says, whether we are deaf → who goes stale or comes back.
    #[test]
    fn a_lease_is_old_when_it_has_not_been_seen_to_change() {
        let west = |renewed| Word::Apply(lease("portolan-peer-west", "west", renewed));
        let steps = [
            (
                0,
                vec![Word::Begin, Word::Listed(lease("portolan-peer-west", "west", 1)), Word::Done],
                false,
                "",
            ),
            (29, vec![], false, ""),
            (30, vec![], false, "west true"),
            (31, vec![west(1)], false, ""),
            (40, vec![west(2)], false, "west false"),
            (60, vec![], true, ""),
            (200, vec![], true, ""),
            (209, vec![], false, ""),
            (229, vec![], false, ""),
            (230, vec![], false, "west true"),
            (231, vec![Word::Begin, Word::Listed(lease("portolan-peer-west", "west", 2))], false, ""),
            (232, vec![Word::Done], false, ""),
            (233, vec![Word::Begin, Word::Done], false, "west false"),
        ];
        let start = Instant::now();
        let mut leases = Leases::default();
        for (second, words, deaf, expected) in steps {
            let now = start + Duration::from_secs(second);
            words.iter().for_each(|word| leases.hear(word, now));
            assert_eq!(texts(leases.judge(now, deaf)).join(", "), expected, "at {second} s");
            if second == 30 {
                assert_eq!(leases.peers(), [(ClusterId::new("west").unwrap(), true)].into());
            }
        }
        leases.hear(&west(3), start);
        assert_eq!(texts(leases.judge(start + Duration::from_secs(300), false)), ["west true"]);
        assert_eq!(texts(leases.take_back()), ["west false"]);
        assert_eq!(texts(leases.take_back()), [""; 0]);
    }

    #[test]
    fn a_lease_that_names_no_cluster_tells_nothing() {
        let (now, mut leases) = (Instant::now(), Leases::default());
        for text in
            [r#"{"metadata": {"name": "a"}}"#, "7", r#"{"metadata": {"name": "b", "annotations": null}}"#]
        {
            leases.hear(&Word::Apply(serde_json::from_str(text).unwrap()), now);
        }
        leases.hear(&Word::Apply(lease("c", "no cluster id", 1)), now);
        assert_eq!(leases.judge(now + Duration::from_secs(100), false), []);
        assert!(leases.peers().is_empty());
    }
}
