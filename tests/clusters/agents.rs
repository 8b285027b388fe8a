//! Virtual IPs of a pool, which only node agents connect: Kubernetes itself says where these are ready, and servers go by that
//! without a right or an object more.

use std::collections::BTreeMap;

use portolan_tests::harness::kubernetes::{
    Clusterset, Member, Plan, documents, export, object, service, with,
};
use portolan_tests::harness::node::{Agent, Cgroup, Hosts, backends, can_hook, connects, here};
use portolan_tests::harness::{becomes, eventually, repository};
use serde_json::{Value, json};

use crate::steps::{fqdn, imported, texts};

/// The namespace that agents are installed in.
const NODE: &str = "portolan-node";
/// Clients on the nodes `edge-1` and `edge-2`, and on none.
const CLIENTS: [&str; 3] = ["127.0.3.7", "127.0.4.7", "127.0.5.7"];

/// A Node whose Pods queries can come from here.
fn node(name: &str, network: &str) -> Value {
    with(object("v1", "Node", "", name), json!({ "spec": { "podCIDRs": [network] } }))
}

/// What Kubernetes tells of the Pods of a DaemonSet behind a headless Service: on which node each is, and whether its probe says
/// that it is ready.
fn agents(nodes: &[(&str, bool)]) -> Value {
    let labels = json!({
        "kubernetes.io/service-name": "portolan-agent",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    });
    let agent = |(node, ready): &(&str, bool)| {
        let conditions = json!({ "ready": ready, "serving": ready, "terminating": false });
        json!({ "addresses": ["10.77.0.1"], "nodeName": node, "conditions": conditions })
    };
    let slice = object("discovery.k8s.io/v1", "EndpointSlice", NODE, "portolan-agent-x7k2p");
    let endpoints: Vec<_> = nodes.iter().map(agent).collect();
    let slice = with(slice, json!({ "metadata": { "labels": labels } }));
    with(slice, json!({ "addressType": "IPv4", "ports": [], "endpoints": endpoints }))
}

/// What clients on `edge-1`, `edge-2` and nowhere get.
fn answers(member: &Member, ns: &str) -> Vec<Vec<String>> {
    CLIENTS.iter().map(|client| member.answer(&format!("-b {client} {} A", fqdn(ns, "web")))).collect()
}

/// Agents come, fail and go: clients on their nodes have virtual IPs while they are ready, and what they can reach otherwise. Those
/// of one cluster are of no use to clients of another.
#[test]
fn virtual_ips_come_and_go_with_agents() {
    let ns = "agents";
    let pool = "controller: {vips: Pool}\nvips: {pool: {ipv6: ''}}";
    let set = Clusterset::start(&Plan { controller: pool.into(), server: pool.into(), ..Plan::new(2) });
    let (paris, tokyo) = (&set[0], &set[1]);
    set.namespace(ns);
    set.namespace(NODE);
    for (member, address) in set.iter().zip(["10.1.0.1", "10.2.0.1"]) {
        member.put(&service(ns, "web"));
        member.run_pod(ns, "web", "web-1", &[address]);
        member.put(&export(ns, "web"));
        member.put(&node("edge-1", "127.0.3.0/24"));
        member.put(&node("edge-2", "127.0.4.0/24"));
    }
    let vip = texts(&imported(paris, ns, "web")["spec"]["ips"]);
    assert!(vip.len() == 1 && vip[0].starts_with("241."), "{vip:?}");
    let direct = ["10.1.0.1", "10.2.0.1"].map(str::to_owned).to_vec();
    let everybody_directly = vec![direct.clone(); 3];
    for member in set.iter() {
        becomes("no agent is anywhere", &everybody_directly, || answers(member, ns));
    }

    paris.put(&agents(&[("edge-1", true), ("edge-2", false)]));
    let first = vec![vip.clone(), direct.clone(), direct.clone()];
    becomes("one agent is ready", &first, || answers(paris, ns));
    assert_eq!(answers(tokyo, ns), everybody_directly, "another cluster's agents");
    for ours in [&paris.server, &paris.controller] {
        becomes("it is counted", &json!({ "ready": 1, "nodes": 4 }), || ours.status()["agents"].clone());
        let (_, why) = ours.get(&format!("/explain?name={}&from={}", fqdn(ns, "web"), CLIENTS[1]));
        assert!(why.contains("endpoints: node edge-2 has no ready agent"), "{why}");
    }

    paris.put(&agents(&[("edge-1", false), ("edge-2", true)]));
    let second = vec![direct.clone(), vip, direct.clone()];
    becomes("the other one is", &second, || answers(paris, ns));
    assert!(paris.delete("EndpointSlice", NODE, "portolan-agent-x7k2p"));
    becomes("there is none any more", &everybody_directly, || answers(paris, ns));
}

