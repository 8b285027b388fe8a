//! Conditions of ServiceImports and ServiceExports (MCS API v1beta1).

use portolan_zones::object::{ServiceKind, UnixTime};
use portolan_zones::service::{Conflict, ConflictReason};
use serde::{Deserialize, Serialize};

/// What the API server takes, less a margin (`maxLength: 32768`).
const LONGEST: usize = 32_000;

/// A condition as it stands in a status.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Condition {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) reason: String,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) observed_generation: Option<i64>,
    pub(super) last_transition_time: String,
}

/// A condition as it is wanted: when it came to be so depends on what there was before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) kind: &'static str,
    pub(super) holds: bool,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) generation: Option<i64>,
}

impl Verdict {
    fn new(kind: &'static str, holds: bool, reason: &str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|at| message.is_char_boundary(*at)).unwrap_or_default();
            message.truncate(end);
            message.push('…');
        }
        Self { kind, holds, reason: reason.to_owned(), message, generation: None }
    }

    fn status(&self) -> &'static str {
        if self.holds { "True" } else { "False" }
    }

    /// Whether this is what stands there already.
    pub(super) fn is_in(&self, conditions: &[Condition]) -> bool {
        conditions.iter().any(|c| {
            c.kind == self.kind
                && c.status == self.status()
                && c.reason == self.reason
                && c.message == self.message
                // Definitions of the MCS API before v0.2 don't keep it.
                && (c.observed_generation.is_none() || c.observed_generation == self.generation)
        })
    }

    /// The condition to write: its time is that of the last change of its status.
    pub(super) fn after(&self, before: &[Condition], now: UnixTime) -> Condition {
        let same = before.iter().find(|c| c.kind == self.kind && c.status == self.status());
        let time = || jiff::Timestamp::from_second(now).unwrap_or_default().to_string();
        Condition {
            kind: self.kind.to_owned(),
            status: self.status().to_owned(),
            reason: self.reason.clone(),
            message: self.message.clone(),
            observed_generation: self.generation,
            last_transition_time: same.map_or_else(time, |c| c.last_transition_time.clone()),
        }
    }
}

/// ServiceImport `Ready`: it can be used here.
pub(super) fn import_ready(message: impl Into<String>) -> Verdict {
    Verdict::new("Ready", true, "Ready", message)
}

/// ServiceImport not `Ready`.
pub(super) fn import_waits(reason: &'static str, message: impl Into<String>) -> Verdict {
    Verdict::new("Ready", false, reason, message)
}

/// What is to be said of an export of the own cluster.
pub(super) struct ExportCase<'a> {
    /// `metadata.generation`.
    pub(super) generation: Option<i64>,
    /// The Service of its name.
    pub(super) service: Option<ServiceKind>,
    /// Whether the merged service has it.
    pub(super) merged: bool,
    /// What the exports disagree on.
    pub(super) conflicts: &'a [Conflict],
    /// Condition `Conflict` as it stands, when not all exports are known.
    pub(super) held: Option<&'a Condition>,
    /// What keeps the own cluster from using it: other clusters may.
    pub(super) here: Option<String>,
}

/// `Valid`, `Ready` and, for a valid export, `Conflict`.
pub(super) fn of_export(case: &ExportCase<'_>) -> Vec<Verdict> {
    let invalid = match case.service {
        None => Some(("NoService", "there is no Service of this name: create it, or delete the export")),
        Some(ServiceKind::ExternalName) => Some((
            "InvalidServiceType",
            "a Service of type ExternalName can't be exported: it has no endpoints (KEP-1645)",
        )),
        Some(ServiceKind::ClusterIp | ServiceKind::Headless) => None,
    };
    let mut verdicts = match invalid {
        Some((reason, message)) => vec![
            Verdict::new("Valid", false, reason, message),
            Verdict::new(
                "Ready",
                false,
                "Pending",
                case.here.as_deref().unwrap_or("the export is not valid"),
            ),
        ],
        None => vec![
            Verdict::new("Valid", true, "Valid", "the Service can be exported"),
            ready(case),
            case.held.map_or_else(|| conflict(case.conflicts), as_it_stands),
        ],
    };
    verdicts.iter_mut().for_each(|verdict| verdict.generation = case.generation);
    verdicts
}

/// Clusters take what others export, none is sent anything: reason `Ready` (MCS API v1beta1).
fn ready(case: &ExportCase<'_>) -> Verdict {
    match &case.here {
        _ if !case.merged => {
            Verdict::new("Ready", false, "Pending", "the export and its Service are not taken in yet")
        }
        Some(trouble) => {
            let message = format!("other clusters can take the export; in this one: {trouble}");
            Verdict::new("Ready", true, "Ready", message)
        }
        None => Verdict::new("Ready", true, "Ready", "the clusters of the clusterset can take the export"),
    }
}

fn as_it_stands(condition: &Condition) -> Verdict {
    Verdict::new("Conflict", condition.status == "True", &condition.reason, &*condition.message)
}

/// Every reason once, in the API's order; every conflict in the message (KEP-1645, on all conflicting exports).
fn conflict(conflicts: &[Conflict]) -> Verdict {
    if conflicts.is_empty() {
        return Verdict::new("Conflict", false, "NoConflicts", "all exports of the service agree");
    }
    let mut reasons: Vec<_> = conflicts.iter().map(|conflict| conflict.reason).collect();
    reasons.sort();
    reasons.dedup();
    let reasons: Vec<_> = reasons.into_iter().map(ConflictReason::as_str).collect();
    let messages: Vec<_> = conflicts.iter().map(|conflict| &*conflict.message).collect();
    Verdict::new("Conflict", true, &reasons.join(","), messages.join("; "))
}
