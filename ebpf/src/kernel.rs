//! The kernel's side: programs and their maps, of which the arrays are memory that is written without system calls.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError, RingBuf};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};

use crate::abi::{
    Backend, COUNTS, Checked, Event, Front, MemberKey, PortKey, SETTING_SAMPLE, SETTINGS, VipKey,
};
use crate::connected::ConnectedSockets;
use crate::hooks::HOOKS;
use crate::sys::{self, MapShape, Words};
use crate::tables::{Sizes, Tables, WriteError};

/// The programs, as `build.rs` compiled them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/portolan.bpf.o"));
/// A map that outlives the tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    /// In `bpf/maps.h`.
    pub(crate) name: &'static str,
    /// `enum bpf_map_type`.
    kind: u32,
    /// Octets of keys and values.
    key: u32,
    value: u32,
}

impl Session {
    /// Whether that is what programs take for it.
    pub(crate) fn is(&self, shape: MapShape) -> bool {
        (self.kind, self.key, self.value) == (shape.kind, shape.key, shape.value)
    }
}

const HASH: u32 = 1;
const LRU_HASH: u32 = 9;
const SK_STORAGE: u32 = 24;
/// All of them.
pub(crate) const SESSIONS: [Session; 4] = [
    Session { name: "affinities", kind: LRU_HASH, key: 16, value: 24 },
    Session { name: "connected", kind: HASH, key: 8, value: 40 },
    Session { name: "flows", kind: LRU_HASH, key: 32, value: 24 },
    Session { name: "origins", kind: SK_STORAGE, key: 4, value: 40 },
];
/// Most stripes of a counter: processors beyond share them.
const MOST_STRIPES: usize = 16;

/// The object that is loaded, for tests that compare it with `abi`.
#[doc(hidden)]
pub fn object() -> &'static [u8] {
    OBJECT
}

/// Why programs and maps are not in the kernel.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A right is missing.
    #[error(
        "the kernel lets this process load no BPF programs: it needs the capabilities BPF and NET_ADMIN (run it as root, or with `capabilities: add: [BPF, NET_ADMIN]`)"
    )]
    Rights,
    /// There is not so much memory, or it may not be taken.
    #[error("the maps don't fit: {0}; make them smaller under `agent.maps`, or give the agent more memory")]
    Memory(io::Error),
    /// What was pinned before has other sizes or kinds.
    #[error(
        "map {map} can't be taken over, or pinned: {why}; `portolan-agent detach` removes what is pinned"
    )]
    Map {
        /// Its name.
        map: String,
        /// What the kernel says.
        why: String,
    },
    /// The kernel makes no such maps: it is too old, or has no types (BTF), which what is stored at sockets needs.
    #[error(
        "the kernel (Linux {release}) makes no map {map}: {error}; Linux 5.18 or newer is needed, with CONFIG_DEBUG_INFO_BTF"
    )]
    Unmade {
        /// Its name.
        map: String,
        /// The kernel's release.
        release: String,
        /// What it says.
        error: io::Error,
    },
    /// The verifier refuses a program.
    #[error("the kernel (Linux {release}) refuses program {program}: {why}; Linux 5.18 or newer is needed")]
    Program {
        /// Its name.
        program: &'static str,
        /// The kernel's release.
        release: String,
        /// The end of what the verifier says.
        why: String,
    },
    /// The object is not what this library was made for, or wants what the kernel has not.
    #[error("the programs can't be loaded: {0}; this is Linux {release}, and 5.18 or newer is needed", release = release())]
    Object(String),
}

/// What the programs may use of the kernel, the most first: whether they can say which error a program gets (Linux 6.1), and
/// ask who calls (6.10, and the capability PERFMON).
const FEATURES: [(u8, u8); 3] = [(1, 1), (1, 0), (0, 0)];

/// Programs and maps of one generation.
pub struct Loaded {
    pub(crate) programs: Ebpf,
    /// The tables, empty.
    pub tables: KernelTables,
    /// Decisions that are told.
    pub events: Events,
    /// Where connected UDP sockets were told to go, and went.
    pub connected: ConnectedSockets,
    /// What the kernel does without: the reader should know.
    pub lacks: Vec<&'static str>,
    /// What is there from before, and not as it was asked for: the same.
    pub kept: Vec<String>,
}

