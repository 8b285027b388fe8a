//! From what the sources say to the list of clusters: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portolan_zones::ClusterId;
use serde_json::Value;

use super::credentials::{Secret, with_token};
use super::files::File;
use super::listed::{Broken, Listed};
use super::profile::{CLUSTER_ID, ClusterProfile};
use super::{ClusterPeers, PeerList, PeerProblem};
use crate::kubernetes::discovery::Topic;
use crate::kubernetes::resources::{ClusterPeer, DEFAULT_STALE_AFTER, DEFAULT_WITHDRAW_AFTER};
use crate::kubernetes::watch::Word;
use crate::kubernetes::{Access, Origin, PeerConfig, Pinned};

/// A Secret's namespace and name.
pub(super) type SecretName = (String, String);

/// All that the sources have said.
pub(super) struct Inventory {
    /// Where Secrets are, unless a ClusterPeer says otherwise.
    namespace: String,
    cluster_peers: Option<Listed<ClusterPeer>>,
    profiles: Option<Listed<ClusterProfile>>,
    /// Configured clusters, once they have been read.
    pub(super) files: Option<Vec<File>>,
    /// The Secrets that are named, as lists of one at most.
    secrets: BTreeMap<SecretName, Listed<Secret>>,
    /// The last credentials of each that could be used.
    good: BTreeMap<(Origin, String), Access>,
    /// Who each was when it was first heard of: what we hear ourselves is in the states, and no new setting.
    pinned: BTreeMap<(Origin, String), Pinned>,
}

impl Inventory {
    pub(super) fn new(namespace: String, cluster_peers: bool, profiles: bool) -> Self {
        Self {
            namespace,
            cluster_peers: cluster_peers.then(Listed::default),
            profiles: profiles.then(Listed::default),
            files: None,
            secrets: BTreeMap::new(),
            good: BTreeMap::new(),
            pinned: BTreeMap::new(),
        }
    }

    pub(super) fn hear_cluster_peer(&mut self, word: Word) {
        if let Some(peers) = &mut self.cluster_peers {
            peers.hear(word, || Topic::ClusterPeer.absence());
        }
    }

    pub(super) fn hear_profile(&mut self, word: Word) {
        if let Some(profiles) = &mut self.profiles {
            profiles.hear(word, || Topic::ClusterProfile.absence());
        }
    }

    pub(super) fn hear_secret(&mut self, name: &SecretName, word: Word) {
        if let Some(secret) = self.secrets.get_mut(name) {
            secret.hear(word, || Topic::Secret.absence());
        }
    }

    /// The Secrets that are named. What is known of others is forgotten.
    pub(super) fn name_secrets(&mut self) -> BTreeSet<SecretName> {
        let peers = self.cluster_peers.iter().flat_map(|peers| peers.objects().values());
        let of_peers = peers.map(|peer| self.secret_of_peer(peer));
        let profiles = self.profiles.iter().flat_map(Listed::objects);
        let of_profiles = profiles.map(|(key, profile)| self.secret_of_profile(key, profile));
        let named: BTreeSet<_> = of_peers.chain(of_profiles).collect();
        self.secrets.retain(|name, _| named.contains(name));
        for name in &named {
            self.secrets.entry(name.clone()).or_default();
        }
        named
    }

    pub(super) fn cluster_peers(&self) -> ClusterPeers {
        self.cluster_peers.as_ref().map(|peers| peers.objects().clone()).unwrap_or_default()
    }

    /// Whether an answer is awaited that would change the list at once.
    pub(super) fn is_pending(&self) -> bool {
        self.secrets.values().any(Listed::is_pending)
    }

    /// The list as it is now; `None`: not even the configuration has been read.
    pub(super) fn list(&mut self) -> Option<PeerList> {
        let files = self.files.as_ref()?;
        let mut found = Vec::new();
        for (name, peer) in self.cluster_peers.iter().flat_map(Listed::objects) {
            found.push(self.of_peer(name, peer));
        }
        found.extend(files.iter().map(|file| {
            let access = file.access.clone();
            Found { config: file.config.clone(), access, id_problem: None }
        }));
        for (key, profile) in self.profiles.iter().flat_map(Listed::objects) {
            found.push(self.of_profile(key, profile));
        }
        found.extend(self.unreadable());
        let mut list = PeerList {
            source_problems: self.source_problems(),
            complete: self.cluster_peers.as_ref().is_none_or(|peers| peers.complete)
                && self.profiles.as_ref().is_none_or(|profiles| profiles.complete),
            ..PeerList::default()
        };
        self.add_broken(&mut list);
        let named: BTreeSet<_> = found.iter().map(Found::key).collect();
        self.good.retain(|key, _| named.contains(key));
        self.pinned.retain(|key, _| named.contains(key));
        found.into_iter().for_each(|found| self.settle(found, &mut list));
        Some(list)
    }

