//! One probe, from the connection to its end.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::bounded::Bounded;
use super::http::Expected;
use super::tls::Tls;
use super::verdict::{Outcome, Trouble};
use super::{Kind, Probe, Target, grpc, http};
use crate::kubernetes::access::plain;

/// Longer timeouts are this one.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// What all probes share.
pub(super) struct Attempts {
    http: Tls,
    grpc: Tls,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self { http: Tls::new(b"http/1.1"), grpc: Tls::new(b"h2") }
    }

    pub(super) async fn attempt(&self, target: &Target) -> Outcome {
        let timeout = target.probe.timeout.min(LONGEST);
        let begun = Instant::now();
        let deadline = begun + timeout;
        let connected = timeout_at(deadline, connect(target.address)).await;
        let took = begun.elapsed();
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Outcome { rtt: None, result: Err(no_connection(target, &error)) },
            Err(_) => return Outcome { rtt: None, result: Err(late(target, deadline, "no connection")) },
        };
        let result = match timeout_at(deadline, self.ask(target, stream)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(text)) => Err(Trouble::Theirs(plain(&format!("{}: {text}", What(target))))),
            Err(_) => Err(late(target, deadline, "it accepts the connection, but gives no full answer")),
        };
        // If it took longer than it may, this machine did not look in time.
        Outcome { rtt: (took <= timeout).then_some(took), result }
    }

    async fn ask(&self, target: &Target, stream: TcpStream) -> Result<(), String> {
        let stream = Bounded::new(stream);
        let address = target.address;
        // Boxed, so that a probe by TCP does not pay for the room that others need.
        match &target.probe.kind {
            Kind::Tcp => Ok(()),
            Kind::Http { tls, path, host, status, body } => {
                let request = http::request(address, path, host.as_ref())?;
                let expected = Expected { status, body: body.as_deref() };
                if *tls {
                    let stream = Box::pin(self.http.wrap(stream, address, host.as_ref())).await?;
                    Box::pin(http::ask(stream, request, expected)).await
                } else {
                    Box::pin(http::ask(stream, request, expected)).await
                }
            }
            Kind::Grpc { tls: false, service } => Box::pin(grpc::ask(stream, "http", address, service)).await,
            Kind::Grpc { tls: true, service } => {
                let stream = Box::pin(self.grpc.wrap(stream, address, None)).await?;
                Box::pin(grpc::ask(stream, "https", address, service)).await
            }
        }
    }
}

/// Drives a connection for as long as an exchange on it takes. It has no task of its own, which could stay behind.
pub(super) async fn drive<T>(exchange: impl Future<Output = T>, connection: impl Future) -> T {
    match select(pin!(exchange), pin!(connection)).await {
        Either::Left((end, _)) => end,
        // What came before it closed may be all there is to come.
        Either::Right((_, exchange)) => exchange.await,
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // A port of our own that nobody listens on may have been given to this very connection, which then meets itself.
    if stream.local_addr()? == address {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    // The end is a reset, as of HAProxy's checks: sockets of thousands of probes must not wait in TIME_WAIT for a minute.
    stream.set_zero_linger()?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// It did not end in time; or it did, and this machine slept, or had no time to look.
fn late(target: &Target, deadline: Instant, problem: &str) -> Trouble {
    let timeout = target.probe.timeout;
    if deadline.elapsed() > timeout.min(LONGEST) / 2 {
        return Trouble::Ours(format!("{}: not judged, for this machine was too busy to look", What(target)));
    }
    Trouble::Theirs(format!("{}: {problem} within {timeout:?}", What(target)))
}

fn no_connection(target: &Target, error: &io::Error) -> Trouble {
    // ENFILE, EMFILE and Linux's ENOBUFS have no kind in std.
    let ours =
        matches!(error.raw_os_error(), Some(23 | 24 | 105)) || error.kind() == io::ErrorKind::OutOfMemory;
    if ours {
        return Trouble::Ours(format!(
            "{}: not judged, for this machine can't connect: {error}",
            What(target)
        ));
    }
    Trouble::Theirs(format!("{}: {}", What(target), error.kind()))
}

/// A target, for people.
struct What<'a>(&'a Target);

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Target { address, probe } = self.0;
        let Probe { kind, .. } = &**probe;
        match kind {
            Kind::Tcp => write!(f, "TCP {address}"),
            Kind::Http { tls, path, host, .. } => {
                write!(f, "GET {}://{address}{path}", if *tls { "https" } else { "http" })?;
                host.as_ref().map_or(Ok(()), |host| write!(f, " (host {host})"))
            }
            Kind::Grpc { service, .. } if service.is_empty() => write!(f, "gRPC health of {address}"),
            Kind::Grpc { service, .. } => write!(f, "gRPC health of {service:?} at {address}"),
        }
    }
}
