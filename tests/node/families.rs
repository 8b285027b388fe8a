//! IPv4 and IPv6, of clients and of backends.

use portolan_tests::harness::node::{backends, can_hook, connects, datagrams};
use serde_json::json;

use crate::site::{Site, service, slice};

const PORTS: [&str; 2] = ["http 80/TCP", "who 53/UDP"];
const THEIRS: [&str; 2] = ["http 8080/TCP", "who 5353/UDP"];

/// KEP-1645, dual stack: a service has an address of each family that it has, and each is connected within its family.
#[test]
fn each_family_goes_to_its_own() {
    if !can_hook("each_family_goes_to_its_own") {
        return;
    }
    let mut site = Site::new(
        &(service("both", "ipFamilies: [IPv4, IPv6]", &PORTS)
            + &slice("both", "v4", &THEIRS, &["10.1.0.11", "10.1.0.12"])
            + &slice("both", "v6", &THEIRS, &["fd00:1::11", "fd00:1::12"])
            + &service("six", "ipFamilies: [IPv6]", &PORTS)
            + &slice("six", "v6", &THEIRS, &["fd00:1::11", "fd00:1::12"])),
    );
    let servers: Vec<String> = ["10.1.0.11", "10.1.0.12", "fd00:1::11", "fd00:1::12"]
        .iter()
        .flat_map(|ip| [format!("{ip}/tcp/{ip}/8080"), format!("{ip}/udp/{ip}/5353")])
        .collect();
    let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
    let _servers = backends(&site.server, &servers);
    site.agent.start();
    assert_eq!(site.agent.vips("default/six").len(), 1, "no address of IPv4 for a service of IPv6");
    let (client, inside) = site.inside();
    for (service, is_v6, expected) in [
        ("both", false, ["10.1.0.11", "10.1.0.12"]),
        ("both", true, ["fd00:1::11", "fd00:1::12"]),
        ("six", true, ["fd00:1::11", "fd00:1::12"]),
    ] {
        let vip = site.vip(service, is_v6);
        for said in [
            connects(client, inside, &vip, 80, 60),
            datagrams(client, inside, "udp", &vip, 53, 60),
            datagrams(client, inside, "connected-udp", &vip, 53, 60),
        ] {
            assert_eq!(said.answers(), 60, "{said:?}");
            assert!(said.names.keys().eq(expected) && said.strangers.is_empty(), "{said:?}");
        }
    }
}

/// abi.h, VERDICT_FAMILY: IPv6 sockets reach backends of IPv4 by mapped addresses (RFC 4291 §2.5.5.2), but for single packets,
/// which the kernel sends to IPv6 addresses only. IPv4 sockets reach no backend of IPv6.
#[test]
fn the_other_family_is_reached_where_the_kernel_can() {
    if !can_hook("the_other_family_is_reached_where_the_kernel_can") {
        return;
    }
    let mut site = Site::new(
        &(service("six-to-four", "ipFamilies: [IPv6]", &PORTS)
            + &slice("six-to-four", "v4", &THEIRS, &["10.1.0.11"])
            + &service("four-to-six", "ipFamilies: [IPv4]", &PORTS)
            + &slice("four-to-six", "v6", &THEIRS, &["fd00:1::11"])),
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
    let vip = site.vip("six-to-four", true);
    let streams = site.python("sockets.py", &["streams", "::", &vip, "80"]);
    let shown = format!("{vip} 80");
    assert_eq!(
        (&streams["tcp"], &streams["tcp_nonblocking"]),
        (&json!(["four", shown]), &json!(["four", shown]))
    );
    let packets = site.python("sockets.py", &["packets", "::", &vip, "53"]);
    let shown = format!("{vip} 53");
    assert_eq!(packets["udp_connected"], json!(["four", shown, shown]));
    for way in ["udp_sendto", "udp_sendmsg"] {
        assert_eq!(packets[way], "EAFNOSUPPORT", "{packets}");
    }
    let vip = site.vip("four-to-six", false);
    let (streams, packets) = (
        site.python("sockets.py", &["errors", &vip, "80"]),
        site.python("sockets.py", &["errors", &vip, "53"]),
    );
    for way in ["tcp", "tcp_nonblocking"] {
        assert_eq!(streams["errors"][way], "EHOSTUNREACH", "{streams}");
    }
    for way in ["udp_connected", "udp_sendto", "udp_sendmsg"] {
        assert_eq!(packets["errors"][way], "EHOSTUNREACH", "{packets}");
    }
}
