//! What is said of clusters as a whole: their labels, how far away they are, and what people decide whatever probes find.

use std::sync::Arc;
use std::time::Duration;

use crate::name::{ClusterId, ServiceName};

/// Labels by key, sorted.
pub type Labels = Box<[(Arc<str>, Arc<str>)]>;

/// A ClusterPeer, as far as it is about the cluster and not about how to log in there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// The cluster that it stands for.
    pub cluster: ClusterId,
    /// `metadata.labels`: weights may be given by them.
    pub labels: Labels,
    /// Annotation `portolan.dev/state`.
    pub state: Option<State>,
    /// `status.roundTripTime`, as the home cluster's controller measures it.
    pub rtt: Option<Duration>,
}

/// What people say of endpoints, whatever their clusters and probes say. It holds until it is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// They are healthy: probes are not heeded.
    Up,
    /// They get clients only when no others are left.
    Drain,
    /// They get nobody.
    Down,
}

impl State {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Drain => "drain",
            Self::Down => "down",
        }
    }
}

impl std::str::FromStr for State {
    type Err = UnknownState;

    /// Blanks around it and capitals are no reason to send clients where nobody wants them.
    fn from_str(text: &str) -> Result<Self, UnknownState> {
        let states = [Self::Up, Self::Drain, Self::Down];
        let named = states.into_iter().find(|state| text.trim().eq_ignore_ascii_case(state.as_str()));
        named.ok_or_else(|| UnknownState(text.into()))
    }
}

/// Who decided a [`State`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decider {
    /// The configuration of this process.
    Operator,
    /// The home cluster's ClusterPeer.
    Peer,
    /// The ServiceExport.
    Export,
}

/// No [`State`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not up, drain or down")]
pub struct UnknownState(pub Box<str>);

/// A state that the operator's configuration gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Forced {
    /// Whose endpoints.
    pub cluster: ClusterId,
    /// Of which services.
    pub of: Scope,
    /// What is said of them.
    pub state: State,
}

/// Some services, for the operator's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// One.
    Service(ServiceName),
    /// All of a namespace.
    Namespace(Arc<str>),
    /// All.
    All,
}

impl Scope {
    /// Whether a service is one of them.
    pub fn holds(&self, service: &ServiceName) -> bool {
        match self {
            Self::Service(name) => name == service,
            Self::Namespace(namespace) => **namespace == *service.namespace(),
            Self::All => true,
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service {name}"),
            Self::Namespace(name) => write!(f, "namespace {name}"),
            Self::All => f.write_str("all services"),
        }
    }
}
