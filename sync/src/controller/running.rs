//! Starts the controller: clusters are followed into a table of its own, and whoever leads writes what follows from it.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use portolan_zones::peers::Forced;
use portolan_zones::policy::Configured;
use portolan_zones::policy::explain::{Evidence, Witness};
use portolan_zones::{Event, ServiceName, Zones};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::apply::Writer;
use super::brake::Brake;
use super::contests::Contests;
use super::election::{Election, Leadership, LeaseTimes};
use super::gateway::{self, Both, GatewayConfig, GatewaySeen, GatewayStatus};
use super::judgement::Clusters;
use super::memory::{self, Memory};
use super::observed::Observed;
use super::progress::WriteStatus;
use super::reconcile::Reconciler;
use super::{freshness, peer_status, policy_status, rivals};
use crate::kubernetes::backoff::{Backoff, chance};
use crate::kubernetes::peers::{ClusterPeers, OwnSources, PeerList, PeerSources, Peers};
use crate::kubernetes::{ClusterState, Followers, OwnConfig, PeerConfig, Role};
use crate::owner::{Message, Owner, OwnerStatus};
use crate::probing::{ProbeBudget, Probing, RoundTrips};
use crate::publish::Snapshots;
use crate::run::StartError;
use crate::status::{Status, heard};
use crate::{PoolConfig, vip::PoolRanges};

/// Workers of the runtime, beside the table's own thread.
const WORKERS: usize = 2;
/// How long the end may take, when the API server does not answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the controller works with.
#[derive(Debug, Clone)]
pub struct ControllerConfig {
    /// The cluster that is written to.
    pub own: OwnConfig,
    /// Other clusters, beside those that the own cluster's objects name.
    pub peers: Vec<PeerConfig>,
    /// Where virtual IPs come from.
    pub vips: VipMode,
    /// What the Lease says about who leads: unique, also among restarts.
    pub identity: String,
    /// Whether ClusterPeers name clusters.
    pub cluster_peers: bool,
    /// The namespace whose ClusterProfiles name clusters; `None`: none do.
    pub cluster_profiles: Option<String>,
    /// How long leading takes.
    pub lease: LeaseTimes,
    /// What health checks may cost.
    pub probes: ProbeBudget,
    /// The operator's own policies; of two about the same the first one holds. Copies tell what came of their health checks.
    pub policies: Box<[Configured]>,
    /// What the operator decides of endpoints; of two about the same the later one holds.
    pub forced: Box<[Forced]>,
    /// The Service of the node agents that virtual IPs need, as explanations tell what clients get; `None`: they need none.
    pub agents: Option<ServiceName>,
    /// The gateway that exports without one of their own share.
    pub gateway: GatewayConfig,
    /// What decides how long names may be.
    pub zones: Arc<Zones>,
}

/// Where virtual IPs come from.
#[derive(Debug, Clone, PartialEq)]
pub enum VipMode {
    /// From a derived Service for each import, which kube-proxy connects.
    Service,
    /// From a pool of ours.
    Pool(PoolConfig),
}

/// How the controller is.
#[derive(Debug, Clone, Default)]
pub struct ControllerStatus {
    /// The clusters, and the table.
    pub clusters: Status,
    /// The writing.
    pub writing: WriteStatus,
    /// Requests so far, by kind and verb (`apply`, `delete`).
    pub writes: BTreeMap<(&'static str, &'static str), u64>,
    /// How many of them were refused or not answered.
    pub failed: u64,
    /// What is wrong with the clusters' configuration.
    pub peer_problems: Vec<String>,
    /// The gateway that exports without one of their own share.
    pub gateway: GatewayStatus,
}

/// A controller that runs. Dropping it stops it, which waits for what is under way: not in an async context.
pub struct RunningController {
    /// `None`: stopped.
    runtime: Option<Runtime>,
    probing: Probing,
    owner: Owner,
    /// `None`: stopped.
    followers: Option<Arc<Followers>>,
    supervisor: Option<JoinHandle<()>>,
    end: CancellationToken,
    shared: Shared,
}

