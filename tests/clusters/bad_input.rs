//! What people get wrong: each mistake is told with what to do about it, and keeps nothing else from working.

use std::process::Command;
use std::time::Duration;

use k8s_openapi::ByteString;
use portolan_tests::harness::kubernetes::{
    Cluster, Clusterset, Member, Options, Plan, condition, definitions, documents, export, headless_service,
    introduce, object, service, with,
};
use portolan_tests::harness::{Setup, becomes, eventually, portolan, run, until, until_within};
use serde_json::{Value, json};

use crate::peers::{answer_becomes, asked, export_db, home, kubeconfig_of, state, told, told_becomes};
use crate::steps::{
    answers_become, endpoints, fqdn, imported, imports_become, mirrored, set_with, texts, vanishes, verdict,
    verdict_becomes,
};

/// Label on slices: the cluster whose endpoints they hold.
const SOURCE: &str = "multicluster.kubernetes.io/source-cluster";
/// What is tried again now and then only.
const NOW_AND_THEN: Duration = Duration::from_secs(60);

/// `portolan status` of a cluster's controller.
fn status(member: &Member) -> String {
    let admin = member.controller.at(portolan_tests::harness::ADMIN).to_string();
    run(Command::new(portolan()).args(["status", "--admin", &admin])).1
}

/// All that is wrong with a cluster, as its controller or server says it.
fn problems(server: &portolan_tests::harness::Server) -> String {
    let status = server.status();
    let clusters = status["clusters"].as_array().unwrap();
    clusters.iter().map(|cluster| cluster["problems"].to_string()).collect()
}

/// ClusterPeers that lead nowhere, all at once. Each says why, and none keeps anything else from working.
#[test]
fn peers_that_are_of_no_use() {
    let ns = "bad-peers";
    let (shared, set) = (set_with(ns), home(Plan::new(1)));
    let (oslo, tokyo) = (&set[0], &shared[1]);
    oslo.namespace(ns);
    export_db(tokyo, ns, "10.2.0.1");
    let good: Value = serde_json::from_str(&kubeconfig_of(tokyo, tokyo.at())).unwrap();
    let changed = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        changed.to_string()
    };
    let token = good["users"][0]["user"]["token"].clone();
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": { "token": token },
    });
    let exec = json!({ "exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
        "command": "echo", "args": [credential.to_string()],
    } });
    let foreign = json!(ByteString(shared[2].authority().into()));
    let server = "/clusters/0/cluster/server";
    let cases: [(&str, String, &str, &str, &[&str]); 8] = [
        ("malformed", "users: [".into(), "Accepted", "False/Invalid", &["is no kubeconfig"]),
        ("empty", "{}".into(), "Accepted", "False/Invalid", &["no context that is current"]),
        (
            "program",
            changed("/users/0/user", exec),
            "Accepted",
            "False/Invalid",
            &["exec", "not allowed", "allowExec"],
        ),
        (
            "file",
            changed("/users/0/user", json!({ "tokenFile": "/etc/passwd" })),
            "Accepted",
            "False/Invalid",
            &["names a file (tokenFile)", "token"],
        ),
        (
            "authority",
            changed("/clusters/0/cluster/certificate-authority-data", foreign),
            "Reachable",
            "False/",
            &["certificate"],
        ),
        ("nowhere", changed(server, json!("https://127.0.0.1:1")), "Reachable", "False/", &["refused"]),
        ("nobody", changed("/users/0/user/token", json!("wrong")), "Reachable", "False/", &["Unauthorized"]),
        ("no-url", changed(server, json!("::")), "Reachable", "False/", &["server is no URL"]),
    ];
    for (name, kubeconfig, ..) in &cases {
        introduce(oslo, name, kubeconfig, &json!({}));
    }
    let missing = json!({ "spec": { "credentials": { "secret": { "name": "forgotten" } } } });
    oslo.put(&with(object("portolan.dev/v1alpha1", "ClusterPeer", "", "missing"), missing));
    for (name, _, condition, verdict, words) in &cases {
        let said = || told(oslo, name, condition);
        let fits = |said: &String| said.starts_with(verdict) && words.iter().all(|word| said.contains(word));
        becomes(&format!("{name}: {words:?}"), &(true, String::new()), || {
            let said = said();
            if fits(&said) { (true, String::new()) } else { (false, said) }
        });
        assert!(oslo.controller.log().contains(words[0]), "the log names it: {name}");
    }
    told_becomes(
        oslo,
        "missing",
        "Accepted",
        "False/Invalid",
        &["Secret portolan-system/forgotten is missing"],
    );
    let secrets = [token.as_str().unwrap(), "/etc/passwd"];
    let table = status(oslo);
    for (name, _, _, _, words) in cases.iter().filter(|case| case.0 != "no-url") {
        assert!(table.contains(name) && table.contains(words[0]), "{name}, {}: {table}", words[0]);
    }
    for secret in secrets {
        assert!(
            !table.contains(secret) && !oslo.controller.log().contains(secret),
            "a secret is told: {table}"
        );
    }

    // What this cluster has itself is exported and answered all the while.
    oslo.put(&service(ns, "web"));
    oslo.put(&export(ns, "web"));
    let ips = texts(&imported(oslo, ns, "web")["spec"]["ips"]);
    becomes("the own service is answered", &("NOERROR".to_owned(), ips), || {
        asked(oslo, &format!("{} A", fqdn(ns, "web")))
    });
    let question = format!("{} A", fqdn(ns, "db"));
    assert_eq!(asked(oslo, &question).0, "NXDOMAIN");

    // Allowed, the program runs; corrected, a Secret is good at once.
    oslo.patch("ClusterPeer", "", "program", json!({ "spec": { "credentials": { "allowExec": true } } }));
    answer_becomes(oslo, &question, &["10.2.0.1"]);
    told_becomes(oslo, "program", "Accepted", "True/Valid", &[]);
    let south = kubeconfig_of(&shared[2], shared[2].at());
    introduce(oslo, "malformed", &south, &json!({}));
    export_db(&shared[2], ns, "10.3.0.1");
    answer_becomes(oslo, &question, &["10.2.0.1", "10.3.0.1"]);
    told_becomes(oslo, "malformed", "Synced", "True/Listed", &[]);
}

