//! What an agent needs, and what it says where that is missing: one line, exit status 1. And how little is enough.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use portolan_tests::harness::node::{Agent, backends, can_hook, connects, datagrams};
use portolan_tests::harness::{eventually, repository};

use crate::site::{Site, service, slice};
use crate::survival::{bpftool, status, web, web_servers, who};

/// nobody
const USER: u32 = 65534;
const NOBODY: [&str; 6] =
    ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"];
/// What deploy/ gives the agent at least.
const LEAST: [&str; 7] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all,+bpf,+net_admin",
    "--ambient-caps=-all,+bpf,+net_admin",
    "--bounding-set=-all,+bpf,+net_admin",
];

/// Runs it to its end, which must be a refusal; what it said.
fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    text
}

/// Lets everyone read what is in an agent's folder, and the agent's user write there.
fn let_in(agent: &Agent) {
    for path in [agent.path(""), agent.path("portolan.yaml")] {
        chown(&path, Some(USER), Some(USER)).unwrap();
    }
    std::fs::set_permissions(agent.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Each message says what happened, to which object, and what to do (reference: "Errors a user will meet").
#[test]
fn what_is_missing_is_named() {
    if !can_hook("what_is_missing_is_named") {
        return;
    }
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let_in(&site.agent);
    let pins = site.agent.pins().to_owned();
    let closed = std::path::PathBuf::from(format!("{}-closed", pins.display()));
    std::fs::create_dir(&closed).unwrap();
    let folder = site.agent.path("clusters");
    let folder = folder.to_str().unwrap();
    let closed_text = closed.to_str().unwrap().to_owned();
    let below = format!("{closed_text}/portolan");
    let rights = "it needs the capabilities BPF and NET_ADMIN (run it as root, or with `capabilities: add: [BPF, NET_ADMIN]`)";
    let no_bpf = ["setpriv", "--bounding-set=-bpf,-sys_admin"];
    let no_net = ["setpriv", "--bounding-set=-net_admin,-sys_admin"];
    let missing = format!("{}-none", site.cgroup.path().display());
    let no_cgroup = format!(
        "cgroup {missing} can't be opened: No such file or directory (os error 2); cgroup2 is mounted at /"
    );
    let not_cgroup2 = format!("{folder} is no cgroup of version 2; cgroup2 is mounted at /");
    let not_bpffs = format!("{folder} is not on a BPF file system: mount one (mount -t bpf bpf /sys/fs/bpf)");
    let not_mine = format!(
        "{closed_text} can't be used: Permission denied (os error 13); it must belong to the agent's user"
    );
    let not_below =
        format!("{below} can't be used: Permission denied (os error 13); it must belong to the agent's user");
    let rows: [(&[&str], &[&str], &str); 9] = [
        (&NOBODY, &[], rights),
        (&no_bpf, &[], rights),
        (&no_net, &[], rights),
        (&[], &["--cgroup", &missing], &no_cgroup),
        (&[], &["--cgroup", folder], &not_cgroup2),
        (&[], &["--pins", folder], &not_bpffs),
        (&LEAST, &["--pins", &below], &not_below),
        (&[], &["--config", "/nowhere/portolan.yaml"], "/nowhere/portolan.yaml"),
        (&[], &["--manifests", "/nowhere"], "/nowhere"),
    ];
    for (wrapper, args, expected) in rows {
        site.agent.under(wrapper);
        let command = || {
            let mut command = site.agent.command("run");
            command.args(args);
            command
        };
        let command = if args.first() == Some(&"--config") { without_config(&site, args) } else { command() };
        let told = refused(command);
        assert!(told.contains(expected), "{wrapper:?} {args:?}: {told}");
        assert!(!told.contains("MapError") && !told.contains("panicked"), "{told}");
        assert!(told.lines().count() <= 2, "one line, and one that it starts: {told}");
        let _ = std::fs::remove_dir_all(&pins);
    }
    // A folder of the agent's that somebody closed to it.
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).unwrap();
    site.agent.under(&LEAST);
    let mut command = site.agent.command("run");
    command.args(["--pins", &closed_text]);
    let told = refused(command);
    assert!(told.contains(&not_mine), "{told}");
    std::fs::remove_dir(&closed).unwrap();
}

fn without_config(site: &Site, args: &[&str]) -> Command {
    let mut agent = Command::new(portolan_tests::harness::agent_binary());
    agent.arg("run").args(args);
    site.client.command(&agent)
}

/// A cgroup of version 1 has the same look.
#[test]
fn a_cgroup_of_version_1_is_refused() {
    let v1 = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu"].into_iter().find(|path| {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        mounts.lines().any(|line| line.contains(&format!(" {path} cgroup ")))
    });
    let Some(v1) = v1.filter(|_| can_hook("a_cgroup_of_version_1_is_refused")) else {
        eprintln!("skipped a_cgroup_of_version_1_is_refused: there is none here");
        return;
    };
    let site = Site::new(&web(&["10.1.0.11"]));
    let mut command = site.agent.command("run");
    command.args(["--cgroup", v1]);
    let told = refused(command);
    assert!(told.contains(&format!("{v1} is no cgroup of version 2; cgroup2 is mounted at /")), "{told}");
}