/// What the parts share.
#[derive(Clone)]
struct Shared {
    configured: watch::Sender<Vec<PeerConfig>>,
    states: watch::Sender<Arc<[ClusterState]>>,
    list: watch::Sender<Arc<PeerList>>,
    cluster_peers: watch::Sender<Arc<ClusterPeers>>,
    status: Arc<Mutex<WriteStatus>>,
    gateway: Arc<Mutex<GatewayStatus>>,
    rivals: watch::Sender<Option<String>>,
    writer: Arc<Writer>,
}

/// Starts to follow and to stand for election.
pub fn start_controller(config: ControllerConfig) -> Result<RunningController, StartError> {
    let pool = match &config.vips {
        VipMode::Service => None,
        VipMode::Pool(pool) => Some(pool.clone()),
    };
    if let Some(pool) = &pool {
        pool.ranges.check()?;
    }
    let ranges = pool.as_ref().map(|pool| pool.ranges.clone());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("kubernetes")
        .enable_all()
        .build()?;
    let owner = Owner::start(config.zones.clone(), pool)?;
    let decided = decided(&config.policies, &config.forced, config.agents.clone());
    // An owner that just began hears this.
    let _ = owner.sender().send(Message::Events(decided));
    let shared = Shared {
        configured: watch::Sender::new(config.peers.clone()),
        states: watch::Sender::new(Arc::from([])),
        list: watch::Sender::default(),
        cluster_peers: watch::Sender::default(),
        status: Arc::default(),
        gateway: Arc::default(),
        rivals: watch::Sender::default(),
        writer: Arc::new(Writer::new(config.own.access.clone())),
    };
    let told = owner.sender();
    let tell = move |events| told.send(Message::Events(events)).is_ok();
    let probing = Probing::start(owner.checks(), config.probes, tell)?;
    let end = CancellationToken::new();
    let observed = Arc::new(Observed::default());
    let table = owner.sender();
    let feed = move |events| table.send(Message::Events(events)).is_ok();
    let behind = Arc::new(GatewaySeen::new(&config.own.namespace));
    let (handle, tap) = (runtime.handle(), Arc::new(Both(observed.clone(), behind.clone())));
    let followers =
        Followers::start(handle, Role::Controller, Some(config.own.clone()), None, Some(tap), feed)?;
    let followers = Arc::new(followers);
    let supervisor = Supervisor {
        config,
        ranges,
        shared: shared.clone(),
        observed,
        behind,
        table: owner.shown(),
        round_trips: probing.round_trips(),
        end: end.clone(),
    };
    let supervisor = runtime.spawn(supervisor.run(followers.clone(), owner.snapshots(), owner.generations()));
    Ok(RunningController {
        runtime: Some(runtime),
        probing,
        owner,
        followers: Some(followers),
        supervisor: Some(supervisor),
        end,
        shared,
    })
}

impl RunningController {
    /// Where the merged services are, as they would be answered.
    pub fn snapshots(&self) -> Snapshots {
        self.owner.snapshots()
    }

    /// How everything is.
    pub fn status(&self) -> ControllerStatus {
        let shared = &self.shared;
        let list = shared.list.borrow().clone();
        let named = list.problems.iter().map(|problem| format!("{}: {}", problem.name, problem.text));
        let (writes, failed) = shared.writer.counts();
        ControllerStatus {
            clusters: Status {
                kubernetes: shared.states.borrow().to_vec(),
                owner: self.owner.status(),
                probes: self.probing.status(),
                ..Status::default()
            },
            writing: shared.status.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            writes,
            failed,
            gateway: shared.gateway.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            peer_problems: list.source_problems.iter().cloned().chain(named).collect(),
        }
    }

