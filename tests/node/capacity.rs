//! How much fits: full maps, as many virtual IPs as a large clusterset has, and one service with as many endpoints as a port can
//! have.

use std::fmt::Write;
use std::net::Ipv4Addr;

use portolan_tests::harness::node::{Agent, backends, can_hook, connects};
use portolan_tests::harness::{eventually, stays, until_within};

use crate::pins::{in_kernel, object};
use crate::site::{Site, service, slice};
use crate::survival::{bpftool, status, web_servers, who};

/// All endpoints of large sites: a network that the host with backends has as a whole.
const MANY: &str = "10.2.0.0/16";

/// A small service with one backend for each port.
fn small(name: &str) -> String {
    service(name, "", &["http 80/TCP"]) + &slice(name, "a", &["http 8080/TCP"], &["10.1.0.11", "10.1.0.12"])
}

/// What a metric's sample says.
fn metric(agent: &Agent, sample: &str) -> Option<String> {
    let text = agent.get("/metrics").1;
    text.lines().find_map(|line| line.strip_prefix(&format!("{sample} ")).map(str::to_owned))
}

/// What finds no room is refused by name, and told of wherever one looks; what is there goes on, and room that is made is taken.
#[test]
fn what_finds_no_room_is_refused_and_told_of() {
    if !can_hook("what_finds_no_room_is_refused_and_told_of") {
        return;
    }
    let ports = ["a 81/TCP", "b 82/TCP", "c 83/TCP", "d 84/TCP"];
    let seven: Vec<String> = (1..=7).map(|n| format!("10.1.0.{n}")).collect();
    let seven: Vec<&str> = seven.iter().map(String::as_str).collect();
    let rows = [
        (
            "vips",
            small("third"),
            "no room for virtual IPs: 2 of 2 are in use; raise `agent.maps.vips`, or unexport services",
        ),
        (
            "ports",
            service("third", "", &ports) + &slice("third", "a", &["a 8080/TCP"], &["10.1.0.11"]),
            "no room for ports: 1 of 4 are in use; raise `agent.maps.ports`, or unexport services",
        ),
        (
            "backends",
            service("third", "", &["http 80/TCP"]) + &slice("third", "a", &["http 8080/TCP"], &seven),
            "no room for backends: 2 of 6 are in use; raise `agent.maps.backends`, or unexport services",
        ),
    ];
    for (map, third, expected) in rows {
        let mut site = Site::with(&small("first"), "", "maps: {vips: 2, ports: 4, backends: 6}");
        let _servers = web_servers(&site);
        site.agent.start();
        let vip = site.agent.vips("default/first")[0].to_string();
        let fits = map != "vips";
        if !fits {
            site.agent.write("clusters/paris/second.yaml", small("second"));
            eventually("the second fits", || site.agent.status()["services"] == 2);
        }
        site.agent.write("clusters/paris/third.yaml", &third);
        eventually("it is refused", || site.agent.status()["refusedCount"] == 1);
        let refused = &site.agent.status()["refused"][0];
        assert_eq!((&refused["service"], &refused["reason"]), (&"default/third".into(), &expected.into()));
        assert_eq!(metric(&site.agent, "portolan_agent_refused_services").as_deref(), Some("1"));
        let (well, text) = status(&site.agent);
        assert!(!well && text.contains(&format!("refused default/third: {expected}")), "{text}");
        let said = "1 services are not, or not wholly, redirected; default/third";
        assert_eq!(site.agent.log().matches(said).count(), 1, "once: {}", site.agent.log());
        assert!(site.agent.get("/ready").0, "all else is redirected");
        let told = connects(&site.client, Some(&site.cgroup), &vip, 80, 10);
        assert_eq!(told.answers(), 10, "what is there goes on: {told:?}");

        if fits {
            site.agent.write("clusters/paris/third.yaml", small("third"));
        } else {
            site.agent.remove("clusters/paris/second.yaml");
        }
        eventually("room is taken", || site.agent.status()["refusedCount"] == 0);
        let third = site.agent.vips("default/third")[0].to_string();
        assert!(["one", "two"].contains(&who(&site, &third).as_str()), "{map}");
        assert_eq!(metric(&site.agent, "portolan_agent_refused_services").as_deref(), Some("0"));
    }
}

