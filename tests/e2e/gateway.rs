//! Configurations of shared gateways, by the programs that they are for.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use portolan_tests::harness::kubernetes::documents;
use portolan_tests::harness::{
    DYING_WITH_US, Package, cluster_set_ip, eventually, launch, list, loopback, portolan, program,
    repository, run,
};
use serde_json::{Value, json};

/// Where the gateway says that it is well.
const HEALTH: u16 = 8405;
/// Debian's nginx has `stream` in a file of its own.
const STREAM: &str = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;";
const PATIENCE: Duration = Duration::from_secs(10);

/// `portolan gateway` with these words: what it prints, and whether it succeeded.
fn gateway(words: &[&str]) -> (bool, String) {
    run(Command::new(portolan()).arg("gateway").args(words))
}

fn written(folder: &Path, name: &str, text: &str) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    file
}

/// The program's own check of a file.
fn is_valid(file: &Path, format: &str) {
    let (good, said) = match format {
        "haproxy" => run(program("haproxy", Package::Haproxy).args(["-c", "-f"]).arg(file)),
        _ => {
            let folder = tempfile::tempdir().unwrap();
            let global = format!("{STREAM} pid {}/pid;", folder.path().display());
            run(program("nginx", Package::NginxLight).args(["-t", "-g", &global, "-c"]).arg(file))
        }
    };
    assert!(good, "{}: {said}", file.display());
}

/// What is printed of samples is what the programs take, is the same each time, and so are the golden files.
#[test]
fn configurations_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    let samples = repository().join("zones/samples");
    let bind = loopback().to_string();
    for (sample, cluster) in [
        ("three-clusters", "tokyo"),
        ("dual-stack", "a"),
        ("conflicts", "alpha"),
        ("conformance", "cluster1"),
    ] {
        let manifests = samples.join(sample).join("clusters").display().to_string();
        let known = std::fs::read_dir(&manifests).unwrap().any(|e| e.unwrap().file_name() == cluster);
        let cluster = if known { cluster.to_owned() } else { first_cluster(&manifests) };
        for words in [
            &["--format", "haproxy"][..],
            &["--format", "haproxy", "--to", "services", "--cluster-domain", "k8s.example.com"],
            &["--format", "nginx"],
        ] {
            let common = ["--manifests", &manifests, "--cluster", &cluster, "--bind", &bind];
            let allow = ["--allow", "10.0.0.0/8", "--allow", "2001:db8::/32"];
            let words = [&common[..], &allow, words].concat();
            let (good, text) = gateway(&words);
            assert!(good, "{sample}: {text}");
            assert_eq!((good, text.clone()), gateway(&words), "the same each time");
            let format = if words.contains(&"nginx") { "nginx" } else { "haproxy" };
            is_valid(&written(folder.path(), format, &text), format);
        }
    }
    let golden = repository().join("sync/src/gateway/golden");
    for (file, format) in [
        ("services.cfg", "haproxy"),
        ("endpoints.cfg", "haproxy"),
        ("services.conf", "nginx"),
        ("endpoints.conf", "nginx"),
    ] {
        is_valid(&golden.join(file), format);
    }
}

fn first_cluster(manifests: &str) -> String {
    let names = std::fs::read_dir(manifests).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.min().unwrap()
}

/// What can't be printed is refused with what to do.
#[test]
fn what_is_missing_is_said() {
    let manifests = repository().join("zones/samples/three-clusters/clusters").display().to_string();
    for (words, expected) in [
        (&["--manifests", &*manifests][..], "Give --cluster with one of: "),
        (&["--manifests", &manifests, "--cluster", "atlantis"], "cluster atlantis is not there"),
        (
            &["--manifests", &manifests, "--cluster", "tokyo", "--format", "nginx", "--to", "services"],
            "lead to endpoints instead",
        ),
        (&["--manifests", &manifests, "--allow", "everybody"], "--allow"),
        (&["--manifests", &manifests, "--ports", "9-1"], "20000-29999"),
    ] {
        let (good, text) = gateway(words);
        assert!(!good && text.contains(expected), "{words:?}: {text}");
    }
}

