//! Three clusters on three networks: a client's node and a node with backends in `paris`, the home; `tokyo` and `virginia` behind
//! gateways, real proxies with the configuration that `portolan gateway` prints.
//!
//! ```text
//!           10.1.0.0/24, fd00:1::/64   ┌── local: paris
//!  client ──────────────────────────── ┘
//!     ├──── 198.51.100.0/24 ── gateway of tokyo ──── 10.9.0.0/24 ── pods of tokyo
//!     └──── 203.0.113.0/24 ─── gateway of virginia ─ 10.9.0.0/24 ── pods of virginia: the same addresses
//! ```
//!
//! `default/hello` is HTTP at port 80, `default/who` UDP at port 53; both answer the cluster's name. HARunning and nginx have an address
//! each at a gateway, as both listen on all TCP ports of a configuration.

use std::collections::BTreeSet;
use std::fs::File;
use std::process::{Child, Command, Stdio};

use portolan_tests::harness::node::{Agent, Backends, Cgroup, Host, Hosts, backends};
use portolan_tests::harness::{Package, eventually, launch, portolan, program, run};

use crate::site::{service, slice};

pub(crate) const CLUSTERS: [&str; 3] = ["paris", "tokyo", "virginia"];
/// Debian's nginx has `stream` in a file of its own.
const STREAM: &str = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;";
/// Numbers at gateways of `hello` and `who`.
const HELLO: u16 = 20_080;
const WHO: u16 = 20_053;

/// See the module.
pub(crate) struct World {
    pub(crate) agent: Agent,
    pub(crate) cgroup: Cgroup,
    pub(crate) client: Host,
    pub(crate) tokyo: Gateway,
    pub(crate) virginia: Gateway,
    local: Host,
    paris: Option<Backends>,
    /// Last, so that all else ends before.
    pub(crate) hosts: Hosts,
}

/// A remote cluster's entrance, and what is behind it.
pub(crate) struct Gateway {
    host: Host,
    /// Of HARunning, and of nginx.
    pub(crate) addresses: [&'static str; 2],
    haproxy: (Command, Option<Running>),
    _nginx: Running,
    _pods: Backends,
}

impl World {
    /// All but the agent runs. `yaml`: further sections of the configuration.
    pub(crate) fn new(yaml: &str) -> Self {
        let mut hosts = Hosts::default();
        let (client, local) = (hosts.add("client"), hosts.add("local"));
        hosts.join(
            (&client, &["10.1.0.1/24", "fd00:1::1/64"]),
            (&local, &["10.1.0.2/24", "10.1.0.11/24", "fd00:1::11/64"]),
        );
        let cgroup = Cgroup::new();
        let agent = Agent::new(&client, &cgroup, &format!("{CLUSTERS_YAML}{yaml}"), "node: paris-1");
        agent.write("clusters/paris/nodes.yaml", NODES);
        agent.write("clusters/paris/services.yaml", manifests(&["10.1.0.11", "fd00:1::11"], None));
        let mut remote = |name: &str, client_at: &str, addresses: [&'static str; 2]| {
            agent.write(
                &format!("clusters/{name}/services.yaml"),
                manifests(&["10.9.0.11"], Some((addresses, ""))),
            );
            Gateway::start(&mut hosts, &agent, name, (&client, client_at), addresses)
        };
        let tokyo = remote("tokyo", "198.51.100.1/24", ["198.51.100.7", "198.51.100.8"]);
        let virginia = remote("virginia", "203.0.113.1/24", ["203.0.113.7", "203.0.113.8"]);
        let mut world = Self { agent, cgroup, client, tokyo, virginia, local, paris: None, hosts };
        world.start_paris();
        world
    }

    /// Starts the home's backends.
    pub(crate) fn start_paris(&mut self) {
        self.paris = Some(serving(&self.local, "paris", &["10.1.0.11", "fd00:1::11"]));
    }

