//! Rooms and who may enter them: the crates' borders, held by what Cargo itself says.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use portolan_tests::harness::repository;
use serde_json::Value;

/// Crates of ours that a crate may use, by what its users may therefore rely on. `portolan-tests` may use all.
const MAY_USE: [(&str, &[&str]); 8] = [
    ("portolan-zones", &[]),
    ("portolan-sync", &["portolan-zones"]),
    ("portolan-config", &["portolan-zones", "portolan-sync"]),
    ("portolan-program", &[]),
    ("portolan-dns", &["portolan-zones"]),
    ("portolan-ebpf", &["portolan-zones"]),
    ("portolan", &["portolan-zones", "portolan-sync", "portolan-config", "portolan-program", "portolan-dns"]),
    (
        "portolan-agent",
        &["portolan-zones", "portolan-sync", "portolan-config", "portolan-program", "portolan-ebpf"],
    ),
];
/// Crates of others and who may name them, as CONTRIBUTING.md has it.
const BELONGS_TO: [(&str, &[&str]); 13] = [
    ("kube", &["portolan-sync", "portolan-tests"]),
    ("k8s-openapi", &["portolan-sync", "portolan-tests"]),
    ("notify", &["portolan-sync", "portolan-program"]),
    ("serde-saphyr", &["portolan-sync", "portolan-config", "portolan", "portolan-tests"]),
    ("hickory-server", &["portolan-dns"]),
    ("governor", &["portolan-dns", "portolan-sync"]),
    ("maxminddb", &["portolan-dns"]),
    ("rustls", &["portolan-dns", "portolan-sync", "portolan-tests"]),
    ("tokio-rustls", &["portolan-dns", "portolan-sync"]),
    ("aya", &["portolan-ebpf", "portolan-agent"]),
    ("clap", &["portolan", "portolan-agent"]),
    ("anyhow", &["portolan", "portolan-agent", "portolan-program"]),
    ("axum", &["portolan", "portolan-agent", "portolan-program"]),
];
/// What the pure crate must do without: no runtime, no cluster, no files, no sockets, no randomness of its
/// own.
const IMPURE: [&str; 9] =
    ["tokio", "kube", "notify", "socket2", "hickory-server", "tracing", "serde", "getrandom", "jiff"];
const TOP_LEVEL: [&str; 15] = [
    "Cargo.toml",
    "Cargo.lock",
    "dns",
    "sync",
    "ebpf",
    "deploy",
    "zones",
    "tests",
    "README.md",
    "LICENSE",
    "Makefile",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "target",
    "fuzz-target",
];

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(repository())
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// Direct dependencies of each member, those of tests and benchmarks only where `dev`.
fn dependencies(dev: bool) -> BTreeMap<String, BTreeSet<String>> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let of = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        dependencies.filter(|d| dev || d["kind"] != "dev").map(|d| text(&d["name"])).collect()
    };
    packages.map(|package| (text(&package["name"]), of(package))).collect()
}

/// Data flows one way: `sync` and `dns` meet in a snapshot of `zones` only, and the binary puts them together.
#[test]
fn crates_use_each_other_one_way() {
    for (package, dependencies) in dependencies(true) {
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == package) else {
            assert_eq!(package, "portolan-tests", "which room is it?");
            continue;
        };
        let ours = dependencies.iter().filter(|name| name.starts_with("portolan"));
        for other in ours {
            assert!(allowed.contains(&other.as_str()), "{package} must not use {other}");
        }
    }
}

/// One crate per job, and few who know it.
#[test]
fn crates_of_others_stay_in_their_rooms() {
    for (package, dependencies) in dependencies(false) {
        for (other, rooms) in BELONGS_TO {
            let at_home = rooms.contains(&package.as_str());
            assert!(
                !dependencies.contains(other) || at_home,
                "{package} must not use {other}: {rooms:?} may"
            );
        }
    }
    let zones = &dependencies(false)["portolan-zones"];
    for impure in IMPURE {
        assert!(!zones.contains(impure), "portolan-zones is pure: no {impure}");
    }
}

/// What contributors read is what is held: each crate stands in the rows of those who may name it, and in no other.
#[test]
fn the_table_of_rooms_says_the_same() {
    let text = std::fs::read_to_string(repository().join("CONTRIBUTING.md")).unwrap();
    let mut written = BTreeSet::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let package = cells[2].trim_matches('`');
        let others = cells[5].split(", ").filter(|name| !name.is_empty());
        written.extend(others.map(|other| (other.to_owned(), package.to_owned())));
    }
    let used = dependencies(false);
    let mut held = BTreeSet::new();
    for (other, rooms) in BELONGS_TO {
        let users = rooms.iter().filter(|room| used.get(**room).is_some_and(|names| names.contains(other)));
        held.extend(users.map(|room| (other.to_owned(), (*room).to_owned())));
    }
    assert_eq!(written, held);
}

/// The top level shows the rooms, and nothing else.
#[test]
fn the_top_level_is_the_plan() {
    for entry in std::fs::read_dir(repository()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || TOP_LEVEL.contains(&name.as_str()), "{name} is not in the plan");
    }
}

/// One set of lints for all: a member that doesn't take them over escapes `unsafe_code = "deny"` and the rest.
#[test]
fn every_member_takes_the_workspace_lints() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() >= 6);
    for package in packages {
        let manifest = package["manifest_path"].as_str().unwrap();
        let text = std::fs::read_to_string(manifest).unwrap();
        assert!(text.contains("\n[lints]\nworkspace = true"), "{manifest}");
    }
}
