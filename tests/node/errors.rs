//! What is not redirected: which error a program gets, at once, and what is left as it was.

use portolan_tests::harness::Package;
use portolan_tests::harness::node::{backends, can_hook, connects, datagrams, python};
use serde_json::Value;

use crate::site::{Site, service, slice};

/// Ways to connect, or to send.
const TCP: [&str; 2] = ["tcp", "tcp_nonblocking"];
const ASKS: [&str; 1] = ["udp_connected"];
const PACKETS: [&str; 2] = ["udp_sendto", "udp_sendmsg"];

/// Each of these ways got this error, at once: what waits for a host waits for a second at least.
fn refused(told: &Value, ways: &[&str], with: &str) {
    for way in ways {
        assert_eq!(told["errors"][way], with, "{way}: {told}");
    }
    assert!(told["longest"].as_f64().unwrap() < 0.9, "not at once: {told}");
}

/// abi.h, VERDICT_NO_PORT: a port that a service does not have is refused as by a host where nobody listens (RFC 9293 §3.5.2).
/// VERDICT_UNREACHABLE: a service without a usable backend is unreachable, and nobody waits for that.
#[test]
fn what_cannot_be_redirected_fails_at_once() {
    if !can_hook("what_cannot_be_redirected_fails_at_once") {
        return;
    }
    let both = "ipFamilies: [IPv4, IPv6]";
    let (ports, theirs) = (["http 80/TCP", "who 53/UDP"], ["http 8080/TCP", "who 5353/UDP"]);
    let mut site = Site::new(
        &(service("web", both, &ports)
            + &slice("web", "v4", &theirs, &["10.1.0.11"])
            + &slice("web", "v6", &theirs, &["fd00:1::11"])
            + &service("down", both, &ports)
            + &slice("down", "v4", &theirs, &["10.1.0.11!"])
            + &slice("down", "v6", &theirs, &["fd00:1::11!"])
            + &service("empty", both, &ports)),
    );
    site.agent.start();
    for is_v6 in [false, true] {
        let web = site.vip("web", is_v6);
        let errors = |vip: &str, port: &str| site.python("sockets.py", &["errors", vip, port]);
        let told = errors(&web, "81");
        refused(&told, &[&TCP[..], &PACKETS].concat(), "ECONNREFUSED");
        // RFC 6724 §2: programs connect UDP sockets, and send nothing, to learn their own address for a destination.
        refused(&told, &ASKS, "ENETUNREACH");
        // A port of one protocol is none of the other.
        let told = errors(&web, "80");
        refused(&told, &PACKETS, "ECONNREFUSED");
        refused(&told, &ASKS, "none");
        refused(&errors(&web, "53"), &TCP, "ECONNREFUSED");
        for service in ["down", "empty"] {
            let vip = site.vip(service, is_v6);
            refused(&errors(&vip, "80"), &TCP, "EHOSTUNREACH");
            refused(&errors(&vip, "53"), &[&ASKS[..], &PACKETS].concat(), "EHOSTUNREACH");
        }
    }
    // Nothing of it went to what is in the tables beside them: 20 times 3 and 2 ways, by two families, were meant for that.
    let counted = site.agent.services("default/web");
    let counts: Vec<_> =
        counted.as_array().unwrap().iter().map(|port| port["connections"].as_u64().unwrap()).collect();
    assert_eq!(counts, [120, 80], "{counted}");
    // Who only asked for an address was not refused a connection: 20 times 3 and 2 ways again.
    for service in ["down", "empty"] {
        let counted = site.agent.services(&format!("default/{service}"));
        let counts: Vec<_> =
            counted.as_array().unwrap().iter().map(|port| port["unreachable"].as_u64().unwrap()).collect();
        assert_eq!(counts, [120, 80], "{counted}");
    }
}

/// `portolan-agent --help`: it can't redirect SCTP and ICMP, `ping` of a virtual IP fails.
#[test]
fn sctp_and_ping_fail() {
    if !can_hook("sctp_and_ping_fail") {
        return;
    }
    let mut site = Site::new(
        &(service("web", "", &["http 80/TCP", "sig 36412/SCTP"])
            + &slice("web", "a", &["http 8080/TCP", "sig 36412/SCTP"], &["10.1.0.11"])),
    );
    site.agent.start();
    let vip = site.vip("web", false);
    let (done, text) = site.run("ping", Package::IputilsPing, &["-n", "-c1", "-W1", &vip]);
    assert!(!done, "{text}");
    // Without SCTP in the kernel it is not even tried.
    let told = site.python("sockets.py", &["sctp", &vip, "36412"]);
    assert!(["ENETUNREACH", "ECONNREFUSED", "EPROTONOSUPPORT"].contains(&told.as_str().unwrap()), "{told}");
    // A backend answers pings, so it is the virtual IP that does not.
    let (done, text) = site.run("ping", Package::IputilsPing, &["-n", "-c1", "-W5", "10.1.0.11"]);
    assert!(done, "{text}");
}

/// Nothing is on the way of what is no virtual IP, nor of programs outside of the cgroup.
#[test]
fn what_is_no_virtual_ip_is_left_alone() {
    if !can_hook("what_is_no_virtual_ip_is_left_alone") {
        return;
    }
    let ports = ["http 8080/TCP", "who 5353/UDP"];
    let mut site = Site::new(
        &(service("web", "ipFamilies: [IPv4, IPv6]", &["http 80/TCP", "who 53/UDP"])
            + &slice("web", "v4", &ports, &["10.1.0.11"])
            + &slice("web", "v6", &ports, &["fd00:1::11"])),
    );
    let _servers = backends(
        &site.server,
        &[
            "four/tcp/10.1.0.11/8080",
            "four/udp/10.1.0.11/5353",
            "six/tcp/fd00:1::11/8080",
            "six/udp/fd00:1::11/5353",
        ],
    );
    site.agent.start();
    let (client, inside) = site.inside();
    for (address, name) in [("10.1.0.11", "four"), ("fd00:1::11", "six")] {
        for said in [
            connects(client, inside, address, 8080, 20),
            datagrams(client, inside, "udp", address, 5353, 20),
            datagrams(client, inside, "connected-udp", address, 5353, 20),
        ] {
            assert_eq!(said.names, [(name.to_owned(), 20)].into(), "{said:?}");
            assert!(said.strangers.is_empty(), "{said:?}");
        }
        // There nobody listens.
        assert_eq!(connects(client, inside, address, 80, 3).errors, [("ECONNREFUSED".to_owned(), 3)].into());
    }
    for is_v6 in [false, true] {
        let vip = site.vip("web", is_v6);
        let told = python(client, None, "sockets.py", &["errors", &vip, "80"]);
        refused(&told, &[&TCP[..], &ASKS, &PACKETS].concat(), "ENETUNREACH");
    }
    let counted = site.agent.services("default/web");
    assert!(counted.as_array().unwrap().iter().all(|port| port["connections"] == 0), "{counted}");
}
