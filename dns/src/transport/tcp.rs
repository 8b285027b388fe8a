//! Listeners of DNS over TCP (RFC 7766, RFC 9210) and over TLS (RFC 7858): who is let in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub(crate) use super::connections::Connections;
use super::connections::{Admitted, Place};
use super::stream::{Connection, End};
use super::{Answerer, Source};
use crate::metrics::{Shard, count};
use crate::view::Transport;

/// Wait after an accept that failed: out of file descriptors, most likely, and connections have to end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A TLS handshake has to be over by then.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// A listener for plain TCP or TLS.
#[derive(Clone)]
pub(crate) struct Acceptor {
    pub(crate) source: Arc<Source>,
    pub(crate) shard: Arc<Shard>,
    pub(crate) connections: Arc<Connections>,
    /// `None`: plain TCP.
    pub(crate) tls: Option<TlsAcceptor>,
    /// The server's end.
    pub(crate) stop: CancellationToken,
}

impl Acceptor {
    /// Serves connections until the server's end; then no new ones, and returns when the last one has ended.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, client)) => self.admit(stream, client, &mut tasks),
                    Err(error) => pause(&error).await,
                },
            }
        }
        drop(listener);
        while tasks.join_next().await.is_some() {}
    }

    fn admit(&self, stream: TcpStream, client: SocketAddr, tasks: &mut JoinSet<()>) {
        let limits = &self.source.policy().settings.tcp;
        let Some(Admitted { place, evicted }) = self.connections.admit(client.ip(), limits, Instant::now())
        else {
            count(&self.shard.rejected);
            return;
        };
        if evicted {
            count(&self.shard.evicted);
        }
        let acceptor = self.clone();
        tasks.spawn(async move {
            let _open = Open::new(&acceptor.shard);
            match acceptor.connect(stream, client, place).await {
                Ok(end) => tracing::trace!(%client, ?end, "connection ended"),
                Err(error) => tracing::trace!(%client, %error, "connection broke"),
            }
        });
    }

    async fn connect(&self, stream: TcpStream, client: SocketAddr, place: Place) -> io::Result<End> {
        // Replies leave in batches: nothing is won by waiting for more.
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else {
            let answerer = Answerer::new(&self.source, self.shard.clone(), Transport::Tcp);
            let connection = Connection::new(stream, client, self.source.clone(), answerer, place);
            return connection.serve(self.stop.clone()).await;
        };
        let handshake = tokio::select! {
            biased;
            () = place.closed() => return Ok(End::Evicted),
            () = self.stop.cancelled() => return Ok(End::Finished),
            handshake = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)) => handshake,
        };
        let stream = handshake.map_err(io::Error::from).flatten().inspect_err(|_| {
            count(&self.shard.handshake_failures);
        })?;
        let answerer = Answerer::new(&self.source, self.shard.clone(), Transport::Tls);
        Connection::new(stream, client, self.source.clone(), answerer, place).serve(self.stop.clone()).await
    }
}

/// What goes wrong with one connection before it is accepted is its own affair (accept(2)); everything else lasts.
async fn pause(error: &io::Error) {
    if error.kind() != io::ErrorKind::ConnectionAborted {
        tracing::warn!(%error, "accepting a connection failed, trying again");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Counts a connection while it is open.
struct Open<'a>(&'a Shard);

impl<'a> Open<'a> {
    fn new(shard: &'a Shard) -> Self {
        count(&shard.connections);
        Self(shard)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
