//! Answers for clients who say where they are in the name: `<zone>.pin._zone.<service>…`, as CoreDNS' option `zonal` has it for
//! one cluster, here for all of them, and the same for regions.

use std::collections::BTreeMap;

use super::sets::Sets;
use super::{Group, Scene, Target, groups};
use crate::name::MAX_LABEL;
use crate::service::{Answers, Service, Zonal};

/// The endpoints of `answers`, which tell of all `targets`, by zone and by region.
pub(super) fn zonal(
    targets: &[Target<'_>],
    answers: &Answers,
    service: &Service,
    scene: &Scene<'_>,
) -> Zonal {
    let groups = groups(targets, |target| scene.clusters.place(target.cluster, target.place, target.region));
    let mut sets = Sets::new(&groups, answers, service, scene);
    let mut by = |name: fn(&Group<'_, '_>) -> Option<String>| {
        let mut places: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (at, group) in (0..).zip(&groups) {
            if let Some(name) = name(group) {
                places.entry(name).or_default().push(at);
            }
        }
        let set = |(name, chosen): (String, Vec<u32>)| Some((name.into_bytes().into(), sets.set(chosen)?));
        places.into_iter().filter_map(set).collect()
    };
    // Names compare case-insensitively (RFC 4343), and what is no label can't be asked for.
    let zones = by(|group| group.place.az.as_deref().and_then(label));
    let regions = by(|group| group.place.region.as_deref().and_then(label));
    Zonal { zones, regions, sets: sets.sets.into() }
}

fn label(name: &str) -> Option<String> {
    let fits = !name.is_empty() && name.len() <= MAX_LABEL && !name.contains('.');
    fits.then(|| name.to_ascii_lowercase())
}