/// Loads a generation. What outlives it is pinned in `sessions`, or taken over from there.
pub fn load(sizes: Sizes, sessions: &Path) -> Result<Loaded, LoadError> {
    let mut refused = None;
    for (set_retval, task) in FEATURES {
        match load_with(sizes, sessions, set_retval, task) {
            Err(error @ LoadError::Program { .. }) => refused = Some(error),
            other => {
                let lacks = [
                    (
                        set_retval == 0,
                        "errors are EPERM instead of EHOSTUNREACH and ECONNREFUSED (Linux 6.1)",
                    ),
                    (
                        task == 0,
                        "`trace` does not know who connects (Linux 6.10, and the capability PERFMON)",
                    ),
                ];
                let lacks = lacks.into_iter().filter_map(|(lacks, what)| lacks.then_some(what)).collect();
                return other.map(|loaded| Loaded { lacks, kept: kept(sizes, sessions), ..loaded });
            }
        }
    }
    Err(refused.unwrap_or_else(|| LoadError::Object("no program".to_owned())))
}

/// Sessions are worth more than their size: one that an agent before this one made stays as it is.
fn kept(sizes: Sizes, sessions: &Path) -> Vec<String> {
    let one = |(name, key, asked): (&str, &str, u32)| {
        let pinned = sys::open_pin(&sessions.join(name)).ok()?;
        let MapShape { entries, .. } = sys::map_shape(pinned.as_fd()).ok()?;
        let told = || {
            format!(
                "map {name} has {entries} entries, as an agent before this one made it, and not {asked} as `agent.maps.{key}` says: \
                 end the agent, `portolan-agent detach` and start it for that, but established connections forget their virtual IPs"
            )
        };
        (entries != asked).then(told)
    };
    [("affinities", "affinity", sizes.affinities), ("flows", "sockets", sizes.flows)]
        .into_iter()
        .filter_map(one)
        .collect()
}

fn load_with(sizes: Sizes, sessions: &Path, set_retval: u8, task: u8) -> Result<Loaded, LoadError> {
    let stripes = stripes();
    let mask = stripes as u32 - 1;
    let pins: Vec<_> = SESSIONS.iter().map(|map| (map.name, sessions.join(map.name))).collect();
    let mut loader = EbpfLoader::new();
    loader
        .override_global("counter_mask", &mask, true)
        .override_global("has_set_retval", &set_retval, true)
        .override_global("has_task_helpers", &task, true)
        .map_max_entries("vips", sizes.vips)
        .map_max_entries("ports", sizes.ports)
        .map_max_entries("members", sizes.backends)
        .map_max_entries("fronts", sizes.ports)
        .map_max_entries("slots", sizes.slots)
        .map_max_entries("backends", sizes.backends)
        .map_max_entries("clusters", sizes.clusters)
        .map_max_entries("hits", sizes.backends.saturating_mul(stripes as u32))
        .map_max_entries("settings", SETTINGS as u32)
        .map_max_entries("counts", COUNTS as u32)
        .map_max_entries("flows", sizes.flows)
        .map_max_entries("connected", sizes.flows)
        .map_max_entries("affinities", sizes.affinities);
    for (name, path) in &pins {
        loader.map_pin_path(name, path.as_path());
    }
    let mut programs = loader.load(OBJECT).map_err(load_error)?;
    for hook in &HOOKS {
        load_program(&mut programs, hook.program)?;
    }
    let tables = KernelTables::of(&mut programs, sizes, stripes)?;
    let events = take(&mut programs, "events")?;
    let events = Events { ring: RingBuf::try_from(events).map_err(|error| of_map("events", &error))? };
    let connected = ConnectedSockets::of(&mut programs)?;
    Ok(Loaded { programs, tables, events, connected, lacks: Vec::new(), kept: Vec::new() })
}

/// A power of two: one for each processor that there may be, if that is not too many.
fn stripes() -> usize {
    let processors = std::fs::read_to_string("/sys/devices/system/cpu/possible").ok();
    // `0-3`, or `0`.
    let last = processors.and_then(|text| text.trim().rsplit(['-', ',']).next()?.parse::<usize>().ok());
    last.map_or(MOST_STRIPES, |last| (last + 1).next_power_of_two().min(MOST_STRIPES))
}

