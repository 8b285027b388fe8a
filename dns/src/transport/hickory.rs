//! DNS over HTTPS (RFC 8484) and over QUIC (RFC 9250), carried by hickory-server.
//!
//! hickory-server reads and writes messages, not octets: our reply is decoded with hickory-proto, and hickory-server
//! encodes it again. Header flags, the response code with its EDNS bits, the question's case and all our EDNS options
//! survive that; it adds no OPT of its own. Names are compressed otherwise, so padding is made to fit again
//! (RFC 8467 §4.1). What is different from our own transports:
//! - A query that hickory-proto can't decode is answered FORMERR there, without EDNS, and is not counted here.
//! - HTTPS knows POST only, and wants the `accept` header: a GET (RFC 8484 §4.1) ends in a stream reset.
//! - QUIC answers the queries of one connection one after another, and 100 of them at most; connections are
//!   accepted one after another, too.
//! - Neither has a limit of connections; the idle timeout is the one of TCP at the time of the start.
//! - It logs each reply at level INFO and each client that leaves as a warning. The daemon turns its log off, unless a
//!   level for `hickory_server` is configured.
//! - Its end cuts connections off.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hickory_proto::op::{Edns, Header, HeaderCounts, Message, Metadata, ResponseCode};
use hickory_proto::rr::Record;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::serialize::binary::BinEncoder;
use hickory_server::net::NetError;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder};
use tokio_util::sync::CancellationToken;

use super::{Answerer, Outcome, Source};
use crate::metrics::Shard;
use crate::tls::Certificate;
use crate::view::Transport;

/// Replies are padded to a multiple of this (RFC 8467 §4.1).
const PADDING_BLOCK: usize = 468;
/// Wait before a listener that ended by itself is started again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// A bound socket of an encrypted transport.
pub(crate) enum Encrypted {
    /// DNS over HTTPS, with the path that is served.
    Https(std::net::TcpListener, String),
    /// DNS over QUIC.
    Quic(std::net::UdpSocket),
}

/// Serves until the server's end. hickory-server gives a listener up after certain errors: then it is started again.
pub(crate) async fn serve(
    socket: Encrypted,
    source: Arc<Source>,
    shard: Arc<Shard>,
    certificate: Arc<Certificate>,
    stop: CancellationToken,
) {
    let transport = match socket {
        Encrypted::Https(..) => Transport::Https,
        Encrypted::Quic(_) => Transport::Quic,
    };
    let answerer = Arc::new(Mutex::new(Answerer::new(&source, shard, transport)));
    loop {
        let handler = Handler { source: source.clone(), answerer: answerer.clone() };
        let mut server = hickory_server::Server::new(handler);
        let idle_timeout = source.policy().settings.tcp.idle_timeout;
        if let Err(error) = register(&mut server, &socket, idle_timeout, &certificate) {
            tracing::error!(%error, transport = transport.label(), "a listener can't be started");
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                if let Err(error) = server.shutdown_gracefully().await {
                    tracing::debug!(%error, transport = transport.label(), "a listener ended with an error");
                }
                return;
            }
            ended = server.block_until_done() => {
                tracing::error!(?ended, transport = transport.label(), "a listener ended by itself: starting it again");
                tokio::time::sleep(RESTART_PAUSE).await;
            }
        }
    }
}

fn register(
    server: &mut hickory_server::Server<Handler>,
    socket: &Encrypted,
    idle_timeout: Duration,
    certificate: &Arc<Certificate>,
) -> std::io::Result<()> {
    match socket {
        Encrypted::Https(listener, path) => {
            let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
            server.register_https_listener(listener, idle_timeout, certificate.clone(), None, path.clone())
        }
        Encrypted::Quic(socket) => {
            let socket = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
            server.register_quic_listener(socket, idle_timeout, certificate.clone())
        }
    }
}

type Records<'a> = std::slice::Iter<'a, Record>;

/// Answers hickory-server's requests from their octets.
struct Handler {
    source: Arc<Source>,
    answerer: Arc<Mutex<Answerer>>,
}

impl Handler {
    /// Our reply; `Ok(None)` if there is none to be sent.
    fn answer(&self, query: &[u8], client: SocketAddr) -> Result<Option<Message>, hickory_proto::ProtoError> {
        let (snapshot, policy) = (self.source.snapshot(), self.source.policy());
        let mut answerer = self.answerer.lock().unwrap_or_else(PoisonError::into_inner);
        match answerer.answer((&snapshot, &policy), query, client, &mut Instant::now()) {
            Outcome::Reply => Ok(Some(Message::from_vec(answerer.reply())?)),
            Outcome::Nothing | Outcome::Transfer(_) => Ok(None),
        }
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let sent = match self.answer(request.as_slice(), request.src()) {
            Ok(Some(reply)) => send(&mut response, request, &reply).await,
            Ok(None) => Ok(nothing_sent(request)),
            Err(error) => {
                tracing::error!(%error, "a reply of ours can't be decoded");
                let failed = MessageResponseBuilder::from_message_request(request);
                response.send_response(failed.error_msg(&request.metadata, ResponseCode::ServFail)).await
            }
        };
        sent.unwrap_or_else(|error| {
            tracing::trace!(%error, "reply lost");
            nothing_sent(request)
        })
    }
}

async fn send(
    response: &mut impl ResponseHandler,
    request: &Request,
    reply: &Message,
) -> Result<ResponseInfo, NetError> {
    let edns = padded(request, reply)?;
    response.send_response(message(request, reply, edns.as_ref())).await
}

/// The reply as hickory-server encodes it, with the question as it came.
fn message<'a>(
    request: &'a Request,
    reply: &'a Message,
    edns: Option<&'a Edns>,
) -> MessageResponse<'a, 'a, Records<'a>, Records<'a>, Records<'a>, Records<'a>> {
    let Message { answers, authorities, additionals, .. } = reply;
    let builder = MessageResponseBuilder::new(&request.queries, edns);
    builder.build(reply.metadata, answers, authorities, &[], additionals)
}

/// hickory-server wants to know what was sent, and doesn't use it.
fn nothing_sent(request: &Request) -> ResponseInfo {
    let metadata = Metadata::response_from_request(&request.metadata);
    Header { metadata, counts: HeaderCounts::default() }.into()
}

/// The reply's EDNS; its padding is what the new encoding needs.
fn padded(request: &Request, reply: &Message) -> Result<Option<Edns>, hickory_proto::ProtoError> {
    let Some(mut edns) = reply.edns.clone() else {
        return Ok(None);
    };
    if edns.option(EdnsCode::Padding).is_some() {
        set_padding(&mut edns, 0);
        let mut octets = Vec::new();
        message(request, reply, Some(&edns)).destructive_emit(&mut BinEncoder::new(&mut octets))?;
        let whole = octets.len().next_multiple_of(PADDING_BLOCK).min(u16::MAX.into());
        set_padding(&mut edns, whole.saturating_sub(octets.len()));
    }
    Ok(Some(edns))
}

fn set_padding(edns: &mut Edns, len: usize) {
    edns.options_mut().remove(EdnsCode::Padding);
    edns.options_mut().insert(EdnsOption::Unknown(EdnsCode::Padding.into(), vec![0; len]));
}
