//! Each `zones/samples/<scenario>`: objects in, the expected zone out; by our own command, by a zone checker,
//! and by a zone transfer. `PORTOLAN_ACCEPT=1` takes what is compiled for what is expected.

use std::path::PathBuf;

use portolan_tests::harness::{Package, Reply, Setup, program, repository, run, without_serial};

fn scenarios() -> Vec<(String, PathBuf)> {
    let samples = repository().join("zones/samples");
    let entries = std::fs::read_dir(samples).unwrap().map(|entry| entry.unwrap());
    let scenario = |entry: std::fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), entry.path().join("clusterset.local.zone"))
    };
    let scenarios: Vec<_> = entries.map(scenario).collect();
    assert!(scenarios.len() >= 10, "{scenarios:?}");
    scenarios
}

/// What the README of each scenario promises is what is compiled.
#[test]
fn samples_compile_to_their_zones() {
    let mut wrong = Vec::new();
    for (scenario, golden) in scenarios() {
        let (good, text) = Setup::sample(&scenario).run("zone", &[]);
        assert!(good, "{scenario}: {text}");
        let compiled = without_serial(&text);
        if std::env::var_os("PORTOLAN_ACCEPT").is_some() {
            std::fs::write(&golden, &compiled).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap();
        let only = |in_this: &str, other: &str, sign: char| -> Vec<_> {
            let lines = in_this.lines().filter(|line| !other.lines().any(|o| o == *line));
            lines.map(|line| format!("{sign} {line}")).collect()
        };
        if compiled != expected {
            let differences = [only(&expected, &compiled, '-'), only(&compiled, &expected, '+')].concat();
            wrong.push(format!("{scenario}:\n{}", differences.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The golden zone as BIND's checker reads and prints it: absolute names, one record a line, sorted.
fn checked(golden: &std::path::Path) -> Vec<String> {
    let mut checker = program("named-checkzone", Package::Bind9Utils);
    checker.args(["-i", "local", "-n", "fail", "-r", "fail", "-m", "fail", "-D", "-o", "-"]);
    let (good, text) = run(checker.arg("clusterset.local").arg(golden));
    assert!(good, "{}: {text}", golden.display());
    let mut records = Reply::records(&text);
    // It also says that all is well.
    records.retain(|record| record.contains(" IN "));
    records.sort();
    records
}

/// RFC 5936: a transfer holds every record of the zone once, and the SOA first and last. Both forms of the
/// zone are good for an independent reader (BIND's).
#[test]
fn transfers_carry_the_same_zones() {
    for (scenario, golden) in scenarios() {
        let server = Setup::sample(&scenario).with("access: {transfer: {allow: [127.0.0.1]}}").start();
        let transferred =
            server.axfr("clusterset.local").iter().map(|r| without_serial(r)).collect::<Vec<_>>();
        assert_eq!(transferred, checked(&golden), "{scenario}");
    }
}

/// RFC 5936 §5: who may copy a zone is the operator's choice; nobody, without a word. And a subzone is no
/// zone.
#[test]
fn transfers_are_for_the_allowed() {
    let closed = Setup::sample("conformance").start();
    assert_eq!(closed.dig("clusterset.local AXFR +tcp").answer.len(), 0);
    assert!(closed.dig("clusterset.local AXFR").text.contains("Transfer failed"));
    let open = Setup::sample("conformance").with("access: {transfer: {allow: [127.0.0.1]}}").start();
    assert!(open.dig("svc.clusterset.local AXFR").text.contains("Transfer failed"));
}

/// RFC 1995 §2 and §4: with the current serial there is nothing new, one SOA; with an older one the whole zone
/// may come; over UDP, one SOA says that it must be fetched by TCP.
#[test]
fn incremental_transfers_carry_whole_zones() {
    let server = Setup::sample("conformance").with("access: {transfer: {allow: [127.0.0.1]}}").start();
    let soa = server.dig("clusterset.local SOA").data().remove(0);
    let serial: u32 = soa.split(' ').nth(2).unwrap().parse().unwrap();
    let ixfr = |serial: u32, transport: &str| {
        let reply = server.dig(&format!("clusterset.local IXFR={serial} {transport} +noall +answer"));
        Reply::records(&reply.text).len()
    };
    assert_eq!(ixfr(serial, "+tcp"), 1);
    assert_eq!(ixfr(serial - 1, "+tcp"), server.axfr("clusterset.local").len() + 1);
    assert_eq!(ixfr(serial - 1, "+notcp"), 1);
}
