//! The thread that keeps the hook: it follows snapshots, attaches, and looks after the cgroup. All that may wait on the kernel
//! happens here, or in the thread beside it that closes sockets.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portolan_ebpf::follow::Pass;
use portolan_ebpf::kernel::ConnectedSockets;
use portolan_ebpf::reconcile::Lost;
use portolan_ebpf::{Redirection, sockets};
use portolan_sync::Snapshots;
use tracing::{error, info, warn};

/// How often the cgroup is looked for, and what could not be done is tried again.
const LOOK: Duration = Duration::from_secs(1);

/// What the keeper did last, for people and metrics.
#[derive(Debug, Default, Clone)]
pub(crate) struct Kept {
    /// Whether the hook redirects by what this process knows.
    pub attached: bool,
    /// Generation of the snapshot that the tables follow.
    pub generation: u64,
    /// Snapshots that were followed.
    pub passes: u64,
    /// Services that were written, or looked at.
    pub services: u64,
    /// How long the last pass took.
    pub last_pass: Duration,
    /// Clusters that were taken out as a whole.
    pub clusters_down: u64,
    /// UDP sockets that were closed, for their backend was gone.
    pub closed_sockets: u64,
    /// How often the cgroup was made anew.
    pub reattached: u64,
    /// What keeps it from its work at the moment.
    pub trouble: Option<String>,
    /// Why sockets could not be closed, the last time that some were to be.
    pub sockets_trouble: Option<String>,
}

/// Shared with whoever shows it.
pub(crate) type Shown = Arc<Mutex<Kept>>;

/// Shared between the keeper and those who read counters.
pub(crate) type Shared = Arc<Mutex<Redirection>>;

/// See the module.
pub(crate) struct Keeper {
    wake: SyncSender<Wake>,
    threads: Vec<JoinHandle<()>>,
}

/// Why the keeper wakes up.
enum Wake {
    /// There may be another snapshot.
    Snapshot,
    /// Nothing more is to be done.
    End,
}

