//! Reading other clusters directly (`clusters` with `kubeconfig`): what is listed again, denied, huge, or all at once.
//! The controller reads its peers in the same way.

use std::path::Path;
use std::time::{Duration, Instant};

use portolan_tests::harness::kubernetes::{
    Cluster, Options, Proxy, block_on, export, headless_service, namespace, object, service, with,
};
use portolan_tests::harness::{DNS, Server, Setup, becomes, eventually, stays, until_within};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{
    DB, addresses, answered, cluster, export_headless, is_stale, metric, paris_and_tokyo, problems, slice,
    steady, watched,
};
use crate::steps::fqdn;

const BOTH: &[&str] = &["10.1.0.1", "10.2.0.1"];
const SERVFAIL: Result<Vec<String>, u8> = Err(2);
const NXDOMAIN: Result<Vec<String>, u8> = Err(3);

/// Clusters without kube-controller-manager: their slices are the test's.
fn start<const N: usize>(ids: [&str; N]) -> [Cluster; N] {
    let options = |id| Options { controllers: false, definitions: vec!["mcs", "about"], ..Options::new(id) };
    let clusters = Cluster::start_all(ids.map(options).into());
    for cluster in &clusters {
        cluster.put(&namespace("shop"));
    }
    clusters.try_into().unwrap()
}

/// A server that follows these clusters, by name and kubeconfig.
fn following(clusters: &[(&str, &Path)]) -> Setup {
    let item = |(name, file): &(&str, &Path)| {
        format!("- {{name: {name}, kubeconfig: '{}', stale-after: 3s}}\n", file.display())
    };
    Setup::new(&format!("clusters:\n{}", clusters.iter().map(item).collect::<String>()))
}

/// 410 Gone: what was watched can't be taken up where it broke off, for the server has forgotten it. The list that
/// follows brings the difference and nothing else: what was deleted meanwhile goes, what stayed is never gone.
#[test]
fn history_is_gone() {
    let [paris] = start(["paris"]);
    for (name, address) in [("changes", "10.1.0.1"), ("goes", "10.1.0.2"), ("stays", "10.1.0.3")] {
        export_headless(&paris, name, &[address]);
    }
    let proxy = Proxy::start(paris.at());
    let server = following(&[("paris", &paris.kubeconfig_at("admin", proxy.at()))]).start();
    let stays = fqdn("shop", "stays");
    answered(&server, &stays, &["10.1.0.3"]);
    let seen = paris.get("ServiceExport", "shop", "stays").unwrap()["metadata"]["resourceVersion"].clone();

    proxy.cut();
    paris.put(&slice("changes", "changes", &["10.1.0.9"]));
    paris.delete("ServiceExport", "shop", "goes");
    export_headless(&paris, "comes", &["10.1.0.4"]);
    // A new API server remembers nothing of what was before it.
    paris.kill_api();
    paris.start_api();
    let watch = "/apis/multicluster.x-k8s.io/v1beta1/serviceexports?watch=true&timeoutSeconds=1";
    let refused = paris.try_text(&format!("{watch}&resourceVersion={}", seen.as_str().unwrap())).unwrap();
    assert!(refused.contains("\"code\":410"), "the server still knows what was: {refused}");

    steady(&server, &stays, &[&["10.1.0.3"]], || {
        proxy.resume();
        answered(&server, &fqdn("shop", "changes"), &["10.1.0.9"]);
        answered(&server, &fqdn("shop", "comes"), &["10.1.0.4"]);
        becomes("what was deleted", &NXDOMAIN, || addresses(server.at(DNS), &fqdn("shop", "goes")));
        eventually("it is fresh", || !is_stale(&server, &stays));
    });
    let objects = &cluster(&server, "paris")["objects"];
    assert_eq!((&objects["ServiceExport"], &objects["EndpointSlice"]), (&json!(3), &json!(4)), "{objects}");
}

