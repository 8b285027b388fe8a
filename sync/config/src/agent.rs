//! What only the node agent reads: where it hooks in, and how much it may remember.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use crate::scalar::Scalar;
use crate::section::Section;

/// Most entries of a map: 16 Mi, beyond which a kernel would set apart gigabytes for it.
const MOST_ENTRIES: u32 = 16 << 20;

/// The section `agent`.
#[derive(Debug, Clone, PartialEq)]
pub struct Agent {
    /// The cgroup whose connections are redirected; `None`: the root of cgroup2, wherever it is mounted.
    pub cgroup: Option<PathBuf>,
    /// The folder of a BPF file system where programs and maps are pinned, so that they outlive the agent.
    pub pins: PathBuf,
    /// The Node that it runs on; `None`: `$NODE_NAME` or the host's name.
    pub node: Option<String>,
    /// Virtual IPs that are left to others.
    pub skip: Vec<IpNet>,
    /// Who else redirects Services on the same cgroup.
    pub beside: Beside,
    /// How large the maps are.
    pub maps: MapSizes,
    /// Admin HTTP; `None` is off.
    pub admin: Option<SocketAddr>,
}

/// Beside whom the agent redirects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Beside {
    /// Whoever is found there, by the names of programs, which the capability SYS_ADMIN shows.
    #[default]
    Auto,
    /// Cilium, whether it is found or not: only virtual IPs of the pool are redirected.
    Cilium,
    /// Nobody, whoever is found: all virtual IPs are redirected.
    Nobody,
}

impl Scalar for Beside {
    const EXPECTED: &'static str = "`Auto`, `Cilium` or `Nobody`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "Auto" => Ok(Self::Auto),
            "Cilium" => Ok(Self::Cilium),
            "Nobody" => Ok(Self::Nobody),
            _ => Err(format!("is not {}", Self::EXPECTED)),
        }
    }
}

/// Most entries of each map, from 1 to 16 Mi.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapSizes {
    /// Virtual IPs.
    pub vips: u32,
    /// Ports of virtual IPs, by protocol.
    pub ports: u32,
    /// Backends of all ports.
    pub backends: u32,
    /// Flows of UDP sockets that are known at a time.
    pub sockets: u32,
    /// Clients that are known where services ask for session affinity.
    pub affinity: u32,
}

impl Agent {
    /// Takes its section from the root.
    pub fn read(root: &mut Section<'_>) -> Self {
        root.section("agent", |section| {
            let default = Self::default();
            Self {
                cgroup: mounted(section, "cgroup"),
                pins: mounted(section, "pins").unwrap_or(default.pins),
                node: section.optional::<String>("node").filter(|node| !node.is_empty()),
                skip: section.list("skip", default.skip),
                beside: section.get("beside", default.beside),
                maps: section.section("maps", |maps| MapSizes::read(maps, default.maps)),
                admin: section.section("admin", |admin| admin.or_off("listen", default.admin)),
            }
        })
    }
}

impl MapSizes {
    fn read(section: &mut Section<'_>, default: Self) -> Self {
        let mut entries = |key, default| {
            let entries = section.get(key, default);
            if !(1..=MOST_ENTRIES).contains(&entries) {
                section
                    .problem(key, format!("{entries} is not a number of entries from 1 to {MOST_ENTRIES}"));
            }
            entries
        };
        Self {
            vips: entries("vips", default.vips),
            ports: entries("ports", default.ports),
            backends: entries("backends", default.backends),
            sockets: entries("sockets", default.sockets),
            affinity: entries("affinity", default.affinity),
        }
    }
}

/// A path in a file system of the kernel's, which is beside no file of ours.
fn mounted(section: &mut Section<'_>, key: &'static str) -> Option<PathBuf> {
    let path = section.optional::<PathBuf>(key)?;
    if !path.is_absolute() {
        section.problem(key, format!("`{}` is relative: write the path from `/` on", path.display()));
    }
    Some(path)
}

impl Default for Agent {
    fn default() -> Self {
        Self {
            cgroup: None,
            pins: "/sys/fs/bpf/portolan".into(),
            node: None,
            skip: Vec::new(),
            beside: Beside::default(),
            maps: MapSizes::default(),
            admin: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 9154))),
        }
    }
}

