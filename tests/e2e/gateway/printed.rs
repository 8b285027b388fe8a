//! What is printed: the programs take it, and what can't be printed is said.

use std::path::Path;
use std::process::Command;

use portolan_tests::harness::{Package, loopback, program, repository, run};

use super::{STREAM, cluster, gateway, written};

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
