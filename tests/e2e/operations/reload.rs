//! The configuration changes while the server runs.

use std::time::Duration;

use portolan_tests::harness::{DNS, Server, Setup, ask_udp, eventually, query};

const SVC1: &str = "+nsid svc1.testns.svc.clusterset.local A";

fn reloads(server: &Server, result: &str) -> f64 {
    server.metric("portolan_config_reload_total", &[&format!("result=\"{result}\"")]).unwrap()
}

/// A changed file is noticed, with no signal; what it says holds from then on, without a query lost.
#[test]
fn a_changed_file_is_taken_up() {
    let mut server = Setup::sample("conformance").with("identity: {nsid: before}").start();
    assert!(server.dig(SVC1).option("(\"before\")"));
    let yaml = server.yaml();
    server.reconfigure(
        &yaml
            .replace("before", "after")
            .replace("- origin: clusterset.local", "- origin: clusterset.local\n  ttl: 77"),
    );
    eventually("the change is in force", || {
        let reply = server.dig(SVC1);
        assert_eq!(reply.data(), ["10.0.0.1"], "answered all the time");
        reply.option("(\"after\")") && reply.ttl() == 77
    });
    eventually("it is counted", || reloads(&server, "success") >= 1.0);
    assert_eq!(server.status()["config"]["errors"].as_array().map(Vec::len), Some(0));
}

/// SIGHUP reads the file again, changed or not.
#[test]
fn sighup_reloads() {
    let server = Setup::sample("conformance").start();
    for times in [1.0, 2.0] {
        server.signal("HUP");
        eventually("the reload is counted", || reloads(&server, "success") == times);
    }
    assert_eq!(server.dig(SVC1).data(), ["10.0.0.1"]);
}

/// A wrong file changes nothing: the running configuration stays, and metric, status and log say what is
/// wrong, with its line. A good one ends that.
#[test]
fn a_wrong_file_is_refused() {
    let mut server = Setup::sample("conformance").with("identity: {nsid: before}").start();
    let good = server.yaml();
    let wrong = format!("{good}rate-limit: {{slip: often}}\nlistn: {{}}\n");
    let line = wrong.lines().count();
    server.reconfigure(&wrong);
    eventually("the refusal is counted", || reloads(&server, "failure") >= 1.0);
    let before = reloads(&server, "failure");
    server.signal("HUP");
    eventually("so it is on SIGHUP", || reloads(&server, "failure") > before);

    assert!(server.dig(SVC1).option("(\"before\")"));
    assert_eq!(server.metric("portolan_config_last_reload_successful", &[]), Some(0.0));
    let status = server.status();
    let errors: Vec<_> =
        status["config"]["errors"].as_array().unwrap().iter().map(|e| e.as_str().unwrap()).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    let place = format!("portolan.yaml:{line}: ");
    assert!(errors.iter().any(|e| e.contains(&place) && e.contains("did you mean `listen`?")), "{errors:?}");
    assert!(server.log().contains(&place), "the log says so");

    server.reconfigure(&good.replace("before", "after"));
    eventually("the good file is in force", || server.dig(SVC1).option("(\"after\")"));
    eventually("and nothing is wrong any more", || {
        server.metric("portolan_config_last_reload_successful", &[]) == Some(1.0)
            && server.status()["config"]["errors"].as_array().unwrap().is_empty()
    });
}

/// Clusters and zones come and go without a restart; what stays is answered throughout.
#[test]
fn clusters_and_zones_change() {
    let mut server = Setup::sample("three-clusters").start();
    let db = "db.shop.svc.clusterset.local A";
    assert_eq!(server.dig(db).answer.len(), 6);
    let good = server.yaml();
    server.reconfigure(&good.replace("- name: tokyo\n  manifests: clusters/tokyo\n", ""));
    eventually("tokyo is gone", || {
        server.dig(db).data() == ["10.1.0.20", "10.1.1.20", "10.3.0.20", "10.3.1.20"]
    });
    server.reconfigure(&good.replace("zones:", "zones:\n- {origin: global.example.com}"));
    eventually("tokyo is back, and there is another zone", || {
        server.dig("db.shop.svc.global.example.com A").answer.len() == 6 && server.dig(db).answer.len() == 6
    });
}

/// Addresses need a restart; the status says so, and the rest of the file is in force.
#[test]
fn what_needs_a_restart_is_told() {
    let mut server = Setup::sample("conformance").with("identity: {nsid: before}").start();
    let address = server.at(DNS).to_string();
    let yaml = server.yaml();
    server
        .reconfigure(&yaml.replace("before", "after").replace(&address, &address.replace(":5300", ":5301")));
    eventually("the rest is in force", || server.dig(SVC1).option("(\"after\")"));
    eventually("the restart is asked for", || {
        server.status()["config"]["needsRestart"].to_string().contains("listen")
    });
}

/// Nobody who asks notices a reload, or a change of the clusters: each of a thousand queries in the midst is answered.
#[test]
fn no_query_is_lost_meanwhile() {
    let server = Setup::sample("conformance").start();
    let message = query("svc1.testns.svc.clusterset.local", 1);
    for round in 0..1000 {
        match round % 100 {
            30 => server.signal("HUP"),
            60 => server.write(
                "clusters/cluster1/more.yaml",
                format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: n{round}}}}}"),
            ),
            _ => {}
        }
        let reply = ask_udp(server.at(DNS), &message, Duration::from_secs(5));
        assert!(reply.is_some_and(|reply| reply.ends_with(&[10, 0, 0, 1])), "query {round}");
    }
    assert!(reloads(&server, "success") >= 1.0);
    assert!(server.status()["generation"].as_u64().unwrap() > 1);
}
