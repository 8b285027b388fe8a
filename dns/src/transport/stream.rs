//! DNS over a stream of octets (RFC 7766): the same for TCP and TLS.
//!
//! A connection goes round in turns: answer what has been read, write the replies at once, read. Reading waits while
//! replies are being written, so a client that doesn't read its replies can't make us hold more than one batch of
//! them, and has [`WRITE_TIMEOUT`] to take each batch. While it takes nothing the connection is idle: clients that don't
//! read must not keep others from their places. Zone transfers give one message to each batch: other queries of the
//! connection are answered in between, out of order (RFC 7766 §6.2.1.1).
//!
//! What ends a connection: the client closes its side (what it asked before is still answered), no query for the idle
//! timeout (octets of an unfinished query don't count), a message too short for a header, a batch not taken in
//! time, the need of its place for another one, or the server's end (what has come in by then is still answered).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::connections::Place;
use super::{Answerer, Outcome, Policy, Source};
use crate::transfer::Transfer;

/// The length in front of each message (RFC 1035 §4.2.2).
const PREFIX: usize = 2;
/// What is shorter is no message.
const HEADER: usize = 12;
/// No further reply is put into a batch that has this many octets. With one message more it is the bound on what waits.
const BATCH: usize = 32 * 1024;
/// A read makes room for this many octets, or for the message that has begun.
const READ: usize = 4 * 1024;
/// Buffers that grew above this are given back when they are empty.
const KEEP: usize = 16 * 1024;
/// A client has this long to take a batch of replies.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Zone transfers of one connection at a time; further queries wait. Fewer than the server has at a time, so that
/// one client doesn't keep all others from theirs.
const MAX_TRANSFERS: usize = 2;

/// One connection.
pub(crate) struct Connection<S> {
    stream: S,
    client: SocketAddr,
    source: Arc<Source>,
    answerer: Answerer,
    place: Place,
    input: BytesMut,
    output: BytesMut,
    transfers: VecDeque<Box<Transfer>>,
    /// When the last reply was written, or the connection made.
    last_reply: Instant,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By the client, the idle timeout or the server's end.
    Finished,
    /// What was sent is not DNS.
    Garbage,
    /// Replies were not taken in time.
    SlowReader,
    /// Another connection needed the place.
    Evicted,
}

/// What reading brought.
enum Read {
    Some,
    /// Nothing is there to be read now.
    Nothing,
    /// No more will come, or be read.
    End,
    /// Another connection needs the place.
    Evicted,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(
        stream: S,
        client: SocketAddr,
        source: Arc<Source>,
        answerer: Answerer,
        place: Place,
    ) -> Self {
        let (input, output) = (BytesMut::new(), BytesMut::new());
        let (transfers, last_reply) = (VecDeque::new(), Instant::now());
        Self { stream, client, source, answerer, place, input, output, transfers, last_reply }
    }

    /// Serves the connection to its end. `stop` is the server's end.
    pub(crate) async fn serve(mut self, stop: CancellationToken) -> io::Result<End> {
        let mut ended = false;
        loop {
            let policy = self.source.policy();
            if self.answer(&policy).is_none() {
                return Ok(End::Garbage);
            }
            if !self.output.is_empty()
                && let Some(end) = self.write().await?
            {
                return Ok(end);
            }
            let waiting = !self.transfers.is_empty() || self.message().is_some();
            let read = match (waiting, ended) {
                (false, true) => break,
                (false, false) => self.read(policy.settings.tcp.idle_timeout, &stop).await?,
                (true, false) if self.input.len() < BATCH => self.read_ready().await?,
                (true, _) => Read::Nothing,
            };
            match read {
                Read::Some | Read::Nothing if ended || !stop.is_cancelled() => {}
                Read::Some | Read::Nothing => {
                    self.read_last().await?;
                    ended = true;
                }
                Read::End => ended = true,
                Read::Evicted => return Ok(End::Evicted),
            }
        }
        let end = taken(&self.place, self.stream.shutdown()).await?;
        Ok(end.unwrap_or(End::Finished))
    }

