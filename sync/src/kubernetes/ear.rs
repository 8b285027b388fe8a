//! What one watch hears on the wire, which kube's watcher keeps to itself: that its request was accepted, that bookmarks
//! come, that nothing does.
//!
//! The watcher is given a client around the cluster's. Ending the answer under way makes it take up its watch where it
//! was, by a new request: so a connection that may be dead costs one request, and a list of everything only where a list
//! was under way.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use kube::Client;
use kube::client::Body;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tower::{BoxError, service_fn};

/// How long an answer may take to begin.
const HEAD: Duration = Duration::from_secs(70);
/// Between two watches that were accepted: a server that ends each at once is not to be asked as fast as it can answer.
const PACE: Duration = Duration::from_secs(1);

/// Signs of life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signs {
    /// When the last came.
    pub(crate) alive_at: Instant,
    /// When a watch was last asked for, which is no sign of life, and deserves some time to be answered.
    pub(crate) asked_at: Instant,
    /// Counts what speaks for a watch: that it was accepted, and each piece of what it says.
    pub(crate) evidence: u64,
    /// Watches that were accepted since anything was last said, in any answer.
    pub(crate) mute: u32,
    /// When the last watch was accepted.
    accepted_at: Option<Instant>,
}

/// Listens to one watch.
#[derive(Debug)]
pub(crate) struct Ear {
    signs: watch::Sender<Signs>,
    /// Ends the request under way.
    end: Mutex<CancellationToken>,
}

impl Ear {
    /// An ear, and the client that it listens to.
    pub(crate) fn on(client: Client) -> (Arc<Self>, Client) {
        let now = Instant::now();
        let signs = Signs { alive_at: now, asked_at: now, evidence: 0, mute: 0, accepted_at: None };
        let ear = Arc::new(Self { signs: watch::channel(signs).0, end: Mutex::default() });
        let (listening, namespace) = (ear.clone(), client.default_namespace().to_owned());
        let service = service_fn(move |request| {
            let (ear, client) = (listening.clone(), client.clone());
            async move { ear.ask(&client, request).await }
        });
        (ear, Client::new(service, namespace))
    }

    pub(crate) fn signs(&self) -> watch::Receiver<Signs> {
        self.signs.subscribe()
    }

    /// Ends the answer under way, if there is one.
    pub(crate) fn cut(&self) {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).cancel();
    }

    async fn ask(
        self: Arc<Self>,
        client: &Client,
        request: Request<Body>,
    ) -> Result<Response<Overheard>, BoxError> {
        let watches = is_watch(&request);
        let accepted_at = self.signs.borrow().accepted_at;
        if let (true, Some(at)) = (watches, accepted_at) {
            sleep_until(at + PACE).await;
        }
        if watches {
            self.signs.send_if_modified(|signs| {
                signs.asked_at = Instant::now();
                false
            });
        }
        let end = CancellationToken::new();
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = end.clone();
        let response = tokio::select! {
            answer = timeout(HEAD, client.send(request)) => match answer {
                Ok(answer) => answer?,
                Err(_) => return Err(format!("the server gives no answer in {} s", HEAD.as_secs()).into()),
            },
            () = end.cancelled() => return Err(given_up().into()),
        };
        let accepted = watches && response.status().is_success();
        self.signs.send_modify(|signs| {
            signs.alive_at = Instant::now();
            signs.evidence += u64::from(accepted);
            signs.mute += u32::from(accepted);
            signs.accepted_at = accepted.then_some(signs.alive_at).or(signs.accepted_at);
        });
        Ok(response.map(|body| Overheard {
            body,
            accepted,
            ear: self,
            ended: Box::pin(end.cancelled_owned()),
        }))
    }
}

/// Whether the answer is a stream of events.
pub(crate) fn is_watch<B>(request: &Request<B>) -> bool {
    request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"))
}

/// kube takes this for the end of a watch, not for a failure.
fn given_up() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the connection gave no sign of life and was given up")
}

/// The body of an answer: each piece of it is a sign of life.
pub(crate) struct Overheard {
    body: Body,
    /// Whether it is a watch that was accepted.
    accepted: bool,
    ear: Arc<Ear>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl http_body::Body for Overheard {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            if matches!(frame, Some(Ok(_))) {
                let accepted = self.accepted;
                self.ear.signs.send_modify(|signs| {
                    (signs.alive_at, signs.mute) = (Instant::now(), 0);
                    signs.evidence += u64::from(accepted);
                });
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        self.ended.as_mut().poll(context).map(|()| Some(Err(given_up().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
