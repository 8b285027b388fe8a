//! The real CoreDNS: in front of ours, and for the rest of the world.

use std::net::{Ipv4Addr, SocketAddr};

use super::kubernetes::binary;
use super::setup::{DNS, write};
use super::{Forwarder, loopback, repository};

/// What the rest of the world answers with, whatever it is asked.
pub const WORLD: &str = "192.0.2.66";
/// Of [`probed`].
pub(super) const PROBE: &str = "probe.invalid A";

/// Starts CoreDNS with the Corefile that a closure writes for its address.
pub fn coredns(corefile: impl FnOnce(Ipv4Addr) -> String) -> Forwarder {
    let address = loopback();
    coredns_at(address, &corefile(address))
}

pub(super) fn coredns_at(address: Ipv4Addr, corefile: &str) -> Forwarder {
    let folder = tempfile::Builder::new().prefix("portolan-coredns-").tempdir().unwrap();
    write(&folder.path().join("Corefile"), format!("{corefile}\n{}", probed(address)));
    let arguments = ["-conf", "Corefile"].map(str::to_owned);
    Forwarder::start(&binary("coredns"), &arguments, address, folder, PROBE)
}

/// A server block for the question whether it answers yet, which nobody else is to be asked about.
pub(super) fn probed(address: Ipv4Addr) -> String {
    template("probe.invalid", address, "192.0.2.1")
}

/// A server that has an address for every name there is: whoever swallows a name gets [`WORLD`].
pub fn world() -> Forwarder {
    coredns(|address| template(".", address, WORLD))
}

/// A server block that answers all of a zone with one address.
fn template(zone: &str, address: Ipv4Addr, answer: &str) -> String {
    let answer = format!("answer \"{{{{ .Name }}}} 60 IN A {answer}\"");
    let others = "template IN ANY {\n        rcode NOERROR\n    }";
    format!(
        "{zone}:{DNS} {{\n    bind {address}\n    template IN A {{\n        {answer}\n    }}\n    {others}\n}}\n"
    )
}

/// A file of `deploy/stub-domains`, with our server's address for the one that people put their own in place of,
/// and a port that needs no rights. All else is as people get it.
pub fn shipped(file: &str, server: SocketAddr) -> String {
    let path = repository().join("deploy/stub-domains").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains("10.96.0.53"), "{file} has another address: {text}");
    text.replace("10.96.0.53", &server.to_string()).replace(":53 {", &format!(":{DNS} {{"))
}
