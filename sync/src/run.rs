//! Puts the parts together: sources feed the owner of the table, which publishes snapshots.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use portolan_zones::object::UnixTime;
use portolan_zones::peers::Forced;
use portolan_zones::places::Mapping;
use portolan_zones::policy::Configured;
use portolan_zones::policy::explain::{Evidence, Witness};
use portolan_zones::{ClusterId, Event, ServiceName, Snapshot, Zones};

use crate::joint::{Joint, Side};
use crate::kubernetes::KubernetesConfig;
use crate::manifest::watch::Watch;
use crate::manifest::{self, ClusterSource, Problem, Severity};
use crate::owner::{Message, Owner, OwnerStatus, PoolConfig, compile_once};
use crate::probing::{ProbeBudget, Probing};
use crate::publish::{Generations, Snapshots};
use crate::servers::{Servers, States};
use crate::status::{SourceStatus, Status, heard};
use crate::vip::VipError;

/// What feeds the snapshot, and how it is compiled.
#[derive(Debug, Clone)]
pub struct Config {
    /// The clusters. Names are denied (NXDOMAIN) only after all of them have been read once.
    pub clusters: Vec<ClusterSource>,
    /// More clusters, from their API servers.
    pub kubernetes: KubernetesConfig,
    /// The cluster whose imports' virtual IPs count.
    pub home: Option<ClusterId>,
    /// Where clients are, as the operator says.
    pub places: Box<[Mapping]>,
    /// The operator's own policies; of two about the same the first one holds.
    pub policies: Box<[Configured]>,
    /// What the operator decides of endpoints; of two about the same the later one holds.
    pub forced: Box<[Forced]>,
    /// Virtual IPs of our own; `None`: only imports have some.
    pub pool: Option<PoolConfig>,
    /// The Service whose endpoints in home are node agents: virtual IPs are for clients on nodes where one is ready. `None`: for
    /// everybody.
    pub agents: Option<ServiceName>,
    /// What health checks may cost. A change needs a restart.
    pub probes: ProbeBudget,
    /// The zones to answer.
    pub zones: Arc<Zones>,
}

