//! Which other clusters there are, and how to get at them: ClusterPeers, ClusterProfiles and kubeconfig files.
//!
//! ```text
//! ClusterPeers ─┐
//! ClusterProfiles ─► Inventory ─► PeerList ─► followers
//! kubeconfig files ┘   ▲  └─► the Secrets that they name, each watched by itself
//!                      └─────────────────────────┘
//! ```

mod credentials;
mod files;
mod inventory;
pub(crate) mod listed;
mod profile;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use self::files::File;
use self::inventory::{Inventory, SecretName};
use super::discovery::Topic;
use super::resources::ClusterPeer;
use super::watch::{QUEUE, Wanted, Word};
use super::{Origin, PeerConfig};

pub(crate) use self::files::EVERY;

/// Where other clusters are named.
pub(crate) struct PeerSources {
    /// Clusters of the configuration. Their kubeconfig files are read again when they change.
    pub(crate) configured: Vec<PeerConfig>,
    /// The own cluster, for those that its objects name.
    pub(crate) own: Option<OwnSources>,
}

/// Objects of the own cluster that name others.
pub(crate) struct OwnSources {
    pub(crate) client: Client,
    /// Where Secrets are, unless a ClusterPeer says otherwise.
    pub(crate) namespace: String,
    /// Whether ClusterPeers count.
    pub(crate) cluster_peers: bool,
    /// The namespace whose ClusterProfiles count; `None`: none do.
    pub(crate) cluster_profiles: Option<String>,
}

/// The clusters that there are.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct PeerList {
    /// Each name once. Those whose credentials are missing have [`Access::Unknown`](super::Access::Unknown).
    pub(crate) peers: Vec<PeerConfig>,
    /// What is wrong with some: credentials that are missing or not to be trusted. Their last good ones are kept.
    pub(crate) problems: Vec<PeerProblem>,
    /// What can't be listed at all.
    pub(crate) source_problems: Vec<String>,
    /// Whether everything has been listed: who is not in `peers` is gone, and not just unknown yet.
    pub(crate) complete: bool,
}

/// What is wrong with one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PeerProblem {
    pub(crate) name: String,
    pub(crate) origin: Origin,
    pub(crate) text: String,
}

/// How long a list waits for Secrets: each cluster is better told with its credentials than twice, but one Secret that
/// can't be had must not keep all others waiting.
const SECRETS: Duration = Duration::from_secs(5);

/// ClusterPeers by name, as they were last read.
pub(crate) type ClusterPeers = BTreeMap<String, Arc<ClusterPeer>>;

/// Follows the sources until it is dropped.
pub(crate) struct Peers {
    list: watch::Receiver<Arc<PeerList>>,
    cluster_peers: watch::Receiver<Arc<ClusterPeers>>,
    _tasks: JoinSet<()>,
}

impl Peers {
    /// Begins; the list is empty and not complete at first.
    pub(crate) fn follow(sources: PeerSources) -> Self {
        let (tell_list, list) = watch::channel(Arc::default());
        let (tell_peers, cluster_peers) = watch::channel(Arc::default());
        let mut tasks = JoinSet::new();
        let actor = Actor::new(sources, tell_list, tell_peers);
        tasks.spawn(actor.run());
        Self { list, cluster_peers, _tasks: tasks }
    }

    /// The clusters to follow.
    pub(crate) fn list(&self) -> watch::Receiver<Arc<PeerList>> {
        self.list.clone()
    }

    /// The ClusterPeers, for their status.
    pub(crate) fn cluster_peers(&self) -> watch::Receiver<Arc<ClusterPeers>> {
        self.cluster_peers.clone()
    }
}

/// Clusters of the configuration alone, for whoever follows no own cluster's objects.
pub(crate) struct Configured(Inventory);

impl Configured {
    /// Nothing has been read yet.
    pub(crate) fn new() -> Self {
        Self(Inventory::new(String::new(), false, false))
    }

    /// The clusters with what their kubeconfig files hold now, or held when they were last good. Blocks.
    pub(crate) fn read(&mut self, clusters: &[PeerConfig]) -> PeerList {
        self.0.files = Some(clusters.iter().cloned().map(files::look).collect());
        self.0.list().unwrap_or_default()
    }
}

/// What a source says.
enum Said {
    ClusterPeer(Word),
    ClusterProfile(Word),
    Secret(SecretName, Word),
    Files(Vec<File>),
}

/// Owns the inventory and all watches.
struct Actor {
    inventory: Inventory,
    client: Option<Client>,
    said: mpsc::Receiver<Said>,
    say: mpsc::Sender<Said>,
    watches: JoinSet<()>,
    secrets: HashMap<SecretName, AbortHandle>,
    /// None is ever told here: a dead connection is found by its silence.
    outages: watch::Sender<Instant>,
    list: watch::Sender<Arc<PeerList>>,
    cluster_peers: watch::Sender<Arc<ClusterPeers>>,
}

