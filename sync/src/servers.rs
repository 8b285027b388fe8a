//! Clusters that a server follows at their API servers: its own one, and those of its configuration, whose kubeconfig files
//! are read again and again. Whoever runs for a cluster's controller hears of others by that cluster's objects instead.

use std::sync::{Arc, Mutex, PoisonError};

use portolan_zones::Event;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::kubernetes::peers::{Configured, EVERY, PeerList, PeerProblem};
use crate::kubernetes::{self, ClusterState, Followers, KubernetesConfig, Role};

/// See the module.
pub(crate) struct Servers {
    wishes: watch::Sender<KubernetesConfig>,
    followers: Arc<Followers>,
    shown: States,
    /// `None` at the end.
    runtime: Option<Runtime>,
}

/// How clusters are that are followed.
#[derive(Clone)]
pub(crate) struct States {
    states: watch::Receiver<Arc<[ClusterState]>>,
    /// What is wrong with kubeconfig files.
    problems: Arc<Mutex<Vec<PeerProblem>>>,
}

impl States {
    /// The own one first.
    pub(crate) fn now(&self) -> Vec<ClusterState> {
        let mut states = self.states.borrow().to_vec();
        for problem in &*self.problems.lock().unwrap_or_else(PoisonError::into_inner) {
            let of = |state: &&mut ClusterState| {
                state.origin == Some(problem.origin) && state.name == problem.name
            };
            if let Some(state) = states.iter_mut().find(of).filter(|s| !s.problems.contains(&problem.text)) {
                state.problems.push(problem.text.clone());
            }
        }
        states
    }
}

impl Servers {
    /// Begins to follow. Batches of events go to `feed`, which may block and says whether to go on.
    pub(crate) fn start(
        config: KubernetesConfig,
        feed: impl FnMut(Vec<Event>) -> bool + Send + 'static,
    ) -> std::io::Result<Self> {
        let runtime = kubernetes::runtime()?;
        let mut configured = Configured::new();
        let list = configured.read(&config.clusters);
        let followers = Followers::start(
            runtime.handle(),
            Role::Server,
            config.own.clone(),
            Some(list.peers.clone()),
            None,
            feed,
        )?;
        let followers = Arc::new(followers);
        let problems = Arc::new(Mutex::new(list.problems.clone()));
        let (wishes, wished) = watch::channel(config);
        runtime.spawn(keep(configured, list, wished, followers.clone(), problems.clone()));
        let shown = States { states: followers.states(), problems };
        Ok(Self { wishes, shown, followers, runtime: Some(runtime) })
    }

    /// Follows these from now on.
    pub(crate) fn reconfigure(&self, config: KubernetesConfig) {
        self.wishes.send_replace(config);
    }

    /// How they are, as it is at any time.
    pub(crate) fn shown(&self) -> States {
        self.shown.clone()
    }

    /// Ends all tasks and waits until nothing more is fed.
    pub(crate) fn stop(&mut self) {
        self.followers.stop();
        // A host name that is being resolved is not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Has followed what is wished and what the files hold, as often as either changes.
async fn keep(
    mut configured: Configured,
    mut list: PeerList,
    mut wished: watch::Receiver<KubernetesConfig>,
    followers: Arc<Followers>,
    problems: Arc<Mutex<Vec<PeerProblem>>>,
) {
    loop {
        let anew = tokio::select! {
            changed = wished.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            () = tokio::time::sleep(EVERY) => false,
        };
        let KubernetesConfig { own, clusters } = wished.borrow_and_update().clone();
        let read = spawn_blocking(move || {
            let list = configured.read(&clusters);
            (configured, list)
        });
        let Ok((back, now)) = read.await else { return };
        configured = back;
        if anew || now.peers != list.peers {
            followers.reconfigure(own, now.peers.clone());
        }
        for problem in now.problems.iter().filter(|problem| !list.problems.contains(problem)) {
            tracing::warn!(cluster = problem.name, "{}", problem.text);
        }
        problems.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&now.problems);
        list = now;
    }
}
