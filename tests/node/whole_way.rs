//! The whole way of a client: its resolver, a forwarder with a stub domain, `portolan serve`, the virtual IP, the hook, a gateway, a pod.

use std::collections::BTreeMap;
use std::process::Command;

use portolan_tests::harness::node::can_hook;
use portolan_tests::harness::{Package, becomes, eventually, portolan, program, run};

use crate::world::{CLUSTERS, Running, World};

const HELLO: &str = "hello.default.svc.clusterset.local";
/// Of the server, and of the forwarder on the client's node.
const DNS: &str = "10.53.0.2";
const FORWARDER: &str = "127.0.0.53";

/// A world with DNS.
struct Way {
    _dnsmasq: Running,
    _server: Running,
    world: World,
}

impl Way {
    /// Server and agent have the same configuration, each with its own sections.
    fn new() -> Self {
        let mut world = World::new("vips: {answer-to: Agents, state-file: ''}\n");
        let host = world.hosts.add("dns");
        world.hosts.join((&world.client, &["10.53.0.1/24"]), (&host, &["10.53.0.2/24"]));
        let agent = &world.agent;
        let both = std::fs::read_to_string(agent.path("portolan.yaml")).unwrap();
        let own = format!(
            "listen: {{udp: ['{DNS}:53'], tcp: ['{DNS}:53']}}\nadmin: {{listen: '127.0.0.1:9153'}}\nshutdown: {{lameduck: 0s}}\n"
        );
        agent.write("server.yaml", both + &own);
        agent.write("resolv.conf", format!("nameserver {FORWARDER}\n"));
        let mut server = Command::new(portolan());
        server.arg("serve").arg("--config").arg(agent.path("server.yaml"));
        server.arg("--ready-file").arg(agent.path("server.ready"));
        let server = Running::start(&host, &server, &agent.path("server.log"));
        eventually("the server is ready", || agent.path("server.ready").exists());
        let mut dnsmasq = program("dnsmasq", Package::DnsmasqBase);
        dnsmasq.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--user=root",
        ]);
        dnsmasq.args(["--pid-file=", "--cache-size=0", "--bind-interfaces"]);
        dnsmasq.arg(format!("--listen-address={FORWARDER}")).arg(format!("--server=/clusterset.local/{DNS}"));
        let dnsmasq = Running::start(&world.client, &dnsmasq, &agent.path("dnsmasq.log"));
        let way = Self { _dnsmasq: dnsmasq, _server: server, world };
        eventually("the forwarder answers", || way.dig("clusterset.local SOA").len() == 1);
        way
    }

    /// What the Pod of an agent says: whether the agent of the client's node is ready.
    fn agent_is_ready(&self, ready: bool) {
        let slice = format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nports: []\n\
             metadata: {{name: portolan-agent-x, namespace: portolan-node, labels: {{kubernetes.io/service-name: portolan-agent}}}}\n\
             endpoints: [{{addresses: [10.1.0.1], nodeName: paris-1, conditions: {{ready: {ready}}}}}]\n"
        );
        self.world.agent.write("clusters/paris/agents.yaml", slice);
    }

    /// A program on the client's node with the node's resolver.
    fn client(&self, command: &Command) -> Command {
        let mut resolving = program("unshare", Package::UtilLinux);
        resolving.args(["--mount", "--", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""]);
        resolving.arg(self.world.agent.path("resolv.conf"));
        self.world.client.command(resolving.arg(command.get_program()).args(command.get_args()))
    }

    /// The sorted records that `dig` gets.
    fn dig(&self, words: &str) -> Vec<String> {
        let mut dig = program("dig", Package::Dnsutils);
        dig.args(["+short", "+tries=1", "+time=2"]).args(words.split_whitespace());
        let (_, text) = run(&mut self.client(&dig));
        let mut records: Vec<String> = text.lines().map(str::to_owned).collect();
        records.sort();
        records
    }

    /// `curl` as often as that: how often who answered; empty: how often it failed.
    fn curl(&self, is_inside: bool, url: &str, times: u32) -> BTreeMap<String, u32> {
        drop(program("curl", Package::Curl));
        let mut curls = Command::new("sh");
        let script =
            "for i in $(seq \"$1\"); do curl --silent --noproxy '*' --max-time 5 \"$0\" || echo; done";
        curls.args(["-c", script, url, &times.to_string()]);
        let client = self.client(&curls);
        let (_, text) = run(&mut if is_inside { self.world.cgroup.command(&client) } else { client });
        let mut names = BTreeMap::new();
        for name in text.lines() {
            *names.entry(name.to_owned()).or_default() += 1;
        }
        names
    }

    /// Who answers `hello`, by whom `curl` is answered inside of the cgroup.
    fn who(&self) -> Vec<String> {
        self.curl(true, &format!("http://{HELLO}"), 20).into_keys().collect()
    }

    /// Where SRV records lead: an address and a port for each.
    fn places(&self) -> Vec<(String, String)> {
        let srv = self.dig(&format!("_http._tcp.{HELLO} SRV"));
        srv.iter()
            .flat_map(|record| {
                let fields: Vec<&str> = record.split(' ').collect();
                let addresses = self.dig(&format!("{} A", fields[3]));
                addresses.into_iter().map(move |address| (address, fields[2].to_owned()))
            })
            .collect()
    }
}

