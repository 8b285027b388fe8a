//! Which cluster an entry of the configuration stands for, and whether that is who answers: pure.
//!
//! An entry stands for the id that it is configured with, else for the id and the UID under which it was first followed:
//! they are pinned to it, by this process and in a ClusterPeer's status. Whoever answers there and is somebody else is a
//! stranger. A stranger is not listened to, and what was known of the entry's own cluster holds: neither a peer that
//! takes another's id nor a kubeconfig in the wrong Secret puts one cluster in the place of another.

use portolan_zones::ClusterId;

use super::{Origin, Pinned};

/// What is known of an entry's cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Whether it is the own cluster: it is who it says it is.
    pub(crate) own: bool,
    /// The id by configuration.
    pub(crate) configured: Option<ClusterId>,
    /// The id under which it was followed.
    pub(crate) pinned_id: Option<ClusterId>,
    /// The UID that it had then.
    pub(crate) pinned_uid: Option<String>,
    /// The id that the cluster that answers gives itself by its ClusterProperty.
    pub(crate) said_id: Option<ClusterId>,
    /// UID of the namespace kube-system of the cluster that answers.
    pub(crate) said_uid: Option<String>,
    /// Whether it is known that it says no other id: its ClusterProperties were read, or can't be.
    pub(crate) asked: bool,
}

/// Why who answers is not the cluster that the entry stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stranger {
    /// It has another UID.
    Uid { is: String, was: String },
    /// It gives itself another id than it had.
    Id { is: ClusterId, was: ClusterId },
    /// It gives itself another id than the configuration does.
    Configured { is: ClusterId, configured: ClusterId },
}

/// What two entries have in common, of which only one can be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Likeness {
    /// They are one cluster, which has this UID.
    Cluster(String),
    /// They have one id.
    Id(ClusterId),
}

impl Identity {
    pub(crate) fn new(own: bool, configured: Option<ClusterId>, pinned: &Pinned) -> Self {
        let (pinned_id, pinned_uid) = (pinned.id.clone(), pinned.uid.clone());
        Self { own, configured, pinned_id, pinned_uid, ..Self::default() }
    }

    /// The id that the entry stands for, as far as it is known.
    pub(crate) fn id(&self) -> Option<&ClusterId> {
        let (said, configured, pinned) =
            (self.said_id.as_ref(), self.configured.as_ref(), self.pinned_id.as_ref());
        if self.own { said.or(configured).or(pinned) } else { configured.or(pinned).or(said) }
    }

    /// The UID of the cluster that the entry stands for, as far as it is known: who answers may be a stranger.
    pub(crate) fn uid(&self) -> Option<&String> {
        let (said, pinned) = (self.said_uid.as_ref(), self.pinned_uid.as_ref());
        if self.own {
            return said.or(pinned);
        }
        pinned.or(said.filter(|_| self.asked && self.stranger().is_none()))
    }

    /// The id under which who answers may be followed; `None`: not known yet, or it is a stranger.
    pub(crate) fn claim(&self) -> Option<&ClusterId> {
        self.id().filter(|_| self.asked && self.stranger().is_none())
    }

    /// Why who answers must not be listened to.
    pub(crate) fn stranger(&self) -> Option<Stranger> {
        if self.own {
            return None;
        }
        if let (Some(is), Some(was)) = (&self.said_uid, &self.pinned_uid)
            && is != was
        {
            return Some(Stranger::Uid { is: is.clone(), was: was.clone() });
        }
        let is = self.said_id.as_ref().filter(|said| Some(*said) != self.id())?.clone();
        Some(match (&self.configured, &self.pinned_id) {
            (Some(configured), _) => Stranger::Configured { is, configured: configured.clone() },
            (None, Some(was)) => Stranger::Id { is, was: was.clone() },
            // It stands for what it says.
            (None, None) => return None,
        })
    }

    /// Who has this UID answers now, as far as that can be read.
    pub(crate) fn answers(&mut self, uid: Option<&String>) {
        if let Some(uid) = uid {
            self.said_uid = Some(uid.clone());
        }
    }

    /// Somebody else may answer from now on, who has this UID, as far as that can be read: what was said before is no word of
    /// theirs.
    pub(crate) fn meets(&mut self, uid: Option<String>) {
        (self.said_uid, self.said_id, self.asked) = (uid, None, false);
    }

    /// It is followed under this id: it stands for whom it is now.
    pub(crate) fn pin(&mut self, id: &ClusterId) {
        self.pinned_id = Some(id.clone());
        self.pinned_uid = self.uid().cloned();
    }

    /// What it has in common with another entry's cluster.
    pub(crate) fn likeness(&self, other: &Self) -> Option<Likeness> {
        let uid = self.uid().filter(|uid| Some(*uid) == other.uid());
        let id = || self.id().filter(|id| Some(*id) == other.id());
        uid.cloned().map(Likeness::Cluster).or_else(|| id().cloned().map(Likeness::Id))
    }

    /// What is wrong with it, and what to do, for people.
    pub(crate) fn problem(&self, origin: Option<Origin>) -> Option<String> {
        const PROPERTY: &str = "ClusterProperty cluster.clusterset.k8s.io";
        let outcome = "it is not listened to, and what was known holds";
        let (setting, anew) = match origin {
            Some(Origin::ClusterPeer) => ("spec.clusterId", "delete the ClusterPeer and create it anew"),
            Some(Origin::ClusterProfile) => {
                ("the ClusterProfile's property", "delete the ClusterProfile and create it anew")
            }
            Some(Origin::Kubeconfig) | None => {
                ("`id`", "take it out of the configuration, reload, and put it in again")
            }
        };
        match self.stranger() {
            Some(Stranger::Uid { is, was }) => {
                return Some(format!(
                    "this is another cluster than before (UID {is}, was {was}): {outcome}; correct its credentials, or \
                     {anew} to accept it"
                ));
            }
            Some(Stranger::Id { is, was }) => {
                return Some(format!(
                    "this is another cluster than before (id `{is}` by its {PROPERTY}, was `{was}`): {outcome}; correct \
                     that, or set {setting} to `{is}`, or {anew} to accept it"
                ));
            }
            Some(Stranger::Configured { is, configured }) => {
                return Some(format!(
                    "its {PROPERTY} says `{is}`, and {setting} says `{configured}`: {outcome}; correct one of them"
                ));
            }
            None => {}
        }
        if !self.asked || self.said_id.is_some() || self.configured.is_some() {
            return None;
        }
        Some(match &self.pinned_id {
            Some(id) => format!("it has no {PROPERTY}: it is taken for `{id}` as before"),
            None => format!(
                "it has no id, so that it can't be followed: make the {PROPERTY} in it, or configure its id"
            ),
        })
    }
}

#[cfg(test)]
mod tests;