/// HAProxy has TCP and nginx UDP beside it: each gets what the other has not, by the same numbers, and is well at a port of its own.
#[test]
fn two_programs_share_the_ports() {
    let folder = tempfile::tempdir().unwrap();
    let manifests = cluster(folder.path(), &[("dns", 20_000)]);
    let print = |words: &[&str]| gateway(&[&["--manifests", &manifests][..], words].concat());
    let (good, tcp) = print(&["--protocol", "tcp"]);
    assert!(good && tcp.contains("frontend tcp-20000\n") && tcp.contains(":8405"), "{tcp}");
    assert!(!tcp.contains("Left out"), "{tcp}");
    let (good, udp) = print(&["--protocol", "udp", "--format", "nginx"]);
    assert!(good && udp.contains("listen [::]:20000 udp ") && udp.contains(":8406 "), "{udp}");
    assert!(!udp.contains(":20000 so_keepalive") && !udp.contains(":8405"), "{udp}");
    let (good, both) = print(&["--format", "nginx"]);
    assert!(good && both.contains(":20000 udp ") && both.contains(":20000 so_keepalive"), "{both}");
    let (good, text) = print(&["--protocol", "udp"]);
    assert!(!good && text.contains("HAProxy has no UDP: give --format nginx"), "{text}");
}

/// Sockets of a kernel that was started with `ipv6.disable=1`.
const NO_IPV6: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/socket.h>
int socket(int domain, int type, int protocol) {
    int (*real)(int, int, int) = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
    if (domain == AF_INET6) { errno = EAFNOSUPPORT; return -1; }
    return real(domain, type, protocol);
}
"#;

/// Neither program starts where it is to listen at `[::]` and there is no IPv6. Behind a Service that has IPv4 alone the controller
/// writes what is printed for 0.0.0.0.
#[test]
fn nodes_without_ipv6_have_gateways() {
    let folder = tempfile::tempdir().unwrap();
    let manifests = cluster(folder.path(), &[("dns", 20_000)]);
    let (source, library) = (written(folder.path(), "no_ipv6.c", NO_IPV6), folder.path().join("no_ipv6.so"));
    let (good, said) =
        run(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl"));
    assert!(good, "{said}");
    let preload = format!("LD_PRELOAD={}", library.display());
    let starts = |format: &str, bind: &[&str]| {
        let (good, text) = gateway(&[&["--manifests", &manifests, "--format", format][..], bind].concat());
        assert!(good, "{text}");
        let text = if format == "nginx" { format!("{STREAM}\n{text}") } else { text };
        let file = written(folder.path(), format, &text).display().to_string();
        let pid = format!("pid {}/pid;", folder.path().display());
        // HAProxy's parent ends when all ports are open, and its process with the namespace; nginx opens them to try.
        let program_words: &[&str] = match format {
            "haproxy" => &["haproxy", "-D", "-f", &file],
            _ => &["nginx", "-t", "-e", "stderr", "-g", &pid, "-c", &file],
        };
        let _ = [program("haproxy", Package::Haproxy), program("nginx", Package::NginxLight)];
        let alone = [
            "--user",
            "--map-root-user",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            "\"$@\"; exit $?",
            "sh",
            "env",
        ];
        run(program("unshare", Package::UtilLinux).args(alone).arg(&preload).args(program_words))
    };
    for format in ["haproxy", "nginx"] {
        let (good, said) = starts(format, &[]);
        assert!(!good && said.contains("Address family not supported"), "{said}");
        let (good, said) = starts(format, &["--bind", "0.0.0.0"]);
        assert!(good, "{format}: {said}");
    }
}

/// Manifests of one cluster: services `shop/<name>` behind a gateway, each with its number there, TCP and UDP.
fn cluster(folder: &Path, services: &[(&str, u16)]) -> String {
    let mut objects = Vec::new();
    for (name, number) in services {
        let [mut service, mut export]: [Value; 2] = cluster_set_ip(name).try_into().unwrap();
        service["spec"]["ports"] = json!([
            { "name": "http", "protocol": "TCP", "port": 80 },
            { "name": "dns", "protocol": "UDP", "port": 53 },
        ]);
        export["metadata"]["annotations"] = json!({
            "portolan.dev/gateway": "192.0.2.1",
            "portolan.dev/gateway-ports": format!("80={number}, 53/UDP={number}"),
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": { "namespace": "shop", "name": format!("{name}-1"),
                "labels": { "kubernetes.io/service-name": name } },
            "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }, { "name": "dns", "protocol": "UDP", "port": 5353 }],
            "endpoints": [{ "addresses": ["10.1.0.1"], "conditions": { "ready": true } }],
        });
        objects.extend([service, export, slice]);
    }
    std::fs::create_dir_all(folder.join("clusters/paris")).unwrap();
    written(&folder.join("clusters/paris"), "all.json", &list(objects));
    folder.join("clusters").display().to_string()
}

