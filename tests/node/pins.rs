//! What is pinned: nothing stays after `detach`, and what others have there is left alone.

use std::path::Path;

use portolan_tests::harness::node::{Agent, can_hook, connects};
use portolan_tests::harness::{Package, eventually, program, run};
use serde_json::Value;

use crate::site::Site;
use crate::survival::{bpftool, status, web, web_servers, who};
use crate::visitor::Visitor;

/// Programs of an agent.
pub(crate) const HOOKS: usize = 9;

/// What bpftool(8) says of an object in the kernel; `None`: it is not there.
pub(crate) fn object(kind: &str, id: u64) -> Option<Value> {
    let (there, text) = bpftool(&[kind, "show", "id", &id.to_string(), "--json"]);
    there.then(|| serde_json::from_str(&text).unwrap())
}

/// Ids of the programs that are attached, and of the maps that they use.
pub(crate) fn in_kernel(agent: &Agent) -> (Vec<u64>, Vec<u64>) {
    let programs: Vec<u64> = agent.status()["hooks"].as_array().unwrap().iter().map(program_of).collect();
    let maps = programs.iter().flat_map(|id| {
        let program = object("prog", *id).unwrap();
        program["map_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect::<Vec<_>>()
    });
    let mut maps: Vec<u64> = maps.collect();
    maps.sort_unstable();
    maps.dedup();
    (programs, maps)
}

fn program_of(hook: &Value) -> u64 {
    hook["program"].as_u64().unwrap()
}

/// `portolan-agent detach`: takes the programs off and removes all that is pinned; who uses it goes first.
#[test]
fn detach_leaves_nothing() {
    if !can_hook("detach_leaves_nothing") {
        return;
    }
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let _servers = web_servers(&site);
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    let (programs, maps) = in_kernel(&site.agent);
    assert!(programs.len() == HOOKS && maps.len() > 10, "{programs:?} {maps:?}");

    let (done, told) = site.agent.detach();
    let expected = format!("another agent uses {}: end it first", site.agent.pins().display());
    assert!(!done && told.contains(&expected), "{told}");
    assert_eq!(who(&site, &vip), "one", "nothing was taken off");

    site.agent.stop();
    let (done, told) = site.agent.detach();
    assert!(done && told.starts_with("detached 9 hooks"), "{told}");
    assert!(!site.agent.pins().exists());
    assert_eq!(who(&site, &vip), "ENETUNREACH");
    eventually("the kernel has none of it", || {
        programs.iter().all(|id| object("prog", *id).is_none())
            && maps.iter().all(|id| object("map", *id).is_none())
    });
    let (done, told) = site.agent.detach();
    assert!(done && told.starts_with("nothing is pinned in"), "{told}");
    site.agent.start();
    assert_eq!(who(&site, &vip), "one", "it can be attached again");
}

/// An agent that takes over leaves nothing of the last one but the sessions.
#[test]
fn a_generation_goes_when_the_next_one_comes() {
    if !can_hook("a_generation_goes_when_the_next_one_comes") {
        return;
    }
    let mut site = Site::new(&web(&["10.1.0.11"]));
    site.agent.start();
    let (programs, maps) = in_kernel(&site.agent);
    site.agent.kill();
    site.agent.start();
    let (_, now) = in_kernel(&site.agent);
    eventually("the kernel has none of the former", || {
        let goes = |id: &&u64| !now.contains(id);
        programs.iter().all(|id| object("prog", *id).is_none())
            && maps.iter().filter(goes).all(|id| object("map", *id).is_none())
    });
    assert_eq!(maps.iter().filter(|id| now.contains(id)).count(), 4, "affinities, connected, flows, origins");
}

/// Whether a metric has this value.
fn counts(site: &Site, sample: &str) -> bool {
    site.agent.get("/metrics").1.lines().any(|line| line == sample)
}

/// Whoever removes pins, or mounts something over them, ends nothing while the agent runs, which makes them anew: the next one
/// takes over as if nothing had been.
#[test]
fn pins_that_somebody_removes_are_made_anew() {
    if !can_hook("pins_that_somebody_removes_are_made_anew") {
        return;
    }
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let _servers = web_servers(&site);
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    let mut visitor = Visitor::start(&site, &vip, 80);
    visitor.goes_on(1);
    let (pins, before) = (site.agent.pins().to_owned(), site.agent.status()["hooks"].clone());
    let said = "somebody removed what was pinned: pinned anew";
    type Removal = (&'static str, fn(&Path));
    let removals: [Removal; 3] = [
        ("links", |pins| {
            for hook in ["links/connect4", "links/getpeername4", "sessions/flows"] {
                std::fs::remove_file(pins.join("v2").join(hook)).unwrap();
            }
        }),
        ("a folder", |pins| std::fs::remove_dir_all(pins.join("v2/sessions")).unwrap()),
        ("all", |pins| std::fs::remove_dir_all(pins).unwrap()),
    ];
    for (round, (what, remove)) in (1..).zip(removals) {
        remove(&pins);
        eventually("it is pinned anew", || {
            counts(&site, &format!("portolan_agent_pinned_again_total {round}"))
        });
        assert_eq!(site.agent.status()["hooks"], before, "{what}: the same programs, attached once");
        assert_eq!(site.agent.log().matches(said).count(), round, "{what}: said once");
        let (well, told) = status(&site.agent);
        let note = format!("{} was emptied, or a part of it, and pinned anew: {round} times", pins.display());
        assert!(well && told.contains(&note), "{what}: {told}");
        visitor.goes_on(20);
    }
    // What is no BPF file system takes no pins: that is said until it is gone.
    let at = pins.to_str().unwrap();
    let mount = |words: &[&str]| run(program(words[0], Package::UtilLinux).args(&words[1..]));
    assert!(mount(&["mount", "-t", "tmpfs", "none", at]).0);
    let problem =
        format!("redirection would end with this agent: {at} is not on a BPF file system: mount one");
    eventually("it is said", || status(&site.agent).1.contains(&problem));
    visitor.goes_on(20);
    assert!(site.agent.get("/ready").0, "connections are redirected");
    assert!(counts(&site, "portolan_agent_in_trouble 1"));
    assert!(mount(&["umount", at]).0);
    eventually("all is well", || status(&site.agent).0);
    assert!(counts(&site, "portolan_agent_in_trouble 0"));
    assert_eq!(site.agent.log().matches(&problem).count(), 1, "said once");

    site.agent.kill();
    visitor.goes_on(20);
    site.agent.start();
    assert!(site.agent.log().contains("replaced=true"), "the next one takes over");
    visitor.goes_on(20);
    let seen = visitor.finish();
    assert!(seen.said.errors.is_empty() && seen.said.strangers.is_empty(), "{seen:?}");
    assert_eq!(seen.held, format!("{vip} 80"), "an old connection is shown the virtual IP all along");
}

/// bpftool-link(8): a link that is detached is there, and runs nothing.
#[test]
fn programs_that_somebody_detaches_are_attached_again() {
    if !can_hook("programs_that_somebody_detaches_are_attached_again") {
        return;
    }
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let _servers = web_servers(&site);
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    let link = site.agent.pins().join("v2/links/connect4");
    let (detached, text) = bpftool(&["link", "detach", "pinned", link.to_str().unwrap()]);
    assert!(detached, "{text}");
    eventually("it is attached again", || counts(&site, "portolan_agent_reattached_total 1"));
    assert!(site.agent.log().contains("somebody detached programs: attached again"));
    let said = connects(&site.client, Some(&site.cgroup), &vip, 80, 20);
    assert_eq!((said.answers(), said.strangers.len()), (20, 0), "{said:?}");
    assert_eq!(site.agent.status()["hooks"].as_array().unwrap().len(), HOOKS);
}

/// Two agents of one folder would undo each other's work; of two folders each has its own.
#[test]
fn two_agents_share_a_cgroup_but_no_pins() {
    if !can_hook("two_agents_share_a_cgroup_but_no_pins") {
        return;
    }
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let _servers = web_servers(&site);
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    let (ran, told) = run(&mut site.agent.command("run"));
    let expected = format!(
        "another agent uses {}: end it first, or give this one other `agent.pins`",
        site.agent.pins().display()
    );
    assert!(!ran && told.contains(&expected), "{told}");

    let yaml = "home: paris\nclusters: [{name: paris, manifests: clusters/paris}]";
    let mut other = Agent::new(&site.client, &site.cgroup, yaml, "");
    other.write("clusters/paris/services.yaml", web(&["10.1.0.12"]));
    other.start();
    for _ in 0..2 {
        let said = connects(&site.client, Some(&site.cgroup), &vip, 80, 20);
        assert_eq!((said.answers(), said.strangers.len()), (20, 0), "{said:?}");
        other.kill();
    }
    drop(other);
    assert_eq!(who(&site, &vip), "one", "the first one has what it had");
}

/// Whatever was not made by an agent of this release is named, and left alone.
#[test]
fn what_others_have_pinned_is_left_alone() {
    if !can_hook("what_others_have_pinned_is_left_alone") {
        return;
    }
    let site = Site::new(&web(&["10.1.0.11"]));
    let pins = site.agent.pins();
    let map = |kind: &str, at: &Path, entries: &str| {
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        let shape = ["key", "4", "value", "4", "entries", entries, "name", "other"];
        let words = [&["map", "create", at.to_str().unwrap(), "type", kind][..], &shape].concat();
        let (made, text) = bpftool(&words);
        assert!(made, "{text}");
    };
    for place in [
        "other",
        "v1/other",
        "v1/links/connect4",
        "v2/links/connect4",
        "v2/sessions/flows",
        "v2/sessions/mine",
        "v2/other",
    ] {
        let path = pins.join(place);
        map("hash", &path, "1");
        for command in ["run", "detach"] {
            let (ran, told) = run(&mut site.agent.command(command));
            let expected = format!("{} was not made by Portolan and is left alone", path.display());
            assert!(!ran && told.contains(&expected), "{place}: {told}");
            assert!(path.exists(), "{command} left {place} alone");
        }
        std::fs::remove_file(&path).unwrap();
    }
    let newer = pins.join("v3");
    std::fs::create_dir(&newer).unwrap();
    for command in ["run", "detach"] {
        let (ran, told) = run(&mut site.agent.command(command));
        let expected = format!("{} is of a newer agent (ABI 3, this one has 2)", newer.display());
        assert!(!ran && told.contains(&expected), "{told}");
    }
    std::fs::remove_dir(&newer).unwrap();
    let (done, told) = site.agent.detach();
    assert!(done && !pins.exists(), "{told}");
}

/// Has what is pinned be that of an agent of a lower ABI, in which a map had another shape.
fn of_a_lower_abi(pins: &Path) {
    std::fs::rename(pins.join("v2"), pins.join("v1")).unwrap();
    let connected = pins.join("v1/sessions/connected");
    std::fs::remove_file(&connected).unwrap();
    let shape = ["type", "array", "key", "4", "value", "40", "entries", "10", "name", "connected"];
    let (made, text) = bpftool(&[&["map", "create", connected.to_str().unwrap()][..], &shape].concat());
    assert!(made, "{text}");
}

/// An upgrade to another ABI: what is pinned is taken over without a gap, half-done or not, and what established connections need,
/// as far as it fits. Nothing of the lower ABI is left.
#[test]
fn what_an_agent_of_a_lower_abi_pinned_is_taken_over() {
    if !can_hook("what_an_agent_of_a_lower_abi_pinned_is_taken_over") {
        return;
    }
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let _servers = web_servers(&site);
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    let mut visitor = Visitor::start(&site, &vip, 80);
    visitor.goes_on(1);
    let pins = site.agent.pins().to_owned();
    for (round, is_half_done) in [(1, false), (2, true)] {
        site.agent.kill();
        of_a_lower_abi(&pins);
        if is_half_done {
            std::fs::create_dir_all(pins.join("v2/links")).unwrap();
            for hook in ["sock_release", "getpeername4", "connect4"] {
                std::fs::rename(pins.join("v1/links").join(hook), pins.join("v2/links").join(hook)).unwrap();
            }
        }
        let (well, told) = status(&site.agent);
        let expected = "it was an older one (ABI 1, this one has 2): `portolan-agent run` takes over from it";
        assert!(!well && told.contains(expected) && told.contains("getpeername6"), "{told}");
        visitor.goes_on(20);

        site.agent.start();
        let log = site.agent.log();
        let expected = "took over what an agent of a lower ABI had attached from=1 to=2";
        assert_eq!(log.matches(expected).count(), round, "{log}");
        let (well, told) = status(&site.agent);
        let note = "note: map connected of ABI 1 has another shape and is made anew";
        assert!(well && told.contains(note) && told.matches("another shape").count() == 1, "{told}");
        visitor.goes_on(20);
        assert!(!pins.join("v1").exists());
        let (programs, _) = in_kernel(&site.agent);
        assert_eq!(programs.len(), HOOKS);
        let (_, shown) = bpftool(&["cgroup", "show", site.cgroup.path().to_str().unwrap(), "--json"]);
        let attached: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(attached.as_array().unwrap().len(), HOOKS, "nothing is there twice: {shown}");
        let (address, name) = [("10.1.0.11", "one"), ("10.1.0.12", "two")][round % 2];
        site.agent.write("clusters/paris/services.yaml", web(&[address]));
        eventually("a change is followed", || who(&site, &vip) == name);
    }
    let seen = visitor.finish();
    assert!(seen.said.errors.is_empty() && seen.said.strangers.is_empty(), "{seen:?}");
    assert_eq!(seen.held, format!("{vip} 80"), "an old connection is shown the virtual IP");
    assert_eq!(seen.answer.as_deref(), Some("one"));

    site.agent.stop();
    of_a_lower_abi(&pins);
    let (done, told) = site.agent.detach();
    assert!(done && told.starts_with("detached 9 hooks") && !pins.exists(), "{told}");
    assert_eq!(who(&site, &vip), "ENETUNREACH");
}

/// Established connections need their sessions: maps of other sizes are kept as they are, and that is said.
#[test]
fn sessions_keep_their_sizes_and_that_is_said() {
    if !can_hook("sessions_keep_their_sizes_and_that_is_said") {
        return;
    }
    let mut site = Site::with(&web(&["10.1.0.11"]), "", "maps: {sockets: 1000, affinity: 500}");
    let _servers = web_servers(&site);
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    site.agent.stop();
    let yaml = "home: paris\nclusters: [{name: paris, manifests: clusters/paris}]";
    site.agent.configure(yaml, "maps: {sockets: 2000, affinity: 500, vips: 10, ports: 20, backends: 30}");
    site.agent.start();
    assert_eq!(who(&site, &vip), "one");
    assert_eq!(site.agent.status()["maps"][0]["size"], 10, "tables are the new agent's own");
    let expected = "map flows has 1000 entries, as an agent before this one made it, and not 2000 as `agent.maps.sockets` says";
    let (well, told) = status(&site.agent);
    assert!(well && told.contains(&format!("note: {expected}")), "{told}");
    let log = site.agent.log();
    assert!(log.contains(expected) && !log.contains("map affinities has"), "{log}");

    site.agent.stop();
    assert!(site.agent.detach().0);
    site.agent.start();
    assert!(!status(&site.agent).1.contains("note:"), "after detach it is as configured");
}
