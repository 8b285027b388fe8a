//! What most tests start from: a client's node and a node with backends, in one cluster.

use std::process::{Command, Stdio};

use portolan_tests::harness::node::{Agent, Cgroup, Host, Hosts, inside, python};
use portolan_tests::harness::{Package, eventually, program, run};
use serde_json::Value;

/// A client on `10.1.0.1` and `fd00:1::1`, and a host with addresses of backends.
pub(crate) struct Site {
    pub(crate) agent: Agent,
    pub(crate) cgroup: Cgroup,
    pub(crate) client: Host,
    pub(crate) server: Host,
    /// Last, so that all else ends before.
    hosts: Hosts,
}

/// Addresses of the host with backends.
pub(crate) const BACKENDS: [&str; 6] =
    ["10.1.0.11", "10.1.0.12", "10.1.0.13", "10.1.0.14", "fd00:1::11", "fd00:1::12"];

/// Servers at four addresses, each called as the end of its address.
pub(crate) const SERVERS: [&str; 8] = [
    "11/tcp/10.1.0.11/8080",
    "12/tcp/10.1.0.12/8080",
    "13/tcp/10.1.0.13/8080",
    "14/tcp/10.1.0.14/8080",
    "11/udp/10.1.0.11/5353",
    "12/udp/10.1.0.12/5353",
    "13/udp/10.1.0.13/5353",
    "14/udp/10.1.0.14/5353",
];

impl Site {
    /// With a cluster `paris` that has these manifests; nothing is started yet.
    pub(crate) fn new(manifests: &str) -> Self {
        Self::with(manifests, "", "")
    }

    /// The same with sections of the configuration, and keys of its section `agent`.
    pub(crate) fn with(manifests: &str, yaml: &str, agent: &str) -> Self {
        Self::of(&[("paris", manifests)], yaml, agent)
    }

    /// With these clusters, of which the first is the client's.
    pub(crate) fn of(clusters: &[(&str, &str)], yaml: &str, agent: &str) -> Self {
        let mut hosts = Hosts::default();
        let (client, server) = (hosts.add("client"), hosts.add("server"));
        let theirs: Vec<String> =
            BACKENDS.iter().map(|ip| format!("{ip}/{}", if ip.contains(':') { 64 } else { 24 })).collect();
        let theirs: Vec<&str> = theirs.iter().map(String::as_str).collect();
        hosts.join((&client, &["10.1.0.1/24", "fd00:1::1/64"]), (&server, &theirs));
        let cgroup = Cgroup::new();
        let listed: String = clusters
            .iter()
            .map(|(name, _)| format!("- {{name: {name}, manifests: clusters/{name}}}\n"))
            .collect();
        let yaml = format!("home: {}\nclusters:\n{listed}{yaml}", clusters[0].0);
        let agent = Agent::new(&client, &cgroup, &yaml, agent);
        for (name, manifests) in clusters {
            agent.write(&format!("clusters/{name}/services.yaml"), manifests);
        }
        Self { agent, cgroup, client, server, hosts }
    }

    /// More hosts with clients, from which the backends of IPv4 can be reached.
    pub(crate) fn more_clients(&mut self, count: u8) -> Vec<Host> {
        let another = |number| {
            let other = self.hosts.add("other");
            let [near, far] = [1, 2].map(|end| format!("10.2.{number}.{end}"));
            let ends = [&near, &far].map(|address| format!("{address}/24"));
            self.hosts.join((&other, &[ends[0].as_str()]), (&self.server, &[ends[1].as_str()]));
            other.ip(&["route", "add", "10.1.0.0/24", "via", &far]);
            other
        };
        (0..count).map(another).collect()
    }

    /// The virtual IP of a service in `default`, of a family.
    pub(crate) fn vip(&self, service: &str, is_v6: bool) -> String {
        let vips = self.agent.vips(&format!("default/{service}"));
        let found = vips.iter().find(|vip| vip.is_ipv6() == is_v6);
        found.unwrap_or_else(|| panic!("{service} has only {vips:?}")).to_string()
    }

