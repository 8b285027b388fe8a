//! The thread that keeps the hook: it follows snapshots, attaches, and looks after the cgroup. All that may wait on the kernel
//! happens here, or in the thread beside it that closes sockets.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use portolan_ebpf::Redirection;
use portolan_ebpf::abi::ABI_VERSION;
use portolan_ebpf::connected::ConnectedSockets;
use portolan_ebpf::follow::Pass;
use portolan_ebpf::hooks::Became;
use portolan_ebpf::reconcile::Lost;
use portolan_sync::Snapshots;
use tracing::{error, info, warn};

use crate::closer::{ToClose, close};
use crate::report::undeleted;
use crate::settings::Neighbourhood;

/// How often the cgroup is looked for, and what could not be done is tried again.
const LOOK: Duration = Duration::from_secs(1);
/// The same of sockets that could not be closed, which means to look into all namespaces.
const CLOSE_AGAIN: Duration = Duration::from_secs(10);

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
    /// How often programs were attached again: the cgroup was made anew, or somebody had detached them.
    pub reattached: u64,
    /// How often pins were made anew, for somebody had removed them.
    pub pinned_again: u64,
    /// Programs of others on the same cgroup.
    pub neighbours: Vec<String>,
    /// What the reader should know of these.
    pub beside: Option<&'static str>,
    /// What keeps it from its work at the moment.
    pub trouble: Option<String>,
    /// Why what is to outlive this process would not.
    pub pins_trouble: Option<String>,
    /// Why sockets could not be closed, the last time that some were to be.
    pub sockets_trouble: Option<String>,
}

impl Kept {
    /// Whether something is to be put right.
    pub(crate) fn is_in_trouble(&self) -> bool {
        self.troubles().next().is_some()
    }

    /// What is to be put right.
    pub(crate) fn troubles(&self) -> impl Iterator<Item = &String> {
        self.trouble.iter().chain(&self.pins_trouble).chain(&self.sockets_trouble)
    }

    /// What the reader should know, and may leave as it is.
    pub(crate) fn notes(&self, pins: &Path) -> Vec<String> {
        let pinned = (self.pinned_again > 0).then(|| {
            format!(
                "{} was emptied, or a part of it, and pinned anew: {} times",
                pins.display(),
                self.pinned_again
            )
        });
        self.beside.map(str::to_owned).into_iter().chain(pinned).collect()
    }
}

/// Shared with whoever shows it.
pub(crate) type Shown = Arc<Mutex<Kept>>;

/// Shared between the keeper and those who read counters.
pub(crate) type Shared = Arc<Mutex<Redirection>>;

/// What the keeper works on.
pub(crate) struct Parts {
    pub redirection: Shared,
    /// Where the programs belong.
    pub cgroup: PathBuf,
    pub connected: Arc<ConnectedSockets>,
    pub snapshots: Snapshots,
    pub shown: Shown,
}

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
        parts: Parts,
        neighbourhood: Neighbourhood,
        ready: impl Fn() -> bool + Send + 'static,
    ) -> std::io::Result<Self> {
        let Parts { redirection, cgroup, connected, snapshots, shown } = parts;
        let (wake, woken) = sync_channel(1);
        // All that waits is taken together: there is never more than there are backends.
        let (lost, to_close) = channel();
        let (closing, known) = (shown.clone(), connected.clone());
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
            closed: Instant::now(),
            neighbourhood,
            followed: None,
            went: None,
            told: None,
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
    lost: Sender<ToClose>,
    /// When sockets were to be closed last.
    closed: Instant,
    neighbourhood: Neighbourhood,
    /// The generation that was followed last.
    followed: Option<u64>,
    /// Why what was attached is no more.
    went: Option<&'static str>,
    /// What was said last of what could not be written or deleted.
    told: Option<String>,
}