/// bpftool-map(8), `freeze`: the kernel refuses all writes of a map from then on. What can't be deleted is told of wherever one looks,
/// as what can't be written is; and the next agent, which makes maps of its own, puts it right.
#[test]
fn what_the_kernel_does_not_delete_is_told_of() {
    if !can_hook("what_the_kernel_does_not_delete_is_told_of") {
        return;
    }
    let mut site = Site::new(&small("first"));
    let _servers = web_servers(&site);
    site.agent.start();
    let vip = site.agent.vips("default/first")[0].to_string();
    let (_, maps) = in_kernel(&site.agent);
    let vips = maps.iter().find(|id| object("map", **id).unwrap()["name"] == "vips").unwrap();
    let (frozen, text) = bpftool(&["map", "freeze", "id", &vips.to_string()]);
    assert!(frozen, "{text}");
    assert_eq!(metric(&site.agent, "portolan_agent_undeleted_entries").as_deref(), Some("0"));

    site.rewrite("clusters/paris/services.yaml", small("second"));
    assert_eq!(metric(&site.agent, "portolan_agent_undeleted_entries").as_deref(), Some("1"));
    let problem = "1 entries can't be deleted, lead where they led, and are tried again every second: map vips can't be written";
    let (well, text) = status(&site.agent);
    assert!(!well && text.contains(&format!("problem: {problem}")), "{text}");
    assert!(text.contains("refused default/second: map vips can't be written"), "{text}");
    stays("it is said once", std::time::Duration::from_secs(3), || {
        site.agent.log().matches(problem).count() == 1
    });
    assert_eq!(
        who(&site, &vip),
        "ECONNREFUSED",
        "the address leads to what has no ports, and to nobody else"
    );

    site.agent.kill();
    site.agent.start();
    assert_eq!(who(&site, &vip), "ENETUNREACH");
    let second = site.agent.vips("default/second")[0].to_string();
    assert!(["one", "two"].contains(&who(&site, &second).as_str()));
    assert!(status(&site.agent).0, "all is well");
}

/// design.md §6: 100,000 virtual IPs are no other than ten. Sizes are asserted, times are printed: this profile is no measure.
#[test]
fn a_hundred_thousand_virtual_ips_fit() {
    if !can_hook("a_hundred_thousand_virtual_ips_fit") {
        return;
    }
    const SERVICES: u32 = 100_000;
    const MOST_MEMORY: u64 = 300 << 20;
    let sizes = "maps: {vips: 131072, ports: 262144, backends: 524288}";
    let mut site = Site::with("", "", sizes);
    write_many(&site.agent, SERVICES);
    let _any = everywhere(&site);
    site.agent.spawn();
    let (_, took) = until_within(std::time::Duration::from_secs(240), "it redirects", || {
        let ready = site.agent.listening().is_some() && site.agent.get("/ready").0;
        ready.then_some(())
    });
    let status = site.agent.status();
    assert_eq!((&status["services"], &status["refusedCount"]), (&SERVICES.into(), &0.into()));
    assert_eq!(
        (&status["maps"][0]["used"], &status["maps"][3]["used"]),
        (&SERVICES.into(), &(3 * SERVICES).into())
    );
    let (_, maps) = in_kernel(&site.agent);
    let octets = |id: &u64| object("map", *id).unwrap()["bytes_memlock"].as_u64().unwrap();
    let memory: u64 = maps.iter().map(octets).sum();
    eprintln!(
        "{SERVICES} services: {} ms in the last pass, {took:?} from the start, {} MiB of maps",
        status["lastPassMilliseconds"],
        memory >> 20
    );
    assert!(memory <= MOST_MEMORY, "{memory} octets");
    for vip in [vip(0), vip(SERVICES / 2), vip(SERVICES - 1)] {
        assert_eq!(who(&site, &vip.to_string()), "any", "{vip}");
    }
    assert_eq!(who(&site, &vip(SERVICES).to_string()), "ENETUNREACH", "one more is nobody's");
}

