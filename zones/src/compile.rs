//! The compiler: what changed in the table becomes the next snapshot.
//!
//! Pure: time is an argument. Only services that were touched are rendered anew; all else is shared with the
//! snapshot before. The SOA serial moves only when an answer does.

use std::sync::Arc;

use crate::answers::{self, Limits};
use crate::merge::Merged;
use crate::name::ServiceName;
use crate::object::UnixTime;
use crate::policy::history::Needs;
use crate::policy::{Attached, Rules, health};
use crate::service::{Member, Reach, Service, Warning, ZoneAnswers};
use crate::snapshot::Snapshot;
use crate::table::Table;
use crate::zone::Zones;

/// When it is.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Seconds since the Unix epoch, as the machine's clock has them.
    pub wall: UnixTime,
    /// Seconds since any time, by a clock that nobody sets.
    pub steady: UnixTime,
}

impl From<UnixTime> for Now {
    /// Of a clock that is both.
    fn from(now: UnixTime) -> Self {
        Self { wall: now, steady: now }
    }
}

/// Derives the snapshot that follows `previous`; `None` when nothing changed.
///
/// The serial follows the clock where it can, so that it goes on after a restart.
pub fn compile(
    table: &mut Table,
    zones: &Arc<Zones>,
    previous: &Snapshot,
    now: impl Into<Now>,
) -> Option<Snapshot> {
    let Now { wall, steady } = now.into();
    let rebuild = previous.generation == 0 || previous.zones != *zones;
    if rebuild {
        table.touch_all();
        table.begin_checks();
    }
    table.touch_due(steady);
    table.settle();
    let mut next = if rebuild { fresh(table, zones) } else { previous.clone() };
    let (mut answers_changed, mut shown_changed) = (rebuild, false);
    if !Arc::ptr_eq(&next.places, table.places()) {
        next.places = table.places().clone();
        shown_changed = true;
        answers_changed |= next.counts.steered > 0;
    }
    if !Arc::ptr_eq(&next.standings, table.standings()) {
        next.standings = table.standings().clone();
        shown_changed = true;
    }
    if next.agents != *table.agents() {
        let ready = [&next.agents, table.agents()].map(Option::as_deref);
        let moved = matches!(ready, [Some(before), Some(now)] if !now.are_ready_where(before));
        answers_changed |= moved && next.counts.by_agent > 0;
        next.agents = table.agents().clone();
        shown_changed = true;
    }
    let variants = table.variants(zones);
    if next.variants != variants {
        next.variants = variants;
        answers_changed = true;
    }
    for (namespace, exists) in std::mem::take(&mut table.namespace_changes) {
        if !rebuild {
            if exists {
                next.hold_namespace(&namespace);
            } else {
                next.release_namespace(&namespace);
            }
        }
        answers_changed = true;
    }
    let mut changed = answers_changed || shown_changed;
    let mut replaced = Vec::new();
    for (name, merged) in table.take_pending() {
        let service = merged.map(|merged| assemble(table, zones, &name, merged, steady));
        if service.is_none() {
            table.forget_history(&name);
        }
        if next.services.get(name.wire()).map(|before| &**before) != service.as_ref() {
            changed = true;
            let before = next.services.get(name.wire()).cloned();
            table.file_checks(before.as_deref(), service.as_ref());
            let after = service.map(Arc::new);
            answers_changed |= next.replace(&name, after.as_ref());
            replaced.push([before, after]);
        }
    }
    changed |= table.follow_pods(&mut next, &replaced);
    table.end_remembering(steady);
    next.complete = table.is_complete();
    if !changed && next.complete == previous.complete {
        return None;
    }
    next.generation = previous.generation + 1;
    next.serial = if answers_changed { next_serial(previous.serial, wall) } else { previous.serial };
    Some(next)
}

/// A snapshot without services, for these zones.
fn fresh(table: &Table, zones: &Arc<Zones>) -> Snapshot {
    let mut snapshot = Snapshot::unsynced(zones.clone());
    for namespace in table.namespaces() {
        snapshot.hold_namespace(namespace);
    }
    snapshot
}

