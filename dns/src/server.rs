//! All listeners of a server: bound together, run together, ended together.

mod bind;
mod cores;

pub use bind::BindError;
use bind::{Wanted, wanted};
pub use cores::{CoreError, Threads};

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use portolan_zones::Snapshot;
use portolan_zones::policy::explain::Witness;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::forwarders;
use crate::geo::Geo;
use crate::metrics::{Metrics, Writers};
use crate::settings::Settings;
use crate::tls::Certificate;
use crate::transport::tcp::{Acceptor, Connections};
use crate::transport::udp::Datagrams;
use crate::transport::{Encrypted, Source, serve_encrypted};
use crate::view::Transport;

/// What is found of forwarders is told this soon.
const FORWARDER_CHECK: Duration = Duration::from_secs(2);

/// Where to listen. Port 0 takes any free port.
#[derive(Debug, Clone)]
pub struct Listeners {
    /// DNS over UDP.
    pub udp: Vec<SocketAddr>,
    /// DNS over TCP.
    pub tcp: Vec<SocketAddr>,
    /// DNS over TLS.
    pub tls: Vec<SocketAddr>,
    /// DNS over HTTPS.
    pub https: Vec<SocketAddr>,
    /// DNS over QUIC.
    pub quic: Vec<SocketAddr>,
    /// Needed for TLS, HTTPS and QUIC.
    pub certificate: Option<Arc<Certificate>>,
    /// The certificate's files are looked at this often.
    pub certificate_check: Duration,
    /// Databases of where clients are.
    pub geo: Arc<Geo>,
    /// The databases' files are looked at this often.
    pub geo_check: Duration,
    /// Who knows how old what is answered is, for explanations.
    pub witness: Option<Witness>,
    /// Path that DNS over HTTPS is served at.
    pub https_path: String,
    /// Threads of each UDP address.
    pub udp_threads: Threads,
}

impl Default for Listeners {
    /// Listens nowhere.
    fn default() -> Self {
        Self {
            udp: Vec::new(),
            tcp: Vec::new(),
            tls: Vec::new(),
            https: Vec::new(),
            quic: Vec::new(),
            certificate: None,
            certificate_check: Duration::from_secs(10),
            geo: Arc::default(),
            geo_check: Duration::from_secs(5),
            witness: None,
            https_path: "/dns-query".to_owned(),
            udp_threads: Threads::AsCores,
        }
    }
}