    /// Who knows how old is what is known of clusters, and what came of checks. It waits for nobody.
    pub fn witness(&self) -> Witness {
        let (states, probed) = (self.shared.states.subscribe(), self.probing.evidence());
        Witness::new(move |clusters, checks| {
            let states = states.borrow().clone();
            Evidence { heard: heard(clusters, &[], &states), probed: probed(checks) }
        })
    }

    /// Follows other clusters, beside those that the own cluster's objects name.
    pub fn set_peers(&mut self, peers: Vec<PeerConfig>) {
        self.shared.configured.send_if_modified(|before| {
            let differs = *before != peers;
            *before = peers;
            differs
        });
    }

    /// Whom to tell other words of the operator.
    pub fn decisions(&self) -> Decisions {
        Decisions(self.owner.sender())
    }

    /// Finishes what is under way, and gives the Lease back. Not in an async context.
    pub fn stop(mut self) {
        self.halt();
    }

    fn halt(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        self.end.cancel();
        if let Some(supervisor) = self.supervisor.take() {
            let _ = runtime.block_on(async { tokio::time::timeout(PATIENCE, supervisor).await });
        }
        // Nobody else has it now, so that it ends here, before the table that it feeds.
        drop(self.followers.take());
        runtime.shutdown_timeout(Duration::from_secs(1));
        self.probing.stop();
        self.owner.stop();
    }
}

/// Takes the operator's words over, whoever holds the controller meanwhile.
pub struct Decisions(SyncSender<Message>);

impl Decisions {
    /// These hold from now on. It waits while the table has much to read: not in an async context.
    pub fn set(&self, policies: &[Configured], forced: &[Forced], agents: Option<ServiceName>) {
        // Equal ones are no news to the table; an owner that is gone needs none.
        let _ = self.0.send(Message::Events(decided(policies, forced, agents)));
    }
}

fn decided(policies: &[Configured], forced: &[Forced], agents: Option<ServiceName>) -> Vec<Event> {
    vec![Event::Configure(policies.into()), Event::Force(forced.into()), Event::Agents(agents)]
}

impl Drop for RunningController {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Keeps the parts together.
struct Supervisor {
    config: ControllerConfig,
    ranges: Option<PoolRanges>,
    shared: Shared,
    observed: Arc<Observed>,
    /// What the shared gateway depends on.
    behind: Arc<GatewaySeen>,
    table: Arc<Mutex<OwnerStatus>>,
    round_trips: watch::Receiver<Arc<RoundTrips>>,
    end: CancellationToken,
}

impl Supervisor {
    async fn run(self, followers: Arc<Followers>, snapshots: Snapshots, generations: watch::Receiver<u64>) {
        let relay = tokio::spawn(relay(followers.states(), self.shared.states.clone()));
        let end = self.end.clone();
        if let Some(client) = end.run_until_cancelled(self.client()).await {
            let election =
                Election::start(self.leases(&client), self.config.identity.clone(), self.config.lease);
            let leadership = election.leadership();
            let companions = self.companions(&client, &leadership, &followers);
            let reconciler = Reconciler {
                snapshots,
                observed: self.observed.clone(),
                writer: self.shared.writer.clone(),
                leadership,
                clusters: Clusters {
                    list: self.shared.list.subscribe(),
                    states: self.shared.states.subscribe(),
                },
                all_heard: AtomicBool::new(false),
                pool: self.ranges.clone(),
                status: self.shared.status.clone(),
                rivals: self.shared.rivals.subscribe(),
                memory: Memory::new(memory::HOLD),
                brake: Brake::default(),
                contests: Contests::default(),
                end,
            };
            reconciler.run(generations).await;
            companions.iter().for_each(JoinHandle::abort);
            for companion in companions {
                let _ = companion.await;
            }
            election.stop().await;
        }
        relay.abort();
    }