    /// What an operator decides of a remote cluster, as `down` on its ServiceExports; empty: nothing.
    pub(crate) fn set_state(&self, cluster: &str, state: &str) {
        let gateway = if cluster == "tokyo" { &self.tokyo } else { &self.virginia };
        let text = manifests(&["10.9.0.11"], Some((gateway.addresses, state)));
        self.agent.write(&format!("clusters/{cluster}/services.yaml"), text);
    }

    /// Leaves the home's services with IPv4 pods alone; their IPv6 addresses stay.
    pub(crate) fn take_ipv6_away(&self) {
        self.agent.write("clusters/paris/services.yaml", manifests(&["10.1.0.11"], None));
    }

    /// The opposite.
    pub(crate) fn give_ipv6_back(&self) {
        self.agent.write("clusters/paris/services.yaml", manifests(&["10.1.0.11", "fd00:1::11"], None));
    }

    /// The clusters that a service's connections may go to.
    pub(crate) fn used(&self, service: &str) -> BTreeSet<String> {
        let told = self.agent.services(&format!("default/{service}"));
        let backends = told.as_array().unwrap().iter().flat_map(|port| port["backends"].as_array().unwrap());
        backends.map(|backend| backend["cluster"].as_str().unwrap().to_owned()).collect()
    }

    /// Kills them.
    pub(crate) fn kill_paris(&mut self) {
        self.paris = None;
    }

    /// Gives both services a TrafficPolicy, for the home's clients, in the place of the former one.
    pub(crate) fn policy(&self, spec: &str) {
        self.agent.write("clusters/paris/policy.yaml", policy(spec));
    }

