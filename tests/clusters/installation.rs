//! What people apply who install Portolan, at a real API server: it is taken, gives the rights that are needed and no
//! others, and ClusterPeers that make no sense are refused with words that help.

use std::process::Command;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use portolan_tests::harness::kubernetes::{
    ADMIN_USER, CONTROLLER, Cluster, Options, PEER, SERVER, SYSTEM, binary, block_on, documents, install,
    object, with,
};
use portolan_tests::harness::{Setup, repository, run};
use serde_json::{Value, json};

/// A cluster as its API server is: nothing runs in it.
fn bare() -> Cluster {
    Cluster::start(Options { controllers: false, id: None, ..Options::new("") })
}

fn kubectl(cluster: &Cluster, words: &str) -> (bool, String) {
    let mut kubectl = Command::new(binary("kubectl"));
    kubectl.arg("--kubeconfig").arg(cluster.kubeconfig(ADMIN_USER));
    kubectl.arg("--cache-dir").arg(cluster.path("kubectl-cache"));
    run(kubectl.args(words.split(' ')).current_dir(repository()))
}

/// In the order of their names, by kubectl, which checks every field; and once more, as upgrades do.
#[test]
fn manifests_are_applied_in_order() {
    let cluster = bare();
    for again in [false, true] {
        let (good, text) = kubectl(&cluster, "apply --validate=strict -f deploy/crds -f deploy/kubernetes");
        assert!(good, "{text}");
        assert!(again || text.lines().all(|line| line.ends_with(" created")), "{text}");
    }
    cluster.put(&cluster_peer("west", &json!({ "network": "n1" })));
    let (_, table) = kubectl(&cluster, "get cpeer");
    let columns: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(columns, ["NAME", "CLUSTER", "NETWORK", "REACHABLE", "FRESH", "RTT", "EXPORTS", "AGE"]);
}

/// The node agent comes with a namespace that lets it in, and is what DNS looks for by default; its configuration is one.
#[test]
fn the_agent_is_admitted_where_it_is_installed() {
    let cluster = bare();
    install(&cluster);
    for _ in 0..2 {
        let (good, text) = kubectl(&cluster, "apply --validate=strict -f deploy/agent");
        assert!(good, "{text}");
    }
    let set = cluster.get("DaemonSet", "portolan-node", "portolan-agent").unwrap();
    let pod = object("v1", "Pod", "portolan-node", "portolan-agent");
    cluster.put(&with(pod, json!({ "spec": set["spec"]["template"]["spec"] })));
    let service = cluster.get("Service", "portolan-node", "portolan-agent").unwrap();
    assert_eq!(service["spec"]["selector"], set["spec"]["selector"]["matchLabels"]);
    let (_, defaults) = Setup::new("").run("check", &["--print-defaults"]);
    assert!(defaults.contains("agents: portolan-node/portolan-agent"), "{defaults}");
    let config = cluster.get("ConfigMap", "portolan-node", "portolan").unwrap();
    let setup = Setup::new("").file("agent.yaml", config["data"]["portolan.yaml"].as_str().unwrap());
    let mut check = Command::new(portolan_tests::harness::portolan());
    let (good, text) = run(check.args(["check", "--config"]).arg(setup.path("agent.yaml")));
    assert!(good, "{text}");
}

/// The Pods are what the namespace's `restricted` level lets in (Pod Security Standards), and refer to what is there.
#[test]
fn pods_of_the_deployments_are_admitted() {
    let cluster = bare();
    install(&cluster);
    for file in ["30-controller.yaml", "31-dns.yaml"] {
        let text = std::fs::read_to_string(repository().join("deploy/kubernetes").join(file)).unwrap();
        let deployment = documents(&text).into_iter().find(|one| one["kind"] == "Deployment").unwrap();
        let template = &deployment["spec"]["template"];
        let account = template["spec"]["serviceAccountName"].as_str().unwrap();
        assert!(cluster.get("ServiceAccount", SYSTEM, account).is_some(), "{account}");
        let pod = with(object("v1", "Pod", SYSTEM, account), json!({ "spec": template["spec"] }));
        cluster.put(&pod);
        // A namespace that refuses nothing would prove nothing.
        let root = json!({ "metadata": { "name": "root" }, "spec": { "securityContext": { "runAsNonRoot": false } } });
        let refused = cluster.try_put(&with(pod, root)).unwrap_err().to_string();
        assert!(refused.contains("runAsNonRoot"), "{refused}");
    }
}

/// So are the shared gateway's, which have no business with the API server.
#[test]
fn the_shared_gateway_is_admitted() {
    let cluster = bare();
    install(&cluster);
    // No controller makes it here.
    cluster.put(&object("v1", "ServiceAccount", SYSTEM, "default"));
    for file in ["haproxy.yaml", "nginx.yaml"] {
        let words =
            format!("apply --validate=strict -f deploy/gateway/service.yaml -f deploy/gateway/{file}");
        let (good, text) = kubectl(&cluster, &words);
        assert!(good, "{text}");
        let deployment = cluster.get("Deployment", SYSTEM, "portolan-gateway").unwrap();
        let spec = &deployment["spec"]["template"]["spec"];
        assert_eq!(spec["automountServiceAccountToken"], false);
        cluster.put(&with(object("v1", "Pod", SYSTEM, &file.replace(".yaml", "")), json!({ "spec": spec })));
        let service = cluster.get("Service", SYSTEM, "portolan-gateway").unwrap();
        assert_eq!(service["spec"]["selector"], deployment["spec"]["selector"]["matchLabels"]);
    }
}