/// Why nothing was started, or changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The pool overlaps somebody else's.
    #[error(transparent)]
    Pool(#[from] VipError),
    /// The system refuses a thread.
    #[error("no thread could be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Starts to read and to watch. The first snapshot says that nothing is known yet.
pub fn start(config: Config) -> Result<Running, StartError> {
    check(config.pool.as_ref())?;
    let owner = Owner::start(config.zones.clone(), config.pool.clone())?;
    let sources = Arc::<Mutex<Vec<SourceStatus>>>::default();
    let shown = sources.clone();
    let joint = Arc::new(Mutex::new(Joint::new(!config.kubernetes.is_empty())));
    // An owner ends only after its sources, so it hears this.
    let first = vec![
        Event::Home(config.home.clone()),
        Event::Map(config.places.clone()),
        Event::Configure(config.policies.clone()),
        Event::Force(config.forced.clone()),
        Event::Agents(config.agents.clone()),
    ];
    let _ = owner.sender().send(Message::Events(first));
    let show = move |status| *shown.lock().unwrap_or_else(PoisonError::into_inner) = status;
    let watch = Watch::start(config.clusters.clone(), feed(&owner, &joint, Side::Manifests), show)?;
    let table = owner.sender();
    let tell = move |events| table.send(Message::Events(events)).is_ok();
    let probing = Probing::start(owner.checks(), config.probes, tell)?;
    let followed = Arc::default();
    let mut running = Running { watch, servers: None, followed, probing, owner, config, sources, joint };
    if !running.config.kubernetes.is_empty() {
        running.servers = Some(running.follow(&running.config.kubernetes)?);
    }
    Ok(running)
}

/// Tells the table what one side says. Both take turns, so that what they say together is told in order.
fn feed(
    owner: &Owner,
    joint: &Arc<Mutex<Joint>>,
    side: Side,
) -> impl FnMut(Vec<Event>) -> bool + Send + use<> {
    let (table, joint) = (owner.sender(), joint.clone());
    move |events| {
        let mut joint = joint.lock().unwrap_or_else(PoisonError::into_inner);
        table.send(Message::Events(joint.pass(side, events))).is_ok()
    }
}

/// What was started. Dropping it stops it.
pub struct Running {
    watch: Watch,
    /// `None`: no API server was ever configured.
    servers: Option<Servers>,
    /// How the clusters are that `servers` follow, once there are some.
    followed: Arc<OnceLock<States>>,
    probing: Probing,
    owner: Owner,
    config: Config,
    sources: Arc<Mutex<Vec<SourceStatus>>>,
    joint: Arc<Mutex<Joint>>,
}

impl Running {
    /// Where readers load the newest snapshot from.
    pub fn snapshots(&self) -> Snapshots {
        self.owner.snapshots()
    }

    /// Changes with every snapshot that is published.
    pub fn generations(&self) -> Generations {
        self.owner.generations()
    }

    /// Whether every source was tried, and what could be read is in the snapshot: what can't be read now may never be.
    pub fn has_read_clusters(&self) -> bool {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        self.snapshots().load().complete || sources.iter().any(|source| !source.synced)
    }

    /// How sources, pool and exports are.
    pub fn status(&self) -> Status {
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let kubernetes = self.followed.get().map_or_else(Vec::new, States::now);
        Status { sources, kubernetes, owner: self.owner.status(), probes: self.probing.status() }
    }

    /// Who knows how old is what is known of clusters, and what came of checks. It waits for nobody, not even while other
    /// settings are taken over.
    pub fn witness(&self) -> Witness {
        let (sources, followed) = (self.sources.clone(), self.followed.clone());
        let probed = self.probing.evidence();
        Witness::new(move |clusters, checks| {
            let sources = sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let kubernetes = followed.get().map_or_else(Vec::new, States::now);
            Evidence { heard: heard(clusters, &sources, &kubernetes), probed: probed(checks) }
        })
    }

    /// Takes other settings over without losing what is known: clusters that stay are not read again.
    pub fn reconfigure(&mut self, config: Config) -> Result<(), StartError> {
        check(config.pool.as_ref())?;
        let mut messages = Vec::new();
        if self.config.zones != config.zones {
            messages.push(Message::Zones(config.zones.clone()));
        }
        if self.config.pool != config.pool {
            messages.push(Message::Pool(config.pool.clone()));
        }
        // The own cluster says itself which one it is.
        let home = |config: &Config| config.kubernetes.own.is_none().then(|| config.home.clone());
        if let Some(new) = home(&config).filter(|new| home(&self.config).as_ref() != Some(new)) {
            messages.push(Message::Events(vec![Event::Home(new)]));
        }
        if self.config.places != config.places {
            messages.push(Message::Events(vec![Event::Map(config.places.clone())]));
        }
        if self.config.policies != config.policies {
            messages.push(Message::Events(vec![Event::Configure(config.policies.clone())]));
        }
        if self.config.forced != config.forced {
            messages.push(Message::Events(vec![Event::Force(config.forced.clone())]));
        }
        if self.config.agents != config.agents {
            messages.push(Message::Events(vec![Event::Agents(config.agents.clone())]));
        }
        if self.servers.is_some() && self.config.kubernetes != config.kubernetes {
            // First, so that no name is denied for want of those whom the former settings knew.
            let mut joint = self.joint.lock().unwrap_or_else(PoisonError::into_inner);
            messages.insert(0, Message::Events(joint.begin_kubernetes()));
        }
        for message in messages {
            // The owner ends only when it is told to, by `stop`.
            let _ = self.owner.sender().send(message);
        }
        if self.config.kubernetes != config.kubernetes {
            match &self.servers {
                Some(servers) => servers.reconfigure(config.kubernetes.clone()),
                None => {
                    // What is followed is told after this, or not at all.
                    let mut joint = self.joint.lock().unwrap_or_else(PoisonError::into_inner);
                    let servers = self.follow(&config.kubernetes)?;
                    let _ = self.owner.sender().send(Message::Events(joint.begin_kubernetes()));
                    drop(joint);
                    self.servers = Some(servers);
                }
            }
        }
        // Last, so that what takes the place of clusters that go is expected before they do.
        if self.config.clusters != config.clusters {
            self.watch.reconfigure(config.clusters.clone());
        }
        self.config = config;
        Ok(())
    }

    fn follow(&self, config: &KubernetesConfig) -> Result<Servers, StartError> {
        let servers = Servers::start(config.clone(), feed(&self.owner, &self.joint, Side::Kubernetes))?;
        // Once there are some, they are told what else to follow.
        let _ = self.followed.set(servers.shown());
        Ok(servers)
    }

    /// Ends all threads; what is to be remembered is written first.
    pub fn stop(mut self) {
        self.end();
    }

    /// Sources end before the owner that they feed.
    fn end(&mut self) {
        self.watch.stop();
        if let Some(servers) = &mut self.servers {
            servers.stop();
        }
        self.probing.stop();
        self.owner.stop();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads everything once and compiles it, as a running server would answer; writes nothing.
///
/// Errors of the sources come first, those of the pool then, and exports that don't count, as warnings, last.
pub fn load_once(config: &Config, now: UnixTime) -> Result<(Snapshot, Vec<Problem>), StartError> {
    check(config.pool.as_ref())?;
    let (mut events, mut problems) = manifest::load(&config.clusters);
    // The ids of clusters behind API servers are not known here.
    if config.kubernetes.is_empty() {
        problems.extend(unknown_clusters(config, &events));
    }
    events.insert(0, Event::Home(config.home.clone()));
    events.insert(1, Event::Map(config.places.clone()));
    events.insert(2, Event::Configure(config.policies.clone()));
    events.insert(3, Event::Force(config.forced.clone()));
    events.insert(4, Event::Agents(config.agents.clone()));
    let state_file = config.pool.as_ref().and_then(|pool| pool.state_file.clone());
    let (snapshot, status) = compile_once(events, config.zones.clone(), config.pool.clone(), now);
    let warnings = export_warnings(&status);
    problems.extend(pool_problems(status, state_file.unwrap_or_default()));
    problems.extend(warnings);
    Ok((snapshot, problems))
}

fn check(pool: Option<&PoolConfig>) -> Result<(), VipError> {
    pool.map_or(Ok(()), |pool| pool.ranges.check())
}

/// Clusters that the configuration names and no source is, each once: what is said of them has no effect, and nobody would be
/// told.
fn unknown_clusters(config: &Config, events: &[Event]) -> Vec<Problem> {
    let known: BTreeSet<&ClusterId> = events
        .iter()
        .filter_map(|event| if let Event::Expect(ids) = event { Some(ids) } else { None })
        .flatten()
        .collect();
    let home = config.home.iter().map(|id| ("home is", id));
    let weights = config.policies.iter().flat_map(|policy| policy.rules.weights.iter().map(|(id, _)| id));
    let turns = config.policies.iter().flat_map(|policy| policy.rules.failover.iter());
    let policies = weights.chain(turns).map(|id| ("a policy of the configuration names", id));
    let states = config.forced.iter().map(|forced| ("states names", &forced.cluster));
    let named: BTreeSet<_> =
        home.chain(policies).chain(states).filter(|(_, id)| !known.contains(id)).collect();
    let list: Vec<_> = known.iter().map(|id| id.as_str()).collect();
    let list = list.join(", ");
    let message = |(says, id)| format!("{says} `{id}`, and no cluster has this id: the clusters are {list}");
    named.into_iter().map(|named| problem(Severity::Warning, message(named))).collect()
}

fn pool_problems(status: OwnerStatus, state_file: PathBuf) -> impl Iterator<Item = Problem> {
    let about = move |message, file| Problem { file, ..problem(Severity::Error, message) };
    let starved = status.vip_problems.into_iter().map(move |message| about(message, PathBuf::new()));
    starved.chain(status.state_file_error.into_iter().map(move |message| about(message, state_file.clone())))
}

/// Exports that don't count (KEP-1645, condition `Valid`): the names are not answered on their account; and policies that
/// don't hold.
fn export_warnings(status: &OwnerStatus) -> Vec<Problem> {
    let warning = |(service, cluster, reason): &(String, String, &'static str)| Problem {
        cluster: cluster.clone(),
        object: Some(format!("ServiceExport {service}")),
        ..problem(Severity::Warning, format!("does not count in cluster {cluster}: {reason}"))
    };
    let mut warnings: Vec<_> = status.invalid_exports.iter().map(warning).collect();
    let policy = |(cluster, policy, why): &(String, String, String)| Problem {
        cluster: cluster.clone(),
        object: Some(format!("TrafficPolicy {policy}")),
        ..problem(Severity::Warning, why.clone())
    };
    warnings.extend(status.policy_problems.iter().map(policy));
    warnings.sort_by(|a, b| (&a.object, &a.cluster).cmp(&(&b.object, &b.cluster)));
    let untold = status.invalid_export_count - status.invalid_exports.len();
    if untold > 0 {
        warnings.push(problem(Severity::Warning, format!("{untold} more exports that don't count")));
    }
    warnings
}

/// A problem that is about no file and no object.
fn problem(severity: Severity, message: String) -> Problem {
    Problem { severity, cluster: String::new(), file: PathBuf::new(), line: None, object: None, message }
}
