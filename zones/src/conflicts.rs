//! What the exports of one service disagree on: every difference from the oldest export is told (KEP-1645, Constraints and
//! Conflict Resolution).

use std::sync::Arc;

use crate::compact::Few;
use crate::merge::Voice;
use crate::object::{Exported, Port, SessionAffinity};
use crate::ports::union;
use crate::service::{Conflict, ConflictReason};

/// All differences, in the order of their reasons.
pub(crate) fn conflicts(voices: &[Voice<'_>]) -> Few<Conflict> {
    let Some((oldest, younger)) = voices.split_first() else {
        return Few::default();
    };
    if younger.is_empty() {
        return Few::default();
    }
    let mut found = Vec::new();
    port_conflict(voices, &mut found);
    let mut differ = |reason, what, of: &dyn Fn(&Voice<'_>) -> String| {
        let held = of(oldest);
        for voice in younger {
            let said = of(voice);
            if said != held {
                found.push(Conflict { reason, message: differs(what, oldest, &held, voice, &said) });
            }
        }
    };
    use ConflictReason as R;
    differ(R::Type, "type", &|v| if v.headless { "Headless" } else { "ClusterSetIP" }.to_owned());
    differ(R::SessionAffinity, "sessionAffinity", &|v| affinity(v).0.to_owned());
    differ(R::Labels, "exportedLabels", &|v| pairs(v, |exported| &exported.labels));
    differ(R::Annotations, "exportedAnnotations", &|v| pairs(v, |exported| &exported.annotations));
    differ(R::InternalTrafficPolicy, "internalTrafficPolicy", &|v| {
        if v.spec.internal_traffic_local { "Local" } else { "Cluster" }.to_owned()
    });
    differ(R::TrafficDistribution, "trafficDistribution", &|v| {
        v.spec.traffic_distribution.as_deref().unwrap_or("none").to_owned()
    });
    differ(R::IpFamily, "ipFamilies", &|v| families(v));
    affinity_config_conflict(oldest, younger, &mut found);
    found.sort_by(|a, b| (a.reason, &a.message).cmp(&(b.reason, &b.message)));
    found.into()
}

fn differs(what: &str, oldest: &Voice<'_>, held: &str, voice: &Voice<'_>, said: &str) -> String {
    let (older, younger) = (oldest.cluster, voice.cluster);
    format!(
        "{what}: cluster {younger} says {said}, which is ignored: the oldest export, of cluster {older}, says {held}"
    )
}

/// Keys and values.
type Pairs = [(Arc<str>, Arc<str>)];

fn pairs(voice: &Voice<'_>, of: fn(&Exported) -> &Pairs) -> String {
    let pairs = voice.export.exported.as_deref().map_or(&[][..], of);
    let list: Vec<_> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{{{}}}", list.join(", "))
}

/// Order is a preference, no conflict.
fn families(voice: &Voice<'_>) -> String {
    let mut families = voice.spec.ip_families.to_vec();
    families.sort();
    let list: Vec<_> =
        families.iter().map(|family| format!("IP{}", &format!("{family:?}").to_lowercase())).collect();
    list.join(", ")
}

fn affinity(voice: &Voice<'_>) -> (&'static str, Option<u32>) {
    match voice.spec.session_affinity {
        SessionAffinity::None => ("None", None),
        SessionAffinity::ClientIp { timeout } => ("ClientIP", Some(timeout)),
    }
}

/// Timeouts only differ where both sides have one.
fn affinity_config_conflict(oldest: &Voice<'_>, younger: &[Voice<'_>], found: &mut Vec<Conflict>) {
    let Some(held) = affinity(oldest).1 else { return };
    for voice in younger {
        if let Some(said) = affinity(voice).1.filter(|said| *said != held) {
            let message =
                differs("sessionAffinityConfig", oldest, &format!("{held} s"), voice, &format!("{said} s"));
            found.push(Conflict { reason: ConflictReason::SessionAffinityConfig, message });
        }
    }
}

/// Any cluster whose ports are not all ports is in conflict (MCS conformance: union and Conflict on both exports).
fn port_conflict(voices: &[Voice<'_>], found: &mut Vec<Conflict>) {
    let mut union = union(voices.iter().map(|voice| &*voice.spec.ports));
    union.sort_by(port_order);
    for voice in voices {
        let mut own = voice.spec.ports.to_vec();
        own.sort_by(port_order);
        if own != union {
            let list = |ports: &[Port]| ports.iter().map(port_text).collect::<Vec<_>>().join(", ");
            let message = format!(
                "ports: cluster {} has {}; the service has {}",
                voice.cluster,
                list(&own),
                list(&union)
            );
            found.push(Conflict { reason: ConflictReason::Port, message });
        }
    }
}

fn port_order(a: &Port, b: &Port) -> std::cmp::Ordering {
    let key = |p: &Port| (p.protocol, p.number);
    key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
}

fn port_text(port: &Port) -> String {
    let app = port.app_protocol.as_ref().map(|app| format!(" ({app})")).unwrap_or_default();
    format!("{} {:?}/{}{app}", port.name.as_deref().unwrap_or("unnamed"), port.protocol, port.number)
}
