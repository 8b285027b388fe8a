//! Binding, ending, counting.

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use portolan_dns::server::{BindError, Listeners, Server};
use portolan_dns::view::Transport;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::common::*;

fn bind(listeners: &Listeners) -> Result<Server, BindError> {
    let settings = Arc::new(ArcSwap::from_pointee(portolan_dns::settings::Settings::default()));
    Server::bind(listeners, Arc::new(ArcSwap::from_pointee(shop())), settings, Arc::default())
}

/// Also when it is taken by another server like us, which would share it (SO_REUSEPORT).
#[test]
fn a_port_in_use_is_told() {
    let tcp = TcpListener::bind(any()).unwrap();
    let udp = UdpSocket::bind(any()).unwrap();
    let ours = bind(&Listeners { udp: vec![any()], ..Listeners::default() }).unwrap();
    let (tcp, udp, shared) =
        (tcp.local_addr().unwrap(), udp.local_addr().unwrap(), ours.local_addresses()[0].1);
    let none = Listeners::default();
    for (transport, address, listeners) in [
        ("tcp", tcp, Listeners { tcp: vec![tcp], ..none.clone() }),
        ("udp", udp, Listeners { udp: vec![udp], ..none.clone() }),
        ("udp", shared, Listeners { udp: vec![shared], ..none.clone() }),
    ] {
        let error = bind(&listeners).unwrap_err().to_string();
        let (start, port) = (format!("cannot listen on {address} ({transport}): "), address.port());
        assert!(
            error.starts_with(&start) && error.contains("in use") && error.contains(&port.to_string()),
            "{error}"
        );
    }
}

#[test]
fn what_cannot_be_bound_is_told() {
    let foreign = "192.0.2.1:5353".parse().unwrap();
    let error = bind(&Listeners { udp: vec![foreign], ..Listeners::default() }).unwrap_err().to_string();
    assert!(error.contains("192.0.2.1:5353 (udp): no interface of this machine"), "{error}");
    let error = bind(&Listeners { tls: vec![any()], ..Listeners::default() }).unwrap_err().to_string();
    assert!(error.contains("(tls): a certificate and its key have to be configured"), "{error}");
}

/// IPv4 and IPv6 on one port are two sockets; `::` alone takes both.
#[test]
fn both_families_share_a_port() {
    // A port that was free for one socket may be another one's for the next: then another port.
    let bound = (0..20).find_map(|_| {
        let probe =
            bind(&Listeners { udp: vec!["[::]:0".parse().unwrap()], ..Listeners::default() }).unwrap();
        let port = probe.local_addresses()[0].1.port();
        drop(probe);
        let both = vec![format!("0.0.0.0:{port}").parse().unwrap(), format!("[::]:{port}").parse().unwrap()];
        bind(&Listeners { udp: both.clone(), tcp: both, ..Listeners::default() }).ok()
    });
    assert_eq!(bound.expect("one of twenty ports is free").local_addresses().len(), 4);
}

/// What has been read is answered, what comes later is not, and the ports are free again.
#[tokio::test]
async fn shutdown_finishes_what_is_in_flight() {
    let served = serve(|_| {});
    let (tcp, udp) = (served.address(Transport::Tcp), served.address(Transport::Udp));
    let mut idle = served.connect().await;
    exchange(&mut idle, 1, ask(CART)).await;
    let mut busy = served.connect().await;
    exchange(&mut busy, 1, ask(CART)).await;
    let queries: Vec<u8> = (0..500).flat_map(|id| framed(id, ask(CART))).collect();
    busy.write_all(&queries).await.unwrap();
    assert!(served.running.shutdown(PATIENCE).await, "all done in time");
    for id in 0..500 {
        assert_eq!(receive(&mut busy).await.expect("an answer").metadata.id, id);
    }
    assert!(receive(&mut busy).await.is_none() && receive(&mut idle).await.is_none());
    assert!(TcpStream::connect(tcp).await.is_err());
    UdpSocket::bind(udp).unwrap();
}

