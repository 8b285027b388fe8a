//! Others on the same cgroup, and addresses that are theirs.

use std::path::PathBuf;

use portolan_tests::harness::node::can_hook;
use portolan_tests::harness::{Package, eventually, program, repository, run};

use crate::site::{Site, service, slice};
use crate::survival::{bpftool, status, web, web_servers, who};
use crate::visitor::Visitor;

/// A program of that name, loaded and pinned; until this is dropped.
struct Other {
    _folder: tempfile::TempDir,
    pin: PathBuf,
    hook: &'static str,
}

impl Other {
    fn load(site: &Site, name: &str) -> Self {
        Self::load_for(site, name, "connect4")
    }

    fn load_for(site: &Site, name: &str, hook: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let object = folder.path().join("other.o");
        let mut clang = program("clang", Package::Clang);
        clang.args(["-O2", "-target", "bpf", &format!("-DNAME={name}"), &format!("-DHOOK=\"{hook}\""), "-c"]);
        clang.arg(repository().join("tests/node/programs/other.c")).arg("-o").arg(&object);
        let (compiled, text) = run(&mut clang);
        assert!(compiled, "{text}");
        let pin = PathBuf::from(format!("{}-{name}", site.agent.pins().display()));
        let (loaded, text) = bpftool(&["prog", "load", object.to_str().unwrap(), pin.to_str().unwrap()]);
        assert!(loaded, "{text}");
        Self { _folder: folder, pin, hook }
    }

    /// `mode`: `multi` leaves room for others, none does not.
    fn attach(&self, site: &Site, mode: &[&str]) {
        let (cgroup, pin) = (site.cgroup.path().to_str().unwrap(), self.pin.to_str().unwrap());
        let (attached, text) =
            bpftool(&[&["cgroup", "attach", cgroup, self.hook, "pinned", pin], mode].concat());
        assert!(attached, "{text}");
    }

    fn detach(&self, site: &Site) {
        let (cgroup, pin) = (site.cgroup.path().to_str().unwrap(), self.pin.to_str().unwrap());
        let (detached, text) = bpftool(&["cgroup", "detach", cgroup, self.hook, "pinned", pin]);
        assert!(detached, "{text}");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.pin);
    }
}

/// A service of the cluster's own, whose virtual IP is a Service's: 10.96.0.50.
fn derived() -> String {
    "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceImport\nmetadata: {name: derived, namespace: default}\nspec:\n  \
     type: ClusterSetIP\n  ips: [10.96.0.50]\n  ports: [{name: http, port: 80, protocol: TCP}]\n---\n"
        .to_owned()
        + &service("derived", "", &["http 80/TCP"])
        + &slice("derived", "a", &["http 8080/TCP"], &["10.1.0.12"])
}

/// Several programs on one cgroup run one after the other (bpf_link: BPF_F_ALLOW_MULTI): whoever came first.
#[test]
fn programs_of_others_do_not_matter() {
    if !can_hook("programs_of_others_do_not_matter") {
        return;
    }
    let mut site = Site::new(&(web(&["10.1.0.11"]) + &derived()));
    let _servers = web_servers(&site);
    let other = Other::load(&site, "let_pass");
    other.attach(&site, &["multi"]);
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    assert_eq!((who(&site, &vip).as_str(), who(&site, "10.96.0.50").as_str()), ("one", "two"));
    assert_eq!(site.agent.status()["neighbours"], serde_json::json!(["let_pass"]));
    assert!(status(&site.agent).1.contains("let_pass"));
    other.detach(&site);
    other.attach(&site, &["multi"]);
    assert_eq!(who(&site, &vip), "one", "who comes later does not matter, either");
}

/// A program that was attached without BPF_F_ALLOW_MULTI lets nobody in: the agent says whose it is, and goes on trying.
#[test]
fn who_lets_nobody_in_is_named() {
    if !can_hook("who_lets_nobody_in_is_named") {
        return;
    }
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let _servers = web_servers(&site);
    let other = Other::load(&site, "only_me");
    other.attach(&site, &[]);
    site.agent.spawn();
    let ready = || site.agent.listening().map(|_| site.agent.get("/ready"));
    let refused = format!("hook connect4 can't be attached to {}", site.cgroup.path().display());
    eventually("it says why", || ready().is_some_and(|(ready, text)| !ready && text.contains(&refused)));
    let (_, text) = site.agent.get("/ready");
    assert!(text.contains("only_me"), "{text}");
    other.detach(&site);
    eventually("it is attached when there is room", || site.agent.get("/ready").0);
    let vip = site.agent.vips("default/web")[0].to_string();
    assert_eq!(who(&site, &vip), "one");
}

/// Where Cilium replaces kube-proxy, Services are its own: only virtual IPs of the pool are redirected, and that is said.
#[test]
fn services_are_left_to_cilium() {
    if !can_hook("services_are_left_to_cilium") {
        return;
    }
    let mut site = Site::new(&(web(&["10.1.0.11"]) + &derived()));
    let _servers = web_servers(&site);
    let other = Other::load(&site, "cil_sock4_connect");
    other.attach(&site, &["multi"]);
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    assert_eq!((who(&site, &vip).as_str(), who(&site, "10.96.0.50").as_str()), ("one", "ENETUNREACH"));
    let expected =
        "Cilium redirects Services on this cgroup: only virtual IPs of the pool are redirected by this agent";
    assert!(site.agent.log().contains(expected));
    let (well, text) = status(&site.agent);
    assert!(well && text.contains("cil_sock4_conne") && text.contains(expected), "{text}");
}

