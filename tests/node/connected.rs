//! What becomes of connected UDP sockets when their backends go.

use std::time::Duration;

use portolan_tests::harness::node::{Agent, Talk, backends, can_hook, datagrams};
use portolan_tests::harness::{Package, becomes, eventually, program, run, stays};
use serde_json::Value;

use crate::health::{PORTS, THEIRS, weighted, weights};
use crate::site::{Site, service, slice};
use crate::survival::{bpftool, status};

/// The servers of [`weighted`] for UDP.
const BOTH: [&str; 4] = [
    "paris/udp/10.1.0.11/5353",
    "oslo/udp/10.1.0.12/5353",
    "paris/udp/fd00:1::11/5353",
    "oslo/udp/fd00:1::12/5353",
];

/// Who each of the sockets is with.
fn names(told: &Value) -> Vec<String> {
    told.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// sock_diag(7), SOCK_DESTROY: a connected UDP socket learns of its backend's end, by ECONNABORTED when it reads, and when it sends
/// by EDESTADDRREQ, for it is connected no more (udp(7)). It connects again; what is with another backend is left alone.
#[test]
fn connected_udp_sockets_of_a_dead_backend_are_aborted() {
    if !can_hook("connected_udp_sockets_of_a_dead_backend_are_aborted") {
        return;
    }
    let mut site = weighted();
    let _servers = backends(&site.server, &BOTH);
    site.agent.start();
    let (client, inside) = site.inside();
    let mut held = [false, true]
        .map(|is_v6| Talk::start(client, inside, "held.py", &[&site.vip("web", is_v6), "53", "40"]));
    let before = held.each_mut().map(|held| names(&held.say("ask")));
    for before in &before {
        assert!(before.iter().any(|name| name == "oslo") && before.iter().any(|name| name == "paris"));
    }
    site.rewrite(
        "clusters/oslo/services.yaml",
        service("web", "ipFamilies: [IPv4, IPv6]", &PORTS)
            + &slice("web", "v4", &THEIRS, &["10.1.0.12!"])
            + &slice("web", "v6", &THEIRS, &["fd00:1::12!"]),
    );
    let ways = [("read", "ECONNABORTED"), ("ask", "EDESTADDRREQ")];
    for ((held, before), (how, error)) in held.iter_mut().zip(&before).zip(ways) {
        let expected: Vec<_> =
            before.iter().map(|name| if name == "oslo" { error } else { "paris" }.to_owned()).collect();
        becomes("sockets of what is gone are aborted", &expected, || names(&held.say(how)));
        assert_eq!(names(&held.say("again")), vec!["paris"; 40]);
    }
    let aborted = before.iter().flatten().filter(|name| *name == "oslo").count();
    let metrics = site.agent.get("/metrics").1;
    assert!(
        metrics.contains(&format!("portolan_agent_closed_sockets_total {aborted}\n")),
        "{aborted}: {metrics}"
    );
}

/// udp(7): a socket that was aborted is connected no more, and may send on. All its packets to a virtual IP go to one backend, and
/// answers seem to come from there.
#[test]
fn udp_sockets_that_are_connected_no_more_send_on() {
    if !can_hook("udp_sockets_that_are_connected_no_more_send_on") {
        return;
    }
    let slices = |name: &str, addresses: &[&str]| slice(name, "v4", &THEIRS, addresses);
    let both = service("web", "", &PORTS) + &service("web2", "", &PORTS);
    let all = ["10.1.0.11", "10.1.0.12", "10.1.0.13"];
    let manifests = |of_web: &[&str]| both.clone() + &slices("web", of_web) + &slices("web2", &all[1..2]);
    let mut site = Site::new(&manifests(&all));
    let servers = ["one/udp/10.1.0.11/5353", "two/udp/10.1.0.12/5353", "three/udp/10.1.0.13/5353"];
    let _servers = backends(&site.server, &servers);
    site.agent.start();
    let (client, inside) = site.inside();
    let (vip, other) = (site.vip("web", false), site.vip("web2", false));
    let mut held = Talk::start(client, inside, "held.py", &[&vip, "53", "40", &other]);
    let before = names(&held.say("ask"));
    site.rewrite("clusters/paris/services.yaml", manifests(&all[1..]));
    let aborted = before.iter().map(|name| if name == "one" { "ECONNABORTED" } else { name });
    let aborted: Vec<String> = aborted.map(str::to_owned).collect();
    assert!(aborted.iter().any(|name| name == "ECONNABORTED"));
    becomes("sockets of what is gone are aborted", &aborted, || names(&held.say("read")));
    let apart = names(&held.say("apart"));
    for (before, apart) in before.iter().zip(&apart) {
        let stays = if before == "one" { ["two", "three"].contains(&&**apart) } else { apart == before };
        assert!(stays, "{before} to {apart}: {before:?} {apart:?}");
    }
    // Of a backend that both services have it is the one that was asked last.
    assert_eq!(names(&held.say("other")), vec!["two"; 40]);
}

/// A service that is unexported, or gone, is told to connected UDP sockets, too: all of them, also those with a backend that got no
/// new clients any more. What is of another service goes on.
#[test]
fn connected_udp_sockets_of_a_service_that_is_gone_are_aborted() {
    if !can_hook("connected_udp_sockets_of_a_service_that_is_gone_are_aborted") {
        return;
    }
    let mut site = weighted();
    let other = service("other", "", &PORTS) + &slice("other", "v4", &THEIRS, &["10.1.0.11"]);
    site.agent.write("clusters/paris/other.yaml", other);
    let _servers = backends(&site.server, &BOTH);
    site.agent.start();
    let (client, inside) = site.inside();
    let vip = site.vip("web", false);
    let mut held = Talk::start(client, inside, "held.py", &[&vip, "53", "40"]);
    let mut others = Talk::start(client, inside, "held.py", &[&site.vip("other", false), "53", "5"]);
    let before = names(&held.say("ask"));
    assert!(before.iter().any(|name| name == "oslo") && before.iter().any(|name| name == "paris"));
    assert_eq!(names(&others.say("ask")), ["paris"; 5]);
    site.rewrite("clusters/paris/policy.yaml", weights(1, 0));
    for cluster in ["paris", "oslo"] {
        site.rewrite(&format!("clusters/{cluster}/services.yaml"), "");
    }
    becomes("all are aborted", &vec!["ECONNABORTED".to_owned(); 40], || names(&held.say("read")));
    let again = datagrams(client, inside, "connected-udp", &vip, 53, 3);
    assert_eq!(again.errors, [("ENETUNREACH".to_owned(), 3)].into(), "the virtual IP is nobody's");
    assert_eq!(names(&others.say("ask")), ["paris"; 5]);
}

/// `agent.maps.sockets`: what finds no room is told. Sockets that were closed while no program saw it make room for others when the
/// next agent comes, if it can see that they are gone.
#[test]
fn connected_udp_sockets_that_are_gone_make_room() {
    if !can_hook("connected_udp_sockets_that_are_gone_make_room") {
        return;
    }
    let manifests = service("web", "", &PORTS) + &slice("web", "v4", &THEIRS, &["10.1.0.11"]);
    let mut site = Site::with(&manifests, "", "maps: {sockets: 4}");
    let _servers = backends(&site.server, &BOTH);
    site.agent.start();
    let (client, inside) = (&site.client, Some(&site.cgroup));
    let vip = site.vip("web", false);
    let mut stays_open = Talk::start(client, inside, "held.py", &[&vip, "53", "1"]);
    assert_eq!(names(&stays_open.say("ask")), ["paris"]);
    let mut others = Talk::start(client, inside, "held.py", &[&vip, "53", "9"]);
    assert_eq!(names(&others.say("ask")), ["paris"; 9]);
    let tells = |agent: &Agent, sample: &str| agent.get("/metrics").1.lines().any(|line| line == sample);
    let noted = |agent: &Agent, count: usize| {
        tells(agent, &format!("portolan_agent_map_entries{{map=\"connected\"}} {count}"))
    };
    assert!(noted(&site.agent, 4) && tells(&site.agent, "portolan_agent_unnoted_sockets_total 6"));
    let (well, text) = status(&site.agent);
    let note = "note: 6 connected UDP sockets found no room in map connected";
    assert!(well && text.contains(note) && text.contains("agent.maps.sockets"), "{text}");

    site.agent.kill();
    std::fs::remove_file(site.agent.pins().join("v2/links/sock_release")).unwrap();
    // The kernel takes its time (bpf_link_put).
    eventually("nobody sees sockets being closed", || {
        let (read, text) = bpftool(&["cgroup", "show", site.cgroup.path().to_str().unwrap()]);
        read && text.contains("connect4") && !text.contains("sock_release")
    });
    drop(others);
    site.agent.under(&["setpriv", "--bounding-set=-sys_admin,-sys_ptrace"]);
    site.agent.start();
    stays("who can't look forgets nobody", Duration::from_secs(1), || noted(&site.agent, 4));
    site.agent.stop();
    // As without hostPID: it may enter all namespaces, and sees those of its own processes alone.
    site.agent.under(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    site.agent.start();
    stays("who does not see the node's processes forgets nobody", Duration::from_secs(1), || {
        noted(&site.agent, 4)
    });
    site.agent.kill();
    site.agent.under(&[]);
    site.agent.start();
    eventually("what is gone is forgotten", || noted(&site.agent, 1));
    assert!(site.agent.log().contains("forgot UDP sockets that were closed while no agent ran sockets=3"));
    // What is left is still looked after.
    site.rewrite("clusters/paris/services.yaml", "");
    becomes("it is aborted", &vec!["ECONNABORTED".to_owned()], || names(&stays_open.say("read")));
}

/// A namespace that can't be entered is told of as long as that is so: here that of this process, which the agent sees as an empty file.
/// Sockets of others are closed meanwhile.
#[test]
fn trouble_with_sockets_ends_with_its_reason() {
    if !can_hook("trouble_with_sockets_ends_with_its_reason") {
        return;
    }
    let manifests =
        |end: &str| service("web", "", &PORTS) + &slice("web", "v4", &THEIRS, &[&format!("10.1.0.{end}")]);
    let mut site = Site::new(&manifests("11"));
    let _servers = backends(&site.server, &BOTH);
    site.agent.under(&["unshare", "--mount"]);
    site.agent.start();
    let (client, inside) = (&site.client, Some(&site.cgroup));
    let vip = site.vip("web", false);
    let mut held = Talk::start(client, inside, "held.py", &[&vip, "53", "3"]);
    assert_eq!(names(&held.say("ask")), ["paris"; 3]);
    let its = format!("/proc/{}", std::process::id());
    let for_agent = |line: &str| {
        let agent = site.agent.pid().to_string();
        let mut nsenter = program("nsenter", Package::UtilLinux);
        let (done, text) = run(nsenter.args(["--target", &agent, "--mount", "sh", "-c", line]));
        assert!(done, "{line}: {text}");
    };
    for_agent(&format!(
        "mount -t tmpfs none {its} && mkdir {its}/net {its}/ns && touch {its}/net/dev {its}/ns/net"
    ));
    site.agent.write("clusters/paris/services.yaml", manifests("12"));
    let trouble = "sockets of 1 network namespaces can't be closed";
    becomes("sockets are aborted", &vec!["ECONNABORTED".to_owned(); 3], || names(&held.say("read")));
    eventually("it is told", || status(&site.agent).1.contains(trouble));
    for_agent(&format!("umount {its}"));
    eventually("all is well", || status(&site.agent).0);
    assert_eq!(site.agent.log().matches(trouble).count(), 1, "said once");
    let metrics = site.agent.get("/metrics").1;
    assert!(metrics.contains("portolan_agent_in_trouble 0\n"), "{metrics}");
}

/// A backend that only gets no new clients (a weight of 0) keeps those that it has.
#[test]
fn connected_udp_sockets_live_on_when_only_shares_change() {
    if !can_hook("connected_udp_sockets_live_on_when_only_shares_change") {
        return;
    }
    let mut site = weighted();
    let _servers = backends(&site.server, &BOTH);
    site.agent.start();
    let vip = site.vip("web", false);
    let (client, inside) = site.inside();
    let mut held = Talk::start(client, inside, "held.py", &[&vip, "53", "40"]);
    let before = names(&held.say("ask"));
    assert!(before.iter().any(|name| name == "oslo"), "{before:?}");
    site.rewrite("clusters/paris/policy.yaml", weights(1, 0));
    assert_eq!(
        datagrams(client, inside, "connected-udp", &vip, 53, 100).names,
        [("paris".to_owned(), 100)].into()
    );
    stays("all sockets are with their backends", Duration::from_secs(1), || {
        names(&held.say("ask")) == before
    });
    let metrics = site.agent.get("/metrics").1;
    assert!(metrics.contains("portolan_agent_closed_sockets_total 0\n"), "{metrics}");
}