    /// Answers what has been read into one batch, and adds a message of the next transfer; `None` if a message
    /// can't be DNS.
    fn answer(&mut self, policy: &Policy) -> Option<()> {
        if self.message().is_some() {
            self.place.busy();
            // Loaded anew for each batch, and not kept.
            let snapshot = self.source.snapshot();
            let mut now = Instant::now();
            for _ in 0..policy.settings.tcp.max_pipelined {
                let full = self.output.len() >= BATCH || self.transfers.len() >= MAX_TRANSFERS;
                let Some(len) = self.message().filter(|_| !full) else { break };
                if len < HEADER {
                    return None;
                }
                let query = &self.input[PREFIX..PREFIX + len];
                match self.answerer.answer((&snapshot, policy), query, self.client, &mut now) {
                    Outcome::Reply => push(&mut self.output, self.answerer.reply()),
                    Outcome::Nothing => {}
                    Outcome::Transfer(transfer) => self.transfers.push_back(transfer),
                }
                self.input.advance(PREFIX + len);
            }
        }
        if let Some(mut transfer) = self.transfers.pop_front()
            && self.answerer.next_message(&mut transfer)
        {
            push(&mut self.output, self.answerer.reply());
            self.transfers.push_back(transfer);
        }
        Some(())
    }

    /// Length of the first message of the input, once it is there as a whole, or too short to be one.
    fn message(&self) -> Option<usize> {
        let prefix: &[u8; PREFIX] = self.input.first_chunk()?;
        let len = usize::from(u16::from_be_bytes(*prefix));
        (len < HEADER || self.input.len() >= PREFIX + len).then_some(len)
    }

    /// Writes the batch, with one call if the client's window allows; why the connection ends if the client doesn't take
    /// it.
    async fn write(&mut self) -> io::Result<Option<End>> {
        let Self { stream, output, place, .. } = self;
        let written = async {
            stream.write_all(output).await?;
            stream.flush().await
        };
        let end = taken(place, written).await?;
        if end.is_none() {
            output.clear();
            if output.capacity() > KEEP {
                *output = BytesMut::new();
            }
            self.last_reply = Instant::now();
        }
        Ok(end)
    }

    /// Waits for a message, until the idle timeout since the last reply is over.
    async fn read(&mut self, idle_timeout: Duration, stop: &CancellationToken) -> io::Result<Read> {
        self.place.idle(self.last_reply);
        let deadline = (self.last_reply + idle_timeout).into();
        loop {
            self.reserve();
            tokio::select! {
                biased;
                () = self.place.closed() => return Ok(Read::Evicted),
                () = stop.cancelled() => return Ok(Read::Nothing),
                read = timeout_at(deadline, self.stream.read_buf(&mut self.input)) => match read {
                    Ok(Ok(0)) | Err(_) => return Ok(Read::End),
                    Ok(Ok(_)) if self.message().is_some() => return Ok(Read::Some),
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => return Err(error),
                },
            }
        }
    }

    /// Reads what the client sent before it could know of the server's end: one batch of it at most.
    async fn read_last(&mut self) -> io::Result<()> {
        // Lets the runtime see what has arrived.
        tokio::task::yield_now().await;
        while self.input.len() < BATCH && matches!(self.read_ready().await?, Read::Some) {}
        Ok(())
    }

    /// Reads what is there already.
    async fn read_ready(&mut self) -> io::Result<Read> {
        self.reserve();
        tokio::select! {
            biased;
            read = self.stream.read_buf(&mut self.input) => Ok(if read? == 0 { Read::End } else { Read::Some }),
            () = std::future::ready(()) => Ok(Read::Nothing),
        }
    }

    /// Makes room to read into: some, or all that the message that has begun will need.
    fn reserve(&mut self) {
        if self.input.is_empty() && self.input.capacity() > KEEP {
            self.input = BytesMut::new();
        }
        let missing = match self.input.first_chunk() {
            Some(prefix) => PREFIX + usize::from(u16::from_be_bytes(*prefix)),
            None => 0,
        };
        self.input.reserve(missing.saturating_sub(self.input.len()).max(READ));
    }
}

/// Writes what the client has to take. From when it takes nothing on, the connection is idle until all is taken; why it ends
/// if that is not in time, or if another one needs the place.
async fn taken(place: &Place, written: impl Future<Output = io::Result<()>>) -> io::Result<Option<End>> {
    let mut written = pin!(written);
    tokio::select! {
        biased;
        result = &mut written => return result.map(|()| None),
        () = std::future::ready(()) => {}
    }
    place.idle(Instant::now());
    let result = tokio::select! {
        biased;
        () = place.closed() => return Ok(Some(End::Evicted)),
        result = timeout(WRITE_TIMEOUT, written) => result,
    };
    place.busy();
    match result {
        Ok(result) => result.map(|()| None),
        Err(_) => Ok(Some(End::SlowReader)),
    }
}

/// Appends a message with its length. Replies on streams have 65,535 octets at most.
fn push(output: &mut BytesMut, message: &[u8]) {
    output.reserve(PREFIX + message.len());
    output.extend_from_slice(&(message.len() as u16).to_be_bytes());
    output.extend_from_slice(message);
}