/// Clusters without the MCS API, and with its older version only; each with a controller and a server of its own. The
/// older version is a CRD that serves `v1alpha1` alone: an older kube-apiserver can't be built here, and what it would
/// not serve is what is missing from this one.
#[test]
fn clusters_without_the_definitions_or_with_old_ones() {
    let ns = "shop";
    let about = |id: &str| Options { definitions: vec!["about"], ..Options::new(id) };
    let clusters = Cluster::start_all(vec![Options::new("paris"), about("tokyo"), about("lima")]);
    for definition in definitions("mcs") {
        clusters[2].define(&old(&definition));
    }
    let set = Clusterset::over(clusters, &Plan::new(3));
    set.namespace(ns);
    let (paris, tokyo, lima) = (&set[0], &set[1], &set[2]);
    let words = [
        "serviceexports.multicluster.x-k8s.io",
        "install the MCS API",
        "kubectl apply -k https://github.com/kubernetes-sigs/mcs-api/config/crd",
    ];
    for other in [paris, lima] {
        told_becomes(other, "tokyo", "Synced", "True/ListedWithProblems", &words);
    }
    let table = status(tokyo);
    assert!(table.contains("serviceimports.multicluster.x-k8s.io") && table.contains(words[2]), "{table}");

    let question = format!("{} A", fqdn(ns, "db"));
    export_db(paris, ns, "10.1.0.1");
    let alpha = json!({ "apiVersion": "multicluster.x-k8s.io/v1alpha1" });
    lima.put(&headless_service(ns, "db"));
    lima.run_pod(ns, "db", "db-1", &["10.3.0.1"]);
    lima.put(&with(export(ns, "db"), alpha));
    for member in [paris, lima] {
        answer_becomes(member, &question, &["10.1.0.1", "10.3.0.1"]);
    }
    verdict_becomes(lima, ns, "db", "Valid", "True/Valid");
    verdict_becomes(lima, ns, "db", "Conflict", "False/NoConflicts");
    let import = imported(lima, ns, "db");
    assert_eq!(
        (&import["apiVersion"], &import["spec"]["type"]),
        (&json!("multicluster.x-k8s.io/v1alpha1"), &json!("Headless"))
    );
    assert_eq!(asked(tokyo, &question), ("NXDOMAIN".to_owned(), vec![]), "it is not imported there");

    // Once it is there it is used, by itself.
    for definition in definitions("mcs") {
        tokyo.define(&definition);
    }
    let at_once = format!("{} A", fqdn(ns, "db"));
    until_within(NOW_AND_THEN, "Tokyo imports", || (asked(tokyo, &at_once).1.len() == 2).then_some(()));
    export_db(tokyo, ns, "10.2.0.1");
    for member in set.iter() {
        let what = format!("{question} in {}", member.id);
        until_within(NOW_AND_THEN, &what, || (asked(member, &question).1.len() == 3).then_some(()));
        let peers = member.list("ClusterPeer", "", "").into_iter();
        for peer in peers.map(|peer| peer["metadata"]["name"].as_str().unwrap().to_owned()) {
            told_becomes(member, &peer, "Synced", "True/Listed", &[]);
        }
    }
}

