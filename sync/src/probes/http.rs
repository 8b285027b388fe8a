//! A GET by HTTP/1.1, and what is expected of the answer.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;

use ::http::uri::{Authority, PathAndQuery};
use ::http::{Request, header};
use bytes::Bytes;
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use memchr::memmem::Finder;
use tokio::io::{AsyncRead, AsyncWrite};

use super::attempt::drive;
use crate::kubernetes::access::chain;

/// How much of a body is looked at.
const BODY: usize = 64 << 10;
/// For the head of an answer, and for what is read of its body at once.
const BUFFER: usize = 16 << 10;
const USER_AGENT: &str = concat!("portolan-probe/", env!("CARGO_PKG_VERSION"));

/// What makes an answer a good one.
#[derive(Clone, Copy)]
pub(super) struct Expected<'a> {
    pub(super) status: &'a RangeInclusive<u16>,
    pub(super) body: Option<&'a str>,
}

pub(super) fn request(
    address: SocketAddr,
    path: &PathAndQuery,
    host: Option<&Authority>,
) -> Result<Request<String>, String> {
    let host = host.map_or_else(|| address.to_string(), Authority::to_string);
    // Written out, for a path may have been told without the slash.
    Request::get(path.to_string())
        .header(header::HOST, host)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(String::new())
        .map_err(|error| format!("there is no such request: {error}"))
}

pub(super) async fn ask<S>(stream: S, request: Request<String>, expected: Expected<'_>) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connect = http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connect.map_err(|error| no_answer(&error))?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| no_answer(&error))?;
        let status = answer.status().as_u16();
        if !expected.status.contains(&status) {
            let (least, most) = expected.status.clone().into_inner();
            return Err(format!("status {status}, expected {least}-{most}"));
        }
        match expected.body {
            Some(text) => find(text, answer.into_body()).await,
            None => Ok(()),
        }
    };
    drive(exchange, connection).await
}

/// Looks for a text in what comes of a body, and keeps no more of it than the text is long.
async fn find(text: &str, mut body: Incoming) -> Result<(), String> {
    let finder = Finder::new(text);
    let mut seen: Vec<u8> = Vec::new();
    let mut left = BODY;
    loop {
        let next =
            next(&mut body).await.map_err(|error| format!("its answer breaks off: {}", chain(&error)))?;
        let Some(mut bytes) = next else {
            return Err(format!("its answer does not contain {text:?}"));
        };
        bytes.truncate(left);
        left -= bytes.len();
        seen.extend_from_slice(&bytes);
        if finder.find(&seen).is_some() {
            return Ok(());
        }
        if left == 0 {
            return Err(format!("the first {} KiB of its answer do not contain {text:?}", BODY >> 10));
        }
        // What the text may have begun with.
        let done = seen.len().saturating_sub(text.len().saturating_sub(1));
        seen.drain(..done);
    }
}

/// `None`: it is over.
async fn next(body: &mut Incoming) -> Result<Option<Bytes>, hyper::Error> {
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        if let Ok(bytes) = frame?.into_data() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

fn no_answer(error: &hyper::Error) -> String {
    format!("no answer by HTTP: {}", chain(error))
}