#[test]
fn the_configuration_is_valid() {
    let text = std::fs::read_to_string(repository().join("deploy/kubernetes/20-config.yaml")).unwrap();
    let yaml = documents(&text)[0]["data"]["portolan.yaml"].as_str().unwrap().to_owned();
    let (good, text) = Setup::new(&yaml).run("check", &[]);
    assert!(good, "{text}");
}

const VERBS: [&str; 7] = ["get", "list", "watch", "create", "update", "patch", "delete"];

/// What a user may do: a line for each resource that it may do something with.
fn rights(cluster: &Cluster, user: &str) -> Vec<String> {
    let resources = [
        ("", "secrets", SYSTEM),
        ("", "secrets", "shop"),
        ("", "configmaps", SYSTEM),
        ("", "pods", "shop"),
        ("", "namespaces", ""),
        ("", "nodes", ""),
        ("", "services", "shop"),
        ("discovery.k8s.io", "endpointslices", "shop"),
        ("multicluster.x-k8s.io", "serviceexports", "shop"),
        ("multicluster.x-k8s.io", "serviceexports/status", "shop"),
        ("multicluster.x-k8s.io", "serviceimports", "shop"),
        ("multicluster.x-k8s.io", "serviceimports/status", "shop"),
        ("multicluster.x-k8s.io", "clusterprofiles", "shop"),
        ("about.k8s.io", "clusterproperties", ""),
        ("portolan.dev", "clusterpeers", ""),
        ("portolan.dev", "clusterpeers/status", ""),
        ("portolan.dev", "trafficpolicies", "shop"),
        ("portolan.dev", "trafficpolicies/status", "shop"),
        ("coordination.k8s.io", "leases", SYSTEM),
        ("coordination.k8s.io", "leases", "shop"),
        ("rbac.authorization.k8s.io", "clusterroles", ""),
        ("apiextensions.k8s.io", "customresourcedefinitions", ""),
    ];
    let line = |(group, resource, namespace): &(&str, &str, &str)| {
        let may: Vec<_> = VERBS
            .into_iter()
            .filter(|verb| may(cluster, user, verb, (group, resource), namespace, ""))
            .collect();
        let place = if namespace.is_empty() { String::new() } else { format!(" in {namespace}") };
        (!may.is_empty()).then(|| format!("{resource}{place}: {}", may.join(" ")))
    };
    resources.iter().filter_map(line).collect()
}

/// Without a name: all objects of the resource.
fn may(
    cluster: &Cluster,
    user: &str,
    verb: &str,
    (group, resource): (&str, &str),
    namespace: &str,
    name: &str,
) -> bool {
    let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let attributes = ResourceAttributes {
        verb: some(verb),
        group: some(group),
        resource: some(resource),
        subresource: some(sub),
        namespace: some(namespace),
        name: some(name),
        ..ResourceAttributes::default()
    };
    let spec = SubjectAccessReviewSpec {
        user: some(user),
        resource_attributes: Some(attributes),
        ..SubjectAccessReviewSpec::default()
    };
    let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
    let reviews: Api<SubjectAccessReview> = Api::all(cluster.client());
    let reply = block_on(reviews.create(&PostParams::default(), &review)).unwrap();
    reply.status.is_some_and(|status| status.allowed)
}

/// Least privilege, by the API server's own judgement: these rights, and no others.
#[test]
fn each_part_may_do_what_it_does() {
    let cluster = bare();
    install(&cluster);
    let expected: [(&str, &[&str]); 3] = [
        (
            CONTROLLER,
            &[
                "secrets in portolan-system: get list watch",
                "namespaces: get list watch",
                "nodes: get list watch",
                "services in shop: get list watch create patch delete",
                "endpointslices in shop: get list watch create patch delete",
                "serviceexports in shop: get list watch patch",
                "serviceexports/status in shop: patch",
                "serviceimports in shop: get list watch create patch delete",
                "serviceimports/status in shop: patch",
                "clusterprofiles in shop: get list watch",
                "clusterproperties: get list watch",
                "clusterpeers: get list watch",
                "clusterpeers/status: patch",
                "trafficpolicies in shop: get list watch",
                "trafficpolicies/status in shop: patch",
                "leases in portolan-system: get list create update patch delete",
                "leases in shop: list",
            ],
        ),
        (
            SERVER,
            &[
                "namespaces: get list watch",
                "nodes: get list watch",
                "endpointslices in shop: get list watch",
                "serviceimports in shop: get list watch",
                "clusterproperties: get list watch",
                "clusterpeers: get list watch",
                "trafficpolicies in shop: get list watch",
                "leases in portolan-system: get list watch",
            ],
        ),
        (
            PEER,
            &[
                "nodes: get list watch",
                "services in shop: get list watch",
                "endpointslices in shop: get list watch",
                "serviceexports in shop: get list watch",
                "clusterproperties: get list watch",
                "trafficpolicies in shop: get list watch",
            ],
        ),
    ];
    for (user, expected) in expected {
        assert_eq!(rights(&cluster, user), expected, "{user}");
    }
    for (user, name, expected) in [
        (CONTROLLER, "portolan-gateway", &["get", "create", "patch"][..]),
        (CONTROLLER, "portolan-gateway-ports", &["get", "create", "patch"]),
        (CONTROLLER, "portolan", &[]),
        (SERVER, "portolan-gateway", &[]),
        (PEER, "portolan-gateway-ports", &[]),
    ] {
        let map = ("", "configmaps");
        let verbs = VERBS.into_iter().filter(|verb| may(&cluster, user, verb, map, SYSTEM, name));
        assert_eq!(verbs.collect::<Vec<_>>(), expected, "{user}: {name}");
    }
}

