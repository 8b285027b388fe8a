//! Every kind of socket: where it goes, what it is shown, and which error it gets.

use std::collections::BTreeSet;

use portolan_tests::harness::node::{backends, can_hook, connects, datagrams, running};
use portolan_tests::harness::{Package, eventually, program};
use serde_json::{Value, json};

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

/// A dual-stack service, whose backends say which family and which protocol they have.
fn dual(name: &str) -> String {
    let ports = ["http 8080/TCP", "who 5353/UDP"];
    service(name, "ipFamilies: [IPv4, IPv6]", &["http 80/TCP", "who 53/UDP"])
        + &slice(name, "v4", &ports, &["10.1.0.11"])
        + &slice(name, "v6", &ports, &["fd00:1::11"])
}

const DUAL: [&str; 4] = [
    "four-tcp/tcp/10.1.0.11/8080",
    "four-udp/udp/10.1.0.11/5353",
    "six-tcp/tcp/fd00:1::11/8080",
    "six-udp/udp/fd00:1::11/5353",
];

/// connect(2), sendto(2), sendmsg(2), bind(2); RFC 4291 §2.5.5.2 for IPv4 on a socket of IPv6: all of them get there, and none is
/// shown anything but what it named.
#[test]
fn every_kind_of_socket_gets_there_and_sees_the_virtual_ip_alone() {
    if !can_hook("every_kind_of_socket_gets_there_and_sees_the_virtual_ip_alone") {
        return;
    }
    let mut site = Site::new(&dual("web"));
    let _servers = backends(&site.server, &DUAL);
    site.agent.start();
    let (v4, v6) = (site.vip("web", false), site.vip("web", true));
    let mapped = format!("::ffff:{v4}");
    for (vip, source, family) in
        [(&v4, "10.1.0.1", "four"), (&v6, "fd00:1::1", "six"), (&mapped, "::ffff:10.1.0.1", "four")]
    {
        let streams = site.python("sockets.py", &["streams", source, vip, "80"]);
        let packets = site.python("sockets.py", &["packets", source, vip, "53"]);
        let (http, dns) = (format!("{vip} 80"), format!("{vip} 53"));
        for kind in ["tcp", "tcp_bound", "tcp_nonblocking"] {
            assert_eq!(streams[kind], json!([format!("{family}-tcp"), http]), "{kind} to {vip}");
        }
        for kind in ["udp_connected", "udp_connected_bound"] {
            assert_eq!(packets[kind], json!([format!("{family}-udp"), dns, dns]), "{kind} to {vip}");
        }
        for kind in ["udp_sendto", "udp_sendto_bound", "udp_sendmsg"] {
            assert_eq!(packets[kind], json!([format!("{family}-udp"), dns]), "{kind} to {vip}");
        }
    }
}

/// MPTCP (RFC 8684), as `mptcpize` has it: such sockets go to a backend, too, and fall back to TCP where that has no more. The kernel
/// connects by a socket of its own within them, and asks for the peer's name by the outer one: it shows the backend (README, "can't").
#[test]
fn mptcp_goes_to_a_backend() {
    if !can_hook("mptcp_goes_to_a_backend") {
        return;
    }
    if !std::path::Path::new("/proc/sys/net/mptcp/enabled").exists() {
        eprintln!("skipped mptcp_goes_to_a_backend: this kernel has no MPTCP");
        return;
    }
    let mut site = Site::new(&dual("web"));
    let _servers = backends(&site.server, &DUAL);
    site.agent.start();
    for (is_v6, name, backend) in
        [(false, "four-tcp", "10.1.0.11 8080"), (true, "six-tcp", "fd00:1::11 8080")]
    {
        let told = site.python("sockets.py", &["mptcp", &site.vip("web", is_v6), "80"]);
        assert_eq!(told, json!([name, backend]));
    }
}

