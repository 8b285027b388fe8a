//! The hook as an agent runs it: programs on a cgroup, and tables that follow snapshots.

use std::sync::Arc;

use portolan_zones::Snapshot;

use crate::follow::{Follower, Pass, Scope};
use crate::hooks::{self, AttachError, Became, Cgroup, Hook};
use crate::kernel::{self, ConnectedSockets, Events, KernelTables, LoadError, Loaded};
use crate::pins::Pins;
use crate::reconcile::Lost;
use crate::tables::{Sizes, WriteError};

/// See the module. Dropping it leaves all as it is: redirection goes on, by what was known.
pub struct Redirection {
    programs: aya::Ebpf,
    pins: Pins,
    cgroup: Cgroup,
    follower: Follower<KernelTables>,
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
        scope: Scope,
        node: Option<Arc<str>>,
    ) -> Result<(Self, Extras), LoadError> {
        let Loaded { programs, tables, events, connected, lacks, kept } =
            kernel::load(sizes, &pins.sessions())?;
        let follower = Follower::new(tables, scope, node);
        Ok((Self { programs, pins, cgroup, follower }, Extras { events, connected, lacks, kept }))
    }

    /// Brings the tables up to a snapshot.
    pub fn follow(&mut self, snapshot: &Arc<Snapshot>) -> (Pass, Result<(), WriteError>) {
        self.follower.follow(snapshot)
    }

    /// Writes what found no room, or no memory, if it finds some now; see [`Pass::lost`].
    pub fn try_again(&mut self) -> Vec<Lost> {
        self.follower.try_again()
    }

    /// Connected UDP sockets whose backend went while no agent looked.
    pub fn left_behind(&self, connected: &ConnectedSockets) -> Vec<Lost> {
        self.follower.left_behind(connected.all())
    }

    /// Puts the programs on the cgroup, in the place of a former agent's where there are any. One that was removed and made anew
    /// is another: it is opened again.
    pub fn attach(&mut self) -> Result<Vec<(Hook, Became)>, AttachError> {
        if !self.cgroup.is_there() {
            self.cgroup = Cgroup::open(Some(self.cgroup.path()))?;
        }
        hooks::attach(&mut self.programs, &self.pins, &self.cgroup)
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