fn cluster_peer(name: &str, spec: &Value) -> Value {
    let known = json!({ "spec": { "credentials": { "secret": { "name": "west" } } } });
    let peer = with(object("portolan.dev/v1alpha1", "ClusterPeer", "", name), known);
    with(peer, json!({ "spec": spec }))
}

/// What is refused, and what people are told then. `""`: it is taken.
#[test]
fn cluster_peers_that_make_no_sense_are_refused() {
    let cluster = bare();
    cluster.define(
        &std::fs::read_to_string(repository().join("deploy/crds/portolan.dev_clusterpeers.yaml")).unwrap(),
    );
    let cases = [
        (json!({}), ""),
        (json!({ "clusterId": "fra1.registry-b", "network": "n", "region": "eu" }), ""),
        (json!({ "namespaces": ["shop", "web"] }), ""),
        (json!({ "namespaces": [] }), ""),
        (json!({ "staleAfter": "1h30m", "withdrawAfter": "168h" }), ""),
        (json!({ "withdrawAfter": "never" }), ""),
        (
            json!({ "credentials": { "secret": { "namespace": "x", "key": "value" }, "context": "c", "allowExec": true } }),
            "",
        ),
        (json!({ "clusterId": "West" }), "clusterId must be labels of lower-case letters"),
        (json!({ "clusterId": "a..b" }), "clusterId must be labels of lower-case letters"),
        (json!({ "clusterId": "a".repeat(63) }), ""),
        (json!({ "clusterId": "a".repeat(64) }), "spec.clusterId: Too long"),
        (json!({ "clusterId": "" }), "spec.clusterId"),
        (json!({ "namespaces": ["shop", "shop"] }), "spec.namespaces: duplicate entries"),
        (json!({ "namespaces": ["Shop"] }), "namespaces are lower-case letters, digits and '-'"),
        (json!({ "staleAfter": "30" }), "staleAfter must be hours, minutes and seconds"),
        (json!({ "staleAfter": "" }), "staleAfter must be hours, minutes and seconds"),
        (json!({ "staleAfter": "0s" }), "staleAfter must be hours, minutes and seconds"),
        (json!({ "staleAfter": "-30s" }), "staleAfter must be hours, minutes and seconds"),
        (json!({ "staleAfter": "500ms" }), "staleAfter must be hours, minutes and seconds"),
        (json!({ "withdrawAfter": "Never" }), "withdrawAfter must be `never`, or hours"),
        (json!({ "withdrawAfter": "10s" }), "withdrawAfter must not be shorter than staleAfter"),
        (
            json!({ "staleAfter": "2h", "withdrawAfter": "1h59m" }),
            "withdrawAfter must not be shorter than staleAfter",
        ),
        (json!({ "credentials": { "secret": { "name": "" } } }), "spec.credentials.secret.name"),
    ];
    for (number, (spec, expected)) in cases.into_iter().enumerate() {
        let told = cluster.try_put(&cluster_peer(&format!("case-{number}"), &spec));
        let told = told.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(told.contains(expected) && told.is_empty() == expected.is_empty(), "{spec}: {told}");
    }
    let nothing = object("portolan.dev/v1alpha1", "ClusterPeer", "", "nothing");
    let told = cluster.try_put(&with(nothing, json!({ "spec": {} }))).unwrap_err().to_string();
    assert!(told.contains("spec.credentials: Required value"), "{told}");
    let told = cluster.try_put(&cluster_peer(&"n".repeat(64), &json!({}))).unwrap_err().to_string();
    assert!(told.contains("a ClusterPeer's name has 63 characters at most"), "{told}");

    // What is left out is filled in, so that `kubectl get -o yaml` says what counts.
    let spec = &cluster.put(&cluster_peer("defaults", &json!({})))["spec"];
    let filled = json!({
        "credentials": { "allowExec": false, "secret": { "key": "kubeconfig", "name": "west" } },
        "staleAfter": "30s",
        "withdrawAfter": "168h",
    });
    assert_eq!(spec, &filled);
}
