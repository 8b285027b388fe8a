//! Who is who among the clusters that are followed, and what the table is told of them together.
//!
//! Pure: the same candidates give the same verdicts. Two entries may turn out to be one cluster, or to have one id; then
//! one of them is followed, and a change of mind goes by way of nobody being followed, so that no word of the one is taken
//! for the other's.

use std::collections::BTreeSet;

use portolan_zones::{ClusterId, Event, Hearing};

use super::Role;

/// An entry of the configuration, as far as it is known who it is. The own cluster comes first, the others in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Candidate {
    /// Whether it is the own cluster's entry.
    pub(crate) own: bool,
    /// The UID of its namespace kube-system.
    pub(crate) uid: Option<String>,
    /// Its id, by its own word or by configuration.
    pub(crate) id: Option<ClusterId>,
    /// The id that it had when it was last heard, or would have by configuration.
    pub(crate) hint: Option<ClusterId>,
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
    /// It is not known yet who it is, or somebody else has to let go of its id first.
    Wait,
    /// Its objects are told under this id.
    Follow(ClusterId),
    /// It is the own cluster, which is followed already.
    Own,
    /// Another entry, by its position, is the same cluster or has the same id.
    Duplicate(usize),
}

/// Decides for all at once. Of several entries with one UID or one id the own cluster's is followed, else the one that
/// is followed already, else the one that had this id when it was last heard, else the first.
pub(crate) fn judge(candidates: &[Candidate]) -> Vec<Verdict> {
    let speaks = |c: &Candidate| c.id.as_ref().is_some_and(|id| c.holds.contains(id));
    let rank = |c: &Candidate| (!c.own, !speaks(c), c.hint.is_none() || c.hint != c.id);
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|at| (rank(&candidates[*at]), *at));
    let mut verdicts = vec![Verdict::Wait; candidates.len()];
    let mut taken: Vec<usize> = Vec::new();
    for at in order {
        let candidate = &candidates[at];
        let Some(id) = &candidate.id else { continue };
        let same = |other: &Candidate| {
            (other.uid.is_some() && other.uid == candidate.uid) || other.id.as_ref() == Some(id)
        };
        verdicts[at] = match taken.iter().find(|other| same(&candidates[**other])) {
            Some(other) if candidates[*other].own && candidates[*other].uid == candidate.uid => Verdict::Own,
            Some(other) => Verdict::Duplicate(*other),
            None => {
                taken.push(at);
                let held = |(i, other): (usize, &Candidate)| i != at && other.holds.contains(id);
                if candidates.iter().enumerate().any(held) {
                    Verdict::Wait
                } else {
                    Verdict::Follow(id.clone())
                }
            }
        };
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
    /// `None`: nothing but the own cluster's imports counts.
    pub(crate) hearing: Option<Hearing>,
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
        if let Some(hearing) = self.hearing.as_ref().filter(|_| self.hearing != before.hearing) {
            events.push(Event::Hear(hearing.clone()));
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
    let own = members().find(|candidate| candidate.own);
    let home = own.and_then(|own| own.id.clone());
    let heard = members().filter(|c| c.synced || c.withdrawn).filter_map(|c| c.id.clone().or(c.hint.clone()));
    let only = || Some(Hearing::Only(heard.collect()));
    let alone = own.is_some() && told && candidates.len() == 1;
    match role {
        Role::Server if alone => {
            Announcement { expected: home.clone().map(|id| [id].into()), home, hearing: None }
        }
        Role::Server => {
            let awaited = members().filter(|c| !c.withdrawn || !c.holds.is_empty());
            let expected: Option<BTreeSet<_>> = awaited.map(|c| c.id.clone().or(c.hint.clone())).collect();
            Announcement { home, expected: expected.filter(|_| told), hearing: only() }
        }
        Role::Controller => {
            let unheard = members().filter(|c| !c.synced && !c.withdrawn);
            let unheard: Option<BTreeSet<_>> = unheard.map(|c| c.id.clone().or(c.hint.clone())).collect();
            // A peer that nobody knows by its id may be any of those that the imports tell of.
            let all_but = unheard.filter(|_| told).map(Hearing::AllBut);
            let expected = home.clone().map(|id| [id].into());
            Announcement { home, expected, hearing: all_but.or_else(only) }
        }
    }
}

#[cfg(test)]
mod tests;
