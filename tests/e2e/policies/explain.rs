//! `portolan explain`: what it tells people and programs, of one client and of all, and what it says to who asks wrongly.

use std::process::Command;

use portolan_tests::harness::{ADMIN, Server, eventually, portolan};
use serde_json::Value;

use super::{CART, NEAR, with_policy};

/// Exit status, standard output and standard error.
fn call(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// What a running server is asked by the command.
fn ask(server: &Server, words: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(portolan());
    command.args(["explain", CART, "--admin", &server.at(ADMIN).to_string()]);
    call(command.args(words.split_whitespace()))
}

/// The cells of a line.
fn cells(line: &str) -> Vec<&str> {
    line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

/// A row for each place, a column for each cluster: the same from a server and from files; `--if` shows what would be.
#[test]
fn a_table_shows_the_shares_of_all() {
    let near = with_policy(NEAR);
    let (code, offline, _) = call(near.command("explain").args([CART, "--everywhere"]));
    let server = near.start();
    let (online_code, online, _) = ask(&server, "--everywhere");
    assert_eq!((code, online_code), (Some(0), Some(0)), "{offline}\n{online}");
    for text in [&offline, &online] {
        let table = text.split_once("\n\nCLIENTS IN").unwrap().1;
        let rows: Vec<Vec<&str>> = table.lines().skip(1).map(cells).collect();
        assert_eq!(
            cells(table.lines().next().unwrap()),
            ["A paris", "B tokyo", "C virginia", "SHARES"],
            "{text}"
        );
        assert_eq!(rows.len(), 7, "{text}");
        assert_eq!(
            rows[0],
            ["cluster paris, region eu-west, zone eu-west-a", "100.0 %", "-", "-", "AAAAAAAAAA"],
            "{text}"
        );
        assert_eq!(rows[6], ["anywhere else", "33.3 %", "33.3 %", "33.3 %", "AAAABBBCCC"], "{text}");
    }
    let (_, without, _) = ask(&server, "--everywhere --if paris=down --if tokyo=drain");
    assert_eq!(without.matches("CCCCCCCCCC").count(), 7, "{without}");
    assert!(without.contains(", and what is supposed"), "{without}");
    let (_, json, _) = ask(&server, "--everywhere A --if virginia=0 --format json");
    let drawn: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&drawn["type"], &drawn["moreRows"]), (&"A".into(), &0.into()), "{json}");
    let rows = drawn["rows"].as_array().unwrap();
    assert_eq!(rows[6]["percent"], serde_json::json!([50.0, 50.0, 0.0]), "{json}");
    assert_eq!(rows[0]["places"][0]["zone"], "eu-west-a", "{json}");
    for row in rows {
        let percent: f64 =
            row["percent"].as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).sum();
        assert!((percent - 100.0).abs() < 0.001, "{row}");
    }
}

/// Every step has its source, and how old that is: in the table, as numbers, and by dig.
#[test]
fn what_is_told_has_an_age() {
    let server = with_policy(NEAR).with("access: {explain: {allow: [127.0.0.0/8]}}").start();
    eventually("the folders were looked at", || {
        server.status()["sources"].as_array().unwrap().iter().all(|source| source["checkedAt"].is_i64())
    });
    let (code, text, _) = ask(&server, "--from 10.1.0.7");
    assert_eq!(code, Some(0), "{text}");
    let policy = text.lines().find(|line| line.starts_with("policy")).unwrap();
    assert!(policy.contains("TrafficPolicy shop/near of paris") && policy.ends_with("ago"), "{policy}");
    let fresh = text.lines().find(|line| line.starts_with("fresh")).unwrap();
    assert!(
        fresh.contains("paris: heard ") && fresh.contains("s ago, from ") && fresh.contains("clusters/paris"),
        "{text}"
    );
    assert!(text.contains("of EndpointSlice shop/cart-"), "{text}");
    let (_, json, _) = ask(&server, "A --from 10.1.0.7 --format json");
    let told: Value = serde_json::from_str(&json).unwrap();
    assert!(told["policyAgeSeconds"].as_i64().unwrap() > 0, "{json}");
    let heard = told["evidence"]["clusters"].as_array().unwrap();
    assert_eq!(
        heard.iter().map(|heard| &heard["cluster"]).collect::<Vec<_>>(),
        ["paris", "tokyo", "virginia"]
    );
    for heard in heard {
        assert!(
            (0..60).contains(&heard["ageSeconds"].as_i64().unwrap()) && heard["stale"] == false,
            "{json}"
        );
    }
    assert_eq!((&told["type"], &told["place"]["zone"]), (&"A".into(), &"eu-west-a".into()), "{json}");
    let lines = server.dig(&format!("{CART} CH TXT +subnet=10.1.0.7/32 +tcp")).text;
    assert!(lines.contains("fresh: paris: heard ") && lines.contains("about its export, made "), "{lines}");
    // A folder that can't be read any more is stale, and older from look to look.
    std::fs::rename(server.path("clusters/tokyo"), server.path("tokyo")).unwrap();
    eventually("the folder is missed", || {
        ask(&server, "--from 10.1.0.7").1.contains("clusters/tokyo: stale")
    });
}

