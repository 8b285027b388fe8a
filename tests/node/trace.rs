//! What the agent tells: decisions as they are made, counts, metrics.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use portolan_tests::harness::node::{backends, can_hook, connects, datagrams, inside};
use portolan_tests::harness::{Package, becomes, launch, program, run};
use serde_json::{Value, json};

use crate::site::{Site, service, slice};

const THEIRS: [&str; 2] = ["http 8080/TCP", "who 5353/UDP"];
const SERVERS: [&str; 4] =
    ["one/tcp/10.1.0.11/8080", "two/tcp/10.1.0.12/8080", "one/udp/10.1.0.11/5353", "two/udp/10.1.0.12/5353"];

fn site() -> Site {
    Site::new(
        &(service("web", "", &["http 80/TCP", "who 53/UDP"])
            + &slice("web", "a", &THEIRS, &["10.1.0.11", "10.1.0.12"])
            + &service("down", "", &["http 80/TCP"])
            + &slice("down", "a", &THEIRS, &["10.1.0.11!"])),
    )
}

/// `/trace`: decisions from this number on, and the number to ask for next.
fn traced(site: &Site, sample: u32, after: Option<u64>) -> (Vec<Value>, u64) {
    let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
    let (_, text) = site.agent.get(&format!("/trace?sample={sample}{after}"));
    let told: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    assert_eq!(told["lost"], 0, "{told}");
    (told["decisions"].as_array().unwrap().clone(), told["next"].as_u64().unwrap())
}

/// Who connects, to which service by name, and where that goes; what is refused, too. Nothing is told of the time before somebody
/// asked.
#[test]
fn a_trace_names_who_connects_and_where_that_goes() {
    if !can_hook("a_trace_names_who_connects_and_where_that_goes") {
        return;
    }
    let mut site = site();
    let _servers = backends(&site.server, &SERVERS);
    site.agent.start();
    let (client, cgroup) = site.inside();
    let (vip, down) = (site.vip("web", false), site.vip("down", false));
    assert_eq!(connects(client, cgroup, &vip, 80, 50).answers(), 50);
    let (none, mut next) = traced(&site, 1, None);
    assert_eq!((none.len(), next), (0, 0), "nobody listened: {none:?}");
    for (url, service, code, verdict) in [
        (format!("http://{vip}/"), "default/web", Some(0), "redirected"),
        (format!("http://{vip}:81/"), "default/web", Some(7), "no such port: ECONNREFUSED"),
        (format!("http://{down}/"), "default/down", Some(7), "no backend: EHOSTUNREACH"),
    ] {
        let mut curl = program("curl", Package::Curl);
        let curl = inside(client, cgroup, curl.args(["-sS", "--noproxy", "*", "--max-time", "5", &url]));
        let mut curl = {
            let mut command = curl;
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            launch(command).unwrap()
        };
        assert_eq!(curl.wait().unwrap().code(), code, "{url}");
        let (told, after) = traced(&site, 1, Some(next));
        assert_eq!(told.len(), 1, "{told:?}");
        next = after;
        let decision = &told[0];
        let (to, port) = (&url["http://".len()..], if url.contains(":81") { 81 } else { 80 });
        let vip = to.split(['/', ':']).next().unwrap();
        assert_eq!(decision["pid"], curl.id());
        assert_eq!(decision["command"], "curl");
        assert_eq!(decision["protocol"], "TCP");
        assert_eq!(decision["connected"], true);
        assert_eq!(decision["vip"], format!("{vip}:{port}"));
        assert_eq!((&decision["service"], &decision["verdict"]), (&json!(service), &json!(verdict)));
        match decision["backend"].as_str() {
            Some(backend) => assert!(["10.1.0.11:8080", "10.1.0.12:8080"].contains(&backend), "{backend}"),
            None => assert_ne!(verdict, "redirected"),
        }
    }
    // Who asks for its own address (RFC 6724) is let through, and seen.
    let asked = datagrams(client, cgroup, "connected-udp", &vip, 81, 1);
    assert_eq!(asked.errors, [("ENETUNREACH".to_owned(), 1)].into(), "to the virtual IP there is no way");
    let (told, _) = traced(&site, 1, Some(next));
    assert_eq!(told.len(), 1, "{told:?}");
    let verdict = "no such port: let through, as who asks for its own address connects so";
    assert_eq!(
        (&told[0]["protocol"], &told[0]["verdict"], &told[0]["vip"], &told[0]["backend"]),
        (&json!("UDP"), &json!(verdict), &json!(format!("{vip}:81")), &Value::Null)
    );
}

