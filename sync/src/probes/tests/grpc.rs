//! Probes by gRPC's health check (`doc/health-checking.md` of grpc/grpc).

use ::http::{HeaderMap, Request, Response};
use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::*;

fn check(service: &str) -> Kind {
    Kind::Grpc { tls: false, service: service.to_owned() }
}

/// What the health service answers for each name that the tests ask for.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond));
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let headers = request.headers();
    assert_eq!(
        (headers["content-type"].as_bytes(), headers["te"].as_bytes()),
        (&b"application/grpc"[..], &b"trailers"[..])
    );
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/grpc.health.v1.Health/Check"));
    let mut body = request.into_body();
    let mut question = Vec::new();
    while let Some(bytes) = body.data().await {
        question.extend_from_slice(&bytes.unwrap());
    }
    let (prefix, message) = question.split_at(5);
    assert_eq!(prefix, [0, 0, 0, 0, u8::try_from(message.len()).unwrap()]);
    let service = if message.is_empty() { "" } else { std::str::from_utf8(&message[2..]).unwrap() };
    assert!(message.is_empty() || message[..2] == [0x0a, u8::try_from(service.len()).unwrap()]);
    let head = Response::builder().header("content-type", "application/grpc");
    let message: &[u8] = match service {
        // Trailers only, as servers answer for a service that they don't have.
        "missing" => {
            let head = head.header("grpc-status", "5").body(()).unwrap();
            respond.send_response(head, true).unwrap();
            return;
        }
        "nothing" => {
            let head = Response::builder().status(404).body(()).unwrap();
            respond.send_response(head, true).unwrap();
            return;
        }
        "" | "web" | "late-error" => &[0, 0, 0, 0, 2, 8, 1],
        "newer" => &[0, 0, 0, 0, 9, 0x12, 2, 9, 9, 8, 1, 0x1d, 0, 0],
        "newest" => &[0, 0, 0, 0, 11, 0x12, 2, 9, 9, 8, 1, 0x1d, 0, 0, 0, 0],
        "down" => &[0, 0, 0, 0, 2, 8, 2],
        "unknown" => &[0, 0, 0, 0, 0],
        "gone" => &[0, 0, 0, 0, 2, 8, 3],
        "compressed" => &[1, 0, 0, 0, 2, 8, 1],
        "short" => &[0, 0, 0, 0, 9, 8, 1],
        "long" => &[0; 5000],
        other => panic!("{other}"),
    };
    let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
    stream.send_data(Bytes::copy_from_slice(message), false).unwrap();
    let mut trailers = HeaderMap::new();
    let code = if service == "late-error" { "14" } else { "0" };
    trailers.insert("grpc-status", code.parse().unwrap());
    // Who knows enough by now may be gone.
    let _ = stream.send_trailers(trailers);
}

#[tokio::test]
async fn only_serving_is_healthy() {
    let address = server(serve).await;
    let cases = [
        ("", Ok(())),
        ("web", Ok(())),
        ("newest", Ok(())),
        ("newer", Err("the message can't be read")),
        ("down", Err("NOT_SERVING, expected SERVING")),
        ("unknown", Err("UNKNOWN, expected SERVING")),
        ("gone", Err("SERVICE_UNKNOWN: the server has no service of this name")),
        ("missing", Err("NOT_FOUND: the server has no service of this name")),
        ("nothing", Err("no gRPC: HTTP status 404")),
        ("late-error", Err("UNAVAILABLE")),
        ("compressed", Err("the message can't be read")),
        ("short", Err("the message can't be read")),
        ("long", Err("longer than 4096 bytes")),
    ];
    for (service, expected) in cases {
        let (rtt, result) = found(address, check(service), LONG).await;
        assert!(rtt.is_some());
        match (expected, &result) {
            (Ok(()), Ok(())) => {}
            (Err(expected), Err(text)) => {
                let named = text.starts_with(&format!("gRPC health of {service:?} at {address}: "));
                assert!(named && text.contains(expected), "{service}: {text}");
            }
            _ => panic!("{service}: {result:?}"),
        }
    }
}

/// With a certificate that nobody vouches for.
#[tokio::test]
async fn it_goes_through_tls() {
    let acceptor = super::http::acceptor(&["h2"]);
    let address = server(move |stream| {
        let acceptor = acceptor.clone();
        async move { serve(acceptor.accept(stream).await.unwrap()).await }
    })
    .await;
    let kind = |service: &str| Kind::Grpc { tls: true, service: service.to_owned() };
    assert_eq!(found(address, kind("web"), LONG).await.1, Ok(()));
    let (_, result) = found(address, kind("down"), LONG).await;
    assert!(result.is_err_and(|text| text.contains("NOT_SERVING")));
}

/// What is no gRPC at all: another protocol, nothing, and frames or headers without end.
#[tokio::test]
async fn what_is_no_grpc_is_an_error() {
    let other = server(|mut stream| async move {
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let silent = silent().await;
    let closes = server(|stream| async { drop(stream) }).await;
    // SETTINGS without a field, then PING without end, each with its acknowledgement bit so that nobody answers.
    let endless = server(|mut stream| async move {
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let pings = [0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].repeat(100);
        while stream.write_all(&pings).await.is_ok() {}
    })
    .await;
    for (address, timeout, expected) in [
        (other, LONG, "no answer by HTTP/2: "),
        (silent, SECOND, "gives no full answer within 1s"),
        (closes, LONG, "no answer by HTTP/2: "),
        (endless, LONG, "it sends more than 256 KiB"),
    ] {
        let (_, result) = found(address, check(""), timeout).await;
        let named = format!("gRPC health of {address}: ");
        let is_expected = |text: &String| text.starts_with(&named) && text.contains(expected);
        assert!(result.as_ref().is_err_and(is_expected), "{expected} {result:?}");
    }
}
