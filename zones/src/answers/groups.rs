//! What is chosen as one, and what the engine is told of it.

use super::Target;
use crate::object::IpFamily;
use crate::peers::State;
use crate::places::Place;
use crate::policy::spread::{At, Candidate};
use crate::service::Service;

/// What is chosen as one: an endpoint, or all addresses of a gateway.
pub(crate) struct Group<'a, 's> {
    /// At least one.
    pub(crate) targets: &'a [Target<'s>],
    pub(crate) place: Place,
}

/// Puts together what is chosen as one; `place`: where each is.
pub(crate) fn groups<'a, 's>(
    targets: &'a [Target<'s>],
    place: impl Fn(&Target<'s>) -> Place,
) -> Vec<Group<'a, 's>> {
    let together = targets.chunk_by(|a, b| a.gateway && b.gateway && a.cluster == b.cluster);
    together.map(|targets| Group { place: place(&targets[0]), targets }).collect()
}

impl<'a, 's> Group<'a, 's> {
    /// As the engine takes it.
    fn candidate(&self, service: &Service) -> Candidate<'_> {
        let Target { cluster, all, ready, well, state, .. } = self.targets[0];
        let remembered = service.remembered();
        let addresses = || self.targets.iter().map(|target| target.address);
        let warmth = remembered.and_then(|r| addresses().map(|address| r.warmth(address)).max());
        let seems = well > 0 && addresses().any(|address| service.is_healthy(address));
        Candidate {
            ready: match state {
                Some(State::Down) => 0,
                None | Some(State::Drain) if well > 0 => well,
                _ => ready,
            },
            healthy: seems || state == Some(State::Up),
            warmth: warmth.unwrap_or(100),
            drained: state == Some(State::Drain),
            ..Candidate::new(cluster, self.place.at(), all, ready)
        }
    }

    /// Whether it has an address of a family.
    pub(crate) fn has(&self, family: IpFamily) -> bool {
        self.targets.iter().any(|target| IpFamily::from(target.address) == family)
    }

    /// What of it is answered: of a gateway's addresses those that are healthy, if any is.
    pub(crate) fn answered(&self, service: &Service) -> impl Iterator<Item = &'a Target<'s>> {
        let healthy = |target: &&Target<'s>| service.is_healthy(target.address);
        let any = self.targets.iter().any(|target| healthy(&target));
        self.targets.iter().filter(move |target| !any || service.is_healthy(target.address))
    }
}

/// What the engine chooses from for clients at a place: the groups in their order, then what was there lately and is gone. With
/// a family what has no address of it is not there, and of what is gone as much as of what is.
pub(crate) fn candidates<'g>(
    service: &'g Service,
    groups: &'g [Group<'_, '_>],
    client: &At<'_>,
    family: Option<IpFamily>,
) -> Vec<Candidate<'g>> {
    let remembered = service.remembered();
    let gone = remembered.into_iter().flat_map(|remembered| &remembered.gone).filter_map(|(place, count)| {
        let at = place.at();
        let member = service.members.iter().find(|member| Some(&member.cluster) == at.cluster)?;
        let drained = match member.state() {
            Some(State::Down) => return None,
            state => state == Some(State::Drain),
        };
        Some(Candidate { gone: true, drained, ..Candidate::new(&member.cluster, at, *count, 0) })
    });
    let mut candidates: Vec<_> = groups.iter().map(|group| group.candidate(service)).chain(gone).collect();
    if let Some(remembered) = remembered.filter(|remembered| remembered.is_for(client)) {
        for candidate in &mut candidates {
            candidate.band = remembered.band(candidate.cluster);
        }
    }
    if let Some(family) = family {
        keep(&mut candidates, groups, family);
    }
    candidates
}

/// Only what has addresses of a family.
fn keep(candidates: &mut [Candidate<'_>], groups: &[Group<'_, '_>], family: IpFamily) {
    let there = |candidates: &[Candidate<'_>]| {
        candidates.iter().filter(|candidate| !candidate.gone).map(|c| u64::from(c.all)).sum::<u64>()
    };
    let before = there(candidates);
    for (candidate, _) in candidates.iter_mut().zip(groups).filter(|(_, group)| !group.has(family)) {
        (candidate.all, candidate.ready) = (0, 0);
    }
    let left = there(candidates);
    for candidate in candidates.iter_mut().filter(|candidate| candidate.gone) {
        candidate.all = (u64::from(candidate.all) * left / before.max(1)) as u32;
    }
}
