//! NodeLocal DNSCache. The program `node-cache` is CoreDNS with a part before it that makes a network interface, and
//! writes the Corefile out of a template and the ConfigMap `kube-dns`. Without KUBE_DNS_ASSETS the real CoreDNS runs
//! with the Corefile that this part would write.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::coredns::{PROBE, coredns_at, probed};
use super::forwarder::kube_dns_asset;
use super::setup::{DNS, write};
use super::{Forwarder, loopback};

/// The node's `.` block and that of the cluster's domain, as kubernetes' `nodelocaldns.yaml` has them, without the
/// ports for health and figures.
const TEMPLATE: &str = "\
cluster.local:__PORT__ {
    errors
    cache {
        success 9984 30
        denial 9984 5
    }
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__:__PORT__ {
        force_tcp
    }
}
.:__PORT__ {
    errors
    cache 30
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__UPSTREAM__SERVERS__
}
";

/// Starts it with a server block more, at two addresses: in place of its own 169.254.20.10, and of the cluster DNS's
/// Service IP, which it takes over. `cluster` answers for `cluster.local`, `world` for all else.
pub fn node_cache(block: &str, cluster: SocketAddr, world: SocketAddr) -> (Forwarder, Ipv4Addr) {
    let (address, service) = (loopback(), loopback());
    let template = format!("{TEMPLATE}{block}").replace("__PORT__", &DNS.to_string());
    let cache = match kube_dns_asset("node-cache") {
        Some(program) => real(&program, &template, [address, service], cluster, world),
        None => {
            let corefile = template
                .replace("__PILLAR__LOCAL__DNS__", &format!("{address} {service}"))
                .replace("__PILLAR__DNS__SERVER__", "")
                .replace("__PILLAR__CLUSTER__DNS__", &cluster.ip().to_string())
                .replace("__PILLAR__UPSTREAM__SERVERS__", &world.to_string());
            coredns_at(address, &corefile)
        }
    };
    (cache, service)
}

/// As its DaemonSet starts it, but that it leaves the machine's network alone.
fn real(
    program: &Path,
    template: &str,
    addresses: [Ipv4Addr; 2],
    cluster: SocketAddr,
    world: SocketAddr,
) -> Forwarder {
    let folder = tempfile::Builder::new().prefix("portolan-node-cache-").tempdir().unwrap();
    let path = |file: &str| folder.path().join(file).display().to_string();
    let template = format!("{template}{}", probed(addresses[0]));
    write(&folder.path().join("template/Corefile.base"), template);
    write(&folder.path().join("kube-dns/upstreamNameservers"), format!("[\"{world}\"]"));
    let arguments = [
        format!("KUBE_DNS_UPSTREAM_SERVICE_HOST={}", cluster.ip()),
        program.display().to_string(),
        format!("-localip={},{}", addresses[0], addresses[1]),
        format!("-conf={}", path("Corefile")),
        format!("-basecorefile={}", path("template/Corefile.base")),
        format!("-kubednscm={}", path("kube-dns")),
        "-upstreamsvc=kube-dns-upstream".into(),
        format!("-dns.port={DNS}"),
        format!("-metrics-listen-address={}:9353", addresses[0]),
        "-setupinterface=false".into(),
        "-setupiptables=false".into(),
        "-skipteardown=true".into(),
    ];
    Forwarder::start(Path::new("env"), &arguments, addresses[0], folder, PROBE)
}