fn load_program(programs: &mut Ebpf, name: &'static str) -> Result<(), LoadError> {
    let absent = || LoadError::Object(format!("it has no program {name}"));
    let program = programs.program_mut(name).ok_or_else(absent)?;
    let loaded = match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        _ => return Err(absent()),
    };
    loaded.map_err(|error| match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            match io_error.raw_os_error() {
                Some(libc::EPERM) if log.is_empty() => LoadError::Rights,
                _ => {
                    // The verifier's own figures come last.
                    let figures = ["processed ", "stack depth ", "verification time "];
                    let is_reason = |line: &&str| !figures.iter().any(|figure| line.starts_with(figure));
                    let last = log.lines().rfind(is_reason).unwrap_or_default();
                    LoadError::Program {
                        program: name,
                        release: release(),
                        why: format!("{io_error}: {last}"),
                    }
                }
            }
        }
        other => LoadError::Object(other.to_string()),
    })
}

/// The kernel's release, such as 6.1.0-13-amd64.
pub fn release() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

fn load_error(error: EbpfError) -> LoadError {
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) => match io_error.raw_os_error() {
            Some(libc::EPERM) => LoadError::Rights,
            Some(libc::ENOMEM | libc::E2BIG) => LoadError::Memory(io_error),
            _ => LoadError::Unmade { map: name.to_string(), release: release(), error: io_error },
        },
        EbpfError::MapError(MapError::PinError { name, error }) => {
            LoadError::Map { map: name.unwrap_or_default().to_string(), why: crate::error::chain(&error) }
        }
        other => LoadError::Object(crate::error::chain(&other)),
    }
}

pub(crate) fn of_map(map: &str, error: &dyn std::error::Error) -> LoadError {
    LoadError::Map { map: map.to_owned(), why: crate::error::chain(error) }
}

/// An array that is written, or read, as memory.
pub(crate) fn words(programs: &mut Ebpf, name: &'static str, count: usize) -> Result<Words, LoadError> {
    let Map::Array(map) = take(programs, name)? else {
        return Err(LoadError::Object(format!("{name} is no array")));
    };
    Words::of(map.fd().as_fd(), count).map_err(LoadError::Memory)
}

pub(crate) fn take(programs: &mut Ebpf, name: &'static str) -> Result<Map, LoadError> {
    programs.take_map(name).ok_or_else(|| LoadError::Object(format!("it has no map {name}")))
}

/// Tables in the kernel.
pub struct KernelTables {
    sizes: Sizes,
    stripes: usize,
    vips: HashMap<MapData, VipKey, u64>,
    ports: HashMap<MapData, PortKey, u64>,
    members: HashMap<MapData, MemberKey, u32>,
    fronts: Words,
    slots: Words,
    backends: Words,
    clusters: Words,
    hits: Words,
    settings: Words,
    /// A map of one map. The kernel answers a change of it when no program that ran before runs any more.
    barrier: ArrayOfMaps<MapData, Array<MapData, u64>>,
    inner: Array<MapData, u64>,
}

impl KernelTables {
    fn of(programs: &mut Ebpf, sizes: Sizes, stripes: usize) -> Result<Self, LoadError> {
        let inner = Array::<MapData, u64>::create(1, 0).map_err(|error| of_map("barrier", &error))?;
        let (ports, backends) = (sizes.ports as usize, sizes.backends as usize);
        Ok(Self {
            sizes,
            stripes,
            vips: HashMap::try_from(take(programs, "vips")?).map_err(|error| of_map("vips", &error))?,
            ports: HashMap::try_from(take(programs, "ports")?).map_err(|error| of_map("ports", &error))?,
            members: HashMap::try_from(take(programs, "members")?)
                .map_err(|error| of_map("members", &error))?,
            fronts: words(programs, "fronts", ports * Front::WORDS)?,
            slots: words(programs, "slots", sizes.slots as usize)?,
            backends: words(programs, "backends", backends * Backend::WORDS)?,
            clusters: words(programs, "clusters", sizes.clusters as usize)?,
            hits: words(programs, "hits", backends * stripes)?,
            settings: words(programs, "settings", SETTINGS)?,
            barrier: ArrayOfMaps::try_from(take(programs, "barrier")?)
                .map_err(|error| of_map("barrier", &error))?,
            inner,
        })
    }