    /// Puts a cluster into the list, with its last good credentials when the present ones can't be used.
    fn settle(&mut self, found: Found, list: &mut PeerList) {
        let key = found.key();
        let Found { mut config, access, id_problem } = found;
        let mut problem = |text| {
            list.problems.push(PeerProblem { name: config.name.clone(), origin: config.origin, text });
        };
        if let Some(other) = list.peers.iter().find(|other| other.name == config.name) {
            return problem(format!("is not followed: a {:?} has this name, too", other.origin));
        }
        id_problem.into_iter().for_each(&mut problem);
        let pinned = self.pinned.entry(key.clone()).or_insert_with(|| config.pinned.clone());
        if pinned.object != config.pinned.object {
            // Deleted and made anew: it has nothing to do with the one before.
            pinned.clone_from(&config.pinned);
            self.good.remove(&key);
        }
        config.pinned.clone_from(pinned);
        let usable =
            access.and_then(|access| access.verify().map(|()| access).map_err(|error| error.to_string()));
        config.access = match usable {
            Ok(access) => {
                self.good.insert(key, access.clone());
                access
            }
            Err(text) => {
                problem(text.clone());
                self.good.get(&key).cloned().unwrap_or(Access::Unknown { problem: text.into() })
            }
        };
        list.peers.push(config);
    }

    fn of_peer(&self, name: &str, peer: &ClusterPeer) -> Found {
        let spec = &peer.spec;
        let secret = self.secret_of_peer(peer);
        let kubeconfig = self.secret(&secret, "a kubeconfig").and_then(|found| {
            let text = found.text(&spec.credentials.secret.key);
            text.map_err(|text| format!("Secret {}/{} {text}", secret.0, secret.1))
        });
        let access = kubeconfig.map(|yaml| Access::Kubeconfig {
            yaml: yaml.into(),
            context: spec.credentials.context.clone(),
            allow_exec: spec.credentials.allow_exec,
        });
        let (id, id_problem) = id(spec.cluster_id.as_deref());
        let status = peer.status.as_ref();
        let last = status.and_then(|status| status.cluster_id.as_deref());
        let pinned = Pinned {
            id: last.and_then(|last| ClusterId::new(last).ok()),
            uid: status.and_then(|status| status.uid.clone()),
            object: peer.metadata.uid.clone(),
        };
        let config = PeerConfig {
            id,
            pinned,
            network: spec.network.as_deref().unwrap_or_default().into(),
            namespaces: spec.namespaces.as_ref().map(|names| names.iter().cloned().collect()),
            stale_after: spec.stale_after(),
            withdraw_after: spec.withdraw_after(),
            ..nameless(name, Origin::ClusterPeer)
        };
        Found { config, access, id_problem }
    }

    fn of_profile(&self, key: &str, profile: &ClusterProfile) -> Found {
        let secret = self.secret_of_profile(key, profile);
        let kubeconfig = profile.cluster().and_then(|cluster| {
            let text = with_token(cluster, self.secret(&secret, "a token")?);
            text.map_err(|text| format!("Secret {}/{} {text}", secret.0, secret.1))
        });
        let access = kubeconfig.map(|yaml| Access::Kubeconfig { yaml, context: None, allow_exec: false });
        let (id, id_problem) = id(profile.id());
        let pinned = Pinned { object: profile.uid().cloned(), ..Pinned::default() };
        let config = PeerConfig { id, pinned, ..nameless(key, Origin::ClusterProfile) };
        Found { config, access, id_problem }
    }

    fn secret_of_peer(&self, peer: &ClusterPeer) -> SecretName {
        let secret = &peer.spec.credentials.secret;
        (secret.namespace.clone().unwrap_or_else(|| self.namespace.clone()), secret.name.clone())
    }

    fn secret_of_profile(&self, key: &str, profile: &ClusterProfile) -> SecretName {
        let name = key.rsplit('/').next().unwrap_or_default();
        (self.namespace.clone(), profile.secret(name).to_owned())
    }

