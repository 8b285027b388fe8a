//! Hosts: network namespaces, joined by veth pairs.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::running_it;
use crate::harness::launch::at_the_end;
use crate::harness::{Package, program, run};

/// Hosts of one test. They go with it.
#[derive(Debug, Default)]
pub struct Hosts {
    hosts: Vec<Host>,
    links: u32,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    namespace: String,
}

/// This machine itself: for an agent that follows an API server on the loopback interface. It redirects its cgroup, which is not
/// about networks.
pub fn here() -> Host {
    Host { namespace: String::new() }
}

impl Hosts {
    /// A host with a loopback interface and no other.
    pub fn add(&mut self, name: &str) -> Host {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let host = Host { namespace: format!("portolan-{}-{number}-{name}", std::process::id()) };
        ip(&["netns", "add", &host.namespace]);
        at_the_end(&format!("ip netns del {} 2>/dev/null", host.namespace));
        ip(&["-n", &host.namespace, "link", "set", "lo", "up"]);
        self.hosts.push(host.clone());
        host
    }

    /// A cable between two hosts, whose ends have these addresses, such as `10.1.0.1/24`; those of IPv6 can be used at once.
    pub fn join(&mut self, (a, of_a): (&Host, &[&str]), (b, of_b): (&Host, &[&str])) {
        self.links += 1;
        let name = format!("link{}", self.links);
        let far = format!("far{}", self.links);
        ip(&[
            "-n",
            &a.namespace,
            "link",
            "add",
            &name,
            "type",
            "veth",
            "peer",
            "name",
            &far,
            "netns",
            &b.namespace,
        ]);
        for (host, end, addresses) in [(a, &name, of_a), (b, &far, of_b)] {
            for address in addresses {
                let more: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
                ip(&[&["-n", &host.namespace, "address", "add", address, "dev", end], more].concat());
            }
            ip(&["-n", &host.namespace, "link", "set", end, "up"]);
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in &self.hosts {
            ip(&["netns", "del", &host.namespace]);
        }
    }
}

impl Host {
    /// The same program, on this host.
    pub fn command(&self, command: &Command) -> Command {
        let net = if self.namespace.is_empty() {
            "/proc/self/ns/net".to_owned()
        } else {
            format!("/run/netns/{}", self.namespace)
        };
        let mut there = program("nsenter", Package::UtilLinux);
        there.arg(format!("--net={net}")).arg("--");
        running_it(there, command)
    }

    /// Runs `ip` for this host.
    pub fn ip(&self, words: &[&str]) {
        ip(&[&["-n", &self.namespace], words].concat());
    }
}

fn ip(words: &[&str]) {
    let (done, text) = run(program("ip", Package::Iproute2).args(words));
    assert!(done, "ip {}: {text}", words.join(" "));
}
