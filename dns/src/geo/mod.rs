//! Where clients are whom nobody in the clusterset knows: by databases in MaxMind's format (City, Country, ASN; others are
//! read for the fields that they share with these).
//!
//! ```text
//!  file ─► Database   address → country, continent, subdivision, ASN, position
//!             ▼ Rules                   of each of its networks, once per file and rules
//!          Chart      ranges of addresses → the rule that holds             one per file; the file's octets are gone
//!             ▼
//!          Atlas      address → area, and how far around it that holds      a binary search per file, while a query waits
//! ```
//!
//! A database is read whole before anything is answered from it, so a damaged one is refused whole, and no query meets what is
//! wrong with it. The [`Geo`] looks at its files again and again; of one that can't be used the last good chart stays.

mod atlas;
mod database;
mod rules;
mod scrape;

pub use atlas::Atlas;
pub use database::{Database, DatabaseError, Location};
pub use rules::{Clue, Code, Position, Rule};

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use atlas::Chart;
use rules::Rules;

/// Which databases, and what they mean.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GeoConfig {
    /// Files. Where two of them find rules for one address, the rule that goes first holds.
    pub databases: Vec<PathBuf>,
    /// In the order written; which one holds is said at [`Clue`].
    pub rules: Vec<Rule>,
}

/// A database can't be used.
#[derive(Debug, thiserror::Error)]
#[error("database `{path}` {error}")]
pub struct GeoError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: DatabaseError,
}

/// Databases that are followed.
#[derive(Debug, Default)]
pub struct Geo {
    /// Held while files are read; never by who answers queries.
    state: Mutex<State>,
    /// What of the state metrics tell: they don't wait for files.
    shown: Mutex<Vec<Shown>>,
    refused: AtomicU64,
    atlas: Arc<ArcSwap<Atlas>>,
}

#[derive(Debug, Default)]
struct State {
    config: GeoConfig,
    rules: Rules,
    files: Vec<Followed>,
}

/// A file, and what was made of it.
#[derive(Debug)]
struct Followed {
    path: PathBuf,
    /// How the file was when it was last read, good or not; `None`: it was not there, or not looked at yet.
    seen: Option<Stamp>,
    /// Of the last one that was good.
    chart: Option<Arc<Chart>>,
    /// What is wrong with the file that is there now.
    problem: Option<String>,
}

/// Tells a file that was replaced or written to from what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    /// Of its content or of who may read it.
    changed: (i64, i64),
    size: u64,
    inode: (u64, u64),
}

/// How a database fares.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown {
    path: PathBuf,
    /// When the one that is answered from was built, in seconds since the Unix epoch.
    built: Option<u64>,
    failed: bool,
}

/// Databases and rules that can all be used, not in force yet.
#[derive(Debug)]
pub struct Prepared(Option<State>);

impl Geo {
    /// Reads the databases. One that can't be used is logged, counted and tried again by [`Geo::look`]: others, and what else
    /// is known of clients, are answered from meanwhile.
    pub fn start(config: GeoConfig) -> Arc<Self> {
        let geo = Arc::new(Self::default());
        *geo.state() = State::new(config);
        geo.look();
        geo
    }

    /// Reads what another configuration names. Nothing changes before [`Geo::adopt`]; with the configuration that is in force
    /// nothing is read.
    pub fn prepare(&self, config: &GeoConfig) -> Result<Prepared, GeoError> {
        if self.state().config == *config {
            return Ok(Prepared(None));
        }
        let mut state = State::new(config.clone());
        for file in &mut state.files {
            file.seen = Stamp::of(&file.path);
            let chart = Chart::read(&file.path, &state.rules);
            file.chart = Some(chart.map_err(|error| GeoError { path: file.path.clone(), error })?);
        }
        Ok(Prepared(Some(state)))
    }

    /// Brings what was prepared into force.
    pub fn adopt(&self, Prepared(prepared): Prepared) {
        if let Some(prepared) = prepared {
            let mut state = self.state();
            *state = prepared;
            self.publish(&state);
        }
    }

    /// Reads files that are others than before; those that can't be used change nothing.
    pub fn look(&self) {
        let mut state = self.state();
        let State { rules, files, .. } = &mut *state;
        for file in files {
            if file.look(rules).is_err() {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.publish(&state);
    }

    /// What queries are answered from.
    pub fn atlas(&self) -> Arc<Atlas> {
        self.atlas.load_full()
    }

    /// The same for those who look often.
    pub(crate) fn swap(&self) -> Arc<ArcSwap<Atlas>> {
        self.atlas.clone()
    }

    /// [`Geo::look`] again and again.
    pub(crate) async fn watch(self: Arc<Self>, every: Duration, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            let geo = self.clone();
            drop(tokio::task::spawn_blocking(move || geo.look()).await);
        }
    }

    fn publish(&self, state: &State) {
        let charts: Vec<_> = state.files.iter().filter_map(|file| file.chart.clone()).collect();
        let current = self.atlas.load();
        if !current.is_of(&charts, &state.rules) {
            self.atlas.store(Arc::new(Atlas::new(charts, &state.rules)));
        }
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) =
            state.files.iter().map(Followed::shown).collect();
    }

    /// A panic elsewhere leaves whole entries.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(config: GeoConfig) -> Self {
        let followed =
            |path: &PathBuf| Followed { path: path.clone(), seen: None, chart: None, problem: None };
        let (rules, files) = (Rules::new(&config.rules), config.databases.iter().map(followed).collect());
        Self { config, rules, files }
    }
}

/// The file that is there now was read, and can't be used.
struct Refused;

impl Followed {
    /// Reads the file if it is another one than before.
    fn look(&mut self, rules: &Rules) -> Result<(), Refused> {
        // Before the file is read: who writes to it meanwhile has it read once more.
        let stamp = Stamp::of(&self.path);
        let looked_at = self.chart.is_some() || self.problem.is_some();
        if looked_at && stamp == self.seen {
            return Ok(());
        }
        self.seen = stamp;
        match Chart::read(&self.path, rules) {
            Ok(chart) => {
                tracing::info!(database = %self.path.display(), kind = chart.kind(), built = chart.built(), "in use");
                self.chart = Some(chart);
                self.problem = None;
                Ok(())
            }
            Err(error) => {
                self.refuse(&error);
                Err(Refused)
            }
        }
    }

    fn refuse(&mut self, error: &DatabaseError) {
        let problem = error.to_string();
        if self.problem.as_ref() != Some(&problem) {
            let instead =
                if self.chart.is_some() { "the one read before stays in use" } else { "none is in use" };
            tracing::error!("database `{}` {problem}; {instead}", self.path.display());
        }
        self.problem = Some(problem);
    }

    fn shown(&self) -> Shown {
        Shown {
            path: self.path.clone(),
            built: self.chart.as_ref().map(|chart| chart.built()),
            failed: self.problem.is_some(),
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size: metadata.size(),
            inode: (metadata.dev(), metadata.ino()),
        })
    }
}
