//! What copies say beside endpoints: what servers that read their own cluster alone have to know.

use portolan_zones::Name;
use portolan_zones::object::Node;
use portolan_zones::peers::{Scope, State};
use portolan_zones::policy::{Configured, Form, Rules};
use serde_json::{Value, json};

use super::*;

/// What an export's author decided travels with the copies.
#[test]
fn copies_say_what_their_export_decided() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    let labels = |home: &Home| -> Vec<Value> {
        let slices =
            home.names("EndpointSlice").into_iter().map(|name| home.get("EndpointSlice", &name).unwrap());
        let labels = slices.map(|slice| slice["metadata"]["labels"]["portolan.dev/state"].clone());
        let mut labels: Vec<Value> = labels.collect();
        labels.sort_by_key(Value::to_string);
        labels
    };
    home.settle();
    assert_eq!(labels(&home), [Value::Null, Value::Null]);
    let export =
        |state| Object::Export(Export { name: web(), created: 200, exported: None, gateway: None, state });
    home.tell([says("west", export(Some(State::Drain)))]);
    home.settle();
    assert_eq!(labels(&home), [json!("drain"), Value::Null]);
    assert_eq!(home.settle(), [""; 0], "what was written is recognized");
}

/// Servers follow their own cluster alone: which region another one is in they know by its copies. What was written is
/// recognized, and not written again.
#[test]
fn copies_say_which_region_their_cluster_is_in() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    let node = |name: &str, region: &str| {
        Object::Node(Node {
            name: name.into(),
            az: None,
            region: Some(region.into()),
            pod_cidrs: Box::default(),
            addresses: Box::default(),
            ready: true,
            entrances: Box::default(),
        })
    };
    home.tell([says("west", node("node-1", "west-1"))]);
    home.settle();
    let regions = |home: &Home| -> Vec<Value> {
        let slices =
            home.names("EndpointSlice").into_iter().map(|name| home.get("EndpointSlice", &name).unwrap());
        slices.map(|slice| slice["metadata"]["labels"]["topology.kubernetes.io/region"].clone()).collect()
    };
    let mut told = regions(&home);
    told.sort_by_key(Value::to_string);
    assert_eq!(told, [json!("west-1"), Value::Null]);
    assert_eq!(home.settle(), [""; 0]);
    // In two regions it is in none.
    home.tell([says("west", node("node-2", "west-2"))]);
    home.settle();
    assert_eq!(regions(&home), [Value::Null, Value::Null]);
}

/// Servers follow their own cluster alone: where clients of other networks get in they know by the copies, those of the own
/// cluster's endpoints too. What was written is recognized; a gateway that moves costs one write per slice.
#[test]
fn copies_say_where_their_clusters_gateway_is() {
    let mut home = two_clusters(ServiceKind::ClusterIp);
    let told = |home: &Home| -> Vec<Value> {
        let slices =
            home.names("EndpointSlice").into_iter().map(|name| home.get("EndpointSlice", &name).unwrap());
        let mut told: Vec<_> = slices.map(|slice| slice["metadata"]["annotations"].clone()).collect();
        told.sort_by_key(Value::to_string);
        told
    };
    let at = |addresses: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        GatewayAt::Addresses(addresses.into())
    };
    let export = |cluster: &str, at, ports: &[(Protocol, u16, u16)]| {
        let port = |(protocol, number, gateway): &(Protocol, u16, u16)| GatewayPort {
            protocol: *protocol,
            number: *number,
            gateway: *gateway,
        };
        let gateway = Some(Gateway { at, ports: ports.iter().map(port).collect() }.into());
        says(
            cluster,
            Object::Export(Export { name: web(), created: 100, exported: None, gateway, state: None }),
        )
    };
    let outside =
        |at: &str, ports: &str| json!({ "portolan.dev/gateway": at, "portolan.dev/gateway-ports": ports });
    home.settle();
    assert_eq!(told(&home), [Value::Null, Value::Null], "nobody has one");

    home.tell([export("west", at(&["192.0.2.1", "2001:db8::1"]), &[])]);
    assert_eq!(home.settle(), [""; 0], "no policy answers gateways");
    let rules = Rules { answer: Form::Gateways, ..Rules::default() }.into();
    let zone = Some(Name::parse("global.example.com").unwrap());
    home.tell([Event::Configure([Configured { zone, of: Scope::All, rules }].into())]);
    assert_eq!(home.settle().len(), 1, "one slice");
    assert_eq!(told(&home), [Value::Null, outside("192.0.2.1, 2001:db8::1", "80=80")]);
    assert_eq!(home.settle(), [""; 0], "what was written is recognized");

    // Only ports that west exposes, with their numbers there.
    let ports = [(Protocol::Tcp, 80, 30_080), (Protocol::Tcp, 90, 30_090)];
    home.tell([export("west", at(&["192.0.2.1"]), &ports), export("east", at(&["192.0.2.9"]), &[])]);
    assert_eq!(home.settle().len(), 2, "one write per slice");
    assert_eq!(told(&home), [outside("192.0.2.1", "80=30080"), outside("192.0.2.9", "80=80")]);
    assert_eq!(home.settle(), [""; 0]);

    // The last word holds while a host name can't be resolved.
    home.tell([export("west", GatewayAt::Unresolved, &[])]);
    assert_eq!(home.settle(), [""; 0]);
    home.tell([export("west", GatewayAt::Addresses(Box::default()), &[])]);
    assert_eq!(home.settle().len(), 1);
    assert_eq!(told(&home), [Value::Null, outside("192.0.2.9", "80=80")], "it has none any more");

    // On another network the copies are the gateway's addresses.
    home.tell([export("west", at(&["192.0.2.1"]), &[])]);
    home.tell([Event::Network { cluster: id("west"), network: "far".into() }]);
    home.settle();
    assert_eq!(told(&home), [Value::Null, outside("192.0.2.9", "80=80")]);
}

/// Endpoints of headless services are not behind gateways.
#[test]
fn copies_of_headless_services_say_nothing_of_gateways() {
    let mut home = two_clusters(ServiceKind::Headless);
    let at = GatewayAt::Addresses(["192.0.2.1".parse().unwrap()].into());
    let gateway = Some(Gateway { at, ports: [].into() }.into());
    home.tell([says(
        "west",
        Object::Export(Export { name: web(), created: 200, exported: None, gateway, state: None }),
    )]);
    home.settle();
    for name in home.names("EndpointSlice") {
        let slice = home.get("EndpointSlice", &name).unwrap();
        assert_eq!(slice["metadata"]["annotations"], json!({ "portolan.dev/identities": "a" }));
    }
}
