//! Who is who among the clusters that are followed, and what the table is told of them together.
//!
//! Pure: the same candidates give the same verdicts. Two entries may turn out to be one cluster, or to have one id; then
//! one of them is followed, and a change of mind goes by way of nobody being followed, so that no word of the one is taken
//! for the other's.

use std::collections::{BTreeMap, BTreeSet};

use portolan_zones::{ClusterId, Event, Hearing};

use super::Role;
use super::identity::{Identity, Likeness};

/// An entry of the configuration. The own cluster comes first, the others in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Candidate {
    /// Whom it stands for, and who answers.
    pub(crate) identity: Identity,
    /// The id under which others may still tell of it.
    pub(crate) hint: Option<ClusterId>,
    /// The namespaces that its exports are accepted in; `None`: in all.
    pub(crate) accepted: Option<BTreeSet<String>>,
    /// The ids under which the table may have its objects: one, but while that changes.
    pub(crate) holds: BTreeSet<ClusterId>,
    /// Whether all its objects have been told.
    pub(crate) synced: bool,
    /// Whether it was silent for so long that it counts as gone.
    pub(crate) withdrawn: bool,
}

/// What becomes of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is not known yet who it is, or who answers is a stranger, or somebody else has to let go of its id first.
    Wait,
    /// Its objects are told under this id.
    Follow(ClusterId),
    /// It is the own cluster, which is followed already.
    Own,
    /// Another entry, by its position, stands for this cluster.
    Duplicate(usize, Likeness),
}

impl Candidate {
    /// How good its right to its identity is: the less the better.
    fn rank(&self) -> u8 {
        let Identity { own, configured, pinned_id, .. } = &self.identity;
        match self.identity.id() {
            _ if *own => 0,
            Some(id) if self.holds.contains(id) => 1,
            _ if pinned_id.is_some() => 2,
            _ if configured.is_some() => 3,
            _ if self.identity.claim().is_some() => 4,
            _ => 5,
        }
    }

    /// The id under which it may be followed, or goes on to be: what was known of whom a stranger stands in for holds.
    fn target(&self) -> Option<&ClusterId> {
        let Identity { pinned_id, .. } = &self.identity;
        self.identity.claim().or_else(|| pinned_id.as_ref().filter(|id| self.holds.contains(id)))
    }
}

/// Decides for all at once. Of several entries for one UID or one id the own cluster's is followed; else the one that is
/// followed already; else the one that was when it was last heard, or is configured with this id, even while it is silent:
/// nobody gets an id by being there while its owner is not; else the first.
pub(crate) fn judge(candidates: &[Candidate]) -> Vec<Verdict> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|at| (candidates[*at].rank(), *at));
    let mut verdicts = vec![Verdict::Wait; candidates.len()];
    let mut settled: Vec<usize> = Vec::new();
    for at in order {
        let candidate = &candidates[at];
        let like = |other: &usize| Some((*other, candidate.identity.likeness(&candidates[*other].identity)?));
        if let Some((other, likeness)) = settled.iter().find_map(like) {
            let own = candidates[other].identity.own && matches!(likeness, Likeness::Cluster(_));
            verdicts[at] = if own { Verdict::Own } else { Verdict::Duplicate(other, likeness) };
            continue;
        }
        settled.push(at);
        let held = |id: &ClusterId| {
            candidates.iter().enumerate().any(|(i, other)| i != at && other.holds.contains(id))
        };
        if let Some(id) = candidate.target().filter(|id| !held(id)) {
            verdicts[at] = Verdict::Follow(id.clone());
        }
    }
    verdicts
}

/// What the table is told of all clusters together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Announcement {
    /// `None`: it is not known yet which cluster that is, or there is none.
    pub(crate) home: Option<ClusterId>,
    /// `None`: not all are known yet.
    pub(crate) expected: Option<BTreeSet<ClusterId>>,
    /// Whose own words count; of all others home's imports tell.
    pub(crate) hearing: Hearing,
    /// The namespaces that clusters' exports are accepted in, of those of which it is not all: home's imports may tell of
    /// others that were accepted when they were written.
    pub(crate) accepted: BTreeMap<ClusterId, BTreeSet<String>>,
}

impl Announcement {
    /// What is new since another one.
    pub(crate) fn news(&self, before: &Self) -> Vec<Event> {
        let mut events = Vec::new();
        if self.home != before.home && self.home.is_some() {
            events.push(Event::Home(self.home.clone()));
        }
        if let Some(expected) = self.expected.as_ref().filter(|_| self.expected != before.expected) {
            events.push(Event::Expect(expected.clone()));
        }
        if self.accepted != before.accepted {
            events.push(Event::Accept(self.accepted.clone()));
        }
        if self.hearing != before.hearing {
            events.push(Event::Hear(self.hearing.clone()));
        }
        events
    }
}

/// Puts the announcement together. `told`: whether the list of peers is known at all.
pub(crate) fn announce(
    role: Role,
    candidates: &[Candidate],
    verdicts: &[Verdict],
    told: bool,
) -> Announcement {
    let counts = |verdict: &Verdict| matches!(verdict, Verdict::Follow(_) | Verdict::Wait);
    let members = || candidates.iter().zip(verdicts).filter(|(_, verdict)| counts(verdict)).map(|(c, _)| c);
    let id = |candidate: &Candidate| candidate.identity.id().cloned();
    let own = members().find(|candidate| candidate.identity.own);
    let home = own.and_then(id).filter(|_| own.is_some_and(|own| own.target().is_some()));
    let heard = || Hearing::Only(members().filter(|c| c.synced || c.withdrawn).filter_map(id).collect());
    let just_home = || home.clone().map(|id| BTreeSet::from([id]));
    // A server that has nobody but its own cluster is told of all others by that one's imports.
    let alone = own.is_some() && told && candidates.len() == 1;
    let (expected, hearing) = match role {
        Role::Server if alone => (just_home(), Hearing::default()),
        Role::Server => {
            let awaited = members().filter(|c| !c.withdrawn || !c.holds.is_empty());
            let expected: Option<BTreeSet<_>> = awaited.map(id).collect();
            (expected.filter(|_| told), heard())
        }
        Role::Controller => {
            let unheard = || members().filter(|c| !c.synced && !c.withdrawn);
            // A peer that nobody knows by its id may be any of those that the imports tell of.
            let ids: Option<BTreeSet<_>> = unheard().map(id).collect();
            let before = || unheard().filter_map(|candidate| candidate.hint.clone());
            let all_but =
                ids.filter(|_| told).map(|ids| Hearing::AllBut(ids.into_iter().chain(before()).collect()));
            (just_home(), all_but.unwrap_or_else(heard))
        }
    };
    let ids = |candidate: &Candidate| id(candidate).into_iter().chain(candidate.hint.clone());
    let limited = members().filter_map(|candidate| Some((candidate, candidate.accepted.as_ref()?)));
    let accepted = limited.flat_map(|(candidate, accepted)| ids(candidate).map(|id| (id, accepted.clone())));
    Announcement { home, expected, hearing, accepted: accepted.collect() }
}

#[cfg(test)]
mod tests;
