//! The least privilege: NET_BIND_SERVICE and nothing else.

use std::os::unix::fs::PermissionsExt;

use portolan_tests::harness::{Package, Reply, Server, Setup, program, run};

/// The first port that needs no capability here: 1024 unless the system was told otherwise, as containers are.
fn first_free_port() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    text.trim().parse().unwrap()
}

fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.starts_with("Uid:\t0\t0"))
}

/// The sample on port 53, in a folder that nobody may read and write.
fn on_port_53() -> Setup {
    let setup = Setup::sample("conformance");
    let address = setup.address();
    std::fs::set_permissions(setup.path("."), PermissionsExt::from_mode(0o777)).unwrap();
    setup.with(&format!("listen: {{udp: ['{address}:53'], tcp: ['{address}:53']}}"))
}

/// Without the capability the start fails, and the message names it.
#[test]
fn port_53_needs_a_capability() {
    let setup = on_port_53();
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let setup = if is_root() { setup.under(&nobody) } else { setup };
    if first_free_port() <= 53 {
        // Here the port is nobody's and everybody's: then it must simply work.
        drop(setup.start());
        return;
    }
    let mut server = Server::spawn(setup);
    assert_eq!(server.wait().code(), Some(1));
    assert!(server.log().contains("CAP_NET_BIND_SERVICE"), "{}", server.log());
}

/// With it, and with no other, nobody serves on port 53.
#[test]
fn one_capability_is_enough() {
    if !is_root() && first_free_port() > 53 {
        eprintln!("only root can give a capability away: run as root to test this");
        return;
    }
    let mut setup = on_port_53();
    if is_root() {
        let setpriv = program("setpriv", Package::UtilLinux);
        setup = setup.under(&[
            setpriv.get_program().to_str().unwrap(),
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all,+net_bind_service",
            "--ambient-caps=-all,+net_bind_service",
            "--bounding-set=-all,+net_bind_service",
            "--no-new-privs",
        ]);
    }
    let server = setup.start();
    let mut dig = program("dig", Package::Dnsutils);
    dig.arg(format!("@{}", server.at(53).ip())).args([
        "-p",
        "53",
        "+tries=1",
        "svc1.testns.svc.clusterset.local",
    ]);
    assert_eq!(Reply::parse(&run(&mut dig).1).data(), ["10.0.0.1"]);
}
