//! Virtual IPs of a pool, which only node agents connect: Kubernetes itself says where these are ready, and servers go by that
//! without a right or an object more.

use portolan_tests::harness::becomes;
use portolan_tests::harness::kubernetes::{Clusterset, Member, Plan, export, object, service, with};
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
