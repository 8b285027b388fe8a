//! How a controller's writing goes, as `/status` and `/metrics` have it.

use portolan_sync::controller::ControllerStatus;
use serde::Serialize;

/// How the writing goes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ControllerState {
    /// Whether this process writes.
    pub leading: bool,
    /// Services that wait to be written.
    pub queue: usize,
    /// Requests that should change something, since the start.
    pub requests: Vec<Requests>,
    /// How many of them came to nothing.
    pub failed: u64,
    /// Services that can't be written.
    pub failing: usize,
    /// Services that get no virtual IP, for the range has none left.
    pub exhausted: usize,
    /// Objects of others where the controller's should be.
    pub foreign: usize,
    /// Why nothing at all can be written.
    pub unreachable: Option<String>,
    /// The gateway that exports without one of their own share.
    pub gateway: GatewayState,
    /// All that keeps something from being written, and all that is wrong with the list of peers.
    pub problems: Vec<String>,
}

/// How the shared gateway is.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct GatewayState {
    /// Whether there is a Service for it.
    pub installed: bool,
    /// Where peers reach it.
    pub at: Vec<String>,
    /// How many ports have numbers.
    pub ports: usize,
    /// How many get none.
    pub refused: usize,
}

/// Requests of one sort.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Requests {
    /// Of this kind of object.
    pub kind: &'static str,
    /// `apply` or `delete`.
    pub verb: &'static str,
    /// So many.
    pub count: u64,
}

impl From<ControllerStatus> for ControllerState {
    fn from(status: ControllerStatus) -> Self {
        let requests =
            status.writes.iter().map(|((kind, verb), count)| Requests { kind, verb, count: *count });
        let writing = &status.writing;
        let unlisted = writing.failure_count.saturating_sub(writing.failures.len());
        let problems = writing
            .unreachable
            .iter()
            .map(|why| format!("nothing can be written: {why}"))
            .chain(writing.notices.iter().cloned())
            .chain(status.peer_problems.iter().cloned())
            .chain(status.gateway.refused.iter().chain(&status.gateway.problems).cloned())
            .chain(writing.failures.iter().map(|(service, why)| format!("{service} can't be written: {why}")))
            .chain((unlisted > 0).then(|| format!("{unlisted} more services can't be written")))
            .chain(writing.exhausted.iter().map(|service| format!("{service}: no virtual IP is left for it")))
            .chain(writing.foreign.iter().cloned());
        Self {
            leading: writing.leader,
            queue: writing.queue,
            requests: requests.collect(),
            failed: status.failed,
            failing: writing.failure_count,
            exhausted: writing.exhausted_count,
            foreign: writing.foreign_count,
            unreachable: writing.unreachable.clone(),
            gateway: GatewayState {
                installed: status.gateway.installed,
                at: status.gateway.at.clone(),
                ports: status.gateway.ports,
                refused: status.gateway.refused.len(),
            },
            problems: problems.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use portolan_sync::controller::{GatewayStatus, WriteStatus};

    use super::*;

    #[test]
    fn all_that_is_in_the_way_is_listed() {
        let writing = WriteStatus {
            leader: true,
            queue: 3,
            failures: vec![("shop/cart".into(), "denied".into())],
            failure_count: 5,
            exhausted: vec!["shop/db".into()],
            exhausted_count: 1,
            foreign: vec!["somebody else's import shop/x".into()],
            foreign_count: 1,
            notices: vec!["another controller leads".into()],
            unreachable: Some("connection refused".into()),
        };
        let status = ControllerStatus {
            writing,
            writes: [(("ServiceImport", "apply"), 4)].into(),
            failed: 2,
            peer_problems: vec!["west: its Secret is missing".into()],
            gateway: GatewayStatus {
                ports: 7,
                refused: vec!["shop/db:80/TCP: no port".into()],
                problems: vec!["shared gateway: denied".into()],
                ..GatewayStatus::default()
            },
            ..ControllerStatus::default()
        };
        let state = ControllerState::from(status);
        assert_eq!((state.leading, state.queue, state.failed, state.requests[0].count), (true, 3, 2, 4));
        assert_eq!((state.gateway.ports, state.gateway.refused), (7, 1));
        assert_eq!((state.failing, state.exhausted, state.foreign), (5, 1, 1));
        let expected = [
            "nothing can be written: connection refused",
            "another controller leads",
            "west: its Secret is missing",
            "shop/db:80/TCP: no port",
            "shared gateway: denied",
            "shop/cart can't be written: denied",
            "4 more services can't be written",
            "shop/db: no virtual IP is left for it",
            "somebody else's import shop/x",
        ];
        assert_eq!(state.problems, expected);
    }
}
