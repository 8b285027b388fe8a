//! Virtual IPs that node agents connect: who is on a node with a ready one gets them, by manifests as by Kubernetes' own
//! EndpointSlices; all others get what they can reach.

use std::process::Command;

use portolan_tests::harness::{ADMIN, Server, Setup, eventually, portolan, run};

use super::{CART, asked_from, subnet};

const ALL: [&str; 6] = ["10.1.0.11", "10.1.1.11", "10.2.0.11", "10.2.1.11", "10.3.0.11", "10.3.1.11"];
/// Nodes whose own addresses queries can come from here.
const HOSTS: &str = r#"
{apiVersion: v1, kind: Node, metadata: {name: paris-3}, spec: {podCIDR: 10.1.3.0/24}, status: {addresses: [{type: InternalIP, address: 127.0.3.1}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: paris-4}, spec: {podCIDR: 10.1.4.0/24}, status: {addresses: [{type: InternalIP, address: 127.0.4.1}]}}
"#;

/// What Kubernetes makes of a DaemonSet behind a headless Service: an endpoint for each node, and whether it is ready.
fn agents(nodes: &[(&str, bool)]) -> String {
    let endpoints = nodes.iter().map(|(node, ready)| {
        format!("- {{addresses: [192.168.1.11], nodeName: {node}, conditions: {{ready: {ready}, serving: {ready}, terminating: false}}}}\n")
    });
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nports: []\n\
         metadata: {{name: portolan-agent-x7k2p, namespace: portolan-node, labels: {{\
         endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io, kubernetes.io/service-name: portolan-agent}}}}\n\
         endpoints:\n{}",
        endpoints.collect::<String>()
    )
}

fn setup() -> Setup {
    Setup::sample("three-clusters")
        .replace("vips:", "home: paris\nvips:\n  answer-to: Agents")
        .with("client-subnet: {trusted-forwarders: [127.0.0.0/8]}")
        .with("access: {explain: {allow: [127.0.0.0/8]}, transfer: {allow: [127.0.0.0/8]}}")
        .file("clusters/paris/hosts.yaml", HOSTS)
        .file(
            "clusters/paris/agents.yaml",
            agents(&[("paris-1", true), ("paris-2", false), ("paris-3", true)]),
        )
}

fn is_vip(answer: &[String]) -> bool {
    matches!(answer, [one] if one.starts_with("241."))
}

/// By the address that a query comes from, and by the network that a forwarder tells of. RFC 7871 §7.2.1: the answer is for
/// one node's clients.
#[test]
fn virtual_ips_are_for_clients_that_an_agent_connects() {
    let server = setup().start();
    let from = |host: &str, question: &str| server.dig(&format!("-b {host} {question}"));
    let own = from("127.0.3.1", &format!("{CART} A"));
    assert!(is_vip(&own.data()), "{}", own.text);
    assert_eq!(from("127.0.4.1", &format!("{CART} A")).data(), ALL, "no agent on its node");
    assert_eq!(from("127.0.5.1", &format!("{CART} A")).data(), ALL, "on no node");
    let port = format!("_http._tcp.{CART}");
    let srv = from("127.0.3.1", &format!("{port} SRV")).data();
    assert_eq!(srv, [format!("0 100 80 {CART}.")]);
    let srv = from("127.0.4.1", &format!("{port} SRV"));
    assert_eq!(srv.data().len(), 6, "{}", srv.text);
    assert!(srv.data()[0].contains(" 8080 ") && srv.additional.len() == 6, "{}", srv.text);

    // Who got no virtual IP is counted, by what it lacks; headless services and who got one are not.
    let counted = ["agent", "node"]
        .map(|lacks| server.metric("portolan_dns_direct_answers_total", &[&format!("lacks=\"{lacks}\"")]));
    assert_eq!(counted, [Some(2.0), Some(1.0)]);

    for (client, is_behind, scope) in
        [("10.1.0.7/32", true, 24), ("10.1.1.7/32", false, 24), ("10.2.0.7/32", false, 24)]
    {
        let reply = server.dig(&format!("{CART} A +subnet={client}"));
        assert_eq!(is_vip(&reply.data()), is_behind, "{client}: {}", reply.text);
        assert_eq!(subnet(&reply.text), format!("{client}/{scope}"), "{}", reply.text);
    }
    let headless = server.dig("db.shop.svc.clusterset.local A +subnet=10.1.0.7/32");
    assert_eq!((headless.data().len(), &*subnet(&headless.text)), (6, "10.1.0.7/32/0"));
    // What is for nobody in particular tells of virtual IPs.
    let cart: Vec<String> =
        server.axfr("clusterset.local").into_iter().filter(|line| line.starts_with("cart.")).collect();
    assert!(
        cart.iter().any(|line| line.contains(" A 241.")) && !cart.iter().any(|line| line.contains(" A 10.")),
        "{cart:?}"
    );
}