/// A definition that serves `v1alpha1` only.
fn old(definition: &str) -> String {
    let mut definition = documents(definition).remove(0);
    let versions = definition["spec"]["versions"].as_array_mut().unwrap();
    versions.retain(|version| version["name"] == "v1alpha1");
    versions[0]["storage"] = json!(true);
    definition.to_string()
}

/// The API server takes them, and we can't: each is named where people look, what was known of it holds, and its
/// neighbours count.
#[test]
fn objects_that_make_no_sense() {
    let ns = "bad-objects";
    let set = set_with(ns);
    let (paris, tokyo) = (&set[0], &set[1]);

    // Somebody's import with a port name that is none (RFC 6763 §7: a DNS label).
    let import = object("multicluster.x-k8s.io/v1beta1", "ServiceImport", ns, "odd");
    let spec =
        json!({ "type": "ClusterSetIP", "ips": ["10.99.0.1"], "ports": [{ "name": "Ht_tp", "port": 80 }] });
    paris.put(&with(import, json!({ "spec": spec })));
    eventually("the import is named", || {
        let text = problems(&paris.server);
        text.contains(&format!("ServiceImport {ns}/odd: spec.ports[0].name"))
    });
    assert_eq!(paris.dig(&format!("{} A", fqdn(ns, "odd"))).status, "NXDOMAIN");

    // An annotation that can't be read: left out at first; when it was right before, what was known of it holds.
    let gateway = |ports: &str| {
        let annotations = json!({ "portolan.dev/gateway": "192.0.2.1", "portolan.dev/gateway-ports": ports });
        tokyo.put(&with(export(ns, "db"), json!({ "metadata": { "annotations": annotations } })));
    };
    let question = format!("{} A", fqdn(ns, "db"));
    tokyo.put(&headless_service(ns, "db"));
    tokyo.run_pod(ns, "db", "db-1", &["10.2.0.1"]);
    gateway("http=30080");
    let named = format!(
        "ServiceExport {ns}/db: metadata.annotations[portolan.dev/gateway-ports]: `http=30080` is not of the form"
    );
    for member in set.iter() {
        eventually("the export is named", || problems(&member.controller).contains(&named));
    }
    verdict_becomes(tokyo, ns, "db", "Ready", "False/Pending");
    answers_become(&set, &question, &[]);
    gateway("80=30080");
    answers_become(&set, &question, &["10.2.0.1"]);
    gateway("80=");
    for member in set.iter() {
        eventually("what was known holds", || {
            problems(&member.controller).contains("`80=` is not of the form")
        });
    }
    answers_become(&set, &question, &["10.2.0.1"]);

    // A slice of names, beside one of addresses.
    let slice = object("discovery.k8s.io/v1", "EndpointSlice", ns, "db-names");
    let names = json!({
        "metadata": { "labels": { "kubernetes.io/service-name": "db" } },
        "addressType": "FQDN", "ports": [], "endpoints": [{ "addresses": ["db.example.com"] }],
    });
    tokyo.put(&with(slice, names));
    for member in set.iter() {
        eventually("the slice is named", || {
            problems(&member.controller).contains(&format!("EndpointSlice {ns}/db-names: addressType"))
        });
    }
    tokyo.run_pod(ns, "db", "db-2", &["10.2.0.2"]);
    answers_become(&set, &question, &["10.2.0.1", "10.2.0.2"]);

    gateway("");
    assert!(tokyo.delete("EndpointSlice", ns, "db-names"));
    assert!(paris.delete("ServiceImport", ns, "odd"));
    for member in set.iter() {
        let of_ours = || problems(&member.controller).contains(ns) || problems(&member.server).contains(ns);
        becomes("everything is over", &false, of_ours);
    }
}

