//! What happens without an agent, and when the next one comes: nothing that a client could see.

use std::net::TcpListener;

use portolan_tests::harness::node::{Agent, Backends, backends, can_hook, connects};
use portolan_tests::harness::{Package, eventually, program, run, stays, until};

use crate::pins::HOOKS;
use crate::site::{Site, service, slice};
use crate::visitor::Visitor;

/// A service `web` that has these backends.
pub(crate) fn web(backends: &[&str]) -> String {
    service("web", "", &["http 80/TCP"]) + &slice("web", "a", &["http 8080/TCP"], backends)
}

/// The backends that `web` may have: `one` and `two`.
pub(crate) fn web_servers(site: &Site) -> Backends {
    backends(&site.server, &["one/tcp/10.1.0.11/8080", "two/tcp/10.1.0.12/8080"])
}

/// Who answers `web`, or which error comes.
pub(crate) fn who(site: &Site, vip: &str) -> String {
    let said = connects(&site.client, Some(&site.cgroup), vip, 80, 1);
    said.names.into_keys().chain(said.errors.into_keys()).collect()
}

/// design.md §1: the hook is the kernel's. Agents end in the given way, and others take over: no connection fails, those that are
/// established are shown the virtual IP all along, and each agent follows what changes.
fn agents_come_and_go(end: fn(&mut Agent), rounds: usize) {
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let _servers = web_servers(&site);
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    let mut visitor = Visitor::start(&site, &vip, 80);
    visitor.goes_on(1);
    for round in 1..=rounds {
        end(&mut site.agent);
        visitor.goes_on(100);
        site.agent.start();
        let log = site.agent.log();
        assert_eq!(log.matches("replaced=true").count(), round, "each takes over: {log}");
        visitor.goes_on(20);
        let (address, name) = [("10.1.0.11", "one"), ("10.1.0.12", "two")][round % 2];
        site.agent.write("clusters/paris/services.yaml", web(&[address]));
        eventually("a change is followed", || who(&site, &vip) == name);
    }
    visitor.goes_on(20);
    let seen = visitor.finish();
    assert!(seen.said.errors.is_empty() && seen.said.strangers.is_empty(), "{seen:?}");
    assert!(seen.said.names["one"] > 20 && seen.said.names["two"] > 20, "changes were seen: {seen:?}");
    assert_eq!(seen.held, format!("{vip} 80"), "an old connection is shown the virtual IP");
    assert_eq!(seen.answer.as_deref(), Some("one"), "it is with the backend that it began with");
}

/// SIGKILL is what an agent out of memory gets.
#[test]
fn a_killed_agent_is_missed_by_nobody() {
    if can_hook("a_killed_agent_is_missed_by_nobody") {
        agents_come_and_go(Agent::kill, 2);
    }
}

/// A rolling update of the DaemonSet: SIGTERM, then the next one.
#[test]
fn upgrades_are_seen_by_nobody() {
    if can_hook("upgrades_are_seen_by_nobody") {
        agents_come_and_go(|agent| assert!(agent.stop().success()), 5);
    }
}

/// design.md §7: nothing known is lost. What the next agent can't read does not replace what the last one knew.
#[test]
fn an_agent_that_can_not_read_its_cluster_takes_nothing_over() {
    if !can_hook("an_agent_that_can_not_read_its_cluster_takes_nothing_over") {
        return;
    }
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let _servers = web_servers(&site);
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    site.agent.stop();
    let (there, away) = (site.agent.path("clusters/paris"), site.agent.path("away"));
    std::fs::rename(&there, &away).unwrap();
    site.agent.spawn();
    until("its admin server answers", || site.agent.listening());
    let not_ready = || {
        let (ready, text) = site.agent.get("/ready");
        assert!(!ready, "{text}");
        text
    };
    eventually("it says why it is not ready", || not_ready().contains("clusters/paris"));
    stays("redirection is as it was", std::time::Duration::from_secs(3), || {
        not_ready();
        who(&site, &vip) == "one"
    });
    let (well, text) = status(&site.agent);
    assert!(!well && text.contains("not redirecting yet") && text.contains("clusters/paris"), "{text}");

    std::fs::rename(&away, &there).unwrap();
    site.agent.write("clusters/paris/services.yaml", web(&["10.1.0.12"]));
    eventually("it takes over", || site.agent.get("/ready").0);
    assert!(site.agent.log().contains("replaced=true"));
    assert_eq!(who(&site, &vip), "two");
}