/// `portolan-agent trace -n 3`: a line for each, and then it ends by itself.
#[test]
fn the_command_prints_decisions() {
    if !can_hook("the_command_prints_decisions") {
        return;
    }
    let mut site = site();
    let _servers = backends(&site.server, &SERVERS);
    site.agent.start();
    let (client, cgroup) = site.inside();
    let vip = site.vip("web", false);
    let admin = site.agent.admin().to_string();
    // The kernel tells from now on, and for some seconds: the command need not be there first.
    let (_, next) = traced(&site, 1, None);
    assert_eq!(next, 0);
    let mut trace = program_of_agent(&site, &["trace", "--admin", &admin, "-n", "3"]);
    trace.stdout(Stdio::piped());
    let mut trace = launch(trace).unwrap();
    // Until it has seen enough there is more to see.
    let start = Instant::now();
    while trace.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(30), "the trace does not end");
        assert_eq!(datagrams(client, cgroup, "udp", &vip, 53, 3).answers(), 3);
    }
    let text = String::from_utf8(trace.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    for line in text.lines() {
        let told = format!("UDP send default/web {vip}:53 -> 10.1.0.1");
        assert!(
            line.contains("python3") && line.contains(&told) && line.ends_with(":5353  redirected"),
            "{line}"
        );
    }
}

/// `--sample 10`: one of ten, by chance: of 3,000 about 300, within six standard deviations.
#[test]
fn a_sample_is_a_part_of_all() {
    if !can_hook("a_sample_is_a_part_of_all") {
        return;
    }
    let mut site = site();
    let _servers = backends(&site.server, &SERVERS);
    site.agent.start();
    let (client, cgroup) = site.inside();
    let vip = site.vip("web", false);
    let (mut told, mut next) = (0, traced(&site, 10, None).1);
    // Who does not ask again soon is told nothing more.
    for _ in 0..10 {
        assert_eq!(datagrams(client, cgroup, "connected-udp", &vip, 53, 300).answers(), 300);
        let more = traced(&site, 10, Some(next));
        (told, next) = (told + more.0.len(), more.1);
    }
    assert!((200..=400).contains(&told), "{told} of 3,000");
}

/// A command of the binary, on the client's host, without the configuration.
fn program_of_agent(site: &Site, words: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(portolan_tests::harness::agent_binary());
    command.args(words).env_remove("http_proxy");
    site.client.command(&command)
}

/// OpenMetrics 1.0, text format: every line is a comment that it knows or a sample of a family that was declared before, and the
/// last one is `# EOF`. The samples by name and labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let (lines, end) = text.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(end, "# EOF");
    let (mut samples, mut family, mut kind) = (BTreeMap::new(), "", "");
    for line in lines.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP" | "UNIT", _, _] => {}
            ["#", "TYPE", of, is] => {
                assert!(["counter", "gauge", "histogram", "info"].contains(&is), "{line}");
                (family, kind) = (of, is);
            }
            _ => {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let name = sample.split('{').next().unwrap();
                let of_family = if kind == "counter" { format!("{family}_total") } else { family.to_owned() };
                assert_eq!(name, of_family, "{line}");
                let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
                assert!(samples.insert(sample.to_owned(), value).is_none(), "twice: {line}");
            }
        }
    }
    samples
}

