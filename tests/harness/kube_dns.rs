//! kube-dns as its Pod runs it: the program `kube-dns` for `cluster.local`, and in front of it dnsmasq, which
//! `dnsmasq-nanny` starts with flags made of the ConfigMap `kube-dns`. dnsmasq is always Debian's. Without
//! KUBE_DNS_ASSETS the test is the nanny, and CoreDNS's plugin `kubernetes` is kube-dns.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::forwarder::kube_dns_asset;
use super::kubernetes::{ADMIN_USER, Cluster};
use super::launch::DYING_WITH_US;
use super::setup::{DNS, write};
use super::{Forwarder, Package, coredns, eventually, loopback, program};

/// Of the cluster itself.
const KUBERNETES: &str = "kubernetes.default.svc.cluster.local A";
/// dnsmasq's own name.
const PROBE: &str = "version.bind TXT CH";
/// Keys of the ConfigMap that the nanny looks at.
const KEYS: [&str; 2] = ["stubDomains", "upstreamNameservers"];

/// A running kube-dns.
#[derive(Debug)]
pub struct KubeDns {
    /// dnsmasq: what Pods ask.
    pub dnsmasq: Forwarder,
    /// What dnsmasq asks about `cluster.local`.
    pub kube_dns: Forwarder,
    /// Whether a nanny of its own looks after dnsmasq.
    has_nanny: bool,
}

impl KubeDns {
    /// Starts it in a cluster, with the cluster's ConfigMap `kube-system/kube-dns`, which must name
    /// `upstreamNameservers`: it must not ask this machine's.
    pub fn start(cluster: &Cluster) -> Self {
        let kube_dns = kube_dns(cluster);
        let address = loopback();
        let folder = tempfile::Builder::new().prefix("portolan-dnsmasq-").tempdir().unwrap();
        mount(cluster, folder.path());
        let fixed = fixed_arguments(address, kube_dns.at());
        let nanny = kube_dns_asset("dnsmasq-nanny");
        let has_nanny = nanny.is_some();
        let dnsmasq = match nanny {
            Some(nanny) => {
                Forwarder::start(&nanny, &nanny_arguments(&folder, &fixed), address, folder, PROBE)
            }
            None => {
                let arguments = [fixed, stub_arguments(folder.path())].concat();
                let dnsmasq = program("dnsmasq", Package::DnsmasqBase);
                Forwarder::start(Path::new(dnsmasq.get_program()), &arguments, address, folder, PROBE)
            }
        };
        Self { dnsmasq, kube_dns, has_nanny }
    }

    /// What a kubelet does when the ConfigMap has changed, and the nanny then.
    pub fn sync(&mut self, cluster: &Cluster) {
        mount(cluster, &self.dnsmasq.path(""));
        if !self.has_nanny {
            let address = match self.dnsmasq.at() {
                SocketAddr::V4(at) => *at.ip(),
                SocketAddr::V6(at) => panic!("{at}"),
            };
            let fixed = fixed_arguments(address, self.kube_dns.at());
            let arguments = [fixed, stub_arguments(&self.dnsmasq.path(""))].concat();
            self.dnsmasq.start_again(&arguments, PROBE);
        }
    }
}

fn kube_dns(cluster: &Cluster) -> Forwarder {
    let kubeconfig = cluster.kubeconfig(ADMIN_USER).display().to_string();
    let Some(program) = kube_dns_asset("kube-dns") else {
        let world = data(cluster)["upstreamNameservers"].clone();
        let world: Vec<String> = serde_json::from_str(&world).unwrap();
        return coredns(|address| {
            format!(
                ".:{DNS} {{\n    bind {address}\n    kubernetes cluster.local {{\n        kubeconfig {kubeconfig}\n    \
                 }}\n    forward . {}\n}}",
                world.join(" ")
            )
        });
    };
    let address = loopback();
    let folder = tempfile::Builder::new().prefix("portolan-kube-dns-").tempdir().unwrap();
    let arguments = [
        "--domain=cluster.local.".into(),
        format!("--dns-bind-address={address}"),
        format!("--dns-port={DNS}"),
        "--healthz-port=0".into(),
        format!("--kubecfg-file={kubeconfig}"),
        "--config-map=kube-dns".into(),
        "--v=2".into(),
    ];
    let kube_dns = Forwarder::start(&program, &arguments, address, folder, KUBERNETES);
    eventually("kube-dns has read its ConfigMap", || kube_dns.log().contains("Configuration updated"));
    kube_dns
}