/// A right that lacks in one cluster degrades that kind of that cluster, and the message says which right it is.
#[test]
fn one_list_is_denied() {
    let [paris, tokyo] = start(["paris", "tokyo"]);
    let may = |resources: &[&str]| reader_may(&tokyo, resources);
    may(&["services", "serviceexports", "clusterproperties", "nodes", "namespaces", "endpointslices"]);
    export_headless(&paris, "db", &["10.1.0.1"]);
    export_headless(&tokyo, "db", &["10.2.0.1"]);
    let proxy = Proxy::start(tokyo.at());
    let reader = tokyo.kubeconfig_at("system:serviceaccount:shop:reader", proxy.at());
    let server = following(&[("paris", &paris.kubeconfig("admin")), ("tokyo", &reader)]).start();
    answered(&server, DB, BOTH);

    may(&["services", "serviceexports", "clusterproperties", "nodes", "namespaces"]);
    steady(&server, DB, &[BOTH], || {
        // A watch that is open stays so, whatever became of the right to it.
        proxy.cut();
        proxy.resume();
        for words in [
            "endpointslices.discovery.k8s.io can't be read: grant the verbs list and watch",
            "cannot watch resource",
            "system:serviceaccount:shop:reader",
        ] {
            eventually(words, || problems(&server, "tokyo").contains(words));
        }
        let log = server.log();
        let told = log.lines().find(|line| line.contains("endpointslices.discovery.k8s.io can't be read"));
        assert!(told.is_some_and(|line| line.contains("cluster=\"tokyo\"")), "{log}");
        eventually("what can't be read is stale", || is_stale(&server, DB));
        assert_eq!(metric(&server, "portolan_cluster_reachable", "tokyo"), Some(1.0));
        // All else of it is read, and the others are.
        tokyo.put(&service("shop", "web"));
        tokyo.put(&export("shop", "web"));
        eventually("web has a virtual IP", || addresses(server.at(DNS), &fqdn("shop", "web")).is_ok());
        export_headless(&paris, "cache", &["10.1.0.5"]);
        answered(&server, &fqdn("shop", "cache"), &["10.1.0.5"]);
        eventually("Paris is heard", || !is_stale(&server, &fqdn("shop", "cache")));
        assert_eq!(problems(&server, "paris"), "[]");
    });

    tokyo.put(&slice("db", "db", &["10.2.0.2"]));
    may(&["services", "serviceexports", "clusterproperties", "nodes", "namespaces", "endpointslices"]);
    // A right that lacks is looked for every half minute.
    until_within(Duration::from_secs(40), "it is read again", || {
        (addresses(server.at(DNS), DB) == Ok(vec!["10.1.0.1".into(), "10.2.0.2".into()])).then_some(())
    });
    eventually("it is fresh", || !is_stale(&server, DB) && problems(&server, "tokyo") == "[]");
}

/// The service account `shop/reader` may read these kinds, and no others.
fn reader_may(cluster: &Cluster, resources: &[&str]) {
    const RBAC: &str = "rbac.authorization.k8s.io/v1";
    let rule = json!({ "apiGroups": ["*"], "resources": resources, "verbs": ["get", "list", "watch"] });
    let role = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader" });
    let reader = json!({ "kind": "ServiceAccount", "namespace": "shop", "name": "reader" });
    cluster.put(&object("v1", "ServiceAccount", "shop", "reader"));
    cluster.put(&with(object(RBAC, "ClusterRole", "", "reader"), json!({ "rules": [rule] })));
    let binding = object(RBAC, "ClusterRoleBinding", "", "reader");
    cluster.put(&with(binding, json!({ "roleRef": role, "subjects": [reader] })));
}

/// A cluster that was withdrawn because it can't be read, though it answers, stays so until all that is needed of it was
/// read again.
#[test]
fn withdrawn_until_it_can_be_read() {
    let [paris, tokyo] = start(["paris", "tokyo"]);
    let may = |resources: &[&str]| reader_may(&tokyo, resources);
    let all = ["services", "serviceexports", "clusterproperties", "nodes", "namespaces", "endpointslices"];
    may(&all);
    export_headless(&paris, "db", &["10.1.0.1"]);
    export_headless(&tokyo, "db", &["10.2.0.1"]);
    let proxy = Proxy::start(tokyo.at());
    let reader = tokyo.kubeconfig_at("system:serviceaccount:shop:reader", proxy.at());
    let admin = paris.kubeconfig("admin");
    let server = Setup::new(&format!(
        "clusters:\n- {{name: paris, kubeconfig: '{}'}}\n\
         - {{name: tokyo, kubeconfig: '{}', stale-after: 2s, withdraw-after: 5s}}\n",
        admin.display(),
        reader.display()
    ))
    .start();
    answered(&server, DB, BOTH);

    may(&all[..5]);
    proxy.cut();
    proxy.resume();
    answered(&server, DB, &BOTH[..1]);
    // It answers whoever asks who it is.
    eventually("it answers", || cluster(&server, "tokyo")["reachable"] == true);
    stays("withdrawn", Duration::from_secs(8), || cluster(&server, "tokyo")["withdrawn"] == true);
    assert!(problems(&server, "tokyo").contains("endpointslices.discovery.k8s.io can't be read"));
    may(&all);
    steady(&server, DB, &[&BOTH[..1], BOTH], || {
        until_within(Duration::from_secs(60), "it is back", || {
            (addresses(server.at(DNS), DB) == Ok(vec!["10.1.0.1".into(), "10.2.0.1".into()])).then_some(())
        });
    });
    assert_eq!(cluster(&server, "tokyo")["withdrawn"], false);
}