/// Every connection is counted once: by `/services`, by `portolan-agent status NAME`, and by `/metrics`, where only what was used
/// has a name (metrics.rs).
#[test]
fn counts_are_those_of_connections_made() {
    if !can_hook("counts_are_those_of_connections_made") {
        return;
    }
    let mut site = site();
    let _servers = backends(&site.server, &SERVERS);
    site.agent.start();
    let (client, cgroup) = site.inside();
    let (vip, down) = (site.vip("web", false), site.vip("down", false));
    let (_, text) = site.agent.get("/metrics");
    assert!(!samples(&text).keys().any(|sample| sample.contains("default")), "nothing is used yet: {text}");
    let streams = connects(client, cgroup, &vip, 80, 300);
    // Each packet is of another socket, a flow of its own.
    let packets = datagrams(client, cgroup, "udp", &vip, 53, 200);
    let connected = datagrams(client, cgroup, "connected-udp", &vip, 53, 100);
    assert_eq!(connects(client, cgroup, &down, 80, 7).errors, [("EHOSTUNREACH".to_owned(), 7)].into());
    assert_eq!(connects(client, cgroup, &vip, 81, 5).errors, [("ECONNREFUSED".to_owned(), 5)].into());
    // One socket, one flow, however many packets it sends.
    let one = site.python("sockets.py", &["many_packets", &vip, "53", "50"])[0].as_str().unwrap().to_owned();
    let udp = |name: &str| packets.names[name] + connected.names[name] + u32::from(one == name);

    let backend = |name: &str, port: u16, count: u32| {
        let end = if name == "one" { 11 } else { 12 };
        json!({"cluster": "paris", "address": format!("10.1.0.{end}:{port}"), "connections": count})
    };
    let expected = json!([
        {"service": "default/web", "protocol": "UDP", "port": 53, "connections": 301, "unreachable": 0,
         "backends": [backend("one", 5353, udp("one")), backend("two", 5353, udp("two"))]},
        {"service": "default/web", "protocol": "TCP", "port": 80, "connections": 300, "unreachable": 0,
         "backends": [backend("one", 8080, streams.names["one"]), backend("two", 8080, streams.names["two"])]},
    ]);
    becomes("the counts", &expected, || site.agent.services("default/web"));
    assert_eq!(
        site.agent.services("default/down"),
        json!([{"service": "default/down", "protocol": "TCP", "port": 80, "connections": 0, "unreachable": 7, "backends": []}])
    );

    let admin = site.agent.admin().to_string();
    let (done, text) = run(&mut program_of_agent(&site, &["status", "default/web", "--admin", &admin]));
    assert!(done, "{text}");
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let (first, second) = (streams.names["one"].to_string(), streams.names["two"].to_string());
    assert!(
        rows.contains(&vec!["default/web", "80/TCP", "300", "0", "paris", "10.1.0.11:8080", &first]),
        "{text}"
    );
    assert!(rows.contains(&vec!["paris", "10.1.0.12:8080", &second]), "{text}");
    let (done, text) = run(&mut program_of_agent(&site, &["status", "--admin", &admin]));
    assert!(done && text.contains("redirecting") && text.contains("2, 0 refused"), "{text}");

    let metrics = samples(&site.agent.get("/metrics").1);
    let labels = |protocol: &str, port: u16| {
        format!("namespace=\"default\",service=\"web\",protocol=\"{protocol}\",port=\"{port}\"")
    };
    let (tcp, udp_labels) = (labels("TCP", 80), labels("UDP", 53));
    let of_down = "namespace=\"default\",service=\"down\",protocol=\"TCP\",port=\"80\"";
    for (sample, value) in [
        (format!("portolan_agent_connections_total{{{tcp}}}"), 300),
        (format!("portolan_agent_connections_total{{{udp_labels}}}"), 301),
        (format!("portolan_agent_unreachable_total{{{of_down}}}"), 7),
        (
            format!(
                "portolan_agent_backend_connections_total{{{udp_labels},cluster=\"paris\",backend=\"10.1.0.11:5353\"}}"
            ),
            udp("one"),
        ),
        ("portolan_agent_services".to_owned(), 2),
        ("portolan_agent_ready".to_owned(), 1),
    ] {
        assert_eq!(metrics.get(&sample), Some(&f64::from(value)), "{sample} of {metrics:#?}");
    }
}