/// design.md: what `dig` shows is what `connect()` gets: by locality, by health, by weight; and nothing outside of the cgroup.
#[test]
fn a_name_leads_to_each_cluster_by_policy() {
    if !can_hook("a_name_leads_to_each_cluster_by_policy") {
        return;
    }
    const CHECKED: &str = "locality: {order: [Cluster]}\n\
                           healthCheck: {type: TCP, interval: 1s, timeout: 1s, fall: 2, rise: 2}";
    let mut way = Way::new();
    way.agent_is_ready(true);
    way.world.policy(CHECKED);
    way.world.agent.start();
    let vips = [true, false].map(|is_v4| way.world.vip("hello", is_v4));
    for (vip, kind) in vips.iter().zip(["A", "AAAA"]) {
        becomes("the address", &vec![vip.clone()], || way.dig(&format!("{HELLO} {kind}")));
    }
    becomes("the closest cluster", &vec!["paris".to_owned()], || way.who());
    assert_eq!(
        way.curl(false, &format!("http://{HELLO}"), 3),
        [(String::new(), 3)].into(),
        "no hook, no way"
    );

    way.world.kill_paris();
    becomes("the others", &vec!["tokyo".to_owned(), "virginia".to_owned()], || way.who());
    let by_v6 = format!("http://[{}]", vips[1]);
    eventually("by IPv6, too", || !way.curl(true, &by_v6, 20).contains_key(""));
    assert_eq!(way.dig(&format!("{HELLO} A")), [&*vips[0]], "the address stays");
    way.world.start_paris();
    becomes("the closest cluster", &vec!["paris".to_owned()], || way.who());

    way.world.policy(
        "weights: [{cluster: paris, weight: 1}, {cluster: tokyo, weight: 3}, {cluster: virginia, weight: 0}]",
    );
    let url = format!("http://{}", vips[0]);
    becomes("by weight", &vec!["paris".to_owned(), "tokyo".to_owned()], || {
        way.curl(true, &url, 20).into_keys().collect()
    });
    let names = way.curl(true, &url, 200);
    assert!((110..=185).contains(&names["tokyo"]) && names["paris"] + names["tokyo"] == 200, "{names:?}");
}

/// README, `vips.answer-to: Agents`: who has no ready agent gets what it reaches: endpoints and gateways, at ports that SRV tells.
#[test]
fn without_a_ready_agent_names_lead_to_what_is_reached() {
    if !can_hook("without_a_ready_agent_names_lead_to_what_is_reached") {
        return;
    }
    let mut way = Way::new();
    way.agent_is_ready(false);
    let direct = ["10.1.0.11", "198.51.100.7", "203.0.113.7"].map(str::to_owned).to_vec();
    becomes("no virtual IP", &direct, || way.dig(&format!("{HELLO} A")));
    let mut answered: Vec<String> = Vec::new();
    for (address, port) in way.places() {
        answered.extend(way.curl(false, &format!("http://{address}:{port}"), 1).into_keys());
    }
    answered.sort();
    assert_eq!(answered, CLUSTERS, "outside of the cgroup, where SRV leads");

    way.world.agent.start();
    let vip = way.world.vip("hello", true);
    way.agent_is_ready(true);
    becomes("the virtual IP", &vec![vip], || way.dig(&format!("{HELLO} A")));
    assert!(!way.curl(true, &format!("http://{HELLO}"), 20).contains_key(""));
    way.agent_is_ready(false);
    becomes("no virtual IP", &direct, || way.dig(&format!("{HELLO} A")));
}