/// A reload leaves to the own cluster's imports what the server read of other clusters itself, and the next one takes that
/// back: no name is denied meanwhile (it may have to be read first: SERVFAIL), and all are answered in the end.
#[test]
fn from_clusters_to_imports_and_back() {
    let mut set = paris_and_tokyo(json!({}));
    export_headless(&set[0], "db", &["10.1.0.1"]);
    export_headless(&set[1], "db", &["10.2.0.1"]);
    answered(&set[0].server, DB, BOTH);
    let (at, own) = (set[0].server.at(DNS), set[0].server.yaml());
    let item = |name: &str, file: &Path| format!("- {{name: {name}, kubeconfig: '{}'}}\n", file.display());
    let clusters = [item("paris", &set[0].kubeconfig("admin")), item("tokyo", &set[1].kubeconfig("admin"))];
    let others = own.lines().filter(|line| !line.starts_with("kubernetes:")).collect::<Vec<_>>().join("\n");
    let direct = format!("{others}\nclusters:\n{}", clusters.concat());
    watched(
        || assert_ne!(addresses(at, DB), NXDOMAIN),
        || {
            let server = &mut set[0].server;
            for _ in 0..2 {
                server.reconfigure(&direct);
                eventually("Tokyo is read", || cluster(server, "tokyo")["synced"] == true);
                answered(server, DB, BOTH);
                server.reconfigure(&own);
                eventually("Tokyo is read no longer", || cluster(server, "tokyo") == Value::Null);
                answered(server, DB, BOTH);
            }
        },
    );
}

/// Many watches that lose their API server at once don't storm it: ever fewer tries by ever fewer, each at a time of its
/// own.
#[test]
fn reconnects_are_spread() {
    /// Kinds that are watched, and the pulse.
    const WATCHES: usize = 7;
    let [paris] = start(["paris"]);
    export_headless(&paris, "db", &["10.1.0.1"]);
    let proxy = Proxy::start(paris.at());
    let server = following(&[("paris", &paris.kubeconfig_at("admin", proxy.at()))]).start();
    answered(&server, DB, &["10.1.0.1"]);

    let cut = Instant::now();
    proxy.cut();
    steady(&server, DB, &[&["10.1.0.1"]], || {
        eventually("it is told stale", || is_stale(&server, DB));
        eventually("eight seconds are over", || cut.elapsed() > Duration::from_secs(8));
    });
    let resumed = Instant::now();
    proxy.resume();
    paris.put(&slice("db", "db", &["10.1.0.2"]));
    let took = answered(&server, DB, &["10.1.0.2"]);
    assert!(took < Duration::from_secs(10), "{took:?}");
    eventually("it is fresh", || !is_stale(&server, DB) && problems(&server, "paris") == "[]");

    let accepted = proxy.accepted();
    let between = |from: Duration, to: Duration| {
        let within = |at: &&Instant| (from..to).contains(&at.saturating_duration_since(cut));
        accepted.iter().filter(within).count()
    };
    let seconds = Duration::from_secs;
    let (early, late) = (between(seconds(0), seconds(2)), between(seconds(6), seconds(8)));
    // Waits of 0.1–0.2, 0.2–0.4, 0.4–0.8, … seconds: at most five tries in two seconds.
    assert!(early <= WATCHES * 6 + 2, "{early} tries in the first two seconds");
    assert!(
        late < early && late <= WATCHES * 2 + 4,
        "{late} tries after six seconds, {early} in the first two"
    );
    let after = accepted.iter().filter(|at| **at >= resumed).count();
    assert!((1..=WATCHES * 3).contains(&after), "{after} connections after it was back");
    // No moment in which all come: of the tries after the first second none has the whole crowd next to it.
    let later: Vec<_> =
        accepted.iter().filter(|at| **at > cut + seconds(1) && **at < resumed).copied().collect();
    let crowd = later.iter().map(|at| {
        later
            .iter()
            .filter(|other| at.max(other).duration_since(*at.min(other)) < Duration::from_millis(25))
            .count()
    });
    assert!(crowd.max().unwrap_or(0) < WATCHES, "{:?}", later.iter().map(|at| *at - cut).collect::<Vec<_>>());
}