/// Who is who: an id that is none, an id that somebody has already, one cluster by two names, and the own one.
#[test]
fn clusters_that_are_taken_for_others() {
    let ns = "bad-ids";
    let shared = set_with(ns);
    let bare = Options { id: Some("No_Id".into()), ..Options::new("") };
    let mut clusters = Cluster::start_all(vec![Options::new("oslo"), bare]);
    let imposter = clusters.remove(1);
    portolan_tests::harness::kubernetes::install(&imposter);
    let set = Clusterset::over(clusters, &Plan { ids: vec!["oslo"], ..Plan::new(1) });
    let (oslo, tokyo) = (&set[0], &shared[1]);
    oslo.namespace(ns);
    imposter.namespace(ns);
    export_db(tokyo, ns, "10.2.0.1");
    export_db(&imposter, ns, "10.66.0.1");
    let question = format!("{} A", fqdn(ns, "db"));

    introduce(oslo, "imposter", &kubeconfig_of(&imposter, imposter.at()), &json!({}));
    told_becomes(
        oslo,
        "imposter",
        "Synced",
        "False/NotListed",
        &["ClusterProperty cluster.clusterset.k8s.io", "has no id"],
    );
    introduce(oslo, "east", &kubeconfig_of(tokyo, tokyo.at()), &json!({}));
    answer_becomes(oslo, &question, &["10.2.0.1"]);

    imposter.set_id("tokyo");
    told_becomes(oslo, "imposter", "Accepted", "False/Duplicate", &["east"]);
    introduce(oslo, "east-again", &kubeconfig_of(tokyo, tokyo.at()), &json!({}));
    told_becomes(oslo, "east-again", "Accepted", "False/Duplicate", &["east"]);
    introduce(oslo, "myself", &kubeconfig_of(oslo, oslo.at()), &json!({}));
    told_becomes(oslo, "myself", "Accepted", "True/OwnCluster", &[]);
    let table = status(oslo);
    assert!(table.contains("the same cluster or has the same id"), "{table}");
    answer_becomes(oslo, &question, &["10.2.0.1"]);

    // An id of its own makes it a cluster of its own.
    imposter.set_id("berlin");
    answer_becomes(oslo, &question, &["10.2.0.1", "10.66.0.1"]);
    told_becomes(oslo, "imposter", "Accepted", "True/Valid", &[]);
    // One name goes: the same cluster by its other name takes its place.
    assert!(oslo.delete("ClusterPeer", "", "east"));
    told_becomes(oslo, "east-again", "Synced", "True/Listed", &[]);
    answer_becomes(oslo, &question, &["10.2.0.1", "10.66.0.1"]);
}

/// Ranges of other systems are refused before anything runs.
#[test]
fn a_pool_in_a_range_of_others_is_refused() {
    for (range, whose) in [
        ("ipv4: 240.240.1.0/24", "Istio"),
        ("ipv4: 242.0.0.0/8", "Submariner"),
        ("ipv4: 243.1.0.0/16", "Submariner"),
        ("ipv4: 240.0.0.0/4", "Istio"),
        ("ipv6: '2001:2::/64'", "Istio"),
    ] {
        let setup = Setup::new("kubernetes: {kubeconfig: none}\ncontroller: {vips: Pool}\n")
            .with(&format!("vips: {{pool: {{{range}}}}}"))
            .for_command("controller");
        let (good, text) = setup.run("controller", &[]);
        assert!(!good && text.contains("overlaps") && text.contains(whose), "{range}: {text}");
    }
}

