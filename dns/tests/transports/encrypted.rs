//! DNS over TLS (RFC 7858), HTTPS (RFC 8484) and QUIC (RFC 9250).

use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Message, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsCode;
use hickory_server::net::h2::HttpsClientStream;
use hickory_server::net::quic::QuicClientStream;
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::net::xfer::{DnsRequestSender, FirstAnswer};
use portolan_dns::server::Listeners;
use portolan_dns::view::Transport;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::common::*;

fn listeners(files: &Files) -> Listeners {
    Listeners {
        tls: vec![any()],
        https: vec![any()],
        quic: vec![any()],
        certificate: Some(files.load()),
        certificate_check: Duration::from_millis(10),
        ..Listeners::default()
    }
}

/// A client that trusts one certificate.
fn client(trusted: &rcgen::Certificate, protocol: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config
}

async fn connect(served: &Served, trusted: &rcgen::Certificate) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(served.address(Transport::Tls)).await?;
    let connector = TlsConnector::from(Arc::new(client(trusted, b"dot")));
    connector.connect(ServerName::try_from("dns.test").unwrap(), stream).await
}

#[tokio::test]
async fn tls_is_tcp_inside() {
    let (files, certificate) = Files::new();
    let served = serve_on(&listeners(&files), |_| {});
    let mut stream = connect(&served, &certificate).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"dot"[..]));
    let queries: Vec<u8> = (0..1000).flat_map(|id| framed(id, ask(CART))).collect();
    stream.write_all(&queries).await.unwrap();
    for id in 0..1000 {
        assert_eq!(receive(&mut stream).await.unwrap().metadata.id, id);
    }
    // RFC 7858 §3.4, RFC 8467 §4.1: padded queries have padded answers.
    let reply = exchange(&mut stream, 5, ask(CART).option(12, &[0; 20])).await;
    assert!(reply.edns.unwrap().option(EdnsCode::Padding).is_some());
    let address = served.address(Transport::Tls);
    let labels = format!("server=\"tls://{address}\",zone=\"clusterset.local.\",view=\"\"");
    served
        .has_line(&format!(
            "coredns_dns_requests_total{{{labels},proto=\"tcp\",family=\"1\",type=\"A\"}} 1001"
        ))
        .await;
}

/// Places are one number for TCP and TLS: clients of the one that take no replies don't lock those of the other out.
#[tokio::test]
async fn tls_clients_that_do_not_read_lock_nobody_out() {
    let (files, certificate) = Files::new();
    let listeners = Listeners { tcp: vec![any()], ..listeners(&files) };
    let served = serve_on(&listeners, |settings| settings.tcp.max_connections = 2);
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&served, &certificate).await.unwrap();
        ask_and_not_read(&mut stream).await;
        slow.push(stream);
    }
    assert_eq!(exchange(&mut served.connect().await, 1, ask(CART)).await.answers.len(), 1);
    let server = served.address(Transport::Tcp);
    served
        .has_line(&format!("portolan_tcp_evicted_total{{server=\"dns://{server}\",transport=\"tcp\"}} 1"))
        .await;
}