/// The configuration of that cluster's gateway, whose pods are at `pod`: no manifest may have pods on the loopback.
fn configuration(
    folder: &Path,
    services: &[(&str, u16)],
    bind: Ipv4Addr,
    pod: SocketAddr,
    words: &[&str],
) -> String {
    let (manifests, bind) = (cluster(folder, services), bind.to_string());
    let (good, text) = gateway(&[&["--manifests", &manifests, "--bind", &bind][..], words].concat());
    assert!(good, "{text}");
    assert!(text.contains("10.1.0.1:"), "{text}");
    text.replace("10.1.0.1:8080", &pod.to_string()).replace("10.1.0.1:5353", &pod.to_string())
}

/// Sends back what comes, TCP and UDP.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind((loopback(), 0)).unwrap();
    let at = listener.local_addr().unwrap();
    let udp = UdpSocket::bind(at).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    thread::spawn(move || {
        let mut octets = [0; 512];
        while let Ok((len, from)) = udp.recv_from(&mut octets) {
            let _ = udp.send_to(&octets[..len], from);
        }
    });
    at
}

fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Whether a word comes back.
fn echoes(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ahoy")?;
    let mut word = [0; 4];
    stream.read_exact(&mut word)?;
    assert_eq!(&word, b"ahoy");
    Ok(())
}

fn is_well(at: SocketAddr) -> bool {
    let answer = connect(at).and_then(|mut stream| {
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    });
    answer.is_ok_and(|text| text.split(' ').nth(1) == Some("200"))
}

/// A program that ends with the test.
struct Running(Child);