/// Bound sockets, not served yet.
pub struct Server {
    source: Arc<Source>,
    udp: Vec<(SocketAddr, Vec<Datagrams>)>,
    /// Of the threads of each UDP address.
    cores: Vec<Option<u16>>,
    streams: Vec<(SocketAddr, Option<TlsAcceptor>, TcpListener)>,
    encrypted: Vec<(SocketAddr, Encrypted)>,
    certificate: Option<Arc<Certificate>>,
    certificate_check: Duration,
    geo: Arc<Geo>,
    geo_check: Duration,
    addresses: Vec<(Transport, SocketAddr)>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Server {
    /// Binds all sockets or none. Nothing is answered yet, though the kernel takes queries from now on.
    pub fn bind(
        listeners: &Listeners,
        snapshots: Arc<ArcSwap<Snapshot>>,
        settings: Arc<ArcSwap<Settings>>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, BindError> {
        let mut random = [0; 20];
        getrandom::fill(&mut random).map_err(BindError::Random)?;
        let (atlas, witness) = (listeners.geo.swap(), listeners.witness.clone());
        let source = Source::new(snapshots, settings, atlas, witness, metrics, random);
        let mut server = Self {
            source: Arc::new(source),
            udp: Vec::new(),
            cores: listeners.udp_threads.cores()?,
            streams: Vec::new(),
            encrypted: Vec::new(),
            certificate: listeners.certificate.clone(),
            certificate_check: listeners.certificate_check,
            geo: listeners.geo.clone(),
            geo_check: listeners.geo_check,
            addresses: Vec::new(),
        };
        server.bind_all(listeners)?;
        Ok(server)
    }

    fn bind_all(&mut self, listeners: &Listeners) -> Result<(), BindError> {
        for wanted in wanted(Transport::Udp, &listeners.udp) {
            let (address, sockets) = wanted.try_bind(|wanted| wanted.udp_group(self.cores.len()))?;
            self.udp.push((address, sockets));
            self.addresses.push((wanted.transport, address));
        }
        for wanted in wanted(Transport::Tcp, &listeners.tcp) {
            let (address, listener) = wanted.try_bind(Wanted::stream)?;
            self.streams.push((address, None, listener));
            self.addresses.push((wanted.transport, address));
        }
        for wanted in wanted(Transport::Tls, &listeners.tls) {
            let config = wanted.certificate(listeners)?.server_config(b"dot")?;
            let (address, listener) = wanted.try_bind(Wanted::stream)?;
            self.streams.push((address, Some(TlsAcceptor::from(Arc::new(config))), listener));
            self.addresses.push((wanted.transport, address));
        }
        for wanted in wanted(Transport::Https, &listeners.https) {
            wanted.certificate(listeners)?;
            let (address, listener) = wanted.try_bind(Wanted::stream)?;
            self.encrypted.push((address, Encrypted::Https(listener, listeners.https_path.clone())));
            self.addresses.push((wanted.transport, address));
        }
        for wanted in wanted(Transport::Quic, &listeners.quic) {
            wanted.certificate(listeners)?;
            let (address, socket) = wanted.try_bind(Wanted::datagram)?;
            self.encrypted.push((address, Encrypted::Quic(socket)));
            self.addresses.push((wanted.transport, address));
        }
        Ok(())
    }

    /// What is bound, with the ports that port 0 became.
    pub fn local_addresses(&self) -> &[(Transport, SocketAddr)] {
        &self.addresses
    }

    /// Starts to answer: UDP in threads, everything else in tasks of the runtime that this is called in.
    pub fn run(self) -> io::Result<Running> {
        let Self { source, udp, cores, streams, encrypted, certificate, addresses, .. } = self;
        let metrics = source.metrics.clone();
        let (stop, connections) = (CancellationToken::new(), Connections::new(Instant::now()));
        let mut running = Running {
            addresses,
            stop,
            stop_threads: Arc::default(),
            threads: Vec::new(),
            tasks: JoinSet::new(),
        };
        for (address, tls, listener) in streams {
            let transport = if tls.is_some() { Transport::Tls } else { Transport::Tcp };
            let shard = metrics.shard(transport, address, Writers::Many);
            let (source, connections, stop) = (source.clone(), connections.clone(), running.stop.clone());
            let listener = tokio::net::TcpListener::from_std(listener)?;
            running.tasks.spawn(Acceptor { source, shard, connections, tls, stop }.serve(listener));
        }
        for (address, socket) in encrypted {
            let Some(certificate) = certificate.clone() else { continue };
            let transport = match socket {
                Encrypted::Https(..) => Transport::Https,
                Encrypted::Quic(_) => Transport::Quic,
            };
            let shard = metrics.shard(transport, address, Writers::Many);
            running.tasks.spawn(serve_encrypted(
                socket,
                source.clone(),
                shard,
                certificate,
                running.stop.clone(),
            ));
        }
        if let Some(certificate) = certificate {
            running.tasks.spawn(watch(certificate, self.certificate_check, running.stop.clone()));
        }
        running.tasks.spawn(forwarders::watch(source.clone(), FORWARDER_CHECK, running.stop.clone()));
        running.tasks.spawn(self.geo.watch(self.geo_check, running.stop.clone()));
        for (address, sockets) in udp {
            for (socket, core) in sockets.into_iter().zip(&cores) {
                running.start_thread(socket, *core, address, &source)?;
            }
        }
        Ok(running)
    }
}

/// A server that answers. Dropped, it ends without waiting for anything.
pub struct Running {
    addresses: Vec<(Transport, SocketAddr)>,
    stop: CancellationToken,
    stop_threads: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    tasks: JoinSet<()>,
}

impl Running {
    /// What is bound, with the ports that port 0 became.
    pub fn local_addresses(&self) -> &[(Transport, SocketAddr)] {
        &self.addresses
    }

    /// The first address of a transport.
    pub fn address(&self, transport: Transport) -> Option<SocketAddr> {
        self.addresses.iter().find(|(of, _)| *of == transport).map(|(_, address)| *address)
    }

    /// Accepts nothing new, answers what has been read and what waits in UDP queues, and ends. Connections that are
    /// not done after `deadline` are cut off; `false` if there were any.
    pub async fn shutdown(mut self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.stop_threads.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.threads);
        // Each thread ends within its poll interval and the answers to one full queue.
        let threads =
            tokio::task::spawn_blocking(|| threads.into_iter().for_each(|thread| drop(thread.join())));
        let tasks = &mut self.tasks;
        let all = async { while tasks.join_next().await.is_some() {} };
        let (in_time, threads) = tokio::join!(tokio::time::timeout(deadline, all), threads);
        self.tasks.shutdown().await;
        in_time.is_ok() && threads.is_ok()
    }

    fn start_thread(
        &mut self,
        socket: Datagrams,
        core: Option<u16>,
        address: SocketAddr,
        source: &Arc<Source>,
    ) -> io::Result<()> {
        let shard = source.metrics.shard(Transport::Udp, address, Writers::One);
        let (source, stop) = (source.clone(), self.stop_threads.clone());
        let name = format!("dns-udp-{}", self.threads.len());
        let serve = move || {
            if let Some(core) = core
                && let Err(error) = cores::pin(core)
            {
                tracing::warn!(%error, core, "a UDP thread can't be pinned, and runs anywhere");
            }
            socket.serve(address, &source, &shard, &stop);
        };
        self.threads.push(std::thread::Builder::new().name(name).spawn(serve)?);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        self.stop_threads.store(true, Ordering::Relaxed);
    }
}

/// Reads the certificate's files again and again; polling also sees the symbolic links of mounted Secrets move.
async fn watch(certificate: Arc<Certificate>, every: Duration, stop: CancellationToken) {
    let mut said = String::new();
    while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
        let problem = match certificate.reload() {
            Ok(true) => {
                tracing::info!("new TLS certificate in use");
                String::new()
            }
            Ok(false) => String::new(),
            Err(error) => error.to_string(),
        };
        if !problem.is_empty() && problem != said {
            tracing::error!("{problem}; the TLS certificate read before stays in use");
        }
        said = problem;
    }
}