    /// One decision of so many is told; 0: none.
    pub fn sample(&self, one_of: u32) {
        self.settings[SETTING_SAMPLE].store(one_of.into(), Ordering::Relaxed);
    }
}

impl Tables for KernelTables {
    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn set_vip(&mut self, key: VipKey, service: Option<u32>) -> Result<(), WriteError> {
        set(&mut self.vips, "vips", key, service.map(|number| key.value(number)))
    }

    fn set_port(&mut self, key: PortKey, front: Option<u32>) -> Result<(), WriteError> {
        set(&mut self.ports, "ports", key, front.map(|number| key.value(number)))
    }

    fn set_member(&mut self, key: MemberKey, backend: Option<u32>) -> Result<(), WriteError> {
        set(&mut self.members, "members", key, backend)
    }

    fn write_front(&mut self, number: u32, front: &Front) {
        write(&self.fronts, number as usize * Front::WORDS, &front.words());
    }

    fn store_head(&mut self, front: u32, family: usize, head: u64) {
        // Whoever reads the head reads what it leads to as it was written before.
        self.fronts[front as usize * Front::WORDS + family].store(head, Ordering::Release);
    }

    fn store_affinity(&mut self, front: u32, seconds: u32) {
        let word = Front { affinity: seconds, ..Front::default() }.words()[Front::AFFINITY];
        self.fronts[front as usize * Front::WORDS + Front::AFFINITY].store(word, Ordering::Release);
    }

    fn write_slots(&mut self, first: u32, words: &[u64]) {
        write(&self.slots, first as usize, words);
    }

    fn write_backend(&mut self, number: u32, backend: &Backend) {
        write(&self.backends, number as usize * Backend::WORDS, &backend.words());
        for stripe in self.stripes_of(number) {
            stripe.store(0, Ordering::Relaxed);
        }
    }

    fn store_cluster(&mut self, number: u32, down: bool) {
        self.clusters[number as usize].store(down.into(), Ordering::Release);
    }

    fn rest(&mut self) -> Result<(), WriteError> {
        let refused = |error| write_error("barrier", &error);
        self.barrier.set(0, &self.inner, 0).map_err(refused)
    }

    fn hits(&self, backend: u32) -> u64 {
        self.stripes_of(backend).iter().map(|stripe| stripe.load(Ordering::Relaxed)).sum()
    }

    fn unreachable(&self, front: u32) -> u64 {
        self.fronts[front as usize * Front::WORDS + Front::UNREACHABLE].load(Ordering::Relaxed)
    }
}

impl KernelTables {
    fn stripes_of(&self, backend: u32) -> &[AtomicU64] {
        let first = backend as usize * self.stripes;
        &self.hits[first..first + self.stripes]
    }
}

/// What nothing leads to yet may be written in any order.
fn write(words: &Words, first: usize, values: &[u64]) {
    for (word, value) in words[first..].iter().zip(values) {
        word.store(*value, Ordering::Relaxed);
    }
}

fn set<K: aya::Pod, V: aya::Pod>(
    map: &mut HashMap<MapData, K, V>,
    name: &'static str,
    key: K,
    value: Option<V>,
) -> Result<(), WriteError> {
    let removes = value.is_none();
    let written = match value {
        Some(value) => map.insert(key, value, 0),
        None => map.remove(&key),
    };
    match written {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if removes && error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        Err(error) => Err(write_error(name, &error)),
        Ok(()) => Ok(()),
    }
}

fn write_error(map: &'static str, error: &MapError) -> WriteError {
    let code = match error {
        MapError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    match code {
        Some(libc::E2BIG) => WriteError::Full { map },
        Some(code) => WriteError::Refused { map, error: io::Error::from_raw_os_error(code) },
        None => WriteError::Refused { map, error: io::Error::other(crate::error::chain(error)) },
    }
}

/// Decisions, as they are made, as far as `sample` has them told.
pub struct Events {
    ring: RingBuf<MapData>,
}

impl Events {
    /// Waits until there are some, but not longer than this.
    pub fn wait(&self, most: Duration) {
        // Whatever it says: who asks looks.
        let _ = sys::wait(self.ring.as_fd(), most);
    }

    /// The next one that waits.
    pub fn take(&mut self) -> Option<Event> {
        while let Some(item) = self.ring.next() {
            if let Some(event) = Event::parse(&item) {
                return Some(event);
            }
        }
        None
    }
}