impl Running {
    /// What it says is added to `log`.
    fn start(program: &Command, log: &Path) -> Self {
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(DYING_WITH_US[0]);
        command.args(&DYING_WITH_US[1..]).arg(program.get_program()).args(program.get_args());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Self(launch(command).unwrap())
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let (good, said) = run(program("kill", Package::Procps).args([signal, &pid]));
        assert!(good, "{said}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // HAProxy's master and nginx take their workers along.
        self.signal("-TERM");
        let _ = self.0.wait();
    }
}

/// The containers of a Deployment of `deploy/gateway`, as they run without Kubernetes: their folders are this one.
fn deployed(file: &str, folder: &Path) -> Vec<Command> {
    let yaml = std::fs::read_to_string(repository().join("deploy/gateway").join(file)).unwrap();
    let deployment = documents(&yaml).remove(0);
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array().unwrap().clone();
    let path = folder.display().to_string();
    let here = |word: &str| word.replace("/etc/gateway", &path).replace("/run/gateway", &path);
    let command = |container: &Value| {
        let words = container["command"].as_array().unwrap().iter().map(|word| here(word.as_str().unwrap()));
        let words: Vec<_> = words.collect();
        let mut command = match &*words[0] {
            "haproxy" => program("haproxy", Package::Haproxy),
            "nginx" => program("nginx", Package::NginxLight),
            other => Command::new(other),
        };
        command.args(&words[1..]);
        for variable in container["env"].as_array().into_iter().flatten() {
            command.env(variable["name"].as_str().unwrap(), variable["value"].as_str().unwrap());
        }
        command
    };
    containers.iter().map(command).collect()
}

/// As the kubelet changes a ConfigMap's files: all at once.
fn replaced(folder: &Path, name: &str, text: &str) {
    let new = written(folder, "new", text);
    std::fs::rename(new, folder.join(name)).unwrap();
}

/// What `deploy/gateway` runs notices a new configuration and reloads HAProxy: connections go on, and none is refused
/// meanwhile. One that HAProxy would not take changes nothing. Whoever is not allowed is not let in.
#[test]
fn haproxy_is_reloaded_without_a_loss() {
    let folder = tempfile::tempdir().unwrap();
    let (bind, pod) = (loopback(), echo());
    let at = |port| SocketAddr::from((bind, port));
    let mut services = vec![("web", 20_000)];
    let config = |services: &[(&str, u16)]| {
        configuration(folder.path(), services, bind, pod, &["--allow", "127.0.0.1/32"])
    };
    replaced(folder.path(), "haproxy.cfg", &config(&services));
    let log = folder.path().join("log");
    let start = |command: &Command| Running::start(command, &log);
    let commands = deployed("haproxy.yaml", folder.path());
    assert_eq!(commands.len(), 2);
    let _haproxy = start(&commands[0]);
    let said = |what: &str| std::fs::read_to_string(&log).unwrap().matches(what).count();
    eventually("HAProxy is well", || is_well(at(HEALTH)));
    // What became new before anybody watched is not missed.
    services.push(("early", 20_009));
    replaced(folder.path(), "haproxy.cfg", &config(&services));
    let _watcher = start(&commands[1]);
    eventually("the early port is there", || connect(at(20_009)).is_ok_and(|s| echoes(&s).is_ok()));

    let held: Vec<_> = (0..5).map(|_| connect(at(20_000)).unwrap()).collect();
    held.iter().for_each(|stream| echoes(stream).unwrap());
    let end = Arc::new(AtomicBool::new(false));
    let (asked, target) = (end.clone(), at(20_000));
    let load = thread::spawn(move || {
        let mut served = 0;
        while !asked.load(Ordering::Relaxed) && served < 20_000 {
            connect(target)
                .and_then(|stream| echoes(&stream))
                .unwrap_or_else(|e| panic!("after {served}: {e}"));
            served += 1;
            // Connections that are closed keep their ports for a minute.
            thread::sleep(Duration::from_millis(1));
        }
        served
    });
    for (name, port) in [("api", 20_001), ("dns", 20_002), ("db", 20_003)] {
        assert!(connect(at(port)).is_err(), "{port} is not there yet");
        let refused = said("not reloaded");
        replaced(folder.path(), "haproxy.cfg", &format!("global\n    no such word {port}\n"));
        eventually("a wrong configuration is noticed", || said("not reloaded") > refused);
        services.push((name, port));
        replaced(folder.path(), "haproxy.cfg", &config(&services));
        eventually("the new port is there", || connect(at(port)).is_ok_and(|s| echoes(&s).is_ok()));
    }
    end.store(true, Ordering::Relaxed);
    let served = load.join().expect("no connection fails");
    assert!(served > 10, "{served} connections during three reloads");
    held.iter().for_each(|stream| echoes(stream).expect("it goes on"));

    // From another address of this host.
    let stranger = from(IpAddr::from([127, 0, 0, 2]), at(20_000));
    assert!(stranger.and_then(|s| echoes(&s)).is_err(), "who is not allowed is not let in");
}

/// A worker that HAProxy reloaded lives on with its connections, but not for more than twenty reloads: whatever reloads it how often,
/// memory has a bound. Those who came later are spared.
#[test]
fn haproxys_old_workers_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (bind, pod) = (loopback(), echo());
    let at = |port| SocketAddr::from((bind, port));
    replaced(folder.path(), "haproxy.cfg", &configuration(folder.path(), &[("web", 20_000)], bind, pod, &[]));
    let log = folder.path().join("log");
    let haproxy = Running::start(&deployed("haproxy.yaml", folder.path())[0], &log);
    let loaded = || std::fs::read_to_string(&log).unwrap().matches("Loading success").count();
    eventually("HAProxy is well", || loaded() > 0 && is_well(at(HEALTH)));
    let mut held = Vec::new();
    for _ in 0..22 {
        held.push(connect(at(20_000)).unwrap());
        echoes(held.last().unwrap()).unwrap();
        let (before, mut polls) = (loaded(), 0);
        eventually("it is reloaded", || {
            // Between two of its own executions the master misses signals.
            if polls % 20 == 0 {
                haproxy.signal("-USR2");
            }
            polls += 1;
            loaded() > before
        });
    }
    eventually("the oldest worker is ended", || echoes(&held[0]).is_err());
    held[15..].iter().for_each(|stream| echoes(stream).expect("it goes on"));
}