/// A pool that holds an address which an import has: the import keeps it, and nobody else gets it.
#[test]
fn a_pool_gives_no_address_that_an_import_has() {
    let ns = "shop";
    let pool = "controller: {vips: Pool}\nvips: {pool: {ipv4: 241.7.0.0/29, ipv6: ''}}";
    let set = home(Plan { controller: pool.into(), ..Plan::new(1) });
    let oslo = &set[0];
    oslo.namespace(ns);
    let import = object("multicluster.x-k8s.io/v1beta1", "ServiceImport", ns, "old");
    let spec =
        json!({ "type": "ClusterSetIP", "ips": ["241.7.0.3"], "ports": [{ "name": "http", "port": 80 }] });
    oslo.put(&with(import, json!({ "spec": spec })));
    eventually("the older import is answered", || {
        oslo.answer(&format!("{} A", fqdn(ns, "old"))) == ["241.7.0.3"]
    });

    // As many as the pool has addresses, or more: each is in it, no two are one, and none is the older import's.
    let names: Vec<_> = (0..8).map(|number| format!("web-{number}")).collect();
    for name in &names {
        oslo.put(&service(ns, name));
        oslo.put(&export(ns, name));
    }
    let given = || {
        let imports = oslo.list("ServiceImport", ns, "app.kubernetes.io/managed-by=portolan");
        let ips = imports.iter().flat_map(|import| texts(&import["spec"]["ips"]));
        let mut ips: Vec<_> = ips.collect();
        ips.sort();
        ips
    };
    let usable = until("the pool is used up", || Some(given()).filter(|ips| ips.len() >= 5)).0.len();
    eventually("the others say so", || {
        let imports = oslo.list("ServiceImport", ns, "app.kubernetes.io/managed-by=portolan");
        let waiting = imports.iter().filter_map(|import| condition(import, "Ready"));
        waiting.filter(|ready| ready["message"].as_str().unwrap().contains("the pool has none left")).count()
            + given().len()
            == 8
    });
    let ips = given();
    assert!(ips.iter().all(|ip| ip.starts_with("241.7.0.") && ip != "241.7.0.3"), "{ips:?}");
    let mut once = ips.clone();
    once.dedup();
    assert_eq!((once.len(), ips.len() >= usable), (ips.len(), true), "{ips:?}");
    assert_eq!(oslo.answer(&format!("{} A", fqdn(ns, "old"))), ["241.7.0.3"]);
}

/// A cluster may only speak for the namespaces that its ClusterPeer lists: what it exports from others does not exist.
#[test]
fn exports_of_namespaces_that_are_not_allowed() {
    // Ten are named at most: the first ones.
    let (ns, other) = ("a-refused", "a-trusted");
    let shared = set_with(ns);
    shared.namespace(other);
    let set = home(Plan::new(1));
    let (oslo, tokyo) = (&set[0], &shared[1]);
    for ns in [ns, other] {
        oslo.namespace(ns);
        export_db(tokyo, ns, "10.2.0.1");
    }
    let (refused, allowed) = (format!("{} A", fqdn(ns, "db")), format!("{} A", fqdn(other, "db")));
    introduce(oslo, "east", &kubeconfig_of(tokyo, tokyo.at()), &json!({ "namespaces": [other] }));
    answer_becomes(oslo, &allowed, &["10.2.0.1"]);
    // One that is not theirs to speak for can't take over what is there, either.
    export_db(oslo, ns, "10.4.0.1");
    answer_becomes(oslo, &refused, &["10.4.0.1"]);
    assert_eq!(verdict(oslo, ns, "db", "Conflict"), "False/NoConflicts");
    eventually("it is counted", || state(oslo, "east")["refusedExports"].as_u64().unwrap_or_default() >= 1);
    told_becomes(oslo, "east", "Accepted", "True/Valid", &["spec.namespaces", &format!("{ns}/db")]);
    let table = status(oslo);
    assert!(table.contains("exports don't count") && table.contains(&format!("{ns}/db")), "{table}");
    eventually("and so it is where people look", || {
        let peer = oslo.get("ClusterPeer", "", "east").unwrap();
        peer["status"]["refusedExports"].as_u64().unwrap_or_default() >= 1
    });

    oslo.patch("ClusterPeer", "", "east", json!({ "spec": { "namespaces": [ns, other] } }));
    answer_becomes(oslo, &refused, &["10.2.0.1", "10.4.0.1"]);
    oslo.patch("ClusterPeer", "", "east", json!({ "spec": { "namespaces": [other] } }));
    answer_becomes(oslo, &refused, &["10.4.0.1"]);
}