/// Programs as they are: what they print comes from a backend, and UDP clients that drop packets of strangers drop none.
#[test]
fn real_programs_connect() {
    if !can_hook("real_programs_connect") {
        return;
    }
    let mut site = Site::new(&dual("web"));
    let _servers = backends(&site.server, &DUAL);
    site.agent.start();
    let (v4, v6) = (site.vip("web", false), site.vip("web", true));
    for (vip, family) in [(v4.clone(), "four"), (format!("[{v6}]"), "six")] {
        let (done, text) = site.run(
            "curl",
            Package::Curl,
            &["-sS", "--noproxy", "*", "--max-time", "5", &format!("http://{vip}/")],
        );
        assert!(done && text == format!("{family}-tcp\n"), "curl {vip}: {text}");
    }
    let path = |name: &str, package| program(name, package).get_program().to_string_lossy().into_owned();
    let (socat, ncat) = (path("socat", Package::Socat), path("ncat", Package::Ncat));
    for (command, family) in [
        (format!("{socat} - TCP4:{v4}:80"), "four"),
        (format!("{socat} - TCP6:[{v6}]:80"), "six"),
        (format!("{ncat} {v4} 80"), "four"),
        (format!("{ncat} -6 {v6} 80"), "six"),
    ] {
        let (_, text) = site.shell(&format!(r"printf 'GET / HTTP/1.0\r\n\r\n' | timeout 10 {command}"));
        assert!(text.ends_with(&format!("{family}-tcp\n")), "{command}: {text}");
    }
    for (command, family) in [
        (format!("{socat} -t0.3 - UDP4-SENDTO:{v4}:53"), "four"),
        (format!("{socat} -t0.3 - UDP6-SENDTO:[{v6}]:53"), "six"),
        (format!("{socat} -t0.3 - UDP4-CONNECT:{v4}:53"), "four"),
        (format!("{socat} -t0.3 - UDP6-CONNECT:[{v6}]:53"), "six"),
        (format!("{ncat} -u {v4} 53"), "four"),
        (format!("{ncat} -u -6 {v6} 53"), "six"),
    ] {
        // ncat ends when its input does, whatever is on the way.
        eventually(&command, || {
            let (_, text) = site.shell(&format!("(printf 'who?'; sleep 0.5) | timeout 10 {command}"));
            text.starts_with(&format!("{family}-udp"))
        });
    }
}

/// RFC 1035 §4.2.1, §7.3: a resolver drops replies that come from elsewhere than it asked; through a virtual IP it drops none.
#[test]
fn dns_clients_are_answered_through_a_virtual_ip() {
    if !can_hook("dns_clients_are_answered_through_a_virtual_ip") {
        return;
    }
    let mut site = Site::new(&dual("dns"));
    let mut dnsmasq = program("dnsmasq", Package::DnsmasqBase);
    dnsmasq.args([
        "--keep-in-foreground",
        "--log-facility=/dev/null",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file=",
    ]);
    dnsmasq.args(["--port=5353", "--bind-interfaces", "--listen-address=10.1.0.11,fd00:1::11"]);
    dnsmasq.arg("--address=/who.test/192.0.2.1");
    let _dnsmasq = running(&site.server, &dnsmasq);
    site.agent.start();
    for vip in [site.vip("dns", false), site.vip("dns", true)] {
        let ask = ["who.test", "A", &format!("@{vip}"), "+short", "+tries=1", "+time=2"];
        eventually("dnsmasq listens", || site.run("dig", Package::Dnsutils, &ask).0);
        for _ in 0..5 {
            let (done, text) = site.run("dig", Package::Dnsutils, &ask);
            assert!(done && text == "192.0.2.1\n", "{vip}: {text}");
        }
    }
}

/// recvfrom(2): the address is that of who sent, and to a program that is who it sent to, for each virtual IP its own.
#[test]
fn one_socket_talks_to_two_virtual_ips() {
    if !can_hook("one_socket_talks_to_two_virtual_ips") {
        return;
    }
    let other = ["who 5354/UDP"];
    let mut site = Site::new(
        &(dual("a")
            + &service("b", "ipFamilies: [IPv4, IPv6]", &["who 53/UDP"])
            + &slice("b", "v4", &other, &["10.1.0.11"])
            + &slice("b", "v6", &other, &["fd00:1::11"])),
    );
    let _servers = backends(
        &site.server,
        &[&DUAL[..], &["b-four/udp/10.1.0.11/5354", "b-six/udp/fd00:1::11/5354"]].concat(),
    );
    site.agent.start();
    for (is_v6, of_a, of_b) in [(false, "four-udp", "b-four"), (true, "six-udp", "b-six")] {
        let (a, b) = (site.vip("a", is_v6), site.vip("b", is_v6));
        let told = site.python("sockets.py", &["in_turn", &a, "53", &b, "53"]);
        let (one, two) = (json!([of_a, format!("{a} 53")]), json!([of_b, format!("{b} 53")]));
        let mut expected = vec![one.clone(), two.clone(), one.clone(), two.clone(), one.clone(), two.clone()];
        let mut last = [one, two];
        last.sort_by_key(Value::to_string);
        expected.extend(last);
        assert_eq!(told, json!(expected));
    }
}