/// The deadline holds against a client that takes nothing.
#[tokio::test]
async fn shutdown_cuts_off_who_does_not_read() {
    let served = serve(|_| {});
    let mut stream = served.connect().await;
    ask_and_not_read(&mut stream).await;
    let ended = tokio::time::timeout(PATIENCE, served.running.shutdown(Duration::from_millis(50)));
    assert!(!ended.await.expect("within the deadline"), "a connection was cut off");
}

/// Names, labels and counts of CoreDNS's metrics (its plugin/metrics README).
#[tokio::test]
async fn metrics_count_what_was_asked() {
    let served = serve(|_| {});
    let tcp = served.address(Transport::Tcp);
    let mut stream = served.connect().await;
    for question in [
        CART,
        CART,
        "nothing.shop.svc.clusterset.local AAAA",
        "www.example.com A",
        "cart.shop.svc.clusterset.local CAA",
    ] {
        exchange(&mut stream, 1, ask(question)).await;
    }
    let mut dnssec = ask(CART).edns(1232);
    dnssec.edns.as_mut().unwrap().2 = 0x8000;
    exchange(&mut stream, 1, dnssec).await;
    let ours = format!("server=\"dns://{tcp}\",zone=\"clusterset.local.\",view=\"\"");
    let none = format!("server=\"dns://{tcp}\",zone=\"dropped\",view=\"\"");
    for line in [
        format!("coredns_dns_requests_total{{{ours},proto=\"tcp\",family=\"1\",type=\"A\"}} 3"),
        format!("coredns_dns_requests_total{{{ours},proto=\"tcp\",family=\"1\",type=\"AAAA\"}} 1"),
        format!("coredns_dns_requests_total{{{ours},proto=\"tcp\",family=\"1\",type=\"other\"}} 1"),
        format!("coredns_dns_requests_total{{{none},proto=\"tcp\",family=\"1\",type=\"A\"}} 1"),
        format!("coredns_dns_responses_total{{{ours},rcode=\"NOERROR\",plugin=\"portolan\"}} 4"),
        format!("coredns_dns_responses_total{{{ours},rcode=\"NXDOMAIN\",plugin=\"portolan\"}} 1"),
        format!("coredns_dns_responses_total{{{none},rcode=\"REFUSED\",plugin=\"portolan\"}} 1"),
        format!("coredns_dns_do_requests_total{{{ours}}} 1"),
        format!("coredns_dns_request_duration_seconds_count{{{ours}}} 5"),
        format!("coredns_dns_request_duration_seconds_bucket{{le=\"+Inf\",{ours}}} 5"),
        format!("coredns_dns_request_size_bytes_count{{{ours},proto=\"tcp\"}} 5"),
        format!("coredns_dns_request_size_bytes_bucket{{le=\"0.0\",{ours},proto=\"tcp\"}} 0"),
        format!("coredns_dns_request_size_bytes_bucket{{le=\"100.0\",{ours},proto=\"tcp\"}} 5"),
        format!("coredns_dns_response_size_bytes_count{{{none},proto=\"tcp\"}} 1"),
        format!("portolan_tcp_connections{{server=\"dns://{tcp}\",transport=\"tcp\"}} 1"),
        "portolan_rate_limited_total{action=\"dropped\"} 0".to_owned(),
        "coredns_panics_total 0".to_owned(),
    ] {
        served.has_line(&line).await;
    }
    let version = format!(
        "coredns_build_info{{version=\"{}\",revision=\"\",goversion=\"\"}} ",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(served.metric(&version).await, "1");
    let sizes = format!("coredns_dns_request_size_bytes_sum{{{none},proto=\"tcp\"}} ");
    assert_eq!(served.metric(&sizes).await, format!("{:.1}", ask("www.example.com A").octets().len() as f64));
    // Nothing was asked by UDP, so nothing says so.
    assert!(!served.scrape().contains("proto=\"udp\""));
}