    /// Where clients' programs are.
    pub(crate) fn inside(&self) -> (&Host, Option<&Cgroup>) {
        (&self.client, Some(&self.cgroup))
    }

    /// Runs a program as a client: whether it succeeded, and what it printed.
    pub(crate) fn run(&self, name: &str, package: Package, words: &[&str]) -> (bool, String) {
        let (client, cgroup) = self.inside();
        let mut command = inside(client, cgroup, program(name, package).args(words));
        run(command.stdin(Stdio::null()).env_remove("http_proxy"))
    }

    /// The same with a line for the shell.
    pub(crate) fn shell(&self, line: &str) -> (bool, String) {
        let (client, cgroup) = self.inside();
        run(&mut inside(client, cgroup, Command::new("sh").args(["-c", line])))
    }

    /// What a script of ours tells, as a client.
    pub(crate) fn python(&self, name: &str, words: &[&str]) -> Value {
        let (client, cgroup) = self.inside();
        python(client, cgroup, name, words)
    }

    /// Replaces a manifest; returns when the kernel follows it.
    pub(crate) fn rewrite(&self, path: &str, text: impl AsRef<[u8]>) {
        let before = self.agent.status()["generation"].as_u64();
        self.agent.write(path, text);
        eventually("the change is in the kernel", || self.agent.status()["generation"].as_u64() > before);
    }
}

/// A Service with its export; `spec` are more lines of its spec, ports are `NAME PORT/PROTOCOL`.
pub(crate) fn service(name: &str, spec: &str, ports: &[&str]) -> String {
    let port = |port: &&str| {
        let (name, number) = port.split_once(' ').unwrap();
        let (number, protocol) = number.split_once('/').unwrap();
        format!("  - {{name: {name}, port: {number}, protocol: {protocol}}}\n")
    };
    let ports: String = ports.iter().map(port).collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  clusterIP: 10.96.0.1\n  \
         {spec}\n  ports:\n{ports}---\n{}",
        export(name, "")
    )
}

/// A ServiceExport; `annotations` as YAML in one line.
pub(crate) fn export(name: &str, annotations: &str) -> String {
    format!(
        "apiVersion: multicluster.x-k8s.io/v1alpha1\nkind: ServiceExport\nmetadata:\n  name: {name}\n  namespace: default\n  \
         annotations: {{{annotations}}}\n---\n"
    )
}

/// An EndpointSlice; ports are `NAME PORT/PROTOCOL`, endpoints `ADDRESS` or `ADDRESS!` when they are not ready, and `@ZONE` may
/// follow: Kubernetes' topology zone.
pub(crate) fn slice(service: &str, suffix: &str, ports: &[&str], endpoints: &[&str]) -> String {
    let family = if endpoints.iter().any(|address| address.contains(':')) { "IPv6" } else { "IPv4" };
    let port = |port: &&str| {
        let (name, number) = port.split_once(' ').unwrap();
        let (number, protocol) = number.split_once('/').unwrap();
        format!("- {{name: {name}, port: {number}, protocol: {protocol}}}\n")
    };
    let endpoint = |address: &&str| {
        let (address, az) =
            address.split_once('@').map_or((*address, None), |(address, az)| (address, Some(az)));
        let (ready, address) = (!address.ends_with('!'), address.trim_end_matches('!'));
        let az = az.map(|az| format!(", zone: {az}")).unwrap_or_default();
        format!("- {{addresses: ['{address}'], conditions: {{ready: {ready}}}{az}}}\n")
    };
    let (ports, endpoints): (String, String) =
        (ports.iter().map(port).collect(), endpoints.iter().map(endpoint).collect());
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {service}-{suffix}\n  namespace: default\n  \
         labels: {{kubernetes.io/service-name: {service}}}\naddressType: {family}\nports:\n{ports}endpoints:\n{endpoints}---\n"
    )
}