/// What is locked is consistent after each step, whatever panicked elsewhere.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    /// Starts both threads. `ready` says whether what is in the snapshot may be judged by.
    pub(crate) fn start(
        redirection: Shared,
        cgroup: PathBuf,
        connected: ConnectedSockets,
        snapshots: Snapshots,
        ready: impl Fn() -> bool + Send + 'static,
        shown: Shown,
    ) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        // All that waits is taken together: there is never more than there are backends.
        let (lost, to_close) = channel();
        let (closing, connected) = (shown.clone(), Arc::new(connected));
        let known = connected.clone();
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(run)
        };
        let closer = spawn("sockets", Box::new(move || close(&to_close, &known, &closing)))?;
        let mut work = Work {
            redirection,
            cgroup,
            connected,
            snapshots,
            shown,
            lost,
            followed: None,
            cgroup_went: false,
        };
        let keeper = spawn("hook", Box::new(move || work.run(&woken, &ready)))?;
        Ok(Self { wake, threads: vec![keeper, closer] })
    }

    /// There may be another snapshot.
    pub(crate) fn wake(&self) {
        // One that waits to be woken is enough.
        let _ = self.wake.try_send(Wake::Snapshot);
    }

    /// Ends both threads; the hook stays as it is.
    pub(crate) fn stop(mut self) {
        let _ = self.wake.send(Wake::End);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Work {
    redirection: Shared,
    cgroup: PathBuf,
    connected: Arc<ConnectedSockets>,
    snapshots: Snapshots,
    shown: Shown,
    lost: Sender<Vec<Lost>>,
    /// The generation that was followed last.
    followed: Option<u64>,
    /// Whether the cgroup was removed since the programs were attached.
    cgroup_went: bool,
}

impl Work {
    fn run(&mut self, woken: &Receiver<Wake>, ready: &dyn Fn() -> bool) {
        let mut next_look = Instant::now() + LOOK;
        loop {
            match woken.recv_timeout(next_look.saturating_duration_since(Instant::now())) {
                Ok(Wake::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Wake::Snapshot) | Err(RecvTimeoutError::Timeout) => {}
            }
            // However many snapshots come.
            if next_look <= Instant::now() {
                next_look = Instant::now() + LOOK;
                self.look_after_cgroup();
                self.try_again();
            }
            // Whoever has followed once goes on, whatever else becomes known.
            if self.followed.is_some() || ready() {
                self.follow();
                self.attach();
            }
        }
    }

    fn follow(&mut self) {
        let snapshot = self.snapshots.load_full();
        if self.followed == Some(snapshot.generation) {
            return;
        }
        let began = Instant::now();
        let (Pass { services, down, lost }, result) = lock(&self.redirection).follow(&snapshot);
        if let Err(error) = result {
            error!("{error}");
        }
        for cluster in &down {
            warn!(%cluster, "none of its backends is usable: taken out of all services at once");
        }
        self.close_sockets(lost);
        self.tell_refused();
        self.followed = Some(snapshot.generation);
        let mut shown = lock(&self.shown);
        shown.generation = snapshot.generation;
        shown.passes += 1;
        shown.services += services as u64;
        shown.last_pass = began.elapsed();
        shown.clusters_down += down.len() as u64;
    }

    /// What found no room, or what the kernel had no memory for, may by now.
    fn try_again(&self) {
        let mut redirection = lock(&self.redirection);
        let lost = redirection.try_again();
        drop(redirection);
        self.close_sockets(lost);
    }

    fn close_sockets(&self, lost: Vec<Lost>) {
        if lost.is_empty() {
            return;
        }
        // The thread beside this one ends after it.
        let _ = self.lost.send(lost);
    }

    /// One line, however many there are: the status lists them.
    fn tell_refused(&self) {
        let redirection = lock(&self.redirection);
        let refused = redirection.follower().reconciler().refused();
        let Some((service, why)) = refused.first_key_value() else { return };
        let trouble =
            format!("{} services are not, or not wholly, redirected; {service}: {why}", refused.len());
        if lock(&self.shown).trouble.as_ref() != Some(&trouble) {
            warn!("{trouble}");
        }
    }

    fn attach(&mut self) {
        if lock(&self.shown).attached {
            return;
        }
        let attached = lock(&self.redirection).attach();
        match attached {
            Ok(hooks) => {
                let mut shown = lock(&self.shown);
                if std::mem::take(&mut self.cgroup_went) {
                    shown.reattached += 1;
                    warn!(cgroup = %self.cgroup.display(), "it was removed and made anew: attached again");
                } else {
                    let replaced =
                        hooks.iter().any(|(_, became)| *became == portolan_ebpf::hooks::Became::Replaced);
                    info!(cgroup = %self.cgroup.display(), hooks = hooks.len(), replaced, "redirecting");
                }
                shown.attached = true;
                shown.trouble = None;
                drop(shown);
                let lost = lock(&self.redirection).left_behind(&self.connected);
                self.close_sockets(lost);
            }
            Err(error) => self.tell(error.to_string()),
        }
    }

    /// A cgroup that is removed takes the programs with it, without a word.
    fn look_after_cgroup(&mut self) {
        let is_there = lock(&self.redirection).cgroup().is_there();
        let mut shown = lock(&self.shown);
        if shown.attached && !is_there {
            shown.attached = false;
            self.cgroup_went = true;
        }
    }

    /// Once, not each time that it is tried.
    fn tell(&self, trouble: String) {
        let mut shown = lock(&self.shown);
        if shown.trouble.as_ref() != Some(&trouble) {
            error!("{trouble}");
            shown.trouble = Some(trouble);
        }
    }
}

/// Closes sockets until nobody names any more.
fn close(lost: &Receiver<Vec<Lost>>, connected: &ConnectedSockets, shown: &Shown) {
    while let Ok(mut lost_now) = lost.recv() {
        lost_now.extend(lost.try_iter().flatten());
        let closed = sockets::close(&lost_now, &|cookie| connected.find(cookie));
        let trouble = closed.why.map(|why| {
            format!("sockets of {} processes or network namespaces can't be closed: {why}; it needs hostPID and the capabilities SYS_ADMIN and SYS_PTRACE", closed.failed)
        });
        if let Some(trouble) = &trouble {
            warn!("{trouble}");
        }
        if closed.sockets > 0 {
            info!(sockets = closed.sockets, "closed UDP sockets whose backend is gone");
        }
        let mut shown = lock(shown);
        shown.closed_sockets += closed.sockets as u64;
        shown.sockets_trouble = trouble;
    }
}
