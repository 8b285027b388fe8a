//! Bounds on what an API server may send: of a broken or hostile one, no answer is taken in that would fill our memory.
//!
//! kube collects whole bodies, and whole lines of watches, however long they are.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use kube::Client;
use kube::client::Body;
use tokio::sync::watch;
use tower::{BoxError, service_fn};

use super::ear::is_watch;

const MIB: usize = 1 << 20;
/// An answer that comes as a whole. Pages have 100 objects, and few of these are over 500 KiB.
const BODY: usize = 64 * MIB;
/// One event of a watch. Objects in etcd are up to 1.5 MiB.
const LINE: usize = 4 * MIB;

/// A client that takes no more than so much. `bearer` is the header of each request, if it has one that changes.
pub(crate) fn bounded(client: Client, bearer: Option<watch::Receiver<HeaderValue>>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = service_fn(move |mut request: Request<Body>| {
        let (client, is_watch) = (client.clone(), is_watch(&request));
        if let Some(bearer) = &bearer {
            request.headers_mut().insert(AUTHORIZATION, bearer.borrow().clone());
        }
        async move {
            let response: Response<Body> = client.send(request).await?;
            // kube collects the whole of an error.
            let is_watch = is_watch && response.status().is_success();
            Ok::<_, BoxError>(response.map(|body| Bounded { body, is_watch, taken: 0 }))
        }
    });
    Client::new(service, namespace)
}

/// A server sends too much.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum TooMuch {
    #[error("the server sends an answer of more than {} MiB, which is not taken in", BODY / MIB)]
    Body,
    #[error("the server sends an event of more than {} MiB, which is not taken in", LINE / MIB)]
    Line,
}

struct Bounded {
    body: Body,
    is_watch: bool,
    /// Bytes of the body, or of its last line.
    taken: usize,
}

impl Bounded {
    fn take(&mut self, piece: &[u8]) -> Result<(), TooMuch> {
        if !self.is_watch {
            self.taken = self.taken.saturating_add(piece.len());
            return if self.taken > BODY { Err(TooMuch::Body) } else { Ok(()) };
        }
        let mut lines = piece.split(|byte| *byte == b'\n');
        self.taken += lines.next().map_or(0, <[u8]>::len);
        for line in lines {
            if self.taken > LINE {
                return Err(TooMuch::Line);
            }
            self.taken = line.len();
        }
        if self.taken > LINE { Err(TooMuch::Line) } else { Ok(()) }
    }
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(context).map(|frame| {
            Some(match frame? {
                Ok(frame) => match frame.data_ref().map_or(Ok(()), |piece| self.take(piece)) {
                    Ok(()) => Ok(frame),
                    Err(error) => Err(error.into()),
                },
                Err(error) => Err(error.into()),
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces, whether they are of a watch → whether that is too much.
    #[test]
    fn bodies_and_lines_are_bounded_however_they_are_cut() {
        let line = |length: usize| [vec![b'x'; length - 1], vec![b'\n']].concat();
        let cases = [
            (vec![line(BODY)], false, Ok(())),
            (vec![line(BODY), line(1)], false, Err(TooMuch::Body)),
            (vec![line(LINE); 20], true, Ok(())),
            (vec![vec![b'x'; LINE / 2 + 1], vec![b'x'; LINE / 2]], true, Err(TooMuch::Line)),
            (vec![vec![b'x'; LINE / 2 + 1], line(LINE / 2), line(LINE)], true, Ok(())),
            (vec![[line(1), vec![b'x'; LINE + 1], line(1)].concat()], true, Err(TooMuch::Line)),
        ];
        for (number, (pieces, is_watch, expected)) in cases.into_iter().enumerate() {
            let mut bounded = Bounded { body: Body::empty(), is_watch, taken: 0 };
            let result = pieces.iter().try_for_each(|piece| bounded.take(piece));
            assert_eq!(result, expected, "case {number}");
        }
    }

    /// A watch that is refused is answered by a text as a whole, which may have any number of lines.
    #[tokio::test]
    async fn the_error_that_answers_a_watch_is_bounded_as_a_whole() {
        for (code, fits) in [(200, true), (500, false)] {
            let server = service_fn(move |_: Request<Body>| async move {
                let lines = Body::from(vec![b'\n'; BODY + 1]);
                Ok::<_, BoxError>(Response::builder().status(code).body(lines)?)
            });
            let client = bounded(Client::new(server, "default"), None);
            let request = Request::get("/api/v1/nodes?watch=true").body(Body::empty()).unwrap();
            let mut body = client.send(request).await.unwrap().into_body();
            let mut fitted = true;
            while let Some(frame) =
                std::future::poll_fn(|context| http_body::Body::poll_frame(Pin::new(&mut body), context))
                    .await
            {
                fitted &= frame.is_ok();
            }
            assert_eq!(fitted, fits, "{code}");
        }
    }
}
