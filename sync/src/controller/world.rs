//! What a service's objects are judged by beyond the snapshot and the objects themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use portolan_zones::ClusterId;
use portolan_zones::object::UnixTime;

use super::memory::Ips;
use crate::vip::PoolRanges;

/// Fields that the cluster's definitions of the MCS API lack, so that its API server refuses them: `spec.ipFamilies`.
pub(super) type Lacking = BTreeSet<&'static str>;

/// What holds for all services.
#[derive(Debug, Clone)]
pub(super) struct World {
    /// The own cluster.
    pub(super) home: ClusterId,
    /// The pool that virtual IPs come from; `None`: derived Services give them.
    pub(super) pool: Option<PoolRanges>,
    /// The version of the MCS API that the own cluster serves.
    pub(super) mcs: &'static str,
    /// Fields that the own cluster's definitions lack.
    pub(super) lacking: Arc<Lacking>,
    /// Whether all configured clusters are heard: only then does an import that nobody stands behind go.
    pub(super) all_heard: bool,
    /// Now.
    pub(super) now: UnixTime,
}

/// What is known of a service beyond its objects and the snapshot.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Past {
    /// What went wrong when its objects were last written.
    pub(super) trouble: Trouble,
    /// The addresses that its import had when it was last there.
    pub(super) former: Ips,
    /// Whether an import that waits for its Service has waited long enough.
    pub(super) waited: bool,
}

/// What went wrong when this service's objects were last written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Trouble {
    /// Why the derived Service has no address.
    pub(super) vip: Option<VipTrouble>,
    /// All else, for people.
    pub(super) other: Vec<String>,
}

/// Why a derived Service was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum VipTrouble {
    #[error(
        "no virtual IP: the cluster's range of Service addresses is exhausted: delete Services, or add a ServiceCIDR"
    )]
    Exhausted,
    #[error("no virtual IP: the cluster's Services have no addresses of the service's IP family: {0}")]
    Family(String),
    #[error("no virtual IP: Service {0} exists and was not made by Portolan: delete it")]
    Foreign(String),
    #[error("no virtual IP: somebody else has the former one")]
    Taken,
    #[error("no virtual IP: {0}")]
    Refused(String),
}