/// A program in a mount namespace of its own, in which the shell does this first.
fn mounted(first: &str) -> [&str; 6] {
    ["unshare", "--mount", "sh", "-c", first, "sh"]
}

/// Hosts that boot with version 1 alone have no cgroup2 anywhere.
#[test]
fn without_cgroup2_it_is_said_how_to_get_it() {
    if !can_hook("without_cgroup2_it_is_said_how_to_get_it") {
        return;
    }
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let config = site.agent.path("portolan.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    let cgroup = format!("  cgroup: {}\n", site.cgroup.path().display());
    assert!(text.contains(&cgroup));
    std::fs::write(&config, text.replace(&cgroup, "")).unwrap();
    let unmount = "awk '$3 == \"cgroup2\" {print $2}' /proc/self/mounts | xargs -n1 umount -l && exec \"$@\"";
    site.agent.under(&mounted(unmount));
    let told = refused(site.agent.command("run"));
    let expected = "cgroup2 is not mounted: boot with cgroup v2, or mount it (mount -t cgroup2 none ";
    assert!(told.contains(expected) && told.contains("`agent.cgroup`"), "{told}");
    assert!(!site.agent.pins().exists(), "nothing is left behind");
}

/// The programs take nothing from the kernel's own types (no CO-RE): a host without /sys/kernel/btf does.
#[test]
fn the_kernels_types_are_not_needed() {
    if !can_hook("the_kernels_types_are_not_needed") {
        return;
    }
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let _servers = web_servers(&site);
    site.agent.under(&mounted(
        "if [ -e /sys/kernel/btf ]; then mount -t tmpfs none /sys/kernel/btf; fi && ! [ -e /sys/kernel/btf/vmlinux ] && exec \"$@\"",
    ));
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    assert_eq!(who(&site, &vip), "one");
}

/// enum bpf_cmd: kernels that know no such programs, or no types at all. They are told the least release that will do.
#[test]
fn old_kernels_are_told_what_will_do() {
    if !can_hook("old_kernels_are_told_what_will_do") {
        return;
    }
    const PROG_LOAD: &str = "5";
    const BTF_LOAD: &str = "18";
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let script = repository().join("tests/node/programs/without.py");
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    for (command, expected) in [
        (PROG_LOAD, "the programs can't be loaded: ".to_owned()),
        (PROG_LOAD, format!("this is Linux {}, and 5.18 or newer is needed", release.trim())),
        (BTF_LOAD, format!("the kernel (Linux {}) makes no map", release.trim())),
        (BTF_LOAD, "Linux 5.18 or newer is needed, with CONFIG_DEBUG_INFO_BTF".to_owned()),
    ] {
        site.agent.under(&["python3", script.to_str().unwrap(), command, "EINVAL"]);
        let told = refused(site.agent.command("run"));
        assert!(told.contains(&expected), "{expected}: {told}");
        assert!(told.lines().count() <= 2, "one line, and one that it starts: {told}");
    }
}

/// Wrong configurations are refused whole, with all that is wrong; nothing is attached by who can't start.
#[test]
fn who_can_not_start_changes_nothing() {
    if !can_hook("who_can_not_start_changes_nothing") {
        return;
    }
    let mut site = Site::new(&web(&["10.1.0.11"]));
    let _servers = web_servers(&site);
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    let used = site.agent.admin().to_string();
    site.agent.kill();
    let listener = backends(&site.client, &[&format!("admin/tcp/{}", used.replace(':', "/"))]);
    let config = site.agent.path("portolan.yaml");
    let text = std::fs::read_to_string(&config).unwrap();
    for (changed, expected) in [
        (text.replace("127.0.0.1:0", &used), used.as_str()),
        (text.replace("cgroup:", "cgruop:"), "agent.cgruop: unknown key `cgruop`, did you mean `cgroup`?"),
        (
            text.replace("- {name: paris, manifests: clusters/paris}", ""),
            "there is no cluster: give --in-cluster",
        ),
        (text.replace("pins: /", "pins: "), "is relative: write the path from `/` on"),
    ] {
        assert_ne!(changed, text, "{expected}");
        std::fs::write(&config, changed).unwrap();
        let told = refused(site.agent.command("run"));
        assert!(told.contains(expected), "{expected}: {told}");
        assert_eq!(who(&site, &vip), "one", "redirection is as it was: {expected}");
    }
    drop(listener);
    std::fs::write(&config, text).unwrap();
}

/// design.md §7: the agent needs BPF and NET_ADMIN, and no more, not even root. What it can't do without more is said.
#[test]
fn two_capabilities_are_enough() {
    if !can_hook("two_capabilities_are_enough") {
        return;
    }
    let manifests = |addresses: &[&str]| {
        service("web", "", &["http 80/TCP", "who 53/UDP"])
            + &slice("web", "a", &["http 8080/TCP", "who 5353/UDP"], addresses)
    };
    let mut site = Site::new(&manifests(&["10.1.0.11", "10.1.0.12"]));
    let_in(&site.agent);
    site.agent.under(&LEAST);
    let _servers = backends(
        &site.server,
        &[
            "one/tcp/10.1.0.11/8080",
            "two/tcp/10.1.0.12/8080",
            "one/udp/10.1.0.11/5353",
            "two/udp/10.1.0.12/5353",
        ],
    );
    let (loaded, text) = bpftool(&["cgroup", "show", site.cgroup.path().to_str().unwrap()]);
    assert!(loaded && !text.contains("connect4"), "{text}");
    site.agent.start();
    assert!(is_of_user(site.agent.pid()), "it is not root");
    let vip = site.agent.vips("default/web")[0].to_string();
    let (client, inside) = (&site.client, Some(&site.cgroup));
    for said in [
        connects(client, inside, &vip, 80, 20),
        datagrams(client, inside, "udp", &vip, 53, 20),
        datagrams(client, inside, "connected-udp", &vip, 53, 20),
    ] {
        assert_eq!((said.answers(), said.strangers.len()), (20, 0), "{said:?}");
    }
    let (well, text) = status(&site.agent);
    let trace = "`trace` does not know who connects (Linux 6.10, and the capability PERFMON)";
    assert!(well && text.contains(trace), "{text}");

    // Sockets of lost backends are in namespaces that it may not enter.
    site.agent.write("clusters/paris/services.yaml", manifests(&["10.1.0.12"]));
    eventually("it is said what it lacks", || {
        let (_, text) = status(&site.agent);
        text.contains("network namespaces can't be closed") && text.contains("SYS_ADMIN and SYS_PTRACE")
    });
    let metrics = site.agent.get("/metrics").1;
    assert!(metrics.contains("portolan_agent_in_trouble 1\n"), "{metrics}");
    let said = connects(client, inside, &vip, 80, 20);
    assert_eq!(said.names, [("two".to_owned(), 20)].into(), "all else goes on: {said:?}");
    site.agent.kill();
    site.agent.start();
    assert!(site.agent.log().contains("replaced=true"), "it may take over, too");
    assert_eq!(who(&site, &vip), "two");
    site.agent.stop();
    let (done, text) = site.agent.detach();
    assert!(done && text.starts_with("detached 9 hooks"), "{text}");
}

fn is_of_user(pid: u32) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
    status.lines().any(|line| line.starts_with(&format!("Uid:\t{USER}\t")))
}
