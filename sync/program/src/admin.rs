//! HTTP for operators: serves what a program shows of itself, one request a connection.

mod bounded;

use std::time::Duration;

use axum::Router;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::bounded::{Bounded, DEADLINE};

/// Serves in a task until `end`. At most 256 connections at once, each good for one request and 10 s.
pub fn serve_admin(listener: TcpListener, router: Router, end: CancellationToken) {
    serve_within(DEADLINE, listener, router, end);
}

/// [`serve_admin`] with another deadline for a connection.
fn serve_within(deadline: Duration, listener: TcpListener, router: Router, end: CancellationToken) {
    let listener = Bounded::new(listener, deadline);
    let router = router.layer(axum::middleware::map_response(close));
    let served = axum::serve(listener, router).with_graceful_shutdown(end.cancelled_owned());
    tokio::spawn(served.into_future());
}

/// Ends the connection, so that its deadline is that of one request.
async fn close(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// What `/metrics` answers: OpenMetrics text, which Prometheus reads.
pub fn metrics(registry: &Registry) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "metrics can't be encoded\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    struct Server {
        address: SocketAddr,
        end: CancellationToken,
    }

    /// A program that is alive, and counts 3; connections end after `deadline`.
    async fn start_within(deadline: Duration) -> Server {
        let router = Router::new().route("/health", get(|| async { "alive\n" })).route(
            "/metrics",
            get(|| async {
                let counter = Counter::<u64>::default();
                counter.inc_by(3);
                let mut registry = Registry::default();
                registry.register("seen", "What was seen", counter);
                metrics(&registry)
            }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let end = CancellationToken::new();
        serve_within(deadline, listener, router, end.clone());
        Server { address, end }
    }

    impl Server {
        /// Status code and the rest of the response.
        async fn get(&self, path: &str) -> (u16, String) {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            (response[9..12].parse().unwrap(), response[12..].to_owned())
        }

        /// Connections on which half a request was sent.
        async fn half_open(&self, count: usize) -> Vec<TcpStream> {
            let mut waiting = Vec::new();
            for _ in 0..count {
                let mut stream = TcpStream::connect(self.address).await.unwrap();
                stream.write_all(b"GET /health HT").await.unwrap();
                waiting.push(stream);
            }
            waiting
        }
    }

    #[tokio::test]
    async fn half_sent_requests_are_cut_off() {
        let server = start_within(Duration::from_millis(200)).await;
        for mut stream in server.half_open(20).await {
            let read = timeout(Duration::from_secs(10), stream.read(&mut [0; 100])).await;
            let cut_off = read.expect("an end");
            assert!(matches!(cut_off, Ok(0) | Err(_)), "{cut_off:?}");
        }
        assert_eq!(server.get("/health").await.0, 200);
    }

    #[tokio::test]
    async fn half_sent_requests_do_not_pile_up() {
        let server = start_within(Duration::from_secs(600)).await;
        let mut waiting = server.half_open(bounded::MAX_CONNECTIONS).await;
        let late = server.get("/health");
        tokio::pin!(late);
        assert!(timeout(Duration::from_millis(100), &mut late).await.is_err(), "no place is left");
        waiting.pop();
        let (code, _) = timeout(Duration::from_secs(10), late).await.expect("there is a place again");
        assert_eq!(code, 200);
    }

    #[tokio::test]
    async fn a_connection_is_good_for_one_request() {
        let server = start_within(DEADLINE).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = "GET /health HTTP/1.1\r\nhost: test\r\n\r\n";
        stream.write_all(request.repeat(2).as_bytes()).await.unwrap();
        let mut response = String::new();
        // The second request is never read, which may end the connection with a reset.
        let _ = stream.read_to_string(&mut response).await;
        assert_eq!(response.matches("HTTP/1.1 200").count(), 1, "{response}");
        assert!(response.contains("connection: close"), "{response}");
    }

    /// The last line is "# EOF", and the type says which version it is (OpenMetrics 1.0, "Overall Structure").
    #[tokio::test]
    async fn metrics_are_openmetrics_text() {
        let (code, text) = start_within(DEADLINE).await.get("/metrics").await;
        assert_eq!(code, 200);
        assert!(text.contains("content-type: application/openmetrics-text; version=1.0.0"), "{text}");
        assert!(text.contains("\nseen_total 3\n") && text.ends_with("# EOF\n"), "{text}");
    }

    #[tokio::test]
    async fn nobody_is_served_after_the_end() {
        let server = start_within(DEADLINE).await;
        assert_eq!(server.get("/health").await.0, 200);
        server.end.cancel();
        let closed = async {
            while TcpStream::connect(server.address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), closed).await.expect("the socket is closed");
    }
}