/// The same where an API server is down.
#[test]
fn an_agent_without_an_api_server_takes_nothing_over() {
    if !can_hook("an_agent_without_an_api_server_takes_nothing_over") {
        return;
    }
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let _servers = web_servers(&site);
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    site.agent.stop();
    // A port that nobody listens on: the agent's network namespace has no listeners at all.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n\
         users: [{{name: u, user: {{}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\n"
    );
    site.agent.write("kubeconfig", kubeconfig);
    site.agent.configure("home: paris\nclusters: [{name: paris, kubeconfig: kubeconfig}]", "");
    site.agent.spawn();
    until("its admin server answers", || site.agent.listening());
    stays("redirection is as it was", std::time::Duration::from_secs(3), || {
        let (ready, text) = site.agent.get("/ready");
        assert!(!ready, "{text}");
        who(&site, &vip) == "one"
    });
    let (_, ready) = site.agent.get("/ready");
    let (well, text) = status(&site.agent);
    assert!(!well && ready.contains("paris") && text.contains("paris"), "{ready}{text}");
}

/// A cgroup that is removed takes the programs with it, and says nothing (cgroup-v2.rst, "Deleting a cgroup").
#[test]
fn a_cgroup_that_is_made_anew_is_attached_to_again() {
    if !can_hook("a_cgroup_that_is_made_anew_is_attached_to_again") {
        return;
    }
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let _servers = web_servers(&site);
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    assert_eq!(who(&site, &vip), "one");
    for round in 1..=2 {
        site.cgroup.remove();
        eventually("it is missed", || !site.agent.get("/ready").0);
        let (_, why) = site.agent.get("/ready");
        assert!(why.contains(site.cgroup.path().to_str().unwrap()), "{why}");
        let metrics = site.agent.get("/metrics").1;
        assert!(metrics.lines().any(|line| line == "portolan_agent_ready 0"), "{metrics}");
        site.cgroup.make();
        eventually("it is attached to", || site.agent.get("/ready").0);
        assert_eq!(who(&site, &vip), "one");
        let metrics = site.agent.get("/metrics").1;
        assert!(metrics.contains(&format!("portolan_agent_reattached_total {round}\n")), "{metrics}");
        assert_eq!(site.agent.log().matches("it was removed and made anew: attached again").count(), round);
    }
}

/// A crash in the middle of attaching leaves some links: the next agent makes the others, whatever is there.
#[test]
fn what_a_crash_left_half_done_is_completed() {
    if !can_hook("what_a_crash_left_half_done_is_completed") {
        return;
    }
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let _servers = web_servers(&site);
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    let halves: [&[&str]; 3] =
        [&["connect4"], &["connect4", "connect6", "sendmsg4", "recvmsg6"], &["getpeername4", "getpeername6"]];
    for missing in halves {
        site.agent.kill();
        for hook in missing {
            std::fs::remove_file(site.agent.pins().join("v2/links").join(hook)).unwrap();
        }
        site.agent.start();
        assert_eq!(site.agent.status()["hooks"].as_array().unwrap().len(), HOOKS, "{missing:?}");
        let said = connects(&site.client, Some(&site.cgroup), &vip, 80, 10);
        assert_eq!((said.answers(), said.strangers.len()), (10, 0), "{missing:?}: {said:?}");
    }
}

/// `portolan-agent status`: whether all is well, and what it prints.
pub(crate) fn status(agent: &Agent) -> (bool, String) {
    let mut command = agent.command("status");
    command.args(["--admin", &agent.admin().to_string()]);
    run(command.env_remove("http_proxy"))
}

/// What bpftool(8) says.
pub(crate) fn bpftool(words: &[&str]) -> (bool, String) {
    run(program("bpftool", Package::Bpftool).args(words))
}
