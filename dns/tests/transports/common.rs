//! A running server, and the little that a client needs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::Message;
use portolan_dns::metrics::Metrics;
use portolan_dns::server::{Listeners, Running, Server};
use portolan_dns::settings::Settings;
use portolan_dns::tls::Certificate;
use portolan_dns::view::Transport;
use portolan_zones::Snapshot;
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

pub use crate::fixtures::{Ask, ask, shop};

/// What a test waits at most; nothing takes that long.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// A question with two records for an answer.
pub const CART: &str = "cart.shop.svc.clusterset.local A";

/// A server and the handles that the daemon has.
pub struct Served {
    pub running: Running,
    pub snapshots: Arc<ArcSwap<Snapshot>>,
    pub settings: Arc<ArcSwap<Settings>>,
    metrics: Arc<Metrics>,
}

/// Serves the shop on UDP and TCP.
pub fn serve(change: impl FnOnce(&mut Settings)) -> Served {
    let any = any();
    serve_on(&Listeners { udp: vec![any], tcp: vec![any], ..Listeners::default() }, change)
}

pub fn serve_on(listeners: &Listeners, change: impl FnOnce(&mut Settings)) -> Served {
    bind(listeners, change).run()
}

/// A server that is bound and does not answer yet.
pub struct Bound {
    server: Server,
    snapshots: Arc<ArcSwap<Snapshot>>,
    settings: Arc<ArcSwap<Settings>>,
    metrics: Arc<Metrics>,
}

pub fn bind(listeners: &Listeners, change: impl FnOnce(&mut Settings)) -> Bound {
    let mut settings = Settings::default();
    change(&mut settings);
    let snapshots = Arc::new(ArcSwap::from_pointee(shop()));
    let settings = Arc::new(ArcSwap::from_pointee(settings));
    let metrics = Arc::new(Metrics::default());
    let server = Server::bind(listeners, snapshots.clone(), settings.clone(), metrics.clone()).unwrap();
    Bound { server, snapshots, settings, metrics }
}

impl Bound {
    pub fn address(&self) -> SocketAddr {
        self.addresses()[0].1
    }

    pub fn addresses(&self) -> &[(Transport, SocketAddr)] {
        self.server.local_addresses()
    }

    pub fn run(self) -> Served {
        let Self { server, snapshots, settings, metrics } = self;
        Served { running: server.run().unwrap(), snapshots, settings, metrics }
    }
}

/// Any free port.
pub fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

impl Served {
    pub fn address(&self, transport: Transport) -> SocketAddr {
        self.running.address(transport).unwrap()
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address(Transport::Tcp)).await.unwrap()
    }

    /// The text that Prometheus gets.
    pub fn scrape(&self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.metrics.clone()));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    /// Waits until a line of the metrics starts with this; the rest of the line.
    pub async fn metric(&self, start: &str) -> String {
        let found =
            eventually(|| self.scrape().lines().find_map(|line| line.strip_prefix(start)).map(str::to_owned));
        found.await.unwrap_or_else(|| panic!("no `{start}` in\n{}", self.scrape()))
    }

    /// Waits until the metrics have this line.
    pub async fn has_line(&self, line: &str) {
        let found = eventually(|| self.scrape().lines().any(|other| other == line).then_some(())).await;
        assert!(found.is_some(), "no `{line}` in\n{}", self.scrape());
    }
}

/// Tries until there is a result or patience ends.
pub async fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(result) = attempt() {
            return Some(result);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    None
}

/// A query with its length in front.
pub fn framed(id: u16, query: Ask) -> Vec<u8> {
    let octets = Ask { id, ..query }.octets();
    [&(octets.len() as u16).to_be_bytes()[..], &octets].concat()
}

/// The next message; `None` when the server closed the connection.
pub async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Option<Message> {
    let octets = timeout(PATIENCE, async {
        let len = stream.read_u16().await.ok()?;
        let mut octets = vec![0; len.into()];
        stream.read_exact(&mut octets).await.ok()?;
        Some(octets)
    });
    octets.await.expect("an answer or the end").map(|octets| Message::from_vec(&octets).unwrap())
}

/// One question and its answer.
pub async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), id: u16, query: Ask) -> Message {
    stream.write_all(&framed(id, query)).await.unwrap();
    let reply = receive(stream).await.expect("an answer");
    assert_eq!(reply.metadata.id, id);
    reply
}

/// Asks for long answers and reads none, until nobody takes the queries any more.
pub async fn ask_and_not_read(stream: &mut (impl AsyncWrite + Unpin)) {
    let queries: Vec<u8> =
        (0..200).flat_map(|id| framed(id, ask("big.shop.svc.clusterset.local A"))).collect();
    let mut written = 0;
    while timeout(Duration::from_millis(500), stream.write_all(&queries)).await.is_ok() {
        written += queries.len();
        assert!(written < 64 << 20, "written {written} octets and nobody stops");
    }
}

/// Certificate files, and the newest certificate in them.
pub struct Files {
    _directory: tempfile::TempDir,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Files {
    pub fn new() -> (Self, rcgen::Certificate) {
        let directory = tempfile::tempdir().unwrap();
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| directory.path().join(name));
        let files = Self { _directory: directory, certificate, key };
        let made = files.renew();
        (files, made)
    }

    pub fn renew(&self) -> rcgen::Certificate {
        let made = rcgen::generate_simple_self_signed(["dns.test".to_owned()]).unwrap();
        std::fs::write(&self.certificate, made.cert.pem()).unwrap();
        std::fs::write(&self.key, made.signing_key.serialize_pem()).unwrap();
        made.cert
    }

    pub fn load(&self) -> Arc<Certificate> {
        Certificate::load(&self.certificate, &self.key).unwrap()
    }
}
