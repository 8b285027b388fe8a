//! Cgroups of a test's own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::running_it;
use crate::harness::eventually;
use crate::harness::launch::at_the_end;

/// A cgroup for processes that are redirected, or held.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

/// Numbers of what tests make.
pub(super) fn next() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("portolan-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Cgroup {
    /// A new one without limits.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        let path = cgroup2().unwrap().join(next());
        let cgroup = Self { path };
        cgroup.make();
        at_the_end(&format!("rmdir '{}' 2>/dev/null", cgroup.path.display()));
        cgroup
    }

    /// A new one whose processes run for `quota` of each `period` at most, both in microseconds. The error says what is missing on
    /// this machine, of which nothing is changed.
    pub fn limited(quota: u32, period: u32) -> Result<Self, String> {
        let (parent, limits) = cpu_limits(quota, period).ok_or(
            "there is no cgroup with the cpu controller; with cgroup2 it may be off: echo +cpu > cgroup.subtree_control",
        )?;
        let cgroup = Self { path: parent.join(next()) };
        let refused = |error| format!("{}: {error}: only root may make cgroups", cgroup.path.display());
        std::fs::create_dir(&cgroup.path).map_err(refused)?;
        at_the_end(&format!("rmdir '{}' 2>/dev/null", cgroup.path.display()));
        for (file, limit) in limits {
            std::fs::write(cgroup.path.join(file), limit).map_err(refused)?;
        }
        Ok(cgroup)
    }

    /// Makes it anew after [`Cgroup::remove`].
    pub fn make(&self) {
        std::fs::create_dir(&self.path).unwrap();
    }

    /// Removes it, once its last process has ended.
    pub fn remove(&self) {
        eventually("the cgroup is removed", || std::fs::remove_dir(&self.path).is_ok());
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same program, in this cgroup from its begin.
    pub fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("sh");
        inside.args(["-c", "echo $$ > \"$0\"/cgroup.procs && exec \"$@\""]).arg(&self.path);
        running_it(inside, command)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.path);
    }
}

/// Where cgroup2 is mounted.
pub(super) fn cgroup2() -> Option<PathBuf> {
    mount("cgroup2", |_| true)
}

/// For whose children the processor can be limited, and what is to be written into which of their files.
fn cpu_limits(quota: u32, period: u32) -> Option<(PathBuf, Vec<(&'static str, String)>)> {
    let has_cpu = |mount: &PathBuf| {
        let on = std::fs::read_to_string(mount.join("cgroup.subtree_control")).unwrap_or_default();
        on.split_whitespace().any(|controller| controller == "cpu")
    };
    if let Some(v2) = cgroup2().filter(has_cpu) {
        return Some((v2, vec![("cpu.max", format!("{quota} {period}"))]));
    }
    let v1 = mount("cgroup", |options| options.split(',').any(|option| option == "cpu"))?;
    let limits = [("cpu.cfs_period_us", period), ("cpu.cfs_quota_us", quota)];
    Some((v1, limits.map(|(file, limit)| (file, limit.to_string())).into()))
}

/// Where the first file system of this kind is mounted, with such options.
fn mount(kind: &str, such: impl Fn(&str) -> bool) -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields.find(|fields| fields[2] == kind && such(fields[3])).map(|fields| fields[1].into())
}
