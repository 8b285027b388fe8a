//! gRPC's standard health check (`grpc.health.v1.Health/Check`): one request, on a connection of its own.
//!
//! A client for gRPC would be much for one call whose messages have one field each: they are written and read here, by
//! the encoding of Protocol Buffers, and HTTP/2 is the library's. The protocol: `doc/PROTOCOL-HTTP2.md` and
//! `doc/health-checking.md` of grpc/grpc.

use std::net::SocketAddr;

use ::http::{HeaderMap, Request, StatusCode, header};
use bytes::Bytes;
use h2::RecvStream;
use h2::client::{Builder, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};

use super::attempt::drive;
use crate::kubernetes::access::chain;

/// The answer has two bytes, or a few more of a later version.
const ANSWER: usize = 4 << 10;
/// For the headers of an answer.
const HEADERS: u32 = 16 << 10;
/// Before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;
/// Status codes of gRPC, which are the index.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub(super) async fn ask<S>(stream: S, scheme: &str, address: SocketAddr, service: &str) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = Builder::new();
    builder.enable_push(false).max_header_list_size(HEADERS).initial_window_size(ANSWER as u32);
    let connect = builder.handshake(stream).await;
    let (sender, connection) = connect.map_err(|error| no_answer(&error))?;
    drive(check(sender, scheme, address, service), connection).await
}

async fn check(
    sender: SendRequest<Bytes>,
    scheme: &str,
    address: SocketAddr,
    service: &str,
) -> Result<(), String> {
    let request = Request::post(format!("{scheme}://{address}/grpc.health.v1.Health/Check"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, concat!("portolan-probe/", env!("CARGO_PKG_VERSION")))
        .body(())
        .map_err(|error| format!("there is no such request: {error}"))?;
    let mut sender = sender.ready().await.map_err(|error| no_answer(&error))?;
    let (answer, mut body) = sender.send_request(request, false).map_err(|error| no_answer(&error))?;
    body.send_data(question(service), true).map_err(|error| no_answer(&error))?;
    let (head, mut body) = answer.await.map_err(|error| no_answer(&error))?.into_parts();
    if head.status != StatusCode::OK {
        return Err(format!("no gRPC: HTTP status {}", head.status.as_u16()));
    }
    // An error may come without a message: then its status is in the only headers.
    if head.headers.contains_key("grpc-status") {
        accept(&head.headers)?;
    }
    let message = read(&mut body).await?;
    let trailers = body.trailers().await.map_err(|error| no_answer(&error))?;
    accept(&trailers.unwrap_or_default())?;
    match serving_status(&message)? {
        1 => Ok(()),
        0 => Err("UNKNOWN, expected SERVING".to_owned()),
        2 => Err("NOT_SERVING, expected SERVING".to_owned()),
        3 => Err("SERVICE_UNKNOWN: the server has no service of this name".to_owned()),
        other => Err(format!("status {other}, expected SERVING")),
    }
}

async fn read(body: &mut RecvStream) -> Result<Vec<u8>, String> {
    let mut message = Vec::new();
    while let Some(bytes) = body.data().await {
        let bytes = bytes.map_err(|error| no_answer(&error))?;
        if message.len() + bytes.len() > ANSWER {
            return Err(format!("its answer is longer than {ANSWER} bytes"));
        }
        message.extend_from_slice(&bytes);
        body.flow_control().release_capacity(bytes.len()).map_err(|error| no_answer(&error))?;
    }
    Ok(message)
}

/// Whether the call itself went well.
fn accept(headers: &HeaderMap) -> Result<(), String> {
    let code = headers.get("grpc-status").ok_or("no gRPC: the answer has no grpc-status")?;
    let code = code.to_str().ok().and_then(|code| code.parse::<usize>().ok());
    match code {
        Some(0) => Ok(()),
        Some(5) => Err("NOT_FOUND: the server has no service of this name".to_owned()),
        Some(12) => Err("UNIMPLEMENTED: the server has no grpc.health.v1.Health".to_owned()),
        Some(code) => {
            Err(CODES.get(code).map_or_else(|| format!("gRPC status {code}"), |&name| name.to_owned()))
        }
        None => Err("no gRPC: grpc-status is no number".to_owned()),
    }
}

/// `HealthCheckRequest { string service = 1; }`, with its prefix. An empty field is left out.
fn question(service: &str) -> Bytes {
    let mut message = Vec::with_capacity(service.len() + 6);
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.append(&mut message);
    framed.into()
}

/// `HealthCheckResponse { ServingStatus status = 1; }`, with its prefix; other fields are skipped, and one that is
/// missing is 0.
fn serving_status(framed: &[u8]) -> Result<u64, String> {
    let broken = || "no gRPC: the message can't be read".to_owned();
    let (prefix, message) = framed.split_at_checked(PREFIX).ok_or_else(broken)?;
    if prefix[0] != 0 || (prefix[1..]) != (message.len() as u32).to_be_bytes() {
        return Err(broken());
    }
    field(message).ok_or_else(broken)
}

/// The last value of field 1, a number. `None`: this is no message.
fn field(mut message: &[u8]) -> Option<u64> {
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match key & 7 {
            0 => {
                let value = varint(&mut message)?;
                status = if key >> 3 == 1 { value } else { status };
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = varint(&mut message)?;
                message = message.get(usize::try_from(length).ok()?..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn no_answer(error: &h2::Error) -> String {
    format!("no answer by HTTP/2: {}", chain(error))
}
