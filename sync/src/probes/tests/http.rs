//! Probes by HTTP and HTTPS, of servers that behave and of servers that don't.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

fn get(body: Option<&str>) -> Kind {
    let body = body.map(str::to_owned);
    Kind::Http { tls: false, path: "/health".parse().unwrap(), host: None, status: 200..=399, body }
}

/// Reads a request, up to the empty line.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(request).unwrap()
}

/// A server that reads a request, says the first, then the second over and over until nobody listens (or, if that is
/// empty, nothing more, and keeps the connection).
async fn says(first: &'static str, then: &'static str) -> SocketAddr {
    server(move |mut stream| async move {
        request(&mut stream).await;
        let _ = stream.write_all(first.as_bytes()).await;
        if then.is_empty() {
            std::future::pending::<()>().await;
        }
        while stream.write_all(then.as_bytes()).await.is_ok() {}
    })
    .await
}

/// What a server says once, and without end; what must be in it; what comes of it.
type Case = (&'static str, &'static str, Option<&'static str>, Result<(), &'static str>);

/// What a server says, what of it must contain what, and what comes of it. Each ends long before its timeout, for it
/// knows enough by then.
#[tokio::test]
async fn answers_are_judged_by_status_and_text() {
    const LATER: &str =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
    let cases: [Case; 17] = [
        (OK, "", None, Ok(())),
        (OK, "", Some("hello"), Ok(())),
        (OK, "", Some("ell"), Ok(())),
        (LATER, "", Some("hello"), Ok(())),
        (OK, "", Some(""), Ok(())),
        (
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
            "",
            None,
            Ok(()),
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", "", None, Ok(())),
        ("HTTP/1.1 200 OK\r\n\r\n", "endless ", None, Ok(())),
        ("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", "", None, Err("status 503, expected 200-399")),
        (
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            "",
            None,
            Err("status 101, expected"),
        ),
        (OK, "", Some("bye"), Err("its answer does not contain \"bye\"")),
        (
            "HTTP/1.1 200 OK\r\n\r\n",
            "endless ",
            Some("bye"),
            Err("the first 64 KiB of its answer do not contain \"bye\""),
        ),
        ("HTTP/1.1 200 OK\r\n", "x-header: again\r\n", None, Err("no answer by HTTP: ")),
        ("HTTP/1.1 200 OK\r\nx: ", "endless", None, Err("no answer by HTTP: ")),
        ("HTTP/1.1 ", "", None, Err("gives no full answer within")),
        ("", "HTTP/1.1 103 Early Hints\r\n\r\n", None, Err("it sends more than 256 KiB")),
        ("", "SSH-2.0-OpenSSH_9.6\r\n", None, Err("no answer by HTTP: ")),
    ];
    for (first, then, body, expected) in cases {
        let address = says(first, then).await;
        let timeout = if expected.is_err_and(|text| text.contains("within")) { SECOND } else { LONG };
        let begun = Instant::now();
        let (rtt, result) = found(address, get(body), timeout).await;
        let case = format!("{first:?} {then:?} {body:?}: {result:?}");
        assert!(rtt.is_some(), "{case}");
        match (expected, &result) {
            (Ok(()), Ok(())) => {}
            (Err(expected), Err(text)) => {
                let named = text.starts_with(&format!("GET http://{address}/health: "));
                assert!(named && text.contains(expected), "{case}");
            }
            _ => panic!("{case}"),
        }
        assert!(begun.elapsed() < LONG, "{case}");
    }
}

#[tokio::test]
async fn the_text_of_an_error_says_what_was_asked_and_what_was_expected() {
    let address = says("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n", "").await;
    let (_, result) = found(address, get(None), LONG).await;
    assert_eq!(result, Err(format!("GET http://{address}/health: status 503, expected 200-399")));
}

/// Servers that end the connection: at once, after the request, and in the middle of an answer.
#[tokio::test]
async fn connections_that_end_are_errors() {
    let at_once = server(|stream| async { drop(stream) }).await;
    let reset = server(|mut stream| async move {
        request(&mut stream).await;
        stream.set_zero_linger().unwrap();
    })
    .await;
    let midway = server(|mut stream| async move {
        request(&mut stream).await;
        stream.write_all(OK.trim_end_matches("llo").as_bytes()).await.unwrap();
    })
    .await;
    for (address, expected) in [
        (at_once, "no answer by HTTP: "),
        (reset, "no answer by HTTP: "),
        (midway, "its answer breaks off: "),
    ] {
        let (_, result) = found(address, get(Some("hello")), LONG).await;
        assert!(result.as_ref().is_err_and(|text| text.contains(expected)), "{expected} {result:?}");
    }
}

/// Redirections are not followed, and each probe is one connection with one request.
#[tokio::test]
async fn a_redirection_leads_nowhere() {
    let visits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&visits);
    let elsewhere = server(move |_stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        async {}
    })
    .await;
    let address = server(move |mut stream| async move {
        request(&mut stream).await;
        let answer =
            format!("HTTP/1.1 301 Moved\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let Kind::Http { tls, path, host, body, .. } = get(None) else { panic!() };
    assert_eq!(found(address, get(None), LONG).await.1, Ok(()));
    let strict = Kind::Http { tls, path, host, body, status: 200..=299 };
    let (_, result) = found(address, strict, LONG).await;
    assert!(result.is_err_and(|text| text.contains("status 301, expected 200-299")));
    assert_eq!(visits.load(Ordering::Relaxed), 0);
}

/// RFC 9112 section 3.2: the Host is the configured one, else where the request goes.
#[tokio::test]
async fn the_request_names_path_and_host() {
    let (sender, mut requests) = tokio::sync::mpsc::channel(10);
    let address = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            sender.send(request(&mut stream).await).await.unwrap();
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await;
    for (host, expected) in
        [(Some("shop.test:8080"), "shop.test:8080".to_owned()), (None, address.to_string())]
    {
        let (path, host) = ("/health?deep=1".parse().unwrap(), host.map(|host| host.parse().unwrap()));
        let kind = Kind::Http { tls: false, path, host, status: 200..=200, body: None };
        assert_eq!(found(address, kind, LONG).await.1, Ok(()));
        let request = requests.recv().await.unwrap();
        assert!(request.starts_with("GET /health?deep=1 HTTP/1.1\r\n"), "{request}");
        assert!(request.contains(&format!("\r\nhost: {expected}\r\n")), "{request}");
        assert!(request.contains("\r\nconnection: close\r\n"), "{request}");
        assert!(request.contains("\r\nuser-agent: portolan-probe/"), "{request}");
    }
}

/// TLS with a certificate that nobody vouches for.
pub(super) fn acceptor(protocols: &[&str]) -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(["other.test".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let certificate = vec![made.cert.der().clone()];
    let mut config = builder.with_no_client_auth().with_single_cert(certificate, key.into()).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Whoever the certificate is for, as kubelet does it; the name that is asked for is the configured host, and none if
/// there is none (RFC 6066 section 3: an address is no name).
#[tokio::test]
async fn https_asks_for_the_host_and_for_no_proof() {
    let (sender, mut names) = tokio::sync::mpsc::channel(10);
    let acceptor = acceptor(&["http/1.1"]);
    let address = server(move |stream| {
        let (sender, acceptor) = (sender.clone(), acceptor.clone());
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let name = stream.get_ref().1.server_name().map(str::to_owned);
            sender.send((name, request(&mut stream).await)).await.unwrap();
            answer(&mut stream).await;
        }
    })
    .await;
    for host in [Some("shop.test"), None] {
        let name = host.map(str::to_owned);
        let host = host.map(|host| host.parse().unwrap());
        let path = "/".parse().unwrap();
        let kind = Kind::Http { tls: true, path, host, status: 200..=200, body: Some("hello".to_owned()) };
        assert_eq!(found(address, kind, LONG).await.1, Ok(()));
        let (asked, request) = names.recv().await.unwrap();
        let expected = name.clone().unwrap_or_else(|| address.to_string());
        assert_eq!(asked, name);
        assert!(request.contains(&format!("\r\nhost: {expected}\r\n")), "{request}");
    }
}

async fn answer(stream: &mut (impl AsyncWrite + Unpin)) {
    stream.write_all(OK.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}

/// What speaks no TLS, what says nothing, and what sends without end.
#[tokio::test]
async fn https_of_what_is_none_is_an_error() {
    let plain = server(|mut stream| async move {
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let silent = silent().await;
    let endless = server(|mut stream| async move {
        // Parts of a TLS 1.3 handshake message that never ends.
        let record = [&[22, 3, 3, 0x40, 0], &[2_u8; 0x4000][..]].concat();
        while stream.write_all(&record).await.is_ok() {}
    })
    .await;
    for (address, timeout, expected) in [
        (plain, LONG, "no TLS: "),
        (silent, SECOND, "it accepts the connection, but gives no full answer within 1s"),
        (endless, LONG, "no TLS: "),
    ] {
        let Kind::Http { path, host, status, body, .. } = get(None) else { panic!() };
        let kind = Kind::Http { tls: true, path, host, status, body };
        let (_, result) = found(address, kind, timeout).await;
        assert!(result.as_ref().is_err_and(|text| text.contains(expected)), "{expected} {result:?}");
        assert!(result.is_err_and(|text| text.starts_with(&format!("GET https://{address}/health: "))));
    }
}
