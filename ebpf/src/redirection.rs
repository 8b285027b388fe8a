//! The hook as an agent runs it: programs on a cgroup, and tables that follow snapshots.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use portolan_zones::Snapshot;

use crate::connected::ConnectedSockets;
use crate::follow::{Follower, Pass, Scope};
use crate::hooks::{self, AttachError, Became, Cgroup, Hook, Link};
use crate::kernel::{self, Events, KernelTables, LoadError, Loaded};
use crate::pins::{PinError, Pins, look};
use crate::reconcile::Lost;
use crate::tables::{Sizes, WriteError};

/// See the module. Dropping it leaves all as it is: redirection goes on, by what was known.
pub struct Redirection {
    programs: aya::Ebpf,
    pins: Pins,
    cgroup: Cgroup,
    follower: Follower<KernelTables>,
    /// What is attached, and what established connections need: held, whatever becomes of the pins.
    links: Vec<Link>,
    sessions: Vec<OwnedFd>,
    /// Programs of others on the cgroup, as they were seen last; `None`: nobody looked yet.
    others: Option<Vec<u32>>,
}

/// Why nothing can be redirected.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The kernel, or what it has.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The pins are not in order.
    #[error(transparent)]
    Pin(#[from] PinError),
}

/// What else comes of loading.
pub struct Extras {
    /// Decisions that are told.
    pub events: Events,
    /// Where connected UDP sockets were told to go, and went.
    pub connected: ConnectedSockets,
    /// What the kernel does without.
    pub lacks: Vec<&'static str>,
    /// What is there from before, and not as it was asked for.
    pub kept: Vec<String>,
}

impl Redirection {
    /// Loads programs and empty tables. Nothing is redirected by them, or otherwise than before, until `attach`.
    pub fn load(
        pins: Pins,
        cgroup: Cgroup,
        sizes: Sizes,
        node: Option<Arc<str>>,
    ) -> Result<(Self, Extras), StartError> {
        let mut notes = pins.take_sessions_over()?;
        let Loaded { programs, tables, events, connected, lacks, kept } =
            kernel::load(sizes, &pins.sessions())?;
        notes.extend(kept);
        let follower = Follower::new(tables, Scope::default(), node);
        let sessions = pins.open_sessions()?;
        let (links, others) = (Vec::new(), None);
        let this = Self { programs, pins, cgroup, follower, links, sessions, others };
        Ok((this, Extras { events, connected, lacks, kept: notes }))
    }

    /// Brings the tables up to a snapshot.
    pub fn follow(&mut self, snapshot: &Arc<Snapshot>) -> (Pass, Result<(), WriteError>) {
        self.follower.follow(snapshot)
    }

    /// Has other addresses be redirected from now on.
    pub fn rescope(&mut self, scope: Scope) -> (Pass, Result<(), WriteError>) {
        self.follower.rescope(scope)
    }

    /// Writes what found no room, or no memory, if it finds some now; see [`Pass::lost`].
    pub fn try_again(&mut self) -> Vec<Lost> {
        self.follower.try_again()
    }

    /// Connected UDP sockets whose backend went while no agent looked.
    pub fn left_behind(&self, connected: &ConnectedSockets) -> Vec<Lost> {
        self.follower.left_behind(connected.all().into_iter().map(|(_, origin)| origin))
    }

    /// Puts the programs on the cgroup, in the place of a former agent's where there are any; what one of a lower ABI left is removed.
    /// A cgroup that was removed and made anew is another: it is opened again.
    pub fn attach(&mut self) -> Result<Vec<(Hook, Became)>, AttachError> {
        if !self.cgroup.is_there() {
            self.cgroup = Cgroup::open(Some(self.cgroup.path()))?;
        }
        // What is held already is not attached twice.
        self.keep_pins()?;
        self.links = hooks::attach(&mut self.programs, &self.pins, &self.cgroup)?;
        self.pins.remove_former()?;
        Ok(self.links.iter().map(|link| (link.hook, link.became)).collect())
    }

    /// Whether all that was attached still is, as far as the cgroup is there.
    pub fn is_attached(&self) -> bool {
        self.links.iter().all(|link| link.is_on(&self.cgroup))
    }

    /// Has all that is held be pinned, whoever removed what was. The names of what had to be.
    pub fn keep_pins(&mut self) -> Result<Vec<String>, PinError> {
        self.pins.keep(&self.links, &self.sessions)
    }

    /// Names of programs that others have attached here for what we do, if they are not what they were the last time. While that
    /// can't be known it is as it was.
    pub fn new_neighbours(&mut self) -> Option<Vec<String>> {
        let pinned = look(self.pins.root()).into_iter().map(|attached| attached.program);
        let ours: Vec<u32> = pinned.chain(self.links.iter().filter_map(Link::program)).collect();
        let others = match (self.cgroup.others(&ours, Hook::redirects), &self.others) {
            (Some(now), before) if before.as_ref() != Some(&now) => now,
            (None, None) => Vec::new(),
            _ => return None,
        };
        let names = hooks::names(&others);
        self.others = Some(others);
        Some(names)
    }

    /// One decision of so many is told; 0: none.
    pub fn sample(&self, one_of: u32) {
        self.follower.reconciler().tables().sample(one_of);
    }

    /// Where it is attached.
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// What the tables hold.
    pub fn follower(&self) -> &Follower<KernelTables> {
        &self.follower
    }
}