    /// The first virtual IP of a family.
    pub(crate) fn vip(&self, service: &str, is_v4: bool) -> String {
        let vips = self.agent.vips(&format!("default/{service}"));
        vips.iter().find(|vip| vip.is_ipv4() == is_v4).unwrap().to_string()
    }
}

/// The clusters as a configuration has them.
const CLUSTERS_YAML: &str = "home: paris
clusters:
- {name: paris, manifests: clusters/paris}
- {name: tokyo, manifests: clusters/tokyo, network: east}
- {name: virginia, manifests: clusters/virginia, network: west}
";

/// Where the client is; its DNS forwarder asks from 10.53.0.1.
const NODES: &str = "{apiVersion: v1, kind: Node, metadata: {name: paris-1, labels: {topology.kubernetes.io/region: eu}}, \
                     spec: {podCIDR: 10.1.0.0/28}, status: {addresses: [{type: InternalIP, address: 10.1.0.1}, \
                     {type: InternalIP, address: 10.53.0.1}]}}";

/// A TrafficPolicy of the home's for both services.
pub(crate) fn policy(spec: &str) -> String {
    format!(
        "apiVersion: portolan.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: shares, namespace: default}}\nspec:\n  \
         targetRefs: [{{kind: ServiceImport, name: hello}}, {{kind: ServiceImport, name: who}}]\n  {}\n",
        spec.trim().replace('\n', "\n  ")
    )
}

/// Both services of a cluster with their pods, and the gateway that they are reached at.
fn manifests(pods: &[&str], gateway: Option<([&str; 2], &str)>) -> String {
    let mut text = String::new();
    for (number, (name, port, target, there)) in
        [("hello", "http 80/TCP", "http 8080/TCP", HELLO), ("who", "who 53/UDP", "who 5353/UDP", WHO)]
            .into_iter()
            .enumerate()
    {
        let exported = service(name, "ipFamilies: [IPv4, IPv6]", &[port]);
        let outside = port.split_once(' ').unwrap().1;
        let annotations = gateway.map_or_else(String::new, |(addresses, state)| {
            let at = addresses[number];
            let state =
                if state.is_empty() { String::new() } else { format!(", portolan.dev/state: {state}") };
            format!("portolan.dev/gateway: {at}, portolan.dev/gateway-ports: {outside}={there}{state}")
        });
        text += &exported.replace("annotations: {}", &format!("annotations: {{{annotations}}}"));
        for pod in pods {
            text += &slice(name, if pod.contains(':') { "six" } else { "four" }, &[target], &[pod]);
        }
    }
    text
}

/// Starts a cluster's pods.
fn serving(host: &Host, cluster: &str, pods: &[&str]) -> Backends {
    let both = |pod: &&str| [format!("{cluster}/tcp/{pod}/8080"), format!("{cluster}/udp/{pod}/5353")];
    let servers: Vec<String> = pods.iter().flat_map(both).collect();
    backends(host, &servers.iter().map(String::as_str).collect::<Vec<_>>())
}

impl Gateway {
    fn start(
        hosts: &mut Hosts,
        agent: &Agent,
        name: &str,
        (client, client_at): (&Host, &str),
        addresses: [&'static str; 2],
    ) -> Self {
        let (host, pods) = (hosts.add(name), hosts.add(&format!("{name}-pods")));
        let outside = addresses.map(|address| format!("{address}/24"));
        hosts.join((client, &[client_at]), (&host, &[&outside[0], &outside[1]]));
        hosts.join((&host, &["10.9.0.1/24"]), (&pods, &["10.9.0.11/24"]));
        let pods = serving(&pods, name, &["10.9.0.11"]);
        let file = |format: &str, bind: &str| {
            let text = printed(agent, &["--cluster", name, "--format", format, "--bind", bind]);
            let head = if format == "nginx" { STREAM } else { "" };
            let file = format!("{name}.{format}");
            agent.write(&file, format!("{head}\n{text}"));
            agent.path(&file)
        };
        let mut haproxy = program("haproxy", Package::Haproxy);
        haproxy.arg("-db").arg("-f").arg(file("haproxy", addresses[0]));
        let mut nginx = program("nginx", Package::NginxLight);
        let pid = agent.path(&format!("{name}.pid"));
        nginx.args(["-e", "stderr", "-g"]).arg(format!("daemon off; pid {};", pid.display()));
        nginx.arg("-c").arg(file("nginx", addresses[1]));
        let nginx = Running::start(&host, &nginx, &agent.path(&format!("{name}-nginx.log")));
        let mut gateway = Self { host, addresses, haproxy: (haproxy, None), _nginx: nginx, _pods: pods };
        gateway.start_again(agent);
        for (address, who) in addresses.into_iter().zip(["HARunning", "nginx"]) {
            eventually(&format!("{who} of {name} listens"), || is_open(client, address, 8405));
        }
        gateway
    }

    /// Starts HARunning again.
    pub(crate) fn start_again(&mut self, agent: &Agent) {
        let (command, proxy) = &mut self.haproxy;
        *proxy = Some(Running::start(&self.host, command, &agent.path("haproxy.log")));
    }

    /// Kills HARunning: SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(Running(child)) = self.haproxy.1.as_mut() {
            child.kill().unwrap();
        }
        self.haproxy.1 = None;
    }
}

/// What `portolan gateway` prints of the manifests.
fn printed(agent: &Agent, words: &[&str]) -> String {
    let mut command = Command::new(portolan());
    command.arg("gateway").arg("--manifests").arg(agent.path("clusters")).args(words);
    let (good, text) = run(&mut command);
    assert!(good, "{text}");
    text
}

/// Whether a port of a host takes connections.
pub(crate) fn is_open(from: &Host, address: &str, port: u16) -> bool {
    let to = format!("exec 3<>/dev/tcp/{address}/{port}");
    run(&mut from.command(Command::new("bash").args(["-c", &to]))).0
}

/// A server on a host, until it is dropped. nginx' master takes its workers along.
pub(crate) struct Running(Child);

impl Running {
    /// What it says is added to `log`.
    pub(crate) fn start(host: &Host, server: &Command, log: &std::path::Path) -> Self {
        let there = host.command(server);
        let log = File::options().create(true).append(true).open(log).unwrap();
        // SIGTERM, for a master that is killed leaves its workers.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]).arg(there.get_program()).args(there.get_args());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Self(launch(command).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = run(program("kill", Package::Procps).args(["-TERM", &self.0.id().to_string()]));
        let _ = self.0.wait();
    }
}