/// The same of nginx, whose old workers the watcher counts.
#[test]
fn nginx_old_workers_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (bind, pod) = (loopback(), echo());
    let at = |port| SocketAddr::from((bind, port));
    let mut services = vec![("web", 20_000)];
    let config = |services: &[(&str, u16)]| {
        let text = configuration(folder.path(), services, bind, pod, &["--format", "nginx"]);
        replaced(folder.path(), "nginx.conf", &format!("{STREAM}\n{text}"));
    };
    config(&services);
    let log = folder.path().join("log");
    let mut commands = deployed("nginx.yaml", folder.path());
    let _nginx = Running::start(&commands[0], &log);
    eventually("nginx listens", || connect(at(HEALTH)).is_ok());
    let _watcher = Running::start(commands[1].env("OLD_WORKERS", "2"), &log);
    let said =
        |what: &str| std::fs::read_to_string(&log).unwrap().lines().filter(|line| *line == what).count();
    eventually("it watches", || said("reloaded") > 0);
    let mut held = Vec::new();
    for (name, port) in [("a", 20_001), ("b", 20_002), ("c", 20_003), ("d", 20_004)] {
        held.push(connect(at(20_000)).unwrap());
        echoes(held.last().unwrap()).unwrap();
        services.push((name, port));
        config(&services);
        eventually("the new port is there", || connect(at(port)).is_ok_and(|s| echoes(&s).is_ok()));
    }
    eventually("the oldest worker is ended", || echoes(&held[0]).is_err());
    held[2..].iter().for_each(|stream| echoes(stream).expect("it goes on"));
}

/// Connects from a certain address.
fn from(source: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let connected = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        socket.connect(to).await
    });
    let stream = connected?.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// nginx is the way for UDP, and does TCP as well; what `deploy/gateway` runs notices a new configuration.
#[test]
fn nginx_forwards_udp_and_tcp() {
    let folder = tempfile::tempdir().unwrap();
    let (bind, pod) = (loopback(), echo());
    let at = |port| SocketAddr::from((bind, port));
    let config = |services: &[(&str, u16)]| {
        let words = ["--format", "nginx", "--allow", "127.0.0.0/8"];
        let text = configuration(folder.path(), services, bind, pod, &words);
        replaced(folder.path(), "nginx.conf", &format!("{STREAM}\n{text}"));
    };
    config(&[("dns", 20_000)]);
    let log = folder.path().join("log");
    let start = |command: &Command| Running::start(command, &log);
    let _running: Vec<_> = deployed("nginx.yaml", folder.path()).iter().map(start).collect();
    eventually("nginx listens", || connect(at(HEALTH)).is_ok());
    let held = connect(at(20_000)).unwrap();
    echoes(&held).unwrap();
    let udp = UdpSocket::bind((bind, 0)).unwrap();
    udp.set_read_timeout(Some(PATIENCE)).unwrap();
    for word in [b"one", b"two"] {
        udp.send_to(word, at(20_000)).unwrap();
        let mut answer = [0; 8];
        let (len, from) = udp.recv_from(&mut answer).unwrap();
        assert_eq!((&answer[..len], from), (&word[..], at(20_000)));
    }
    assert!(connect(at(20_001)).is_err());
    config(&[("dns", 20_000), ("web", 20_001)]);
    eventually("the new port is there", || connect(at(20_001)).is_ok_and(|s| echoes(&s).is_ok()));
    echoes(&held).expect("it goes on");
}