/// Of A and AAAA only what has such an address counts.
#[test]
fn a_type_has_its_own_shares() {
    let v6 = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
        metadata: {name: cart-six, namespace: shop, labels: {kubernetes.io/service-name: cart}}\n\
        addressType: IPv6\nports: [{name: http, port: 8080}]\n\
        endpoints: [{addresses: ['fd00:2::11'], conditions: {ready: true}}]\n";
    let setup = with_policy("answer: Endpoints").file("clusters/tokyo/six.yaml", v6);
    let server = setup.start();
    let shares = |words: &str| -> Vec<String> {
        let (_, json, _) = ask(&server, &format!("{words} --from 10.1.0.7 --format json"));
        let told: Value = serde_json::from_str(&json).unwrap();
        let shares = told["shares"].as_array().unwrap().clone();
        shares.iter().map(|share| format!("{} {}", share["cluster"], share["share"])).collect()
    };
    assert_eq!(shares("AAAA"), ["\"tokyo\" \"100.0 %\""]);
    assert_eq!(shares("a").len(), 3);
    assert_eq!(server.dig(&format!("{CART} AAAA")).data(), ["fd00:2::11"]);
    let (code, text) = server.get(&format!("/explain?name={CART}&from=10.1.0.7&type=MX"));
    assert!(code == 400 && text.contains("expected A, AAAA or SRV"), "{code} {text}");
}

/// Who asks wrongly is told how to ask: 2 for a wrong command line, 1 for what can't be explained.
#[test]
fn wrong_questions_are_told_what_to_ask() {
    let setup = with_policy(NEAR);
    for (words, status, expected) in [
        ("", 2, "<--from <ADDRESS>|--everywhere>"),
        ("MX --from 10.1.0.7", 2, "expected A, AAAA or SRV"),
        ("--from paris", 2, "expected an IP address, such as 10.1.2.3; or --everywhere"),
        ("--from 10.1.0.7 --everywhere", 2, "cannot be used with"),
        ("--everywhere --if paris", 1, "CLUSTER=drain"),
        ("--everywhere --if paris=gone", 1, "expected CLUSTER=down"),
        (
            "--everywhere --if mars=down",
            1,
            "cluster `mars` is not behind shop/cart: paris, tokyo, virginia are",
        ),
        ("--everywhere --policy nowhere.yaml", 1, "nowhere.yaml"),
    ] {
        let (code, _, error) = call(setup.command("explain").arg(CART).args(words.split_whitespace()));
        assert_eq!(code, Some(status), "{words}: {error}");
        assert!(error.contains(expected), "{words}: {error}");
    }
    let server = setup.start();
    for (question, expected) in [
        ("", "`from` is missing"),
        ("&from=10.1.0.7&everywhere=true", "leave one of them out"),
        ("&everywhere=yes", "everywhere"),
        ("&form=10.1.0.7", "form"),
        ("&everywhere=true&if=mars=down", "is not behind shop/cart"),
    ] {
        let (code, text) = server.get(&format!("/explain?name={CART}{question}"));
        assert!(code == 400 && text.contains(expected), "{question}: {code} {text}");
    }
    let (code, help, _) = call(Command::new(portolan()).args(["explain", "--help"]));
    assert!(code == Some(0) && help.contains("--everywhere --if fra1=down"), "{help}");
}
