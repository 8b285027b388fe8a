//! kube-dns with the ConfigMap of `deploy/stub-domains/kube-dns.yaml` in a real API server.

use portolan_tests::harness::kubernetes::{Cluster, Options, documents, with};
use portolan_tests::harness::{DNS, Forwarder, KubeDns, Server, WORLD, eventually, shipped, world};
use serde_json::json;

use super::answers;

/// An API server, and nothing else.
fn cluster() -> Cluster {
    Cluster::start(Options { id: None, definitions: Vec::new(), controllers: false, ..Options::new("") })
}

/// The ConfigMap that is shipped, and where all else is asked for instead of what this machine has for that.
fn configure(cluster: &Cluster, server: &Server, world: &Forwarder) {
    let upstream = json!([world.at().to_string()]).to_string();
    for object in documents(&shipped("kube-dns.yaml", server.at(DNS))) {
        cluster.put(&with(object, json!({ "data": { "upstreamNameservers": upstream } })));
    }
}

/// What Pods ask is dnsmasq: all comes through, and names of the cluster and of the world take their own ways.
#[test]
fn forwards_what_is_ours() {
    let (mut server, world, cluster) = (answers::server(), world(), cluster());
    configure(&cluster, &server, &world);
    let kube_dns = KubeDns::start(&cluster);
    answers::come_through(&kube_dns.dnsmasq);
    answers::large_answers_come_by_tcp(&kube_dns.dnsmasq);
    answers::changes_are_seen(&kube_dns.dnsmasq, &server);
    answers::others_are_not_asked(&kube_dns.dnsmasq, &server);

    let before = answers::asked(&server);
    let own = cluster.get("Service", "default", "kubernetes").unwrap();
    let own = own["spec"]["clusterIP"].as_str().unwrap();
    let kubernetes = kube_dns.dnsmasq.dig("kubernetes.default.svc.cluster.local A");
    assert_eq!(kubernetes.data(), [own]);
    // kube-dns behind it knows no stub domains: for it our names are the world's.
    assert_eq!(kube_dns.kube_dns.dig("front.web.svc.clusterset.local A").data(), [WORLD]);
    assert_eq!(answers::asked(&server), before);
    answers::an_outage_is_survived(&kube_dns.dnsmasq, &mut server);
}

/// A ConfigMap that changes while it runs: the stub domain moves to another server of ours, goes, and comes back.
#[test]
fn a_changed_config_map_takes_effect() {
    let (one, other, world, cluster) = (answers::server(), answers::server(), world(), cluster());
    configure(&cluster, &one, &world);
    let mut kube_dns = KubeDns::start(&cluster);
    let question = "front.web.svc.clusterset.local A";
    let ours = ["10.96.200.1"];
    assert_eq!(kube_dns.dnsmasq.dig(question).data(), ours);
    let before = answers::asked(&one);

    configure(&cluster, &other, &world);
    kube_dns.sync(&cluster);
    eventually("the other one is asked", || {
        kube_dns.dnsmasq.dig(question);
        answers::asked(&other) > 0
    });
    assert_eq!(kube_dns.dnsmasq.dig(question).data(), ours);

    let seen = answers::asked(&other);
    cluster.patch("ConfigMap", "kube-system", "kube-dns", json!({ "data": { "stubDomains": "{}" } }));
    kube_dns.sync(&cluster);
    eventually("nobody of ours is asked", || kube_dns.dnsmasq.dig(question).data() == [WORLD]);
    let asked = (answers::asked(&one), answers::asked(&other));
    assert!(asked.0 >= before && asked.1 >= seen);

    configure(&cluster, &one, &world);
    kube_dns.sync(&cluster);
    eventually("it is ours again", || kube_dns.dnsmasq.dig(question).data() == ours);
    assert!(answers::asked(&one) > asked.0);
    assert_eq!(answers::asked(&other), asked.1);
}