/// The agent as `deploy/agent` installs it, by the rights that it has there: what its own API server says of both clusters is where
/// connections go, also while that server is away, and no right is missing.
#[test]
fn the_agent_follows_its_api_server() {
    if !can_hook("the_agent_follows_its_api_server") {
        return;
    }
    let ns = "hooked";
    let pool = "controller: {vips: Pool}\nvips: {pool: {ipv6: ''}}";
    let set = Clusterset::start(&Plan { controller: pool.into(), server: pool.into(), ..Plan::new(2) });
    let (paris, tokyo) = (&set[0], &set[1]);
    set.namespace(ns);
    for document in documents(&std::fs::read_to_string(repository().join("deploy/agent/agent.yaml")).unwrap())
    {
        paris.put(&document);
    }
    for (member, address) in set.iter().zip(["10.1.0.11", "10.1.0.12"]) {
        member.put(&service(ns, "web"));
        member.run_pod(ns, "web", "web-1", &[address]);
        member.put(&export(ns, "web"));
    }
    let mut hosts = Hosts::default();
    let (client, server) = (hosts.add("client"), hosts.add("server"));
    hosts.join((&client, &["10.1.0.1/24"]), (&server, &["10.1.0.11/24", "10.1.0.12/24"]));
    let _servers = backends(&server, &["paris/tcp/10.1.0.11/8080", "tokyo/tcp/10.1.0.12/8080"]);
    let cgroup = Cgroup::new();
    let kubeconfig = paris.kubeconfig("system:serviceaccount:portolan-node:portolan-agent");
    let yaml = format!("kubernetes: {{kubeconfig: '{}'}}\n{pool}", kubeconfig.display());
    let mut agent = Agent::new(&here(), &cgroup, &yaml, "");
    agent.start();

    let vip = texts(&imported(paris, ns, "web")["spec"]["ips"]).remove(0);
    assert!(vip.starts_with("241."), "{vip}");
    let who = || connects(&client, Some(&cgroup), &vip, 80, 40).names.into_keys().collect::<Vec<_>>();
    becomes("both clusters answer", &vec!["paris".to_owned(), "tokyo".to_owned()], who);
    let said = connects(&client, None, &vip, 80, 1);
    assert_eq!(said.errors, BTreeMap::from([("ENETUNREACH".to_owned(), 1)]), "who is outside is left alone");
    let status = agent.status();
    assert!(!status.to_string().contains("forbidden") && !agent.log().contains("forbidden"), "{status}");

    assert!(tokyo.delete("ServiceExport", ns, "web"));
    becomes("one cluster has it", &vec!["paris".to_owned()], who);
    paris.kill_api();
    agent.kill();
    assert_eq!(who(), ["paris"], "nobody is there, and connections are redirected");
    agent.spawn();
    eventually("the new agent waits for the API server", || agent.log().matches("starting").count() == 2);
    assert_eq!(who(), ["paris"], "an agent that knows nothing takes nothing away");
    paris.start_api();
    tokyo.put(&export(ns, "web"));
    becomes("it follows again", &vec!["paris".to_owned(), "tokyo".to_owned()], who);
    for member in set.iter() {
        assert!(member.delete("ServiceExport", ns, "web"));
    }
    becomes("it is nobody's any more", &Vec::new(), who);
}