/// The virtual IP of a service by its number, as an API server would give it.
fn vip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 96, 0, 0)) + number)
}

/// One backend for all addresses of [`MANY`].
fn everywhere(site: &Site) -> portolan_tests::harness::node::Backends {
    site.server.ip(&["route", "add", "local", MANY, "dev", "lo"]);
    site.client.ip(&["route", "add", MANY, "via", "10.1.0.11"]);
    backends(&site.server, &["any/tcp/0.0.0.0/8080"])
}

/// Imports with three endpoints each, as the controller writes them, in lists of 10,000.
fn write_many(agent: &Agent, services: u32) {
    const LIST: u32 = 10_000;
    for list in 0..services.div_ceil(LIST) {
        let mut items = String::new();
        for number in list * LIST..((list + 1) * LIST).min(services) {
            let vip = vip(number);
            write!(
                items,
                r#"{{"apiVersion":"multicluster.x-k8s.io/v1alpha1","kind":"ServiceImport","metadata":{{"name":"s{number}","namespace":"n"}},"spec":{{"type":"ClusterSetIP","ips":["{vip}"],"ports":[{{"name":"http","port":80,"protocol":"TCP"}}]}},"status":{{"clusters":[{{"cluster":"tokyo"}}]}}}},{{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"name":"s{number}-a","namespace":"n","labels":{{"multicluster.kubernetes.io/service-name":"s{number}","multicluster.kubernetes.io/source-cluster":"tokyo"}}}},"addressType":"IPv4","ports":[{{"name":"http","port":8080,"protocol":"TCP"}}],"endpoints":[{}]}},"#,
                (0..3)
                    .map(|n| format!(r#"{{"addresses":["{}"],"conditions":{{"ready":true}}}}"#, backend(number + n)))
                    .collect::<Vec<_>>()
                    .join(","),
            )
            .unwrap();
        }
        let items = items.trim_end_matches(',');
        agent.write(
            &format!("clusters/paris/list-{list}.json"),
            format!(r#"{{"apiVersion":"v1","kind":"List","items":[{items}]}}"#),
        );
    }
}

/// An address in [`MANY`].
fn backend(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 2, 0, 0)) + number % 65_536)
}

/// As many endpoints as a port can have of one cluster.
#[test]
fn a_service_has_tens_of_thousands_of_endpoints() {
    if !can_hook("a_service_has_tens_of_thousands_of_endpoints") {
        return;
    }
    const ENDPOINTS: u32 = 65_535;
    let mut site = Site::new(&service("web", "", &["http 80/TCP"]));
    let _any = everywhere(&site);
    for first in (0..ENDPOINTS).step_by(1000) {
        let addresses: Vec<String> =
            (first..(first + 1000).min(ENDPOINTS)).map(|n| backend(n).to_string()).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let text = slice("web", &first.to_string(), &["http 8080/TCP"], &addresses);
        site.agent.write(&format!("clusters/paris/slice-{first}.yaml"), text);
    }
    site.agent.start();
    let status = site.agent.status();
    assert_eq!(status["refusedCount"], 0, "{status:#}");
    assert_eq!(status["maps"][3]["used"], ENDPOINTS, "backends: {status:#}");
    let ports = site.agent.services("default/web");
    assert_eq!(ports[0]["backends"].as_array().unwrap().len(), ENDPOINTS as usize);
    let vip = site.agent.vips("default/web")[0].to_string();
    let said = connects(&site.client, Some(&site.cgroup), &vip, 80, 300);
    assert_eq!((said.answers(), said.strangers.len()), (300, 0), "{said:?}");
    let ports = site.agent.services("default/web");
    let used = ports[0]["backends"].as_array().unwrap().iter().filter(|backend| backend["connections"] != 0);
    let used = used.count();
    assert!(used > 280, "all are drawn alike: 300 connections went to {used}");
}
