//! Objects of clusters, as they come, change and go.

use std::collections::HashSet;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::Table;
use crate::name::ClusterId;
use crate::object::{Object, ObjectKey, Slice};

impl Table {
    pub(super) fn apply_object(&mut self, cluster: &ClusterId, object: Object) {
        match object {
            Object::Node(node) => {
                self.clusters.apply_node(cluster, node);
            }
            Object::Namespace(name) => {
                let holders = self.namespaces.entry(name.clone()).or_default();
                if holders.is_empty() {
                    self.namespace_changes.push((name, true));
                }
                holders.insert(cluster.clone());
            }
            Object::Export(export) => {
                let name = export.name.clone();
                self.word(cluster, &name, |word| word.export = Some(export));
            }
            Object::Service(service) => {
                let name = service.name.clone();
                self.word(cluster, &name, |word| word.service = Some(service));
            }
            Object::Import(import) => {
                let name = import.name.clone();
                self.word(cluster, &name, |word| word.import = Some(Arc::new(import)));
            }
            Object::Slice(slice) => self.apply_slice(cluster, slice),
            Object::Policy(policy) => {
                let touched = self.policies.apply(cluster, policy);
                self.touch_subjects(touched);
            }
            Object::Peer(peer) => self.clusters.standings.apply_peer(cluster.clone(), peer),
        }
    }

    fn apply_slice(&mut self, cluster: &ClusterId, slice: Slice) {
        let slice = Arc::new(slice);
        if let Some(before) = self.slices.insert(cluster, slice.clone())
            && before.service != slice.service
        {
            self.word(cluster, &before.service, |word| word.slices.retain(|s| s.name != slice.name));
        }
        self.word(cluster, &slice.service, |word| {
            match word.slices.binary_search_by(|s| s.name.cmp(&slice.name)) {
                Ok(at) => word.slices[at] = slice.clone(),
                Err(at) => {
                    word.slices.reserve_exact(1);
                    word.slices.insert(at, slice.clone());
                }
            }
        });
    }

    pub(super) fn delete(&mut self, cluster: &ClusterId, key: &ObjectKey) {
        match key {
            ObjectKey::Node(name) => {
                self.clusters.delete_node(cluster, name);
            }
            ObjectKey::Namespace(name) => {
                let Some(holders) = self.namespaces.get_mut(&**name) else {
                    return;
                };
                if holders.remove(cluster) && holders.is_empty() {
                    self.namespaces.remove(&**name);
                    self.namespace_changes.push(((**name).into(), false));
                }
            }
            ObjectKey::Export(name) => self.word(cluster, name, |word| word.export = None),
            ObjectKey::Service(name) => self.word(cluster, name, |word| word.service = None),
            ObjectKey::Import(name) => self.word(cluster, name, |word| word.import = None),
            ObjectKey::Policy(name) => {
                let touched = self.policies.delete(cluster, name);
                self.touch_subjects(touched);
            }
            ObjectKey::Peer(name) => {
                self.clusters.standings.delete_peer(cluster, name);
            }
            ObjectKey::Slice(slice) => {
                if let Some(filed) = self.slices.remove(cluster, slice) {
                    self.word(cluster, &filed.service, |word| word.slices.retain(|s| s.name != *slice));
                }
            }
        }
    }

    pub(super) fn reset(&mut self, cluster: &ClusterId, objects: Vec<Object>) {
        self.synced.insert(cluster.clone());
        let kept: HashSet<ObjectKey, RandomState> = objects.iter().map(Object::key).collect();
        for key in self.keys(cluster).into_iter().filter(|key| !kept.contains(key)) {
            self.delete(cluster, &key);
        }
        for object in objects {
            self.apply_object(cluster, object);
        }
    }

    /// All objects of a cluster.
    fn keys(&self, cluster: &ClusterId) -> Vec<ObjectKey> {
        let mut keys = Vec::new();
        for (name, entry) in &self.entries {
            let Some(word) = entry.words.iter().find(|word| word.cluster == *cluster) else {
                continue;
            };
            keys.extend(word.export.as_ref().map(|_| ObjectKey::Export(name.clone())));
            keys.extend(word.service.as_ref().map(|_| ObjectKey::Service(name.clone())));
            keys.extend(word.import.as_ref().map(|_| ObjectKey::Import(name.clone())));
            keys.extend(word.slices.iter().map(|slice| ObjectKey::Slice(slice.name.clone())));
        }
        let nodes = self.clusters.nodes().filter(|(c, _)| *c == cluster);
        keys.extend(nodes.map(|(_, node)| ObjectKey::Node((*node.name).into())));
        let holds = self.namespaces.iter().filter(|(_, holders)| holders.contains(cluster));
        keys.extend(holds.map(|(name, _)| ObjectKey::Namespace((**name).into())));
        keys.extend(self.policies.names(cluster).cloned().map(ObjectKey::Policy));
        keys.extend(self.clusters.standings.names(cluster).map(|name| ObjectKey::Peer((**name).into())));
        keys
    }
}