/// Cilium may be installed, and removed, while an agent runs: Services are left to it meanwhile, and no connection to an address of
/// the pool fails.
#[test]
fn cilium_comes_and_goes() {
    if !can_hook("cilium_comes_and_goes") {
        return;
    }
    let mut site = Site::new(&(web(&["10.1.0.11"]) + &derived()));
    let _servers = web_servers(&site);
    let other = Other::load(&site, "cil_sock4_connect");
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    assert_eq!((who(&site, &vip).as_str(), who(&site, "10.96.0.50").as_str()), ("one", "two"));
    let mut visitor = Visitor::start(&site, &vip, 80);
    for round in 1..=2 {
        other.attach(&site, &["multi"]);
        eventually("Services are left to Cilium", || who(&site, "10.96.0.50") == "ENETUNREACH");
        let (well, text) = status(&site.agent);
        assert!(
            well && text.contains("cil_sock4_conne") && text.contains("only virtual IPs of the pool"),
            "{text}"
        );
        other.detach(&site);
        eventually("Services are the agent's again", || who(&site, "10.96.0.50") == "two");
        assert!(!status(&site.agent).1.contains("Cilium"));
        let said = "Cilium redirects Services on this cgroup";
        assert_eq!(site.agent.log().matches(said).count(), round, "once each time");
    }
    visitor.goes_on(20);
    let seen = visitor.finish();
    assert!(seen.said.errors.is_empty() && seen.said.strangers.is_empty(), "{seen:?}");
}

/// `agent.beside`: who may not see others' names, or knows better, says who they are.
#[test]
fn who_is_beside_the_agent_can_be_said() {
    if !can_hook("who_is_beside_the_agent_can_be_said") {
        return;
    }
    let mut site = Site::new(&(web(&["10.1.0.11"]) + &derived()));
    let _servers = web_servers(&site);
    let yaml = "home: paris\nclusters: [{name: paris, manifests: clusters/paris}]";
    let vip = site.agent.vips("default/web")[0].to_string();
    let other = Other::load(&site, "cil_sock4_connect");
    let unknown = "only the capability SYS_ADMIN shows whether that is Cilium";
    let blind = ["setpriv", "--bounding-set=-sys_admin"];
    type Row<'r> = (bool, &'r [&'r str], &'r str, &'r str, Option<&'r str>);
    let rows: [Row<'_>; 6] = [
        (false, &[], "Auto", "two", None),
        (false, &[], "Cilium", "ENETUNREACH", Some("only virtual IPs of the pool")),
        (true, &[], "Nobody", "two", None),
        (true, &blind, "Auto", "two", Some(unknown)),
        (true, &blind, "Cilium", "ENETUNREACH", Some("only virtual IPs of the pool")),
        (true, &blind, "Nobody", "two", None),
    ];
    let mut is_there = false;
    for (beside_it, wrapper, beside, expected, note) in rows {
        if beside_it && !is_there {
            other.attach(&site, &["multi"]);
            is_there = true;
        }
        site.agent.under(wrapper);
        site.agent.configure(yaml, &format!("beside: {beside}"));
        site.agent.start();
        let ends = (who(&site, &vip), who(&site, "10.96.0.50"));
        assert_eq!((ends.0.as_str(), ends.1.as_str()), ("one", expected), "{wrapper:?} {beside}");
        let (well, text) = status(&site.agent);
        assert!(well && note.is_none_or(|note| text.contains(note)), "{wrapper:?} {beside}: {text}");
        assert_eq!(text.contains("Cilium"), note.is_some(), "{wrapper:?} {beside}: {text}");
        site.agent.stop();
    }
}

/// A monitor looks at sockets as they are closed, or asked for their peers: it redirects nothing, whatever it is called.
#[test]
fn who_only_looks_on_is_nobody() {
    if !can_hook("who_only_looks_on_is_nobody") {
        return;
    }
    let mut site = Site::new(&(web(&["10.1.0.11"]) + &derived()));
    let _servers = web_servers(&site);
    let vip = site.agent.vips("default/web")[0].to_string();
    let monitor = Other::load_for(&site, "cil_sock_monitor", "getpeername4");
    monitor.attach(&site, &["multi"]);
    for wrapper in [&[][..], &["setpriv", "--bounding-set=-sys_admin"]] {
        site.agent.under(wrapper);
        site.agent.start();
        assert_eq!((who(&site, &vip).as_str(), who(&site, "10.96.0.50").as_str()), ("one", "two"));
        let (well, text) = status(&site.agent);
        assert!(well && !text.contains("Cilium") && !text.contains("beside"), "{wrapper:?}: {text}");
        site.agent.stop();
    }
}

/// `agent.skip`: virtual IPs that are left to others. A restart is enough, either way.
#[test]
fn what_is_skipped_is_left_alone() {
    if !can_hook("what_is_skipped_is_left_alone") {
        return;
    }
    let mut site = Site::new(&(web(&["10.1.0.11"]) + &derived()));
    let _servers = web_servers(&site);
    let yaml = "home: paris\nclusters: [{name: paris, manifests: clusters/paris}]";
    let vip = site.agent.vips("default/web")[0].to_string();
    for (skip, expected) in [
        (String::new(), ("one", "two")),
        ("10.96.0.0/12".to_owned(), ("one", "ENETUNREACH")),
        (vip.clone(), ("ENETUNREACH", "two")),
        (format!("{vip}, 10.96.0.50/32"), ("ENETUNREACH", "ENETUNREACH")),
        (String::new(), ("one", "two")),
    ] {
        site.agent.configure(yaml, &format!("skip: [{skip}]"));
        site.agent.start();
        assert_eq!((who(&site, &vip).as_str(), who(&site, "10.96.0.50").as_str()), expected, "skip: {skip}");
        site.agent.stop();
    }
}