impl Work {
    fn run(&mut self, woken: &Receiver<Wake>, ready: &dyn Fn() -> bool) {
        let mut next_look = Instant::now() + LOOK;
        self.look_at_neighbours();
        loop {
            match woken.recv_timeout(next_look.saturating_duration_since(Instant::now())) {
                Ok(Wake::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(Wake::Snapshot) | Err(RecvTimeoutError::Timeout) => {}
            }
            // However many snapshots come.
            if next_look <= Instant::now() {
                next_look = Instant::now() + LOOK;
                self.look_after_cgroup();
                self.look_after_pins();
                self.look_at_neighbours();
                self.try_again();
                self.close_again();
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
    fn try_again(&mut self) {
        let lost = lock(&self.redirection).try_again();
        self.close_sockets(lost);
        self.tell_refused();
    }

    fn close_sockets(&mut self, lost: Vec<Lost>) {
        if !lost.is_empty() {
            self.send(ToClose { lost, tidies: false });
        }
    }

    /// What could not be closed may be by now. Whatever there is to close: a look that succeeds ends the trouble.
    fn close_again(&mut self) {
        let in_trouble = lock(&self.shown).sockets_trouble.is_some();
        if in_trouble && self.closed.elapsed() >= CLOSE_AGAIN {
            let lost = lock(&self.redirection).left_behind(&self.connected);
            self.send(ToClose { lost, tidies: false });
        }
    }

    fn send(&mut self, to_close: ToClose) {
        self.closed = Instant::now();
        // The thread beside this one ends after it.
        let _ = self.lost.send(to_close);
    }

    /// One line, once, however many there are: the status lists them.
    fn tell_refused(&mut self) {
        let redirection = lock(&self.redirection);
        let reconciler = redirection.follower().reconciler();
        let refused = reconciler.refused();
        let first = refused.first_key_value().map(|(service, why)| {
            format!("{} services are not, or not wholly, redirected; {service}: {why}", refused.len())
        });
        let troubles: Vec<String> = first.into_iter().chain(undeleted(reconciler)).collect();
        let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
        if let Some(trouble) = trouble.as_ref().filter(|trouble| self.told.as_ref() != Some(trouble)) {
            warn!("{trouble}");
        }
        self.told = trouble;
    }

    fn attach(&mut self) {
        if lock(&self.shown).attached {
            return;
        }
        let attached = lock(&self.redirection).attach();
        match attached {
            Ok(hooks) => {
                let mut shown = lock(&self.shown);
                if let Some(why) = self.went.take() {
                    shown.reattached += 1;
                    warn!(cgroup = %self.cgroup.display(), "{why}: attached again");
                } else {
                    let replaced = hooks.iter().any(|(_, became)| *became != Became::New);
                    info!(cgroup = %self.cgroup.display(), hooks = hooks.len(), replaced, "redirecting");
                }
                let former = hooks.iter().find_map(|(_, became)| match became {
                    Became::Migrated(abi) => Some(*abi),
                    Became::New | Became::Replaced => None,
                });
                if let Some(from) = former {
                    info!(from, to = ABI_VERSION, "took over what an agent of a lower ABI had attached");
                }
                shown.attached = true;
                shown.trouble = None;
                drop(shown);
                let lost = lock(&self.redirection).left_behind(&self.connected);
                self.send(ToClose { lost, tidies: true });
            }
            Err(error) => self.tell(error.to_string()),
        }
    }

    /// A cgroup that is removed takes the programs with it, without a word.
    fn look_after_cgroup(&mut self) {
        let redirection = lock(&self.redirection);
        let went = match (redirection.cgroup().is_there(), redirection.is_attached()) {
            (true, true) => return,
            (true, false) => "somebody detached programs",
            (false, _) => "it was removed and made anew",
        };
        drop(redirection);
        let mut shown = lock(&self.shown);
        if shown.attached {
            shown.attached = false;
            self.went = Some(went);
        }
    }

    /// Pins that somebody removed, or unmounted, end nothing while this process holds what they were of; but then they must be
    /// there.
    fn look_after_pins(&self) {
        if !lock(&self.shown).attached {
            return;
        }
        let kept = lock(&self.redirection).keep_pins();
        let mut shown = lock(&self.shown);
        let trouble = match kept {
            Ok(pinned) => {
                if !pinned.is_empty() {
                    shown.pinned_again += 1;
                    warn!(pins = pinned.join(" "), "somebody removed what was pinned: pinned anew");
                }
                None
            }
            Err(error) => Some(format!("redirection would end with this agent: {error}")),
        };
        if let Some(trouble) = trouble.as_ref().filter(|trouble| shown.pins_trouble.as_ref() != Some(trouble))
        {
            error!("{trouble}");
        }
        shown.pins_trouble = trouble;
    }

    /// Others may come, and go.
    fn look_at_neighbours(&mut self) {
        let mut redirection = lock(&self.redirection);
        let Some(neighbours) = redirection.new_neighbours() else { return };
        let scope = self.neighbourhood.scope(&neighbours);
        let is_other = scope != *redirection.follower().scope();
        let (Pass { lost, .. }, result) =
            if is_other { redirection.rescope(scope) } else { (Pass::default(), Ok(())) };
        drop(redirection);
        if let Err(error) = result {
            error!("{error}");
        }
        self.close_sockets(lost);
        let mut shown = lock(&self.shown);
        if !neighbours.is_empty() {
            info!(programs = neighbours.join(" "), "others redirect on this cgroup, too");
        }
        let beside = self.neighbourhood.note(&neighbours);
        if beside != shown.beside {
            match beside {
                Some(beside) => warn!("{beside}"),
                None => info!("all virtual IPs are redirected by this agent"),
            }
        }
        (shown.neighbours, shown.beside) = (neighbours, beside);
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
