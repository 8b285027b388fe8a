//! The commands of the binary, as people and scripts run them.

use std::process::Command;

use portolan_tests::harness::{Setup, headless, list, portolan, run};

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
    for command in ["serve", "check", "lookup", "zone"] {
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