/// udp(7): packets of one socket to several addresses. A backend has what was said to it before: those to one virtual IP go to one backend
/// each, though others come in between; other sockets have others.
#[test]
fn packets_to_several_virtual_ips_keep_to_their_backends() {
    if !can_hook("packets_to_several_virtual_ips_keep_to_their_backends") {
        return;
    }
    let all = ["10.1.0.11", "10.1.0.12", "10.1.0.13", "10.1.0.14"];
    let named = |name: &str, port: u16| {
        service(name, "", &["who 53/UDP"]) + &slice(name, "v4", &[&format!("who {port}/UDP")], &all)
    };
    let mut site = Site::new(&(named("a", 5353) + &named("b", 5354)));
    let of = |port: u16| all.iter().map(move |address| format!("{address}-{port}/udp/{address}/{port}"));
    let servers: Vec<String> = of(5353).chain(of(5354)).collect();
    let _servers = backends(&site.server, &servers.iter().map(String::as_str).collect::<Vec<_>>());
    site.agent.start();
    let (a, b) = (site.vip("a", false), site.vip("b", false));
    let mut drawn = BTreeSet::new();
    for _ in 0..12 {
        let told = site.python("sockets.py", &["in_turn", &a, "53", &b, "53"]);
        for turns in [[0, 2, 4], [1, 3, 5]] {
            let [first, others @ ..] = turns.map(|turn| &told[turn]);
            assert!(others.iter().all(|other| *other == first), "{told}");
            drawn.insert(first.to_string());
        }
    }
    assert!(drawn.len() > 2, "twelve sockets have one backend of four: {drawn:?}");
}

/// connect(2): a datagram socket may change its association. getpeername(2) shows the last one, be it a virtual IP, the very
/// backend behind it, or another address.
#[test]
fn a_udp_socket_that_is_connected_again_shows_where_it_is() {
    if !can_hook("a_udp_socket_that_is_connected_again_shows_where_it_is") {
        return;
    }
    let mut site = Site::new(&dual("web"));
    let _servers =
        backends(&site.server, &[&DUAL[..], &["plain/udp/10.1.0.12/99", "plain/udp/fd00:1::12/99"]].concat());
    site.agent.start();
    for (is_v6, backend, plain, name) in
        [(false, "10.1.0.11", "10.1.0.12", "four-udp"), (true, "fd00:1::11", "fd00:1::12", "six-udp")]
    {
        let vip = site.vip("web", is_v6);
        let told = site.python(
            "sockets.py",
            &["again", &vip, "53", plain, "99", &vip, "53", backend, "5353", plain, "99", backend, "5353"],
        );
        let shown = |name: &str, to: &str, port: u16| {
            let peer = format!("{to} {port}");
            json!([name, peer, peer])
        };
        let expected = [
            shown(name, &vip, 53),
            shown("plain", plain, 99),
            shown(name, &vip, 53),
            shown(name, backend, 5353),
            shown("plain", plain, 99),
            shown(name, backend, 5353),
        ];
        assert_eq!(told, json!(expected));
    }
}

/// sendto(2): a connected datagram socket may send a packet elsewhere; it stays connected to where it was (udp(7)).
#[test]
fn a_packet_elsewhere_leaves_a_udp_socket_connected() {
    if !can_hook("a_packet_elsewhere_leaves_a_udp_socket_connected") {
        return;
    }
    let mut site = Site::new(
        &(dual("web")
            + &service("other", "ipFamilies: [IPv4, IPv6]", &["who 53/UDP"])
            + &slice("other", "v4", &["who 5354/UDP"], &["10.1.0.11"])
            + &slice("other", "v6", &["who 5354/UDP"], &["fd00:1::11"])),
    );
    let _servers = backends(&site.server, &DUAL);
    site.agent.start();
    for (is_v6, name) in [(false, "four-udp"), (true, "six-udp")] {
        let (vip, other) = (site.vip("web", is_v6), site.vip("other", is_v6));
        let told = site.python("sockets.py", &["beside", &vip, "53", &other, "53"]);
        let peer = format!("{vip} 53");
        let shown = json!([name, peer, peer]);
        assert_eq!(told, json!([shown, shown]));
    }
}

/// A socket that is connected, and sends to the same address all the same, gets its answers: only its peer's reach it. And packets
/// of one socket stay with one backend when others come.
#[test]
fn packets_stay_with_their_backend() {
    if !can_hook("packets_stay_with_their_backend") {
        return;
    }
    let with = |endpoints: &[&str]| {
        service("web", "", &["who 53/UDP"]) + &slice("web", "a", &["who 5353/UDP"], endpoints)
    };
    let mut site = Site::new(&with(&["10.1.0.11", "10.1.0.12"]));
    let servers = ["one/udp/10.1.0.11/5353", "two/udp/10.1.0.12/5353"];
    let _servers = backends(&site.server, &servers);
    site.agent.start();
    let vip = site.agent.vips("default/web")[0].to_string();
    let said = datagrams(&site.client, Some(&site.cgroup), "connected-and-sent", &vip, 53, 40);
    assert_eq!((said.answers(), said.errors.len(), said.strangers.len()), (40, 0, 0), "{said:?}");
    let said = datagrams(&site.client, Some(&site.cgroup), "many", &vip, 53, 40);
    assert_eq!(
        (said.answers(), said.errors.len()),
        (40, 0),
        "one answer for each socket that stayed: {said:?}"
    );
    assert!(said.names["one"] > 5 && said.names["two"] > 5, "{said:?}");
}