/// An agent that goes takes the virtual IPs of its node's clients along, and one that comes brings them; the zone's serial tells.
#[test]
fn readiness_is_followed() {
    let mut server = setup().start();
    let serial = |server: &Server| server.status()["serial"].as_u64().unwrap();
    let counted =
        |server: &Server| ["portolan_agents_ready", "portolan_agents"].map(|name| server.metric(name, &[]));
    assert!(is_vip(&asked_from(&server, "10.1.0.7/32")));
    assert_eq!(counted(&server), [Some(2.0), Some(4.0)]);
    assert_eq!(server.status()["agents"], serde_json::json!({"ready": 2, "nodes": 4}));
    let before = serial(&server);
    server.write(
        "clusters/paris/agents.yaml",
        agents(&[("paris-1", false), ("paris-2", true), ("paris-3", false)]),
    );
    eventually("the other node's clients get it", || is_vip(&asked_from(&server, "10.1.1.7/32")));
    assert_eq!(asked_from(&server, "10.1.0.7/32"), ALL);
    assert_ne!(serial(&server), before);
    assert_eq!(counted(&server), [Some(1.0), Some(4.0)]);
    let (_, text) = run(Command::new(portolan()).args(["status", "--admin", &server.at(ADMIN).to_string()]));
    assert!(text.contains("1 of 4 nodes have a ready agent"), "{text}");
    std::fs::remove_file(server.path("clusters/paris/agents.yaml")).unwrap();
    eventually("no agent is left", || asked_from(&server, "10.1.1.7/32") == ALL);

    let yaml = server.yaml();
    server.reconfigure(&yaml.replace("answer-to: Agents", "answer-to: Everybody"));
    eventually("everybody gets it", || is_vip(&asked_from(&server, "198.51.100.0/24")));
    assert_eq!(counted(&server), [None, None]);
    assert_eq!(server.status()["agents"], serde_json::Value::Null);
    server.reconfigure(&yaml.replace("answer-to: Agents", "answer-to: Agents\n  agents: shop/db"));
    eventually("db's Pods stand for agents", || {
        is_vip(&asked_from(&server, "10.1.1.7/32")) && asked_from(&server, "198.51.100.0/24") == ALL
    });
}

/// Which form a client gets and why: by the command, by HTTP, by dig, of all clients, and from files alone.
#[test]
fn why_a_client_gets_no_virtual_ip_is_told() {
    let setup = setup();
    let forms = [
        ("10.1.0.7", "VIP: node paris-1 has a ready agent"),
        ("10.1.1.7", "endpoints: node paris-2 has no ready agent"),
        ("10.2.0.7", "endpoints: 10.2.0.7 is on no node of this cluster, paris"),
    ];
    for (client, expected) in forms {
        let (good, text) = setup.run("explain", &[CART, "--from", client]);
        assert!(good && text.contains(expected), "{text}");
    }
    let (good, text) = setup.run("lookup", &[CART, "A", "--from", "10.1.1.7"]);
    assert!(good && ALL.iter().all(|address| text.contains(address)), "{text}");
    let server = setup.start();
    for (client, expected) in forms {
        let admin = server.at(ADMIN).to_string();
        let (good, text) =
            run(Command::new(portolan()).args(["explain", CART, "--from", client, "--admin", &admin]));
        assert!(good && text.contains(expected), "{text}");
        let (code, json) = server.get(&format!("/explain?name={CART}&from={client}"));
        assert!(code == 200 && json.contains(expected) && json.contains(r#""name": "form""#), "{json}");
        let lines = server.dig(&format!("{CART} CH TXT +subnet={client}/32 +tcp")).text;
        assert!(lines.contains(&format!("form: {expected}")), "{lines}");
    }
    let (code, json) = server.get(&format!("/explain?name={CART}&everywhere=true"));
    assert!(code == 200 && json.contains("on the 2 of 4 nodes with a ready agent virtual IP 241."), "{json}");
    assert!(json.contains("elsewhere endpoints, by these shares"), "{json}");
}
