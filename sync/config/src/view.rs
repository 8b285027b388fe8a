//! Where clients are: networks that the operator knows.

use ipnet::IpNet;
use portolan_zones::places::{Mapping, Place};

use crate::section::Section;

/// Networks whose place is written down.
pub(crate) fn networks(section: &mut Section<'_>) -> Vec<Mapping> {
    let networks = section.sections("networks", Vec::new(), |item| {
        let network = item.required::<IpNet>("network");
        let place = place(item)?;
        Some((network?, place))
    });
    if section.items("networks") == networks.len() {
        for (at, (network, _)) in networks.iter().enumerate() {
            if networks[..at].iter().any(|(earlier, _)| earlier == network) {
                section.problem_in("networks", at, format!("`{network}` is listed twice: remove one"));
            }
        }
    }
    let mapping = |(network, place): (IpNet, Place)| Mapping {
        network: Some((network.addr(), network.prefix_len())),
        place,
    };
    networks.into_iter().map(mapping).collect()
}

/// Where clients are, in Kubernetes' words: keys `region`, `zone` and `cluster` of `section`, of which one is given at least.
pub fn place(section: &mut Section<'_>) -> Option<Place> {
    let mut name = |key| section.optional::<String>(key).filter(|name| !name.is_empty()).map(Into::into);
    let (region, az) = (name("region"), name("zone"));
    let place = Place { cluster: section.optional("cluster"), region, az, node: None };
    if place == Place::default() && !["region", "zone", "cluster"].into_iter().any(|key| section.has(key)) {
        section.problem("region", "none of `region`, `zone` and `cluster` is given: where is it?");
    }
    (place != Place::default()).then_some(place)
}