impl Actor {
    fn new(
        sources: PeerSources,
        list: watch::Sender<Arc<PeerList>>,
        cluster_peers: watch::Sender<Arc<ClusterPeers>>,
    ) -> Self {
        let (say, said) = mpsc::channel(QUEUE);
        let own = sources.own.as_ref();
        let profiles = own.and_then(|own| own.cluster_profiles.clone());
        let from_peers = own.is_some_and(|own| own.cluster_peers);
        let namespace = own.map(|own| own.namespace.clone()).unwrap_or_default();
        let mut actor = Self {
            inventory: Inventory::new(namespace, from_peers, profiles.is_some()),
            client: sources.own.map(|own| own.client),
            said,
            say,
            watches: JoinSet::new(),
            secrets: HashMap::new(),
            outages: watch::channel(Instant::now()).0,
            list,
            cluster_peers,
        };
        actor.watches.spawn(files::follow(sources.configured, actor.say.clone()));
        if from_peers {
            let wanted = Wanted { topic: Topic::ClusterPeer, selector: None, namespace: None, name: None };
            actor.watch(wanted, Said::ClusterPeer);
        }
        if profiles.is_some() {
            let wanted =
                Wanted { topic: Topic::ClusterProfile, selector: None, namespace: profiles, name: None };
            actor.watch(wanted, Said::ClusterProfile);
        }
        actor
    }

    async fn run(mut self) {
        // `None`: no Secret is awaited.
        let mut waits_until: Option<Instant> = None;
        loop {
            let waits = waits_until.is_some_and(|until| until > Instant::now());
            tokio::select! {
                said = self.said.recv() => {
                    let Some(said) = said else { return };
                    self.hear(said);
                    while let Ok(said) = self.said.try_recv() {
                        self.hear(said);
                    }
                    self.watch_secrets();
                }
                () = sleep_until(waits_until.unwrap_or_else(Instant::now)), if waits => {}
            }
            let now = Instant::now();
            waits_until = self.inventory.is_pending().then(|| waits_until.unwrap_or(now + SECRETS));
            self.publish(waits_until.is_none_or(|until| until <= now));
        }
    }

    fn hear(&mut self, said: Said) {
        match said {
            Said::ClusterPeer(word) => self.inventory.hear_cluster_peer(word),
            Said::ClusterProfile(word) => self.inventory.hear_profile(word),
            Said::Secret(name, word) => self.inventory.hear_secret(&name, word),
            Said::Files(files) => self.inventory.files = Some(files),
        }
    }

    /// Watches the Secrets that are named, and no others.
    fn watch_secrets(&mut self) {
        let wanted = self.inventory.name_secrets();
        self.secrets.retain(|name, watch| {
            let keep = wanted.contains(name);
            if !keep {
                watch.abort();
            }
            keep
        });
        for name in wanted {
            if !self.secrets.contains_key(&name) {
                let (namespace, object) = (Some(name.0.clone()), Some(name.1.clone()));
                let wanted = Wanted { topic: Topic::Secret, selector: None, namespace, name: object };
                let of = name.clone();
                if let Some(watch) = self.watch(wanted, move |word| Said::Secret(of.clone(), word)) {
                    self.secrets.insert(name, watch);
                }
            }
        }
        // Ended ones are only kept until they are asked for.
        while self.watches.try_join_next().is_some() {}
    }

    fn publish(&mut self, settled: bool) {
        if settled && let Some(list) = self.inventory.list() {
            self.list.send_if_modified(|old| {
                let changed = **old != list;
                if changed {
                    *old = Arc::new(list);
                }
                changed
            });
        }
        let peers = self.inventory.cluster_peers();
        self.cluster_peers.send_if_modified(|old| {
            let changed = **old != peers;
            if changed {
                *old = Arc::new(peers);
            }
            changed
        });
    }

    /// Watches one kind; what it says comes back as `said`.
    fn watch(&mut self, wanted: Wanted, said: impl Fn(Word) -> Said + Send + 'static) -> Option<AbortHandle> {
        let (words, mut heard) = mpsc::channel(QUEUE);
        let watch = super::watch::watch(self.client.clone()?, wanted, words, self.outages.subscribe());
        let say = self.say.clone();
        let pass_on = async move {
            while let Some((_, word)) = heard.recv().await {
                if say.send(said(word)).await.is_err() {
                    return;
                }
            }
        };
        Some(self.watches.spawn(async {
            tokio::join!(watch, pass_on);
        }))
    }
}