/// Objects of others where ours should be are left alone, and the export says which one it is.
#[test]
fn what_others_made_is_left_alone() {
    let ns = "bad-foreign";
    let set = set_with(ns);
    let paris = &set[0];
    let foreign = object("multicluster.x-k8s.io/v1beta1", "ServiceImport", ns, "web");
    let spec =
        json!({ "type": "ClusterSetIP", "ips": ["10.99.0.7"], "ports": [{ "name": "http", "port": 80 }] });
    let foreign = paris.put(&with(foreign, json!({ "spec": spec })));
    paris.put(&service(ns, "web"));
    paris.put(&export(ns, "web"));
    let message = || {
        let export = paris.get("ServiceExport", ns, "web").unwrap_or_default();
        condition(&export, "Ready")
            .map(|ready| ready["message"].as_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    let told = |words: &[&str]| {
        eventually(&format!("{words:?}"), || words.iter().all(|word| message().contains(word)));
        assert_eq!(verdict(paris, ns, "web", "Ready"), "False/Pending");
    };
    told(&[&format!("ServiceImport {ns}/web was not made by Portolan"), "delete it"]);
    let derived =
        imported(&set[1], ns, "web")["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"]
            .as_str()
            .unwrap()
            .to_owned();
    let now = paris.get("ServiceImport", ns, "web").unwrap();
    assert_eq!(
        (&now["spec"], &now["metadata"]["resourceVersion"]),
        (&foreign["spec"], &foreign["metadata"]["resourceVersion"])
    );

    // A Service with the name that the derived one would have; then the import is free.
    let squatter = paris.put(&service(ns, &derived));
    assert!(paris.delete("ServiceImport", ns, "web"));
    told(&[&format!("Service {ns}/{derived} exists and was not made by Portolan"), "delete it"]);
    let now = paris.get("Service", ns, &derived).unwrap();
    assert_eq!(now["metadata"]["resourceVersion"], squatter["metadata"]["resourceVersion"]);
    assert!(paris.delete("Service", ns, &derived));
    verdict_becomes(paris, ns, "web", "Ready", "True/Exported");
    let ips = texts(&imported(paris, ns, "web")["spec"]["ips"]);
    becomes("it is answered", &ips, || paris.answer(&format!("{} A", fqdn(ns, "web"))));
    assert!(paris.delete("ServiceExport", ns, "web"));
    vanishes(&set, ns, "web");
}

/// No address is left for a derived Service: the import says so, everything else goes on, and it is healed when there is
/// one again.
#[test]
fn the_range_of_services_is_exhausted() {
    let ns = "shop";
    // 14 addresses, of which Kubernetes has one itself.
    let tiny = vec!["--service-cluster-ip-range=10.77.0.0/28".into()];
    let cluster = Cluster::start(Options { arguments: tiny, ..Options::new("oslo") });
    let set = Clusterset::over(vec![cluster], &Plan { ids: vec!["oslo"], ..Plan::new(1) });
    let oslo = &set[0];
    oslo.namespace(ns);
    oslo.put(&service(ns, "web"));
    let filler = |number: usize| service(ns, &format!("filler-{number}"));
    let full = (0..20).find(|number| oslo.try_put(&filler(*number)).is_err());
    assert!(full.is_some_and(|full| full > 0), "{full:?}");
    oslo.put(&export(ns, "web"));
    let ready = || {
        let import = oslo.get("ServiceImport", ns, "web").unwrap_or_default();
        condition(&import, "Ready")
            .map(|ready| format!("{}: {}", ready["status"], ready["message"]))
            .unwrap_or_default()
    };
    eventually("the import says what is missing", || {
        ready().contains("False") && ready().contains("range of Service addresses is exhausted")
    });
    verdict_becomes(oslo, ns, "web", "Ready", "False/Pending");
    let table = status(oslo);
    assert!(table.contains(&format!("{ns}/web: no virtual IP is left for it")), "{table}");
    assert_eq!(oslo.dig(&format!("{} A", fqdn(ns, "web"))).answer, [""; 0]);
    export_db(oslo, ns, "10.1.0.1");
    answer_becomes(oslo, &format!("{} A", fqdn(ns, "db")), &["10.1.0.1"]);

    assert!(oslo.delete("Service", ns, "filler-0"));
    let ips = texts(&imported(oslo, ns, "web")["spec"]["ips"]);
    assert!(ips.len() == 1 && ips[0].starts_with("10.77.0."), "{ips:?}");
    becomes("it is answered", &ips, || oslo.answer(&format!("{} A", fqdn(ns, "web"))));
    verdict_becomes(oslo, ns, "web", "Ready", "True/Exported");
}

/// Slices that multi-cluster controllers made hold other clusters' endpoints: to mirror them again would be a loop. So
/// would be to mirror what was mirrored from elsewhere, whoever did.
#[test]
fn mirrored_slices_are_not_mirrored_again() {
    let ns = "bad-loops";
    let set = set_with(ns);
    let paris = &set[0];
    let managed = "endpointslice.kubernetes.io/managed-by";
    let makers = [
        json!({ managed: "lighthouse-agent.submariner.io" }),
        json!({ managed: "endpointslice-mesh-controller.cilium.io" }),
        json!({ managed: "endpointslice-dispatch-controller.karmada.io" }),
        json!({ managed: "endpointslice-controller.karmada.io" }),
        json!({ managed: "endpointslice.reflection.liqo.io" }),
        json!({ managed: "aws-cloud-map-mcs-controller-for-k8s" }),
        json!({ "clusternet.io/created-by": "clusternet-agent" }),
        json!({ managed: "controller.portolan.dev" }),
        json!({ managed: "somebody.example.com", SOURCE: "tokyo" }),
        json!({ managed: "somebody.example.com", SOURCE: "berlin" }),
    ];
    for name in ["db", "web"] {
        let headless = name == "db";
        paris.put(&if headless { headless_service(ns, name) } else { service(ns, name) });
        // What is headless and bears another cluster's name is answered where it is: that is how mirrored slices look.
        let makers =
            makers.iter().enumerate().filter(|(_, labels)| !headless || labels.get(SOURCE).is_none());
        for (number, labels) in makers {
            let slice = object("discovery.k8s.io/v1", "EndpointSlice", ns, &format!("{name}-{number}"));
            let labels = with(labels.clone(), json!({ "kubernetes.io/service-name": name }));
            paris.put(&with(slice, json!({
                "metadata": { "labels": labels }, "addressType": "IPv4",
                "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
                "endpoints": [{ "addresses": [format!("10.66.0.{number}")], "conditions": { "ready": true } }],
            })));
        }
        paris.put(&export(ns, name));
        // What comes last of all is there: all that was before has been looked at.
        paris.run_pod(ns, name, &format!("{name}-1"), &["10.1.0.1"]);
    }
    answers_become(&set, &format!("{} A", fqdn(ns, "db")), &["10.1.0.1"]);
    for member in set.iter() {
        for name in ["db", "web"] {
            let own = || {
                let slices = mirrored(member, ns, name).into_iter();
                let ours =
                    slices.filter(|slice| slice["metadata"]["labels"][managed] == "controller.portolan.dev");
                endpoints(&ours.collect::<Vec<_>>())
            };
            becomes(
                &format!("the copies of {name} in {}", member.id),
                &["paris 10.1.0.1".to_owned()].into(),
                own,
            );
        }
    }
    imports_become(&set, ns, "web", "/status/clusters", &json!([{ "cluster": "paris" }]));
    // By a derived Service's name, what we made ourselves does not come back, either.
    let derived =
        imported(paris, ns, "web")["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"]
            .as_str()
            .unwrap()
            .to_owned();
    paris.put(&export(ns, &derived));
    verdict_becomes(paris, ns, &derived, "Valid", "False/NoService");
    assert_eq!(endpoints(&mirrored(&set[1], ns, &derived)), [].into());
    assert!(paris.delete("ServiceExport", ns, &derived));
    vanishes(&set, ns, &derived);
}
