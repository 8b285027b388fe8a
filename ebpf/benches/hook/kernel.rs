//! Where the hook is: a cgroup and a BPF file system of this bench's own.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use portolan_ebpf::Redirection;
use portolan_ebpf::hooks::Cgroup;
use portolan_ebpf::pins::Pins;
use portolan_ebpf::tables::Sizes;

use super::ENDPOINTS;

/// See the module. It goes with the bench.
pub struct KernelPlace {
    inside: PathBuf,
    outside: PathBuf,
    pins: PathBuf,
}

impl KernelPlace {
    pub fn make() -> Self {
        let root = Cgroup::open(None).unwrap().path().to_owned();
        let name = format!("portolan-bench-{}", std::process::id());
        let [inside, outside] = ["in", "out"].map(|side| root.join(format!("{name}-{side}")));
        let bpffs = std::env::temp_dir().join(&name);
        for folder in [&inside, &outside, &bpffs] {
            std::fs::create_dir(folder).unwrap();
        }
        run(&["mount", "-t", "bpf", "bpf", bpffs.to_str().unwrap()]);
        Self { inside, outside, pins: bpffs.join("pins") }
    }

    /// Sockets that are made from now on are hooked, or not.
    pub fn enter(&self, inside: bool) {
        let folder = if inside { &self.inside } else { &self.outside };
        std::fs::write(folder.join("cgroup.procs"), "0").unwrap();
    }

    /// The programs, and tables for so many virtual IPs.
    pub fn load(&self, vips: u32) -> Redirection {
        let sizes = Sizes::of(vips + 100, vips * 2 + 200, vips * 2 * ENDPOINTS + 70_000);
        let (pins, cgroup) = (Pins::open(&self.pins).unwrap(), Cgroup::open(Some(&self.inside)).unwrap());
        Redirection::load(pins, cgroup, sizes, None).unwrap().0
    }

    /// Takes the programs off.
    pub fn clear(&self) {
        Pins::find(&self.pins).unwrap().unwrap().remove().unwrap();
    }

    /// MB that the kernel accounts for the maps that this process has open, those of the arrays in memory not counted twice.
    pub fn memory(&self) -> f64 {
        let mut maps = BTreeMap::new();
        let output = Command::new("bpftool").args(["map", "show", "--json"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        for map in text.split("{\"id\":").skip(1) {
            let field = |name: &str| -> Option<u64> {
                let rest = &map[map.find(&format!("\"{name}\":"))? + name.len() + 3..];
                rest[..rest.find([',', '}'])?].parse().ok()
            };
            let id: u64 = map[..map.find(',').unwrap()].parse().unwrap();
            let is_ours =
                ["vips", "ports", "members", "fronts", "slots", "backends", "clusters", "hits", "settings"]
                    .into_iter()
                    .chain(["affinities", "flows", "origins", "events", "barrier"])
                    .any(|name| map.contains(&format!("\"name\":\"{name}\"")));
            if is_ours {
                maps.insert(id, field("bytes_memlock").unwrap_or_default());
            }
        }
        maps.values().sum::<u64>() as f64 / 1e6
    }
}

impl Drop for KernelPlace {
    fn drop(&mut self) {
        let root = self.inside.parent().unwrap().join("cgroup.procs");
        std::fs::write(root, "0").unwrap();
        for folder in [&self.inside, &self.outside] {
            std::fs::remove_dir(folder).unwrap();
        }
        let bpffs = self.pins.parent().unwrap();
        run(&["umount", "-l", bpffs.to_str().unwrap()]);
        std::fs::remove_dir(bpffs).unwrap();
    }
}

/// Runs a program that must succeed.
pub fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", words[0]));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
