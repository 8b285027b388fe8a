//! What the table takes in, and what it wants in return.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::clusters::Hearing;
use crate::name::{ClusterId, ServiceName};
use crate::object::{ClusterEvent, IpFamily};
use crate::peers::{Forced, Labels};
use crate::places::Mapping;
use crate::policy::Configured;
use crate::policy::health::Check;

/// Something to take into the table.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// What a cluster says.
    Cluster(ClusterEvent),
    /// A cluster left the clusterset: all that it said is gone.
    Forget(ClusterId),
    /// What is known of a cluster may be out of date (its source can't be read), or no longer.
    Stale {
        /// The cluster.
        cluster: ClusterId,
        /// Whether it is.
        stale: bool,
    },
    /// The clusters that must have been read before a missing name may be denied.
    Expect(BTreeSet<ClusterId>),
    /// There are others to be read, and which is not known yet: no name may be denied.
    ExpectMore,
    /// The cluster whose clients ask: its imports' VIPs count.
    Home(Option<ClusterId>),
    /// Whose exports are heard from the clusters themselves.
    Hear(Hearing),
    /// The namespaces that exports of these clusters are accepted in; of all others, in every namespace. Neither a cluster's
    /// own words nor what home tells of it count elsewhere.
    Accept(BTreeMap<ClusterId, BTreeSet<String>>),
    /// The network that a cluster's endpoints are on: from another one they are reached through gateways.
    Network {
        /// The cluster.
        cluster: ClusterId,
        /// The network's name; empty at first, for all.
        network: Arc<str>,
    },
    /// What came of health checks: whether each is healthy.
    Checked(Vec<(Check, bool)>),
    /// The Service whose endpoints in home are node agents: virtual IPs are for clients on nodes where one is ready. `None`, as at
    /// first: they are for everybody.
    Agents(Option<ServiceName>),
    /// Where the operator says that clients are.
    Map(Box<[Mapping]>),
    /// A cluster's labels, as its own configuration has them.
    Labels {
        /// The cluster.
        cluster: ClusterId,
        /// None at first.
        labels: Labels,
    },
    /// How long it takes to get to clusters from here, of all of which that is known; it goes before what ClusterPeers say.
    RoundTrips(BTreeMap<ClusterId, Duration>),
    /// What the operator decides of endpoints, whatever others say; of two about the same the later one holds.
    Force(Box<[Forced]>),
    /// The operator's own policies; of two about the same the first one holds.
    Configure(Box<[Configured]>),
    /// Addresses that the pool gave a service; none takes them back.
    Vips {
        /// The service.
        service: ServiceName,
        /// At most one per family, in the order of the service's families.
        ips: SmallVec<[IpAddr; 2]>,
    },
}

/// A service that wants addresses of the pool, or (no families) wants none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VipDemand {
    /// The service.
    pub service: ServiceName,
    /// The families that it wants, in its order.
    pub families: SmallVec<[IpFamily; 2]>,
}
