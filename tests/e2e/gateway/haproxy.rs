//! HAProxy, reloaded again and again.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use portolan_tests::harness::{eventually, loopback};

use super::running::*;

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

/// HAProxy misses signals while it loads, as here another program does: the next one is heard, and nothing is said to be done before.
#[test]
fn a_signal_that_haproxy_missed_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (bind, pod) = (loopback(), echo());
    let at = |port| SocketAddr::from((bind, port));
    let config = |services: &[(&str, u16)]| {
        replaced(folder.path(), "haproxy.cfg", &configuration(folder.path(), services, bind, pod, &[]));
    };
    config(&[("web", 20_000)]);
    let log = folder.path().join("log");
    let commands = deployed("haproxy.yaml", folder.path());
    let _haproxy = Running::start(&commands[0], &log);
    eventually("HAProxy is well", || is_well(at(HEALTH)));
    let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();

    let mut deaf = Command::new("sh");
    deaf.args(["-c", "trap '' USR2; echo $$ > \"$0/new\"; mv \"$0/new\" \"$0/pid\"; exec sleep 600"]);
    let _deaf = Running::start(deaf.arg(folder.path()), &log);
    eventually("it is taken for HAProxy", || {
        std::fs::read_to_string(folder.path().join("pid")).is_ok_and(|text| text != pid)
    });
    config(&[("web", 20_000), ("api", 20_001)]);
    let _watcher = Running::start(&commands[1], &log);
    let said = |what: &str| {
        std::fs::read_to_string(&log).unwrap().lines().filter(|line| line.starts_with(what)).count()
    };
    eventually("it is noticed", || said("not reloaded: HAProxy missed the signal") > 0);
    assert_eq!(said("reloaded"), 0);
    replaced(folder.path(), "pid", &pid);
    eventually("the new port is there", || connect(at(20_001)).is_ok_and(|s| echoes(&s).is_ok()));
    eventually("it is said", || said("reloaded") == 1);
}

/// A gateway with as many connections as it may have takes no more, and is not well for load balancers; but it is not ended either, for
/// that would end them all.
#[test]
fn a_full_haproxy_is_not_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (bind, pod) = (loopback(), echo());
    let text = configuration(folder.path(), &[("web", 20_000)], bind, pod, &[]);
    let small = text.replace("fd-hard-limit 50000", "maxconn 20");
    assert_ne!(small, text);
    replaced(folder.path(), "haproxy.cfg", &small);
    let _haproxy = Running::start(&deployed("haproxy.yaml", folder.path())[0], &folder.path().join("log"));
    let at = |port| SocketAddr::from((bind, port));
    eventually("HAProxy is well", || is_well(at(HEALTH)));
    assert!(may_live("haproxy.yaml", bind));
    let held: Vec<_> = (0..30).map(|_| connect(at(20_000)).unwrap()).collect();
    echoes(&held[0]).unwrap();
    eventually("it is full", || !is_well(at(HEALTH)));
    assert!(may_live("haproxy.yaml", bind));
    drop(held);
    eventually("there is room again", || is_well(at(HEALTH)));
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
