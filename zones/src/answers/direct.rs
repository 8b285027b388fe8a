//! What clients get of a service with virtual IPs who can't connect to these: what it would answer if the rules that hold said
//! `Endpoints`.

use super::{Scene, endpoints};
use crate::policy::{Form, Rules};
use crate::service::{Answers, PortRecords, Service, Special, SrvSet, Warning};

/// Names don't come and go with who asks: all that `own` has exist here, too, with or without records.
pub(super) fn direct(
    service: &Service,
    rules: Option<&Rules>,
    own: &Answers,
    scene: &Scene<'_>,
    room: usize,
) -> (Answers, Vec<Warning>) {
    let rules = rules.cloned().unwrap_or_else(|| Rules::default().for_service(service));
    let rules = Rules { answer: Form::Endpoints, ..rules };
    let (mut answers, warnings) = endpoints(service, Some(&rules), scene, room);
    if let Some(special) = &mut answers.special {
        special.absent = None;
        // Most services have no policy: what is the same for all is kept once.
        if let Some(only) = special.choices.as_ref().and_then(|choices| choices.only()).cloned() {
            (answers.own, special.choices) = (only, None);
        }
    }
    answers.special = answers.special.filter(|special| **special != Special::default());
    let mut ports = std::mem::take(&mut answers.own.ports).into_vec();
    for port in &own.own.ports {
        if let Err(at) = ports.binary_search_by(|known| known.labels.cmp(&port.labels)) {
            ports.insert(at, PortRecords { labels: port.labels.clone(), srv: SrvSet::default() });
        }
    }
    answers.own.ports = ports.into();
    (answers, warnings)
}
