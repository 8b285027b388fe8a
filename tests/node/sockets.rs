//! Every kind of socket: where it goes, what it is shown, and which error it gets.

use portolan_tests::harness::node::{backends, can_hook, connects, datagrams};

use crate::site::{Site, service, slice};

/// design.md §3: `connect()` to a virtual IP reaches a backend, getpeername shows the virtual IP.
#[test]
fn tcp_goes_to_all_backends_and_is_shown_the_virtual_ip() {
    if !can_hook("tcp_goes_to_all_backends_and_is_shown_the_virtual_ip") {
        return;
    }
    let mut site = Site::new(
        &(service("web", "", &["http 80/TCP", "who 53/UDP"])
            + &slice(
                "web",
                "a",
                &["http 8080/TCP", "who 5353/UDP"],
                &["10.1.0.11", "10.1.0.12", "10.1.0.13!"],
            )),
    );
    let _servers = backends(
        &site.server,
        &[
            "one/tcp/10.1.0.11/8080",
            "two/tcp/10.1.0.12/8080",
            "one/udp/10.1.0.11/5353",
            "two/udp/10.1.0.12/5353",
        ],
    );
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    let (client, inside) = (&site.client, Some(&site.cgroup));
    for said in [
        connects(client, inside, &vip, 80, 200),
        datagrams(client, inside, "udp", &vip, 53, 200),
        datagrams(client, inside, "connected-udp", &vip, 53, 200),
    ] {
        assert_eq!((said.answers(), said.errors.len(), said.strangers.len()), (200, 0, 0), "{said:?}");
        assert!(said.names["one"] > 60 && said.names["two"] > 60, "{said:?}");
    }
    let outside = connects(client, None, &vip, 80, 1);
    assert_eq!(
        outside.errors,
        [("ENETUNREACH".to_owned(), 1)].into(),
        "outside of the cgroup nothing changes"
    );
}