/// New connections get the new certificate, the old connection lives on.
#[tokio::test]
async fn a_renewed_certificate_is_taken_up() {
    let (files, old) = Files::new();
    let served = serve_on(&listeners(&files), |_| {});
    let mut before = connect(&served, &old).await.unwrap();
    exchange(&mut before, 1, ask(CART)).await;
    let new = files.renew();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut after = loop {
        match connect(&served, &new).await {
            Ok(stream) => break stream,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
    };
    assert!(connect(&served, &old).await.is_err(), "the old certificate is gone");
    exchange(&mut after, 2, ask(CART)).await;
    exchange(&mut before, 3, ask(CART)).await;
}

#[tokio::test]
async fn failed_handshakes_are_counted() {
    let (files, _) = Files::new();
    let (_other, stranger) = Files::new();
    let served = serve_on(&listeners(&files), |_| {});
    assert!(connect(&served, &stranger).await.is_err());
    let mut plain = TcpStream::connect(served.address(Transport::Tls)).await.unwrap();
    plain.write_all(&framed(1, ask(CART))).await.unwrap();
    let server = format!("{{server=\"tls://{}\",transport=\"tls\"}}", served.address(Transport::Tls));
    served.has_line(&format!("portolan_tls_handshake_failures_total{server} 2")).await;
    served.has_line(&format!("portolan_tcp_connections{server} 0")).await;
}

async fn ask_with(client: &mut impl DnsRequestSender, query: Ask) -> DnsResponse {
    let message = Message::from_vec(&query.octets()).unwrap();
    let request = DnsRequest::new(message, DnsRequestOptions::default());
    let reply = client.send_message(request).first_answer();
    tokio::time::timeout(PATIENCE, reply).await.unwrap().unwrap()
}

/// What hickory-server sends is what `respond` wrote: flags, response codes, options, padding.
async fn survives(client: &mut impl DnsRequestSender) {
    let id = 0; // RFC 9250 §4.2.1, RFC 8484 §4.1
    let query = |question| Ask { id, ..ask(question) };
    let reply = ask_with(client, query("CaRt.shop.svc.clusterset.local A").flags(0x0100)).await;
    assert!(reply.metadata.authoritative && reply.metadata.recursion_desired && !reply.metadata.truncation);
    assert_eq!(reply.queries[0].name().to_string(), "CaRt.shop.svc.clusterset.local.", "the question's case");
    assert_eq!((reply.answers.len(), &reply.edns), (1, &None), "no OPT for who sends none (RFC 6891 §7)");

    let cookie = [1, 2, 3, 4, 5, 6, 7, 8];
    let reply =
        ask_with(client, query("_http._tcp.cart.shop.svc.clusterset.local SRV").option(10, &cookie)).await;
    let options = crate::fixtures::options(&reply.to_vec().unwrap());
    assert!(
        options.iter().any(|(code, value)| *code == 10 && value.starts_with(&cookie) && value.len() == 24)
    );

    let reply = ask_with(client, query("www.example.com A").edns(1232)).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::Refused);
    let error = crate::fixtures::extended_error(&reply.to_vec().unwrap());
    assert_eq!(error, Some((20, String::new())), "RFC 8914");

    let mut unknown_version = query(CART).edns(1232);
    unknown_version.edns.as_mut().unwrap().1 = 1;
    let reply = ask_with(client, unknown_version).await;
    assert_eq!(u16::from(reply.metadata.response_code), 16, "BADVERS has bits in the OPT (RFC 6891 §6.1.3)");

    for question in
        [CART, "_http._tcp.cart.shop.svc.clusterset.local SRV", "clusterset.local NS", "x.clusterset.local A"]
    {
        let reply = ask_with(client, query(question).option(12, &[0; 9])).await;
        assert_eq!(reply.as_buffer().len() % 468, 0, "RFC 8467 §4.1: {question}");
    }
    let reply = ask_with(client, query("big.shop.svc.clusterset.local A")).await;
    assert_eq!((reply.answers.len(), reply.metadata.truncation), (600, false));
}

fn with_cookies(settings: &mut portolan_dns::settings::Settings) {
    settings.cookies.secrets = vec![portolan_dns::cookie::Secret([3; 16])];
}

#[tokio::test]
async fn https() {
    let (files, certificate) = Files::new();
    let served = serve_on(&listeners(&files), with_cookies);
    let address = served.address(Transport::Https);
    let builder =
        HttpsClientStream::builder(Arc::new(client(&certificate, b"h2")), TokioRuntimeProvider::new());
    let connect = builder.build(address, Arc::from("dns.test"), Arc::from("/dns-query"));
    survives(&mut connect.await.unwrap()).await;
    let labels = format!("server=\"https://{address}\",zone=\"dropped\",view=\"\",rcode=\"REFUSED\"");
    served.has_line(&format!("coredns_dns_responses_total{{{labels},plugin=\"portolan\"}} 1")).await;
    assert!(served.running.shutdown(PATIENCE).await);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn quic() {
    let (files, certificate) = Files::new();
    let served = serve_on(&listeners(&files), with_cookies);
    let address = served.address(Transport::Quic);
    let builder = QuicClientStream::builder().crypto_config(client(&certificate, b"doq"));
    survives(&mut builder.build(address, Arc::from("dns.test")).await.unwrap()).await;
    let labels = format!("server=\"quic://{address}\",zone=\"dropped\",view=\"\",rcode=\"REFUSED\"");
    served.has_line(&format!("coredns_dns_responses_total{{{labels},plugin=\"portolan\"}} 1")).await;
}