/// A cluster of 20,000 slices that is being read: others' names are answered on, a name that may be in it is not denied
/// before all of it is known, and nothing changes when it is all listed again.
#[test]
fn twenty_thousand_slices() {
    const SERVICES: usize = 100;
    const SLICES: usize = 200;
    let [paris, tokyo] = start(["paris", "tokyo"]);
    export_headless(&paris, "db", &["10.1.0.1"]);
    let name = |service: usize| format!("large-{service}");
    let texts = |make: &dyn Fn(usize) -> Value, count: usize| -> Vec<String> {
        (0..count).map(|number| make(number).to_string()).collect()
    };
    let services = texts(&|number| headless_service("shop", &name(number)), SERVICES);
    create(&tokyo, "/api/v1/namespaces/shop/services", services);
    let exports = texts(&|number| export("shop", &name(number)), SERVICES);
    create(&tokyo, "/apis/multicluster.x-k8s.io/v1beta1/namespaces/shop/serviceexports", exports);
    let slices = |number: usize| {
        let (service, part) = (number / SLICES, number % SLICES);
        let address = format!("10.2.{service}.{part}");
        slice(&name(service), &format!("large-{service}-{part}"), &[&address])
    };
    let slices = texts(&slices, SERVICES * SLICES);
    create(&tokyo, "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices", slices);

    let proxy = Proxy::start(tokyo.at());
    proxy.freeze();
    let kubeconfig = tokyo.kubeconfig_at("admin", proxy.at());
    let server = Server::spawn(following(&[("paris", &paris.kubeconfig("admin")), ("tokyo", &kubeconfig)]));
    eventually("Paris is read", || {
        server.try_get("/status").is_some() && cluster(&server, "paris")["synced"] == true
    });
    answered(&server, DB, &["10.1.0.1"]);
    let (at, never, last) = (server.at(DNS), fqdn("shop", "never"), fqdn("shop", &name(SERVICES - 1)));
    assert_eq!(addresses(at, &never), SERVFAIL);
    assert!(server.dig(&format!("{never} A")).option("EDE: 14"), "not ready (RFC 8914 §4.15)");

    let denied = || addresses(at, &last) == NXDOMAIN;
    steady(&server, DB, &[&["10.1.0.1"]], || {
        watched(
            || assert!(!denied(), "denied before it was read"),
            || {
                proxy.resume();
                until_within(Duration::from_secs(30), "Tokyo is read", || {
                    (cluster(&server, "tokyo")["synced"] == true).then_some(())
                });
                becomes("what nobody exports", &NXDOMAIN, || addresses(at, &never));
            },
        );
    });
    assert_eq!(cluster(&server, "tokyo")["objects"]["EndpointSlice"], json!(SERVICES * SLICES));
    let whole = |service: usize| {
        let reply = server.dig(&format!("+tcp {} A", fqdn("shop", &name(service))));
        reply.answer.len()
    };
    becomes("all endpoints", &SLICES, || whole(0));
    assert_eq!(whole(SERVICES - 1), SLICES);

    // All of it once more: the API server has forgotten what was before.
    steady(&server, DB, &[&["10.1.0.1"]], || {
        let known = || assert_eq!(whole(SERVICES / 2), SLICES);
        watched(known, || {
            tokyo.kill_api();
            tokyo.start_api();
            tokyo.put(&slice(&name(0), "one-more", &["10.3.0.1"]));
            until_within(Duration::from_secs(30), "the change", || (whole(0) == SLICES + 1).then_some(()));
        });
    });
}

/// Creates objects of one kind, a hundred at a time.
fn create(cluster: &Cluster, path: &'static str, bodies: Vec<String>) {
    const AT_ONCE: usize = 100;
    let mut bodies = bodies.into_iter().peekable();
    while bodies.peek().is_some() {
        let client = cluster.client();
        let batch: Vec<_> = bodies.by_ref().take(AT_ONCE * 10).collect();
        block_on(async {
            let mut running = JoinSet::new();
            for body in batch {
                if running.len() == AT_ONCE {
                    running.join_next().await.unwrap().unwrap();
                }
                let client = client.clone();
                running.spawn(async move {
                    let request = http::Request::post(path).header("content-type", "application/json");
                    client.request_text(request.body(body.into_bytes()).unwrap()).await.unwrap();
                });
            }
            while let Some(done) = running.join_next().await {
                done.unwrap();
            }
        });
    }
}