impl Default for MapSizes {
    fn default() -> Self {
        Self { vips: 32_768, ports: 65_536, backends: 131_072, sockets: 65_536, affinity: 65_536 }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::Problem;

    fn parse(text: &str) -> Result<Agent, Vec<Problem>> {
        let file = Path::new("/etc/portolan/portolan.yaml");
        crate::parse(&format!("version: v1\n{text}"), file, None, Agent::read)
    }

    #[test]
    fn what_is_written_holds() {
        type Change = fn(&mut Agent);
        let rows: &[(&str, Change)] = &[
            ("cgroup: /sys/fs/cgroup/kubepods", |a| a.cgroup = Some("/sys/fs/cgroup/kubepods".into())),
            ("pins: /run/bpf", |a| a.pins = "/run/bpf".into()),
            ("node: worker-1", |a| a.node = Some("worker-1".into())),
            ("skip: [10.96.0.0/12, 'fd00::1']", |a| {
                a.skip = vec!["10.96.0.0/12".parse().unwrap(), "fd00::1/128".parse().unwrap()];
            }),
            ("beside: Cilium", |a| a.beside = Beside::Cilium),
            ("beside: Nobody", |a| a.beside = Beside::Nobody),
            ("maps: {vips: 1, ports: 2, backends: 3, sockets: 4, affinity: 16777216}", |a| {
                a.maps = MapSizes { vips: 1, ports: 2, backends: 3, sockets: 4, affinity: 16_777_216 };
            }),
            ("maps: {sockets: 9}", |a| a.maps.sockets = 9),
            ("admin: {listen: ''}", |a| a.admin = None),
            ("admin: {listen: '[::]:9154'}", |a| a.admin = "[::]:9154".parse().ok()),
        ];
        for (text, change) in rows {
            let mut expected = Agent::default();
            change(&mut expected);
            assert_ne!(expected, Agent::default(), "the row changes nothing: {text}");
            assert_eq!(parse(&format!("agent: {{{text}}}")), Ok(expected), "{text}");
        }
        for nothing in ["", "agent:", "agent: {cgroup: '', pins: '', node: '', skip: []}"] {
            assert_eq!(parse(nothing), Ok(Agent::default()), "{nothing}");
        }
    }

    #[test]
    fn what_can_not_be_is_refused() {
        for (text, expected) in [
            (
                "agent:\n  cgroup: kubepods",
                "3: agent.cgroup: `kubepods` is relative: write the path from `/` on",
            ),
            ("agent: {pins: ./bpf}", "2: agent.pins: `./bpf` is relative: write the path from `/` on"),
            (
                "agent:\n  maps:\n    vips: 0",
                "4: agent.maps.vips: 0 is not a number of entries from 1 to 16777216",
            ),
            (
                "agent: {maps: {affinity: 16777217}}",
                "2: agent.maps.affinity: 16777217 is not a number of entries from 1 to 16777216",
            ),
            (
                "agent: {maps: {ports: -1}}",
                "2: agent.maps.ports: `-1` is not a whole number from 0 to 4294967295",
            ),
            ("agent: {maps: {port: 1}}", "2: agent.maps.port: unknown key `port`, did you mean `ports`?"),
            (
                "agent:\n  skip:\n  - 10.96.0.1/12",
                "4: agent.skip[0]: `10.96.0.1/12` has bits behind its prefix: write 10.96.0.0/12",
            ),
            (
                "agent: {admin: {listen: 9154}}",
                "2: agent.admin.listen: `9154` is not an address with a port, such as `0.0.0.0:53` or `[::]:53`",
            ),
            ("agent: {beside: cilium}", "2: agent.beside: `cilium` is not `Auto`, `Cilium` or `Nobody`"),
            ("agnt: {}", "2: agnt: unknown key `agnt`, did you mean `agent`?"),
        ] {
            let problems = parse(text).expect_err(text).into_iter();
            let told: Vec<_> = problems.map(|p| format!("{}: {}: {}", p.line, p.field, p.message)).collect();
            assert_eq!(told, [expected], "{text}");
        }
    }
}