    /// A Secret, or why it can't be had. `content`: what should be in it.
    fn secret(&self, name: &SecretName, content: &str) -> Result<&Secret, String> {
        let missing = || format!(" is missing: create it with {content} of the cluster");
        let why = match self.secrets.get(name) {
            None => missing(),
            Some(watched) => match (watched.objects().values().next(), watched.broken().values().next()) {
                (Some(secret), _) => return Ok(secret),
                (None, Some(broken)) => format!(" can't be read: {}", broken.why),
                (None, None) if watched.is_pending() => " has not been read yet".to_owned(),
                (None, None) => {
                    watched.problem.as_ref().map_or_else(missing, |problem| format!(": {problem}"))
                }
            },
        };
        Err(format!("Secret {}/{}{why}", name.0, name.1))
    }

    fn source_problems(&self) -> Vec<String> {
        let peers = self.cluster_peers.as_ref().and_then(|peers| peers.problem.clone());
        peers
            .into_iter()
            .chain(self.profiles.as_ref().and_then(|profiles| profiles.problem.clone()))
            .collect()
    }

    /// Objects that can't be read.
    fn broken(&self) -> impl Iterator<Item = (Origin, &String, &Broken)> {
        let peers = self.cluster_peers.iter().flat_map(Listed::broken);
        let profiles = self.profiles.iter().flat_map(Listed::broken);
        let peers = peers.map(|(name, broken)| (Origin::ClusterPeer, name, broken));
        peers.chain(profiles.map(|(name, broken)| (Origin::ClusterProfile, name, broken)))
    }

    /// Whether it could be read before: then that counts on.
    fn was_read(&self, origin: Origin, name: &str) -> bool {
        let peers = || self.cluster_peers.as_ref().is_some_and(|peers| peers.objects().contains_key(name));
        let profiles =
            || self.profiles.as_ref().is_some_and(|profiles| profiles.objects().contains_key(name));
        if origin == Origin::ClusterPeer { peers() } else { profiles() }
    }

    fn add_broken(&self, list: &mut PeerList) {
        for (origin, name, broken) in self.broken().filter(|(origin, name, _)| self.was_read(*origin, name)) {
            let text = format!("can't be read, and what it was counts on: {}", broken.why);
            list.problems.push(PeerProblem { name: name.clone(), origin, text });
        }
    }

    /// Clusters whose objects never could be read: they are there, and can't be heard.
    fn unreadable(&self) -> Vec<Found> {
        let found = |(origin, name, broken): (Origin, &String, &Broken)| Found {
            config: PeerConfig {
                pinned: last_known(&broken.json),
                withdraw_after: None,
                ..nameless(name, origin)
            },
            access: Err(format!("can't be read: {}", broken.why)),
            id_problem: None,
        };
        self.broken().filter(|(origin, name, _)| !self.was_read(*origin, name)).map(found).collect()
    }
}

/// Who a cluster was, by whatever can be read of its ClusterPeer or ClusterProfile.
fn last_known(json: &Value) -> Pinned {
    let text = |pointer: &str| json.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let properties = json.pointer("/status/properties").and_then(Value::as_array);
    let property = properties.into_iter().flatten().find(|property| property["name"] == CLUSTER_ID);
    let id = text("/status/clusterId")
        .or_else(|| text("/spec/clusterId"))
        .or_else(|| property.and_then(|property| Some(property["value"].as_str()?.to_owned())));
    Pinned {
        id: id.and_then(|id| ClusterId::new(&id).ok()),
        uid: text("/status/uid"),
        object: text("/metadata/uid"),
    }
}

/// A cluster, before it is known whether its credentials can be used.
struct Found {
    config: PeerConfig,
    access: Result<Access, String>,
    id_problem: Option<String>,
}

impl Found {
    fn key(&self) -> (Origin, String) {
        (self.config.origin, self.config.name.clone())
    }
}

fn nameless(name: &str, origin: Origin) -> PeerConfig {
    PeerConfig {
        name: name.to_owned(),
        origin,
        access: Access::Unknown { problem: Arc::default() },
        id: None,
        pinned: Pinned::default(),
        network: Arc::default(),
        labels: Box::default(),
        namespaces: None,
        stale_after: DEFAULT_STALE_AFTER,
        withdraw_after: Some(DEFAULT_WITHDRAW_AFTER),
    }
}

/// An id that is none is left out, and said so: the cluster's own word may still tell it.
fn id(text: Option<&str>) -> (Option<ClusterId>, Option<String>) {
    match text.map(ClusterId::new) {
        Some(Ok(id)) => (Some(id), None),
        Some(Err(error)) => (None, Some(error.to_string())),
        None => (None, None),
    }
}

#[cfg(test)]
mod tests;