/// The arguments of kubernetes' `kube-dns.yaml` for dnsmasq, and what keeps it to itself on this machine.
fn fixed_arguments(address: Ipv4Addr, kube_dns: SocketAddr) -> Vec<String> {
    let pod = "-k --cache-size=1000 --no-negcache --dns-loop-detect --log-facility=-".split(' ');
    let here = "--conf-file=/dev/null --pid-file= --no-hosts --bind-interfaces --user=root".split(' ');
    let mut arguments: Vec<_> = pod.chain(here).map(str::to_owned).collect();
    for domain in ["cluster.local", "in-addr.arpa", "ip6.arpa"] {
        arguments.push(format!("--server=/{domain}/{}#{}", kube_dns.ip(), kube_dns.port()));
    }
    arguments.extend([format!("--listen-address={address}"), format!("--port={DNS}")]);
    arguments
}

/// The nanny's own arguments, which look at its folder every second, and dnsmasq's.
fn nanny_arguments(folder: &TempDir, fixed: &[String]) -> Vec<String> {
    // What a killed nanny has started lives on.
    let dnsmasq = program("dnsmasq", Package::DnsmasqBase);
    let script = folder.path().join("dnsmasq");
    let words = [DYING_WITH_US.join(" "), dnsmasq.get_program().display().to_string()].join(" ");
    write(&script, format!("#!/bin/sh\nexec {words} \"$@\"\n"));
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    let own = [
        format!("-dnsmasqExec={}", script.display()),
        format!("-configDir={}", folder.path().join("config").display()),
        "-syncInterval=1s".into(),
        "-restartDnsmasq=true".into(),
        "-logtostderr".into(),
        "-v=2".into(),
        "--".into(),
    ];
    [&own, fixed].concat()
}

/// What the nanny makes of the ConfigMap (its `Nanny.Configure`).
fn stub_arguments(folder: &Path) -> Vec<String> {
    let read = |key: &str| std::fs::read_to_string(folder.join("config").join(key)).ok();
    let servers = |text: String| serde_json::from_str::<Vec<String>>(&text).unwrap();
    let stubs = read("stubDomains").unwrap_or_else(|| "{}".into());
    let stubs: BTreeMap<String, Vec<String>> = serde_json::from_str(&stubs).unwrap();
    let stubs = stubs.into_iter().flat_map(|(domain, servers)| {
        servers.into_iter().map(move |server| format!("/{domain}/{}", server.replace(':', "#")))
    });
    let upstream = read("upstreamNameservers").map(servers).unwrap_or_default();
    let upstream = upstream.into_iter().map(|server| server.replace(':', "#"));
    let arguments = stubs.chain(upstream).flat_map(|server| ["--server".into(), server]);
    arguments.chain(["--no-resolv".into()]).collect()
}

/// What a kubelet does: the ConfigMap's keys are files of a folder, `config`.
fn mount(cluster: &Cluster, folder: &Path) {
    let data = data(cluster);
    for key in KEYS {
        let file = folder.join("config").join(key);
        match data.get(key) {
            Some(text) => write(&file, text),
            None => std::fs::remove_file(&file).unwrap_or_default(),
        }
    }
}

fn data(cluster: &Cluster) -> BTreeMap<String, String> {
    let map = cluster.get("ConfigMap", "kube-system", "kube-dns").expect("a ConfigMap kube-dns");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    map["data"].as_object().unwrap().iter().map(|(key, value)| (key.clone(), text(value))).collect()
}
