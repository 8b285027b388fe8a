//! nginx, for UDP and TCP, reloaded again and again.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

use portolan_tests::harness::{eventually, loopback, namespaces};

use super::STREAM;
use super::running::*;

/// The same of nginx, whose old workers the watcher counts. The oldest is the one that started first: the kernel gives numbers of
/// processes anew when it has been at the last one, within hours where that is 32,768.
#[test]
fn nginx_old_workers_are_bounded() {
    if !namespaces::with_own_processes("gateway::nginx::nginx_old_workers_are_bounded") {
        return;
    }
    namespaces::number_from(30_000);
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
        if name == "b" {
            namespaces::number_from(1_000);
        }
        services.push((name, port));
        config(&services);
        eventually("the new port is there", || connect(at(port)).is_ok_and(|s| echoes(&s).is_ok()));
    }
    eventually("the oldest worker is ended", || echoes(&held[0]).is_err());
    held[2..].iter().for_each(|stream| echoes(stream).expect("it goes on"));
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