    /// What runs beside the writing, until it is aborted.
    fn companions(
        &self,
        client: &Client,
        leadership: &Leadership,
        followers: &Arc<Followers>,
    ) -> Vec<JoinHandle<()>> {
        let (client, leadership) = (client.clone(), leadership.clone());
        let (list, states) = (self.shared.list.subscribe(), self.shared.states.subscribe());
        let (peers, times) = (self.shared.cluster_peers.subscribe(), self.round_trips.clone());
        let namespace = self.config.own.namespace.clone();
        let sources = self.sources(&client);
        let fresh = {
            let (client, list, states, leadership) =
                (client.clone(), list.clone(), states.clone(), leadership.clone());
            async move { freshness::keep(client, &namespace, list, states, leadership).await }
        };
        let rivals =
            rivals::watch(client.clone(), self.config.own.namespace.clone(), self.shared.rivals.clone());
        let policies =
            policy_status::keep(client.clone(), states.clone(), self.table.clone(), leadership.clone());
        let gateway = gateway::keep(
            client.clone(),
            self.config.own.namespace.clone(),
            self.config.gateway.clone(),
            self.behind.clone(),
            leadership.clone(),
            self.shared.gateway.clone(),
        );
        vec![
            tokio::spawn(gateway),
            tokio::spawn(rivals),
            tokio::spawn(policies),
            tokio::spawn(follow_peers(sources, self.shared.clone(), followers.clone())),
            tokio::spawn(fresh),
            tokio::spawn(peer_status::keep(client, peers, list, states, times, leadership)),
        ]
    }

    fn sources(&self, client: &Client) -> impl Fn(Vec<PeerConfig>) -> PeerSources + Send + Sync + use<> {
        let own = (
            client.clone(),
            self.config.own.namespace.clone(),
            self.config.cluster_peers,
            self.config.cluster_profiles.clone(),
        );
        move |configured| {
            let (client, namespace, cluster_peers, cluster_profiles) = own.clone();
            PeerSources {
                configured,
                own: Some(OwnSources { client, namespace, cluster_peers, cluster_profiles }),
            }
        }
    }

    fn leases(&self, client: &Client) -> Api<Lease> {
        Api::namespaced(client.clone(), &self.config.own.namespace)
    }

    /// The own cluster's client; credentials that are not there yet are waited for.
    async fn client(&self) -> Client {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            match self.config.own.access.client().await {
                Ok(client) => return client,
                Err(error) => {
                    tracing::warn!("the own cluster can't be written to: {error}");
                    let text = Some(error.to_string());
                    self.shared.status.lock().unwrap_or_else(PoisonError::into_inner).unreachable = text;
                }
            }
            tokio::time::sleep(backoff.next(chance())).await;
        }
    }
}

/// Has those clusters followed that are named, as they are named.
async fn follow_peers(
    sources: impl Fn(Vec<PeerConfig>) -> PeerSources,
    shared: Shared,
    followers: Arc<Followers>,
) {
    let mut configured = shared.configured.subscribe();
    let mut known = false;
    loop {
        let peers = Peers::follow(sources(configured.borrow_and_update().clone()));
        let (mut list, mut objects) = (peers.list(), peers.cluster_peers());
        loop {
            let now = list.borrow_and_update().clone();
            // A list that is begun anew names nobody at first: nobody is gone for that.
            if now.complete || !known {
                known |= now.complete;
                followers.set(now.peers.clone(), now.complete);
                shared.list.send_replace(now);
            }
            shared.cluster_peers.send_replace(objects.borrow_and_update().clone());
            tokio::select! {
                Ok(()) = list.changed() => {}
                Ok(()) = objects.changed() => {}
                changed = configured.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                else => return,
            }
        }
    }
}

async fn relay<T: Clone>(mut from: watch::Receiver<T>, to: watch::Sender<T>) {
    loop {
        to.send_replace(from.borrow_and_update().clone());
        if from.changed().await.is_err() {
            return;
        }
    }
}
