//! The commands of the binary, as people and scripts run them.

use std::process::{Command, Stdio};

use portolan_tests::harness::{
    ADMIN, DYING_WITH_US, Package, Setup, eventually, headless, launch, list, portolan, program, run, until,
};

fn call(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(portolan()).args(args).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// `check` finds nothing wrong in the samples, and sums them up.
#[test]
fn check_accepts_what_is_right() {
    for sample in ["conformance", "three-clusters", "dotted-cluster-ids", "imported-only"] {
        let (good, text) = Setup::sample(sample).run("check", &[]);
        assert!(good && text.contains("no problems"), "{sample}: {text}");
    }
    let (good, text) = Setup::sample("conflicts").run("check", &[]);
    assert!(good && text.contains("PortConflict"), "conflicts are no problems: {text}");
}

/// Everything that is wrong is told at once, each with its line, and the exit status says so.
#[test]
fn check_tells_every_problem_with_its_line() {
    let setup = Setup::new("max-endpoints: none\nlistn: {}\nclusters: [{name: a, manifests: clusters/a}]");
    let lines: Vec<String> = setup.yaml().lines().map(str::to_owned).collect();
    let line = |start: &str| 1 + lines.iter().position(|line| line.starts_with(start)).unwrap();
    let output = setup.command("check").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    for (start, what) in [("max-endpoints", "whole number"), ("listn", "did you mean `listen`?")] {
        let place = format!("portolan.yaml:{}: ", line(start));
        assert!(text.lines().any(|l| l.contains(&place) && l.contains(what)), "{place}{what}: {text}");
    }
}

/// So it is for manifests: the file, and the line or the object.
#[test]
fn check_tells_bad_manifests() {
    let setup = Setup::new("clusters: [{name: a, manifests: clusters/a}]")
        .file("clusters/a/good.json", list(headless("db", ["10.1.0.1".parse().unwrap()])))
        .file("clusters/a/half.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: [")
        .file(
            "clusters/a/wrong.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: x, namespace: shop}\nspec: {ports: many}\n",
        );
    let output = setup.command("check").output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("half.yaml:3"), "{text}");
    assert!(text.lines().any(|line| line.contains("wrong.yaml") && line.contains("ports")), "{text}");
    assert!(!text.contains("good.json"), "{text}");
    let (_, json) = setup.run("check", &["--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["problems"].as_array().map(Vec::len), Some(2), "{json}");
}

/// The printed defaults are a configuration that `check` takes, but for the clusters that it must be given.
#[test]
fn the_printed_defaults_are_valid() {
    let (code, defaults) = call(&["check", "--print-defaults"]);
    assert_eq!(code, Some(0));
    assert!(defaults.lines().count() > 80, "with comments");
    let setup = Setup::sample("conformance");
    let file = setup.path("defaults.yaml");
    std::fs::write(&file, defaults).unwrap();
    let clusters = setup.path("clusters");
    let (code, text) =
        call(&["check", "--config", file.to_str().unwrap(), "--manifests", clusters.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
}

/// `lookup` prints what a client would see, as dig prints it: the same records as the server's.
#[test]
fn lookup_answers_as_the_server_does() {
    let setup = Setup::sample("conformance");
    let questions = [
        "svc1.testns.svc.clusterset.local A",
        "hdls1.testns.svc.clusterset.local SRV",
        "clusterset.local NS",
        "svc0.testns.svc.clusterset.local A",
    ];
    let looked_up: Vec<_> = questions
        .map(|question| {
            let (good, text) = setup.run("lookup", &question.split(' ').collect::<Vec<_>>());
            assert!(good, "{text}");
            portolan_tests::harness::Reply::parse(&text)
        })
        .into();
    let server = setup.start();
    for (question, looked_up) in questions.into_iter().zip(looked_up) {
        let reply = server.dig(question);
        assert_eq!((&looked_up.status, looked_up.data()), (&reply.status, reply.data()), "{question}");
        assert_eq!(looked_up.additional.len(), reply.additional.len(), "{question}");
        assert_eq!(looked_up.flags, reply.flags, "{question}");
    }
}

/// For programs.
#[test]
fn lookup_prints_json() {
    let setup = Setup::sample("conformance");
    let (_, text) = setup.run("lookup", &["svc1.testns.svc.clusterset.local", "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (json["status"].as_str(), json["answer"][0]["data"].as_str()),
        (Some("NOERROR"), Some("10.0.0.1"))
    );
    let (good, text) = setup.run("zone", &["other.example"]);
    assert!(!good && text.contains("clusterset.local"), "names what there is: {text}");
}

/// Help that shows how, on every command; a wrong command line is told on standard error, with status 2.
#[test]
fn help_and_completions() {
    let commands = ["serve", "controller", "status", "export", "unexport", "crds", "check", "lookup", "zone"];
    for command in commands {
        let (code, text) = call(&[command, "--help"]);
        assert_eq!(code, Some(0));
        assert!(text.contains("Examples:") && text.contains(&format!("portolan {command}")), "{text}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let (code, text) = call(&["completions", shell]);
        assert!(code == Some(0) && text.contains("lookup"), "{shell}: {text}");
    }
    let (code, text) = call(&["sail"]);
    assert!(code == Some(2) && text.contains("sail"), "{text}");
    let (code, text) = call(&["--version"]);
    assert!(code == Some(0) && text.starts_with("portolan "), "{text}");
}

/// kubectl finds a plugin by its file's name; help and errors call it as people call it.
#[test]
fn the_binary_is_a_plugin_of_kubectl() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-portolan");
    std::os::unix::fs::symlink(portolan(), &plugin).unwrap();
    let (good, text) = run(Command::new(&plugin).args(["export", "--help"]));
    assert!(good && text.contains("Usage: kubectl portolan export"), "{text}");
    let (good, text) =
        run(Command::new(&plugin).args(["unexport", "shop/cart", "--kubeconfig", "/nonexistent/k"]));
    assert!(!good && text.contains("/nonexistent/k can't be read"), "{text}");
}

/// What can't be exported is said before any cluster is asked, with status 2; a cluster that isn't there, with 1.
#[test]
fn exports_need_a_service_and_a_cluster() {
    for wrong in ["cart", "shop/", "Shop/cart", "shop/cart/x"] {
        let (code, text) = call(&["export", wrong]);
        assert!(code == Some(2) && text.contains("NAMESPACE/SERVICE"), "{wrong}: {text}");
    }
    let (code, text) = call(&["export", "shop/cart", "--label", "team"]);
    assert!(code == Some(2) && text.contains("KEY=VALUE"), "{text}");
    let setup = Setup::new("").file("dead.yaml", dead_kubeconfig());
    let file = setup.path("dead.yaml").display().to_string();
    let (code, text) = call(&["export", "shop/cart", "--kubeconfig", &file]);
    assert!(code == Some(1) && text.contains("http://127.0.0.1:1 can't be reached"), "{text}");
    let (code, text) = call(&["export", "shop/cart", "--kubeconfig", &file, "--context", "east"]);
    assert!(code == Some(1) && text.contains("no context `east`: it has a"), "{text}");
}

/// `portolan crds | kubectl apply -f -`
#[test]
fn definitions_are_printed_as_documents() {
    let (code, text) = call(&["crds"]);
    assert_eq!(code, Some(0));
    let documents: Vec<_> = text.split("---\n").skip(1).collect();
    assert!(!documents.is_empty() && text.starts_with("---\n"), "{text}");
    for document in documents {
        assert!(document.contains("\nkind: CustomResourceDefinition\n"), "{document}");
    }
    assert!(text.contains("name: clusterpeers.portolan.dev"), "{text}");
}

/// An API server where nothing listens.
fn dead_kubeconfig() -> &'static str {
    "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
     clusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n\
     contexts: [{name: a, context: {cluster: a, user: a}}]\nusers: [{name: a, user: {}}]\n"
}

/// Everything that shows without asking a cluster; programs for credentials must be allowed.
#[test]
fn check_reads_kubeconfigs_and_asks_nobody() {
    let exec = dead_kubeconfig().replace(
        "user: {}",
        "user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: /nonexistent, interactiveMode: Never}}",
    );
    let setup = Setup::new(
        "clusters:\n- {name: good, kubeconfig: good.yaml}\n- {name: gone, kubeconfig: gone.yaml}\n\
         - {name: east, kubeconfig: good.yaml, context: east}\n- {name: runs, kubeconfig: exec.yaml}\n\
         - {name: may, kubeconfig: exec.yaml, allow-exec: true}\n- {name: half, kubeconfig: half.yaml}\n\
         kubernetes: {}",
    )
    .file("good.yaml", dead_kubeconfig())
    .file("exec.yaml", exec)
    .file("half.yaml", "clusters: [{name: a, cluster: {token: s3cr3t");
    let output = setup.command("check").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for (cluster, what) in [
        ("gone", "gone.yaml can't be read"),
        ("east", "no context `east`"),
        ("runs", "runs a program"),
        ("half", "half.yaml is no kubeconfig"),
    ] {
        let found =
            text.lines().any(|line| line.contains(&format!("cluster {cluster}: ")) && line.contains(what));
        assert!(found, "{cluster}: {text}");
    }
    assert!(
        text.contains("4 problems") && text.contains("7 clusters behind API servers, not asked"),
        "{text}"
    );
    assert!(!text.contains("s3cr3t"), "{text}");
    let (good, text) = setup.run("zone", &[]);
    assert!(!good && text.contains("only a running server follows"), "{text}");
}

/// One line a cluster, and an exit status for scripts: 1 as soon as something is not as it should be.
#[test]
fn status_tells_how_a_server_is() {
    let server = Setup::sample("three-clusters").start();
    let admin = server.at(ADMIN).to_string();
    let (code, text) = call(&["status", "--admin", &admin]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("CLUSTER") && text.contains("LAST ERROR"), "{text}");
    let clusters = server.status()["sources"].as_array().unwrap().len();
    assert_eq!(text.lines().filter(|line| line.contains("clusters/")).count(), clusters, "{text}");
    let url = format!("http://{admin}/");
    let (code, json) = call(&["status", "--admin", &url, "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, json["command"].as_str()), (Some(0), Some("serve")));

    let folder = std::fs::read_dir(server.path("clusters")).unwrap().next().unwrap().unwrap().path();
    std::fs::rename(&folder, server.path("elsewhere")).unwrap();
    eventually("the cluster is stale", || call(&["status", "--admin", &admin]).0 == Some(1));

    let (code, text) = call(&["status", "--admin", "127.0.0.1:1"]);
    assert!(code == Some(1) && text.contains("nothing listens there"), "{text}");
    assert_eq!(call(&["status", "--admin", "nowhere"]).0, Some(2));
}

/// Its own API server is all that a controller needs to be ready; without it, it lives, waits and says why.
#[test]
fn a_controller_waits_for_its_cluster() {
    let setup = Setup::new("kubernetes: {kubeconfig: dead.yaml}").file("dead.yaml", dead_kubeconfig());
    let setup = setup.under(&DYING_WITH_US);
    let admin = setup.at(ADMIN).to_string();
    let log = std::fs::File::create(setup.path("log")).unwrap();
    let mut command = setup.command("controller");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut controller = launch(command).unwrap();
    let status = || call(&["status", "--admin", &admin]);
    eventually("the controller says why it waits", || status().1.contains("the API server can't be reached"));
    let (code, text) = status();
    assert!(code == Some(1) && text.starts_with("portolan controller "), "{text}");
    assert!(text.contains("own") && text.contains("does not lead"), "{text}");
    let (file, log) = (setup.path("portolan.yaml"), || std::fs::read_to_string(setup.path("log")).unwrap());
    let more = "states: [{cluster: fra1, state: down}]\npolicies: [{spec: {ttlSeconds: 1}}]\n";
    std::fs::write(&file, format!("{}\n{more}", std::fs::read_to_string(&file).unwrap())).unwrap();
    eventually("what is decided meanwhile is taken over", || log().contains("the configuration is in force"));
    let (_, sent) = run(program("kill", Package::Procps).args(["-s", "TERM", &controller.id().to_string()]));
    let (ended, _) = until("the controller ends", || controller.try_wait().unwrap());
    assert!(ended.success(), "{ended} {sent}: {}", log());

    let (good, text) = Setup::new("clusters: [{kubeconfig: dead.yaml}]").run("controller", &[]);
    assert!(!good && text.contains("--in-cluster"), "which cluster is its own? {text}");
}

/// A configuration that isn't there, or has no cluster, ends every command with what to do.
#[test]
fn missing_files_are_told() {
    for command in ["serve", "check", "zone"] {
        let (code, text) = call(&[command, "--config", "/nonexistent/portolan.yaml"]);
        assert!(code == Some(1) && text.contains("/nonexistent/portolan.yaml"), "{command}: {text}");
    }
    let (good, text) = Setup::new("").run("serve", &[]);
    assert!(!good && text.contains("--manifests"), "{text}");
}

/// `portolan zone | head` is no error.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let setup = Setup::sample("conformance");
    setup.command("zone").output().unwrap();
    let script = format!(
        "set -o pipefail; {} zone --config {} | head -1",
        portolan().display(),
        setup.path("portolan.yaml").display()
    );
    let (good, text) = run(Command::new("bash").args(["-c", &script]));
    assert!(good && text.starts_with("$ORIGIN"), "{text}");
}
