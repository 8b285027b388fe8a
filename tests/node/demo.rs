//! `make demo-ebpf`: it shows what it promises, and leaves nothing behind, however it ends.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use portolan_tests::harness::node::can_hook;
use portolan_tests::harness::{Package, agent_binary, eventually, launch, program, repository, run};

fn start() -> Child {
    // SIGTERM, when the tests are killed: it tidies up then, too.
    let mut demo = program("setpriv", Package::UtilLinux);
    demo.args(["--pdeathsig", "TERM", "--"]).arg(repository().join("deploy/demo-ebpf.sh"));
    demo.arg(agent_binary().parent().unwrap());
    demo.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    launch(demo).unwrap()
}

/// What of a demo is there still: all that it makes has its name.
fn left(demo: u32) -> Vec<String> {
    let name = format!("portolan-demo-{demo}");
    let has_name = |text: &String| text.contains(&format!("{name}-")) || text.contains(&format!("{name}."));
    let (_, namespaces) = run(program("ip", Package::Iproute2).args(["netns", "list"]));
    let (_, processes) = run(program("ps", Package::Procps).args(["-e", "-o", "args"]));
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let lines = [namespaces, processes, mounts].concat();
    let mut left: Vec<String> = lines.lines().map(str::to_owned).filter(has_name).collect();
    let folders = std::fs::read_dir(std::env::temp_dir()).unwrap();
    left.extend(folders.map(|entry| entry.unwrap().path().display().to_string()).filter(has_name));
    let mounted = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields[2] == "cgroup2").then(|| Path::new(fields[1]).join(&name))
    };
    let cgroups = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let cgroups = cgroups.lines().filter_map(mounted).filter(|path| path.exists());
    left.extend(cgroups.map(|path| path.display().to_string()));
    left
}

/// By its end it has shown all clusters, that a killed gateway is left out, and that the kernel goes on without the agent.
#[test]
fn the_demo_ends_by_itself_and_leaves_nothing() {
    if !can_hook("the_demo_ends_by_itself_and_leaves_nothing") {
        return;
    }
    let demo = start();
    let id = demo.id();
    let output = demo.wait_with_output().unwrap();
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && errors.is_empty(), "{text}\n{errors}");
    let counted: Vec<Vec<&str>> = text
        .split("| uniq -c\n")
        .skip(1)
        .map(|part| {
            let lines = part.lines().take_while(|line| !line.is_empty());
            lines.map(|line| line.split_whitespace().nth(1).unwrap()).collect()
        })
        .collect();
    assert_eq!(counted.len(), 4, "{text}");
    assert_eq!(counted[0], ["paris"], "{text}");
    for at in [2, 3] {
        assert!(!counted[at].contains(&"tokyo") && !counted[at].contains(&"no"), "{text}");
    }
    assert_eq!(text.matches("TCP connect default/hello 241.").count(), 5, "{text}");
    assert!(
        text.contains("no agent answers") && text.contains("redirected by what the last one knew"),
        "{text}"
    );
    assert_eq!(left(id), Vec::<String>::new());
}

/// Ctrl-C, in the middle of it.
#[test]
fn the_demo_can_be_interrupted() {
    if !can_hook("the_demo_can_be_interrupted") {
        return;
    }
    let mut demo = start();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("dig +short")), "it has not come so far");
    assert!(!left(demo.id()).is_empty(), "it is seen");
    let (sent, text) = run(program("kill", Package::Procps).args(["-INT", &demo.id().to_string()]));
    assert!(sent, "{text}");
    lines.for_each(drop);
    eventually("the demo ends", || demo.try_wait().unwrap().is_some());
    let mut errors = String::new();
    demo.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert_eq!((left(demo.id()), &*errors), (Vec::new(), ""));
}

/// Whoever is not root is told so, and nothing is made.
#[test]
fn the_demo_wants_root() {
    let mut demo = program("setpriv", Package::UtilLinux);
    let is_root = run(Command::new("id").arg("-u")).1.trim() == "0";
    demo.args(if is_root { &["--reuid", "65534", "--clear-groups", "--"][..] } else { &["--"] });
    // Who may not read the checkout reads the script all the same.
    let script = std::fs::File::open(repository().join("deploy/demo-ebpf.sh")).unwrap();
    let (good, text) = run(demo.args(["bash", "-s", "--", "/"]).current_dir("/").stdin(script));
    assert!(!good && text.contains("run it as root"), "{text}");
}