fn assemble(table: &mut Table, zones: &Zones, name: &ServiceName, merged: Merged, now: UnixTime) -> Service {
    let (ips, taken) = if merged.headless { Default::default() } else { table.addresses(name) };
    let mut service = Service {
        spec: merged.spec,
        headless: merged.headless,
        held: merged.held,
        awaited: merged.awaited,
        exported: merged.exported,
        ips: ips.into_vec().into(),
        stale: merged.members.iter().any(|member| table.is_stale(&member.cluster)),
        members: merged.members,
        conflicts: merged.conflicts,
        policy: merged.policy,
        ..Service::named(name.clone())
    };
    let rules = service.rules(service.policy.as_ref().map(|policy| &*policy.rules));
    let by_zone = zone_policies(&service, merged.by_zone);
    let all_rules = || rules.iter().chain(by_zone.iter().flatten().map(|(_, rules)| rules));
    if let Some(checked) = table.checked(&service, &all_rules().map(|rules| rules.answer).collect()) {
        service.watched().checked = Some(checked);
    }
    let needs = all_rules().map(Needs::of).fold(Needs::default(), Needs::or);
    let base = rules.clone().unwrap_or_default();
    if let Some(remembered) = table.remember(&service, &base, needs, now) {
        service.watched().remembered = Some(remembered);
    }
    let out = health::out(&service, rules.as_ref());
    if !out.is_empty() {
        service.watched().out = out;
    }
    let limits = Limits {
        origin: zones.longest_origin(),
        endpoints: zones.max_endpoints(),
        zonal: zones.zonal_names(),
    };
    let scene = table.scene(limits);
    let (answers, mut warnings) = answers::render(&service, rules.as_ref(), &scene);
    let in_zone = |(policy, rules): (Arc<Attached>, Rules)| {
        let (answers, _) = answers::render(&service, Some(&rules), &scene);
        Box::new(ZoneAnswers { policy, answers })
    };
    let by_zone = by_zone.into_iter().map(|own| own.map(in_zone)).collect();
    warnings.extend(taken.into_iter().map(|(ip, owner)| Warning::VipTaken { ip, owner }));
    warnings.extend(unreachable(&service));
    Service { answers, by_zone, warnings: warnings.into(), ..service }
}

/// What zones say of a service by policies of their own. How its endpoints are judged is the same in all zones.
fn zone_policies(
    service: &Service,
    policies: Vec<Option<Arc<Attached>>>,
) -> Vec<Option<(Arc<Attached>, Rules)>> {
    let base = service.policy.as_ref().map(|policy| &*policy.rules);
    let judges = |base: &&Rules| {
        (base.latency.is_some(), base.slow_start.is_some(), base.health_check.is_some())
            != (false, false, false)
    };
    let base = base.filter(judges);
    let rules = |policy: Arc<Attached>| {
        let policy = match base {
            None => policy,
            Some(base) => {
                Arc::new(Attached { rules: Arc::new(policy.rules.judging_as(base)), ..(*policy).clone() })
            }
        };
        let rules = service.rules(Some(&policy.rules))?;
        Some((policy, rules))
    };
    policies.into_iter().map(|policy| policy.and_then(rules)).collect()
}

/// Clusters whose endpoints no client of the home cluster gets to. Behind a gateway endpoints have no names of their own.
fn unreachable(service: &Service) -> impl Iterator<Item = Warning> {
    let lost = |member: &Member| match member.reach {
        Reach::Flat => None,
        Reach::Gateway(_) if !service.headless => None,
        Reach::Unresolved if !service.headless => {
            Some(Warning::Unresolved { cluster: member.cluster.clone() })
        }
        Reach::Gateway(_) | Reach::Unresolved | Reach::Nowhere => {
            Some(Warning::Unreachable { cluster: member.cluster.clone() })
        }
    };
    service.members.iter().filter_map(lost)
}

/// The clock if it is ahead of `previous`, else one more (RFC 1982 §3.2: ahead by less than half the space).
fn next_serial(previous: u32, now: UnixTime) -> u32 {
    let clock = (now.max(1) & i64::from(u32::MAX)) as u32;
    let ahead = clock.wrapping_sub(previous);
    if previous == 0 || (ahead != 0 && ahead < 1 << 31) { clock } else { previous.wrapping_add(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1982: serials are compared and advanced modulo 2^32.
    #[test]
    fn serials_follow_the_clock_and_never_go_back() {
        for (previous, now, next) in [
            (0, 100, 100),
            (100, 200, 200),
            (200, 200, 201),
            (201, 200, 202),
            (u32::MAX, i64::from(u32::MAX), 0),
            (u32::MAX, (1_i64 << 32) + 5, 5),
        ] {
            assert_eq!(next_serial(previous, now), next, "{previous} {now}");
        }
    }
}
